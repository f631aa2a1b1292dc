// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/glink against a fake guest: a unix socket with libvc's own link and mux behind it, and a hostile one.
#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/mux.h"
#include "vcd/glink.h"
#include "vcd/pollio.h"

#define WAIT_MS 10000
#define SESSION 0x1234567812345678ull

struct fixture {
	uv_loop_t loop;
	uv_timer_t limit;
	bool late;
	char dir[64], path[96];
	uv_poll_t listener;
	int listen_fd;
	// host
	struct glink *g;
	int hellos, downs, answers, errors;
	struct vc_error last;
	struct glink_route route;
	int route_ups, route_frames, route_gone;
	struct glink_sink sink;
	int sink_frames;
	// guest
	struct pollio *io;
	struct vc_mux *mux;
	struct vc_mux_session *rpc;
	int requests, opens, refused;
	bool mute;
};

// --- the fake guest -------------------------------------------------------------------------------------------

static int guest_send(void *ctx, void *route, struct vc_link_frame *frame)
{
	struct fixture *f = ctx;
	(void)route;
	return f->io ? pollio_send(f->io, frame) : -1;
}

static size_t guest_data(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	(void)ctx, (void)s, (void)ch, (void)data;
	return len;
}
static void guest_channel(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	(void)ctx, (void)s, (void)ch;
}
static void guest_session(void *ctx, struct vc_mux_session *s)
{
	(void)ctx, (void)s;
}
static void guest_reset(void *ctx, struct vc_mux_session *s, const char *code, const char *message)
{
	(void)s, (void)code, (void)message;
	((struct fixture *)ctx)->rpc = NULL;
}

static void guest_message(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	struct fixture *f = ctx;
	char answer[128];
	vc_autojson struct json_object *msg = vc_json_parse(text, len, NULL);
	uint64_t id = 0;
	f->requests++;
	f->refused += memmem(text, len, "-32601", 6) != NULL; // "no method for guests"
	if (f->mute || vc_json_u64(msg, "id", 1000, &id, NULL) < 0)
		return;
	snprintf(answer, sizeof(answer), "{\"jsonrpc\":\"2.0\",\"id\":%d,\"result\":{}}", (int)id);
	assert_int_equal(vc_mux_session_message(s, answer, strlen(answer), NULL), 0);
}

static const struct vc_mux_ops guest_mux_ops = {
	.send_frame = guest_send, .on_data = guest_data, .on_eof = guest_channel, .on_message = guest_message,
	.on_writable = guest_channel, .on_reader_closed = guest_channel, .on_acked = guest_session, .on_reset = guest_reset,
};

static void guest_frame(void *ctx, struct vc_link_frame *frame)
{
	struct fixture *f = ctx;
	if (frame->session == VC_SESSION_RPC)
		vc_mux_input(f->mux, f, frame, uv_now(&f->loop));
	else
		f->opens += frame->type == VC_LINK_OPEN;
}

static void guest_up(void *ctx)
{
	static const char hello[] = "{\"jsonrpc\":\"2.0\",\"method\":\"guest.hello\",\"params\":{\"configured\":false}}";
	struct fixture *f = ctx;
	if (f->rpc)
		vc_mux_session_destroy(f->rpc);
	f->rpc = vc_mux_session_create(f->mux, f, VC_SESSION_RPC, VC_MUX_PEER, NULL, uv_now(&f->loop), NULL);
	assert_non_null(f->rpc);
	assert_int_equal(vc_mux_session_message(f->rpc, hello, strlen(hello), NULL), 0);
}

static void guest_none(void *ctx)
{
	(void)ctx;
}
static void guest_broken(void *ctx, const struct vc_error *err)
{
	(void)err;
	((struct fixture *)ctx)->io = NULL;
}
static const struct pollio_ops guest_ops = {.frame = guest_frame, .up = guest_up, .down = guest_none, .writable = guest_none, .broken = guest_broken};

static void on_connect(uv_poll_t *poll, int status, int events)
{
	struct fixture *f = poll->data;
	(void)status, (void)events;
	int fd = accept(f->listen_fd, NULL, NULL);
	if (fd < 0)
		return;
	pollio_close(f->io);
	f->io = pollio_create(&f->loop, fd, "ffffffffffffffffffffffffffffffff", &guest_ops, f, NULL);
}

// --- the host -------------------------------------------------------------------------------------------------

static void on_hello(void *ctx, struct json_object *params)
{
	(void)params;
	((struct fixture *)ctx)->hellos++;
}
static void on_down(void *ctx)
{
	((struct fixture *)ctx)->downs++;
}
static const struct glink_ops ops = {.hello = on_hello, .down = on_down};

static void on_answer(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct fixture *f = ctx;
	(void)result;
	*(err ? &f->errors : &f->answers) += 1;
	if (err)
		f->last = *err;
}

static struct fixture *of(struct glink_route *r)
{
	return (struct fixture *)((char *)r - offsetof(struct fixture, route));
}
static void route_frame(struct glink_route *r, struct vc_link_frame *frame)
{
	(void)frame;
	of(r)->route_frames++;
}
static void route_up(struct glink_route *r)
{
	of(r)->route_ups++;
}
static void route_gone(struct glink_route *r, const char *code, const char *message)
{
	(void)code, (void)message;
	of(r)->route_gone++;
}

static void sink_frame(void *ctx, struct glink *g, struct vc_link_frame *frame)
{
	(void)g, (void)frame;
	((struct fixture *)ctx)->sink_frames++;
}

static void on_limit(uv_timer_t *timer)
{
	((struct fixture *)timer->data)->late = true;
}

// Runs the loop until *counter reaches n.
static void until(struct fixture *f, const int *counter, int n)
{
	while (*counter < n && !f->late)
		uv_run(&f->loop, UV_RUN_ONCE);
	assert_true(*counter >= n);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	uv_loop_init(&f->loop);
	uv_timer_init(&f->loop, &f->limit);
	f->limit.data = f;
	uv_timer_start(&f->limit, on_limit, WAIT_MS, 0);
	snprintf(f->dir, sizeof(f->dir), "/tmp/test_glink.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/link", f->dir);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->path);
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f->listen_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(f->listen_fd, 1), 0);
	uv_poll_init(&f->loop, &f->listener, f->listen_fd);
	f->listener.data = f;
	uv_poll_start(&f->listener, UV_READABLE, on_connect);
	f->mux = vc_mux_create(NULL, &guest_mux_ops, f);
	f->g = glink_create(&f->loop, f->path, "vc1-0", &ops, f, NULL);
	f->route = (struct glink_route){.session = SESSION, .frame = route_frame, .up = route_up, .gone = route_gone};
	f->sink = (struct glink_sink){.frame = sink_frame, .ctx = f};
	glink_set_sink(f->g, &f->sink);
	*state = f;
	return f->g && f->mux ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	glink_close(f->g, "test", "over");
	pollio_close(f->io);
	uv_close((uv_handle_t *)&f->listener, NULL);
	uv_close((uv_handle_t *)&f->limit, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	close(f->listen_fd);
	vc_mux_destroy(f->mux);
	unlink(f->path);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void test_call(void **state)
{
	struct fixture *f = *state;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(glink_call(f->g, "guest.view", NULL, 1000, on_answer, f, &err), -1); // not up yet
	assert_int_equal(err.code, ENOTCONN);
	until(f, &f->hellos, 1);
	assert_true(glink_is_up(f->g));
	assert_int_equal(glink_call(f->g, "guest.view", NULL, 5000, on_answer, f, &err), 0);
	until(f, &f->answers, 1);
	f->mute = true;
	assert_int_equal(glink_call(f->g, "guest.view", NULL, 300, on_answer, f, &err), 0);
	until(f, &f->errors, 1);
	assert_int_equal(f->last.code, VC_ETIMEDOUT);
	assert_contains(f->last.text, "vc1-0");
}

// The connection breaks: open calls fail, the link comes back by itself, the guest says hello again.
static void test_reconnect(void **state)
{
	struct fixture *f = *state;
	until(f, &f->hellos, 1);
	f->mute = true;
	assert_int_equal(glink_call(f->g, "guest.view", NULL, 60000, on_answer, f, NULL), 0);
	assert_int_equal(glink_route_add(f->g, &f->route, NULL), 0);
	until(f, &f->requests, 1);
	pollio_close(f->io);
	f->io = NULL;
	until(f, &f->downs, 1);
	assert_int_equal(f->errors, 1);
	assert_int_equal(f->last.code, ENOTCONN);
	until(f, &f->hellos, 2);
	assert_int_equal(f->route_ups, 1);
	assert_int_equal(glink_counts(f->g).routes, 1);
}

// The guest connects by itself, as over vsock: the link moves there, and back when that connection breaks. What comes at
// once after another is closed.
static void test_take(void **state)
{
	struct fixture *f = *state;
	int fds[2], flood[2];
	until(f, &f->hellos, 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	pollio_close(f->io);
	f->io = pollio_create(&f->loop, fds[0], "ffffffffffffffffffffffffffffffff", &guest_ops, f, NULL);
	assert_non_null(f->io);
	glink_take(f->g, fds[1]);
	until(f, &f->hellos, 2);
	assert_int_equal(f->downs, 1);
	assert_int_equal(glink_call(f->g, "guest.view", NULL, 5000, on_answer, f, NULL), 0);
	until(f, &f->answers, 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, flood), 0);
	int twice = dup(flood[1]);
	glink_take(f->g, twice); // may be taken
	glink_take(f->g, flood[1]); // not this one
	assert_int_equal(fcntl(flood[1], F_GETFD), -1);
	close(flood[0]);
	pollio_close(f->io);
	f->io = NULL;
	until(f, &f->hellos, 3); // the link is back on the unix socket
	assert_true(glink_is_up(f->g));
}

static void send_data(struct fixture *f, uint64_t session)
{
	uint8_t body[] = "x";
	struct vc_link_frame frame = {.type = VC_LINK_DATA, .channel = VC_CH_STDOUT, .session = session, .len = 1, .body = body};
	assert_int_equal(pollio_send(f->io, &frame), 0);
}

static void test_routes(void **state)
{
	struct fixture *f = *state;
	struct vc_error err = VC_ERROR_INIT;
	until(f, &f->hellos, 1);
	assert_int_equal(glink_route_add(f->g, &f->route, NULL), 0);
	struct glink_route twin = f->route;
	assert_int_equal(glink_route_add(f->g, &twin, &err), -1);
	send_data(f, SESSION + 1); // nobody's: dropped
	send_data(f, SESSION);
	send_data(f, VC_SESSION_FROM_GUEST | 5);
	until(f, &f->sink_frames, 1);
	assert_int_equal(f->route_frames, 1);
	struct vc_link_frame open = {.type = VC_LINK_OPEN, .session = SESSION, .len = 2, .body = (uint8_t *)"{}"};
	assert_int_equal(glink_forward(f->g, &open), 0);
	until(f, &f->opens, 1);
	glink_close(f->g, "member-down", "gone");
	assert_int_equal(f->route_gone, 1);
	f->g = NULL;
}

// A guest that starts over and over again: each hello is heard, calls work afterwards.
static void test_resets(void **state)
{
	struct fixture *f = *state;
	until(f, &f->hellos, 1);
	for (int i = 0; i < 8; i++) {
		pollio_hello(f->io);
		until(f, &f->hellos, 2 + i);
	}
	assert_int_equal(glink_call(f->g, "guest.view", NULL, 5000, on_answer, f, NULL), 0);
	until(f, &f->answers, 1);
}

static void test_bad_json(void **state)
{
	struct fixture *f = *state;
	static const char *const texts[] = {"{", "[]", "{\"id\":1}", "{\"method\":7}", "{\"id\":99,\"result\":{}}", "null",
					    "{\"method\":\"host.release\",\"id\":4}", "{\"method\":\"guest.hello\",\"params\":[]}"};
	until(f, &f->hellos, 1);
	for (size_t i = 0; i < VC_ARRAY_LEN(texts); i++)
		assert_int_equal(vc_mux_session_message(f->rpc, texts[i], strlen(texts[i]), NULL), 0);
	until(f, &f->requests, 1); // the answer to host.release: no such method for guests
	until(f, &f->hellos, 2);
	assert_true(glink_is_up(f->g));
}

// Facts of membership in the form that vcds give them to each other: from a guest they are nobody's. What it says of its own
// view is only its own (share.c keeps it with the member), and the link goes on.
static void test_lies(void **state)
{
	struct fixture *f = *state;
	static const char *const lies[] = {
		"{\"jsonrpc\":\"2.0\",\"id\":71,\"method\":\"member.fact\",\"params\":{\"cluster\":\"00000000000000000000000000000001\","
		"\"hosts\":[\"n2\"],\"event\":\"fail\"}}",
		"{\"jsonrpc\":\"2.0\",\"id\":72,\"method\":\"event.view\",\"params\":{\"cluster\":\"00000000000000000000000000000001\","
		"\"view\":{\"version\":1,\"epoch\":9},\"gone\":[\"n1\",\"n2\"]}}",
		"{\"jsonrpc\":\"2.0\",\"id\":73,\"method\":\"host.view\",\"params\":{\"view\":{\"version\":1,\"epoch\":9,\"members\":[]}}}",
		"{\"jsonrpc\":\"2.0\",\"id\":74,\"method\":\"member.link\",\"params\":{\"host\":\"n2\"}}",
		"{\"jsonrpc\":\"2.0\",\"id\":75,\"method\":\"guest.renew\",\"params\":{\"epoch\":9,\"valid_ms\":60000}}",
		"{\"jsonrpc\":\"2.0\",\"method\":\"member.fact\",\"params\":{\"rank\":1,\"event\":\"fail\"}}", // asks for no answer
	};
	until(f, &f->hellos, 1);
	f->mute = true;
	for (size_t i = 0; i < VC_ARRAY_LEN(lies); i++)
		assert_int_equal(vc_mux_session_message(f->rpc, lies[i], strlen(lies[i]), NULL), 0);
	until(f, &f->refused, 5);
	assert_int_equal(f->requests, 5);
	assert_int_equal(f->hellos, 1);
	assert_int_equal(f->downs, 0);
	f->mute = false;
	assert_int_equal(glink_call(f->g, "guest.view", NULL, 5000, on_answer, f, NULL), 0);
	until(f, &f->answers, 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {T(test_call), T(test_reconnect), T(test_take), T(test_routes), T(test_resets), T(test_bad_json), T(test_lies)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
