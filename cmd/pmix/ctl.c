// SPDX-License-Identifier: GPL-2.0-or-later
// Control messages: see ctl.h.
#include "cmd/pmix/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"

#define READ_BLOCK 65536u

int ctl_init(struct ctl *c, int fd, struct vc_error *err)
{
	*c = (struct ctl){.fd = fd, .in = VC_BUF_INIT(CTL_MESSAGE_MAX + READ_BLOCK), .out = VC_BUF_INIT(2 * (size_t)CTL_MESSAGE_MAX)};
	if (fd < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return vc_error_errno(err, "control socket");
	return 0;
}

void ctl_clear(struct ctl *c)
{
	vc_cleanup_close(&c->fd);
	c->fd = -1;
	vc_buf_clear(&c->in);
	vc_buf_clear(&c->out);
}

static int flush_out(struct ctl *c, struct vc_error *err)
{
	while (c->out.len) {
		ssize_t n = send(c->fd, vc_buf_head(&c->out), c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno != EINTR)
			return vc_error_set(err, VC_ECANCELED, "the other end has gone");
		vc_buf_consume(&c->out, n > 0 ? (size_t)n : 0);
	}
	return 0;
}

int ctl_send(struct ctl *c, struct json_object *msg, struct vc_error *err)
{
	vc_autojson struct json_object *own = msg;
	size_t len = 0;
	uint8_t head[4];
	const char *text = own ? vc_json_text(own, &len) : NULL;
	if (!text || len > CTL_MESSAGE_MAX)
		return vc_error_set(err, text ? E2BIG : ENOMEM, "control message of %zu bytes", len);
	vc_put_be32(head, (uint32_t)len);
	if (vc_buf_append(&c->out, head, sizeof(head)) < 0 || vc_buf_append(&c->out, text, len) < 0)
		return vc_error_set(err, ENOBUFS, "control messages queue up");
	return flush_out(c, err);
}

short ctl_events(const struct ctl *c)
{
	return (short)(POLLIN | (c->out.len ? POLLOUT : 0));
}

int ctl_ready(struct ctl *c, short revents, struct vc_error *err)
{
	if (revents & POLLOUT && flush_out(c, err) < 0)
		return -1;
	if (!(revents & (POLLIN | POLLHUP | POLLERR)))
		return 0;
	uint8_t *space = vc_buf_reserve(&c->in, READ_BLOCK);
	ssize_t n = space ? recv(c->fd, space, READ_BLOCK, MSG_DONTWAIT) : -1;
	if (!space)
		return vc_error_set(err, ENOBUFS, "control message");
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return vc_error_set(err, VC_ECANCELED, "the other end has gone");
	vc_buf_commit(&c->in, (size_t)n);
	return 0;
}

struct json_object *ctl_next(struct ctl *c, struct vc_error *err)
{
	if (c->in.len < 4)
		return NULL;
	size_t len = vc_get_be32(vc_buf_head(&c->in));
	if (len > CTL_MESSAGE_MAX) {
		vc_error_set(err, VC_EPROTO, "control message of %zu bytes", len);
		return NULL;
	}
	if (c->in.len - 4 < len)
		return NULL;
	struct json_object *msg = vc_json_parse((const char *)vc_buf_head(&c->in) + 4, len, err);
	vc_buf_consume(&c->in, 4 + len);
	return msg;
}

int64_t ctl_now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct json_object *ctl_wait(struct ctl *c, unsigned ms, struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	struct json_object *msg;
	int64_t until = ctl_now_ms() + ms, left;
	while (!(msg = ctl_next(c, &why)) && !why.code && (left = until - ctl_now_ms()) > 0) {
		struct pollfd p = {.fd = c->fd, .events = ctl_events(c)};
		if (poll(&p, 1, (int)left) > 0)
			(void)ctl_ready(c, p.revents, &why);
	}
	if (!msg && !why.code)
		vc_error_set(&why, VC_ETIMEDOUT, "no answer within %u ms", ms);
	if (!msg)
		vc_error_set(err, why.code, "%s", why.text);
	return msg;
}
