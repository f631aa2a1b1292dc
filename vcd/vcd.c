// SPDX-License-Identifier: GPL-2.0-or-later
// The daemon as a whole: what is created in which order, signals, reload, and a stop that ends by itself.
#include "vcd/vcd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/check.h"
#include "vcd/cluster.h"
#include "vcd/fault.h"
#include "vcd/host.h"
#include "vcd/historyrpc.h"
#include "vcd/images.h"
#include "vcd/leases.h"
#include "vcd/membership.h"
#include "vcd/peer.h"
#include "vcd/relay.h"
#include "vcd/rpc.h"
#include "vcd/server.h"
#include "vcd/slurmcheck.h"
#include "vcd/stage.h"
#include "vcd/state.h"
#include "vcd/transfers.h"
#include "vcd/fsck.h"
#include "vcd/work.h"

#define FILES_WANTED 65536 // descriptors: connections of all tasks of a large host, guests, images
#define EXIT_LIMIT_MS (VCD_STOP_GRACE_MS + 5000) // for the loop to run dry after a stop

// --- the place to live in ---

static int make_dir(const char *path, mode_t mode, struct vc_error *err)
{
	char part[PATH_MAX];
	int n = snprintf(part, sizeof(part), "%s", path);
	if (n < 0 || (size_t)n >= sizeof(part))
		return vc_error_set(err, VC_EUSER, "%.200s: too long a path", path);
	for (char *p = strchr(part + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return vc_error_errno(err, "%s", part);
		*p = '/';
	}
	if (mkdir(part, mode) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", part);
	return 0;
}

// One vcd per run-dir: the lock goes with the process, however it ends.
static int take_lock(struct vcd *vcd, struct vc_error *err)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/vcd.lock", vcd->conf->run_dir);
	vcd->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (vcd->lock_fd < 0)
		return vc_error_errno(err, "%s", path);
	if (flock(vcd->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return vc_error_set(err, VC_EHOST, "%s: another vcd runs on this host", path);
	return 0;
}

static int prepare_place(struct vcd *vcd, struct vc_error *err)
{
	const struct conf *conf = vcd->conf;
	if (make_dir(conf->run_dir, 0755, err) < 0 || make_dir(conf->state_dir, 0711, err) < 0 ||
	    make_dir(conf->image_dir, 0711, err) < 0)
		return -1;
	fault_set_dir(conf->run_dir);
	return take_lock(vcd, err);
}

static void raise_limits(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max < FILES_WANTED ? limit.rlim_max : FILES_WANTED;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		vc_log_warning("the limit of open files stays: %s", strerror(errno));
}

static struct state *open_state(struct vcd *vcd, struct vc_error *err)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/vcd.db", vcd->conf->state_dir);
	mode_t old = umask(0077); // it holds the secrets of clusters
	struct state *state = state_open(path, err);
	umask(old);
	return state;
}

// --- vcd.ping ---

static uint64_t wall_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int ping(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	const struct vcd *vcd = ctx;
	vc_autojson struct json_object *r = json_object_new_object();
	if (!r || vc_json_add_str(r, "host", vcd->conf->host_name) < 0 || vc_json_add_str(r, "version", PACKAGE_VERSION) < 0 ||
	    vc_json_add_bool(r, "controller", vcd->controller) < 0 || vc_json_add_u64(r, "time_ms", wall_ms()) < 0 ||
	    vc_json_add_str(r, "active_controller", peers_controller(vcd->peers)) < 0)
		return vc_error_set(err, ENOMEM, "vcd.ping: out of memory");
	rpc_reply(req, vc_steal(&r));
	return 0;
}

// Where this vcd connects to for another one: for tools that must reach it themselves.
static int address(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	const struct vcd *vcd = ctx;
	char addr[VC_HOSTNAME_MAX + 1];
	const char *host;
	int port;
	if (vc_json_str(rpc_params(req), "host", VC_HOSTNAME_MAX, &host, err) < 0 ||
	    peer_address(vcd->peers, host, addr, sizeof(addr), &port, err) < 0)
		return -1;
	vc_autojson struct json_object *r = json_object_new_object();
	if (!r || vc_json_add_str(r, "addr", addr) < 0 || vc_json_add_u64(r, "port", (uint64_t)port) < 0)
		return vc_error_set(err, ENOMEM, "vcd.address: out of memory");
	rpc_reply(req, vc_steal(&r));
	return 0;
}

static int list_methods(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	const struct vcd *vcd = ctx;
	vc_autojson struct json_object *r = json_object_new_object();
	if (vc_json_add(r, "methods", rpc_list(vcd->rpc)) < 0)
		return vc_error_set(err, ENOMEM, "vcd.methods: out of memory");
	rpc_reply(req, vc_steal(&r));
	return 0;
}

static const struct rpc_method methods[] = {
	{"vcd.methods", RPC_ANY, RPC_HOST, 0, list_methods},
	{"vcd.ping", RPC_ANY, RPC_HOST, 0, ping},
	{"vcd.address", RPC_ANY, RPC_HOST, 0, address},
};

// --- creation ---

// The one list of modules. Each stands on those above it; the server comes last, so that no request meets half a vcd.
static int create_modules(struct vcd *vcd, struct vc_error *err)
{
	const struct conf *conf = vcd->conf;
	// threads first: all that follows may hand work to them
	if (!(vcd->work = work_create(&vcd->loop, conf->work_threads, conf->hv_threads, err)))
		return -1;
	// what was intended before the last end; modules read it when they are created
	if (!(vcd->state = open_state(vcd, err)))
		return -1;
	// the method table; modules register theirs
	if (!(vcd->rpc = rpc_create(vcd, err)) || rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), vcd, err) < 0)
		return -1;
	// the way to other vcds; its calls to the own host need the table
	if (!(vcd->peers = peers_create(vcd, err)) || !(vcd->relays = relays_create(err)))
		return -1;
	// modules add their checks
	if (!(vcd->check = check_create(vcd, err)) || !(vcd->slurmcheck = slurmcheck_create(vcd, err)))
		return -1;
	// images before clusters: a cluster that is taken back may need one at once
	if (!(vcd->images = images_create(vcd, err)))
		return -1;
	// what moves images between hosts, and what repairs them with that
	if (!(vcd->transfers = transfers_create(vcd, err)) || !(vcd->fsck = fsck_create(vcd, err)))
		return -1;
	// who is there; the shares of this host join it
	if (!(vcd->membership = membership_create(vcd, err)))
		return -1;
	// the machines of this host, taken back from libvirt
	if (!(vcd->host = host_create(vcd, err)) || stage_register(vcd, vcd->host, err) < 0)
		return -1;
	// the controller's clusters call hosts, this one too
	if (!(vcd->clusters = clusters_create(vcd, err)))
		return -1;
	// and these grow and shrink by leases
	if (!(vcd->leases = leases_create(vcd, err)) || history_register(vcd, err) < 0)
		return -1;
	return (vcd->server = server_create(vcd, err)) ? 0 : -1;
}

static void on_signal(uv_signal_t *handle, int signum)
{
	struct vcd *vcd = handle->data;
	if (signum == SIGHUP)
		vcd_reload(vcd);
	else
		vcd_stop(vcd);
}

static void watch_signals(struct vcd *vcd)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	_Static_assert(VC_ARRAY_LEN(signals) <= VC_ARRAY_LEN(((struct vcd *)0)->signals), "room for all signals");
	signal(SIGPIPE, SIG_IGN); // a write to a closed socket is an error, not the end
	for (size_t i = 0; i < VC_ARRAY_LEN(signals); i++) {
		uv_signal_t *s = &vcd->signals[vcd->n_signals];
		if (uv_signal_init(&vcd->loop, s) < 0)
			return;
		s->data = vcd;
		vcd->n_signals++;
		uv_signal_start(s, on_signal, signals[i]);
	}
}

struct vcd *vcd_create(const char *conf_path, struct vc_error *err)
{
	struct vcd *vcd = calloc(1, sizeof(*vcd));
	if (!vcd) {
		vc_error_errno(err, "vcd");
		return NULL;
	}
	vcd->lock_fd = -1;
	vcd->conf = conf_load(conf_path, err);
	if (!vcd->conf || !(vcd->munge_socket = strdup(vcd->conf->munge_socket)) || uv_loop_init(&vcd->loop) < 0) {
		conf_destroy(vcd->conf);
		free(vcd->munge_socket);
		free(vcd);
		return NULL;
	}
	vc_log_open("vcd", vcd->conf->log_sink, vcd->conf->log_level);
	vc_log_set_host(vcd->conf->host_name);
	vcd->controller = conf_is_controller(vcd->conf);
	uv_timer_init(&vcd->loop, &vcd->exit_timer);
	vcd->exit_timer.data = vcd;
	raise_limits();
	if (prepare_place(vcd, err) == 0 && create_modules(vcd, err) == 0) {
		watch_signals(vcd);
		return vcd;
	}
	vcd_stop(vcd);
	uv_run(&vcd->loop, UV_RUN_DEFAULT);
	vcd_destroy(vcd);
	return NULL;
}

// --- running ---

// systemd's protocol of readiness: one datagram to the socket that $NOTIFY_SOCKET names.
static void notify_systemd(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	if (!path || !*path || strlen(path) >= sizeof(addr.sun_path))
		return;
	memcpy(addr.sun_path, path, strlen(path));
	if (*path == '@')
		addr.sun_path[0] = '\0'; // an abstract name
	vc_autoclose int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (fd < 0 || sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&addr, len) < 0)
		vc_log_warning("telling systemd '%s': %s", text, strerror(errno));
}

static void tell_ready(const struct vcd *vcd, int ready_fd)
{
	vc_log_notice("vcd %s is ready on %s%s, TCP port %d", PACKAGE_VERSION, vcd->conf->host_name,
		      vcd->controller ? " (controller)" : "", server_port(vcd->server));
	notify_systemd("READY=1");
	if (ready_fd < 0)
		return;
	if (write(ready_fd, "ready\n", 6) != 6)
		vc_log_warning("telling that vcd is ready: %s", strerror(errno));
	close(ready_fd);
}

int vcd_run(struct vcd *vcd, int ready_fd)
{
	tell_ready(vcd, ready_fd);
	uv_run(&vcd->loop, UV_RUN_DEFAULT);
	vc_log_notice("vcd has stopped; its guests go on");
	return vcd->dirty ? -1 : 0;
}

void vcd_reload(struct vcd *vcd)
{
	struct vc_error err = VC_ERROR_INIT;
	char waits[512];
	struct conf *conf = conf_load(vcd->conf->file, &err);
	if (!conf) {
		vc_log_err("the old configuration stays: %s", err.text);
		return;
	}
	conf_needs_restart(vcd->conf, conf, waits, sizeof(waits));
	if (*waits) {
		vc_log_err("the old configuration stays: restart vcd to change %s", waits);
		conf_destroy(conf);
		return;
	}
	conf_destroy(vcd->conf);
	vcd->conf = conf;
	vc_log_set_level(conf->log_level);
	vc_log_notice("%s is loaded", conf->file);
}

static void log_handle(uv_handle_t *handle, void *ctx)
{
	(void)ctx;
	if (!uv_is_closing(handle))
		vc_log_err("a %s handle was not closed", uv_handle_type_name(handle->type));
}

static void on_exit_limit(uv_timer_t *timer)
{
	struct vcd *vcd = timer->data;
	vc_log_err("the stop did not end by itself");
	vcd->dirty = true;
	uv_walk(&vcd->loop, log_handle, NULL);
	uv_stop(&vcd->loop);
}

void vcd_stop(struct vcd *vcd)
{
	if (vcd->stopping)
		return;
	vcd->stopping = true;
	notify_systemd("STOPPING=1");
	uv_timer_start(&vcd->exit_timer, on_exit_limit, EXIT_LIMIT_MS, 0);
	uv_unref((uv_handle_t *)&vcd->exit_timer);
	// callers first, then who works for them, then what those stand on
	if (vcd->server)
		server_stop(vcd->server);
	leases_stop(vcd->leases);
	if (vcd->clusters)
		clusters_stop(vcd->clusters);
	if (vcd->host)
		host_stop(vcd->host);
	if (vcd->membership)
		membership_stop(vcd->membership);
	if (vcd->images)
		images_stop(vcd->images);
	if (vcd->fsck)
		fsck_stop(vcd->fsck);
	if (vcd->transfers)
		transfers_stop(vcd->transfers);
	if (vcd->peers)
		peers_stop(vcd->peers);
	if (vcd->work)
		work_stop(vcd->work, VCD_STOP_GRACE_MS);
	for (int i = 0; i < vcd->n_signals; i++)
		uv_close((uv_handle_t *)&vcd->signals[i], NULL);
}

void vcd_destroy(struct vcd *vcd)
{
	if (!vcd)
		return;
	uv_close((uv_handle_t *)&vcd->exit_timer, NULL);
	uv_run(&vcd->loop, UV_RUN_NOWAIT);
	server_destroy(vcd->server);
	leases_destroy(vcd->leases);
	clusters_destroy(vcd->clusters);
	host_destroy(vcd->host);
	membership_destroy(vcd->membership);
	fsck_destroy(vcd->fsck);
	transfers_destroy(vcd->transfers);
	images_destroy(vcd->images);
	slurmcheck_destroy(vcd->slurmcheck);
	check_destroy(vcd->check);
	relays_destroy(vcd->relays);
	peers_destroy(vcd->peers);
	rpc_destroy(vcd->rpc);
	state_close(vcd->state);
	work_destroy(vcd->work);
	uv_loop_close(&vcd->loop);
	if (vcd->lock_fd >= 0)
		close(vcd->lock_fd);
	conf_destroy(vcd->conf);
	free(vcd->munge_socket);
	free(vcd);
}
