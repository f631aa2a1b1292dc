// SPDX-License-Identifier: GPL-2.0-or-later
// One connection of a transfer: see pipe_link.h.
#include "vcd/pipe/pipe_link.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "vcd/pipe/pipe_frame.h"

struct pipe_link {
	int fd;
	struct vc_session *session;
	char host[VC_HOSTNAME_MAX + 1];
	uint64_t bytes_in, bytes_out, heard, said, read_at;
	size_t expect;
	int lowat; // SO_RCVLOWAT now
};

uint64_t pipe_now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

// Each is a matter of speed or of noticing an end sooner; on a socketpair (tests) none applies.
static void tune(int fd)
{
	static const struct {
		int name, value;
	} opts[] = {{TCP_NODELAY, 1}, {TCP_NOTSENT_LOWAT, PIPE_SOCKET_LOW}, {TCP_USER_TIMEOUT, PIPE_DEAD_MS}};
	for (size_t i = 0; i < VC_ARRAY_LEN(opts); i++)
		setsockopt(fd, IPPROTO_TCP, opts[i].name, &opts[i].value, sizeof(opts[i].value));
}

struct pipe_link *pipe_link_create(int fd, struct vc_session *session, const char *host, struct vc_error *err)
{
	struct pipe_link *l = calloc(1, sizeof(*l));
	if (!l || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
		vc_error_errno(err, "connection with %s", host);
		vc_cleanup_close(&fd);
		vc_session_destroy(session);
		free(l);
		return NULL;
	}
	*l = (struct pipe_link){.fd = fd, .session = session};
	l->heard = l->said = l->read_at = pipe_now_ms();
	snprintf(l->host, sizeof(l->host), "%s", host);
	tune(fd);
	return l;
}

void pipe_link_destroy(struct pipe_link *l)
{
	if (!l)
		return;
	int saved = errno;
	vc_cleanup_close(&l->fd);
	vc_session_destroy(l->session);
	free(l);
	errno = saved;
}

int pipe_link_fd(const struct pipe_link *l)
{
	return l->fd;
}

const char *pipe_link_host(const struct pipe_link *l)
{
	return l->host;
}

size_t pipe_link_queued(const struct pipe_link *l)
{
	return vc_session_output(l->session)->len;
}

uint64_t pipe_link_bytes_in(const struct pipe_link *l)
{
	return l->bytes_in;
}

uint64_t pipe_link_bytes_out(const struct pipe_link *l)
{
	return l->bytes_out;
}

uint64_t pipe_link_heard(const struct pipe_link *l)
{
	return l->heard;
}

uint64_t pipe_link_said(const struct pipe_link *l)
{
	return l->said;
}

// --- out ----------------------------------------------------------------------------------------------------------------

int pipe_link_send(struct pipe_link *l, const struct pipe_msg *m, struct vc_error *err)
{
	uint8_t buf[PIPE_MSG_MAX];
	size_t len = pipe_msg_write(m, buf);
	if (vc_session_send(l->session, VC_FRAME_DATA, buf, len, err) < 0)
		return vc_error_wrap(err, "to %s", l->host);
	l->said = pipe_now_ms();
	return 0;
}

int pipe_link_send_type(struct pipe_link *l, enum pipe_type type, struct vc_error *err)
{
	struct pipe_msg m = {.type = type};
	return pipe_link_send(l, &m, err);
}

int pipe_link_send_pieces(struct pipe_link *l, const uint8_t *data, size_t len, struct vc_error *err)
{
	for (size_t off = 0; off < len; off += PIPE_PIECE_MAX) {
		struct pipe_msg m = {.type = PIPE_PIECE, .data = data + off};
		m.len = len - off < PIPE_PIECE_MAX ? len - off : PIPE_PIECE_MAX;
		if (pipe_link_send(l, &m, err) < 0)
			return -1;
	}
	l->bytes_out += len;
	return 0;
}

int pipe_link_send_frame(struct pipe_link *l, const struct pipe_frame *f, struct vc_error *err)
{
	struct pipe_msg begin = {.type = PIPE_BEGIN, .head = f->head};
	return pipe_link_send(l, &begin, err) < 0 ? -1 : pipe_link_send_pieces(l, f->data, f->got, err);
}

int pipe_link_flush(struct pipe_link *l, struct vc_error *err)
{
	struct vc_buf *out = vc_session_output(l->session);
	while (out->len) {
		size_t len = out->len < PIPE_BURST ? out->len : PIPE_BURST;
		ssize_t n = send(l->fd, vc_buf_head(out), len, MSG_NOSIGNAL | MSG_EOR);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return vc_error_errno(err, "to %s", l->host);
		vc_buf_consume(out, (size_t)n);
	}
	return 0;
}

// --- in -----------------------------------------------------------------------------------------------------------------

static int take(struct pipe_link *l, const struct vc_frame *frame, pipe_msg_fn fn, void *ctx, struct vc_error *err)
{
	struct pipe_msg m;
	if (frame->type != VC_FRAME_DATA)
		return vc_error_set(err, VC_EPROTO, "from %s: a frame that is no data", l->host);
	if (pipe_msg_parse(frame->body, frame->len, &m, err) < 0)
		return vc_error_wrap(err, "from %s", l->host);
	if (m.type == PIPE_PIECE)
		l->bytes_in += m.len;
	return fn(ctx, &m, err);
}

int pipe_link_pending(struct pipe_link *l, pipe_msg_fn fn, void *ctx, struct vc_error *err)
{
	struct vc_frame frame;
	for (;;) {
		switch (vc_session_next(l->session, &frame, err)) {
		case VC_SESSION_FRAME:
			if (take(l, &frame, fn, ctx, err) < 0)
				return -1;
			break;
		case VC_SESSION_NEED_INPUT:
			return 0;
		case VC_SESSION_CLOSED:
			return vc_error_wrap(err, "from %s", l->host);
		default:
			return vc_error_set(err, VC_EPROTO, "from %s: another handshake", l->host);
		}
	}
}

void pipe_link_expect(struct pipe_link *l, size_t bytes)
{
	l->expect = bytes;
}

bool pipe_link_is_due(const struct pipe_link *l, uint64_t now)
{
	return now - l->read_at >= PIPE_READ_MS;
}

// A packet that completes no message wakes nobody: a 16 KiB piece comes in eleven of them.
static void set_lowat(struct pipe_link *l)
{
	size_t missing = vc_session_missing(l->session), want = missing ? missing : l->expect;
	int lowat = want < PIPE_READ_CHUNK ? (int)want : (int)PIPE_READ_CHUNK;
	lowat += lowat == 0;
	if (lowat != l->lowat && setsockopt(l->fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof(lowat)) == 0)
		l->lowat = lowat;
}

// 1: there may be more, 0: there is none.
static int read_some(struct pipe_link *l, size_t *turn, struct vc_error *err)
{
	uint8_t *room = vc_session_room(l->session, PIPE_READ_CHUNK);
	if (!room)
		return vc_error_errno(err, "from %s", l->host);
	ssize_t n = recv(l->fd, room, PIPE_READ_CHUNK, 0);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return errno == EINTR;
	if (n < 0)
		return vc_error_errno(err, "from %s", l->host);
	if (n == 0)
		return vc_error_set(err, VC_ECANCELED, "%s closed the connection", l->host);
	l->heard = l->read_at;
	*turn += (size_t)n;
	vc_session_arrived(l->session, (size_t)n);
	return n == PIPE_READ_CHUNK;
}

int pipe_link_read(struct pipe_link *l, pipe_msg_fn fn, void *ctx, struct vc_error *err)
{
	int more = 1;
	l->read_at = pipe_now_ms();
	for (size_t turn = 0; more > 0 && turn < PIPE_READ_TURN;) {
		more = read_some(l, &turn, err);
		if (more < 0 || pipe_link_pending(l, fn, ctx, err) < 0)
			return -1;
	}
	set_lowat(l);
	return 0;
}
