// SPDX-License-Identifier: GPL-2.0-only
/*
 * otf_heap: a small character device that obtains and frees memory in many ways,
 * to test private heaps. Load it only where nothing is at stake.
 *
 * Each open file has one object. One write(2) to /dev/otf_heap is one command:
 *
 *	fixed SIZE	kmalloc of 256 bytes, whatever SIZE is
 *	sized SIZE	kmalloc
 *	zeroed SIZE	kzalloc, which must give zeroes
 *	node SIZE	kmalloc_node
 *	array SIZE	kcalloc of words
 *	kv SIZE		kvmalloc
 *	dup SIZE	kmemdup of a pattern, which must be there
 *	accounted SIZE	kmalloc with __GFP_ACCOUNT
 *	tail SIZE	kmalloc as the last thing that a function does
 *	hold		fails unless ksize says at least what was asked for; writes all of that
 *	resize SIZE	krealloc, which must keep what was in the object
 *	kfree, kvfree, sensitive, rcu	frees it: kfree, kvfree, kfree_sensitive, kfree_rcu
 *	describe	has the kernel print which cache the object is from
 *
 * Reading gives the first byte behind the object's rcu_head, also when it is freed.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#define COMMAND_BYTES	64
#define FIXED_BYTES	256
#define PATTERN_BYTES	8192
#define PATTERN		0x5a

struct heap_thing {
	struct rcu_head rcu;
	u8 bytes[];
};

struct heap_file {
	struct heap_thing *thing;
	size_t size;	/* asked for */
	bool freed;
};

static u8 *pattern;

static noinline void *heap_tail(size_t size)
{
	return kmalloc(size, GFP_KERNEL);
}

static bool heap_is_filled(const void *at, u8 with, size_t size)
{
	return !memchr_inv(at, with, size);
}

static void *heap_obtain(const char *verb, size_t size)
{
	void *thing = NULL;

	if (!strcmp(verb, "fixed"))
		return kmalloc(FIXED_BYTES, GFP_KERNEL);
	if (!strcmp(verb, "sized"))
		return kmalloc(size, GFP_KERNEL);
	if (!strcmp(verb, "node"))
		return kmalloc_node(size, GFP_KERNEL, numa_node_id());
	if (!strcmp(verb, "kv"))
		return kvmalloc(size, GFP_KERNEL);
	if (!strcmp(verb, "accounted"))
		return kmalloc(size, GFP_KERNEL_ACCOUNT);
	if (!strcmp(verb, "tail"))
		return heap_tail(size);
	if (!strcmp(verb, "zeroed"))
		thing = kzalloc(size, GFP_KERNEL);
	else if (!strcmp(verb, "array"))
		thing = kcalloc(size / sizeof(u64), sizeof(u64), GFP_KERNEL);
	if (thing && !heap_is_filled(thing, 0, size / sizeof(u64) * sizeof(u64))) {
		kfree(thing);
		return NULL;
	}
	if (!strcmp(verb, "dup") && size <= PATTERN_BYTES) {
		thing = kmemdup(pattern, size, GFP_KERNEL);
		if (thing && !heap_is_filled(thing, PATTERN, size)) {
			kfree(thing);
			return NULL;
		}
	}
	return thing;
}

static int heap_hold(struct heap_file *file)
{
	if (ksize(file->thing) < file->size)
		return -EIO;
	memset(file->thing, PATTERN, file->size);
	return 0;
}

static int heap_resize(struct heap_file *file, size_t size)
{
	size_t least = min(size, file->size);
	struct heap_thing *thing;

	memset(file->thing, PATTERN, least);
	thing = krealloc(file->thing, size, GFP_KERNEL);
	if (!thing)
		return -ENOMEM;
	file->thing = thing;
	file->size = size;
	return heap_is_filled(thing, PATTERN, least) ? 0 : -EIO;
}

static bool heap_free(struct heap_thing *thing, const char *verb)
{
	if (!strcmp(verb, "kfree"))
		kfree(thing);
	else if (!strcmp(verb, "kvfree"))
		kvfree(thing);
	else if (!strcmp(verb, "sensitive"))
		kfree_sensitive(thing);
	else if (!strcmp(verb, "rcu"))
		kfree_rcu(thing, rcu);
	else
		return false;
	return true;
}

static int heap_run(struct heap_file *file, const char *verb, size_t size)
{
	struct heap_thing *thing;

	if (file->thing && !file->freed) {
		if (heap_free(file->thing, verb)) {
			file->freed = true;
			return 0;
		}
		if (!strcmp(verb, "hold"))
			return heap_hold(file);
		if (!strcmp(verb, "resize"))
			return heap_resize(file, size);
		if (!strcmp(verb, "describe")) {
			mem_dump_obj(file->thing);
			return 0;
		}
		return -EBUSY;
	}
	if (size < sizeof(*thing))
		return -EINVAL;
	thing = heap_obtain(verb, size);
	if (!thing)
		return -ENOMEM;
	file->thing = thing;
	file->size = strcmp(verb, "fixed") ? size / sizeof(u64) * sizeof(u64) : FIXED_BYTES;
	file->freed = false;
	return 0;
}

static ssize_t heap_write(struct file *file, const char __user *user, size_t count,
			  loff_t *position)
{
	char command[COMMAND_BYTES];
	char verb[16];
	size_t size = 0;
	int error;

	if (count >= sizeof(command))
		return -EINVAL;
	if (copy_from_user(command, user, count))
		return -EFAULT;
	command[count] = '\0';
	if (sscanf(command, "%15s %zu", verb, &size) < 1)
		return -EINVAL;
	error = heap_run(file->private_data, verb, size);
	return error ? error : count;
}

static ssize_t heap_read(struct file *file, char __user *user, size_t count, loff_t *position)
{
	struct heap_file *mine = file->private_data;
	char answer[8];
	int length;

	if (!mine->thing)
		return -ENOENT;
	length = scnprintf(answer, sizeof(answer), "%u\n", READ_ONCE(mine->thing->bytes[0]));
	return simple_read_from_buffer(user, count, position, answer, length);
}

static int heap_open(struct inode *inode, struct file *file)
{
	file->private_data = kzalloc(sizeof(struct heap_file), GFP_KERNEL);
	return file->private_data ? 0 : -ENOMEM;
}

static int heap_release(struct inode *inode, struct file *file)
{
	struct heap_file *mine = file->private_data;

	if (mine->thing && !mine->freed)
		kvfree(mine->thing);
	kfree(mine);
	return 0;
}

static const struct file_operations heap_fops = {
	.owner = THIS_MODULE,
	.open = heap_open,
	.read = heap_read,
	.write = heap_write,
	.release = heap_release,
};

static struct miscdevice heap_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "otf_heap",
	.fops = &heap_fops,
	.mode = 0600,
};

static int __init heap_init(void)
{
	int error;

	pattern = kmalloc(PATTERN_BYTES, GFP_KERNEL);
	if (!pattern)
		return -ENOMEM;
	memset(pattern, PATTERN, PATTERN_BYTES);
	error = misc_register(&heap_device);
	if (error)
		kfree(pattern);
	return error;
}

static void __exit heap_exit(void)
{
	misc_deregister(&heap_device);
	kfree(pattern);
}

module_init(heap_init);
module_exit(heap_exit);
MODULE_DESCRIPTION("Obtains and frees memory in every way, for testing private heaps");
MODULE_LICENSE("GPL");
