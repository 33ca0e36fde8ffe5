// SPDX-License-Identifier: GPL-2.0-only
/*
 * otf_victim: what otf_broken must not be able to change, and whether it did.
 * It is not part of the compartment.
 *
 * /sys/kernel/debug/otf_victim/
 *	address		 (read) where the victim global is
 *	global_changed	 (read) its changed bytes
 *	function	 (read) where a function is that changes it
 *	source		 (write N) where sprayed objects come from: 0 kmalloc, 1 a cache of the
 *			 size of otf_broken's leaves, 2 pages, 3 vmalloc, 4 blocks of 8 pages
 *	spray		 (write N) let frees that wait happen, and allocate N marked objects
 *	spray_changed	 (read) their changed bytes
 *	spray_shared	 (read) how many of them the kernel gives out once more
 *	frame		 (write good|bad|turn) call otf_broken's codec with a marked array on the
 *			 stack, with an index inside its own array, one that hits ours, or
 *			 one that hits the address that it returns to
 *	frame_changed	 (read) changed bytes of that array, over all calls
 *	turned		 (read) how often it has returned to where it should not have
 *	restore		 (write anything) mark the global again, free the spray, forget the frames
 *			 and the source
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/instruction_pointer.h>
#include <linux/linkage.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define MARK		0xa5
#define MAX_SPRAY	64
#define LEAF_BYTES	3224	/* as in otf_broken: caches of one size are one cache */
#define BLOCK_ORDER	3	/* of a slab of such a cache */
#define FRAME_WORDS	16
#define CALLER_BYTES	1024

/* As in otf_broken; found by name, so that neither module needs the other to be built. */
struct otf_codec {
	long (*decode)(struct file *file, u64 index, u64 value);
};

static u8 victim_global[64] = { [0 ... 63] = MARK };
enum source { KMALLOC, CACHE, PAGES, VMALLOC, BLOCKS, SOURCES };
static const size_t spray_bytes[SOURCES] = {
	[KMALLOC] = PAGE_SIZE,
	[CACHE] = LEAF_BYTES,
	[PAGES] = PAGE_SIZE,
	[VMALLOC] = PAGE_SIZE,
	[BLOCKS] = PAGE_SIZE << BLOCK_ORDER,
};
static struct kmem_cache *victim_leaves;
static enum source source;
static u8 *spray[MAX_SPRAY];
static unsigned int sprayed;
static u64 frame_changed;
static struct dentry *directory;

static u64 changed_bytes(const u8 *bytes, size_t length)
{
	u64 changed = 0;

	while (length--)
		changed += *bytes++ != MARK;
	return changed;
}

static int address_get(void *data, u64 *value)
{
	*value = (u64)(uintptr_t)victim_global;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(address_fops, address_get, NULL, "0x%llx\n");

static int global_changed_get(void *data, u64 *value)
{
	*value = changed_bytes(victim_global, sizeof(victim_global));
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(global_changed_fops, global_changed_get, NULL, "%llu\n");

static noinline void victim_function(void *unused, u64 value)
{
	memset(victim_global, (int)value, sizeof(u64));
}

static int function_get(void *data, u64 *value)
{
	*value = (u64)(uintptr_t)victim_function;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(function_fops, function_get, NULL, "0x%llx\n");

static int source_set(void *data, u64 value)
{
	if (value >= SOURCES || sprayed)
		return -EINVAL;
	source = value;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(source_fops, NULL, source_set, "%llu\n");

static u8 *spray_get(void)
{
	switch (source) {
	case CACHE:
		return kmem_cache_alloc(victim_leaves, GFP_KERNEL);
	case PAGES:
		return (u8 *)__get_free_page(GFP_KERNEL);
	case VMALLOC:
		return vmalloc(spray_bytes[VMALLOC]);
	case BLOCKS:
		return (u8 *)__get_free_pages(GFP_KERNEL, BLOCK_ORDER);
	default:
		return kmalloc(spray_bytes[KMALLOC], GFP_KERNEL);
	}
}

static void spray_put(u8 *object)
{
	switch (source) {
	case CACHE:
		kmem_cache_free(victim_leaves, object);
		break;
	case PAGES:
		free_page((unsigned long)object);
		break;
	case VMALLOC:
		vfree(object);
		break;
	case BLOCKS:
		free_pages((unsigned long)object, BLOCK_ORDER);
		break;
	default:
		kfree(object);
		break;
	}
}

static int spray_set(void *data, u64 value)
{
	kvfree_rcu_barrier();
	vm_unmap_aliases();
	for (; value && sprayed < MAX_SPRAY; value--) {
		spray[sprayed] = spray_get();
		if (!spray[sprayed])
			return -ENOMEM;
		memset(spray[sprayed++], MARK, spray_bytes[source]);
	}
	return value ? -ENOSPC : 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(spray_fops, NULL, spray_set, "%llu\n");

static int spray_changed_get(void *data, u64 *value)
{
	unsigned int i;

	*value = 0;
	for (i = 0; i < sprayed; i++)
		*value += spray[i] ? changed_bytes(spray[i], spray_bytes[source]) : 0;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(spray_changed_fops, spray_changed_get, NULL, "%llu\n");

/* An object that comes twice stays ours once. */
static int spray_shared_get(void *data, u64 *value)
{
	unsigned int i, before = sprayed;
	int error = spray_set(NULL, before);

	*value = 0;
	for (i = 0; i < before; i++) {
		unsigned int again;

		for (again = before; again < sprayed && spray[again] != spray[i]; again++)
			;
		if (again < sprayed) {
			spray[i] = NULL;
			*value += 1;
		}
	}
	return error;
}
DEFINE_DEBUGFS_ATTRIBUTE(spray_shared_fops, spray_shared_get, NULL, "%llu\n");

/* Somewhere else to return to: counts, and goes on where the call came from. */
extern u64 turned, came_from;
u64 turned, came_from;
void turned_return(void);
asm(".text\n"
    ".type turned_return, @function\n"
    "turned_return:\n"
    "	endbr64\n"
    "	incq turned(%rip)\n"
    "	pushq came_from(%rip)\n"
    "	" ASM_RET
    ".size turned_return, . - turned_return\n");

static int turned_get(void *data, u64 *value)
{
	*value = turned;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(turned_fops, turned_get, NULL, "%llu\n");

/*
 * The frame of this function is the victim: the first call tells how far the
 * codec's array is from ours, which is the same for the second call.
 */
static noinline long call_codec(const struct otf_codec *codec, struct file *file, const char *how)
{
	u64 canary[FRAME_WORDS];
	u64 index;
	long result;

	memset(canary, MARK, sizeof(canary));
	barrier_data(canary);
	result = codec->decode(file, 1, 0x42);
	if (sysfs_streq(how, "turn") && !IS_ERR_VALUE(result)) {
		const u64 *digits = (const u64 *)result;

		/* the call is over, and what it left on the stack still there */
		for (index = 8; index < 64; index++) {
			came_from = READ_ONCE(digits[index]);
			if (came_from - (_THIS_IP_ - CALLER_BYTES) < 2 * CALLER_BYTES)
				break;
		}
		if (index == 64)
			return -ENOENT;
		result = codec->decode(file, index, (u64)(uintptr_t)turned_return);
	}
	if (sysfs_streq(how, "bad") && !IS_ERR_VALUE(result)) {
		index = ((u64)(uintptr_t)&canary[FRAME_WORDS / 2] - (u64)result) / sizeof(u64);
		result = codec->decode(file, index, 0x42);
	}
	barrier_data(canary);
	frame_changed += changed_bytes((const u8 *)canary, sizeof(canary));
	return result;
}

static ssize_t frame_write(struct file *file, const char __user *user, size_t count,
			   loff_t *position)
{
	const struct otf_codec *codec;
	char how[8] = {};
	long result;

	if (count >= sizeof(how))
		return -EINVAL;
	if (copy_from_user(how, user, count))
		return -EFAULT;
	codec = __symbol_get("otf_broken_codec");
	if (!codec)
		return -ENODEV;
	result = call_codec(codec, file, how);
	__symbol_put("otf_broken_codec");
	return IS_ERR_VALUE(result) ? result : count;
}

static const struct file_operations frame_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = frame_write,
};

static int frame_changed_get(void *data, u64 *value)
{
	*value = frame_changed;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(frame_changed_fops, frame_changed_get, NULL, "%llu\n");

static void free_spray(void)
{
	while (sprayed)
		if (spray[--sprayed])
			spray_put(spray[sprayed]);
}

static int restore_set(void *data, u64 value)
{
	memset(victim_global, MARK, sizeof(victim_global));
	free_spray();
	source = KMALLOC;
	frame_changed = 0;
	turned = 0;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(restore_fops, NULL, restore_set, "%llu\n");

static int __init victim_init(void)
{
	victim_leaves = kmem_cache_create("otf_victim_leaf", LEAF_BYTES, 0, 0, NULL);
	if (!victim_leaves)
		return -ENOMEM;
	directory = debugfs_create_dir("otf_victim", NULL);
	debugfs_create_file("address", 0400, directory, NULL, &address_fops);
	debugfs_create_file("global_changed", 0400, directory, NULL, &global_changed_fops);
	debugfs_create_file("function", 0400, directory, NULL, &function_fops);
	debugfs_create_file("source", 0200, directory, NULL, &source_fops);
	debugfs_create_file("spray", 0200, directory, NULL, &spray_fops);
	debugfs_create_file("spray_changed", 0400, directory, NULL, &spray_changed_fops);
	debugfs_create_file("spray_shared", 0400, directory, NULL, &spray_shared_fops);
	debugfs_create_file("frame", 0200, directory, NULL, &frame_fops);
	debugfs_create_file("frame_changed", 0400, directory, NULL, &frame_changed_fops);
	debugfs_create_file("turned", 0400, directory, NULL, &turned_fops);
	debugfs_create_file("restore", 0200, directory, NULL, &restore_fops);
	return 0;
}

static void __exit victim_exit(void)
{
	debugfs_remove(directory);
	free_spray();
	kmem_cache_destroy(victim_leaves);
}

module_init(victim_init);
module_exit(victim_exit);
MODULE_DESCRIPTION("What a confined module must not change");
MODULE_LICENSE("GPL");
