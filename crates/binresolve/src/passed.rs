//! Entries of the functions whose parameters point to objects on stacks that legal sets name.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    analysis::LegalSet,
    diagnostic::{Code, Diagnostic},
    sites::{PassedProbe, Register, UnnotedParameter},
};

use crate::{
    confined::Confined,
    dwarf::Held,
    gates::{behind_ftrace, branch_targets},
};

/// The parameters that legal sets name.
pub struct Noted {
    /// Where they are noted, sorted.
    pub probes: Vec<PassedProbe>,
    /// Those that cannot be, sorted.
    pub unnoted: Vec<UnnotedParameter>,
}

/// Finds where each parameter that a legal set names is noted: at every machine entry of its
/// function. One that cannot be noted everywhere is noted nowhere: part of its objects would be
/// taken for illegal.
pub fn bind(
    sets: &[LegalSet],
    confined: &[Confined<'_>],
    diagnostics: &mut Vec<Diagnostic>,
) -> Noted {
    let wanted: BTreeMap<_, u64> = sets
        .iter()
        .flat_map(|set| &set.passed)
        .map(|p| ((p.file.as_str(), p.function.as_str(), p.parameter), p.size))
        .collect();
    let branches: Vec<BTreeSet<u64>> = confined.iter().map(|c| branch_targets(&c.code)).collect();
    let mut probes = Vec::new();
    let mut unnoted = Vec::new();
    for ((file, function, parameter), size) in wanted {
        let mut found: Vec<PassedProbe> = Vec::new();
        let mut why = None;
        for (image, branches) in confined.iter().zip(&branches) {
            for instance in image.debug.instances(file, function) {
                match entry(image, branches, &instance, parameter) {
                    Ok((register, location)) => found.push(PassedProbe {
                        file: file.to_owned(),
                        function: function.to_owned(),
                        parameter,
                        size,
                        register,
                        location,
                    }),
                    Err(reason) => why = Some(reason),
                }
            }
        }
        if found
            .windows(2)
            .any(|pair| pair[0].register != pair[1].register)
        {
            why = Some("its copies hold it in different registers");
        }
        if found.is_empty() && why.is_none() {
            why = Some("it has no machine code of its own");
        }
        match why {
            None => probes.extend(found),
            Some(reason) => unnoted.push(UnnotedParameter {
                file: file.to_owned(),
                function: function.to_owned(),
                parameter,
                reason: reason.to_owned(),
            }),
        }
    }
    let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for each in &unnoted {
        let names = missing.entry(&each.reason).or_default();
        names.push(format!("{} ({})", each.function, each.parameter));
    }
    for (reason, names) in missing {
        let message = format!(
            "{} parameters that point to objects on stacks cannot be noted, as {reason}: {}",
            names.len(),
            names.join(", ")
        );
        let help = "these objects are checked by the stack rule alone";
        diagnostics.push(Diagnostic::warning(Code::Unbound, message).help(help));
    }
    probes.sort();
    probes.dedup();
    Noted { probes, unnoted }
}

/// Machine code of a function of the source.
#[derive(Debug)]
pub struct Instance {
    /// First instruction.
    pub entry: u64,
    /// Where its parameters are near the entry, by position.
    pub registers: BTreeMap<u16, Vec<Held>>,
    /// It is a part of another function.
    pub inlined: bool,
}

impl Instance {
    /// The register, by DWARF's number, that holds a parameter from the entry up to `behind` the
    /// ftrace site. What is called there changes no argument, so that either end will do.
    fn register(&self, parameter: u16, behind: u64) -> Option<u16> {
        let held = self.registers.get(&parameter)?.iter();
        let mut found = held
            .filter(|h| {
                [self.entry, behind]
                    .iter()
                    .any(|at| (h.begin..h.end).contains(at))
            })
            .map(|h| h.register);
        let register = found.next()?;
        found.all(|r| r == register).then_some(register)
    }
}

fn entry(
    image: &Confined<'_>,
    branches: &BTreeSet<u64>,
    instance: &Instance,
    parameter: u16,
) -> Result<(Register, otf_artifact::sites::Location), &'static str> {
    if instance.inlined {
        return Err("the compiler made it a part of other functions");
    }
    let behind =
        behind_ftrace(image, branches, instance.entry).ok_or("its entry cannot be probed")?;
    if image
        .tables
        .refusal(&image.image, instance.entry, instance.entry + 1)
        .is_some()
    {
        return Err("its entry cannot be probed");
    }
    let register = instance.register(parameter, behind).and_then(|n| {
        Register::ARGUMENTS
            .iter()
            .find(|r| r.dwarf_number() == Some(n))
    });
    let register = register.ok_or("no register holds it at the entry")?;
    Ok((*register, image.image.location(behind)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Instance;
    use crate::dwarf::Held;

    /// A function at 0x100 whose own code begins at 0x109, with its parameter 0 in these places.
    fn register(held: &[(u64, u64, u16)]) -> Option<u16> {
        let held = held.iter().map(|(begin, end, register)| Held {
            begin: *begin,
            end: *end,
            register: *register,
        });
        let instance = Instance {
            entry: 0x100,
            registers: BTreeMap::from([(0, held.collect())]),
            inlined: false,
        };
        assert_eq!(instance.register(1, 0x109), None);
        instance.register(0, 0x109)
    }

    #[test]
    fn a_parameter_is_held_at_the_entry_or_behind_the_ftrace_site() {
        // GCC's locations begin at the entry, clang's behind the call of __fentry__.
        assert_eq!(register(&[(0x100, 0x120, 4)]), Some(4));
        assert_eq!(register(&[(0x100, 0x109, 4)]), Some(4));
        assert_eq!(register(&[(0x109, 0x120, 4), (0x120, 0x130, 3)]), Some(4));
        assert_eq!(register(&[(0x100, 0x109, 4), (0x109, 0x120, 4)]), Some(4));
        // It was moved, or is held only later.
        assert_eq!(register(&[(0x100, 0x109, 4), (0x109, 0x120, 3)]), None);
        assert_eq!(register(&[(0x10c, 0x120, 3)]), None);
        assert_eq!(register(&[]), None);
    }
}
