// SPDX-License-Identifier: GPL-2.0-or-later
// The library that ranks of MPICH are started with, so that their MPI_Finalize ends: guest/vcmpich.c, built into this
// program, placed in VC_GUEST_DIR where the image has an MPICH that may need it.
#ifndef GUEST_PRELOAD_H
#define GUEST_PRELOAD_H

#include "libvc/error.h"

#define PRELOAD_DIR VC_GUEST_DIR "/lib"
#define PRELOAD_PATH PRELOAD_DIR "/vcmpich.so"

// Once, with the guest's root in place. *ret: what LD_PRELOAD is to be, or NULL where the image has no such MPICH.
int preload_place(const char **ret, struct vc_error *err);

#endif
