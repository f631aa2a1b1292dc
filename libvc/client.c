// SPDX-License-Identifier: GPL-2.0-or-later
// Blocking client: see client.h. Owns one socket and its session; every wait is a poll() with the time that is left.
#include "libvc/client.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/cred.h"
#include "libvc/json.h"
#include "libvc/message.h"
#include "libvc/session.h"

#define READ_CHUNK (64u << 10) // bytes per read: a pipe's and a socket's usual worth
#define RELAY_QUEUE_MAX (512u << 10) // bytes waiting for one side of a relay from which the other has to wait
#define RELAY_HELD_MS 2		     // between two questions to a gate that lets nothing pass
#define RELAY_END_MS 5000u	     // to get rid of the last bytes when one side has ended

struct vc_client {
	int fd;
	struct vc_session *session;
	char *munge_socket; // NULL: default
	bool sealed;
	uint64_t open_id;  // id of the last request
	bool answered;	   // `answer` holds its reply, not yet asked for
	struct vc_message answer;
	char trace[VC_TRACE_LEN + 1];
};

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint64_t deadline_in(uint64_t timeout_ms)
{
	uint64_t now = now_ms();
	return timeout_ms > UINT64_MAX - now ? UINT64_MAX : now + timeout_ms;
}

void vc_client_destroy(struct vc_client *c)
{
	if (!c)
		return;
	int saved = errno;
	if (c->fd >= 0)
		close(c->fd);
	vc_session_destroy(c->session);
	vc_message_clear(&c->answer);
	free(c->munge_socket);
	free(c);
	errno = saved;
}

// --- moving bytes ---

// Waits for events until the deadline; the ones that came are in *ret.
static int wait_fd(struct vc_client *c, short events, uint64_t deadline, short *ret, struct vc_error *err)
{
	struct pollfd p = {.fd = c->fd, .events = events};
	for (;;) {
		uint64_t now = now_ms();
		if (now >= deadline)
			return vc_error_set(err, VC_ETIMEDOUT, "vcd did not answer in time");
		uint64_t left = deadline - now;
		int rc = poll(&p, 1, left > INT32_MAX ? INT32_MAX : (int)left);
		if (rc > 0) {
			*ret = p.revents;
			return 0;
		}
		if (rc < 0 && errno != EINTR)
			return vc_error_errno(err, "waiting for vcd");
	}
}

static int read_some(struct vc_client *c, struct vc_error *err)
{
	uint8_t chunk[READ_CHUNK];
	ssize_t n = recv(c->fd, chunk, sizeof(chunk), 0);
	if (n > 0)
		return vc_session_input(c->session, chunk, (size_t)n, err);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n == 0)
		return vc_error_set(err, VC_ECANCELED, "vcd closed the connection: it was stopped or restarted");
	return vc_error_errno(err, "reading from vcd");
}

static int write_some(struct vc_client *c, struct vc_error *err)
{
	struct vc_buf *out = vc_session_output(c->session);
	ssize_t n = send(c->fd, vc_buf_head(out), out->len, MSG_NOSIGNAL);
	if (n >= 0)
		vc_buf_consume(out, (size_t)n);
	else if (errno == EPIPE || errno == ECONNRESET)
		vc_buf_clear(out); // what vcd said before it closed is still to be read
	else if (errno != EAGAIN && errno != EINTR)
		return vc_error_errno(err, "writing to vcd");
	return 0;
}

// Sends all queued output; reads what comes meanwhile, so that two full pipes cannot block each other.
static int flush(struct vc_client *c, uint64_t deadline, struct vc_error *err)
{
	while (vc_session_output(c->session)->len) {
		short got = 0;
		if (write_some(c, err) < 0)
			return -1;
		if (!vc_session_output(c->session)->len)
			break;
		if (wait_fd(c, POLLIN | POLLOUT, deadline, &got, err) < 0)
			return -1;
		if ((got & ~POLLOUT) && read_some(c, err) < 0)
			return -1;
	}
	return 0;
}

static void encode_cred(struct vc_client *c)
{
	vc_autofree char *cred = NULL;
	struct vc_error err = VC_ERROR_INIT;
	const char *payload = vc_session_payload(c->session);
	if (vc_cred_encode(c->munge_socket, vc_session_reader(c->session), payload, strlen(payload), &cred, &err) < 0)
		vc_session_fail(c->session, &err);
	else
		vc_session_encoded(c->session, cred);
}

static void decode_cred(struct vc_client *c)
{
	struct vc_cred cred = {0};
	struct vc_error err = VC_ERROR_INIT;
	if (vc_cred_decode(c->munge_socket, vc_session_cred(c->session), &cred, &err) < 0)
		vc_session_fail(c->session, &err);
	else
		vc_session_decoded(c->session, cred.uid, cred.payload, cred.len);
	free(cred.payload);
}

// Goes on until READY or FRAME: 1. Without `block` 0 when that needs bytes which are not here yet.
static int pump(struct vc_client *c, bool block, uint64_t deadline, struct vc_frame *ret_frame, struct vc_error *err)
{
	for (;;) {
		short got = 0;
		switch (vc_session_next(c->session, ret_frame, err)) {
		case VC_SESSION_DECODE:
			decode_cred(c);
			break;
		case VC_SESSION_ENCODE:
			encode_cred(c);
			break;
		case VC_SESSION_READY:
		case VC_SESSION_FRAME:
			return 1;
		case VC_SESSION_CLOSED:
			flush(c, now_ms() + 100, NULL); // the reason, if the other side still reads
			return -1;
		case VC_SESSION_WAIT:
			return vc_error_set(err, VC_EFAILED, "the handshake is stuck");
		case VC_SESSION_NEED_INPUT:
			if (flush(c, deadline, err) < 0)
				return -1;
			if (!block)
				return 0;
			if (wait_fd(c, POLLIN, deadline, &got, err) < 0 || read_some(c, err) < 0)
				return -1;
		}
	}
}

// --- connecting ---

static int set_timeouts(int fd, uint64_t timeout_ms, struct vc_error *err)
{
	struct timeval tv = {.tv_sec = (time_t)(timeout_ms / 1000), .tv_usec = (suseconds_t)(timeout_ms % 1000 * 1000)};
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) < 0) // bounds connect() too
		return vc_error_errno(err, "socket to vcd");
	return 0;
}

static struct vc_client *client_create(int *fd, bool sealed, const struct vc_session_opts *session_opts,
				       const struct vc_client_opts *opts, uint64_t deadline, struct vc_error *err)
{
	vc_autoclient struct vc_client *c = calloc(1, sizeof(*c));
	if (!c) {
		vc_error_errno(err, "connection to vcd");
		return NULL;
	}
	c->fd = vc_steal_fd(fd);
	c->sealed = sealed;
	vc_trace_make(c->trace);
	if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0) {
		vc_error_errno(err, "connection to vcd");
		return NULL;
	}
	if (opts->munge_socket && !(c->munge_socket = strdup(opts->munge_socket))) {
		vc_error_errno(err, "connection to vcd");
		return NULL;
	}
	c->session = vc_session_client(session_opts, err);
	if (!c->session)
		return NULL;
	struct vc_frame frame;
	if (pump(c, true, deadline, &frame, err) < 0 || flush(c, deadline, err) < 0) {
		vc_error_wrap(err, "connecting to vcd");
		return NULL;
	}
	return vc_steal(&c);
}

static const struct vc_client_opts no_opts;

static struct vc_session_opts session_opts(const struct vc_client_opts *opts, char *own_host, size_t len)
{
	if (gethostname(own_host, len) < 0)
		snprintf(own_host, len, "localhost");
	own_host[len - 1] = '\0';
	return (struct vc_session_opts){.host = opts->host ? opts->host : own_host};
}

static uint64_t connect_timeout(const struct vc_client_opts *opts)
{
	return opts->timeout_ms ? opts->timeout_ms : VC_CLIENT_CONNECT_MS;
}

static int connect_unix(const char *path, uint64_t timeout_ms, struct vc_error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(addr.sun_path))
		return vc_error_set(err, VC_EUSER, "%s: too long for a socket's path", path);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return vc_error_errno(err, "socket to vcd");
	if (set_timeouts(fd, timeout_ms, err) < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		vc_error_errno(err, "no vcd at %s", path);
		if (err)
			snprintf(err->text + strlen(err->text), sizeof(err->text) - strlen(err->text),
				 ": check that vcd runs on this host");
		return -1;
	}
	return vc_steal_fd(&fd);
}

struct vc_client *vc_client_connect(const struct vc_client_opts *opts, struct vc_error *err)
{
	char own_host[VC_HOSTNAME_MAX + 1];
	opts = opts ? opts : &no_opts;
	uint64_t timeout = connect_timeout(opts), deadline = deadline_in(timeout);
	vc_autoclose int fd = connect_unix(opts->path ? opts->path : VC_SOCKET_PATH, timeout, err);
	if (fd < 0)
		return NULL;
	struct ucred server = {0};
	socklen_t len = sizeof(server);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &server, &len) < 0) {
		vc_error_errno(err, "asking who vcd is");
		return NULL;
	}
	struct vc_session_opts so = session_opts(opts, own_host, sizeof(own_host));
	so.server_uid = server.uid;
	return client_create(&fd, false, &so, opts, deadline, err);
}

// A host without power says nothing: a silent connection breaks after about half a minute. Failure only delays that.
static void watch_peer(int fd)
{
	static const struct {
		int level, name, value;
	} opts[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
		    {IPPROTO_TCP, TCP_KEEPIDLE, 15},
		    {IPPROTO_TCP, TCP_KEEPINTVL, 5},
		    {IPPROTO_TCP, TCP_KEEPCNT, 3},
		    {IPPROTO_TCP, TCP_USER_TIMEOUT, 30000}};
	for (size_t i = 0; i < VC_ARRAY_LEN(opts); i++)
		setsockopt(fd, opts[i].level, opts[i].name, &opts[i].value, sizeof(opts[i].value));
}

static int connect_one(const struct addrinfo *ai, uint64_t timeout_ms, struct vc_error *err)
{
	int one = 1;
	vc_autoclose int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol);
	if (fd < 0)
		return vc_error_errno(err, "socket");
	if (set_timeouts(fd, timeout_ms, err) < 0)
		return -1;
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0)
		return vc_error_errno(err, "connecting");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); // small requests must not wait; failure only delays
	watch_peer(fd);
	return vc_steal_fd(&fd);
}

static int connect_tcp(const char *host, int port, uint64_t deadline, struct vc_error *err)
{
	char service[16];
	snprintf(service, sizeof(service), "%d", port);
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	int rc = getaddrinfo(host, service, &hints, &list);
	if (rc != 0)
		return vc_error_set(err, VC_EHOST, "host %s: %s", host, gai_strerror(rc));
	int fd = vc_error_set(err, VC_ETIMEDOUT, "no time left");
	for (struct addrinfo *ai = list; ai && fd < 0 && now_ms() < deadline; ai = ai->ai_next)
		fd = connect_one(ai, deadline - now_ms(), err);
	freeaddrinfo(list);
	if (fd < 0)
		vc_error_wrap(err, "vcd of host %s port %d", host, port);
	return fd;
}

struct vc_client *vc_client_connect_tcp(const char *host, int port, const struct vc_client_opts *opts, struct vc_error *err)
{
	char own_host[VC_HOSTNAME_MAX + 1];
	opts = opts ? opts : &no_opts;
	uint64_t deadline = deadline_in(connect_timeout(opts));
	vc_autoclose int fd = connect_tcp(host, port, deadline, err);
	if (fd < 0)
		return NULL;
	struct vc_session_opts so = session_opts(opts, own_host, sizeof(own_host));
	so.sealed = true;
	so.peer = opts->peer;
	so.server_uid = opts->server_uid;
	so.expect_host = opts->server_host;
	return client_create(&fd, true, &so, opts, deadline, err);
}

const char *vc_client_server_host(const struct vc_client *c)
{
	return vc_session_host(c->session);
}

int vc_client_fd(const struct vc_client *c)
{
	return c->fd;
}

const char *vc_client_trace(const struct vc_client *c)
{
	return c->trace;
}

void vc_client_set_trace(struct vc_client *c, const char *trace)
{
	if (vc_hex_valid(trace, VC_TRACE_LEN))
		memcpy(c->trace, trace, sizeof(c->trace));
}

// --- calls ---

static int send_message(struct vc_client *c, struct json_object *msg, uint64_t deadline, struct vc_error *err)
{
	size_t len = 0;
	const char *text = msg ? vc_json_text(msg, &len) : NULL;
	if (!text)
		return vc_error_set(err, ENOMEM, "request to vcd: out of memory");
	if (vc_session_send(c->session, VC_FRAME_RPC, text, len, err) < 0)
		return -1;
	return flush(c, deadline, err);
}

int vc_client_start(struct vc_client *c, const char *method, struct json_object *params, uint64_t timeout_ms,
		    struct vc_error *err)
{
	vc_message_clear(&c->answer);
	c->answered = false;
	c->open_id++;
	vc_autojson struct json_object *msg = vc_message_request(c->open_id, method, params, c->trace, NULL);
	if (send_message(c, msg, deadline_in(timeout_ms), err) < 0)
		return vc_error_wrap(err, "%s", method);
	return 0;
}

// Takes one RPC frame: the answer is kept, a notification told. 1: the caller wants to give up.
static int take_message(struct vc_client *c, const struct vc_frame *frame, vc_client_notify_fn notify, void *ctx,
			struct vc_error *err)
{
	struct vc_message m;
	if (vc_message_parse(frame->body, frame->len, &m, err) < 0)
		return -1;
	int rc = 0;
	if ((m.kind == VC_MESSAGE_RESULT || m.kind == VC_MESSAGE_ERROR) && m.id == c->open_id && !c->answered) {
		c->answer = m;
		c->answered = true;
		return 0;
	}
	if (m.kind == VC_MESSAGE_NOTIFICATION && notify)
		rc = notify(ctx, m.method, m.params) != 0;
	vc_message_clear(&m);
	return rc;
}

static int give_answer(struct vc_client *c, struct json_object **ret_result, struct vc_error *err)
{
	struct vc_message m = c->answer;
	c->answer = (struct vc_message){0};
	c->answered = false;
	int rc = 0;
	if (m.kind == VC_MESSAGE_ERROR)
		rc = vc_error_set(err, m.error.code, "%s", m.error.text);
	else if (ret_result)
		*ret_result = json_object_get(m.result);
	vc_message_clear(&m);
	return rc;
}

int vc_client_finish(struct vc_client *c, uint64_t timeout_ms, vc_client_notify_fn notify, void *ctx,
		     struct json_object **ret_result, struct vc_error *err)
{
	while (!c->answered) {
		struct vc_frame frame;
		if (pump(c, true, deadline_in(timeout_ms), &frame, err) < 0)
			return -1;
		if (frame.type != VC_FRAME_RPC)
			return vc_error_set(err, VC_EPROTO, "vcd sent data that nobody asked for");
		int rc = take_message(c, &frame, notify, ctx, err);
		if (rc > 0)
			return vc_error_set(err, VC_ECANCELED, "given up by the caller");
		if (rc < 0)
			return -1;
	}
	return give_answer(c, ret_result, err);
}

int vc_client_call(struct vc_client *c, const char *method, struct json_object *params, uint64_t timeout_ms,
		   vc_client_notify_fn notify, void *ctx, struct json_object **ret_result, struct vc_error *err)
{
	if (vc_client_start(c, method, params, timeout_ms, err) < 0)
		return -1;
	return vc_client_finish(c, timeout_ms, notify, ctx, ret_result, err);
}

// --- DATA ---

int vc_client_send_data(struct vc_client *c, const void *data, size_t len, uint64_t timeout_ms, struct vc_error *err)
{
	struct vc_frame frame;
	uint64_t deadline = deadline_in(timeout_ms);
	if (vc_session_send(c->session, VC_FRAME_DATA, data, len, err) < 0)
		return -1;
	int rc = flush(c, deadline, err);
	while (pump(c, false, deadline, &frame, rc < 0 ? NULL : err) > 0) { // also the reply that explains a failure
		if (frame.type == VC_FRAME_RPC && take_message(c, &frame, NULL, NULL, err) < 0)
			return -1;
	}
	if (c->answered && (len > 0 || rc < 0))
		return vc_error_set(err, VC_ECANCELED, "vcd answered early");
	return rc;
}

int vc_client_recv_data(struct vc_client *c, struct vc_buf *body, uint64_t timeout_ms, struct vc_error *err)
{
	struct vc_frame frame;
	uint64_t deadline = deadline_in(timeout_ms);
	for (;;) {
		if (pump(c, true, deadline, &frame, err) < 0)
			return -1;
		if (frame.type == VC_FRAME_DATA)
			break;
		if (take_message(c, &frame, NULL, NULL, err) < 0)
			return -1;
		if (c->answered)
			return give_answer(c, NULL, err) < 0 ? -1
							     : vc_error_set(err, VC_EPROTO, "vcd ended the data early");
	}
	vc_buf_consume(body, body->len);
	if (vc_buf_append(body, frame.body, frame.len) < 0)
		return vc_error_errno(err, "data of %zu bytes from vcd", frame.len);
	return 0;
}

int vc_client_take_fd(struct vc_client *c, int *ret_fd, struct vc_buf *pending, struct vc_error *err)
{
	if (c->sealed)
		return vc_error_set(err, VC_EPROTO, "only a local connection can be taken over");
	struct vc_buf *in = vc_session_pending(c->session);
	if (vc_buf_append(pending, vc_buf_head(in), in->len) < 0)
		return vc_error_errno(err, "taking over the connection");
	*ret_fd = vc_steal_fd(&c->fd);
	vc_client_destroy(c);
	return 0;
}

void vc_client_take_session(struct vc_client *c, int *ret_fd, struct vc_session **ret_session)
{
	*ret_fd = vc_steal_fd(&c->fd);
	*ret_session = vc_steal(&c->session);
	vc_client_destroy(c);
}

// --- relay ---

struct relay {
	struct vc_client *client;
	int fd;
	atomic_ullong *sent; // may be NULL
	const struct vc_relay_gate *gate; // may be NULL
	size_t left; // with a gate: bytes that may go on now
	bool held;   // and fd's next ones have to wait
	struct vc_buf to_fd;
	bool far_ended;	 // no more DATA comes
	bool near_ended; // fd has said everything, and takes nothing
};

// Moves the bytes of frames that are here to to_fd.
static int relay_frames(struct relay *r, struct vc_error *err)
{
	struct vc_frame frame;
	while (!r->far_ended && r->to_fd.len < RELAY_QUEUE_MAX) {
		switch (vc_session_next(r->client->session, &frame, err)) {
		case VC_SESSION_FRAME:
			if (frame.type == VC_FRAME_DATA && frame.len == 0)
				r->far_ended = true;
			else if (frame.type == VC_FRAME_DATA && vc_buf_append(&r->to_fd, frame.body, frame.len) < 0)
				return vc_error_errno(err, "data from vcd");
			break;
		case VC_SESSION_NEED_INPUT:
			return 0;
		case VC_SESSION_CLOSED:
			return -1;
		default:
			return vc_error_set(err, VC_EPROTO, "vcd began another handshake");
		}
	}
	return 0;
}

// How much of fd may go on now; 0: nothing.
static size_t relay_may_read(struct relay *r, size_t most)
{
	uint8_t head[VC_RELAY_HEAD];
	if (!r->gate)
		return most;
	r->held = false;
	if (r->left == 0) {
		ssize_t n = recv(r->fd, head, sizeof(head), MSG_PEEK | MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return most; // its end
		if (n > 0)
			r->left = r->gate->pass(r->gate->ctx, head, (size_t)n);
		r->held = r->left == 0;
	}
	r->near_ended |= r->left == VC_RELAY_END;
	return r->left < most ? r->left : most;
}

static int relay_from_fd(struct relay *r, struct vc_error *err)
{
	uint8_t chunk[READ_CHUNK];
	size_t most = relay_may_read(r, sizeof(chunk));
	if (most == 0)
		return 0;
	ssize_t n = r->near_ended ? 0 : read(r->fd, chunk, most);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		r->near_ended = true;
		n = 0;
	}
	r->left -= r->left ? (size_t)n : 0;
	if (r->sent)
		*r->sent += (unsigned long long)n;
	return vc_session_send(r->client->session, VC_FRAME_DATA, chunk, (size_t)n, err);
}

static void relay_to_fd(struct relay *r)
{
	ssize_t n = send(r->fd, vc_buf_head(&r->to_fd), r->to_fd.len, MSG_NOSIGNAL);
	if (n >= 0) {
		vc_buf_consume(&r->to_fd, (size_t)n);
	} else if (errno != EAGAIN && errno != EINTR) {
		r->near_ended = true;
		vc_buf_clear(&r->to_fd);
	}
}

static bool relay_is_over(const struct relay *r)
{
	if (r->near_ended)
		return vc_session_output(r->client->session)->len == 0;
	return r->far_ended && r->to_fd.len == 0;
}

// One round of what can be done now. No limit while both sides live: the stream lasts as long as its task.
static int relay_round(struct relay *r, struct vc_error *err)
{
	bool ending = r->near_ended || r->far_ended;
	size_t out = vc_session_output(r->client->session)->len;
	short net = (short)((r->to_fd.len < RELAY_QUEUE_MAX && !ending ? POLLIN : 0) | (out ? POLLOUT : 0));
	short near = (short)((out < RELAY_QUEUE_MAX && !ending && !r->held ? POLLIN : 0) | (r->to_fd.len ? POLLOUT : 0));
	struct pollfd p[] = {{.fd = net ? r->client->fd : -1, .events = net},
			     {.fd = near && !r->near_ended ? r->fd : -1, .events = near}};
	int rc = poll(p, VC_ARRAY_LEN(p), ending ? (int)RELAY_END_MS : r->held ? RELAY_HELD_MS : -1);
	if (rc < 0)
		return errno == EINTR ? 0 : vc_error_errno(err, "waiting for vcd");
	if (rc == 0 && r->held)
		return relay_from_fd(r, err);
	if (rc == 0)
		return vc_error_set(err, VC_ETIMEDOUT, "the end of a stream was not taken in time");
	if ((p[0].revents & POLLOUT) && write_some(r->client, err) < 0)
		return -1;
	if ((p[0].revents & ~POLLOUT) && read_some(r->client, err) < 0)
		return -1;
	if (p[1].revents & POLLOUT)
		relay_to_fd(r);
	if ((p[1].revents & ~POLLOUT) && !r->near_ended && !ending)
		return relay_from_fd(r, err);
	return 0;
}

int vc_client_relay(struct vc_client *c, int fd, atomic_ullong *sent, const struct vc_relay_gate *gate, struct vc_error *err)
{
	struct relay r = {.client = c, .fd = fd, .sent = sent, .gate = gate, .to_fd = VC_BUF_INIT(RELAY_QUEUE_MAX + VC_RPC_BODY_MAX)};
	int rc = 0;
	while ((rc = relay_frames(&r, err)) == 0 && !relay_is_over(&r) && (rc = relay_round(&r, err)) == 0)
		;
	vc_buf_clear(&r.to_fd);
	return rc;
}
