/*
 * Reads cases: what a slot can decide, the registers it finds, what is kept. Runs the
 * code that the guard makes of it, with a no-op in place of cli, and writes whether
 * it would have asked the programs, and the registers behind it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <asm/prctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel.h"
#include "../../guard/quick.c"

#define INDEX 3
#define LINES 64

/* as instructions number registers */
struct machine { u64 reg[16], flags; };

struct input {
	struct otf_quick quick;
	struct machine machine;
	struct otf_line line[LINES];
	u64 generation[16];	/* of the addresses whose row is their number */
};

struct output {
	u64 asked;
	u64 hits;
	struct machine machine;
};

extern struct machine machine;
extern u64 asked, host_sp, code_at;
struct machine machine;
u64 asked, host_sp, code_at;

void run(void);
/* not position independent: all of this lies in the lowest 2 GiB */
asm(".text\n"
    "run:\n"
    "	push %rbx\n	push %rbp\n	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
    "	mov %rsp, host_sp\n"
    "	pushq machine+128\n"
    "	popfq\n"
    "	mov machine+0, %rax\n	mov machine+8, %rcx\n	mov machine+16, %rdx\n"
    "	mov machine+24, %rbx\n	mov machine+32, %rsp\n	mov machine+40, %rbp\n"
    "	mov machine+48, %rsi\n	mov machine+56, %rdi\n	mov machine+64, %r8\n"
    "	mov machine+72, %r9\n	mov machine+80, %r10\n	mov machine+88, %r11\n"
    "	mov machine+96, %r12\n	mov machine+104, %r13\n	mov machine+112, %r14\n"
    "	mov machine+120, %r15\n"
    "	jmp *code_at\n"
    ".globl ask\n"
    "ask:\n"
    "	movq $1, asked\n"
    ".globl done\n"
    "done:\n"
    "	mov %rsp, machine+32\n"
    "	pushfq\n"
    "	popq machine+128\n"
    "	mov host_sp, %rsp\n"
    "	mov %rax, machine+0\n	mov %rcx, machine+8\n	mov %rdx, machine+16\n"
    "	mov %rbx, machine+24\n	mov %rbp, machine+40\n"
    "	mov %rsi, machine+48\n	mov %rdi, machine+56\n	mov %r8, machine+64\n"
    "	mov %r9, machine+72\n	mov %r10, machine+80\n	mov %r11, machine+88\n"
    "	mov %r12, machine+96\n	mov %r13, machine+104\n	mov %r14, machine+112\n"
    "	mov %r15, machine+120\n"
    "	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n	pop %rbp\n	pop %rbx\n"
    "	ret\n");
extern u8 ask[], done[];

/* what %gs points to */
static struct { u64 pad[4], lines, hits; } per_cpu;

static u8 *put_jump(u8 *to, const u8 *target)
{
	*to = JMP32_INSN_OPCODE;
	put_unaligned_le32((u32)(target - (to + 5)), to + 1);
	return to + 5;
}

int main(void)
{
	static struct input in;
	static struct otf_line lines[LINES];
	static u64 hits[INDEX + 1];
	u64 *generations = mmap((void *)0x30000000, 65536 * sizeof(u64), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	u8 *code = mmap((void *)0x20000000, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	/* the stack that cases speak of */
	u8 *stack = mmap((void *)0x10000000, 1 << 20, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	const struct otf_verdict_places places = {
		.lines = offsetof(typeof(per_cpu), lines), .hits = offsetof(typeof(per_cpu), hits),
		.generations = (unsigned long)generations,
	};

	if (generations == MAP_FAILED || code == MAP_FAILED || stack == MAP_FAILED ||
	    syscall(SYS_arch_prctl, ARCH_SET_GS, &per_cpu))
		return 1;
	per_cpu.lines = (u64)lines;
	per_cpu.hits = (u64)hits;
	code_at = (u64)code;
	while (fread(&in, sizeof(in), 1, stdin) == 1) {
		struct output out = { };
		bool fits = true;
		u8 *to = otf_quick_put(code, &in.quick, INDEX, &places, &fits);

		if (!fits || to - code > OTF_QUICK_BYTES || code[1] != 0xfa)
			return 1;
		code[1] = 0x90;
		put_jump(to, ask);
		put_jump(to + OTF_QUICK_CALL, done);
		memcpy(lines, in.line, sizeof(lines));
		memcpy(generations, in.generation, sizeof(in.generation));
		memset(hits, 0, sizeof(hits));
		machine = in.machine;
		asked = 0;
		run();
		out.asked = asked;
		out.hits = hits[INDEX];
		out.machine = machine;
		if (fwrite(&out, sizeof(out), 1, stdout) != 1)
			return 1;
	}
	return 0;
}
