//! Bundles that a running kernel must refuse: a clear code, exit status 2, nothing left behind.

use otf_artifact::diagnostic::{Code, Diagnostic};

use super::{
    boot,
    checks::Checks,
    target::{Setting, Target, read, signature_of},
};

/// A bundle that must be refused.
struct Case<'a> {
    name: &'static str,
    bundle: &'a [u8],
    signature: Option<&'a [u8]>,
    code: Code,
}

const SCRIPT: &str = include_str!("../../guest/refuse.sh");

/// One boot with the stock module and bundles that are changed, cut, unsigned, or for another build.
pub fn run(setting: &Setting, checks: &mut Checks) -> Result<(), Diagnostic> {
    checks.section("refuse");
    let target = Target::open(setting, "sch_qfq")?;
    // Signed by the same key, but for a module of another build.
    let other = Target::open(setting, "sch_qfq@cve-2023-31436")?;
    let bundle = read(&target.bundle)?;
    let signature = read(&signature_of(&target.bundle))?;

    let mut flipped = bundle.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let cut = bundle[..bundle.len() / 2].to_vec();

    let mut guest = target.guest(Some("cve-2023-31436"))?;
    let other_bundle = read(&other.bundle)?;
    let other_signature = read(&signature_of(&other.bundle))?;
    let case = |name, bundle, signature, code| Case {
        name,
        bundle,
        signature,
        code,
    };
    for case in [
        case(
            "flipped_bit",
            &flipped,
            Some(&signature),
            Code::BadSignature,
        ),
        case("truncated", &cut, Some(&signature), Code::BadSignature),
        case("unsigned", &bundle, None, Code::BadSignature),
        case(
            "other_build",
            &other_bundle,
            Some(&other_signature),
            Code::WrongKernel,
        ),
    ] {
        let path = format!("/otf/bad/{}", case.name);
        guest.file(&format!("{path}.otf"), case.bundle);
        if let Some(signature) = case.signature {
            guest.file(&format!("{path}.otf.minisig"), signature);
        }
        guest.file(&format!("{path}.code"), case.code.to_string().as_bytes());
    }
    guest.script("/otf/refuse.sh", SCRIPT);
    guest.step("refuse", &["/bin/sh", "/otf/refuse.sh"])?;
    boot(&target, guest, checks)?;
    Ok(())
}
