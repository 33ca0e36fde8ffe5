/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Gates that were entered, per stack. There is no exit probe: a frame is over
 * when the stack pointer has risen to it, and it is alive only while the
 * return address that was noted still stands in its slot.
 */
#ifndef OTF_FRAMES_H
#define OTF_FRAMES_H

#include "otf_state.h"

static const struct otf_frames otf_no_frames;

/* the stack that sp lies on; also its key: the task's stack, or the CPU in an interrupt */
static __always_inline __u64 otf_find_stack(__u64 sp, __u64 *stack, __u64 *top, __u64 *task_stack)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 base = (__u64)OTF_READ(task, stack);

	*task_stack = base;
	if (sp - base < OTF_THREAD_SIZE) {
		*stack = base;
		*top = base + OTF_THREAD_SIZE;
		return base;
	}
	*stack = sp;
	*top = sp + OTF_THREAD_SIZE;
	return 1 + (__u64)bpf_get_smp_processor_id();
}

static __always_inline bool otf_in_interrupt(__u64 key)
{
	return (__s64)key > 0;
}

/*
 * Drops the frames below this stack pointer: they are over. At a site the frame
 * at the very pointer is alive: a leaf function that has pushed nothing.
 */
static __always_inline void otf_pop(struct otf_frames *f, __u64 sp)
{
	int i;

	if (f->lost_sp && f->lost_sp < sp)
		f->lost_sp = 0;
	for (i = 0; i < OTF_MAX_FRAMES; i++) {
		__u32 d = f->depth - 1;

		if (d >= OTF_MAX_FRAMES || f->frame[d].sp >= sp)
			break;
		f->depth = d;
	}
}

/* a frame is alive while the return address that was noted still stands in its slot */
static __always_inline bool otf_alive(const struct otf_frame *frame)
{
	return frame->ret && otf_word(frame->sp) == frame->ret;
}

/* f: those of this key, if there are any yet */
static __always_inline void otf_push(struct otf_frames *f, __u64 key, const struct otf_frame *frame)
{
	__u32 d;
	int i;

	if (!f) {
		bpf_map_update_elem(&otf_frames, &key, &otf_no_frames, BPF_NOEXIST);
		f = bpf_map_lookup_elem(&otf_frames, &key);
		if (!f) {
			otf_count(OTF_COUNT_FRAMES_LOST);
			return;
		}
	}
	/* a gate at or above a noted one: that one has returned */
	otf_pop(f, frame->sp + 1);
	/* likewise those above whose slots were used for something else since */
	for (i = 0; i < OTF_MAX_FRAMES; i++) {
		d = f->depth - 1;
		if (d >= OTF_MAX_FRAMES || otf_alive(&f->frame[d]))
			break;
		f->depth = d;
	}
	d = f->depth;
	if (d >= OTF_MAX_FRAMES) {
		if (!f->lost_sp)
			f->lost_sp = frame->sp;
		otf_count(OTF_COUNT_FRAMES_LOST);
		return;
	}
	f->frame[d] = *frame;
	f->depth = d + 1;
}

/*
 * Stack pointer at the outermost gate that is alive: what lies below belongs to
 * the compartment or to what it has called. 0: none is known.
 */
static __always_inline __u64 otf_outermost(__u64 key, __u64 sp)
{
	struct otf_frames *f = bpf_map_lookup_elem(&otf_frames, &key);
	int i;

	if (!f)
		return 0;
	for (i = 0; i < OTF_MAX_FRAMES; i++) {
		if (i >= f->depth)
			break;
		if (f->frame[i].sp >= sp && otf_alive(&f->frame[i]))
			return f->frame[i].sp;
	}
	return 0;
}

/* the innermost gate that is alive; NULL where none is known for sure */
static __always_inline struct otf_frame *otf_top_of(struct otf_frames *f, __u64 sp)
{
	__u32 d;

	otf_pop(f, sp);
	d = f->depth - 1;
	if (d >= OTF_MAX_FRAMES || f->lost_sp || !otf_alive(&f->frame[d]))
		return NULL;
	return &f->frame[d];
}

static __always_inline struct otf_frame *otf_top(__u64 key, __u64 sp)
{
	struct otf_frames *f = bpf_map_lookup_elem(&otf_frames, &key);

	return f ? otf_top_of(f, sp) : NULL;
}

#endif
