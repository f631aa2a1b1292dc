// SPDX-License-Identifier: GPL-2.0-or-later
// The PMIx server of one member in one step: a libpmix server on the host, beside the member.
//
// The ranks in the member reach it through their vcexec; each rank's vc-pmix, which is Slurm's client, connects to its
// control socket and takes part for it in what concerns other members. Runs until all of those have gone.
#ifndef PMIX_SERVER_H
#define PMIX_SERVER_H

#include "cmd/pmix/step.h"
#include "libvc/error.h"

// step: borrowed. listener: a listening unix socket, taken.
int server_run(const struct step *step, uint32_t member, int listener, struct vc_error *err);

#endif
