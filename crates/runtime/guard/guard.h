/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OTF_GUARD_H
#define OTF_GUARD_H

#include <linux/types.h>

struct btf;
struct btf_member;
struct btf_type;
struct module;
struct pt_regs;
struct seq_file;

/* kfuncs.c: how programs refuse a write, a call, a return, an entry */
int otf_guard_register_kfuncs(void);

/* main.c: struct_ops that have data and no operations */
int otf_guard_init_type(struct btf *btf);
int otf_guard_copy_data(const struct btf_type *t, const struct btf_member *member, void *kdata,
			const void *udata);

/* probes.c: kprobes that run BPF programs without perf */
int otf_guard_register_probes(void);
void otf_guard_unregister_probes(void);
struct module *otf_module_get(unsigned long address);

/* frees.c: what a policy forgets */
int otf_guard_register_frees(void);
void otf_frees_show(struct seq_file *m);

/* heap.c: caches of a compartment's own */
struct otf_heap;

/* allocators whose calls can be sent to a heap */
enum otf_callee {
	OTF_CALL_NONE,
	OTF_CALL_CACHE, OTF_CALL_CACHE_NODE,	/* constant size: the cache is an argument */
	OTF_CALL_KMALLOC, OTF_CALL_NODE,
	OTF_CALL_KVMALLOC, OTF_CALL_MEMDUP,
};

struct otf_heap_call {
	u8 callee;	/* enum otf_callee */
	bool tail;	/* a jump: the allocator returns to the caller of the function */
};

/* what a hit has to do at an address where other sets may have a probe too */
enum otf_turn {
	OTF_TURN_MINE,
	OTF_TURN_OLDER,		/* an older set sends calls to the same heap */
	OTF_TURN_OTHERS,	/* an older set has programs there, which must run */
};

bool otf_heap_decode(struct otf_heap_call *call, u8 first, const u8 *addr);
int otf_heap_send(struct otf_heap *heap, const struct otf_heap_call *call, enum otf_turn turn,
		  struct pt_regs *regs);
struct otf_heap *otf_heap_get(const char *name);
void otf_heap_put(struct otf_heap *heap);
void otf_heaps_show(struct seq_file *m);
void otf_heaps_exit(void);

/* as in otf_kernel.h of the programs: of addresses, by the highest bits */
#define OTF_HASH_FACTOR 0x61c8864680b583ebULL

#define OTF_NO_REGISTER 0xff
#define OTF_RIP 0xfe

/* plain_store.c: instructions that need no single step */
struct otf_plain_store {
	s32 disp;
	s32 imm;
	u8 length;	/* of the instruction */
	u8 size;	/* of the store, 0: not a plain one */
	u8 base, index;	/* registers, OTF_NO_REGISTER; base may be OTF_RIP */
	u8 scale;	/* of the index: to be shifted by */
	u8 source;	/* register, OTF_NO_REGISTER: imm */
	u8 shift;	/* 8 for ah, ch, dh, bh */
};

void otf_plain_store_decode(struct otf_plain_store *store, u8 first, const u8 *addr);
bool otf_plain_store_do(const struct otf_plain_store *store, struct pt_regs *regs);

#endif
