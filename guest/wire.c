// SPDX-License-Identifier: GPL-2.0-or-later
// Links in a libuv loop: see wire.h. One prepare handle brings all poll events up to date before the loop waits.
#include "guest/wire.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define TICK_MS 200 // HELLO retries of linkio; a port whose other end is away is looked at as often

struct wire {
	struct wires *ws;
	struct wire *next;
	struct vc_linkio *io;
	uv_poll_t poll;
	int polled; // events asked of libuv; 0: stopped
	bool away;  // a port without its host end
	bool dead;  // destroyed, waits for the close callback
	const struct wire_ops *ops;
	void *ctx;
};

struct wires {
	uv_loop_t *loop;
	uv_prepare_t prepare;
	uv_timer_t tick;
	int open_handles;
	struct wire *first;
};

static void frame_cb(void *ctx, struct vc_link_frame *frame)
{
	struct wire *w = ctx;
	if (!w->dead)
		w->ops->on_frame(w->ctx, w, frame);
}

static void up_cb(void *ctx)
{
	struct wire *w = ctx;
	if (!w->dead && w->ops->on_up)
		w->ops->on_up(w->ctx, w);
}

static void down_cb(void *ctx)
{
	struct wire *w = ctx;
	if (!w->dead && w->ops->on_down)
		w->ops->on_down(w->ctx, w);
}

static void writable_cb(void *ctx)
{
	struct wire *w = ctx;
	if (!w->dead && w->ops->on_writable)
		w->ops->on_writable(w->ctx, w);
}

static const struct vc_linkio_ops io_ops = {frame_cb, up_cb, down_cb, writable_cb};

// libuv maps hang-up to its own flags; linkio wants poll's, so ask again.
static void poll_cb(uv_poll_t *handle, int status, int events)
{
	struct wire *w = handle->data;
	struct pollfd p = {.fd = vc_linkio_fd(w->io), .events = vc_linkio_events(w->io)};
	struct vc_error err = VC_ERROR_INIT;
	(void)status;
	(void)events;
	if (w->dead || poll(&p, 1, 0) <= 0 || vc_linkio_ready(w->io, p.revents, uv_now(w->ws->loop), &err) == 0 || w->dead)
		return;
	if (err.code == ENOTCONN) {
		w->away = true;
		down_cb(w);
	} else if (w->ops->on_end) {
		w->ops->on_end(w->ctx, w, &err);
	}
}

static void prepare_cb(uv_prepare_t *handle)
{
	struct wires *ws = handle->data;
	for (struct wire *w = ws->first; w; w = w->next) {
		short want = w->dead || w->away ? 0 : vc_linkio_events(w->io);
		int events = (want & POLLIN ? UV_READABLE : 0) | (want & POLLOUT ? UV_WRITABLE : 0);
		if (events == w->polled)
			continue;
		w->polled = events;
		if (events)
			uv_poll_start(&w->poll, events, poll_cb);
		else if (!w->dead)
			uv_poll_stop(&w->poll);
	}
}

static void tick_cb(uv_timer_t *handle)
{
	struct wires *ws = handle->data;
	for (struct wire *w = ws->first; w; w = w->next) {
		if (w->dead)
			continue;
		if (w->away && vc_linkio_retry(w->io, uv_now(ws->loop)) == 1)
			w->away = false;
		else if (!w->away)
			vc_linkio_tick(w->io, uv_now(ws->loop));
	}
}

struct wires *wires_create(uv_loop_t *loop, struct vc_error *err)
{
	struct wires *ws = calloc(1, sizeof(*ws));
	if (!ws) {
		vc_error_errno(err, "links");
		return NULL;
	}
	ws->loop = loop;
	uv_prepare_init(loop, &ws->prepare);
	uv_timer_init(loop, &ws->tick);
	ws->prepare.data = ws->tick.data = ws;
	uv_prepare_start(&ws->prepare, prepare_cb);
	uv_timer_start(&ws->tick, tick_cb, TICK_MS, TICK_MS);
	uv_unref((uv_handle_t *)&ws->prepare);
	uv_unref((uv_handle_t *)&ws->tick);
	ws->open_handles = 2;
	return ws;
}

static void wires_closed(uv_handle_t *handle)
{
	struct wires *ws = handle->data;
	if (--ws->open_handles == 0)
		free(ws);
}

void wires_destroy(struct wires *ws)
{
	if (!ws)
		return;
	uv_close((uv_handle_t *)&ws->prepare, wires_closed);
	uv_close((uv_handle_t *)&ws->tick, wires_closed);
}

struct wire *wire_create(struct wires *ws, int fd, const char *boot, const struct wire_ops *ops, void *ctx, struct vc_error *err)
{
	struct wire *w = calloc(1, sizeof(*w));
	if (!w) {
		vc_error_errno(err, "a link");
		close(fd);
		return NULL;
	}
	*w = (struct wire){.ws = ws, .ops = ops, .ctx = ctx};
	w->io = vc_linkio_create(fd, boot, &io_ops, w, uv_now(ws->loop), err);
	if (!w->io) {
		free(w);
		return NULL;
	}
	int rc = uv_poll_init(ws->loop, &w->poll, vc_linkio_fd(w->io));
	if (rc < 0) {
		vc_error_set(err, -rc, "a link: %s", uv_strerror(rc));
		vc_linkio_destroy(w->io);
		free(w);
		return NULL;
	}
	w->poll.data = w;
	w->next = ws->first;
	ws->first = w;
	return w;
}

static void wire_closed(uv_handle_t *handle)
{
	struct wire *w = handle->data, **p = &w->ws->first;
	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	vc_linkio_destroy(w->io);
	free(w);
}

void wire_destroy(struct wire *w)
{
	if (!w || w->dead)
		return;
	w->dead = true;
	uv_close((uv_handle_t *)&w->poll, wire_closed);
}

void *wire_ctx(const struct wire *w)
{
	return w->ctx;
}

int wire_send(struct wire *w, struct vc_link_frame *frame)
{
	return vc_linkio_send(w->io, frame);
}

int wire_forward(struct wire *w, struct vc_link_frame *frame)
{
	return vc_linkio_forward(w->io, frame);
}

void wire_hello(struct wire *w)
{
	vc_link_hello(vc_linkio_link(w->io), uv_now(w->ws->loop));
}

size_t wire_queued(const struct wire *w)
{
	return vc_linkio_queued(w->io);
}
