// SPDX-License-Identifier: GPL-2.0-only
/* The guard of OTF policies: owns their probes, and refuses what they call illegal. */
#include <linux/btf.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "guard.h"
#include "jumps.h"

int otf_guard_init_type(struct btf *btf)
{
	return 0;
}

int otf_guard_copy_data(const struct btf_type *t, const struct btf_member *member, void *kdata,
			const void *udata)
{
	/* all of it with the first member; the kernel asks for each */
	memcpy(kdata, udata, t->size);
	return 1;
}

static int __init otf_guard_init(void)
{
	int err = otf_guard_register_kfuncs();

	if (!err)
		err = otf_guard_register_frees();
	if (!err)
		err = otf_jumps_init();
	if (err)
		return err;
	err = otf_guard_register_probes();
	if (err)
		otf_jumps_exit();
	return err;
}

static void __exit otf_guard_exit(void)
{
	otf_guard_unregister_probes();
	otf_heaps_exit();
	otf_jumps_exit();
	/* a preempted task may still stand in otf_guard_return or at the end of otf_heap_alloc */
	synchronize_rcu_tasks();
}

module_init(otf_guard_init);
module_exit(otf_guard_exit);
MODULE_DESCRIPTION("Refuses writes that an OTF policy calls illegal");
MODULE_LICENSE("GPL");
