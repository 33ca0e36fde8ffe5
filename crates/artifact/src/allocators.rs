//! The kernel's base allocators, 6.1 to 6.12, by the name that object files use.
//!
//! Wrappers around them (`kzalloc`, `kcalloc`, `sock_kmalloc`, …) are not listed: the analyzer
//! finds them as functions that return what one of these returned. 6.10 and later spell most of
//! the names with `_noprof`.

use crate::analysis::Family;

/// How one allocator is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocator {
    /// Symbol.
    pub symbol: &'static str,
    /// What kind of memory it gives out.
    pub family: Family,
    /// Argument (from 0) with the `struct kmem_cache *`.
    pub cache_argument: Option<u8>,
    /// Argument with the size in bytes, or with the page order if `is_order`.
    pub size_argument: Option<u8>,
    /// Argument that the size is multiplied with.
    pub count_argument: Option<u8>,
    /// `size_argument` is a page order.
    pub is_order: bool,
    /// Size in bytes where the allocator has no argument for it.
    pub size: Option<u64>,
    /// The value returned is a `struct page *` (or folio), not the address of the memory.
    pub returns_page: bool,
}

/// The allocator with this symbol.
pub fn find(symbol: &str) -> Option<&'static Allocator> {
    // Sorted by symbol: a test holds that.
    ALLOCATORS
        .binary_search_by(|a| a.symbol.cmp(symbol))
        .ok()
        .map(|row| &ALLOCATORS[row])
}

const fn row(symbol: &'static str, family: Family, size_argument: Option<u8>) -> Allocator {
    Allocator {
        symbol,
        family,
        cache_argument: None,
        size_argument,
        count_argument: None,
        is_order: false,
        size: None,
        returns_page: false,
    }
}

/// The size is that of the cache's objects.
const fn slab(symbol: &'static str) -> Allocator {
    Allocator {
        cache_argument: Some(0),
        ..row(symbol, Family::Slab, None)
    }
}

const fn kmalloc(symbol: &'static str, size: u8) -> Allocator {
    row(symbol, Family::Kmalloc, Some(size))
}

/// A string whose length is not an argument.
const fn string(symbol: &'static str) -> Allocator {
    row(symbol, Family::Kmalloc, None)
}

const fn kvmalloc(symbol: &'static str, size: u8) -> Allocator {
    row(symbol, Family::Kvmalloc, Some(size))
}

const fn vmalloc(symbol: &'static str) -> Allocator {
    row(symbol, Family::Vmalloc, Some(0))
}

const fn vmalloc_array(symbol: &'static str) -> Allocator {
    Allocator {
        count_argument: Some(1),
        ..vmalloc(symbol)
    }
}

/// Returns the address of the pages.
const fn order(symbol: &'static str) -> Allocator {
    Allocator {
        is_order: true,
        ..row(symbol, Family::Pages, Some(1))
    }
}

/// Returns the `struct page` of the pages.
const fn page(symbol: &'static str) -> Allocator {
    Allocator {
        returns_page: true,
        ..order(symbol)
    }
}

/// One zeroed page.
const fn zeroed(symbol: &'static str) -> Allocator {
    Allocator {
        size: Some(4096),
        ..row(symbol, Family::Pages, None)
    }
}

/// Every base allocator, sorted by symbol.
pub const ALLOCATORS: &[Allocator] = &[
    page("__alloc_pages"),
    page("__alloc_pages_noprof"),
    page("__folio_alloc"),
    page("__folio_alloc_noprof"),
    order("__get_free_pages"),
    kmalloc("__kmalloc", 0),
    kmalloc("__kmalloc_cache_node_noprof", 3),
    kmalloc("__kmalloc_cache_noprof", 2),
    kmalloc("__kmalloc_large_node_noprof", 0),
    kmalloc("__kmalloc_large_noprof", 0),
    kmalloc("__kmalloc_node", 0),
    kmalloc("__kmalloc_node_noprof", 0),
    kmalloc("__kmalloc_node_track_caller", 0),
    kmalloc("__kmalloc_node_track_caller_noprof", 0),
    kmalloc("__kmalloc_noprof", 0),
    kmalloc("__kmalloc_track_caller", 0),
    kvmalloc("__kvmalloc_node_noprof", 0),
    row("__napi_alloc_frag_align", Family::Pages, Some(0)),
    row("__netdev_alloc_frag_align", Family::Pages, Some(0)),
    row("__page_frag_alloc_align", Family::Pages, Some(1)),
    vmalloc_array("__vcalloc"),
    vmalloc_array("__vcalloc_noprof"),
    vmalloc("__vmalloc"),
    vmalloc_array("__vmalloc_array"),
    vmalloc_array("__vmalloc_array_noprof"),
    vmalloc("__vmalloc_node"),
    vmalloc("__vmalloc_node_noprof"),
    vmalloc("__vmalloc_node_range"),
    vmalloc("__vmalloc_node_range_noprof"),
    vmalloc("__vmalloc_noprof"),
    page("alloc_pages"),
    row("alloc_pages_exact", Family::Pages, Some(0)),
    row("alloc_pages_exact_noprof", Family::Pages, Some(0)),
    page("alloc_pages_mpol_noprof"),
    page("alloc_pages_noprof"),
    page("folio_alloc"),
    page("folio_alloc_noprof"),
    order("get_free_pages_noprof"),
    zeroed("get_zeroed_page"),
    zeroed("get_zeroed_page_noprof"),
    string("kasprintf"),
    kmalloc("kmalloc_large", 0),
    kmalloc("kmalloc_large_node", 0),
    kmalloc("kmalloc_node_trace", 3),
    kmalloc("kmalloc_trace", 2),
    slab("kmem_cache_alloc"),
    slab("kmem_cache_alloc_lru"),
    slab("kmem_cache_alloc_lru_noprof"),
    slab("kmem_cache_alloc_node"),
    slab("kmem_cache_alloc_node_noprof"),
    slab("kmem_cache_alloc_noprof"),
    kmalloc("kmemdup", 1),
    Allocator {
        count_argument: Some(2),
        ..kmalloc("kmemdup_array", 1)
    },
    kmalloc("kmemdup_noprof", 1),
    string("kmemdup_nul"),
    kmalloc("krealloc", 1),
    kmalloc("krealloc_noprof", 1),
    string("kstrdup"),
    string("kstrndup"),
    string("kvasprintf"),
    kvmalloc("kvmalloc_node", 0),
    kvmalloc("kvmemdup", 1),
    kvmalloc("kvrealloc", 2),
    kvmalloc("kvrealloc_noprof", 1),
    kmalloc("memdup_user", 1),
    string("memdup_user_nul"),
    row("page_frag_alloc_align", Family::Pages, Some(1)),
    row("pcpu_alloc", Family::PerCpu, Some(0)),
    row("pcpu_alloc_noprof", Family::PerCpu, Some(0)),
    vmalloc_array("vcalloc"),
    vmalloc_array("vcalloc_noprof"),
    vmalloc("vmalloc"),
    vmalloc("vmalloc_32"),
    vmalloc("vmalloc_32_noprof"),
    vmalloc("vmalloc_32_user"),
    vmalloc("vmalloc_32_user_noprof"),
    vmalloc_array("vmalloc_array"),
    vmalloc_array("vmalloc_array_noprof"),
    vmalloc("vmalloc_huge"),
    vmalloc("vmalloc_huge_noprof"),
    vmalloc("vmalloc_node"),
    vmalloc("vmalloc_node_noprof"),
    vmalloc("vmalloc_noprof"),
    vmalloc("vmalloc_user"),
    vmalloc("vmalloc_user_noprof"),
    kvmalloc("vmemdup_user", 1),
    vmalloc("vzalloc"),
    vmalloc("vzalloc_node"),
    vmalloc("vzalloc_node_noprof"),
    vmalloc("vzalloc_noprof"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_and_unique() {
        for pair in ALLOCATORS.windows(2) {
            assert!(pair[0].symbol < pair[1].symbol, "{}", pair[1].symbol);
        }
    }

    #[test]
    fn found_by_symbol() {
        let cached = find("__kmalloc_cache_noprof").unwrap();
        assert_eq!(
            (cached.family, cached.size_argument),
            (Family::Kmalloc, Some(2))
        );
        assert!(find("alloc_pages_noprof").unwrap().returns_page);
        assert_eq!(find("kfree"), None);
    }
}
