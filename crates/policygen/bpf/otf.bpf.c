// SPDX-License-Identifier: GPL-2.0-only
/* The programs of a policy: sites, calls, returns, gates, allocations, frees, set-up. */
#include "otf_act.h"
#include "otf_flow.h"
#include "otf_free.h"
#include "otf_operand.h"
#include "otf_same.h"
#include "otf_setup.h"

#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

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

/* the ranges are sorted */
static __always_inline bool otf_in_text(const struct otf_state *st, __u64 addr)
{
	__u32 low = 0, high = st->texts, middle;
	int i;

	for (i = 0; i < OTF_TEXT_STEPS; i++) {
		if (low >= high)
			break;
		/* the mask is for the verifier */
		middle = (low + high) / 2 & (OTF_MAX_TEXTS - 1);
		if (addr < st->text[middle].start)
			high = middle;
		else if (addr >= st->text[middle].end)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

/* ------------------------------------------------------------------ sites */

static __always_inline __u8 otf_deny_site(struct pt_regs *ctx, const struct otf_state *st,
					  const struct otf_site *site, __u32 row,
					  struct otf_frame *live, __u64 length)
{
	struct otf_way way = {
		.flags = ctx->flags, .gates = site->gates, .insn_len = site->insn_len,
		.release_gates = site->release_gates, .release = site->release,
		.tail = site->flags & OTF_SITE_TAIL,
	};

	if (site->flags & OTF_SITE_RETURNS_DI)
		way.set_ax = true, way.ax = ctx->di;
	else if (site->flags & OTF_SITE_RETURNS_LENGTH)
		way.set_ax = true, way.ax = length;
	if (site->flags & OTF_SITE_SKIP_ZF)
		way.flags |= OTF_FLAGS_ZF;
	if (site->flags & OTF_SITE_SKIP_CF)
		way.flags &= ~(__u64)OTF_FLAGS_CF;
	return otf_deny(ctx, st, &way, row, live);
}

/* not unwound after all: what relies on this check runs unchecked */
static __always_inline __u8 otf_deny_leader(const struct otf_site *site, __u8 done)
{
	if (!(site->length & OTF_LENGTH_LEADER) || done == OTF_DONE_UNWOUND)
		return done;
	otf_count(OTF_COUNT_DENY_FAILED);
	return OTF_DONE_DENY_FAILED;
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
	count = bpf_map_lookup_elem(&otf_site_counts, &row);
	if (count)
		__sync_fetch_and_add(&count->hits, 1);

	addr = otf_address_of(ctx, site);
	length = otf_length_of(ctx, site);
	if (!otf_is_off_stacks(st, addr, c.sp))
		c.key = otf_find_stack(c.sp, &c.stack, &c.top, &c.task_stack);
	if (site->flags & OTF_SITE_FREE) {
		otf_count(OTF_COUNT_FREES);
		otf_check_free(st, &otf_legals[legal], &c, addr, &v);
	} else {
		otf_check(st, site, &otf_legals[legal], &c, addr, length, &v);
		if (site->pointer &&
		    otf_leaves_object(st, site, otf_pointer_of(ctx, site->pointer), addr, length))
			otf_refuse_other_object(&v);
	}
	if (v.reason == OTF_OK) {
		if (v.weak)
			otf_count(OTF_COUNT_WEAK);
		/* before deny, records are still taken over from the bundle that is replaced */
		if (otf_with_guard && v.kept && v.from < v.to && st->action == OTF_DENY)
			otf_guard_keep(v.from, v.to - v.from);
		return 0;
	}
	key = otf_find_stack(c.sp, &c.stack, &c.top, &c.task_stack);
	live = otf_top(key, c.sp);
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
		done = otf_deny_leader(site, otf_deny_site(ctx, st, site, row, live, length));
	otf_report(&v, row, ip, addr, length, live, done, st->phase, otf_in_interrupt(key));
	return 0;
}

/* ------------------------------------------------------------------ calls */

SEC("kprobe")
int otf_call(struct pt_regs *ctx)
{
	struct otf_state *st = otf_get_state();
	struct otf_verdict v = { .alloc = ~0U };
	__u32 row = bpf_get_attach_cookie(ctx), checked;
	__u64 target, stack, top, task_stack, key, ip = ctx->ip - 1;
	const struct otf_call *call;
	struct otf_site_count *count;
	struct otf_frame *live;
	__u8 done = OTF_DONE_REPORTED, action;

	if (!st)
		return 0;
	if (row >= otf_ncalls) {
		otf_count(OTF_COUNT_BAD_COOKIE);
		return 0;
	}
	call = &otf_calls[row];
	checked = otf_nsites + row;
	count = bpf_map_lookup_elem(&otf_site_counts, &checked);
	if (count)
		__sync_fetch_and_add(&count->hits, 1);

	target = otf_effective_address(ctx, call->shape) + call->displacement +
		 otf_symbol_of(call->symbol);
	if (call->memory && bpf_probe_read_kernel(&target, sizeof(target), (void *)target))
		v.reason = OTF_BAD_ADDRESS;
	else
		otf_check_target(st, call, target, &v);
	if (v.reason == OTF_OK) {
		if (v.weak)
			otf_count(OTF_COUNT_WEAK_CALLS);
		return 0;
	}
	otf_count(OTF_COUNT_VIOLATIONS);
	if (count)
		__sync_fetch_and_add(&count->violations, 1);
	key = otf_find_stack(ctx->sp, &stack, &top, &task_stack);
	live = otf_top(key, ctx->sp);
	action = st->action < call->action ? st->action : call->action;
	if (action == OTF_KILL) {
		done = otf_kill(otf_in_interrupt(key));
	} else if (action == OTF_DENY && otf_with_guard) {
		/* NULL and no error: what most callers can go on with */
		struct otf_way way = {
			.flags = ctx->flags, .gates = call->gates, .insn_len = call->insn_len,
			.set_ax = true, .tail = call->flags & OTF_CALL_TAIL,
		};

		done = otf_deny(ctx, st, &way, checked, live);
	}
	otf_report(&v, checked, ip, target, 0, live, done, st->phase, otf_in_interrupt(key));
	return 0;
}

/* ---------------------------------------------------------------- returns */

/*
 * A return of a gate's function, where the gate is the innermost one and was
 * entered at this stack pointer: nothing else can know the legal address.
 */
SEC("kprobe")
int otf_return(struct pt_regs *ctx)
{
	struct otf_state *st = otf_get_state();
	struct otf_verdict v = { .alloc = ~0U, .class = OTF_CLASS_STACK, .reason = OTF_BAD_RETURN };
	__u32 row = bpf_get_attach_cookie(ctx), checked;
	__u64 ret, stack, top, task_stack, key, sp = ctx->sp, ip = ctx->ip - 1;
	struct otf_site_count *count;
	struct otf_frames *frames;
	struct otf_frame frame;
	__u8 done = OTF_DONE_REPORTED, action;

	if (!st)
		return 0;
	if (row >= otf_nreturns) {
		otf_count(OTF_COUNT_BAD_COOKIE);
		return 0;
	}
	key = otf_find_stack(sp, &stack, &top, &task_stack);
	frames = bpf_map_lookup_elem(&otf_frames, &key);
	if (!frames)
		return 0;
	if (!otf_end_gate(frames, otf_returns[row].gate, sp, &frame))
		return 0;
	ret = otf_word(sp);
	checked = otf_nsites + otf_ncalls + row;
	count = bpf_map_lookup_elem(&otf_site_counts, &checked);
	if (count)
		__sync_fetch_and_add(&count->hits, 1);
	if (ret == frame.ret)
		return 0;
	otf_count(OTF_COUNT_VIOLATIONS);
	if (count)
		__sync_fetch_and_add(&count->violations, 1);
	action = st->action < otf_returns[row].action ? st->action : otf_returns[row].action;
	if (action == OTF_KILL) {
		done = otf_kill(otf_in_interrupt(key));
	} else if (action == OTF_DENY && otf_with_guard) {
		otf_quarantine_instance(st, &frame, checked);
		done = OTF_DONE_UNWOUND;
		if (otf_guard_return_to(ctx, &frame, sizeof(frame))) {
			otf_count(OTF_COUNT_DENY_FAILED);
			done = OTF_DONE_DENY_FAILED;
		}
	}
	otf_report(&v, checked, ip, ret, 0, &frame, done, st->phase, otf_in_interrupt(key));
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
	struct otf_frames *frames;
	struct otf_quarantine *q;
	__u32 *any;

	if (!st)
		return 0;
	if (row >= otf_ngates) {
		otf_count(OTF_COUNT_BAD_COOKIE);
		return 0;
	}
	f.sp = ctx->sp;
	f.ret = otf_word(f.sp);
	f.gate = row;
	f.refusal = otf_gates[row].refusal;
	if (otf_gates[row].instance != OTF_NO_INSTANCE)
		f.instance = otf_argument(ctx, otf_gates[row].instance);
	key = otf_find_stack(f.sp, &stack, &top, &task_stack);
	/*
	 * The compartment calling itself for the same instance is no entry. For
	 * another one it is: a qdisc calls its child through the ops table.
	 */
	frames = bpf_map_lookup_elem(&otf_frames, &key);
	if (frames && otf_in_text(st, f.ret)) {
		live = otf_top_of(frames, f.sp + 1);
		if (live && live->instance == f.instance)
			return 0;
	}
	any = otf_get_any_quarantine();
	if (f.instance && otf_with_guard && any && *any) {
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
	otf_push(frames, key, &f);
	return 0;
}

/* what arguments point to */
SEC("kprobe")
int otf_entry(struct pt_regs *ctx)
{
	struct otf_note n = { .sp = ctx->sp, .function = bpf_get_attach_cookie(ctx) };
	__u64 stack, top, task_stack;
	int i;

	n.ret = otf_word(n.sp);
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
	struct otf_pending_slot *slot;
	__u64 sp = ctx->sp, size, old;

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
	slot = otf_pending_of(sp);
	if (slot) {
		old = __sync_val_compare_and_swap(&slot->sp, 0, sp);
		if (!old || old == sp) {
			slot->size = size;
			return 0;
		}
	}
	if (bpf_map_update_elem(&otf_pending, &sp, &size, 0))
		otf_count(OTF_COUNT_RECORDS_LOST);
	return 0;
}

/* whether the call before has been seen: another path may lead behind it */
static __always_inline bool otf_take_pending(__u64 sp, __u64 *size)
{
	struct otf_pending_slot *slot = otf_pending_of(sp);
	__u64 *pending;

	if (slot && slot->sp == sp) {
		*size = slot->size;
		slot->sp = 0;
		return true;
	}
	pending = bpf_map_lookup_elem(&otf_pending, &sp);
	if (!pending)
		return false;
	*size = *pending;
	bpf_map_delete_elem(&otf_pending, &sp);
	return true;
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
	__u64 addr = ctx->ax, head = 0;
	struct otf_pages_walk w = {};
	struct otf_slab s = {};

	if (!st)
		return 0;
	if (row >= otf_nallocs) {
		otf_count(OTF_COUNT_BAD_COOKIE);
		return 0;
	}
	w.record.alloc = row;
	if (!otf_take_pending(ctx->sp, &w.record.size))
		return 0;
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
			otf_note_obtained(addr);
			otf_track(addr);
			w.failed = bpf_map_update_elem(&otf_objects, &addr, &w.record, 0);
			if (otf_with_guard)
				otf_guard_forget(addr);
			goto out;
		}
		if (head && !w.record.size)
			w.record.size = otf_folio_size(head);
	}
	if (!w.record.size || w.record.size > (1U << 23) * (__u64)OTF_PAGE_SIZE) {
		otf_count(OTF_COUNT_RECORDS_LOST);
		return 0;
	}
	otf_note_obtained(addr);
	otf_track(addr);
	bpf_loop(otf_pages_in(w.record.size), otf_walk_page, &w, 0);
	if (otf_with_guard)
		otf_guard_forget(addr);
out:
	otf_count(w.failed ? OTF_COUNT_RECORDS_LOST : OTF_COUNT_RECORDS);
	return 0;
}

static __always_inline void otf_forget(__u64 addr)
{
	struct otf_pages_walk w = { .drop = true };
	__u64 *instance;
	struct otf_object *o;
	__u32 *any;

	if (!otf_is_tracked(addr))
		return;
	o = bpf_map_lookup_elem(&otf_objects, &addr);
	if (o) {
		otf_note_freed(addr);
		if (!bpf_map_delete_elem(&otf_objects, &addr))
			otf_untrack(addr);
	}
	any = otf_get_any_quarantine();
	instance = any && *any ? bpf_map_lookup_elem(&otf_quarantine_objects, &addr) : NULL;
	if (instance) {
		__u64 key = *instance;

		bpf_map_delete_elem(&otf_quarantined, &key);
		if (!bpf_map_delete_elem(&otf_quarantine_objects, &addr))
			otf_untrack(addr);
	}
	if (addr & (OTF_PAGE_SIZE - 1))
		return;
	o = bpf_map_lookup_elem(&otf_pages, &addr);
	if (o && o->start == addr) {
		w.record = *o;
		/* of two that free it at once only one finds it */
		if (!bpf_map_delete_elem(&otf_pages, &addr))
			otf_untrack(addr);
		bpf_loop(otf_pages_in(w.record.size), otf_walk_page, &w, 0);
	}
}

/* run by the loader for each object that it puts into a map itself */
SEC("syscall")
int otf_track_object(__u64 *addr)
{
	otf_track(*addr);
	return 0;
}

/*
 * Without the guard: the kernel runs no program twice on one CPU: frees in an interrupt that hits
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

/* before 6.3 there is no such tracepoint */
SEC("kprobe/vfree")
int otf_vfree(struct pt_regs *ctx)
{
	otf_forget(ctx->di);
	return 0;
}

static long otf_walk_bulk(__u32 i, __u64 *array)
{
	__u64 addr;

	if (bpf_probe_read_kernel(&addr, sizeof(addr), (void *)(*array + 8ULL * i)))
		return 0;
	otf_forget(addr);
	if (otf_with_guard)
		otf_guard_forget(addr);
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
