// Structures in memory that is declared as bytes, at known and unknown places.
#include "kernel.h"

struct header {
	int kind;
};
struct body {
	long payload;
};
struct tail {
	long payload;
};
struct packet {
	int length;
	unsigned char raw[60];
};
struct known {
	int x;
};

struct packet *packet_new(int n)
{
	struct packet *p = kmalloc(sizeof(*p), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 64 bytes, struct packet
	struct known *k = kmalloc(sizeof(*k), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 4 bytes, struct known
	void *plain = kmalloc(n, 1); //~ alloc: Kmalloc by __kmalloc_noprof, size computed, struct header
	struct header *h = plain;
	struct body *b = plain + sizeof(*h);
	struct tail *t = plain + n;

	h->kind = 1; //~ write: store 4: heap struct header to end of 4 up from line 25
	b->payload = 2; //~ write: store 8: any stack, any heap (struct body lies in a buffer without a type in packet_new), any global, per-CPU
	t->payload = 3; //~ write: store 8: any stack, any heap (struct tail lies in a buffer without a type in packet_new), any global, per-CPU
	k->x = 4; //~ write: store 4: heap struct known 4 bytes of 4 from line 24
	return p;
}

void in_raw(struct packet *p, struct known *k)
{
	struct header *h = (struct header *)(p->raw + 4);
	h->kind = 5; //~ write: store 4: heap struct header [0 x 4] 4 bytes of 4 up from line 25, heap struct header in struct packet+8 4 bytes of 64 from line 23
	k->x = 6; //~ write: store 4: parameter 1 or compartment stack, heap struct known 4 bytes of 4 from line 24
}

void on_stack(void)
{
	char bytes[32];
	struct known *k = (struct known *)bytes;
	k->x = 7; //~ write: store 4: own stack
}
