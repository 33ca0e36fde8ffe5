/* SPDX-License-Identifier: GPL-2.0-only */
/* Address and length of what an instruction writes. */
#ifndef OTF_OPERAND_H
#define OTF_OPERAND_H

#include "otf_state.h"
#include "otf_tables.h"

static __always_inline __u64 otf_length_of(struct pt_regs *ctx, const struct otf_site *site)
{
	switch (site->length & ~OTF_LENGTH_LEADER) {
	case OTF_LENGTH_CX: return OTF_REGISTER(ctx, cx) * site->size;
	case OTF_LENGTH_DX: return OTF_REGISTER(ctx, dx) * site->size;
	case OTF_LENGTH_SI: return OTF_REGISTER(ctx, si) * site->size;
	default: return site->size;
	}
}

/* address of the symbol in an operand such as array(,%rax,8), bound at load */
static __always_inline __u64 otf_symbol_of(__u16 symbol)
{
	__u32 row = symbol - 1;
	struct otf_range *r;

	if (!symbol)
		return 0;
	r = bpf_map_lookup_elem(&otf_globals, &row);
	return r ? r->start : 0;
}

static __always_inline __u64 otf_address_of(struct pt_regs *ctx, const struct otf_site *site)
{
	return otf_effective_address(ctx, site->shape) + site->displacement + otf_symbol_of(site->symbol);
}

#endif
