//! An analysis comes from a file: its references are checked before they are followed.

use otf_artifact::{
    analysis::{Analysis, Target},
    diagnostic::{Code, Diagnostic},
    ids::LegalSetId,
};

/// Refuses an analysis that refers to rows that it does not have, or whose widest set is empty.
pub fn analysis(analysis: &Analysis) -> Result<(), Vec<Diagnostic>> {
    let bad = |message: String| {
        Diagnostic::error(Code::BadArtifact, message)
            .help("make the analysis again with `otf analyze`")
    };
    let mut found = Vec::new();
    let exists = |id: LegalSetId| id.index() < analysis.legal_sets.len();
    for function in &analysis.functions {
        let writes = function.writes.iter().map(|w| w.target);
        let arguments = function.calls.iter().flat_map(|c| &c.arguments);
        let mut targets = writes.chain(arguments.copied().flatten());
        if !targets.all(|target| match target {
            Target::Set(id) => exists(id),
            Target::Parameter { otherwise, .. } => exists(otherwise),
        }) {
            let message = format!(
                "{} refers to a legal set that does not exist",
                function.name
            );
            found.push(bad(message).at(function.file.clone(), function.line, 0));
        }
    }
    match analysis.legal_sets.get(analysis.compartment_set.index()) {
        None => found.push(bad("the compartment's legal set does not exist".into())),
        Some(set) if set.is_empty() => {
            found.push(bad("the compartment's legal set allows nothing".into()));
        }
        Some(_) => {}
    }
    let types = analysis.types.len();
    for (row, set) in analysis.legal_sets.iter().enumerate() {
        let holds = set.types.iter().all(|t| t.index() < types)
            && set
                .globals
                .iter()
                .all(|g| g.index() < analysis.globals.len())
            && set.heap.iter().all(|place| {
                place.target.index() < types
                    && place.container.index() < types
                    && place
                        .allocation_sites
                        .iter()
                        .all(|a| a.index() < analysis.allocation_sites.len())
            });
        if !holds {
            found.push(bad(format!(
                "legal set {row} names a row that does not exist"
            )));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}
