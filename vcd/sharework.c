// SPDX-License-Identifier: GPL-2.0-or-later
// Blocking work of a share: see sharework.h.
#include "vcd/sharework.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/fault.h"
#include "vcd/cputopo.h"
#include "vcd/host.h"
#include "vcd/hv.h"
#include "vcd/image/image_limits.h"
#include "vcd/image/imgcache.h"
#include "vcd/image/store.h"
#include "vcd/images.h"
#include "vcd/net.h"
#include "vcd/peer.h"
#include "vcd/vcd.h"
#include "vcd/vsock.h"

#define MARK_MAX 128		  // bytes of a job's marker
#define CMDLINE_MAX 256 // bytes of a guest kernel's command line, all of it ours
#define ALL_MEMBERS UINT32_MAX
#define OVERLAY_CACHE "unsafe"	  // a member's disk ends with the job: no flush of the guest has to reach the platter
#define QEMU_IMG "qemu-img"

extern char **environ;

// --- life -----------------------------------------------------------------------------------------------------

static void destroy(struct sharework *w)
{
	plan_destroy(w->plan);
	free(w->members);
	free(w->guest_dir);
	free(w->disk_dir);
	free(w->cpus);
	free(w->own_name);
	free(w);
}

struct sharework *sharework_ref(struct sharework *w)
{
	w->refs++;
	return w;
}

void sharework_unref(struct sharework *w)
{
	int saved = errno;
	if (w && --w->refs == 0)
		destroy(w);
	errno = saved;
}

bool sharework_comes(const struct sharework *w, const struct plan_member *m)
{
	return m->to == w->self && m->host != w->self;
}

static bool is_own(const struct sharework *w, const struct sharework *old, const struct plan_member *m)
{
	if (!old)
		return (m->host == w->self && !m->gone) || sharework_comes(w, m);
	for (size_t i = 0; i < old->n_members; i++) {
		if (old->members[i]->rank == m->rank)
			return true;
	}
	return false;
}

static int own_members(struct sharework *w, const struct sharework *old, struct vc_error *err)
{
	const struct plan *plan = w->plan;
	bool home = false;
	w->members = calloc(plan->n_members + 1, sizeof(*w->members));
	if (!w->members)
		return vc_error_errno(err, "plan");
	for (size_t i = 0; i < plan->n_members; i++) {
		if (is_own(w, old, &plan->members[i]))
			w->members[w->n_members++] = &plan->members[i];
		home |= plan->members[i].home == w->self;
	}
	if (old && w->n_members != old->n_members)
		return vc_error_set(err, VC_EPROTO, "the next plan of job %u lacks members of this host", plan->key.job);
	if (!w->n_members && !home)
		return vc_error_set(err, VC_EPROTO, "the plan has no member for host %s", plan->hosts[w->self].name);
	return 0;
}

static int check_mounts(const struct conf *conf, const struct plan *plan, struct vc_error *err)
{
	const struct vc_spec *spec = plan->spec;
	if (spec->n_mounts && !plan->image_trusted)
		return vc_error_set(err, VC_EUSER, "--vcluster-mount: the image %s is not one that the site trusts with host directories",
				    plan->image_name);
	for (size_t i = 0; i < spec->n_mounts; i++) {
		if (!conf_mount_allowed(conf, spec->mounts[i].src))
			return vc_error_set(err, VC_EUSER, "--vcluster-mount: %s is not below a directory of mount-allow in vcd.conf",
					    spec->mounts[i].src);
	}
	return 0;
}

static void fill_qemu_user(struct sharework *w, const struct conf *conf)
{
	char buf[1024];
	struct passwd pw, *found = NULL;
	if (!conf->qemu_user[0] || getpwnam_r(conf->qemu_user, &pw, buf, sizeof(buf), &found) != 0 || !found)
		return;
	w->qemu_uid = found->pw_uid;
	w->qemu_gid = found->pw_gid;
}

static int fill_paths(struct sharework *w, const struct conf *conf, struct vc_error *err)
{
	if (asprintf(&w->guest_dir, "%s/guests/%s", conf->run_dir, w->short_id) < 0 ||
	    asprintf(&w->disk_dir, "%s/overlays/%s", conf->state_dir, w->short_id) < 0 ||
	    !(w->own_name = strdup(conf->host_name)))
		return vc_error_errno(err, "share");
	return 0;
}

static int fill(struct sharework *w, struct vcd *vcd, const struct sharework *old, struct vc_error *err)
{
	const struct conf *conf = vcd->conf;
	int self = plan_host_index(w->plan, conf->host_name);
	if (self < 0)
		return vc_error_set(err, VC_EPROTO, "the plan of job %u does not name this host, %s", w->plan->key.job, conf->host_name);
	w->self = (uint32_t)self;
	snprintf(w->short_id, sizeof(w->short_id), "%.*s", PLAN_SHORT_LEN, w->plan->id);
	w->hv = host_hv(vcd->host);
	w->store = images_store(vcd->images);
	w->cache = images_cache(vcd->images);
	w->user_bytes = vcd->conf->image_host_user_mib << 20;
	w->fake = hv_is_fake(w->hv);
	w->no_guests = w->fake && conf->guest_link != CONF_LINK_SERIAL;
	w->vxlan_port = conf->vxlan_port;
	fill_qemu_user(w, conf);
	w->overhead_mib = conf->overhead_mib;
	w->overhead_percent = conf->overhead_percent;
	return own_members(w, old, err) < 0 || check_mounts(conf, w->plan, err) < 0 ? -1 : fill_paths(w, conf, err);
}

static int read_cpus(struct sharework *w, struct vc_error *err)
{
	vc_autofree struct cputopo_cpu *found = calloc(CPUTOPO_MAX, sizeof(*found));
	w->cpus = calloc(CPUTOPO_MAX, sizeof(*w->cpus));
	if (!found || !w->cpus)
		return vc_error_errno(err, "CPUs of this host");
	w->n_cpus = cputopo_load(CPUTOPO_DIR, found);
	cputopo_sort(found, w->n_cpus);
	for (size_t i = 0; i < w->n_cpus; i++)
		w->cpus[i] = found[i].cpu;
	return 0;
}

static struct sharework *create(struct vcd *vcd, struct plan *plan, const char *trace, const struct sharework *old, struct vc_error *err)
{
	struct sharework *w = calloc(1, sizeof(*w));
	if (!w) {
		vc_error_errno(err, "share");
		plan_destroy(plan);
		return NULL;
	}
	w->refs = 1;
	w->plan = plan;
	snprintf(w->trace, sizeof(w->trace), "%s", trace ? trace : "");
	if (fill(w, vcd, old, err) < 0 || read_cpus(w, err) < 0) {
		sharework_unref(w);
		return NULL;
	}
	return w;
}

struct sharework *sharework_create(struct vcd *vcd, struct plan *plan, const char *trace, struct vc_error *err)
{
	return create(vcd, plan, trace, NULL, err);
}

struct sharework *sharework_next(struct vcd *vcd, const struct sharework *old, struct plan *plan, struct vc_error *err)
{
	struct sharework *next = create(vcd, plan, old->trace, old, err);
	if (next)
		next->used = true;
	return next;
}

struct sharework *sharework_replan(struct vcd *vcd, const struct sharework *w, struct plan *plan, struct vc_error *err)
{
	struct sharework *new = sharework_create(vcd, plan, w->trace, err);
	if (new)
		new->used = true;
	return new;
}

// --- numbers and names ----------------------------------------------------------------------------------------

uint64_t sharework_member_mem_mib(const struct sharework *w, const struct plan_member *m)
{
	return m->mem_mib + w->overhead_mib + m->mem_mib * w->overhead_percent / 100;
}

uint64_t sharework_mem_mib(const struct sharework *w)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < w->n_members; i++)
		sum += sharework_member_mem_mib(w, w->members[i]);
	return sum;
}

const char *sharework_domain(const struct sharework *w, uint32_t rank, char buf[32])
{
	snprintf(buf, 32, HV_DOMAIN_PREFIX "%s-%" PRIu32, w->short_id, rank);
	return buf;
}

int sharework_socket(const struct sharework *w, uint32_t rank, const char *what, char *buf, size_t len, struct vc_error *err)
{
	int n = snprintf(buf, len, "%s/%" PRIu32 ".%s", w->guest_dir, rank, what);
	if (n < 0 || (size_t)n >= len)
		return vc_error_set(err, VC_EHOST, "%s/%" PRIu32 ".%s is too long for a socket: choose a shorter run-dir", w->guest_dir,
				    rank, what);
	return 0;
}

// --- image ----------------------------------------------------------------------------------------------------

int sharework_image(struct sharework *w, struct vc_error *err)
{
	const char *digest = w->plan->image_digest;
	(void)VC_FAULT("pin");
	if (store_pin(w->store, digest, w->plan->id, err) < 0)
		return -1;
	(void)imgcache_fetched(w->cache, digest, 0, NULL); // a use; other copies may have to go for it
	uid_t uid = w->plan->owner.uid;
	return uid == 0 ? 0 : imgcache_charge(w->cache, digest, uid, w->user_bytes, err);
}

int sharework_unpin(struct sharework *w, struct vc_error *err)
{
	(void)err;
	if (!VC_FAULT("unpin")) // forgets it, for the test of vcctl check
		store_unpin(w->store, w->plan->image_digest, w->plan->id);
	return 0;
}

// --- network --------------------------------------------------------------------------------------------------

static int check_mtu(const struct sharework *w, const struct net_segment *seg, struct vc_error *err)
{
	uint32_t mtu;
	if (!seg->n_peers)
		return 0;
	if (net_underlay_mtu(seg->local, &mtu, err) < 0)
		return -1;
	if (seg->mtu + NET_VXLAN_OVERHEAD > mtu)
		return vc_error_set(err, VC_EHOST, "the guests' MTU of %u does not fit this host's underlay (%u less %u for VXLAN): set mtu in vcd.conf",
				    seg->mtu, mtu, NET_VXLAN_OVERHEAD);
	(void)w;
	return 0;
}

struct segment_lists {
	struct net_peer *peers, *gone_peers;
	struct net_remote *remotes, *gone;
	struct net_local *locals;
};

static void segment_hosts(const struct sharework *w, const struct segment_lists *l, struct net_segment *seg)
{
	for (size_t i = 0; i < w->plan->n_hosts; i++) {
		const struct plan_host *h = &w->plan->hosts[i];
		if (i != w->self && h->gone)
			l->gone_peers[seg->n_gone_peers++] = (struct net_peer){h->addr};
		else if (i != w->self)
			l->peers[seg->n_peers++] = (struct net_peer){h->addr};
	}
}

static void segment_members(const struct sharework *w, const struct segment_lists *l, struct net_segment *seg)
{
	for (size_t i = 0; i < w->plan->n_members; i++) {
		const struct plan_member *m = &w->plan->members[i];
		const struct net_remote remote = {m->mac, w->plan->hosts[m->host].addr};
		if (m->host != w->self && !m->gone)
			l->remotes[seg->n_remotes++] = remote;
		else if (m->host != w->self)
			l->gone[seg->n_gone++] = remote;
	}
	for (size_t i = 0; i < w->n_members; i++)
		l->locals[seg->n_locals++] = (struct net_local){w->members[i]->rank, sharework_comes(w, w->members[i]) ? NULL : w->members[i]->mac};
}

int sharework_network(struct sharework *w, struct vc_error *err)
{
	const struct plan *plan = w->plan;
	if (w->fake)
		return 0;
	vc_autofree struct net_peer *peers = calloc(plan->n_hosts + 1, sizeof(*peers));
	vc_autofree struct net_peer *gone_peers = calloc(plan->n_hosts + 1, sizeof(*gone_peers));
	vc_autofree struct net_remote *remotes = calloc(plan->n_members + 1, sizeof(*remotes));
	vc_autofree struct net_remote *gone = calloc(plan->n_members + 1, sizeof(*gone));
	vc_autofree struct net_local *locals = calloc(w->n_members + 1, sizeof(*locals));
	if (!peers || !gone_peers || !remotes || !gone || !locals)
		return vc_error_errno(err, "network");
	struct net_segment seg = {.id = plan->id, .vni = plan->net.vni, .mtu = plan->net.mtu, .port = w->vxlan_port,
				  .local = plan->hosts[w->self].addr, .tap_owner = w->qemu_uid, .peers = peers,
				  .remotes = remotes, .locals = locals, .gone_peers = gone_peers, .gone = gone, .keep = w->used};
	const struct segment_lists lists = {peers, gone_peers, remotes, gone, locals};
	segment_hosts(w, &lists, &seg);
	segment_members(w, &lists, &seg);
	return check_mtu(w, &seg, err) < 0 ? -1 : net_ensure(&seg, err);
}

int sharework_no_network(struct sharework *w, struct vc_error *err)
{
	return w->fake ? 0 : net_remove(w->plan->id, err);
}

// --- disks ----------------------------------------------------------------------------------------------------

static int make_passable(const char *path, struct vc_error *err)
{
	if (mkdir(path, 0711) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", path);
	return chmod(path, 0711) < 0 ? vc_error_errno(err, "%s", path) : 0;
}

// A cluster's directory and that of all clusters: others may pass (QEMU's user has to reach its files) but not list,
// whoever made them.
static int make_dir(const char *path, struct vc_error *err)
{
	vc_autofree char *parent = strdup(path);
	char *slash = parent ? strrchr(parent, '/') : NULL;
	if (!slash || slash == parent)
		return vc_error_set(err, VC_EHOST, "'%s' is not a path of two or more parts", path);
	*slash = '\0';
	return make_passable(parent, err) < 0 ? -1 : make_passable(path, err);
}

// Runs a program to its end, its output on our standard error.
static int run_program(char *const argv[], struct vc_error *err)
{
	pid_t pid;
	int status;
	int rc = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
	if (rc)
		return vc_error_set(err, VC_EHOST, "%s: %s", argv[0], strerror(rc));
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return vc_error_errno(err, "%s", argv[0]);
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return vc_error_set(err, VC_EHOST, "%s failed with status %d; its message is in vcd's log", argv[0],
			    WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static int make_overlay(const char *base, const char *path, struct vc_error *err)
{
	vc_autofree char *tmp = NULL;
	if (access(path, F_OK) == 0)
		return 0;
	if (asprintf(&tmp, "%s.new", path) < 0)
		return vc_error_errno(err, "%s", path);
	char *argv[] = {QEMU_IMG, "create", "-q", "-f", "qcow2", "-F", "raw", "-b", (char *)base, tmp, NULL};
	if (run_program(argv, err) < 0)
		return vc_error_wrap(err, "overlay %s", path);
	// other users may pass its directory: libvirt gives it to QEMU's user
	if (chmod(tmp, 0600) < 0)
		return vc_error_errno(err, "%s", tmp);
	return rename(tmp, path) < 0 ? vc_error_errno(err, "%s", path) : 0;
}

// The source by a path without any symbolic link, so that nobody can swap what the admin allowed for something else.
static int open_source(const char *src, struct vc_error *err)
{
	struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, src, &how, sizeof(how));
	if (fd < 0 && errno == ELOOP)
		return vc_error_set(err, VC_EUSER, "--vcluster-mount: %s has a symbolic link in it: name the directory itself", src);
	return fd < 0 ? vc_error_set(err, VC_EUSER, "--vcluster-mount: %s: %s", src, strerror(errno)) : fd;
}

static char *mount_point(const struct sharework *w, size_t i)
{
	char *path = NULL;
	return asprintf(&path, "%s/m%zu", w->guest_dir, i) < 0 ? NULL : path;
}

static int make_mount(const struct sharework *w, size_t i, struct vc_error *err)
{
	const struct vc_spec_mount *m = &w->plan->spec->mounts[i];
	char from[64];
	vc_autofree char *to = mount_point(w, i);
	vc_autoclose int fd = open_source(m->src, err);
	if (!to || fd < 0)
		return -1;
	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	if (mkdir(to, 0700) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", to);
	umount2(to, MNT_DETACH); // of an earlier try; EINVAL when there is none
	if (mount(from, to, NULL, MS_BIND, NULL) < 0 ||
	    (m->ro && mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0))
		return vc_error_errno(err, "mount %s at %s", m->src, to);
	return 0;
}

// Images are root's own: QEMU's group gets to read this one, nobody else.
static int open_image(const struct sharework *w, const char *base, struct vc_error *err)
{
	vc_autofree char *dir = strdup(base);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	if (!slash)
		return vc_error_set(err, VC_EHOST, "image %s", base);
	*slash = '\0';
	if (w->qemu_uid && (chown(dir, 0, w->qemu_gid) < 0 || chmod(dir, 0710) < 0 || chown(base, 0, w->qemu_gid) < 0 ||
			    chmod(base, 0640) < 0))
		return vc_error_errno(err, "image %s", base);
	return 0;
}

static int make_disks(struct sharework *w, uint32_t only, struct vc_error *err)
{
	vc_autofree char *base = NULL;
	if (w->fake)
		return w->no_guests ? 0 : make_dir(w->guest_dir, err);
	if (make_dir(w->guest_dir, err) < 0 || make_dir(w->disk_dir, err) < 0 ||
	    store_path(w->store, w->plan->image_digest, &base, err) < 0 || open_image(w, base, err) < 0)
		return -1;
	for (size_t i = 0; i < w->plan->spec->n_mounts; i++) {
		if (make_mount(w, i, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < w->n_members; i++) {
		vc_autofree char *path = NULL;
		if (only != ALL_MEMBERS && w->members[i]->rank != only)
			continue;
		if (asprintf(&path, "%s/%" PRIu32 ".qcow2", w->disk_dir, w->members[i]->rank) < 0)
			return vc_error_errno(err, "overlay");
		if (make_overlay(base, path, err) < 0)
			return -1;
	}
	return 0;
}

int sharework_disks(struct sharework *w, struct vc_error *err)
{
	return make_disks(w, ALL_MEMBERS, err);
}

int sharework_disk(struct sharework *w, uint32_t rank, struct vc_error *err)
{
	return make_disks(w, rank, err);
}

// --- a member's road to another host --------------------------------------------------------------------------

static int road_path(const struct sharework *w, uint32_t rank, char *buf, size_t len)
{
	int n = snprintf(buf, len, "%s/road%" PRIu32, w->guest_dir, rank);
	return n > 0 && (size_t)n < len ? 0 : -1;
}

int sharework_road(const struct sharework *w, uint32_t rank, char *buf, size_t len, struct vc_error *err)
{
	if (road_path(w, rank, buf, len) < 0)
		return vc_error_set(err, VC_EHOST, "%s is too long a path: choose a shorter run-dir", w->guest_dir);
	sharework_no_road(w, rank);
	if (mkdir(buf, 0711) < 0 || chown(buf, w->qemu_uid, w->qemu_gid) < 0)
		return vc_error_errno(err, "%s", buf);
	return 0;
}

int sharework_road_socket(const struct sharework *w, uint32_t rank, const char *what, char *buf, size_t len)
{
	char dir[PATH_MAX];
	if (road_path(w, rank, dir, sizeof(dir)) < 0)
		return -1;
	int n = snprintf(buf, len, "%s/%s", dir, what);
	return n > 0 && (size_t)n < len ? 0 : -1;
}

void sharework_no_road(const struct sharework *w, uint32_t rank)
{
	char dir[PATH_MAX];
	struct vc_error err = VC_ERROR_INIT;
	if (road_path(w, rank, dir, sizeof(dir)) == 0 && sharework_remove_dir(dir, &err) < 0)
		vc_log_warning("%s", err.text);
}

// Of a member that is not here any more.
int sharework_no_member(struct sharework *w, uint32_t rank, struct vc_error *err)
{
	static const char *const disks[] = {"qcow2", "log"}, *const sockets[] = {"link", "console"};
	char path[PATH_MAX];
	int rc = 0;
	for (size_t i = 0; !w->fake && i < VC_ARRAY_LEN(disks); i++) {
		snprintf(path, sizeof(path), "%s/%" PRIu32 ".%s", w->disk_dir, rank, disks[i]);
		if (unlink(path) < 0 && errno != ENOENT)
			rc = vc_error_errno(err, "remove %s", path);
		snprintf(path, sizeof(path), "%s/%" PRIu32 ".%s", w->guest_dir, rank, sockets[i]);
		if (unlink(path) < 0 && errno != ENOENT)
			rc = vc_error_errno(err, "remove %s", path);
	}
	return rc;
}

static int remove_entry(int dir, const char *base, const char *name, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (asprintf(&path, "%s/%s", base, name) < 0)
		return vc_error_errno(err, "%s", base);
	umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
	return unlinkat(dir, name, AT_REMOVEDIR) == 0 ? 0 : vc_error_errno(err, "remove %s", path);
}

int sharework_remove_dir(const char *path, struct vc_error *err)
{
	int rc = 0;
	DIR *dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : vc_error_errno(err, "%s", path);
	for (struct dirent *e; (e = readdir(dir));) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && remove_entry(dirfd(dir), path, e->d_name, err) < 0)
			rc = -1;
	}
	closedir(dir);
	if (rc == 0 && rmdir(path) < 0 && errno != ENOENT)
		rc = vc_error_errno(err, "remove %s", path);
	return rc;
}

int sharework_no_disks(struct sharework *w, struct vc_error *err)
{
	if (w->no_guests)
		return 0;
	for (size_t i = 0; i < w->plan->n_members; i++)
		sharework_no_road(w, w->plan->members[i].rank);
	int a = sharework_remove_dir(w->guest_dir, err), b = sharework_remove_dir(w->disk_dir, err);
	return a < 0 || b < 0 ? -1 : 0;
}

// --- domains --------------------------------------------------------------------------------------------------

// Away from home a member shares what Slurm gave the job there.
static size_t guest_cpus(const struct sharework *w, const struct plan_host *here, uint32_t *cpus)
{
	size_t n = 0;
	for (size_t i = 0; here->total_cpus <= w->n_cpus && i < here->n_cpu_ids && n < PLAN_CPUS_MAX; i++) {
		if (here->cpu_ids[i] >= w->n_cpus)
			return 0;
		cpus[n++] = w->cpus[here->cpu_ids[i]];
	}
	return n;
}

// The CPUs that Slurm allocated to the member, by the kernel's numbers. Where Slurm is told of more CPUs than this host
// has, its numbers are not those of real CPUs: then members run anywhere.
size_t sharework_cpus(const struct sharework *w, const struct plan_member *m, uint32_t *cpus)
{
	if (m->home != w->self)
		return guest_cpus(w, &w->plan->hosts[w->self], cpus);
	if (w->plan->hosts[w->self].total_cpus > w->n_cpus)
		return 0;
	for (size_t i = 0; i < m->n_cpu_ids; i++) {
		if (m->cpu_ids[i] >= w->n_cpus)
			return 0;
		cpus[i] = w->cpus[m->cpu_ids[i]];
	}
	return m->n_cpu_ids;
}


struct files {
	char link[108], console[108];
	char *log, *overlay;
	struct domxml_mount mounts[VC_MOUNTS_MAX];
	char *mount_paths[VC_MOUNTS_MAX + 1];
	char tags[VC_MOUNTS_MAX][24];
};

static void files_clear(struct files *f)
{
	free(f->log);
	free(f->overlay);
	for (size_t i = 0; i < VC_MOUNTS_MAX; i++)
		free(f->mount_paths[i]);
}

static int files_fill(struct files *f, const struct sharework *w, uint32_t rank, struct vc_error *err)
{
	if (sharework_socket(w, rank, "link", f->link, sizeof(f->link), err) < 0 ||
	    sharework_socket(w, rank, "console", f->console, sizeof(f->console), err) < 0)
		return -1;
	if (asprintf(&f->log, "%s/%" PRIu32 ".log", w->disk_dir, rank) < 0 ||
	    asprintf(&f->overlay, "%s/%" PRIu32 ".qcow2", w->disk_dir, rank) < 0)
		return vc_error_errno(err, "domain");
	for (size_t i = 0; i < w->plan->spec->n_mounts; i++) {
		f->mount_paths[i] = mount_point(w, i);
		if (!f->mount_paths[i])
			return vc_error_errno(err, "domain");
		snprintf(f->tags[i], sizeof(f->tags[i]), "vcm%zu", i);
		f->mounts[i] = (struct domxml_mount){f->mount_paths[i], f->tags[i]};
	}
	return 0;
}

// Speculation is a real processor's trouble: an emulated guest only pays for its mitigations. And it is told the rate of
// its time-stamp counter: it measures that against an emulated timer, and where the host's processors are busy it was seen
// to be off by a factor of fourteen. Its clock then stands nearly still, or runs away.
static void build_cmdline(const struct sharework_machine *machine, char buf[CMDLINE_MAX])
{
	int n = snprintf(buf, CMDLINE_MAX, "console=ttyS0 quiet panic=-1 no_timer_check vcluster.root=/dev/vda vcluster.rootfstype=ext4");
	if (machine->type == DOMXML_TCG) // 0 kHz: it measures by itself
		n += snprintf(buf + n, CMDLINE_MAX - (size_t)n, " mitigations=off tsc_early_khz=%" PRIu32, machine->tsc_khz);
	if (machine->vsock)
		snprintf(buf + n, CMDLINE_MAX - (size_t)n, " vcluster.link=vsock:%u", VSOCK_PORT);
}

static uint32_t member_cid(const struct sharework *w, const struct plan_member *m)
{
	size_t i = 0;
	while (w->members[i] != m)
		i++;
	return vsock_cid(w->plan->net.vni, i);
}

static char *build_xml(const struct sharework *w, const struct sharework_machine *machine, const struct plan_member *m,
		       const struct files *f, struct vc_error *err)
{
	char name[32], tap[NET_NAME_LEN], cmdline[CMDLINE_MAX];
	uint32_t cpus[PLAN_CPUS_MAX];
	const struct plan *plan = w->plan;
	struct domxml d = {
		.type = machine->type,
		.name = sharework_domain(w, m->rank, name),
		.owner = {plan->id, plan->key.slurm, plan->key.job, plan->key.restart, m->rank, plan->owner.uid},
		.vcpus = m->vcpus,
		.mem_mib = m->mem_mib,
		.hard_limit_mib = hv_can_cap_memory() ? sharework_member_mem_mib(w, m) : 0,
		.cpus = cpus,
		.n_cpus = sharework_cpus(w, m, cpus),
		.kernel = machine->kernel,
		.initrd = machine->initrd,
		.cmdline = cmdline,
		.overlay = f->overlay,
		.cache = OVERLAY_CACHE,
		.tap = net_tap_name(plan->id, m->rank, tap),
		.mac = m->mac,
		.mtu = plan->net.mtu,
		.vsock_cid = machine->vsock ? member_cid(w, m) : 0,
		.channel = f->link,
		.console = f->console,
		.console_log = f->log,
		.mounts = f->mounts,
		.n_mounts = plan->spec->n_mounts,
	};
	build_cmdline(machine, cmdline);
	return domxml_build(&d, err);
}

char *sharework_xml(const struct sharework *w, const struct sharework_machine *machine, const struct plan_member *m,
		    struct vc_error *err)
{
	struct files f = {0};
	char *xml = NULL;
	if (files_fill(&f, w, m->rank, err) == 0)
		xml = build_xml(w, machine, m, &f, err);
	files_clear(&f);
	return xml;
}

int sharework_start(struct sharework *w, const struct sharework_machine *machine, const struct plan_member *m,
		    struct vc_error *err)
{
	char name[32];
	vc_autofree char *xml = sharework_xml(w, machine, m, err);
	if (!xml || hv_start(w->hv, sharework_domain(w, m->rank, name), xml, &w->ending, err) < 0)
		return vc_error_wrap(err, "member %s", m->name);
	return 0;
}

int sharework_pause_all(struct sharework *w, bool pause, struct vc_error *err)
{
	int rc = 0;
	for (size_t i = 0; i < w->n_members; i++) {
		char name[32];
		if (sharework_comes(w, w->members[i])) // it waits for leave to run
			continue;
		if (hv_pause(w->hv, sharework_domain(w, w->members[i]->rank, name), pause, err) < 0)
			rc = -1;
	}
	return rc;
}

// What post-copy left here, of members that are the target's by now.
static int kill_rest(const struct sharework *w, struct vc_error *err)
{
	vc_autofree struct hv_domain *list = NULL;
	size_t n = 0;
	int rc = hv_list(w->hv, &list, &n, err);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (list[i].ours && strcmp(list[i].cluster, w->plan->id) == 0)
			rc = hv_kill(w->hv, list[i].name, err);
	}
	return rc;
}

int sharework_kill_all(struct sharework *w, struct vc_error *err)
{
	int rc = kill_rest(w, err);
	for (size_t i = 0; i < w->n_members; i++) {
		char name[32];
		if (hv_kill(w->hv, sharework_domain(w, w->members[i]->rank, name), err) < 0)
			rc = -1;
	}
	return rc;
}

const char *sharework_console_tail(const struct sharework *w, uint32_t rank, char *buf, size_t len)
{
	vc_autofree char *path = NULL;
	char text[SHAREWORK_TAIL];
	size_t n = 0;
	buf[0] = '\0';
	if (asprintf(&path, "%s/%" PRIu32 ".log", w->disk_dir, rank) < 0)
		return buf;
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	if (end < 0)
		return buf;
	ssize_t got = pread(fd, text, sizeof(text), end > (off_t)sizeof(text) ? end - (off_t)sizeof(text) : 0);
	for (ssize_t i = 0; i < got && n + 4 < len; i++) {
		if (text[i] == '\n' && n)
			n += (size_t)snprintf(buf + n, len - n, " | ");
		else if (text[i] >= 0x20 && text[i] < 0x7f)
			buf[n++] = text[i];
	}
	buf[n] = '\0';
	return buf;
}

// --- markers --------------------------------------------------------------------------------------------------

static char *mark_path(const char *run_dir, const struct plan *plan)
{
	char *path = NULL;
	return asprintf(&path, "%s/jobs/%" PRIu32, run_dir, plan->key.job) < 0 ? NULL : path;
}

int sharework_mark(const char *run_dir, const struct plan *plan, struct vc_error *err)
{
	vc_autofree char *dir = NULL, *path = mark_path(run_dir, plan), *tmp = NULL;
	if (!path || asprintf(&dir, "%s/jobs", run_dir) < 0 || asprintf(&tmp, "%s.new", path) < 0)
		return vc_error_errno(err, "job marker");
	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", dir);
	vc_autoclose int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || fchmod(fd, 0644) < 0 || dprintf(fd, "%s %" PRIu32 "\n", plan->id, plan->key.restart) < 0 ||
	    rename(tmp, path) < 0)
		return vc_error_errno(err, "job marker %s", path);
	return 0;
}

int sharework_unmark(const char *run_dir, const struct plan *plan, struct vc_error *err)
{
	char text[MARK_MAX] = "";
	vc_autofree char *path = mark_path(run_dir, plan);
	if (!path)
		return vc_error_errno(err, "job marker");
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : vc_error_errno(err, "job marker %s", path);
	if (read(fd, text, sizeof(text) - 1) < 0)
		return vc_error_errno(err, "job marker %s", path);
	if (strncmp(text, plan->id, PLAN_ID_LEN) != 0) // of a later incarnation of the job
		return 0;
	return unlink(path) < 0 && errno != ENOENT ? vc_error_errno(err, "job marker %s", path) : 0;
}
