// SPDX-License-Identifier: GPL-2.0-or-later
// Blocking work in threads: two pools, so that a hung libvirt call blocks no build and no hashing, and the reverse.
//
// run() is called in a thread, done() on the loop thread exactly once (unless canceled), release() on the loop thread
// after both. At the deadline done() comes with VC_ETIMEDOUT while run() may still be going on: done() must then not
// touch what run() writes, and release() follows when run() returns (its thread is written off and replaced; when too
// many hang, work_submit() fails with VC_EHOST). So ctx belongs to the job: share nothing with run() but through ctx.
#ifndef VCD_WORK_H
#define VCD_WORK_H

#include <stdint.h>
#include <uv.h>

#include "libvc/error.h"

#define WORK_HUNG_MAX 32 // threads written off in one pool; each holds a stack and perhaps a libvirt connection

struct work;
struct work_job;

enum work_pool {
	WORK_GENERAL, // files, hashing, munge, children to wait for
	WORK_HV,      // libvirt
	WORK_POOLS,
};

struct work_args {
	enum work_pool pool;
	const char *what;     // "start domain vc-…": names the job in errors, copied
	uint64_t deadline_ms; // from submission; 0 is not allowed
	int (*run)(void *ctx, struct vc_error *err);
	void (*done)(void *ctx, const struct vc_error *err); // err is NULL after run() returned 0
	void (*release)(void *ctx);			     // may be NULL
	void *ctx;
};

struct work *work_create(uv_loop_t *loop, unsigned general_threads, unsigned hv_threads, struct vc_error *err);
// Cancels what has not started (done() gets VC_ECANCELED), waits at most grace_ms for the rest, closes the handles.
void work_stop(struct work *w, uint64_t grace_ms);
void work_destroy(struct work *w); // after the loop has run dry

// -1: VC_EBUSY (queue full), VC_EHOST (too many hung threads), ENOMEM; nothing is called then. ret_job may be NULL.
int work_submit(struct work *w, const struct work_args *args, struct work_job **ret_job, struct vc_error *err);
// done() is not called any more; release() is, when run() is not or no longer running.
void work_cancel(struct work_job *job);

struct work_stats {
	unsigned queued, running, hung;
};
struct work_stats work_stats(const struct work *w, enum work_pool pool);

#endif
