// SPDX-License-Identifier: GPL-2.0-or-later
// The host role of vcd: the shares of this host, its hypervisor, and the methods host.*, share.release, task.attach.
//
// Owns the hypervisor connection, the table of shares, what it knows of failed clusters, and the answer to "which
// machine do guests get here" (kernel, initramfs, KVM or not), found once after the start. Everything on the loop thread.
#ifndef VCD_HOST_H
#define VCD_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "vcd/plan.h"
#include "vcd/sharework.h"

struct host;
struct hv;
struct share;
struct vcd;

#define HOST_FAILURES_MAX 256 // failed clusters that are remembered; the controller knows the others
#define HOST_RELEASED_MAX 256 // released clusters that are remembered, so that a late host.prepare is refused
#define HOST_PROBE_MS 20000   // a kernel that boots under KVM needs two seconds on a loaded host
#define HOST_POLL_MS 10000    // between two looks at libvirt's list: finds what an event did not tell

// After state, rpc, peers, work, check and images. Starts to take back what an earlier vcd left.
struct host *host_create(struct vcd *vcd, struct vc_error *err);
void host_stop(struct host *h);	   // closes handles; guests are left running
void host_destroy(struct host *h); // after the loop has run dry

struct hv *host_hv(struct host *h);

// --- for share ---
struct vcd *host_vcd(struct host *h);
// The machine is known: 0, *ret borrowed until the host ends. Being found out: 1, share_machine_ready() follows. -1: it
// cannot be found; the next call tries again.
int host_machine(struct host *h, const struct sharework_machine **ret, struct vc_error *err);
void host_share_gone(struct host *h, struct share *s); // released completely: the host frees it
bool host_has_steps(const struct host *h, const struct plan *plan); // tasks of the job are attached here
void host_member_event(struct host *h, const struct plan *plan, uint32_t rank, const char *event, const char *reason);
void host_resize(struct host *h, const struct plan *plan, uint32_t hosts); // a guest asks, in its owner's name

// --- for task ---
int host_require_ready(struct host *h, struct vc_error *err); // VC_EBUSY while the state of an earlier vcd is taken back
struct share *host_find_job(struct host *h, uint32_t job);
// Why there is no cluster: what host.fail said. NULL: nothing known.
const char *host_failure(struct host *h, uint32_t job, uint32_t restart, uid_t *ret_uid);

#endif
