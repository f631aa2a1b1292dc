// SPDX-License-Identifier: GPL-2.0-or-later
// agent.sock: see local.h.
#include "guest/local.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest/hostrpc.h"
#include "guest/rsh.h"
#include "guest/slurmopt.h"
#include "guest/tasks.h"
#include "libvc/buf.h"
#include "libvc/json.h"

#define CLIENTS_MAX 512u   // connections at once; the job owner's own commands
#define REQUEST_MS 10000u  // a client says what it wants within
#define SWEEP_MS 1000u	   // how often that is looked at
#define BACKLOG 128

struct client {
	struct local *l;
	struct client *next;
	int fd; // until the wire or rsh.c has it
	uid_t uid;
	uv_poll_t poll;
	bool asking; // the request is not complete: poll is active
	uint64_t since_ms;
	struct vc_buf in;
	struct json_object *request;
	// a Slurm client
	uint64_t session;
	enum slurmopt_tool tool;
	struct wire *wire;
	bool reset; // one of the ends has ended the session
};

struct local {
	struct agent *a;
	int fd;
	uv_poll_t poll;
	uv_timer_t sweep;
	struct client *first;
	size_t n;
};

static void client_free(struct client *c)
{
	struct client **p = &c->l->first;
	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	c->l->n--;
	if (c->fd >= 0)
		close(c->fd);
	vc_buf_clear(&c->in);
	json_object_put(c->request);
	free(c);
}

int local_answer(int fd, const struct vc_error *why)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	uint8_t frame[4 + 2 * VC_ERROR_TEXT_MAX + 256];
	size_t len;
	if (!obj || (why && (vc_json_add_str(obj, "code", vc_error_name(why->code)) < 0 ||
			     vc_json_add_str(obj, "message", why->text) < 0)))
		return -1;
	const char *text = vc_json_text(obj, &len);
	if (len > sizeof(frame) - 4)
		return -1;
	vc_put_be32(frame, (uint32_t)len);
	memcpy(frame + 4, text, len);
	return send(fd, frame, 4 + len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)(4 + len) ? 0 : -1;
}

// --- Slurm clients: a relay ------------------------------------------------------------------------------------

static void send_open(struct client *c)
{
	char body[128];
	int len = snprintf(body, sizeof(body), "{\"kind\":\"slurm\",\"tool\":\"%s\",\"uid\":%u}", slurmopt_tool_name(c->tool),
			   (unsigned)c->uid);
	struct vc_link_frame f = {.type = VC_LINK_OPEN, .len = (uint32_t)len, .session = c->session, .body = (uint8_t *)body};
	if (c->l->a->port)
		wire_send(c->l->a->port, &f); // while the link is down: local_host_up() says it
}

static void send_reset(struct client *c)
{
	static const char body[] = "{\"code\":\"canceled\",\"message\":\"the client went away\"}";
	struct vc_link_frame f = {
		.type = VC_LINK_RESET, .len = sizeof(body) - 1, .session = c->session, .body = (uint8_t *)(uintptr_t)body};
	if (c->l->a->port)
		wire_forward(c->l->a->port, &f);
}

static void slurm_frame(void *ctx, struct wire *w, struct vc_link_frame *frame)
{
	struct client *c = ctx;
	(void)w;
	if (frame->session != c->session || frame->type == VC_LINK_OPEN || !c->l->a->port)
		return;
	if (frame->type == VC_LINK_RESET)
		c->reset = true;
	wire_forward(c->l->a->port, frame); // a lost frame is repeated after the RESUME that follows the link's reset
}

static void slurm_drop(struct client *c)
{
	if (!c->reset)
		send_reset(c);
	wire_destroy(c->wire);
	client_free(c);
}

static void slurm_end(void *ctx, struct wire *w, const struct vc_error *why)
{
	(void)w;
	(void)why; // the client is gone, nobody is left to tell
	slurm_drop(ctx);
}

static const struct wire_ops slurm_ops = {.on_frame = slurm_frame, .on_end = slurm_end};

static struct client *find_session(struct local *l, uint64_t session)
{
	struct client *c = l->first;
	while (c && (!c->wire || c->session != session))
		c = c->next;
	return c;
}

void local_host_frame(struct local *l, struct vc_link_frame *frame)
{
	struct client *c = find_session(l, frame->session);
	if (!c)
		return;
	if (frame->type == VC_LINK_RESET)
		c->reset = true;
	if (wire_forward(c->wire, frame) < 0)
		slurm_drop(c);
}

void local_host_up(struct local *l)
{
	for (struct client *c = l->first; c; c = c->next) {
		if (!c->wire)
			continue;
		send_open(c);
		wire_hello(c->wire);
	}
}

// --- requests --------------------------------------------------------------------------------------------------

static int begin_slurm(struct client *c, struct vc_error *err)
{
	const char *tool;
	if (vc_json_str(c->request, "tool", VC_NAME_MAX, &tool, err) < 0 || slurmopt_tool_from_name(tool, &c->tool, err) < 0)
		return -1;
	if (!(c->session & VC_SESSION_FROM_GUEST))
		return vc_error_set(err, VC_EPROTO, "a guest's session has the top bit of its id set");
	if (find_session(c->l, c->session))
		return vc_error_set(err, VC_EBUSY, "this session is still attached");
	int fd = vc_steal_fd(&c->fd);
	if (local_answer(fd, NULL) < 0) {
		close(fd);
		return vc_error_set(err, VC_ECANCELED, "the client went away");
	}
	c->wire = wire_create(c->l->a->wires, fd, NULL, &slurm_ops, c, err);
	if (!c->wire)
		return -1;
	send_open(c);
	return 0;
}

static int begin_rsh(struct client *c, struct vc_error *err)
{
	const char *host;
	if (vc_json_str(c->request, "host", VC_HOSTNAME_MAX, &host, err) < 0)
		return -1;
	const struct setup_member *m = setup_member_by_name(c->l->a->setup, host);
	char addr[16];
	if (rsh_resolve(c->l->a, host, m, addr, err) < 0)
		return -1;
	int fd = vc_steal_fd(&c->fd);
	return rsh_connect(c->l->a->rsh, fd, c->uid, host, addr, err);
}

// vcluster_resize(): passed on to the host, which knows whose this guest is. The answer says no more than that.
static int begin_resize(struct client *c, struct vc_error *err)
{
	uint32_t hosts;
	if (vc_json_u32(c->request, "hosts", VC_HOSTS_MAX, &hosts, err) < 0)
		return -1;
	hostrpc_resize(c->l->a->rpc, hosts);
	return local_answer(c->fd, NULL);
}

static int parse_session(const char *hex, uint64_t *ret, struct vc_error *err)
{
	static const char digits[] = "0123456789abcdef";
	uint64_t id = 0;
	size_t n = 0;
	for (const char *p; hex[n] && (p = strchr(digits, hex[n])); n++)
		id = id << 4 | (uint64_t)(p - digits);
	if (n != 16 || hex[n])
		return vc_error_set(err, VC_EPROTO, "'session' must have 16 hex digits");
	*ret = id;
	return 0;
}

static int begin(struct client *c, struct vc_error *err)
{
	const char *kind, *session;
	if (!c->request)
		return -1;
	if (!c->l->a->setup)
		return vc_error_set(err, VC_EBUSY, "this guest is not configured yet");
	if (!tasks_uid_allowed(c->l->a, c->uid))
		return vc_error_set(err, VC_EDENIED, "only root and the job's owner may do this");
	if (vc_json_str(c->request, "kind", VC_NAME_MAX, &kind, err) < 0)
		return -1;
	if (!strcmp(kind, "resize"))
		return begin_resize(c, err);
	if (vc_json_str(c->request, "session", 16, &session, err) < 0 || parse_session(session, &c->session, err) < 0)
		return -1;
	if (!strcmp(kind, "slurm"))
		return begin_slurm(c, err);
	if (!strcmp(kind, "rsh"))
		return begin_rsh(c, err);
	return vc_error_set(err, VC_EPROTO, "kind '%s' is unknown", kind);
}

// The poll handle is closed: the descriptor is free for its next owner.
static void asked_cb(uv_handle_t *handle)
{
	struct client *c = handle->data;
	struct vc_error err = {.code = VC_ECANCELED, .text = "no request"};
	if (begin(c, &err) < 0 && c->fd >= 0)
		local_answer(c->fd, &err);
	if (!c->wire)
		client_free(c);
}

static void stop_asking(struct client *c)
{
	if (!c->asking)
		return;
	c->asking = false;
	uv_close((uv_handle_t *)&c->poll, asked_cb);
}

// 1: the request is complete; 0: more is to come; -1: nonsense, or the client is gone.
static int read_request(struct client *c)
{
	uint8_t *room = vc_buf_reserve(&c->in, LOCAL_MESSAGE_MAX + 4 - c->in.len);
	ssize_t n = room ? read(c->fd, room, LOCAL_MESSAGE_MAX + 4 - c->in.len) : -1;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return -1;
	vc_buf_commit(&c->in, (size_t)n);
	if (c->in.len < 4)
		return 0;
	uint32_t want = vc_get_be32(vc_buf_head(&c->in));
	if (want > LOCAL_MESSAGE_MAX || c->in.len > want + 4)
		return -1;
	return c->in.len == want + 4;
}

static void request_cb(uv_poll_t *handle, int status, int events)
{
	struct client *c = handle->data;
	(void)events;
	int rc = status < 0 ? -1 : read_request(c);
	if (rc == 0)
		return;
	if (rc > 0)
		c->request = vc_json_parse((const char *)vc_buf_head(&c->in) + 4, c->in.len - 4, NULL);
	stop_asking(c);
}

// --- listening -------------------------------------------------------------------------------------------------

static void add_client(struct local *l, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct client *c = l->n < CLIENTS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || uv_poll_init(&l->a->loop, &c->poll, fd) < 0) {
		struct vc_error busy = {.code = VC_EBUSY, .text = "too many commands at once in this guest"};
		local_answer(fd, &busy);
		close(fd);
		free(c);
		return;
	}
	c->l = l;
	c->fd = fd;
	c->uid = cred.uid;
	c->asking = true;
	c->since_ms = uv_now(&l->a->loop);
	c->in = VC_BUF_INIT(LOCAL_MESSAGE_MAX + 4);
	c->poll.data = c;
	c->next = l->first;
	l->first = c;
	l->n++;
	uv_poll_start(&c->poll, UV_READABLE, request_cb);
}

static void accept_cb(uv_poll_t *handle, int status, int events)
{
	struct local *l = handle->data;
	int fd;
	(void)status;
	(void)events;
	while ((fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		add_client(l, fd);
}

static void sweep_cb(uv_timer_t *handle)
{
	struct local *l = handle->data;
	uint64_t now = uv_now(&l->a->loop);
	for (struct client *c = l->first; c; c = c->next) {
		if (c->asking && now - c->since_ms > REQUEST_MS)
			stop_asking(c);
	}
}

static int listen_at(const char *path, struct vc_error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(path, 0666) < 0 || listen(fd, BACKLOG) < 0)
		return vc_error_errno(err, "%s", path);
	return vc_steal_fd(&fd);
}

struct local *local_create(struct agent *a, struct vc_error *err)
{
	struct local *l = calloc(1, sizeof(*l));
	if (!l) {
		vc_error_errno(err, "agent.sock");
		return NULL;
	}
	l->a = a;
	l->fd = listen_at(LOCAL_SOCKET, err);
	if (l->fd < 0 || uv_poll_init(&a->loop, &l->poll, l->fd) < 0) {
		if (l->fd >= 0)
			vc_error_set(err, VC_EFAILED, "%s cannot be polled", LOCAL_SOCKET);
		free(l);
		return NULL;
	}
	l->poll.data = l;
	uv_poll_start(&l->poll, UV_READABLE, accept_cb);
	uv_timer_init(&a->loop, &l->sweep);
	l->sweep.data = l;
	uv_timer_start(&l->sweep, sweep_cb, SWEEP_MS, SWEEP_MS);
	return l;
}
