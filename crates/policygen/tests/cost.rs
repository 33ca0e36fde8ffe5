//! What a bundle costs, from a profile.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[path = "common/profiles.rs"]
mod profiles;

use otf_artifact::{
    abi::Action,
    bundle::{PlanCover, PlanLeft},
    covered::Under,
};
use otf_policygen::{Cost, cost};
use profiles::{plan, prices, profile};

/// Hits of ten operations at the six writes and four calls.
const HITS: [u64; 10] = [50, 0, 10, 0, 200, 10, 20, 0, 0, 0];

fn near(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
}

fn names(cost: &Cost) -> Vec<&str> {
    cost.places.iter().map(|p| p.at.as_str()).collect()
}

#[test]
fn hits_are_priced_and_the_dearest_comes_first() {
    let plan = plan(&common::sites());
    let cost = cost(&plan, Action::Deny, &profile(&plan, &HITS), 10, &prices());
    near(cost.hits, 29.0);
    near(cost.instructions, 2900.0);
    // Two notes of 10, one look of 50.
    near(cost.beside.unwrap(), 70.0);
    near(cost.percent.unwrap(), 29.7);
    assert_eq!((cost.probed, cost.not_profiled, cost.estimated), (10, 0, 0));
    // Places of the same price by name.
    assert_eq!(
        names(&cost),
        [
            "sch_qfq qfq_schedule_agg+0x20",
            "sch_qfq qfq_dequeue+0x10",
            "sch_qfq qfq_dequeue+0x60",
            "sch_qfq qfq_dequeue+0x30",
            "sch_qfq qfq_schedule_agg+0x30",
        ]
    );
    let first = &cost.places[0];
    near(first.hits, 20.0);
    near(first.instructions, 2000.0);
    assert_eq!(first.source, "net/sched/sch_qfq.c:1032");
    assert!(cost.left_to_audit.is_empty());
}

#[test]
fn what_nobody_counted_is_not_taken_for_nothing() {
    let plan = plan(&common::sites());
    let mut profile = profile(&plan, &HITS[..4]);
    profile.runs.clear();
    profile.operation = None;
    let cost = cost(&plan, Action::Deny, &profile, 10, &prices());
    near(cost.hits, 6.0);
    assert_eq!((cost.probed, cost.not_profiled), (10, 6));
    assert_eq!((cost.beside, cost.percent), (None, None));
}

#[test]
fn covered_places_cost_where_they_have_a_probe() {
    let mut plan = plan(&common::sites());
    // Rows 4 and 5 follow row 0; 4 has its probe under deny. The profile is of an audit: it has neither.
    let under = [(4, Under::NotDeny), (5, Under::Always)];
    plan.covered = under
        .map(|(site, under)| PlanCover {
            site,
            by: Some(0),
            under,
        })
        .into();
    let mut profile = profile(&plan, &HITS);
    profile.places.drain(4..6);
    let of = |action| cost(&plan, action, &profile, 10, &prices());
    let audit = of(Action::Audit);
    near(audit.hits, 8.0);
    assert_eq!((audit.probed, audit.estimated), (8, 0));
    // Taken to be met as often as their leader.
    near(audit.saved, 10.0);
    let deny = of(Action::Deny);
    near(deny.hits, 13.0);
    assert_eq!((deny.probed, deny.estimated), (9, 1));
    near(deny.saved, 5.0);
}

#[test]
fn what_is_left_to_audit_is_listed_and_not_in_the_sum() {
    let mut plan = plan(&common::sites());
    plan.left_to_audit = [0, 6]
        .map(|row| PlanLeft {
            row,
            operation: "enqueue".into(),
            why: "dear".into(),
        })
        .into();
    let profile = profile(&plan, &HITS);
    let deny = cost(&plan, Action::Deny, &profile, 10, &prices());
    near(deny.hits, 22.0);
    assert_eq!(deny.probed, 8);
    let left: Vec<_> = deny.left_to_audit.iter().map(|p| p.at.as_str()).collect();
    assert_eq!(
        left,
        ["sch_qfq qfq_dequeue+0x10", "sch_qfq qfq_dequeue+0x60"]
    );
    near(deny.left_to_audit[0].instructions, 500.0);
    near(deny.saved, 0.0);
    let audit = cost(&plan, Action::Audit, &profile, 10, &prices());
    near(audit.hits, 29.0);
    assert!(audit.left_to_audit.is_empty());
}
