// SPDX-License-Identifier: GPL-2.0-or-later
// Connections: see conn.h. Owns the stream, the session, one timer, at most one write and one munge job at a time.
//
// Life: handshake, open, then `closing` (output leaves, nothing is read), then the handles close and the memory goes in
// the last close callback. Whatever a callback of the owner does, the struct stays valid until the stack is back in
// the loop: it is freed in close callbacks only.
#include "vcd/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/cred.h"
#include "libvc/log.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define READ_CHUNK (64u << 10)
#define CRED_TIMEOUT_MS 10000 // munged answers in one millisecond, or retries for some seconds when it is restarted

struct conn {
	struct vcd *vcd;
	uv_stream_t *stream; // NULL after it was taken
	struct vc_session *session;
	const struct conn_ops *ops;
	void *ctx;
	uv_timer_t timer; // handshake; stalled writes; linger
	bool open;	  // authenticated
	bool paused, reading, closing, told, failed;
	bool resuming; // the timer is to call process()
	struct vc_error why; // of a failure found inside conn_send
	uv_write_t write;
	struct vc_buf writing; // what `write` is sending
	bool in_write, owes_drained;
	size_t last_queue; // bytes unsent at the timer's last look
	struct work_job *cred_job;
	void (*taken)(void *ctx, uv_stream_t *stream, struct vc_buf *pending);
	void (*session_taken)(void *ctx, uv_stream_t *stream, struct vc_session *session); // or this one
	void *taken_ctx;
	int handles; // not yet closed
};

static void process(struct conn *conn);
static void write_more(struct conn *conn);
static void on_timer(uv_timer_t *timer);

// --- the end ---

static void conn_free(struct conn *conn)
{
	vc_buf_clear(&conn->writing);
	vc_session_destroy(conn->session);
	free(conn);
}

static void on_stream_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	free(handle);
	if (--conn->handles == 0)
		conn_free(conn);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	if (--conn->handles == 0)
		conn_free(conn);
}

static void close_handles(struct conn *conn)
{
	if (conn->stream && !uv_is_closing((uv_handle_t *)conn->stream))
		uv_close((uv_handle_t *)conn->stream, on_stream_closed);
	if (!uv_is_closing((uv_handle_t *)&conn->timer))
		uv_close((uv_handle_t *)&conn->timer, on_timer_closed);
}

static void stop_reading(struct conn *conn)
{
	if (conn->reading)
		uv_read_stop(conn->stream);
	conn->reading = false;
}

// No events from here; the output leaves, if the other side reads it in time.
static void begin_close(struct conn *conn)
{
	if (conn->closing)
		return;
	conn->closing = true;
	stop_reading(conn);
	if (conn->cred_job)
		work_cancel(conn->cred_job);
	conn->cred_job = NULL;
	write_more(conn);
	if (conn->in_write)
		uv_timer_start(&conn->timer, on_timer, CONN_LINGER_MS, 0);
	else
		close_handles(conn);
}

// From the loop only: tells the owner, once.
static void die(struct conn *conn, const struct vc_error *why)
{
	if (conn->closing)
		return;
	begin_close(conn);
	if (conn->told)
		return;
	conn->told = true;
	if (conn->taken)
		conn->taken(conn->taken_ctx, NULL, NULL);
	else if (conn->session_taken)
		conn->session_taken(conn->taken_ctx, NULL, NULL);
	else
		conn->ops->closed(conn, conn->ctx, why);
}

void conn_close(struct conn *conn, const struct vc_error *why)
{
	conn->told = true;
	if (why)
		vc_session_fail(conn->session, why);
	begin_close(conn);
}

// Found while the owner is on the stack: the loop's next turn tells.
static void die_later(struct conn *conn, const struct vc_error *why)
{
	if (conn->failed || conn->closing)
		return;
	conn->failed = true;
	conn->why = *why;
	stop_reading(conn);
	uv_timer_start(&conn->timer, on_timer, 0, 0);
}

static void die_uv(struct conn *conn, int status, const char *what)
{
	struct vc_error why = VC_ERROR_INIT;
	if (status == UV_EOF)
		vc_error_set(&why, VC_ECANCELED, "the other side closed the connection");
	else
		vc_error_set(&why, VC_ECANCELED, "%s: %s", what, uv_strerror(status));
	die(conn, &why);
}

// --- writing ---

static bool is_leaving(const struct conn *conn)
{
	return conn->taken || conn->session_taken;
}

static void give_away(struct conn *conn)
{
	uv_stream_t *stream = conn->stream;
	vc_autobuf struct vc_buf pending = VC_BUF_INIT(0);
	if (conn->taken) {
		pending = *vc_session_pending(conn->session);
		*vc_session_pending(conn->session) = VC_BUF_INIT(0);
	}
	stop_reading(conn);
	conn->stream = NULL;
	conn->handles--;
	conn->closing = conn->told = true;
	close_handles(conn);
	stream->data = NULL;
	if (conn->taken)
		conn->taken(conn->taken_ctx, stream, &pending);
	else
		conn->session_taken(conn->taken_ctx, stream, vc_steal(&conn->session));
}

static void on_written(uv_write_t *req, int status)
{
	struct conn *conn = req->data;
	conn->in_write = false;
	vc_buf_clear(&conn->writing);
	if (status < 0 && !conn->closing) {
		die_uv(conn, status, "writing");
		return;
	}
	if (status == 0)
		write_more(conn);
	if (conn->in_write)
		return;
	if (conn->closing) {
		close_handles(conn);
		return;
	}
	if (is_leaving(conn)) {
		give_away(conn);
		return;
	}
	if (conn->owes_drained && conn_queued(conn) < CONN_OUT_LOW) {
		conn->owes_drained = false;
		if (conn->ops->drained)
			conn->ops->drained(conn, conn->ctx);
	}
	process(conn); // may have waited for room
}

// One write at a time: what is queued meanwhile leaves together in the next one.
static void write_more(struct conn *conn)
{
	struct vc_buf *out = vc_session_output(conn->session);
	if (conn->in_write || !out->len || !conn->stream || uv_is_closing((uv_handle_t *)conn->stream))
		return;
	conn->writing = *out;
	*out = VC_BUF_INIT(out->cap);
	uv_buf_t buf = uv_buf_init((char *)vc_buf_head(&conn->writing), (unsigned)conn->writing.len);
	conn->write.data = conn;
	int rc = uv_write(&conn->write, conn->stream, &buf, 1, on_written);
	if (rc == 0) {
		conn->in_write = true;
		if (conn->open && !conn->closing && !uv_is_active((uv_handle_t *)&conn->timer)) {
			conn->last_queue = 0;
			uv_timer_start(&conn->timer, on_timer, CONN_STALL_MS, CONN_STALL_MS);
		}
		return;
	}
	struct vc_error why = VC_ERROR_INIT;
	vc_error_set(&why, VC_ECANCELED, "writing: %s", uv_strerror(rc));
	vc_buf_clear(&conn->writing);
	die_later(conn, &why);
}

size_t conn_queued(const struct conn *conn)
{
	return conn->writing.len + vc_session_output(conn->session)->len;
}

int conn_address(const struct conn *conn, struct sockaddr_storage *ret)
{
	int len = sizeof(*ret);
	if (!conn->stream || conn->stream->type != UV_TCP)
		return -1;
	return uv_tcp_getpeername((const uv_tcp_t *)conn->stream, (struct sockaddr *)ret, &len) < 0 ? -1 : 0;
}

int conn_send(struct conn *conn, enum vc_frame_type type, const void *body, size_t len, struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	if (conn->closing || conn->failed)
		return vc_error_set(err, VC_ECANCELED, "the connection is closed");
	if (vc_session_send(conn->session, type, body, len, &why) < 0) {
		if (why.code == ENOBUFS)
			vc_error_set(&why, VC_EBUSY, "the other side does not read: %zu bytes wait", conn_queued(conn));
		if (why.code != VC_EPROTO)
			die_later(conn, &why);
		return vc_error_set(err, why.code, "%s", why.text);
	}
	conn->owes_drained = conn->owes_drained || conn_queued(conn) >= CONN_OUT_LOW;
	write_more(conn);
	return 0;
}

// --- munge, in a worker ---

struct cred_job {
	struct conn *conn;
	char *socket, *text, *result; // text: payload or credential; result: of encode
	uid_t reader;
	bool encode;
	struct vc_cred cred; // of decode
};

static int cred_run(void *ctx, struct vc_error *err)
{
	struct cred_job *job = ctx;
	if (job->encode)
		return vc_cred_encode(job->socket, job->reader, job->text, strlen(job->text), &job->result, err);
	return vc_cred_decode(job->socket, job->text, &job->cred, err);
}

static void cred_done(void *ctx, const struct vc_error *err)
{
	struct cred_job *job = ctx;
	struct conn *conn = job->conn;
	conn->cred_job = NULL;
	if (err)
		vc_session_fail(conn->session, err);
	else if (job->encode)
		vc_session_encoded(conn->session, job->result);
	else
		vc_session_decoded(conn->session, job->cred.uid, job->cred.payload, job->cred.len);
	process(conn);
}

static void cred_release(void *ctx)
{
	struct cred_job *job = ctx;
	free(job->socket);
	free(job->text);
	free(job->result);
	free(job->cred.payload);
	free(job);
}

static void start_cred(struct conn *conn, bool encode)
{
	struct vc_error err = VC_ERROR_INIT;
	struct cred_job *job = calloc(1, sizeof(*job));
	if (!job) {
		vc_error_errno(&err, "munge");
		vc_session_fail(conn->session, &err);
		return;
	}
	job->conn = conn;
	job->encode = encode;
	job->reader = vc_session_reader(conn->session);
	job->socket = strdup(conn->vcd->conf->munge_socket);
	job->text = strdup(encode ? vc_session_payload(conn->session) : vc_session_cred(conn->session));
	struct work_args args = {.pool = WORK_GENERAL, .what = "munge", .deadline_ms = CRED_TIMEOUT_MS, .run = cred_run,
				 .done = cred_done, .release = cred_release, .ctx = job};
	if (!job->socket || !job->text)
		vc_error_set(&err, ENOMEM, "munge: out of memory");
	else if (work_submit(conn->vcd->work, &args, &conn->cred_job, &err) == 0)
		return;
	cred_release(job);
	vc_session_fail(conn->session, &err);
}

// --- reading ---

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	(void)handle;
	(void)suggested;
	*buf = uv_buf_init(malloc(READ_CHUNK), READ_CHUNK);
	if (!buf->base)
		buf->len = 0; // libuv reports ENOBUFS
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct conn *conn = stream->data;
	struct vc_error err = VC_ERROR_INIT;
	if (n < 0)
		die_uv(conn, (int)n, "reading");
	else if (n > 0 && vc_session_input(conn->session, buf->base, (size_t)n, &err) < 0)
		die(conn, &err);
	else if (n > 0)
		process(conn);
	free(buf->base);
}

static void want_input(struct conn *conn)
{
	if (conn->reading || conn->closing || conn->failed)
		return;
	int rc = uv_read_start(conn->stream, on_alloc, on_read);
	conn->reading = rc == 0;
	if (rc < 0)
		die_uv(conn, rc, "reading");
}

static bool may_take_frames(const struct conn *conn)
{
	return !conn->closing && !conn->failed && !conn->paused && !is_leaving(conn) && conn_queued(conn) < CONN_OUT_HIGH;
}

static void become_open(struct conn *conn)
{
	conn->open = true;
	uv_timer_stop(&conn->timer);
	conn->ops->ready(conn, conn->ctx);
}

// Takes events out of the session as long as there are any and the owner wants them.
static void process(struct conn *conn)
{
	struct vc_frame frame;
	struct vc_error why = VC_ERROR_INIT;
	while (may_take_frames(conn)) {
		enum vc_session_event event = vc_session_next(conn->session, &frame, &why);
		if (event == VC_SESSION_FRAME)
			conn->ops->frame(conn, conn->ctx, &frame);
		else if (event == VC_SESSION_READY)
			become_open(conn);
		else if (event == VC_SESSION_DECODE || event == VC_SESSION_ENCODE)
			start_cred(conn, event == VC_SESSION_ENCODE);
		else if (event == VC_SESSION_CLOSED)
			die(conn, &why);
		else if (event == VC_SESSION_NEED_INPUT) {
			write_more(conn);
			want_input(conn);
			return;
		} else
			break; // WAIT
	}
	if (conn->closing)
		return;
	stop_reading(conn); // a sender that is not listened to waits in its own socket
	write_more(conn);
	if (is_leaving(conn) && !conn->in_write && !conn->failed)
		give_away(conn);
}

// --- time ---

static void on_timer(uv_timer_t *timer)
{
	struct conn *conn = timer->data;
	struct vc_error why = VC_ERROR_INIT;
	if (conn->closing) { // linger is over
		close_handles(conn);
		return;
	}
	if (conn->failed) {
		conn->failed = false;
		why = conn->why;
		vc_session_fail(conn->session, &why);
		die(conn, &why);
		return;
	}
	if (!conn->open) {
		vc_error_set(&why, VC_ETIMEDOUT, "no authentication within %d s", CONN_HANDSHAKE_MS / 1000);
		vc_session_fail(conn->session, &why);
		die(conn, &why);
		return;
	}
	size_t queue = uv_stream_get_write_queue_size(conn->stream);
	if (conn->resuming) {
		conn->resuming = false;
		conn->last_queue = 0;
		process(conn);
		return;
	}
	if (queue && queue == conn->last_queue) {
		vc_error_set(&why, VC_ETIMEDOUT, "the other side read nothing for %d s", CONN_STALL_MS / 1000);
		die(conn, &why);
		return;
	}
	conn->last_queue = queue;
	if (!queue)
		uv_timer_stop(timer);
}

// --- making ---

static void on_plain_closed(uv_handle_t *handle)
{
	free(handle);
}

struct conn *conn_create(struct vcd *vcd, uv_stream_t *stream, struct vc_session *session, const struct conn_ops *ops,
			 void *ctx, struct vc_error *err)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	if (!conn) {
		vc_error_errno(err, "connection");
		vc_session_destroy(session);
		uv_close((uv_handle_t *)stream, on_plain_closed);
		return NULL;
	}
	*conn = (struct conn){.vcd = vcd, .stream = stream, .session = session, .ops = ops, .ctx = ctx, .handles = 2};
	uv_timer_init(&vcd->loop, &conn->timer);
	conn->timer.data = stream->data = conn;
	uv_timer_start(&conn->timer, on_timer, CONN_HANDSHAKE_MS, 0);
	return conn;
}

void conn_start(struct conn *conn)
{
	process(conn);
}

struct vc_session *conn_session(struct conn *conn)
{
	return conn->session;
}

uv_stream_t *conn_stream(struct conn *conn)
{
	return conn->stream;
}

void conn_pause(struct conn *conn)
{
	conn->paused = true;
	if (!conn->closing)
		stop_reading(conn);
}

// The frames that wait already are taken in the loop's next turn: the owner is on the stack now.
void conn_resume(struct conn *conn)
{
	if (!conn->paused)
		return;
	conn->paused = false;
	if (conn->closing || conn->failed)
		return;
	conn->resuming = true;
	uv_timer_start(&conn->timer, on_timer, 0, CONN_STALL_MS);
}

void conn_take(struct conn *conn, void (*taken)(void *ctx, uv_stream_t *stream, struct vc_buf *pending), void *ctx)
{
	conn->taken = taken;
	conn->taken_ctx = ctx;
}

void conn_take_session(struct conn *conn, void (*taken)(void *ctx, uv_stream_t *stream, struct vc_session *session), void *ctx)
{
	conn->session_taken = taken;
	conn->taken_ctx = ctx;
}
