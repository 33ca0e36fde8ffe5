// SPDX-License-Identifier: GPL-2.0-only
/* The programs of a policy: sites, gates, allocations, frees, set-up. */
#include "otf_check.h"
#include "otf_frames.h"
#include "otf_operand.h"
#include "otf_setup.h"

#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

/* otf_guard.ko */
extern int otf_guard_refuse(struct pt_regs *ctx, __s64 value) __ksym __weak;
extern int otf_guard_skip(struct pt_regs *ctx, __u32 insn_len, bool set_ax, __u64 ax,
			  __u64 flags) __ksym __weak;
extern int otf_guard_unwind(struct pt_regs *ctx, const void *frame, __u32 frame__sz) __ksym __weak;

#define OTF_FLAGS_CF	0x001
#define OTF_FLAGS_ZF	0x040
#define OTF_FLAGS_IF	0x200

static __always_inline __u64 otf_argument(struct pt_regs *ctx, __u8 n)
{
	switch (n) {
	case 0: return OTF_REGISTER(ctx, di);
	case 1: return OTF_REGISTER(ctx, si);
	case 2: return OTF_REGISTER(ctx, dx);
	case 3: return OTF_REGISTER(ctx, cx);
	case 4: return OTF_REGISTER(ctx, r8);
	case 5: return OTF_REGISTER(ctx, r9);
	default: return 0;
	}
}

static __always_inline bool otf_in_text(const struct otf_state *st, __u64 addr)
{
	int i;

	for (i = 0; i < OTF_MAX_TEXTS; i++) {
		if (i >= st->texts)
			break;
		if (addr >= st->text[i].start && addr < st->text[i].end)
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------ sites */

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

/* remembers the instance, and the object it lives in so that a free ends the quarantine */
static __always_inline bool otf_quarantine_instance(const struct otf_state *st,
						    const struct otf_frame *frame, __u32 site)
{
	struct otf_quarantine q = { .time = bpf_ktime_get_boot_ns(), .site = site,
				    .gate = frame->gate };
	__u64 instance = frame->instance, head;
	struct otf_slab s = {};
	long err;

	if (!instance)
		return false;
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

/* whether nothing that was acquired since the gate can be held */
static __always_inline bool otf_may_unwind(const struct otf_site *site, __u32 gate)
{
	__u32 row = site->gates - 1;

	if (!site->gates || row >= otf_ngate_sets || gate >= 64 * OTF_GATE_WORDS)
		return false;
	return otf_gate_sets[row].gates[gate / 64] >> (gate % 64) & 1;
}

static __always_inline __u8 otf_deny(struct pt_regs *ctx, const struct otf_state *st,
				     const struct otf_site *site, __u32 row,
				     struct otf_frame *live, __u64 length)
{
	struct otf_frame frame = {};
	bool quarantined = false, set_ax = false;
	__u64 ax = 0, flags = ctx->flags;

	if (live) {
		frame = *live;
		quarantined = otf_quarantine_instance(st, &frame, row);
		/* a lock taken with interrupts off would stay taken */
		if (otf_may_unwind(site, frame.gate) &&
		    !((frame.flags ^ ctx->flags) & OTF_FLAGS_IF) &&
		    !otf_guard_unwind(ctx, &frame, sizeof(frame)))
			return OTF_DONE_UNWOUND;
	} else {
		otf_count(OTF_COUNT_NO_FRAME);
	}
	if (site->flags & OTF_SITE_RETURNS_DI)
		set_ax = true, ax = ctx->di;
	else if (site->flags & OTF_SITE_RETURNS_LENGTH)
		set_ax = true, ax = length;
	/* what a loop around the instruction waits for must come true, or it spins for ever */
	if (site->flags & OTF_SITE_SKIP_ZF)
		flags |= OTF_FLAGS_ZF;
	if (site->flags & OTF_SITE_SKIP_CF)
		flags &= ~(__u64)OTF_FLAGS_CF;
	if (otf_guard_skip(ctx, site->insn_len, set_ax, ax, flags)) {
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
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	if (cache)
		bpf_probe_read_kernel_str(e->cache, sizeof(e->cache), BPF_CORE_READ(cache, name));
	bpf_ringbuf_submit(e, 0);
}

SEC("kprobe")
int otf_site(struct pt_regs *ctx)
{
	struct otf_state *st = otf_get_state();
	struct otf_verdict v = { .alloc = ~0U };
	__u32 row = bpf_get_attach_cookie(ctx);
	__u64 addr, length, key, ip = ctx->ip - 1;	/* int3 has been executed */
	const struct otf_site *site;
	struct otf_context c = { .sp = ctx->sp };
	struct otf_site_count *count;
	struct otf_frame *live;
	__u8 done = OTF_DONE_REPORTED, action;
	__u32 legal;

	if (!st)
		return 0;
	if (row >= otf_nsites) {
		otf_count(OTF_COUNT_BAD_COOKIE);
		return 0;
	}
	site = &otf_sites[row];
	legal = site->legal;
	if (legal >= otf_nlegals) {
		otf_count(OTF_COUNT_BAD_COOKIE);
		return 0;
	}
	otf_count(OTF_COUNT_CHECKS);
	count = bpf_map_lookup_elem(&otf_site_counts, &row);
	if (count)
		__sync_fetch_and_add(&count->hits, 1);

	addr = otf_address_of(ctx, site);
	length = otf_length_of(ctx, site);
	key = otf_find_stack(c.sp, &c.stack, &c.top, &c.task_stack);
	live = otf_top(key, c.sp);
	c.key = key;
	if (otf_legals[legal].stack == OTF_STACK_OWN || otf_legals[legal].passed ||
	    otf_legals[legal].stack == OTF_STACK_COMPARTMENT)
		c.gate_sp = otf_outermost(key, c.sp);
	otf_check(st, site, &otf_legals[legal], &c, addr, length, &v);
	if (v.reason == OTF_OK) {
		if (v.weak)
			otf_count(OTF_COUNT_WEAK);
		return 0;
	}
	if (v.reason == OTF_UNKNOWN) {
		otf_count(OTF_COUNT_UNKNOWN);
		if (st->phase == OTF_TRANSITION) {
			/* the first one of each site is reported, all are counted */
			if (count && __sync_fetch_and_add(&count->unknown, 1) == 0)
				otf_report(&v, row, ip, addr, length, live, done, st->phase,
					   otf_in_interrupt(key));
			return 0;
		}
	}
	otf_count(OTF_COUNT_VIOLATIONS);
	if (count)
		__sync_fetch_and_add(&count->violations, 1);
	action = st->action < site->action ? st->action : site->action;
	if (action == OTF_KILL)
		done = otf_kill(otf_in_interrupt(key));
	else if (action == OTF_DENY && otf_with_guard)
		done = otf_deny(ctx, st, site, row, live, length);
	otf_report(&v, row, ip, addr, length, live, done, st->phase, otf_in_interrupt(key));
	return 0;
}

/* ------------------------------------------------------------------ gates */

SEC("kprobe")
int otf_gate(struct pt_regs *ctx)
{
	struct otf_state *st = otf_get_state();
	__u32 row = bpf_get_attach_cookie(ctx);
	__u64 stack, top, task_stack, key;
	struct otf_frame f = {}, *live;
	struct otf_quarantine *q;

	if (!st)
		return 0;
	if (row >= otf_ngates) {
		otf_count(OTF_COUNT_BAD_COOKIE);
		return 0;
	}
	f.sp = ctx->sp;
	if (bpf_probe_read_kernel(&f.ret, sizeof(f.ret), (void *)f.sp)) {
		otf_count(OTF_COUNT_FRAMES_LOST);
		return 0;
	}
	f.gate = row;
	f.refusal = otf_gates[row].refusal;
	if (otf_gates[row].instance != OTF_NO_INSTANCE)
		f.instance = otf_argument(ctx, otf_gates[row].instance);
	key = otf_find_stack(f.sp, &stack, &top, &task_stack);
	/*
	 * The compartment calling itself for the same instance is no entry. For
	 * another one it is: a qdisc calls its child through the ops table.
	 */
	if (otf_in_text(st, f.ret)) {
		live = otf_top(key, f.sp + 1);
		if (live && live->instance == f.instance)
			return 0;
	}
	if (f.instance && otf_with_guard) {
		q = bpf_map_lookup_elem(&otf_quarantined, &f.instance);
		if (q) {
			__sync_fetch_and_add(&q->refused, 1);
			otf_count(OTF_COUNT_REFUSED);
			if (otf_guard_refuse(ctx, f.refusal))
				otf_count(OTF_COUNT_DENY_FAILED);
			return 0;
		}
	}
	f.bx = ctx->bx;
	f.bp = ctx->bp;
	f.r12 = ctx->r12;
	f.r13 = ctx->r13;
	f.r14 = ctx->r14;
	f.r15 = ctx->r15;
	f.flags = ctx->flags;
	otf_push(key, &f);
	return 0;
}

/* what arguments point to */
SEC("kprobe")
int otf_entry(struct pt_regs *ctx)
{
	struct otf_note n = { .sp = ctx->sp, .function = bpf_get_attach_cookie(ctx) };
	__u64 stack, top, task_stack;
	int i;

	if (bpf_probe_read_kernel(&n.ret, sizeof(n.ret), (void *)n.sp)) {
		otf_count(OTF_COUNT_NOTES_LOST);
		return 0;
	}
	for (i = 0; i < OTF_ARGUMENTS; i++)
		n.argument[i] = otf_argument(ctx, i);
	otf_take_note(otf_find_stack(n.sp, &stack, &top, &task_stack), &n);
	return 0;
}

/* ------------------------------------------------------------- provenance */

SEC("kprobe")
int otf_alloc_call(struct pt_regs *ctx)
{
	__u32 row = bpf_get_attach_cookie(ctx);
	__u64 sp = ctx->sp, size;

	if (row >= otf_nallocs) {
		otf_count(OTF_COUNT_BAD_COOKIE);
		return 0;
	}
	size = otf_allocs[row].size;
	if (!size)
		size = otf_argument(ctx, otf_allocs[row].size_arg);
	if (!otf_allocs[row].size && otf_allocs[row].is_order)
		size = (__u64)OTF_PAGE_SIZE << (size & 31);
	else if (!otf_allocs[row].size && otf_allocs[row].count_arg != 0xff)
		size *= otf_argument(ctx, otf_allocs[row].count_arg);
	/* the stack pointer is the same again when the call has returned */
	if (bpf_map_update_elem(&otf_pending, &sp, &size, 0))
		otf_count(OTF_COUNT_RECORDS_LOST);
	return 0;
}

struct otf_pages_walk { struct otf_object record; bool drop, failed; };

static long otf_walk_page(__u32 i, struct otf_pages_walk *w)
{
	__u64 page = w->record.start + (__u64)i * OTF_PAGE_SIZE;

	if (w->drop) {
		bpf_map_delete_elem(&otf_pages, &page);
	} else if (bpf_map_update_elem(&otf_pages, &page, &w->record, 0)) {
		w->failed = true;
		return 1;
	}
	return 0;
}

static __always_inline __u32 otf_pages_in(__u64 size)
{
	return (size + OTF_PAGE_SIZE - 1) >> OTF_PAGE_SHIFT;
}

SEC("kprobe")
int otf_alloc_return(struct pt_regs *ctx)
{
	struct otf_state *st = otf_get_state();
	__u32 row = bpf_get_attach_cookie(ctx);
	__u64 addr = ctx->ax, sp = ctx->sp, head = 0, *pending;
	struct otf_pages_walk w = {};
	struct otf_slab s = {};

	if (!st)
		return 0;
	if (row >= otf_nallocs) {
		otf_count(OTF_COUNT_BAD_COOKIE);
		return 0;
	}
	w.record.alloc = row;
	/* another path may lead to this instruction without the call */
	pending = bpf_map_lookup_elem(&otf_pending, &sp);
	if (!pending)
		return 0;
	w.record.size = *pending;
	bpf_map_delete_elem(&otf_pending, &sp);
	if (!addr || addr >= (__u64)-4095)
		return 0;	/* NULL or an error */
	if (addr >= st->vmemmap && addr < st->kernel_map && st->vmemmap > st->vmalloc_start)
		addr = otf_page_address(st, addr);	/* alloc_pages returns a struct page */
	w.record.start = addr;
	if (otf_in_linear_map(st, addr)) {
		head = otf_head_page(st, addr);
		if (head && otf_page_is_slab(head)) {
			otf_find_slab(st, head, addr, &s);
			if (!w.record.size)
				w.record.size = s.size;
			bpf_map_delete_elem(&otf_freed, &addr);
			w.failed = bpf_map_update_elem(&otf_objects, &addr, &w.record, 0);
			goto out;
		}
		if (head && !w.record.size)
			w.record.size = otf_folio_size(head);
	}
	if (!w.record.size || w.record.size > (1U << 23) * (__u64)OTF_PAGE_SIZE) {
		otf_count(OTF_COUNT_RECORDS_LOST);
		return 0;
	}
	bpf_map_delete_elem(&otf_freed, &addr);
	bpf_loop(otf_pages_in(w.record.size), otf_walk_page, &w, 0);
out:
	otf_count(w.failed ? OTF_COUNT_RECORDS_LOST : OTF_COUNT_RECORDS);
	return 0;
}

static __always_inline void otf_forget(__u64 addr)
{
	struct otf_object *o = bpf_map_lookup_elem(&otf_objects, &addr);
	struct otf_pages_walk w = { .drop = true };
	__u64 *instance;

	if (o) {
		__u32 alloc = o->alloc;

		bpf_map_update_elem(&otf_freed, &addr, &alloc, 0);
		bpf_map_delete_elem(&otf_objects, &addr);
	}
	instance = bpf_map_lookup_elem(&otf_quarantine_objects, &addr);
	if (instance) {
		__u64 key = *instance;

		bpf_map_delete_elem(&otf_quarantined, &key);
		bpf_map_delete_elem(&otf_quarantine_objects, &addr);
	}
	if (addr & (OTF_PAGE_SIZE - 1))
		return;
	o = bpf_map_lookup_elem(&otf_pages, &addr);
	if (o && o->start == addr) {
		w.record = *o;
		bpf_loop(otf_pages_in(w.record.size), otf_walk_page, &w, 0);
	}
}

/*
 * The kernel runs no program twice on one CPU: frees in an interrupt that hits
 * while the program runs (whole batches, after a grace period) would be lost.
 * So each tracepoint has a twin, which takes what the first one did not.
 */
enum otf_freer { OTF_FREER_KFREE, OTF_FREER_CACHE, OTF_FREER_PAGES, OTF_FREERS };

struct OTF_MAP(BPF_MAP_TYPE_PERCPU_ARRAY, OTF_FREERS, __u32, __u64) otf_last_freed SEC(".maps");

static __always_inline void otf_forget_first(__u32 which, __u64 addr)
{
	__u64 *last = bpf_map_lookup_elem(&otf_last_freed, &which);

	if (last)
		*last = addr;
	otf_forget(addr);
}

static __always_inline void otf_forget_twin(__u32 which, __u64 addr)
{
	__u64 *last = bpf_map_lookup_elem(&otf_last_freed, &which);

	if (last && *last == addr)
		*last = 0;	/* done; forgetting twice before the free is harmless */
	else
		otf_forget(addr);
}

SEC("raw_tp/kfree")
int otf_free_kfree(struct bpf_raw_tracepoint_args *ctx)
{
	otf_forget_first(OTF_FREER_KFREE, ctx->args[1]);
	return 0;
}

SEC("raw_tp/kfree")
int otf_free_kfree_twin(struct bpf_raw_tracepoint_args *ctx)
{
	otf_forget_twin(OTF_FREER_KFREE, ctx->args[1]);
	return 0;
}

SEC("raw_tp/kmem_cache_free")
int otf_free_cache(struct bpf_raw_tracepoint_args *ctx)
{
	otf_forget_first(OTF_FREER_CACHE, ctx->args[1]);
	return 0;
}

SEC("raw_tp/kmem_cache_free")
int otf_free_cache_twin(struct bpf_raw_tracepoint_args *ctx)
{
	otf_forget_twin(OTF_FREER_CACHE, ctx->args[1]);
	return 0;
}

SEC("raw_tp/mm_page_free")
int otf_free_pages(struct bpf_raw_tracepoint_args *ctx)
{
	struct otf_state *st = otf_get_state();

	if (st && st->page_offset)
		otf_forget_first(OTF_FREER_PAGES, otf_page_address(st, ctx->args[0]));
	return 0;
}

SEC("raw_tp/mm_page_free")
int otf_free_pages_twin(struct bpf_raw_tracepoint_args *ctx)
{
	struct otf_state *st = otf_get_state();

	if (st && st->page_offset)
		otf_forget_twin(OTF_FREER_PAGES, otf_page_address(st, ctx->args[0]));
	return 0;
}

SEC("raw_tp/free_vmap_area_noflush")
int otf_free_vmap(struct bpf_raw_tracepoint_args *ctx)
{
	otf_forget(ctx->args[0]);
	return 0;
}

static long otf_walk_bulk(__u32 i, __u64 *array)
{
	__u64 addr;

	if (!bpf_probe_read_kernel(&addr, sizeof(addr), (void *)(*array + 8ULL * i)))
		otf_forget(addr);
	return 0;
}

/* kfree_rcu in bulk passes no kfree tracepoint */
SEC("kprobe/kmem_cache_free_bulk")
int otf_free_bulk(struct pt_regs *ctx)
{
	__u64 array = ctx->dx;

	bpf_loop((__u32)ctx->si, otf_walk_bulk, &array, 0);
	return 0;
}
