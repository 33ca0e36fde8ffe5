//! `otf explain`: what a code means, why a site may write what it may, where a type may lie and who
//! allocates it.

mod things;

use otf_artifact::{
    analysis::Analysis,
    diagnostic::{Code, Diagnostic},
    sites::{Coverage, Site, Sites, Unwind},
};

use crate::{
    cli::Explain,
    files,
    render::{self, Failure},
};

/// Explains a code; or a site, a type or an allocation of a compartment.
pub fn explain(args: &Explain) -> Result<(), Failure> {
    if let Ok(code) = args.what.parse::<Code>() {
        return render::line(&format!("{code}: {}\n\n{}", code.title(), code.explain()));
    }
    let Some(dir) = &args.dir else {
        return Err(
            Diagnostic::error(Code::Usage, format!("{} is no code", args.what))
                .help("a code looks like OTF0031; for a site, a type or an allocation give --dir out/KERNEL/COMPARTMENT")
                .into(),
        );
    };
    let sites: Sites = files::read_artifact(&dir.join("sites.json"))?;
    let source: Analysis = files::read_artifact(&dir.join("analysis.json"))?;
    let mut found: Vec<String> = sites
        .sites
        .iter()
        .filter(|s| name(s) == args.what || s.location.symbol == args.what)
        .map(|s| describe(&sites, &source, s))
        .collect();
    found.extend(things::types(&sites, &args.what));
    found.extend(things::allocations(&sites, &args.what));
    if found.is_empty() {
        return Err(
            Diagnostic::error(Code::Usage, format!("nothing is called {}", args.what))
                .at(dir.join("sites.json").display().to_string(), 0, 0)
                .help("a site is named FUNCTION+0xOFFSET, or FUNCTION for all of its sites; a type `struct NAME`; an allocation FILE:LINE")
                .into(),
        );
    }
    render::line(&found.join("\n"))
}

fn name(site: &Site) -> String {
    format!(
        "{}+{:#x}",
        site.location.symbol, site.location.symbol_offset
    )
}

fn describe(sites: &Sites, source: &Analysis, site: &Site) -> String {
    let mut lines = vec![format!("{}  {}", name(site), site.text)];
    for frame in &site.chain {
        lines.push(format!(
            "  at {} ({}:{})",
            frame.function, frame.file, frame.line
        ));
    }
    lines.extend(things::pointers(source, site));
    lines.push(format!("  precision: {:?}", site.precision).to_lowercase());
    lines.push(match &site.coverage {
        Coverage::Probe => "  coverage: probe".to_owned(),
        Coverage::Proven(why) => format!("  coverage: proven ({why})"),
        Coverage::Unprobable(why) => format!("  coverage: none ({why})"),
    });
    let gates: Vec<&str> = site
        .unwind_gates
        .iter()
        .filter_map(|gate| sites.analysis.gates.get(gate.index()))
        .map(|gate| gate.function.as_str())
        .collect();
    lines.push(match (&site.unwind, gates.is_empty()) {
        (Unwind::Safe, true) => "  deny: skips the store only (no gate leads here)".to_owned(),
        (Unwind::Safe, false) => format!("  deny: unwinds to {}", gates.join(", ")),
        (Unwind::Held(what), true) => format!("  deny: skips the store only ({what})"),
        (Unwind::Held(what), false) => format!(
            "  deny: unwinds to {}; from elsewhere skips the store only ({what})",
            gates.join(", ")
        ),
    });
    if let Some(set) = sites.legal_sets.get(site.legal.index()) {
        lines.push(format!(
            "  may write: {}",
            otf_policygen::describe(set, &sites.analysis)
        ));
    }
    lines.join("\n")
}
