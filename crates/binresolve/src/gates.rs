//! Machine entries of the gates.

use std::collections::BTreeSet;

use otf_artifact::{
    analysis::Analysis,
    diagnostic::{Code, Diagnostic},
    ids::GateId,
    sites::GateProbe,
};

use iced_x86::{FlowControl, Instruction};

use crate::{confined::Confined, decode::Instructions};

/// Bytes of the call, later a nop, that ftrace patches.
const FTRACE_SITE: u64 = 5;

/// Finds the first instruction of every gate. A gate that runs only while the module is loaded
/// needs no probe: it has ended when a policy can be loaded.
pub fn bind(
    analysis: &Analysis,
    confined: &[Confined<'_>],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<GateProbe> {
    let mut probes = Vec::new();
    let branches: Vec<BTreeSet<u64>> = confined.iter().map(|c| branch_targets(&c.code)).collect();
    for (row, gate) in analysis.gates.iter().enumerate() {
        let mut found = false;
        let mut only_init = false;
        for (image, branches) in confined.iter().zip(&branches) {
            let entries = image.image.symbols_named(&gate.function).filter(|s| {
                let same_file = image
                    .debug
                    .definition(s.address)
                    .is_none_or(|file| file == gate.file);
                s.function && image.extent.holds(s.address) && same_file
            });
            let mut entries: Vec<u64> = entries.map(|s| s.address).collect();
            entries.dedup();
            for address in entries {
                let location = image.image.location(address);
                if location.section.starts_with(".init.text") {
                    only_init = true;
                    continue;
                }
                found = true;
                let behind = behind_ftrace(image, branches, address);
                if let Some(why) = image.tables.refusal(&image.image, address, address + 1) {
                    let message = format!("the gate {} cannot be probed: {why}", gate.function);
                    diagnostics.push(
                        Diagnostic::warning(Code::Unbound, message)
                            .at(gate.file.clone(), 0, 0)
                            .help("calls through it are not noted; what it calls is, where that is a gate"),
                    );
                    continue;
                }
                let Some(behind) = behind else {
                    let message = format!(
                        "the gate {} cannot be probed: a loop leads back to its first instruction",
                        gate.function
                    );
                    diagnostics.push(Diagnostic::warning(Code::Unbound, message).at(
                        gate.file.clone(),
                        0,
                        0,
                    ));
                    continue;
                };
                probes.push(GateProbe {
                    gate: GateId::from(row),
                    location: image.image.location(behind),
                });
            }
        }
        if !found && !only_init {
            let message = format!(
                "the gate {} has no machine code of its own: calls through it are not noted",
                gate.function
            );
            diagnostics.push(Diagnostic::warning(Code::Unbound, message).at(
                gate.file.clone(),
                0,
                0,
            ));
        }
    }
    probes
}

/// The first instruction behind the ftrace site of a function. There a probe is an int3 with
/// interrupts off; at the site itself it would run with interrupts on, and everything that an
/// interrupt enters meanwhile would go unchecked. `None` when a branch leads there: registers are
/// those of the entry only the first time.
pub(crate) fn behind_ftrace(
    image: &Confined<'_>,
    branches: &BTreeSet<u64>,
    entry: u64,
) -> Option<u64> {
    let site = image.tables.ftrace_site(entry)?;
    let behind = site + FTRACE_SITE;
    (!branches.contains(&behind)).then_some(behind)
}

/// Where branches lead. Calls do not count: unresolved ones seem to lead to their next instruction.
pub(crate) fn branch_targets(code: &Instructions) -> BTreeSet<u64> {
    let branches = code.all.iter().filter(|i| {
        matches!(
            i.flow_control(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
        )
    });
    branches.map(Instruction::near_branch_target).collect()
}
