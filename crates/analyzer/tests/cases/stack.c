// Objects in frames: own ones, escaping ones, a caller's.
#include "kernel.h"

struct pair {
	long a, b;
};
long use(struct pair *p);

static void fill(struct pair *p, int n)
{
	p->a = n; //~ write: store 8: parameter 0 or compartment stack
	p[n].b = 0; //~ write: store 8: parameter 0, moved, or compartment stack
}

long escape(void)
{
	struct pair p;
	p.a = 1; //~ write: store 8: own stack
	fill(&p, 2); //~ pass: fill(compartment stack; -)
	return use(&p); //~ pass: nothing
}

long index(int i)
{
	char buffer[16];
	int scalar = 0;
	scalar += i;
	buffer[i] = 1; //~ write: store 1: own stack
	memset(buffer, 0, sizeof(buffer)); //~ write: bulk 16: own stack
	return buffer[scalar];
}

int callers_frame(unsigned long *arg, struct list_head *list)
{
	*arg = 1; //~ write: store 8: parameter 0 or any stack, any heap (the pointer has no structure type in the source), any global, per-CPU
	list->next = NULL; //~ write: store 8: parameter 1 or 16 bytes of stack at parameter 1 of callers_frame, any heap (struct list_head is defined in kernel.h: containers outside the scope are not known), any global, per-CPU
	return 0;
}

struct pair by_value(struct pair in)
{
	in.a = 2; //~ write: store 8: own stack
	return in;
}

struct big {
	long words[8];
};
struct big by_memory(struct big in)
{
	in.words[1] = 3; //~ write: store 8: own stack
	return in; //~ write: bulk 64: any stack
}

void loop(struct pair *p, int n)
{
	struct pair *at = p;
	while (n--) {
		at->a = n; //~ write: store 8: parameter 0, moved, or compartment stack
		at++;
	}
}
