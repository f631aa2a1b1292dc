// SPDX-License-Identifier: GPL-2.0-or-later
// The hypervisor of this host, through libvirt; the only file that includes it.
//
// The functions are synchronous: call them in workers of the pool WORK_HV, whose deadline covers a libvirtd that hangs.
// Domains are transient (virDomainCreateXML): libvirtd keeps them over its own restart in /run, a restarted vcd finds
// them by their metadata, and after a power loss nothing of them is left to be cleaned up.
// A libvirtd that is restarted costs no call: what was under way is looked up and done again on a new connection. The
// loop hears of the loss (HV_LOST); hv_list() then tells what was missed.
#ifndef VCD_HV_H
#define VCD_HV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "libvc/error.h"
#include "libvc/limits.h"
#include "vcd/movepolicy.h"

#define HV_DOMAIN_PREFIX "vc-" // of the names of members' domains
#define HV_PROBE_DOMAIN "vc-probe"
#define HV_PATIENCE_MS 30000 // hv_set_patience(); a libvirtd that is restarted is back within seconds

struct hv;

enum hv_mode { HV_AUTO, HV_KVM, HV_TCG }; // vcd.conf's `hypervisor`

struct hv_domain {
	char name[VC_NAME_MAX + 1];
	bool running;
	bool ours; // carries our metadata; the fields below are filled then
	char cluster[33];
	char slurm[VC_NAME_MAX + 1];
	uint32_t job, restart, rank;
	uid_t uid;
};

// What happened to a domain of ours; delivered on the loop thread.
// HV_LOST: to libvirtd itself, domain is "".
// HV_PAUSED: also when a migration brought it and it waits for leave to run, and when post-copy has stopped it at its source.
// HV_TORN: a post-copy failed.
enum hv_event { HV_STARTED, HV_PAUSED, HV_TORN, HV_STOPPED, HV_CRASHED, HV_LOST };
typedef void (*hv_event_fn)(void *ctx, const char *domain, enum hv_event event, const char *reason);

// Starts libvirt's event thread; no connection is made yet. fn may be NULL (no events, loop may be NULL).
struct hv *hv_create(const char *uri, uv_loop_t *loop, hv_event_fn fn, void *ctx, struct vc_error *err);
// Ends event delivery and closes the loop's handle; call before the loop's last turns.
void hv_stop(struct hv *hv);
void hv_destroy(struct hv *hv); // after the loop has run dry

const char *hv_uri(const struct hv *hv);
// test:///: domains are records, there are no guests, disks and networks.
bool hv_is_fake(const struct hv *hv);
// Whether libvirt can cap a domain's memory: there is a memory cgroup controller, and root may raise limits.
bool hv_can_cap_memory(void);

// How long hv_start() and hv_version() wait for a libvirtd that is away; the other calls try one new connection.
void hv_set_patience(struct hv *hv, uint64_t ms);

// Starts the domain; one of that name that runs is what an earlier try made. Once *ending (may be NULL) is set, nothing
// is started any more.
int hv_start(struct hv *hv, const char *name, const char *xml, const atomic_bool *ending, struct vc_error *err);
// Ends the domain at once; one that does not exist is no error.
int hv_kill(struct hv *hv, const char *name, struct vc_error *err);
// Stops a domain's processors, or lets one go on that was stopped so. What is in that state already is no error.
int hv_pause(struct hv *hv, const char *name, bool pause, struct vc_error *err);
// What a running domain has used. Asks no monitor, which a hung QEMU would not answer. VC_ENOTFOUND: it does not run.
struct hv_usage {
	uint64_t cpu_ms;
	uint64_t rss_kib, peak_kib; // memory of its QEMU now, and at most; 0: unknown
};
int hv_usage(struct hv *hv, const char *name, struct hv_usage *ret, struct vc_error *err);
int hv_version(struct hv *hv, unsigned long *ret, struct vc_error *err); // of the hypervisor
// All domains whose name starts with HV_DOMAIN_PREFIX. Free *ret with free().
int hv_list(struct hv *hv, struct hv_domain **ret, size_t *ret_n, struct vc_error *err);

// Whether KVM truly boots a kernel here: a domain of type kvm must bring it to the end of its initialisation within
// limit_ms. The answer is kept in state_dir under the host's kernel, QEMU's version and the guest kernel's path.
struct hv_probe {
	const char *kernel;
	const char *state_dir; // of the remembered answer
	const char *run_dir;   // of the probe's console log, readable by QEMU's user
	uint64_t limit_ms;
};
int hv_probe(struct hv *hv, const struct hv_probe *probe, bool *ret_kvm, struct vc_error *err);
// The rate of this host's time-stamp counter in kHz, which is an emulated machine's as well; 0: not known. Takes HV_TSC_MS.
uint32_t hv_tsc_khz(void);

// --- hvmeasure.c ---

struct hv_memory {
	uint64_t touched;    // bytes: what the guest has ever written
	uint64_t dirty_rate; // bytes a second, now
};
// Takes a second, and what QEMU needs to compare. After an error dirty_rate is 0.
int hv_measure(struct hv *hv, const char *name, struct hv_memory *ret, struct vc_error *err);

// --- hvstats.c ---

struct hv_stats { // of one running domain
	char name[VC_NAME_MAX + 1];
	uint64_t cpu_ms;    // used since it started
	uint64_t delay_ms;  // that its processors waited for one of the host's
	uint64_t dirty_mib; // of its memory in a second, as last measured; 0: not measured
};
// Of all members' domains, in one call. Free *ret with free().
int hv_stats(struct hv *hv, struct hv_stats **ret, size_t *ret_n, struct vc_error *err);

struct hv_cpu { // thousandths of CPUs
	uint32_t weight; // against the other domains of the host
	uint32_t cap;	 // at most so much; 0: no cap
};
// One that does not run is no error.
int hv_set_cpu(struct hv *hv, const char *name, const struct hv_cpu *cpu, struct vc_error *err);

// --- hvmigrate.c: to another host's libvirtd, over unix sockets that somebody relays ---

struct hv_migration {
	const char *name;
	const char *xml;	// the domain as the target would start it
	const char *libvirt;	// sockets here that end at the target's libvirtd, its QEMU's memory and its QEMU's disks
	const char *memory, *disk;
	enum move_policy policy;
	uint64_t bandwidth_mib; // a second; 0: no limit
	uint64_t downtime_ms;	// QEMU stops the guest when the rest is expected to take no longer
};
// Blocks until the domain is at the target, where it does not run yet, and gone from here (0), or goes on here (-1). By post-copy
// it runs there long before. After an error hv_settle() knows where it is.
int hv_migrate(struct hv *hv, const struct hv_migration *m, struct vc_error *err);

struct hv_progress {
	bool active;
	uint64_t total, processed, remaining;	   // bytes of memory
	uint64_t iteration, dirty_rate;		   // bytes of memory a second
	uint64_t elapsed_ms, downtime_ms;
};
int hv_progress(struct hv *hv, const char *name, struct hv_progress *ret, struct vc_error *err); // of a migration under way
int hv_progress_done(struct hv *hv, const char *name, struct hv_progress *ret, struct vc_error *err); // at the target, once
int hv_force_end(struct hv *hv, const char *name, struct vc_error *err); // of the pre-copy: the guest is stopped for the rest
// Of one by post-copy: it is to run at its target from now on.
int hv_switch(struct hv *hv, const char *name, struct vc_error *err);
// Whether that has been done: the domain here has stopped, and never runs again, whatever happens to the migration.
int hv_has_switched(struct hv *hv, const char *name, bool *ret, struct vc_error *err);
// Ends a migration that nobody leads any more. *ret_here: the domain is still here, and goes on. Post-copy has no such end: the
// domain has left.
int hv_settle(struct hv *hv, const char *name, bool *ret_here, struct vc_error *err);
// Whether a domain that is being migrated from here has stopped for that.
int hv_is_stopped(struct hv *hv, const char *name, struct vc_error *err);
// Kills the domain's QEMU, without libvirt: it never runs again, whatever libvirt is at.
int hv_kill_process(const char *name, struct vc_error *err);
// A domain that came: HV_COMPLETE: all of it is here; HV_RUN: the same, and it runs from now on; HV_RUNS: libvirt lets it run, by
// post-copy. VC_ENOTFOUND: it is not there; VC_EBUSY: not yet. *ret_torn: it came by post-copy, that failed since, and it never is
// complete.
enum hv_arrival { HV_COMPLETE, HV_RUN, HV_RUNS };
int hv_arrive(struct hv *hv, const char *name, enum hv_arrival what, bool *ret_torn, struct vc_error *err);

#endif
