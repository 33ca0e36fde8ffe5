/* SPDX-License-Identifier: GPL-2.0-only */
/* What checks and recordings share: state, counters, what the loader binds. */
#ifndef OTF_STATE_H
#define OTF_STATE_H

#include "otf_abi.h"
#include "otf_kernel.h"

#define OTF_MAP(kind, entries, ktype, vtype) \
	{ __uint(type, kind); __uint(max_entries, entries); __type(key, ktype); __type(value, vtype); }

struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, struct otf_state) otf_state SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_LRU_HASH, 4096, __u64, struct otf_frames) otf_frames SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_PERCPU_ARRAY, OTF_COUNT_MAX, __u32, __u64) otf_counters SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1024, __u32, struct otf_cache) otf_slab_caches SEC(".maps");
/* sized by the loader to the rows of the plan */
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, struct otf_site_count) otf_site_counts SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, struct otf_range) otf_globals SEC(".maps");

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
