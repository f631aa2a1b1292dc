// SPDX-License-Identifier: GPL-2.0-or-later
/* libvcluster: read the membership view of the virtual cluster that this process runs in.
 *
 * The view is one memory-mapped file (/run/vcluster/view), written by the guest's agent and never replaced. Reading it
 * makes no system call and takes no lock, and a writer that died in the middle of a change never blocks a reader.
 *
 * Errors: functions that return int give -1 and set errno, those that return a pointer NULL and errno:
 *   EAGAIN    the view changed during every one of a bounded number of attempts (practically: the writer runs wild)
 *   EPROTO    the file is not a view, or holds impossible numbers
 *   ENOTSUP   the file's layout is of a later version than this library
 *   ENOENT    no such file, rank or member
 *   ESTALE    vcluster_next(): the epoch asked for is no longer the current one
 *   ETIMEDOUT vcluster_wait(): no newer epoch within the limit
 * What a failed call was to copy out is undefined.
 *
 * Threads: one struct vcluster may be used by any number of threads at once; only vcluster_close() needs that no other
 * call is under way. Signals: all functions but vcluster_open(), vcluster_close() and vcluster_fd() are
 * async-signal-safe. After fork() the child may go on using the object; the descriptor of vcluster_fd() is then
 * shared with the parent, so a child that polls opens its own object.
 */
#ifndef VCLUSTER_H
#define VCLUSTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VCLUSTER_VIEW_PATH "/run/vcluster/view"

/* A member is usable by a launcher while it is joining or active. */
enum vcluster_state {
	VCLUSTER_JOINING = 0,
	VCLUSTER_ACTIVE = 1,
	VCLUSTER_LEAVING = 2, /* announced: start nothing new there */
	VCLUSTER_GONE = 3     /* left or failed; its rank is never given to another member */
};

enum vcluster_flag {
	VCLUSTER_AGENT_LOST = 1 /* its host's daemon is away for now: it runs, but nobody manages it */
};

struct vcluster_member {
	uint32_t rank; /* 0.., never reused within a cluster */
	uint32_t state;	       /* enum vcluster_state */
	uint64_t incarnation;  /* 1.., grows when the member comes back after a failure */
	uint32_t slots;	       /* MPI ranks it is meant to take */
	uint32_t flags;	       /* of enum vcluster_flag; ignore those you do not know */
	char name[72];	       /* resolves in every member; at most 64 bytes, ends with a zero byte as all strings here */
	char addr[48];	       /* numeric address on the cluster's own network */
	char site[72];
	char host[256]; /* Slurm's node name of the host */
};

struct vcluster_info {
	uint64_t epoch;	  /* number of the view, 1..; 0: none published yet */
	uint32_t job;	  /* Slurm's job id */
	uint32_t members; /* entries of the view, those that are gone included */
	uint32_t size;	  /* of them joining or active */
	uint32_t reserved; /* 0 */
	char cluster[40]; /* 32 hex digits, random per incarnation of the job */
	char digest[72];  /* 64 hex digits, SHA-256 of the view's canonical form: equal digests, equal views */
};

struct vcluster;

/* Maps the view. path NULL: $VCLUSTER_VIEW, or VCLUSTER_VIEW_PATH when that is not set. */
struct vcluster *vcluster_open(const char *path);
/* NULL is allowed; errno is kept. */
void vcluster_close(struct vcluster *v);

/* The epoch of the current view; 0 when none is published or it cannot be read (errno says which: 0 or an error). */
uint64_t vcluster_epoch(const struct vcluster *v);
/* Members joining or active, or -1. */
int vcluster_size(const struct vcluster *v);
/* The most entries that a view of this cluster can ever have; constant while v is open. */
uint32_t vcluster_capacity(const struct vcluster *v);
int vcluster_info(const struct vcluster *v, struct vcluster_info *ret);

/* Copies one member out of the current view. A member that is gone is found as well: look at its state. */
int vcluster_member_by_rank(const struct vcluster *v, uint32_t rank, struct vcluster_member *ret);
/* Walks the entries of one epoch in the order of ranks: *cursor starts at 0. 1: one was copied; 0: the end; -1: error,
 * ESTALE when the current view is no longer of that epoch. */
int vcluster_next(const struct vcluster *v, uint64_t epoch, uint32_t *cursor, struct vcluster_member *ret);
/* Copies the whole view, consistent in itself: its head to *ret_info (may be NULL) and up to n members. Returns the
 * number of entries of the view: when it is more than n, members holds the first n. */
int vcluster_copy_view(const struct vcluster *v, struct vcluster_info *ret_info, struct vcluster_member *members, size_t n);

/* Waits until the current epoch is higher than `epoch` and returns 0. timeout_ms: 0 only looks, negative waits without
 * a limit. A signal ends the wait with EINTR. Of processes in the same guest any number may wait. */
int vcluster_wait(const struct vcluster *v, uint64_t epoch, int timeout_ms);
/* A descriptor that poll() reports readable after each publication. Open it, then read the epoch, then poll. It stays
 * readable until vcluster_fd_clear(), and belongs to v. Costs one inotify instance per object. */
int vcluster_fd(struct vcluster *v);
int vcluster_fd_clear(struct vcluster *v);

/* 1: the host has not confirmed the view in time (cut off from the primary part of the cluster, or its daemon is
 * gone), so that others may have gone on to a later epoch; 0: it is confirmed; -1: error. Two clock reads at most. */
int vcluster_stale(const struct vcluster *v);

/* Asks for a cluster of that many hosts, and returns when the host's daemon has been asked. What comes of it is seen in later
 * views: further hosts need a job in Slurm's queue, hosts that go are LEAVING first. vcctl events says why nothing came.
 * EACCES: not the job's owner nor root; EBUSY: this machine is not configured yet; EINVAL: hosts is 0 or above 4096. */
int vcluster_resize(const struct vcluster *v, uint32_t hosts);

#ifdef __cplusplus
}
#endif
#endif
