// Unions, conditional pointers, pointers kept in integers.
#include "kernel.h"

struct first {
	long a;
};
struct second {
	long b[2];
};
union either {
	struct first one;
	struct second two;
	void *pointer;
};
struct holder {
	int kind;
	union either u;
	unsigned long handle;
};

struct holder *holder_new(void)
{
	struct holder *h = kmalloc(sizeof(*h), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 32 bytes, struct holder
	return h;
}

void set(struct holder *h, struct second *s, int n)
{
	struct second *target = n ? &h->u.two : s;
	target->b[1] = 1; //~ write: store 8: heap struct holder 32 bytes of 32 from line 23, heap struct second in struct holder+8 16 bytes of 32 from line 23
	h->u.one.a = 2; //~ write: store 8: parameter 0 or heap struct holder 32 bytes of 32 from line 23
	((struct second *)(h->handle & ~3UL))->b[0] = 3; //~ write: store 8: heap struct second in struct holder+8 16 bytes of 32 from line 23
	*(long *)h->u.pointer = 4; //~ write: store 8: any stack, any heap (the pointer has no structure type in the source), any global, per-CPU
}
