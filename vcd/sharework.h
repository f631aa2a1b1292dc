// SPDX-License-Identifier: GPL-2.0-or-later
// The blocking half of a share: what its steps do in worker threads, and what must be known for that.
//
// struct sharework is filled once on the loop thread and then not changed but for what says so: workers read it without locks. It is counted
// there too: a worker job that was written off may outlive the share. Every function is idempotent: the ensure ones
// leave alone what is there, the remove ones take what is not there for done.
#ifndef VCD_SHAREWORK_H
#define VCD_SHAREWORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "vcd/domxml.h"
#include "vcd/plan.h"

struct conf;
struct hv;
struct imgcache;
struct store;
struct vcd;

#define SHAREWORK_TAIL 600 // bytes of a guest's console that an error carries

struct sharework {
	int refs;
	struct plan *plan;
	char short_id[PLAN_SHORT_LEN + 1];
	uint32_t self;			    // this host's index in the plan
	const struct plan_member **members; // of this host, with those that are on their way here
	size_t n_members;
	bool used; // members run in it already
	bool fake; // test hypervisor: nothing but the image and domains
	bool no_guests; // and nobody stands in for the guests at their sockets: guest-link = virtio-serial says that somebody does
	uint32_t *cpus; // the kernel's numbers of this host's CPUs, in Slurm's order
	size_t n_cpus;

	char *guest_dir; // run-dir/guests/<8>: sockets, read-only mounts
	char *disk_dir;	 // state-dir/overlays/<8>: overlays, console logs
	uint32_t vxlan_port;
	uid_t qemu_uid; // 0: QEMU runs as root
	gid_t qemu_gid;
	uint64_t overhead_mib;
	uint32_t overhead_percent;

	struct hv *hv;
	struct store *store;
	uint64_t user_bytes; // of one user's copies of images here
	struct imgcache *cache;
	atomic_bool ending; // its machines are being ended: a start that waits for libvirt starts none any more
	unsigned starts;    // asked of libvirt and not come back, also those that were given up; loop thread only
	char *own_name; // host name for sessions with other vcds
	char trace[17];
};

// The machine that all guests of this host get; known after the probe.
struct sharework_machine {
	enum domxml_type type;
	const char *kernel, *initrd;
	bool vsock; // the guest link may be one
	uint32_t tsc_khz; // of DOMXML_TCG
};

// Takes the plan in every case. Refuses (VC_EUSER) mounts that vcd.conf or the image do not allow.
struct sharework *sharework_create(struct vcd *vcd, struct plan *plan, const char *trace, struct vc_error *err);
// The same share with the cluster's next plan, which is taken in every case; this host's members stay those of old.
struct sharework *sharework_next(struct vcd *vcd, const struct sharework *old, struct plan *plan, struct vc_error *err);
struct sharework *sharework_ref(struct sharework *w);
void sharework_unref(struct sharework *w);

// What w is, with another plan of the same cluster (taken in every case): members have moved.
struct sharework *sharework_replan(struct vcd *vcd, const struct sharework *w, struct plan *plan, struct vc_error *err);
// On its way to this host: there is a machine that does not run yet.
bool sharework_comes(const struct sharework *w, const struct plan_member *m);

// Memory of this share with the hypervisor's own, in MiB.
uint64_t sharework_mem_mib(const struct sharework *w);
uint64_t sharework_member_mem_mib(const struct sharework *w, const struct plan_member *m);
const char *sharework_domain(const struct sharework *w, uint32_t rank, char buf[32]);
// "0.link", "0.console" below guest_dir. buf of sizeof(sun_path).
int sharework_socket(const struct sharework *w, uint32_t rank, const char *what, char *buf, size_t len, struct vc_error *err);

int sharework_image(struct sharework *w, struct vc_error *err); // pins it
int sharework_unpin(struct sharework *w, struct vc_error *err);
int sharework_network(struct sharework *w, struct vc_error *err);
int sharework_no_network(struct sharework *w, struct vc_error *err);
int sharework_disks(struct sharework *w, struct vc_error *err); // directories, overlays, mounts
int sharework_disk(struct sharework *w, uint32_t rank, struct vc_error *err); // the same, of one member: others may be made beside it
int sharework_no_disks(struct sharework *w, struct vc_error *err);
int sharework_start(struct sharework *w, const struct sharework_machine *machine, const struct plan_member *m,
		    struct vc_error *err);
// The domain that it would start. NULL with err.
char *sharework_xml(const struct sharework *w, const struct sharework_machine *machine, const struct plan_member *m, struct vc_error *err);
// The directory of a migration's sockets, the same on both hosts, QEMU's own; made empty.
int sharework_road(const struct sharework *w, uint32_t rank, char *buf, size_t len, struct vc_error *err);
int sharework_road_socket(const struct sharework *w, uint32_t rank, const char *what, char *buf, size_t len);
void sharework_no_road(const struct sharework *w, uint32_t rank);
int sharework_no_member(struct sharework *w, uint32_t rank, struct vc_error *err); // files of one that is not here any more
// The host's CPUs of a member, into room for PLAN_CPUS_MAX; 0: it is not pinned.
size_t sharework_cpus(const struct sharework *w, const struct plan_member *m, uint32_t *cpus);
int sharework_pause_all(struct sharework *w, bool pause, struct vc_error *err);
int sharework_kill_all(struct sharework *w, struct vc_error *err);

// The last lines of a member's console, printable, in one line; "" when there are none. Reads a little file: loop or worker.
const char *sharework_console_tail(const struct sharework *w, uint32_t rank, char *buf, size_t len);

// run-dir/jobs/<job>: says that this job's tasks belong into guests. Only a marker of this very cluster is removed.
int sharework_mark(const char *run_dir, const struct plan *plan, struct vc_error *err);
int sharework_unmark(const char *run_dir, const struct plan *plan, struct vc_error *err);

// Removes a directory with the plain files, sockets, mount points and directories directly below it.
int sharework_remove_dir(const char *dir, struct vc_error *err);

#endif
