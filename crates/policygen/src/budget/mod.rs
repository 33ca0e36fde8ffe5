//! Keeps budgets (`max_overhead`): chooses what a load under deny or kill does not check
//! (docs/decisions/0017).

mod said;
mod worth;

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi::Action,
    bundle::{Plan, PlanLeft},
    diagnostic::{Code, Diagnostic},
    profile::{Operation, Prices, Profile},
    yaml::Placed,
};

use self::worth::{Worth, worth};
use crate::{
    bind::{Bound, Errors},
    compile::Inputs,
    cost::probed,
    frequency::{Frequency, Hits},
    policy::{BudgetRule, Policy},
    tables::Built,
};

/// What is left to audit, and what is said about it.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// By row.
    pub places: Vec<PlanLeft>,
    /// [`Code::LeftToAudit`] and [`Code::BudgetPartial`].
    pub warnings: Vec<Diagnostic>,
}

/// What is wrong with the rules themselves.
pub(crate) fn check_rules(policy: &Policy, errors: &mut Errors<'_>) {
    let mut seen = BTreeSet::new();
    for rule in &policy.max_overhead {
        if !seen.insert(&rule.operation.value) {
            let message = format!("operation `{}` has two budgets", rule.operation);
            errors.at(&rule.operation, message, Some("keep one of them".into()));
        }
        if rule.percent.is_some() == rule.instructions.is_some() {
            let message = format!("the budget of `{}` has no single limit", rule.operation);
            let help = "give one of `percent` and `instructions`";
            errors.at(&rule.operation, message, Some(help.into()));
        }
        if let Some(percent) = &rule.percent
            && !(percent.value.is_finite() && percent.value >= 0.0)
        {
            let message = format!("`percent` cannot be {percent}");
            let help = "give what may be added, 0 or more: `percent: 25`";
            errors.at(percent, message, Some(help.into()));
        }
    }
}

/// Chooses for each budget, in the policy's order. What one budget leaves out costs the next ones nothing.
///
/// # Errors
/// [`Code::BudgetProfile`] for one that cannot be reckoned, [`Code::BudgetTooSmall`] for one that
/// cannot be kept.
pub(crate) fn leave(
    policy: &Policy,
    bound: &Bound,
    built: &Built,
    inputs: &Inputs<'_>,
) -> Result<Left, Vec<Diagnostic>> {
    let mut left = BTreeMap::new();
    let mut warnings = Vec::new();
    let mut errors = Vec::new();
    let worths = if policy.max_overhead.is_empty() {
        BTreeMap::new()
    } else {
        worths(bound, built)
    };
    for rule in &policy.max_overhead {
        match Budget::new(rule, policy, &built.plan, inputs) {
            Ok(budget) => match budget.choose(&worths, &mut left) {
                Ok(said) => warnings.extend(said),
                Err(error) => errors.push(error),
            },
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let places = left.into_values().collect();
    Ok(Left { places, warnings })
}

/// The rows with a probe under deny; what must stay is worth nothing that could be weighed.
fn worths(bound: &Bound, built: &Built) -> BTreeMap<u32, Option<Worth>> {
    let plan = &built.plan;
    let leaders: BTreeSet<u32> = plan.covered.iter().filter_map(|cover| cover.by).collect();
    let rows = probed(plan, Action::Deny).into_iter();
    rows.map(|(row, probes)| {
        // The probe of a place where something is noted besides would stay anyway.
        let stays = leaders.contains(&row) || probes > 1;
        (
            row,
            if stays {
                None
            } else {
                worth(row, bound, built)
            },
        )
    })
    .collect()
}

/// A budget that can be reckoned.
struct Budget<'a> {
    rule: &'a BudgetRule,
    file: &'a str,
    operation: &'a Operation,
    prices: &'a Prices,
    frequency: Frequency,
    /// Instructions.
    limit: f64,
}

impl<'a> Budget<'a> {
    fn new(
        rule: &'a BudgetRule,
        policy: &'a Policy,
        plan: &Plan,
        inputs: &Inputs<'a>,
    ) -> Result<Self, Diagnostic> {
        let file = policy.file.as_str();
        let refuse = |at: &Placed<String>, message: String, help: &str| {
            let error = at.error(Code::BudgetProfile, file, message);
            Err(error.help(help.to_owned()))
        };
        let name = &rule.profile;
        let record = "record it anew: `otf-load profile --operation NAME --count N`";
        let Some(profile) = inputs.profiles.get(&name.value) else {
            return refuse(name, format!("there is no profile `{name}`"), record);
        };
        let Some(prices) = inputs.prices else {
            let message = "a budget needs to know what a check costs".to_owned();
            let help = "`make bench-runtime` measures it; --prices names another file";
            return refuse(&rule.operation, message, help);
        };
        if let Some(other) = another(profile, policy, &inputs.release) {
            return refuse(name, format!("the profile is of {other}"), record);
        }
        let operation = profile.operation.as_ref();
        let Some(operation) = operation.filter(|o| o.name == rule.operation.value && o.count > 0)
        else {
            let of = operation.map_or("no operation".to_owned(), |o| {
                format!("{} times `{}`", o.count, o.name)
            });
            let message = format!("the profile is of {of}, not of `{}`", rule.operation);
            return refuse(&rule.operation, message, record);
        };
        let limit = match (&rule.percent, &rule.instructions, operation.instructions) {
            (Some(percent), _, Some(without)) => percent.value / 100.0 * without as f64,
            (None, Some(most), _) => most.value as f64,
            _ => {
                let message = "the profile does not say what the operation takes without a policy";
                let help = "record it with `--instructions N`, or give `instructions` in place of `percent`";
                return refuse(&rule.operation, message.into(), help);
            }
        };
        let frequency = Frequency::new(plan, profile, operation.count);
        let unknown = |hits: &Hits| *hits == Hits::Unknown;
        if !frequency.hits.is_empty() && frequency.hits.iter().all(unknown) {
            let message = "the profile knows no place that this policy checks".to_owned();
            return refuse(name, message, record);
        }
        Ok(Self {
            rule,
            file,
            operation,
            prices,
            frequency,
            limit,
        })
    }

    fn price(&self, row: u32) -> f64 {
        self.frequency.of(row).number() * self.prices.check
    }

    /// Leaves out what costs most for its worth until the budget is kept, then puts back what there
    /// is room for. Gives what is to be said.
    fn choose(
        &self,
        worths: &BTreeMap<u32, Option<Worth>>,
        left: &mut BTreeMap<u32, PlanLeft>,
    ) -> Result<Vec<Diagnostic>, Diagnostic> {
        let checked = || worths.iter().filter(|(row, _)| !left.contains_key(row));
        let beside = self.beside();
        let before: f64 = beside + checked().map(|(row, _)| self.price(*row)).sum::<f64>();
        let mut candidates: Vec<(u32, Worth, f64)> = checked()
            .filter_map(|(row, worth)| Some((*row, (*worth)?, self.price(*row))))
            .filter(|(_, _, price)| *price > 0.0)
            .collect();
        candidates.sort_by(|(row, worth, price), (other, others, dearer)| {
            let quotient = |price: f64, worth: Worth| price / worth.weight();
            quotient(*dearer, *others)
                .total_cmp(&quotient(*price, *worth))
                .then(row.cmp(other))
        });
        let may_go: f64 = candidates.iter().map(|(_, _, price)| price).sum();
        if before - may_go > self.limit {
            return Err(self.too_small(before - may_go, beside));
        }
        let mut adds = before;
        let mut chosen = Vec::new();
        for candidate in candidates {
            if adds <= self.limit {
                break;
            }
            adds -= candidate.2;
            chosen.push(candidate);
        }
        let mut kept = BTreeSet::new();
        for (row, _, price) in chosen.iter().rev() {
            if adds + price <= self.limit {
                adds += price;
                kept.insert(*row);
            }
        }
        chosen.retain(|(row, _, _)| !kept.contains(row));
        let mut said = self.partial(worths);
        if !chosen.is_empty() {
            let gone: f64 = chosen.iter().map(|(_, _, price)| price).sum();
            said.push(self.left(
                chosen.len(),
                checked().count(),
                gone,
                [before, adds],
                beside,
            ));
        }
        for (row, worth, price) in chosen {
            let why = format!(
                "{:.1} checks of one operation, {price:.0} instructions; {}",
                price / self.prices.check,
                worth.words()
            );
            let operation = self.operation.name.clone();
            left.insert(
                row,
                PlanLeft {
                    row,
                    operation,
                    why,
                },
            );
        }
        Ok(said)
    }

    /// Instructions of notes and of looks at what is freed, as far as they were counted.
    fn beside(&self) -> f64 {
        let notes = self.frequency.notes.unwrap_or(0.0) * self.prices.note;
        notes + self.frequency.frees.unwrap_or(0.0) * self.prices.free
    }
}

/// What else a profile is of, if it is not of this compartment on this kernel.
fn another(profile: &Profile, policy: &Policy, release: &str) -> Option<String> {
    let compartment = &policy.compartment.value;
    if profile.compartment != *compartment {
        return Some(format!("{}, not of {compartment}", profile.compartment));
    }
    (profile.release != release).then(|| format!("{}, not of {release}", profile.release))
}
