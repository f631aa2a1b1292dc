// SPDX-License-Identifier: GPL-2.0-or-later
// On the controller: images go to the hosts on which Slurm plans to start queued jobs, before it starts them.
//
// slurmctld does not tell what image a queued job is to have; the plugin tells at its submission (image.want). So a want is
// a user, an image and a time, and stands for that user's queued jobs which were submitted then: the hosts that Slurm plans
// for them, or that they ask for by name, get the image along one chain. Slurm is asked at intervals that grow, only
// while there are such jobs. What is staged is a cached copy like any other: nothing is pinned on a host, nothing waits for it.
#ifndef VCD_PRESTAGE_H
#define VCD_PRESTAGE_H

#include <sys/types.h>
#include <time.h>

#include "libvc/error.h"

struct vcd;
struct store;
struct prestage;

struct prestage *prestage_create(struct vcd *vcd, struct store *store, struct vc_error *err);
void prestage_stop(struct prestage *p); // NULL is fine, here and below
void prestage_destroy(struct prestage *p);

// A job of this user that was submitted at `when` is to need this image, which is in the store.
void prestage_want(struct prestage *p, uid_t uid, const char *digest, time_t when);

#endif
