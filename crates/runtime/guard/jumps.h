/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OTF_JUMPS_H
#define OTF_JUMPS_H

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/types.h>

#include "verdicts.h"

struct seq_file;

#define OTF_MAX_PIECES (1 << 16)

/* in orig_ax: the registers are of a jump; a handler may change them */
#define OTF_JUMP_ORIG_AX 0x6f7466L
/* the same, and the instruction is left out: what follows it stands in the slot */
#define OTF_JUMP_SKIPPED 0x6f7467L

struct otf_run {
	struct bpf_prog *prog;
	u64 cookie;
	const bool *when;	/* runs only then; NULL: always */
};

/* what a probe runs; at a jump those of several sets are chained, the newest first */
struct otf_runs {
	struct otf_runs __rcu *older;
	struct otf_run *run;
	u32 count;
};

/*
 * With interrupts off: it cannot move to another CPU, and is an RCU reader already.
 * The first program that changes ip ends it.
 */
static __always_inline void otf_runs_do(const struct otf_runs *runs, struct pt_regs *regs,
					unsigned long ip)
{
	const struct otf_run *run = runs->run, *end = run + runs->count;
	struct bpf_trace_run_ctx context;
	struct bpf_run_ctx *old;

	/* what maps check */
	if (IS_ENABLED(CONFIG_PROVE_RCU))
		rcu_read_lock();
	context.is_uprobe = false;
	old = bpf_set_run_ctx(&context.run_ctx);
	for (; run < end && regs->ip == ip; run++) {
		if (run->when && !READ_ONCE(*run->when))
			continue;
		context.bpf_cookie = run->cookie;
		bpf_prog_run(run->prog, regs);
	}
	bpf_reset_run_ctx(old);
	if (IS_ENABLED(CONFIG_PROVE_RCU))
		rcu_read_unlock();
}

/* jumps.c: one probe that is to be a jump */
struct otf_jump {
	struct otf_runs runs;
	struct otf_quick quick;	/* size is 0: none */
	struct otf_piece *piece;	/* NULL: it is none */
	u64 quick_before;	/* hits of its slot that were others' */
};

int otf_jump_plan(struct otf_jump *jump, u8 *address, u8 back, u8 ahead);
void otf_jumps_commit(void);
void otf_jump_drop(struct otf_jump *jump);
unsigned long otf_jump_missed(const struct otf_jump *jump);
u64 otf_jump_quick(const struct otf_jump *jump);
bool otf_jump_stands(const void *address);
void otf_jumps_show(struct seq_file *m);
void otf_jumps_lock(void);
void otf_jumps_unlock(void);
int otf_jumps_init(void);
void otf_jumps_exit(void);

#endif
