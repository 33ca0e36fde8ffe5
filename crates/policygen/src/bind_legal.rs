//! Binds the legal sets of a policy: types, globals and allocation sites by name.

use std::collections::BTreeMap;

use otf_artifact::{
    analysis::{HeapPlace, LegalSet, PassedObject, StackRule},
    ids::{AllocationSiteId, GlobalId, ObjectTypeId},
    sites::{PassedProbe, Sites},
    yaml::Placed,
};

use crate::{
    bind::Errors,
    names::{self, Names},
    policy::{HeapRule, LegalRule, PassedRule, Policy},
};

/// Most dimensions of a place.
const MAX_DIMENSIONS: usize = 2;

/// A legal set in the terms of the analysis.
#[derive(Clone, Debug)]
pub struct BoundLegal {
    /// Its id in the policy, for messages.
    pub id: Placed<String>,
    /// The set.
    pub set: LegalSet,
}

/// Binds every legal set, used or not, so that a mistake in any is found.
pub(crate) fn bind_legal(
    policy: &Policy,
    sites: &Sites,
    errors: &mut Errors<'_>,
) -> Vec<BoundLegal> {
    errors.index(policy.legal_sets.iter().map(|set| &set.id));
    let binder = Binder {
        types: names::types(&sites.analysis),
        globals: names::globals(&sites.analysis),
        passed: names::passed(sites),
        probes: &sites.passed_probes,
        allocations: bind_allocations(policy, sites, errors),
    };
    policy
        .legal_sets
        .iter()
        .map(|rule| binder.legal_set(rule, errors))
        .collect()
}

/// Which allocation site each id stands for; `None` for one that is not known, which was reported.
fn bind_allocations<'p>(
    policy: &'p Policy,
    sites: &Sites,
    errors: &mut Errors<'_>,
) -> BTreeMap<&'p str, Option<AllocationSiteId>> {
    let names = names::allocations(&sites.analysis);
    errors.index(policy.allocation_sites.iter().map(|rule| &rule.id));
    let mut bound = BTreeMap::new();
    for rule in &policy.allocation_sites {
        let row = names.row(&rule.at.value);
        match row.and_then(|row| sites.analysis.allocation_sites.get(row)) {
            None => errors.unknown(&rule.at, "allocation site", "allocation sites", names.all()),
            Some(site) if (&site.function, &site.callee) != (&rule.function, &rule.calls) => {
                let message = format!(
                    "at {} `{}` calls `{}`, not `{}` `{}`",
                    rule.at, site.function, site.callee, rule.function, rule.calls
                );
                errors.at(&rule.at, message, Some("generate the policy again".into()));
            }
            Some(_) => {}
        }
        bound.insert(rule.id.value.as_str(), row.map(AllocationSiteId::from));
    }
    bound
}

struct Binder<'p> {
    types: Names,
    globals: Names,
    passed: Names,
    probes: &'p [PassedProbe],
    allocations: BTreeMap<&'p str, Option<AllocationSiteId>>,
}

impl Binder<'_> {
    fn legal_set(&self, rule: &LegalRule, errors: &mut Errors<'_>) -> BoundLegal {
        let mut set = LegalSet {
            types: rule
                .types
                .iter()
                .filter_map(|name| self.object_type(name, errors))
                .collect(),
            stack: rule.stack,
            passed: rule
                .passed
                .iter()
                .filter_map(|object| self.passed_object(object, errors))
                .collect(),
            globals: rule
                .globals
                .iter()
                .filter_map(|name| self.global(name, errors))
                .collect(),
            heap: rule
                .heap
                .iter()
                .filter_map(|place| self.place(place, errors))
                .collect(),
            any_heap: rule.any_heap.clone(),
            any_global: rule.any_global.clone(),
            per_cpu: rule.per_cpu,
            user: rule.user,
        };
        set.types.sort();
        set.types.dedup();
        set.globals.sort();
        set.globals.dedup();
        set.heap.sort();
        set.heap.dedup();
        set.passed.sort();
        set.passed.dedup();
        if allows_nothing(rule) {
            errors.at(
                &rule.id,
                format!("legal set `{}` allows nothing", rule.id),
                Some(
                    "every execution would be a violation: allow a stack, a global, a heap place …"
                        .into(),
                ),
            );
        }
        BoundLegal {
            id: rule.id.clone(),
            set,
        }
    }

    fn object_type(&self, name: &Placed<String>, errors: &mut Errors<'_>) -> Option<ObjectTypeId> {
        let row = self.types.row(&name.value);
        if row.is_none() {
            errors.unknown(name, "type", "types", self.types.all());
        }
        row.map(ObjectTypeId::from)
    }

    fn global(&self, name: &Placed<String>, errors: &mut Errors<'_>) -> Option<GlobalId> {
        let row = self.globals.row(&name.value);
        if row.is_none() {
            errors.unknown(name, "global", "globals", self.globals.all());
        }
        row.map(GlobalId::from)
    }

    fn passed_object(&self, rule: &PassedRule, errors: &mut Errors<'_>) -> Option<PassedObject> {
        let row = self.passed.row(&rule.to.value);
        let Some(probe) = row.and_then(|row| self.probes.get(row)) else {
            errors.unknown(&rule.to, "parameter", "parameters", self.passed.all());
            return None;
        };
        if rule.size.value == 0 {
            let help = "remove the object".to_owned();
            errors.at(&rule.size, "an object of 0 bytes".into(), Some(help));
        }
        Some(PassedObject {
            file: probe.file.clone(),
            function: probe.function.clone(),
            parameter: probe.parameter,
            size: rule.size.value,
            otherwise: rule.otherwise,
        })
    }

    fn place(&self, rule: &HeapRule, errors: &mut Errors<'_>) -> Option<HeapPlace> {
        check_place(rule, errors);
        let target = self.object_type(&rule.target, errors);
        let container = match &rule.container {
            Some(name) => self.object_type(name, errors),
            None => target,
        };
        let mut allocation_sites = Vec::new();
        for id in &rule.allocated_at {
            match self.allocations.get(id.value.as_str()) {
                Some(site) => allocation_sites.extend(*site),
                None => errors.unknown(
                    id,
                    "allocation site",
                    "allocation sites",
                    self.allocations.keys().copied(),
                ),
            }
        }
        allocation_sites.sort();
        allocation_sites.dedup();
        Some(HeapPlace {
            target: target?,
            container: container?,
            offset: rule.offset.value,
            dimensions: rule.dimensions.clone(),
            size: rule.size.value.bytes(),
            allocation_sites,
            object_min: rule.object_min,
            object_size: rule.object_size.as_ref().map(|size| size.value),
        })
    }
}

fn allows_nothing(rule: &LegalRule) -> bool {
    rule.stack == StackRule::None
        && rule.passed.is_empty()
        && rule.globals.is_empty()
        && rule.heap.is_empty()
        && rule.any_heap.is_none()
        && rule.any_global.is_none()
        && !rule.per_cpu
        && !rule.user
}

fn check_place(rule: &HeapRule, errors: &mut Errors<'_>) {
    if rule.size.value.bytes() == 0 {
        errors.at(
            &rule.size,
            "a place of 0 bytes".into(),
            Some("remove the place".into()),
        );
    }
    if rule.allocated_at.is_empty() {
        let help = "name the calls in `allocated_at`, or use `any_heap`".to_owned();
        errors.at(
            &rule.target,
            "a heap place that nothing allocates".into(),
            Some(help),
        );
    }
    if rule.dimensions.len() > MAX_DIMENSIONS {
        let message = format!("a place has at most {MAX_DIMENSIONS} dimensions");
        errors.at(
            &rule.target,
            message,
            Some("widen: a larger `size` and fewer dimensions".into()),
        );
    }
    if rule.dimensions.iter().any(|d| d.stride == 0) {
        let help = "give the distance between two elements".to_owned();
        errors.at(
            &rule.target,
            "a dimension with `stride: 0`".into(),
            Some(help),
        );
    }
    let Some(object) = &rule.object_size else {
        return;
    };
    if object.value < rule.object_min {
        let message = format!(
            "object_size {object} is less than object_min {}",
            rule.object_min
        );
        errors.at(object, message, None);
    }
}
