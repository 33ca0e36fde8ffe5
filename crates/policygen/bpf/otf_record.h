/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a recording keeps: crates/artifact/src/recorder.rs mirrors it, a test
 * compares the two. Everything is counted, nothing is judged here.
 */
#ifndef OTF_RECORD_H
#define OTF_RECORD_H

#include "otf_state.h"

#define OTF_CHAIN 10	/* frames that are kept of an allocation's call chain */

struct otf_chain {		/* who allocates, innermost first; 0 where the chain ends */
	__u64 frame[OTF_CHAIN];
	__u64 given;		/* bytes given out */
};

struct otf_chain_use {
	__u64 cache;		/* of the first object, 0: no slab */
	__u64 count, least, most;	/* bytes requested */
	__u32 id, pad;		/* from 1 */
};

struct otf_born {		/* a live object: slab objects by start, others by each page */
	__u64 start, requested;
	__u32 chain, pad;
};

enum otf_seen_flags {
	OTF_SEEN_DEAD = 1,	/* stack: below the stack pointer */
	OTF_SEEN_IN_FRAME = 2,	/* stack: in the frame of the function */
	OTF_SEEN_NO_FRAME = 4,	/* stack: where the frame ends is not known */
	OTF_SEEN_IN_GATE = 8,	/* stack: below the outermost gate */
	OTF_SEEN_NO_GATE = 16,	/* stack: no gate is known */
	OTF_SEEN_GENERAL = 32,	/* slab: a kmalloc cache */
	OTF_SEEN_KFENCE = 64,	/* slab: in the KFENCE pool */
	OTF_SEEN_BOUNDED = 128,	/* pages, vmalloc: start and size are known */
};

struct otf_seen {		/* a site and what it wrote */
	__u64 object;		/* slab: the cache; global: the address */
	__u64 offset;		/* in the object */
	__u64 size;		/* usable bytes of the object */
	__u32 site, chain;	/* rows; chain 0: allocated before the recording */
	__u8 class, flags;
	__u8 pad[6];
};

struct otf_seen_use {
	__u64 count;
	__u64 length;		/* greatest */
	__s64 rest;		/* least, from the end of the write to the end of what was requested */
};

struct otf_called { __u64 target; __u32 call, pad; };

enum otf_lost {
	OTF_LOST_PAIRS,		/* map full or busy */
	OTF_LOST_CALLS,
	OTF_LOST_OBJECTS,
	OTF_LOST_CHAINS,
	OTF_LOST_TARGETS,	/* the target of a call could not be read */
	OTF_LOST_COOKIES,	/* a probe without a row: a bug */
	OTF_LOST_MAX,
};

struct OTF_MAP(BPF_MAP_TYPE_HASH, 262144, struct otf_seen, struct otf_seen_use) otf_seen SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 65536, struct otf_called, __u64) otf_called SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 65536, struct otf_chain, struct otf_chain_use) otf_chains SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 524288, __u64, struct otf_born) otf_born SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 524288, __u64, struct otf_born) otf_born_pages SEC(".maps");
/* caches whose objects were written, named when that was first seen */
struct OTF_MAP(BPF_MAP_TYPE_HASH, 1024, __u64, struct otf_cache) otf_seen_caches SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, __u32) otf_last_chain SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_PERCPU_ARRAY, OTF_LOST_MAX, __u32, __u64) otf_lost SEC(".maps");
/* arrays on their way through kmem_cache_alloc_bulk, by stack pointer */
struct otf_bulk { __u64 array, count; };
struct OTF_MAP(BPF_MAP_TYPE_LRU_HASH, 4096, __u64, struct otf_bulk) otf_bulks SEC(".maps");

static __always_inline void otf_lose(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&otf_lost, &which);

	if (n)
		*n += 1;
}

#endif
