/* Compiled as the first input of the target `image`. */
struct s { int a, b[4]; };
int counter;
static inline void put(int *p) { *p = 1; }
void *memcpy(void *, const void *, unsigned long);
int f(struct s *s, unsigned long n, int (*call)(int))
{
	put(&s->b[n & 3]);
	__atomic_fetch_add(&counter, 1, __ATOMIC_SEQ_CST);
	memcpy(s->b, &counter, n);
	return call(s->a);
}
