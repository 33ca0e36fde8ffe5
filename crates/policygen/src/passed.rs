//! Objects on stacks that functions were handed by pointer: rows, and the probes that note arguments.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    abi,
    analysis::{LegalSet, PassedObject, StackRule},
    bundle::{Probe, Program},
    sites::{PassedProbe, Register, Sites},
};

type Key<'s> = (&'s str, &'s str, u16);

/// Functions whose arguments are noted.
#[derive(Clone, Debug, Default)]
pub struct Entries<'s> {
    /// `FILE:FUNCTION`; a row's number is the cookie.
    pub functions: Vec<String>,
    /// Probes at their entries.
    pub probes: Vec<Probe>,
    objects: BTreeMap<Key<'s>, abi::Passed>,
}

/// What a legal set allows on stacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnStacks {
    /// Rows of its objects.
    pub objects: Vec<abi::Passed>,
    /// The rule.
    pub stack: StackRule,
    /// The rule where no entry was noted.
    pub otherwise: StackRule,
}

impl<'s> Entries<'s> {
    /// Those that some of the sets need.
    pub fn of<'a>(sets: impl Iterator<Item = &'a LegalSet>, sites: &'s Sites) -> Self {
        let wanted: BTreeSet<(String, String, u16)> = sets
            .flat_map(|set| &set.passed)
            .map(|p| (p.file.clone(), p.function.clone(), p.parameter))
            .collect();
        let used: Vec<&PassedProbe> = sites
            .passed_probes
            .iter()
            .filter(|p| wanted.contains(&(p.file.clone(), p.function.clone(), p.parameter)))
            .collect();
        let functions: BTreeSet<(&str, &str)> = used
            .iter()
            .map(|p| (p.file.as_str(), p.function.as_str()))
            .collect();
        let rows: BTreeMap<(&str, &str), u32> = functions.into_iter().zip(0..).collect();
        let mut entries = Self {
            functions: rows.keys().map(|(file, f)| format!("{file}:{f}")).collect(),
            ..Self::default()
        };
        let mut places = BTreeSet::new();
        for probe in used {
            let function = rows[&(probe.file.as_str(), probe.function.as_str())];
            let argument = Register::ARGUMENTS
                .iter()
                .position(|r| *r == probe.register);
            let Some(argument) = argument else { continue };
            let row = abi::Passed {
                function,
                size: u32::try_from(probe.size).unwrap_or(u32::MAX),
                argument: argument as u32,
            };
            let key = (
                probe.file.as_str(),
                probe.function.as_str(),
                probe.parameter,
            );
            entries.objects.insert(key, row);
            if places.insert((function, probe.location.clone())) {
                entries.probes.push(Probe {
                    program: Program::Entry,
                    location: probe.location.clone(),
                    cookie: function.into(),
                    room: None,
                });
            }
        }
        entries
            .probes
            .sort_by(|a, b| (&a.location, a.cookie).cmp(&(&b.location, b.cookie)));
        entries
    }

    /// What a set allows on stacks: objects that are not noted, or are too many, widen the rule.
    pub fn on_stacks(&self, set: &LegalSet) -> OnStacks {
        let row = |object: &PassedObject| {
            let key = (
                object.file.as_str(),
                object.function.as_str(),
                object.parameter,
            );
            let size = u32::try_from(object.size).unwrap_or(u32::MAX);
            self.objects
                .get(&key)
                .map(|row| abi::Passed { size, ..*row })
        };
        let widest = |objects: &mut dyn Iterator<Item = &PassedObject>| {
            objects.map(|o| o.otherwise).max().unwrap_or_default()
        };
        if set.passed.len() > abi::MAX_PASSED {
            return OnStacks {
                stack: widest(&mut set.passed.iter()).max(set.stack),
                ..OnStacks::default()
            };
        }
        let mut missing = set.passed.iter().filter(|o| row(o).is_none());
        OnStacks {
            objects: set.passed.iter().filter_map(row).collect(),
            stack: widest(&mut missing).max(set.stack),
            otherwise: widest(&mut set.passed.iter()).max(set.stack),
        }
    }
}

/// Name of a parameter in a policy.
pub fn name(file: &str, function: &str, parameter: u16) -> String {
    format!("{file}:{function}({parameter})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(function: &str) -> PassedObject {
        PassedObject {
            file: "a.c".into(),
            function: function.into(),
            parameter: 1,
            size: 80,
            otherwise: StackRule::Compartment,
        }
    }

    #[test]
    fn what_is_not_noted_or_too_much_widens_the_rule() {
        let known = abi::Passed {
            function: 3,
            size: 80,
            argument: 1,
        };
        let entries = Entries {
            objects: BTreeMap::from([(("a.c", "f", 1), known)]),
            ..Entries::default()
        };
        let set = |functions: &[&str]| LegalSet {
            passed: functions.iter().map(|f| object(f)).collect(),
            ..LegalSet::default()
        };
        let noted = entries.on_stacks(&set(&["f"]));
        assert_eq!(noted.objects, [known]);
        assert_eq!(
            (noted.stack, noted.otherwise),
            (StackRule::None, StackRule::Compartment)
        );
        let widened = entries.on_stacks(&set(&["f", "g"]));
        assert_eq!(widened.stack, StackRule::Compartment);
        let many = entries.on_stacks(&set(&["f"; abi::MAX_PASSED + 1]));
        assert!(many.objects.is_empty());
        assert_eq!(many.stack, StackRule::Compartment);
    }
}
