//! The BPF object: opened, configured, loaded, its maps filled. Nothing is attached here.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use libbpf_rs::{
    MapCore, MapFlags, Object, ObjectBuilder, OpenObject, PrintLevel, ProgramImpl, ProgramInput,
    ProgramMut,
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use otf_artifact::{
    abi::{Action, Cache, Phase, State},
    bundle::Plan,
    diagnostic::{Code, Diagnostic},
};

use crate::bind::Binding;
use crate::host::{Host, kallsyms};
use crate::{pod, sys};

/// Lines of the kernel's or libbpf's own words that a message keeps.
const LOG_LINES: usize = 12;
/// Function behind the tracepoint of freed vmalloc areas, which 6.3 brought.
const VMAP_TRACEPOINT: &str = "__traceiter_free_vmap_area_noflush";
/// Constant that takes the calls into the guard out of the programs when it is 0.
const WITH_GUARD: &str = "otf_with_guard";

/// What libbpf has said since the last [`take_log`].
static LOG: Mutex<String> = Mutex::new(String::new());

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of libbpf's callback"
)]
fn log(_: PrintLevel, text: String) {
    LOG.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push_str(&text);
}

/// The last lines that libbpf has written.
fn take_log() -> String {
    let log = std::mem::take(&mut *LOG.lock().unwrap_or_else(PoisonError::into_inner));
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// [`Code::KernelRefused`] with what libbpf has written.
pub fn kernel_refused(what: &str, error: &dyn std::fmt::Display) -> Diagnostic {
    let log = take_log();
    let log = if log.is_empty() {
        log
    } else {
        format!("\n{log}")
    };
    Diagnostic::error(
        Code::KernelRefused,
        format!("the kernel refused {what}: {error}{log}"),
    )
    .help("nothing stays loaded; `otf-load probe` shows what this host supports")
}

/// In `otf_caches`: objects of any cache may be of this one (`OTF_CACHE_ABSENT`).
const ABSENT_CACHE: u64 = u64::MAX;

/// Opens the object and sets what must be known before it is loaded.
pub fn open(elf: &[u8], plan: &Plan, action: Action) -> Result<OpenObject, Diagnostic> {
    libbpf_rs::set_print(Some((PrintLevel::Warn, log)));
    // A recording acts upon nothing.
    let switch = match plan.recording {
        Some(_) => None,
        None => Some(guard_switch(elf)?),
    };
    let mut object = ObjectBuilder::default()
        .name("otf_policy")
        .and_then(|builder| builder.open_memory(elf))
        .map_err(|e| kernel_refused("the BPF object", &e))?;
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if let Some((section, offset)) = &switch
            && name.ends_with(section)
        {
            let byte = map
                .initial_value_mut()
                .and_then(|value| value.get_mut(*offset))
                .ok_or_else(|| no_part(WITH_GUARD))?;
            *byte = u8::from(action == Action::Deny);
        }
        let rows = match name.as_str() {
            "otf_site_counts" => plan.checked().count(),
            "otf_targets" => plan.targets.len(),
            "otf_globals" => plan.globals.len(),
            "otf_caches" => plan.caches.len(),
            _ => continue,
        };
        let rows = u32::try_from(rows).unwrap_or(u32::MAX).max(1);
        if map.max_entries() < rows {
            map.set_max_entries(rows)
                .map_err(|e| kernel_refused(&name, &e))?;
        }
    }
    Ok(object)
}

/// Of two programs that follow frees of vmalloc memory, the one that this kernel has a hook for.
pub fn choose_hooks(object: &mut OpenObject, host: &Host) -> Result<(), Diagnostic> {
    let (_, symbols) = kallsyms::read(host, &BTreeSet::from([VMAP_TRACEPOINT.to_owned()]))?;
    let unused = if symbols.addresses(VMAP_TRACEPOINT).is_empty() {
        "otf_free_vmap"
    } else {
        "otf_vfree"
    };
    for mut program in object.progs_mut().filter(|p| p.name() == unused) {
        program.set_autoload(false);
    }
    Ok(())
}

/// Loads programs and maps and lets the set-up program look around in the kernel.
pub fn load(object: OpenObject) -> Result<Object, Diagnostic> {
    let object = object
        .load()
        .map_err(|e| kernel_refused("the policy", &e))?;
    let setup = program(&object, "otf_setup")?
        .test_run(ProgramInput::default())
        .map_err(|e| kernel_refused("otf_setup", &e))?;
    if (setup.return_value as i32) < 0 {
        return Err(kernel_refused(
            "otf_setup",
            &format!("it returned {}", setup.return_value as i32),
        ));
    }
    Ok(object)
}

/// Fills the maps that depend on the running kernel. The action stays *audit* until [`arm`].
pub fn fill(
    object: &Object,
    plan: &Plan,
    binding: &Binding,
    host: &Host,
) -> Result<(), Diagnostic> {
    let globals = map(object, "otf_globals")?;
    for (row, range) in binding.globals.iter().enumerate() {
        put(&globals, row, pod::bytes(range))?;
    }
    if plan.recording.is_none() {
        fill_caches(object, plan, host)?;
        fill_targets(object, binding)?;
    }
    let states = map(object, "otf_state")?;
    let mut state = state(&states)?;
    state.phase = Phase::Transition as u32;
    state.action = Action::Audit as u32;
    state.texts = binding.texts.len() as u32;
    for (slot, text) in state.text.iter_mut().zip(&binding.texts) {
        *slot = *text;
    }
    put(&states, 0, pod::bytes(&state))
}

fn fill_caches(object: &Object, plan: &Plan, host: &Host) -> Result<(), Diagnostic> {
    let slabs = slab_caches(object)?;
    let caches = map(object, "otf_caches")?;
    for (row, name) in plan.caches.iter().enumerate() {
        let address = cache_address(name, &slabs, host).unwrap_or(ABSENT_CACHE);
        put(&caches, row, &address.to_ne_bytes())?;
    }
    Ok(())
}

/// Names of the caches that a loaded policy takes any cache for, as they were not there.
pub fn absent_caches(caches: &impl MapCore, plan: &Plan) -> Result<Vec<String>, Diagnostic> {
    let mut absent = Vec::new();
    for (row, name) in (0u32..).zip(&plan.caches) {
        let raw = caches
            .lookup(&row.to_ne_bytes(), MapFlags::ANY)
            .map_err(|e| kernel_refused("otf_caches", &e))?;
        if raw.is_some_and(|raw| raw == ABSENT_CACHE.to_ne_bytes()) {
            absent.push(name.clone());
        }
    }
    Ok(absent)
}

fn fill_targets(object: &Object, binding: &Binding) -> Result<(), Diagnostic> {
    let targets = map(object, "otf_targets")?;
    for target in &binding.targets {
        targets
            .update(pod::bytes(target), &[1], MapFlags::ANY)
            .map_err(|e| kernel_refused("otf_targets", &e))?;
    }
    Ok(())
}

/// Makes frees of this object known to the programs; before it gets into one of their maps.
pub fn track(object: &Object, address: u64) -> Result<(), Diagnostic> {
    const NAME: &str = "otf_track_object";
    let mut context = address.to_ne_bytes();
    let input = ProgramInput {
        context_in: Some(&mut context),
        ..ProgramInput::default()
    };
    program(object, NAME)?
        .test_run(input)
        .map_err(|e| kernel_refused(NAME, &e))?;
    Ok(())
}

/// From here on violations are acted upon.
pub fn arm(object: &Object, action: Action) -> Result<(), Diagnostic> {
    let states = map(object, "otf_state")?;
    let mut state = state(&states)?;
    state.action = action as u32;
    put(&states, 0, pod::bytes(&state))
}

/// Pins every map and program under its name.
pub fn pin(object: &Object, maps: &Path, programs: &Path) -> Result<(), Diagnostic> {
    for map in object.maps() {
        let name = map.name().to_string_lossy().into_owned();
        // Dots are not allowed in bpffs, and the programs themselves keep .rodata and the like.
        if !name.contains('.') {
            sys::pin(map.as_fd(), &maps.join(&name)).map_err(|e| kernel_refused(&name, &e))?;
        }
    }
    for program in object.progs().filter(ProgramImpl::autoload) {
        let name = program.name().to_string_lossy().into_owned();
        sys::pin(program.as_fd(), &programs.join(&name)).map_err(|e| kernel_refused(&name, &e))?;
    }
    Ok(())
}

/// The program of this name.
pub fn program<'a>(object: &'a Object, name: &str) -> Result<ProgramMut<'a>, Diagnostic> {
    object
        .progs_mut()
        .find(|p| p.name() == name)
        .ok_or_else(|| no_part(name))
}

/// Whether functions of this kernel begin with `endbr64`; known once the object is loaded.
pub fn has_endbr(object: &Object) -> Result<bool, Diagnostic> {
    Ok(state(&map(object, "otf_state")?)?.endbr != 0)
}

/// Reads the state of a loaded policy.
pub fn state(map: &impl MapCore) -> Result<State, Diagnostic> {
    let raw = map
        .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
        .map_err(|e| kernel_refused("otf_state", &e))?;
    raw.as_deref()
        .and_then(pod::read)
        .ok_or_else(|| no_part("otf_state"))
}

/// Writes a row of an array.
pub fn put(map: &impl MapCore, row: usize, value: &[u8]) -> Result<(), Diagnostic> {
    map.update(&(row as u32).to_ne_bytes(), value, MapFlags::ANY)
        .map_err(|e| kernel_refused(&map.name().to_string_lossy(), &e))
}

fn map<'a>(object: &'a Object, name: &str) -> Result<libbpf_rs::Map<'a>, Diagnostic> {
    object
        .maps()
        .find(|m| m.name() == name)
        .ok_or_else(|| no_part(name))
}

fn no_part(name: &str) -> Diagnostic {
    Diagnostic::error(Code::BadBundle, format!("the BPF object has no {name}"))
        .help("make the bundle again with this release")
}

/// Section and offset of the constant that switches the guard on.
fn guard_switch(elf: &[u8]) -> Result<(String, usize), Diagnostic> {
    let bad = |e: &dyn std::fmt::Display| {
        Diagnostic::error(
            Code::BadBundle,
            format!("the BPF object cannot be read: {e}"),
        )
    };
    let file = object::File::parse(elf).map_err(|e| bad(&e))?;
    let symbol = file
        .symbols()
        .find(|s| s.name() == Ok(WITH_GUARD))
        .ok_or_else(|| no_part(WITH_GUARD))?;
    let section = symbol
        .section_index()
        .and_then(|index| file.section_by_index(index).ok())
        .ok_or_else(|| no_part(WITH_GUARD))?;
    let name = section.name().map_err(|e| bad(&e))?;
    Ok((name.to_owned(), symbol.address() as usize))
}

/// What `otf_setup` found: address by name and by name of the folder under /sys/kernel/slab.
fn slab_caches(object: &Object) -> Result<BTreeMap<String, u64>, Diagnostic> {
    let map = map(object, "otf_slab_caches")?;
    let mut found = BTreeMap::new();
    for row in 0..map.max_entries() {
        let raw = map
            .lookup(&row.to_ne_bytes(), MapFlags::ANY)
            .map_err(|e| kernel_refused("otf_slab_caches", &e))?;
        let Some(cache) = raw.as_deref().and_then(pod::read::<Cache>) else {
            return Err(no_part("otf_slab_caches"));
        };
        if cache.address == 0 {
            break;
        }
        found.insert(pod::text(&cache.unique), cache.address);
        found.insert(pod::text(&cache.name), cache.address);
    }
    Ok(found)
}

/// A cache by its own name or, when it was merged with others, through its alias.
fn cache_address(name: &str, slabs: &BTreeMap<String, u64>, host: &Host) -> Option<u64> {
    slabs
        .get(name)
        .or_else(|| slabs.get(&host.slab_alias(name)?))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn merged_caches_are_found_by_alias() {
        let root = tempfile::tempdir().unwrap();
        let host = Host {
            sys: root.path().into(),
            proc: root.path().into(),
        };
        std::fs::create_dir_all(root.path().join("kernel/slab")).unwrap();
        symlink(":0000256", root.path().join("kernel/slab/nft_rule")).unwrap();
        let slabs = BTreeMap::from([
            (":0000256".to_owned(), 2),
            ("sock_inode_cache".to_owned(), 1),
        ]);
        assert_eq!(cache_address("sock_inode_cache", &slabs, &host), Some(1));
        assert_eq!(cache_address("nft_rule", &slabs, &host), Some(2));
        assert_eq!(cache_address("gone", &slabs, &host), None);
    }

    #[test]
    fn rubbish_is_no_object() {
        assert_eq!(guard_switch(b"\x7fELF").unwrap_err().code, Code::BadBundle);
    }
}
