// SPDX-License-Identifier: GPL-2.0-or-later
// plainguest: brings guests that vcd does not know to view 1, as the baseline of the boot benchmark.
//
//   plainguest PLAN VIEW RANK=SOCKET...
//
// PLAN and VIEW are JSON files (docs/architecture.md), SOCKET is the host's end of a guest's virtio-serial port; it may
// not exist yet. For each guest: connect, HELLO, wait for guest.hello, guest.configure, guest.view. Ends with status 0
// when every guest has answered guest.view, that is, when /run/vcluster/view is readable in all of them; with 1 and a
// line that says why when a guest refuses or LIMIT_MS are over. One thread, poll(2); nothing of vcd is used but libvc.
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/linkio.h"
#include "libvc/mux.h"
#include "libvc/parse.h"

#define LIMIT_MS 180000u  // emulated guests on a busy machine take tens of seconds
#define CONNECT_MS 2u	  // between two tries to connect to a socket that QEMU has not made yet
#define TICK_MS 100u	  // the handshake is repeated by the link itself
#define GUESTS_MAX 64u	  // more than any host of the benchmark has
#define MESSAGE_MAX 65536 // bytes of a guest's message

static const char boot_id[] = "62656e636862656e636862656e636862"; // any 32 hex digits: this side has no sessions to lose

struct driver;

struct guest {
	struct driver *driver;
	unsigned rank;
	const char *path;
	struct vc_linkio *io;	   // NULL: not connected
	struct vc_mux *mux;
	struct vc_mux_session *rpc;
	uint64_t asked;		   // id of the request under way: 1 configure, 2 view; 0: waits for guest.hello
	bool done;
	uint64_t connected_ms, hello_ms, view_ms; // since the start, for whoever wonders where the time goes
};

struct driver {
	struct json_object *plan, *view;
	uint64_t started_ms;
	struct guest guests[GUESTS_MAX];
	size_t n;
	struct vc_error err; // the first failure; code 0: none
};

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void fail(struct guest *g, const char *what, const char *why)
{
	if (!g->driver->err.code)
		vc_error_set(&g->driver->err, VC_EFAILED, "member %u (%s): %s: %s", g->rank, g->path, what, why);
}

// ---- requests ----

static struct json_object *params_of(const struct guest *g)
{
	struct json_object *params = NULL;
	if (g->asked == 1) {
		if (json_object_deep_copy(g->driver->plan, &params, NULL) < 0)
			return NULL;
		vc_json_add_u64(params, "rank", g->rank);
		return params;
	}
	params = json_object_new_object();
	vc_json_add(params, "view", json_object_get(g->driver->view));
	return params;
}

static void ask(struct guest *g, uint64_t id)
{
	size_t len;
	struct vc_error err = VC_ERROR_INIT;
	g->asked = id;
	vc_autojson struct json_object *msg = json_object_new_object(), *params = params_of(g);
	if (!params || vc_json_add_str(msg, "jsonrpc", "2.0") < 0 || vc_json_add_u64(msg, "id", id) < 0 ||
	    vc_json_add_str(msg, "method", id == 1 ? "guest.configure" : "guest.view") < 0 ||
	    vc_json_add(msg, "params", json_object_get(params)) < 0) {
		fail(g, "request", "no memory");
		return;
	}
	const char *text = vc_json_text(msg, &len);
	if (vc_mux_session_message(g->rpc, text, len, &err) < 0)
		fail(g, "request", err.text);
}

static void on_answer(struct guest *g, uint64_t id, struct json_object *msg)
{
	struct json_object *error = json_object_object_get(msg, "error");
	if (error)
		fail(g, id == 1 ? "guest.configure" : "guest.view", json_object_to_json_string(error));
	else if (id == 1 && g->asked == 1)
		ask(g, 2);
	else if (id == 2 && g->asked == 2) {
		g->done = true;
		g->view_ms = now_ms() - g->driver->started_ms;
	}
}

static void on_message(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	struct guest *g = ctx;
	struct vc_error err = VC_ERROR_INIT;
	const char *method = NULL;
	uint64_t id;
	(void)s;
	vc_autojson struct json_object *msg = vc_json_parse(text, len, &err);
	if (!msg)
		return fail(g, "message", err.text);
	(void)vc_json_str_opt(msg, "method", 64, &method, NULL); // an answer has none
	if (method && strcmp(method, "guest.hello") == 0 && g->asked == 0) {
		g->hello_ms = now_ms() - g->driver->started_ms;
		ask(g, 1);
	} else if (!method && vc_json_u64(msg, "id", UINT32_MAX, &id, NULL) == 0)
		on_answer(g, id, msg);
}

// ---- session 0: a control channel alone ----

static int send_frame(void *ctx, void *route, struct vc_link_frame *frame)
{
	struct guest *g = ctx;
	(void)route;
	return g->io ? vc_linkio_send(g->io, frame) : -1;
}

static size_t on_data(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	(void)ctx, (void)s, (void)ch, (void)data;
	return len;
}

static void on_channel(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	(void)ctx, (void)s, (void)ch;
}

static void on_session(void *ctx, struct vc_mux_session *s)
{
	(void)ctx, (void)s;
}

static void on_reset(void *ctx, struct vc_mux_session *s, const char *code, const char *message)
{
	struct guest *g = ctx;
	(void)s;
	g->rpc = NULL;
	fail(g, code, message);
}

static const struct vc_mux_ops mux_ops = {
	.send_frame = send_frame,
	.on_data = on_data,
	.on_eof = on_channel,
	.on_message = on_message,
	.on_writable = on_channel,
	.on_reader_closed = on_channel,
	.on_acked = on_session,
	.on_reset = on_reset,
};

// ---- the link ----

static void on_frame(void *ctx, struct vc_link_frame *frame)
{
	struct guest *g = ctx;
	if (frame->session == VC_SESSION_RPC)
		vc_mux_input(g->mux, g, frame, now_ms());
}

static void on_up(void *ctx)
{
	struct guest *g = ctx;
	struct vc_error err = VC_ERROR_INIT;
	if (g->rpc)
		vc_mux_session_destroy(vc_steal(&g->rpc));
	g->asked = 0;
	g->rpc = vc_mux_session_create(g->mux, g, VC_SESSION_RPC, VC_MUX_PEER, NULL, now_ms(), &err);
	if (!g->rpc)
		fail(g, "control session", err.text);
}

static void on_down(void *ctx)
{
	struct guest *g = ctx;
	if (g->rpc)
		vc_mux_session_destroy(vc_steal(&g->rpc));
}

static void on_writable(void *ctx)
{
	struct guest *g = ctx;
	vc_mux_route_writable(g->mux, g, now_ms());
}

static const struct vc_linkio_ops link_ops = {on_frame, on_up, on_down, on_writable};

static void try_connect(struct guest *g)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct vc_error err = VC_ERROR_INIT;
	memcpy(addr.sun_path, g->path, strlen(g->path) + 1);
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return;
	g->io = vc_linkio_create(vc_steal_fd(&fd), boot_id, &link_ops, g, now_ms(), &err);
	if (!g->io)
		fail(g, "link", err.text);
	g->connected_ms = now_ms() - g->driver->started_ms;
}

// ---- the loop ----

static size_t collect(struct driver *d, struct pollfd *fds, struct guest **who, bool *ret_waiting)
{
	size_t n = 0;
	*ret_waiting = false;
	for (size_t i = 0; i < d->n; i++) {
		struct guest *g = &d->guests[i];
		if (!g->io)
			try_connect(g);
		*ret_waiting |= !g->io;
		if (!g->io)
			continue;
		fds[n] = (struct pollfd){.fd = vc_linkio_fd(g->io), .events = vc_linkio_events(g->io)};
		who[n++] = g;
	}
	return n;
}

static void turn(struct driver *d)
{
	struct pollfd fds[GUESTS_MAX];
	struct guest *who[GUESTS_MAX];
	bool waiting;
	struct vc_error err = VC_ERROR_INIT;
	size_t n = collect(d, fds, who, &waiting);
	if (poll(fds, n, waiting ? (int)CONNECT_MS : (int)TICK_MS) < 0 && errno != EINTR)
		return;
	for (size_t i = 0; i < n; i++) {
		if (fds[i].revents && vc_linkio_ready(who[i]->io, fds[i].revents, now_ms(), &err) < 0)
			fail(who[i], "link", err.text);
		vc_linkio_tick(who[i]->io, now_ms());
		vc_mux_tick(who[i]->mux, now_ms());
	}
}

static bool all_done(const struct driver *d)
{
	for (size_t i = 0; i < d->n; i++) {
		if (!d->guests[i].done)
			return false;
	}
	return true;
}

static int run(struct driver *d)
{
	uint64_t limit = (d->started_ms = now_ms()) + LIMIT_MS;
	while (!all_done(d) && !d->err.code) {
		if (now_ms() >= limit)
			return vc_error_set(&d->err, VC_ETIMEDOUT, "not every guest had its view within %u s", LIMIT_MS / 1000);
		turn(d);
	}
	return d->err.code ? -1 : 0;
}

// ---- arguments ----

static struct json_object *read_json(const char *path, struct vc_error *err)
{
	static char text[1 << 20];
	vc_autofclose FILE *in = fopen(path, "re");
	if (!in) {
		vc_error_errno(err, "%s", path);
		return NULL;
	}
	size_t len = fread(text, 1, sizeof(text), in);
	struct json_object *obj = vc_json_parse(text, len, err);
	if (!obj)
		vc_error_wrap(err, "%s", path);
	return obj;
}

static int add_guest(struct driver *d, char *arg)
{
	static const struct vc_mux_config conf = {.sessions_max = 1, .message_max = MESSAGE_MAX, .id_mask = UINT64_MAX, .id_value = UINT64_MAX};
	struct guest *g = &d->guests[d->n];
	char *path = strchr(arg, '=');
	uint64_t rank;
	if (!path || d->n == GUESTS_MAX)
		return vc_error_set(&d->err, VC_EUSER, "'%s': want RANK=SOCKET, at most %u of them", arg, GUESTS_MAX);
	*path++ = '\0';
	if (vc_parse_u64("rank", arg, 0, UINT32_MAX, &rank, &d->err) < 0)
		return -1;
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return vc_error_set(&d->err, VC_EUSER, "%s: too long for a socket", path);
	*g = (struct guest){.driver = d, .rank = (unsigned)rank, .path = path, .mux = vc_mux_create(&conf, &mux_ops, g)};
	if (!g->mux)
		return vc_error_errno(&d->err, "member %u", g->rank);
	d->n++;
	return 0;
}

static int setup(struct driver *d, int argc, char **argv)
{
	if (argc < 4)
		return vc_error_set(&d->err, VC_EUSER, "usage: plainguest PLAN VIEW RANK=SOCKET...");
	d->plan = read_json(argv[1], &d->err);
	d->view = d->plan ? read_json(argv[2], &d->err) : NULL;
	if (!d->view)
		return -1;
	for (int i = 3; i < argc; i++) {
		if (add_guest(d, argv[i]) < 0)
			return -1;
	}
	return 0;
}

// One line per guest: rank, ms from the start to its socket, its guest.hello, its view.
static void print_times(const struct driver *d)
{
	for (size_t i = 0; i < d->n; i++) {
		const struct guest *g = &d->guests[i];
		printf("%u %llu %llu %llu\n", g->rank, (unsigned long long)g->connected_ms, (unsigned long long)g->hello_ms,
		       (unsigned long long)g->view_ms);
	}
}

static void clear(struct driver *d)
{
	for (size_t i = 0; i < d->n; i++) {
		vc_mux_destroy(d->guests[i].mux);
		vc_linkio_destroy(d->guests[i].io);
	}
	json_object_put(d->plan);
	json_object_put(d->view);
}

int main(int argc, char **argv)
{
	static struct driver d;
	int rc = setup(&d, argc, argv);
	if (rc == 0)
		rc = run(&d);
	if (rc < 0)
		fprintf(stderr, "plainguest: %s\n", d.err.text);
	else
		print_times(&d);
	clear(&d);
	return rc < 0;
}
