// SPDX-License-Identifier: GPL-2.0-or-later
// The requests of one accepted connection: frames to calls, replies to frames, DATA, and the taking over by task.attach.
//
// A wire lives from the accept until its connection is gone; requests that outlive it lose their origin (rpc_int.h).
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/conf.h"
#include "vcd/conn.h"
#include "vcd/rpc_int.h"
#include "vcd/vcd.h"

struct wire {
	struct vcd *vcd;
	struct conn *conn;
	unsigned open; // requests under way
	struct rpc_request *data; // the one that owns DATA frames
	bool discard; // it ended before its data: what still comes is dropped
	uid_t uid;
	void (*closed)(void *ctx);
	void *closed_ctx;
	rpc_taken_fn taken;
	rpc_session_fn session_taken;
	void *taken_ctx;
};

struct wire *wire_create(struct vcd *vcd, struct vc_error *err)
{
	struct wire *wire = calloc(1, sizeof(*wire));
	if (!wire) {
		vc_error_errno(err, "connection");
		return NULL;
	}
	*wire = (struct wire){.vcd = vcd, .uid = (uid_t)-1};
	return wire;
}

void wire_set_closed(struct wire *wire, void (*closed)(void *ctx), void *ctx)
{
	wire->closed = closed;
	wire->closed_ctx = ctx;
}

void wire_destroy(struct wire *wire)
{
	free(wire);
}

void wire_attach(struct wire *wire, struct conn *conn)
{
	wire->conn = conn;
}

void wire_start(struct wire *wire, struct conn *conn)
{
	wire_attach(wire, conn);
	conn_start(conn);
}

uid_t wire_uid(const struct wire *wire)
{
	return wire->uid;
}

static void wire_gone(struct wire *wire)
{
	wire->conn = NULL;
	rpc_origin_gone(wire->vcd->rpc, wire);
	if (wire->taken)
		wire->taken(wire->taken_ctx, NULL, NULL);
	if (wire->session_taken)
		wire->session_taken(wire->taken_ctx, -1, NULL);
	if (wire->closed)
		wire->closed(wire->closed_ctx);
	free(wire);
}

void wire_close(struct wire *wire, const struct vc_error *why)
{
	conn_close(wire->conn, why);
	wire_gone(wire);
}

static int send_message(struct wire *wire, struct json_object *msg, struct vc_error *err)
{
	size_t len = 0;
	const char *text = msg ? vc_json_text(msg, &len) : NULL;
	if (!text)
		return vc_error_set(err, ENOMEM, "reply: out of memory");
	if (!wire->conn) // a request that is canceled by the end of its connection replies to nobody
		return vc_error_set(err, VC_ECANCELED, "the connection is closed");
	return conn_send(wire->conn, VC_FRAME_RPC, text, len, err);
}

static void send_error(struct wire *wire, uint64_t id, const struct vc_error *err)
{
	vc_autojson struct json_object *msg = vc_message_error(id, err);
	struct vc_error lost = VC_ERROR_INIT;
	if (send_message(wire, msg, &lost) < 0)
		vc_log_debug("an error reply to uid %u is lost: %s", wire->uid, lost.text);
}

// --- the origin of requests ---

static void origin_reply(struct rpc_request *req, struct json_object *result, const struct vc_error *err)
{
	struct wire *wire = req->origin;
	if (err) {
		send_error(wire, req->id, err);
		return;
	}
	vc_autojson struct json_object *msg = vc_message_result(req->id, result);
	struct vc_error lost = VC_ERROR_INIT;
	if (send_message(wire, msg, &lost) == 0)
		return;
	vc_log_ctx(VC_LOG_WARNING, &req->log, "the reply of %s is lost: %s", req->method->name, lost.text);
	if (lost.code == VC_EPROTO) // too long for a frame: the caller should hear that
		send_error(wire, req->id, &lost);
}

static void origin_notify(struct rpc_request *req, const char *method, struct json_object *params)
{
	struct wire *wire = req->origin;
	if (!wire->conn)
		return;
	if (conn_queued(wire->conn) > CONN_NOTIFY_MAX) {
		vc_log_ctx(VC_LOG_NOTICE, &req->log, "%s: uid %u does not read, dropping %s", req->method->name, wire->uid, method);
		return;
	}
	vc_autojson struct json_object *copy = NULL; // a caller may keep params
	if (json_object_deep_copy(params, &copy, NULL) < 0 || vc_json_add_u64(copy, "request", req->id) < 0)
		return;
	vc_autojson struct json_object *msg = vc_message_notification(method, copy);
	send_message(wire, msg, NULL);
}

static void origin_ended(struct rpc_request *req)
{
	struct wire *wire = req->origin;
	wire->open--;
	if (wire->data == req) {
		wire->data = NULL;
		wire->discard = req->data_ops->received && !req->data_in_ended;
		if (wire->conn)
			conn_resume(wire->conn);
	}
}

static const struct rpc_origin_ops origin_ops = {
	.reply = origin_reply,
	.notify = origin_notify,
	.ended = origin_ended,
};

// --- requests ---

static int fill_caller(struct wire *wire, const struct vc_message *m, struct rpc_caller *caller, struct vc_error *err)
{
	const struct vc_session *s = conn_session(wire->conn);
	bool peer = vc_session_is_peer(s);
	if (m->forwarded && !peer)
		return vc_error_set(err, VC_EDENIED, "only a vcd speaks for other users");
	*caller = (struct rpc_caller){.uid = m->forwarded ? m->as : wire->uid, .peer = peer && !m->forwarded,
				      .forwarded = m->forwarded};
	memcpy(caller->host, vc_session_host(s), strlen(vc_session_host(s)) + 1);
	return 0;
}

static int take_request(struct wire *wire, const struct vc_message *m, struct vc_error *err)
{
	unsigned max = vc_session_is_peer(conn_session(wire->conn)) ? RPC_OPEN_MAX_PEER : RPC_OPEN_MAX;
	struct rpc_call call = {.method = m->method, .params = m->params, .trace = m->trace, .id = m->id,
				.ops = &origin_ops, .origin = wire, .wire = wire};
	if (fill_caller(wire, m, &call.caller, err) < 0)
		return -1;
	if (wire->open >= max)
		return vc_error_set(err, VC_EBUSY, "%u requests of this connection are under way: wait for one to end", max);
	if (rpc_find(wire->vcd->rpc, wire, m->id))
		return vc_error_set(err, VC_EPROTO, "request %llu is under way already", (unsigned long long)m->id);
	struct rpc_request *req = NULL;
	wire->open++; // the request may end, and count down, inside
	int rc = rpc_dispatch(wire->vcd->rpc, &call, &req, err);
	if (rc < 0)
		wire->open--;
	return rc;
}

static void take_cancel(struct wire *wire, const struct vc_message *m)
{
	uint64_t id = 0;
	if (!m->params || vc_json_u64(m->params, "request", INT64_MAX, &id, NULL) < 0)
		return;
	struct rpc_request *req = rpc_find(wire->vcd->rpc, wire, id);
	if (req)
		rpc_cancel(req);
}

static void take_rpc(struct wire *wire, const struct vc_frame *frame)
{
	struct vc_message m = {0};
	struct vc_error err = VC_ERROR_INIT;
	if (vc_message_parse(frame->body, frame->len, &m, &err) < 0) {
		wire_close(wire, &err);
		return;
	}
	if (m.kind == VC_MESSAGE_REQUEST) {
		if (take_request(wire, &m, &err) < 0)
			send_error(wire, m.id, &err);
	} else if (m.kind == VC_MESSAGE_NOTIFICATION && strcmp(m.method, VC_MESSAGE_CANCEL) == 0) {
		take_cancel(wire, &m);
	}
	vc_message_clear(&m);
}

static void take_data(struct wire *wire, const struct vc_frame *frame)
{
	struct rpc_request *req = wire->data;
	struct vc_error err = VC_ERROR_INIT;
	if (wire->discard) {
		wire->discard = frame->len > 0;
		return;
	}
	if (!req || !req->data_ops->received) {
		vc_error_set(&err, VC_EPROTO, "data that no request asked for");
		wire_close(wire, &err);
		return;
	}
	req->data_in_ended = frame->len == 0;
	if (req->data_ops->received(req, frame->body, frame->len, req->data_ctx, &err) < 0)
		rpc_reply_error(req, &err);
}

// --- events of the connection ---

static void on_ready(struct conn *conn, void *ctx)
{
	struct wire *wire = ctx;
	wire->uid = vc_session_uid(conn_session(conn));
}

static void on_frame(struct conn *conn, void *ctx, const struct vc_frame *frame)
{
	(void)conn;
	if (frame->type == VC_FRAME_RPC)
		take_rpc(ctx, frame);
	else
		take_data(ctx, frame);
}

static void on_drained(struct conn *conn, void *ctx)
{
	struct wire *wire = ctx;
	(void)conn;
	if (wire->data && wire->data->data_ops && wire->data->data_ops->drained)
		wire->data->data_ops->drained(wire->data, wire->data->data_ctx);
}

static void on_closed(struct conn *conn, void *ctx, const struct vc_error *why)
{
	struct wire *wire = ctx;
	(void)conn;
	enum vc_log_level level = why->code == VC_ECANCELED ? VC_LOG_DEBUG : VC_LOG_NOTICE;
	if (wire->uid == (uid_t)-1)
		vc_log(level, "a connection ended before authentication: %s", why->text);
	else
		vc_log(level, "connection of uid %u ended: %s", wire->uid, why->text);
	wire_gone(wire);
}

const struct conn_ops wire_conn_ops = {
	.ready = on_ready,
	.frame = on_frame,
	.drained = on_drained,
	.closed = on_closed,
};

// --- task.attach ---

static void on_taken(void *ctx, uv_stream_t *stream, struct vc_buf *pending)
{
	struct wire *wire = ctx;
	rpc_taken_fn taken = wire->taken;
	void *taken_ctx = wire->taken_ctx;
	wire->taken = NULL;
	wire_gone(wire);
	taken(taken_ctx, stream, pending);
}

bool rpc_is_local(const struct rpc_request *req)
{
	return req->wire && ((uv_handle_t *)conn_stream(req->wire->conn))->type == UV_NAMED_PIPE;
}

int rpc_caller_address(const struct rpc_request *req, struct sockaddr_storage *ret)
{
	return req->wire && req->wire->conn ? conn_address(req->wire->conn, ret) : -1;
}

int rpc_take_connection(struct rpc_request *req, struct json_object *result, rpc_taken_fn taken, void *ctx,
			struct vc_error *err)
{
	struct wire *wire = req->wire;
	if (!wire)
		return vc_error_set(err, VC_ECANCELED, "the connection is gone");
	if (wire->open != 1 || wire->vcd->stopping || vc_session_is_peer(conn_session(wire->conn)) ||
	    ((uv_handle_t *)conn_stream(wire->conn))->type != UV_NAMED_PIPE)
		return vc_error_set(err, VC_EPROTO, "%s needs a local connection of its own", req->method->name);
	wire->taken = taken;
	wire->taken_ctx = ctx;
	conn_take(wire->conn, on_taken, wire); // before the reply: nothing that follows is taken for a frame
	rpc_reply(req, result);
	return 0;
}

// --- image.pull ---

static void on_stream_closed(uv_handle_t *handle)
{
	free(handle);
}

static void on_session_taken(void *ctx, uv_stream_t *stream, struct vc_session *session)
{
	struct wire *wire = ctx;
	rpc_session_fn taken = vc_steal(&wire->session_taken);
	void *taken_ctx = wire->taken_ctx;
	uv_os_fd_t fd = -1;
	wire_gone(wire);
	if (stream) { // libuv lets go of a handle only by closing its descriptor
		if (uv_fileno((uv_handle_t *)stream, &fd) == 0)
			fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		uv_close((uv_handle_t *)stream, on_stream_closed);
	}
	if (fd < 0) {
		vc_session_destroy(session);
		session = NULL;
	}
	taken(taken_ctx, fd, session);
}

int rpc_take_session(struct rpc_request *req, struct json_object *result, rpc_session_fn taken, void *ctx, struct vc_error *err)
{
	struct wire *wire = req->wire;
	if (!wire || !wire->conn)
		return vc_error_set(err, VC_ECANCELED, "the connection is gone");
	if (wire->open != 1 || wire->vcd->stopping || !vc_session_is_peer(conn_session(wire->conn)))
		return vc_error_set(err, VC_EPROTO, "%s needs a connection between vcds of its own", req->method->name);
	wire->session_taken = taken;
	wire->taken_ctx = ctx;
	conn_take_session(wire->conn, on_session_taken, wire); // before the reply: nothing that follows is taken for a frame
	rpc_reply(req, result);
	return 0;
}

// --- DATA ---

static int need_wire(const struct rpc_request *req, struct vc_error *err)
{
	if (req->wire)
		return 0;
	return vc_error_set(err, VC_ECANCELED, "%s: the connection is gone, or cannot carry data", req->method->name);
}

int rpc_data_open(struct rpc_request *req, const struct rpc_data_ops *ops, void *ctx, struct vc_error *err)
{
	if (need_wire(req, err) < 0)
		return -1;
	if (req->wire->data)
		return vc_error_set(err, VC_EPROTO, "%s: another request of this connection moves data", req->method->name);
	req->data_ops = ops;
	req->data_ctx = ctx;
	req->wire->data = req;
	req->wire->discard = false;
	return 0;
}

void rpc_data_pause(struct rpc_request *req)
{
	if (req->wire)
		conn_pause(req->wire->conn);
}

void rpc_data_resume(struct rpc_request *req)
{
	if (req->wire)
		conn_resume(req->wire->conn);
}

int rpc_data_reply(struct rpc_request *req, struct json_object *result, struct vc_error *err)
{
	if (need_wire(req, err) < 0)
		return -1;
	vc_autojson struct json_object *msg = vc_message_result(req->id, result);
	if (send_message(req->wire, msg, err) < 0)
		return -1;
	json_object_put(result);
	req->data_out = true;
	return 0;
}

int rpc_data_send(struct rpc_request *req, const void *data, size_t len, struct vc_error *err)
{
	if (need_wire(req, err) < 0 || conn_send(req->wire->conn, VC_FRAME_DATA, data, len, err) < 0)
		return -1;
	return conn_queued(req->wire->conn) >= CONN_OUT_HIGH;
}

void rpc_data_end(struct rpc_request *req, const struct vc_error *err)
{
	struct wire *wire = req->wire;
	if (!req->data_out && err) {
		rpc_reply_error(req, err);
		return;
	}
	if (wire && !wire->conn) // on the way out: see wire_gone()
		wire = NULL;
	if (wire && !err)
		conn_send(wire->conn, VC_FRAME_DATA, NULL, 0, NULL);
	rpc_end(req);
	if (wire && err)
		wire_close(wire, err);
}
