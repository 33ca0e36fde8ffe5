/* SPDX-License-Identifier: GPL-2.0-only */
/* The few kernel types that the checks read, relocated by CO-RE, and pt_regs of x86-64. */
#ifndef OTF_KERNEL_H
#define OTF_KERNEL_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};

/*
 * The verifier wants constant offsets into the context, and LLVM likes to merge
 * loads of different registers into one with a computed offset.
 */
#define OTF_REGISTER(ctx, reg) ({ \
	__u64 value_; \
	asm volatile("%0 = *(u64 *)(%1 + %2)" : "=r"(value_) : "r"(ctx), \
		     "i"(__builtin_offsetof(struct pt_regs, reg))); \
	value_; })

/*
 * A number in a kernel structure at any address; 0 where nothing is mapped. A load
 * through a cast costs a few instructions; before 6.2 there is only the helper,
 * which costs fifty. Pointers are read by otf_word: the verifier would not let
 * them be numbers.
 */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#define OTF_READ(ptr, field) ({ \
	__typeof__(*(ptr)) *at_ = (ptr); \
	__typeof__(at_->field) value_; \
	if (bpf_rdonly_cast) { \
		at_ = bpf_rdonly_cast(at_, bpf_core_type_id_kernel(__typeof__(*(ptr)))); \
		value_ = at_->field; \
	} else { \
		value_ = BPF_CORE_READ(at_, field); \
	} \
	value_; })

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head { struct list_head *next, *prev; };
struct kobject { const char *name; };

struct kmem_cache {
	unsigned int flags, size, object_size, red_left_pad;
	const char *name;
	struct list_head list;
	struct kobject kobj;
};

struct slab { struct kmem_cache *slab_cache; };

struct page {
	unsigned long compound_head;
	unsigned int page_type;
};

struct folio { unsigned long _flags_1; };
struct folio___order { unsigned char _folio_order; };	/* before 6.6 */

struct task_struct {
	void *stack;
	unsigned int flags;
	int pid, tgid;
};

#pragma clang attribute pop

/* a word at any address; 0 where nothing is mapped */
static __always_inline __u64 otf_word(__u64 addr)
{
	__u64 value = 0;

	/* whatever lies there, it is read as a struct page, whose first word is a number */
	if (bpf_rdonly_cast)
		return *(__u64 *)bpf_rdonly_cast((void *)addr, bpf_core_type_id_kernel(struct page));
	bpf_probe_read_kernel(&value, sizeof(value), (void *)addr);
	return value;
}

enum pagetype___otf { PGTY_slab___otf = 0xf5 };
enum pageflags___otf { PG_head___otf = 6, PG_slab___otf = 9 };
enum _slab_flag_bits___otf { _SLAB_KMALLOC___otf = 4 };

#define OTF_HASH_FACTOR	0x61c8864680b583ebULL	/* of addresses, by the highest bits */
#define OTF_PAGE_SIZE	4096
#define OTF_PAGE_SHIFT	12
#define OTF_SLAB_KMALLOC	0x1000	/* before 6.10, where it is no enum */
#define OTF_THREAD_SIZE	16384	/* x86-64 without KASAN, task and interrupt stacks alike */
#define OTF_KFENCE_SIZE	((255 + 1) * 2 * 4096UL)	/* CONFIG_KFENCE_NUM_OBJECTS=255 */
#define OTF_PF_KTHREAD	0x00200000
#define OTF_ENDBR64	0xfa1e0ff3	/* f3 0f 1e fa */

#endif
