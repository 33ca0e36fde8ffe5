/* SPDX-License-Identifier: GPL-2.0-only */
/* What is done about a violation: kill, unwind or leave out, quarantine; and the event. */
#ifndef OTF_ACT_H
#define OTF_ACT_H

#include "otf_check.h"
#include "otf_filter.h"
#include "otf_frames.h"

/* otf_guard.ko */
extern int otf_guard_refuse(struct pt_regs *ctx, __s64 value) __ksym __weak;
extern int otf_guard_skip(struct pt_regs *ctx, __u32 insn_len, bool set_ax, __u64 ax,
			  __u64 flags) __ksym __weak;
extern int otf_guard_release(struct pt_regs *ctx, const void *frame, __u32 frame__sz, __u32 rcu,
			     __u32 bottom_halves) __ksym __weak;
extern int otf_guard_unwind(struct pt_regs *ctx, const void *frame, __u32 frame__sz) __ksym __weak;
extern int otf_guard_return_to(struct pt_regs *ctx, const void *frame, __u32 frame__sz) __ksym __weak;

#define OTF_FLAGS_CF	0x001
#define OTF_FLAGS_ZF	0x040
#define OTF_FLAGS_IF	0x200

static __always_inline __u8 otf_kill(bool in_interrupt)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	/* in an interrupt current is somebody innocent; kernel threads and init are never killed */
	if (in_interrupt || BPF_CORE_READ(task, flags) & OTF_PF_KTHREAD ||
	    BPF_CORE_READ(task, tgid) == 1 || bpf_send_signal(9)) {
		otf_count(OTF_COUNT_KILL_IMPOSSIBLE);
		return OTF_DONE_KILL_IMPOSSIBLE;
	}
	return OTF_DONE_KILLED;
}

static __always_inline __u32 *otf_get_any_quarantine(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&otf_any_quarantine, &zero);
}

/* remembers the instance, and the object it lives in so that a free ends the quarantine */
static __always_inline bool otf_quarantine_instance(const struct otf_state *st,
						    const struct otf_frame *frame, __u32 site)
{
	struct otf_quarantine q = { .time = bpf_ktime_get_boot_ns(), .site = site,
				    .gate = frame->gate };
	__u64 instance = frame->instance, head;
	struct otf_slab s = {};
	__u32 *any;
	long err;

	if (!instance)
		return false;
	any = otf_get_any_quarantine();
	if (any)
		*any = 1;
	if (otf_in_linear_map(st, instance)) {
		head = otf_head_page(st, instance);
		if (head && otf_page_is_slab(head)) {
			otf_find_slab(st, head, instance, &s);
			q.object = s.object;
		} else if (head) {
			q.object = otf_page_address(st, head);
		}
	} else {
		__u64 page = instance & ~(__u64)(OTF_PAGE_SIZE - 1);
		struct otf_object *record = bpf_map_lookup_elem(&otf_pages, &page);

		if (record)
			q.object = record->start;
	}
	if (q.object)
		otf_track(q.object);
	if (q.object && bpf_map_update_elem(&otf_quarantine_objects, &q.object, &instance, 0)) {
		otf_count(OTF_COUNT_QUARANTINE_FULL);
		return false;
	}
	err = bpf_map_update_elem(&otf_quarantined, &instance, &q, BPF_NOEXIST);
	if (err && err != -17 /* EEXIST: it is in quarantine already */) {
		otf_count(OTF_COUNT_QUARANTINE_FULL);
		return false;
	}
	return true;
}

/* how an instruction is left out */
struct otf_way {
	__u64 ax;		/* what the call is made to return */
	__u64 flags;		/* what a loop around the instruction waits for must come true */
	__u16 gates, release_gates;	/* as in struct otf_site */
	__u8 release;		/* likewise */
	__u8 insn_len;
	bool set_ax;
	bool tail;		/* a call in tail position: nothing follows that could go on */
};

/* whether nothing that was acquired since the gate can be held */
static __always_inline bool otf_may_unwind(__u16 gates, __u32 gate)
{
	__u32 row = gates - 1;

	if (!gates || row >= otf_ngate_sets || gate >= 64 * OTF_GATE_WORDS)
		return false;
	return otf_gate_sets[row].gates[gate / 64] >> (gate % 64) & 1;
}

/* returns from the function that is about to leave by a jump: its registers are restored */
static __always_inline int otf_leave(struct pt_regs *ctx, __u64 ax)
{
	struct otf_frame f = {
		.sp = ctx->sp, .bx = ctx->bx, .bp = ctx->bp, .r12 = ctx->r12, .r13 = ctx->r13,
		.r14 = ctx->r14, .r15 = ctx->r15, .refusal = ax,
	};

	if (bpf_probe_read_kernel(&f.ret, sizeof(f.ret), (void *)f.sp))
		return -14 /* EFAULT */;
	return otf_guard_unwind(ctx, &f, sizeof(f));
}

static __always_inline __u8 otf_deny(struct pt_regs *ctx, const struct otf_state *st,
				     const struct otf_way *way, __u32 row, struct otf_frame *live)
{
	struct otf_frame frame = {};
	bool quarantined = false;
	__u64 ax = way->ax;
	int err;

	if (live) {
		frame = *live;
		quarantined = otf_quarantine_instance(st, &frame, row);
		/* a lock taken with interrupts off would stay taken */
		if (otf_may_unwind(way->gates, frame.gate) &&
		    !((frame.flags ^ ctx->flags) & OTF_FLAGS_IF) &&
		    !otf_guard_unwind(ctx, &frame, sizeof(frame)))
			return OTF_DONE_UNWOUND;
		if (otf_may_unwind(way->release_gates, frame.gate) &&
		    !((frame.flags ^ ctx->flags) & OTF_FLAGS_IF) &&
		    !otf_guard_release(ctx, &frame, sizeof(frame), way->release & 15,
				       way->release >> 4))
			return OTF_DONE_UNWOUND;
		/* the gate itself would return what the call returns */
		if (way->tail && frame.sp == ctx->sp)
			ax = frame.refusal;
	} else {
		otf_count(OTF_COUNT_NO_FRAME);
	}
	if (way->tail)
		err = otf_leave(ctx, ax);
	else
		err = otf_guard_skip(ctx, way->insn_len, way->set_ax, ax, way->flags);
	if (err) {
		otf_count(OTF_COUNT_DENY_FAILED);
		return OTF_DONE_DENY_FAILED;
	}
	return quarantined ? OTF_DONE_SKIPPED : OTF_DONE_SKIPPED_ONLY;
}

static __always_inline void otf_report(const struct otf_verdict *v, __u32 row, __u64 ip, __u64 addr,
				       __u64 length, const struct otf_frame *live, __u8 done,
				       __u8 phase, bool in_interrupt)
{
	struct otf_event *e = bpf_ringbuf_reserve(&otf_events, sizeof(*e), 0);
	struct kmem_cache *cache = (void *)v->cache;
	__u64 id = bpf_get_current_pid_tgid();

	if (!e) {
		otf_count(OTF_COUNT_EVENTS_LOST);
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time = bpf_ktime_get_boot_ns();
	e->address = addr;
	e->length = length;
	e->object = v->object;
	e->object_size = v->size;
	e->alloc = v->alloc;
	e->ip = ip;
	e->site = row;
	e->gate = live ? live->gate : ~0U;
	e->instance = live ? live->instance : 0;
	e->pid = id >> 32;
	e->tid = id;
	e->cpu = bpf_get_smp_processor_id();
	e->class = v->class;
	e->reason = v->reason;
	e->done = done;
	e->phase = phase;
	e->in_interrupt = in_interrupt;
	e->rules = v->rules;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	if (cache)
		bpf_probe_read_kernel_str(e->cache, sizeof(e->cache), BPF_CORE_READ(cache, name));
	bpf_ringbuf_submit(e, 0);
}

#endif
