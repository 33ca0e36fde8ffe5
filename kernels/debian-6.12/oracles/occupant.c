// SPDX-License-Identifier: GPL-2.0-only
/*
 * occupant: shows whether somebody goes on using slab memory that was freed,
 * or memory that is far away from his own.
 *
 * On request it allocates marked objects of one size, so that one of them
 * lies where an object of that size was freed before, and keeps them. Where
 * the freed object held pointers that its former owner will follow, a marked
 * object can hold its own address, the network namespace, a function that does
 * nothing but count its calls, or a one.
 *
 * /sys/kernel/debug/occupant/
 *	take	 (write words) allocate objects; may be repeated. The words:
 *			size=BYTES number=OBJECTS [fill=BYTE] [account=1]
 *			[self=OFFSET] [net=OFFSET] [call=OFFSET] [one=OFFSET]...
 *	changed	 (read) how many bytes of the objects have changed
 *	called	 (read) how often the function was called
 *	report	 (read) which bytes of which objects have changed
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/seq_file.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <net/net_namespace.h>

#define MAX_OBJECTS	8192
#define MAX_BYTES	8192
#define MAX_KINDS	4
#define MAX_POINTERS	4
#define MAX_REQUEST	128
#define SHOWN_BYTES	48

/* A pointer that an object holds; NULL: the object's own address. */
struct pointer {
	unsigned int at;
	const void *value;
};

/* What the objects of one request look like. */
struct kind {
	unsigned int size, number, fill, account;
	struct pointer pointers[MAX_POINTERS];
	unsigned int count;
};

struct object {
	u8 *bytes;
	const struct kind *kind;
};

static DEFINE_MUTEX(lock);
static struct kind kinds[MAX_KINDS];
static unsigned int used_kinds;
static struct object objects[MAX_OBJECTS];
static unsigned int count;
static u8 wanted[MAX_BYTES];
static atomic_t called = ATOMIC_INIT(0);
static struct dentry *directory;

/* Called in place of a qdisc's enqueue. */
static int count_call(struct sk_buff *skb, struct Qdisc *sch, struct sk_buff **to_free)
{
	atomic_inc(&called);
	kfree_skb(skb);
	return NET_XMIT_DROP;
}

/* What is in an object at `address` as long as nobody writes to it. */
static void mark(u8 *bytes, const struct kind *kind, const u8 *address)
{
	unsigned int i;

	memset(bytes, kind->fill, kind->size);
	for (i = 0; i < kind->count; i++)
		*(const void **)(bytes + kind->pointers[i].at) = kind->pointers[i].value ?: address;
}

static int add_pointer(struct kind *kind, unsigned int at, const void *value)
{
	if (kind->count == MAX_POINTERS || at % sizeof(void *) || at >= MAX_BYTES)
		return -EINVAL;
	kind->pointers[kind->count++] = (struct pointer){ .at = at, .value = value };
	return 0;
}

static int parse_word(struct kind *kind, const char *word)
{
	unsigned int n;

	if (sscanf(word, "size=%u", &n) == 1)
		kind->size = n;
	else if (sscanf(word, "number=%u", &n) == 1)
		kind->number = n;
	else if (sscanf(word, "fill=%u", &n) == 1)
		kind->fill = n;
	else if (sscanf(word, "account=%u", &n) == 1)
		kind->account = n;
	else if (sscanf(word, "self=%u", &n) == 1)
		return add_pointer(kind, n, NULL);
	else if (sscanf(word, "net=%u", &n) == 1)
		return add_pointer(kind, n, &init_net);
	else if (sscanf(word, "call=%u", &n) == 1)
		return add_pointer(kind, n, count_call);
	else if (sscanf(word, "one=%u", &n) == 1)
		return add_pointer(kind, n, (const void *)1);
	else
		return -EINVAL;
	return 0;
}

static int parse(struct kind *kind, char *request)
{
	unsigned int i;
	char *word;
	int error;

	memset(kind, 0, sizeof(*kind));
	while ((word = strsep(&request, " \n"))) {
		error = *word ? parse_word(kind, word) : 0;
		if (error)
			return error;
	}
	if (!kind->size || kind->size > MAX_BYTES)
		return -EINVAL;
	for (i = 0; i < kind->count; i++)
		if (kind->pointers[i].at + sizeof(void *) > kind->size)
			return -EINVAL;
	return 0;
}

static int take(const struct kind *kind)
{
	const gfp_t flags = kind->account ? GFP_KERNEL_ACCOUNT : GFP_KERNEL;
	unsigned int i;
	u8 *bytes;

	for (i = 0; i < kind->number; i++) {
		if (count == MAX_OBJECTS)
			return -ENOSPC;
		bytes = kmalloc(kind->size, flags);
		if (!bytes)
			return -ENOMEM;
		mark(bytes, kind, bytes);
		objects[count++] = (struct object){ .bytes = bytes, .kind = kind };
	}
	return 0;
}

static ssize_t take_write(struct file *file, const char __user *from, size_t length, loff_t *at)
{
	char request[MAX_REQUEST] = {};
	int error = -ENOSPC;

	if (length >= sizeof(request))
		return -EINVAL;
	if (copy_from_user(request, from, length))
		return -EFAULT;
	mutex_lock(&lock);
	if (used_kinds < MAX_KINDS) {
		error = parse(&kinds[used_kinds], request);
		if (!error)
			error = take(&kinds[used_kinds++]);
	}
	mutex_unlock(&lock);
	return error ? error : length;
}

static const struct file_operations take_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = take_write,
};

static int changed_get(void *data, u64 *value)
{
	unsigned int i, at;

	*value = 0;
	mutex_lock(&lock);
	for (i = 0; i < count; i++) {
		mark(wanted, objects[i].kind, objects[i].bytes);
		for (at = 0; at < objects[i].kind->size; at++)
			*value += objects[i].bytes[at] != wanted[at];
	}
	mutex_unlock(&lock);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(changed_fops, changed_get, NULL, "%llu\n");

static int called_get(void *data, u64 *value)
{
	*value = atomic_read(&called);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(called_fops, called_get, NULL, "%llu\n");

static int report_show(struct seq_file *m, void *data)
{
	unsigned int i, at, end, size;
	const u8 *bytes;

	mutex_lock(&lock);
	for (i = 0; i < count; i++) {
		bytes = objects[i].bytes;
		size = objects[i].kind->size;
		mark(wanted, objects[i].kind, bytes);
		for (at = 0; at < size; at = end + 1) {
			end = at;
			while (end < size && bytes[end] != wanted[end])
				end++;
			if (end > at)
				seq_printf(m, "object %u: bytes [%u,%u) are now %*phN\n", i, at,
					   end, min_t(int, end - at, SHOWN_BYTES), bytes + at);
		}
	}
	mutex_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(report);

static int __init occupant_init(void)
{
	directory = debugfs_create_dir("occupant", NULL);
	debugfs_create_file("take", 0200, directory, NULL, &take_fops);
	debugfs_create_file("changed", 0400, directory, NULL, &changed_fops);
	debugfs_create_file("called", 0400, directory, NULL, &called_fops);
	debugfs_create_file("report", 0400, directory, NULL, &report_fops);
	return 0;
}

/* There is no way out: somebody else may have freed one of the objects. */
module_init(occupant_init);
MODULE_DESCRIPTION("Marked slab objects where others were freed");
MODULE_LICENSE("GPL");
