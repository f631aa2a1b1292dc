// SPDX-License-Identifier: GPL-2.0-or-later
// A link on a descriptor: see linkio.h.
//
// A frame that was stamped in place goes out in one write: a virtio-serial port makes one buffer, one notification, of it.
// What the descriptor does not take waits in a queue with a cap; a queue past its hard cap breaks the link.
#include "libvc/linkio.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/buf.h"

#define READS_PER_READY 16 // then the other descriptors of the loop get a turn; a virtio-serial read gives at most a page
#define SMALL_FRAME 4096u  // queued behind what waits; a bigger one is refused, it already has a place in the mux's buffer

struct vc_linkio {
	int fd;
	bool port_device; // the guest's character device: POLLHUP while the host's end is closed
	bool refused;
	bool away;  // port_device without the host's end
	int broken; // errno
	struct vc_link *link;
	struct vc_buf queue;
	const struct vc_linkio_ops *ops;
	void *ctx;
};

static void flush_queue(struct vc_linkio *io)
{
	while (io->queue.len && !io->broken) {
		ssize_t n = write(io->fd, vc_buf_head(&io->queue), io->queue.len);
		if (n > 0)
			vc_buf_consume(&io->queue, (size_t)n);
		else if (n < 0 && errno == EAGAIN)
			return;
		else if (n < 0 && errno != EINTR)
			io->broken = errno;
	}
}

static void enqueue(struct vc_linkio *io, const void *data, size_t len)
{
	if (!io->broken && vc_buf_append(&io->queue, data, len) < 0)
		io->broken = ENOBUFS;
}

static void write_pieces(void *ctx, const struct iovec *iov, int n)
{
	struct vc_linkio *io = ctx;
	if (n == 0) {
		vc_buf_consume(&io->queue, io->queue.len);
		return;
	}
	size_t done = 0;
	bool direct = n == 1 && !io->queue.len;
	while (direct && !io->broken && done < iov->iov_len) {
		ssize_t w = write(io->fd, (uint8_t *)iov->iov_base + done, iov->iov_len - done);
		if (w > 0)
			done += (size_t)w;
		else if (w < 0 && errno == EAGAIN)
			break;
		else if (w < 0 && errno != EINTR)
			io->broken = errno;
	}
	bool was_empty = !io->queue.len;
	for (int i = 0; i < n; i++) {
		enqueue(io, (uint8_t *)iov[i].iov_base + done, iov[i].iov_len - done);
		done = 0;
	}
	if (was_empty && !direct)
		flush_queue(io);
}

struct vc_linkio *vc_linkio_create(int fd, const char *boot, const struct vc_linkio_ops *ops, void *ctx, uint64_t now_ms,
				   struct vc_error *err)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);
	struct vc_linkio *io = calloc(1, sizeof(*io));
	if (io)
		io->link = vc_link_create(boot, write_pieces, io);
	if (!io || !io->link || flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fstat(fd, &st) < 0) {
		vc_error_errno(err, "cannot set up a link on descriptor %d", fd);
		if (io)
			vc_link_destroy(io->link);
		free(io);
		close(fd);
		return NULL;
	}
	io->fd = fd;
	io->port_device = boot && S_ISCHR(st.st_mode);
	io->queue = VC_BUF_INIT(VC_LINKIO_QUEUE_HARD + 2 * VC_LINK_FRAME_MAX);
	io->ops = ops;
	io->ctx = ctx;
	if (boot)
		vc_link_hello(io->link, now_ms);
	return io;
}

void vc_linkio_destroy(struct vc_linkio *io)
{
	if (!io)
		return;
	int saved = errno;
	close(io->fd);
	vc_link_destroy(io->link);
	vc_buf_clear(&io->queue);
	free(io);
	errno = saved;
}

int vc_linkio_fd(const struct vc_linkio *io)
{
	return io->fd;
}

short vc_linkio_events(const struct vc_linkio *io)
{
	return (short)(POLLIN | (io->queue.len || io->refused ? POLLOUT : 0));
}

struct vc_link *vc_linkio_link(struct vc_linkio *io)
{
	return io->link;
}

size_t vc_linkio_queued(const struct vc_linkio *io)
{
	return io->queue.len;
}

// Takes all complete frames; -1 on a damaged stream.
static int take_events(struct vc_linkio *io, uint64_t now_ms, struct vc_error *err)
{
	struct vc_link_frame frame;
	for (;;) {
		switch (vc_link_next(io->link, now_ms, &frame)) {
		case VC_LINK_NEED:
			return 0;
		case VC_LINK_FRAME:
			io->ops->on_frame(io->ctx, &frame);
			break;
		case VC_LINK_UP:
			io->ops->on_up(io->ctx);
			break;
		case VC_LINK_DOWN:
			io->ops->on_down(io->ctx);
			break;
		case VC_LINK_DAMAGED:
			io->broken = EPROTO;
			return vc_error_set(err, VC_EPROTO, "the peer sent something that is not a link frame");
		}
	}
}

// 1: there may be more, 0: nothing more now, -1: over.
static int read_once(struct vc_linkio *io, uint64_t now_ms, struct vc_error *err)
{
	size_t room;
	uint8_t *space = vc_link_space(io->link, &room);
	ssize_t n = read(io->fd, space, room);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : vc_error_errno(err, "cannot read from the link");
	if (n == 0) {
		errno = io->port_device ? ENOTCONN : ECONNRESET;
		return vc_error_errno(err, "the other end of the link is closed");
	}
	vc_link_commit(io->link, (size_t)n);
	return take_events(io, now_ms, err) < 0 ? -1 : 1;
}

int vc_linkio_feed(struct vc_linkio *io, const void *data, size_t len, uint64_t now_ms, struct vc_error *err)
{
	const uint8_t *p = data;
	while (len) {
		size_t room;
		uint8_t *space = vc_link_space(io->link, &room);
		size_t part = len < room ? len : room;
		memcpy(space, p, part);
		vc_link_commit(io->link, part);
		if (take_events(io, now_ms, err) < 0)
			return -1;
		p += part;
		len -= part;
	}
	return 0;
}

static int go_away(struct vc_linkio *io)
{
	if (!io->away) {
		io->away = true;
		vc_buf_consume(&io->queue, io->queue.len);
		io->ops->on_down(io->ctx);
	}
	errno = ENOTCONN;
	return -1;
}

int vc_linkio_ready(struct vc_linkio *io, short revents, uint64_t now_ms, struct vc_error *err)
{
	int more = revents & (POLLIN | POLLHUP | POLLERR) ? 1 : 0;
	for (int i = 0; i < READS_PER_READY && more > 0; i++)
		more = read_once(io, now_ms, err);
	if (io->port_device && ((more < 0 && errno == ENOTCONN) || (!more && revents & POLLHUP))) {
		vc_error_set(err, ENOTCONN, "the host's end of the link is closed");
		return go_away(io);
	}
	if (more < 0)
		return -1;
	if (revents & POLLOUT)
		flush_queue(io);
	if (io->broken) {
		errno = io->broken;
		return vc_error_errno(err, "cannot write to the link");
	}
	if (!io->queue.len && io->refused) {
		io->refused = false;
		io->ops->on_writable(io->ctx);
	}
	return 0;
}

int vc_linkio_retry(struct vc_linkio *io, uint64_t now_ms)
{
	struct pollfd p = {.fd = io->fd, .events = POLLIN};
	if (poll(&p, 1, 0) < 0 || p.revents & POLLHUP)
		return 0;
	io->away = false;
	io->refused = false;
	vc_link_hello(io->link, now_ms);
	return 1;
}

void vc_linkio_tick(struct vc_linkio *io, uint64_t now_ms)
{
	if (io->away || io->broken)
		return;
	if (!io->queue.len)
		vc_link_tick(io->link, now_ms);
	take_events(io, now_ms, NULL);
}

static int send_checked(struct vc_linkio *io, struct vc_link_frame *frame, size_t limit)
{
	if (io->broken) {
		errno = EPIPE;
		return -1;
	}
	if (io->away) {
		errno = ENOTCONN;
		return -1;
	}
	if (io->queue.len > limit) {
		io->refused = true;
		errno = EAGAIN;
		return -1;
	}
	return vc_link_send(io->link, frame);
}

int vc_linkio_send(struct vc_linkio *io, struct vc_link_frame *frame)
{
	return send_checked(io, frame, frame->len > SMALL_FRAME ? 0 : VC_LINKIO_QUEUE_MAX);
}

int vc_linkio_forward(struct vc_linkio *io, struct vc_link_frame *frame)
{
	return send_checked(io, frame, VC_LINKIO_QUEUE_HARD);
}
