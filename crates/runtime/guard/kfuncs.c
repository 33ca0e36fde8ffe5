// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lets a policy's programs refuse a write or a call. Five kfuncs for kprobe
 * programs: leave out the probed instruction, unwind to the gate that was noted,
 * the same and give back what is held, return to its caller, refuse at a gate. They
 * change the registers of the interrupted code and nothing else; what cannot be
 * done safely is refused, and the program counts it.
 */
#include <linux/bottom_half.h>
#include <linux/bpf.h>
#include <linux/btf.h>
#include <linux/btf_ids.h>
#include <linux/kprobes.h>
#include <linux/linkage.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/rethook.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "guard.h"
#include "jumps.h"
#include "verdicts.h"

/* flags that a left-out instruction would have set and that somebody waits for */
#define OTF_GUARD_FLAGS (X86_EFLAGS_CF | X86_EFLAGS_ZF)

/* struct otf_frame of otf_abi.h, as far as it is needed here */
struct otf_guard_frame {
	u64 sp, ret;
	u64 bx, bp, r12, r13, r14, r15;
	u64 flags, instance, refusal;
	u32 gate, pad;
};

/* where a refused call continues: nothing but a return */
void otf_guard_return(void);
asm(".text\n"
    ".type otf_guard_return, @function\n"
    "otf_guard_return:\n"
    "	endbr64\n"
    "	" ASM_RET
    ".size otf_guard_return, . - otf_guard_return\n");

/*
 * Where one continues that held something: di and si say how often. It runs as
 * the function that was unwound would have, in its task, above its frame.
 */
void otf_guard_give_back(u32 rcu, u32 bottom_halves);
noinline void otf_guard_give_back(u32 rcu, u32 bottom_halves)
{
	while (rcu--)
		rcu_read_unlock();
	while (bottom_halves--)
		local_bh_enable();
}

/* the return value is kept; the stack is aligned as at any call */
void otf_guard_release_return(void);
asm(".text\n"
    ".type otf_guard_release_return, @function\n"
    "otf_guard_release_return:\n"
    "	endbr64\n"
    "	push %rax\n"
    "	call otf_guard_give_back\n"
    "	pop %rax\n"
    "	" ASM_RET
    ".size otf_guard_release_return, . - otf_guard_release_return\n");

/*
 * Address of the probed instruction, NULL unless it is probed by int3 or a jump of
 * ours: the handler of a jump-optimised probe ignores what is done to the registers.
 */
static u8 *otf_guard_probed(struct pt_regs *regs)
{
	u8 *addr = (u8 *)regs->ip - INT3_INSN_SIZE;
	u8 insn;

	if (!user_mode(regs) && regs->orig_ax == OTF_JUMP_ORIG_AX)
		return addr;
	if (user_mode(regs) || copy_from_kernel_nofault(&insn, addr, 1) ||
	    insn != INT3_INSN_OPCODE)
		return NULL;
	return addr;
}

/*
 * Whether somebody has exchanged a return address between the two stack pointers:
 * kretprobes and the function graph tracer keep the right ones on stacks of their
 * own, which would no longer match.
 */
static bool otf_guard_is_traced(u64 from, u64 to)
{
	bool traced = false;

#ifdef CONFIG_RETHOOK
	struct llist_node *first = READ_ONCE(current->rethooks.first);

	if (first) {
		u64 frame = llist_entry(first, struct rethook_node, llist)->frame;

		traced = frame >= from && frame < to;
	}
#endif
#ifdef CONFIG_FUNCTION_GRAPH_TRACER
	traced |= current->ret_stack && current->curr_ret_stack > 0;
#endif
	return traced;
}

/* the registers that a function must give back, and what it returns */
static void otf_guard_restore(struct pt_regs *ctx, const struct otf_guard_frame *f)
{
	ctx->bx = f->bx;
	ctx->bp = f->bp;
	ctx->r12 = f->r12;
	ctx->r13 = f->r13;
	ctx->r14 = f->r14;
	ctx->r15 = f->r15;
	ctx->ax = f->refusal;
}

__bpf_kfunc_start_defs();

/* Goes on at the next instruction; a left-out call may still get a return value. */
__bpf_kfunc int otf_guard_skip(struct pt_regs *ctx, u32 insn_len, bool set_ax, u64 ax, u64 flags)
{
	u8 *addr = otf_guard_probed(ctx);

	if (!addr)
		return -EOPNOTSUPP;
	/* behind an instruction of one byte the pointer stands already: nobody would see a change */
	if (insn_len <= INT3_INSN_SIZE || insn_len > MAX_INSN_SIZE)
		return -EINVAL;
	if (set_ax)
		ctx->ax = ax;
	ctx->flags = (ctx->flags & ~OTF_GUARD_FLAGS) | (flags & OTF_GUARD_FLAGS);
	ctx->ip = (unsigned long)addr + insn_len;
	if (ctx->orig_ax == OTF_JUMP_ORIG_AX)
		ctx->orig_ax = OTF_JUMP_SKIPPED;
	return 0;
}

/* Returns from the gate with its refusal value, as if the gate had returned at once. */
__bpf_kfunc int otf_guard_unwind(struct pt_regs *ctx, const void *frame, u32 frame__sz)
{
	const struct otf_guard_frame *f = frame;
	unsigned long ret;

	if (frame__sz < sizeof(*f))
		return -EINVAL;
	if (!otf_guard_probed(ctx))
		return -EOPNOTSUPP;
	if (f->sp < ctx->sp || f->sp - ctx->sp > THREAD_SIZE || f->sp & 7)
		return -EINVAL;
	if (copy_from_kernel_nofault(&ret, (void *)f->sp, sizeof(ret)) || ret != f->ret)
		return -EFAULT;
	if (otf_guard_is_traced(ctx->sp, f->sp))
		return -EBUSY;
	otf_guard_restore(ctx, f);
	ctx->sp = f->sp;
	ctx->ip = (unsigned long)otf_guard_return;
	return 0;
}

/* The same, with RCU read sides and disabled bottom halves given back on the way. */
__bpf_kfunc int otf_guard_release(struct pt_regs *ctx, const void *frame, u32 frame__sz, u32 rcu,
				  u32 bottom_halves)
{
	int err;

	/* enabling them runs what waits, which wants interrupts */
	if (bottom_halves && !(ctx->flags & X86_EFLAGS_IF))
		return -EINVAL;
	err = otf_guard_unwind(ctx, frame, frame__sz);
	if (err)
		return err;
	ctx->di = rcu;
	ctx->si = bottom_halves;
	ctx->ip = (unsigned long)otf_guard_release_return;
	return 0;
}

/* At the return of a gate: to where it was called from, whatever stands on the stack. */
__bpf_kfunc int otf_guard_return_to(struct pt_regs *ctx, const void *frame, u32 frame__sz)
{
	const struct otf_guard_frame *f = frame;

	if (frame__sz < sizeof(*f) || f->sp != ctx->sp)
		return -EINVAL;
	if (!otf_guard_probed(ctx))
		return -EOPNOTSUPP;
	otf_guard_restore(ctx, f);
	ctx->sp = f->sp + sizeof(f->ret);
	ctx->ip = f->ret;
	return 0;
}

/* At the first instruction of a gate behind its ftrace site: does not enter it. */
__bpf_kfunc int otf_guard_refuse(struct pt_regs *ctx, s64 value)
{
	/* behind a direct ftrace caller nobody looks at the instruction pointer */
	if (!otf_guard_probed(ctx))
		return -EOPNOTSUPP;
	ctx->ax = value;
	ctx->ip = (unsigned long)otf_guard_return;
	return 0;
}

/* The verdict on a write of this object, in slab or pages that begin there: it may be kept. */
__bpf_kfunc void otf_guard_begin(u64 object, u64 page)
{
	otf_verdict_begin(object, page);
}

/* The write was found legal, and so is any other of the same instruction within this range. */
__bpf_kfunc void otf_guard_keep(u64 start, u64 length)
{
	otf_verdict_keep(start, length);
}

/* What was found of an object at this address holds no more. */
__bpf_kfunc void otf_guard_forget(u64 addr)
{
	/* what the program has changed is there before it is seen whether something is kept */
	smp_mb();
	otf_verdict_forget(addr);
}

__bpf_kfunc_end_defs();

BTF_KFUNCS_START(otf_guard_kfuncs)
BTF_ID_FLAGS(func, otf_guard_skip)
BTF_ID_FLAGS(func, otf_guard_unwind)
BTF_ID_FLAGS(func, otf_guard_release)
BTF_ID_FLAGS(func, otf_guard_return_to)
BTF_ID_FLAGS(func, otf_guard_refuse)
BTF_ID_FLAGS(func, otf_guard_begin)
BTF_ID_FLAGS(func, otf_guard_keep)
BTF_ID_FLAGS(func, otf_guard_forget)
BTF_KFUNCS_END(otf_guard_kfuncs)

static const struct btf_kfunc_id_set otf_guard_set = {
	.owner = THIS_MODULE,
	.set = &otf_guard_kfuncs,
};

int otf_guard_register_kfuncs(void)
{
	/* a program that uses a kfunc holds this module until it is unloaded */
	return register_btf_kfunc_id_set(BPF_PROG_TYPE_KPROBE, &otf_guard_set);
}
