// SPDX-License-Identifier: GPL-2.0-only
/* Runs the checks on made-up objects and stacks by BPF_PROG_TEST_RUN; never part of a bundle. */
#include "otf_flow.h"
#include "otf_free.h"
#include "otf_same.h"

char LICENSE[] SEC("license") = "GPL";

struct otf_test {
	__u64 offset, length, size;	/* of the write in the object, of the object */
	__u64 cache;			/* 0: pages */
	__u64 record_size;		/* 0: no record */
	__u64 object;
	__u32 legal, alloc;
	__u8 general;
	__u8 reason, weak;		/* out */
};

SEC("syscall")
int otf_test_object(struct otf_test *t)
{
	struct otf_object record = { .start = t->object, .size = t->record_size, .alloc = t->alloc };
	struct otf_verdict v = { .object = t->object, .alloc = ~0U };
	struct otf_walk w = {
		.offset = t->offset, .length = t->length, .size = t->size, .cache = t->cache,
		.alloc = t->record_size ? t->alloc : ~0U,
		.general = t->general ? OTF_GENERAL_YES : OTF_GENERAL_NO,
	};
	__u32 legal = t->legal;

	if (legal >= otf_nlegals)
		return -1;
	otf_check_object(&otf_legals[legal], &w, &v, record.size ? &record : NULL);
	t->reason = v.reason;
	t->weak = v.weak;
	return 0;
}

struct otf_test_target {
	__u64 kernel_map, target;	/* target 0: a function of the running kernel, 1: the byte behind its start */
	__u32 endbr, row;
	__u8 reason, weak;
};

extern const void noop_llseek __ksym;

SEC("syscall")
int otf_test_target(struct otf_test_target *t)
{
	struct otf_verdict v = {};
	struct otf_state st = {};
	__u32 row = t->row;
	__u64 target = t->target;

	if (row >= otf_ncalls)
		return -1;
	if (target < 2)
		target += (__u64)&noop_llseek;
	st.kernel_map = t->kernel_map;
	st.endbr = t->endbr;
	otf_check_target(&st, &otf_calls[row], target, &v);
	t->reason = v.reason;
	t->weak = v.weak;
	return 0;
}

struct otf_test_return {
	__u64 sp, gate, depth;
	__u64 slot[3][2];	/* stack pointer and gate, outermost first */
	__u8 found, left;	/* out: address that was noted, 0: none; how many gates are left */
};

SEC("syscall")
int otf_test_return(struct otf_test_return *t)
{
	struct otf_frames *frames;
	struct otf_frame frame = {};
	__u64 key = 1, sp = t->sp;
	__u32 gate = t->gate;
	int i;

	bpf_map_update_elem(&otf_frames, &key, &otf_no_frames, 0);
	frames = bpf_map_lookup_elem(&otf_frames, &key);
	if (!frames)
		return -1;
	for (i = 0; i < 3; i++) {
		frames->frame[i].sp = t->slot[i][0];
		frames->frame[i].gate = t->slot[i][1];
		frames->frame[i].ret = 100 + i;
	}
	frames->depth = t->depth;
	if (otf_end_gate(frames, gate, sp, &frame))
		t->found = frame.ret;
	t->left = frames->depth;
	return 0;
}

struct otf_test_stack {
	__u64 sp, gate_sp, top, addr, length;
	__u32 legal, site;
	__u8 reason, weak;
};

SEC("syscall")
int otf_test_stack(struct otf_test_stack *t)
{
	struct otf_verdict v = {};
	__u32 legal = t->legal, site = t->site;

	if (legal >= otf_nlegals || site >= otf_nsites)
		return -1;
	otf_check_stack(&otf_sites[site], otf_legals[legal].stack, t->sp, t->gate_sp, t->top, t->addr,
			t->addr + t->length, &v);
	t->reason = v.reason;
	t->weak = v.weak;
	return 0;
}

struct otf_test_same {
	__u64 object, size;	/* that the pointer leads to */
	__u64 pointer, addr, length;
	__u32 site;
	__u8 before;		/* what the other rules say */
	__u8 reason, rules;	/* out */
};

SEC("syscall")
int otf_test_same(struct otf_test_same *t)
{
	struct otf_slab s = { .cache = 1, .object = t->object, .size = t->size };
	struct otf_verdict v = { .reason = t->before };
	__u32 site = t->site;

	if (site >= otf_nsites)
		return -1;
	if (otf_leaves(&s, &otf_sites[site], t->pointer, t->addr, t->length))
		otf_refuse_other_object(&v);
	t->reason = v.reason;
	t->rules = v.rules;
	return 0;
}

struct otf_test_passed {
	struct otf_notes notes;
	__u64 key, sp, addr, length;
	__u32 legal;
	__u8 verdict;
};

/* notes live on a made-up stack: their return addresses are what stands in the map value itself */
SEC("syscall")
int otf_test_passed(struct otf_test_passed *t)
{
	struct otf_notes *all;
	__u64 key = t->key;
	__u32 legal = t->legal;
	int i;

	if (legal >= otf_nlegals)
		return -1;
	bpf_map_update_elem(&otf_notes, &key, &otf_no_notes, 0);
	all = bpf_map_lookup_elem(&otf_notes, &key);
	if (!all)
		return -1;
	all->depth = t->notes.depth;
	/* a context is read at constant places only */
#pragma unroll
	for (i = 0; i < OTF_MAX_NOTES; i++) {
		all->note[i].function = t->notes.note[i].function;
		all->note[i].ret = t->notes.note[i].ret;
		all->note[i].argument[0] = t->notes.note[i].argument[0];
		all->note[i].argument[1] = t->notes.note[i].argument[1];
		all->note[i].sp = all->note[i].ret ? (__u64)&all->note[i].ret : 0;
	}
	t->verdict = otf_find_passed(&otf_legals[legal], key, t->sp, t->addr, t->addr + t->length);
	return 0;
}

struct otf_test_address {
	struct otf_state state;
	__u64 sp, stack, top, task_stack;
	__u64 addr, length;		/* length ~0: it is freed */
	__u32 legal, site;
	__u8 class, reason, weak;
};

/* only addresses that need no look at kernel memory: user, globals, per-CPU, no address */
SEC("syscall")
int otf_test_address(struct otf_test_address *t)
{
	struct otf_verdict v = {};
	struct otf_context c = { .sp = t->sp, .stack = t->stack, .top = t->top,
				 .task_stack = t->task_stack };
	__u32 legal = t->legal, site = t->site;
	struct otf_state st = {};

	if (legal >= otf_nlegals || site >= otf_nsites)
		return -1;
	st.page_offset = t->state.page_offset;
	st.vmemmap = t->state.vmemmap;
	st.vmalloc_start = t->state.vmalloc_start;
	st.vmalloc_end = t->state.vmalloc_end;
	st.kernel_map = t->state.kernel_map;
	if (t->length == ~0ULL)
		otf_check_free(&st, &otf_legals[legal], &c, t->addr, &v);
	else
		otf_check(&st, &otf_sites[site], &otf_legals[legal], &c, t->addr, t->length, &v);
	t->class = v.class;
	t->reason = v.reason;
	t->weak = v.weak;
	return 0;
}
