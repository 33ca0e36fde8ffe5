// SPDX-License-Identifier: GPL-2.0-only
/*
 * root_qdisc: shows whether the first bytes of a root qdisc's private data change.
 *
 * What a qdisc keeps there of itself, before its array of classes, must not
 * change when a class is configured.
 *
 * /sys/kernel/debug/root_qdisc/
 *	watch	 (write the name of a device) remember the bytes of its root qdisc
 *	changed	 (read) how many of them are different now
 *	report	 (read) what they were and what they are
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <net/net_namespace.h>
#include <net/pkt_sched.h>
#include <net/sch_generic.h>

#define MAX_BYTES	64

static unsigned int bytes = 32;
module_param(bytes, uint, 0444);
MODULE_PARM_DESC(bytes, "bytes of the private data that are watched");

static char device[IFNAMSIZ];
static u8 before[MAX_BYTES];
static struct dentry *directory;

/* The bytes as they are now; rtnl is held. */
static int look(u8 *now)
{
	struct net_device *dev = __dev_get_by_name(&init_net, device);
	struct Qdisc *root = dev ? rtnl_dereference(dev->qdisc) : NULL;

	if (!root)
		return -ENODEV;
	memcpy(now, qdisc_priv(root), bytes);
	return 0;
}

static ssize_t watch_write(struct file *file, const char __user *from, size_t length, loff_t *at)
{
	char name[IFNAMSIZ] = {};
	int error;

	if (length >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, from, length))
		return -EFAULT;
	rtnl_lock();
	strscpy(device, strim(name));
	error = look(before);
	rtnl_unlock();
	return error ? error : length;
}

static const struct file_operations watch_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = watch_write,
};

static int changed_get(void *data, u64 *value)
{
	u8 now[MAX_BYTES];
	unsigned int i;
	int error;

	*value = 0;
	rtnl_lock();
	error = look(now);
	for (i = 0; !error && i < bytes; i++)
		*value += before[i] != now[i];
	rtnl_unlock();
	return error;
}
DEFINE_DEBUGFS_ATTRIBUTE(changed_fops, changed_get, NULL, "%llu\n");

static int report_show(struct seq_file *m, void *data)
{
	u8 now[MAX_BYTES];
	unsigned int i;
	int error;

	rtnl_lock();
	error = look(now);
	for (i = 0; !error && i < bytes; i++)
		if (before[i] != now[i])
			seq_printf(m, "byte %u was %02x, is %02x\n", i, before[i], now[i]);
	rtnl_unlock();
	return error;
}
DEFINE_SHOW_ATTRIBUTE(report);

static int __init root_qdisc_init(void)
{
	if (!bytes || bytes > MAX_BYTES)
		return -EINVAL;
	directory = debugfs_create_dir("root_qdisc", NULL);
	debugfs_create_file("watch", 0200, directory, NULL, &watch_fops);
	debugfs_create_file("changed", 0400, directory, NULL, &changed_fops);
	debugfs_create_file("report", 0400, directory, NULL, &report_fops);
	return 0;
}

static void __exit root_qdisc_exit(void)
{
	debugfs_remove(directory);
}

module_init(root_qdisc_init);
module_exit(root_qdisc_exit);
MODULE_DESCRIPTION("The first bytes of a root qdisc's private data");
MODULE_LICENSE("GPL");
