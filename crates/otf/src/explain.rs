//! `otf explain`: what a code means, or why a site may write what it may.

use otf_artifact::{
    diagnostic::{Code, Diagnostic},
    sites::{Coverage, Sites, Unwind},
};

use crate::{
    cli::Explain,
    files,
    render::{self, Failure},
};

/// Explains a code, or a site of a compartment.
pub fn explain(args: &Explain) -> Result<(), Failure> {
    if let Ok(code) = args.what.parse::<Code>() {
        render::line(&format!("{code}: {}\n\n{}", code.title(), code.explain()));
        return Ok(());
    }
    let Some(dir) = &args.dir else {
        return Err(
            Diagnostic::error(Code::Usage, format!("{} is no code", args.what))
                .help("a code looks like OTF0031; for a site give --dir out/KERNEL/COMPARTMENT")
                .into(),
        );
    };
    let sites: Sites = files::read_artifact(&dir.join("sites.json"))?;
    let found: Vec<String> = sites
        .sites
        .iter()
        .filter(|s| {
            format!("{}+{:#x}", s.location.symbol, s.location.symbol_offset) == args.what
                || s.location.symbol == args.what
        })
        .map(|s| {
            let mut text = format!(
                "{}+{:#x}  {}\n",
                s.location.symbol, s.location.symbol_offset, s.text
            );
            for frame in &s.chain {
                text += &format!("  at {} ({}:{})\n", frame.function, frame.file, frame.line);
            }
            text += &format!("  precision: {:?}\n", s.precision).to_lowercase();
            text += &match &s.coverage {
                Coverage::Probe => "  coverage: probe\n".to_owned(),
                Coverage::Proven(why) => format!("  coverage: proven ({why})\n"),
                Coverage::Unprobable(why) => format!("  coverage: none ({why})\n"),
            };
            text += &match &s.unwind {
                Unwind::Safe => "  deny: unwinds to the gate\n".to_owned(),
                Unwind::Held(what) => format!("  deny: skips the store only ({what})\n"),
            };
            let words = sites
                .legal_sets
                .get(s.legal.index())
                .map_or_else(String::new, |set| {
                    otf_policygen::describe(set, &sites.analysis)
                });
            text + &format!("  may write: {words}")
        })
        .collect();
    if found.is_empty() {
        return Err(
            Diagnostic::error(Code::Usage, format!("no site {}", args.what))
                .at(dir.join("sites.json").display().to_string(), 0, 0)
                .help("a site is named FUNCTION+0xOFFSET, or FUNCTION for all of its sites")
                .into(),
        );
    }
    render::line(&found.join("\n"));
    Ok(())
}
