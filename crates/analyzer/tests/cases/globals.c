// Globals, per-CPU variables, read-only data, pointers to globals.
#include "kernel.h"

struct state {
	int x;
	struct list_head list;
};
static struct state mine;
static struct state *chosen = &mine;
static int counter;
extern int elsewhere;
static const int table[2] = { 1, 2 };
int percpu_hits __attribute__((section(".data..percpu")));
#define __seg __attribute__((address_space(256)))

void touch(int i)
{
	mine.x = 1; //~ write: store 4: global box:mine
	counter++; //~ write: store 4: global box:counter
	elsewhere = table[i]; //~ write: store 4: global vmlinux:elsewhere
	chosen->x = 2; //~ write: store 4: global box:mine
	percpu_hits = 3; //~ write: store 4: per-CPU global box:percpu_hits
	*(int __seg *)(unsigned long)&percpu_hits = 4; //~ write: store 4: per-CPU global box:percpu_hits
	*(int __seg *)(unsigned long)i = 5; //~ write: store 4: per-CPU
	INIT_LIST_HEAD(&mine.list); //~ pass: INIT_LIST_HEAD(global box:mine)
}
