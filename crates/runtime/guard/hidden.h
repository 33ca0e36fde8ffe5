/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OTF_HIDDEN_H
#define OTF_HIDDEN_H

#include <linux/types.h>
#include <asm/insn.h>

/* hidden.c: what the kernel does not export */
int otf_hidden_find(void);
void otf_kprobes_lock(void);
void otf_kprobes_unlock(void);
bool otf_kprobes_in(const u8 *start, const u8 *end);
void otf_text_lock(void);
void otf_text_unlock(void);
void otf_text_write(void *addr, const void *bytes, size_t size);
void otf_text_sync(void);
bool otf_text_decode(struct insn *insn, const void *bytes, int size);

#endif
