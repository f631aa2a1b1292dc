// SPDX-License-Identifier: GPL-2.0-or-later
// What the files that call libslurm share; nobody else.
#ifndef VCD_SLURMCTL_INT_H
#define VCD_SLURMCTL_INT_H

#include <pthread.h>

#include "vcd/slurmctl.h"

// libslurm caches its configuration behind its own lock; ours keeps two workers from interleaving a load of the
// configuration with a call that uses it.
struct slurmctl {
	pthread_mutex_t lock;
};

#endif
