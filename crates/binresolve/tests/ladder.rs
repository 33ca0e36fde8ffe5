//! Rungs of the ladder that depend on the kind of instruction and compiler.

mod common;

use std::collections::BTreeSet;

use otf_artifact::{
    analysis::{
        Analysis, Call, Function, LegalSet, PassedObject, StackRule, Target, Write, WriteKind,
    },
    ids::LegalSetId,
    sites::Precision,
};
use otf_binresolve::{
    dwarf::{Place, Step},
    ladder::{Access, Binding, Ladder},
};

/// `f` with a plain store at line 5 and atomic ones at the given lines.
fn analysis(atomics: &[u32]) -> (Analysis, LegalSetId, Vec<LegalSetId>) {
    let mut analysis = common::empty_analysis();
    let write = |line, kind, set| Write {
        line,
        column: 3,
        kind,
        size: 4,
        target: Target::Set(set),
        field: None,
        pointer: Vec::new(),
    };
    let plain = common::distinct_set(&mut analysis);
    let mut writes = vec![write(5, WriteKind::Store, plain)];
    let mut sets = Vec::new();
    for line in atomics {
        let set = common::distinct_set(&mut analysis);
        writes.push(write(*line, WriteKind::Asm, set));
        sets.push(set);
    }
    analysis.functions.push(Function {
        file: "t.c".into(),
        name: "f".into(),
        line: 1,
        writes,
        calls: Vec::new(),
        indirect_calls: Vec::new(),
    });
    (analysis, plain, sets)
}

fn bind(analysis: &Analysis, line: u32, locked: bool, columns: bool) -> Option<Binding> {
    let chain = [Step {
        function: "f".into(),
        defined_in: "t.c".into(),
        place: Place {
            file: "t.c".into(),
            line,
            column: 3,
        },
    }];
    Ladder::new(analysis).bind(&Access {
        chain: &chain,
        columns,
        size: Some(4),
        locked,
        on_stack: false,
        inlined: &BTreeSet::new(),
    })
}

#[test]
fn a_locked_instruction_at_the_line_of_a_plain_store() {
    let (analysis, plain, atomic) = analysis(&[6]);
    for columns in [false, true] {
        let found = bind(&analysis, 5, true, columns).expect("a binding");
        assert_eq!(found.sets, BTreeSet::from([atomic[0]]));
        assert_eq!(found.precision, Precision::Instruction);
        let found = bind(&analysis, 5, false, columns).expect("a binding");
        assert_eq!(found.sets, BTreeSet::from([plain]));
    }
}

#[test]
fn clang_confuses_neighbours_gcc_does_not() {
    let (analysis, _, atomic) = analysis(&[6, 7]);
    let found = bind(&analysis, 6, true, true).expect("a binding");
    assert_eq!(found.sets, atomic.iter().copied().collect());
    assert_eq!(found.precision, Precision::Line);
    let found = bind(&analysis, 6, true, false).expect("a binding");
    assert_eq!(found.sets, BTreeSet::from([atomic[0]]));
}

#[test]
fn without_an_atomic_write_the_whole_function_counts() {
    let (analysis, plain, _) = analysis(&[]);
    let found = bind(&analysis, 5, true, true).expect("a binding");
    assert_eq!(found.sets, BTreeSet::from([plain]));
    assert_eq!(found.precision, Precision::Function);
}

/// `f` stores at line 5, through its parameter or a global, what `g` computes there; the line of `g`
/// writes a variable of the frame, through what it was given or its own.
fn expression(through_parameter: bool) -> (Analysis, LegalSetId, LegalSetId) {
    let mut analysis = common::empty_analysis();
    let object = common::distinct_set(&mut analysis);
    analysis.legal_sets.push(LegalSet {
        stack: StackRule::Compartment,
        ..LegalSet::default()
    });
    let variable = LegalSetId::from(analysis.legal_sets.len() - 1);
    let parameter = Target::Parameter {
        index: 0,
        otherwise: variable,
        strays: false,
    };
    let write = |line, target| Write {
        line,
        column: 3,
        kind: WriteKind::Store,
        size: 4,
        target,
        field: None,
        pointer: Vec::new(),
    };
    let function = |name: &str, writes, calls| Function {
        file: "t.c".into(),
        name: name.into(),
        line: 1,
        writes,
        calls,
        indirect_calls: Vec::new(),
    };
    let inner = if through_parameter {
        parameter
    } else {
        Target::Set(variable)
    };
    let call = Call {
        line: 5,
        column: 3,
        callee: "g".into(),
        arguments: vec![Some(parameter)],
    };
    analysis.functions.extend([
        function("g", vec![write(20, inner)], Vec::new()),
        function("f", vec![write(5, Target::Set(object))], vec![call]),
    ]);
    (analysis, object, variable)
}

fn bind_inlined(analysis: &Analysis, on_stack: bool) -> Binding {
    bind_beside(analysis, on_stack, &BTreeSet::new())
}

fn bind_beside(analysis: &Analysis, on_stack: bool, inlined: &BTreeSet<String>) -> Binding {
    let step = |function: &str, line| Step {
        function: function.into(),
        defined_in: "t.c".into(),
        place: Place {
            file: "t.c".into(),
            line,
            column: 3,
        },
    };
    Ladder::new(analysis)
        .bind(&Access {
            chain: &[step("g", 20), step("f", 5)],
            columns: false,
            size: Some(4),
            locked: false,
            on_stack,
            inlined,
        })
        .expect("a binding")
}

#[test]
fn a_line_that_writes_variables_alone_may_be_that_of_an_expression() {
    let (analysis, object, variable) = expression(false);
    let found = bind_inlined(&analysis, false);
    assert_eq!(found.sets, BTreeSet::from([object, variable]));
    assert_eq!(found.precision, Precision::Line);
    // The operand is in the frame, so it is the variable.
    let found = bind_inlined(&analysis, true);
    assert_eq!(found.sets, BTreeSet::from([variable]));
    assert_eq!(found.precision, Precision::Instruction);
}

#[test]
fn what_a_given_pointer_leads_to_is_really_written() {
    let (analysis, _, variable) = expression(true);
    let found = bind_inlined(&analysis, false);
    assert_eq!(found.sets, BTreeSet::from([variable]));
    assert_eq!(found.precision, Precision::Instruction);
}

#[test]
fn an_object_that_a_caller_passed_is_really_written() {
    let (mut analysis, object, variable) = expression(false);
    analysis.legal_sets[variable.index()] = LegalSet {
        passed: vec![PassedObject {
            file: "t.c".into(),
            function: "h".into(),
            parameter: 0,
            size: 8,
            otherwise: StackRule::Compartment,
        }],
        ..LegalSet::default()
    };
    let found = bind_inlined(&analysis, false);
    assert_eq!(found.sets, BTreeSet::from([variable]));
    assert_eq!(found.precision, Precision::Instruction);
    // Where `h` is inlined too it is a variable of the same machine function.
    let inlined = BTreeSet::from(["h".to_owned()]);
    let found = bind_beside(&analysis, false, &inlined);
    assert_eq!(found.sets, BTreeSet::from([object, variable]));
    // Nor does it say anything of other memory of stacks.
    analysis.legal_sets[variable.index()].stack = StackRule::Own;
    let found = bind_inlined(&analysis, false);
    assert_eq!(found.sets, BTreeSet::from([object, variable]));
}
