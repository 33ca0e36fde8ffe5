//! Signing keys: a pair on demand, and a development pair in the cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::{
    cli::Key,
    files,
    render::{self, Failure},
};

/// `otf key FILE`: refuses to replace a key.
pub fn new(args: &Key) -> Result<(), Failure> {
    make(&args.secret)?;
    render::line(&format!(
        "{}\n{}",
        args.secret.display(),
        public_of(&args.secret).display()
    ))
}

/// The public key's file.
pub fn public_of(secret: &Path) -> PathBuf {
    secret.with_extension("pub")
}

/// Text of the secret key: the given file, or the development key of this machine.
pub fn secret(given: Option<&Path>) -> Result<String, Failure> {
    let path = if let Some(path) = given {
        path.to_owned()
    } else {
        let path = files::cache()?.join("keys/otf.key");
        if !path.exists() {
            tracing::info!("making a development key: {}", path.display());
            make(&path)?;
        }
        path
    };
    fs::read_to_string(&path).map_err(|e| {
        Diagnostic::error(Code::KeyProblem, format!("cannot read the secret key: {e}"))
            .at(path.display().to_string(), 0, 0)
            .help("give another one with --key, or make one: otf key FILE")
            .into()
    })
}

fn make(path: &Path) -> Result<(), Failure> {
    if path.exists() || public_of(path).exists() {
        return Err(Diagnostic::error(
            Code::KeyProblem,
            "there is a key already, and it is not replaced",
        )
        .at(path.display().to_string(), 0, 0)
        .help("choose another name")
        .into());
    }
    let pair = otf_policygen::new_key()?;
    files::write_secret(path, pair.secret.as_bytes())?;
    files::write(&public_of(path), pair.public.as_bytes())
}
