// SPDX-License-Identifier: GPL-2.0-or-later
// DATA frames as a byte stream: see tunnel.h. The tunnel frees itself when its pipe has closed and its request ended.
#include "vcd/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "vcd/vcd.h"

#define READ_MAX (128u << 10)  // bytes of one DATA frame that we send
#define QUEUE_MAX (1u << 20)   // bytes waiting for the module from which the peer has to wait

struct tunnel {
	struct rpc_request *req; // NULL when ended
	uv_pipe_t pipe;		 // our end
	bool paused;
	rpc_taken_fn taken;
	void *taken_ctx;
	uv_pipe_t *theirs; // until taken() was called
	uv_timer_t later;  // taken() is never called from inside tunnel_take()
	int open_handles;
	uint8_t data[READ_MAX];
};

struct tunnel_write {
	uv_write_t req;
	struct tunnel *tunnel;
	uint8_t data[];
};

static void pipe_closed(uv_handle_t *handle)
{
	struct tunnel *t = handle->data;
	if (--t->open_handles == 0)
		free(t);
}

static void tunnel_close(struct tunnel *t, const struct vc_error *err)
{
	struct rpc_request *req = t->req;
	t->req = NULL;
	if (req)
		rpc_data_end(req, err);
	if (!uv_is_closing((uv_handle_t *)&t->pipe))
		uv_close((uv_handle_t *)&t->pipe, pipe_closed);
}

static void pipe_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	struct tunnel *t = handle->data;
	(void)size;
	*buf = uv_buf_init((char *)t->data, READ_MAX);
}

static void pipe_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct tunnel *t = stream->data;
	struct vc_error err = VC_ERROR_INIT;
	if (n < 0) {
		tunnel_close(t, NULL);
		return;
	}
	int rc = n > 0 && t->req ? rpc_data_send(t->req, buf->base, (size_t)n, &err) : 0;
	if (rc < 0)
		tunnel_close(t, &err);
	else if (rc == 1)
		uv_read_stop(stream);
}

static void drained(struct rpc_request *req, void *ctx)
{
	struct tunnel *t = ctx;
	(void)req;
	if (!uv_is_closing((uv_handle_t *)&t->pipe))
		uv_read_start((uv_stream_t *)&t->pipe, pipe_alloc, pipe_read);
}

static void written(uv_write_t *req, int status)
{
	struct tunnel_write *w = (struct tunnel_write *)req;
	struct tunnel *t = w->tunnel;
	free(w);
	if (status < 0) {
		tunnel_close(t, NULL);
	} else if (t->paused && t->req && uv_stream_get_write_queue_size((uv_stream_t *)&t->pipe) < QUEUE_MAX / 2) {
		t->paused = false;
		rpc_data_resume(t->req);
	}
}

static int received(struct rpc_request *req, const uint8_t *data, size_t len, void *ctx, struct vc_error *err)
{
	struct tunnel *t = ctx;
	if (len == 0) { // the client is done: the module sees the end of its stream
		tunnel_close(t, NULL);
		return 0;
	}
	struct tunnel_write *w = malloc(sizeof(*w) + len);
	if (!w)
		return vc_error_errno(err, "tunnel");
	w->tunnel = t;
	memcpy(w->data, data, len);
	uv_buf_t buf = uv_buf_init((char *)w->data, (unsigned)len);
	int rc = uv_write(&w->req, (uv_stream_t *)&t->pipe, &buf, 1, written);
	if (rc < 0) {
		free(w);
		return vc_error_set(err, VC_ECANCELED, "tunnel: %s", uv_strerror(rc));
	}
	if (uv_stream_get_write_queue_size((uv_stream_t *)&t->pipe) > QUEUE_MAX) {
		t->paused = true;
		rpc_data_pause(req);
	}
	return 0;
}

static const struct rpc_data_ops ops = {.received = received, .drained = drained};

static void caller_gone(struct rpc_request *req, void *ctx)
{
	(void)req;
	tunnel_close(ctx, NULL);
}

static void hand_over(uv_timer_t *later)
{
	struct tunnel *t = later->data;
	struct vc_buf none = VC_BUF_INIT(0);
	uv_close((uv_handle_t *)later, pipe_closed);
	uv_pipe_t *theirs = vc_steal(&t->theirs);
	t->taken(t->taken_ctx, (uv_stream_t *)theirs, &none);
}

// Both ends as pipes on the loop; theirs is its own allocation, as a taken connection's stream is.
static int open_pair(struct vcd *vcd, struct tunnel *t, struct vc_error *err)
{
	int fds[2];
	t->theirs = malloc(sizeof(*t->theirs));
	if (!t->theirs || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0) {
		free(t->theirs);
		return vc_error_errno(err, "tunnel");
	}
	uv_pipe_init(&vcd->loop, &t->pipe, 0);
	uv_pipe_init(&vcd->loop, t->theirs, 0);
	uv_timer_init(&vcd->loop, &t->later);
	uv_pipe_open(&t->pipe, fds[0]);
	uv_pipe_open(t->theirs, fds[1]);
	t->pipe.data = t->later.data = t;
	t->open_handles = 2;
	return 0;
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static int take_data(struct vcd *vcd, struct rpc_request *req, struct json_object *result, rpc_taken_fn taken, void *ctx,
		     struct vc_error *err)
{
	struct tunnel *t = calloc(1, sizeof(*t));
	if (!t || open_pair(vcd, t, err) < 0) {
		free(t);
		return t ? -1 : vc_error_errno(err, "tunnel");
	}
	t->req = req;
	t->taken = taken;
	t->taken_ctx = ctx;
	if (rpc_data_open(req, &ops, t, err) < 0 || rpc_data_reply(req, result, err) < 0) {
		t->req = NULL;
		uv_close((uv_handle_t *)t->theirs, free_handle);
		uv_close((uv_handle_t *)&t->later, pipe_closed);
		tunnel_close(t, NULL);
		return -1;
	}
	rpc_on_cancel(req, caller_gone, t);
	uv_read_start((uv_stream_t *)&t->pipe, pipe_alloc, pipe_read);
	uv_timer_start(&t->later, hand_over, 0, 0);
	return 0;
}

int tunnel_connect(struct vcd *vcd, struct rpc_request *req, struct json_object *result, int fd, struct vc_error *err)
{
	struct tunnel *t = calloc(1, sizeof(*t));
	if (!t) {
		close(fd);
		return vc_error_errno(err, "tunnel");
	}
	uv_pipe_init(&vcd->loop, &t->pipe, 0);
	uv_pipe_open(&t->pipe, fd);
	t->pipe.data = t;
	t->open_handles = 1;
	t->req = req;
	if (rpc_data_open(req, &ops, t, err) < 0 || rpc_data_reply(req, result, err) < 0) {
		t->req = NULL;
		tunnel_close(t, NULL);
		return -1;
	}
	rpc_on_cancel(req, caller_gone, t);
	uv_read_start((uv_stream_t *)&t->pipe, pipe_alloc, pipe_read);
	return 0;
}

int tunnel_take(struct vcd *vcd, struct rpc_request *req, struct json_object *result, rpc_taken_fn taken, void *ctx,
		struct vc_error *err)
{
	if (rpc_is_local(req))
		return rpc_take_connection(req, result, taken, ctx, err);
	return take_data(vcd, req, result, taken, ctx, err);
}
