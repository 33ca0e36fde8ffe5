// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a slot decides itself, in front of the call of the programs: the write stays
 * in its own frame, or in a range that a program has found legal on this CPU, and
 * that nobody has freed since. It changes no register and no flag.
 */
#include <linux/kernel.h>
#include <linux/string.h>
#include <linux/thread_info.h>
#include <linux/unaligned.h>

#include "guard.h"
#include "verdicts.h"

#define OTF_RSP 4
#define OTF_PUSHED 24	/* flags, rax, rcx */
#define OTF_LINE_BITS 5	/* of the size of a line */

static u8 *otf_quick_bytes(u8 *to, const u8 *bytes, u32 count)
{
	memcpy(to, bytes, count);
	return to + count;
}

#define otf_quick_insn(to, ...) \
	otf_quick_bytes(to, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))

/* four bytes that the processor extends by their sign */
static u8 *otf_quick_word(u8 *to, unsigned long value, bool *fits)
{
	*fits &= value == (unsigned long)(long)(s32)value;
	put_unaligned_le32((u32)value, to);
	return to + 4;
}

/* lea operand, %rax */
static u8 *otf_quick_operand(u8 *to, const struct otf_quick *quick, bool *fits)
{
	bool base = quick->base != OTF_NO_REGISTER, index = quick->index != OTF_NO_REGISTER;
	long displacement = quick->displacement;
	u8 rex = 0x48;

	if (base && quick->base == OTF_RSP)
		displacement += OTF_PUSHED;
	if (base && quick->base & 8)
		rex |= 1;
	if (index && quick->index & 8)
		rex |= 2;
	*fits &= !index || quick->index != OTF_RSP;
	/* with a SIB byte, and a displacement of four bytes; without a base the mode is another */
	to = otf_quick_insn(to, rex, 0x8d, base ? 0x84 : 0x04,
			    quick->shift << 6 | (index ? quick->index & 7 : 4) << 3 |
				    (base ? quick->base & 7 : 5));
	return otf_quick_word(to, displacement, fits);
}

/* mov %gs:variable, %rcx */
static u8 *otf_quick_per_cpu(u8 *to, unsigned long variable, bool *fits)
{
	to = otf_quick_insn(to, 0x65, 0x48, 0x8b, 0x0c, 0x25);
	return otf_quick_word(to, variable, fits);
}

/* the four bytes of a field of the line behind an opcode */
#define otf_quick_field(to, line, field, fits, ...)                                             \
	otf_quick_word(otf_quick_insn(to, __VA_ARGS__),                                         \
		       (line) * sizeof(struct otf_line) + offsetof(struct otf_line, field), fits)

/* short jumps whose target comes later */
static void otf_quick_land(u8 *const *from, u32 count, const u8 *target, bool *fits)
{
	while (count--) {
		long distance = target - (from[count] + 1);

		*fits &= distance == (s8)distance;
		*from[count] = (u8)distance;
	}
}

#define otf_quick_jump(to, opcode, list, count) \
	((list)[(count)++] = (to) + 1, otf_quick_insn(to, opcode, 0))

/*
 * Writes the code. Where the programs are to be asked it goes on behind itself; where
 * not, behind the call that the caller writes there, of OTF_QUICK_CALL bytes. index:
 * whose hits are counted.
 */
u8 *otf_quick_put(u8 *to, const struct otf_quick *quick, u32 index,
		  const struct otf_verdict_places *places, bool *fits)
{
	_Static_assert(sizeof(struct otf_line) == 1 << OTF_LINE_BITS, "a line has that size");
	u8 *miss[4], *hit[2], *other[1];
	u32 misses = 0, hits = 0, others = 0;

	to = otf_quick_insn(to, 0x9c, 0xfa, 0x50, 0x51);	/* pushf, cli, push %rax, push %rcx */
	to = otf_quick_operand(to, quick, fits);
	if (quick->frame >= quick->size) {
		/* lea -24(%rax), %rcx; sub %rsp, %rcx; cmp $, %rcx */
		to = otf_quick_insn(to, 0x48, 0x8d, 0x48, (u8)-OTF_PUSHED, 0x48, 0x29, 0xe1, 0x48,
				    0x81, 0xf9);
		to = otf_quick_word(to, quick->frame - quick->size, fits);
		to = otf_quick_jump(to, 0x76, hit, hits);	/* jbe */
	}
	if (quick->above != OTF_NOT_ABOVE) {
		/* lea size-1(%rax), %rcx; xor %rsp, %rcx; cmp $, %rcx; jae over what follows */
		to = otf_quick_insn(to, 0x48, 0x8d, 0x88);
		to = otf_quick_word(to, quick->size - 1, fits);
		to = otf_quick_insn(to, 0x48, 0x31, 0xe1, 0x48, 0x81, 0xf9);
		to = otf_quick_word(to, THREAD_SIZE, fits);
		to = otf_quick_jump(to, 0x73, other, others);
		/* lea -24-above(%rax), %rcx; cmp %rsp, %rcx; jae */
		to = otf_quick_insn(to, 0x48, 0x8d, 0x88);
		to = otf_quick_word(to, -(long)OTF_PUSHED - quick->above, fits);
		to = otf_quick_insn(to, 0x48, 0x39, 0xe1);
		to = otf_quick_jump(to, 0x73, hit, hits);
		otf_quick_land(other, others, to, fits);
	}
	if (quick->line == OTF_NO_LINE) {
		to = otf_quick_jump(to, 0xeb, miss, misses);
	} else {
		if (quick->wide) {
			/* mov %eax, %ecx; shr $, %ecx; and $, %ecx; add %gs:lines, %rcx */
			to = otf_quick_insn(to, 0x89, 0xc1, 0xc1, 0xe9,
					    OTF_PAGE_BITS - OTF_LINE_BITS, 0x81, 0xe1);
			to = otf_quick_word(to, (OTF_WIDE_LINES - 1) << OTF_LINE_BITS, fits);
			to = otf_quick_insn(to, 0x65, 0x48, 0x03, 0x0c, 0x25);
			to = otf_quick_word(to, places->lines, fits);
		} else {
			to = otf_quick_per_cpu(to, places->lines, fits);
		}
		/* sub start, %rax; jb; add $size, %rax; cmp length, %rax; ja */
		to = otf_quick_field(to, quick->line, start, fits, 0x48, 0x2b, 0x81);
		to = otf_quick_jump(to, 0x72, miss, misses);
		to = otf_quick_insn(to, 0x48, 0x05);
		to = otf_quick_word(to, quick->size, fits);
		to = otf_quick_field(to, quick->line, length, fits, 0x48, 0x3b, 0x81);
		to = otf_quick_jump(to, 0x77, miss, misses);
		/* the generations of object and page: mov, mov, sub, mov, add; jnz */
		to = otf_quick_field(to, quick->line, object, fits, 0x8b, 0x81);
		to = otf_quick_insn(to, 0x48, 0x8b, 0x04, 0xc5);
		to = otf_quick_word(to, places->generations, fits);
		to = otf_quick_field(to, quick->line, sum, fits, 0x48, 0x2b, 0x81);
		to = otf_quick_field(to, quick->line, page, fits, 0x8b, 0x89);
		to = otf_quick_insn(to, 0x48, 0x03, 0x04, 0xcd);
		to = otf_quick_word(to, places->generations, fits);
		to = otf_quick_jump(to, 0x75, miss, misses);
	}
	otf_quick_land(hit, hits, to, fits);
	to = otf_quick_per_cpu(to, places->hits, fits);
	/* incq; pop %rcx, pop %rax, popf */
	to = otf_quick_insn(to, 0x48, 0xff, 0x81);
	to = otf_quick_word(to, index * sizeof(u64), fits);
	to = otf_quick_insn(to, 0x59, 0x58, 0x9d);
	/* over three bytes below and the call */
	to = otf_quick_insn(to, 0xeb, 3 + OTF_QUICK_CALL);
	otf_quick_land(miss, misses, to, fits);
	return otf_quick_insn(to, 0x59, 0x58, 0x9d);
}
