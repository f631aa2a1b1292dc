// SPDX-License-Identifier: GPL-2.0-or-later
// One rank's part outside its member: a client of Slurm's PMIx server in the rank's name, and of its member's server.
//
// Its parent is the rank's vcexec, at the other end of `parent`: {name, token, layout} comes, {env, port} or {error}
// goes back, and when the parent hangs up the rank has ended. What members tell each other in fences travels as values
// of Slurm's clients: put by the lowest rank of each member, collected by Slurm's own fence, read by the same rank.
#ifndef PMIX_RANK_H
#define PMIX_RANK_H

#include "libvc/error.h"

int rank_run(int parent, struct vc_error *err);

#endif
