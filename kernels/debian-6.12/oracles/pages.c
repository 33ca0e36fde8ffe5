// SPDX-License-Identifier: GPL-2.0-only
/*
 * pages: shows whether somebody wrote beyond the end of pages.
 *
 * It allocates blocks of pages, marks them and, on request, frees one that
 * has a marked block right behind it. The next allocation of that order on
 * this CPU gets it. With one CPU this succeeds every time, as long as nothing
 * else allocates such a block between the request and the allocation that is
 * meant.
 *
 * /sys/kernel/debug/pages/
 *	hole	 (write anything) make a hole
 *	changed	 (read) how many marked bytes have changed
 *	report	 (read) which ranges of which blocks have changed
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#define MAX_BLOCKS	256
#define SHOWN_BYTES	16

static unsigned int order = 3;
module_param(order, uint, 0444);
MODULE_PARM_DESC(order, "a block has 2^order pages");

static u8 fill = 0xa5;
module_param(fill, byte, 0444);
MODULE_PARM_DESC(fill, "byte that marks the blocks");

static DEFINE_MUTEX(lock);
static u8 *blocks[MAX_BLOCKS];
static unsigned int count;
static struct dentry *directory;

static size_t bytes(void)
{
	return PAGE_SIZE << order;
}

static bool is_marked(const u8 *block)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if (blocks[i] == block)
			return true;
	return false;
}

/* Allocates marked blocks, as many as there is room to remember. */
static int fill_up(void)
{
	while (count < MAX_BLOCKS) {
		blocks[count] = (u8 *)__get_free_pages(GFP_KERNEL, order);
		if (!blocks[count])
			return -ENOMEM;
		memset(blocks[count], fill, bytes());
		count++;
	}
	return 0;
}

static int hole_set(void *data, u64 value)
{
	int error;
	unsigned int i;

	mutex_lock(&lock);
	error = fill_up();
	if (!error) {
		error = -EAGAIN;
		for (i = 0; i < count; i++) {
			if (!is_marked(blocks[i] + bytes()))
				continue;
			free_pages((unsigned long)blocks[i], order);
			blocks[i] = blocks[--count];
			error = 0;
			break;
		}
	}
	mutex_unlock(&lock);
	return error;
}
DEFINE_DEBUGFS_ATTRIBUTE(hole_fops, NULL, hole_set, "%llu\n");

/* Start of the next changed range at or after `*from`; its length goes to `*length`. */
static bool next_change(const u8 *block, size_t *from, size_t *length)
{
	const u8 *change = memchr_inv(block + *from, fill, bytes() - *from);
	size_t end;

	if (!change)
		return false;
	*from = change - block;
	for (end = *from; end < bytes() && block[end] != fill; end++)
		;
	*length = end - *from;
	return true;
}

static int changed_get(void *data, u64 *value)
{
	unsigned int i;
	size_t at, length;

	*value = 0;
	mutex_lock(&lock);
	for (i = 0; i < count; i++)
		for (at = 0; at < bytes() && next_change(blocks[i], &at, &length); at += length)
			*value += length;
	mutex_unlock(&lock);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(changed_fops, changed_get, NULL, "%llu\n");

static int report_show(struct seq_file *m, void *data)
{
	unsigned int i;
	size_t at, length;

	mutex_lock(&lock);
	for (i = 0; i < count; i++)
		for (at = 0; at < bytes() && next_change(blocks[i], &at, &length); at += length)
			seq_printf(m, "block %u: bytes [%zu,%zu) are now %*phN\n", i, at,
				   at + length, min_t(int, length, SHOWN_BYTES),
				   blocks[i] + at);
	mutex_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(report);

static int __init pages_init(void)
{
	if (order > MAX_PAGE_ORDER)
		return -EINVAL;
	directory = debugfs_create_dir("pages", NULL);
	debugfs_create_file("hole", 0200, directory, NULL, &hole_fops);
	debugfs_create_file("changed", 0400, directory, NULL, &changed_fops);
	debugfs_create_file("report", 0400, directory, NULL, &report_fops);
	return 0;
}

static void __exit pages_exit(void)
{
	debugfs_remove(directory);
	while (count)
		free_pages((unsigned long)blocks[--count], order);
}

module_init(pages_init);
module_exit(pages_exit);
MODULE_DESCRIPTION("Marked pages behind the next allocation");
MODULE_LICENSE("GPL");
