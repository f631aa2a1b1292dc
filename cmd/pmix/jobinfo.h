// SPDX-License-Identifier: GPL-2.0-or-later
// What a member's PMIx server knows of the step, as libpmix wants it registered: sizes, maps, and each rank's place.
#ifndef PMIX_JOBINFO_H
#define PMIX_JOBINFO_H

#include "cmd/pmix/step.h"
#include "libvc/error.h"

// Registers the step's namespace with libpmix (PMIx_server_init has been called), and the member's ranks as its clients,
// who must have this process's uid and gid.
int jobinfo_register(const struct step *s, uint32_t member, struct vc_error *err);

#endif
