//! What is said about a budget: that it cannot be kept, what it leaves out, what its profile lacks.

use std::collections::BTreeMap;

use otf_artifact::diagnostic::{Code, Diagnostic, Severity};

use super::{Budget, Worth};
use crate::frequency::Hits;

impl Budget<'_> {
    /// So many instructions as the policy would write them.
    fn share(&self, instructions: f64) -> String {
        match (&self.rule.percent, self.operation.instructions) {
            (Some(_), Some(without)) => {
                format!("{:.1} %", 100.0 * instructions / without.max(1) as f64)
            }
            _ => format!("{instructions:.0} instructions"),
        }
    }

    /// What must stay is dearer than the budget.
    pub(super) fn too_small(&self, least: f64, beside: f64) -> Diagnostic {
        let message = format!(
            "`{}` may take {} more, but what must stay adds {}: {} for notes and looks at what is freed, {} for checks that others rely on or that share a probe",
            self.operation.name,
            self.share(self.limit),
            self.share(least),
            self.share(beside),
            self.share(least - beside),
        );
        let error = self.at(Code::BudgetTooSmall, message);
        error.help("raise the budget above that; `otf cost` shows the dearest places")
    }

    /// How much is left out.
    pub(super) fn left(
        &self,
        places: usize,
        of: usize,
        gone: f64,
        [before, after]: [f64; 2],
        beside: f64,
    ) -> Diagnostic {
        let message = format!(
            "a load under deny or kill leaves {places} of {of} checks to audit, {:.1} % of those that `{}` meets: it adds {} instead of {}",
            100.0 * gone / (before - beside),
            self.operation.name,
            self.share(after),
            self.share(before),
        );
        let warning = Diagnostic {
            severity: Severity::Warning,
            ..self.at(Code::LeftToAudit, message)
        };
        warning.help("`otf inspect DIR` names them; a larger budget leaves fewer")
    }

    /// What the profile lacks.
    pub(super) fn partial(&self, worths: &BTreeMap<u32, Option<Worth>>) -> Vec<Diagnostic> {
        let count = |wanted: &dyn Fn(Hits) -> bool| {
            let rows = worths.keys();
            rows.filter(|row| wanted(self.frequency.of(**row))).count()
        };
        let mut lacks = Vec::new();
        if self.frequency.notes.is_none() || self.frequency.frees.is_none() {
            lacks.push("it has no runs of notes and of looks at what is freed".to_owned());
        }
        let unknown = count(&|hits| hits == Hits::Unknown);
        if unknown > 0 {
            lacks.push(format!("{unknown} places with a probe are not in it"));
        }
        let estimated = count(&|hits| matches!(hits, Hits::Leader(_)) && hits.number() > 0.0);
        if estimated > 0 {
            lacks.push(format!(
                "{estimated} places with a probe were covered then: they count as often as what covered them"
            ));
        }
        if lacks.is_empty() {
            return Vec::new();
        }
        let message = format!(
            "the profile of `{}` is not complete: {}",
            self.operation.name,
            lacks.join("; ")
        );
        vec![Diagnostic {
            severity: Severity::Warning,
            ..self
                .at(Code::BudgetPartial, message)
                .help("`otf explain OTF0048` says how to record what it lacks")
        }]
    }

    fn at(&self, code: Code, message: String) -> Diagnostic {
        self.rule.operation.error(code, self.file, message)
    }
}
