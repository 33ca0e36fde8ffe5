//! Binds the names of a policy to the rows of the sites; finds what contradicts them.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    FORMAT_VERSION, abi,
    analysis::{Gate, Refusal, TargetSet},
    covered::Under,
    diagnostic::{Code, Diagnostic},
    ids::SiteId,
    sites::{Coverage, Sites},
    yaml::{Placed, suggest},
};

use crate::{
    bind_calls::{BoundCall, bind_calls},
    bind_legal::{BoundLegal, bind_legal},
    budget,
    generate::source_of,
    names::{self, Names},
    policy::{CoverRule, GateRule, Policy, SiteRule},
};

/// Registers that pass arguments.
const ARGUMENT_REGISTERS: u8 = 6;

/// A policy whose every name stands for a row.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Legal sets that a site uses, in the policy's order.
    pub legal_sets: Vec<BoundLegal>,
    /// Every site with a probe, by row.
    pub sites: Vec<BoundSite>,
    /// Target sets that a call uses, in the policy's order.
    pub target_sets: Vec<TargetSet>,
    /// Every indirect call with a probe, by row.
    pub calls: Vec<BoundCall>,
    /// Whether the returns of gates are checked.
    pub returns: bool,
    /// Whether the compartment has a heap of its own.
    pub private_heap: bool,
    /// Every gate of the analysis, as the policy wants it, by row.
    pub gates: Vec<Gate>,
    /// Action of a load that does not name one.
    pub default_action: abi::Action,
}

/// A site and what the policy says of it.
#[derive(Clone, Copy, Debug)]
pub struct BoundSite {
    /// The site.
    pub site: SiteId,
    /// Row of [`Bound::legal_sets`].
    pub legal: usize,
    /// Most severe action.
    pub action: abi::Action,
    /// Why it needs no probe.
    pub covered: Option<BoundCover>,
}

/// What covers a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundCover {
    /// The check of another one.
    Check {
        /// The other one.
        by: SiteId,
        /// From its address to that of the site.
        distance: i64,
        /// When.
        under: Under,
        /// One range for both.
        joined: bool,
    },
    /// An allocation.
    Fresh {
        /// Row of [`names::allocation_calls`].
        call: usize,
        /// From the object's start.
        distance: i64,
    },
    /// Per-CPU memory.
    AnyAddress,
}

impl BoundCover {
    /// When the site goes without its probe.
    pub fn under(self) -> Under {
        match self {
            Self::Check { under, .. } => under,
            Self::Fresh { .. } | Self::AnyAddress => Under::Always,
        }
    }
}

/// Binds a policy. Legal sets may be narrower or wider than those of the analysis: that is what a person edits them for.
///
/// # Errors
/// [`Code::PolicyInvalid`], one per contradiction, each with its place in the policy.
pub fn bind(policy: &Policy, sites: &Sites) -> Result<Bound, Vec<Diagnostic>> {
    let mut errors = Errors {
        file: &policy.file,
        found: Vec::new(),
    };
    check_head(policy, sites, &mut errors);
    budget::check_rules(policy, &mut errors);
    let gates = bind_gates(policy, sites, &mut errors);
    let (bound_sites, used) = bind_sites(policy, sites, &mut errors);
    let legal_sets = bind_legal(policy, sites, &mut errors);
    let (target_sets, calls) = bind_calls(policy, sites, &mut errors);
    if !errors.found.is_empty() {
        return Err(errors.found);
    }
    // Only what is used gets a row, in the policy's order.
    let rows: BTreeMap<usize, usize> = used.into_iter().enumerate().map(|(n, o)| (o, n)).collect();
    Ok(Bound {
        legal_sets: legal_sets
            .into_iter()
            .enumerate()
            .filter(|(row, _)| rows.contains_key(row))
            .map(|(_, set)| set)
            .collect(),
        sites: bound_sites
            .into_iter()
            .map(|site| BoundSite {
                legal: rows[&site.legal],
                ..site
            })
            .collect(),
        target_sets,
        calls,
        returns: policy.returns,
        private_heap: policy.private_heap,
        gates,
        default_action: policy.default_action,
    })
}

pub(crate) struct Errors<'a> {
    file: &'a str,
    found: Vec<Diagnostic>,
}

impl Errors<'_> {
    /// Notes an error at a value of the policy.
    pub(crate) fn at<T>(&mut self, value: &Placed<T>, message: String, help: Option<String>) {
        let error = value.error(Code::PolicyInvalid, self.file, message);
        self.found.push(match help {
            Some(help) => error.help(help),
            None => error,
        });
    }

    /// Notes a name that stands for nothing; `kind` is the plural of what it should be.
    pub(crate) fn unknown<'k>(
        &mut self,
        name: &Placed<String>,
        what: &str,
        kind: &str,
        known: impl Iterator<Item = &'k str>,
    ) {
        let help = suggest(&name.value, kind, known).map(|text| shorten(&text));
        self.at(name, format!("unknown {what} `{name}`"), help);
    }

    /// Finds an id that occurs twice; gives the rows of all.
    pub(crate) fn index<'k>(
        &mut self,
        ids: impl Iterator<Item = &'k Placed<String>>,
    ) -> BTreeMap<&'k str, usize> {
        let mut rows = BTreeMap::new();
        for (row, id) in ids.enumerate() {
            if rows.insert(id.value.as_str(), row).is_some() {
                self.at(
                    id,
                    format!("`{id}` is defined twice"),
                    Some("keep one of them".into()),
                );
            }
        }
        rows
    }

    pub(crate) fn missing(&mut self, message: String, help: &str) {
        let error = Diagnostic::error(Code::PolicyInvalid, message).at(self.file, 0, 0);
        self.found.push(error.help(help));
    }
}

/// A list of thousands of names helps nobody.
fn shorten(help: &str) -> String {
    const MOST: usize = 400;
    match help.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} …", &help[..end]),
        None => help.to_owned(),
    }
}

fn check_head(policy: &Policy, sites: &Sites, errors: &mut Errors<'_>) {
    if policy.version.value != FORMAT_VERSION {
        let message = format!("policy has format version {}", policy.version);
        let help = format!("this release reads version {FORMAT_VERSION}");
        errors.at(&policy.version, message, Some(help));
    }
    let pairs = [
        ("kernel", &policy.kernel, &sites.analysis.kernel),
        (
            "compartment",
            &policy.compartment,
            &sites.analysis.compartment,
        ),
    ];
    for (what, found, expected) in pairs {
        if found.value != *expected {
            let message = format!("the policy is for {what} `{found}`, the sites for `{expected}`");
            errors.at(found, message, Some(format!("write `{what}: {expected}`")));
        }
    }
}

fn bind_gates(policy: &Policy, sites: &Sites, errors: &mut Errors<'_>) -> Vec<Gate> {
    let mut rules: BTreeMap<(&str, &str), &GateRule> = BTreeMap::new();
    let known: BTreeSet<(&str, &str)> = sites
        .analysis
        .gates
        .iter()
        .map(|g| (g.function.as_str(), g.file.as_str()))
        .collect();
    for rule in &policy.gates {
        let key = (rule.function.value.as_str(), rule.file.value.as_str());
        if !known.contains(&key) {
            if known.iter().any(|(function, _)| *function == key.0) {
                let files = known
                    .iter()
                    .filter(|(f, _)| *f == key.0)
                    .map(|(_, file)| *file);
                errors.unknown(&rule.file, "file of this gate", "files", files);
            } else {
                errors.unknown(&rule.function, "gate", "gates", known.iter().map(|k| k.0));
            }
        } else if rules.insert(key, rule).is_some() {
            let message = format!("gate `{}` occurs twice", rule.function);
            errors.at(&rule.function, message, Some("keep one of them".into()));
        }
        if let Some(instance) = &rule.instance
            && instance.argument.value >= ARGUMENT_REGISTERS
        {
            let message = format!("argument {} is not passed in a register", instance.argument);
            errors.at(
                &instance.argument,
                message,
                Some("give one of 0 to 5, or leave `instance` out".into()),
            );
        }
    }
    let mut gates = Vec::new();
    for gate in &sites.analysis.gates {
        if let Some(rule) = rules.get(&(gate.function.as_str(), gate.file.as_str())) {
            gates.push(override_gate(gate, rule));
        } else {
            errors.missing(
                format!("the policy has no gate `{}` ({})", gate.function, gate.file),
                "an entry without a gate cannot be unwound to: generate the policy again, or copy the gate from a fresh one",
            );
        }
    }
    gates
}

fn override_gate(gate: &Gate, rule: &GateRule) -> Gate {
    Gate {
        reached_by: rule.reached_by.clone(),
        instance_argument: rule.instance.as_ref().map(|i| i.argument.value),
        instance_type: rule.instance.as_ref().and_then(|i| i.kind.clone()),
        refusal: Refusal {
            value: rule.refusal.value,
            name: rule.refusal.name.clone(),
        },
        ..gate.clone()
    }
}

/// Gives the sites by row, their legal sets as rows of the policy, and which of those rows are used.
fn bind_sites(
    policy: &Policy,
    sites: &Sites,
    errors: &mut Errors<'_>,
) -> (Vec<BoundSite>, BTreeSet<usize>) {
    let names = names::sites(sites);
    let calls = names::places(sites, &names::allocation_calls(sites));
    let covers = Covers {
        sites: &names,
        calls: &calls,
    };
    let sets: BTreeMap<&str, usize> = policy
        .legal_sets
        .iter()
        .enumerate()
        .map(|(row, s)| (s.id.value.as_str(), row))
        .collect();
    let mut bound: BTreeMap<SiteId, BoundSite> = BTreeMap::new();
    let mut seen: BTreeSet<SiteId> = BTreeSet::new();
    for rule in policy.sites.iter().flat_map(|function| &function.writes) {
        let Some(row) = names.row(&rule.at.value) else {
            errors.unknown(&rule.at, "site", "sites", names.all());
            continue;
        };
        let id = SiteId::from(row);
        if !seen.insert(id) {
            errors.at(
                &rule.at,
                format!("site `{}` occurs twice", rule.at),
                Some("keep one of them".into()),
            );
        }
        check_site(rule, sites, id, errors);
        let Some(legal) = sets.get(rule.legal.value.as_str()).copied() else {
            errors.unknown(&rule.legal, "legal set", "legal sets", sets.keys().copied());
            continue;
        };
        // Deny is the most severe that a bundle can ask for.
        let action = rule.action.unwrap_or(abi::Action::Deny);
        let covered = rule.covered.as_ref();
        let covered = covered.and_then(|cover| covers.bind(rule, cover, errors));
        bound.insert(
            id,
            BoundSite {
                site: id,
                legal,
                action,
                covered,
            },
        );
    }
    for (row, site) in sites.all().enumerate() {
        if site.coverage == Coverage::Probe && !seen.contains(&SiteId::from(row)) {
            errors.missing(
                format!(
                    "the policy has no entry for the site `{}` ({})",
                    names.of(row),
                    source_of(&site.chain)
                ),
                "every write is checked: add the site; `action: audit` only reports it",
            );
        }
    }
    let used = bound.values().map(|site| site.legal).collect();
    (bound.into_values().collect(), used)
}

/// What claims of coverage may name.
struct Covers<'n> {
    sites: &'n Names,
    calls: &'n Names,
}

impl Covers<'_> {
    fn bind(
        &self,
        rule: &SiteRule,
        cover: &CoverRule,
        errors: &mut Errors<'_>,
    ) -> Option<BoundCover> {
        let named = |what: &Placed<String>, names: &Names, kind: &str, errors: &mut Errors<'_>| {
            let row = names.row(&what.value);
            if row.is_none() {
                errors.unknown(what, kind, &format!("{kind}s"), names.all());
            }
            row
        };
        match (&cover.check_of, &cover.fresh_from, cover.any_address) {
            (Some(site), None, false) => Some(BoundCover::Check {
                by: SiteId::from(named(site, self.sites, "site", errors)?),
                distance: cover.distance,
                under: cover.under,
                joined: cover.joined,
            }),
            (None, Some(call), false) => Some(BoundCover::Fresh {
                call: named(call, self.calls, "allocation call", errors)?,
                distance: cover.distance,
            }),
            (None, None, true) => Some(BoundCover::AnyAddress),
            _ => {
                let message = format!("`covered` of site `{}` names no single reason", rule.at);
                let help = "give one of `check_of`, `fresh_from` and `any_address`";
                errors.at(&rule.at, message, Some(help.into()));
                None
            }
        }
    }
}

fn check_site(rule: &SiteRule, sites: &Sites, id: SiteId, errors: &mut Errors<'_>) {
    let site = sites.site(id);
    let source = source_of(&site.chain);
    if rule.source.value != source {
        let message = format!("site `{}` is at {source}, not at {}", rule.at, rule.source);
        let help =
            "the policy was made for another build: generate it again, then repeat the edits";
        errors.at(&rule.source, message, Some(help.into()));
    }
    let why = match &site.coverage {
        Coverage::Probe => return,
        Coverage::Proven(how) => format!("needs no check: {how}"),
        Coverage::Unprobable(why) => format!("cannot be checked: {why}"),
    };
    let message = format!("site `{}` {why}", rule.at);
    errors.at(&rule.at, message, Some("remove the entry".into()));
}
