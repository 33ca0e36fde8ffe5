//! Budgets: what is left to audit to keep them, what stays, and what is said about it.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;
#[path = "common/profiles.rs"]
mod profiles;

use std::collections::BTreeMap;

use otf_artifact::{
    abi::Action,
    bundle::{Plan, Program},
    diagnostic::{Code, Diagnostic, Severity},
    profile::{Operation, Prices, Profile},
    sites::Sites,
};
use otf_bundle::{Bundle, pack};
use otf_policygen::{
    Inputs, Policy, bind::bind, compile, generate, inspect_bundle, parse, policy::BudgetRule,
    to_yaml,
};
use profiles::{RELEASE, plan, prices, profile};

const FILE: &str = "enqueue.json";
/// Rows of the fixture: writes of several types, of any object (twice), of the own frame, of several
/// types (twice); then calls of named functions, and of any function (three times).
const SEVERAL: u32 = 0;
const WIDE: u32 = 1;
const NARROW: u32 = 3;
const NAMED: u32 = 6;
/// What is left when nothing is checked: two notes and a look at what is freed, in each operation.
const BESIDE: u64 = 70;

type Compiled = Result<(Bundle, Vec<Diagnostic>), Vec<Diagnostic>>;

fn rule(instructions: u64) -> BudgetRule {
    BudgetRule {
        operation: "enqueue".to_owned().into(),
        profile: FILE.to_owned().into(),
        percent: None,
        instructions: Some(instructions.into()),
    }
}

fn percent(percent: f64) -> BudgetRule {
    BudgetRule {
        percent: Some(percent.into()),
        instructions: None,
        ..rule(0)
    }
}

fn compiled(policy: &Policy, sites: &Sites, profile: Profile, prices: Option<&Prices>) -> Compiled {
    let profiles = BTreeMap::from([(FILE.to_owned(), profile)]);
    let inputs = Inputs {
        images: &[],
        profiles: &profiles,
        prices,
        release: RELEASE.into(),
        guard: b"\x7fELF guard".to_vec(),
        hashes: BTreeMap::new(),
        policy_text: None,
    };
    compile(policy, sites, inputs)
}

fn with(rules: Vec<BudgetRule>) -> Policy {
    Policy {
        max_overhead: rules,
        ..generate(&common::sites())
    }
}

/// With these hits of ten operations at the first rows, the budget, and a change of the policy.
fn kept_when(hits: &[u64], rule: BudgetRule, change: impl Fn(&mut Policy)) -> Compiled {
    let sites = common::sites();
    let mut all = hits.to_vec();
    all.resize(10, 0);
    let mut policy = with(vec![rule]);
    change(&mut policy);
    compiled(
        &policy,
        &sites,
        profile(&plan(&sites), &all),
        Some(&prices()),
    )
}

fn kept(hits: &[u64], rule: BudgetRule) -> (Plan, Vec<Diagnostic>) {
    let (bundle, warnings) = kept_when(hits, rule, |_| ()).unwrap();
    (bundle.plan, warnings)
}

fn left(plan: &Plan) -> Vec<u32> {
    plan.left_to_audit.iter().map(|left| left.row).collect()
}

fn checked(plan: &Plan, action: Action) -> Vec<u32> {
    let probes = plan.for_action(action).probes;
    let mut rows: Vec<_> = probes.iter().filter_map(|p| plan.checked_row(p)).collect();
    rows.sort_unstable();
    rows
}

/// A check of one operation costs 100, so ten hits do.
fn hits(rows: &[(u32, u64)]) -> Vec<u64> {
    let mut hits = vec![0; 10];
    for (row, count) in rows {
        hits[*row as usize] = *count;
    }
    hits
}

#[test]
fn a_budget_with_room_changes_nothing() {
    let hits = [10; 10];
    let (with, warnings) = kept(&hits, rule(1000 + BESIDE));
    assert_eq!(warnings, []);
    assert_eq!(with, plan(&common::sites()));
}

#[test]
fn the_same_price_leaves_the_widest_rule_first() {
    let dear = hits(&[(SEVERAL, 10), (WIDE, 10), (NARROW, 10), (NAMED, 10)]);
    let left_at = |most: u64| left(&kept(&dear, rule(most + BESIDE)).0);
    assert_eq!(left_at(399), [WIDE]);
    assert_eq!(left_at(300), [WIDE]);
    assert_eq!(left_at(299), [SEVERAL, WIDE]);
    // Of the same worth: the first row.
    assert_eq!(left_at(199), [SEVERAL, WIDE, NARROW]);
    assert_eq!(left_at(99), [SEVERAL, WIDE, NARROW, NAMED]);
    assert_eq!(left_at(0), [SEVERAL, WIDE, NARROW, NAMED]);
}

#[test]
fn the_price_counts_beside_the_worth() {
    // A narrow rule is worth four wide ones.
    let left_at = |narrow: u64| {
        let hits = hits(&[(WIDE, 10), (NARROW, narrow)]);
        left(&kept(&hits, rule(10 * narrow + 99 + BESIDE)).0)
    };
    assert_eq!(left_at(39), [WIDE]);
    assert_eq!(left_at(41), [NARROW]);
}

#[test]
fn what_there_is_room_for_is_put_back() {
    // The quotient takes the wide one (100) first, which is not enough, then the narrow one (800):
    // that alone would have done.
    let dear = hits(&[(WIDE, 10), (NARROW, 30)]);
    assert_eq!(left(&kept(&dear, rule(150 + BESIDE)).0), [NARROW]);
    assert_eq!(left(&kept(&dear, rule(99 + BESIDE)).0), [WIDE, NARROW]);
}

#[test]
fn places_that_are_not_met_are_never_left_out() {
    let (plan, _) = kept(&hits(&[(NAMED, 10)]), rule(BESIDE));
    assert_eq!(left(&plan), [NAMED]);
}

#[test]
fn another_action_than_audit_goes_without_the_probe() {
    let (plan, warnings) = kept(&hits(&[(WIDE, 30), (NAMED, 10)]), rule(100 + BESIDE));
    assert_eq!(left(&plan), [WIDE]);
    let all: Vec<u32> = (0..10).collect();
    let without: Vec<u32> = all.iter().copied().filter(|row| *row != WIDE).collect();
    assert_eq!(checked(&plan, Action::Audit), all);
    assert_eq!(checked(&plan, Action::Kill), without);
    assert_eq!(checked(&plan, Action::Deny), without);
    // The row stays, for the load that audits.
    assert_eq!(plan.sites.len(), 6);
    assert_eq!(warnings.len(), 1);
    assert_eq!(
        (warnings[0].code, warnings[0].severity),
        (Code::LeftToAudit, Severity::Warning)
    );
    assert_eq!(
        warnings[0].message,
        "a load under deny or kill leaves 1 of 10 checks to audit, 75.0 % of those that `enqueue` \
         meets: it adds 170 instructions instead of 470 instructions"
    );
}

#[test]
fn the_bundle_lists_what_is_left_and_why() {
    let hits = hits(&[(WIDE, 30), (NAMED, 10)]);
    let (bundle, _) = kept_when(&hits, percent(1.0), |_| ()).unwrap();
    let coverage = &bundle.manifest.coverage;
    assert_eq!(coverage.left_to_audit, 2);
    assert_eq!(coverage.calls_left_to_audit, 1);
    assert_eq!(coverage.calls_weak_left_to_audit, 0);
    let value = inspect_bundle(&bundle, 0);
    assert_eq!(
        value["left_to_audit"][0],
        serde_json::json!({
            "at": "sch_qfq qfq_dequeue+0x20",
            "source": "net/sched/sch_qfq.c:1032",
            "instruction": "mov [rbx+8],rax",
            "operation": "enqueue",
            "why": "3.0 checks of one operation, 300 instructions; a wide rule",
        })
    );
    assert_eq!(value["left_to_audit"][1]["at"], "sch_qfq qfq_dequeue+0x60");
    assert_eq!(value["probed"], 6, "a site is never dropped");
}

#[test]
fn gates_notes_and_returns_stay() {
    let sites = common::sites();
    let mut policy = with(vec![rule(BESIDE)]);
    policy.returns = true;
    let bound = bind(&policy, &sites).unwrap();
    let all = otf_policygen::tables::build(&bound, &sites).unwrap().plan;
    let rows = all.checked().count() as u32;
    assert_eq!(rows, 11);
    let dear = profile(&all, &[10; 11]);
    // The return stays, so nothing is enough.
    let refused = compiled(&policy, &sites, dear.clone(), Some(&prices())).unwrap_err();
    assert_eq!(refused[0].code, Code::BudgetTooSmall);
    policy.max_overhead = vec![rule(100 + BESIDE)];
    let (bundle, _) = compiled(&policy, &sites, dear, Some(&prices())).unwrap();
    assert_eq!(left(&bundle.plan), (0..10).collect::<Vec<_>>());
    let taken = |plan: &Plan| {
        let probes = plan.probes.iter();
        let notes = probes.filter(|p| !matches!(p.program, Program::Site | Program::Call));
        notes.cloned().collect::<Vec<_>>()
    };
    assert_eq!(taken(&bundle.plan.for_action(Action::Deny)), taken(&all));
}

#[test]
fn a_probe_that_others_share_stays() {
    let mut sites = common::sites();
    // An allocation is noted where the wide store stands.
    sites.allocation_probes[0].after = sites.sites[WIDE as usize].location.clone();
    let dear = profile(&plan(&sites), &hits(&[(WIDE, 30), (NAMED, 10)]));
    let of = |most| {
        compiled(
            &with(vec![rule(most)]),
            &sites,
            dear.clone(),
            Some(&prices()),
        )
    };
    let refused = of(299 + BESIDE).unwrap_err();
    assert_eq!(refused[0].code, Code::BudgetTooSmall);
    assert_eq!(left(&of(300 + BESIDE).unwrap().0.plan), [NAMED]);
}

#[test]
fn a_check_that_only_reports_goes_before_one_that_prevents() {
    let audit = |policy: &mut Policy| {
        let rules = policy.sites.iter_mut().flat_map(|f| &mut f.writes);
        for site in rules.filter(|site| site.at.value.ends_with("qfq_schedule_agg+0x10")) {
            site.action = Some(Action::Audit);
        }
    };
    let dear = hits(&[(WIDE, 10), (NARROW, 10)]);
    let (bundle, _) = kept_when(&dear, rule(100 + BESIDE), audit).unwrap();
    assert_eq!(left(&bundle.plan), [NARROW]);
}

#[test]
fn a_budget_that_cannot_be_kept_says_what_must_stay() {
    let dear = hits(&[(WIDE, 10)]);
    let error = kept_when(&dear, rule(BESIDE - 1), |_| ())
        .unwrap_err()
        .remove(0);
    assert_eq!(
        (error.code, error.severity),
        (Code::BudgetTooSmall, Severity::Error)
    );
    assert!(
        error
            .message
            .contains("what must stay adds 70 instructions"),
        "{error}"
    );
    assert!(error.help.is_some());
    let error = kept_when(&dear, percent(0.5), |_| ())
        .unwrap_err()
        .remove(0);
    assert!(
        error
            .message
            .contains("may take 0.5 % more, but what must stay adds 0.7 %"),
        "{error}"
    );
}

#[test]
fn a_profile_must_be_of_this_operation_here() {
    let sites = common::sites();
    let good = profile(&plan(&sites), &[10; 10]);
    let says = |change: &dyn Fn(&mut Profile), rule: BudgetRule| {
        let mut profile = good.clone();
        change(&mut profile);
        let found = compiled(&with(vec![rule]), &sites, profile, Some(&prices()));
        let error = found.unwrap_err().remove(0);
        assert_eq!(error.code, Code::BudgetProfile);
        error.message
    };
    let other = |p: &mut Profile| p.compartment = "sch_tbf".into();
    assert!(says(&other, rule(100)).contains("is of sch_tbf"));
    let older = |p: &mut Profile| p.release = "6.1.0".into();
    assert!(says(&older, rule(100)).contains("is of 6.1.0"));
    let unnamed = |p: &mut Profile| p.operation = None;
    assert!(says(&unnamed, rule(100)).contains("of no operation, not of `enqueue`"));
    let another = |p: &mut Profile| p.operation.as_mut().unwrap().name = "dequeue".into();
    assert!(says(&another, rule(100)).contains("10 times `dequeue`"));
    let never = |p: &mut Profile| p.operation.as_mut().unwrap().count = 0;
    assert!(says(&never, rule(100)).contains("0 times"));
    let unmeasured = |p: &mut Profile| p.operation.as_mut().unwrap().instructions = None;
    assert!(says(&unmeasured, percent(5.0)).contains("without a policy"));
    let elsewhere = |p: &mut Profile| p.places.iter_mut().for_each(|p| p.offset += 1);
    assert!(says(&elsewhere, rule(100)).contains("knows no place"));
    let missing = BudgetRule {
        profile: "other.json".to_owned().into(),
        ..rule(100)
    };
    assert!(says(&|_| (), missing).contains("no profile `other.json`"));
    let unpriced = compiled(&with(vec![rule(100)]), &sites, good, None).unwrap_err();
    assert!(unpriced[0].message.contains("what a check costs"));
}

#[test]
fn what_the_profile_lacks_is_said() {
    let sites = common::sites();
    let all = plan(&sites);
    let mut partial = profile(&all, &[10; 8]);
    partial.runs.clear();
    let (bundle, warnings) =
        compiled(&with(vec![rule(799)]), &sites, partial, Some(&prices())).unwrap();
    let said: Vec<_> = warnings.iter().map(|w| w.code).collect();
    assert_eq!(said, [Code::BudgetPartial, Code::LeftToAudit]);
    assert!(
        warnings[0].message.contains("no runs of notes")
            && warnings[0].message.contains("2 places"),
        "{}",
        warnings[0]
    );
    assert_eq!(left(&bundle.plan), [WIDE]);
}

#[test]
fn a_later_budget_finds_what_the_first_has_left() {
    let sites = common::sites();
    let all = plan(&sites);
    let first = profile(&all, &hits(&[(WIDE, 30), (NARROW, 10)]));
    let second = Profile {
        operation: Some(Operation {
            name: "dequeue".into(),
            count: 10,
            instructions: None,
        }),
        ..profile(&all, &hits(&[(WIDE, 10), (NAMED, 10), (SEVERAL, 10)]))
    };
    let dequeue = BudgetRule {
        operation: "dequeue".to_owned().into(),
        profile: "dequeue.json".to_owned().into(),
        ..rule(100 + BESIDE)
    };
    let profiles = BTreeMap::from([
        (FILE.to_owned(), first),
        ("dequeue.json".to_owned(), second),
    ]);
    let inputs = Inputs {
        images: &[],
        profiles: &profiles,
        prices: Some(&prices()),
        release: RELEASE.into(),
        guard: vec![],
        hashes: BTreeMap::new(),
        policy_text: None,
    };
    let policy = with(vec![rule(100 + BESIDE), dequeue]);
    let (bundle, _) = compile(&policy, &sites, inputs).unwrap();
    let left = bundle.plan.left_to_audit.iter();
    let left: Vec<_> = left.map(|l| (l.row, l.operation.as_str())).collect();
    assert_eq!(left, [(SEVERAL, "dequeue"), (WIDE, "enqueue")]);
}

#[test]
fn the_same_inputs_give_the_same_bundle() {
    let packed = || {
        let (bundle, _) = kept_when(&[10; 10], rule(450), |_| ()).unwrap();
        pack(&bundle).unwrap()
    };
    assert_eq!(packed(), packed());
}

fn two_rules() -> String {
    to_yaml(&with(vec![
        rule(100),
        BudgetRule {
            operation: "dequeue".to_owned().into(),
            ..percent(2.5)
        },
    ]))
}

#[test]
fn rules_read_back() {
    let text = two_rules();
    for line in [
        "  - {operation: enqueue, profile: enqueue.json, instructions: 100}",
        "  - {operation: dequeue, profile: enqueue.json, percent: 2.5}",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
    let read = parse(&text, "policy.yaml").unwrap();
    let limits = read.max_overhead.iter().map(|rule| {
        let percent = rule.percent.as_ref().map(|p| p.value);
        (percent, rule.instructions.as_ref().map(|i| i.value))
    });
    let limits: Vec<_> = limits.collect();
    assert_eq!(limits, [(None, Some(100)), (Some(2.5), None)]);
    assert!(bind(&read, &common::sites()).is_ok());
}

/// Code and message of the one error after a change of the rules' text, which stands at `needle`.
fn wrong(from: &str, to: &str, needle: &str) -> (Code, String) {
    let changed = two_rules().replacen(from, to, 1);
    let at = changed.find(to).unwrap() + to.find(needle).unwrap();
    let line = changed[..at].matches('\n').count() + 1;
    let found = match parse(&changed, "policy.yaml") {
        Err(error) => error,
        Ok(policy) => bind(&policy, &common::sites()).unwrap_err().remove(0),
    };
    let place = (found.line, found.file.as_deref());
    assert_eq!(place, (line as u32, Some("policy.yaml")), "{found}");
    (found.code, found.message)
}

#[test]
fn rules_are_checked_where_they_stand() {
    let both = wrong(
        "instructions: 100",
        "instructions: 100, percent: 3",
        "instructions",
    );
    assert!(both.1.contains("no single limit"), "{both:?}");
    let none = wrong("json, percent: 2.5", "json}  # no limit", "json");
    assert!(none.1.contains("no single limit"), "{none:?}");
    let below = wrong("percent: 2.5", "percent: -1", "-1");
    let message = "`percent` cannot be -1".to_owned();
    assert_eq!(below, (Code::PolicyInvalid, message));
    let twice = wrong(
        "  - {operation: dequeue",
        "  - {operation:  enqueue",
        "enqueue",
    );
    assert!(twice.1.contains("two budgets"), "{twice:?}");
    let unknown = wrong("percent: 2.5", "procent: 2.5", "procent");
    assert_eq!(unknown, (Code::BadYaml, "unknown field `procent`".into()));
}
