// SPDX-License-Identifier: GPL-2.0-or-later
// Whether QEMU of this host may use userfaultfd, which post-copy needs: see movepolicy.h. Looks anew each time.
#ifndef VCD_UFFD_H
#define VCD_UFFD_H

#include <sys/types.h>

#include "vcd/movepolicy.h"

void uffd_look(uid_t qemu_uid, struct move_uffd *ret);

#endif
