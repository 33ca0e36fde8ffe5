//! `docs/evaluation/runtime.md`.

use std::{fmt::Write as _, fs, path::Path};

use otf_artifact::diagnostic::Diagnostic;

use super::{failed, rows::Row};

/// Writes the Markdown.
pub fn write(docs: &Path, _kept: &Path, rows: &[Row]) -> Result<(), Diagnostic> {
    let mut text = String::new();
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{row:?}");
    }
    let file = docs.join("runtime.md");
    fs::write(&file, text).map_err(|e| failed("write", &file, &e))
}
