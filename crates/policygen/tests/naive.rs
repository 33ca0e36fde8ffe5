//! The scheme to compare with: every store that can have a probe has one.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;

use otf_artifact::{
    analysis::StackRule,
    covered::{Cover, Under},
    ids::{LegalSetId, SiteId},
    sites::{Coverage, Guarded, Operand, Site, SiteKind, Sites},
};
use otf_policygen::{Inputs, Naive, compile, generate, naive};

fn proven(symbol: &str, offset: u64, legal: u32) -> Site {
    Site {
        coverage: Coverage::Proven("own frame".into()),
        guarded: Guarded {
            saved: 2,
            canary: 1,
        },
        ..common::site(symbol, offset, legal)
    }
}

/// The sites with others in addition.
fn with(more: Vec<Site>) -> Sites {
    let mut sites = common::sites();
    sites.sites.extend(more);
    sites.sites.sort_by(|a, b| a.location.cmp(&b.location));
    sites
}

fn at<'s>(sites: &'s Sites, symbol: &str, offset: u64) -> &'s Site {
    let mut all = sites.all();
    all.find(|s| s.location == common::location(symbol, offset))
        .unwrap()
}

#[test]
fn proven_stores_get_a_probe_that_finds_the_same() {
    // Those of a rule that has no stack yet share one that has.
    let sites = with(vec![
        proven("qfq_dequeue", 0x100, 1),
        proven("qfq_dequeue", 0x110, 1),
        proven("qfq_dequeue", 0x120, 2),
    ]);
    let (all, counts) = naive(&sites);
    // One more is in the fixture.
    assert_eq!(counts, Naive { probed: 4, left: 0 });
    let (one, other) = (
        at(&all, "qfq_dequeue", 0x100),
        at(&all, "qfq_dequeue", 0x110),
    );
    for site in [one, other] {
        assert_eq!(site.coverage, Coverage::Probe);
        assert_eq!(site.guarded, Guarded::default());
        assert_eq!(all.legal_sets[site.legal.index()].stack, StackRule::Own);
    }
    assert_eq!(one.legal, other.legal);
    assert_eq!(all.legal_sets.len(), sites.legal_sets.len() + 1);
    // The set that others use is as narrow as before.
    assert_eq!(all.legal_sets[..sites.legal_sets.len()], sites.legal_sets);
    let wide = at(&all, "qfq_dequeue", 0x120);
    assert_eq!(
        wide.legal,
        LegalSetId(2),
        "frames of the compartment hold the own one"
    );
}

#[test]
fn what_cannot_be_checked_stays_without_a_probe() {
    let per_cpu = |base| Operand {
        per_cpu: true,
        ..Operand {
            base,
            ..common::site("f", 0, 0).operand
        }
    };
    let global = Operand {
        base: None,
        ..common::site("f", 0, 0).operand
    };
    let mut init = proven("qfq_dequeue", 0x130, 0);
    init.location.section = ".init.text".into();
    let sites = with(vec![
        Site {
            operand: global,
            ..proven("qfq_dequeue", 0x100, 0)
        },
        Site {
            operand: per_cpu(common::site("f", 0, 0).operand.base),
            ..proven("qfq_dequeue", 0x110, 0)
        },
        // Nothing is probed in this function.
        proven("qfq_other", 0x10, 0),
        init,
    ]);
    let (all, counts) = naive(&sites);
    assert_eq!(counts, Naive { probed: 1, left: 4 });
    for (symbol, offset) in [
        ("qfq_dequeue", 0x100),
        ("qfq_dequeue", 0x110),
        ("qfq_other", 0x10),
    ] {
        assert!(matches!(
            at(&all, symbol, offset).coverage,
            Coverage::Proven(_)
        ));
    }
    let unprobable = at(&all, "qfq_dequeue", 0x40);
    assert_eq!(
        unprobable.coverage,
        Coverage::Unprobable("jump label".into())
    );
}

#[test]
fn nothing_is_covered_and_the_rest_is_the_same() {
    let mut sites = common::sites();
    sites.frees = vec![Site {
        kind: SiteKind::Free,
        ..common::site("qfq_destroy", 0x10, 1)
    }];
    let (plain, _) = naive(&sites);
    sites.sites[1].covered = Some(Cover::Check {
        by: SiteId(0),
        distance: 8,
        under: Under::Always,
        joined: true,
    });
    sites.frees[0].covered = Some(Cover::AnyAddress);
    let (all, _) = naive(&sites);
    assert_eq!(all, plain);
    assert!(all.all().all(|site| site.covered.is_none()));
    assert_eq!((all.calls, all.returns), (sites.calls, sites.returns));
}

#[test]
fn it_compiles_with_more_probes_and_nothing_covered() {
    let sites = common::sites();
    let (all, counts) = naive(&sites);
    let compiled = |sites: &Sites| {
        let inputs = Inputs {
            images: &[],
            profiles: &BTreeMap::new(),
            prices: None,
            release: "6.12.1-amd64".into(),
            guard: b"\x7fELF guard".to_vec(),
            hashes: BTreeMap::new(),
            policy_text: None,
        };
        compile(&generate(sites), sites, inputs).unwrap().0
    };
    let (policy, scheme) = (compiled(&sites), compiled(&all));
    assert_eq!(scheme.plan.covered, []);
    assert_eq!(
        scheme.plan.sites.len(),
        policy.plan.sites.len() + counts.probed
    );
}
