// SPDX-License-Identifier: GPL-2.0-or-later
// Listeners: see server.h. Owns the two listening handles and the list of accepted connections.
#include "vcd/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "libvc/log.h"
#include "vcd/conn.h"
#include "vcd/rpc_int.h"
#include "vcd/vcd.h"

#define BACKLOG 1024 // connections waiting for accept(); the tasks of a large step arrive together
#define KEEPALIVE_S 30 // idle seconds before TCP asks whether the other vcd is still there

struct client {
	LIST_ENTRY(client) link;
	struct server *server;
	struct wire *wire;
	uid_t uid; // on the unix socket, from the kernel
};

struct server {
	struct vcd *vcd;
	uv_pipe_t local;
	uv_tcp_t tcp;
	bool local_open, tcp_open;
	LIST_HEAD(, client) clients;
	unsigned n_clients;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

static void on_closed_free(uv_handle_t *handle)
{
	free(handle);
}

static void client_closed(void *ctx)
{
	struct client *client = ctx;
	LIST_REMOVE(client, link);
	client->server->n_clients--;
	free(client);
}

static unsigned clients_of(const struct server *s, uid_t uid)
{
	unsigned n = 0;
	const struct client *c;
	LIST_FOREACH(c, &s->clients, link)
		n += c->uid == uid;
	return n;
}

static int check_limits(const struct server *s, uid_t uid, struct vc_error *err)
{
	const struct conf *conf = s->vcd->conf;
	if (s->n_clients >= conf->max_clients)
		return vc_error_set(err, VC_EBUSY, "vcd of %s has %u connections already (max-clients)", conf->host_name,
				    s->n_clients);
	if (uid != 0 && uid != (uid_t)-1 && clients_of(s, uid) >= conf->max_clients_per_user)
		return vc_error_set(err, VC_EBUSY, "uid %u has %u connections to vcd of %s already (max-clients-per-user)", uid,
				    conf->max_clients_per_user, conf->host_name);
	return 0;
}

// Takes the stream in every case.
static int add_client(struct server *s, uv_stream_t *stream, bool sealed, uid_t uid, struct vc_error *err)
{
	struct vc_session_opts opts = {.sealed = sealed, .host = s->vcd->conf->host_name, .own_uid = geteuid(),
				       .socket_uid = uid};
	struct vc_session *session = vc_session_server(&opts, err);
	struct client *client = session ? calloc(1, sizeof(*client)) : NULL;
	struct wire *wire = client ? wire_create(s->vcd, err) : NULL;
	if (!wire) {
		vc_session_destroy(session);
		uv_close((uv_handle_t *)stream, on_closed_free);
		free(client);
		return -1;
	}
	struct conn *conn = conn_create(s->vcd, stream, session, &wire_conn_ops, wire, err);
	if (!conn) {
		free(client);
		wire_destroy(wire);
		return -1;
	}
	struct vc_error busy = VC_ERROR_INIT;
	int over = check_limits(s, uid, &busy);
	*client = (struct client){.server = s, .wire = wire, .uid = uid};
	LIST_INSERT_HEAD(&s->clients, client, link);
	s->n_clients++;
	wire_set_closed(wire, client_closed, client);
	if (over == 0) {
		wire_start(wire, conn);
		return 0;
	}
	wire_attach(wire, conn);
	wire_close(wire, &busy);
	return vc_error_set(err, busy.code, "%s", busy.text);
}

static void on_local(uv_stream_t *listener, int status)
{
	struct server *s = listener->data;
	struct vc_error err = VC_ERROR_INIT;
	struct ucred cred = {.uid = (uid_t)-1};
	socklen_t len = sizeof(cred);
	uv_os_fd_t fd = -1;
	uv_pipe_t *pipe = status == 0 ? malloc(sizeof(*pipe)) : NULL;
	if (!pipe || uv_pipe_init(listener->loop, pipe, 0) < 0) {
		vc_log_warning("a local connection is lost: %s", status < 0 ? uv_strerror(status) : "out of memory");
		free(pipe);
		return;
	}
	if (uv_accept(listener, (uv_stream_t *)pipe) < 0 || uv_fileno((uv_handle_t *)pipe, &fd) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0) {
		vc_log_warning("a local connection is lost: %s", strerror(errno));
		uv_close((uv_handle_t *)pipe, on_closed_free);
		return;
	}
	if (add_client(s, (uv_stream_t *)pipe, false, cred.uid, &err) < 0)
		vc_log_notice("a connection of uid %u is refused: %s", cred.uid, err.text);
}

static void on_tcp(uv_stream_t *listener, int status)
{
	struct server *s = listener->data;
	struct vc_error err = VC_ERROR_INIT;
	uv_tcp_t *tcp = status == 0 ? malloc(sizeof(*tcp)) : NULL;
	if (!tcp || uv_tcp_init(listener->loop, tcp) < 0) {
		vc_log_warning("a connection of another vcd is lost: %s", status < 0 ? uv_strerror(status) : "out of memory");
		free(tcp);
		return;
	}
	int rc = uv_accept(listener, (uv_stream_t *)tcp);
	if (rc < 0) {
		vc_log_warning("a connection of another vcd is lost: %s", uv_strerror(rc));
		uv_close((uv_handle_t *)tcp, on_closed_free);
		return;
	}
	uv_tcp_nodelay(tcp, 1);
	uv_tcp_keepalive(tcp, 1, KEEPALIVE_S);
	if (add_client(s, (uv_stream_t *)tcp, true, (uid_t)-1, &err) < 0)
		vc_log_notice("a connection over TCP is refused: %s", err.text);
}

static int listen_local(struct server *s, struct vc_error *err)
{
	const char *dir = s->vcd->conf->run_dir;
	int n = snprintf(s->path, sizeof(s->path), "%s/vcd.sock", dir);
	if (n < 0 || (size_t)n >= sizeof(s->path))
		return vc_error_set(err, VC_EUSER, "run-dir %s: too long for a socket's path", dir);
	if (unlink(s->path) < 0 && errno != ENOENT) // of a vcd that was killed: the lock says that none runs
		return vc_error_errno(err, "%s", s->path);
	uv_pipe_init(&s->vcd->loop, &s->local, 0);
	s->local.data = s;
	s->local_open = true;
	int rc = uv_pipe_bind(&s->local, s->path);
	if (rc == 0)
		rc = uv_listen((uv_stream_t *)&s->local, BACKLOG, on_local);
	if (rc < 0)
		return vc_error_set(err, -rc, "%s: %s", s->path, uv_strerror(rc));
	if (chmod(s->path, 0666) < 0)
		return vc_error_errno(err, "%s", s->path);
	return 0;
}

static int bind_tcp(struct server *s, const char *addr, int port)
{
	struct sockaddr_storage ss = {0};
	int rc = uv_ip4_addr(addr, port, (struct sockaddr_in *)&ss);
	if (rc < 0)
		rc = uv_ip6_addr(addr, port, (struct sockaddr_in6 *)&ss);
	return rc < 0 ? rc : uv_tcp_bind(&s->tcp, (struct sockaddr *)&ss, 0);
}

static int listen_tcp(struct server *s, struct vc_error *err)
{
	const struct conf *conf = s->vcd->conf;
	uv_tcp_init(&s->vcd->loop, &s->tcp);
	s->tcp.data = s;
	s->tcp_open = true;
	int rc = bind_tcp(s, *conf->listen ? conf->listen : "::", conf->port);
	if (rc < 0 && !*conf->listen)
		rc = bind_tcp(s, "0.0.0.0", conf->port); // a kernel without IPv6
	if (rc == 0)
		rc = uv_listen((uv_stream_t *)&s->tcp, BACKLOG, on_tcp);
	if (rc < 0)
		return vc_error_set(err, -rc, "%s port %d: %s", *conf->listen ? conf->listen : "TCP", conf->port,
				    uv_strerror(rc));
	return 0;
}

struct server *server_create(struct vcd *vcd, struct vc_error *err)
{
	struct server *s = calloc(1, sizeof(*s));
	if (!s) {
		vc_error_errno(err, "server");
		return NULL;
	}
	s->vcd = vcd;
	LIST_INIT(&s->clients);
	if (listen_local(s, err) == 0 && listen_tcp(s, err) == 0)
		return s;
	server_stop(s);
	uv_run(&vcd->loop, UV_RUN_NOWAIT);
	server_destroy(s);
	return NULL;
}

int server_port(const struct server *s)
{
	struct sockaddr_storage ss = {0};
	int len = sizeof(ss);
	if (uv_tcp_getsockname(&s->tcp, (struct sockaddr *)&ss, &len) < 0)
		return 0;
	return ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port : ((struct sockaddr_in *)&ss)->sin_port);
}

void server_stop(struct server *s)
{
	struct vc_error why = VC_ERROR_INIT;
	if (s->local_open)
		uv_close((uv_handle_t *)&s->local, NULL);
	if (s->tcp_open)
		uv_close((uv_handle_t *)&s->tcp, NULL);
	if (s->local_open)
		unlink(s->path);
	s->local_open = s->tcp_open = false;
	vc_error_set(&why, VC_ECANCELED, "vcd of %s is stopping", s->vcd->conf->host_name);
	while (!LIST_EMPTY(&s->clients)) // the BYE answers what is open: callers that can try again know by it
		wire_close(LIST_FIRST(&s->clients)->wire, &why);
	rpc_cancel_all(s->vcd->rpc); // the requests of this vcd itself
}

void server_destroy(struct server *s)
{
	free(s);
}
