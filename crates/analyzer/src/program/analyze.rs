//! Facts to the analysis of one compartment.

use std::collections::{BTreeMap, BTreeSet};

use otf_artifact::{
    FORMAT_VERSION,
    analysis::{Analysis, Call, Function, LegalSet, Target, Write, WriteKind},
    diagnostic::{Code, Diagnostic},
    freers,
    ids::LegalSetId,
};
use tracing::info;

use crate::{
    check,
    facts::{Argument, CallFacts, Facts, Reach, UserAccess, WriteFacts},
    program::{
        FileMeta, FunctionRef, Program, RecordId, Request, evidence,
        fields::{Field, field, narrow},
        gates::gates,
        legal::Legal,
        origins::Origins,
        places::{Flow, Lead, Passed, Place, Places, outside},
        tables::{Shared, number, set},
        targets::call_targets,
    },
};

/// A target whose set has no row yet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aim {
    Parameter(u16, Places, bool),
    Set(Places),
}

impl Aim {
    fn places(&self) -> &Places {
        match self {
            Self::Parameter(_, places, _) | Self::Set(places) => places,
        }
    }
}

type WriteRow = (u32, u32, WriteKind, u64, Aim, Option<Field>, Vec<String>);
type CallRow = (u32, u32, String, Vec<Option<Aim>>);

/// A function of the compartment's files, of all files that hold a copy of it.
#[derive(Default)]
struct Copies {
    line: u32,
    writes: BTreeSet<WriteRow>,
    calls: BTreeSet<CallRow>,
}

/// A set of places and the one field of them that is written.
type FieldKey<'a> = (&'a Places, &'a Field);

/// Rows of the legal sets.
#[derive(Default)]
struct Ids<'a> {
    places: BTreeMap<&'a Places, LegalSetId>,
    fields: BTreeMap<FieldKey<'a>, LegalSetId>,
}

/// Derives legal sets, allocation sites and gates of the compartment from facts alone.
///
/// The order of `files` does not matter. Errors: no file is confined, or a result that breaks an
/// invariant of [`check::check`].
pub fn analyze(
    files: &[(FileMeta, Facts)],
    request: &Request,
) -> Result<Analysis, Vec<Diagnostic>> {
    if !files.iter().any(|(meta, _)| meta.confined) {
        return Err(vec![
            Diagnostic::error(
                Code::UnknownCompartment,
                format!("no file belongs to the compartment {}", request.compartment),
            )
            .help("name at least one module, directory or file in the compartment"),
        ]);
    }
    let program = Program::link(files, request);
    info!(files = files.len(), types = program.records.len(), "linked");
    let (origins, targets) = rayon::join(|| Origins::find(&program), || call_targets(&program));
    info!(
        files = files.len(),
        types = program.records.len(),
        allocations = origins.allocations.len(),
        untyped = origins.untyped(),
        areas = origins.areas.len(),
        "joined facts"
    );
    let flow = Flow::solve(&program, &origins);
    let functions = collect(&program, &flow);
    let mut legal = Legal::new(&program, &origins);
    let mut analysis = assemble(&program, &origins, &mut legal, &functions, request);
    targets.fill(&mut analysis);
    info!(
        functions = analysis.functions.len(),
        legal_sets = analysis.legal_sets.len(),
        allocation_sites = analysis.allocation_sites.len(),
        gates = analysis.gates.len(),
        "analyzed"
    );
    let broken = check::check(&analysis);
    if broken.is_empty() {
        Ok(analysis)
    } else {
        Err(broken)
    }
}

fn collect(program: &Program<'_>, flow: &Flow<'_, '_>) -> BTreeMap<(String, String), Copies> {
    let mut functions: BTreeMap<(String, String), Copies> = BTreeMap::new();
    for at in program.functions().filter(|f| program.is_confined(*f)) {
        let facts = program.function(at);
        let copies = functions
            .entry((facts.file.clone(), facts.name.clone()))
            .or_default();
        copies.line = facts.line;
        for write in &facts.writes {
            copies.writes.insert((
                write.line,
                write.column,
                write.kind,
                write.size,
                aim_of_write(program, flow, at, write),
                field(program, at, write),
                evidence::ways(program, at, &write.pointer),
            ));
        }
        for call in &facts.calls {
            let callee = call
                .callee
                .as_deref()
                .and_then(|symbol| program.callee(at.file, symbol))
                .filter(|callee| callee.file == at.file);
            let Some(callee) = callee else {
                copies.calls.extend(freeing(flow, at, call));
                continue;
            };
            let arguments = call
                .arguments
                .iter()
                .enumerate()
                .map(|(index, argument)| aim_of_argument(flow, at, argument, callee, index))
                .collect();
            let name = program.function(callee).name.clone();
            copies
                .calls
                .insert((call.line, call.column, name, arguments));
        }
    }
    functions
}

fn aim_of_write(
    program: &Program<'_>,
    flow: &Flow<'_, '_>,
    at: FunctionRef,
    write: &WriteFacts,
) -> Aim {
    // A bulk write may run over several elements of an array.
    let several = |record: RecordId| {
        write.kind == WriteKind::Bulk
            && (write.size == 0 || write.size > program.records[record.0].size)
    };
    let runs = |place: Place| match place {
        Place::Typed(record) if several(record) => Place::Run(record),
        Place::Passed(passed) if several(passed.record) => Place::Passed(Passed {
            runs: true,
            ..passed
        }),
        other => other,
    };
    let finish = |places: Places| -> Places {
        let mut places: Places = places.into_iter().map(runs).collect();
        if write.user == UserAccess::Only {
            places.clear();
        }
        if write.user != UserAccess::No {
            places.insert(Place::User);
        }
        places
    };
    match flow.lead(at, &write.pointer) {
        Lead::Parameter(index, view, reach) => {
            let known = flow.parameter(at, index, view, reach);
            let otherwise = finish(known.clone());
            // What the caller would say does not know of runs or user memory.
            if otherwise == known {
                Aim::Parameter(index, otherwise, reach == Reach::Strayed)
            } else {
                Aim::Set(otherwise)
            }
        }
        Lead::Places(places) => Aim::Set(finish(places)),
    }
}

/// A call that frees an object, of which nothing but the object counts.
fn freeing(flow: &Flow<'_, '_>, at: FunctionRef, call: &CallFacts) -> Option<CallRow> {
    let symbol = call.callee.as_deref()?;
    let freer = freers::find(symbol)?;
    let pointer = &call.arguments.get(freer.argument)?.pointer;
    let aim = match flow.lead(at, pointer) {
        _ if pointer.is_empty() => None,
        Lead::Parameter(index, view, reach) => {
            let otherwise = flow.parameter(at, index, view, reach);
            Some(Aim::Parameter(index, otherwise, reach == Reach::Strayed))
        }
        Lead::Places(places) => (!places.is_empty()).then(|| Aim::Set(outside(places))),
    };
    let mut arguments = vec![None; freer.argument];
    arguments.push(aim);
    Some((call.line, call.column, symbol.to_owned(), arguments))
}

fn aim_of_argument(
    flow: &Flow<'_, '_>,
    at: FunctionRef,
    argument: &Argument,
    callee: FunctionRef,
    index: usize,
) -> Option<Aim> {
    if argument.pointer.is_empty() {
        return None;
    }
    match flow.lead(at, &argument.pointer) {
        Lead::Parameter(index, view, reach) => {
            let otherwise = flow.parameter(at, index, view, reach);
            Some(Aim::Parameter(index, otherwise, reach == Reach::Strayed))
        }
        Lead::Places(_) => {
            let places = flow.handed_over(at, &argument.pointer, callee, index);
            // Read-only data is passed around, but leads to no legal write.
            (!places.is_empty()).then(|| Aim::Set(outside(places)))
        }
    }
}

fn assemble(
    program: &Program<'_>,
    origins: &Origins,
    legal: &mut Legal<'_, '_>,
    functions: &BTreeMap<(String, String), Copies>,
    request: &Request,
) -> Analysis {
    let mut whole = Places::new();
    let mut sets: BTreeSet<&Places> = BTreeSet::new();
    for copies in functions.values() {
        for (.., aim, _, _) in &copies.writes {
            sets.insert(aim.places());
            whole.extend(aim.places());
        }
        let arguments = copies.calls.iter().flat_map(|(.., arguments)| arguments);
        sets.extend(arguments.flatten().map(Aim::places));
    }
    if whole.is_empty() {
        // A compartment that writes nothing may write its own frames.
        whole.insert(Place::Own);
    }
    sets.insert(&whole);
    let drafts = legal.drafts(sets);

    let (tables, allocation_sites) = number(program, origins, &drafts);
    let mut rows: BTreeMap<LegalSet, Vec<&Places>> = BTreeMap::new();
    let mut shared = Shared::default();
    for (places, draft) in &drafts {
        let set = set(program, &tables, draft, &mut shared);
        rows.entry(set).or_default().push(places);
    }
    drop((drafts, shared));
    let mut narrowed: Vec<(FieldKey<'_>, LegalSet)> = Vec::new();
    for copies in functions.values() {
        for (.., aim, field, _) in &copies.writes {
            // What a caller hands over need not begin where the structure does.
            let (Aim::Set(places), Some(field)) = (aim, field) else {
                continue;
            };
            let Some(target) = tables.record(program, origins, field.record) else {
                continue;
            };
            let wide = rows.iter().find(|(_, users)| users.contains(&places));
            let size = program.records[field.record.0].size;
            let open_ended = legal.is_open_ended(field.record);
            let set = wide.and_then(|(set, _)| narrow(set, field, target, size, open_ended));
            narrowed.extend(set.map(|set| ((places, field), set)));
        }
    }
    for (_, set) in &narrowed {
        rows.entry(set.clone()).or_default();
    }
    let mut ids = Ids::default();
    for (row, (set, places)) in rows.iter().enumerate() {
        let id = LegalSetId::from(row);
        ids.places.extend(places.iter().map(|p| (*p, id)));
        let fields = narrowed.iter().filter(|(_, narrow)| narrow == set);
        ids.fields.extend(fields.map(|(key, _)| (*key, id)));
    }
    Analysis {
        version: FORMAT_VERSION,
        kernel: request.kernel.clone(),
        compartment: request.compartment.clone(),
        compartment_set: ids.places[&whole],
        functions: functions
            .iter()
            .map(|((file, name), copies)| function(file, name, copies, &ids))
            .collect(),
        targets: Vec::new(),
        target_sets: Vec::new(),
        legal_sets: rows.into_keys().collect(),
        types: tables.types.into_keys().collect(),
        globals: tables.globals.into_keys().collect(),
        allocation_sites,
        gates: gates(program, request),
        diagnostics: notes(program, legal),
    }
}

fn function(file: &str, name: &str, copies: &Copies, ids: &Ids<'_>) -> Function {
    let target = |aim: &Aim| match aim {
        Aim::Parameter(index, places, strays) => Target::Parameter {
            index: *index,
            otherwise: ids.places[places],
            strays: *strays,
        },
        Aim::Set(places) => Target::Set(ids.places[places]),
    };
    let mut writes: Vec<Write> = copies
        .writes
        .iter()
        .map(|(line, column, kind, size, aim, field, pointer)| Write {
            pointer: pointer.clone(),
            line: *line,
            column: *column,
            kind: *kind,
            size: *size,
            target: target(aim),
            field: field
                .as_ref()
                .and_then(|field| ids.fields.get(&(aim.places(), field)).copied()),
        })
        .collect();
    let mut calls: Vec<Call> = copies
        .calls
        .iter()
        .map(|(line, column, callee, arguments)| Call {
            line: *line,
            column: *column,
            callee: callee.clone(),
            arguments: arguments.iter().map(|a| a.as_ref().map(target)).collect(),
        })
        .collect();
    writes.sort();
    writes.dedup();
    calls.sort();
    calls.dedup();
    Function {
        file: file.to_owned(),
        name: name.to_owned(),
        line: copies.line,
        writes,
        calls,
        indirect_calls: Vec::new(),
    }
}

/// What the result rests on that the scope cannot show.
fn notes(program: &Program<'_>, legal: &Legal<'_, '_>) -> Vec<Diagnostic> {
    legal
        .trusted
        .iter()
        .map(|(container, inner)| {
            let names: Vec<&str> = inner
                .iter()
                .map(|r| program.records[r.0].name.as_str())
                .collect();
            let container = &program.records[container.0];
            Diagnostic::warning(
                Code::PartialScope,
                format!(
                    "{} may lie in {}: only its allocations in the scope count as legal",
                    names.join(", "),
                    container.name
                ),
            )
            .at(container.file.clone(), 0, 0)
            .help(format!(
                "name {} under `complete` when the scope holds all its allocations",
                container.name
            ))
        })
        .collect()
}
