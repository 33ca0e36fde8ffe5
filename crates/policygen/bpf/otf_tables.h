/* SPDX-License-Identifier: GPL-2.0-only */
/* What policygen generates and links in: tables in .rodata, operand shapes as code. */
#ifndef OTF_TABLES_H
#define OTF_TABLES_H

#include "otf_abi.h"

struct pt_regs;

extern const struct otf_site otf_sites[];
extern const struct otf_legal otf_legals[];
extern const struct otf_place otf_places[];
extern const __u32 otf_global_rows[];
extern const struct otf_gate otf_gates[];
extern const struct otf_gate_set otf_gate_sets[];
extern const struct otf_alloc otf_allocs[];
extern const struct otf_call otf_calls[];
extern const struct otf_passed otf_passed_objects[];
extern const struct otf_return otf_returns[];
/* how the names of the private heap's caches begin, none where not all that it gives is recorded */
extern const struct otf_name_word otf_own_caches[];

extern const __u32 otf_nsites, otf_nlegals, otf_nplaces, otf_nglobal_rows, otf_ngates, otf_ngate_sets,
	otf_nallocs, otf_ncalls, otf_nreturns, otf_npassed_objects, otf_own_caches_count;

/*
 * base + index * scale (+ bit index) of an operand shape, without the displacement.
 * Always inlined; registers are read by inline assembly as OTF_REGISTER does.
 */
extern __u64 otf_effective_address(struct pt_regs *ctx, __u32 shape);

#endif
