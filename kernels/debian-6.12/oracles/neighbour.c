// SPDX-License-Identifier: GPL-2.0-only
/*
 * neighbour: shows whether somebody wrote beyond the end of a slab object.
 *
 * It fills a slab of one kmalloc cache with marked objects and, on request,
 * frees the first object of that slab. The next allocation from that cache
 * lands in the hole, with marked objects right behind it. With one CPU this
 * succeeds every time, as long as nothing else allocates from the cache
 * between the request and the allocation that is meant; choose a quiet size.
 *
 * /sys/kernel/debug/neighbour/
 *	hole	 (write anything) make a hole; may be repeated
 *	changed	 (read) how many marked bytes have changed
 *	report	 (read) which ranges of which objects have changed
 *	restore	 (write anything) mark changed bytes again
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#define MAX_OBJECTS	1024
#define SHOWN_BYTES	48

static unsigned int size = 8192;
module_param(size, uint, 0444);
MODULE_PARM_DESC(size, "bytes of an object: a size that has a kmalloc cache of its own");

static unsigned int slab_bytes = 32768;
module_param(slab_bytes, uint, 0444);
MODULE_PARM_DESC(slab_bytes, "bytes of a slab of that cache (/sys/kernel/slab/CACHE/order)");

static u8 fill;
module_param(fill, byte, 0444);
MODULE_PARM_DESC(fill, "byte that marks the objects");

static DEFINE_MUTEX(lock);
static u8 *objects[MAX_OBJECTS];
static unsigned int count;
static struct dentry *directory;

static unsigned long slab_of(const u8 *object)
{
	return (unsigned long)object & ~((unsigned long)slab_bytes - 1);
}

/* The objects from `first` on are all objects of one slab. */
static bool is_whole_slab(unsigned int first)
{
	unsigned int i;

	for (i = first + 1; i < count; i++)
		if (slab_of(objects[i]) != slab_of(objects[first]))
			return false;
	return true;
}

/*
 * Allocates until the last objects make up a whole slab. It is then the CPU's
 * current one and has no free object, so what is freed in it is what the next
 * allocation gets.
 */
static int make_hole(void)
{
	const unsigned int per_slab = slab_bytes / size;
	const unsigned int start = count;
	unsigned int i;

	do {
		if (count == MAX_OBJECTS)
			return -ENOSPC;
		objects[count] = kmalloc(size, GFP_KERNEL);
		if (!objects[count])
			return -ENOMEM;
		memset(objects[count], fill, size);
		count++;
	} while (count < start + per_slab || !is_whole_slab(count - per_slab));

	for (i = count - per_slab; i < count; i++) {
		if ((unsigned long)objects[i] != slab_of(objects[i]))
			continue;
		kfree(objects[i]);
		objects[i] = objects[--count];
		return 0;
	}
	return -EAGAIN;
}

/* Start of the next changed range at or after `*from`; its length goes to `*length`. */
static bool next_change(const u8 *object, unsigned int *from, unsigned int *length)
{
	const u8 *change = memchr_inv(object + *from, fill, size - *from);
	unsigned int end;

	if (!change)
		return false;
	*from = change - object;
	for (end = *from; end < size && object[end] != fill; end++)
		;
	*length = end - *from;
	return true;
}

static int changed_get(void *data, u64 *value)
{
	unsigned int i, at, length;

	*value = 0;
	mutex_lock(&lock);
	for (i = 0; i < count; i++)
		for (at = 0; at < size && next_change(objects[i], &at, &length); at += length)
			*value += length;
	mutex_unlock(&lock);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(changed_fops, changed_get, NULL, "%llu\n");

static int report_show(struct seq_file *m, void *data)
{
	unsigned int i, at, length;

	mutex_lock(&lock);
	for (i = 0; i < count; i++)
		for (at = 0; at < size && next_change(objects[i], &at, &length); at += length)
			seq_printf(m, "object %u at slab+%lu: bytes [%u,%u) are now %*phN\n", i,
				   (unsigned long)objects[i] - slab_of(objects[i]), at,
				   at + length, min_t(int, length, SHOWN_BYTES),
				   objects[i] + at);
	mutex_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(report);

static int hole_set(void *data, u64 value)
{
	int error;

	mutex_lock(&lock);
	error = make_hole();
	mutex_unlock(&lock);
	return error;
}
DEFINE_DEBUGFS_ATTRIBUTE(hole_fops, NULL, hole_set, "%llu\n");

static int restore_set(void *data, u64 value)
{
	unsigned int i;

	mutex_lock(&lock);
	for (i = 0; i < count; i++)
		memset(objects[i], fill, size);
	mutex_unlock(&lock);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(restore_fops, NULL, restore_set, "%llu\n");

static int __init neighbour_init(void)
{
	if (!is_power_of_2(slab_bytes) || !size || size > slab_bytes / 2 || slab_bytes % size)
		return -EINVAL;
	directory = debugfs_create_dir("neighbour", NULL);
	debugfs_create_file("hole", 0200, directory, NULL, &hole_fops);
	debugfs_create_file("changed", 0400, directory, NULL, &changed_fops);
	debugfs_create_file("report", 0400, directory, NULL, &report_fops);
	debugfs_create_file("restore", 0200, directory, NULL, &restore_fops);
	return 0;
}

static void __exit neighbour_exit(void)
{
	debugfs_remove(directory);
	while (count)
		kfree(objects[--count]);
}

module_init(neighbour_init);
module_exit(neighbour_exit);
MODULE_DESCRIPTION("Marked slab objects behind the next allocation");
MODULE_LICENSE("GPL");
