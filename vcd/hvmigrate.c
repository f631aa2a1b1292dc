// SPDX-License-Identifier: GPL-2.0-or-later
// Migrations: see hv.h. libvirtd of the source leads (peer to peer), and reaches the target's by a unix socket here.
//
// The domain arrives paused: it is vcd, not libvirt, that lets it run, when the source's vcd has written down that it is
// gone. So a connection that breaks between "finish" and its answer never makes two running copies. By post-copy it is libvirt at
// the target that lets it run, when it is told so by libvirt here: the relay holds these words back until then.
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <libvirt/virterror.h>

#include "libvc/cleanup.h"
#include "vcd/fault.h"
#include "vcd/hv_int.h"

#define SETTLE_TRIES 300	// an abort takes milliseconds; QEMU's last round may take seconds
#define SETTLE_MS 100
#define ARRIVE_TRIES 200 // libvirt at the target has said that the domain is there, and ends its job
#define ARRIVE_MS 5
#define MULTIFD_STREAMS 2
#define POSTCOPY_DOWNTIME_MS 1
#define ZSTD_LIBVIRT 9001000ul // the first version that can compress those
#define XBZRLE_CACHE (64ull << 20) // bytes, of the source's QEMU while it migrates

#define auto_domain __attribute__((cleanup(hv_free_domain)))

// --- migrate --------------------------------------------------------------------------------------------------

struct params {
	virTypedParameterPtr list;
	int n, max;
};

static void params_clear(struct params *p)
{
	virTypedParamsFree(p->list, p->n);
}

static int add_str(struct params *p, const char *key, const char *value)
{
	return virTypedParamsAddString(&p->list, &p->n, &p->max, key, value);
}

static int add_socket(struct params *p, const char *key, const char *path)
{
	char uri[160];
	snprintf(uri, sizeof(uri), "unix://%s", path);
	return add_str(p, key, uri);
}

static unsigned long flags_of(const struct hv_migration *m, bool zstd)
{
	unsigned long flags = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_NON_SHARED_INC;
	flags |= m->policy == MOVE_POSTCOPY ? VIR_MIGRATE_POSTCOPY : VIR_MIGRATE_PAUSED; // libvirt knows not both
	if (m->policy == MOVE_CONVERGE)
		flags |= VIR_MIGRATE_AUTO_CONVERGE;
	if (m->policy == MOVE_COMPRESS)
		flags |= VIR_MIGRATE_COMPRESSED;
	if (m->policy == MOVE_MULTIFD)
		flags |= VIR_MIGRATE_PARALLEL;
	if (m->policy == MOVE_MULTIFD && zstd)
		flags |= VIR_MIGRATE_COMPRESSED;
	return flags;
}

static int fill_compression(struct params *p, const struct hv_migration *m, bool zstd)
{
	if (m->policy == MOVE_MULTIFD) {
		if (virTypedParamsAddInt(&p->list, &p->n, &p->max, VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, MULTIFD_STREAMS) < 0)
			return -1;
		return zstd ? add_str(p, VIR_MIGRATE_PARAM_COMPRESSION, "zstd") : 0;
	}
	if (m->policy != MOVE_COMPRESS)
		return 0;
	if (virTypedParamsAddULLong(&p->list, &p->n, &p->max, VIR_MIGRATE_PARAM_COMPRESSION_XBZRLE_CACHE, XBZRLE_CACHE) < 0)
		return -1;
	return add_str(p, VIR_MIGRATE_PARAM_COMPRESSION, "xbzrle");
}

static int fill_params(struct params *p, const struct hv_migration *m, bool zstd)
{
	if (add_str(p, VIR_MIGRATE_PARAM_DEST_XML, m->xml) < 0 || add_socket(p, VIR_MIGRATE_PARAM_URI, m->memory) < 0 ||
	    add_socket(p, VIR_MIGRATE_PARAM_DISKS_URI, m->disk) < 0)
		return -1;
	if (m->bandwidth_mib &&
	    virTypedParamsAddULLong(&p->list, &p->n, &p->max, VIR_MIGRATE_PARAM_BANDWIDTH, m->bandwidth_mib) < 0)
		return -1;
	if (m->bandwidth_mib && m->policy == MOVE_POSTCOPY &&
	    virTypedParamsAddULLong(&p->list, &p->n, &p->max, VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY, m->bandwidth_mib) < 0)
		return -1;
	return fill_compression(p, m, zstd);
}

static bool can_zstd(virConnectPtr conn)
{
	unsigned long version = 0;
	return virConnectGetLibVersion(conn, &version) == 0 && version >= ZSTD_LIBVIRT;
}

static int migrate_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const struct hv_migration *m = ctx;
	__attribute__((cleanup(params_clear))) struct params p = {0};
	char uri[160];
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, m->name);
	if (!dom)
		return hv_error(err, "domain %s", m->name);
	bool zstd = can_zstd(conn);
	if (fill_params(&p, m, zstd) < 0)
		return hv_error(err, "migration of domain %s", m->name);
	if (m->policy == MOVE_POSTCOPY) // it is not to end before
		(void)virDomainMigrateSetMaxDowntime(dom, POSTCOPY_DOWNTIME_MS, 0);
	else if (m->downtime_ms)
		(void)virDomainMigrateSetMaxDowntime(dom, m->downtime_ms, 0); // its own default is 300 ms
	snprintf(uri, sizeof(uri), "qemu+unix:///system?socket=%s", m->libvirt);
	if (virDomainMigrateToURI3(dom, uri, p.list, (unsigned)p.n, (unsigned)flags_of(m, zstd)) < 0)
		return hv_error(err, "libvirt cannot migrate the domain");
	return 0;
}

int hv_migrate(struct hv *hv, const struct hv_migration *m, struct vc_error *err)
{
	return hv_call(hv, &hv_once, migrate_run, (void *)m, err);
}

// --- progress -------------------------------------------------------------------------------------------------

struct progress_args {
	const char *name;
	unsigned flags;
	struct hv_progress *ret;
};

static void take(virTypedParameterPtr list, int n, const char *key, uint64_t *ret)
{
	unsigned long long value;
	if (virTypedParamsGetULLong(list, n, key, &value) > 0)
		*ret = value;
}

static int progress_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const struct progress_args *a = ctx;
	struct params p = {0};
	int type = VIR_DOMAIN_JOB_NONE;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, a->name);
	if (!dom || virDomainGetJobStats(dom, &type, &p.list, &p.n, a->flags) < 0)
		return hv_error(err, "migration of domain %s", a->name);
	struct hv_progress *r = a->ret;
	*r = (struct hv_progress){.active = type != VIR_DOMAIN_JOB_NONE};
	take(p.list, p.n, VIR_DOMAIN_JOB_MEMORY_TOTAL, &r->total);
	take(p.list, p.n, VIR_DOMAIN_JOB_MEMORY_PROCESSED, &r->processed);
	take(p.list, p.n, VIR_DOMAIN_JOB_MEMORY_REMAINING, &r->remaining);
	take(p.list, p.n, VIR_DOMAIN_JOB_MEMORY_ITERATION, &r->iteration);
	take(p.list, p.n, VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, &r->dirty_rate);
	take(p.list, p.n, VIR_DOMAIN_JOB_TIME_ELAPSED, &r->elapsed_ms);
	take(p.list, p.n, VIR_DOMAIN_JOB_DOWNTIME, &r->downtime_ms);
	uint64_t page = 0;
	take(p.list, p.n, VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, &page);
	r->dirty_rate *= page ? page : 4096;
	params_clear(&p);
	return 0;
}

int hv_progress(struct hv *hv, const char *name, struct hv_progress *ret, struct vc_error *err)
{
	struct progress_args a = {name, 0, ret};
	return hv_call(hv, &hv_once, progress_run, &a, err);
}

int hv_progress_done(struct hv *hv, const char *name, struct hv_progress *ret, struct vc_error *err)
{
	struct progress_args a = {name, VIR_DOMAIN_JOB_STATS_COMPLETED, ret};
	return hv_call(hv, &hv_once, progress_run, &a, err);
}

static int force_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const char *name = ctx;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, name);
	return dom && virDomainSuspend(dom) == 0 ? 0 : hv_error(err, "domain %s cannot be stopped for its migration", name);
}

int hv_force_end(struct hv *hv, const char *name, struct vc_error *err)
{
	return hv_call(hv, &hv_once, force_run, (void *)name, err);
}

// --- post-copy ------------------------------------------------------------------------------------------------

static int switch_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const char *name = ctx;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, name);
	return dom && virDomainMigrateStartPostCopy(dom, 0) == 0 ? 0 : hv_error(err, "domain %s cannot go on at its target", name);
}

int hv_switch(struct hv *hv, const char *name, struct vc_error *err)
{
	return hv_call(hv, &hv_once, switch_run, (void *)name, err);
}

static bool is_torn(int state, int reason)
{
	return (state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED) ||
	       (state == VIR_DOMAIN_RUNNING && reason == VIR_DOMAIN_RUNNING_POSTCOPY_FAILED);
}

static bool is_given_up(int state, int reason)
{
	return state == VIR_DOMAIN_PAUSED && (reason == VIR_DOMAIN_PAUSED_POSTCOPY || reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED);
}

struct switched_args {
	const char *name;
	bool *ret;
};

static int switched_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const struct switched_args *a = ctx;
	int state, reason;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, a->name);
	if (!dom || virDomainGetState(dom, &state, &reason, 0) < 0)
		return hv_error(err, "domain %s", a->name);
	*a->ret = is_given_up(state, reason);
	return 0;
}

int hv_has_switched(struct hv *hv, const char *name, bool *ret, struct vc_error *err)
{
	struct switched_args a = {name, ret};
	return hv_call(hv, &hv_once, switched_run, &a, err);
}

// --- ends -----------------------------------------------------------------------------------------------------

struct settle_args {
	const char *name;
	bool *ret_here;
};

// By post-copy, and it never runs here again.
static bool has_left(virDomainPtr dom)
{
	int state, reason;
	return virDomainGetState(dom, &state, &reason, 0) == 0 && is_given_up(state, reason);
}

static bool has_job(virDomainPtr dom)
{
	virDomainJobInfo info;
	return virDomainGetJobInfo(dom, &info) == 0 && info.type != VIR_DOMAIN_JOB_NONE;
}

// Without a migration under way nothing but a request of ours has a domain stopped: what a migration left so goes on.
static int go_on(virDomainPtr dom, const char *name, struct vc_error *err)
{
	int state, reason;
	if (virDomainGetState(dom, &state, &reason, 0) < 0)
		return hv_error(err, "domain %s", name);
	bool left = state == VIR_DOMAIN_PAUSED && (reason == VIR_DOMAIN_PAUSED_MIGRATION || reason == VIR_DOMAIN_PAUSED_UNKNOWN);
	return left && virDomainResume(dom) < 0 ? hv_error(err, "domain %s does not go on", name) : 0;
}

static int settle_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const struct settle_args *a = ctx;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, a->name);
	for (int i = 0; dom && i < SETTLE_TRIES && has_job(dom) && !has_left(dom); i++) {
		(void)virDomainAbortJob(dom); // one that ends by itself meanwhile is as good
		poll(NULL, 0, SETTLE_MS);
	}
	*a->ret_here = false;
	if (dom && has_left(dom))
		return 0;
	if (dom && has_job(dom))
		return vc_error_set(err, VC_EBUSY, "libvirt is still at the migration of domain %s", a->name);
	hv_free_domain(&dom);
	dom = virDomainLookupByName(conn, a->name); // it may have gone in the end
	*a->ret_here = dom != NULL;
	if (!dom)
		return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? 0 : hv_error(err, "domain %s", a->name);
	return go_on(dom, a->name, err);
}

int hv_settle(struct hv *hv, const char *name, bool *ret_here, struct vc_error *err)
{
	struct settle_args a = {name, ret_here};
	return hv_call(hv, &hv_once, settle_run, &a, err);
}

static int stopped_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const char *name = ctx;
	int state, reason;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, name);
	if (!dom || virDomainGetState(dom, &state, &reason, 0) < 0)
		return hv_error(err, "domain %s", name);
	return state == VIR_DOMAIN_PAUSED ? 0 : vc_error_set(err, VC_EBUSY, "domain %s runs", name);
}

int hv_is_stopped(struct hv *hv, const char *name, struct vc_error *err)
{
	return hv_call(hv, &hv_once, stopped_run, (void *)name, err);
}

int hv_kill_process(const char *name, struct vc_error *err)
{
	uint64_t pid;
	if (hv_pid(name, &pid) < 0)
		return vc_error_set(err, VC_ENOTFOUND, "domain %s has no process", name);
	return kill((pid_t)pid, SIGKILL) < 0 ? vc_error_errno(err, "kill process %" PRIu64 " of domain %s", pid, name) : 0;
}

struct arrive_args {
	const char *name;
	enum hv_arrival what;
	bool *ret_torn;
};

// 1: so it is; 0: not yet. While libvirt is at a post-copy it would let a request to run wait until the end.
static int try_arrive(virDomainPtr dom, const struct arrive_args *a, struct vc_error *err)
{
	int state, reason;
	if (virDomainGetState(dom, &state, &reason, 0) < 0)
		return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? vc_error_set(err, VC_ENOTFOUND, "domain %s did not come", a->name)
								  : hv_error(err, "domain %s", a->name);
	*a->ret_torn = is_torn(state, reason);
	if (state == VIR_DOMAIN_RUNNING || *a->ret_torn)
		return 1;
	if (a->what == HV_RUNS || has_job(dom))
		return 0;
	return a->what == HV_COMPLETE || virDomainResume(dom) == 0 ? 1 : hv_error(err, "domain %s does not run", a->name);
}

static int arrive_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const struct arrive_args *a = ctx;
	int rc = 0;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, a->name);
	if (!dom && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
		return vc_error_set(err, VC_ENOTFOUND, "domain %s did not come", a->name);
	if (!dom)
		return hv_error(err, "domain %s", a->name);
	for (int i = 0; i < ARRIVE_TRIES && (rc = try_arrive(dom, a, err)) == 0; i++)
		poll(NULL, 0, ARRIVE_MS);
	if (rc == 0)
		return vc_error_set(err, VC_EBUSY, "domain %s is still on its way", a->name);
	return rc < 0 ? -1 : 0;
}

int hv_arrive(struct hv *hv, const char *name, enum hv_arrival what, bool *ret_torn, struct vc_error *err)
{
	struct arrive_args a = {name, what, ret_torn};
	*ret_torn = false;
	return hv_call(hv, &hv_once, arrive_run, &a, err);
}
