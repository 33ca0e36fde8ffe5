// Calls through pointers when not all files are read: others may fill what headers declare.
#include "kernel.h"

static int own_enqueue(struct sk_buff *skb, struct Qdisc *sch)
{
	return 0;
}
static struct Qdisc_ops ops = { .enqueue = own_enqueue };

int register_it(struct Qdisc_ops *ops);

int setup(void)
{
	return register_it(&ops);
}
int pass(struct sk_buff *skb, struct Qdisc *sch)
{
	return sch->ops->enqueue(skb, sch); //~ call: struct Qdisc_ops.enqueue: own_enqueue, any (struct Qdisc_ops is filled outside the scope too)
}
int visible(struct sk_buff *skb, struct Qdisc *sch, int (*visit)(struct sk_buff *, struct Qdisc *))
{
	return visit(skb, sch); //~ call: parameter 2 of visible: none, any (visible is called from outside the scope)
}
