// SPDX-License-Identifier: GPL-2.0-or-later
// libvirt: see hv.h.
//
// Threads: callers (workers) share one connection under conn_lock, which is held for opening and taking a reference
// only, never over a libvirt call that can hang. libvirt's event loop has a thread of its own, which queues events
// under queue_lock and wakes the loop.
//
// A libvirtd that ends takes with it what it is at. Each function here is idempotent and goes through hv_call(), which
// does it again on a new connection when the old one was lost.
#include "vcd/hv.h"

#include <libvirt/libvirt.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "libvc/parse.h"
#include "vcd/domxml.h"
#include "vcd/fault.h"
#include "vcd/hv_int.h"

#define HV_EVENTS_MAX 4096	 // waiting for the loop; past it the newest are dropped, the periodic list finds them
#define HV_TICK_MS 200		 // the event thread looks at its stop flag this often
#define HV_LOST_MS 1000	 // a libvirtd that ends fails what it is at before it closes its connections
#define HV_LOST_POLL_MS 20
#define HV_AGAIN_MS 100 // between two tries
#define HV_METADATA_MAX 4096
#define HV_PID_DIR "/run/libvirt/qemu" // where libvirt keeps the pid files of its QEMUs

struct event {
	struct event *next;
	char domain[VC_NAME_MAX + 1];
	enum hv_event what;
	char reason[64];
};

struct hv {
	char *uri;
	pthread_mutex_t conn_lock;
	virConnectPtr conn;
	int lifecycle, migration; // the connection's event callbacks
	pthread_t thread;
	bool thread_up;
	atomic_bool ending; // no second tries any more
	atomic_bool stop;   // the event thread ends
	atomic_uint_fast64_t patience_ms;
	int tick;
	// events
	uv_async_t async;
	bool async_up;
	hv_event_fn fn;
	void *ctx;
	pthread_mutex_t queue_lock;
	struct event *first, **last;
	unsigned n_queued;
};

static void close_conn(virConnectPtr *conn)
{
	if (*conn)
		virConnectClose(*conn);
}
#define auto_conn __attribute__((cleanup(close_conn)))
#define auto_domain __attribute__((cleanup(hv_free_domain)))

int hv_error(struct vc_error *err, const char *fmt, ...)
{
	const char *text = virGetLastErrorMessage();
	char what[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return vc_error_set(err, VC_EHOST, "%s: %s", what, text ? text : "unknown error");
}

// --- events ---------------------------------------------------------------------------------------------------

static void queue_event(struct hv *hv, const char *domain, enum hv_event what, const char *reason)
{
	struct event *e = calloc(1, sizeof(*e));
	if (!e)
		return;
	snprintf(e->domain, sizeof(e->domain), "%s", domain);
	snprintf(e->reason, sizeof(e->reason), "%s", reason);
	e->what = what;
	pthread_mutex_lock(&hv->queue_lock);
	if (hv->async_up && hv->n_queued < HV_EVENTS_MAX) {
		*hv->last = e;
		hv->last = &e->next;
		hv->n_queued++;
		uv_async_send(&hv->async);
		e = NULL;
	}
	pthread_mutex_unlock(&hv->queue_lock);
	free(e);
}

static struct event *take_events(struct hv *hv)
{
	pthread_mutex_lock(&hv->queue_lock);
	struct event *list = hv->first;
	hv->first = NULL;
	hv->last = &hv->first;
	hv->n_queued = 0;
	pthread_mutex_unlock(&hv->queue_lock);
	return list;
}

static void on_async(uv_async_t *async)
{
	struct hv *hv = async->data;
	struct event *next, *e = take_events(hv);
	for (; e; e = next) {
		next = e->next;
		if (hv->fn)
			hv->fn(hv->ctx, e->domain, e->what, e->reason);
		free(e);
	}
}

static const char *stop_reason(int detail)
{
	static const char *const names[] = {
		[VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN] = "shut down by itself",
		[VIR_DOMAIN_EVENT_STOPPED_DESTROYED] = "destroyed",
		[VIR_DOMAIN_EVENT_STOPPED_CRASHED] = "crashed",
		[VIR_DOMAIN_EVENT_STOPPED_MIGRATED] = "migrated",
		[VIR_DOMAIN_EVENT_STOPPED_SAVED] = "saved",
		[VIR_DOMAIN_EVENT_STOPPED_FAILED] = "QEMU ended",
	};
	return detail >= 0 && (size_t)detail < VC_ARRAY_LEN(names) && names[detail] ? names[detail] : "stopped";
}

static int on_lifecycle(virConnectPtr conn, virDomainPtr dom, int event, int detail, void *opaque)
{
	(void)conn;
	const char *name = virDomainGetName(dom);
	if (!name || strncmp(name, HV_DOMAIN_PREFIX, strlen(HV_DOMAIN_PREFIX)) != 0)
		return 0;
	if (event == VIR_DOMAIN_EVENT_STARTED)
		queue_event(opaque, name, HV_STARTED, "started");
	else if (event == VIR_DOMAIN_EVENT_SUSPENDED &&
		 (detail == VIR_DOMAIN_EVENT_SUSPENDED_PAUSED || detail == VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY))
		queue_event(opaque, name, HV_PAUSED, "paused");
	else if ((event == VIR_DOMAIN_EVENT_SUSPENDED && detail == VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED) ||
		 (event == VIR_DOMAIN_EVENT_RESUMED && detail == VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED))
		queue_event(opaque, name, HV_TORN, "post-copy failed");
	else if (event == VIR_DOMAIN_EVENT_CRASHED)
		queue_event(opaque, name, HV_CRASHED, "the guest's kernel panicked");
	else if (event == VIR_DOMAIN_EVENT_STOPPED)
		queue_event(opaque, name, detail == VIR_DOMAIN_EVENT_STOPPED_CRASHED ? HV_CRASHED : HV_STOPPED,
			    stop_reason(detail));
	return 0;
}

// QEMU's own word: libvirt (9.0) at the target says nothing of a stream that breaks while it waits for the rest of a post-copy.
static void on_migration(virConnectPtr conn, virDomainPtr dom, const char *event, long long sec, unsigned int usec, const char *details,
			 void *opaque)
{
	(void)conn;
	(void)event;
	(void)sec;
	(void)usec;
	const char *name = virDomainGetName(dom);
	if (name && strncmp(name, HV_DOMAIN_PREFIX, strlen(HV_DOMAIN_PREFIX)) == 0 && details && strstr(details, "\"postcopy-paused\""))
		queue_event(opaque, name, HV_TORN, "post-copy failed");
}

static void on_close(virConnectPtr conn, int reason, void *opaque)
{
	(void)conn;
	(void)reason;
	queue_event(opaque, "", HV_LOST, "the connection to libvirtd is lost");
}

static void on_tick(int timer, void *opaque)
{
	(void)timer;
	(void)opaque;
}

static void *event_thread(void *arg)
{
	struct hv *hv = arg;
	while (!hv->stop)
		virEventRunDefaultImpl();
	return NULL;
}

// libvirt prints every error to stderr unless told otherwise; our callers log.
static void ignore_error(void *ctx, virErrorPtr e)
{
	(void)ctx;
	(void)e;
}

static pthread_once_t libvirt_once = PTHREAD_ONCE_INIT;
static void libvirt_init(void)
{
	virInitialize();
	virSetErrorFunc(NULL, ignore_error);
	virEventRegisterDefaultImpl();
}

// Its callbacks hold references to it.
static void drop_conn(struct hv *hv)
{
	if (!hv->conn)
		return;
	if (hv->lifecycle >= 0) {
		virConnectDomainEventDeregisterAny(hv->conn, hv->lifecycle);
		virConnectUnregisterCloseCallback(hv->conn, on_close);
	}
	if (hv->migration >= 0)
		virConnectDomainQemuMonitorEventDeregister(hv->conn, hv->migration);
	hv->lifecycle = hv->migration = -1;
	virConnectClose(hv->conn);
	hv->conn = NULL;
}

// --- life -----------------------------------------------------------------------------------------------------

static int start_thread(struct hv *hv, struct vc_error *err)
{
	hv->tick = virEventAddTimeout(HV_TICK_MS, on_tick, NULL, NULL);
	if (hv->tick < 0)
		return vc_error_set(err, VC_EHOST, "libvirt's event loop gives no timer");
	int rc = pthread_create(&hv->thread, NULL, event_thread, hv);
	if (rc)
		return vc_error_set(err, rc, "libvirt's event thread: %s", strerror(rc));
	hv->thread_up = true;
	return 0;
}

struct hv *hv_create(const char *uri, uv_loop_t *loop, hv_event_fn fn, void *ctx, struct vc_error *err)
{
	struct hv *hv = calloc(1, sizeof(*hv));
	if (!hv || !(hv->uri = strdup(uri))) {
		free(hv);
		vc_error_errno(err, "hypervisor");
		return NULL;
	}
	pthread_once(&libvirt_once, libvirt_init);
	pthread_mutex_init(&hv->conn_lock, NULL);
	pthread_mutex_init(&hv->queue_lock, NULL);
	hv->last = &hv->first;
	hv->fn = fn;
	hv->ctx = ctx;
	hv->tick = hv->lifecycle = hv->migration = -1;
	hv->patience_ms = HV_PATIENCE_MS;
	// the loop's handle first: an event may come as soon as the thread runs
	if (loop) {
		uv_async_init(loop, &hv->async, on_async);
		hv->async.data = hv;
		hv->async_up = true;
	}
	if (start_thread(hv, err) < 0) {
		hv_stop(hv);
		if (loop)
			uv_run(loop, UV_RUN_NOWAIT); // lets the handle close
		hv_destroy(hv);
		return NULL;
	}
	return hv;
}

void hv_stop(struct hv *hv)
{
	if (!hv)
		return;
	hv->ending = true;
	pthread_mutex_lock(&hv->queue_lock);
	bool up = hv->async_up;
	hv->async_up = false;
	pthread_mutex_unlock(&hv->queue_lock);
	if (up)
		uv_close((uv_handle_t *)&hv->async, NULL);
}

void hv_destroy(struct hv *hv)
{
	if (!hv)
		return;
	int saved = errno;
	hv->stop = true;
	if (hv->thread_up)
		pthread_join(hv->thread, NULL);
	if (hv->tick >= 0)
		virEventRemoveTimeout(hv->tick);
	close_conn(&hv->conn); // no event comes any more; deregistering would ask a libvirtd that may hang
	for (struct event *next, *e = take_events(hv); e; e = next) {
		next = e->next;
		free(e);
	}
	pthread_mutex_destroy(&hv->conn_lock);
	pthread_mutex_destroy(&hv->queue_lock);
	free(hv->uri);
	free(hv);
	errno = saved;
}

const char *hv_uri(const struct hv *hv)
{
	return hv->uri;
}

bool hv_is_fake(const struct hv *hv)
{
	return strncmp(hv->uri, "test:", 5) == 0;
}

static bool has_memory_cgroup(void)
{
	char line[4096];
	vc_autofclose FILE *v2 = fopen("/sys/fs/cgroup/cgroup.controllers", "re");
	if (v2 && fgets(line, sizeof(line), v2) && strstr(line, "memory"))
		return true;
	vc_autofclose FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && fgets(line, sizeof(line), f)) {
		const char *type = strstr(line, " - cgroup ");
		if (type && strstr(type, "memory"))
			return true;
	}
	return false;
}

bool hv_can_cap_memory(void)
{
	// libvirt raises the limit of locked memory together with the cap
	return has_memory_cgroup() && prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE) == 1;
}

void hv_set_patience(struct hv *hv, uint64_t ms)
{
	hv->patience_ms = ms;
}

// --- connection -----------------------------------------------------------------------------------------------

static int register_events(struct hv *hv, struct vc_error *err)
{
	hv->lifecycle = virConnectDomainEventRegisterAny(hv->conn, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
							 VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), hv, NULL);
	if (hv->lifecycle < 0)
		return hv_error(err, "libvirt at %s: events", hv->uri);
	(void)virConnectRegisterCloseCallback(hv->conn, on_close, hv, NULL); // the test driver has none of these two
	hv->migration = virConnectDomainQemuMonitorEventRegister(hv->conn, NULL, "MIGRATION", on_migration, hv, NULL, 0);
	return 0;
}

static int open_conn(struct hv *hv, struct vc_error *err)
{
	(void)VC_FAULT("hv-connect");
	hv->conn = virConnectOpen(hv->uri);
	if (!hv->conn)
		return hv_error(err, "libvirt at %s", hv->uri);
	if (!hv->fn || register_events(hv, err) == 0)
		return 0;
	drop_conn(hv);
	return -1;
}

// A reference to a live connection, for one call.
static virConnectPtr get_conn(struct hv *hv, struct vc_error *err)
{
	pthread_mutex_lock(&hv->conn_lock);
	if (hv->conn && virConnectIsAlive(hv->conn) != 1)
		drop_conn(hv);
	virConnectPtr conn = NULL;
	if (hv->conn || open_conn(hv, err) == 0) {
		conn = hv->conn;
		virConnectRef(conn);
	}
	pthread_mutex_unlock(&hv->conn_lock);
	return conn;
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

// Whether the connection is lost, or is within wait_ms.
static bool is_lost(virConnectPtr conn, uint64_t wait_ms)
{
	uint64_t end = now_ms() + wait_ms;
	while (virConnectIsAlive(conn) == 1) {
		if (now_ms() >= end)
			return false;
		poll(NULL, 0, HV_LOST_POLL_MS);
	}
	return true;
}

static const struct hv_manner patient = {true, 0}, starting = {true, HV_LOST_MS};
const struct hv_manner hv_once = {false, 0};

enum { CALL_NOT_CONNECTED = HV_CALL_AGAIN + 1, CALL_LOST };

static int try_call(struct hv *hv, const struct hv_manner *manner, hv_call_fn run, void *ctx, struct vc_error *err)
{
	auto_conn virConnectPtr conn = get_conn(hv, err);
	if (!conn)
		return CALL_NOT_CONNECTED;
	int rc = run(hv, conn, ctx, err);
	return rc < 0 && is_lost(conn, manner->lost_ms) ? CALL_LOST : rc;
}

int hv_call(struct hv *hv, const struct hv_manner *manner, hv_call_fn run, void *ctx, struct vc_error *err)
{
	uint64_t end = 0;
	for (bool second = false;; second = true) {
		struct vc_error why = VC_ERROR_INIT;
		int rc = try_call(hv, manner, run, ctx, &why);
		if (rc == 0)
			return 0;
		if (!end)
			end = now_ms() + (manner->waits ? hv->patience_ms : 0);
		bool again = rc == CALL_LOST && !second;
		if (rc < 0 || hv->ending || (!again && now_ms() >= end)) {
			if (err)
				*err = why;
			return -1;
		}
		if (!again)
			poll(NULL, 0, HV_AGAIN_MS);
	}
}

// --- domains --------------------------------------------------------------------------------------------------

static bool is_starting(int state, int reason)
{
	return state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_STARTING_UP;
}

struct start_args {
	const char *name, *xml;
	const atomic_bool *ending;
};

// What an earlier try, on a connection that was lost, made of it. 0: it runs. 1: it is not there.
static int look(virConnectPtr conn, const char *name, struct vc_error *err)
{
	int state, reason;
	(void)VC_FAULT("hv-look");
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, name);
	if (!dom && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
		return 1;
	if (!dom || virDomainGetState(dom, &state, &reason, 0) < 0)
		return hv_error(err, "domain %s", name);
	if (state == VIR_DOMAIN_RUNNING)
		return 0;
	return vc_error_set(err, VC_EBUSY, "libvirt is still at an earlier start of domain %s", name);
}

static int start_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	struct start_args *a = ctx;
	(void)hv;
	int rc = look(conn, a->name, err);
	if (rc < 0 && err->code == VC_EBUSY)
		return HV_CALL_AGAIN;
	if (rc <= 0)
		return rc;
	(void)VC_FAULT("hv-create");
	if (a->ending && *a->ending)
		return vc_error_set(err, VC_ECANCELED, "the start of domain %s was given up", a->name);
	auto_domain virDomainPtr dom = virDomainCreateXML(conn, a->xml, 0);
	if (!dom)
		return hv_error(err, "libvirt cannot start the domain");
	if (VC_FAULT("hv-created"))
		return vc_error_set(err, VC_EFAILED, "fault point hv-created"), HV_CALL_AGAIN; // the answer was lost
	return 0;
}

int hv_start(struct hv *hv, const char *name, const char *xml, const atomic_bool *ending, struct vc_error *err)
{
	struct start_args a = {name, xml, ending};
	return hv_call(hv, &starting, start_run, &a, err);
}

static int kill_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const char *name = ctx;
	(void)hv;
	(void)VC_FAULT("hv-kill");
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, name);
	if (!dom)
		return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? 0 : hv_error(err, "domain %s", name);
	if (virDomainDestroy(dom) == 0)
		return 0;
	int code = virGetLastErrorCode();
	if (code == VIR_ERR_NO_DOMAIN || code == VIR_ERR_OPERATION_INVALID) // it ended by itself meanwhile
		return 0;
	return hv_error(err, "libvirt cannot destroy domain %s", name);
}

int hv_kill(struct hv *hv, const char *name, struct vc_error *err)
{
	return hv_call(hv, &hv_once, kill_run, (void *)name, err);
}

struct pause_args {
	const char *name;
	bool pause;
};

static int pause_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const struct pause_args *a = ctx;
	int state, reason;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, a->name);
	if (!dom && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
		return 0; // it ended; who watches it says so
	if (!dom || virDomainGetState(dom, &state, &reason, 0) < 0)
		return hv_error(err, "domain %s", a->name);
	bool paused = state == VIR_DOMAIN_PAUSED;
	if (paused == a->pause || (paused && reason != VIR_DOMAIN_PAUSED_USER))
		return 0;
	if (a->pause ? virDomainSuspend(dom) < 0 : virDomainResume(dom) < 0)
		return hv_error(err, "libvirt cannot %s domain %s", a->pause ? "pause" : "resume", a->name);
	return 0;
}

int hv_pause(struct hv *hv, const char *name, bool pause, struct vc_error *err)
{
	struct pause_args a = {name, pause};
	return hv_call(hv, &hv_once, pause_run, &a, err);
}

static uint64_t status_kib(const char *text, const char *key)
{
	uint64_t kib = 0;
	const char *p = strstr(text, key);
	if (!p)
		return 0;
	for (p += strlen(key); *p == ' ' || *p == '\t'; p++)
		;
	for (; *p >= '0' && *p <= '9'; p++)
		kib = kib * 10 + (uint64_t)(*p - '0');
	return kib;
}

static ssize_t read_small(const char *path, char *buf, size_t len)
{
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, len - 1);
	buf[n > 0 ? n : 0] = '\0';
	return n;
}

int hv_pid(const char *name, uint64_t *ret)
{
	char path[256], text[32];
	snprintf(path, sizeof(path), HV_PID_DIR "/%s.pid", name);
	if (read_small(path, text, sizeof(text)) <= 0)
		return -1;
	text[strcspn(text, "\n")] = '\0';
	return vc_parse_u64("pid", text, 1, INT32_MAX, ret, NULL);
}

static void read_memory(const char *name, struct hv_usage *ret)
{
	char path[256], text[4096];
	uint64_t pid;
	if (hv_pid(name, &pid) < 0)
		return;
	snprintf(path, sizeof(path), "/proc/%" PRIu64 "/status", pid);
	if (read_small(path, text, sizeof(text)) <= 0)
		return;
	ret->rss_kib = status_kib(text, "VmRSS:");
	ret->peak_kib = status_kib(text, "VmHWM:");
}

struct usage_args {
	const char *name;
	struct hv_usage *ret;
};

static int usage_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	struct usage_args *a = ctx;
	virDomainInfo info;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, a->name);
	if (!dom || virDomainGetInfo(dom, &info) < 0)
		return vc_error_set(err, VC_ENOTFOUND, "domain %s does not run", a->name);
	*a->ret = (struct hv_usage){.cpu_ms = info.cpuTime / 1000000};
	read_memory(a->name, a->ret);
	return 0;
}

int hv_usage(struct hv *hv, const char *name, struct hv_usage *ret, struct vc_error *err)
{
	struct usage_args a = {name, ret};
	return hv_call(hv, &hv_once, usage_run, &a, err);
}

// The value of one attribute of our metadata element; it was written by domxml and holds no escapes that matter.
static int attribute(const char *xml, const char *key, char *ret, size_t len)
{
	char pattern[32];
	snprintf(pattern, sizeof(pattern), " %s=", key);
	const char *p = strstr(xml, pattern);
	if (!p)
		return -1;
	p += strlen(pattern);
	char quote = *p++;
	const char *end = quote == '"' || quote == '\'' ? strchr(p, quote) : NULL;
	if (!end || (size_t)(end - p) >= len)
		return -1;
	memcpy(ret, p, (size_t)(end - p));
	ret[end - p] = '\0';
	return 0;
}

static int number(const char *xml, const char *key, uint32_t *ret)
{
	char text[16];
	uint64_t value;
	if (attribute(xml, key, text, sizeof(text)) < 0 || vc_parse_u64(key, text, 0, UINT32_MAX, &value, NULL) < 0)
		return -1;
	*ret = (uint32_t)value;
	return 0;
}

static bool read_metadata(const char *xml, struct hv_domain *d)
{
	uint32_t uid = 0;
	if (attribute(xml, "cluster", d->cluster, sizeof(d->cluster)) < 0 ||
	    attribute(xml, "slurm", d->slurm, sizeof(d->slurm)) < 0 || number(xml, "job", &d->job) < 0 ||
	    number(xml, "restart", &d->restart) < 0 || number(xml, "rank", &d->rank) < 0 || number(xml, "uid", &uid) < 0)
		return false;
	d->uid = uid;
	return true;
}

static void describe(virDomainPtr dom, struct hv_domain *d)
{
	int state, reason;
	snprintf(d->name, sizeof(d->name), "%s", virDomainGetName(dom));
	// one that libvirt still starts does not run: a libvirtd that is restarted ends it
	d->running = virDomainGetState(dom, &state, &reason, 0) == 0 && !is_starting(state, reason) && virDomainIsActive(dom) == 1;
	vc_autofree char *xml = virDomainGetMetadata(dom, VIR_DOMAIN_METADATA_ELEMENT, DOMXML_NS, 0);
	d->ours = xml && read_metadata(xml, d);
}

struct list_args {
	struct hv_domain *list;
	size_t n;
};

static int list_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	struct list_args *a = ctx;
	virDomainPtr *doms = NULL;
	free(a->list); // of a first try
	*a = (struct list_args){0};
	int n = virConnectListAllDomains(conn, &doms, 0);
	if (n < 0)
		return hv_error(err, "libvirt at %s cannot list its domains", hv->uri);
	a->list = calloc((size_t)n + 1, sizeof(*a->list));
	for (int i = 0; i < n; i++) {
		const char *name = virDomainGetName(doms[i]);
		if (a->list && name && strncmp(name, HV_DOMAIN_PREFIX, strlen(HV_DOMAIN_PREFIX)) == 0)
			describe(doms[i], &a->list[a->n++]);
		virDomainFree(doms[i]);
	}
	free(doms);
	// what was asked of each domain on a connection that broke meanwhile says nothing
	return a->list && virConnectIsAlive(conn) == 1 ? 0 : hv_error(err, "libvirt at %s cannot tell about its domains", hv->uri);
}

int hv_list(struct hv *hv, struct hv_domain **ret, size_t *ret_n, struct vc_error *err)
{
	struct list_args a = {0};
	if (hv_call(hv, &hv_once, list_run, &a, err) < 0) {
		free(a.list);
		return -1;
	}
	*ret = a.list;
	*ret_n = a.n;
	return 0;
}

static int version_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	return virConnectGetVersion(conn, ctx) == 0 ? 0 : hv_error(err, "hypervisor's version at %s", hv->uri);
}

int hv_version(struct hv *hv, unsigned long *ret, struct vc_error *err)
{
	return hv_call(hv, &patient, version_run, ret, err);
}
