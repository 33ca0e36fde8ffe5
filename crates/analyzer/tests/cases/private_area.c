// A structure behind another one: the private area of an object that the scope allocates.
//@ scope: private_area.scope.c
#include "kernel.h"

struct group {
	unsigned long full;
	long slots[4];
};
struct sched {
	unsigned long bitmap;
	struct group groups[5];
	struct group *current;
};
struct skb_area {
	long stamp;
};

static struct skb_area *area(struct sk_buff *skb)
{
	return (struct skb_area *)skb->cb;
}

int enqueue(struct sk_buff *skb, struct Qdisc *sch) //~ gate: Qdisc_ops.enqueue, instance struct Qdisc in argument 1, refuses with -EIO = -5
{
	struct sched *q = qdisc_priv(sch);
	struct group *g = q->current;

	g->full = 1; //~ write: store 8: heap struct group in struct Qdisc+72 [5 x 40] 40 bytes of 280 up from line 6
	g->slots[sch->qlen & 3] = 2; //~ write: store 8: heap struct group in struct Qdisc+72 [5 x 40] 40 bytes of 280 up from line 6
	q->groups[sch->qlen].full = 3; //~ write: store 8: heap struct sched in struct Qdisc+64 216 bytes of 280 up from line 6
	__set_bit(sch->qlen, &q->bitmap); //~ pass: __set_bit(-; heap struct sched in struct Qdisc+64 216 bytes of 280 up from line 6)
	__set_bit(sch->qlen, &g->full); //~ pass: __set_bit(-; heap struct group in struct Qdisc+72 [5 x 40] 40 bytes of 280 up from line 6)
	sch->qlen++; //~ write: store 4: parameter 1 or any stack, any heap (struct Qdisc is defined in kernel.h: containers outside the scope are not known), any global, per-CPU
	area(skb)->stamp = 4; //~ write: store 8: any stack, any heap (struct skb_area lies in struct sk_buff, whose allocations are outside the scope), any global, per-CPU
	memset(q->groups, 0, sizeof(q->groups)); //~ write: bulk 200: heap struct sched in struct Qdisc+64 216 bytes of 280 up from line 6
	memset(g, 0, skb->len); //~ write: bulk 0: heap struct group in struct Qdisc+72 200 bytes of 280 up from line 6
	return 0;
}

struct Qdisc_ops ops = { .priv_size = sizeof(struct sched), .enqueue = enqueue };
