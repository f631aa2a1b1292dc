// SPDX-License-Identifier: GPL-2.0-or-later
// vcrsh's tunnels: see rsh.h. One struct for both ends; `net` is the sealed side, `local` the plain one.
#include "guest/rsh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/local.h"
#include "guest/members.h"
#include "guest/seal.h"
#include "guest/tasks.h"
#include "libvc/buf.h"
#include "libvc/json.h"
#include "libvc/log.h"

#define TUNNELS_MAX 4096u	 // in one guest; an MPI launcher needs one per member
#define HANDSHAKE_MS 10000u	 // connect and handshake; a guest on a loaded host is slow, not that slow
#define KEEPALIVE_S 30u		 // a peer that lost its power is noticed by the kernel after that
#define QUEUE_MAX (1u << 20)	 // bytes that wait for one side before the other is not read any more
#define PREFACE_MAX 1024u	 // bytes of the first message's JSON
#define READ_MAX 65536u

struct tunnel {
	struct rsh *r;
	struct tunnel *next;
	bool client; // our own client began it
	char host[VC_HOSTNAME_MAX + 1];
	uid_t uid;
	int fd; // client: the local descriptor until `local` has it
	struct seal *seal;
	uv_tcp_t net;
	uv_pipe_t local;
	uv_timer_t limit;
	uv_connect_t connect;
	uv_shutdown_t shut;
	bool has_local, closing, finishing, net_paused, local_paused;
	int open_handles;
	struct vc_buf plain; // server: until the preface is complete
};

struct rsh {
	struct agent *a;
	uv_tcp_t listener;
	struct tunnel *first;
	size_t n;
	char buf[READ_MAX]; // of every read: its bytes are used up before the callback returns
};

// --- end -------------------------------------------------------------------------------------------------------

static void tunnel_closed(uv_handle_t *handle)
{
	struct tunnel *t = handle->data, **p = &t->r->first;
	if (--t->open_handles > 0)
		return;
	while (*p != t)
		p = &(*p)->next;
	*p = t->next;
	t->r->n--;
	seal_destroy(t->seal);
	vc_buf_clear(&t->plain);
	free(t);
}

// why: a client that still waits for its answer gets it; otherwise its connection just ends.
static void tunnel_close(struct tunnel *t, const struct vc_error *why)
{
	if (t->closing)
		return;
	t->closing = true;
	if (t->fd >= 0) {
		if (why)
			local_answer(t->fd, why);
		close(vc_steal_fd(&t->fd));
	}
	if (why && !t->client)
		vc_log_warning("vcrsh from %s: %s", t->host, why->text);
	uv_close((uv_handle_t *)&t->net, tunnel_closed);
	uv_close((uv_handle_t *)&t->limit, tunnel_closed);
	if (t->has_local)
		uv_close((uv_handle_t *)&t->local, tunnel_closed);
}

static void shut_cb(uv_shutdown_t *req, int status)
{
	struct tunnel *t = req->data;
	(void)status;
	tunnel_close(t, NULL);
}

// One side has ended: what was read from it is still to reach the other.
static void tunnel_finish(struct tunnel *t, uv_stream_t *other)
{
	if (t->closing || t->finishing)
		return;
	t->finishing = true;
	uv_read_stop((uv_stream_t *)&t->net);
	if (t->has_local)
		uv_read_stop((uv_stream_t *)&t->local);
	t->shut.data = t;
	if (!t->has_local || uv_shutdown(&t->shut, other, shut_cb) < 0)
		tunnel_close(t, NULL);
}

// --- bytes -----------------------------------------------------------------------------------------------------

struct pending {
	uv_write_t req;
	struct tunnel *t;
	struct vc_buf data;
};

static void alloc_cb(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	struct tunnel *t = handle->data;
	(void)size;
	*buf = uv_buf_init(t->r->buf, READ_MAX);
}

static void net_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);
static void local_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

// A side is read while the other one takes its bytes.
static void adjust(struct tunnel *t)
{
	bool stop_net = t->has_local && uv_stream_get_write_queue_size((uv_stream_t *)&t->local) > QUEUE_MAX;
	bool stop_local = uv_stream_get_write_queue_size((uv_stream_t *)&t->net) > QUEUE_MAX;
	if (t->closing || t->finishing)
		return;
	if (stop_net != t->net_paused) {
		t->net_paused = stop_net;
		if (stop_net)
			uv_read_stop((uv_stream_t *)&t->net);
		else
			uv_read_start((uv_stream_t *)&t->net, alloc_cb, net_read);
	}
	if (t->has_local && stop_local != t->local_paused) {
		t->local_paused = stop_local;
		if (stop_local)
			uv_read_stop((uv_stream_t *)&t->local);
		else
			uv_read_start((uv_stream_t *)&t->local, alloc_cb, local_read);
	}
}

static void written_cb(uv_write_t *req, int status)
{
	struct pending *p = req->data;
	struct tunnel *t = p->t;
	vc_buf_clear(&p->data);
	free(p);
	if (status < 0)
		tunnel_close(t, NULL);
	else
		adjust(t);
}

// Takes data's memory.
static void tunnel_write(struct tunnel *t, uv_stream_t *to, struct vc_buf *data)
{
	if (data->len == 0 || t->closing)
		return vc_buf_clear(data);
	struct pending *p = calloc(1, sizeof(*p));
	if (!p) {
		vc_buf_clear(data);
		return tunnel_close(t, NULL);
	}
	p->t = t;
	p->data = *data;
	*data = VC_BUF_INIT(0);
	p->req.data = p;
	uv_buf_t b = uv_buf_init((char *)vc_buf_head(&p->data), (unsigned)p->data.len);
	if (uv_write(&p->req, to, &b, 1, written_cb) < 0) {
		vc_buf_clear(&p->data);
		free(p);
		tunnel_close(t, NULL);
	}
}

static void send_sealed(struct tunnel *t, const void *data, size_t len)
{
	struct vc_buf out = VC_BUF_INIT(0);
	struct vc_error err = VC_ERROR_INIT;
	if (seal_output(t->seal, data, len, &out, &err) < 0) {
		vc_buf_clear(&out);
		return tunnel_close(t, &err);
	}
	tunnel_write(t, (uv_stream_t *)&t->net, &out);
}

static void local_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct tunnel *t = stream->data;
	if (n < 0)
		return tunnel_finish(t, (uv_stream_t *)&t->net);
	send_sealed(t, buf->base, (size_t)n);
	adjust(t);
}

static int open_local(struct tunnel *t, int fd, struct vc_error *err)
{
	uv_pipe_init(&t->r->a->loop, &t->local, 0);
	t->local.data = t;
	t->has_local = true;
	t->open_handles++;
	int rc = uv_pipe_open(&t->local, fd);
	if (rc < 0) {
		close(fd);
		return vc_error_set(err, -rc, "local end of vcrsh: %s", uv_strerror(rc));
	}
	uv_timer_stop(&t->limit);
	uv_read_start((uv_stream_t *)&t->local, alloc_cb, local_read);
	return 0;
}

// --- the client's side -----------------------------------------------------------------------------------------

static void client_ready(struct tunnel *t)
{
	struct vc_error err = VC_ERROR_INIT;
	uint8_t preface[4 + PREFACE_MAX];
	int len = snprintf((char *)preface + 4, PREFACE_MAX, "{\"v\":1,\"from\":\"%s\",\"uid\":%u}",
			   setup_self(t->r->a->setup)->name, (unsigned)t->uid);
	vc_put_be32(preface, (uint32_t)len);
	send_sealed(t, preface, 4 + (size_t)len);
	if (t->closing)
		return;
	if (local_answer(t->fd, NULL) < 0)
		return tunnel_close(t, NULL);
	if (open_local(t, vc_steal_fd(&t->fd), &err) < 0)
		tunnel_close(t, &err);
}

// --- the server's side -----------------------------------------------------------------------------------------

static int check_preface(struct tunnel *t, const char *text, size_t len, struct vc_error *err)
{
	const char *from;
	uint32_t uid;
	vc_autojson struct json_object *obj = vc_json_parse(text, len, err);
	if (!obj || vc_json_str(obj, "from", VC_HOSTNAME_MAX, &from, err) < 0 ||
	    vc_json_u32(obj, "uid", UINT32_MAX - 1, &uid, err) < 0)
		return -1;
	if (!tasks_uid_allowed(t->r->a, uid))
		return vc_error_set(err, VC_EDENIED, "uid %u of %s is neither root nor the job's owner", uid, from);
	t->uid = uid;
	return 0;
}

static int begin_session(struct tunnel *t, struct vc_error *err)
{
	int sv[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) < 0)
		return vc_error_errno(err, "socket pair");
	if (!tasks_rsh_begin(t->r->a->tasks, sv[1], t->uid, err)) {
		close(sv[0]);
		return -1;
	}
	return open_local(t, sv[0], err);
}

// The first message: who calls. 0 also while it is incomplete.
static int take_preface(struct tunnel *t, struct vc_error *err)
{
	if (t->plain.len < 4)
		return 0;
	const uint8_t *p = vc_buf_head(&t->plain);
	uint32_t len = vc_get_be32(p);
	if (len > PREFACE_MAX)
		return vc_error_set(err, VC_EPROTO, "the first message has %u bytes", len);
	if (t->plain.len < 4 + (size_t)len)
		return 0;
	if (check_preface(t, (const char *)p + 4, len, err) < 0 || begin_session(t, err) < 0)
		return -1;
	vc_buf_consume(&t->plain, 4 + (size_t)len);
	return 0;
}

// --- both ------------------------------------------------------------------------------------------------------

static int net_input(struct tunnel *t, const uint8_t *data, size_t len, struct vc_error *err)
{
	struct vc_buf out = VC_BUF_INIT(0);
	int rc = seal_input(t->seal, data, len, &out, &t->plain, err);
	tunnel_write(t, (uv_stream_t *)&t->net, &out);
	if (rc < 0 || t->closing)
		return rc;
	if (t->client && t->fd >= 0 && seal_ready(t->seal))
		client_ready(t);
	if (!t->client && !t->has_local && !t->closing && take_preface(t, err) < 0)
		return -1;
	if (t->has_local && !t->closing)
		tunnel_write(t, (uv_stream_t *)&t->local, &t->plain);
	return 0;
}

static void net_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct tunnel *t = stream->data;
	struct vc_error err = VC_ERROR_INIT;
	if (n < 0 && t->has_local)
		return tunnel_finish(t, (uv_stream_t *)&t->local);
	if (n < 0) {
		vc_error_set(&err, VC_EAUTH, "%s closed the connection: is it a member of this cluster?", t->host);
		return tunnel_close(t, &err);
	}
	if (net_input(t, (const uint8_t *)buf->base, (size_t)n, &err) < 0)
		return tunnel_close(t, &err);
	adjust(t);
}

static void limit_cb(uv_timer_t *handle)
{
	struct tunnel *t = handle->data;
	struct vc_error err = VC_ERROR_INIT;
	vc_error_set(&err, VC_ETIMEDOUT, "%s does not answer on port %d within %u s", t->host, RSH_PORT, HANDSHAKE_MS / 1000);
	tunnel_close(t, &err);
}

static struct tunnel *tunnel_create(struct rsh *r, bool client, const char *host, struct vc_error *err)
{
	if (r->n >= TUNNELS_MAX) {
		vc_error_set(err, VC_EBUSY, "this guest has %u vcrsh connections", TUNNELS_MAX);
		return NULL;
	}
	struct tunnel *t = calloc(1, sizeof(*t));
	if (!t) {
		vc_error_errno(err, "vcrsh");
		return NULL;
	}
	*t = (struct tunnel){.r = r, .client = client, .fd = -1, .plain = VC_BUF_INIT(0)};
	snprintf(t->host, sizeof(t->host), "%s", host);
	t->seal = seal_create(client, r->a->setup->secret, err);
	if (!t->seal) {
		free(t);
		return NULL;
	}
	uv_tcp_init(&r->a->loop, &t->net);
	uv_timer_init(&r->a->loop, &t->limit);
	t->net.data = t->limit.data = t;
	t->open_handles = 2;
	t->next = r->first;
	r->first = t;
	r->n++;
	uv_timer_start(&t->limit, limit_cb, HANDSHAKE_MS, 0);
	return t;
}

static void start_net(struct tunnel *t)
{
	uv_tcp_nodelay(&t->net, 1);
	uv_tcp_keepalive(&t->net, 1, KEEPALIVE_S);
	uv_read_start((uv_stream_t *)&t->net, alloc_cb, net_read);
}

static void connected_cb(uv_connect_t *req, int status)
{
	struct tunnel *t = req->data;
	struct vc_buf out = VC_BUF_INIT(0);
	struct vc_error err = VC_ERROR_INIT;
	if (t->closing)
		return;
	if (status < 0) {
		vc_error_set(&err, -status, "no connection to %s: %s", t->host, uv_strerror(status));
		return tunnel_close(t, &err);
	}
	start_net(t);
	if (seal_start(t->seal, &out, &err) < 0)
		return tunnel_close(t, &err);
	tunnel_write(t, (uv_stream_t *)&t->net, &out);
}

int rsh_resolve(const struct agent *a, const char *host, const struct setup_member *m, char ret_addr[16], struct vc_error *err)
{
	const struct view *view = members_view(a->members);
	for (size_t i = 0; view && i < view->n_members; i++) {
		const struct view_member *v = &view->members[i];
		if (strcmp(v->name, host) != 0 && strcmp(v->addr, host) != 0)
			continue;
		if (v->state == VIEW_GONE)
			return vc_error_set(err, VC_ENOTFOUND, "%s has left this cluster", host);
		snprintf(ret_addr, 16, "%.15s", v->addr);
		return 0;
	}
	if (!m && (!strcmp(host, "localhost") || !strcmp(host, "127.0.0.1")))
		m = setup_self(a->setup);
	if (!m)
		return vc_error_set(err, VC_ENOTFOUND, "%s is not a member of this cluster", host);
	snprintf(ret_addr, 16, "%s", m->addr);
	return 0;
}

int rsh_connect(struct rsh *r, int fd, uid_t uid, const char *host, const char *addr, struct vc_error *err)
{
	struct sockaddr_in sin;
	struct tunnel *t = tunnel_create(r, true, host, err);
	if (!t) {
		local_answer(fd, err);
		close(fd);
		return -1;
	}
	t->fd = fd;
	t->uid = uid;
	t->connect.data = t;
	int rc = uv_ip4_addr(addr, RSH_PORT, &sin);
	if (rc == 0)
		rc = uv_tcp_connect(&t->connect, &t->net, (const struct sockaddr *)&sin, connected_cb);
	if (rc < 0) {
		vc_error_set(err, -rc, "no connection to %s: %s", host, uv_strerror(rc));
		tunnel_close(t, err);
	}
	return rc < 0 ? -1 : 0;
}

static void accept_cb(uv_stream_t *listener, int status)
{
	struct rsh *r = listener->data;
	struct vc_error err = VC_ERROR_INIT;
	struct sockaddr_in peer;
	int len = sizeof(peer);
	char name[16] = "a guest";
	if (status < 0)
		return;
	struct tunnel *t = tunnel_create(r, false, name, &err);
	if (!t) {
		vc_log_warning("vcrsh: %s", err.text);
		return;
	}
	if (uv_accept(listener, (uv_stream_t *)&t->net) < 0)
		return tunnel_close(t, NULL);
	if (uv_tcp_getpeername(&t->net, (struct sockaddr *)&peer, &len) == 0 && uv_ip4_name(&peer, name, sizeof(name)) == 0)
		snprintf(t->host, sizeof(t->host), "%s", name);
	start_net(t);
}

struct rsh *rsh_create(struct agent *a, struct vc_error *err)
{
	struct rsh *r = calloc(1, sizeof(*r));
	if (!r) {
		vc_error_errno(err, "vcrsh");
		return NULL;
	}
	r->a = a;
	uv_tcp_init(&a->loop, &r->listener);
	r->listener.data = r;
	return r;
}

int rsh_listen(struct rsh *r, const char *addr, struct vc_error *err)
{
	struct sockaddr_in sin;
	int rc = uv_ip4_addr(addr, RSH_PORT, &sin);
	if (rc == 0)
		rc = uv_tcp_bind(&r->listener, (const struct sockaddr *)&sin, 0);
	if (rc == 0)
		rc = uv_listen((uv_stream_t *)&r->listener, 128, accept_cb);
	return rc < 0 ? vc_error_set(err, -rc, "%s port %d: %s", addr, RSH_PORT, uv_strerror(rc)) : 0;
}
