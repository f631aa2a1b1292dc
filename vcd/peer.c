// SPDX-License-Identifier: GPL-2.0-or-later
// Calls to other vcds: see peer.h. Owns one struct peer per host ever called, and every call until its done().
//
// A peer is a small state machine: IDLE -> RESOLVING -> CONNECTING -> HANDSHAKE -> OPEN, and BACKOFF after a failure.
// Calls wait in `waiting` until OPEN, then in `sent`. What done() is to hear is put into the list `due` and told from a
// uv_idle, so that no caller is called back from inside its own call, nor from deep inside a module's reply.
#include "vcd/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/conn.h"
#include "vcd/rpc_int.h"
#include "vcd/vcd.h"

#define SWEEP_MS 100		// how often deadlines and backoffs are looked at
#define BACKOFF_MIN_MS 100	// a vcd that restarts is back within a second
#define BACKOFF_MAX_MS 5000	// and a host that boots is noticed soon after
#define AGAIN_MAX 3		// how often a call is sent again: a vcd that dies of a call must not be asked for ever
#define UNREACHABLE_MS 15000	// a call fails when its host could not be reached for so long: longer than a restart of vcd
#define CONNECT_MS 5000		// for TCP's connect; a silent host answers nothing
#define KEEPALIVE_S 15		// idle seconds before TCP probes: a dead host is noticed within two minutes
#define IN_FLIGHT_MAX 4000	// below RPC_OPEN_MAX_PEER

enum peer_phase { IDLE, RESOLVING, CONNECTING, HANDSHAKE, OPEN, BACKOFF };

struct peer_call {
	TAILQ_ENTRY(peer_call) link; // waiting, sent, local or due
	struct peer_list *in;
	struct peers *peers;
	struct peer *peer; // NULL: the own host
	uint64_t id;
	char method[VC_METHOD_MAX + 1];
	struct json_object *params;
	char trace[VC_TRACE_LEN + 1];
	bool forward;
	uid_t as_uid;
	unsigned again; // how often it may still be sent again
	peer_notify_fn notify;
	peer_done_fn done;
	void *ctx;
	uint64_t since, deadline;
	struct rpc_request *local; // the request on the own host
	struct json_object *result;
	struct vc_error err;
};
TAILQ_HEAD(peer_list, peer_call);

struct peer {
	LIST_ENTRY(peer) link;
	struct peers *peers;
	char host[VC_HOSTNAME_MAX + 1];
	enum peer_phase phase;
	struct conn *conn;
	uv_getaddrinfo_t *resolve; // own memory: outlives a cancel
	uv_tcp_t *tcp;		   // while CONNECTING
	struct peer_list waiting, sent;
	unsigned n_calls;
	uint64_t next_id;
	uint64_t phase_since, backoff_ms, failing_since; // failing_since 0: it is not
	struct vc_error why; // of the last failure
};

struct peers {
	struct vcd *vcd;
	LIST_HEAD(, peer) list;
	struct peer_list local, running, due; // of the own host: to start, started; to be told
	uv_idle_t idle;
	uv_timer_t timer;
	bool stopped;
};

static void on_closed_free(uv_handle_t *handle)
{
	free(handle);
}

static uint64_t now_of(const struct peers *peers)
{
	return uv_now(&peers->vcd->loop);
}

// --- calls ---

static void call_move(struct peer_call *call, struct peer_list *to)
{
	if (call->in)
		TAILQ_REMOVE(call->in, call, link);
	call->in = to;
	if (to)
		TAILQ_INSERT_TAIL(to, call, link);
}

static void call_free(struct peer_call *call)
{
	call_move(call, NULL);
	if (call->peer)
		call->peer->n_calls--;
	json_object_put(call->params);
	json_object_put(call->result);
	free(call);
}

static void on_idle(uv_idle_t *idle);

static void call_due(struct peer_call *call)
{
	call_move(call, &call->peers->due);
	if (!call->peers->stopped)
		uv_idle_start(&call->peers->idle, on_idle);
}

static void call_fail(struct peer_call *call, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void call_fail(struct peer_call *call, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vc_error_vset(&call->err, code, fmt, ap);
	va_end(ap);
	call_due(call);
}

static void tell(struct peer_call *call)
{
	struct peer_call gone = *call;
	vc_autojson struct json_object *result = call->result;
	call->result = NULL;
	call_free(call);
	gone.done(gone.ctx, gone.err.code ? NULL : result, gone.err.code ? &gone.err : NULL);
}

// --- the own host ---

static void local_reply(struct rpc_request *req, struct json_object *result, const struct vc_error *err)
{
	struct peer_call *call = req->origin;
	call->local = NULL;
	if (err)
		call->err = *err;
	else
		call->result = result ? json_object_get(result) : json_object_new_object();
	call_due(call);
}

static void local_notify(struct rpc_request *req, const char *method, struct json_object *params)
{
	struct peer_call *call = req->origin;
	if (call->notify)
		call->notify(call->ctx, method, params);
}

static const struct rpc_origin_ops local_ops = {.reply = local_reply, .notify = local_notify};

static void run_local(struct peer_call *call)
{
	struct vcd *vcd = call->peers->vcd;
	struct rpc_call rpc = {.method = call->method, .params = call->params, .trace = call->trace, .ops = &local_ops,
			       .origin = call};
	rpc.caller = (struct rpc_caller){.uid = call->forward ? call->as_uid : geteuid(), .peer = !call->forward,
					 .forwarded = call->forward};
	snprintf(rpc.caller.host, sizeof(rpc.caller.host), "%s", vcd->conf->host_name);
	struct vc_error err = VC_ERROR_INIT;
	call_move(call, &call->peers->running);
	if (rpc_dispatch(vcd->rpc, &rpc, &call->local, &err) < 0) // sets call->local before the handler may reply
		call_fail(call, err.code, "%s", err.text);
}

// --- sessions ---

static void peer_try(struct peer *peer);
static void peer_flush(struct peer *peer);

static void set_phase(struct peer *peer, enum peer_phase phase)
{
	peer->phase = phase;
	peer->phase_since = now_of(peer->peers);
}

// A call that was sent when the session broke: it waits for the next session, or ends.
static void call_lost(struct peer *peer, struct peer_call *call, const struct vc_error *why)
{
	if (!call->again) {
		call_fail(call, VC_EHOST, "vcd of %s: the session broke during %s: %s", peer->host, call->method, why->text);
		return;
	}
	call->again--;
	call->since = now_of(peer->peers);
	call_move(call, &peer->waiting);
}

// The attempt or the session failed: calls that were sent are lost, the others wait for the next attempt.
static void peer_failed(struct peer *peer, const struct vc_error *why)
{
	bool was_open = peer->phase == OPEN;
	struct peer_call *call;
	peer->why = *why;
	peer->conn = NULL;
	while ((call = TAILQ_FIRST(&peer->sent)))
		call_lost(peer, call, why);
	if (!peer->failing_since)
		peer->failing_since = now_of(peer->peers);
	peer->backoff_ms = was_open || !peer->backoff_ms ? BACKOFF_MIN_MS : peer->backoff_ms * 2;
	if (peer->backoff_ms > BACKOFF_MAX_MS)
		peer->backoff_ms = BACKOFF_MAX_MS;
	vc_log(was_open ? VC_LOG_NOTICE : VC_LOG_DEBUG, "session with vcd of %s: %s", peer->host, why->text);
	set_phase(peer, BACKOFF);
}

static void on_ready(struct conn *conn, void *ctx)
{
	struct peer *peer = ctx;
	(void)conn;
	if (peer->failing_since && now_of(peer->peers) - peer->failing_since > BACKOFF_MAX_MS)
		vc_log_notice("vcd of %s is reached again", peer->host);
	peer->failing_since = 0;
	peer->backoff_ms = 0;
	set_phase(peer, OPEN);
	peer_flush(peer);
}

static struct peer_call *find_sent(struct peer *peer, uint64_t id)
{
	struct peer_call *call;
	TAILQ_FOREACH(call, &peer->sent, link) {
		if (call->id == id)
			return call;
	}
	return NULL;
}

static void take_notification(struct peer *peer, const struct vc_message *m)
{
	uint64_t id = 0;
	if (!m->params || vc_json_u64(m->params, "request", INT64_MAX, &id, NULL) < 0)
		return;
	struct peer_call *call = find_sent(peer, id);
	if (call && call->notify)
		call->notify(call->ctx, m->method, m->params);
}

static void take_reply(struct peer *peer, const struct vc_message *m)
{
	struct peer_call *call = find_sent(peer, m->id);
	if (!call)
		return; // canceled, or past its deadline
	if (m->kind == VC_MESSAGE_ERROR)
		call->err = m->error;
	else
		call->result = m->result ? json_object_get(m->result) : json_object_new_object();
	call_due(call);
	peer_flush(peer);
}

static void on_frame(struct conn *conn, void *ctx, const struct vc_frame *frame)
{
	struct peer *peer = ctx;
	struct vc_message m;
	struct vc_error err = VC_ERROR_INIT;
	if (frame->type != VC_FRAME_RPC || vc_message_parse(frame->body, frame->len, &m, &err) < 0) {
		if (!err.code)
			vc_error_set(&err, VC_EPROTO, "data that nobody asked for");
		conn_close(conn, &err);
		peer_failed(peer, &err);
		return;
	}
	if (m.kind == VC_MESSAGE_NOTIFICATION)
		take_notification(peer, &m);
	else if (m.kind != VC_MESSAGE_REQUEST)
		take_reply(peer, &m);
	vc_message_clear(&m);
}

static void on_drained(struct conn *conn, void *ctx)
{
	(void)conn;
	peer_flush(ctx);
}

static void on_closed(struct conn *conn, void *ctx, const struct vc_error *why)
{
	(void)conn;
	peer_failed(ctx, why);
}

static const struct conn_ops peer_conn_ops = {
	.ready = on_ready,
	.frame = on_frame,
	.drained = on_drained,
	.closed = on_closed,
};

static void start_session(struct peer *peer, uv_stream_t *stream)
{
	struct vcd *vcd = peer->peers->vcd;
	struct vc_error err = VC_ERROR_INIT;
	struct vc_session_opts opts = {.sealed = true, .peer = true, .host = vcd->conf->host_name, .own_uid = geteuid(),
				       .server_uid = geteuid(), .expect_host = peer->host};
	struct vc_session *session = vc_session_client(&opts, &err);
	if (!session) {
		uv_close((uv_handle_t *)stream, on_closed_free);
		peer_failed(peer, &err);
		return;
	}
	peer->conn = conn_create(vcd, stream, session, &peer_conn_ops, peer, &err);
	if (!peer->conn) {
		peer_failed(peer, &err);
		return;
	}
	set_phase(peer, HANDSHAKE);
	conn_start(peer->conn);
}

// --- connecting: each step's memory is its own, and knows by `peer` NULL that it was given up ---

struct connecting {
	uv_connect_t req;
	uv_tcp_t *tcp;
	struct peer *peer;
};

static void fail_uv(struct peer *peer, const char *what, int status)
{
	struct vc_error why = VC_ERROR_INIT;
	vc_error_set(&why, VC_EHOST, "%s: %s", what, uv_strerror(status));
	peer_failed(peer, &why);
}

static void on_connected(uv_connect_t *req, int status)
{
	struct connecting *c = req->data;
	struct peer *peer = c->peer;
	uv_tcp_t *tcp = c->tcp;
	free(c);
	if (peer->tcp != tcp) // given up: it is closing already
		return;
	peer->tcp = NULL;
	if (status < 0) {
		uv_close((uv_handle_t *)tcp, on_closed_free);
		fail_uv(peer, "connecting", status);
		return;
	}
	uv_tcp_nodelay(tcp, 1);
	uv_tcp_keepalive(tcp, 1, KEEPALIVE_S);
	start_session(peer, (uv_stream_t *)tcp);
}

static void connect_to(struct peer *peer, const struct sockaddr *addr)
{
	struct connecting *c = calloc(1, sizeof(*c));
	uv_tcp_t *tcp = malloc(sizeof(*tcp));
	if (!c || !tcp) {
		free(c);
		free(tcp);
		fail_uv(peer, "connecting", UV_ENOMEM);
		return;
	}
	uv_tcp_init(&peer->peers->vcd->loop, tcp);
	*c = (struct connecting){.tcp = tcp, .peer = peer};
	c->req.data = c;
	int rc = uv_tcp_connect(&c->req, tcp, addr, on_connected);
	if (rc < 0) {
		free(c);
		uv_close((uv_handle_t *)tcp, on_closed_free);
		fail_uv(peer, "connecting", rc);
		return;
	}
	peer->tcp = tcp;
	set_phase(peer, CONNECTING);
}

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
	struct peer *peer = req->data; // NULL: given up
	free(req);
	if (peer) {
		peer->resolve = NULL;
		if (status < 0)
			fail_uv(peer, "its name", status);
		else
			connect_to(peer, list->ai_addr);
	}
	uv_freeaddrinfo(list);
}

int peer_address(const struct peers *peers, const char *host, char *ret_addr, size_t len, int *ret_port,
		 struct vc_error *err)
{
	const struct conf *conf = peers->vcd->conf;
	const struct conf_host *known = conf_find_host(conf, host);
	int n = snprintf(ret_addr, len, "%s", known ? known->addr : host);
	if (n < 0 || (size_t)n >= len)
		return vc_error_set(err, VC_EUSER, "host '%.64s...': the name is too long", host);
	*ret_port = known ? known->port : conf->port ? conf->port : VC_DEFAULT_PORT;
	return 0;
}

static void peer_connect(struct peer *peer)
{
	char addr[VC_HOSTNAME_MAX + 1], service[16];
	int port = 0;
	struct vc_error err = VC_ERROR_INIT;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
	if (peer_address(peer->peers, peer->host, addr, sizeof(addr), &port, &err) < 0) {
		peer_failed(peer, &err);
		return;
	}
	snprintf(service, sizeof(service), "%d", port);
	uv_getaddrinfo_t *req = malloc(sizeof(*req));
	int rc = req ? 0 : UV_ENOMEM;
	if (req) {
		req->data = peer;
		rc = uv_getaddrinfo(&peer->peers->vcd->loop, req, on_resolved, addr, service, &hints);
	}
	if (rc < 0) {
		free(req);
		fail_uv(peer, "its name", rc);
		return;
	}
	peer->resolve = req;
	set_phase(peer, RESOLVING);
}

// Lets go of whatever an attempt or a session holds.
static void peer_drop(struct peer *peer, const struct vc_error *why)
{
	if (peer->resolve) {
		peer->resolve->data = NULL;
		uv_cancel((uv_req_t *)peer->resolve);
		peer->resolve = NULL;
	}
	if (peer->tcp)
		uv_close((uv_handle_t *)peer->tcp, on_closed_free);
	peer->tcp = NULL;
	if (peer->conn)
		conn_close(peer->conn, why);
	peer->conn = NULL;
}

static void peer_try(struct peer *peer)
{
	bool rested = peer->phase == BACKOFF && now_of(peer->peers) - peer->phase_since >= peer->backoff_ms;
	if ((peer->phase == IDLE || rested) && !TAILQ_EMPTY(&peer->waiting))
		peer_connect(peer);
}

// --- sending ---

static int send_message(struct peer *peer, struct json_object *msg, struct vc_error *err)
{
	size_t len = 0;
	const char *text = msg ? vc_json_text(msg, &len) : NULL;
	if (!text)
		return vc_error_set(err, ENOMEM, "request: out of memory");
	return conn_send(peer->conn, VC_FRAME_RPC, text, len, err);
}

static void send_call(struct peer *peer, struct peer_call *call)
{
	struct vc_error err = VC_ERROR_INIT;
	call->id = ++peer->next_id;
	vc_autojson struct json_object *msg = vc_message_request(call->id, call->method, call->params, call->trace,
								 call->forward ? &call->as_uid : NULL);
	if (send_message(peer, msg, &err) < 0)
		call_fail(call, err.code, "vcd of %s: %s: %s", peer->host, call->method, err.text);
	else
		call_move(call, &peer->sent);
}

static unsigned count_sent(const struct peer *peer)
{
	unsigned n = 0;
	const struct peer_call *call;
	TAILQ_FOREACH(call, &peer->sent, link)
		n++;
	return n;
}

static void peer_flush(struct peer *peer)
{
	struct peer_call *call;
	unsigned n = count_sent(peer);
	while (peer->phase == OPEN && (call = TAILQ_FIRST(&peer->waiting)) && n++ < IN_FLIGHT_MAX &&
	       conn_queued(peer->conn) < CONN_OUT_HIGH)
		send_call(peer, call);
}

static void send_cancel(struct peer *peer, uint64_t id)
{
	vc_autojson struct json_object *params = json_object_new_object();
	if (!params || vc_json_add_u64(params, "request", id) < 0)
		return;
	vc_autojson struct json_object *msg = vc_message_notification(VC_MESSAGE_CANCEL, params);
	send_message(peer, msg, NULL);
}

// --- time ---

// What a caller has to know of a host that does not answer.
static void fail_unreachable(struct peer *peer, struct peer_call *call)
{
	call_fail(call, VC_EHOST, "vcd of %s cannot be reached: %s: check that vcd runs there and that port and 'hosts' agree",
		  peer->host, peer->why.text);
}

static void sweep_waiting(struct peer *peer, uint64_t now)
{
	struct peer_call *call, *next;
	for (call = TAILQ_FIRST(&peer->waiting); call; call = next) {
		next = TAILQ_NEXT(call, link);
		bool failing = peer->failing_since && now - peer->failing_since >= UNREACHABLE_MS &&
			       now - call->since >= UNREACHABLE_MS;
		if (failing || (now >= call->deadline && peer->phase != OPEN && peer->failing_since))
			fail_unreachable(peer, call);
		else if (now >= call->deadline)
			call_fail(call, VC_ETIMEDOUT, "vcd of %s: no time left for %s", peer->host, call->method);
	}
}

static void sweep_sent(struct peer *peer, uint64_t now)
{
	struct peer_call *call, *next;
	for (call = TAILQ_FIRST(&peer->sent); call; call = next) {
		next = TAILQ_NEXT(call, link);
		if (now < call->deadline)
			continue;
		send_cancel(peer, call->id);
		call_fail(call, VC_ETIMEDOUT, "vcd of %s did not answer %s in time", peer->host, call->method);
	}
}

static void sweep_peer(struct peer *peer, uint64_t now)
{
	sweep_waiting(peer, now);
	sweep_sent(peer, now);
	if ((peer->phase == RESOLVING || peer->phase == CONNECTING) && now - peer->phase_since >= CONNECT_MS) {
		struct vc_error why = VC_ERROR_INIT;
		vc_error_set(&why, VC_EHOST, "no answer within %d s", CONNECT_MS / 1000);
		peer_drop(peer, NULL);
		peer_failed(peer, &why);
	}
	peer_try(peer);
}

static void drop_local(struct peer_call *call)
{
	if (call->local)
		rpc_origin_gone(call->peers->vcd->rpc, call);
	call->local = NULL;
}

static struct peer_call *find_expired(struct peer_list *list, uint64_t now)
{
	struct peer_call *call;
	TAILQ_FOREACH(call, list, link) {
		if (now >= call->deadline)
			return call;
	}
	return NULL;
}

static void on_timer(uv_timer_t *timer)
{
	struct peers *peers = timer->data;
	uint64_t now = now_of(peers);
	struct peer *peer;
	struct peer_call *call;
	LIST_FOREACH(peer, &peers->list, link)
		sweep_peer(peer, now);
	while ((call = find_expired(&peers->running, now))) { // from the start each time: a cancel may end others
		drop_local(call);
		call_fail(call, VC_ETIMEDOUT, "%s did not end in time", call->method);
	}
}

static void on_idle(uv_idle_t *idle)
{
	struct peers *peers = idle->data;
	struct peer_call *call;
	struct peer_list now = TAILQ_HEAD_INITIALIZER(now);
	while ((call = TAILQ_FIRST(&peers->local)))
		run_local(call);
	while ((call = TAILQ_FIRST(&peers->due))) // one batch: what comes due meanwhile is for the next turn
		call_move(call, &now);
	while ((call = TAILQ_FIRST(&now)))
		tell(call);
	if (TAILQ_EMPTY(&peers->local) && TAILQ_EMPTY(&peers->due))
		uv_idle_stop(idle);
}

// --- the module ---

struct peers *peers_create(struct vcd *vcd, struct vc_error *err)
{
	struct peers *peers = calloc(1, sizeof(*peers));
	if (!peers) {
		vc_error_errno(err, "peers");
		return NULL;
	}
	peers->vcd = vcd;
	LIST_INIT(&peers->list);
	TAILQ_INIT(&peers->local);
	TAILQ_INIT(&peers->running);
	TAILQ_INIT(&peers->due);
	uv_idle_init(&vcd->loop, &peers->idle);
	uv_timer_init(&vcd->loop, &peers->timer);
	peers->idle.data = peers->timer.data = peers;
	uv_timer_start(&peers->timer, on_timer, SWEEP_MS, SWEEP_MS);
	return peers;
}

static struct peer *peer_get(struct peers *peers, const char *host, struct vc_error *err)
{
	struct peer *peer;
	LIST_FOREACH(peer, &peers->list, link) {
		if (strcmp(peer->host, host) == 0)
			return peer;
	}
	peer = calloc(1, sizeof(*peer));
	if (!peer) {
		vc_error_errno(err, "host %s", host);
		return NULL;
	}
	peer->peers = peers;
	snprintf(peer->host, sizeof(peer->host), "%s", host);
	TAILQ_INIT(&peer->waiting);
	TAILQ_INIT(&peer->sent);
	LIST_INSERT_HEAD(&peers->list, peer, link);
	return peer;
}

static void call_start(struct peers *peers, struct peer_call *call)
{
	unsigned max = peers->vcd->conf->peer_queue;
	if (peers->stopped) {
		call_fail(call, VC_ECANCELED, "vcd of %s is stopping", peers->vcd->conf->host_name);
	} else if (!call->peer) {
		call_move(call, &peers->local);
		uv_idle_start(&peers->idle, on_idle);
	} else if (call->peer->n_calls > max) {
		call_fail(call, VC_EBUSY, "%u requests to vcd of %s are under way already (peer-queue)", max, call->peer->host);
	} else {
		call_move(call, &call->peer->waiting);
		peer_try(call->peer);
		peer_flush(call->peer);
	}
}

struct peer_call *peer_call(struct peers *peers, const struct peer_args *args, struct vc_error *err)
{
	bool own = strcmp(args->host, peers->vcd->conf->host_name) == 0;
	if (!args->timeout_ms || strlen(args->method) > VC_METHOD_MAX || strlen(args->host) > VC_HOSTNAME_MAX) {
		vc_error_set(err, VC_EFAILED, "%s on %.64s: wrong arguments", args->method, args->host);
		return NULL;
	}
	struct peer *peer = own ? NULL : peer_get(peers, args->host, err);
	struct peer_call *call = own || peer ? calloc(1, sizeof(*call)) : NULL;
	if (!call) {
		vc_error_set(err, ENOMEM, "%s: out of memory", args->method);
		return NULL;
	}
	uv_update_time(&peers->vcd->loop);
	*call = (struct peer_call){.peers = peers, .peer = peer, .params = json_object_get(args->params),
				   .forward = args->forward, .as_uid = args->as_uid, .notify = args->notify,
				   .again = args->again ? AGAIN_MAX : 0, .done = args->done, .ctx = args->ctx, .since = now_of(peers)};
	call->deadline = args->timeout_ms > UINT64_MAX - call->since ? UINT64_MAX : call->since + args->timeout_ms;
	snprintf(call->method, sizeof(call->method), "%s", args->method);
	if (args->trace && vc_hex_valid(args->trace, VC_TRACE_LEN))
		memcpy(call->trace, args->trace, sizeof(call->trace));
	else
		vc_trace_make(call->trace);
	if (peer)
		peer->n_calls++;
	call_start(peers, call);
	return call;
}

void peer_cancel(struct peer_call *call)
{
	if (!call)
		return;
	if (call->peer && call->in == &call->peer->sent && call->peer->phase == OPEN)
		send_cancel(call->peer, call->id);
	drop_local(call);
	call_free(call);
}

int peer_session_address(const struct peers *peers, const char *host, struct sockaddr_storage *ret)
{
	const struct peer *peer;
	LIST_FOREACH(peer, &peers->list, link) {
		if (strcmp(peer->host, host) == 0)
			return peer->phase == OPEN ? conn_address(peer->conn, ret) : -1;
	}
	return -1;
}

static void fail_list(struct peer_list *list, const char *host)
{
	struct peer_call *call;
	while ((call = TAILQ_FIRST(list))) {
		drop_local(call);
		call_fail(call, VC_ECANCELED, "vcd of %s is stopping", host);
	}
}

void peers_stop(struct peers *peers)
{
	struct peer *peer;
	struct peer_call *call;
	const char *host = peers->vcd->conf->host_name;
	struct vc_error why = VC_ERROR_INIT;
	vc_error_set(&why, VC_ECANCELED, "vcd of %s is stopping", host);
	peers->stopped = true;
	LIST_FOREACH(peer, &peers->list, link) {
		peer_drop(peer, &why);
		set_phase(peer, IDLE);
		fail_list(&peer->waiting, host);
		fail_list(&peer->sent, host);
	}
	fail_list(&peers->local, host);
	fail_list(&peers->running, host);
	while ((call = TAILQ_FIRST(&peers->due)))
		tell(call);
	uv_close((uv_handle_t *)&peers->idle, NULL);
	uv_close((uv_handle_t *)&peers->timer, NULL);
}

void peers_destroy(struct peers *peers)
{
	if (!peers)
		return;
	struct peer *peer;
	struct peer_call *call;
	while ((call = TAILQ_FIRST(&peers->due))) // came after the stop: nobody is there to be told
		call_free(call);
	while ((peer = LIST_FIRST(&peers->list))) {
		LIST_REMOVE(peer, link);
		free(peer);
	}
	free(peers);
}

const char *peers_controller(const struct peers *peers)
{
	return peers->vcd->conf->controllers[0];
}
