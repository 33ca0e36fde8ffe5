// List operations: the inline function writes through its parameters, the caller knows them.
#include "kernel.h"

struct item {
	long a;
	struct list_head link;
};
static struct list_head heads[4];

struct item *item_new(int i)
{
	struct item *it = kmalloc(sizeof(*it), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 24 bytes, struct item
	INIT_LIST_HEAD(&it->link); //~ pass: INIT_LIST_HEAD(heap struct item 24 bytes of 24 from line 12)
	list_add(&it->link, &heads[i]); //~ pass: list_add(heap struct item 24 bytes of 24 from line 12; global box:heads)
	return it;
}

static void detach(struct item *it, long *counter)
{
	it->link.next = NULL; //~ write: store 8: parameter 0 or heap struct item 24 bytes of 24 from line 12
	*counter = 1; //~ write: store 8: parameter 1 or compartment stack
}

void item_drop(struct item *it)
{
	long local = 0;
	detach(it, &local); //~ pass: detach(parameter 0 or heap struct item 24 bytes of 24 from line 12; compartment stack)
}
