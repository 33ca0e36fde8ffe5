// Ranges: memcpy and its kind, structure assignment, user copies.
#include "kernel.h"

struct message {
	char text[32];
	int length;
};
struct queue {
	struct message slots[8];
	int head;
};

struct queue *queue_new(void)
{
	return kzalloc(sizeof(struct queue), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 292 bytes, struct queue
}

void copy(struct queue *q, struct message *m, const void *from, int n)
{
	memcpy(m->text, from, 8); //~ write: bulk 8: parameter 1 or heap struct message in struct queue+0 [8 x 36] 36 bytes of 292 from line 15
	memcpy(m, from, sizeof(*m)); //~ write: bulk 36: parameter 1 or heap struct message in struct queue+0 [8 x 36] 36 bytes of 292 from line 15
	memcpy(m, from, n); //~ write: bulk 0: heap struct message in struct queue+0 288 bytes of 292 from line 15
	q->slots[1] = q->slots[2]; //~ write: bulk 36: parameter 0 or heap struct queue 292 bytes of 292 from line 15
	_copy_from_user(q->slots, from, n); //~ write: bulk 0: heap struct queue 292 bytes of 292 from line 15
}

void to_user(void *user, struct message *m, void *kernel)
{
	_copy_to_user(user, m, sizeof(*m)); //~ write: bulk 36: user
	_copy_from_user(kernel, user, 4); //~ write: bulk 4: parameter 2 or any stack, any heap (the pointer has no structure type in the source), any global, per-CPU
}
