/*
 * Reads cases, 16 bytes of code and the 16 registers by number, and writes what
 * the guard makes of each: done, next instruction, address, value, size.
 */
#include <stdio.h>

#include "../../guard/plain_store.c"

u64 stored_at, stored, stored_size;

struct input { u8 code[16]; u64 registers[16]; u64 ip; };
struct output { u64 done, ip, at, value, size; };

int main(void)
{
	struct input in;
	struct output out;

	while (fread(&in, sizeof(in), 1, stdin) == 1) {
		struct pt_regs regs = { .ip = in.ip + INT3_INSN_SIZE };
		struct otf_plain_store store;
		int i;

		for (i = 0; i < 16; i++)
			*(u64 *)((u8 *)&regs + otf_register_offset[i]) = in.registers[i];
		stored_at = stored = stored_size = 0;
		otf_plain_store_decode(&store, in.code[0], in.code);
		out.done = otf_plain_store_do(&store, &regs);
		out.ip = regs.ip;
		out.at = stored_at;
		out.value = stored;
		out.size = stored_size;
		if (fwrite(&out, sizeof(out), 1, stdout) != 1)
			return 1;
	}
	return 0;
}
