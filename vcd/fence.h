// SPDX-License-Identifier: GPL-2.0-or-later
// Fencing of one share: what becomes of its machines when this host may no longer call their view valid.
//
// vcd.conf's `fencing`: mark (the view is stale, nothing else), suspend, destroy. While vcd runs it acts itself; run-dir/fence/<8>
// says to vc-fence, which runs while vcd does not, until when and what. docs/membership.md. Loop thread; libvirt in workers.
#ifndef VCD_FENCE_H
#define VCD_FENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/sharework.h"

struct fence;
struct vcd;

#define FENCE_DIR "fence"	// below run-dir
#define FENCE_LOCK "vc-fence.lock" // below run-dir: held by vc-fence
#define FENCE_WRITE_MS 1000u // the file is written again when its deadline has moved by so much
#define FENCE_RETRY_MS 2000u // after an action that failed
#define FENCE_AFTER_RESTART_MS 30000u // for a first confirmation, where an earlier vcd left no deadline: agree's validity
#define FENCE_FILE_MAX (64u << 10) // bytes; VC_VMS_PER_HOST_MAX names

// taken_back: machines run since before this vcd; what it promised holds, and they may have been suspended while it was away.
struct fence *fence_create(struct vcd *vcd, struct sharework *work, bool taken_back, struct vc_error *err);
// Now and then: how long the view is valid from now, 0: it is not. removed: the others go on without this host. paused: by
// Slurm, so that nothing is resumed.
void fence_set_work(struct fence *f, struct sharework *work); // members have moved
void fence_tick(struct fence *f, uint64_t valid_ms, bool removed, bool paused);
// forget: the share is over, vc-fence has nothing to watch; otherwise vcd stops. NULL is fine.
void fence_destroy(struct fence *f, bool forget);
bool fence_is_watched(const char *run_dir); // vc-fence runs on this host

#endif
