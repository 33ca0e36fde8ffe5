/*
 * Reads regions: code, where it stands, how much of it is needed, and what the
 * kernel's decoder would say of each instruction. Writes the slot that the guard
 * makes of it, or why there is none.
 */
#include <stdio.h>

#include "kernel.h"

int otf_test_read(void *to, const void *from, size_t size);

/* the guard reads kernel memory; here the code stands in the input */
#define copy_from_kernel_nofault otf_test_read
#include "../../guard/slot.c"
#include "../../guard/quick.c"
#undef copy_from_kernel_nofault

#define CODE 64

struct field {
	u8 length, prefixes, rex, vex, opcodes, opcode[3], modrms, modrm, sibs, pad;
	s32 disp, imm;
};

struct input {
	u64 start, slot;
	u32 room, need, probed, pad;
	u8 code[CODE];
	struct field at[CODE];	/* of the instruction that begins there */
};

struct output {
	s32 size;
	u32 length;
	u16 after[OTF_REGION_INSNS];
	u8 slot[OTF_SLOT_BYTES];
};

static struct input in;
static u32 cursor;

int otf_test_read(void *to, const void *from, size_t size)
{
	memcpy(to, in.code + ((u64)from - in.start), size);
	return 0;
}

/* asked for one instruction after the other */
bool otf_text_decode(struct insn *insn, const void *bytes, int size)
{
	const struct field *f = &in.at[cursor];

	memset(insn, 0, sizeof(*insn));
	insn->length = f->length;
	insn->prefixes.nbytes = f->prefixes;
	memcpy(insn->prefixes.bytes, bytes, f->prefixes < 4 ? f->prefixes : 4);
	insn->rex_prefix.nbytes = f->rex;
	insn->vex_prefix.nbytes = f->vex;
	insn->opcode.nbytes = f->opcodes;
	memcpy(insn->opcode.bytes, f->opcode, sizeof(f->opcode));
	insn->modrm.nbytes = f->modrms;
	insn->modrm.value = f->modrm;
	insn->sib.nbytes = f->sibs;
	insn->displacement.value = f->disp;
	insn->immediate.value = f->imm;
	cursor += f->length;
	return f->length && f->length <= size;
}

int main(void)
{
	while (fread(&in, sizeof(in), 1, stdin) == 1) {
		struct output out = { };
		struct otf_code code = { };
		struct otf_ask ask[OTF_REGION_INSNS] = { };
		u32 i;

		cursor = 0;
		out.size = otf_code_read(&code, (u8 *)in.start, in.room, in.need);
		for (i = 0; i < OTF_REGION_INSNS; i++)
			ask[i].index = in.probed >> i & 1 ? 1000 + i : OTF_NO_PIECE;
		out.length = code.length;
		if (!out.size)
			out.size = otf_slot_build(out.slot, (u8 *)in.slot, &code, ask, NULL,
						  out.after);
		if (fwrite(&out, sizeof(out), 1, stdout) != 1)
			return 1;
	}
	return 0;
}
