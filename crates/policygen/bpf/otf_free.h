/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The verdict on a free: the start of an object that may be written here, and
 * that was not freed before.
 */
#ifndef OTF_FREE_H
#define OTF_FREE_H

#include "otf_check.h"

static __always_inline void otf_check_free(const struct otf_state *st, const struct otf_legal *l,
					   const struct otf_context *c, __u64 addr,
					   struct otf_verdict *v)
{
	__u64 head = 0, page = addr & ~(__u64)(OTF_PAGE_SIZE - 1);
	struct otf_object *record;
	struct otf_slab s = {};

	v->class = otf_classify(st, c, false, addr, addr + 1, &head);
	/* NULL and ZERO_SIZE_PTR; before 6.2 kfree_rcu passed an offset instead of the object */
	if (addr < OTF_PAGE_SIZE)
		return;
	switch (v->class) {
	case OTF_CLASS_SLAB:
		if (!head) {
			v->weak = true;	/* KFENCE */
			return;
		}
		otf_find_slab(st, head, addr, &s);
		if (addr == s.object) {
			otf_check_slab(st, l, head, addr, 1, v);
			return;
		}
		v->cache = s.cache;
		v->object = s.object;
		v->size = s.size;
		break;
	case OTF_CLASS_PAGES:
		/* large objects are whole folios; loose pages are not from kmalloc */
		if (!otf_is_folio(head))
			break;
		if (addr == otf_page_address(st, head)) {
			otf_check_pages(st, l, head, addr, 1, v);
			return;
		}
		v->object = otf_page_address(st, head);
		v->size = otf_folio_size(head);
		break;
	case OTF_CLASS_VMALLOC:
		record = bpf_map_lookup_elem(&otf_pages, &page);
		if (!record || record->start == addr) {
			otf_check_pages(st, l, 0, addr, 1, v);
			return;
		}
		v->object = record->start;
		v->size = record->size;
		break;
	default:
		break;
	}
	v->reason = OTF_BAD_FREE;
}

#endif
