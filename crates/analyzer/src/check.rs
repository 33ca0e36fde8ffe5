//! Promises that every analysis keeps.
//!
//! - Tables are sorted and hold no row twice.
//! - Every index names a row.
//! - Every write and every argument has a legal set that allows something.
//! - Every heap place has an allocation site, at most two dimensions, and lies in the object.

use otf_artifact::{
    analysis::{Analysis, HeapPlace, Target},
    diagnostic::{Code, Diagnostic},
    ids::LegalSetId,
};

/// All broken promises; empty for a sound analysis.
pub fn check(analysis: &Analysis) -> Vec<Diagnostic> {
    let mut checker = Checker {
        analysis,
        broken: Vec::new(),
    };
    checker.tables();
    for row in 0..analysis.legal_sets.len() {
        checker.legal_set(row);
    }
    for function in &analysis.functions {
        let place = format!("{} in {}", function.name, function.file);
        checker.sorted(&function.writes, &format!("writes of {place}"));
        checker.sorted(&function.calls, &format!("calls of {place}"));
        for write in &function.writes {
            checker.target(write.target, &place);
            if let Some(field) = write.field {
                checker.set_id(field, &place);
            }
        }
        for target in function.calls.iter().flat_map(|c| &c.arguments).flatten() {
            checker.target(*target, &place);
        }
    }
    checker.set_id(analysis.compartment_set, "the compartment");
    checker.broken
}

struct Checker<'a> {
    analysis: &'a Analysis,
    broken: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn say(&mut self, message: String) {
        self.broken
            .push(Diagnostic::error(Code::InvariantBroken, message));
    }

    fn sorted<T: PartialOrd>(&mut self, rows: &[T], what: &str) {
        if !rows.is_sorted_by(|a, b| a < b) {
            self.say(format!("{what} are not sorted and unique"));
        }
    }

    fn tables(&mut self) {
        let analysis = self.analysis;
        self.sorted(&analysis.types, "types");
        self.sorted(&analysis.globals, "globals");
        self.sorted(&analysis.allocation_sites, "allocation sites");
        self.sorted(&analysis.legal_sets, "legal sets");
        self.sorted(&analysis.gates, "gates");
        let names: Vec<_> = analysis
            .functions
            .iter()
            .map(|f| (&f.file, &f.name))
            .collect();
        self.sorted(&names, "functions");
        for site in &analysis.allocation_sites {
            if site.types.iter().any(|t| t.index() >= analysis.types.len()) {
                self.say(format!("{}:{}: a type out of range", site.file, site.line));
            }
            if !site.types.is_sorted_by(|a, b| a < b) {
                self.say(format!("{}:{}: types not sorted", site.file, site.line));
            }
        }
        for gate in &analysis.gates {
            if gate.reached_by.is_empty() {
                self.say(format!("nobody reaches the gate {}", gate.function));
            }
            if gate.instance_argument.is_some() != gate.instance_type.is_some() {
                self.say(format!("the gate {} has half an instance", gate.function));
            }
        }
    }

    fn legal_set(&mut self, row: usize) {
        let analysis = self.analysis;
        let set = &analysis.legal_sets[row];
        let name = format!("legal set {row}");
        if set.is_empty() {
            self.say(format!("{name} allows nothing"));
        }
        if set.types.iter().any(|t| t.index() >= analysis.types.len())
            || set
                .globals
                .iter()
                .any(|g| g.index() >= analysis.globals.len())
        {
            self.say(format!("{name}: an index out of range"));
        }
        self.sorted(&set.types, &format!("types of {name}"));
        self.sorted(&set.globals, &format!("globals of {name}"));
        self.sorted(&set.heap, &format!("heap places of {name}"));
        for place in &set.heap {
            self.heap_place(place, &name);
        }
    }

    fn heap_place(&mut self, place: &HeapPlace, name: &str) {
        let analysis = self.analysis;
        let types = analysis.types.len();
        if place.target.index() >= types || place.container.index() >= types {
            self.say(format!("{name}: a heap place of a type out of range"));
        }
        let sites = &place.allocation_sites;
        if sites.is_empty() || !sites.is_sorted_by(|a, b| a < b) {
            self.say(format!(
                "{name}: allocation sites of a heap place are not sorted, or none"
            ));
        }
        if sites
            .iter()
            .any(|s| s.index() >= analysis.allocation_sites.len())
        {
            self.say(format!("{name}: an allocation site out of range"));
        }
        if place.dimensions.len() > 2 {
            self.say(format!(
                "{name}: a heap place with more than two dimensions"
            ));
        }
        if place.size == 0 {
            self.say(format!("{name}: a heap place without bytes"));
        }
        let bounded =
            place.size != HeapPlace::TO_END && place.dimensions.iter().all(|d| d.count > 0);
        let extent: u64 = place
            .dimensions
            .iter()
            .map(|d| d.stride * d.count.saturating_sub(1))
            .sum();
        if bounded && place.offset + extent + place.size > place.object_min {
            self.say(format!(
                "{name}: a heap place of {} bytes at {} leaves its object of {} bytes",
                extent + place.size,
                place.offset,
                place.object_min
            ));
        }
        if place
            .object_size
            .is_some_and(|size| size < place.object_min)
        {
            self.say(format!("{name}: an object smaller than its least size"));
        }
    }

    fn target(&mut self, target: Target, place: &str) {
        let (Target::Set(id) | Target::Parameter { otherwise: id, .. }) = target;
        self.set_id(id, place);
    }

    fn set_id(&mut self, id: LegalSetId, place: &str) {
        if id.index() >= self.analysis.legal_sets.len() {
            self.say(format!("{place}: legal set {} does not exist", id.0));
        }
    }
}
