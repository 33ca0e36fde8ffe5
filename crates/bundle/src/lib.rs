//! The signed archive between policygen and otf-load: pack, unpack, verify. No LLVM, no IO.
//!
//! A bundle is an uncompressed tar file with the members [`otf_artifact::bundle::MEMBERS`], in that
//! order, whose headers hold nothing but name and size: the same contents give the same bytes.
//! [`verify`] looks at nothing inside before the minisign signature over the whole file is
//! found good.

mod archive;
mod signature;

use std::fmt;

use otf_artifact::{
    Artifact,
    bundle::{MEMBERS, Manifest, Plan},
    diagnostic::{Code, Diagnostic},
};
use sha2::{Digest, Sha256};

pub use signature::{trusted_comment, verify};

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// What the bundle is for.
    pub manifest: Manifest,
    /// How to bind the object to a running kernel.
    pub plan: Plan,
    /// The policy as a person wrote it.
    pub policy: String,
    /// The BPF ELF object.
    pub object: Vec<u8>,
    /// `otf_guard.ko`.
    pub guard: Vec<u8>,
}

/// SHA-256 as lower-case hex, as the manifest spells it.
pub fn sha256(bytes: &[u8]) -> String {
    use fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Makes the archive. The manifest's `members` are filled in here, whatever they held before.
///
/// # Errors
/// [`Code::BadBundle`] when a part cannot be serialised.
pub fn pack(bundle: &Bundle) -> Result<Vec<u8>, Diagnostic> {
    let others = [
        json(&bundle.plan)?,
        bundle.policy.clone().into_bytes(),
        bundle.object.clone(),
        bundle.guard.clone(),
    ];
    let mut manifest = bundle.manifest.clone();
    manifest.members = MEMBERS[1..]
        .iter()
        .zip(&others)
        .map(|(name, bytes)| ((*name).to_owned(), sha256(bytes)))
        .collect();
    let manifest = json(&manifest)?;
    let parts = std::iter::once(&manifest).chain(&others);
    archive::write(MEMBERS.iter().copied().zip(parts.map(Vec::as_slice)))
}

/// Takes the archive apart and checks it against its manifest. Says nothing about who made it:
/// for that see [`verify`].
///
/// # Errors
/// [`Code::BadBundle`] when a member is missing, surplus, out of order, unreadable or not the one
/// that the manifest names.
pub fn unpack(bytes: &[u8]) -> Result<Bundle, Diagnostic> {
    let [manifest, plan, policy, object, guard] = archive::read(bytes)?;
    let manifest = Manifest::read(&manifest, MEMBERS[0]).map_err(as_bad_bundle)?;
    let hashes = MEMBERS[1..]
        .iter()
        .zip([&plan, &policy, &object, &guard])
        .map(|(name, bytes)| ((*name).to_owned(), sha256(bytes)));
    if !manifest
        .members
        .iter()
        .map(|(n, h)| (n.clone(), h.clone()))
        .eq(sorted(hashes))
    {
        return Err(bad(
            "the members are not those that the manifest names by hash",
        ));
    }
    Ok(Bundle {
        plan: Plan::read(&plan, MEMBERS[1]).map_err(as_bad_bundle)?,
        policy: String::from_utf8(policy).map_err(|_| bad("policy.yaml is not UTF-8 text"))?,
        manifest,
        object,
        guard,
    })
}

fn sorted(pairs: impl Iterator<Item = (String, String)>) -> impl Iterator<Item = (String, String)> {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    pairs.into_iter()
}

fn json(artifact: &impl Artifact) -> Result<Vec<u8>, Diagnostic> {
    let mut bytes = Vec::new();
    artifact
        .write(&mut bytes)
        .map_err(|e| bad(format!("cannot be serialised: {e}")))?;
    Ok(bytes)
}

fn bad(message: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Code::BadBundle, message)
        .help("fetch or make the bundle again (`otf explain OTF0050`)")
}

fn as_bad_bundle(diagnostic: Diagnostic) -> Diagnostic {
    Diagnostic {
        code: Code::BadBundle,
        ..diagnostic
    }
}
