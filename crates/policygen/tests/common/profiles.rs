//! Profiles of what a policy checks; for tests of what checks cost.

use std::collections::BTreeMap;

use otf_artifact::{
    FORMAT_VERSION,
    bundle::Plan,
    profile::{Operation, PlaceHits, Prices, Profile},
    sites::Sites,
};
use otf_policygen::{bind::bind, generate, tables::build};

pub const RELEASE: &str = "6.12.1-amd64";

/// Plan of the policy that says what the sites say.
pub fn plan(sites: &Sites) -> Plan {
    let bound = bind(&generate(sites), sites).unwrap();
    build(&bound, sites).unwrap().plan
}

/// Ten operations that meet each row so many times; every program's runs are counted.
pub fn profile(plan: &Plan, hits: &[u64]) -> Profile {
    let rows = plan.checked().zip(hits);
    Profile {
        version: FORMAT_VERSION,
        compartment: "sch_qfq@cve-2023-31436".into(),
        release: RELEASE.into(),
        bundle: "ab".repeat(32),
        operation: Some(Operation {
            name: "enqueue".into(),
            count: 10,
            instructions: Some(10_000),
        }),
        runs: BTreeMap::from([("otf_gate".into(), 20), ("otf_free_slab".into(), 10)]),
        places: rows
            .map(|(row, hits)| PlaceHits {
                image: plan.images[row.location.image.index()].name.clone(),
                section: row.location.section.clone(),
                offset: row.location.offset,
                hits: *hits,
            })
            .collect(),
    }
}

/// A check costs 100, a note 10, a look at what is freed 50.
pub fn prices() -> Prices {
    Prices::new(vec!["qfq/enqueue".into()], [100.0, 10.0, 50.0])
}
