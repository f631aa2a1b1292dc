// SPDX-License-Identifier: GPL-2.0-or-later
// The one writer of a mapped view (vcguestd); not installed. layout.h states why readers never wait for it.
//
// Owns the file's writable mapping and a descriptor. One writer per file at a time: the caller sees to that, as PID 1
// of a guest does by nature. A writer that follows one that was killed adopts the file with what it holds.
#ifndef LIBVCLUSTER_WRITER_H
#define LIBVCLUSTER_WRITER_H

#include <stdint.h>

#include "libvc/error.h"

#define VCLUSTER_VALID_ALWAYS UINT64_MAX // valid_until of a view that no one renews

struct view;
struct vcluster_writer;

// Creates the file (0644, appears complete under its name) for views of up to `capacity` members, or adopts an existing
// one of the same layout and capacity. Any other existing file is an error: readers may have it mapped.
struct vcluster_writer *vcluster_writer_create(const char *path, uint32_t capacity, struct vc_error *err);
// Destroys the object; the file stays.
void vcluster_writer_destroy(struct vcluster_writer *w);

// Makes a sealed view the current one and wakes those who wait. valid_until: CLOCK_BOOTTIME of this guest in ns, from
// then on readers see the view as stale. The current epoch again with the same digest only renews valid_until; a lower
// epoch, the same with another digest, another cluster, or more members than the capacity are refused.
int vcluster_writer_publish(struct vcluster_writer *w, const struct view *view, uint64_t valid_until, struct vc_error *err);
void vcluster_writer_renew(struct vcluster_writer *w, uint64_t valid_until);
uint64_t vcluster_writer_epoch(const struct vcluster_writer *w);

#endif
