// SPDX-License-Identifier: GPL-2.0-only
/* The programs of a recording: what sites write and where calls go, unjudged. */
#include "otf_born.h"
#include "otf_frames.h"
#include "otf_operand.h"
#include "otf_setup.h"

char LICENSE[] SEC("license") = "GPL";

extern const void __per_cpu_offset __ksym __weak;
extern const void pcpu_unit_size __ksym __weak;

#define OTF_MOST_CPUS 64

struct otf_cpu_walk { __u64 addr, size; bool found; };

static long otf_walk_cpu(__u32 i, struct otf_cpu_walk *w)
{
	__u64 start;

	if (bpf_probe_read_kernel(&start, 8, (void *)((__u64)&__per_cpu_offset + 8ULL * i)))
		return 1;
	w->found = w->addr - start < w->size;
	return w->found;
}

/* whether the first per-CPU chunk, which lies in the linear map, holds the address */
static __always_inline bool otf_is_per_cpu(__u64 addr)
{
	struct otf_cpu_walk w = { .addr = addr };
	__u32 size = 0;

	if (!&__per_cpu_offset || !&pcpu_unit_size ||
	    bpf_probe_read_kernel(&size, sizeof(size), &pcpu_unit_size))
		return false;
	w.size = size;
	bpf_loop(OTF_MOST_CPUS, otf_walk_cpu, &w, 0);
	return w.found;
}

static __always_inline __u8 otf_seen_stack(const struct otf_site *site, const struct otf_context *c,
					   __u64 gate_sp, __u64 addr, __u64 end)
{
	__u8 flags = 0;

	if (addr < c->stack || addr >= c->top)
		return 0;	/* the interrupted task's: beyond every frame and gate */
	if (addr < c->sp)
		return OTF_SEEN_DEAD;
	if (!(site->flags & OTF_SITE_FRAME))
		flags |= OTF_SEEN_NO_FRAME;
	else if (end <= c->sp + site->frame_size)
		flags |= OTF_SEEN_IN_FRAME;
	if (!gate_sp)
		flags |= OTF_SEEN_NO_GATE;
	else if (end <= gate_sp)
		flags |= OTF_SEEN_IN_GATE;
	return flags;
}

static __always_inline void otf_name_cache(const struct otf_slab *s)
{
	struct kmem_cache *cache = (void *)s->cache;
	struct otf_cache named = { .address = s->cache };
	__u64 key = s->cache;

	if (!key || bpf_map_lookup_elem(&otf_seen_caches, &key))
		return;
	named.size = BPF_CORE_READ(cache, size);
	named.object_size = BPF_CORE_READ(cache, object_size);
	bpf_probe_read_kernel_str(named.name, sizeof(named.name), BPF_CORE_READ(cache, name));
	bpf_probe_read_kernel_str(named.unique, sizeof(named.unique), BPF_CORE_READ(cache, kobj.name));
	bpf_map_update_elem(&otf_seen_caches, &key, &named, 0);
}

static __always_inline void otf_seen_slab(const struct otf_state *st, __u64 head, __u64 addr,
					  struct otf_seen *seen, __u64 *requested)
{
	struct otf_slab s = {};
	struct otf_born *born;

	otf_find_slab(st, head, addr, &s);
	seen->object = s.cache;
	seen->size = s.size;
	seen->offset = addr - s.object;
	if (s.cache && otf_is_general(s.cache))
		seen->flags |= OTF_SEEN_GENERAL;
	born = bpf_map_lookup_elem(&otf_born, &s.object);
	if (born) {
		seen->chain = born->chain;
		*requested = born->requested;
	}
	otf_name_cache(&s);
}

static __always_inline void otf_seen_pages(const struct otf_state *st, __u64 head, __u64 addr,
					   struct otf_seen *seen)
{
	__u64 page = addr & ~(__u64)(OTF_PAGE_SIZE - 1), start = page;
	struct otf_born *born = bpf_map_lookup_elem(&otf_born_pages, &page);

	if (born) {
		start = born->start;
		seen->size = born->requested;
		seen->chain = born->chain;
		seen->flags |= OTF_SEEN_BOUNDED;
	} else if (head && otf_is_per_cpu(addr)) {
		seen->class = OTF_CLASS_PERCPU;
		return;
	} else if (head && otf_is_folio(head)) {
		start = otf_page_address(st, head);
		seen->size = otf_folio_size(head);
		seen->flags |= OTF_SEEN_BOUNDED;
	}
	seen->offset = addr - start;
}

SEC("kprobe")
int otf_site(struct pt_regs *ctx)
{
	struct otf_state *st = otf_get_state();
	__u32 row = bpf_get_attach_cookie(ctx);
	struct otf_context c = { .sp = ctx->sp };
	struct otf_seen seen = { .site = row };
	__u64 addr, length, key, head = 0, requested = 0;
	const struct otf_site *site;
	struct otf_site_count *count;
	struct otf_seen_use *use, fresh = { .count = 1 };

	if (!st)
		return 0;
	if (row >= otf_nsites) {
		otf_lose(OTF_LOST_COOKIES);
		return 0;
	}
	site = &otf_sites[row];
	otf_count(OTF_COUNT_CHECKS);
	count = bpf_map_lookup_elem(&otf_site_counts, &row);
	if (count)
		__sync_fetch_and_add(&count->hits, 1);
	addr = otf_address_of(ctx, site);
	length = otf_length_of(ctx, site);
	if (!length)
		return 0;
	key = otf_find_stack(c.sp, &c.stack, &c.top, &c.task_stack);
	seen.class = otf_classify(st, &c, site->flags & OTF_SITE_PERCPU, addr, addr + length, &head);
	switch (seen.class) {
	case OTF_CLASS_STACK:
		seen.flags = otf_seen_stack(site, &c, otf_outermost(key, c.sp), addr, addr + length);
		break;
	case OTF_CLASS_GLOBAL:
		seen.object = addr;
		break;
	case OTF_CLASS_SLAB:
		if (head)
			otf_seen_slab(st, head, addr, &seen, &requested);
		else
			seen.flags = OTF_SEEN_KFENCE;
		break;
	case OTF_CLASS_PAGES:
	case OTF_CLASS_VMALLOC:
		otf_seen_pages(st, head, addr, &seen);
		break;
	case OTF_CLASS_OTHER:
		/* the page is enough to tell struct page */
		seen.object = addr & ~(__u64)(OTF_PAGE_SIZE - 1);
		break;
	default:
		break;
	}
	fresh.length = length;
	fresh.rest = requested - seen.offset - length;
	use = bpf_map_lookup_elem(&otf_seen, &seen);
	if (use) {
		__sync_fetch_and_add(&use->count, 1);
		if (length > use->length)
			use->length = length;
		if (fresh.rest < use->rest)
			use->rest = fresh.rest;
	} else if (bpf_map_update_elem(&otf_seen, &seen, &fresh, BPF_ANY)) {
		otf_lose(OTF_LOST_PAIRS);
	}
	return 0;
}

SEC("kprobe")
int otf_call(struct pt_regs *ctx)
{
	struct otf_called called = { .call = bpf_get_attach_cookie(ctx) };
	const struct otf_call *call;
	__u64 *count, one = 1;

	if (called.call >= otf_ncalls) {
		otf_lose(OTF_LOST_COOKIES);
		return 0;
	}
	call = &otf_calls[called.call];
	called.target = otf_effective_address(ctx, call->shape) + call->displacement +
			otf_symbol_of(call->symbol);
	if (call->memory && bpf_probe_read_kernel(&called.target, 8, (void *)called.target)) {
		otf_lose(OTF_LOST_TARGETS);
		return 0;
	}
	count = bpf_map_lookup_elem(&otf_called, &called);
	if (count)
		__sync_fetch_and_add(count, 1);
	else if (bpf_map_update_elem(&otf_called, &called, &one, BPF_ANY))
		otf_lose(OTF_LOST_CALLS);
	return 0;
}

/* only the outermost gate matters here: frames that find no room do no harm */
SEC("kprobe")
int otf_gate(struct pt_regs *ctx)
{
	__u64 stack, top, task_stack, key;
	struct otf_frame f = { .sp = ctx->sp, .gate = bpf_get_attach_cookie(ctx) };

	if (bpf_probe_read_kernel(&f.ret, sizeof(f.ret), (void *)f.sp))
		return 0;
	key = otf_find_stack(f.sp, &stack, &top, &task_stack);
	otf_push(bpf_map_lookup_elem(&otf_frames, &key), key, &f);
	return 0;
}
