// SPDX-License-Identifier: GPL-2.0-only
/*
 * Probes without an exception: a jump stands where the probed instructions were, and
 * leads to a slot (slot.c) in which they run, each behind a call of what its probes
 * run. Changed as the kernel changes code: a breakpoint first, whose handler goes on
 * in the slot, then what follows it, then the first byte.
 */
#include <linux/bitmap.h>
#include <linux/bpf.h>
#include <linux/hashtable.h>
#include <linux/irqflags.h>
#include <linux/kdebug.h>
#include <linux/kprobes.h>
#include <linux/linkage.h>
#include <linux/module.h>
#include <linux/objtool.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/rculist.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/text-patching.h>

#include "guard.h"
#include "hidden.h"
#include "jumps.h"
#include "slot.h"

#define OTF_SLOTS_BYTES 4194304		/* as in the assembly below */
#define OTF_SLOT_ALIGN 16

/* a probed instruction of a region */
struct otf_piece {
	unsigned long address;
	unsigned long after;	/* in the slot: behind the instruction */
	struct otf_runs __rcu *runs;
	unsigned long missed;
	u32 index;
	u32 line;	/* where its slot looks for a verdict, OTF_NO_LINE */
	bool wide;	/* there is one for each page */
	bool quick;	/* its slot decides something itself */
	const struct otf_jump *decides;	/* for whom; NULL: who it was is gone */
	struct otf_lines *held;	/* where such a slot still looks */
	bool fresh;	/* no slot has it yet */
};

struct otf_region {
	struct hlist_node hash;
	struct list_head work;	/* what the next commit looks at */
	struct otf_code code;
	struct otf_piece *piece[OTF_REGION_INSNS];
	u8 *slot, *old_slot;
	u16 slot_size, old_size;
	bool live;	/* the jump stands */
	bool stuck;	/* it cannot be taken away: holds this module and the probed one */
	struct module *held;
};

/* where slots lie: as far from the kernel's code as modules are, so that jumps reach it */
extern u8 otf_slots[];
asm(".pushsection .otf_slots, \"ax\"\n"
    ".balign 16\n"
    "otf_slots:\n"
    ANNOTATE_NOENDBR
    "	.fill 524288, 8, 0x0000000000841f0f\n"	/* nopl 0x0(%rax,%rax,1) */
    ".popsection\n");

static DEFINE_MUTEX(otf_jumps_mutex);
static DEFINE_HASHTABLE(otf_regions, 13);	/* by start */
static LIST_HEAD(otf_work);
static LIST_HEAD(otf_stuck);	/* by work: what could not be taken away */
static unsigned long *otf_slots_used;
static struct otf_piece **otf_pieces;
static unsigned long *otf_pieces_used;
static bool otf_possible;
static DEFINE_PER_CPU(u32, otf_jump_depth);

/*
 * A hit: the registers as an int3 probe would have them, in the order of struct
 * pt_regs. What the slot has pushed stands in ss, where it goes on in sp.
 */
void otf_jump_entry(void);
asm(".text\n"
    ".globl otf_jump_entry\n"
    ".type otf_jump_entry, @function\n"
    "otf_jump_entry:\n"
    ANNOTATE_NOENDBR
    "	pushfq\n"
    "	cli\n"
    "	cld\n"
    "	push $" __stringify(__KERNEL_CS) "\n"
    "	push $0\n"
    "	push $" __stringify(0x6f7466) "\n"
    "	push %rdi\n	push %rsi\n	push %rdx\n	push %rcx\n	push %rax\n"
    "	push %r8\n	push %r9\n	push %r10\n	push %r11\n"
    "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	mov %rsp, %rdi\n"
    "	call otf_jump_hit\n"
    "	test %eax, %eax\n"
    "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
    "	pop %r11\n	pop %r10\n	pop %r9\n	pop %r8\n"
    "	pop %rax\n	pop %rcx\n	pop %rdx\n	pop %rsi\n	pop %rdi\n"
    "	jnz 1f\n"
    "	lea 24(%rsp), %rsp\n"
    "	popfq\n"
    "	" ASM_RET
    /* elsewhere, with other registers */
    "1:	lea 8(%rsp), %rsp\n"
    "	iretq\n"
    ".size otf_jump_entry, . - otf_jump_entry\n");
STACK_FRAME_NON_STANDARD(otf_jump_entry);
NOKPROBE_SYMBOL(otf_jump_entry);

/* 1: something has changed where it goes on */
asmlinkage __visible unsigned long otf_jump_hit(struct pt_regs *regs);
notrace __no_stack_protector asmlinkage __visible unsigned long otf_jump_hit(struct pt_regs *regs)
{
	/* ss is less than a word to the kernel */
	struct otf_piece *piece = otf_pieces[*(unsigned long *)&regs->ss];
	unsigned long back = regs->sp, ip = piece->address + INT3_INSN_SIZE;
	const struct otf_runs *runs;

	regs->sp = (unsigned long)(regs + 1);
	*(unsigned long *)&regs->ss = __KERNEL_DS;
	regs->ip = ip;
	if (regs->flags & X86_EFLAGS_IF)
		trace_hardirqs_off();
	/* an NMI, or what the programs call is probed itself: as with kprobes nothing is checked */
	if (unlikely(__this_cpu_inc_return(otf_jump_depth) > 1)) {
		piece->missed++;
	} else {
		otf_verdict_ask(READ_ONCE(piece->line), READ_ONCE(piece->wide));
		for (runs = rcu_dereference_sched(piece->runs); runs && regs->ip == ip;
		     runs = rcu_dereference_sched(runs->older))
			otf_runs_do(runs, regs, ip);
		otf_verdict_ask(OTF_NO_LINE, false);
	}
	__this_cpu_dec(otf_jump_depth);
	if (regs->flags & X86_EFLAGS_IF)
		trace_hardirqs_on();
	if (likely(regs->ip == ip)) {
		regs->sp = back;
		return 0;
	}
	if (regs->orig_ax == OTF_JUMP_SKIPPED)
		regs->ip = READ_ONCE(piece->after);
	return 1;
}
NOKPROBE_SYMBOL(otf_jump_hit);

static struct otf_region *otf_region_at(const u8 *start)
{
	struct otf_region *region;

	hash_for_each_possible_rcu_notrace(otf_regions, region, hash, (unsigned long)start)
		if (region->code.start == start)
			return region;
	return NULL;
}
NOKPROBE_SYMBOL(otf_region_at);

static struct otf_region *otf_region_around(const u8 *address)
{
	struct otf_region *region;
	u32 i;

	for (i = 0; i < OTF_REGION_BYTES; i++) {
		region = otf_region_at(address - i);
		if (region)
			return region->code.length > i ? region : NULL;
	}
	return NULL;
}

/* the breakpoint that stands while a jump is written or taken away */
static int otf_jumps_trap(struct notifier_block *block, unsigned long why, void *data)
{
	struct pt_regs *regs = ((struct die_args *)data)->regs;
	struct otf_region *region;

	if (why != DIE_INT3 || user_mode(regs))
		return NOTIFY_DONE;
	region = otf_region_at((u8 *)regs->ip - INT3_INSN_SIZE);
	if (!region)
		return NOTIFY_DONE;
	regs->ip = (unsigned long)READ_ONCE(region->slot);
	return NOTIFY_STOP;
}
NOKPROBE_SYMBOL(otf_jumps_trap);

static struct notifier_block otf_jumps_block = { .notifier_call = otf_jumps_trap };

static struct otf_piece *otf_piece_get(struct otf_region *region, u32 insn)
{
	u32 index = find_first_zero_bit(otf_pieces_used, OTF_MAX_PIECES);
	struct otf_piece *piece;

	if (region->piece[insn])
		return region->piece[insn];
	/* a region without pieces goes with the next commit */
	if (list_empty(&region->work))
		list_add_tail(&region->work, &otf_work);
	if (index == OTF_MAX_PIECES)
		return NULL;
	piece = kzalloc(sizeof(*piece), GFP_KERNEL);
	if (!piece)
		return NULL;
	piece->index = index;
	piece->address = (unsigned long)region->code.start + region->code.insn[insn].offset;
	piece->fresh = true;
	__set_bit(index, otf_pieces_used);
	otf_pieces[index] = piece;
	region->piece[insn] = piece;
	return piece;
}

static void otf_piece_free(struct otf_region *region, u32 insn)
{
	struct otf_piece *piece = region->piece[insn];

	if (!piece)
		return;
	region->piece[insn] = NULL;
	otf_pieces[piece->index] = NULL;
	otf_quick_hits_clear(piece->index);
	otf_lines_put(piece->held);
	__clear_bit(piece->index, otf_pieces_used);
	kfree(piece);
}

/* what the slot of a piece may decide itself: what two sets ask for is for both of them to judge */
static const struct otf_quick *otf_piece_quick(const struct otf_piece *piece)
{
	struct otf_runs *runs = rcu_dereference_protected(piece->runs, true);
	struct otf_jump *jump = container_of(runs, struct otf_jump, runs);

	if (!runs || rcu_access_pointer(runs->older) || !jump->quick.size)
		return NULL;
	return &jump->quick;
}

/* what runs there is to be a breakpoint: its set asks */
static void otf_piece_refuse(struct otf_region *region, u32 insn)
{
	struct otf_runs *runs = region->piece[insn] ?
		rcu_dereference_protected(region->piece[insn]->runs, true) : NULL;

	for (; runs; runs = rcu_dereference_protected(runs->older, true))
		container_of(runs, struct otf_jump, runs)->piece = NULL;
	otf_piece_free(region, insn);
}

/*
 * There is no other slot: the one that stands decides for one set alone, so that
 * others are refused there. If that one is gone, nothing more is kept.
 */
static void otf_piece_leave(struct otf_piece *piece)
{
	struct otf_runs *runs = rcu_dereference_protected(piece->runs, true), *older;
	struct otf_jump *jump;

	for (; runs; runs = older) {
		jump = container_of(runs, struct otf_jump, runs);
		older = rcu_dereference_protected(runs->older, true);
		if (jump == piece->decides)
			break;
		jump->piece = NULL;
	}
	rcu_assign_pointer(piece->runs, runs);
	if (!piece->decides && piece->line != OTF_NO_LINE) {
		/* until the piece goes; a second time for good */
		if (!piece->held)
			piece->held = otf_lines_hold(piece->line);
		else
			otf_lines_hold(piece->line);
		WRITE_ONCE(piece->line, OTF_NO_LINE);
	}
}

static u8 *otf_slot_get(u32 size)
{
	u32 blocks = DIV_ROUND_UP(size, OTF_SLOT_ALIGN), all = OTF_SLOTS_BYTES / OTF_SLOT_ALIGN;
	unsigned long at = bitmap_find_next_zero_area(otf_slots_used, all, 0, blocks, 0);

	if (at + blocks > all)
		return NULL;
	bitmap_set(otf_slots_used, at, blocks);
	return otf_slots + at * OTF_SLOT_ALIGN;
}

static void otf_slot_put(u8 *slot, u32 size)
{
	if (slot)
		bitmap_clear(otf_slots_used, (slot - otf_slots) / OTF_SLOT_ALIGN,
			     DIV_ROUND_UP(size, OTF_SLOT_ALIGN));
}

/* whether other regions start in [start, end) */
static bool otf_regions_in(const u8 *start, const u8 *end)
{
	for (; start < end; start++)
		if (otf_region_at(start))
			return true;
	return false;
}

static u32 otf_code_find(const struct otf_code *code, const u8 *address)
{
	u32 i;

	for (i = 0; i < code->count; i++)
		if (code->start + code->insn[i].offset == address)
			break;
	return i;
}

/*
 * A region for the instruction at address. It may begin back bytes before, and no
 * code jumps into the ahead bytes from the instruction on but to their first.
 */
static struct otf_region *otf_region_make(u8 *address, u8 back, u8 ahead)
{
	struct otf_region *region = otf_region_around(address - back);
	u8 *start = address - back;
	struct otf_code *code;
	int err;

	if (region && (region->live || address - region->code.start >= OTF_REGION_BYTES))
		return ERR_PTR(-EBUSY);
	if (region)
		start = region->code.start;
	code = kzalloc(sizeof(*code), GFP_KERNEL);
	if (!code)
		return ERR_PTR(-ENOMEM);
	back = address - start;
	err = otf_code_read(code, start, back + ahead, max_t(u8, JMP32_INSN_SIZE, back + 1));
	if (!err && otf_regions_in(start + 1, start + code->length))
		err = -EBUSY;
	if (!err && otf_code_find(code, address) == code->count)
		err = -EILSEQ;
	if (!err && !region) {
		region = kzalloc(sizeof(*region), GFP_KERNEL);
		if (region)
			INIT_LIST_HEAD(&region->work);
		else
			err = -ENOMEM;
		if (region)
			hash_add_rcu(otf_regions, &region->hash, (unsigned long)start);
	}
	if (!err)
		region->code = *code;
	kfree(code);
	return err ? ERR_PTR(err) : region;
}

void otf_jumps_lock(void)
{
	mutex_lock(&otf_jumps_mutex);
}

void otf_jumps_unlock(void)
{
	mutex_unlock(&otf_jumps_mutex);
}

/* the next commit looks at it if its slot is to be another one */
static void otf_region_look(struct otf_region *region, const struct otf_piece *piece)
{
	const struct otf_quick *quick = otf_piece_quick(piece);

	if (list_empty(&region->work) &&
	    (piece->quick != !!quick || (quick && piece->line != quick->line)))
		list_add_tail(&region->work, &otf_work);
}

/* locked; becomes effective with the next commit, which may still refuse it */
int otf_jump_plan(struct otf_jump *jump, u8 *address, u8 back, u8 ahead)
{
	struct otf_region *region = otf_region_around(address);
	struct otf_piece *piece;
	u32 insn;

	if (!otf_possible)
		return -EOPNOTSUPP;
	if (!region && !ahead)
		return -ENOSPC;
	if (!region)
		region = otf_region_make(address, back, ahead);
	if (IS_ERR(region))
		return PTR_ERR(region);
	insn = otf_code_find(&region->code, address);
	if (insn == region->code.count)
		return -EILSEQ;
	piece = otf_piece_get(region, insn);
	if (!piece)
		return -ENOMEM;
	jump->piece = piece;
	jump->quick_before = otf_quick_hits(piece->index);
	rcu_assign_pointer(jump->runs.older, rcu_dereference_protected(piece->runs, true));
	rcu_assign_pointer(piece->runs, &jump->runs);
	otf_region_look(region, piece);
	return 0;
}

static bool otf_region_used(const struct otf_region *region)
{
	u32 i;

	for (i = 0; i < region->code.count; i++)
		if (region->piece[i] && rcu_access_pointer(region->piece[i]->runs))
			return true;
	return false;
}

/* locked; what it runs may be freed after the next commit */
void otf_jump_drop(struct otf_jump *jump)
{
	struct otf_piece *piece = jump->piece;
	struct otf_region *region;
	struct otf_runs __rcu **link;

	if (!piece)
		return;
	for (link = &piece->runs; rcu_access_pointer(*link) != &jump->runs;
	     link = &rcu_dereference_protected(*link, true)->older)
		;
	rcu_assign_pointer(*link, rcu_dereference_protected(jump->runs.older, true));
	jump->piece = NULL;
	if (piece->decides == jump)
		piece->decides = NULL;
	region = otf_region_around((u8 *)piece->address);
	if (!otf_region_used(region) && list_empty(&region->work))
		list_add_tail(&region->work, &otf_work);
	else
		otf_region_look(region, piece);
}

/* makes room for a slot and writes it to out; NULL: there is none */
static u8 *otf_region_put(const struct otf_region *region, const struct otf_ask *ask, u8 *out,
			  int *size, u16 *after)
{
	u8 *slot = NULL;

	/* once for the size, which does not depend on where it lies */
	*size = otf_slot_build(out, otf_slots, &region->code, ask, &otf_verdict_places, after);
	if (*size > 0)
		slot = otf_slot_get(*size);
	if (slot && otf_slot_build(out, slot, &region->code, ask, &otf_verdict_places, after) !=
			    *size) {
		otf_slot_put(slot, *size);
		slot = NULL;
	}
	return slot;
}

/* a slot for the pieces that the region has now */
static int otf_region_build(struct otf_region *region)
{
	struct otf_ask *ask = kcalloc(OTF_REGION_INSNS, sizeof(*ask), GFP_KERNEL);
	u8 *out = kmalloc(OTF_SLOT_BYTES, GFP_KERNEL), *slot = NULL;
	u16 after[OTF_REGION_INSNS];
	struct otf_piece *piece;
	int size;
	u32 i;

	if (!out || !ask)
		goto free;
	for (i = 0; i < region->code.count; i++) {
		piece = region->piece[i];
		ask[i].index = piece ? piece->index : OTF_NO_PIECE;
		ask[i].quick = piece ? otf_piece_quick(piece) : NULL;
	}
	slot = otf_region_put(region, ask, out, &size, after);
	if (!slot) {
		/* smaller: the programs decide all */
		for (i = 0; i < region->code.count; i++)
			ask[i].quick = NULL;
		slot = otf_region_put(region, ask, out, &size, after);
	}
	if (!slot)
		goto free;
	otf_text_lock();
	otf_text_write(slot, out, size);
	otf_text_unlock();
	region->old_slot = region->slot;
	region->old_size = region->slot_size;
	region->slot_size = size;
	for (i = 0; i < region->code.count; i++) {
		piece = region->piece[i];
		if (!piece)
			continue;
		WRITE_ONCE(piece->after, (unsigned long)(slot + after[i]));
		WRITE_ONCE(piece->wide, ask[i].quick && ask[i].quick->wide);
		WRITE_ONCE(piece->line, ask[i].quick ? ask[i].quick->line : OTF_NO_LINE);
		piece->quick = ask[i].quick;
		piece->decides = piece->quick ? container_of(ask[i].quick, struct otf_jump, quick) :
						NULL;
		piece->fresh = false;
	}
	WRITE_ONCE(region->slot, slot);
free:
	kfree(ask);
	kfree(out);
	return slot ? 0 : -ENOSPC;
}

enum otf_phase { OTF_PHASE_TRAP, OTF_PHASE_TAIL, OTF_PHASE_HEAD };

static void otf_region_write(struct otf_region *region, enum otf_phase phase)
{
	static const u8 trap = INT3_INSN_OPCODE;
	u8 bytes[OTF_REGION_BYTES];

	if (otf_region_used(region)) {
		memset(bytes, INT3_INSN_OPCODE, sizeof(bytes));
		__text_gen_insn(bytes, JMP32_INSN_OPCODE, region->code.start, region->slot,
				JMP32_INSN_SIZE);
	} else {
		memcpy(bytes, region->code.bytes, sizeof(bytes));
	}
	if (phase == OTF_PHASE_TRAP)
		otf_text_write(region->code.start, &trap, 1);
	else if (phase == OTF_PHASE_TAIL)
		otf_text_write(region->code.start + 1, bytes + 1, region->code.length - 1);
	else
		otf_text_write(region->code.start, bytes, 1);
}

/*
 * kprobes locked: whether what stands there is what this put there, or what it has
 * read. A kprobe has a copy of what it found, and would put it back.
 */
static bool otf_region_intact(const struct otf_region *region)
{
	const struct otf_code *code = &region->code;

	if (otf_kprobes_in(code->start, code->start + code->length))
		return false;
	if (region->live)
		return *code->start == JMP32_INSN_OPCODE;
	return !memcmp(code->start, code->bytes, code->length);
}

/* a kprobe is on the jump: it stays, for as long as the kprobe does at least */
static void otf_region_stick(struct otf_region *region, bool stuck)
{
	if (region->stuck == stuck)
		return;
	region->stuck = stuck;
	if (stuck) {
		__module_get(THIS_MODULE);
		/* whoever has asked for it holds it still */
		region->held = otf_module_get((unsigned long)region->code.start);
	} else {
		module_put(region->held);
		module_put(THIS_MODULE);
	}
}

static void otf_regions_write(struct list_head *regions, enum otf_phase phase)
{
	struct otf_region *region;

	list_for_each_entry(region, regions, work) {
		otf_region_write(region, phase);
		cond_resched();
	}
	otf_text_sync();
}

static void otf_region_free(struct otf_region *region)
{
	u32 i;

	list_del_init(&region->work);
	for (i = 0; i < region->code.count; i++)
		otf_piece_free(region, i);
	otf_slot_put(region->slot, region->slot_size);
	kfree(region);
}

/* no room for a slot, somebody else's kprobe, or nobody wants it any more */
static void otf_region_refuse(struct otf_region *region, struct list_head *gone)
{
	u32 i;

	for (i = 0; i < region->code.count; i++) {
		struct otf_piece *piece = region->piece[i];

		if (piece && piece->fresh)
			otf_piece_refuse(region, i);
		else if (piece && piece->quick)
			otf_piece_leave(piece);
	}
	if (!region->live) {
		hash_del_rcu(&region->hash);
		list_move_tail(&region->work, gone);
	} else if (region->stuck) {
		list_move_tail(&region->work, &otf_stuck);
	} else {
		list_del_init(&region->work);
	}
}

/*
 * Makes what was planned and dropped effective; pieces that are refused become
 * none. kprobes stay as they are meanwhile: between two of them others could see
 * half a jump.
 */
void otf_jumps_commit(void)
{
	struct otf_region *region, *next;
	LIST_HEAD(write);
	LIST_HEAD(gone);
	bool fresh = false, old = false;

	if (!otf_possible)
		return;
	list_splice_init(&otf_stuck, &otf_work);
	otf_kprobes_lock();
	list_for_each_entry_safe(region, next, &otf_work, work) {
		bool used = otf_region_used(region), intact = otf_region_intact(region);

		cond_resched();
		if (region->live && !intact)
			otf_region_stick(region, !used);
		if (intact && (used ? !otf_region_build(region) : region->live)) {
			fresh |= !region->live;
			list_move_tail(&region->work, &write);
		} else {
			otf_region_refuse(region, &gone);
		}
	}
	if (!list_empty(&write)) {
		otf_text_lock();
		otf_regions_write(&write, OTF_PHASE_TRAP);
		if (fresh) {
			/* nobody stands behind the first instruction of a region any more */
			otf_text_unlock();
			synchronize_rcu_tasks();
			otf_text_lock();
		}
		otf_regions_write(&write, OTF_PHASE_TAIL);
		otf_regions_write(&write, OTF_PHASE_HEAD);
		otf_text_unlock();
	}
	list_for_each_entry_safe(region, next, &write, work) {
		region->live = otf_region_used(region);
		old |= region->old_slot != NULL;
		if (region->live)
			continue;
		otf_region_stick(region, false);
		hash_del_rcu(&region->hash);
		list_move_tail(&region->work, &gone);
	}
	otf_kprobes_unlock();
	if (old || !list_empty(&gone))
		/* nobody stands in their slots any more */
		synchronize_rcu_tasks();
	/* nor runs what was dropped */
	synchronize_rcu();
	list_for_each_entry_safe(region, next, &write, work) {
		list_del_init(&region->work);
		otf_slot_put(region->old_slot, region->old_size);
		region->old_slot = NULL;
	}
	list_for_each_entry_safe(region, next, &gone, work)
		otf_region_free(region);
}

unsigned long otf_jump_missed(const struct otf_jump *jump)
{
	return READ_ONCE(jump->piece->missed);
}

/* hits that its slot has decided */
u64 otf_jump_quick(const struct otf_jump *jump)
{
	return otf_quick_hits(jump->piece->index) - jump->quick_before;
}

/* locked: jumps that nobody wants any more, and that cannot be taken away yet */
void otf_jumps_show(struct seq_file *m)
{
	struct otf_region *region;

	if (list_empty(&otf_stuck))
		return;
	otf_jumps_commit();
	list_for_each_entry(region, &otf_stuck, work)
		seq_printf(m, "kept %lx\n", (unsigned long)region->code.start);
}

/* locked: whether a jump is there, whoever may have put a kprobe on it */
bool otf_jump_stands(const void *address)
{
	const struct otf_region *region = otf_possible ? otf_region_around(address) : NULL;
	u8 first;

	return region && region->live && !copy_from_kernel_nofault(&first, region->code.start, 1) &&
	       (first == JMP32_INSN_OPCODE || first == INT3_INSN_OPCODE);
}

int otf_jumps_init(void)
{
	int err = otf_hidden_find();

	if (err) {
		pr_info("otf_guard: probes stay breakpoints: %d\n", err);
		return 0;
	}
	otf_pieces = kvcalloc(OTF_MAX_PIECES, sizeof(*otf_pieces), GFP_KERNEL);
	otf_pieces_used = bitmap_zalloc(OTF_MAX_PIECES, GFP_KERNEL);
	otf_slots_used = bitmap_zalloc(OTF_SLOTS_BYTES / OTF_SLOT_ALIGN, GFP_KERNEL);
	err = -ENOMEM;
	if (otf_pieces && otf_pieces_used && otf_slots_used)
		err = register_die_notifier(&otf_jumps_block);
	if (err) {
		otf_jumps_exit();
		return err;
	}
	otf_possible = true;
	return 0;
}

/* no set is left, and no region with them */
void otf_jumps_exit(void)
{
	if (otf_possible)
		unregister_die_notifier(&otf_jumps_block);
	kvfree(otf_pieces);
	bitmap_free(otf_pieces_used);
	bitmap_free(otf_slots_used);
	otf_verdicts_exit();
}
