/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The verdict on one write: first the class of the address, then the layout
 * rule, then provenance. Nothing here acts; otf.bpf.c does.
 */
#ifndef OTF_CHECK_H
#define OTF_CHECK_H

#include "otf_frames.h"
#include "otf_maps.h"
#include "otf_memory.h"
#include "otf_notes.h"
#include "otf_tables.h"

struct otf_verdict {
	__u64 object, size;	/* object at the address, 0: none */
	__u64 cache;
	__u32 alloc;		/* of its record, or ~0 */
	__u8 class, reason;
	__u8 rules;		/* enum otf_rule */
	bool weak;		/* allowed by a wide rule alone */
	bool kept;		/* what follows may be kept: it was asked for before anything was looked at */
	__u64 from, to;		/* any write of the site within is as legal, until something there is freed */
};

/* whether a cache is one of kmalloc; asked only where it matters */
enum otf_general { OTF_GENERAL_UNKNOWN, OTF_GENERAL_NO, OTF_GENERAL_YES };

/* one walk over the places of a legal set */
struct otf_walk {
	__u64 offset, length;	/* of the write in the object */
	__u64 size;		/* of the object */
	__u64 cache;		/* its slab cache, 0: pages or vmalloc */
	__u32 first;
	__u32 alloc;		/* allocation site of its record, or ~0 */
	__u8 general;		/* enum otf_general */
	bool fits;		/* out: some place has room for the write */
	bool tracked;		/* out: every place that fits is tracked by provenance */
	bool allowed;		/* out: a place that fits allows the allocation site */
	__u64 from, to;		/* out: the room of that place in the object */
};

static __always_inline bool otf_walks_general(struct otf_walk *w)
{
	if (w->general == OTF_GENERAL_UNKNOWN)
		w->general = w->cache && otf_is_general(w->cache) ? OTF_GENERAL_YES : OTF_GENERAL_NO;
	return w->general == OTF_GENERAL_YES;
}

/* in otf_caches: not there at load, but perhaps made later, so that any cache may be it */
#define OTF_CACHE_ABSENT	(~0ULL)

static __always_inline bool otf_cache_fits(const struct otf_place *p, struct otf_walk *w)
{
	__u32 row = p->cache;
	__u64 *cache;

	if (!w->cache)
		return row == OTF_CACHE_GENERAL || row == OTF_CACHE_NONE;
	if (row == OTF_CACHE_GENERAL)
		return otf_walks_general(w);
	if (row == OTF_CACHE_ANY)
		return true;
	cache = bpf_map_lookup_elem(&otf_caches, &row);
	return cache && (*cache == w->cache || *cache == OTF_CACHE_ABSENT);
}

static __always_inline bool otf_place_fits(const struct otf_place *p, struct otf_walk *w)
{
	__u64 offset = w->offset, n;
	int d;

	if (w->size < p->object_min)
		return false;
	/*
	 * A slab object is as large as its cache. The largest padding is that of
	 * kmalloc: less than the next power of two, or the next page for large ones.
	 */
	if (p->object_max && w->size >= 2 * p->object_max && w->size > 64 && otf_walks_general(w))
		return false;
	if (offset < p->offset)
		return false;
	if (!otf_cache_fits(p, w))
		return false;
	offset -= p->offset;
	for (d = 0; d < 2; d++) {
		if (!p->stride[d])
			continue;
		n = offset / p->stride[d];
		if (p->count[d] && n >= p->count[d])
			return false;
		offset -= n * p->stride[d];
	}
	if (offset >= p->size || w->length > p->size - offset)
		return false;
	w->from = w->offset - offset;
	w->to = w->from + p->size;
	return true;
}

static long otf_walk_place(__u32 i, struct otf_walk *w)
{
	__u32 row = w->first + i;
	const struct otf_place *p;
	__u64 all = 0;
	int k;

	if (row >= otf_nplaces)
		return 1;
	p = &otf_places[row];
	if (!otf_place_fits(p, w))
		return 0;
	w->fits = true;
	for (k = 0; k < OTF_ALLOC_WORDS; k++)
		all |= p->allocations[k];
	if (!all) {
		w->tracked = false;
		return 1;
	}
	if (w->alloc < 64 * OTF_ALLOC_WORDS &&
	    p->allocations[w->alloc / 64] & (1ULL << (w->alloc % 64))) {
		w->allowed = true;
		return 1;
	}
	return 0;
}

/* whether some place, wherever it lies, allows the allocation site */
static long otf_walk_allocation(__u32 i, struct otf_walk *w)
{
	__u32 row = w->first + i;
	__u64 all = 0;
	int k;

	if (row >= otf_nplaces)
		return 1;
	for (k = 0; k < OTF_ALLOC_WORDS; k++)
		all |= otf_places[row].allocations[k];
	w->allowed = !all || (w->alloc < 64 * OTF_ALLOC_WORDS &&
			      otf_places[row].allocations[w->alloc / 64] & (1ULL << (w->alloc % 64)));
	return w->allowed;
}

/* what provenance says where the layout rule has refused already */
static __always_inline __u8 otf_provenance_alone(const struct otf_legal *l, struct otf_walk *w,
						 const struct otf_verdict *v,
						 const struct otf_object *record)
{
	if (!l->places || l->flags & OTF_LEGAL_ANY_HEAP)
		return 0;
	if (!record)
		return otf_was_freed(v->object) ? OTF_RULE_PROVENANCE : 0;
	if (w->offset + w->length > record->size)
		return OTF_RULE_PROVENANCE;
	w->first = l->first_place;
	w->allowed = false;
	bpf_loop(l->places, otf_walk_allocation, w, 0);
	return w->allowed ? 0 : OTF_RULE_PROVENANCE;
}

/* a cache of the compartment's own heap; word by word, for a buffer would be too much for the stack */
static __always_inline bool otf_is_own_cache(__u64 cache)
{
	__u64 word, name = (__u64)OTF_READ((struct kmem_cache *)cache, name);
	__u32 i;

	for (i = 0; i < OTF_MAX_NAME_WORDS; i++) {
		if (i >= otf_own_caches_count)
			return true;
		if (bpf_probe_read_kernel(&word, sizeof(word), (void *)(name + 8 * i)) ||
		    (word ^ otf_own_caches[i].word) & otf_own_caches[i].mask)
			return false;
	}
	return otf_own_caches_count == OTF_MAX_NAME_WORDS;
}

/*
 * Freed for certain, though nobody knows who else may have obtained the memory since: a private heap
 * gives it to the compartment alone, and all that it gives is recorded.
 */
static __always_inline bool otf_is_gone(const struct otf_walk *w, const struct otf_verdict *v,
					const struct otf_object *record)
{
	return otf_own_caches_count && !record && w->cache &&
	       otf_was_freed(v->object) && otf_is_own_cache(w->cache);
}

/* a write within the object is as legal as this one, within these bounds too */
static __always_inline void otf_keep(struct otf_verdict *v, const struct otf_walk *w, __u64 from,
				     __u64 to)
{
	v->from = v->object + from;
	v->to = v->object + (to < w->size ? to : w->size);
}

/* the layout rule and provenance on an object whose bounds are known */
static __noinline void otf_check_object(const struct otf_legal *l, struct otf_walk *w,
					struct otf_verdict *v, const struct otf_object *record)
{
	if (w->offset >= w->size || w->length > w->size - w->offset) {
		v->reason = OTF_BAD_BOUNDS;
		v->rules = OTF_RULE_LAYOUT | otf_provenance_alone(l, w, v, record);
		return;
	}
	if (otf_is_gone(w, v, record)) {
		v->reason = OTF_FREED;
		v->rules = OTF_RULE_PROVENANCE;
		return;
	}
	if (l->flags & OTF_LEGAL_ANY_HEAP) {
		v->weak = true;
		otf_keep(v, w, 0, w->size);
		return;
	}
	if (!l->places) {
		v->reason = OTF_BAD_CLASS;
		return;
	}
	w->first = l->first_place;
	w->fits = w->allowed = false;
	w->tracked = true;
	bpf_loop(l->places, otf_walk_place, w, 0);
	if (!w->fits) {
		v->reason = OTF_BAD_LAYOUT;
		v->rules = OTF_RULE_LAYOUT | otf_provenance_alone(l, w, v, record);
		return;
	}
	if (!w->tracked) {
		otf_keep(v, w, w->from, w->to);
		return;
	}
	v->rules = OTF_RULE_PROVENANCE;	/* if anything is wrong below */
	/* a dedicated cache says itself what its objects are; general ones need the record */
	if (record) {
		if (!w->allowed)
			v->reason = OTF_BAD_PROVENANCE;
		else if (w->offset + w->length > record->size)
			v->reason = OTF_BAD_BOUNDS;
		else
			otf_keep(v, w, w->from, w->to < record->size ? w->to : record->size);
		return;
	}
	if (otf_was_freed(v->object))
		v->reason = OTF_FREED;
	else if (!w->cache || otf_walks_general(w))
		v->reason = OTF_UNKNOWN;
	else
		otf_keep(v, w, w->from, w->to);
}

static __always_inline void otf_check_slab(const struct otf_state *st, const struct otf_legal *l,
					   __u64 head, __u64 addr, __u64 length,
					   struct otf_verdict *v)
{
	struct otf_slab s = {};
	struct otf_walk w = {};
	struct otf_object *record;

	v->class = OTF_CLASS_SLAB;
	otf_find_slab(st, head, addr, &s);
	v->cache = s.cache;
	v->object = s.object;
	v->size = s.size;
	if (!s.cache || addr < s.object) {
		v->reason = OTF_BAD_BOUNDS;
		return;
	}
	w.offset = addr - s.object;
	w.length = length;
	w.size = s.size;
	w.cache = s.cache;
	if (otf_with_guard) {
		otf_guard_begin(s.object, otf_page_address(st, head));
		/* a free from here on is seen by the guard; was there one before? */
		v->kept = otf_head_page(st, addr) == head && otf_page_is_slab(head) &&
			  otf_word(head + bpf_core_field_offset(struct slab, slab_cache)) == s.cache;
	}
	/* without the record, where it cannot change the verdict */
	if (!otf_own_caches_count && !(l->flags & OTF_LEGAL_TRACKED)) {
		w.alloc = ~0U;
		otf_check_object(l, &w, v, NULL);
		if (v->reason == OTF_OK)
			return;
		v->reason = OTF_OK;
	}
	record = bpf_map_lookup_elem(&otf_objects, &v->object);
	v->alloc = record ? record->alloc : ~0U;
	w.alloc = v->alloc;
	otf_check_object(l, &w, v, record);
}

/* pages of the linear map that are no slab, and vmalloc memory */
static __always_inline void otf_check_pages(const struct otf_state *st, const struct otf_legal *l,
					    __u64 head, __u64 addr, __u64 length,
					    struct otf_verdict *v)
{
	__u64 page = addr & ~(__u64)(OTF_PAGE_SIZE - 1);
	__u64 folio = head && otf_is_folio(head) ? otf_page_address(st, head) : 0;
	struct otf_walk w = {};
	struct otf_object *record;

	v->class = head ? OTF_CLASS_PAGES : OTF_CLASS_VMALLOC;
	if (otf_with_guard && folio)
		otf_guard_begin(folio, folio);
	record = bpf_map_lookup_elem(&otf_pages, &page);
	if (record) {
		v->object = record->start;
		v->size = record->size;
		v->alloc = record->alloc;
	} else if (folio) {
		v->object = folio;
		v->size = otf_folio_size(head);
	} else if (l->flags & (OTF_LEGAL_ANY_HEAP | OTF_LEGAL_PERCPU) ||
		   l->stack == OTF_STACK_ANY) {
		/* bounds unknown: another task's stack, a per-CPU chunk, any area, loose pages */
		v->weak = true;
		return;
	} else {
		v->reason = l->places ? OTF_UNKNOWN : OTF_BAD_CLASS;
		return;
	}
	w.offset = addr - v->object;
	w.length = length;
	w.size = v->size;
	w.alloc = v->alloc;
	otf_check_object(l, &w, v, record);
	/*
	 * What is recorded is freed as what was recorded; other folios may be split, and
	 * a record that is found now was not deleted before the guard was told.
	 */
	v->kept = record && v->object == folio;
}

struct otf_global_walk { __u64 start, end, from, to; __u32 first; bool found; };

static long otf_walk_global(__u32 i, struct otf_global_walk *w)
{
	__u32 at = w->first + i, row;
	struct otf_range *r;

	if (at >= otf_nglobal_rows)
		return 1;
	row = otf_global_rows[at];
	r = bpf_map_lookup_elem(&otf_globals, &row);
	if (!r || w->start < r->start || w->end > r->end)
		return 0;
	w->found = true;
	w->from = r->start;
	w->to = r->end;
	return 1;
}

static __always_inline void otf_check_global(const struct otf_legal *l, __u64 addr, __u64 end,
					     struct otf_verdict *v)
{
	struct otf_global_walk w = { .start = addr, .end = end, .first = l->first_global };

	v->class = OTF_CLASS_GLOBAL;
	/* a loop that the verifier knows to be empty leaves its callback unexplored, and the kernel trips over it */
	if (l->globals)
		bpf_loop(l->globals, otf_walk_global, &w, 0);
	if (w.found) {
		/* where any object will do, others share what is kept */
		if (otf_with_guard && !(l->flags & OTF_LEGAL_ANY_HEAP)) {
			v->from = w.from;
			v->to = w.to;
			v->kept = true;
			otf_guard_begin(w.from, w.from);	/* nobody frees it */
		}
		return;
	}
	if (l->flags & OTF_LEGAL_ANY_GLOBAL)
		v->weak = true;	/* read-only data and code fault on their own */
	else
		v->reason = OTF_BAD_GLOBAL;
}

/* return address, saved registers and stack protector's value of the own frame */
static __always_inline bool otf_hits_guarded(const struct otf_site *site, __u64 sp, __u64 addr,
					     __u64 end)
{
	__u64 ret = sp + site->frame_size, canary = ret - 8ULL * site->canary;

	if (!(site->flags & OTF_SITE_FRAME))
		return false;
	if (addr < ret + 8 && end > ret - 8ULL * site->saved)
		return true;
	return site->canary && addr < canary + 8 && end > canary;
}

/*
 * The stack that the store runs on. gate_sp: stack pointer noted at the entry
 * gate, 0: none. top: end of the stack.
 */
static __always_inline void otf_check_stack(const struct otf_site *site, __u8 rule, __u64 sp,
					    __u64 gate_sp, __u64 top, __u64 addr, __u64 end,
					    struct otf_verdict *v)
{
	__u64 limit = top;

	v->class = OTF_CLASS_STACK;
	switch (rule) {
	case OTF_STACK_NONE:
		v->reason = OTF_BAD_STACK;
		return;
	case OTF_STACK_OWN:
		if (site->flags & OTF_SITE_FRAME)
			limit = sp + site->frame_size;
		else
			v->weak = true;	/* the frame's end is not known, and the gate may have been missed */
		break;
	case OTF_STACK_COMPARTMENT:
		if (gate_sp)
			limit = gate_sp;
		else
			v->weak = true;
		break;
	default:
		v->weak = true;
		break;
	}
	/* below the stack pointer nothing is alive: x86-64 kernels have no red zone */
	if (addr < sp || end > limit || otf_hits_guarded(site, sp, addr, end))
		v->reason = OTF_BAD_STACK;
}

static __always_inline void otf_check(const struct otf_state *st, const struct otf_site *site,
				      const struct otf_legal *l, const struct otf_context *c,
				      __u64 addr, __u64 length, struct otf_verdict *v)
{
	__u64 end = addr + length, head = 0;
	__u8 rule = l->stack;

	if (!length)
		return;
	v->class = otf_classify(st, c, site->flags & OTF_SITE_PERCPU, addr, end, &head);
	switch (v->class) {
	case OTF_CLASS_PERCPU:
		if (l->flags & OTF_LEGAL_PERCPU)
			v->weak = true;
		else
			v->reason = OTF_BAD_CLASS;
		return;
	case OTF_CLASS_USER:
		if (!(l->flags & OTF_LEGAL_USER))
			v->reason = OTF_BAD_CLASS;
		return;
	case OTF_CLASS_STACK:
		/* where any stack will do, so does theirs */
		if (l->passed && rule != OTF_STACK_ANY) {
			switch (otf_find_passed(l, c->key, c->sp, addr, end)) {
			case OTF_PASSED_INSIDE:
				return;
			case OTF_PASSED_UNKNOWN:
				/* the entry was not seen: loaded since, or missed */
				rule = rule > l->otherwise ? rule : l->otherwise;
				v->weak = true;
			}
		}
		if (addr >= c->stack && addr < c->top)
			otf_check_stack(site, rule, c->sp,
					rule == OTF_STACK_COMPARTMENT ? otf_outermost(c->key, c->sp) : 0,
					c->top, addr, end, v);
		else if (rule == OTF_STACK_ANY)
			v->weak = true;	/* interrupted task's: only a caller's object */
		else
			v->reason = OTF_BAD_STACK;
		return;
	case OTF_CLASS_GLOBAL:
		otf_check_global(l, addr, end, v);
		return;
	case OTF_CLASS_SLAB:
		if (head)
			otf_check_slab(st, l, head, addr, length, v);
		else if (l->flags & OTF_LEGAL_ANY_HEAP || l->places)
			v->weak = true;	/* KFENCE: objects lie at either end of a page: their place says nothing */
		else
			v->reason = OTF_BAD_CLASS;
		return;
	case OTF_CLASS_PAGES:
	case OTF_CLASS_VMALLOC:
		otf_check_pages(st, l, head, addr, length, v);
		return;
	default:
		/* struct page, for reference counts: nobody allocates these */
		if (end >= addr && addr >= st->vmemmap && addr < st->kernel_map &&
		    l->flags & OTF_LEGAL_ANY_HEAP)
			v->weak = true;
		else
			v->reason = OTF_BAD_ADDRESS;
	}
}

#endif
