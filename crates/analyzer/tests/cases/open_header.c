// The same with a header that others include too: their objects and functions count.
#include "kernel.h"

static int own_enqueue(struct sk_buff *skb, struct Qdisc *sch)
{
	return 0;
}
static struct Qdisc_ops ops = { .enqueue = own_enqueue };
static struct Qdisc builtin = { .ops = &ops };

struct Qdisc *first(void)
{
	return &builtin;
}
void count(struct Qdisc *sch)
{
	sch->qlen++; //~ write: store 4: parameter 0 or any stack, any heap (struct Qdisc is defined in kernel.h: containers outside the scope are not known), any global, per-CPU
}
int pass(struct sk_buff *skb, struct Qdisc *sch)
{
	return sch->ops->enqueue(skb, sch); //~ call: struct Qdisc_ops.enqueue: own_enqueue, any (struct Qdisc_ops is filled outside the scope too)
}
