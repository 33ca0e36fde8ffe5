//! Ordinary use of the stock module under a bundle that records: what was seen is legal.

use std::io::Read;

use flate2::read::GzDecoder;
use otf_artifact::{
    Artifact,
    diagnostic::{Code, Diagnostic},
    recording::Recording,
    sites::Sites,
};
use otf_evaluation::judge;
use otf_vmtest::log::{Log, Source};

use super::{
    boot,
    checks::Checks,
    stock,
    target::{Setting, read, signature_of},
};

const SCRIPT: &str = include_str!("../../guest/recorded.sh");
/// What a line of the packed recording begins with; hexadecimal digits follow.
const LINE: &str = "OTF-RECORDING ";
/// Sites of `sch_qfq` that its ordinary use executes are more than these.
const LEAST_SITES: usize = 60;

/// One boot; the recording comes out over the console and is judged here.
pub fn run(setting: &Setting, checks: &mut Checks) -> Result<(), Diagnostic> {
    checks.section("recorded");
    let (target, mut guest) = stock::guest(setting)?;
    let folder = setting.out.join(stock::COMPARTMENT);
    let bundle = folder.join(format!("{}.record.otf", stock::COMPARTMENT));
    guest.copy(&bundle, "/otf/record.otf")?;
    guest.copy(&signature_of(&bundle), "/otf/record.otf.minisig")?;
    guest.script("/otf/recorded.sh", SCRIPT);
    guest.step("recorded", &["/bin/sh", "/otf/recorded.sh"])?;
    let outcome = boot(&target, guest, checks)?;
    let recording = match unpack(&outcome.log) {
        Ok(recording) => recording,
        Err(why) => {
            checks.add("recording", false, why.message);
            return Ok(());
        }
    };
    let path = folder.join("sites.json");
    let sites = Sites::read(&read(&path)?, &path.display().to_string())?;
    let judgement = judge(&sites, &[recording]);
    checks.add(
        "sites_executed",
        judgement.executed_sites >= LEAST_SITES,
        format!("{} of {}", judgement.executed_sites, judgement.sites),
    );
    let first = judgement.outside.first();
    checks.add(
        "pairs_outside",
        judgement.pairs_outside == 0 && judgement.pairs_seen > 0,
        first.map_or_else(
            || format!("0 of {}", judgement.pairs_seen),
            |first| {
                let location = &sites.site(first.pair.site).location;
                let (symbol, offset) = (&location.symbol, location.symbol_offset);
                let why = first.why.text();
                format!("{}, {symbol}+{offset:#x}: {why}", judgement.pairs_outside)
            },
        ),
    );
    checks.add(
        "targets_outside",
        judgement.targets_outside == 0,
        format!(
            "{} of {}",
            judgement.targets_outside, judgement.targets_seen
        ),
    );
    Ok(())
}

/// The recording that the guest has written to its console.
fn unpack(log: &Log) -> Result<Recording, Diagnostic> {
    let bad = |why: String| Diagnostic::error(Code::BadArtifact, why);
    let digits: Vec<u8> = log
        .of(Source::Test)
        .filter_map(|line| line.strip_prefix(LINE))
        .flat_map(|line| line.trim().bytes())
        .collect();
    let packed: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let packed = packed.ok_or_else(|| bad("the recording is not hexadecimal".into()))?;
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice())
        .read_to_end(&mut bytes)
        .map_err(|e| bad(format!("the recording cannot be unpacked: {e}")))?;
    Recording::read(&bytes, "recording.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use otf_artifact::FORMAT_VERSION;
    use otf_vmtest::log::Line;
    use std::{io::Write, time::Duration};

    fn log(lines: &[String]) -> Log {
        let line = |text: &String| Line {
            source: Source::Test,
            at: Duration::ZERO,
            text: text.clone(),
        };
        Log {
            lines: lines.iter().map(line).collect(),
        }
    }

    #[test]
    fn a_recording_comes_out_of_the_console() {
        let recording = Recording {
            version: FORMAT_VERSION,
            release: "6.12".into(),
            ..Recording::default()
        };
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let mut text = Vec::new();
        recording.write(&mut text).unwrap();
        packed.write_all(&text).unwrap();
        let lines: Vec<String> = packed
            .finish()
            .unwrap()
            .chunks(9)
            .map(|chunk| {
                chunk
                    .iter()
                    .fold(LINE.to_owned(), |line, byte| format!("{line}{byte:02x}"))
            })
            .collect();
        assert_eq!(unpack(&log(&lines)).unwrap(), recording);
        assert!(unpack(&log(&lines[1..])).is_err(), "a line is missing");
        assert!(unpack(&log(&[])).is_err());
        assert!(unpack(&log(&[format!("{LINE}xy")])).is_err());
    }
}
