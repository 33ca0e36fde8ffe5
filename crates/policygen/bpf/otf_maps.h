/* SPDX-License-Identifier: GPL-2.0-only */
/* Maps, counters and the constants that the loader sets. */
#ifndef OTF_MAPS_H
#define OTF_MAPS_H

#include "otf_abi.h"
#include "otf_kernel.h"

#define OTF_MAP(kind, entries, ktype, vtype) \
	{ __uint(type, kind); __uint(max_entries, entries); __type(key, ktype); __type(value, vtype); }

struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, struct otf_state) otf_state SEC(".maps");
/* live objects with provenance: slab objects by start, others by each page */
struct OTF_MAP(BPF_MAP_TYPE_HASH, 65536, __u64, struct otf_object) otf_objects SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 16384, __u64, struct otf_object) otf_pages SEC(".maps");
/* starts of objects that had provenance and were freed: bounded, forgetting is only less precise */
struct OTF_MAP(BPF_MAP_TYPE_LRU_HASH, 65536, __u64, __u32) otf_freed SEC(".maps");
/* sizes on their way from an allocation call to its return, by stack pointer */
struct OTF_MAP(BPF_MAP_TYPE_LRU_HASH, 4096, __u64, __u64) otf_pending SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_LRU_HASH, 4096, __u64, struct otf_frames) otf_frames SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 4096, __u64, struct otf_quarantine) otf_quarantined SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 4096, __u64, __u64) otf_quarantine_objects SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_PERCPU_ARRAY, OTF_COUNT_MAX, __u32, __u64) otf_counters SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1024, __u32, struct otf_cache) otf_slab_caches SEC(".maps");
/* sized by the loader to the rows of the plan */
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, struct otf_site_count) otf_site_counts SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, struct otf_range) otf_globals SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, __u64) otf_caches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} otf_events SEC(".maps");

/* set to 1 by the loader when the action is deny; otherwise the kfuncs are dead code */
const volatile __u8 otf_with_guard = 0;

static __always_inline void otf_count(__u32 which)
{
	__u64 *n = bpf_map_lookup_elem(&otf_counters, &which);

	if (n)
		*n += 1;
}

static __always_inline struct otf_state *otf_get_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&otf_state, &zero);
}

#endif
