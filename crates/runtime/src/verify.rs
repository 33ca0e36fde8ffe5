//! Bundle files → a bundle that is known to be good, and whether it fits this host.

use std::fs;
use std::path::{Path, PathBuf};

use otf_artifact::{
    bundle::{Plan, Program},
    diagnostic::{Code, Diagnostic},
    sites::Location,
};
use otf_bundle::Bundle;
use serde::{Deserialize, Serialize};

use crate::bind::VMLINUX;
use crate::host::{Host, notes};

/// Longest name of a file in bpffs, without what is added to it.
const MAX_NAME: usize = 200;

/// Who signed, as a minisign key says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// Key id as minisign prints it.
    pub key_id: String,
    /// The comment that the signature covers.
    pub comment: String,
}

/// A bundle whose signature and contents were checked.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What is in it.
    pub bundle: Bundle,
    /// Who signed.
    pub signer: Signer,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// Reads bundle, signature and key and verifies them; nothing of the host is looked at.
pub fn verify(bundle: &Path, signature: Option<&Path>, key: &Path) -> Result<Verified, Diagnostic> {
    let bytes = fs::read(bundle).map_err(|e| {
        Diagnostic::error(
            Code::BadBundle,
            format!("{} cannot be read: {e}", bundle.display()),
        )
        .help("give the path of a NAME.otf file")
    })?;
    let beside = || {
        let mut path = bundle.as_os_str().to_owned();
        path.push(".minisig");
        PathBuf::from(path)
    };
    let signature = signature.map_or_else(beside, Path::to_path_buf);
    let signature = fs::read_to_string(&signature).map_err(|e| {
        Diagnostic::error(
            Code::BadSignature,
            format!("{} cannot be read: {e}", signature.display()),
        )
        .help("an unsigned bundle is never loaded; put its .minisig file beside it")
    })?;
    let key = fs::read_to_string(key).map_err(|e| {
        Diagnostic::error(
            Code::KeyProblem,
            format!("{} cannot be read: {e}", key.display()),
        )
        .help("give the .pub file of the team that signs bundles")
    })?;
    let contents = otf_bundle::verify(&bytes, &signature, &key)?;
    check_rows(&contents)?;
    Ok(Verified {
        signer: Signer {
            key_id: key_id(&key).unwrap_or_default(),
            comment: otf_bundle::trusted_comment(&contents.manifest),
        },
        sha256: otf_bundle::sha256(&bytes),
        bundle: contents,
    })
}

/// Everything about this host that the bundle does not fit: empty when it does.
pub fn mismatches(bundle: &Bundle, host: &Host) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (image, wanted) in &bundle.manifest.build_ids {
        let running = if image == VMLINUX {
            host.kernel_build_id()
        } else if host.module_loaded(image) {
            host.module_build_id(image)
        } else if bundle.plan.recording.is_some() {
            // Its sites are listed as not attached.
            continue;
        } else {
            found.push(
                Diagnostic::error(
                    Code::ModuleNotLoaded,
                    format!("module {image} is not in the kernel"),
                )
                .help(format!("modprobe {image}")),
            );
            continue;
        };
        match running {
            Ok(running) if running == *wanted => {}
            Ok(running) => found.push(
                Diagnostic::error(
                    Code::WrongKernel,
                    format!(
                        "the bundle is for {image} {wanted} ({}), running is {running} ({})",
                        bundle.manifest.release,
                        host.release().unwrap_or_else(|_| "?".into())
                    ),
                )
                .help("make a bundle for the kernel that is running"),
            ),
            Err(diagnostic) => found.push(diagnostic),
        }
    }
    found
}

/// Checks what the signature does not promise: that every row and name is one the loader can use.
fn check_rows(bundle: &Bundle) -> Result<(), Diagnostic> {
    let plan = &bundle.plan;
    let bad = |message: String| {
        Err(Diagnostic::error(Code::BadBundle, message)
            .help("make the bundle again with this release"))
    };
    let name = &bundle.manifest.compartment;
    let usable = |c: char| c.is_ascii_alphanumeric() || "_-@+".contains(c);
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(usable) {
        return bad(format!("`{name}` cannot be the name of a compartment"));
    }
    if !bundle.manifest.build_ids.contains_key(VMLINUX) {
        return bad("the bundle is bound to no kernel: build-id of vmlinux is missing".into());
    }
    for image in &plan.images {
        if image.name.contains('/')
            || bundle.manifest.build_ids.get(&image.name) != Some(&image.build_id)
        {
            return bad(format!(
                "manifest and plan disagree about image {}",
                image.name
            ));
        }
    }
    for location in locations(plan) {
        if location.image.index() >= plan.images.len() || location.section.contains('/') {
            return bad(format!("{} lies in no image", location.symbol));
        }
    }
    if plan
        .recording
        .as_ref()
        .is_some_and(|r| r.sites.len() != plan.sites.len())
    {
        return bad("not every row of the recording stands for a site".into());
    }
    for probe in &plan.probes {
        let rows = match probe.program {
            Program::AllocationCall | Program::AllocationReturn => plan.allocations.len(),
            Program::Gate => plan.gates.len(),
            Program::Site => plan.sites.len(),
            Program::Entry => plan.entries.len(),
            Program::Call => plan
                .recording
                .as_ref()
                .map_or(plan.calls.len(), |r| r.calls.len()),
            Program::Return => plan.returns.len(),
            // Never in a plan.
            Program::FreeBulk => 0,
            Program::PrivateHeap => usize::from(plan.private_heap.is_some()),
        };
        if probe.cookie >= rows as u64 {
            return bad(format!(
                "the probe at {} names row {} of {rows}",
                probe.location.symbol, probe.cookie
            ));
        }
    }
    Ok(())
}

fn locations(plan: &Plan) -> impl Iterator<Item = &Location> {
    let probes = plan.probes.iter().map(|p| &p.location);
    let globals = plan.globals.iter().map(|g| &g.location);
    probes
        .chain(globals)
        .chain(plan.targets.iter().map(|t| &t.location))
        .chain(plan.checked().map(|s| &s.location))
}

/// Key id of a minisign public key: bytes 2 to 9, printed as a little-endian number.
fn key_id(public_key: &str) -> Option<String> {
    let raw = base64(public_key.trim_end().lines().last()?.trim())?;
    let mut id = raw.get(2..10)?.to_vec();
    id.reverse();
    Some(notes::hex(&id).to_uppercase())
}

fn base64(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    let (mut bits, mut have) = (0u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = DIGITS.iter().position(|d| *d == byte)?;
        bits = bits << 6 | digit as u32;
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
            bits &= (1 << have) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    #[test]
    fn key_ids_are_those_of_minisign() {
        // minisign -G prints: "... using the key id E7620F1842B4E81F" for the key of its own manual.
        let key = "untrusted comment: minisign public key\n\
                   RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n";
        assert_eq!(key_id(key).as_deref(), Some("E7620F1842B4E81F"));
        assert_eq!(key_id("!!"), None);
    }

    #[test]
    fn every_mismatch_is_reported() {
        let machine = testing::Machine::new();
        let mut bundle = testing::bundle();
        assert_eq!(mismatches(&bundle, &machine.host), []);
        bundle
            .manifest
            .build_ids
            .insert("sch_qfq".into(), "00".into());
        bundle.manifest.build_ids.insert("gone".into(), "00".into());
        let codes: Vec<Code> = mismatches(&bundle, &machine.host)
            .iter()
            .map(|d| d.code)
            .collect();
        assert_eq!(codes, [Code::ModuleNotLoaded, Code::WrongKernel]);
    }

    #[test]
    fn rows_and_names_are_checked() {
        assert_eq!(check_rows(&testing::bundle()), Ok(()));
        let breakages: [fn(&mut Bundle); 5] = [
            |b| b.plan.probes[0].cookie = 9,
            |b| b.manifest.compartment = "../etc".into(),
            |b| b.plan.sites[0].location.image.0 = 7,
            |b| b.plan.images[0].build_id = "other".into(),
            |b| {
                b.manifest.build_ids.remove(VMLINUX);
            },
        ];
        for breakage in breakages {
            let mut bundle = testing::bundle();
            breakage(&mut bundle);
            assert_eq!(check_rows(&bundle).unwrap_err().code, Code::BadBundle);
        }
    }

    proptest! {
        #[test]
        fn keys_never_panic(text in ".{0,80}") { let _ = key_id(&text); }
    }
}
