// SPDX-License-Identifier: GPL-2.0-only
/*
 * Probes of a policy that run its BPF programs without the perf layer: no hit is
 * left out because another program runs on the CPU, and thousands are put in and
 * taken out together. A set of probes is a struct_ops: it lives as long as the
 * pinned link does.
 */
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/filter.h>
#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/proc_fs.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "guard.h"
#include "jumps.h"

#define OTF_MAX_PROGRAMS 8
#define OTF_MAX_PROBES (1 << 20)
#define OTF_MAX_MODULES 256
#define OTF_BATCH 512		/* probes taken out in one grace period */

/* what the loader hands over: struct ProbeRow of crates/runtime/src/guard_probes.rs */
struct otf_probe_row {
	u64 address;
	u64 cookie;
	u32 program;	/* index into programs */
	s32 error;	/* out: why the kernel refused it */
	/* room for a jump: whole instructions, into which no code jumps but to their first */
	u8 back;	/* bytes of them before the address */
	u8 ahead;	/* from the address on; 0: it is a breakpoint */
	u16 pad;
	u32 flags;	/* OTF_ROW_JUDGES */
	struct otf_quick quick;	/* its line counts from 1 */
};

#define OTF_ROW_JUDGES 1	/* runs when all of the set are in place */

#define OTF_PROBES_LENIENT 1	/* go on without probes that the kernel refuses */

/* a struct_ops without operations: its data say what to probe */
struct otf_probes {
	u64 rows;	/* user address of count struct otf_probe_row, sorted by address */
	u32 count;
	u32 flags;
	s32 programs[OTF_MAX_PROGRAMS];	/* file descriptors; 0: none */
	char name[64];
	u32 lines;	/* how many the load of this name keeps verdicts in */
	u32 pad;
	/* not empty: no programs, but calls of allocators that go to the heap of this name */
	char heap[64];
};

struct otf_probe {
	struct kprobe kp;	/* no address: the kernel refused it, or it is a jump */
	struct otf_jump jump;	/* holds what it runs, whatever it is */
	void *address;
	u8 back, ahead;
	bool shared;	/* another set has a probe there: the kernel must run both */
	struct otf_plain_store store;	/* size is 0 until it may be done here */
	/* of a set with a heap: */
	struct otf_heap *heap;
	struct otf_heap_call call;
	bool foreign;	/* somebody else had a probe there before */
	u8 turn;	/* enum otf_turn: probes of newer sets run before it, those of older ones behind */
};

struct otf_set {
	struct list_head list;
	const struct bpf_link *link;
	u32 probes, modules;
	struct bpf_prog *programs[OTF_MAX_PROGRAMS];
	struct otf_probe *probe;
	struct otf_run *run;
	struct otf_heap *heap;
	struct otf_lines *lines;
	bool ready;	/* all probes are in place */
	struct module *module[OTF_MAX_MODULES];	/* they stay as long as their code is probed */
	char name[64];
};

static LIST_HEAD(otf_sets);
static DEFINE_MUTEX(otf_sets_mutex);

/*
 * The exception of a breakpoint is an NMI to lockdep, for which a lock that is also
 * taken elsewhere, as those of BPF maps are, would be a deadlock. But it comes at
 * probed instructions alone, and none of these runs under a map's lock.
 */
static void otf_lockdep_pause(int by)
{
#ifdef CONFIG_PROVE_LOCKING
	if (in_nmi())
		__this_cpu_add(lockdep_recursion, by);
#endif
}

static int otf_probe_hit(struct kprobe *kp, struct pt_regs *regs)
{
	struct otf_probe *probe = container_of(kp, struct otf_probe, kp);
	unsigned long ip = regs->ip;

	otf_lockdep_pause(1);
	/* it may be inside the hit of a jump, for which nothing of this is meant */
	otf_verdict_ask(OTF_NO_LINE, false);
	otf_runs_do(&probe->jump.runs, regs, ip);
	otf_lockdep_pause(-1);
	if (regs->ip != ip)
		return true;
	/* a jump-optimised probe executes the instruction whatever is returned, and is no exception */
	return in_nmi() && !READ_ONCE(probe->shared) && otf_plain_store_do(&probe->store, regs);
}
NOKPROBE_SYMBOL(otf_probe_hit);

static int otf_heap_hit(struct kprobe *kp, struct pt_regs *regs)
{
	struct otf_probe *probe = container_of(kp, struct otf_probe, kp);

	return otf_heap_send(probe->heap, &probe->call, READ_ONCE(probe->turn), regs);
}
NOKPROBE_SYMBOL(otf_heap_hit);

static void otf_set_free(struct otf_set *set)
{
	u32 i;

	for (i = 0; i < OTF_MAX_PROGRAMS; i++)
		if (set->programs[i])
			bpf_prog_put(set->programs[i]);
	while (set->modules)
		module_put(set->module[--set->modules]);
	otf_heap_put(set->heap);
	otf_lines_put(set->lines);
	kvfree(set->probe);
	kvfree(set->run);
	kfree(set);
}

/* the module with this code, held; NULL: none. Where modules are is nowhere exported but in their kset. */
struct module *otf_module_get(unsigned long address)
{
	struct kset *kset = THIS_MODULE->mkobj.kobj.kset;
	struct module *found = NULL;
	struct kobject *kobj;

	spin_lock(&kset->list_lock);
	list_for_each_entry(kobj, &kset->list, entry) {
		struct module *mod = container_of(kobj, struct module_kobject, kobj)->mod;

		if (mod && within_module(address, mod) && try_module_get(mod))
			found = mod;
	}
	spin_unlock(&kset->list_lock);
	return found;
}

/*
 * A module whose code is probed must not go: it would come back elsewhere,
 * without probes. Where modules are is nowhere exported but in their kset.
 */
static int otf_set_hold_modules(struct otf_set *set)
{
	struct kset *kset = THIS_MODULE->mkobj.kobj.kset;
	struct kobject *kobj;
	int err = 0;
	u32 i, k;

	spin_lock(&kset->list_lock);
	list_for_each_entry(kobj, &kset->list, entry) {
		struct module *mod = container_of(kobj, struct module_kobject, kobj)->mod;

		for (i = 0; mod && i < set->probes; i++)
			if (within_module((unsigned long)set->probe[i].address, mod))
				break;
		if (!mod || i == set->probes)
			continue;
		for (k = 0; k < set->modules && set->module[k] != mod; k++)
			;
		if (k == OTF_MAX_MODULES)
			err = -E2BIG;
		else if (k == set->modules && !try_module_get(mod))
			err = -ENOENT;
		else if (k == set->modules)
			set->module[set->modules++] = mod;
		if (err)
			break;
	}
	spin_unlock(&kset->list_lock);
	return err;
}

/* takes the first probes of a set out again; those that the kernel refused have no address */
static void otf_set_disarm(struct otf_set *set, u32 probes)
{
	struct kprobe **batch;
	u32 done = 0, n;

	batch = kvmalloc_array(OTF_BATCH, sizeof(*batch), GFP_KERNEL | __GFP_NOFAIL);
	while (done < probes) {
		for (n = 0; n < OTF_BATCH && done < probes; done++)
			if (set->probe[done].kp.addr)
				batch[n++] = &set->probe[done].kp;
		unregister_kprobes(batch, n);
		cond_resched();
	}
	kvfree(batch);
	otf_jumps_lock();
	for (done = 0; done < set->probes; done++)
		otf_jump_drop(&set->probe[done].jump);
	otf_jumps_commit();
	otf_jumps_unlock();
}

static struct otf_probe *otf_set_find(const struct otf_set *set, const void *addr)
{
	u32 low = 0, high = set->probes, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (set->probe[mid].address == addr)
			return &set->probe[mid];
		if (set->probe[mid].address < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

/* after it is on the list of sets, before it is armed: nobody else's probe ends a hit of it */
static void otf_set_share(struct otf_set *set)
{
	struct otf_probe *mine, *other;
	struct otf_set *sets;
	u32 i;

	list_for_each_entry(sets, &otf_sets, list) {
		for (i = 0; sets != set && i < set->probes; i++) {
			mine = &set->probe[i];
			other = otf_set_find(sets, mine->address);
			if (!other)
				continue;
			WRITE_ONCE(mine->shared, true);
			WRITE_ONCE(other->shared, true);
		}
	}
}

/*
 * After the list of sets has changed: of several probes at one address the oldest
 * runs last. Only there may a call be sent elsewhere, which ends the hit.
 */
static void otf_sets_order(void)
{
	struct otf_set *set, *older;
	enum otf_turn turn;
	u32 i;

	list_for_each_entry(set, &otf_sets, list) {
		for (i = 0; set->heap && i < set->probes; i++) {
			turn = set->probe[i].foreign ? OTF_TURN_OTHERS : OTF_TURN_MINE;
			list_for_each_entry(older, &otf_sets, list) {
				if (older == set || turn == OTF_TURN_OLDER)
					break;
				if (otf_set_find(older, set->probe[i].address))
					turn = older->heap == set->heap ? OTF_TURN_OLDER :
									  OTF_TURN_OTHERS;
			}
			WRITE_ONCE(set->probe[i].turn, turn);
		}
	}
}

/*
 * Whether a plain store is done here: not where somebody else has a probe too,
 * for ours would end the hit for that one. Once armed no jump of an optimised
 * probe reaches over the instruction: what follows its first byte is what will run.
 */
static void otf_probe_decode(struct otf_probe *probe, u8 before)
{
	const struct list_head *others = &probe->kp.list;
	struct otf_plain_store store = {};
	u8 size;

	/* the kernel's aggregate of the probes at one address is an element too */
	if (before != probe->kp.opcode || others->next != others->prev)
		return;
	otf_plain_store_decode(&store, probe->kp.opcode, probe->kp.addr);
	size = store.size;
	store.size = 0;
	probe->store = store;
	smp_store_release(&probe->store.size, size);
}

/* those that can be jumps; what it cannot make one stays for a breakpoint */
static void otf_set_jump(struct otf_set *set)
{
	u32 i;

	otf_jumps_lock();
	for (i = 0; i < set->probes; i++)
		otf_jump_plan(&set->probe[i].jump, set->probe[i].address, set->probe[i].back,
			      set->probe[i].ahead);
	otf_jumps_commit();
	otf_jumps_unlock();
}

/* a breakpoint; on a jump of another set it would find that, not the instruction */
static int otf_probe_register(struct otf_probe *probe)
{
	bool jump;

	if (fatal_signal_pending(current))
		return -EINTR;
	otf_jumps_lock();
	jump = otf_jump_stands(probe->address);
	otf_jumps_unlock();
	return jump ? -EBUSY : register_kprobe(&probe->kp);
}

static int otf_set_arm(struct otf_set *set, const struct otf_probes *asked,
		       struct otf_probe_row *rows)
{
	u32 i, k, row = 0;
	u8 before;
	int err;

	if (!set->heap)
		otf_set_jump(set);
	for (i = 0; i < set->probes; i++) {
		struct otf_probe *probe = &set->probe[i];

		if (probe->jump.piece) {
			probe->kp.addr = NULL;
			row += probe->jump.runs.count;
			continue;
		}
		if (copy_from_kernel_nofault(&before, probe->kp.addr, 1))
			before = INT3_INSN_OPCODE;
		err = otf_probe_register(probe);
		for (k = 0; k < probe->jump.runs.count; k++)
			rows[row++].error = err;
		cond_resched();
		if (!err && set->heap && before != probe->kp.opcode &&
		    probe->turn == OTF_TURN_MINE) {
			probe->foreign = true;
			probe->turn = OTF_TURN_OTHERS;
		}
		if (!err && set->heap &&
		    !otf_heap_decode(&probe->call, probe->kp.opcode, probe->kp.addr)) {
			unregister_kprobe(&probe->kp);
			err = -ENXIO;
			rows[row - 1].error = err;
		}
		if (!err) {
			if (!set->heap)
				otf_probe_decode(probe, before);
			continue;
		}
		probe->kp.addr = NULL;
		if (err == -EINTR || !(asked->flags & OTF_PROBES_LENIENT)) {
			otf_set_disarm(set, i);
			return err;
		}
	}
	WRITE_ONCE(set->ready, true);
	return 0;
}

/* what its slot can decide; nothing where it runs more than the one program */
static void otf_probe_quicken(struct otf_set *set, struct otf_probe *probe,
			      const struct otf_quick *quick)
{
	if (!set->lines || probe->jump.runs.count > 1) {
		probe->jump.quick.size = 0;
		return;
	}
	probe->jump.quick = *quick;
	probe->jump.quick.line = otf_lines_row(set->lines, quick);
}

static int otf_set_fill(struct otf_set *set, const struct otf_probes *asked,
			const struct otf_probe_row *rows)
{
	struct otf_probe *probe = NULL;
	struct bpf_prog *prog;
	u32 i;

	for (i = 0; i < OTF_MAX_PROGRAMS; i++) {
		if (!asked->programs[i])
			continue;
		prog = bpf_prog_get_type_dev(asked->programs[i], BPF_PROG_TYPE_KPROBE, false);
		if (IS_ERR(prog))
			return PTR_ERR(prog);
		set->programs[i] = prog;
		if (prog->sleepable)
			return -EINVAL;
	}
	for (i = 0; i < asked->count; i++) {
		if (!rows[i].address || (i && rows[i].address < rows[i - 1].address))
			return -EINVAL;
		if (set->heap ? i && rows[i].address == rows[i - 1].address :
				rows[i].program >= OTF_MAX_PROGRAMS ||
					!set->programs[rows[i].program])
			return -EINVAL;
		if (!i || rows[i].address != rows[i - 1].address) {
			probe = &set->probe[set->probes++];
			probe->address = (void *)rows[i].address;
			probe->kp.addr = probe->address;
			probe->kp.pre_handler = set->heap ? otf_heap_hit : otf_probe_hit;
			probe->heap = set->heap;
			probe->jump.runs.run = &set->run[i];
			probe->back = rows[i].back;
			probe->ahead = rows[i].ahead;
		}
		probe->jump.runs.count++;
		if (set->heap)
			continue;
		if (!otf_quick_possible(&rows[i].quick, asked->lines))
			return -EINVAL;
		otf_probe_quicken(set, probe, &rows[i].quick);
		if (rows[i].flags & OTF_ROW_JUDGES)
			set->run[i].when = &set->ready;
		set->run[i].prog = set->programs[rows[i].program];
		set->run[i].cookie = rows[i].cookie;
	}
	return 0;
}

static int otf_probes_reg(void *kdata, struct bpf_link *link)
{
	const struct otf_probes *asked = kdata;
	void __user *user = u64_to_user_ptr(asked->rows);
	size_t bytes = (size_t)asked->count * sizeof(struct otf_probe_row);
	struct otf_probe_row *rows;
	struct otf_set *set;
	int err = -ENOMEM;

	if (!link || !asked->count || asked->count > OTF_MAX_PROBES)
		return -EINVAL;
	rows = kvmalloc(bytes, GFP_KERNEL);
	set = kzalloc(sizeof(*set), GFP_KERNEL);
	if (!rows || !set)
		goto free;
	set->probe = kvcalloc(asked->count, sizeof(*set->probe), GFP_KERNEL);
	set->run = kvcalloc(asked->count, sizeof(*set->run), GFP_KERNEL);
	if (!set->probe || !set->run)
		goto free;
	if (asked->heap[0]) {
		char heap[sizeof(asked->heap)];

		strscpy(heap, asked->heap, sizeof(heap));
		set->heap = otf_heap_get(heap);
		err = PTR_ERR_OR_ZERO(set->heap);
		if (err) {
			set->heap = NULL;
			goto free;
		}
	}
	if (asked->lines && !set->heap) {
		char name[sizeof(asked->name)];

		strscpy(name, asked->name, sizeof(name));
		set->lines = otf_lines_get(name, asked->lines);
	}
	err = copy_from_user(rows, user, bytes) ? -EFAULT : otf_set_fill(set, asked, rows);
	if (!err)
		err = otf_set_hold_modules(set);
	if (err)
		goto free;
	set->link = link;
	memcpy(set->name, asked->name, sizeof(set->name) - 1);
	mutex_lock(&otf_sets_mutex);
	list_add_tail(&set->list, &otf_sets);
	otf_set_share(set);
	otf_sets_order();
	mutex_unlock(&otf_sets_mutex);
	err = otf_set_arm(set, asked, rows);
	if (copy_to_user(user, rows, bytes) && !err) {
		otf_set_disarm(set, set->probes);
		err = -EFAULT;
	}
	if (!err) {
		kvfree(rows);
		return 0;
	}
	mutex_lock(&otf_sets_mutex);
	list_del(&set->list);
	otf_sets_order();
	mutex_unlock(&otf_sets_mutex);
free:
	if (set)
		otf_set_free(set);
	kvfree(rows);
	return err;
}

static void otf_probes_unreg(void *kdata, struct bpf_link *link)
{
	struct otf_set *set, *found = NULL;

	mutex_lock(&otf_sets_mutex);
	list_for_each_entry(set, &otf_sets, list)
		if (set->link == link)
			found = set;
	if (found) {
		list_del(&found->list);
		/* a newer set takes over what this one still does: nobody is left for whom it would matter */
		otf_sets_order();
	}
	mutex_unlock(&otf_sets_mutex);
	if (!found)
		return;
	otf_set_disarm(found, found->probes);
	otf_set_free(found);
}

static const struct bpf_verifier_ops otf_probes_verifier_ops;
static struct otf_probes otf_probes_stubs;

static struct bpf_struct_ops otf_probes_ops = {
	.verifier_ops = &otf_probes_verifier_ops,
	.init = otf_guard_init_type,
	.init_member = otf_guard_copy_data,
	.reg = otf_probes_reg,
	.unreg = otf_probes_unreg,
	.cfi_stubs = &otf_probes_stubs,
	.name = "otf_probes",
	.owner = THIS_MODULE,
};

/* set, address, hits that nothing checked, and what it is */
static void otf_probe_show(struct seq_file *m, const struct otf_set *set,
			   const struct otf_probe *probe)
{
	if (probe->jump.piece)
		seq_printf(m, "%s %lx %lu %s %llu\n", set->name, (unsigned long)probe->address,
			   otf_jump_missed(&probe->jump),
			   otf_jump_stands(probe->address) ? "jump" : "lost",
			   otf_jump_quick(&probe->jump));
	else if (probe->kp.addr)
		seq_printf(m, "%s %lx %lu breakpoint\n", set->name,
			   (unsigned long)probe->address, probe->kp.nmissed);
}

/* one line for each probe, with the hits that no program has seen; then who follows frees, and heaps */
static int otf_probes_show(struct seq_file *m, void *v)
{
	struct otf_set *set;
	u32 i;

	mutex_lock(&otf_sets_mutex);
	otf_jumps_lock();
	list_for_each_entry(set, &otf_sets, list)
		for (i = 0; i < set->probes; i++)
			otf_probe_show(m, set, &set->probe[i]);
	otf_jumps_show(m);
	otf_jumps_unlock();
	mutex_unlock(&otf_sets_mutex);
	otf_frees_show(m);
	otf_heaps_show(m);
	return 0;
}

int otf_guard_register_probes(void)
{
	int err;

	if (!proc_create_single("otf_guard", 0400, NULL, otf_probes_show))
		return -ENOMEM;
	err = register_bpf_struct_ops(&otf_probes_ops, otf_probes);
	if (err)
		remove_proc_entry("otf_guard", NULL);
	return err;
}

void otf_guard_unregister_probes(void)
{
	/* a map of the struct_ops holds this module: no set is left */
	remove_proc_entry("otf_guard", NULL);
}
