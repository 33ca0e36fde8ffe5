/* SPDX-License-Identifier: GPL-2.0-only */
/* The program that the loader runs once: where memory lies, which slab caches there are. */
#ifndef OTF_SETUP_H
#define OTF_SETUP_H

#include "otf_state.h"

extern const void page_offset_base __ksym __weak;
extern const void vmemmap_base __ksym __weak;
extern const void vmalloc_base __ksym __weak;
extern const void slab_caches __ksym __weak;
extern const void __kfence_pool __ksym __weak;
extern const void noop_llseek __ksym __weak;	/* in many tables of operations */

struct otf_caches_walk { __u64 at; __u32 n; };

static long otf_walk_cache(__u32 i, struct otf_caches_walk *w)
{
	struct kmem_cache *s;
	struct otf_cache *row;
	__u64 head = (__u64)&slab_caches;
	__u32 n = w->n;

	if (!w->at || w->at == head)
		return 1;
	s = (void *)(w->at - bpf_core_field_offset(struct kmem_cache, list));
	row = bpf_map_lookup_elem(&otf_slab_caches, &n);
	if (!row)
		return 1;
	row->address = (__u64)s;
	row->size = BPF_CORE_READ(s, size);
	row->object_size = BPF_CORE_READ(s, object_size);
	bpf_probe_read_kernel_str(row->name, sizeof(row->name), BPF_CORE_READ(s, name));
	bpf_probe_read_kernel_str(row->unique, sizeof(row->unique), BPF_CORE_READ(s, kobj.name));
	w->n++;
	w->at = (__u64)BPF_CORE_READ(s, list.next);
	return 0;
}

/* run once by the loader, before anything is attached */
SEC("syscall")
int otf_setup(void *ctx)
{
	struct otf_state *st = otf_get_state();
	struct otf_caches_walk w = {};
	__u32 entry = 0;

	if (!st || !&slab_caches ||
	    bpf_probe_read_kernel(&st->page_offset, 8, &page_offset_base) ||
	    bpf_probe_read_kernel(&st->vmemmap, 8, &vmemmap_base) ||
	    bpf_probe_read_kernel(&st->vmalloc_start, 8, &vmalloc_base) ||
	    bpf_probe_read_kernel(&w.at, 8, &slab_caches))
		return -1;
	/* Documentation/arch/x86/x86_64/mm.rst: 32 TB with 4 levels, 12.5 PB with 5; vmemmap lies above */
	st->vmalloc_end = st->vmemmap;
	if (&__kfence_pool)
		bpf_probe_read_kernel(&st->kfence, 8, &__kfence_pool);
	if (&noop_llseek && !bpf_probe_read_kernel(&entry, sizeof(entry), &noop_llseek))
		st->endbr = entry == OTF_ENDBR64;
	st->kernel_map = 0xffffffff80000000ULL;
	bpf_loop(1024, otf_walk_cache, &w, 0);
	return w.n;
}

#endif
