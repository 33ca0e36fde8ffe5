struct plain { long a, b, c, d; int e, f; struct plain *next; };
struct other { int x, y; long z; };
struct small { int v; };

/* One write, one store. */
void single(struct plain *p)
{
	p->b = 42; //~ bound plain
}

/* Two writes that the line table cannot tell apart. */
#define BOTH(p, o) do { (p)->a = 1; (o)->x = 2; } while (0)
void both(struct plain *p, struct other *o)
{
	BOTH(p, o); //~ bound plain, bound other
}

static inline void set(int *where, int what)
{
	*where = what; //~ bound small, bound other
}

/* A write of an inlined function is that of its caller's object. */
void inlined(struct small *s, struct other *o, int n)
{
	set(&s->v, n);
	asm volatile("" ::: "memory");
	set(&o->y, n);
}

/* The optimiser makes a call of memset out of these, and the code generator four stores of that. */
void cleared(struct plain *p)
{
	p->a = 0;
	p->b = 0; //~ merged plain
	p->c = 0;
	p->d = 0;
}

/* The code generator stores both at once. */
void pair(struct plain *p)
{
	p->e = 1; //~ unlike plain
	p->f = 2;
}

/* Paths with different writes end in one store: it has no place. */
void joined(struct plain *p, struct other *o, int which)
{ //~0 nothing other plain
	if (which)
		p->c = 7;
	else
		o->z = 7;
}

/* A copy in pieces. */
void copied(struct plain *to, struct plain *from)
{
	*to = *from; //~ bound plain
}

/* Merged with nothing but what stands in its line. */
void line(struct plain *p)
{
	p->c = p->d = 0; //~ merged plain
}

/* Two writes at one place, merged with nothing else; and merged with what stands elsewhere. */
#define NONE(p) do { (p)->c = 0; (p)->d = 0; } while (0)
void twice(struct plain *p)
{
	p->a = 3; //~ bound plain
	NONE(p); //~ merged plain
}

void thrice(struct plain *p)
{
	p->a = 3; //~ bound plain
	NONE(p); //~ merged plain
	p->e = p->f = 0;
}

/* The first two become one store, under the place of what follows them. */
void conditional(struct plain *p, struct other *o, struct small *s, int x, int y)
{
	if (x)
		p->a = 1;
	if (y)
		p->a = 2;
	s->v = 5; //~ merged other plain small
	asm volatile("" ::: "memory");
	o->z = 5; //~ bound other
}

/* As the kernel writes locked instructions: the line is that of the store before it. */
void locked(struct other *o, struct small *s)
{
	o->x = 3; //~ bound other, bound small
	asm volatile(".pushsection .smp_locks,\"a\"\n.balign 4\n.long 671f - .\n.popsection\n671:\n\tlock incl %0"
		     : "+m" (s->v));
}
