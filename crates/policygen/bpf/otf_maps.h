/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps of the checks, and the constant that the loader sets. */
#ifndef OTF_MAPS_H
#define OTF_MAPS_H

#include "otf_state.h"

/* live objects with provenance: slab objects by start, others by each page */
struct OTF_MAP(BPF_MAP_TYPE_HASH, 65536, __u64, struct otf_object) otf_objects SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 16384, __u64, struct otf_object) otf_pages SEC(".maps");
/* entries of functions, per stack as otf_frames */
struct OTF_MAP(BPF_MAP_TYPE_LRU_HASH, 4096, __u64, struct otf_notes) otf_notes SEC(".maps");
/* starts of objects that had provenance and were freed: bounded, forgetting is only less precise */
struct OTF_MAP(BPF_MAP_TYPE_LRU_HASH, 65536, __u64, __u32) otf_freed SEC(".maps");
/* sizes on their way from an allocation call to its return, by stack pointer */
struct OTF_MAP(BPF_MAP_TYPE_LRU_HASH, 4096, __u64, __u64) otf_pending SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 4096, __u64, struct otf_quarantine) otf_quarantined SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 4096, __u64, __u64) otf_quarantine_objects SEC(".maps");
/* whether anything was ever in quarantine: gates ask it first */
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, __u32) otf_any_quarantine SEC(".maps");
/* sized by the loader to the rows of the plan */
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, 1, __u32, __u64) otf_caches SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 1, struct otf_target, __u8) otf_targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} otf_events SEC(".maps");

/* set to 1 by the loader when the action is deny; otherwise the kfuncs are dead code */
const volatile __u8 otf_with_guard = 0;

#endif
