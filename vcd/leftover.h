// SPDX-License-Identifier: GPL-2.0-or-later
// What lies on this host without belonging to a cluster: domains, network links, directories with their sockets,
// overlays and mounts, job markers.
//
// The roster says which clusters are here; it is the one thing that loop and workers share, under a lock.
#ifndef VCD_LEFTOVER_H
#define VCD_LEFTOVER_H

#include <stdbool.h>

#include "libvc/error.h"

struct hv;
struct roster;

struct roster *roster_create(void);
void roster_destroy(struct roster *r);
int roster_add(struct roster *r, const char *cluster, struct vc_error *err); // its first 8 digits count
void roster_remove(struct roster *r, const char *cluster);
bool roster_has(struct roster *r, const char *short_id);

struct leftover_args {
	struct hv *hv;
	struct roster *roster;
	const char *run_dir, *state_dir;
	bool remove; // and log each; else only listed
};

// Blocking: for a worker (WORK_HV). *ret: "domain vc-01234567-0", NULL-terminated (vc_strv_free).
// What belongs to a cluster that came or went during the scan is not reported.
int leftover_scan(const struct leftover_args *args, char ***ret, struct vc_error *err);

#endif
