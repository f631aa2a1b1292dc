// SPDX-License-Identifier: GPL-2.0-or-later
// linkio in the loop: see pollio.h.
#include "vcd/pollio.h"

#include <poll.h>
#include <stdlib.h>

#include "libvc/cleanup.h"

struct pollio {
	uv_poll_t poll;
	struct vc_linkio *io;
	const struct pollio_ops *ops;
	void *ctx;
	int armed; // uv events that are asked for
	bool paused, closed;
	unsigned busy; // calls into linkio under way: it must not be destroyed
};

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void bury(struct pollio *p)
{
	uv_poll_stop(&p->poll);
	vc_linkio_destroy(p->io);
	p->io = NULL;
	uv_close((uv_handle_t *)&p->poll, on_closed);
}

static void enter(struct pollio *p)
{
	p->busy++;
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void arm(struct pollio *p)
{
	short want = vc_linkio_events(p->io);
	int events = (want & POLLIN && !p->paused ? UV_READABLE : 0) | (want & POLLOUT ? UV_WRITABLE : 0);
	if (events == p->armed)
		return;
	p->armed = events;
	if (events)
		uv_poll_start(&p->poll, events, on_poll);
	else
		uv_poll_stop(&p->poll);
}

static void leave(struct pollio *p)
{
	if (--p->busy)
		return;
	if (p->closed)
		bury(p);
	else
		arm(p);
}

static void fail(struct pollio *p, const struct vc_error *err)
{
	if (p->closed)
		return;
	p->closed = true;
	p->ops->broken(p->ctx, err);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct pollio *p = poll->data;
	struct vc_error err = VC_ERROR_INIT;
	size_t before = vc_linkio_queued(p->io);
	// an error of the descriptor is found by reading it
	short revents = (short)((events & UV_READABLE || status < 0 ? POLLIN : 0) | (events & UV_WRITABLE ? POLLOUT : 0));
	enter(p);
	if (vc_linkio_ready(p->io, revents, uv_now(poll->loop), &err) < 0)
		fail(p, &err);
	else if (!p->closed && p->ops->written && vc_linkio_queued(p->io) < before)
		p->ops->written(p->ctx);
	leave(p);
}

static void io_frame(void *ctx, struct vc_link_frame *frame)
{
	struct pollio *p = ctx;
	if (!p->closed)
		p->ops->frame(p->ctx, frame);
}

static void io_up(void *ctx)
{
	struct pollio *p = ctx;
	if (!p->closed)
		p->ops->up(p->ctx);
}

static void io_down(void *ctx)
{
	struct pollio *p = ctx;
	if (!p->closed)
		p->ops->down(p->ctx);
}

static void io_writable(void *ctx)
{
	struct pollio *p = ctx;
	if (!p->closed)
		p->ops->writable(p->ctx);
}

static const struct vc_linkio_ops linkio_ops = {io_frame, io_up, io_down, io_writable};

struct pollio *pollio_create(uv_loop_t *loop, int fd, const char *boot, const struct pollio_ops *ops, void *ctx,
			     struct vc_error *err)
{
	struct pollio *p = calloc(1, sizeof(*p));
	if (!p) {
		vc_error_errno(err, "link");
		close(fd);
		return NULL;
	}
	p->ops = ops;
	p->ctx = ctx;
	p->busy = 1; // HELLO is written at once
	p->io = vc_linkio_create(fd, boot, &linkio_ops, p, uv_now(loop), err);
	int rc = p->io ? uv_poll_init(loop, &p->poll, fd) : 0;
	if (!p->io || rc < 0) {
		if (rc < 0)
			vc_error_set(err, -rc, "link: %s", uv_strerror(rc));
		vc_linkio_destroy(p->io);
		free(p);
		return NULL;
	}
	p->poll.data = p;
	leave(p);
	return p;
}

void pollio_close(struct pollio *p)
{
	if (!p || p->closed)
		return;
	p->closed = true;
	if (!p->busy)
		bury(p);
}

void pollio_pause(struct pollio *p, bool pause)
{
	if (p->closed || p->paused == pause)
		return;
	p->paused = pause;
	if (!p->busy)
		arm(p);
}

void pollio_hello(struct pollio *p)
{
	if (p->closed)
		return;
	enter(p);
	vc_link_hello(vc_linkio_link(p->io), uv_now(p->poll.loop));
	leave(p);
}

void pollio_tick(struct pollio *p)
{
	if (p->closed)
		return;
	enter(p);
	vc_linkio_tick(p->io, uv_now(p->poll.loop));
	leave(p);
}

static int send_with(struct pollio *p, struct vc_link_frame *frame, int (*send)(struct vc_linkio *, struct vc_link_frame *))
{
	if (p->closed) {
		errno = EPIPE;
		return -1;
	}
	enter(p);
	int rc = send(p->io, frame);
	int saved = errno;
	leave(p);
	errno = saved;
	return rc;
}

int pollio_send(struct pollio *p, struct vc_link_frame *frame)
{
	return send_with(p, frame, vc_linkio_send);
}

int pollio_forward(struct pollio *p, struct vc_link_frame *frame)
{
	return send_with(p, frame, vc_linkio_forward);
}

size_t pollio_queued(const struct pollio *p)
{
	return p->closed ? 0 : vc_linkio_queued(p->io);
}

bool pollio_is_up(const struct pollio *p)
{
	return !p->closed && vc_link_is_up(vc_linkio_link(p->io));
}

struct vc_link *pollio_link(struct pollio *p)
{
	return vc_linkio_link(p->io);
}
