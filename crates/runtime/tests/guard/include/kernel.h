/* What plain_store.c and slot.c want of the kernel, for a program that runs without one. */
#ifndef OTF_TEST_KERNEL_H
#define OTF_TEST_KERNEL_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int32_t s32;
typedef int64_t s64;

struct pt_regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs,
		flags, sp, ss;
};

#define NOKPROBE_SYMBOL(f)
#define INT3_INSN_SIZE 1
#define MAX_INSN_SIZE 16
#define PAGE_OFFSET (1ULL << 63)
#define THREAD_SIZE 16384
#define smp_load_acquire(p) (*(p))
struct seq_file;
#define min(a, b) ((a) < (b) ? (a) : (b))

static inline u16 get_unaligned_le16(const void *p)
{
	u16 value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static inline u32 get_unaligned_le32(const void *p)
{
	u32 value;

	memcpy(&value, p, sizeof(value));
	return value;
}

static inline int copy_from_kernel_nofault(void *to, const void *from, size_t bytes)
{
	memcpy(to, from, bytes);
	return 0;
}

/* where a store would have gone; an address of 0 faults */
extern u64 stored_at, stored, stored_size;

#define __put_kernel_nofault(to, from, type, fault) do { \
	stored_at = (u64)(to); \
	stored = *(const type *)(from); \
	stored_size = sizeof(type); \
	if (!stored_at) \
		goto fault; \
} while (0)

#include <errno.h>
#define INT3_INSN_OPCODE 0xcc
#define CALL_INSN_OPCODE 0xe8
#define JMP32_INSN_OPCODE 0xe9
#define fallthrough __attribute__((fallthrough))
#define min_t(type, a, b) ((type)(a) < (type)(b) ? (type)(a) : (type)(b))

static inline void put_unaligned_le32(u32 value, void *p)
{
	memcpy(p, &value, sizeof(value));
}

/* as far as slot.c looks at what the kernel's decoder says */
struct insn_field { u8 bytes[4]; s32 value; u8 nbytes; };
struct insn {
	struct insn_field prefixes, rex_prefix, vex_prefix, opcode, modrm, sib, displacement,
		immediate;
	u8 length;
};
#define X86_MODRM_MOD(modrm) (((modrm) & 0xc0) >> 6)
#define X86_MODRM_REG(modrm) (((modrm) & 0x38) >> 3)
#define X86_MODRM_RM(modrm) ((modrm) & 0x07)
#endif
