/* SPDX-License-Identifier: GPL-2.0-only */
/* The verdicts on where an indirect call and where the return of a gate lead. */
#ifndef OTF_FLOW_H
#define OTF_FLOW_H

#include "otf_check.h"
#include "otf_frames.h"

/* as far as can be told without knowing the function: the kernel's own code, where a call may land */
static __always_inline bool otf_is_entry(const struct otf_state *st, __u64 target)
{
	__u32 insn = 0;

	if (target < st->kernel_map)
		return false;
	if (!st->endbr)
		return true;
	return !bpf_probe_read_kernel(&insn, sizeof(insn), (void *)target) && insn == OTF_ENDBR64;
}

static __always_inline void otf_check_target(const struct otf_state *st, const struct otf_call *call,
					     __u64 target, struct otf_verdict *v)
{
	struct otf_target key = { .address = target, .set = call->targets };

	v->class = target >= st->kernel_map ? OTF_CLASS_GLOBAL : (__s64)target > 0 ?
		   OTF_CLASS_USER : OTF_CLASS_OTHER;
	if (bpf_map_lookup_elem(&otf_targets, &key))
		return;
	if (call->flags & OTF_CALL_WEAK && otf_is_entry(st, target))
		v->weak = true;
	else
		v->reason = OTF_BAD_TARGET;
}

/*
 * The frame of this gate, if it was entered at this stack pointer and is the
 * innermost one; whatever comes of it, it is over.
 */
static __always_inline bool otf_end_gate(struct otf_frames *frames, __u32 gate, __u64 sp,
					 struct otf_frame *frame)
{
	__u32 d;

	otf_pop(frames, sp);
	d = frames->depth - 1;
	if (d >= OTF_MAX_FRAMES || frames->frame[d].sp != sp || frames->frame[d].gate != gate)
		return false;
	*frame = frames->frame[d];
	frames->depth = d;
	return true;
}

#endif
