// SPDX-License-Identifier: GPL-2.0-or-later
// The image's file system while it is built: out/root.raw, mounted at tree/ with the sandbox's ids.
//
// It comes to be once, from a directory tree, or as a copy of a parent's; after that it only grows in place, so that
// blocks which did not change stay where they are. The kernel mounts it (a loop device, without journal): only our
// own mke2fs and that kernel have ever written to it, no user's bytes are taken for a file system. Nothing is left
// mounted when vc-build ends in any way: the mount is in its own namespace, the loop device detaches itself.
#ifndef CMD_BUILD_DISK_H
#define CMD_BUILD_DISK_H

#include "cmd/build/run.h"

#define DISK_RAW "out/root.raw"
#define DISK_ROUND (1ull << 20) // sizes are multiples of this, and so of a chunk

struct disk {
	uint64_t size; // bytes of the file system; 0: there is none yet
	bool mounted;
};

// From tree/: a new file system of this size. uuid makes two builds of one recipe alike.
int disk_make(struct disk *d, struct run_env *env, uint64_t size, uint64_t files, const char *uuid, struct vc_error *err);
// A copy of a parent's: by reflink where the file system can, else its data, holes stay holes.
int disk_copy(struct disk *d, const char *parent, struct vc_error *err);
// The same of a file system that a user brought: it is never mounted here.
int disk_import(struct disk *d, int fd, uint64_t max_bytes, struct vc_error *err);
int disk_mount(struct disk *d, struct vc_error *err);
// Flushes, makes holes of what is free, unmounts. An error of the disk below is one here.
int disk_unmount(struct disk *d, struct vc_error *err);
// At least this size; unmounts and mounts again if needed.
int disk_grow(struct disk *d, struct run_env *env, uint64_t size, struct vc_error *err);
// Of the mounted file system.
int disk_usage(const struct disk *d, uint64_t *ret_used, uint64_t *ret_free, uint64_t *ret_files, struct vc_error *err);
// A copy for the cache, owned by root.
int disk_snapshot(const struct disk *d, const char *to, struct vc_error *err);
// To root.raw in the work directory, owned by root; the disk is gone then.
int disk_take(struct disk *d, uint64_t *ret_bytes, struct vc_error *err);
void disk_drop(struct disk *d); // unmounts, whatever is in it

#endif
