// SPDX-License-Identifier: GPL-2.0-or-later
// The greatest least yield, exactly: branch and bound over all placements, for small cases. What packer.h is measured by.
#ifndef CMD_VCSIM_EXACT_H
#define CMD_VCSIM_EXACT_H

#include "vcd/elastic/packer.h"

#define EXACT_ITEMS_MAX 16
#define EXACT_HOSTS_MAX 8

// Hosts are alike (the first one's capacities). Returns the yield in permille, -1 when memory allows no placement.
int64_t exact_yield(const struct packer_case *c);

#endif
