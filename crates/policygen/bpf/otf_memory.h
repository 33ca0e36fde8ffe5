/* SPDX-License-Identifier: GPL-2.0-only */
/* What lies at an address: page, slab, object bounds. Reads kernel memory, writes nothing. */
#ifndef OTF_MEMORY_H
#define OTF_MEMORY_H

#include "otf_state.h"

struct otf_slab {
	__u64 cache;		/* struct kmem_cache, 0: not a slab page */
	__u64 object, size;	/* start and usable bytes of the object at the address */
};

static __always_inline __u64 otf_page_of(const struct otf_state *st, __u64 addr)
{
	return st->vmemmap + ((addr - st->page_offset) >> OTF_PAGE_SHIFT) *
	       bpf_core_type_size(struct page);
}

static __always_inline __u64 otf_page_address(const struct otf_state *st, __u64 page)
{
	return st->page_offset + (((page - st->vmemmap) / bpf_core_type_size(struct page)) <<
				  OTF_PAGE_SHIFT);
}

/* head page of the folio that holds the address; 0 in a hole of the memory map */
static __always_inline __u64 otf_head_page(const struct otf_state *st, __u64 addr)
{
	__u64 page = otf_page_of(st, addr);
	__u64 head = otf_word(page + bpf_core_field_offset(struct page, compound_head));

	/* two words of nothing: is it mapped at all? */
	if (!head && !otf_word(page)) {
		__u64 flags;

		if (bpf_probe_read_kernel(&flags, sizeof(flags), (void *)page))
			return 0;
	}
	return head & 1 ? head - 1 : page;
}

static __always_inline bool otf_page_is_slab(__u64 page)
{
	__u32 type;

	/* before 6.12 a flag says so */
	if (bpf_core_enum_value_exists(enum pageflags___otf, PG_slab___otf))
		return otf_word(page) & (1UL << bpf_core_enum_value(enum pageflags___otf,
								    PG_slab___otf));
	type = OTF_READ((struct page *)page, page_type);
	return type >> 24 == bpf_core_enum_value(enum pagetype___otf, PGTY_slab___otf);
}

/* several pages under one head; without it, pages that were allocated together do not know it */
static __always_inline bool otf_is_folio(__u64 head)
{
	/* the flags are the first word of every struct page, whatever their type */
	return otf_word(head) & (1UL << bpf_core_enum_value(enum pageflags___otf, PG_head___otf));
}

/* bytes of the folio that starts at a head page */
static __always_inline __u64 otf_folio_size(__u64 head)
{
	if (!otf_is_folio(head))
		return OTF_PAGE_SIZE;
	if (bpf_core_field_exists(struct folio___order, _folio_order))
		return (__u64)OTF_PAGE_SIZE <<
		       (OTF_READ((struct folio___order *)head, _folio_order) & 0x3f);
	return (__u64)OTF_PAGE_SIZE << (OTF_READ((struct folio *)head, _flags_1) & 0xff);
}

/* caches of memdup_user and msg_msg: kmalloc by size, but each user its own */
static __always_inline bool otf_is_bucket(struct kmem_cache *cache)
{
	char name[12] = {};

	if (bpf_probe_read_kernel(name, sizeof(name), BPF_CORE_READ(cache, name)))
		return false;
	return !__builtin_memcmp(name, "memdup_user-", 12) || !__builtin_memcmp(name, "msg_msg-", 8);
}

static __always_inline void otf_find_slab(const struct otf_state *st, __u64 head, __u64 addr,
					  struct otf_slab *s)
{
	__u64 address = otf_word(head + bpf_core_field_offset(struct slab, slab_cache));
	struct kmem_cache *cache = (void *)address;
	__u64 base = otf_page_address(st, head);
	__u32 size = OTF_READ(cache, size);

	s->cache = address;
	if (!size) {
		s->cache = 0;
		return;
	}
	s->object = base + (addr - base) / size * size + OTF_READ(cache, red_left_pad);
	s->size = OTF_READ(cache, object_size);
}

/* a kmalloc cache */
static __always_inline bool otf_is_general(__u64 cache)
{
	struct kmem_cache *s = (void *)cache;
	__u32 kmalloc = OTF_SLAB_KMALLOC;

	if (bpf_core_enum_value_exists(enum _slab_flag_bits___otf, _SLAB_KMALLOC___otf))
		kmalloc = 1U << bpf_core_enum_value(enum _slab_flag_bits___otf, _SLAB_KMALLOC___otf);
	return OTF_READ(s, flags) & kmalloc || otf_is_bucket(s);
}

static __always_inline bool otf_in_linear_map(const struct otf_state *st, __u64 addr)
{
	return addr >= st->page_offset && addr < st->vmalloc_start;
}

/*
 * Whether an address is on no stack for sure: stacks that are mapped page by page
 * (CONFIG_VMAP_STACK) all are, those of interrupts too.
 */
static __always_inline bool otf_is_off_stacks(const struct otf_state *st, __u64 addr, __u64 sp)
{
	return otf_in_linear_map(st, addr) && !otf_in_linear_map(st, sp);
}

/* where the store runs; but for sp only where the address may be on a stack */
struct otf_context {
	__u64 sp;
	__u64 stack, top;	/* bounds of the stack it runs on */
	__u64 task_stack;	/* of current; another one in an interrupt */
	__u64 key;		/* of the stack in otf_frames and otf_notes */
};

/*
 * What lies at an address. head: head page of slabs and pages; 0 for a slab
 * object in the KFENCE pool.
 */
static __always_inline __u8 otf_classify(const struct otf_state *st, const struct otf_context *c,
					 bool per_cpu, __u64 addr, __u64 end, __u64 *head)
{
	if (end < addr)
		return OTF_CLASS_OTHER;
	if (per_cpu)
		return OTF_CLASS_PERCPU;
	if ((__s64)addr > 0)
		return OTF_CLASS_USER;
	if (!otf_is_off_stacks(st, addr, c->sp) &&
	    ((addr >= c->stack && addr < c->top) || addr - c->task_stack < OTF_THREAD_SIZE))
		return OTF_CLASS_STACK;
	if (addr >= st->kernel_map)
		return OTF_CLASS_GLOBAL;
	if (otf_in_linear_map(st, addr)) {
		if (st->kfence && addr - st->kfence < OTF_KFENCE_SIZE)
			return OTF_CLASS_SLAB;
		*head = otf_head_page(st, addr);
		if (!*head)
			return OTF_CLASS_OTHER;
		return otf_page_is_slab(*head) ? OTF_CLASS_SLAB : OTF_CLASS_PAGES;
	}
	if (addr >= st->vmalloc_start && addr < st->vmalloc_end)
		return OTF_CLASS_VMALLOC;
	return OTF_CLASS_OTHER;
}

#endif
