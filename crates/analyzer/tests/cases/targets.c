// Calls through pointers: what was stored where the pointer comes from, and nothing else.
//@ whole: yes
#include "kernel.h"

struct dev;
struct dev_ops {
	int (*open)(struct dev *d);
	int (*close)(struct dev *d);
	int (*never)(struct dev *d);
};
struct dev {
	const struct dev_ops *ops;
	void (*notify)(struct dev *d, int event);
	void *cookie;
};
struct other_ops {
	int (*open)(struct dev *d);
};

static int a_open(struct dev *d) { return 0; }
static int b_open(struct dev *d) { return 1; }
static int a_close(struct dev *d) { return 2; }
static int o_open(struct dev *d) { return 3; }
static void on_event(struct dev *d, int event) { }
static void on_other(struct dev *d, int event) { }
static int by_cookie(struct dev *d) { return 4; }

const struct dev_ops a_ops = { .open = a_open, .close = a_close };
struct dev_ops b_ops = { .open = b_open };
static struct other_ops o_ops = { .open = o_open };

int open_it(struct dev *d)
{
	return d->ops->open(d); //~ call: struct dev_ops.open: a_open b_open
}
int close_it(struct dev *d)
{
	return d->ops->close(d); //~ call: struct dev_ops.close: a_close
}
int never_filled(struct dev *d)
{
	return d->ops->never(d); //~ call: struct dev_ops.never: none
}
int open_other(struct dev *d)
{
	return o_ops.open(d); //~ call: struct other_ops.open: o_open
}

// A member that is filled by a store, through a parameter, from two callers.
static void set_notify(struct dev *d, void (*notify)(struct dev *, int))
{
	d->notify = notify;
}
void setup(struct dev *d, int x)
{
	set_notify(d, x ? on_event : on_other);
}
void tell(struct dev *d)
{
	if (d->notify)
		d->notify(d, 1); //~ call: struct dev.notify: on_event on_other
}

// A parameter: its callers say what it is.
static int each(struct dev *d, int (*visit)(struct dev *))
{
	return visit(d); //~ call: parameter 1 of each: a_open by_cookie
}
int visit_all(struct dev *d)
{
	int (*f)(struct dev *) = by_cookie;

	return each(d, a_open) + each(d, f);
}

// A pointer kept without its type: every function of the signature.
void keep(struct dev *d)
{
	d->cookie = by_cookie;
}
int use(struct dev *d)
{
	int (*f)(struct dev *) = d->cookie;

	return f(d); //~ call: untyped memory: a_close a_open b_open by_cookie o_open
}

// A variable, a result, a table of pointers.
static int (*hook)(struct dev *d);
static int (*const table[])(struct dev *d) = { a_open, a_close };

void set_hook(void)
{
	hook = b_open;
}
static int (*choose(int x))(struct dev *)
{
	return x ? a_close : b_open;
}
int variables(struct dev *d, int i)
{
	int sum = hook(d); //~ call: hook: b_open
	sum += table[i](d); //~ call: table: a_close a_open
	sum += choose(i)(d); //~ call: result of choose: a_close b_open
	return sum;
}

// A call that is compared first is direct; what is left is not.
int compared(struct dev *d)
{
	int (*f)(struct dev *) = d->ops->open;

	if (f == a_open)
		return a_open(d); //~ call: nothing
	return f(d); //~ call: struct dev_ops.open: a_open b_open
}
