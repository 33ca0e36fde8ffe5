// SPDX-License-Identifier: GPL-2.0-only
/*
 * Private heaps: what a compartment obtains from kmalloc comes from caches of its
 * own, so that nobody else gets its memory when it frees it too early, and it
 * gets nobody else's. A probe at the call sends it to otf_heap_alloc. The caches are
 * kmalloc caches in every other way: kfree, krealloc, ksize and kfree_rcu find
 * the cache of an object by its page.
 *
 * A cache goes when it is empty. Until then the heap is retired and holds this
 * module; a load of the same name takes it back into use.
 */
#include <linux/bits.h>
#include <linux/gfp.h>
#include <linux/kfence.h>
#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/ptrace.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <linux/workqueue.h>
#include <asm/text-patching.h>

#include "guard.h"

#define OTF_HEAP_PATIENCE (60 * HZ)	/* longest time between two looks at retired heaps */

/* accounted objects stay among themselves, as those of kmalloc do */
enum otf_heap_kind { OTF_HEAP_PLAIN, OTF_HEAP_ACCOUNTED, OTF_HEAP_KINDS };

/* why a call went to the kernel's caches */
enum otf_heap_left {
	OTF_LEFT_LARGE,		/* pages, or what may become vmalloc */
	OTF_LEFT_FLAGS,		/* DMA, reclaimable */
	OTF_LEFT_BUCKETS,	/* caches of its own already */
	OTF_LEFT_OTHERS,	/* somebody else has a probe there that must run */
	OTF_LEFT_KFENCE,	/* KFENCE gave the object, which is in no cache's books */
	OTF_LEFTS,
};

static const char *const otf_left_names[OTF_LEFTS] = {
	[OTF_LEFT_LARGE] = "large",
	[OTF_LEFT_FLAGS] = "flags",
	[OTF_LEFT_BUCKETS] = "buckets",
	[OTF_LEFT_OTHERS] = "others",
	[OTF_LEFT_KFENCE] = "kfence",
};

struct otf_heap {
	struct list_head list;
	u32 sets;		/* of probes that send calls here; 0: retired */
	atomic_t inside;	/* calls that were sent and have not come back */
	atomic64_t sent;
	atomic64_t left[OTF_LEFTS];
	struct kmem_cache *caches[OTF_HEAP_KINDS][KMALLOC_SHIFT_HIGH + 1];
	char name[64];
};

static LIST_HEAD(otf_heaps);
static DEFINE_MUTEX(otf_heaps_mutex);
static unsigned long otf_heaps_delay;

static void otf_heaps_look(struct work_struct *work);
static DECLARE_DELAYED_WORK(otf_heaps_work, otf_heaps_look);

/* ------------------------------------------------------------------ calls */

/* as kmalloc_slab() chooses: 1 and 2 are the sizes between powers of two */
static unsigned int otf_heap_index(size_t size)
{
	if (size > 64 && size <= 96)
		return 1;
	if (size > 128 && size <= 192)
		return 2;
	return max_t(unsigned int, order_base_2(size), KMALLOC_SHIFT_LOW);
}
NOKPROBE_SYMBOL(otf_heap_index);

static unsigned int otf_heap_size(unsigned int index)
{
	return index == 1 ? 96 : index == 2 ? 192 : BIT(index);
}

/*
 * An object that KFENCE gives is not counted among those of its cache, which
 * would look empty: such a one is not for a private heap. KFENCE is never asked twice at once.
 */
static __always_inline void *otf_heap_obtain(struct kmem_cache *cache, gfp_t flags, int node,
					     size_t size, struct otf_heap *heap)
{
	void *object;
	int try;

	for (try = 0; try < 2; try++) {
		object = __kmalloc_cache_node_noprof(cache, flags, node, size);
		if (likely(!is_kfence_address(object)))
			return object;
		kfree(object);
	}
	atomic64_inc(&heap->left[OTF_LEFT_KFENCE]);
	return kmalloc_node_noprof(size, flags, node);
}

/* Entered by a call of the compartment, which did not mean to: see otf_heap_send. */
static noinline void *otf_heap_alloc(struct kmem_cache *cache, gfp_t flags, int node, size_t size,
				     struct otf_heap *heap)
{
	void *object = otf_heap_obtain(cache, flags, node, size, heap);

	/* nothing but a return is left, which the exit of this module waits for */
	atomic_dec(&heap->inside);
	return object;
}

/* the same in place of kmemdup */
static noinline void *otf_heap_memdup(struct kmem_cache *cache, gfp_t flags, int node, size_t size,
				      struct otf_heap *heap, const void *source)
{
	void *object = otf_heap_obtain(cache, flags, node, size, heap);

	if (object)
		memcpy(object, source, size);
	atomic_dec(&heap->inside);
	return object;
}

#ifdef CONFIG_SLAB_BUCKETS
#define OTF_BUCKETS(regs) ((regs)->si)
#define OTF_FLAGS(regs) ((regs)->dx)
#define OTF_NODE(regs) ((regs)->cx)
#else
#define OTF_BUCKETS(regs) 0
#define OTF_FLAGS(regs) ((regs)->si)
#define OTF_NODE(regs) ((regs)->dx)
#endif

/* what the called allocator would have been asked for */
struct otf_request { size_t size; gfp_t flags; int node; const void *source; };

static bool otf_heap_request(u8 callee, const struct pt_regs *regs, struct otf_request *r)
{
	r->node = NUMA_NO_NODE;
	switch (callee) {
	case OTF_CALL_CACHE:
		r->size = regs->dx;
		r->flags = regs->si;
		return true;
	case OTF_CALL_CACHE_NODE:
		r->size = regs->cx;
		r->flags = regs->si;
		r->node = regs->dx;
		return true;
	case OTF_CALL_KMALLOC:
		r->size = regs->di;
		r->flags = regs->si;
		return true;
	case OTF_CALL_NODE:
	case OTF_CALL_KVMALLOC:
		r->size = regs->di;
		r->flags = OTF_FLAGS(regs);
		r->node = OTF_NODE(regs);
		return !OTF_BUCKETS(regs);
	case OTF_CALL_MEMDUP:
		r->source = (const void *)regs->di;
		r->size = regs->si;
		r->flags = regs->dx;
		return true;
	}
	return false;
}
NOKPROBE_SYMBOL(otf_heap_request);

static int otf_heap_leave(struct otf_heap *heap, enum otf_heap_left why)
{
	atomic64_inc(&heap->left[why]);
	return 0;
}
NOKPROBE_SYMBOL(otf_heap_leave);

/*
 * At a call of an allocator, by int3: goes on in otf_heap_alloc as if that had been
 * called. Sleeping there is as good as in the allocator, for the frame is the same.
 * The last of the handlers at this address does it, for the others would not run
 * any more: turn.
 */
int otf_heap_send(struct otf_heap *heap, const struct otf_heap_call *call, enum otf_turn turn,
		  struct pt_regs *regs)
{
	u8 callee = smp_load_acquire(&call->callee);
	struct otf_request r = {};
	enum otf_heap_kind kind;
	size_t most = callee == OTF_CALL_KVMALLOC ? PAGE_SIZE : KMALLOC_MAX_CACHE_SIZE;

	/* what a jump-optimised probe does to the registers counts for nothing */
	if (!callee || !in_nmi() || turn == OTF_TURN_OLDER)
		return false;
	if (!otf_heap_request(callee, regs, &r))
		return otf_heap_leave(heap, OTF_LEFT_BUCKETS);
	/* nothing is asked for, and there are values for that */
	if (!r.size)
		return false;
	if (r.size > most)
		return otf_heap_leave(heap, OTF_LEFT_LARGE);
	if (r.flags & (__GFP_DMA | __GFP_DMA32 | __GFP_RECLAIMABLE))
		return otf_heap_leave(heap, OTF_LEFT_FLAGS);
	if (turn == OTF_TURN_OTHERS)
		return otf_heap_leave(heap, OTF_LEFT_OTHERS);
	kind = r.flags & __GFP_ACCOUNT ? OTF_HEAP_ACCOUNTED : OTF_HEAP_PLAIN;
	atomic_inc(&heap->inside);
	atomic64_inc(&heap->sent);
	regs->di = (unsigned long)heap->caches[kind][otf_heap_index(r.size)];
	regs->si = r.flags;
	regs->dx = r.node;
	regs->cx = r.size;
	regs->r8 = (unsigned long)heap;
	regs->r9 = (unsigned long)r.source;
	if (!call->tail)
		int3_emulate_push(regs, regs->ip - INT3_INSN_SIZE + CALL_INSN_SIZE);
	regs->ip = callee == OTF_CALL_MEMDUP ? (unsigned long)otf_heap_memdup :
					       (unsigned long)otf_heap_alloc;
	return true;
}
NOKPROBE_SYMBOL(otf_heap_send);

/* Which allocator a direct call or jump leads to; first: its byte without a breakpoint. */
bool otf_heap_decode(struct otf_heap_call *call, u8 first, const u8 *addr)
{
	static void *const callees[] = {
		[OTF_CALL_CACHE] = __kmalloc_cache_noprof,
		[OTF_CALL_CACHE_NODE] = __kmalloc_cache_node_noprof,
		[OTF_CALL_KMALLOC] = __kmalloc_noprof,
		[OTF_CALL_NODE] = __kmalloc_node_noprof,
		[OTF_CALL_KVMALLOC] = __kvmalloc_node_noprof,
		[OTF_CALL_MEMDUP] = kmemdup_noprof,
	};
	u8 distance[sizeof(s32)], callee;
	const u8 *to;

	if (first != CALL_INSN_OPCODE && first != JMP32_INSN_OPCODE)
		return false;
	if (copy_from_kernel_nofault(distance, addr + 1, sizeof(distance)))
		return false;
	to = addr + CALL_INSN_SIZE + (s32)get_unaligned_le32(distance);
	for (callee = OTF_CALL_NONE + 1; callee < ARRAY_SIZE(callees); callee++) {
		if (callees[callee] != to)
			continue;
		call->tail = first == JMP32_INSN_OPCODE;
		smp_store_release(&call->callee, callee);
		return true;
	}
	/* __kmalloc_node_track_caller has the arguments of __kmalloc_node, and one more */
	if (to != (const u8 *)__kmalloc_node_track_caller_noprof)
		return false;
	call->tail = first == JMP32_INSN_OPCODE;
	smp_store_release(&call->callee, OTF_CALL_NODE);
	return true;
}

/* ------------------------------------------------------------------- life */

static int otf_heap_fill(struct otf_heap *heap)
{
	unsigned int kind, index, size;
	struct kmem_cache **cache;
	char name[96];

	for (kind = 0; kind < OTF_HEAP_KINDS; kind++) {
		for (index = 1; index <= KMALLOC_SHIFT_HIGH; index++) {
			cache = &heap->caches[kind][index];
			size = otf_heap_size(index);
			if (*cache || (index > 2 && index < KMALLOC_SHIFT_LOW))
				continue;
			snprintf(name, sizeof(name), "otf.%s-%s%u", heap->name,
				 kind == OTF_HEAP_ACCOUNTED ? "cg-" : "", size);
			/* alignment and what user copies may reach are those of kmalloc */
			*cache = kmem_cache_create_usercopy(name, size, 1U << (ffs(size) - 1),
							    SLAB_KMALLOC | SLAB_NO_MERGE,
							    0, size, NULL);
			if (!*cache)
				return -ENOMEM;
		}
	}
	return 0;
}

/* whether nothing of a retired heap is left; the others lose what is empty */
static bool otf_heap_drain(struct otf_heap *heap)
{
	struct kmem_cache **cache = &heap->caches[0][0];
	bool empty = true;
	u32 i;

	/* an allocation that is under way may still take an object */
	if (atomic_read(&heap->inside))
		return false;
	smp_rmb();
	for (i = 0; i < OTF_HEAP_KINDS * (KMALLOC_SHIFT_HIGH + 1); i++) {
		if (!cache[i])
			continue;
		if (kmem_cache_shrink(cache[i])) {
			empty = false;
			continue;
		}
		kmem_cache_destroy(cache[i]);
		cache[i] = NULL;
	}
	return empty;
}

/* the mutex is held */
static void otf_heaps_tidy(void)
{
	struct otf_heap *heap, *next;
	bool more = false;

	list_for_each_entry_safe(heap, next, &otf_heaps, list) {
		if (heap->sets)
			continue;
		if (!otf_heap_drain(heap)) {
			more = true;
			continue;
		}
		list_del(&heap->list);
		kfree(heap);
		/* somebody else holds it too, or its exit waits for this work */
		module_put(THIS_MODULE);
	}
	if (more)
		schedule_delayed_work(&otf_heaps_work, otf_heaps_delay);
}

static void otf_heaps_look(struct work_struct *work)
{
	mutex_lock(&otf_heaps_mutex);
	otf_heaps_delay = min_t(unsigned long, 2 * otf_heaps_delay, OTF_HEAP_PATIENCE);
	otf_heaps_tidy();
	mutex_unlock(&otf_heaps_mutex);
}

/* The heap of this name, made if there is none; one more set of probes sends calls to it. */
struct otf_heap *otf_heap_get(const char *name)
{
	struct otf_heap *heap, *found = NULL;
	int err;

	/* without its books a cache looks empty always */
	if (!IS_ENABLED(CONFIG_SLUB_DEBUG))
		return ERR_PTR(-EOPNOTSUPP);
	mutex_lock(&otf_heaps_mutex);
	list_for_each_entry(heap, &otf_heaps, list)
		if (!strcmp(heap->name, name))
			found = heap;
	if (!found) {
		found = kzalloc(sizeof(*found), GFP_KERNEL);
		if (!found) {
			mutex_unlock(&otf_heaps_mutex);
			return ERR_PTR(-ENOMEM);
		}
		strscpy(found->name, name, sizeof(found->name));
		__module_get(THIS_MODULE);
		list_add_tail(&found->list, &otf_heaps);
	}
	err = otf_heap_fill(found);
	if (!err) {
		found->sets++;
	} else {
		otf_heaps_tidy();
		found = ERR_PTR(err);
	}
	mutex_unlock(&otf_heaps_mutex);
	return found;
}

/* No probe of the set is armed any more. */
void otf_heap_put(struct otf_heap *heap)
{
	if (IS_ERR_OR_NULL(heap))
		return;
	mutex_lock(&otf_heaps_mutex);
	if (!--heap->sets) {
		otf_heaps_delay = HZ;
		otf_heaps_tidy();
	}
	mutex_unlock(&otf_heaps_mutex);
}

/* a line of /proc/otf_guard for each heap: name, used or retired, calls that were sent to it and that were not */
void otf_heaps_show(struct seq_file *m)
{
	struct otf_heap *heap;
	int i;

	mutex_lock(&otf_heaps_mutex);
	list_for_each_entry(heap, &otf_heaps, list) {
		seq_printf(m, "heap %s %s sent=%lld", heap->name, heap->sets ? "used" : "retired",
			   atomic64_read(&heap->sent));
		for (i = 0; i < OTF_LEFTS; i++)
			seq_printf(m, " %s=%lld", otf_left_names[i], atomic64_read(&heap->left[i]));
		seq_putc(m, '\n');
	}
	mutex_unlock(&otf_heaps_mutex);
}

/* No heap is left: each holds the module. The work that let go of the last one may not have ended. */
void otf_heaps_exit(void)
{
	cancel_delayed_work_sync(&otf_heaps_work);
}
