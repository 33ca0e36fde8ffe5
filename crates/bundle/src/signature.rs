//! Who signed: minisign, strict about every byte of the signature file.

use minisign_verify::{PublicKey, Signature};
use otf_artifact::{
    bundle::{Manifest, UNTRUSTED_COMMENT},
    diagnostic::{Code, Diagnostic},
};

use crate::{Bundle, bad, unpack};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The comment that a signature covers: what the bundle is for. Holds no time, so that the same
/// bundle and key give the same signature.
pub fn trusted_comment(manifest: &Manifest) -> String {
    format!(
        "otf bundle kernel={} compartment={} release={}",
        manifest.kernel, manifest.compartment, manifest.release
    )
}

/// Checks the signature over the whole file, then takes the bundle apart.
///
/// `signature` is the text of `NAME.otf.minisig`, `public_key` that of a minisign `.pub` file (or
/// its second line alone).
///
/// # Errors
/// [`Code::KeyProblem`] for an unusable key, [`Code::BadSignature`] when the signature is malformed,
/// by another key or over other bytes, [`Code::BadBundle`] when what was signed is no bundle.
pub fn verify(bundle: &[u8], signature: &str, public_key: &str) -> Result<Bundle, Diagnostic> {
    let key = decode_key(public_key)?;
    check_canonical(signature)?;
    let decoded = Signature::decode(signature)
        .map_err(|e| refused(format!("the signature cannot be read: {e}")))?;
    key.verify(bundle, &decoded, false)
        .map_err(|e| refused(format!("the signature does not fit bundle and key: {e}")))?;
    let contents = unpack(bundle)?;
    if decoded.trusted_comment() != trusted_comment(&contents.manifest) {
        return Err(bad(format!(
            "the signature is for `{}`, the manifest says `{}`",
            decoded.trusted_comment(),
            trusted_comment(&contents.manifest)
        )));
    }
    Ok(contents)
}

fn decode_key(text: &str) -> Result<PublicKey, Diagnostic> {
    let bare = text.trim_end();
    let key = if bare.contains('\n') {
        PublicKey::decode(bare)
    } else {
        PublicKey::from_base64(bare)
    };
    key.map_err(|e| {
        Diagnostic::error(
            Code::KeyProblem,
            format!("the public key cannot be read: {e}"),
        )
        .help("give the .pub file of a minisign key pair")
    })
}

/// Refuses every spelling but the one that signing writes: the signature does not cover its own
/// encoding nor the untrusted comment, and neither may carry anything.
fn check_canonical(text: &str) -> Result<(), Diagnostic> {
    let lines: Vec<&str> = text.split('\n').collect();
    let [untrusted, first, trusted, second, ""] = lines[..] else {
        return Err(refused(
            "the signature file does not have exactly four lines",
        ));
    };
    if untrusted != UNTRUSTED_COMMENT {
        return Err(refused(
            "the untrusted comment is not the one of an OTF bundle",
        ));
    }
    if !trusted.starts_with("trusted comment: ") || trusted.contains('\r') {
        return Err(refused("the trusted comment is malformed"));
    }
    // 74 bytes leave 2 spare bits before one `=`, 64 bytes leave 4 before two.
    if !is_canonical(first, 1, 0b11) || !is_canonical(second, 2, 0b1111) {
        return Err(refused(
            "the signature is not spelled as minisign spells it",
        ));
    }
    Ok(())
}

/// Whether `text` is base64 with this much padding and its spare bits zero.
fn is_canonical(text: &str, padding: usize, spare: usize) -> bool {
    let value = |c: u8| BASE64.iter().position(|b| *b == c);
    let body = text.trim_end_matches('=').as_bytes();
    text.len() == body.len() + padding
        && body.iter().all(|c| value(*c).is_some())
        && body
            .last()
            .and_then(|c| value(*c))
            .is_some_and(|v| v & spare == 0)
}

fn refused(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Code::BadSignature, message)
        .help("check that the key is the one of the team that signed, and that BUNDLE.minisig lies beside the bundle")
}
