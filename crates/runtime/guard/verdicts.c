// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verdicts that are kept: for each CPU and legal set the range that a program has
 * found legal last. Each free makes the generation of its address another one, and
 * with it what was kept of that object, or of the pages, holds no more. Addresses
 * share generations by their hash, which only forgets more than it must.
 */
#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "guard.h"
#include "jumps.h"
#include "verdicts.h"

#define OTF_GENERATIONS 65536	/* the hash of guard.h has 16 bits */
#define OTF_LINES 8192		/* of all policies together */

/* the lines of one load, which its sets share */
struct otf_lines {
	struct list_head list;
	u32 first, count, users;
	char name[64];
};

/* what a hit is about to keep */
struct otf_question {
	u32 line;	/* OTF_NO_LINE: nothing */
	bool wide;
	u32 object, page;
	u64 sum;
	bool begun;
};

/* odd: something may be kept, so that a free has to make it another one */
#define OTF_KEPT 1

static u64 otf_generations[OTF_GENERATIONS];
static DEFINE_PER_CPU(struct otf_line *, otf_kept);
static DEFINE_PER_CPU(u64 *, otf_hits);
static DEFINE_PER_CPU(struct otf_question, otf_question);
static DECLARE_BITMAP(otf_lines_used, OTF_LINES);
static LIST_HEAD(otf_loads);
static DEFINE_MUTEX(otf_lines_mutex);

struct otf_verdict_places otf_verdict_places;

static const struct otf_line otf_nothing = { .start = ~0ULL };

static void otf_lines_clear(u32 first, u32 count)
{
	int cpu;
	u32 i;

	for_each_possible_cpu(cpu)
		for (i = first; i < first + count; i++)
			per_cpu(otf_kept, cpu)[i] = otf_nothing;
}

/* at the first policy: memory of each CPU */
static int otf_verdicts_init(void)
{
	int cpu;

	if (otf_verdict_places.lines)
		return 0;
	for_each_possible_cpu(cpu) {
		if (!per_cpu(otf_kept, cpu))
			per_cpu(otf_kept, cpu) = kvcalloc_node(OTF_LINES, sizeof(struct otf_line),
							       GFP_KERNEL, cpu_to_node(cpu));
		if (!per_cpu(otf_hits, cpu))
			per_cpu(otf_hits, cpu) = kvcalloc_node(OTF_MAX_PIECES, sizeof(u64),
							       GFP_KERNEL, cpu_to_node(cpu));
		if (!per_cpu(otf_kept, cpu) || !per_cpu(otf_hits, cpu))
			return -ENOMEM;
	}
	__set_bit(OTF_NO_LINE, otf_lines_used);
	otf_verdict_places.hits = (unsigned long)&otf_hits;
	otf_verdict_places.generations = (unsigned long)otf_generations;
	otf_verdict_places.lines = (unsigned long)&otf_kept;
	return 0;
}

/* no slot is left */
void otf_verdicts_exit(void)
{
	struct otf_lines *lines, *next;
	int cpu;

	list_for_each_entry_safe(lines, next, &otf_loads, list)
		kfree(lines);
	for_each_possible_cpu(cpu) {
		kvfree(per_cpu(otf_kept, cpu));
		kvfree(per_cpu(otf_hits, cpu));
	}
}

/* the lines of the load of this name; NULL where there is no room: its probes ask each time */
struct otf_lines *otf_lines_get(const char *name, u32 count)
{
	struct otf_lines *lines;
	unsigned long first;

	mutex_lock(&otf_lines_mutex);
	list_for_each_entry(lines, &otf_loads, list) {
		if (!strcmp(lines->name, name)) {
			lines->users++;
			goto out;
		}
	}
	lines = NULL;
	if (otf_verdicts_init())
		goto out;
	count += OTF_WIDE_LINES;
	first = bitmap_find_next_zero_area(otf_lines_used, OTF_LINES, 0, count, 0);
	if (first + count <= OTF_LINES)
		lines = kzalloc(sizeof(*lines), GFP_KERNEL);
	if (!lines)
		goto out;
	bitmap_set(otf_lines_used, first, count);
	otf_lines_clear(first, count);
	lines->first = first;
	lines->count = count;
	lines->users = 1;
	strscpy(lines->name, name, sizeof(lines->name));
	list_add(&lines->list, &otf_loads);
out:
	mutex_unlock(&otf_lines_mutex);
	return lines;
}

/* row of a line that counts from 1: behind the wide ones */
u32 otf_lines_row(const struct otf_lines *lines, const struct otf_quick *quick)
{
	if (quick->wide)
		return lines->first;
	/* another set of this load may have had fewer */
	if (!quick->line || OTF_WIDE_LINES + quick->line > lines->count)
		return OTF_NO_LINE;
	return lines->first + OTF_WIDE_LINES + quick->line - 1;
}

/* no slot of the set is left that knows them */
void otf_lines_put(struct otf_lines *lines)
{
	if (!lines)
		return;
	mutex_lock(&otf_lines_mutex);
	if (!--lines->users) {
		bitmap_clear(otf_lines_used, lines->first, lines->count);
		list_del(&lines->list);
		kfree(lines);
	}
	mutex_unlock(&otf_lines_mutex);
}

/* a slot goes on looking there: nobody else gets them until they are put */
struct otf_lines *otf_lines_hold(u32 line)
{
	struct otf_lines *lines, *found = NULL;

	mutex_lock(&otf_lines_mutex);
	list_for_each_entry(lines, &otf_loads, list)
		if (line - lines->first < lines->count)
			found = lines;
	if (found)
		found->users++;
	mutex_unlock(&otf_lines_mutex);
	return found;
}

/* whether a row that a loader gave makes sense; lines: how many its set has */
bool otf_quick_possible(const struct otf_quick *quick, u32 lines)
{
	return quick->size <= PAGE_SIZE && quick->frame <= THREAD_SIZE && quick->line <= lines &&
	       (quick->above <= THREAD_SIZE || quick->above == OTF_NOT_ABOVE) &&
	       quick->shift <= 3 && quick->wide <= 1 && (quick->base < 16 || quick->base == OTF_NO_REGISTER) &&
	       (quick->index < 16 || quick->index == OTF_NO_REGISTER);
}

static u64 *otf_generation_of(u64 addr)
{
	return &otf_generations[addr * OTF_HASH_FACTOR >> 48];
}

/*
 * Behind whatever else a free changes that verdicts look at, so that either they see
 * that, or this sees that they have begun.
 */
void otf_verdict_forget(u64 addr)
{
	u64 *generation = otf_generation_of(addr), was = READ_ONCE(*generation);

	while (was & OTF_KEPT && !try_cmpxchg(generation, &was, was + 1))
		;
}

/* interrupts are off from here to the end of the hit */
void otf_verdict_ask(u32 line, bool wide)
{
	struct otf_question *question = this_cpu_ptr(&otf_question);

	/* whom an NMI interrupts may be reading a line */
	question->line = in_nmi() ? OTF_NO_LINE : line;
	question->wide = wide;
	question->begun = false;
}
NOKPROBE_SYMBOL(otf_verdict_ask);

static u64 otf_generation_keep(u32 row)
{
	u64 is = READ_ONCE(otf_generations[row]);

	while (!(is & OTF_KEPT) && !try_cmpxchg(&otf_generations[row], &is, is | OTF_KEPT))
		;
	return is | OTF_KEPT;
}

/*
 * What the verdict will be about: before anything is looked at that a free changes.
 * A free behind this makes the sum another one.
 */
void otf_verdict_begin(u64 object, u64 page)
{
	struct otf_question *question = this_cpu_ptr(&otf_question);

	if (question->line == OTF_NO_LINE)
		return;
	question->object = otf_generation_of(object) - otf_generations;
	question->page = otf_generation_of(page) - otf_generations;
	question->sum = otf_generation_keep(question->object) +
			otf_generation_keep(question->page);
	question->begun = true;
}

/* whoever interrupts this finds nothing there */
static void otf_line_write(struct otf_line *line, const struct otf_line *kept)
{
	WRITE_ONCE(line->start, otf_nothing.start);
	barrier();
	line->length = kept->length;
	line->object = kept->object;
	line->page = kept->page;
	line->sum = kept->sum;
	barrier();
	WRITE_ONCE(line->start, kept->start);
}

void otf_verdict_keep(u64 start, u64 length)
{
	struct otf_question *question = this_cpu_ptr(&otf_question);
	const struct otf_line kept = {
		.start = start, .length = length, .object = question->object,
		.page = question->page, .sum = question->sum,
	};
	struct otf_line *lines = this_cpu_read(otf_kept) + question->line;
	u64 page, last = (start + length - 1) >> OTF_PAGE_BITS;

	if (question->line == OTF_NO_LINE || !question->begun)
		return;
	if (!question->wide) {
		otf_line_write(lines, &kept);
		return;
	}
	for (page = start >> OTF_PAGE_BITS; page <= last; page++) {
		otf_line_write(&lines[page % OTF_WIDE_LINES], &kept);
		if (page - (start >> OTF_PAGE_BITS) == OTF_WIDE_LINES)
			break;
	}
}

/* hits of a piece that no program has seen */
u64 otf_quick_hits(u32 index)
{
	u64 hits = 0;
	int cpu;

	if (!otf_verdict_places.lines)
		return 0;
	for_each_possible_cpu(cpu)
		hits += READ_ONCE(per_cpu(otf_hits, cpu)[index]);
	return hits;
}

void otf_quick_hits_clear(u32 index)
{
	int cpu;

	if (!otf_verdict_places.lines)
		return;
	for_each_possible_cpu(cpu)
		per_cpu(otf_hits, cpu)[index] = 0;
}
