// SPDX-License-Identifier: GPL-2.0-only
/*
 * otf_broken: a small character device with one bug for each kind of illegal
 * write, call and free. It exists to test confinement; load it only where nothing is at stake.
 *
 * Each open file has a box of its own. One write(2) to /dev/otf_broken is one
 * command, numbers in any base that C knows:
 *
 *	slot INDEX VALUE   plain store to slots[INDEX]       (index not checked)
 *	held INDEX VALUE   the same in an RCU read side with bottom halves disabled
 *	flag INDEX MASK    lock or to flags[INDEX]           (index not checked)
 *	mark BIT           lock bts in marks                 (bit not checked)
 *	wipe INDEX         rep stos over rows[INDEX]         (index not checked)
 *	text LENGTH        memcpy of LENGTH bytes to text    (length not checked)
 *	point ADDRESS      sets the pointer that poke uses   (address not checked)
 *	poke VALUE         plain store through that pointer
 *	drop               frees the note, keeps the pointer
 *	note VALUE         plain store to the note           (may be freed)
 *	renew              frees the note, gets a new one    (may be freed)
 *	step NUMBER        sets the function that call uses
 *	hook ADDRESS       sets it by address                (address not checked)
 *	call VALUE         calls it
 *	grow WAY           gets the leaf from one allocator  (see enum broken_way)
 *	shed               frees it, keeps the pointer
 *	leaf VALUE         plain store to the leaf           (may be freed)
 *	raze               destroys the cache of CACHE_DESTROY
 *
 * The stack bug is in otf_broken_codec, which another module calls.
 */
#include <linux/atomic.h>
#include <linux/bitops.h>
#include <linux/bottom_half.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define COMMAND_BYTES	64
#define TEXT_BYTES	1024
#define TEMPLATE_BYTES	4096

struct broken_slot {
	u64 key;
	u64 value;
	u64 uses;
};

struct broken_row {
	u8 bytes[256];
};

/* In kmalloc-4k, so that its slot is not one that a box could take. */
struct broken_note {
	u64 number;
	u64 lines[400];
};

/* How a leaf is obtained, and with that how it is freed. */
enum broken_way {
	CACHE_FREE,	/* kmem_cache_free */
	CACHE_BULK,	/* kmem_cache_free_bulk */
	CACHE_DESTROY,	/* kmem_cache_free, then the cache itself goes */
	KFREE_BULK,	/* kfree_bulk */
	KFREE_RCU,	/* kfree_rcu: in bulk, later */
	KREALLOC,	/* krealloc, which moves it */
	FREE_PAGE,	/* free_page */
	VFREE,		/* vfree */
};

/* Larger than half a page: no two share one. */
struct broken_leaf {
	u64 number;
	struct rcu_head rcu;
	u64 lines[400];
};

static struct kmem_cache *broken_leaves;
static struct kmem_cache *broken_brief;

/* What poke writes to: the number is what the user sees, the pointer what the kernel follows. */
union broken_target {
	u64 number;
	struct broken_note *pointer;
};

struct broken_box;

/* What call calls, likewise. */
union broken_step {
	u64 number;
	void (*call)(struct broken_box *box, u64 value);
};

/* In kmalloc-8k with its text. */
struct broken_box {
	union broken_target target;
	struct broken_note *note;
	bool dropped;
	struct broken_slot slots[64];
	atomic64_t flags[32];
	unsigned long marks[16];
	struct broken_row rows[16];
	union broken_step step;
	struct broken_leaf *leaf;
	enum broken_way way;
	bool shed;
	u8 text[];
};

/* One call into this module: puts VALUE at INDEX of its digits, returns where they are. */
struct otf_codec {
	long (*decode)(struct file *file, u64 index, u64 value);
};

static const u8 broken_template[TEMPLATE_BYTES] = { [0 ... TEMPLATE_BYTES - 1] = 0x42 };

static noinline void broken_slot(struct broken_box *box, u64 index, u64 value)
{
	box->slots[index].value = value;
}

static noinline void broken_held(struct broken_box *box, u64 index, u64 value)
{
	rcu_read_lock();
	local_bh_disable();
	box->slots[index].value = value;
	local_bh_enable();
	rcu_read_unlock();
}

static noinline void broken_flag(struct broken_box *box, u64 index, u64 mask)
{
	atomic64_or(mask, &box->flags[index]);
}

static noinline void broken_mark(struct broken_box *box, u64 bit)
{
	set_bit(bit, box->marks);
}

static noinline void broken_wipe(struct broken_box *box, u64 index)
{
	box->rows[index] = (struct broken_row){};
}

/* Mindful of what it may read, careless of what it may write. */
static noinline int broken_text(struct broken_box *box, u64 length)
{
	if (length > sizeof(broken_template))
		return -EINVAL;
	memcpy(box->text, broken_template, length);
	return 0;
}

static noinline void broken_poke(struct broken_box *box, u64 value)
{
	box->target.pointer->number = value;
}

static noinline void broken_drop(struct broken_box *box)
{
	if (box->dropped)
		return;
	box->dropped = true;
	kfree(box->note);
}

static noinline void broken_note(struct broken_box *box, u64 value)
{
	box->note->lines[2] = value;
}

static noinline int broken_renew(struct broken_box *box)
{
	struct broken_note *note = kzalloc(sizeof(*note), GFP_KERNEL);

	if (!note)
		return -ENOMEM;
	kfree(box->note);
	box->note = note;
	box->dropped = false;
	box->target.pointer = note;
	return 0;
}

static noinline int broken_grow(struct broken_box *box, u64 way)
{
	struct broken_leaf *leaf;

	if (!box->shed)
		return -EBUSY;
	switch (way) {
	case CACHE_FREE:
	case CACHE_BULK:
		leaf = kmem_cache_zalloc(broken_leaves, GFP_KERNEL);
		break;
	case CACHE_DESTROY:
		leaf = broken_brief ? kmem_cache_zalloc(broken_brief, GFP_KERNEL) : NULL;
		break;
	case KFREE_BULK:
	case KFREE_RCU:
	case KREALLOC:
		leaf = kzalloc(sizeof(*leaf), GFP_KERNEL);
		break;
	case FREE_PAGE:
		leaf = (struct broken_leaf *)get_zeroed_page(GFP_KERNEL);
		break;
	case VFREE:
		leaf = vzalloc(sizeof(*leaf));
		break;
	default:
		return -EINVAL;
	}
	if (!leaf)
		return -ENOMEM;
	box->leaf = leaf;
	box->way = way;
	box->shed = false;
	return 0;
}

static noinline void broken_shed(struct broken_box *box)
{
	void *leaf = box->leaf;

	if (box->shed)
		return;
	box->shed = true;
	switch (box->way) {
	case CACHE_FREE:
		kmem_cache_free(broken_leaves, leaf);
		break;
	case CACHE_BULK:
		kmem_cache_free_bulk(broken_leaves, 1, &leaf);
		break;
	case CACHE_DESTROY:
		kmem_cache_free(broken_brief, leaf);
		break;
	case KFREE_BULK:
		kfree_bulk(1, &leaf);
		break;
	case KFREE_RCU:
		kfree_rcu(box->leaf, rcu);
		break;
	case KREALLOC:
		/* as long as nothing is changed, the pointer leads to what was freed */
		kfree(krealloc(leaf, 2 * PAGE_SIZE, GFP_KERNEL));
		break;
	case FREE_PAGE:
		free_page((unsigned long)leaf);
		break;
	case VFREE:
		vfree(leaf);
		break;
	}
}

static noinline void broken_leaf(struct broken_box *box, u64 value)
{
	box->leaf->lines[2] = value;
}

static void broken_raze(void)
{
	kmem_cache_destroy(broken_brief);
	broken_brief = NULL;
}

static void broken_add(struct broken_box *box, u64 value)
{
	box->slots[0].uses += value;
}

static void broken_reset(struct broken_box *box, u64 value)
{
	box->slots[0].uses = value;
}

static noinline void broken_step(struct broken_box *box, u64 number)
{
	box->step.call = number ? broken_reset : broken_add;
}

static noinline int broken_call(struct broken_box *box, u64 value)
{
	box->step.call(box, value);
	return 0;
}

static noinline long broken_decode(struct file *file, u64 index, u64 value)
{
	u64 digits[8] = {};

	barrier_data(digits);
	digits[index] = value;
	barrier_data(digits);
	return (long)(uintptr_t)digits;
}

static int broken_run(struct broken_box *box, const char *verb, u64 first, u64 second)
{
	if (!strcmp(verb, "slot"))
		broken_slot(box, first, second);
	else if (!strcmp(verb, "held"))
		broken_held(box, first, second);
	else if (!strcmp(verb, "flag"))
		broken_flag(box, first, second);
	else if (!strcmp(verb, "mark"))
		broken_mark(box, first);
	else if (!strcmp(verb, "wipe"))
		broken_wipe(box, first);
	else if (!strcmp(verb, "text"))
		return broken_text(box, first);
	else if (!strcmp(verb, "point"))
		box->target.number = first;
	else if (!strcmp(verb, "poke"))
		broken_poke(box, first);
	else if (!strcmp(verb, "drop"))
		broken_drop(box);
	else if (!strcmp(verb, "note"))
		broken_note(box, first);
	else if (!strcmp(verb, "renew"))
		return broken_renew(box);
	else if (!strcmp(verb, "step"))
		broken_step(box, first);
	else if (!strcmp(verb, "hook"))
		box->step.number = first;
	else if (!strcmp(verb, "call"))
		return broken_call(box, first);
	else if (!strcmp(verb, "grow"))
		return broken_grow(box, first);
	else if (!strcmp(verb, "shed"))
		broken_shed(box);
	else if (!strcmp(verb, "leaf"))
		broken_leaf(box, first);
	else if (!strcmp(verb, "raze"))
		broken_raze();
	else
		return -EINVAL;
	return 0;
}

static ssize_t broken_write(struct file *file, const char __user *user, size_t count,
			    loff_t *position)
{
	char command[COMMAND_BYTES];
	char verb[16];
	u64 first = 0, second = 0;
	int error;

	if (count >= sizeof(command))
		return -EINVAL;
	if (copy_from_user(command, user, count))
		return -EFAULT;
	command[count] = '\0';
	if (sscanf(command, "%15s %lli %lli", verb, &first, &second) < 1)
		return -EINVAL;
	error = broken_run(file->private_data, verb, first, second);
	return error ? error : count;
}

static int broken_open(struct inode *inode, struct file *file)
{
	struct broken_box *box = kzalloc(struct_size(box, text, TEXT_BYTES), GFP_KERNEL);

	if (!box)
		return -ENOMEM;
	box->note = kzalloc(sizeof(*box->note), GFP_KERNEL);
	if (!box->note) {
		kfree(box);
		return -ENOMEM;
	}
	box->target.pointer = box->note;
	box->step.call = broken_add;
	box->shed = true;
	file->private_data = box;
	return 0;
}

static int broken_release(struct inode *inode, struct file *file)
{
	struct broken_box *box = file->private_data;

	broken_shed(box);
	if (!box->dropped)
		kfree(box->note);
	kfree(box);
	return 0;
}

static const struct file_operations broken_fops = {
	.owner = THIS_MODULE,
	.open = broken_open,
	.write = broken_write,
	.release = broken_release,
};

static struct miscdevice broken_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "otf_broken",
	.fops = &broken_fops,
	.mode = 0600,
};

const struct otf_codec otf_broken_codec = {
	.decode = broken_decode,
};
EXPORT_SYMBOL_GPL(otf_broken_codec);

static int __init broken_init(void)
{
	int error = -ENOMEM;

	broken_leaves = kmem_cache_create("otf_broken_leaf", sizeof(struct broken_leaf), 0, 0, NULL);
	broken_brief = kmem_cache_create("otf_broken_brief", sizeof(struct broken_leaf), 0,
					 SLAB_NO_MERGE, NULL);
	if (broken_leaves && broken_brief)
		error = misc_register(&broken_device);
	if (error) {
		kmem_cache_destroy(broken_leaves);
		kmem_cache_destroy(broken_brief);
	}
	return error;
}
module_init(broken_init);

static void __exit broken_exit(void)
{
	misc_deregister(&broken_device);
	rcu_barrier();
	kmem_cache_destroy(broken_leaves);
	kmem_cache_destroy(broken_brief);
}
module_exit(broken_exit);

MODULE_DESCRIPTION("Deliberately broken device for testing confinement");
MODULE_LICENSE("GPL");
