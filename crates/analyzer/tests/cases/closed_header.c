// A header that only the scope can include: its types are the scope's, here and for calls.
//@ closed: kernel.h
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
	sch->qlen++; //~ write: store 4: parameter 0 or global box:builtin
}
int pass(struct sk_buff *skb, struct Qdisc *sch)
{
	return sch->ops->enqueue(skb, sch); //~ call: struct Qdisc_ops.enqueue: own_enqueue
}
