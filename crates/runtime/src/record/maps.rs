//! Hash maps and counters as values.

use libbpf_rs::{MapCore, MapFlags};
use otf_artifact::diagnostic::Diagnostic;

use crate::object::kernel_refused;
use crate::pod::{self, Pod};

/// Every entry of a hash map, in no order.
pub fn entries<K: Pod, V: Pod>(map: &impl MapCore) -> Result<Vec<(K, V)>, Diagnostic> {
    let mut found = Vec::new();
    for key in map.keys() {
        let value = map
            .lookup(&key, MapFlags::ANY)
            .map_err(|e| kernel_refused(&map.name().to_string_lossy(), &e))?;
        // An entry may end between the two steps.
        if let (Some(key), Some(value)) = (pod::read(&key), value.as_deref().and_then(pod::read)) {
            found.push((key, value));
        }
    }
    Ok(found)
}

/// Sum over all CPUs of a row of counters.
pub fn sum(map: &impl MapCore, row: u32) -> Result<u64, Diagnostic> {
    let per_cpu = map
        .lookup_percpu(&row.to_ne_bytes(), MapFlags::ANY)
        .map_err(|e| kernel_refused(&map.name().to_string_lossy(), &e))?;
    let values = per_cpu.unwrap_or_default();
    Ok(values.iter().filter_map(|raw| pod::read::<u64>(raw)).sum())
}
