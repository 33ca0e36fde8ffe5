/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who allocated what lives, from the kernel's own tracepoints: no part of the
 * analysis has a say in it.
 */
#ifndef OTF_BORN_H
#define OTF_BORN_H

#include "otf_memory.h"
#include "otf_record.h"

#define OTF_WALK	20	/* frames of one walk, the tracepoint's own included */
#define OTF_INNER	3	/* kept below the caller that the allocator names */
#define OTF_TRACE	3	/* innermost frames of a tracepoint that are its own */
#define OTF_MOST_PAGES	65536

/*
 * The chain that this call belongs to, 0 where it is lost. first: innermost
 * frame that is kept. A caller that the allocator itself names may be further
 * out than its call (kmemdup, __alloc_skb), so that some frames below it count.
 */
static __always_inline __u32 otf_chain_of(void *ctx, __u32 first, __u64 caller, __u64 requested,
					  __u64 given, __u64 cache)
{
	__u64 walk[OTF_WALK] = {};
	struct otf_chain chain = { .given = given };
	struct otf_chain_use *use, fresh = { .cache = cache, .count = 1, .least = requested,
					     .most = requested };
	__u32 zero = 0, *last;
	int i;

	if (bpf_get_stack(ctx, walk, sizeof(walk), 0) < 0) {
		otf_lose(OTF_LOST_CHAINS);
		return 0;
	}
	for (i = OTF_TRACE + OTF_INNER; i < OTF_WALK - OTF_CHAIN + OTF_INNER; i++) {
		if (caller && walk[i] == caller) {
			first = i - OTF_INNER;
			break;
		}
	}
	for (i = 0; i < OTF_CHAIN; i++) {
		__u32 at = first + i;

		if (at < OTF_WALK)
			chain.frame[i] = walk[at];
	}
	use = bpf_map_lookup_elem(&otf_chains, &chain);
	if (use) {
		__sync_fetch_and_add(&use->count, 1);
		if (requested < use->least)
			use->least = requested;
		if (requested > use->most)
			use->most = requested;
		return use->id;
	}
	last = bpf_map_lookup_elem(&otf_last_chain, &zero);
	if (!last)
		return 0;
	fresh.id = __sync_fetch_and_add(last, 1) + 1;
	if (bpf_map_update_elem(&otf_chains, &chain, &fresh, BPF_NOEXIST)) {
		otf_lose(OTF_LOST_CHAINS);
		return 0;
	}
	return fresh.id;
}

/* a place that may hold an older record, of an object whose free passed no tracepoint */
static __always_inline void otf_bear(void *map, __u64 at, const struct otf_born *born)
{
	if (!born->chain) {
		bpf_map_delete_elem(map, &at);
	} else if (bpf_map_update_elem(map, &at, born, 0)) {
		bpf_map_delete_elem(map, &at);
		otf_lose(OTF_LOST_OBJECTS);
	}
}

struct otf_page_walk { struct otf_born born; bool drop; };

static long otf_walk_born(__u32 i, struct otf_page_walk *w)
{
	__u64 page = w->born.start + (__u64)i * OTF_PAGE_SIZE;

	if (w->drop)
		bpf_map_delete_elem(&otf_born_pages, &page);
	else
		otf_bear(&otf_born_pages, page, &w->born);
	return 0;
}

static __always_inline void otf_bear_pages(__u64 start, __u64 size, __u32 chain)
{
	struct otf_page_walk w = { .born = { .start = start, .requested = size, .chain = chain } };
	__u64 pages = (size + OTF_PAGE_SIZE - 1) >> OTF_PAGE_SHIFT;

	if (pages == 1)
		otf_walk_born(0, &w);
	else if (pages && pages <= OTF_MOST_PAGES)
		bpf_loop(pages, otf_walk_born, &w, 0);
	else
		otf_lose(OTF_LOST_OBJECTS);
}

static __always_inline void otf_drop_pages(__u64 start, __u64 pages)
{
	struct otf_page_walk w = { .born = { .start = start }, .drop = true };

	if (pages == 1)
		otf_walk_born(0, &w);
	else if (pages && pages <= OTF_MOST_PAGES)
		bpf_loop(pages, otf_walk_born, &w, 0);
}

static __always_inline void otf_bear_object(void *ctx, __u64 caller, __u64 object, __u64 requested,
					    __u64 given, __u64 cache)
{
	struct otf_born born = { .start = object, .requested = requested };

	if (!object)
		return;
	born.chain = otf_chain_of(ctx, OTF_TRACE, caller, requested, given, cache);
	otf_bear(&otf_born, object, &born);
}

static __always_inline void otf_bury(__u64 object)
{
	bpf_map_delete_elem(&otf_born, &object);
}

/*
 * A raw tracepoint's program does not run in an interrupt that hits while it
 * runs. Each has a twin, which takes what the first one did not.
 */
enum otf_hook {
	OTF_HOOK_KMALLOC, OTF_HOOK_CACHE_ALLOC, OTF_HOOK_PAGE_ALLOC,
	OTF_HOOK_KFREE, OTF_HOOK_CACHE_FREE, OTF_HOOK_PAGE_FREE, OTF_HOOKS,
};

struct OTF_MAP(BPF_MAP_TYPE_PERCPU_ARRAY, OTF_HOOKS, __u32, __u64) otf_last_hook SEC(".maps");

/* whether this program has the event to itself */
static __always_inline bool otf_mine(__u32 hook, bool twin, __u64 subject)
{
	__u64 *last = bpf_map_lookup_elem(&otf_last_hook, &hook);

	if (!last)
		return true;
	if (!twin) {
		*last = subject;
		return true;
	}
	if (*last != subject)
		return true;
	*last = 0;
	return false;
}

typedef struct bpf_raw_tracepoint_args otf_args;

static __always_inline int otf_on_kmalloc(otf_args *ctx, bool twin)
{
	if (otf_mine(OTF_HOOK_KMALLOC, twin, ctx->args[1]))
		otf_bear_object(ctx, ctx->args[0], ctx->args[1], ctx->args[2], ctx->args[3], 0);
	return 0;
}

static __always_inline int otf_on_cache_alloc(otf_args *ctx, bool twin)
{
	__u64 cache = ctx->args[2];
	__u32 size = BPF_CORE_READ((struct kmem_cache *)cache, object_size);

	if (otf_mine(OTF_HOOK_CACHE_ALLOC, twin, ctx->args[1]))
		otf_bear_object(ctx, ctx->args[0], ctx->args[1], size, size, cache);
	return 0;
}

static __always_inline int otf_on_page_alloc(otf_args *ctx, bool twin)
{
	struct otf_state *st = otf_get_state();
	__u64 page = ctx->args[0], size = (__u64)OTF_PAGE_SIZE << (ctx->args[1] & 31);

	if (page && st && otf_mine(OTF_HOOK_PAGE_ALLOC, twin, page))
		otf_bear_pages(otf_page_address(st, page), size,
			       otf_chain_of(ctx, OTF_TRACE, 0, size, size, 0));
	return 0;
}

static __always_inline int otf_on_free(otf_args *ctx, __u32 hook, bool twin)
{
	if (otf_mine(hook, twin, ctx->args[1]))
		otf_bury(ctx->args[1]);
	return 0;
}

static __always_inline int otf_on_page_free(otf_args *ctx, bool twin)
{
	struct otf_state *st = otf_get_state();

	if (st && otf_mine(OTF_HOOK_PAGE_FREE, twin, ctx->args[0]))
		otf_drop_pages(otf_page_address(st, ctx->args[0]), 1ULL << (ctx->args[1] & 31));
	return 0;
}

#define OTF_TWINS(tracepoint, name, call, ...) \
	SEC("raw_tp/" tracepoint) int name(otf_args *ctx) { return call(ctx, ##__VA_ARGS__, false); } \
	SEC("raw_tp/" tracepoint) int name##_twin(otf_args *ctx) { return call(ctx, ##__VA_ARGS__, true); }

OTF_TWINS("kmalloc", otf_kmalloc, otf_on_kmalloc)
OTF_TWINS("kmem_cache_alloc", otf_cache_alloc, otf_on_cache_alloc)
OTF_TWINS("mm_page_alloc", otf_page_alloc, otf_on_page_alloc)
OTF_TWINS("kfree", otf_kfree, otf_on_free, OTF_HOOK_KFREE)
OTF_TWINS("kmem_cache_free", otf_cache_free, otf_on_free, OTF_HOOK_CACHE_FREE)
OTF_TWINS("mm_page_free", otf_page_free, otf_on_page_free)

/* vmalloc areas do not come and go in interrupts */
SEC("raw_tp/alloc_vmap_area")
int otf_vmap(otf_args *ctx)
{
	__u64 size = ctx->args[1];

	if (ctx->args[5])
		return 0;	/* failed */
	/* the last page is the guard */
	if (size > OTF_PAGE_SIZE)
		size -= OTF_PAGE_SIZE;
	otf_bear_pages(ctx->args[0], size, otf_chain_of(ctx, OTF_TRACE, 0, size, size, 0));
	return 0;
}

SEC("raw_tp/free_vmap_area_noflush")
int otf_vunmap(otf_args *ctx)
{
	__u64 start = ctx->args[0];
	struct otf_born *born = bpf_map_lookup_elem(&otf_born_pages, &start);

	if (born && born->start == start)
		otf_drop_pages(start, (born->requested + OTF_PAGE_SIZE - 1) >> OTF_PAGE_SHIFT);
	return 0;
}

/* objects in bulk pass no tracepoint in either direction */
static long otf_walk_buried(__u32 i, __u64 *array)
{
	__u64 object;

	if (!bpf_probe_read_kernel(&object, sizeof(object), (void *)(*array + 8ULL * i)))
		otf_bury(object);
	return 0;
}

SEC("kprobe/kmem_cache_free_bulk")
int otf_free_bulk(struct pt_regs *ctx)
{
	__u64 array = ctx->dx;

	bpf_loop((__u32)ctx->si, otf_walk_buried, &array, 0);
	return 0;
}

SEC("kprobe/kmem_cache_alloc_bulk_noprof")
int otf_alloc_bulk(struct pt_regs *ctx)
{
	struct otf_bulk bulk = { .array = ctx->cx, .count = ctx->dx };
	__u64 sp = ctx->sp;

	if (bpf_map_update_elem(&otf_bulks, &sp, &bulk, 0))
		otf_lose(OTF_LOST_OBJECTS);
	return 0;
}

struct otf_bulk_walk { struct otf_born born; __u64 array; };

static long otf_walk_bulk(__u32 i, struct otf_bulk_walk *w)
{
	if (bpf_probe_read_kernel(&w->born.start, 8, (void *)(w->array + 8ULL * i)))
		return 1;
	otf_bear(&otf_born, w->born.start, &w->born);
	return 0;
}

SEC("kretprobe/kmem_cache_alloc_bulk_noprof")
int otf_allocated_bulk(struct pt_regs *ctx)
{
	struct otf_bulk_walk w = {};
	__u64 sp = ctx->sp - 8, first = 0;
	struct otf_bulk *bulk = bpf_map_lookup_elem(&otf_bulks, &sp);
	struct otf_state *st = otf_get_state();
	struct otf_slab s = {};

	if (!bulk || !st || !ctx->ax)
		return 0;
	w.array = bulk->array;
	if (bpf_probe_read_kernel(&first, 8, (void *)w.array) || !otf_in_linear_map(st, first))
		return 0;
	otf_find_slab(st, otf_head_page(st, first), first, &s);
	w.born.requested = s.size;
	w.born.chain = otf_chain_of(ctx, 0, 0, s.size, s.size, s.cache);
	bpf_loop((__u32)ctx->ax, otf_walk_bulk, &w, 0);
	return 0;
}

/* where it grows in its place no tracepoint is passed */
SEC("kprobe/krealloc_noprof")
int otf_krealloc(struct pt_regs *ctx)
{
	__u64 object = ctx->di;
	struct otf_born *born = bpf_map_lookup_elem(&otf_born, &object);

	if (born && ctx->si > born->requested)
		born->requested = ctx->si;
	return 0;
}

#endif
