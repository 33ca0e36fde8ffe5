//! Claims that a site needs no check, right ones and ones made wrong on purpose: each wrong one is
//! refused.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are not marked as tests"
)]

mod common;
#[path = "common/profiles.rs"]
mod profiles;

use std::{collections::BTreeMap, process::Command};

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, OpAccess, OpKind};
use object::{Object, ObjectSection};
use otf_artifact::{
    abi,
    bundle::PlanLeft,
    covered::{Cover, Under},
    diagnostic::Code,
    ids::{AllocationSiteId, GateId, LegalSetId, SiteId},
    sites::{Length, Location, Operand, Register, Site, Sites, Unwind},
};
use otf_policygen::{
    Inputs, Policy,
    bind::bind,
    compile, generate,
    policy::{BudgetRule, CoverRule},
    recheck,
    tables::build,
};

/// Build-id of the assembled module.
const BUILD: &str = "00000000000000000000000000000000000000aa";
/// Bytes of the objects that the allocation in `call alloc` gives.
const SIZE: u64 = 96;

fn module(code: &str) -> Vec<u8> {
    let text = format!(
        ".section .note.gnu.build-id, \"a\"\n.long 4, 20, 3\n.string \"GNU\"\n\
         .zero 19\n.byte 0xaa\n.text\n.globl f\n.type f, @function\nf:\n{code}\n.size f, .-f\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("t.s");
    let object = directory.path().join("t.o");
    std::fs::write(&source, text).unwrap();
    let mut assembler = Command::new("as");
    let status = assembler
        .arg("--64")
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .status();
    assert!(status.unwrap().success());
    std::fs::read(&object).unwrap()
}

fn at(offset: u64) -> Location {
    Location {
        offset,
        symbol_offset: offset,
        ..common::location("f", 0)
    }
}

/// A site for each store of the code, which goes through `rbx`, `rax` or `gs`.
fn sites(bytes: &[u8]) -> Sites {
    let file = object::File::parse(bytes).unwrap();
    let text = file.section_by_name(".text").unwrap().data().unwrap();
    let mut factory = InstructionInfoFactory::new();
    let decoder = Decoder::with_ip(64, text, 0, DecoderOptions::NONE);
    let stores = decoder.into_iter().filter(|i| {
        i.op_count() > 0
            && i.op0_kind() == OpKind::Memory
            && factory.info(i).op0_access() != OpAccess::Read
            && !i.is_call_near_indirect()
            && !i.is_jmp_near_indirect()
    });
    let mut sites = common::sites();
    sites.images[0].build_id = BUILD.into();
    sites.images[0].text[0].size = text.len() as u64;
    sites.sites = stores.map(|i| site(&i)).collect();
    (sites.calls, sites.returns, sites.frees) = (vec![], vec![], vec![]);
    sites.allocation_probes.truncate(1);
    let probe = &mut sites.allocation_probes[0];
    (probe.call, probe.after) = (at(0), at(5));
    (probe.size, probe.size_argument) = (Some(SIZE), None);
    let place = &mut sites.legal_sets[1].heap[0];
    place.allocation_sites = vec![AllocationSiteId(0)];
    sites.legal_sets[1].heap.truncate(1);
    sites
}

fn site(instruction: &Instruction) -> Site {
    let base = match instruction.memory_base() {
        iced_x86::Register::RBX => Some(Register::Bx),
        iced_x86::Register::RAX => Some(Register::Ax),
        iced_x86::Register::RCX => Some(Register::Cx),
        _ => None,
    };
    Site {
        location: at(instruction.ip()),
        instruction_length: instruction.len() as u8,
        operand: Operand {
            base,
            index: None,
            scale: 1,
            displacement: instruction.memory_displacement64() as i64,
            per_cpu: instruction.memory_segment() == iced_x86::Register::GS,
            bit_index: None,
        },
        length: Length::Constant(instruction.memory_size().size() as u32),
        unwind_gates: vec![GateId(0)],
        ..common::site("f", 0, 3)
    }
}

fn by(site: u32, distance: i64) -> Cover {
    Cover::Check {
        by: SiteId(site),
        distance,
        under: Under::Always,
        joined: false,
    }
}

fn fresh(distance: u64) -> Cover {
    let call = at(0);
    Cover::Fresh { call, distance }
}

/// What the compiler says of a policy; empty when it accepts it.
fn verdict(policy: &Policy, sites: &Sites, image: &[u8]) -> String {
    let inputs = Inputs {
        release: "6.12.1-amd64".into(),
        guard: b"\x7fELF guard".to_vec(),
        hashes: BTreeMap::new(),
        images: &[("sch_qfq", image)],
        profiles: &BTreeMap::new(),
        prices: None,
        policy_text: None,
    };
    match compile(policy, sites, inputs) {
        Ok(_) => String::new(),
        Err(problems) => {
            assert!(
                problems.iter().all(|p| p.code == Code::CoverWrong),
                "{problems:#?}"
            );
            problems.iter().map(|p| p.message.as_str()).collect()
        }
    }
}

/// The last store of the code is said to be covered.
fn claim(code: &str, cover: Cover, change: impl Fn(&mut Sites)) -> String {
    let image = module(code);
    let mut sites = sites(&image);
    sites.sites.last_mut().unwrap().covered = Some(cover);
    change(&mut sites);
    verdict(&generate(&sites), &sites, &image)
}

const GOOD: &str = "movq %rdx, 0x10(%rbx); movl %edx, 0x14(%rbx); ret";

#[test]
fn right_claims_are_accepted() {
    assert_eq!(claim(GOOD, by(0, 4), |_| ()), "");
    let copied =
        "movq %rdx, 8(%rbx); movq %rbx, %rax; addq $8, %rax; je 1f; nop; 1: movl %edx, (%rax); ret";
    assert_eq!(claim(copied, by(0, 0), |_| ()), "");
    // One range for both.
    let beside = "movq %rdx, 0x10(%rbx); movq %rdx, 0x18(%rbx); ret";
    let joined = Cover::Check {
        by: SiteId(0),
        distance: 8,
        under: Under::Always,
        joined: true,
    };
    assert_eq!(claim(beside, joined, |_| ()), "");
    let fits = "call alloc; testq %rax, %rax; je 1f; movq %rdx, 88(%rax); 1: ret";
    assert_eq!(
        claim(fits, fresh(88), |s| s.sites[0].legal = LegalSetId(1)),
        ""
    );
    assert_eq!(
        claim("incl %gs:8(%rax); ret", Cover::AnyAddress, |_| ()),
        ""
    );
}

#[test]
fn another_address() {
    let says = |code: &str, cover| claim(code, cover, |_| ());
    assert!(says(GOOD, by(0, 0)).contains("another address"));
    let other = "movq %rdx, 0x10(%rcx); movl %edx, 0x14(%rbx); ret";
    assert!(says(other, by(0, 4)).contains("another address"));
    for change in [
        "movl %ebx, %ebx",
        "movq (%rbx), %rbx",
        "xchgq %rax, %rbx",
        "cmovne %rax, %rbx",
    ] {
        let code = format!("movq %rdx, 0x10(%rbx); {change}; movl %edx, 0x14(%rbx); ret");
        assert!(
            says(&code, by(0, 4)).contains("changes the address"),
            "{change}"
        );
    }
    let moved = "movq %rdx, 0x10(%rbx); addq $4, %rbx; movl %edx, 0x14(%rbx); ret";
    assert!(says(moved, by(0, 4)).contains("another address"));
    // The site is not what the image has.
    let lies = claim(GOOD, by(0, 4), |s| {
        s.sites[1].operand.base = Some(Register::Ax);
    });
    assert!(lies.contains("not certain"), "{lies}");
    let short = claim(GOOD, by(0, 4), |s| s.sites[1].length = Length::Constant(1));
    assert!(short.contains("not certain"), "{short}");
}

#[test]
fn something_between() {
    for between in ["call g", "int3", "ud2", "sti", "syscall", "call *%rax"] {
        let code = format!("movq %rdx, 0x10(%rbx); {between}; movl %edx, 0x14(%rbx); ret");
        let says = claim(&code, by(0, 4), |_| ());
        assert!(says.contains("may be freed"), "{between}: {says}");
    }
    for path in [
        "je 1f; movq %rdx, 0x10(%rbx); 1: movl %edx, 0x14(%rbx); ret",
        "movq %rdx, 0x10(%rbx); .globl g; g: movl %edx, 0x14(%rbx); ret",
        "1: movq %rdx, 0x10(%rbx); 2: movl %edx, 0x14(%rbx); ret; \
         .pushsection __ex_table, \"a\"; .long 1b-., 2b-., 0; .popsection",
    ] {
        let says = claim(path, by(0, 4), |_| ());
        assert!(says.contains("reached another way"), "{path}: {says}");
    }
    // The table may lead to the second store; rewritten code may do anything.
    let table = "pushq %rdx; movq %rdx, 0x10(%rbx); movl %edx, 0x14(%rbx); jmp *%rcx";
    assert!(claim(table, by(0, 4), |_| ()).contains("not certain"));
    let rewritten = "movq %rdx, 0x10(%rbx); 1: nop; 2: movl %edx, 0x14(%rbx); ret; \
         .pushsection .altinstr_replacement, \"ax\"; 3: nop; 4: .popsection; \
         .pushsection .altinstructions, \"a\"; .long 1b-., 3b-., 0; .byte 2b-1b, 4b-3b; .popsection";
    assert!(claim(rewritten, by(0, 4), |_| ()).contains("not certain"));
}

#[test]
fn a_check_that_allows_more() {
    let longer = "movq %rdx, 0x10(%rbx); movq %rdx, 0x14(%rbx); ret";
    let before = "movq %rdx, 0x10(%rbx); movl %edx, 0xc(%rbx); ret";
    assert!(claim(longer, by(0, 4), |_| ()).contains("allows more"));
    assert!(claim(before, by(0, -4), |_| ()).contains("allows more"));
    // The first may write any object, the second one structure.
    let narrow = claim(GOOD, by(0, 4), |s| s.sites[1].legal = LegalSetId(1));
    assert!(narrow.contains("allows more"));
    // What else has no check, or a milder one.
    let unwinding = claim(GOOD, by(0, 4), |s| {
        s.sites[0].unwind = Unwind::Held("a lock".into());
    });
    assert!(unwinding.contains("under deny"));
    let no_gate = claim(GOOD, by(0, 4), |s| s.sites[0].unwind_gates.clear());
    assert!(no_gate.contains("under deny"));
    let chain = "movq %rdx, 0x10(%rbx); movl %edx, 0x14(%rbx); movl %edx, 0x14(%rbx); ret";
    let chained = claim(chain, by(1, 0), |s| s.sites[1].covered = Some(by(0, 4)));
    assert!(chained.contains("not checked itself"));
    assert!(claim(GOOD, by(1, 0), |_| ()).contains("not checked itself"));
    assert!(claim(GOOD, Cover::AnyAddress, |_| ()).contains("refuse some"));
}

#[test]
fn a_milder_action_of_the_one_that_covers() {
    let image = module(GOOD);
    let mut sites = sites(&image);
    sites.sites[1].covered = Some(by(0, 4));
    let mut policy = generate(&sites);
    policy.sites[0].writes[0].action = Some(abi::Action::Audit);
    assert!(verdict(&policy, &sites, &image).contains("milder action"));
    // Whoever removes the claim has the site checked.
    policy.sites[0].writes[1].covered = None;
    assert_eq!(verdict(&policy, &sites, &image), "");
    policy.sites[0].writes[1].covered = Some(CoverRule::default());
    let problems = compile(
        &policy,
        &sites,
        Inputs {
            release: String::new(),
            guard: vec![],
            hashes: BTreeMap::new(),
            images: &[],
            profiles: &BTreeMap::new(),
            prices: None,
            policy_text: None,
        },
    );
    assert_eq!(problems.unwrap_err()[0].code, Code::PolicyInvalid);
}

#[test]
fn fresh_objects() {
    let legal = |s: &mut Sites| s.sites[0].legal = LegalSetId(1);
    let beyond = "call alloc; movq %rdx, 92(%rax); ret";
    assert!(claim(beyond, fresh(92), legal).contains("not legal"));
    let elsewhere = "call alloc; movq %rdx, 8(%rax); ret";
    assert!(claim(elsewhere, fresh(16), legal).contains("not what the call returned"));
    let called = "call alloc; call g; movq %rdx, 8(%rax); ret";
    assert!(claim(called, fresh(8), legal).contains("may be freed"));
    let skipped = "call alloc; je 1f; xorl %eax, %eax; 1: movq %rdx, 8(%rax); ret";
    assert!(claim(skipped, fresh(8), legal).contains("changes the address"));
    let code = "call alloc; movq %rdx, 8(%rax); ret";
    let unsized_ = claim(code, fresh(8), |s| {
        legal(s);
        s.allocation_probes[0].size = None;
    });
    assert!(unsized_.contains("known size"));
    let other = |s: &mut Sites| {
        legal(s);
        s.legal_sets[1].heap[0].allocation_sites = vec![AllocationSiteId(1)];
        let mut probe = s.allocation_probes[0].clone();
        (probe.allocation, probe.call, probe.after) = (AllocationSiteId(1), at(40), at(45));
        s.allocation_probes.push(probe);
    };
    assert!(claim(code, fresh(8), other).contains("not legal"));
    // Where objects without a record are legal too, nothing but their cache tells them apart.
    let untracked = |s: &mut Sites| {
        legal(s);
        s.legal_sets[1].heap[0]
            .allocation_sites
            .push(AllocationSiteId(1));
    };
    assert_eq!(claim(code, fresh(8), untracked), "");
}

#[test]
fn the_image_must_be_there_and_the_right_one() {
    let image = module(GOOD);
    let mut sites = sites(&image);
    sites.sites[1].covered = Some(by(0, 4));
    let policy = generate(&sites);
    sites.images[0].build_id = "bb".into();
    assert!(verdict(&policy, &sites, &image).contains("another build"));
    sites.images[0].name = "other".into();
    let renamed = generate(&sites);
    assert!(verdict(&renamed, &sites, &image).contains("not there"));
}

/// A store that covers the next one, and two more.
const LEADER: &str = "movq %rdx, 0x10(%rbx); movl %edx, 0x14(%rbx); call g; \
     movq %rdx, (%rcx); movq %rdx, (%rax); ret";

fn led(under: Under) -> (Vec<u8>, Sites) {
    let image = module(LEADER);
    let mut sites = sites(&image);
    sites.sites[1].covered = Some(Cover::Check {
        by: SiteId(0),
        distance: 4,
        under,
        joined: false,
    });
    (image, sites)
}

#[test]
fn a_budget_leaves_no_check_out_that_others_rely_on() {
    let (image, sites) = led(Under::Always);
    let plan = profiles::plan(&sites);
    let mut profile = profiles::profile(&plan, &[100, 0, 10, 10]);
    profile.release = String::new();
    let named = BTreeMap::from([("p.json".to_owned(), profile)]);
    let prices = profiles::prices();
    let compiled = |most: u64| {
        let mut policy = generate(&sites);
        policy.max_overhead = vec![BudgetRule {
            operation: "enqueue".to_owned().into(),
            profile: "p.json".to_owned().into(),
            percent: None,
            instructions: Some(most.into()),
        }];
        let inputs = Inputs {
            release: String::new(),
            guard: vec![],
            hashes: BTreeMap::new(),
            images: &[("sch_qfq", &image)],
            profiles: &named,
            prices: Some(&prices),
            policy_text: None,
        };
        compile(&policy, &sites, inputs)
    };
    // The leader costs ten times as much as the others, and stays.
    let (bundle, _) = compiled(1000 + 70).unwrap();
    let left: Vec<u32> = bundle.plan.left_to_audit.iter().map(|l| l.row).collect();
    assert_eq!(left, [2, 3]);
    assert_eq!(
        compiled(1000 + 69).unwrap_err()[0].code,
        Code::BudgetTooSmall
    );
}

#[test]
fn what_is_left_to_audit_covers_nothing_and_is_not_covered() {
    let says = |under, row: u32| {
        let (image, sites) = led(under);
        let bound = bind(&generate(&sites), &sites).unwrap();
        let mut built = build(&bound, &sites).unwrap();
        built.plan.left_to_audit = vec![PlanLeft {
            row,
            operation: "enqueue".into(),
            why: "made wrong on purpose".into(),
        }];
        let images = [("sch_qfq", image.as_slice())];
        let wrong = recheck(&bound, &built.tables, &built.plan, &sites, &images);
        assert!(wrong.iter().all(|w| w.code == Code::CoverWrong));
        wrong.iter().map(|w| w.message.as_str()).collect::<String>()
    };
    for under in [Under::Always, Under::NotDeny] {
        let leader = says(under, 0);
        assert!(
            leader.contains("should cover it is left to audit"),
            "{leader}"
        );
        assert_eq!(says(under, 2), "");
    }
    let covered = says(Under::Always, 1);
    assert!(covered.contains("but it is left to audit"), "{covered}");
    // Under deny it has a probe, which a budget may leave out if its leader knows.
    let silent = says(Under::NotDeny, 1);
    assert!(silent.contains("would not say"), "{silent}");
}

#[test]
fn what_another_check_reports_is_left_first() {
    let (image, sites) = led(Under::NotDeny);
    let plan = profiles::plan(&sites);
    // Its leader was counted, itself had no probe: it counts as often.
    let mut profile = profiles::profile(&plan, &[10, 0, 10, 10]);
    profile.places.remove(1);
    let named = BTreeMap::from([("p.json".to_owned(), profile)]);
    let mut policy = generate(&sites);
    policy.max_overhead = vec![BudgetRule {
        operation: "enqueue".to_owned().into(),
        profile: "p.json".to_owned().into(),
        percent: None,
        instructions: Some((300 + 70).into()),
    }];
    let inputs = Inputs {
        release: profiles::RELEASE.into(),
        guard: vec![],
        hashes: BTreeMap::new(),
        images: &[("sch_qfq", &image)],
        profiles: &named,
        prices: Some(&profiles::prices()),
        policy_text: None,
    };
    let (bundle, warnings) = compile(&policy, &sites, inputs).unwrap();
    let left = &bundle.plan.left_to_audit;
    assert_eq!(left.iter().map(|l| l.row).collect::<Vec<_>>(), [1]);
    assert!(left[0].why.contains("another check finds the same before"));
    assert!(
        warnings[0]
            .message
            .contains("1 places with a probe were covered then")
    );
    // Under kill its leader covers it.
    assert_eq!(bundle.plan.left_under(abi::Action::Kill).count(), 0);
    assert_eq!(bundle.plan.left_under(abi::Action::Deny).count(), 1);
}
