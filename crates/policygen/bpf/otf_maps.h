/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps of the checks, and the constant that the loader sets. */
#ifndef OTF_MAPS_H
#define OTF_MAPS_H

#include "otf_state.h"

#define OTF_FREED_SETS		16384
#define OTF_FREED_WAYS		4
#define OTF_PENDING_SLOTS	4096

/* live objects with provenance: slab objects by start, others by each page */
struct OTF_MAP(BPF_MAP_TYPE_HASH, 65536, __u64, struct otf_object) otf_objects SEC(".maps");
struct OTF_MAP(BPF_MAP_TYPE_HASH, 16384, __u64, struct otf_object) otf_pages SEC(".maps");
/* entries of functions, per stack as otf_frames */
struct OTF_MAP(BPF_MAP_TYPE_LRU_HASH, 4096, __u64, struct otf_notes) otf_notes SEC(".maps");
/* starts of objects that had provenance and were freed: bounded, forgetting is only less precise */
struct otf_freed { __u64 addr[OTF_FREED_WAYS]; };	/* the latest first */
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, OTF_FREED_SETS, __u32, struct otf_freed) otf_freed SEC(".maps");
/* sizes on their way from an allocation call to its return, by stack pointer; in the map where the slot is taken */
struct otf_pending_slot { __u64 sp, size; };
struct OTF_MAP(BPF_MAP_TYPE_ARRAY, OTF_PENDING_SLOTS, __u32, struct otf_pending_slot) otf_pending_slots SEC(".maps");
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

/* otf_guard.ko: verdicts that it keeps */
extern void otf_guard_begin(__u64 object, __u64 page) __ksym __weak;
extern void otf_guard_keep(__u64 start, __u64 length) __ksym __weak;
extern void otf_guard_forget(__u64 addr) __ksym __weak;

static __always_inline struct otf_freed *otf_freed_of(__u64 addr)
{
	__u32 row = addr * OTF_HASH_FACTOR >> 50;

	return bpf_map_lookup_elem(&otf_freed, &row);
}

static __always_inline void otf_note_freed(__u64 addr)
{
	struct otf_freed *set = otf_freed_of(addr);
	int i;

	if (!set)
		return;
	for (i = OTF_FREED_WAYS - 1; i > 0; i--)
		set->addr[i] = set->addr[i - 1];
	set->addr[0] = addr;
}

static __always_inline void otf_note_obtained(__u64 addr)
{
	struct otf_freed *set = otf_freed_of(addr);
	int i;

	for (i = 0; set && i < OTF_FREED_WAYS; i++)
		if (set->addr[i] == addr)
			set->addr[i] = 0;
}

static __always_inline bool otf_was_freed(__u64 addr)
{
	struct otf_freed *set = otf_freed_of(addr);
	int i;

	for (i = 0; set && i < OTF_FREED_WAYS; i++)
		if (set->addr[i] == addr)
			return true;
	return false;
}

/* the slot of a stack pointer; stacks are as large as they are aligned, their ends are used most */
static __always_inline struct otf_pending_slot *otf_pending_of(__u64 sp)
{
	__u32 row = sp * OTF_HASH_FACTOR >> 52;

	return bpf_map_lookup_elem(&otf_pending_slots, &row);
}

#endif
