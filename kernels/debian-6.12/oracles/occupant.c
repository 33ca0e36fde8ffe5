// SPDX-License-Identifier: GPL-2.0-only
/*
 * occupant: shows whether somebody goes on using slab memory that was freed.
 *
 * On request it allocates marked objects of one size, so that one of them
 * lies where an object of that size was freed before, and keeps them. Where
 * the freed object held pointers that its former owner will follow, a marked
 * object can hold its own address, the network namespace, a function that does
 * nothing but count its calls, or a one. What else is in it is zero.
 *
 * /sys/kernel/debug/occupant/
 *	take	 (write anything) allocate the objects
 *	changed	 (read) how many bytes of the objects have changed
 *	called	 (read) how often the function was called
 *	report	 (read) which bytes of which objects have changed
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/seq_file.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <net/net_namespace.h>

#define MAX_OBJECTS	4096
#define MAX_BYTES	8192
#define MAX_WORDS	8
#define SHOWN_BYTES	48

static unsigned int size;
module_param(size, uint, 0444);
MODULE_PARM_DESC(size, "bytes of an object");

static bool account;
module_param(account, bool, 0444);
MODULE_PARM_DESC(account, "allocate from the caches of accounted memory");

static unsigned int number = 1024;
module_param(number, uint, 0444);
MODULE_PARM_DESC(number, "how many objects");

static unsigned int self_at[MAX_WORDS];
static int selves;
module_param_array(self_at, uint, &selves, 0444);
MODULE_PARM_DESC(self_at, "offsets where an object holds its own address");

static unsigned int net_at[MAX_WORDS];
static int nets;
module_param_array(net_at, uint, &nets, 0444);
MODULE_PARM_DESC(net_at, "offsets where an object holds the address of the network namespace");

static unsigned int call_at[MAX_WORDS];
static int calls;
module_param_array(call_at, uint, &calls, 0444);
MODULE_PARM_DESC(call_at, "offsets where an object holds the address of the function");

static unsigned int one_at[MAX_WORDS];
static int ones;
module_param_array(one_at, uint, &ones, 0444);
MODULE_PARM_DESC(one_at, "offsets where an object holds a one (a black node of a tree without parent)");

static DEFINE_MUTEX(lock);
static u8 *objects[MAX_OBJECTS];
static unsigned int count;
static u8 *wanted;
static atomic_t called = ATOMIC_INIT(0);
static struct dentry *directory;

/* Called in place of a qdisc's enqueue. */
static int count_call(struct sk_buff *skb, struct Qdisc *sch, struct sk_buff **to_free)
{
	atomic_inc(&called);
	kfree_skb(skb);
	return NET_XMIT_DROP;
}

static void put_words(u8 *object, const unsigned int *at, int words, const void *value)
{
	int i;

	for (i = 0; i < words; i++)
		*(const void **)(object + at[i]) = value;
}

/* What is in an object at `address` as long as nobody writes to it. */
static void mark(u8 *object, const u8 *address)
{
	memset(object, 0, size);
	put_words(object, self_at, selves, address);
	put_words(object, net_at, nets, &init_net);
	put_words(object, call_at, calls, count_call);
	put_words(object, one_at, ones, (const void *)1);
}

static bool fits(const unsigned int *at, int words)
{
	int i;

	for (i = 0; i < words; i++)
		if (at[i] % sizeof(void *) || at[i] > size - sizeof(void *))
			return false;
	return true;
}

static int changed_get(void *data, u64 *value)
{
	unsigned int i, at;

	*value = 0;
	mutex_lock(&lock);
	for (i = 0; i < count; i++) {
		mark(wanted, objects[i]);
		for (at = 0; at < size; at++)
			*value += objects[i][at] != wanted[at];
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
	unsigned int i, at, end;

	mutex_lock(&lock);
	for (i = 0; i < count; i++) {
		mark(wanted, objects[i]);
		for (at = 0; at < size; at = end + 1) {
			end = at;
			while (end < size && objects[i][end] != wanted[end])
				end++;
			if (end > at)
				seq_printf(m, "object %u: bytes [%u,%u) are now %*phN\n", i, at,
					   end, min_t(int, end - at, SHOWN_BYTES), objects[i] + at);
		}
	}
	mutex_unlock(&lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(report);

static int take_set(void *data, u64 value)
{
	const gfp_t flags = account ? GFP_KERNEL_ACCOUNT : GFP_KERNEL;
	int error = 0;

	mutex_lock(&lock);
	while (count < number) {
		objects[count] = kmalloc(size, flags);
		if (!objects[count]) {
			error = -ENOMEM;
			break;
		}
		mark(objects[count], objects[count]);
		count++;
	}
	mutex_unlock(&lock);
	return error;
}
DEFINE_DEBUGFS_ATTRIBUTE(take_fops, NULL, take_set, "%llu\n");

static int __init occupant_init(void)
{
	if (size < sizeof(void *) || size > MAX_BYTES || number > MAX_OBJECTS ||
	    !fits(self_at, selves) || !fits(net_at, nets) || !fits(call_at, calls) ||
	    !fits(one_at, ones))
		return -EINVAL;
	wanted = kmalloc(size, GFP_KERNEL);
	if (!wanted)
		return -ENOMEM;
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
