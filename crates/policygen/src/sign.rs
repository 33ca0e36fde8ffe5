//! Minisign keys and signatures. The same key and bundle give the same signature.

use blake2::{Blake2b512, Digest};
use ct_codecs::{Base64, Encoder};
use ed25519_compact::SecretKey;
use minisign::{KeyPair, SecretKeyBox};
use otf_artifact::{
    bundle::{Manifest, UNTRUSTED_COMMENT},
    diagnostic::{Code, Diagnostic},
};
use otf_bundle::trusted_comment;

/// `ED`: Ed25519 over the BLAKE2b-512 hash of the file.
const PREHASHED: &[u8; 2] = b"ED";
/// A secret key as minisign stores it: algorithms (6), salt and limits (48), key id (8), seed and
/// public key (64), checksum (32).
const KEY_ID: std::ops::Range<usize> = 54..62;
const KEY: std::ops::Range<usize> = 62..126;

/// The two files of a key pair.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// Text of the `.key` file: not encrypted, to be protected by the file's mode.
    pub secret: String,
    /// Text of the `.pub` file.
    pub public: String,
}

/// Makes a key pair.
///
/// # Errors
/// [`Code::KeyProblem`] when the machine gives no random numbers.
pub fn new_key() -> Result<KeyFiles, Diagnostic> {
    let pair = KeyPair::generate_unencrypted_keypair().map_err(|e| problem(&e))?;
    let secret = pair
        .sk
        .to_box(Some("secret key for OTF bundles"))
        .map_err(|e| problem(&e))?;
    let public = pair.pk.to_box().map_err(|e| problem(&e))?;
    Ok(KeyFiles {
        secret: secret.to_string(),
        public: public.to_string(),
    })
}

/// Signs a packed bundle; gives the text of `NAME.otf.minisig`, which `minisign -V` accepts.
/// `secret` is the text of an unencrypted minisign key.
///
/// # Errors
/// [`Code::KeyProblem`] when the key cannot be used, [`Code::BadBundle`] when the manifest's names
/// do not fit into a comment.
pub fn sign(bundle: &[u8], manifest: &Manifest, secret: &str) -> Result<String, Diagnostic> {
    let key = SecretKeyBox::from_string(secret)
        .and_then(SecretKeyBox::into_unencrypted_secret_key)
        .map_err(|e| problem(&e))?
        .to_bytes();
    let (Some(id), Some(key)) = (key.get(KEY_ID), key.get(KEY)) else {
        return Err(problem(&"it is too short"));
    };
    let key = SecretKey::from_slice(key).map_err(|e| problem(&e))?;
    let comment = trusted_comment(manifest);
    if comment.chars().any(char::is_control) {
        let message = "kernel, compartment or release holds a control character";
        return Err(Diagnostic::error(Code::BadBundle, message));
    }
    // Without extra noise: Ed25519 derives the nonce from key and message.
    let signature = key.sign(Blake2b512::digest(bundle), None);
    let global = key.sign([signature.as_ref(), comment.as_bytes()].concat(), None);
    let first = [PREHASHED, id, signature.as_ref()].concat();
    Ok(format!(
        "{UNTRUSTED_COMMENT}\n{}\ntrusted comment: {comment}\n{}\n",
        base64(&first)?,
        base64(global.as_ref())?,
    ))
}

fn base64(bytes: &[u8]) -> Result<String, Diagnostic> {
    Base64::encode_to_string(bytes).map_err(|e| problem(&e))
}

fn problem(why: &dyn std::fmt::Display) -> Diagnostic {
    Diagnostic::error(
        Code::KeyProblem,
        format!("the signing key cannot be used: {why}"),
    )
    .help("give an unencrypted minisign key; `otf key new` makes one")
}
