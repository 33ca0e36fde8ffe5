// Allocates the container.
#include "kernel.h"

struct Qdisc *qdisc_alloc(const struct Qdisc_ops *ops)
{
	struct Qdisc *sch = kzalloc(sizeof(*sch) + ops->priv_size, 1);
	return sch;
}
