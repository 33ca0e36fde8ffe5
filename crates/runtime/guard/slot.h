/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OTF_SLOT_H
#define OTF_SLOT_H

#include <linux/types.h>

#include "verdicts.h"

#define OTF_REGION_BYTES 32	/* most that a jump replaces */
#define OTF_REGION_INSNS 24
#define OTF_SLOT_BYTES 2048	/* most that the slot of a region has */

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
#define OTF_NO_PIECE ((u32)-1)

int otf_code_read(struct otf_code *code, u8 *start, u8 room, u8 need);
/* a piece in front of an instruction */
struct otf_ask {
	u32 index;	/* what the call pushes, OTF_NO_PIECE: none */
	const struct otf_quick *quick;	/* what is decided without it; NULL: nothing */
};

int otf_slot_build(u8 *out, const u8 *slot, const struct otf_code *code,
		   const struct otf_ask *ask, const struct otf_verdict_places *places, u16 *after);

#endif
