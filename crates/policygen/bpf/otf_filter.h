/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How many objects are remembered whose address falls into a slot: what is freed
 * and falls into an empty one is no business of ours. Counts are never too low;
 * one that is too high costs a look into the maps. The guard reads it too.
 */
#ifndef OTF_FILTER_H
#define OTF_FILTER_H

#include "otf_state.h"

__u32 otf_filter[OTF_FILTER_SLOTS] SEC(".bss.filter");

static __always_inline __u32 *otf_filter_slot(__u64 addr)
{
	return &otf_filter[addr * OTF_HASH_FACTOR >> 48];
}

/* before the object gets into a map */
static __always_inline void otf_track(__u64 addr)
{
	__sync_fetch_and_add(otf_filter_slot(addr), 1);
}

/* after it was taken out */
static __always_inline void otf_untrack(__u64 addr)
{
	__sync_fetch_and_sub(otf_filter_slot(addr), 1);
}

static __always_inline bool otf_is_tracked(__u64 addr)
{
	return *(volatile __u32 *)otf_filter_slot(addr);
}

#endif
