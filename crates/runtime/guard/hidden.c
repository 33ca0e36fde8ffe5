// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel does not export: how its code is changed and decoded. Found by
 * name, for which a kprobe asks; without it every probe stays a breakpoint.
 */
#include <linux/kprobes.h>
#include <linux/linkage.h>
#include <linux/mutex.h>
#include <linux/objtool.h>
#include <asm/insn.h>

#include "hidden.h"

static unsigned long otf_text_mutex, otf_kprobe_mutex, otf_text_poke, otf_text_poke_sync,
	otf_insn_decode, otf_get_kprobe;

/*
 * Calls fn by a return: what is called nowhere through a pointer has lost its
 * ENDBR, without which processors refuse an indirect call.
 */
unsigned long otf_call_hidden(unsigned long fn, unsigned long a, unsigned long b, unsigned long c,
			      unsigned long d);
asm(".text\n"
    ".type otf_call_hidden, @function\n"
    "otf_call_hidden:\n"
    "	push %rdi\n"
    "	mov %rsi, %rdi\n"
    "	mov %rdx, %rsi\n"
    "	mov %rcx, %rdx\n"
    "	mov %r8, %rcx\n"
    "	" ASM_RET
    ".size otf_call_hidden, . - otf_call_hidden\n");
STACK_FRAME_NON_STANDARD(otf_call_hidden);
NOKPROBE_SYMBOL(otf_call_hidden);

/* 0, or why code cannot be changed here */
int otf_hidden_find(void)
{
	static const struct { const char *name; unsigned long *address; } wanted[] = {
		{ "text_mutex", &otf_text_mutex },
		{ "kprobe_mutex", &otf_kprobe_mutex },
		{ "get_kprobe", &otf_get_kprobe },
		{ "text_poke", &otf_text_poke },
		{ "text_poke_sync", &otf_text_poke_sync },
		{ "insn_decode", &otf_insn_decode },
	};
	struct kprobe kp = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long lookup;
	int err, i;

	/* its interrupts and returns are hypercalls */
	if (boot_cpu_has(X86_FEATURE_XENPV))
		return -EOPNOTSUPP;
	err = register_kprobe(&kp);
	if (err)
		return err;
	lookup = (unsigned long)kp.addr;
	unregister_kprobe(&kp);
	for (i = 0; i < ARRAY_SIZE(wanted); i++) {
		*wanted[i].address = otf_call_hidden(lookup, (unsigned long)wanted[i].name, 0, 0, 0);
		if (!*wanted[i].address)
			return -ENOENT;
	}
	return 0;
}

/* no kprobe comes, goes, or is switched on or off meanwhile; before the text is locked */
void otf_kprobes_lock(void)
{
	mutex_lock((struct mutex *)otf_kprobe_mutex);
}

void otf_kprobes_unlock(void)
{
	mutex_unlock((struct mutex *)otf_kprobe_mutex);
}

/* locked; those that are switched off too: they have a copy of what stands there */
bool otf_kprobes_in(const u8 *start, const u8 *end)
{
	for (; start < end; start++)
		if (otf_call_hidden(otf_get_kprobe, (unsigned long)start, 0, 0, 0))
			return true;
	return false;
}

void otf_text_lock(void)
{
	mutex_lock((struct mutex *)otf_text_mutex);
}

void otf_text_unlock(void)
{
	mutex_unlock((struct mutex *)otf_text_mutex);
}

/* locked; no other CPU may see part of it unless it is one byte */
void otf_text_write(void *addr, const void *bytes, size_t size)
{
	otf_call_hidden(otf_text_poke, (unsigned long)addr, (unsigned long)bytes, size, 0);
}

/* locked; when it returns every CPU executes what was written */
void otf_text_sync(void)
{
	otf_call_hidden(otf_text_poke_sync, 0, 0, 0, 0);
}

bool otf_text_decode(struct insn *insn, const void *bytes, int size)
{
	return !(int)otf_call_hidden(otf_insn_decode, (unsigned long)insn, (unsigned long)bytes,
				     size, INSN_MODE_64);
}
