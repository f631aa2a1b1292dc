// SPDX-License-Identifier: GPL-2.0-or-later
// A stub of guests, for tests/bench/scale alone: no machine runs. One process stands in for vcguestd of all members of one cluster, one member
// to a host: it listens where QEMU would, for DIR/tN/run/guests/CLUSTER/RANK.link, says guest.hello and answers what the host asks, at once. The
// frames, sessions and messages are those of a guest, by the guest's own code for links; the host's vcd reads them with its real parser.
//
// gueststub DIR HOSTS: goes on until it is killed.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest/wire.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/mux.h"
#include "libvc/parse.h"

#define LOOK_MS 50 // between two looks for directories of guests
#define TICK_MS 500

struct guest {
	struct stub *stub;
	unsigned host; // and rank
	int listening; // -1: not yet
	uv_poll_t poll;
	struct wire *port;
	struct vc_mux *mux;
	struct vc_mux_session *rpc;
	uint64_t epoch;
	bool configured;
};

struct stub {
	uv_loop_t loop;
	struct wires *wires;
	const char *dir;
	struct guest *guests;
	unsigned n, bound;
	uv_timer_t look, tick;
};

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "gueststub: %s: %s\n", what, strerror(errno));
	exit(1);
}

// --- session 0 ------------------------------------------------------------------------------------------------------------

static void say(struct guest *g, struct json_object *message)
{
	size_t len;
	vc_json_add_str(message, "jsonrpc", "2.0");
	const char *text = vc_json_text(message, &len);
	if (!g->rpc || vc_mux_session_message(g->rpc, text, len, NULL) < 0)
		fprintf(stderr, "gueststub: guest %u cannot speak\n", g->host);
	json_object_put(message);
}

static void say_hello(struct guest *g)
{
	char boot[VC_LINK_BOOT_LEN + 1];
	struct json_object *message = json_object_new_object(), *p = json_object_new_object();
	snprintf(boot, sizeof(boot), "%032x", g->host + 1);
	vc_json_add_str(p, "boot", boot);
	vc_json_add_str(p, "version", PACKAGE_VERSION);
	vc_json_add_str(p, "kernel", "stub");
	vc_json_add_u64(p, "mem_kib", 1);
	vc_json_add_int(p, "cpus", 1);
	vc_json_add_bool(p, "configured", g->configured);
	vc_json_add_u64(p, "epoch", g->epoch);
	vc_json_add_u64(p, "tasks", 0);
	vc_json_add_str(message, "method", "guest.hello");
	vc_json_add(message, "params", p);
	say(g, message);
}

static void on_message(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	struct guest *g = ctx;
	const char *method = "";
	struct json_object *id = NULL, *view = NULL, *params = NULL;
	(void)s;
	vc_autojson struct json_object *obj = vc_json_parse(text, len, NULL);
	if (!obj || !json_object_object_get_ex(obj, "id", &id))
		return;
	vc_json_str_opt(obj, "method", 64, &method, NULL);
	g->configured = g->configured || strcmp(method, "guest.configure") == 0;
	if (strcmp(method, "guest.view") == 0 && json_object_object_get_ex(obj, "params", &params) &&
	    json_object_object_get_ex(params, "view", &view))
		vc_json_u64_opt(view, "epoch", UINT32_MAX, &g->epoch, NULL);
	struct json_object *answer = json_object_new_object();
	vc_json_add(answer, "id", json_object_get(id));
	vc_json_add(answer, "result", json_object_new_object());
	say(g, answer);
}

static int send_frame(void *ctx, void *route, struct vc_link_frame *frame)
{
	(void)ctx;
	return wire_send(route, frame);
}

static size_t on_data(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	(void)ctx, (void)s, (void)ch, (void)data;
	return len;
}

static void ignore_channel(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	(void)ctx, (void)s, (void)ch;
}

static void ignore_session(void *ctx, struct vc_mux_session *s)
{
	(void)ctx, (void)s;
}

static void on_reset(void *ctx, struct vc_mux_session *s, const char *code, const char *message)
{
	struct guest *g = ctx;
	(void)s, (void)code, (void)message;
	g->rpc = NULL;
}

static const struct vc_mux_ops mux_ops = {.send_frame = send_frame, .on_data = on_data, .on_eof = ignore_channel, .on_message = on_message,
					  .on_writable = ignore_channel, .on_reader_closed = ignore_channel, .on_acked = ignore_session,
					  .on_reset = on_reset};

// --- the link -------------------------------------------------------------------------------------------------------------

static void port_frame(void *ctx, struct wire *w, struct vc_link_frame *frame)
{
	struct guest *g = ctx;
	vc_mux_input(g->mux, w, frame, uv_now(&g->stub->loop));
}

static void port_up(void *ctx, struct wire *w)
{
	struct guest *g = ctx;
	g->rpc = vc_mux_session_create(g->mux, w, VC_SESSION_RPC, VC_MUX_PEER, NULL, uv_now(&g->stub->loop), NULL);
	say_hello(g);
}

static void port_down(void *ctx, struct wire *w)
{
	struct guest *g = ctx;
	(void)w;
	if (g->rpc)
		vc_mux_session_destroy(g->rpc);
	g->rpc = NULL;
}

static void port_writable(void *ctx, struct wire *w)
{
	struct guest *g = ctx;
	vc_mux_route_writable(g->mux, w, uv_now(&g->stub->loop));
}

static void port_end(void *ctx, struct wire *w, const struct vc_error *why)
{
	struct guest *g = ctx;
	(void)why;
	port_down(g, w);
	g->port = NULL;
	wire_destroy(w);
}

static const struct wire_ops port_ops = {port_frame, port_up, port_down, port_writable, port_end};

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct guest *g = poll->data;
	const struct vc_mux_config one = {.sessions_max = 1};
	char boot[VC_LINK_BOOT_LEN + 1];
	(void)status, (void)events;
	int fd = accept4(g->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (g->port) { // as QEMU: one connection at a time
		close(fd);
		return;
	}
	snprintf(boot, sizeof(boot), "%032x", g->host + 1);
	if (!g->mux)
		g->mux = vc_mux_create(&one, &mux_ops, g);
	g->port = wire_create(g->stub->wires, fd, boot, &port_ops, g, NULL);
	if (!g->mux || !g->port)
		die("a guest's link");
}

// --- where QEMU would listen ------------------------------------------------------------------------------------------------

static void bind_guest(struct guest *g, const char *dir, const char *cluster)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s/%u.link", dir, cluster, g->host);
	g->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (n >= (int)sizeof(addr.sun_path) || g->listening < 0 || bind(g->listening, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(g->listening, 4) < 0 || uv_poll_init(&g->stub->loop, &g->poll, g->listening) < 0)
		die(addr.sun_path);
	g->poll.data = g;
	uv_poll_start(&g->poll, UV_READABLE, on_connection);
	g->stub->bound++;
}

static void look_for(struct guest *g)
{
	char dir[96];
	snprintf(dir, sizeof(dir), "%s/t%u/run/guests", g->stub->dir, g->host + 1);
	DIR *d = opendir(dir);
	struct dirent *e;
	while (d && g->listening < 0 && (e = readdir(d))) {
		if (e->d_name[0] != '.')
			bind_guest(g, dir, e->d_name);
	}
	if (d)
		closedir(d);
}

static void on_look(uv_timer_t *timer)
{
	struct stub *s = timer->data;
	for (unsigned i = 0; i < s->n; i++) {
		if (s->guests[i].listening < 0)
			look_for(&s->guests[i]);
	}
	if (s->bound == s->n)
		uv_timer_stop(timer);
}

static void on_tick(uv_timer_t *timer)
{
	struct stub *s = timer->data;
	for (unsigned i = 0; i < s->n; i++) {
		if (s->guests[i].mux)
			vc_mux_tick(s->guests[i].mux, uv_now(&s->loop));
	}
}

int main(int argc, char **argv)
{
	static struct stub s;
	uint64_t n;
	struct rlimit files = {65536, 65536};
	if (argc != 3 || vc_parse_u64("HOSTS", argv[2], 1, 65535, &n, NULL) < 0) {
		fputs("usage: gueststub DIR HOSTS\n", stderr);
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &files);
	s.dir = argv[1];
	s.n = (unsigned)n;
	s.guests = calloc(n, sizeof(*s.guests));
	if (!s.guests || uv_loop_init(&s.loop) < 0 || !(s.wires = wires_create(&s.loop, NULL)))
		die("start");
	for (unsigned i = 0; i < s.n; i++)
		s.guests[i] = (struct guest){.stub = &s, .host = i, .listening = -1};
	uv_timer_init(&s.loop, &s.look);
	uv_timer_init(&s.loop, &s.tick);
	s.look.data = s.tick.data = &s;
	uv_timer_start(&s.look, on_look, 0, LOOK_MS);
	uv_timer_start(&s.tick, on_tick, TICK_MS, TICK_MS);
	return uv_run(&s.loop, UV_RUN_DEFAULT);
}
