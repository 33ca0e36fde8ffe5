//! A budget through the command: compiled with a warning, listed by inspect, explain and cost.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::fs;

use common::{case::Case, otf};
use otf_artifact::{
    Artifact, FORMAT_VERSION,
    profile::{Operation, PlaceHits, Prices, Profile},
};

/// What is measured at a thousand instructions each.
const CHECK: f64 = 1000.0;

/// One operation that meets each place of the bundle once.
fn write_profile(case: &Case) {
    let bundle = otf_bundle::unpack(&fs::read(case.file("sch_qfq.otf")).unwrap()).unwrap();
    let plan = &bundle.plan;
    let places = plan
        .checked()
        .map(|row| PlaceHits {
            image: plan.images[row.location.image.index()].name.clone(),
            section: row.location.section.clone(),
            offset: row.location.offset,
            hits: 1,
        })
        .collect();
    let profile = Profile {
        version: FORMAT_VERSION,
        compartment: bundle.manifest.compartment,
        release: bundle.manifest.release,
        bundle: String::new(),
        operation: Some(Operation {
            name: "all".into(),
            count: 1,
            instructions: None,
        }),
        runs: [("otf_gate".to_owned(), 1)].into(),
        places,
    };
    write(case, "all.json", &profile);
    let prices = Prices::new(vec!["test".into()], [CHECK, 1.0, 1.0]);
    write(case, "prices.json", &prices);
}

fn write(case: &Case, name: &str, artifact: &impl Artifact) {
    let mut bytes = Vec::new();
    artifact.write(&mut bytes).unwrap();
    fs::write(case.file(name), bytes).unwrap();
}

/// Standard output and error of a command that succeeds.
fn says(arguments: &[&str]) -> (String, String) {
    let output = otf(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{arguments:?}: {err}");
    (out, err)
}

#[test]
fn what_is_left_to_audit_is_listed_everywhere() {
    let Some(case) = Case::new() else { return };
    write_profile(&case);
    let (folder, prices) = (case.folder(), case.file("prices.json"));
    let (folder, prices) = (folder.to_str().unwrap(), prices.to_str().unwrap());
    case.edit_policy(
        "max_overhead: []",
        "max_overhead:\n  - {operation: all, profile: all.json, instructions: 150000}",
        "all",
    );
    let (_, warned) = says(&["compile", folder, "--prices", prices]);
    assert!(warned.contains("OTF0047"), "{warned}");

    let (inspected, _) = says(&["--format", "json", "inspect", folder]);
    let figures: serde_json::Value = serde_json::from_str(&inspected).unwrap();
    let left = figures["left_to_audit"].as_array().unwrap();
    assert!(!left.is_empty());

    let profile = case.file("all.json");
    let arguments = ["--format", "json", "cost", folder, "--action", "deny"];
    let files = ["--prices", prices, "--profile", profile.to_str().unwrap()];
    let (said, _) = says(&[&arguments[..], &files[..]].concat());
    let cost: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(cost["left_to_audit"].as_array().unwrap().len(), left.len());
    let instructions = cost["instructions"].as_f64().unwrap() + cost["beside"].as_f64().unwrap();
    assert!(
        (150_000.0 - CHECK..=150_000.0).contains(&instructions),
        "{instructions}"
    );

    let site = left[0]["at"]
        .as_str()
        .unwrap()
        .split(' ')
        .next_back()
        .unwrap();
    let (explained, _) = says(&["explain", site, "--dir", folder]);
    assert!(explained.contains("NOT CHECKED under deny"), "{explained}");
}

#[test]
fn a_budget_without_its_profile() {
    let Some(case) = Case::new() else { return };
    let rule = "max_overhead:\n  - {operation: all, profile: none.json, percent: 10}";
    let place = case.edit_policy("max_overhead: []", rule, "none.json");
    case.compile_refused(&["OTF0045", &place, "none.json"]);
}
