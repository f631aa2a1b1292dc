// SPDX-License-Identifier: GPL-2.0-or-later
// The host role: see host.h.
#include "vcd/host.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/check.h"
#include "vcd/conf.h"
#include "vcd/fence.h"
#include "vcd/host_int.h"
#include "vcd/hv.h"
#include "vcd/image/initramfs.h"
#include "vcd/image/kernel.h"
#include "vcd/image/store.h"
#include "vcd/images.h"
#include "vcd/leftover.h"
#include "vcd/net.h"
#include "vcd/peer.h"
#include "vcd/rpc.h"
#include "vcd/share.h"
#include "vcd/sharemove.h"
#include "vcd/state.h"
#include "vcd/task.h"
#include "vcd/uffd.h"
#include "vcd/vcd.h"
#include "vcd/vsock.h"
#include "vcd/work.h"

#define TICK_MS 250u		// limits of shares, retries
#define LIBVIRT_RETRY_MS 2000u	// libvirtd may start after vcd
#define EVENT_MS 30000u		// event.member to the controller
#define MACHINE_SLACK_MS 60000u // beside the probe: building the initramfs on a loaded host

struct hv *host_hv(struct host *h)
{
	return h->hv;
}

struct vcd *host_vcd(struct host *h)
{
	return h->vcd;
}

// --- lists of domains -----------------------------------------------------------------------------------------

struct listing {
	struct host *host;
	struct hv *hv;
	struct hv_domain *list;
	size_t n;
	void (*done)(struct host *h, char *const *running, const struct vc_error *err);
};

static int listing_run(void *ctx, struct vc_error *err)
{
	struct listing *l = ctx;
	return hv_list(l->hv, &l->list, &l->n, err);
}

static void listing_done(void *ctx, const struct vc_error *err)
{
	struct listing *l = ctx;
	if (l->host->stopped)
		return;
	if (err) {
		l->done(l->host, NULL, err);
		return;
	}
	char **names = calloc(l->n + 1, sizeof(*names)); // borrows the names
	size_t n = 0;
	for (size_t i = 0; names && i < l->n; i++) {
		if (l->list[i].running && l->list[i].ours)
			names[n++] = l->list[i].name;
	}
	if (names)
		l->done(l->host, names, NULL);
	free(names);
}

static void listing_release(void *ctx)
{
	struct listing *l = ctx;
	free(l->list);
	free(l);
}

static int list_domains(struct host *h, void (*done)(struct host *, char *const *, const struct vc_error *),
			struct vc_error *err)
{
	struct listing *l = calloc(1, sizeof(*l));
	if (!l)
		return vc_error_errno(err, "list of domains");
	*l = (struct listing){.host = h, .hv = h->hv, .done = done};
	struct work_args args = {.pool = WORK_HV, .what = "list domains", .deadline_ms = h->vcd->conf->libvirt_timeout_ms,
				 .run = listing_run, .done = listing_done, .release = listing_release, .ctx = l};
	if (work_submit(h->vcd->work, &args, NULL, err) == 0)
		return 0;
	listing_release(l);
	return -1;
}

// --- the machine of this host's guests ------------------------------------------------------------------------

struct finder {
	struct host *host;
	struct hv *hv;
	enum conf_hypervisor hypervisor;
	char *kernel_path, *guestd, *state_dir, *run_dir;
	// found
	char *kernel, *initrd;
	bool kvm;
	uint32_t tsc_khz;
};

static int finder_run(void *ctx, struct vc_error *err)
{
	struct finder *f = ctx;
	struct kernel k = {0};
	if (hv_is_fake(f->hv)) // its domains run nothing
		return (f->kernel = strdup("none")) && (f->initrd = strdup("none")) ? 0 : vc_error_errno(err, "hypervisor");
	if (kernel_find("", f->kernel_path[0] ? f->kernel_path : NULL, &k, err) < 0)
		return -1;
	struct initramfs_spec spec = {.version = k.version, .modules_dir = k.modules_dir, .init = f->guestd};
	struct hv_probe probe = {.kernel = k.image, .state_dir = f->state_dir, .run_dir = f->run_dir, .limit_ms = HOST_PROBE_MS};
	int rc = initramfs_ensure(&spec, f->state_dir, &f->initrd, err);
	f->kvm = f->hypervisor == CONF_HV_KVM;
	if (rc == 0 && f->hypervisor == CONF_HV_AUTO)
		rc = hv_probe(f->hv, &probe, &f->kvm, err);
	if (rc == 0 && !(f->kernel = strdup(k.image)))
		rc = vc_error_errno(err, "%s", k.image);
	kernel_clear(&k);
	if (!f->kvm)
		f->tsc_khz = hv_tsc_khz();
	return rc;
}

static void tell_machine(struct host *h, const struct vc_error *err)
{
	for (struct share *next, *s = h->shares; s; s = next) {
		next = share_next(s);
		share_machine_ready(s, err);
	}
}

static void finder_done(void *ctx, const struct vc_error *err)
{
	struct finder *f = ctx;
	struct host *h = f->host;
	if (h->stopped)
		return;
	h->finding = false;
	if (err) {
		vc_log_err("guests cannot be started on this host: %s", err->text);
		tell_machine(h, err);
		return;
	}
	h->kernel = vc_steal(&f->kernel);
	h->initrd = vc_steal(&f->initrd);
	h->machine = (struct sharework_machine){
		.type = hv_is_fake(h->hv) ? DOMXML_TEST : f->kvm ? DOMXML_KVM : DOMXML_TCG, .kernel = h->kernel, .initrd = h->initrd,
		.vsock = h->vsock != NULL, .tsc_khz = f->tsc_khz};
	h->machine_known = true;
	vc_log_info("guests of this host: %s, kernel %s", f->kvm ? "KVM" : "emulated (TCG)", h->kernel);
	tell_machine(h, NULL);
}

static void finder_release(void *ctx)
{
	struct finder *f = ctx;
	free(f->kernel_path);
	free(f->guestd);
	free(f->state_dir);
	free(f->run_dir);
	free(f->kernel);
	free(f->initrd);
	free(f);
}

static int find_machine(struct host *h, struct vc_error *err)
{
	const struct conf *conf = h->vcd->conf;
	struct finder *f = calloc(1, sizeof(*f));
	if (!f)
		return vc_error_errno(err, "hypervisor");
	*f = (struct finder){.host = h, .hv = h->hv, .hypervisor = conf->hypervisor, .kernel_path = strdup(conf->kernel),
			     .guestd = strdup(conf->guestd), .state_dir = strdup(conf->state_dir), .run_dir = strdup(conf->run_dir)};
	struct work_args args = {.pool = WORK_HV, .what = "hypervisor probe", .deadline_ms = HOST_PROBE_MS + MACHINE_SLACK_MS,
				 .run = finder_run, .done = finder_done, .release = finder_release, .ctx = f};
	if (!f->kernel_path || !f->guestd || !f->state_dir || !f->run_dir)
		vc_error_errno(err, "hypervisor");
	else if (work_submit(h->vcd->work, &args, NULL, err) == 0) {
		h->finding = true;
		return 0;
	}
	finder_release(f);
	return -1;
}

int host_machine(struct host *h, const struct sharework_machine **ret, struct vc_error *err)
{
	*ret = &h->machine;
	if (h->machine_known)
		return 0;
	if (!h->finding && find_machine(h, err) < 0)
		return -1;
	return 1;
}

// --- shares ---------------------------------------------------------------------------------------------------

struct share *host_find_job(struct host *h, uint32_t job)
{
	struct share *found = NULL;
	for (struct share *s = h->shares; s; s = share_next(s)) {
		if (share_plan(s)->key.job == job && (!found || share_plan(s)->key.restart > share_plan(found)->key.restart))
			found = s;
	}
	return found;
}

struct share *host_find_cluster(struct host *h, const char *id)
{
	struct share *s = h->shares;
	while (s && strcmp(share_plan(s)->id, id) != 0)
		s = share_next(s);
	return s;
}

struct share *host_add_share(struct host *h, struct sharework *work, struct vc_error *err)
{
	char id[PLAN_ID_LEN + 1];
	snprintf(id, sizeof(id), "%s", work->plan->id);
	if (roster_add(h->roster, id, err) < 0) {
		sharework_unref(work);
		return NULL;
	}
	struct share *s = share_create(h, work, err);
	if (!s) {
		roster_remove(h->roster, id);
		return NULL;
	}
	share_set_next(s, h->shares);
	h->shares = s;
	return s;
}

static void unlink_share(struct host *h, struct share *s)
{
	struct share *prev = NULL;
	for (struct share *at = h->shares; at && at != s; at = share_next(at))
		prev = at;
	if (prev)
		share_set_next(prev, share_next(s));
	else
		h->shares = share_next(s);
}

void host_share_gone(struct host *h, struct share *s)
{
	host_remember_usage(h, s);
	unlink_share(h, s);
	roster_remove(h->roster, share_plan(s)->id);
	share_set_next(s, h->dead); // its caller may still be on the stack: freed by the tick
	h->dead = s;
	host_admit_waiting(h);
}

static void bury_dead(struct host *h)
{
	while (h->dead) {
		struct share *s = h->dead;
		h->dead = share_next(s);
		share_destroy(s);
	}
}

// --- events ---------------------------------------------------------------------------------------------------

static void event_done(void *ctx, struct json_object *result, const struct vc_error *err)
{
	(void)ctx;
	(void)result;
	if (err) // the controller asks for the inventory when it is there again
		vc_log_warning("event.member: %s", err->text);
}

bool host_has_steps(const struct host *h, const struct plan *plan)
{
	return h->tasks && tasks_has_steps(h->tasks, plan->key.job, plan->key.restart);
}

void host_member_event(struct host *h, const struct plan *plan, uint32_t rank, const char *event, const char *reason)
{
	vc_autojson struct json_object *params = json_object_new_object();
	struct vc_error err = VC_ERROR_INIT;
	vc_json_add_str(params, "cluster", plan->id);
	vc_json_add_u64(params, "rank", rank);
	vc_json_add_str(params, "event", event);
	vc_json_add_str(params, "reason", reason);
	struct peer_args args = {.host = peers_controller(h->vcd->peers), .method = "event.member", .params = params,
				 .timeout_ms = EVENT_MS, .done = event_done, .ctx = h};
	if (!peer_call(h->vcd->peers, &args, &err))
		vc_log_warning("event.member: %s", err.text);
}

static void resize_done(void *ctx, struct json_object *result, const struct vc_error *err)
{
	(void)ctx;
	(void)result;
	if (err)
		vc_log_notice("a guest asked for another size of its cluster: %s", err->text);
}

void host_resize(struct host *h, const struct plan *plan, uint32_t hosts)
{
	vc_autojson struct json_object *params = json_object_new_object();
	struct vc_error err = VC_ERROR_INIT;
	vc_json_add_u64(params, "job", plan->key.job);
	vc_json_add_u64(params, "hosts", hosts);
	struct peer_args args = {.host = peers_controller(h->vcd->peers), .method = "cluster.resize", .params = params,
				 .timeout_ms = EVENT_MS, .forward = true, .as_uid = plan->owner.uid, .done = resize_done, .ctx = h};
	if (!peer_call(h->vcd->peers, &args, &err))
		vc_log_warning("cluster.resize: %s", err.text);
}

// "vc-01234567-12": whose it is.
static struct share *find_domain(struct host *h, const char *name, uint32_t *ret_rank)
{
	for (struct share *s = h->shares; s; s = share_next(s)) {
		const struct sharework *w = share_work(s);
		for (size_t i = 0; i < w->n_members; i++) {
			char own[32];
			*ret_rank = w->members[i]->rank;
			if (strcmp(sharework_domain(w, *ret_rank, own), name) == 0)
				return s;
		}
	}
	return NULL;
}

static void on_hv_event(void *ctx, const char *domain, enum hv_event event, const char *reason)
{
	struct host *h = ctx;
	uint32_t rank;
	if (event == HV_LOST) // and with it perhaps events
		h->poll_at = 0;
	bool ended = event == HV_STOPPED || event == HV_CRASHED;
	struct share *s = ended || event == HV_PAUSED || event == HV_TORN ? find_domain(h, domain, &rank) : NULL;
	if (s && ended)
		share_domain_stopped(s, rank, reason);
	else if (s && event == HV_TORN)
		share_domain_torn(s, rank);
	else if (s)
		share_domain_paused(s, rank);
}

static void poll_done(struct host *h, char *const *running, const struct vc_error *err)
{
	h->polling = false;
	if (err) {
		if (!h->libvirt_lost)
			vc_log_warning("%s", err->text);
		h->libvirt_lost = true;
		h->poll_at = uv_now(&h->vcd->loop) + LIBVIRT_RETRY_MS;
		return;
	}
	if (h->libvirt_lost)
		vc_log_notice("libvirt at %s answers again", hv_uri(h->hv));
	h->libvirt_lost = false;
	for (struct share *next, *s = h->shares; s; s = next) {
		next = share_next(s);
		share_domains_seen(s, running);
	}
}

static void poll_domains(struct host *h)
{
	struct vc_error err = VC_ERROR_INIT;
	if (h->polling || !h->ready || uv_now(&h->vcd->loop) < h->poll_at)
		return;
	h->poll_at = uv_now(&h->vcd->loop) + HOST_POLL_MS;
	for (struct share *s = h->shares; s; s = share_next(s))
		share_poll_begins(s);
	if (list_domains(h, poll_done, &err) < 0)
		vc_log_warning("%s", err.text);
	else
		h->polling = true;
}

// --- take back ------------------------------------------------------------------------------------------------

struct cleaning {
	struct host *host;
	char *run_dir, *state_dir;
	struct leftover_args args;
	char **items;
};

static int cleaning_run(void *ctx, struct vc_error *err)
{
	struct cleaning *c = ctx;
	return leftover_scan(&c->args, &c->items, err);
}

static void cleaning_release(void *ctx)
{
	struct cleaning *c = ctx;
	vc_strv_free(c->items);
	free(c->run_dir);
	free(c->state_dir);
	free(c);
}

static void cleaning_done(void *ctx, const struct vc_error *err)
{
	struct cleaning *c = ctx;
	struct vc_error again = VC_ERROR_INIT;
	if (c->host->stopped)
		return;
	if (err)
		vc_log_warning("cleaning up: %s", err->text);
	if (!c->host->finding && !c->host->machine_known && find_machine(c->host, &again) < 0)
		vc_log_warning("hypervisor: %s", again.text);
}

static int clean(struct host *h, struct vc_error *err)
{
	const struct conf *conf = h->vcd->conf;
	struct cleaning *c = calloc(1, sizeof(*c));
	if (!c)
		return vc_error_errno(err, "cleaning up");
	*c = (struct cleaning){.host = h, .run_dir = strdup(conf->run_dir), .state_dir = strdup(conf->state_dir)};
	c->args = (struct leftover_args){h->hv, h->roster, c->run_dir, c->state_dir, true};
	struct work_args args = {.pool = WORK_HV, .what = "remove leftovers", .deadline_ms = conf->libvirt_timeout_ms * 2,
				 .run = cleaning_run, .done = cleaning_done, .release = cleaning_release, .ctx = c};
	if (c->run_dir && c->state_dir && work_submit(h->vcd->work, &args, NULL, err) == 0)
		return 0;
	cleaning_release(c);
	return -1;
}

struct taking {
	struct host *host;
	char *const *running;
};

static int take_back_row(const struct state_share *row, void *ctx)
{
	struct taking *t = ctx;
	struct host *h = t->host;
	struct vc_error err = VC_ERROR_INIT;
	struct plan *plan = plan_from_json(row->plan, &err);
	struct sharework *work = plan ? sharework_create(h->vcd, plan, NULL, &err) : NULL;
	struct share *s = work ? host_add_share(h, work, &err) : NULL;
	if (s)
		vc_log_notice("cluster %.8s of job %" PRIu32 " is taken back (%s)", row->cluster, row->job, row->phase);
	else // its machines and links are removed as leftovers
		vc_log_err("cluster %s of job %" PRIu32 " is not taken back: %s", row->cluster, row->job, err.text);
	struct taken *item = calloc(1, sizeof(*item));
	if (!item)
		return 0;
	*item = (struct taken){.next = h->taken, .share = s, .phase = strdup(row->phase), .extra = json_object_get(row->extra)};
	snprintf(item->id, sizeof(item->id), "%s", row->cluster);
	h->taken = item;
	return 0;
}

// The rows are read first: taking back writes to the same table.
static void walk_taken(struct host *h, char *const *running)
{
	struct vc_error err = VC_ERROR_INIT;
	for (struct taken *t; (t = h->taken);) {
		h->taken = t->next;
		if (t->share)
			share_take_back(t->share, t->phase ? t->phase : "releasing", t->extra, running);
		else if (state_share_remove(h->vcd->state, t->id, &err) < 0)
			vc_log_err("cluster %s: %s", t->id, err.text);
		free(t->phase);
		json_object_put(t->extra);
		free(t);
	}
}

static void take_back(struct host *h, char *const *running, const struct vc_error *list_err)
{
	struct vc_error err = VC_ERROR_INIT;
	struct taking t = {h, running};
	h->polling = false;
	if (list_err) {
		if (!h->libvirt_lost)
			vc_log_warning("%s; trying again each %u s", list_err->text, LIBVIRT_RETRY_MS / 1000);
		h->libvirt_lost = true;
		h->poll_at = uv_now(&h->vcd->loop) + LIBVIRT_RETRY_MS;
		return;
	}
	h->libvirt_lost = false;
	if (state_share_list(h->vcd->state, take_back_row, &t, &err) < 0)
		vc_log_err("clusters of this host: %s", err.text);
	h->ready = true;
	walk_taken(h, running);
	host_serve_early(h);
	if (clean(h, &err) < 0)
		vc_log_warning("cleaning up: %s", err.text);
}

static void try_take_back(struct host *h)
{
	struct vc_error err = VC_ERROR_INIT;
	if (h->ready || h->polling || uv_now(&h->vcd->loop) < h->poll_at)
		return;
	if (list_domains(h, take_back, &err) < 0)
		vc_log_warning("%s", err.text);
	else
		h->polling = true;
	h->poll_at = uv_now(&h->vcd->loop) + LIBVIRT_RETRY_MS;
}

int host_require_ready(struct host *h, struct vc_error *err)
{
	if (h->ready)
		return 0;
	return vc_error_set(err, VC_EBUSY, h->libvirt_lost ? "host %s runs no guests: libvirt at %s does not answer"
							   : "vcd on host %s has just started and waits for libvirt at %s",
			    h->vcd->conf->host_name, hv_uri(h->hv));
}

// --- check ----------------------------------------------------------------------------------------------------

static void check_leftovers(struct check_report *report, void *ctx)
{
	struct host *h = ctx;
	struct vc_error err = VC_ERROR_INIT;
	vc_autostrv char **items = NULL;
	struct leftover_args args = {h->hv, h->roster, h->run_dir, h->state_dir, false};
	if (leftover_scan(&args, &items, &err) < 0) {
		if (check_is_compute(report)) // a controller need not run guests
			check_finding(report, CHECK_ERROR, "see that libvirtd runs and that libvirt-uri in vcd.conf is right", "%s", err.text);
		return;
	}
	for (size_t i = 0; items[i]; i++)
		check_finding(report, CHECK_WARNING, "restart vcd on this host: it removes what belongs to nobody",
			      "%s belongs to no cluster", items[i]);
}

static void check_machine(struct check_report *report, void *ctx)
{
	struct host *h = ctx;
	if (!check_is_compute(report))
		return;
	if (h->machine_known && h->machine.type == DOMXML_TCG)
		check_finding(report, CHECK_INFO, "see that the host's firmware has virtualisation enabled and /dev/kvm works",
			      "guests are emulated (TCG): KVM does not boot a kernel here");
	else if (h->machine_known && h->machine.type == DOMXML_KVM)
		check_finding(report, CHECK_INFO, "", "guests run with KVM");
	else if (!h->machine_known && !h->finding)
		check_finding(report, CHECK_ERROR, "look into the log of vcd on this host", "guests cannot be started on this host");
	// Slurm makes a job's cgroup with its first step, after PrologSlurmctld, and cannot remove one with others' processes
	check_finding(report, CHECK_INFO, "", "guests' hypervisor processes are in libvirt's cgroups, not in their jobs': "
		      "`vcctl show JOB` has their usage, sacct has not");
	struct move_uffd uffd;
	uffd_look(h->vcd->conf->qemu_user[0] ? (uid_t)-1 : 0, &uffd);
	if (move_postcopy_obstacle(&uffd))
		check_finding(report, CHECK_INFO, "see docs/mobility.md", "members cannot move by post-copy: %s", move_postcopy_obstacle(&uffd));
	if (!hv_can_cap_memory())
		check_finding(report, CHECK_INFO, "give this host a memory cgroup controller, and vcd CAP_SYS_RESOURCE",
			      "the memory of guests' hypervisor processes is not capped");
}

static void check_files(struct check_report *report, void *ctx)
{
	const struct host *h = ctx;
	const struct conf *conf = h->vcd->conf;
	struct kernel k = {0};
	struct vc_error err = VC_ERROR_INIT;
	if (!check_is_compute(report))
		return;
	if (kernel_find("", conf->kernel[0] ? conf->kernel : NULL, &k, &err) < 0)
		check_finding(report, CHECK_ERROR, "install linux-image-cloud-amd64, or set kernel in vcd.conf", "%s", err.text);
	kernel_clear(&k);
	if (access(conf->guestd, R_OK) < 0)
		check_finding(report, CHECK_ERROR, "install vcguestd there, or set guestd in vcd.conf", "%s: %s", conf->guestd,
			      strerror(errno));
	if (h->initrd && access(h->initrd, R_OK) < 0)
		check_finding(report, CHECK_ERROR, "restart vcd on this host: it makes the initramfs again", "%s: %s", h->initrd,
			      strerror(errno));
}

// Whether QEMU's user gets at /dev/kvm: libvirt otherwise falls back or fails with a message that names neither.
static void check_kvm_group(struct check_report *report, void *ctx)
{
	const struct host *h = ctx;
	const char *user = h->vcd->conf->qemu_user;
	struct stat st;
	gid_t groups[256];
	int n = VC_ARRAY_LEN(groups);
	if (!check_is_compute(report) || h->vcd->conf->hypervisor == CONF_HV_TCG || stat("/dev/kvm", &st) < 0)
		return;
	const struct passwd *pw = *user ? getpwnam(user) : NULL;
	if (*user && !pw)
		check_finding(report, CHECK_ERROR, "install libvirt, or set qemu-user in vcd.conf", "qemu-user %s is no user of this host", user);
	if (!pw || pw->pw_uid == 0 || st.st_uid == pw->pw_uid || (st.st_mode & 0006) == 0006 ||
	    getgrouplist(user, pw->pw_gid, groups, &n) < 0)
		return;
	for (int i = 0; i < n; i++) {
		if (groups[i] == st.st_gid && (st.st_mode & 0060) == 0060)
			return;
	}
	check_finding(report, CHECK_WARNING, "put that user into the device's group and restart libvirtd",
		      "/dev/kvm belongs to group %u, in which qemu-user %s is not: guests are emulated, and each start is slow",
		      st.st_gid, user);
}

struct row_check {
	struct host *host;
	struct check_report *report;
};

static int check_row(const struct state_share *row, void *ctx)
{
	struct row_check *c = ctx;
	if (!host_find_cluster(c->host, row->cluster))
		check_finding(c->report, CHECK_WARNING, "restart vcd on this host: it takes the row back, or removes it",
			      "database row of cluster %s (job %" PRIu32 ") belongs to no cluster", row->cluster, row->job);
	return 0;
}

static void check_pin(const char *digest, const char *cluster, void *ctx)
{
	struct row_check *c = ctx;
	// of clusters here; the controller's transfers pin under names of their own
	if (strlen(cluster) == PLAN_ID_LEN && !host_find_cluster(c->host, cluster))
		check_finding(c->report, CHECK_WARNING, "restart vcd on this host: pins live in its memory",
			      "image %.12s is pinned by cluster %s, which is not here", digest, cluster);
}

static void check_records(struct check_report *report, void *ctx)
{
	struct host *h = ctx;
	struct vc_error err = VC_ERROR_INIT;
	struct row_check c = {h, report};
	if (!h->ready)
		return; // libvirt is away: nothing is taken back yet
	if (state_share_list(h->vcd->state, check_row, &c, &err) < 0)
		check_finding(report, CHECK_ERROR, "see state-dir of vcd.conf and its disk", "%s", err.text);
	if (h->vcd->images)
		store_each_pin(images_store(h->vcd->images), check_pin, &c);
}

static void check_fencing(struct check_report *report, void *ctx)
{
	struct host *h = ctx;
	if (check_is_compute(report) && h->vcd->conf->fencing != CONF_FENCE_MARK && !fence_is_watched(h->vcd->conf->run_dir))
		check_finding(report, CHECK_WARNING, "start vc-fence.service there",
			      "fencing is set in vcd.conf, and vc-fence does not run: machines are fenced only while vcd runs");
}

static int register_checks(struct host *h, struct vc_error *err)
{
	static const struct {
		const char *name;
		enum check_thread thread;
		check_fn fn;
	} checks[] = {
		{"leftovers", CHECK_IN_WORKER, check_leftovers}, {"hypervisor", CHECK_ON_LOOP, check_machine},
		{"files", CHECK_ON_LOOP, check_files},		 {"kvm", CHECK_ON_LOOP, check_kvm_group},
		{"records", CHECK_ON_LOOP, check_records},	 {"fencing", CHECK_ON_LOOP, check_fencing},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(checks); i++) {
		if (check_register(h->vcd->check, checks[i].name, checks[i].thread, checks[i].fn, h, err) < 0)
			return -1;
	}
	return 0;
}

// --- life -----------------------------------------------------------------------------------------------------

static void on_tick(uv_timer_t *timer)
{
	struct host *h = timer->data;
	hv_set_patience(h->hv, h->vcd->conf->libvirt_timeout_ms / 2); // beside the call itself, and read anew at a reload
	try_take_back(h);
	poll_domains(h);
	for (struct share *next, *s = h->shares; s; s = next) {
		next = share_next(s);
		share_tick(s);
	}
	host_serve_early(h);
	host_admit_waiting(h);
	bury_dead(h);
}

static void on_vsock(void *ctx, uint32_t cid, int fd)
{
	struct host *h = ctx;
	struct share *s = h->shares;
	while (s && !share_take_link(s, cid, fd))
		s = share_next(s);
	if (!s)
		close(fd);
}

static void open_vsock(struct host *h)
{
	struct vc_error err = VC_ERROR_INIT;
	if (h->vcd->conf->guest_link == CONF_LINK_SERIAL || hv_is_fake(h->hv))
		return;
	h->vsock = vsock_create(&h->vcd->loop, on_vsock, h, &err);
	vc_log_info("guest links of this host: %s%s", h->vsock ? "vsock" : "virtio-serial, as vsock is not offered: ", err.text);
}

static int fill(struct host *h, struct vc_error *err)
{
	struct vcd *vcd = h->vcd;
	struct sysinfo info;
	if (sysinfo(&info) < 0)
		return vc_error_errno(err, "sysinfo");
	h->mem_mib = (uint64_t)info.totalram * info.mem_unit >> 20;
	h->roster = roster_create();
	h->run_dir = strdup(vcd->conf->run_dir);
	h->state_dir = strdup(vcd->conf->state_dir);
	if (!h->roster || !h->run_dir || !h->state_dir)
		return vc_error_errno(err, "host");
	if (host_methods_register(h, err) < 0 || register_checks(h, err) < 0)
		return -1;
	h->tasks = tasks_create(vcd, h, err);
	if (!h->tasks)
		return -1;
	h->hv = hv_create(vcd->conf->libvirt_uri, &vcd->loop, on_hv_event, h, err);
	return h->hv ? 0 : -1;
}

struct host *host_create(struct vcd *vcd, struct vc_error *err)
{
	struct host *h = calloc(1, sizeof(*h));
	if (!h) {
		vc_error_errno(err, "host");
		return NULL;
	}
	h->vcd = vcd;
	if (fill(h, err) < 0) {
		host_destroy(h);
		return NULL;
	}
	open_vsock(h);
	uv_timer_init(&vcd->loop, &h->timer);
	h->timer.data = h;
	uv_timer_start(&h->timer, on_tick, 0, TICK_MS);
	h->timer_up = true;
	return h;
}

void host_stop(struct host *h)
{
	if (!h || h->stopped)
		return;
	h->stopped = true;
	if (h->timer_up)
		uv_close((uv_handle_t *)&h->timer, NULL);
	host_methods_stop(h);
	for (struct share *s = h->shares; s; s = share_next(s))
		share_stop(s);
	tasks_stop(h->tasks);
	vsock_close(vc_steal(&h->vsock));
	hv_stop(h->hv);
}

void host_destroy(struct host *h)
{
	if (!h)
		return;
	int saved = errno;
	bury_dead(h);
	while (h->shares) {
		struct share *s = h->shares;
		h->shares = share_next(s);
		share_destroy(s);
	}
	tasks_destroy(h->tasks);
	hv_destroy(h->hv);
	roster_destroy(h->roster);
	free(h->failures);
	for (size_t i = 0; i < h->n_released; i++)
		json_object_put(h->released[i].usage);
	free(h->released);
	free(h->kernel);
	free(h->initrd);
	free(h->run_dir);
	free(h->state_dir);
	free(h);
	errno = saved;
}
