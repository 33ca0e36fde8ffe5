// Calls through pointers: copies, casts, unions, pointers to pointers, code made at run time.
//@ whole: yes
#include "kernel.h"

struct req;
struct handler {
	int (*run)(struct req *r);
};
struct left {
	int id;
	struct handler handler;
};
struct right {
	struct handler handler;
	int id;
};
struct twin {
	int (*go)(struct req *r);
};
struct req {
	union {
		int (*call)(struct req *r);
		void *data;
	};
	struct list_head list;
};
struct program {
	unsigned int (*code)(const void *context);
	u8 *image;
};
static int l_run(struct req *r) { return 0; }
static int r_run(struct req *r) { return 1; }
static int any_run(struct req *r) { return 2; }
static int twin_go(struct req *r) { return 3; }
static int req_call(struct req *r) { return 4; }
static int late(struct req *r) { return 5; }

struct left left = { .handler.run = l_run };
struct right right = { .handler.run = r_run };

// Two layers: the structure around the member tells two of them apart.
int run_left(struct left *l, struct req *r)
{
	return l->handler.run(r); //~ call: struct handler.run in struct left.handler: any_run l_run
}
// A pointer to the inner structure alone may be to any of them.
int run_any(struct handler *h, struct req *r)
{
	return h->run(r); //~ call: struct handler.run: any_run l_run r_run twin_go
}
void fill_any(struct handler *h)
{
	h->run = any_run;
}

// A structure seen as another one.
struct twin twin = { .go = twin_go };

int run_twin(struct twin *t, struct req *r)
{
	struct right *seen = (struct right *)t;

	return seen->handler.run(r); //~ call: struct handler.run in struct right.handler: any_run r_run twin_go
}

// A union: what the other member holds is no function.
void fill_union(struct req *r, void *data)
{
	r->call = req_call;
	r->data = data;
}
int run_union(struct req *r)
{
	return r->call(r); //~ call: struct req.call: req_call
}

// The address of a pointer goes somewhere: any function of the signature may be written there.
void register_hook(int (**where)(struct req *r));
static int (*hook)(struct req *r);

void hand_out(void)
{
	register_hook(&hook);
}
int run_hook(struct req *r)
{
	return hook(r); //~ call: hook: any_run interpret l_run late r_run req_call twin_go
}

// A callback that goes through a call through a pointer.
struct ops {
	int (*walk)(struct req *r, int (*visit)(struct req *));
};
static int do_walk(struct req *r, int (*visit)(struct req *))
{
	return visit(r); //~ call: parameter 1 of do_walk: late
}
struct ops ops = { .walk = do_walk };

int start(struct ops *o, struct req *r)
{
	return o->walk(r, late); //~ call: struct ops.walk: do_walk
}

// Code that is made at run time.
static unsigned int interpret(const void *context) { return 0; }

void compile(struct program *p, int jit)
{
	p->code = interpret;
	if (jit)
		p->code = (void *)p->image;
}
unsigned int execute(struct program *p)
{
	return p->code(p); //~ call: struct program.code: interpret, any (the pointer was one to data: code made at run time)
}
