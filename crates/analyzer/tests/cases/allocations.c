// Every family of allocators, through wrappers, with constant and computed sizes.
#include "kernel.h"

struct obj {
	long a[4];
};
struct flex {
	int n;
	struct obj items[];
};
struct cached {
	long a[3];
};
static struct kmem_cache *cached_cache;
static struct obj *percpu;

static void *my_alloc(size_t size)
{
	return kzalloc(size, 1); //~ alloc: Kmalloc by __kmalloc_noprof, size computed, struct obj
}
static struct cached *cached_new(void)
{
	return kmem_cache_zalloc(cached_cache, 1); //~ alloc: Slab by kmem_cache_alloc_noprof, size computed, cache my_cached, struct cached
}

int setup(void)
{
	cached_cache = kmem_cache_create("my_cached", sizeof(struct cached), 0); //~ write: store 8: global box:cached_cache
	percpu = pcpu_alloc_noprof(sizeof(struct obj), 8, 0, 1); //~ alloc: PerCpu by pcpu_alloc_noprof, 32 bytes, struct obj
	return 0;
}

void all(int n)
{
	struct obj *one = kmalloc(sizeof(*one), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 32 bytes, struct obj
	struct obj *many = kcalloc(n, sizeof(*many), 1); //~ alloc: Kmalloc by __kmalloc_noprof, size computed, struct obj
	struct flex *flex = kmalloc(sizeof(*flex) + n * sizeof(struct obj), 1); //~ alloc: Kmalloc by __kmalloc_noprof, size computed, struct flex
	struct obj *big = kmalloc(16384, 1); //~ alloc: Kmalloc by __kmalloc_large_noprof, 16384 bytes, struct obj
	struct obj *virt = vmalloc_noprof(65536); //~ alloc: Vmalloc by vmalloc_noprof, 65536 bytes, struct obj
	struct obj *either = __kvmalloc_node_noprof(n, 1, -1); //~ alloc: Kvmalloc by __kvmalloc_node_noprof, size computed, struct obj
	struct obj *wrapped = my_alloc(sizeof(*wrapped));
	struct obj *pages = (struct obj *)get_free_pages_noprof(1, 2); //~ alloc: Pages by get_free_pages_noprof, 16384 bytes, struct obj
	struct page *page = alloc_pages_noprof(1, 1); //~ alloc: Pages by alloc_pages_noprof, 8192 bytes, no type
	char *bytes = kmalloc(100, 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 100 bytes, alloc:allocations.c:44
	struct cached *c = cached_new();

	one->a[0] = 1; //~ write: store 8: heap struct obj 32 bytes of 32 from line 35
	many[n].a[1] = 2; //~ write: store 8: heap struct obj to end of 32 up from line 36
	flex->items[n].a[2] = 3; //~ write: store 8: heap struct flex to end of 8 up from line 37
	big[n].a[0] = 4; //~ write: store 8: heap struct obj to end of 16384 from line 38
	virt->a[0] = 5; //~ write: store 8: heap struct obj to end of 65536 from line 39
	either->a[0] = 6; //~ write: store 8: heap struct obj to end of 32 up from line 40
	wrapped->a[0] = 7; //~ write: store 8: heap struct obj to end of 32 up from line 19
	pages->a[0] = 8; //~ write: store 8: heap struct obj to end of 16384 from line 42
	bytes[n] = 9; //~ write: store 1: heap alloc:allocations.c:44 100 bytes of 100 from line 44
	c->a[0] = 10; //~ write: store 8: heap struct cached 24 bytes of 24 up from line 23
	*(long *)page_address(page) = 11; //~ write: store 8: any stack, any heap (the pointer has no structure type in the source), any global, per-CPU
}

void elsewhere(struct obj *o, struct cached *c)
{
	o->a[0] = 1; //~ write: store 8: parameter 0 or heap struct obj in struct flex+8 [0 x 32] 32 bytes of 40 up from line 37, heap struct obj 32 bytes of 32 from line 35, heap struct obj [0 x 32] 32 bytes of 32 up from line 19 36 40, heap struct obj [512 x 32] 32 bytes of 16384 from line 38 42, heap struct obj [2048 x 32] 32 bytes of 65536 from line 39, per-CPU
	c->a[0] = 2; //~ write: store 8: parameter 1 or heap struct cached to end of 1 up from line 23
}

struct dma {
	long a;
};
void *dma_alloc_attrs(size_t size);

struct dma *dma_new(int n)
{
	struct dma *d = n ? dma_alloc_attrs(sizeof(*d)) : kmalloc(sizeof(*d), 1);
	d->a = 1; //~ write: store 8: any stack, heap struct dma 8 bytes of 8 from line 73, any heap (struct dma comes from dma_alloc_attrs, of which nothing is known), any global, per-CPU
	return d;
}
