/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Arguments at the entries of functions, per stack: what they point to is all
 * that a write through them may change of a stack. There is no probe at the
 * exit: a note is over as the frame of a gate is.
 */
#ifndef OTF_NOTES_H
#define OTF_NOTES_H

#include "otf_maps.h"
#include "otf_tables.h"

static const struct otf_notes otf_no_notes;

static __always_inline bool otf_note_alive(const struct otf_note *n)
{
	return n->ret && otf_word(n->sp) == n->ret;
}

static __always_inline void otf_take_note(__u64 key, const struct otf_note *note)
{
	struct otf_notes *all = bpf_map_lookup_elem(&otf_notes, &key);
	__u32 d;
	int i;

	if (!all) {
		bpf_map_update_elem(&otf_notes, &key, &otf_no_notes, BPF_NOEXIST);
		all = bpf_map_lookup_elem(&otf_notes, &key);
		if (!all) {
			otf_count(OTF_COUNT_NOTES_LOST);
			return;
		}
	}
	/* those at or below this stack pointer have returned, so has one whose slot was used again */
	for (i = 0; i < OTF_MAX_NOTES; i++) {
		d = all->depth - 1;
		if (d >= OTF_MAX_NOTES ||
		    (all->note[d].sp > note->sp && otf_note_alive(&all->note[d])))
			break;
		all->depth = d;
	}
	d = all->depth;
	if (d >= OTF_MAX_NOTES) {
		otf_count(OTF_COUNT_NOTES_LOST);
		return;
	}
	all->note[d] = *note;
	all->depth = d + 1;
}

enum otf_passed_verdict { OTF_PASSED_UNKNOWN, OTF_PASSED_INSIDE, OTF_PASSED_OUTSIDE };

struct otf_passed_walk {
	__u64 key, sp, addr, end;
	__u32 first;
	__u32 verdict;
};

static long otf_walk_passed(__u32 i, struct otf_passed_walk *w)
{
	__u32 row = w->first + i;
	const struct otf_notes *all = bpf_map_lookup_elem(&otf_notes, &w->key);
	const struct otf_passed *p;
	int k;

	if (!all || row >= otf_npassed_objects)
		return 1;
	p = &otf_passed_objects[row];
	for (k = 0; k < OTF_MAX_NOTES; k++) {
		const struct otf_note *n = &all->note[k];
		__u64 start;

		if (k >= all->depth)
			break;
		if (n->function != p->function || n->sp < w->sp || p->argument >= OTF_ARGUMENTS ||
		    !otf_note_alive(n))
			continue;
		start = n->argument[p->argument];
		if (w->addr >= start && w->end - start <= p->size) {
			w->verdict = OTF_PASSED_INSIDE;
			return 1;
		}
		w->verdict = OTF_PASSED_OUTSIDE;
	}
	return 0;
}

/* whether a write lies in an object that a function was handed which has not returned yet */
static __always_inline __u32 otf_find_passed(const struct otf_legal *l, __u64 key, __u64 sp,
					     __u64 addr, __u64 end)
{
	struct otf_passed_walk w = { .key = key, .sp = sp, .addr = addr, .end = end,
				     .first = l->first_passed };

	if (l->passed)
		bpf_loop(l->passed, otf_walk_passed, &w, 0);
	return w.verdict;
}

#endif
