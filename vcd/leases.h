// SPDX-License-Identifier: GPL-2.0-or-later
// The leases of the controller's clusters: runs the pure book of vcd/elastic on the loop, with slurmctld and the clusters.
//
// Owns the book, its row in the state database, and what is under way for it. Everything that the book wants done is saved before
// it is done; a restarted controller loads the book, looks at slurmctld's list, and only then submits. Looks at slurmctld while
// there are leases, and at once when a job's prolog, epilog or step says that something changed. Times in the book are wall
// clock: they are compared with Slurm's. Loop thread only.
#ifndef VCD_LEASES_H
#define VCD_LEASES_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"
#include "libvc/spec.h"

struct leases;
struct vcd;

struct leases *leases_create(struct vcd *vcd, struct vc_error *err); // after clusters; registers the methods lease.* and cluster.resize
void leases_stop(struct leases *l);
void leases_destroy(struct leases *l);

#endif
