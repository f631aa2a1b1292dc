// SPDX-License-Identifier: GPL-2.0-or-later
// Placement for the greatest minimum yield: items with a CPU need and a rigid memory need on hosts (GRAAL, DFRS).
//
// The yield of an item is the CPU it gets divided by what it needs, at most 1. On a host all items get the same yield. The
// problem is strongly NP-hard; this is a heuristic: for a yield tried by bisection, items are packed as two-dimensional
// vectors in several orders onto hosts chosen in several ways; then moves and exchanges improve the worst host. Pure;
// equal seeds give equal results.
#ifndef VCD_ELASTIC_PACKER_H
#define VCD_ELASTIC_PACKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"

#define PACKER_YIELD_MAX 1000 // yields are permille

struct packer_item {
	int64_t need, mem;
};
struct packer_host {
	int64_t cpu, mem;
};
struct packer_case {
	const struct packer_item *items;
	size_t n_items;
	const struct packer_host *hosts;
	size_t n_hosts;
};

// The least yield of a placement (item -> host); -1 when a host's memory is exceeded.
int64_t packer_least_yield(const struct packer_case *c, const uint32_t *at);
// *ret_yield: -1 when no placement was found that memory allows. -1: out of memory.
int packer_place(const struct packer_case *c, uint64_t seed, uint32_t *at, int64_t *ret_yield, struct vc_error *err);

#endif
