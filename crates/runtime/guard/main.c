// SPDX-License-Identifier: GPL-2.0-only
/* The guard of OTF policies: owns their probes, and refuses what they call illegal. */
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "guard.h"

static int __init otf_guard_init(void)
{
	int err = otf_guard_register_kfuncs();

	if (!err)
		err = otf_guard_register_frees();
	return err ? err : otf_guard_register_probes();
}

static void __exit otf_guard_exit(void)
{
	otf_guard_unregister_probes();
	/* a preempted task may still stand in otf_guard_return */
	synchronize_rcu_tasks();
}

module_init(otf_guard_init);
module_exit(otf_guard_exit);
MODULE_DESCRIPTION("Refuses writes that an OTF policy calls illegal");
MODULE_LICENSE("GPL");
