// SPDX-License-Identifier: GPL-2.0-or-later
// The libraries that ranks of MPI are started with, built into this program and placed in VC_GUEST_DIR where the image has an
// MPI library that may need them: guest/vcmpich.c, so that MPI_Finalize of MPICH ends; guest/vcidle.c, so that waiting ranks of
// machines that share CPUs leave them to each other.
#ifndef GUEST_PRELOAD_H
#define GUEST_PRELOAD_H

#include <stdbool.h>

#include "libvc/error.h"

#define PRELOAD_DIR VC_GUEST_DIR "/lib"

struct preload {
	bool mpich, openmpi; // the image has it
};

// Once, with the guest's root in place.
int preload_place(struct preload *ret, struct vc_error *err);
// What LD_PRELOAD is to be, or NULL. shared_cpus: this machine's processors have no CPUs of their own.
const char *preload_value(const struct preload *p, bool shared_cpus);

#endif
