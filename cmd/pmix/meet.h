// SPDX-License-Identifier: GPL-2.0-or-later
// How the ranks of a member find its PMIx server: a unix socket in the step's own directory on the host, which Slurm
// makes for the user alone and removes. The member's lowest rank makes it and starts the server.
#ifndef PMIX_MEET_H
#define PMIX_MEET_H

#include <stdint.h>

#include "cmd/pmix/ctl.h"
#include "cmd/pmix/step.h"
#include "libvc/error.h"

int meet_server(const struct step *step, uint32_t member, uint32_t rank, const char *dir, struct ctl *ret, struct vc_error *err);
// In the program that meet_server starts: what it was given on descriptors 0 (the step) and 3 (the socket).
#define MEET_LISTENER 3
int meet_read(struct step *ret, uint32_t *ret_member, struct vc_error *err);

#endif
