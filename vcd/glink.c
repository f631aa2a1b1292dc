// SPDX-License-Identifier: GPL-2.0-or-later
// A guest's link: see glink.h.
#include "vcd/glink.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "libvc/mux.h"
#include "vcd/pollio.h"

#define TICK_MS 100u // handshake repeats, deadlines, reconnects

struct call {
	struct call *next;
	uint64_t id;
	uint64_t deadline; // loop time
	char method[64];
	glink_done_fn done;
	void *ctx;
};

struct glink {
	uv_loop_t *loop;
	uv_timer_t timer;
	char *name; // for the log
	struct sockaddr_un addr;
	char boot[VC_LINK_BOOT_LEN + 1];
	const struct glink_ops *ops;
	void *ctx;
	struct glink_sink sink;
	struct pollio *io; // NULL: not connected
	struct vc_mux *mux; // session 0 alone
	struct vc_mux_session *rpc; // NULL while the link is down
	struct call *calls;
	unsigned n_calls;
	uint64_t next_id;
	struct glink_route *routes;
	unsigned n_routes;
	bool was_blocked, closed;
	uint64_t down_since, retry_at, take_at;
	struct glink_counts total; // of closed connections
};

// --- calls ----------------------------------------------------------------------------------------------------

static void finish_call(struct glink *g, struct call **at, struct json_object *result, const struct vc_error *err)
{
	struct call *c = *at;
	*at = c->next;
	g->n_calls--;
	c->done(c->ctx, result, err);
	free(c);
}

static void fail_calls(struct glink *g, int code, const char *why)
{
	while (g->calls) {
		struct vc_error err = VC_ERROR_INIT;
		vc_error_set(&err, code, "%s of guest %s: %s", g->calls->method, g->name, why);
		finish_call(g, &g->calls, NULL, &err);
	}
}

static void expire_calls(struct glink *g)
{
	for (struct call **at = &g->calls; *at;) {
		if ((*at)->deadline > uv_now(g->loop)) {
			at = &(*at)->next;
			continue;
		}
		struct vc_error err = VC_ERROR_INIT;
		vc_error_set(&err, VC_ETIMEDOUT, "guest %s did not answer %s in time", g->name, (*at)->method);
		finish_call(g, at, NULL, &err);
		at = &g->calls; // the callback may have changed the list
	}
}

static int send_message(struct glink *g, struct json_object *msg, struct vc_error *err)
{
	size_t len;
	const char *text = vc_json_text(msg, &len);
	if (!g->rpc)
		return vc_error_set(err, ENOTCONN, "the link to guest %s is down", g->name);
	return text ? vc_mux_session_message(g->rpc, text, len, err) : vc_error_set(err, ENOMEM, "guest %s", g->name);
}

int glink_call(struct glink *g, const char *method, struct json_object *params, uint64_t timeout_ms, glink_done_fn done,
	       void *ctx, struct vc_error *err)
{
	vc_autojson struct json_object *msg = json_object_new_object();
	struct call *c = calloc(1, sizeof(*c));
	if (!msg || !c || vc_json_add(msg, "params", params ? params : json_object_new_object()) < 0 ||
	    vc_json_add_str(msg, "jsonrpc", "2.0") < 0 || vc_json_add_u64(msg, "id", g->next_id) < 0 ||
	    vc_json_add_str(msg, "method", method) < 0) {
		free(c);
		return vc_error_set(err, ENOMEM, "%s of guest %s", method, g->name);
	}
	if (g->n_calls >= GLINK_CALLS_MAX || send_message(g, msg, err) < 0) {
		if (g->n_calls >= GLINK_CALLS_MAX)
			vc_error_set(err, VC_EBUSY, "too many requests to guest %s", g->name);
		free(c);
		return -1;
	}
	*c = (struct call){.next = g->calls, .id = g->next_id++, .deadline = uv_now(g->loop) + timeout_ms, .done = done, .ctx = ctx};
	snprintf(c->method, sizeof(c->method), "%s", method);
	g->calls = c;
	g->n_calls++;
	return 0;
}

// --- what the guest says --------------------------------------------------------------------------------------

static void on_answer(struct glink *g, uint64_t id, struct json_object *msg)
{
	struct json_object *error = NULL, *result = NULL;
	struct vc_error err = VC_ERROR_INIT;
	struct call **at = &g->calls;
	while (*at && (*at)->id != id)
		at = &(*at)->next;
	if (!*at)
		return; // its deadline has passed
	if (json_object_object_get_ex(msg, "error", &error) && error) {
		const char *text = "unknown error";
		(void)vc_json_str_opt(error, "message", VC_ERROR_TEXT_MAX, &text, NULL);
		vc_error_set(&err, VC_EFAILED, "%s of guest %s: %s", (*at)->method, g->name, text);
		finish_call(g, at, NULL, &err);
		return;
	}
	vc_autojson struct json_object *none = json_object_new_object();
	json_object_object_get_ex(msg, "result", &result);
	finish_call(g, at, result ? result : none, NULL);
}

static void answer_unknown(struct glink *g, uint64_t id, const char *method)
{
	vc_autojson struct json_object *msg = json_object_new_object(), *error = json_object_new_object();
	char text[96];
	snprintf(text, sizeof(text), "no method '%.40s' for guests", method);
	if (vc_json_add_int(error, "code", -32601) < 0 || vc_json_add_str(error, "message", text) < 0 ||
	    vc_json_add_u64(msg, "id", id) < 0 || vc_json_add_str(msg, "jsonrpc", "2.0") < 0 ||
	    vc_json_add(msg, "error", json_object_get(error)) < 0)
		return;
	(void)send_message(g, msg, NULL); // a guest that asks for what is not there may wait for ever
}

static void on_request(struct glink *g, const char *method, struct json_object *msg)
{
	vc_autojson struct json_object *none = json_object_new_object();
	struct json_object *params = none;
	uint64_t id;
	(void)vc_json_obj(msg, "params", &params, NULL);
	if (strcmp(method, "guest.hello") == 0)
		g->ops->hello(g->ctx, params);
	else if (strcmp(method, "guest.load") == 0 && g->ops->load)
		g->ops->load(g->ctx, params);
	else if (strcmp(method, "guest.resize") == 0 && g->ops->resize)
		g->ops->resize(g->ctx, params);
	else if (vc_json_u64(msg, "id", INT64_MAX, &id, NULL) == 0)
		answer_unknown(g, id, method);
}

static void on_message(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	struct glink *g = ctx;
	struct vc_error err = VC_ERROR_INIT;
	const char *method = NULL;
	uint64_t id;
	(void)s;
	vc_autojson struct json_object *msg = vc_json_parse(text, len, &err);
	if (!msg) {
		vc_log_debug("guest %s: %s", g->name, err.text); // a hostile guest must not fill the log
		return;
	}
	if (vc_json_str_opt(msg, "method", 64, &method, NULL) == 0 && method)
		on_request(g, method, msg);
	else if (vc_json_u64(msg, "id", INT64_MAX, &id, NULL) == 0)
		on_answer(g, id, msg);
}

// --- session 0 ------------------------------------------------------------------------------------------------

static int mux_send(void *ctx, void *route, struct vc_link_frame *frame)
{
	struct glink *g = ctx;
	(void)route;
	return g->io ? pollio_send(g->io, frame) : -1;
}

static size_t mux_data(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	(void)ctx;
	(void)s;
	(void)ch;
	(void)data;
	return len; // session 0 has a control channel only
}

static void mux_channel(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	(void)ctx;
	(void)s;
	(void)ch;
}

static void mux_session(void *ctx, struct vc_mux_session *s)
{
	(void)ctx;
	(void)s;
}

static void mux_reset(void *ctx, struct vc_mux_session *s, const char *code, const char *message)
{
	struct glink *g = ctx;
	(void)s;
	vc_log_warning("guest %s ended its control session: %s: %s", g->name, code, message);
	g->rpc = NULL;
	fail_calls(g, VC_EPROTO, "the guest ended its control session");
	if (g->io)
		pollio_hello(g->io); // a new epoch, a new session
}

static const struct vc_mux_ops mux_ops = {
	.send_frame = mux_send,
	.on_data = mux_data,
	.on_eof = mux_channel,
	.on_message = on_message,
	.on_writable = mux_channel,
	.on_reader_closed = mux_channel,
	.on_acked = mux_session,
	.on_reset = mux_reset,
};

// --- the link -------------------------------------------------------------------------------------------------

static void link_frame(void *ctx, struct vc_link_frame *frame)
{
	struct glink *g = ctx;
	g->total.frames_in++;
	if (frame->session == VC_SESSION_RPC) {
		vc_mux_input(g->mux, g, frame, uv_now(g->loop));
	} else if (frame->session & VC_SESSION_FROM_GUEST) {
		if (g->sink.frame)
			g->sink.frame(g->sink.ctx, g, frame);
	} else {
		struct glink_route *r = glink_route_find(g, frame->session);
		if (r && frame->type != VC_LINK_OPEN)
			r->frame(r, frame);
	}
}

static void each_route(struct glink *g, void (*(*which)(struct glink_route *))(struct glink_route *))
{
	for (struct glink_route *next, *r = g->routes; r; r = next) {
		next = r->next;
		void (*fn)(struct glink_route *) = which(r);
		if (fn)
			fn(r);
	}
}

static void (*route_up(struct glink_route *r))(struct glink_route *)
{
	return r->up;
}
static void (*route_drained(struct glink_route *r))(struct glink_route *)
{
	return r->drained;
}

static void drop_session(struct glink *g, const char *why)
{
	if (g->rpc)
		vc_mux_session_destroy(vc_steal(&g->rpc));
	fail_calls(g, ENOTCONN, why);
}

static void link_up(void *ctx)
{
	struct glink *g = ctx;
	struct vc_error err = VC_ERROR_INIT;
	drop_session(g, "the link was reset");
	g->down_since = 0;
	g->rpc = vc_mux_session_create(g->mux, g, VC_SESSION_RPC, VC_MUX_PEER, NULL, uv_now(g->loop), &err);
	if (!g->rpc)
		vc_log_err("guest %s: %s", g->name, err.text);
	vc_log_debug("guest %s: link is up", g->name);
	each_route(g, route_up);
}

static void mark_down(struct glink *g, const char *why)
{
	if (!g->down_since)
		g->down_since = uv_now(g->loop);
	g->total.resets++;
	drop_session(g, why);
	if (g->sink.down)
		g->sink.down(g->sink.ctx, g);
	g->ops->down(g->ctx);
}

static void link_down(void *ctx)
{
	struct glink *g = ctx;
	vc_log_debug("guest %s: link is down", g->name);
	mark_down(g, "the link was lost");
}

static void link_writable(void *ctx)
{
	struct glink *g = ctx;
	vc_mux_route_writable(g->mux, g, uv_now(g->loop));
	if (g->sink.writable)
		g->sink.writable(g->sink.ctx, g);
}

static void link_written(void *ctx)
{
	struct glink *g = ctx;
	if (g->was_blocked && !glink_blocked(g)) {
		g->was_blocked = false;
		each_route(g, route_drained);
	}
}

static void link_broken(void *ctx, const struct vc_error *err)
{
	struct glink *g = ctx;
	g->io = NULL; // pollio ends by itself
	g->retry_at = uv_now(g->loop) + GLINK_RECONNECT_MS;
	vc_log_debug("guest %s: %s", g->name, err->text);
	mark_down(g, "the connection to QEMU broke");
	link_written(g);
}

static const struct pollio_ops link_ops = {link_frame, link_up, link_down, link_writable, link_written, link_broken};

// A unix socket connects at once or not at all: QEMU takes one client, a second would wait in the backlog.
static void try_connect(struct glink *g)
{
	struct vc_error err = VC_ERROR_INIT;
	g->retry_at = uv_now(g->loop) + GLINK_RECONNECT_MS;
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&g->addr, sizeof(g->addr)) < 0)
		return;
	g->io = pollio_create(g->loop, vc_steal_fd(&fd), g->boot, &link_ops, g, &err);
	if (!g->io)
		vc_log_err("guest %s: %s", g->name, err.text);
}

void glink_take(struct glink *g, int fd)
{
	struct vc_error err = VC_ERROR_INIT;
	uint64_t now = uv_now(g->loop);
	if (g->closed || now < g->take_at) {
		close(fd);
		return;
	}
	g->take_at = now + GLINK_TAKE_MS;
	if (g->io) {
		pollio_close(vc_steal(&g->io));
		mark_down(g, "the guest has connected anew");
	}
	g->io = pollio_create(g->loop, fd, g->boot, &link_ops, g, &err);
	if (!g->io)
		vc_log_err("guest %s: %s", g->name, err.text);
	link_written(g);
}

static void on_tick(uv_timer_t *timer)
{
	struct glink *g = timer->data;
	if (!g->io && uv_now(g->loop) >= g->retry_at)
		try_connect(g);
	if (g->io)
		pollio_tick(g->io);
	vc_mux_tick(g->mux, uv_now(g->loop));
	expire_calls(g);
}

// --- life -----------------------------------------------------------------------------------------------------

static int make_boot(char boot[VC_LINK_BOOT_LEN + 1], struct vc_error *err)
{
	uint8_t raw[VC_LINK_BOOT_LEN / 2];
	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		return vc_error_errno(err, "random numbers");
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(boot + 2 * i, 3, "%02x", raw[i]);
	return 0;
}

static const struct vc_mux_config mux_conf = {
	.sessions_max = 1,
	.message_max = GLINK_MESSAGE_MAX,
	.id_mask = UINT64_MAX, // nothing may be opened by frames
	.id_value = UINT64_MAX,
};

struct glink *glink_create(uv_loop_t *loop, const char *path, const char *name, const struct glink_ops *ops, void *ctx,
			   struct vc_error *err)
{
	struct glink *g = calloc(1, sizeof(*g));
	if (!g || strlen(path) >= sizeof(g->addr.sun_path) || !(g->name = strdup(name)) ||
	    !(g->mux = vc_mux_create(&mux_conf, &mux_ops, g)) || make_boot(g->boot, err) < 0) {
		vc_error_set(err, ENOMEM, "link of guest %s", name);
		if (g) {
			vc_mux_destroy(g->mux);
			free(g->name);
		}
		free(g);
		return NULL;
	}
	g->loop = loop;
	g->ops = ops;
	g->ctx = ctx;
	g->next_id = 1;
	g->addr.sun_family = AF_UNIX;
	memcpy(g->addr.sun_path, path, strlen(path) + 1);
	g->down_since = uv_now(loop) ? uv_now(loop) : 1;
	uv_timer_init(loop, &g->timer);
	g->timer.data = g;
	uv_timer_start(&g->timer, on_tick, 0, TICK_MS);
	return g;
}

static void on_closed(uv_handle_t *handle)
{
	struct glink *g = handle->data;
	vc_mux_destroy(g->mux);
	free(g->name);
	free(g);
}

void glink_close(struct glink *g, const char *code, const char *message)
{
	if (!g || g->closed)
		return;
	g->closed = true;
	if (g->sink.down)
		g->sink.down(g->sink.ctx, g);
	g->sink = (struct glink_sink){0};
	while (g->routes) {
		struct glink_route *r = g->routes;
		glink_route_remove(g, r);
		r->gone(r, code, message);
	}
	pollio_close(g->io);
	g->io = NULL;
	g->rpc = NULL;
	fail_calls(g, VC_ECANCELED, message);
	uv_close((uv_handle_t *)&g->timer, on_closed);
}

void glink_set_sink(struct glink *g, const struct glink_sink *sink)
{
	g->sink = *sink;
}

bool glink_is_up(const struct glink *g)
{
	return g->rpc != NULL;
}

uint64_t glink_down_ms(const struct glink *g)
{
	return g->down_since ? uv_now(g->loop) - g->down_since : 0;
}

// --- routes ---------------------------------------------------------------------------------------------------

int glink_route_add(struct glink *g, struct glink_route *route, struct vc_error *err)
{
	if (g->n_routes >= GLINK_ROUTES_MAX)
		return vc_error_set(err, VC_EBUSY, "guest %s has %u tasks already", g->name, g->n_routes);
	if (glink_route_find(g, route->session))
		return vc_error_set(err, VC_EBUSY, "session %016llx is in use", (unsigned long long)route->session);
	route->next = g->routes;
	g->routes = route;
	g->n_routes++;
	return 0;
}

void glink_route_remove(struct glink *g, struct glink_route *route)
{
	for (struct glink_route **at = &g->routes; *at; at = &(*at)->next) {
		if (*at != route)
			continue;
		*at = route->next;
		g->n_routes--;
		return;
	}
}

struct glink_route *glink_route_find(struct glink *g, uint64_t session)
{
	struct glink_route *r = g->routes;
	while (r && r->session != session)
		r = r->next;
	return r;
}

int glink_forward(struct glink *g, struct vc_link_frame *frame)
{
	if (!g->io || !pollio_is_up(g->io))
		return -1;
	g->total.frames_out++;
	return pollio_forward(g->io, frame);
}

int glink_send(struct glink *g, struct vc_link_frame *frame)
{
	if (!g->io) {
		errno = ENOTCONN;
		return -1;
	}
	g->total.frames_out++;
	return pollio_send(g->io, frame);
}

bool glink_blocked(struct glink *g)
{
	bool blocked = g->io && pollio_queued(g->io) > GLINK_RELAY_MAX;
	g->was_blocked |= blocked;
	return blocked;
}

struct glink_counts glink_counts(const struct glink *g)
{
	struct glink_counts c = g->total;
	c.routes = g->n_routes;
	c.calls = g->n_calls;
	return c;
}
