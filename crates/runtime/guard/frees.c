// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frees, for a policy that remembers objects. Nearly all of them are somebody
 * else's: the filter of the policy's programs says so in a few instructions, and
 * none is left out because a program runs on the CPU already.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/filter.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>

#include "guard.h"
#include "verdicts.h"

/* as in otf_abi.h of the programs */
#define OTF_FILTER_SLOTS 65536

enum otf_way { OTF_KFREE, OTF_CACHE_FREE, OTF_PAGE_FREE, OTF_WAYS };

/* a struct_ops without operations: struct Frees of crates/runtime/src/guard_frees.rs */
struct otf_frees {
	s32 programs[OTF_WAYS];	/* file descriptors of raw tracepoint programs */
	u32 pad;
	char name[64];
};

struct otf_freer {
	struct list_head list;
	const struct bpf_link *link;
	char name[64];
	const u32 *filter;	/* in a map that the programs hold */
	struct bpf_prog *programs[OTF_WAYS];
};

static LIST_HEAD(otf_freers);
static DEFINE_MUTEX(otf_freers_mutex);
static struct tracepoint *otf_tracepoints[OTF_WAYS];

/* preemption is off: a tracepoint */
static __always_inline void otf_freed(const struct otf_freer *freer, enum otf_way way, u64 addr,
				      const u64 *args)
{
	if (unlikely(READ_ONCE(freer->filter[addr * OTF_HASH_FACTOR >> 48]))) {
		rcu_read_lock();
		bpf_prog_run(freer->programs[way], args);
		rcu_read_unlock();
	}
	otf_verdict_forget(addr);
}

static void otf_hit_kfree(void *data, unsigned long call_site, const void *ptr)
{
	otf_freed(data, OTF_KFREE, (u64)ptr, (u64[]){ call_site, (u64)ptr });
}

static void otf_hit_cache_free(void *data, unsigned long call_site, const void *ptr,
			       const struct kmem_cache *s)
{
	otf_freed(data, OTF_CACHE_FREE, (u64)ptr, (u64[]){ call_site, (u64)ptr, (u64)s });
}

static void otf_hit_page_free(void *data, struct page *page, unsigned int order)
{
	/* that it is no slab any more is written before it is seen whether something is kept of it */
	smp_mb();
	otf_freed(data, OTF_PAGE_FREE, (u64)page_to_virt(page), (u64[]){ (u64)page, order });
}

static const struct { const char *name; void *hit; } otf_ways[OTF_WAYS] = {
	[OTF_KFREE] = { "kfree", otf_hit_kfree },
	[OTF_CACHE_FREE] = { "kmem_cache_free", otf_hit_cache_free },
	[OTF_PAGE_FREE] = { "mm_page_free", otf_hit_page_free },
};

static void otf_freer_free(struct otf_freer *freer, int ways)
{
	int i;

	for (i = 0; i < ways; i++)
		tracepoint_probe_unregister(otf_tracepoints[i], otf_ways[i].hit, freer);
	if (ways)
		tracepoint_synchronize_unregister();
	for (i = 0; i < OTF_WAYS; i++)
		if (freer->programs[i])
			bpf_prog_put(freer->programs[i]);
	kfree(freer);
}

/* the one map of this size that a program uses */
static const u32 *otf_find_filter(const struct bpf_prog *prog)
{
	u64 addr = 0;
	u32 i;

	for (i = 0; i < prog->aux->used_map_cnt; i++) {
		const struct bpf_map *map = prog->aux->used_maps[i];

		if (map->map_type == BPF_MAP_TYPE_ARRAY && map->max_entries == 1 &&
		    map->value_size == OTF_FILTER_SLOTS * sizeof(u32) &&
		    !map->ops->map_direct_value_addr(map, &addr, 0))
			return (const u32 *)addr;
	}
	return NULL;
}

static int otf_frees_reg(void *kdata, struct bpf_link *link)
{
	const struct otf_frees *asked = kdata;
	struct otf_freer *freer;
	int i, err = -EINVAL;

	if (!link)
		return -EINVAL;
	freer = kzalloc(sizeof(*freer), GFP_KERNEL);
	if (!freer)
		return -ENOMEM;
	for (i = 0; i < OTF_WAYS; i++) {
		struct bpf_prog *prog = bpf_prog_get_type_dev(asked->programs[i],
							      BPF_PROG_TYPE_RAW_TRACEPOINT, false);

		if (IS_ERR(prog)) {
			err = PTR_ERR(prog);
			goto free;
		}
		freer->programs[i] = prog;
		freer->filter = otf_find_filter(prog);
		if (!freer->filter)
			goto free;
	}
	freer->link = link;
	memcpy(freer->name, asked->name, sizeof(freer->name) - 1);
	for (i = 0; i < OTF_WAYS; i++) {
		err = tracepoint_probe_register(otf_tracepoints[i], otf_ways[i].hit, freer);
		if (err) {
			otf_freer_free(freer, i);
			return err;
		}
	}
	mutex_lock(&otf_freers_mutex);
	list_add_tail(&freer->list, &otf_freers);
	mutex_unlock(&otf_freers_mutex);
	return 0;
free:
	otf_freer_free(freer, 0);
	return err;
}

static void otf_frees_unreg(void *kdata, struct bpf_link *link)
{
	struct otf_freer *freer, *found = NULL;

	mutex_lock(&otf_freers_mutex);
	list_for_each_entry(freer, &otf_freers, list)
		if (freer->link == link)
			found = freer;
	if (found)
		list_del(&found->list);
	mutex_unlock(&otf_freers_mutex);
	if (found)
		otf_freer_free(found, OTF_WAYS);
}

/* a line of /proc/otf_guard for each policy whose objects are followed */
void otf_frees_show(struct seq_file *m)
{
	struct otf_freer *freer;

	mutex_lock(&otf_freers_mutex);
	list_for_each_entry(freer, &otf_freers, list)
		seq_printf(m, "%s frees\n", freer->name);
	mutex_unlock(&otf_freers_mutex);
}

static const struct bpf_verifier_ops otf_frees_verifier_ops;
static struct otf_frees otf_frees_stubs;

static struct bpf_struct_ops otf_frees_ops = {
	.verifier_ops = &otf_frees_verifier_ops,
	.init = otf_guard_init_type,
	.init_member = otf_guard_copy_data,
	.reg = otf_frees_reg,
	.unreg = otf_frees_unreg,
	.cfi_stubs = &otf_frees_stubs,
	.name = "otf_frees",
	.owner = THIS_MODULE,
};

static void otf_note_tracepoint(struct tracepoint *tracepoint, void *data)
{
	int i;

	for (i = 0; i < OTF_WAYS; i++)
		if (!strcmp(tracepoint->name, otf_ways[i].name))
			otf_tracepoints[i] = tracepoint;
}

int otf_guard_register_frees(void)
{
	int i;

	for_each_kernel_tracepoint(otf_note_tracepoint, NULL);
	for (i = 0; i < OTF_WAYS; i++)
		if (!otf_tracepoints[i])
			return -ENOENT;
	return register_bpf_struct_ops(&otf_frees_ops, otf_frees);
}
