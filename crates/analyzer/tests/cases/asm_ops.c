// Inline assembly, bit operations, atomics.
#include "kernel.h"

struct counters {
	int refs;
	unsigned long bits[2];
	long value;
};

struct counters *counters_new(void)
{
	return kzalloc(sizeof(struct counters), 1); //~ alloc: Kmalloc by __kmalloc_cache_noprof, 32 bytes, struct counters
}

void bump(struct counters *c)
{
	atomic_inc(&c->refs); //~ pass: atomic_inc(parameter 0 or heap struct counters 32 bytes of 32 from line 12)
	__set_bit(70, c->bits); //~ pass: __set_bit(-; parameter 0 or heap struct counters 32 bytes of 32 from line 12)
	asm volatile("incq %0" : "+m"(c->value)); //~ write: asm 0: parameter 0 or heap struct counters 32 bytes of 32 from line 12
	__atomic_fetch_add(&c->value, 2, 5); //~ write: atomic 8: parameter 0 or heap struct counters 32 bytes of 32 from line 12
	__atomic_compare_exchange_n(&c->value, &(long){1}, 3, 0, 5, 5);
	asm volatile("rep stosb" : : "D"(c), "a"(0), "c"(8L) : "memory"); //~ write: asm 0: parameter 0 or heap struct counters 32 bytes of 32 from line 12
}

int only_reads(struct counters *c)
{
	int x;
	asm("movl %1,%0" : "=r"(x) : "r"(c->refs));
	return x;
}
