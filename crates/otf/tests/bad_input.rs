//! The binary on bad input: exit code 2, a stable code, the place, and nothing written or changed.
mod common;

use std::fs;

use common::case::Case;
use otf_testkit::repository;

#[test]
fn policy_with_an_unknown_field() {
    let Some(case) = Case::new() else { return };
    let place = case.edit_policy("    stack: none", "    stak: none", "stak");
    case.compile_refused(&[
        "OTF0004",
        &place,
        "unknown field `stak`",
        "did you mean `stack`?",
    ]);
}

#[test]
fn policy_with_unknown_names() {
    let known = [
        (
            "types: [struct qfq_group]",
            "types: [struct qfq_grop]",
            "struct",
            "did you mean `struct qfq_group`?",
        ),
        (
            "legal: L30",
            "legal: L9999",
            "L9999",
            "known legal sets are L",
        ),
        ("allocated_at: [A2]", "allocated_at: [A7]", "A7", "A0"),
        (
            "function: qfq_enqueue",
            "function: qfq_enqeue",
            "qfq_enqeue",
            "did you mean `qfq_enqueue`?",
        ),
    ];
    for (from, to, needle, help) in known {
        let Some(case) = Case::new() else { return };
        let place = case.edit_policy(from, to, needle);
        case.compile_refused(&["OTF0040", "unknown ", &place, help]);
    }
}

#[test]
fn policy_for_something_else() {
    let Some(case) = Case::new() else { return };
    let place = case.edit_policy("compartment: sch_qfq", "compartment: sch_tbf", "sch_tbf");
    case.compile_refused(&["OTF0040", &place, "sch_qfq"]);
}

#[test]
fn policy_that_is_cut_off_or_no_text() {
    let Some(case) = Case::new() else { return };
    let path = case.file("policy.yaml");
    let whole = fs::read_to_string(&path).unwrap();
    // Within a gate, within a flow mapping, nothing at all.
    let cuts = [
        whole.find("    refusal").unwrap(),
        whole.find(", function: ").unwrap(),
        0,
    ];
    for cut in cuts {
        fs::write(&path, &whole[..cut]).unwrap();
        let place = format!("{}:", path.display());
        case.compile_refused(&["OTF0004", &place]);
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    case.compile_refused(&["OTF0004", "not UTF-8"]);
    fs::remove_file(&path).unwrap();
    case.compile_refused(&["OTF0002", path.to_str().unwrap()]);
}

#[test]
fn truncated_artifacts() {
    let Some(case) = Case::new() else { return };
    let folder = case.folder();
    let folder = folder.to_str().unwrap();
    case.truncate("sites.json", 200_000);
    let place = format!("{}:", case.file("sites.json").display());
    let words = ["OTF0003", &place, "sites.json cannot be read"];
    case.compile_refused(&words);
    case.refused(&["inspect", folder], &words);
    case.refused(&["explain", "qfq_enqueue", "--dir", folder], &words);

    let Some(case) = Case::new() else { return };
    case.truncate("analysis.json", 1000);
    let place = format!("{}:", case.file("analysis.json").display());
    case.resolve_refused(&["OTF0003", &place]);
    case.compile_refused(&["OTF0003", &place]);

    let Some(case) = Case::new() else { return };
    case.truncate("kernel.lock.yaml", 1000);
    let place = format!("{}:", case.file("kernel.lock.yaml").display());
    case.resolve_refused(&["OTF0004", &place]);
    case.compile_refused(&["OTF0004", &place]);
}

#[test]
fn an_analysis_that_the_sites_were_not_made_from() {
    let Some(case) = Case::new() else { return };
    let other = case.products.folder("sch_qfq@cve-2023-31436");
    fs::copy(other.join("analysis.json"), case.file("analysis.json")).unwrap();
    let path = case.file("analysis.json");
    case.compile_refused(&["OTF0003", path.to_str().unwrap(), "another analysis"]);
}

#[test]
fn names_that_do_not_exist() {
    let Some(case) = Case::new() else { return };
    let root = repository();
    let cases: [(&[&str], &[&str]); 5] = [
        (
            &["--kernel", "debian-6.120"],
            &["OTF0010", "did you mean `debian-6.12`?"],
        ),
        (&["--kernel", "../kernels"], &["OTF0010", "debian-6.12"]),
        (
            &["--compartment", "sch_qfk"],
            &["OTF0011", "did you mean `sch_qfq`?", "otf_broken"],
        ),
        (&["--overlay", "cve"], &["OTF0012", "broken, cve-2022-1015"]),
        (
            &["--compartment", "otf_broken", "--overlay", "cve-2023-31436"],
            &["OTF0012", "builds no module of compartment `otf_broken`"],
        ),
    ];
    for (arguments, words) in cases {
        case.analyze_refused(&root, arguments, words);
    }
}

#[test]
fn a_profile_whose_package_is_gone() {
    let Some(case) = Case::new() else { return };
    let root = case.root_with_image("linux-image-9.99.*-amd64");
    case.analyze_refused(
        &root,
        &[],
        &[
            "OTF0013",
            "kernels/debian-6.12/kernel.yaml:9:10",
            "linux-image-9.99.*-amd64",
        ],
    );
    // Not even a pattern of kernel images.
    let root = case.root_with_image("linux-imago-6.12.*-amd64");
    case.analyze_refused(
        &root,
        &[],
        &["OTF0004", "kernels/debian-6.12/kernel.yaml:9:10"],
    );
}

#[test]
fn a_module_of_another_build() {
    let Some(case) = Case::new() else { return };
    let other = case
        .products
        .lock("sch_qfq@cve-2023-31436")
        .modules
        .remove(0);
    let build_id = other.build_id.clone();
    // Its file in the place of the stock one.
    case.edit_lock(|lock| lock.modules[0].file.path.clone_from(&other.file.path));
    case.resolve_refused(&["OTF0015", &other.file.path]);
    // The same, with its hash.
    case.edit_lock(|lock| lock.modules[0].file = other.file.clone());
    case.resolve_refused(&["OTF0031", &other.file.path, &build_id]);
    // A whole other module, while the sites are still the stock module's.
    case.edit_lock(|lock| lock.modules[0] = other);
    case.compile_refused(&["OTF0031", &build_id]);
}

#[test]
fn a_kernel_of_another_build() {
    let Some(case) = Case::new() else { return };
    let other = case
        .products
        .lock("sch_qfq@cve-2023-31436")
        .modules
        .remove(0);
    case.edit_lock(|lock| lock.vmlinux.file = other.file.clone());
    case.resolve_refused(&["OTF0031", "vmlinux", &other.build_id]);
}

#[test]
fn a_truncated_image() {
    let Some(case) = Case::new() else { return };
    let lock = case.products.lock("sch_qfq");
    let vmlinux = fs::read(case.products.file(&lock.vmlinux.file)).unwrap();
    let path = case.temp.path().join("vmlinux");
    fs::write(&path, &vmlinux[..1_000_000]).unwrap();
    case.edit_lock(|lock| lock.vmlinux.file.path = path.display().to_string());
    case.resolve_refused(&["OTF0030", path.to_str().unwrap()]);
}

#[test]
fn keys_that_cannot_be_used() {
    let Some(case) = Case::new() else { return };
    let folder = case.folder();
    let folder = folder.to_str().unwrap();
    let key = case.temp.path().join("team.key");
    let key = key.to_str().unwrap();
    let said = case.refused(&["compile", folder, "--key", key], &["OTF0043", key]);
    assert!(said.contains("otf key FILE"), "{said}");
    fs::write(key, "no key").unwrap();
    case.refused(&["compile", folder, "--key", key], &["OTF0043"]);
    case.refused(&["key", key], &["OTF0043", "it is not replaced"]);
}

#[test]
fn errors_are_json_on_demand() {
    let Some(case) = Case::new() else { return };
    let place = case.edit_policy("    stack: none", "    stak: none", "stak");
    let folder = case.folder();
    let folder = folder.to_str().unwrap();
    let said = case.refused(&["--format", "json", "compile", folder], &[]);
    let error: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(error["code"], "OTF0004");
    assert_eq!(error["severity"], "error");
    assert_eq!(error["message"], "unknown field `stak`");
    let file = error["file"].as_str().unwrap();
    assert_eq!(
        format!("{file}:{}:{}", error["line"], error["column"]),
        place
    );
    assert!(error["help"].as_str().unwrap().contains("`stack`"));
}

#[test]
fn command_lines_that_mean_nothing() {
    let Some(case) = Case::new() else { return };
    case.refused(&["rubbish"], &["rubbish"]);
    case.refused(&["compile"], &["DIR"]);
    case.refused(&["explain", "OTF9999"], &["OTF0001", "OTF9999"]);
}
