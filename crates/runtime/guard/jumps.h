/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OTF_JUMPS_H
#define OTF_JUMPS_H

#include <linux/types.h>
#include <asm/insn.h>

struct bpf_prog;
struct module;
struct pt_regs;

#define OTF_REGION_BYTES 32	/* most that a jump replaces */
#define OTF_REGION_INSNS 24
#define OTF_SLOT_BYTES 768	/* most that the slot of a region has */

/* in orig_ax: the registers are of a jump; a handler may change them */
#define OTF_JUMP_ORIG_AX 0x6f7466L

enum otf_insn_kind {
	OTF_INSN_PLAIN,
	OTF_INSN_BRANCH,	/* jcc to target */
	OTF_INSN_JUMP,		/* jmp to target */
	OTF_INSN_CALL,		/* call of target */
	OTF_INSN_CALL_THROUGH,	/* call through register or memory */
	OTF_INSN_LEAVE,		/* does not come back: ret, jmp through register or memory */
};

struct otf_insn {
	u8 offset, length;
	u8 kind;		/* enum otf_insn_kind */
	u8 condition;		/* of a branch */
	u8 opcode;		/* where the opcode stands in the instruction */
	u8 relative;		/* where a displacement from ip stands, 0: there is none */
	s32 distance;		/* that displacement, or of the target, from the next instruction */
};

/* code that a jump has replaced: whole instructions, entered at the first alone */
struct otf_code {
	u8 *start;
	u8 length, count;
	u8 bytes[OTF_REGION_BYTES];
	struct otf_insn insn[OTF_REGION_INSNS];
};

/* slot.c: instructions elsewhere */
int otf_code_read(struct otf_code *code, u8 *start, u8 room, u8 need);
int otf_slot_build(u8 *out, const u8 *slot, const struct otf_code *code, const u32 *index,
		   u16 *after);
#define OTF_NO_PIECE ((u32)-1)

/* hidden.c: what the kernel does not export */
int otf_hidden_find(void);
void otf_text_lock(void);
void otf_text_unlock(void);
void otf_text_write(void *addr, const void *bytes, size_t size);
void otf_text_sync(void);
bool otf_text_decode(struct insn *insn, const void *bytes, int size);

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

void otf_runs_do(const struct otf_runs *runs, struct pt_regs *regs, unsigned long ip);

/* jumps.c: one probe that is to be a jump */
struct otf_jump {
	struct otf_runs runs;
	struct otf_piece *piece;	/* NULL: it is none */
};

bool otf_jumps_possible(void);
int otf_jump_plan(struct otf_jump *jump, u8 *address, u8 back, u8 ahead);
void otf_jumps_commit(void);
void otf_jump_drop(struct otf_jump *jump);
unsigned long otf_jump_missed(const struct otf_jump *jump);
void otf_jumps_lock(void);
void otf_jumps_unlock(void);
int otf_jumps_init(void);
void otf_jumps_exit(void);

#endif
