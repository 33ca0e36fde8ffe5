//! Links the check library's bitcode with the generated tables and code, and emits a BPF ELF object.

use std::{fmt::Display, sync::Once};

use inkwell::{
    OptimizationLevel,
    attributes::{Attribute, AttributeLoc},
    context::Context,
    memory_buffer::MemoryBuffer,
    module::{Linkage, Module},
    passes::PassBuilderOptions,
    targets::{CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine},
    values::GlobalValue,
};
use otf_artifact::diagnostic::{Code, Diagnostic};

use crate::{
    address,
    rows::{Row, encode},
    tables::Tables,
};

/// Bitcode of `bpf/otf.bpf.c`.
pub const CHECK_LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/otf.bpf.bc"));

/// Bitcode of `bpf/otf_record.bpf.c`.
pub const RECORD_LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/otf_record.bpf.bc"));

/// Instruction set of the programs; Linux has it since 5.2.
const CPU: &str = "v3";
/// Constants of the library that the loader sets by name.
const SET_BY_LOADER: &[&str] = &["otf_with_guard"];

/// Makes the BPF object: `library` is the bitcode of a C file that uses `otf_tables.h`, normally
/// [`CHECK_LIBRARY`]. The same input gives the same bytes.
///
/// # Errors
/// [`Code::CompileFailed`] with LLVM's words.
pub fn emit(library: &[u8], tables: &Tables) -> Result<Vec<u8>, Diagnostic> {
    let context = Context::create();
    let buffer = MemoryBuffer::create_from_memory_range_copy(library, "otf");
    let module = Module::parse_bitcode_from_buffer(&buffer, &context).map_err(failed)?;
    module.set_source_file_name("otf");
    module
        .link_in_module(generate(&context, &module, tables)?)
        .map_err(failed)?;
    module.verify().map_err(failed)?;
    internalize(&module);
    let machine = target_machine(&module)?;
    module
        .run_passes("default<O2>", &machine, PassBuilderOptions::create())
        .map_err(failed)?;
    let object = machine
        .write_to_memory_buffer(&module, FileType::Object)
        .map_err(failed)?;
    Ok(object.as_slice().to_vec())
}

/// The other half of `otf_tables.h`: what the library declares, the generated module defines.
fn generate<'ctx>(
    context: &'ctx Context,
    library: &Module<'ctx>,
    tables: &Tables,
) -> Result<Module<'ctx>, Diagnostic> {
    let module = context.create_module("tables");
    module.set_triple(&library.get_triple());
    module.set_data_layout(&library.get_data_layout());
    let define = Define {
        context,
        library,
        module: &module,
    };
    define.table("otf_sites", "otf_nsites", &tables.sites);
    define.table("otf_legals", "otf_nlegals", &tables.legals);
    define.table("otf_places", "otf_nplaces", &tables.places);
    define.table("otf_global_rows", "otf_nglobal_rows", &tables.global_rows);
    define.table("otf_gates", "otf_ngates", &tables.gates);
    define.table("otf_gate_sets", "otf_ngate_sets", &tables.gate_sets);
    define.table("otf_allocs", "otf_nallocs", &tables.allocs);
    define.table("otf_passed_objects", "otf_npassed_objects", &tables.passed);
    define.table("otf_calls", "otf_ncalls", &tables.calls);
    define.table("otf_returns", "otf_nreturns", &tables.returns);
    define.table("otf_own_caches", "otf_own_caches_count", &tables.own_caches);
    let function = address::add(&module, &tables.shapes).map_err(failed)?;
    let inline = Attribute::get_named_enum_kind_id("alwaysinline");
    function.add_attribute(
        AttributeLoc::Function,
        context.create_enum_attribute(inline, 0),
    );
    Ok(module)
}

struct Define<'a, 'ctx> {
    context: &'ctx Context,
    library: &'a Module<'ctx>,
    module: &'a Module<'ctx>,
}

impl Define<'_, '_> {
    /// Defines `const struct … name[]` and `const u32 count`, if the library uses them. An empty table gets one row of
    /// zeroes, which no count reaches: a table without bytes has no address of its own.
    fn table<R: Row + Default>(&self, name: &str, count: &str, rows: &[R]) {
        if self.library.get_global(count).is_none() {
            return;
        }
        let bytes = if rows.is_empty() {
            encode(&[R::default()])
        } else {
            encode(rows)
        };
        let value = self.context.const_string(&bytes, false);
        let table = self.module.add_global(value.get_type(), None, name);
        table.set_initializer(&value);
        constant(table, 8);
        let i32 = self.context.i32_type();
        let number = self.module.add_global(i32, None, count);
        number.set_initializer(&i32.const_int(rows.len() as u64, false));
        constant(number, 4);
    }
}

fn constant(global: GlobalValue<'_>, alignment: u32) {
    global.set_constant(true);
    global.set_alignment(alignment);
    global.set_section(Some(".rodata"));
}

/// Hides everything but what has a section of its own (programs, maps, licence, tables) and what
/// the loader sets, so that it can be inlined and folded. The tables stay visible: LLVM would move
/// a hidden one into a second `.rodata`, for merging, and libbpf expects one.
fn internalize(module: &Module<'_>) {
    for function in module.get_functions() {
        if function.count_basic_blocks() > 0 && function.get_section().is_none() {
            function.set_linkage(Linkage::Internal);
        }
    }
    for global in module.get_globals() {
        let name = global.get_name().to_string_lossy();
        let keep = global.get_section().is_some()
            || name.starts_with("llvm.")
            || SET_BY_LOADER.contains(&name.as_ref());
        if global.get_initializer().is_some() && !keep {
            global.set_linkage(Linkage::Internal);
        }
    }
}

fn target_machine(module: &Module<'_>) -> Result<TargetMachine, Diagnostic> {
    initialize_bpf();
    let triple = module.get_triple();
    Target::from_triple(&triple)
        .map_err(failed)?
        .create_target_machine(
            &triple,
            CPU,
            "",
            OptimizationLevel::Default,
            RelocMode::PIC,
            CodeModel::Default,
        )
        .ok_or_else(|| failed("this LLVM has no BPF back end"))
}

fn initialize_bpf() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        Target::initialize_bpf(&InitializationConfig::default());
        // inkwell leaves the assembler out, and LLVM ends the process at inline assembly without it.
        // SAFETY: adds an entry to LLVM's list of targets; no other thread is in here.
        unsafe { inkwell::llvm_sys::target::LLVMInitializeBPFAsmParser() };
    });
}

fn failed(why: impl Display) -> Diagnostic {
    Diagnostic::error(Code::CompileFailed, format!("LLVM: {why}"))
}
