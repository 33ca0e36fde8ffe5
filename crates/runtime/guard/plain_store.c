// SPDX-License-Identifier: GPL-2.0-only
/*
 * Plain stores, `mov` of a register or a constant, are done by the probe itself:
 * the kernel would single-step a copy of the instruction, which costs another
 * exception. Whatever else it is, or where the store faults, the kernel does it.
 */
#include <linux/kprobes.h>
#include <linux/ptrace.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>

#include "guard.h"

/* by number of the register in an instruction */
static const u8 otf_register_offset[16] = {
	offsetof(struct pt_regs, ax), offsetof(struct pt_regs, cx),
	offsetof(struct pt_regs, dx), offsetof(struct pt_regs, bx),
	offsetof(struct pt_regs, sp), offsetof(struct pt_regs, bp),
	offsetof(struct pt_regs, si), offsetof(struct pt_regs, di),
	offsetof(struct pt_regs, r8), offsetof(struct pt_regs, r9),
	offsetof(struct pt_regs, r10), offsetof(struct pt_regs, r11),
	offsetof(struct pt_regs, r12), offsetof(struct pt_regs, r13),
	offsetof(struct pt_regs, r14), offsetof(struct pt_regs, r15),
};

static u64 otf_register(const struct pt_regs *regs, u8 number)
{
	return *(const u64 *)((const u8 *)regs + otf_register_offset[number & 15]);
}
NOKPROBE_SYMBOL(otf_register);

/*
 * The kernel's decoder is not for modules. These are the forms that compilers
 * make of an assignment: [66] [REX] 88 | 89 | c6 /0 | c7 /0. first: the byte that
 * stands there without a breakpoint.
 */
void otf_plain_store_decode(struct otf_plain_store *store, u8 first, const u8 *addr)
{
	u8 bytes[MAX_INSN_SIZE + sizeof(u64)] = {}, rex = 0, opcode, modrm, mod, rm;
	u32 at = 0, size = 4, imm;

	store->size = 0;
	if (copy_from_kernel_nofault(bytes, addr, MAX_INSN_SIZE))
		return;
	bytes[0] = first;
	if (bytes[at] == 0x66) {
		size = 2;
		at++;
	}
	if ((bytes[at] & 0xf0) == 0x40)
		rex = bytes[at++];
	if (rex & 8)
		size = 8;
	opcode = bytes[at++];
	if (opcode != 0x88 && opcode != 0x89 && opcode != 0xc6 && opcode != 0xc7)
		return;
	if (!(opcode & 1))
		size = 1;
	modrm = bytes[at++];
	mod = modrm >> 6;
	rm = modrm & 7;
	if (mod == 3)
		return;
	store->index = OTF_NO_REGISTER;
	store->scale = 0;
	store->base = rm | (rex & 1) << 3;
	if (rm == 4) {
		u8 sib = bytes[at++], index = (sib >> 3 & 7) | (rex & 2) << 2;

		if (index != 4) {
			store->index = index;
			store->scale = sib >> 6;
		}
		store->base = (sib & 7) | (rex & 1) << 3;
		if ((sib & 7) == 5 && !mod)
			store->base = OTF_NO_REGISTER;
	} else if (rm == 5 && !mod) {
		store->base = OTF_RIP;
	}
	if (mod == 2 || (!mod && (store->base == OTF_RIP || store->base == OTF_NO_REGISTER))) {
		store->disp = (s32)get_unaligned_le32(bytes + at);
		at += 4;
	} else {
		store->disp = mod ? (s8)bytes[at++] : 0;
	}
	store->shift = 0;
	store->source = OTF_NO_REGISTER;
	if (opcode >= 0xc6) {
		if (modrm >> 3 & 7)
			return;
		imm = min(size, 4U);
		store->imm = imm == 1 ? bytes[at] : imm == 2 ? get_unaligned_le16(bytes + at) :
							       (s32)get_unaligned_le32(bytes + at);
		at += imm;
	} else {
		store->source = (modrm >> 3 & 7) | (rex & 4) << 1;
		/* without a REX prefix 4 to 7 are the second bytes of ax, cx, dx, bx */
		if (size == 1 && !rex && store->source >= 4) {
			store->source -= 4;
			store->shift = 8;
		}
	}
	if (at > MAX_INSN_SIZE)
		return;
	store->length = at;
	store->size = size;
}

/* after the verdict: true when the store is done and the next instruction is on */
bool otf_plain_store_do(const struct otf_plain_store *store, struct pt_regs *regs)
{
	u8 size = smp_load_acquire(&store->size);
	unsigned long next;
	u64 addr, value;

	if (!size)
		return false;
	next = regs->ip - INT3_INSN_SIZE + store->length;
	addr = (s64)store->disp;
	if (store->base == OTF_RIP)
		addr += next;
	else if (store->base != OTF_NO_REGISTER)
		addr += otf_register(regs, store->base);
	if (store->index != OTF_NO_REGISTER)
		addr += otf_register(regs, store->index) << store->scale;
	/*
	 * User memory and addresses that are none fault in ways that only the
	 * instruction itself survives. Below the stack pointer lie this exception's frames.
	 */
	if (addr < PAGE_OFFSET || addr + size < addr ||
	    (addr < regs->sp && regs->sp - addr < THREAD_SIZE + size))
		return false;
	value = store->source == OTF_NO_REGISTER ? (u64)(s64)store->imm :
						   otf_register(regs, store->source) >> store->shift;
	switch (size) {
	case 1:
		__put_kernel_nofault((void *)addr, &(u8){ value }, u8, fault);
		break;
	case 2:
		__put_kernel_nofault((void *)addr, &(u16){ value }, u16, fault);
		break;
	case 4:
		__put_kernel_nofault((void *)addr, &(u32){ value }, u32, fault);
		break;
	case 8:
		__put_kernel_nofault((void *)addr, &value, u64, fault);
		break;
	default:
		return false;
	}
	regs->ip = next;
	return true;
fault:
	return false;	/* the kernel faults where the instruction stands */
}
NOKPROBE_SYMBOL(otf_plain_store_do);
