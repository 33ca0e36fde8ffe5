/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the check library, the generated tables, the loader and the guard agree
 * on. crates/artifact/src/abi.rs mirrors it; a test compares the two.
 */
#ifndef OTF_ABI_H
#define OTF_ABI_H

#include <linux/types.h>

#define OTF_MAX_PLACES		64	/* per legal set; policygen widens beyond */
#define OTF_MAX_GLOBALS		32	/* per legal set; likewise */
#define OTF_MAX_FRAMES		8	/* nested gates on one stack */
#define OTF_MAX_TEXTS		256	/* ranges of a compartment's code */
#define OTF_TEXT_STEPS		9	/* that find one of them, halving */
#define OTF_ALLOC_WORDS		8	/* allocation sites per bundle: 64 times this */
#define OTF_MAX_PASSED		8	/* per legal set; policygen widens beyond */
#define OTF_MAX_NOTES		8	/* entries noted on one stack */
#define OTF_ARGUMENTS		6	/* registers that hold arguments */
#define OTF_MAX_NAME_WORDS	9	/* of how names of a private heap's caches begin */
#define OTF_GATE_WORDS		4	/* gates that a set can name: 64 times this */
#define OTF_FILTER_SLOTS	65536	/* of remembered objects; the guard knows it too */
#define OTF_NO_INSTANCE		0xff
#define OTF_POINTER_AX		1	/* otf_site.pointer */
#define OTF_CACHE_GENERAL	0xffff	/* otf_place.cache: any kmalloc cache */
#define OTF_CACHE_ANY		0xfffe	/* dedicated cache whose name is unknown */
#define OTF_CACHE_NONE		0xfffd	/* not from a slab: pages, vmalloc */

enum otf_action { OTF_AUDIT, OTF_KILL, OTF_DENY };
enum otf_phase { OTF_TRANSITION, OTF_WORKING };
enum otf_stack { OTF_STACK_NONE, OTF_STACK_OWN, OTF_STACK_COMPARTMENT, OTF_STACK_ANY };
enum otf_length { OTF_LENGTH_CONSTANT, OTF_LENGTH_CX, OTF_LENGTH_DX, OTF_LENGTH_SI };
#define OTF_LENGTH_LEADER	0x80	/* under deny other sites rely on this check: left out alone it does not prevent them */

enum otf_site_flags {
	OTF_SITE_FREE = 1,	/* a call that frees; the operand is the object */
	OTF_SITE_PERCPU = 2,	/* operand goes through gs */
	OTF_SITE_RETURNS_DI = 4,	/* skipped call would have returned its first argument */
	OTF_SITE_RETURNS_LENGTH = 8,	/* skipped call would have returned what it did not copy */
	OTF_SITE_FRAME = 16,	/* frame_size is known */
	OTF_SITE_SKIP_ZF = 32,	/* left out, a compare-and-exchange must look successful */
	OTF_SITE_SKIP_CF = 64,	/* left out, a bit test must look as if the bit had been clear */
	OTF_SITE_TAIL = 128,	/* a call by a jump: left out, the function returns */
};

enum otf_call_flags {
	OTF_CALL_WEAK = 1,	/* not every legal target is known: any entry of a function will do */
	OTF_CALL_TAIL = 2,	/* as OTF_SITE_TAIL */
};

enum otf_legal_flags {
	OTF_LEGAL_ANY_HEAP = 1,
	OTF_LEGAL_ANY_GLOBAL = 2,
	OTF_LEGAL_PERCPU = 4,
	OTF_LEGAL_USER = 8,
	OTF_LEGAL_TRACKED = 16,	/* some of its places ask for provenance */
};

struct otf_site {
	__s64 displacement;
	__u32 legal;		/* row of otf_legal */
	__u32 size;		/* bytes, or factor of the length register */
	__u32 frame_size;	/* sp + this = slot of the return address */
	__u16 shape;		/* case of otf_effective_address */
	__u8 length;		/* enum otf_length | OTF_LENGTH_LEADER */
	__u8 flags;		/* enum otf_site_flags */
	__u8 insn_len;
	__u8 action;		/* most severe action that the policy allows here */
	__u16 symbol;		/* 1 + row of otf_globals whose start is added to the operand, 0: none */
	__u16 gates;		/* 1 + row of otf_gate_sets, 0: none */
	/* words below the return address that only the function's first instructions write: */
	__u8 saved;		/* registers of the caller, directly below it */
	__u8 canary;		/* how far below the stack protector's value lies, 0: nowhere */
	__u8 pointer;		/* OTF_POINTER_AX + DWARF's number of the register that points to the structure meant, 0: none */
	__u8 release;		/* RCU read sides | times bottom halves were disabled << 4: given back by the unwinding to: */
	__u16 release_gates;	/* 1 + row of otf_gate_sets, 0: none */
	__u8 pad[4];
};

struct otf_gate_set {		/* bit per gate; what can be held was acquired before these */
	__u64 gates[OTF_GATE_WORDS];
};

struct otf_legal {
	__u32 first_place, places;	/* rows of otf_places */
	__u32 first_global, globals;	/* rows of otf_global_rows */
	__u32 first_passed;		/* rows of otf_passed_objects */
	__u8 passed;			/* how many */
	__u8 otherwise;			/* enum otf_stack where none of them was noted */
	__u8 stack;			/* enum otf_stack */
	__u8 flags;			/* enum otf_legal_flags */
};

struct otf_passed {		/* what an argument of a function points to */
	__u32 function;		/* cookie of the note at its entry */
	__u32 size;		/* bytes */
	__u32 argument;		/* register, from 0 */
};

struct otf_place {
	__u64 offset;
	__u64 stride[2];	/* outermost first; 0 where there is no dimension */
	__u64 count[2];		/* 0: as many as the object holds */
	__u64 size;
	__u64 object_min, object_max;	/* of the object as allocated; max 0: no bound */
	__u64 allocations[OTF_ALLOC_WORDS];	/* bit per allocation site; all 0: not tracked */
	__u32 cache;		/* row of otf_caches, or OTF_CACHE_* */
	__u32 pad;
};

struct otf_gate {
	__s64 refusal;
	__u8 instance;		/* argument register, from 0, or OTF_NO_INSTANCE */
	__u8 pad[7];
};

struct otf_call {		/* an indirect call or jump */
	__s64 displacement;
	__u32 targets;		/* set in otf_targets */
	__u16 shape;		/* case of otf_effective_address */
	__u16 symbol, gates;	/* as in struct otf_site */
	__u8 memory;		/* the target stands in memory at that address; otherwise it is the address */
	__u8 insn_len;
	__u8 action;		/* as in struct otf_site */
	__u8 flags;		/* enum otf_call_flags */
	__u8 pad[2];
};

struct otf_return {		/* a return of a function that is a gate */
	__u32 gate;		/* row */
	__u8 action;		/* as in struct otf_site */
	__u8 pad[3];
};

struct otf_alloc {
	__u64 size;		/* constant size, or 0 */
	__u8 size_arg;		/* argument register of the size, 0xff: none */
	__u8 count_arg;		/* argument register to multiply with, 0xff: none */
	__u8 is_order;		/* the argument is a page order */
	__u8 pad[5];
};

struct otf_name_word { __u64 word, mask; };	/* eight bytes of a name, and which of them count */

/* map values */
struct otf_range { __u64 start, end; };

struct otf_state {		/* otf_state[0]; filled by otf_setup and otf-load */
	__u32 phase;		/* enum otf_phase */
	__u32 action;		/* enum otf_action */
	__u64 page_offset, vmemmap, vmalloc_start, vmalloc_end, kernel_map;
	__u64 kfence;		/* start of the KFENCE pool, 0: none */
	__u32 texts;
	__u32 endbr;		/* functions that are called indirectly begin with endbr64 */
	struct otf_range text[OTF_MAX_TEXTS];	/* compartment's code, sorted */
};

struct otf_object { __u64 start, size; __u32 alloc, pad; };

struct otf_target { __u64 address; __u32 set, pad; };	/* key of otf_targets */

struct otf_frame {		/* a gate that was entered */
	__u64 sp;		/* at the first instruction: points to the return address */
	__u64 ret;		/* the return address */
	__u64 bx, bp, r12, r13, r14, r15;
	__u64 flags;
	__u64 instance;
	__u64 refusal;
	__u32 gate, pad;
};

struct otf_note {		/* a function whose arguments point to objects on stacks */
	__u64 sp, ret;		/* as in struct otf_frame */
	__u64 argument[OTF_ARGUMENTS];
	__u32 function, pad;	/* its cookie */
};

struct otf_notes {
	__u32 depth, pad;
	struct otf_note note[OTF_MAX_NOTES];
};

struct otf_frames {
	__u32 depth, pad;
	__u64 lost_sp;		/* outermost gate that found no room, or 0 */
	struct otf_frame frame[OTF_MAX_FRAMES];
};

struct otf_quarantine {
	__u64 object;		/* start of the heap object that holds the instance, or 0 */
	__u64 time;		/* bpf_ktime_get_boot_ns */
	__u64 refused;		/* entries refused since */
	__u32 site, gate;	/* rows */
};

enum otf_class {
	OTF_CLASS_USER, OTF_CLASS_STACK, OTF_CLASS_GLOBAL, OTF_CLASS_PERCPU, OTF_CLASS_SLAB,
	OTF_CLASS_PAGES, OTF_CLASS_VMALLOC, OTF_CLASS_OTHER,
};

enum otf_reason {
	OTF_OK,
	OTF_UNKNOWN,		/* fits, but has no provenance */
	OTF_BAD_CLASS,		/* this class is never legal here */
	OTF_BAD_GLOBAL,		/* another global, read-only data, code */
	OTF_BAD_STACK,		/* outside the frames that the stack rule allows */
	OTF_BAD_LAYOUT,		/* no legal container has such a place */
	OTF_BAD_BOUNDS,		/* leaves the object */
	OTF_BAD_PROVENANCE,	/* object of another allocation site */
	OTF_FREED,		/* object was freed and not obtained again */
	OTF_BAD_ADDRESS,	/* not mapped, not canonical, wraps */
	OTF_BAD_TARGET,		/* of a call */
	OTF_BAD_RETURN,		/* not to where the gate was called from */
	OTF_BAD_FREE,		/* not the start of an object */
	OTF_OTHER_OBJECT,	/* not the object that the operand's pointer leads to */
};

enum otf_rule {			/* of heap objects: which one alone refuses a write */
	OTF_RULE_LAYOUT = 1,	/* class of size, offset, stride */
	OTF_RULE_PROVENANCE = 2,	/* allocation site, size asked for, whether it was freed */
	OTF_RULE_SAME_OBJECT = 4,	/* the object that the operand's pointer leads to */
};

enum otf_done {			/* what happened to a violation */
	OTF_DONE_REPORTED,
	OTF_DONE_KILLED,
	OTF_DONE_KILL_IMPOSSIBLE,	/* no task of its own: interrupt, kernel thread */
	OTF_DONE_UNWOUND,	/* not executed, unwound to the gate, instance quarantined */
	OTF_DONE_SKIPPED,	/* not executed; instance quarantined at the next gate */
	OTF_DONE_SKIPPED_ONLY,	/* not executed; no gate with an instance was noted, nothing quarantined */
	OTF_DONE_DENY_FAILED,	/* the guard could not: the write happened */
};

struct otf_event {
	__u64 time;		/* bpf_ktime_get_boot_ns */
	__u64 address, length;
	__u64 object, object_size;	/* 0 where there is none */
	__u64 instance;
	__u64 ip;
	__u32 site;		/* row: sites, then calls, then returns */
	__u32 gate;		/* row, or ~0 */
	__u32 alloc;		/* allocation site of the object, or ~0 */
	__u32 pid, tid, cpu;
	__u8 class, reason, done, phase;
	__u8 in_interrupt;
	__u8 rules;		/* enum otf_rule */
	__u8 pad[2];
	char comm[16];
	char cache[32];
};

enum otf_counter {
	OTF_COUNT_CHECKS,
	OTF_COUNT_VIOLATIONS,
	OTF_COUNT_UNKNOWN,
	OTF_COUNT_EVENTS_LOST,		/* ring buffer full */
	OTF_COUNT_RECORDS_LOST,		/* provenance not recorded: map full or busy */
	OTF_COUNT_FRAMES_LOST,		/* gate frame not noted */
	OTF_COUNT_NO_FRAME,		/* violation without a live gate frame */
	OTF_COUNT_DENY_FAILED,		/* the write happened although the action is deny */
	OTF_COUNT_KILL_IMPOSSIBLE,
	OTF_COUNT_REFUSED,		/* entries refused for a quarantined instance */
	OTF_COUNT_BAD_COOKIE,		/* a probe without a row: a bug */
	OTF_COUNT_WEAK,			/* allowed by any_heap, any_global or per-CPU alone */
	OTF_COUNT_QUARANTINE_FULL,	/* instance could not be quarantined */
	OTF_COUNT_RECORDS,		/* provenance records made */
	OTF_COUNT_NOTES_LOST,		/* entry of a function not noted: its objects are checked by the stack rule */
	OTF_COUNT_CALLS,		/* indirect calls checked */
	OTF_COUNT_WEAK_CALLS,		/* allowed because they lead to some function */
	OTF_COUNT_FREES,		/* frees checked; they are checks too */
	OTF_COUNT_RETURNS,		/* returns checked against a gate */
	OTF_COUNT_MAX,
};

struct otf_site_count { __u64 hits, violations, unknown; };

struct otf_cache {		/* otf_slab_caches: what otf_setup found */
	__u64 address;
	__u32 size, object_size;
	char name[56];
	char unique[56];	/* name of its folder under /sys/kernel/slab */
};

#endif
