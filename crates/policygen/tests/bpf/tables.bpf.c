// SPDX-License-Identifier: GPL-2.0-only
/* Reads every generated table and every operand shape, from a syscall program that a test can run. */
#include "otf_kernel.h"
#include "otf_tables.h"

char LICENSE[] SEC("license") = "GPL";

/* the loader sets it: must stay visible beside the tables */
const volatile __u8 otf_with_guard = 0;

struct request {		/* the context */
	struct pt_regs regs;	/* at 0, as in a kprobe's context */
	__u64 shape, row, kind;
};

struct result { __u64 word[24]; };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct result);
} results SEC(".maps");

static __always_inline struct result *result(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&results, &zero);
}

enum { SITE, LEGAL, PLACE, GLOBAL, GATE, ALLOC, COUNTS, GATE_SET, CALL, RETURN };

SEC("syscall")
int address(struct request *r)
{
	struct result *out = result();

	if (!out)
		return -3;
	out->word[0] = otf_effective_address(&r->regs, r->shape);
	out->word[1] = otf_with_guard;
	return 0;
}

#define READ(table, count) do { \
	if (row >= count) \
		return -1; \
	__builtin_memcpy(out, &table[row], sizeof(table[0])); \
} while (0)

SEC("syscall")
int row(struct request *r)
{
	__u64 row = r->row;
	struct result *out = result();

	if (!out)
		return -3;

	switch (r->kind) {
	case SITE: READ(otf_sites, otf_nsites); break;
	case LEGAL: READ(otf_legals, otf_nlegals); break;
	case PLACE: READ(otf_places, otf_nplaces); break;
	case GATE: READ(otf_gates, otf_ngates); break;
	case ALLOC: READ(otf_allocs, otf_nallocs); break;
	case GATE_SET: READ(otf_gate_sets, otf_ngate_sets); break;
	case CALL: READ(otf_calls, otf_ncalls); break;
	case RETURN: READ(otf_returns, otf_nreturns); break;
	case GLOBAL:
		if (row >= otf_nglobal_rows)
			return -1;
		out->word[0] = otf_global_rows[row];
		break;
	case COUNTS:
		out->word[0] = otf_nsites;
		out->word[1] = otf_nlegals;
		out->word[2] = otf_nplaces;
		out->word[3] = otf_nglobal_rows;
		out->word[4] = otf_ngates;
		out->word[5] = otf_nallocs;
		out->word[6] = otf_ngate_sets;
		break;
	default:
		return -2;
	}
	return 0;
}
