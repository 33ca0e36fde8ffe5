// SPDX-License-Identifier: GPL-2.0-only
/*
 * The slot of a region: its instructions as they run elsewhere, with a call in front
 * of each that is probed. Written from the code that is in memory, which is not what
 * the image has where the kernel has patched it.
 */
#include <linux/kernel.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>
#include <asm/text-patching.h>

#include "hidden.h"
#include "slot.h"

void otf_jump_entry(void);

static bool otf_is_padding(const u8 *bytes, u32 size)
{
	while (size--)
		if (bytes[size] != INT3_INSN_OPCODE && bytes[size] != 0x90)
			return false;
	return true;
}

static bool otf_is_prefixed(const struct insn *insn, u8 prefix)
{
	int i;

	for (i = 0; i < insn->prefixes.nbytes && i < 4; i++)
		if (insn->prefixes.bytes[i] == prefix)
			return true;
	return false;
}

/* true: the instruction may run elsewhere */
static bool otf_insn_classify(struct otf_insn *to, struct insn *insn, const u8 *bytes)
{
	u8 opcode = insn->opcode.bytes[0], reg = X86_MODRM_REG(insn->modrm.value);

	/* on one CPU a lock prefix is made 3e, and back when there are two */
	if (otf_is_prefixed(insn, 0x3e))
		return false;
	/* ENDBR is wanted where it stands */
	if (insn->vex_prefix.nbytes || (insn->length == 4 && get_unaligned_le32(bytes) == 0xfa1e0ff3))
		return false;
	to->kind = OTF_INSN_PLAIN;
	to->opcode = insn->prefixes.nbytes + insn->rex_prefix.nbytes;
	to->relative = 0;
	if (insn->modrm.nbytes && X86_MODRM_MOD(insn->modrm.value) == 0 &&
	    X86_MODRM_RM(insn->modrm.value) == 5) {
		to->relative = to->opcode + insn->opcode.nbytes + insn->modrm.nbytes;
		to->distance = insn->displacement.value;
		/* from eip */
		if (otf_is_prefixed(insn, 0x67))
			return false;
	}
	if (opcode == 0x0f) {
		opcode = insn->opcode.bytes[1];
		if ((opcode & 0xf0) == 0x80) {
			to->kind = OTF_INSN_BRANCH;
			to->condition = opcode & 0xf;
			to->distance = insn->immediate.value;
		}
		/* ud2, syscall and their like, rsm; ud0, ud1 */
		return opcode != 0x0b && opcode != 0x05 && opcode != 0x07 && opcode != 0x34 &&
		       opcode != 0x35 && opcode != 0xaa && opcode != 0xff && opcode != 0xb9;
	}
	switch (opcode) {
	case 0x70 ... 0x7f:
		to->kind = OTF_INSN_BRANCH;
		to->condition = opcode & 0xf;
		to->distance = (s8)insn->immediate.value;
		return true;
	case 0xe8:
		to->kind = OTF_INSN_CALL;
		to->distance = insn->immediate.value;
		return !otf_is_prefixed(insn, 0x66);
	case 0xe9:
	case 0xeb:
		to->kind = OTF_INSN_JUMP;
		to->distance = opcode == 0xeb ? (s8)insn->immediate.value : insn->immediate.value;
		return !otf_is_prefixed(insn, 0x66);
	case 0xc2:
	case 0xc3:
		to->kind = OTF_INSN_LEAVE;
		return true;
	case 0xc7:	/* xbegin */
		return insn->modrm.value != 0xf8;
	case 0xff:
		if (reg == 4)
			to->kind = OTF_INSN_LEAVE;
		else if (reg == 2)
			to->kind = OTF_INSN_CALL_THROUGH;
		/* a pushed return address moves what the operand counts from */
		if (reg == 2 && X86_MODRM_MOD(insn->modrm.value) != 3 &&
		    X86_MODRM_RM(insn->modrm.value) == 4)
			return false;
		return reg != 3 && reg != 5 && reg != 7;
	/* breakpoints, loops, far and system calls and returns, what stops the processor */
	case 0x9a: case 0xca ... 0xcf: case 0xe0 ... 0xe3: case 0xea: case 0xf1: case 0xf4:
		return false;
	}
	return true;
}

/*
 * Reads whole instructions from start until they are at least need bytes. room:
 * bytes that nothing jumps into. What follows an instruction that does not go on
 * there may be padding.
 */
int otf_code_read(struct otf_code *code, u8 *start, u8 room, u8 need)
{
	u8 bytes[OTF_REGION_BYTES + MAX_INSN_SIZE], at = 0;
	struct otf_insn *to;
	struct insn insn;
	bool ended = false;

	room = min_t(u8, room, OTF_REGION_BYTES);
	if (need > room || copy_from_kernel_nofault(bytes, start, room))
		return -EFAULT;
	code->start = start;
	code->count = 0;
	while (at < need) {
		if (ended) {
			if (!otf_is_padding(bytes + at, need - at))
				return -ENOSPC;
			at = need;
			break;
		}
		if (code->count == OTF_REGION_INSNS || !otf_text_decode(&insn, bytes + at, room - at) ||
		    insn.length > room - at)
			return -EILSEQ;
		to = &code->insn[code->count++];
		to->offset = at;
		to->length = insn.length;
		if (!otf_insn_classify(to, &insn, bytes + at))
			return -EOPNOTSUPP;
		at += insn.length;
		ended = to->kind == OTF_INSN_JUMP || to->kind == OTF_INSN_LEAVE;
		/* who sleeps in a called function comes back behind the call */
		if ((to->kind == OTF_INSN_CALL || to->kind == OTF_INSN_CALL_THROUGH) && at < need)
			return -ENOSPC;
	}
	code->length = at;
	memcpy(code->bytes, bytes, at);
	return 0;
}

static u8 *otf_put(u8 *to, u8 byte)
{
	*to = byte;
	return to + 1;
}

/* four bytes: how far it is from behind them to target */
static u8 *otf_put_distance(u8 *to, const u8 *out, const u8 *slot, unsigned long target, bool *fits)
{
	long distance = (long)(target - (unsigned long)(slot + (to + 4 - out)));

	*fits &= distance == (s32)distance;
	put_unaligned_le32((u32)distance, to);
	return to + 4;
}

/*
 * Writes into out what is to stand at slot. ask: the pieces in front of instructions.
 * after: where the code behind each instruction starts. Returns the size.
 */
int otf_slot_build(u8 *out, const u8 *slot, const struct otf_code *code,
		   const struct otf_ask *ask, const struct otf_verdict_places *places, u16 *after)
{
	/* lea 8(%rsp), %rsp: flags stay */
	static const u8 drop[] = { 0x48, 0x8d, 0x64, 0x24, 0x08 };
	unsigned long next, end = (unsigned long)code->start + code->length;
	bool fits = true;
	u8 *to = out;
	u32 i;

	for (i = 0; i < code->count; i++) {
		const struct otf_insn *insn = &code->insn[i];
		const u8 *bytes = code->bytes + insn->offset;

		if (to - out > OTF_SLOT_BYTES - OTF_QUICK_BYTES - 64)
			return -ENOSPC;
		next = (unsigned long)code->start + insn->offset + insn->length;
		if (ask[i].index != OTF_NO_PIECE) {
			if (ask[i].quick)
				to = otf_quick_put(to, ask[i].quick, ask[i].index, places, &fits);
			/* OTF_QUICK_CALL bytes */
			to = otf_put(to, 0x68);
			put_unaligned_le32(ask[i].index, to);
			to = otf_put(to + 4, CALL_INSN_OPCODE);
			to = otf_put_distance(to, out, slot, (unsigned long)otf_jump_entry, &fits);
			memcpy(to, drop, sizeof(drop));
			to += sizeof(drop);
		}
		switch (insn->kind) {
		case OTF_INSN_BRANCH:
			to = otf_put(to, 0x0f);
			to = otf_put(to, 0x80 | insn->condition);
			to = otf_put_distance(to, out, slot, next + insn->distance, &fits);
			break;
		case OTF_INSN_CALL:
		case OTF_INSN_CALL_THROUGH:
			/* returns behind the call, not here; push extends the sign */
			fits &= next == (unsigned long)(long)(s32)next;
			to = otf_put(to, 0x68);
			put_unaligned_le32((u32)next, to);
			to += 4;
			if (insn->kind == OTF_INSN_CALL_THROUGH)
				goto copy;
			fallthrough;
		case OTF_INSN_JUMP:
			to = otf_put(to, JMP32_INSN_OPCODE);
			to = otf_put_distance(to, out, slot, next + insn->distance, &fits);
			break;
		default:
copy:
			memcpy(to, bytes, insn->length);
			/* call becomes jmp: the field of the register in the byte behind the opcode */
			if (insn->kind == OTF_INSN_CALL_THROUGH)
				to[insn->opcode + 1] ^= (2 ^ 4) << 3;
			if (insn->relative) {
				unsigned long target = next + insn->distance;
				unsigned long here = (unsigned long)(slot + (to + insn->length - out));
				long distance = (long)(target - here);

				fits &= distance == (s32)distance;
				put_unaligned_le32((u32)distance, to + insn->relative);
			}
			to += insn->length;
		}
		after[i] = to - out;
	}
	to = otf_put(to, JMP32_INSN_OPCODE);
	to = otf_put_distance(to, out, slot, end, &fits);
	return fits ? to - out : -ERANGE;
}
