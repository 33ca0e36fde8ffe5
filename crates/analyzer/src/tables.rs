//! What is known about functions outside the bitcode that was read: base allocators, functions
//! that write a range, functions that make a slab cache. Data, not rules.

use std::sync::LazyLock;

use otf_artifact::analysis::Family;
use rustc_hash::FxHashMap as HashMap;

/// What an allocator returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// The object's address.
    Object,
    /// A `struct page *` that stands for the object.
    Page,
}

/// A function that gives out memory, as machine code calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocator {
    /// Symbol.
    pub symbol: &'static str,
    /// Kind.
    pub family: Family,
    /// Argument (from 0) with the size in bytes; for `Pages` the order; for caches none.
    pub size: Option<u8>,
    /// Argument that the size is multiplied with.
    pub count: Option<u8>,
    /// Argument with the `struct kmem_cache *`.
    pub cache: Option<u8>,
    /// What is returned.
    pub product: Product,
}

const fn row(symbol: &'static str, family: Family, size: Option<u8>) -> Allocator {
    Allocator {
        symbol,
        family,
        size,
        count: None,
        cache: None,
        product: Product::Object,
    }
}

const fn counted(symbol: &'static str, family: Family, count: u8, size: u8) -> Allocator {
    Allocator {
        count: Some(count),
        ..row(symbol, family, Some(size))
    }
}

const fn cached(symbol: &'static str) -> Allocator {
    Allocator {
        cache: Some(0),
        ..row(symbol, Family::Slab, None)
    }
}

const fn page(symbol: &'static str, order: u8) -> Allocator {
    Allocator {
        product: Product::Page,
        ..row(symbol, Family::Pages, Some(order))
    }
}

use Family::{Kmalloc, Kvmalloc, Pages, PerCpu, Slab, Vmalloc};

/// Base allocators. Kernels before 6.10 spell them without `_noprof`.
pub const ALLOCATORS: &[Allocator] = &[
    row("__alloc_percpu", PerCpu, Some(0)),
    row("__alloc_percpu_gfp", PerCpu, Some(0)),
    page("__alloc_pages", 1),
    page("__alloc_pages_noprof", 1),
    row("__devm_alloc_percpu", PerCpu, Some(1)),
    row("__get_free_pages", Pages, Some(1)),
    row("__kmalloc", Kmalloc, Some(0)),
    row("__kmalloc_cache_node_noprof", Kmalloc, Some(3)),
    row("__kmalloc_cache_noprof", Kmalloc, Some(2)),
    row("__kmalloc_large_node_noprof", Kmalloc, Some(0)),
    row("__kmalloc_large_noprof", Kmalloc, Some(0)),
    row("__kmalloc_node", Kmalloc, Some(0)),
    row("__kmalloc_node_noprof", Kmalloc, Some(0)),
    row("__kmalloc_node_track_caller", Kmalloc, Some(0)),
    row("__kmalloc_node_track_caller_noprof", Kmalloc, Some(0)),
    row("__kmalloc_noprof", Kmalloc, Some(0)),
    row("__kvmalloc_node_noprof", Kvmalloc, Some(0)),
    row("__vmalloc", Vmalloc, Some(0)),
    row("__vmalloc_node_noprof", Vmalloc, Some(0)),
    row("__vmalloc_node_range_noprof", Vmalloc, Some(0)),
    row("__vmalloc_noprof", Vmalloc, Some(0)),
    page("alloc_pages", 1),
    row("alloc_pages_exact", Pages, None),
    row("alloc_pages_exact_noprof", Pages, None),
    page("alloc_pages_noprof", 1),
    page("alloc_pages_node_noprof", 2),
    row("devm_kmalloc", Kmalloc, Some(1)),
    row("devm_kmalloc_noprof", Kmalloc, Some(1)),
    row("devm_kmemdup", Kmalloc, Some(2)),
    row("get_free_pages_noprof", Pages, Some(1)),
    row("get_zeroed_page", Pages, None),
    row("get_zeroed_page_noprof", Pages, None),
    row("kmalloc_large", Kmalloc, Some(0)),
    row("kmalloc_large_node", Kmalloc, Some(0)),
    row("kmalloc_node_trace", Kmalloc, Some(3)),
    row("kmalloc_trace", Kmalloc, Some(2)),
    counted("kmemdup_array", Kmalloc, 1, 2),
    row("kmemdup", Kmalloc, Some(1)),
    row("kmemdup_noprof", Kmalloc, Some(1)),
    row("kmemdup_nul", Kmalloc, None),
    row("krealloc", Kmalloc, Some(1)),
    row("krealloc_noprof", Kmalloc, Some(1)),
    row("kstrdup", Kmalloc, None),
    row("kstrdup_noprof", Kmalloc, None),
    row("kstrndup", Kmalloc, None),
    row("kstrndup_noprof", Kmalloc, None),
    row("kvasprintf", Kmalloc, None),
    row("kasprintf", Kmalloc, None),
    cached("kmem_cache_alloc"),
    cached("kmem_cache_alloc_lru"),
    cached("kmem_cache_alloc_lru_noprof"),
    cached("kmem_cache_alloc_node"),
    cached("kmem_cache_alloc_node_noprof"),
    cached("kmem_cache_alloc_noprof"),
    row("kvmalloc_node", Kvmalloc, Some(0)),
    row("kvmalloc_node_noprof", Kvmalloc, Some(0)),
    row("kvmemdup", Kvmalloc, Some(1)),
    row("kvrealloc", Kvmalloc, Some(1)),
    row("kvrealloc_noprof", Kvmalloc, Some(1)),
    row("mempool_alloc", Slab, None),
    row("mempool_alloc_noprof", Slab, None),
    row("page_frag_alloc_align", Pages, None),
    row("__page_frag_alloc_align", Pages, None),
    row("pcpu_alloc", PerCpu, Some(0)),
    row("pcpu_alloc_noprof", PerCpu, Some(0)),
    row("vmalloc", Vmalloc, Some(0)),
    row("vmalloc_noprof", Vmalloc, Some(0)),
    row("vmalloc_node", Vmalloc, Some(0)),
    row("vmalloc_node_noprof", Vmalloc, Some(0)),
    row("vmalloc_user", Vmalloc, Some(0)),
    row("vmalloc_user_noprof", Vmalloc, Some(0)),
    row("vmemdup_user", Kvmalloc, Some(1)),
    row("vzalloc", Vmalloc, Some(0)),
    row("vzalloc_noprof", Vmalloc, Some(0)),
    row("vzalloc_node", Vmalloc, Some(0)),
    row("vzalloc_node_noprof", Vmalloc, Some(0)),
    row("memdup_user", Kmalloc, Some(1)),
    row("memdup_user_nul", Kmalloc, None),
];

/// The allocator with this symbol.
pub fn allocator(symbol: &str) -> Option<&'static Allocator> {
    static ROWS: LazyLock<HashMap<&str, &Allocator>> =
        LazyLock::new(|| ALLOCATORS.iter().map(|a| (a.symbol, a)).collect());
    ROWS.get(symbol).copied()
}

/// Whether a function that nothing else is known about makes objects, by its name.
pub fn sounds_like_allocator(symbol: &str) -> bool {
    ["alloc", "dup", "remap"]
        .iter()
        .any(|word| symbol.contains(word))
}

/// A function without a body in what was read that writes a range which an argument begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeWriter {
    /// Symbol.
    pub symbol: &'static str,
    /// Argument with the first byte's address.
    pub destination: u8,
    /// Argument with the number of bytes, where one holds exactly that.
    pub length: Option<u8>,
    /// Whether the destination is user memory.
    pub user: bool,
}

const fn writes(symbol: &'static str, destination: u8, length: Option<u8>) -> RangeWriter {
    RangeWriter {
        symbol,
        destination,
        length,
        user: false,
    }
}

const fn to_user(symbol: &'static str, length: u8) -> RangeWriter {
    RangeWriter {
        user: true,
        ..writes(symbol, 0, Some(length))
    }
}

/// Functions that write a range.
pub const RANGE_WRITERS: &[RangeWriter] = &[
    writes("memcpy", 0, Some(2)),
    writes("__memcpy", 0, Some(2)),
    writes("memmove", 0, Some(2)),
    writes("__memmove", 0, Some(2)),
    writes("memset", 0, Some(2)),
    writes("__memset", 0, Some(2)),
    writes("memset16", 0, None),
    writes("memset32", 0, None),
    writes("memset64", 0, None),
    writes("memzero_explicit", 0, Some(1)),
    writes("memcpy_and_pad", 0, Some(1)),
    writes("__memcpy_flushcache", 0, Some(2)),
    writes("copy_mc_to_kernel", 0, Some(2)),
    writes("copy_from_kernel_nofault", 0, Some(2)),
    writes("_copy_from_user", 0, Some(2)),
    writes("__copy_user_nocache", 0, Some(2)),
    writes("copy_from_user_nofault", 0, Some(2)),
    writes("strncpy_from_user", 0, None),
    writes("_copy_from_iter", 0, Some(1)),
    to_user("_copy_to_user", 2),
    to_user("copy_to_user_nofault", 2),
    to_user("clear_user", 1),
    to_user("__clear_user", 1),
    writes("strcpy", 0, None),
    writes("strncpy", 0, Some(2)),
    writes("strlcpy", 0, None),
    writes("strscpy", 0, None),
    writes("sized_strscpy", 0, None),
    writes("strcat", 0, None),
    writes("strncat", 0, None),
    writes("strlcat", 0, None),
    writes("sprintf", 0, None),
    writes("snprintf", 0, None),
    writes("scnprintf", 0, None),
    writes("vsprintf", 0, None),
    writes("vsnprintf", 0, None),
    writes("vscnprintf", 0, None),
    writes("nla_memcpy", 0, None),
    writes("nla_strscpy", 0, None),
    writes("skb_copy_bits", 2, Some(3)),
    writes("get_random_bytes", 0, Some(1)),
];

/// The range writer with this symbol.
pub fn range_writer(symbol: &str) -> Option<&'static RangeWriter> {
    static ROWS: LazyLock<HashMap<&str, &RangeWriter>> =
        LazyLock::new(|| RANGE_WRITERS.iter().map(|w| (w.symbol, w)).collect());
    ROWS.get(symbol).copied()
}

/// Functions that return a new slab cache: symbol, argument with the name.
pub const CACHE_MAKERS: &[(&str, u8)] = &[
    ("kmem_cache_create", 0),
    ("kmem_cache_create_usercopy", 0),
    ("__kmem_cache_create_args", 0),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_symbol_has_one_row() {
        let allocators: BTreeSet<_> = ALLOCATORS.iter().map(|a| a.symbol).collect();
        assert_eq!(allocators.len(), ALLOCATORS.len());
        let writers: BTreeSet<_> = RANGE_WRITERS.iter().map(|w| w.symbol).collect();
        assert_eq!(writers.len(), RANGE_WRITERS.len());
    }

    #[test]
    fn only_caches_lack_a_size_and_name_a_cache() {
        for a in ALLOCATORS.iter().filter(|a| a.cache.is_some()) {
            assert_eq!((a.family, a.size), (Slab, None), "{}", a.symbol);
        }
    }
}
