// SPDX-License-Identifier: GPL-2.0-or-later
// The real server, method table and peers in this process, on a loop in a thread, with methods made for the test; the
// client is libvc's. Two of them, "ctl" and "n1", so that calls are forwarded over a real sealed session.
#include "tests/unit/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "tests/daemon/munged.h"
#include "vcd/conf.h"
#include "vcd/peer.h"
#include "vcd/rpc.h"
#include "vcd/server.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

struct node {
	struct vcd vcd;
	pthread_t thread;
	uv_async_t stop, call;
	struct peer_test *_Atomic peer_test; // for `call`
	char socket[128];
	int port;
	_Atomic int held, canceled, received; // requests of test.hold; bytes of test.sink
	struct rpc_request *source; // of test.source under way
	size_t source_left;
	_Atomic int taken_bytes;
};

static struct munged munged;
static struct node ctl, n1;

// --- methods ---

static int m_echo(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	(void)ctx;
	const struct rpc_caller *caller = rpc_caller(req);
	vc_autojson struct json_object *r = json_object_new_object();
	if (vc_json_add_u64(r, "uid", caller->uid) < 0 || vc_json_add_bool(r, "peer", caller->peer) < 0 ||
	    vc_json_add_bool(r, "forwarded", caller->forwarded) < 0 || vc_json_add_str(r, "trace", rpc_trace(req)) < 0 ||
	    vc_json_add_str(r, "host", caller->host) < 0)
		return vc_error_set(err, ENOMEM, "echo");
	vc_json_add(r, "params", json_object_get(rpc_params(req)));
	rpc_reply(req, vc_steal(&r));
	return 0;
}

static int m_fail(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	(void)req;
	(void)ctx;
	return vc_error_set(err, VC_ESTALE, "too late");
}

static void hold_canceled(struct rpc_request *req, void *ctx)
{
	struct node *node = ctx;
	struct vc_error err = VC_ERROR_INIT;
	node->held--;
	node->canceled++;
	vc_error_set(&err, VC_ECANCELED, "canceled");
	rpc_reply_error(req, &err);
}

static int m_hold(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct node *node = ctx;
	(void)err;
	node->held++;
	rpc_on_cancel(req, hold_canceled, node);
	return 0;
}

static int m_notify(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	(void)ctx;
	(void)err;
	for (int i = 0; i < 3; i++) {
		struct json_object *p = json_object_new_object();
		vc_json_add_int(p, "step", i);
		rpc_notify(req, "test.step", p);
	}
	rpc_reply(req, NULL);
	return 0;
}

static int m_large(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	(void)ctx;
	uint64_t bytes = 0;
	if (vc_json_u64(rpc_params(req), "bytes", 64u << 20, &bytes, err) < 0)
		return -1;
	vc_autofree char *text = calloc(1, bytes + 1);
	memset(text, 'x', bytes);
	struct json_object *r = json_object_new_object();
	vc_json_add_str(r, "text", text);
	rpc_reply(req, r);
	return 0;
}

static int sink_received(struct rpc_request *req, const uint8_t *data, size_t len, void *ctx, struct vc_error *err)
{
	struct node *node = ctx;
	(void)data;
	node->received += (int)len;
	if (node->received > (3 << 20))
		return vc_error_set(err, VC_EUSER, "that is too much");
	if (len == 0)
		rpc_reply(req, NULL);
	return 0;
}

static const struct rpc_data_ops sink_ops = {.received = sink_received};

static int m_sink(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	((struct node *)ctx)->received = 0;
	return rpc_data_open(req, &sink_ops, ctx, err);
}

static void source_more(struct rpc_request *req, void *ctx)
{
	struct node *node = ctx;
	static const uint8_t piece[100000];
	int rc = 0;
	while (node->source_left > 0 && rc == 0) {
		size_t n = node->source_left < sizeof(piece) ? node->source_left : sizeof(piece);
		rc = rpc_data_send(req, piece, n, NULL);
		node->source_left -= rc < 0 ? node->source_left : n;
	}
	if (node->source_left == 0)
		rpc_data_end(req, NULL);
}

static const struct rpc_data_ops source_ops = {.drained = source_more};

static int m_source(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct node *node = ctx;
	node->source_left = 20u << 20;
	if (rpc_data_open(req, &source_ops, node, err) < 0 || rpc_data_reply(req, json_object_new_object(), err) < 0)
		return -1;
	source_more(req, node);
	return 0;
}

static void on_stream_closed(uv_handle_t *handle)
{
	free(handle);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	(void)handle;
	*buf = uv_buf_init(malloc(suggested), (unsigned)suggested);
}

static void on_raw(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct node *node = stream->data;
	if (n > 0)
		node->taken_bytes += (int)n;
	free(buf->base);
	if (n < 0)
		uv_close((uv_handle_t *)stream, on_stream_closed);
}

static void on_taken(void *ctx, uv_stream_t *stream, struct vc_buf *pending)
{
	struct node *node = ctx;
	if (!stream)
		return;
	node->taken_bytes = (int)pending->len;
	stream->data = node;
	uv_read_start(stream, on_alloc, on_raw);
	uv_buf_t hello = uv_buf_init("raw!", 4);
	uv_try_write(stream, &hello, 1);
}

static int m_take(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct json_object *result = json_object_new_object();
	if (rpc_take_connection(req, result, on_taken, ctx, err) == 0)
		return 0;
	json_object_put(result); // still ours
	return -1;
}

static const struct rpc_method methods[] = {
	{"test.echo", RPC_ANY, RPC_HOST, 0, m_echo},
	{"test.central", RPC_ANY, RPC_CONTROLLER, 0, m_echo},
	{"test.central-hold", RPC_ANY, RPC_CONTROLLER, 0, m_hold},
	{"test.central-notify", RPC_ANY, RPC_CONTROLLER, 0, m_notify},
	{"test.central-data", RPC_ANY, RPC_CONTROLLER, RPC_DATA, m_sink},
	{"test.admin", RPC_ADMIN, RPC_HOST, 0, m_echo},
	{"test.slurm", RPC_SLURM, RPC_CONTROLLER, 0, m_echo},
	{"test.root", RPC_ROOT, RPC_HOST, 0, m_echo},
	{"test.peer", RPC_PEER, RPC_HOST, 0, m_echo},
	{"test.fail", RPC_ANY, RPC_HOST, 0, m_fail},
	{"test.hold", RPC_ANY, RPC_HOST, 0, m_hold},
	{"test.notify", RPC_ANY, RPC_HOST, 0, m_notify},
	{"test.large", RPC_ANY, RPC_HOST, 0, m_large},
	{"test.sink", RPC_ANY, RPC_HOST, RPC_DATA, m_sink},
	{"test.source", RPC_ANY, RPC_HOST, RPC_DATA, m_source},
	{"test.take", RPC_ANY, RPC_HOST, RPC_DATA, m_take},
};

// --- two nodes ---

static void on_stop(uv_async_t *async)
{
	struct node *node = async->data;
	node->vcd.stopping = true;
	server_stop(node->vcd.server);
	peers_stop(node->vcd.peers);
	work_stop(node->vcd.work, 5000);
	uv_close((uv_handle_t *)async, NULL);
	uv_close((uv_handle_t *)&node->call, NULL);
}

static void peer_test_start(uv_async_t *async);

static void *run_loop(void *arg)
{
	uv_run(&((struct node *)arg)->vcd.loop, UV_RUN_DEFAULT);
	return NULL;
}

static int node_start(struct node *node, const char *name, const char *extra)
{
	char path[128], text[1024];
	struct vc_error err = VC_ERROR_INIT;
	snprintf(path, sizeof(path), "%s/%s.conf", munged.dir, name);
	snprintf(text, sizeof(text),
		 "host-name = \"%s\"\ncontroller = ctl\nport = %d\nlisten = \"127.0.0.1\"\nrun-dir = \"%s\"\n"
		 "munge-socket = \"%s\"\nslurm-user = 4712\n%s",
		 name, node->port, munged.dir, munged.socket, extra);
	write_file(path, text);
	node->vcd.conf = conf_load(path, &err);
	if (!node->vcd.conf)
		return -1;
	// both live in one directory: the socket's name is fixed, so each gets a directory of its own
	free(node->vcd.conf->run_dir);
	if (asprintf(&node->vcd.conf->run_dir, "%s/%s", munged.dir, name) < 0 || mkdir(node->vcd.conf->run_dir, 0755) < 0)
		return -1;
	snprintf(node->socket, sizeof(node->socket), "%s/vcd.sock", node->vcd.conf->run_dir);
	uv_loop_init(&node->vcd.loop);
	node->vcd.controller = conf_is_controller(node->vcd.conf);
	node->vcd.work = work_create(&node->vcd.loop, 2, 1, &err);
	node->vcd.rpc = rpc_create(&node->vcd, &err);
	node->vcd.peers = peers_create(&node->vcd, &err);
	if (rpc_register(node->vcd.rpc, methods, VC_ARRAY_LEN(methods), node, &err) < 0)
		return -1;
	node->vcd.server = server_create(&node->vcd, &err);
	uv_async_init(&node->vcd.loop, &node->stop, on_stop);
	uv_async_init(&node->vcd.loop, &node->call, peer_test_start);
	node->stop.data = node->call.data = node;
	return node->vcd.server ? pthread_create(&node->thread, NULL, run_loop, node) : -1;
}

static void node_stop(struct node *node)
{
	uv_async_send(&node->stop);
	pthread_join(node->thread, NULL);
	server_destroy(node->vcd.server);
	peers_destroy(node->vcd.peers);
	rpc_destroy(node->vcd.rpc);
	work_destroy(node->vcd.work);
	assert_int_equal(uv_loop_close(&node->vcd.loop), 0);
	conf_destroy(node->vcd.conf);
}

static int setup(void **state)
{
	(void)state;
	char extra[256];
	signal(SIGPIPE, SIG_IGN);
	if (munged_start(&munged) < 0)
		return -1;
	vc_log_set_level(VC_LOG_ERR);
	ctl.port = port_free();
	n1.port = port_free();
	snprintf(extra, sizeof(extra), "hosts = {\"ctl=127.0.0.1:%d\", \"dead=127.0.0.1:%d\"}\nadmin-users = {4711}\n", ctl.port,
		 port_free());
	return node_start(&ctl, "ctl", "admin-users = {4711}\n") || node_start(&n1, "n1", extra) ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	node_stop(&n1);
	node_stop(&ctl);
	munged_stop(&munged);
	return 0;
}

// --- helpers ---

static struct vc_client *client(const struct node *node)
{
	struct vc_client_opts opts = {.path = node->socket, .munge_socket = munged.socket};
	struct vc_error err = VC_ERROR_INIT;
	struct vc_client *c = vc_client_connect(&opts, &err);
	assert_string_equal(err.text, "");
	return c;
}

static void expect_error(struct vc_client *c, const char *method, int code, const char *part)
{
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(vc_client_call(c, method, NULL, TEST_LIMIT_MS, NULL, NULL, NULL, &err), -1);
	assert_int_equal(err.code, code);
	assert_contains(err.text, part);
}

static void wait_for(const _Atomic int *counter, int value)
{
	for (int i = 0; *counter != value && i < TEST_LIMIT_MS / 10; i++)
		usleep(10000);
	assert_int_equal(*counter, value);
}

static void expect_u64(struct json_object *r, const char *key, uint64_t expected)
{
	uint64_t v = 0;
	assert_int_equal(vc_json_u64(r, key, UINT64_MAX, &v, NULL), 0);
	assert_int_equal(v, expected);
}

static bool get_bool(struct json_object *r, const char *key)
{
	bool b = false;
	vc_json_bool_opt(r, key, &b, NULL);
	return b;
}

// Runs fn in a child that has become uid, with a client of its own; fails unless it returns 0.
static void as_uid(uid_t uid, int (*fn)(const struct node *node), const struct node *node)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(setgid(uid) < 0 || setuid(uid) < 0 ? 99 : fn(node));
	assert_int_equal(wait_exit(pid), 0);
}

// --- tests ---

static void test_calls(void **state)
{
	(void)state;
	vc_autoclient struct vc_client *c = client(&ctl);
	vc_autojson struct json_object *r = NULL;
	vc_client_set_trace(c, "00112233aabbccdd");
	assert_int_equal(vc_client_call(c, "test.echo", NULL, TEST_LIMIT_MS, NULL, NULL, &r, NULL), 0);
	expect_u64(r, "uid", getuid());
	assert_false(get_bool(r, "peer"));
	assert_string_equal(json_object_get_string(json_object_object_get(r, "trace")), "00112233aabbccdd");
	expect_error(c, "test.fail", VC_ESTALE, "too late");
	expect_error(c, "test.gone", VC_ENOTFOUND, "no method 'test.gone'");
	expect_error(c, "test.peer", VC_EDENIED, "another vcd");
	assert_string_equal(vc_client_server_host(c), "ctl");
}

static void test_tcp(void **state)
{
	(void)state;
	struct vc_client_opts opts = {.munge_socket = munged.socket, .server_uid = geteuid(), .peer = true, .host = "tool"};
	vc_autoclient struct vc_client *c = vc_client_connect_tcp("127.0.0.1", ctl.port, &opts, NULL);
	assert_non_null(c);
	vc_autojson struct json_object *r = NULL;
	assert_int_equal(vc_client_call(c, "test.peer", NULL, TEST_LIMIT_MS, NULL, NULL, &r, NULL), 0);
	assert_true(get_bool(r, "peer"));
	assert_string_equal(json_object_get_string(json_object_object_get(r, "host")), "tool");
	opts.server_uid = 4242; // the server must prove to be who the client expects
	struct vc_error err = VC_ERROR_INIT;
	assert_null(vc_client_connect_tcp("127.0.0.1", ctl.port, &opts, &err));
}

static int step_count(void *ctx, const char *method, struct json_object *params)
{
	(void)params;
	*(int *)ctx += strcmp(method, "test.step") == 0;
	return 0;
}

static void test_forward(void **state)
{
	(void)state;
	vc_autoclient struct vc_client *c = client(&n1);
	vc_autojson struct json_object *r = NULL;
	struct vc_error err = VC_ERROR_INIT;
	vc_client_set_trace(c, "00112233aabbccdd");
	assert_int_equal(vc_client_call(c, "test.central", NULL, TEST_LIMIT_MS, NULL, NULL, &r, &err), 0);
	assert_true(get_bool(r, "forwarded"));
	expect_u64(r, "uid", getuid());
	assert_string_equal(json_object_get_string(json_object_object_get(r, "trace")), "00112233aabbccdd");
	assert_string_equal(json_object_get_string(json_object_object_get(r, "host")), "n1");
	int steps = 0;
	assert_int_equal(vc_client_call(c, "test.central-notify", NULL, TEST_LIMIT_MS, step_count, &steps, NULL, &err), 0);
	assert_int_equal(steps, 3);
	expect_error(c, "test.central-data", VC_EUSER, "controller's host, ctl");
	// the caller goes away: the controller hears of it
	int before = ctl.canceled;
	assert_int_equal(vc_client_start(c, "test.central-hold", NULL, TEST_LIMIT_MS, NULL), 0);
	wait_for(&ctl.held, 1);
	vc_client_destroy(vc_steal(&c));
	wait_for(&ctl.canceled, before + 1);
}

static int roles_of_user(const struct node *node)
{
	struct vc_client_opts opts = {.path = node->socket, .munge_socket = munged.socket};
	struct vc_error err = VC_ERROR_INIT;
	vc_autoclient struct vc_client *c = vc_client_connect(&opts, &err);
	static const struct {
		uid_t uid;
		const char *method;
		bool allowed;
	} rows[] = {
		{4710, "test.echo", true},  {4710, "test.admin", false}, {4710, "test.slurm", false}, {4710, "test.root", false},
		{4711, "test.admin", true}, {4711, "test.slurm", false}, {4711, "test.root", false},  {4711, "test.peer", false},
		{4712, "test.slurm", true}, {4712, "test.admin", false}, {4712, "test.root", false},  {4710, "test.central", true},
	};
	for (size_t i = 0; c && i < VC_ARRAY_LEN(rows); i++) {
		if (rows[i].uid != getuid())
			continue;
		int rc = vc_client_call(c, rows[i].method, NULL, TEST_LIMIT_MS, NULL, NULL, NULL, &err);
		if ((rc == 0) != rows[i].allowed || (rc < 0 && err.code != VC_EDENIED))
			return 10 + (int)i;
	}
	return c ? 0 : 1;
}

static void test_roles(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip(); // needs to become other users
	for (uid_t uid = 4710; uid <= 4712; uid++) {
		as_uid(uid, roles_of_user, &ctl);
		as_uid(uid, roles_of_user, &n1);
	}
}

static int peer_of_user(const struct node *node)
{
	struct vc_client_opts opts = {.munge_socket = munged.socket, .peer = true, .host = "n1"};
	struct vc_error err = VC_ERROR_INIT;
	vc_autoclient struct vc_client *c = vc_client_connect_tcp("127.0.0.1", node->port, &opts, &err);
	return !c && err.code == VC_EDENIED ? 0 : 1;
}

static void test_user_is_no_peer(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	as_uid(4710, peer_of_user, &ctl);
}

static void test_busy(void **state)
{
	(void)state;
	vc_autoclient struct vc_client *c = client(&ctl);
	int before = ctl.canceled;
	for (int i = 0; i < 64; i++)
		assert_int_equal(vc_client_start(c, "test.hold", NULL, TEST_LIMIT_MS, NULL), 0);
	wait_for(&ctl.held, 64);
	expect_error(c, "test.echo", VC_EBUSY, "64 requests");
	vc_client_destroy(vc_steal(&c));
	wait_for(&ctl.canceled, before + 64);
	wait_for(&ctl.held, 0);
}

static void test_large_and_slow(void **state)
{
	(void)state;
	vc_autoclient struct vc_client *c = client(&ctl), *other = client(&ctl);
	vc_autojson struct json_object *params = json_object_new_object(), *r = NULL;
	struct vc_error err = VC_ERROR_INIT;
	vc_json_add_u64(params, "bytes", 15u << 20);
	assert_int_equal(vc_client_call(c, "test.large", params, TEST_LIMIT_MS, NULL, NULL, &r, &err), 0);
	assert_int_equal(json_object_get_string_len(json_object_object_get(r, "text")), 15u << 20);
	vc_json_add_u64(params, "bytes", 17u << 20);
	assert_int_equal(vc_client_call(c, "test.large", params, TEST_LIMIT_MS, NULL, NULL, NULL, &err), -1);
	assert_int_equal(err.code, VC_EPROTO); // told, not dropped
	// one that never reads: its replies are not made, and others are served
	vc_json_add_u64(params, "bytes", 4u << 20);
	for (int i = 0; i < 30; i++)
		assert_int_equal(vc_client_start(c, "test.large", params, 5000, NULL), 0);
	assert_int_equal(vc_client_call(other, "test.echo", NULL, TEST_LIMIT_MS, NULL, NULL, NULL, &err), 0);
}

static void test_data_in(void **state)
{
	(void)state;
	static const uint8_t piece[100000];
	struct vc_error err = VC_ERROR_INIT;
	vc_autoclient struct vc_client *c = client(&ctl);
	assert_int_equal(vc_client_start(c, "test.sink", NULL, TEST_LIMIT_MS, NULL), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(vc_client_send_data(c, piece, sizeof(piece), TEST_LIMIT_MS, &err), 0);
	assert_int_equal(vc_client_send_data(c, NULL, 0, TEST_LIMIT_MS, &err), 0);
	assert_int_equal(vc_client_finish(c, TEST_LIMIT_MS, NULL, NULL, NULL, &err), 0);
	assert_int_equal(ctl.received, 2000000);
	// the receiver has enough: the sender hears why, and the connection stays good
	assert_int_equal(vc_client_start(c, "test.sink", NULL, TEST_LIMIT_MS, NULL), 0);
	int rc = 0;
	for (int i = 0; i < 2000 && rc == 0; i++)
		rc = vc_client_send_data(c, piece, sizeof(piece), TEST_LIMIT_MS, &err);
	assert_int_equal(rc, -1);
	assert_int_equal(vc_client_finish(c, TEST_LIMIT_MS, NULL, NULL, NULL, &err), -1);
	assert_int_equal(err.code, VC_EUSER);
	assert_int_equal(vc_client_call(c, "test.echo", NULL, TEST_LIMIT_MS, NULL, NULL, NULL, &err), 0);
	// data out of turn ends the connection
	vc_autoclient struct vc_client *bad = client(&ctl);
	vc_client_send_data(bad, piece, 10, TEST_LIMIT_MS, &err);
	assert_int_equal(vc_client_call(bad, "test.echo", NULL, TEST_LIMIT_MS, NULL, NULL, NULL, &err), -1);
}

static void test_data_out(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	vc_autobuf struct vc_buf body = VC_BUF_INIT(0);
	struct vc_client_opts opts = {.munge_socket = munged.socket, .server_uid = geteuid()};
	struct vc_client *clients[] = {client(&ctl), vc_client_connect_tcp("127.0.0.1", ctl.port, &opts, NULL)};
	for (size_t i = 0; i < VC_ARRAY_LEN(clients); i++) {
		size_t total = 0;
		assert_int_equal(vc_client_call(clients[i], "test.source", NULL, TEST_LIMIT_MS, NULL, NULL, NULL, &err), 0);
		do {
			assert_int_equal(vc_client_recv_data(clients[i], &body, TEST_LIMIT_MS, &err), 0);
			total += body.len;
		} while (body.len);
		assert_int_equal(total, 20u << 20);
		vc_client_destroy(clients[i]);
	}
}

static void test_take(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	struct vc_client *c = client(&ctl);
	vc_autobuf struct vc_buf pending = VC_BUF_INIT(0);
	vc_autoclose int fd = -1;
	char got[4] = "";
	assert_int_equal(vc_client_call(c, "test.take", NULL, TEST_LIMIT_MS, NULL, NULL, NULL, &err), 0);
	assert_int_equal(vc_client_take_fd(c, &fd, &pending, &err), 0);
	if (pending.len)
		memcpy(got, vc_buf_head(&pending), pending.len);
	for (size_t n = pending.len; n < 4;) {
		ssize_t m = recv(fd, got + n, 4 - n, 0);
		n += m > 0 ? (size_t)m : 0;
	}
	assert_memory_equal(got, "raw!", 4);
	assert_int_equal(send(fd, "no frames any more", 18, 0), 18);
	wait_for(&ctl.taken_bytes, 18);
	struct vc_client_opts opts = {.munge_socket = munged.socket, .server_uid = geteuid()};
	vc_autoclient struct vc_client *tcp = vc_client_connect_tcp("127.0.0.1", ctl.port, &opts, NULL);
	expect_error(tcp, "test.take", VC_EPROTO, "local connection");
}

static void test_client_timeout(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	vc_autoclient struct vc_client *c = client(&ctl);
	int before = ctl.canceled;
	assert_int_equal(vc_client_call(c, "test.hold", NULL, 200, NULL, NULL, NULL, &err), -1);
	assert_int_equal(err.code, VC_ETIMEDOUT);
	vc_client_destroy(vc_steal(&c));
	wait_for(&ctl.canceled, before + 1);
	struct vc_client_opts opts = {.path = "/nonexistent/vcd.sock", .munge_socket = munged.socket};
	assert_null(vc_client_connect(&opts, &err));
	assert_int_equal(err.code, ENOENT);
	assert_contains(err.text, "check that vcd runs");
}

// --- peer calls, made on n1's loop ---

struct peer_test {
	const char *host, *method;
	uint64_t timeout_ms;
	bool cancel;
	_Atomic int done;
	int code;
	bool peer;
	char text[VC_ERROR_TEXT_MAX];
};

static void peer_test_done(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct peer_test *t = ctx;
	t->code = err ? err->code : 0;
	snprintf(t->text, sizeof(t->text), "%s", err ? err->text : "");
	t->peer = result && get_bool(result, "peer");
	t->done++;
}

static void peer_test_start(uv_async_t *async)
{
	struct peer_test *t = ((struct node *)async->data)->peer_test;
	struct peer_args args = {.host = t->host, .method = t->method, .timeout_ms = t->timeout_ms, .done = peer_test_done,
				 .ctx = t};
	struct peer_call *call = peer_call(n1.vcd.peers, &args, NULL);
	if (t->cancel) {
		peer_cancel(call);
		t->done++;
	}
}

static void peer_run(struct peer_test *t)
{
	n1.peer_test = t;
	uv_async_send(&n1.call);
	wait_for(&t->done, 1);
}

static void test_peer(void **state)
{
	(void)state;
	static struct peer_test rows[] = {
		{.host = "ctl", .method = "test.peer", .timeout_ms = 9000},
		{.host = "n1", .method = "test.peer", .timeout_ms = 9000}, // its own table
		{.host = "ctl", .method = "test.fail", .timeout_ms = 9000},
		{.host = "n1", .method = "test.fail", .timeout_ms = 9000},
		{.host = "ctl", .method = "test.hold", .timeout_ms = 300},
		{.host = "n1", .method = "test.hold", .timeout_ms = 300},
		{.host = "dead", .method = "test.peer", .timeout_ms = 700},
		{.host = "ctl", .method = "test.peer", .timeout_ms = 9000, .cancel = true},
	};
	static const int codes[] = {0, 0, VC_ESTALE, VC_ESTALE, VC_ETIMEDOUT, VC_ETIMEDOUT, VC_EHOST, 0};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		peer_run(&rows[i]);
		assert_int_equal(rows[i].code, codes[i]);
		assert_true(rows[i].peer || i > 1);
	}
	assert_contains(rows[6].text, "vcd of dead cannot be reached");
	wait_for(&ctl.held, 0); // the timed out ones were canceled there
	wait_for(&n1.held, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),	    cmocka_unit_test(test_tcp),	     cmocka_unit_test(test_forward),
		cmocka_unit_test(test_roles),	    cmocka_unit_test(test_user_is_no_peer),
		cmocka_unit_test(test_busy),	    cmocka_unit_test(test_large_and_slow),
		cmocka_unit_test(test_data_in),	    cmocka_unit_test(test_data_out), cmocka_unit_test(test_take),
		cmocka_unit_test(test_client_timeout), cmocka_unit_test(test_peer),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
