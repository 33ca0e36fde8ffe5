// A header type of which the profile says that the scope holds everything.
//@ complete: struct Qdisc
//@ scope: private_area.scope.c
#include "kernel.h"

static struct Qdisc builtin;

void count(struct Qdisc *sch, struct sk_buff *skb)
{
	sch->qlen++; //~ write: store 4: parameter 0 or global box:builtin, heap struct Qdisc to end of 64 up from line 6
	skb->len = 1; //~ write: store 4: parameter 1 or 72 bytes of stack at parameter 1 of count, any heap (struct sk_buff is defined in kernel.h: containers outside the scope are not known), any global, per-CPU
	builtin.qlen = 2; //~ write: store 4: global box:builtin
}
