//! What a module declares: signatures, globals, exported symbols, addresses in initialisers.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap as HashMap;

use crate::{
    bitcode::{Class, Kind, Module, Opcode, Passing, Value},
    extract::types::TypeReader,
    facts::{GlobalFacts, Reference, Shape, TypeId, Types, Use},
};

/// How a function is declared in the source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signature {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) result: Option<TypeId>,
    pub(crate) parameters: Vec<Option<TypeId>>,
    /// Source parameter of each IR parameter; `None` for the room for a result.
    pub(crate) source_index: Vec<Option<u16>>,
}

impl Signature {
    /// Source parameter of an IR argument; arguments beyond the declared ones keep their place.
    pub(crate) fn source(&self, index: u32) -> Option<u16> {
        match self.source_index.get(index as usize) {
            Some(source) => *source,
            None => u16::try_from(index).ok(),
        }
    }
}

/// Signatures of all functions, by value key.
pub(crate) fn signatures<'m>(
    module: &'m Module,
    types: &mut TypeReader<'m>,
) -> HashMap<usize, Signature> {
    module
        .functions()
        .map(|function| (function.key(), signature(types, function)))
        .collect()
}

fn signature<'m>(types: &mut TypeReader<'m>, function: Value<'m>) -> Signature {
    let mut signature = Signature {
        name: function.name(),
        ..Signature::default()
    };
    let mut declared = 0;
    if let Some(node) = function.subprogram() {
        let name = node.name();
        if !name.is_empty() {
            signature.name = name.into();
        }
        signature.file = types.files.name(node.file());
        signature.line = node.line();
        let id = types.read(node.base());
        if let Some(Shape::Function { result, parameters }) =
            id.map(|id| types.types.get(id).shape.clone())
        {
            signature.result = result;
            declared = parameters.len();
            signature.parameters = parameters;
        }
    }
    // The IR adds a parameter for a result in memory, and splits structures over registers.
    let mut next = 0u16;
    for index in 0..function.parameter_count() {
        if function.passing(index) == Passing::Result {
            signature.source_index.push(None);
        } else {
            signature.source_index.push(Some(next));
            next = next.saturating_add(1);
        }
    }
    if declared > 0 && usize::from(next) != declared && !function.is_declaration() {
        realign(&mut signature, function);
    }
    signature
}

/// Maps IR parameters to source parameters by the variables they are stored to, in order.
fn realign(signature: &mut Signature, function: Value<'_>) {
    let arguments: HashMap<usize, usize> = function
        .parameters()
        .enumerate()
        .map(|(i, p)| (p.key(), i))
        .collect();
    let mut homes: HashMap<usize, Vec<usize>> = HashMap::default();
    let mut next = 0u16;
    let instructions = function.instructions();
    let mut read = 0;
    for (before, home, _) in function.declares() {
        let stores = instructions.get(read..before).unwrap_or_default();
        read = read.max(before);
        for store in stores {
            let Some((value, home)) = stored(*store) else {
                continue;
            };
            if let Some(index) = arguments.get(&value.key()) {
                homes.entry(home.key()).or_default().push(*index);
            }
        }
        let parts = match arguments.get(&home.key()) {
            Some(copy) => vec![*copy],
            None => homes.remove(&home.key()).unwrap_or_default(),
        };
        if !parts.is_empty() {
            for part in parts {
                if let Some(slot) = signature.source_index.get_mut(part) {
                    *slot = Some(next);
                }
            }
            next = next.saturating_add(1);
        }
    }
}

/// Steps to a variable's home: more are a circle, in code that never runs.
const STEPS: u32 = 1000;

/// What a store stores, and the variable that it stores into.
fn stored(store: Value<'_>) -> Option<(Value<'_>, Value<'_>)> {
    if store.kind() != Kind::Instruction(Opcode::Store) {
        return None;
    }
    let mut home = store.operand(1)?;
    for _ in 0..STEPS {
        if home.kind() != Kind::Instruction(Opcode::GetElementPtr) {
            break;
        }
        home = home.operand(0)?;
    }
    Some((store.operand(0)?, home))
}

/// Globals in module order.
pub(crate) fn globals<'m>(
    module: &'m Module,
    types: &mut TypeReader<'m>,
) -> Vec<(Value<'m>, GlobalFacts)> {
    module
        .globals()
        .map(|global| {
            let node = global
                .variable()
                .filter(|n| n.class() == Class::GlobalVariable);
            let defined = !global.is_declaration();
            let named = global.value_type().struct_name();
            let declared = node.and_then(|n| types.read(n.base()));
            let ty = declared.or_else(|| types.by_ir_name.get(named?).copied());
            let facts = GlobalFacts {
                symbol: global.name(),
                ty,
                file: node
                    .filter(|_| defined)
                    .map(|n| types.files.name(n.file()))
                    .unwrap_or_default(),
                size: if defined {
                    global.value_type().size()
                } else {
                    0
                },
                constant: global.is_constant(),
                per_cpu: global.section().starts_with(".data..percpu"),
                defined,
                internal: global.is_internal(),
            };
            (global, facts)
        })
        .collect()
}

/// Functions whose address initialises a global or an alias, and boot-time calls.
pub(crate) fn references(
    module: &Module,
    types: &Types,
    globals: &[(Value<'_>, GlobalFacts)],
) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    for (global, facts) in globals {
        let section = global.section();
        if section == ".discard.addressable"
            || section == "llvm.metadata"
            || facts.symbol.starts_with("__UNIQUE_ID___addressable_")
            || facts.symbol.starts_with("llvm.")
        {
            continue;
        }
        let Some(value) = global.initializer() else {
            continue;
        };
        let mut walk = Walk {
            types,
            whole: facts.ty,
            exit: section.starts_with(".exitcall"),
            init: section.starts_with(".initcall"),
            found: &mut found,
        };
        walk.constant(value, 0, 0);
    }
    for alias in module.aliases() {
        let by = match alias.name().as_str() {
            "init_module" => Use::Initcall,
            "cleanup_module" => Use::Exitcall,
            _ => Use::Stored,
        };
        if let Some(function) = alias.aliasee().filter(|f| f.kind() == Kind::Function) {
            found.insert(Reference {
                function: function.name(),
                by,
            });
        }
    }
    found
}

/// Walk over a constant initialiser with the offset in the global.
struct Walk<'a> {
    types: &'a Types,
    whole: Option<TypeId>,
    exit: bool,
    init: bool,
    found: &'a mut BTreeSet<Reference>,
}

impl Walk<'_> {
    fn constant(&mut self, value: Value<'_>, offset: u64, depth: u32) {
        match value.kind() {
            Kind::Function => {
                let by = if self.exit {
                    Use::Exitcall
                } else if self.init {
                    Use::Initcall
                } else {
                    self.whole
                        .and_then(|ty| member(self.types, ty, offset))
                        .map_or(Use::Stored, |(ty, name)| Use::Member(ty, name))
                };
                self.found.insert(Reference {
                    function: value.name(),
                    by,
                });
            }
            Kind::Aggregate if depth < 32 => {
                let ty = value.ty();
                for index in 0..value.operand_count() {
                    let Some(part) = value.operand(index) else {
                        continue;
                    };
                    let at = if ty.is_struct() {
                        ty.field_offset(index)
                    } else {
                        u64::from(index) * part.ty().size()
                    };
                    self.constant(part, offset + at, depth + 1);
                }
            }
            Kind::Expression(_) if depth < 32 => {
                for index in 0..value.operand_count() {
                    if let Some(part) = value.operand(index) {
                        self.constant(part, offset, depth + 1);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The function-pointer member at an offset: the innermost structure with a name of its own, and
/// the way from there, `nested.member` through structures without one.
pub(crate) fn member(types: &Types, whole: TypeId, offset: u64) -> Option<(TypeId, String)> {
    let (mut ty, mut offset) = (whole, offset);
    let mut named = whole;
    let mut way: Vec<&str> = Vec::new();
    for _ in 0..24 {
        match &types.get(ty).shape {
            Shape::Array {
                element, stride, ..
            } if *stride > 0 => (ty, offset) = (*element, offset % stride),
            Shape::Record { members, .. } => {
                if !types.get(ty).is_anonymous() {
                    named = ty;
                    way.clear();
                }
                let member = members.iter().find(|m| {
                    offset >= m.offset && offset < m.offset + types.get(m.ty).size.max(1)
                })?;
                if !member.name.is_empty() {
                    way.push(&member.name);
                }
                (ty, offset) = (member.ty, offset - member.offset);
            }
            Shape::Pointer(_) if !way.is_empty() => return Some((named, way.join("."))),
            _ => return None,
        }
    }
    None
}

/// Names after a mark in the module's assembly, up to the first character that is in no symbol.
fn names_after<'a>(assembly: &'a str, mark: &'a str) -> impl Iterator<Item = String> + 'a {
    assembly.match_indices(mark).map(move |(at, _)| {
        assembly[at + mark.len()..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '.')
            .collect()
    })
}

/// Exported symbols, sorted.
pub(crate) fn exports(assembly: &str, globals: &[(Value<'_>, GlobalFacts)]) -> Vec<String> {
    let tables = globals
        .iter()
        .filter_map(|(_, g)| g.symbol.strip_prefix("__ksymtab_").map(str::to_owned));
    names_after(assembly, "__export_symbol_")
        .chain(tables)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// Functions that module-level assembly puts into the boot-time call table.
pub(crate) fn initcalls(assembly: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in assembly.split(['\n', ';']) {
        let line = line.trim();
        if line.starts_with(".section") {
            inside = line.contains(".initcall");
        } else if line.starts_with(".previous") {
            inside = false;
        } else if inside {
            found.extend(names_after(line, ".long\t").chain(names_after(line, ".long ")));
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::{exports, initcalls};

    #[test]
    fn assembly_names_exports_and_initcalls() {
        let assembly = ".section \".export_symbol\",\"a\" ; __export_symbol_qdisc_put: ; .quad qdisc_put ; .previous\n\
            .section\t\".initcall6.init\", \"a\"\t\t\n__initcall__kmod_x__1_2_go6:\t\t\t\n.long\tgo - .\t\n.previous\n.long other - .";
        assert_eq!(exports(assembly, &[]), ["qdisc_put"]);
        assert_eq!(initcalls(assembly), ["go"]);
    }
}
