//! Private heaps as the guard has them: in use by a loaded bundle, or retired until their last object is freed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use otf_artifact::diagnostic::{Code, Diagnostic};
use serde::Serialize;

use crate::host::Host;

/// Below procfs: what the guard says.
const LIST: &str = "otf_guard";
/// Below procfs: what the kernel says about caches.
const CACHES: &str = "slabinfo";
/// Below sysfs: a folder for each cache.
const FOLDERS: &str = "kernel/slab";
/// In such a folder: how many empty slabs the cache keeps.
const EMPTY_SLABS: &str = "min_partial";
/// First word of the guard's line about a heap.
const KIND: &str = "heap";
/// Where the guard says how many calls it has sent to the heap.
const SENT: &str = "sent";

/// A heap of one compartment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Heap {
    /// Compartment.
    pub compartment: String,
    /// Nothing sends calls to it any more: it goes when its last object is freed.
    pub retired: bool,
    /// Allocations that it has served.
    pub served: u64,
    /// Allocations that went to general caches all the same, by reason.
    pub general: BTreeMap<String, u64>,
    /// Objects that are alive, as far as the kernel knows without looking: no fewer.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Every heap; none where the guard is not in the kernel.
pub fn heaps(host: &Host) -> Vec<Heap> {
    let read = |name: &str| fs::read_to_string(host.proc.join(name)).unwrap_or_default();
    let caches = read(CACHES);
    read(LIST)
        .lines()
        .filter_map(parse)
        .map(|heap| with_objects(heap, &caches))
        .collect()
}

/// Makes the caches of a heap keep their pages while it is in use: what was freed too early must not
/// reach others by way of a page that has become empty.
pub fn keep_pages(host: &Host, compartment: &str) -> Result<(), Diagnostic> {
    let folder = host.sys.join(FOLDERS);
    let prefix = prefix(compartment);
    let failed = |path: &Path, e: &io::Error| {
        let message = format!("cannot make {} keep its pages: {e}", path.display());
        Diagnostic::error(Code::KernelRefused, message)
            .help("compile the policy with `private_heap: false`")
    };
    let entries = fs::read_dir(&folder).map_err(|e| failed(&folder, &e))?;
    let mut kept = 0;
    for entry in entries {
        let entry = entry.map_err(|e| failed(&folder, &e))?;
        let name = entry.file_name();
        if size_of_cache(&name.to_string_lossy(), &prefix).is_some() {
            let path = entry.path().join(EMPTY_SLABS);
            fs::write(&path, u32::MAX.to_string()).map_err(|e| failed(&path, &e))?;
            kept += 1;
        }
    }
    if kept == 0 {
        return Err(failed(&folder, &io::ErrorKind::NotFound.into()));
    }
    Ok(())
}

fn prefix(compartment: &str) -> String {
    format!("otf.{compartment}-")
}

/// Bytes of the objects of a cache, if it is one of this heap: `otf.NAME-[cg-]SIZE`.
fn size_of_cache(cache: &str, prefix: &str) -> Option<u64> {
    let size = cache.strip_prefix(prefix)?;
    size.strip_prefix("cg-").unwrap_or(size).parse().ok()
}

/// `heap NAME used|retired sent=N REASON=N...`
fn parse(line: &str) -> Option<Heap> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some(KIND) {
        return None;
    }
    let compartment = words.next()?.to_owned();
    let retired = words.next()? == "retired";
    let mut general: BTreeMap<String, u64> = words
        .filter_map(|word| word.split_once('='))
        .filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .collect();
    let served = general.remove(SENT).unwrap_or(0);
    general.retain(|_, count| *count > 0);
    Some(Heap {
        compartment,
        retired,
        served,
        general,
        ..Heap::default()
    })
}

/// Adds what `/proc/slabinfo` says: `NAME ACTIVE ALL SIZE …`.
fn with_objects(mut heap: Heap, caches: &str) -> Heap {
    let prefix = prefix(&heap.compartment);
    for line in caches.lines() {
        let mut words = line.split_ascii_whitespace();
        let size = words.next().and_then(|name| size_of_cache(name, &prefix));
        let objects: Option<u64> = words.next().and_then(|word| word.parse().ok());
        if let (Some(size), Some(objects)) = (size, objects) {
            heap.objects += objects;
            heap.bytes += objects * size;
        }
    }
    heap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_and_its_caches() {
        let line = "heap sch_qfq@cve-2023-31436 retired sent=12 large=0 flags=3";
        let heap = parse(line).unwrap();
        let caches = "slabinfo - version: 2.1\n\
            otf.sch_qfq@cve-2023-31436-64      2     64     64   64    1\n\
            otf.sch_qfq@cve-2023-31436-cg-8192 1      4   8192    4    8\n\
            otf.sch_qfq-64                     9     64     64   64    1\n";
        assert_eq!(
            with_objects(heap, caches),
            Heap {
                compartment: "sch_qfq@cve-2023-31436".into(),
                retired: true,
                served: 12,
                general: BTreeMap::from([("flags".into(), 3)]),
                objects: 3,
                bytes: 2 * 64 + 8192,
            }
        );
        assert_eq!(parse("sch_qfq.19 ffffffffc0000000 0"), None);
        assert_eq!(parse("sch_qfq.19 frees"), None);
    }

    #[test]
    fn only_the_heap_s_own_caches_keep_their_pages() {
        let root = tempfile::tempdir().unwrap();
        let host = Host {
            sys: root.path().into(),
            proc: root.path().into(),
        };
        let limit = |cache: &str| root.path().join(FOLDERS).join(cache).join(EMPTY_SLABS);
        for cache in ["otf.a-64", "otf.a-cg-64", "otf.a-b-64", "kmalloc-64"] {
            fs::create_dir_all(limit(cache).parent().unwrap()).unwrap();
            fs::write(limit(cache), "5").unwrap();
        }
        keep_pages(&host, "a").unwrap();
        let text = |cache: &str| fs::read_to_string(limit(cache)).unwrap();
        assert_eq!(
            (text("otf.a-64"), text("otf.a-cg-64")),
            (u32::MAX.to_string(), u32::MAX.to_string())
        );
        assert_eq!(
            (text("otf.a-b-64"), text("kmalloc-64")),
            ("5".into(), "5".into())
        );
        assert_eq!(
            keep_pages(&host, "c").unwrap_err().code,
            Code::KernelRefused
        );
    }
}
