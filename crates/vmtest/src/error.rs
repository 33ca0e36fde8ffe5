//! Diagnostics that several files of this crate make.

use std::{fmt::Display, path::Path};

use otf_artifact::diagnostic::{Code, Diagnostic};

/// A file of the host could not be read or written.
pub fn file(what: &str, path: &Path, error: &dyn Display) -> Diagnostic {
    Diagnostic::error(
        Code::Environment,
        format!("cannot {what} {}: {error}", path.display()),
    )
}
