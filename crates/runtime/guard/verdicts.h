/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OTF_VERDICTS_H
#define OTF_VERDICTS_H

#include <linux/types.h>

#define OTF_NO_LINE 0
/*
 * The first lines of a load are those of all its sets that allow any object: one for
 * each page modulo their number.
 */
#define OTF_WIDE_LINES 16
#define OTF_PAGE_BITS 12
#define OTF_NOT_ABOVE (~0U)

/*
 * A range that may be written, kept per CPU and legal set. It holds as long as the
 * object and the slab or pages it lies in were not freed: sum is that of their
 * generations, whose places are object and page. All 0: nothing is kept.
 */
struct otf_line {
	u64 start, length;
	u32 object, page;
	u64 sum;
};

/* where the code of a slot finds them */
struct otf_verdict_places {
	unsigned long lines;	/* per-CPU variable: address of the lines */
	unsigned long hits;	/* per-CPU variable: address of a counter for each piece */
	unsigned long generations;	/* address of the generations */
};

/* what a slot can decide without a program; of a probe with one operand of constant size */
struct otf_quick {
	s32 displacement;
	u32 size;	/* bytes written, 0: it can decide nothing */
	u32 line;	/* row in the lines, OTF_NO_LINE: nothing is kept for it */
	u32 wide;	/* 1: the row is the first of the wide ones */
	u32 frame;	/* bytes from the stack pointer on that may be written, 0: none for sure */
	u32 above;	/* from so far above it on any of its stack may be, OTF_NOT_ABOVE */
	u8 base, index;	/* registers as instructions number them, OTF_NO_REGISTER */
	u8 shift;	/* of the index */
	u8 pad[5];
};

/* quick.c */
#define OTF_QUICK_BYTES 192	/* most that it writes */
#define OTF_QUICK_CALL 15	/* of the call behind it */
u8 *otf_quick_put(u8 *to, const struct otf_quick *quick, u32 index,
		  const struct otf_verdict_places *places, bool *fits);

/* verdicts.c */
struct otf_lines;

struct otf_lines *otf_lines_get(const char *name, u32 count);
u32 otf_lines_row(const struct otf_lines *lines, const struct otf_quick *quick);
void otf_lines_put(struct otf_lines *lines);
struct otf_lines *otf_lines_hold(u32 line);
bool otf_quick_possible(const struct otf_quick *quick, u32 lines);
extern struct otf_verdict_places otf_verdict_places;

/* for the range that the hit on this CPU is about to find; line is OTF_NO_LINE outside of one */
void otf_verdict_ask(u32 line, bool wide);
void otf_verdict_begin(u64 object, u64 page);
void otf_verdict_keep(u64 start, u64 length);

/* what is kept of an object or a page at this address holds no more */
void otf_verdict_forget(u64 addr);

u64 otf_quick_hits(u32 index);
void otf_quick_hits_clear(u32 index);
void otf_verdicts_exit(void);

#endif
