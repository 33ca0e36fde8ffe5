//! `otf explain`: what a code means, why a site may write what it may, where a type may lie and who
//! allocates it.

mod calls;
mod things;

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi::Action,
    analysis::{Analysis, LegalSet, PassedObject},
    bundle::Plan,
    covered::{Cover, Under},
    diagnostic::{Code, Diagnostic},
    sites::{Coverage, Location, Site, SiteKind, Sites, UnnotedParameter, Unwind},
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
    let bundle = files::bundle_of(dir, &sites.analysis.compartment)?;
    let left = bundle.map_or_else(BTreeMap::new, |bundle| left_to_audit(&bundle.plan));
    let mut found: Vec<String> = sites
        .all()
        .filter(|s| is_called(&s.location, &args.what))
        .map(|s| describe(&sites, &source, s, left.get(&s.location)))
        .collect();
    let calls = sites.calls.iter();
    let calls = calls.filter(|c| is_called(&c.location, &args.what));
    found.extend(calls.map(|c| calls::describe(&sites, &source, c, left.get(&c.location))));
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

/// Why a place has no probe under deny and kill, by place.
fn left_to_audit(plan: &Plan) -> BTreeMap<Location, String> {
    let under_kill: BTreeSet<u32> = plan.left_under(Action::Kill).map(|left| left.row).collect();
    let left = plan.left_to_audit.iter();
    let line = left.filter_map(|left| {
        let kill = if under_kill.contains(&left.row) {
            " and kill"
        } else {
            ""
        };
        let why = format!(
            "left to audit, so NOT CHECKED under deny{kill}, to keep the budget of {} ({})",
            left.operation, left.why
        );
        Some((plan.checked_at(left.row)?.location.clone(), why))
    });
    line.collect()
}

/// How a place with a probe of its own is covered.
fn probe(left: Option<&String>) -> String {
    left.map_or_else(
        || "  coverage: probe".to_owned(),
        |why| format!("  coverage: probe under audit; {why}"),
    )
}

fn is_called(location: &Location, what: &str) -> bool {
    location.symbol == what || name(location) == what
}

fn name(location: &Location) -> String {
    format!("{}+{:#x}", location.symbol, location.symbol_offset)
}

/// What covers a site that goes without its probe.
fn covered(sites: &Sites, cover: &Cover) -> String {
    match cover {
        Cover::Check {
            by,
            distance,
            under,
            joined,
        } => {
            let leader = sites.site(*by);
            let beside = if *joined {
                "which looks at these bytes too"
            } else {
                "whose verdict implies this one"
            };
            let when = match under {
                Under::Always => "no probe",
                Under::NotDeny => "no probe but under deny, which may leave out that store alone",
            };
            format!(
                "  coverage: {when}; checked at {} (`{}`), {distance} bytes before this address, {beside}",
                name(&leader.location),
                leader.text
            )
        }
        Cover::Fresh { call, distance } => format!(
            "  coverage: no probe; byte {distance} of the object that {} has just allocated",
            name(call)
        ),
        Cover::AnyAddress => {
            "  coverage: no probe; any address of per-CPU memory is legal here".to_owned()
        }
    }
}

/// Objects on stacks that a set names and whose bounds nobody knows at run time.
fn unnoted(sites: &Sites, set: &LegalSet) -> impl Iterator<Item = String> {
    let named = |u: &&UnnotedParameter| {
        let same = |o: &PassedObject| {
            (&o.file, &o.function, o.parameter) == (&u.file, &u.function, u.parameter)
        };
        set.passed.iter().any(same)
    };
    sites.unnoted_parameters.iter().filter(named).map(|u| {
        let UnnotedParameter {
            function,
            parameter,
            reason,
            ..
        } = u;
        format!("  not noted: parameter {parameter} of {function}, as {reason}: the stack rule alone holds there")
    })
}

fn describe(sites: &Sites, source: &Analysis, site: &Site, left: Option<&String>) -> String {
    let (verb, what) = match site.kind {
        SiteKind::Free => ("free", "free"),
        _ => ("write", "store"),
    };
    let mut lines = vec![format!("{}  {}", name(&site.location), site.text)];
    for frame in &site.chain {
        lines.push(format!(
            "  at {} ({}:{})",
            frame.function, frame.file, frame.line
        ));
    }
    lines.extend(things::pointers(source, site));
    lines.push(format!("  precision: {:?}", site.precision).to_lowercase());
    lines.extend(
        site.exact
            .map(|exact| format!("  exact map: {}", exact.describe())),
    );
    lines.push(match &site.coverage {
        Coverage::Probe => match &site.covered {
            None => probe(left),
            // Under deny it would have a probe of its own.
            Some(cover) => left.map_or_else(
                || covered(sites, cover),
                |why| format!("{}; there {why}", covered(sites, cover)),
            ),
        },
        Coverage::Proven(why) => format!("  coverage: proven ({why})"),
        Coverage::Unprobable(why) => format!("  coverage: none ({why})"),
    });
    lines.extend(site.same_object.map(|register| {
        let name = format!("{register:?}").to_lowercase();
        format!("  same object: the register {name} points to the structure; the {what} stays in its object")
    }));
    let gates: Vec<&str> = site
        .unwind_gates
        .iter()
        .filter_map(|gate| sites.analysis.gates.get(gate.index()))
        .map(|gate| gate.function.as_str())
        .collect();
    let elsewhere = match &site.release {
        Some(release) => {
            let gates = release.gates.iter();
            let gates = gates.filter_map(|gate| sites.analysis.gates.get(gate.index()));
            let names: Vec<&str> = gates.map(|gate| gate.function.as_str()).collect();
            let (names, held) = (names.join(", "), release.describe());
            lines.push(format!("  deny: gives back {held} and unwinds to {names}"));
            "from elsewhere "
        }
        None => "",
    };
    lines.push(match (&site.unwind, gates.is_empty()) {
        (Unwind::Safe, true) => format!("  deny: skips the {what} only (no gate leads here)"),
        (Unwind::Safe, false) => format!("  deny: unwinds to {}", gates.join(", ")),
        (Unwind::Held(held), true) => {
            format!("  deny: {elsewhere}skips the {what} only ({held})")
        }
        (Unwind::Held(held), false) => format!(
            "  deny: unwinds to {}; from elsewhere skips the {what} only ({held})",
            gates.join(", ")
        ),
    });
    if let Some(set) = sites.legal_sets.get(site.legal.index()) {
        lines.push(format!(
            "  may {verb}: {}",
            otf_policygen::describe(set, &sites.analysis)
        ));
        lines.extend(unnoted(sites, set));
    }
    lines.join("\n")
}
