// What the cases need of the kernel's headers, in the kernel's own shapes.
#define NULL ((void *)0)
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef unsigned long size_t;
typedef _Bool bool;

struct list_head {
	struct list_head *next, *prev;
};
struct hlist_node {
	struct hlist_node *next, **pprev;
};
struct hlist_head {
	struct hlist_node *first;
};
struct Qdisc_ops;
struct sk_buff {
	struct sk_buff *next;
	int len;
	char cb[48];
	void *data;
};
struct Qdisc {
	int (*enqueue)(struct sk_buff *skb, struct Qdisc *sch);
	const struct Qdisc_ops *ops;
	int qlen;
	long privdata[] __attribute__((aligned(64)));
};
struct Qdisc_class_ops {
	int (*graft)(struct Qdisc *sch, unsigned long cl, struct Qdisc *fresh);
	unsigned long (*find)(struct Qdisc *sch, u32 classid);
	bool (*busy)(struct Qdisc *sch);
};
struct Qdisc_ops {
	const struct Qdisc_class_ops *cl_ops;
	char id[16];
	int priv_size;
	int (*enqueue)(struct sk_buff *skb, struct Qdisc *sch);
	struct sk_buff *(*dequeue)(struct Qdisc *sch);
	void (*reset)(struct Qdisc *sch);
	int (*dump)(struct Qdisc *sch, struct sk_buff *skb);
	struct {
		int (*inner)(struct sk_buff *skb);
	} nested;
};
struct timer_list {
	void (*function)(struct timer_list *t);
};
struct kmem_cache;
struct page;

void *__kmalloc_noprof(size_t size, u32 flags);
void *__kmalloc_large_noprof(size_t size, u32 flags);
void *__kmalloc_cache_noprof(struct kmem_cache *s, u32 flags, size_t size);
void *__kvmalloc_node_noprof(size_t size, u32 flags, int node);
void *vmalloc_noprof(size_t size);
void *kmem_cache_alloc_noprof(struct kmem_cache *s, u32 flags);
struct kmem_cache *__kmem_cache_create_args(const char *name, u32 size, void *args, u32 flags);
struct page *alloc_pages_noprof(u32 flags, u32 order);
unsigned long get_free_pages_noprof(u32 flags, u32 order);
void *pcpu_alloc_noprof(size_t size, size_t align, bool reserved, u32 flags);
void *page_address(const struct page *page);
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
unsigned long _copy_to_user(void *to, const void *from, unsigned long n);
unsigned long _copy_from_user(void *to, const void *from, unsigned long n);
void timer_setup(struct timer_list *t, void (*f)(struct timer_list *t));

extern struct kmem_cache *kmalloc_caches[14];

static inline void *kmalloc_noprof(size_t size, u32 flags)
{
	if (__builtin_constant_p(size) && size) {
		if (size > 8192)
			return __kmalloc_large_noprof(size, flags);
		return __kmalloc_cache_noprof(kmalloc_caches[size >> 10], flags, size);
	}
	return __kmalloc_noprof(size, flags);
}
static inline void *kzalloc_noprof(size_t size, u32 flags)
{
	return kmalloc_noprof(size, flags | 0x100);
}
#define kmalloc(...) ({ void *_res = kmalloc_noprof(__VA_ARGS__); _res; })
#define kzalloc(...) ({ void *_res = kzalloc_noprof(__VA_ARGS__); _res; })
static inline void *kcalloc(size_t n, size_t size, u32 flags)
{
	size_t bytes;
	if (__builtin_mul_overflow(n, size, &bytes))
		return NULL;
	return __kmalloc_noprof(bytes, flags | 0x100);
}
static inline void *kmem_cache_zalloc(struct kmem_cache *k, u32 flags)
{
	return kmem_cache_alloc_noprof(k, flags | 0x100);
}
static inline struct kmem_cache *kmem_cache_create(const char *name, u32 size, u32 flags)
{
	return __kmem_cache_create_args(name, size, NULL, flags);
}
static inline void *qdisc_priv(struct Qdisc *q)
{
	return &q->privdata;
}
static inline void INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list;
	list->prev = list;
}
static inline void list_add(struct list_head *fresh, struct list_head *head)
{
	head->next->prev = fresh;
	fresh->next = head->next;
	fresh->prev = head;
	head->next = fresh;
}
static inline void __set_bit(long nr, volatile unsigned long *addr)
{
	asm volatile(" btsq %1,%0" : : "m"(*(volatile long *)addr), "Ir"(nr) : "memory");
}
static inline void atomic_inc(int *v)
{
	asm volatile("lock incl %0" : "+m"(*v));
}
#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - __builtin_offsetof(type, member)))
#define EXPORT_SYMBOL(sym) \
	asm(".section \".export_symbol\",\"a\" ; __export_symbol_" #sym ": ; .quad " #sym " ; .previous")
