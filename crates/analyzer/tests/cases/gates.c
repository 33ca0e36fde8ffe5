// Entries: tables, callbacks, exports, initialisation; what a refusal returns.
//@ refusal: Qdisc_ops.enqueue = 1 NET_XMIT_DROP
#include "kernel.h"

static int q_enqueue(struct sk_buff *skb, struct Qdisc *sch) //~ gate: Qdisc_ops.enqueue, instance struct Qdisc in argument 1, refuses with NET_XMIT_DROP = 1
{
	return 0;
}
static struct sk_buff *q_dequeue(struct Qdisc *sch) //~ gate: Qdisc_ops.dequeue, instance struct Qdisc in argument 0, refuses with NULL = 0
{
	return NULL;
}
static void q_reset(struct Qdisc *sch) //~ gate: Qdisc_ops.reset, instance struct Qdisc in argument 0, refuses with void = 0
{
}
static int q_dump(struct Qdisc *sch, struct sk_buff *skb) //~ gate: Qdisc_ops.dump, instance struct Qdisc in argument 0, refuses with -EIO = -5
{
	return 0;
}
static int q_inner(struct sk_buff *skb) //~ gate: Qdisc_ops.nested.inner, no instance, refuses with -EIO = -5
{
	return 0;
}
static int q_graft(struct Qdisc *sch, unsigned long cl, struct Qdisc *fresh) //~ gate: Qdisc_class_ops.graft, instance struct Qdisc in argument 0, refuses with -EIO = -5
{
	return 0;
}
static unsigned long q_find(struct Qdisc *sch, u32 classid) //~ gate: Qdisc_class_ops.find, instance struct Qdisc in argument 0, refuses with 0 = 0
{
	return 0;
}
static bool q_busy(struct Qdisc *sch) //~ gate: Qdisc_class_ops.busy, instance struct Qdisc in argument 0, refuses with false = 0
{
	return 0;
}
static void tick(struct timer_list *t) //~ gate: callback of timer_setup, no instance, refuses with void = 0
{
}
static int late_enqueue(struct sk_buff *skb, struct Qdisc *sch) //~ gate: Qdisc.enqueue, instance struct Qdisc in argument 1, refuses with -EIO = -5
{
	return 1;
}
static int never_shown(int x) //~ gate: nothing
{
	return x;
}
long exported(long x) //~ gate: export, no instance, refuses with -EIO = -5
{
	return never_shown(x);
}
EXPORT_SYMBOL(exported);

static const struct Qdisc_class_ops class_ops = {
	.graft = q_graft, .find = q_find, .busy = q_busy,
};
static struct Qdisc_ops qops = {
	.cl_ops = &class_ops, .enqueue = q_enqueue, .dequeue = q_dequeue,
	.reset = q_reset, .dump = q_dump, .nested.inner = q_inner,
};
int register_it(struct Qdisc_ops *ops);

static int mod_init(void) //~ gate: initcall, no instance, refuses with -EIO = -5
{
	return register_it(&qops);
}
int init_module(void) __attribute__((alias("mod_init")));

void arm(struct timer_list *t, struct Qdisc *sch)
{
	timer_setup(t, tick); //~ write: nothing
	sch->enqueue = late_enqueue; //~ write: store 8: parameter 1 or any stack, any heap (struct Qdisc is defined in kernel.h: containers outside the scope are not known), any global, per-CPU
}
