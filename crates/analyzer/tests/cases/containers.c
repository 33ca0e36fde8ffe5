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

struct child;
struct parent {
	union {
		struct list_head *list;
		struct child *child;
	} u;
};
struct child {
	long x;
	struct list_head nodes[4];
};

struct child *child_new(void)
{
	return kmalloc(sizeof(struct child), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 72 bytes, struct child
}

void through_union(struct parent *p, struct list_head *node, int i)
{
	struct child *c = p->u.child;
	struct child *d = container_of(node, struct child, nodes[i]);
	c->x = 1; //~ write: store 8: heap struct child 72 bytes of 72 from line 33
	d->x = 2; //~ write: store 8: heap struct child 72 bytes of 72 from line 33
}

struct box *box_new(void)
{
	struct box *b = kzalloc(sizeof(*b), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 360 bytes, struct box
	if (!b)
		return NULL;
	b->head[1] = 1; //~ write: store 8: heap struct box 360 bytes of 360 from line 46
	b->rows[2].leaves[1].value = 2; //~ write: store 4: heap struct box 360 bytes of 360 from line 46
	b->current = &b->rows[0].leaves[0]; //~ write: store 8: heap struct box 360 bytes of 360 from line 46
	return b;
}

void leaf_set(struct leaf *l)
{
	l->value = 3; //~ write: store 4: parameter 0 or heap struct leaf in struct box+24 [3 x 104] [4 x 24] 24 bytes of 360 from line 46, heap struct leaf in struct box+336 24 bytes of 360 from line 46
}

void from_node(struct list_head *node)
{
	struct leaf *l = container_of(node, struct leaf, node);
	l->value = 4; //~ write: store 4: heap struct leaf in struct box+24 [3 x 104] [4 x 24] 24 bytes of 360 from line 46, heap struct leaf in struct box+336 24 bytes of 360 from line 46
	node->next = NULL; //~ write: store 8: parameter 0 or 16 bytes of stack at parameter 0 of from_node, any heap (struct list_head is defined in kernel.h: containers outside the scope are not known), any global, per-CPU
}

void indirect(struct box *b)
{
	b->current->value = 5; //~ write: store 4: heap struct leaf in struct box+24 [3 x 104] [4 x 24] 24 bytes of 360 from line 46, heap struct leaf in struct box+336 24 bytes of 360 from line 46
	b->current->node.next->prev = NULL; //~ write: store 8: any stack, any heap (struct list_head is defined in kernel.h: containers outside the scope are not known), any global, per-CPU
}

void casts(void *anything, unsigned long handle)
{
	struct leaf *l = anything;
	struct row *r = (struct row *)handle;
	l->value = 6; //~ write: store 4: parameter 0 or heap struct leaf in struct box+24 [3 x 104] [4 x 24] 24 bytes of 360 from line 46, heap struct leaf in struct box+336 24 bytes of 360 from line 46
	r->tag = 7; //~ write: store 8: parameter 1 or heap struct row in struct box+16 [3 x 104] 104 bytes of 360 from line 46
}
