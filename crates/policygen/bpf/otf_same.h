/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The same-object rule: a register of the operand points to a structure, and the write stays in the
 * object that this structure lies in, whatever the index.
 */
#ifndef OTF_SAME_H
#define OTF_SAME_H

#include "otf_check.h"

static __always_inline __u64 otf_pointer_of(struct pt_regs *ctx, __u8 pointer)
{
	switch (pointer) {
	case OTF_POINTER_AX: return OTF_REGISTER(ctx, ax);
	case OTF_POINTER_AX + 1: return OTF_REGISTER(ctx, dx);
	case OTF_POINTER_AX + 2: return OTF_REGISTER(ctx, cx);
	case OTF_POINTER_AX + 3: return OTF_REGISTER(ctx, bx);
	case OTF_POINTER_AX + 4: return OTF_REGISTER(ctx, si);
	case OTF_POINTER_AX + 5: return OTF_REGISTER(ctx, di);
	case OTF_POINTER_AX + 6: return OTF_REGISTER(ctx, bp);
	case OTF_POINTER_AX + 8: return OTF_REGISTER(ctx, r8);
	case OTF_POINTER_AX + 9: return OTF_REGISTER(ctx, r9);
	case OTF_POINTER_AX + 10: return OTF_REGISTER(ctx, r10);
	case OTF_POINTER_AX + 11: return OTF_REGISTER(ctx, r11);
	case OTF_POINTER_AX + 12: return OTF_REGISTER(ctx, r12);
	case OTF_POINTER_AX + 13: return OTF_REGISTER(ctx, r13);
	case OTF_POINTER_AX + 14: return OTF_REGISTER(ctx, r14);
	case OTF_POINTER_AX + 15: return OTF_REGISTER(ctx, r15);
	default: return 0;
	}
}

/* s: the slab object that the pointer leads to */
static __always_inline bool otf_leaves(const struct otf_slab *s, const struct otf_site *site,
				       __u64 pointer, __u64 addr, __u64 length)
{
	__u64 end = addr + length;

	if (!length || pointer < s->object)
		return false;
	if (addr >= s->object && end >= addr && end <= s->object + s->size)
		return false;
	/* C lets a pointer to an array's element lead to the one behind the last */
	return site->displacement > 0 || pointer != s->object || addr >= pointer;
}

/* Slab objects alone: what else a pointer leads to has its bounds in the other rules. */
static __noinline bool otf_leaves_object(const struct otf_state *st, const struct otf_site *site,
					 __u64 pointer, __u64 addr, __u64 length)
{
	struct otf_slab s = {};
	__u64 head;

	if (!otf_in_linear_map(st, pointer))
		return false;
	if (st->kfence && pointer - st->kfence < OTF_KFENCE_SIZE)
		return false;
	head = otf_head_page(st, pointer);
	if (!head || !otf_page_is_slab(head))
		return false;
	otf_find_slab(st, head, pointer, &s);
	return s.cache && otf_leaves(&s, site, pointer, addr, length);
}

/* adds to what the other rules say */
static __always_inline void otf_refuse_other_object(struct otf_verdict *v)
{
	v->rules |= OTF_RULE_SAME_OBJECT;
	if (v->reason == OTF_OK || v->reason == OTF_UNKNOWN)
		v->reason = OTF_OTHER_OBJECT;
}

#endif
