// container_of, nested arrays, several containers, casts back and forth.
#include "kernel.h"

struct leaf {
	int value;
	struct list_head node;
};
struct row {
	long tag;
	struct leaf leaves[4];
};
struct box {
	long head[2];
	struct row rows[3];
	struct leaf *current;
	struct leaf lone;
};

struct box *box_new(void)
{
	struct box *b = kzalloc(sizeof(*b), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 360 bytes, struct box
	if (!b)
		return NULL;
	b->head[1] = 1; //~ write: store 8: heap struct box 360 bytes of 360 from line 21
	b->rows[2].leaves[1].value = 2; //~ write: store 4: heap struct box 360 bytes of 360 from line 21
	b->current = &b->rows[0].leaves[0]; //~ write: store 8: heap struct box 360 bytes of 360 from line 21
	return b;
}

void leaf_set(struct leaf *l)
{
	l->value = 3; //~ write: store 4: parameter 0 or heap struct leaf in struct box+24 [3 x 104] [4 x 24] 24 bytes of 360 from line 21, heap struct leaf in struct box+336 24 bytes of 360 from line 21
}

void from_node(struct list_head *node)
{
	struct leaf *l = container_of(node, struct leaf, node);
	l->value = 4; //~ write: store 4: heap struct leaf in struct box+24 [3 x 104] [4 x 24] 24 bytes of 360 from line 21, heap struct leaf in struct box+336 24 bytes of 360 from line 21
	node->next = NULL; //~ write: store 8: parameter 0 or any stack, any heap (struct list_head is defined in kernel.h: containers outside the scope are not known), any global, per-CPU
}

void indirect(struct box *b)
{
	b->current->value = 5; //~ write: store 4: heap struct leaf in struct box+24 [3 x 104] [4 x 24] 24 bytes of 360 from line 21, heap struct leaf in struct box+336 24 bytes of 360 from line 21
	b->current->node.next->prev = NULL; //~ write: store 8: any stack, any heap (struct list_head is defined in kernel.h: containers outside the scope are not known), any global, per-CPU
}

void casts(void *anything, unsigned long handle)
{
	struct leaf *l = anything;
	struct row *r = (struct row *)handle;
	l->value = 6; //~ write: store 4: parameter 0 or heap struct leaf in struct box+24 [3 x 104] [4 x 24] 24 bytes of 360 from line 21, heap struct leaf in struct box+336 24 bytes of 360 from line 21
	r->tag = 7; //~ write: store 8: parameter 1 or heap struct row in struct box+16 [3 x 104] 104 bytes of 360 from line 21
}
