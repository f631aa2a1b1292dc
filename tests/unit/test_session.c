// SPDX-License-Identifier: GPL-2.0-or-later
// libvc/session, frame and message: two sessions joined in memory, with a fake munge whose credential is its payload.
#include "tests/unit/test.h"

#include <stdio.h>

#include "libvc/cleanup.h"
#include "libvc/frame.h"
#include "libvc/json.h"
#include "libvc/message.h"
#include "libvc/session.h"

struct pair {
	struct vc_session *client, *server;
	enum vc_session_event client_event, server_event;
	struct vc_frame client_frame, server_frame;
	struct vc_error client_err, server_err;
	uid_t cred_uid; // what the fake munge says of the client
	char *seen_cred; // the client's credential, for replays
};

static struct pair pair_create(bool sealed, bool peer)
{
	struct pair p = {.cred_uid = 1000};
	struct vc_session_opts server = {.sealed = sealed, .host = "ctl", .own_uid = 0, .socket_uid = 1000};
	struct vc_session_opts client = {.sealed = sealed, .host = "n1", .peer = peer, .server_uid = 0};
	p.server = vc_session_server(&server, NULL);
	p.client = vc_session_client(&client, NULL);
	assert_non_null(p.server);
	assert_non_null(p.client);
	return p;
}

static void pair_destroy(struct pair *p)
{
	vc_session_destroy(p->client);
	vc_session_destroy(p->server);
	free(p->seen_cred);
}

static void move_bytes(struct vc_session *from, struct vc_session *to, size_t piece)
{
	struct vc_buf *out = vc_session_output(from);
	while (out->len) {
		size_t n = out->len < piece ? out->len : piece;
		assert_int_equal(vc_session_input(to, vc_buf_head(out), n, NULL), 0);
		vc_buf_consume(out, n);
	}
}

// One step of one end; munge's part is answered at once. The credential's text is its payload.
static enum vc_session_event step(struct vc_session *s, uid_t uid, struct vc_frame *frame, struct vc_error *err)
{
	enum vc_session_event event = vc_session_next(s, frame, err);
	if (event == VC_SESSION_ENCODE) {
		vc_autofree char *copy = strdup(vc_session_payload(s));
		vc_session_encoded(s, copy);
	} else if (event == VC_SESSION_DECODE) {
		vc_autofree char *copy = strdup(vc_session_cred(s));
		vc_session_decoded(s, uid, copy, strlen(copy));
	}
	return event;
}

static bool interesting(enum vc_session_event e)
{
	return e == VC_SESSION_READY || e == VC_SESSION_FRAME || e == VC_SESSION_CLOSED;
}

// Runs both ends until neither has anything new; keeps the last READY, FRAME or CLOSED of each.
static void pair_run(struct pair *p, size_t piece)
{
	for (int i = 0; i < 30; i++) {
		move_bytes(p->server, p->client, piece);
		enum vc_session_event e = step(p->client, 0, &p->client_frame, &p->client_err);
		p->client_event = interesting(e) ? e : p->client_event;
		move_bytes(p->client, p->server, piece);
		e = step(p->server, p->cred_uid, &p->server_frame, &p->server_err);
		p->server_event = interesting(e) ? e : p->server_event;
	}
}

static void test_handshakes(void **state)
{
	(void)state;
	for (int sealed = 0; sealed < 2; sealed++) {
		for (size_t piece = 1; piece < 5000; piece = piece * 7 + 1) {
			struct pair p = pair_create(sealed, false);
			pair_run(&p, piece);
			assert_int_equal(p.client_event, VC_SESSION_READY);
			assert_int_equal(p.server_event, VC_SESSION_READY);
			assert_int_equal(vc_session_uid(p.server), 1000);
			assert_string_equal(vc_session_host(p.server), "n1");
			assert_string_equal(vc_session_host(p.client), "ctl");
			assert_false(vc_session_is_peer(p.server));
			pair_destroy(&p);
		}
	}
}

static void test_frames_both_ways(void **state)
{
	(void)state;
	for (int sealed = 0; sealed < 2; sealed++) {
		struct pair p = pair_create(sealed, false);
		pair_run(&p, 1000);
		size_t len = 3u << 20;
		vc_autofree uint8_t *big = malloc(len);
		for (size_t i = 0; i < len; i++)
			big[i] = (uint8_t)(i * 31 >> 3);
		assert_int_equal(vc_session_send(p.client, VC_FRAME_DATA, big, len, NULL), 0);
		assert_int_equal(vc_session_send(p.server, VC_FRAME_RPC, "{}", 2, NULL), 0);
		move_bytes(p.client, p.server, 65536);
		move_bytes(p.server, p.client, 1);
		assert_int_equal(vc_session_next(p.server, &p.server_frame, NULL), VC_SESSION_FRAME);
		assert_int_equal(p.server_frame.type, VC_FRAME_DATA);
		assert_int_equal(p.server_frame.len, len);
		assert_memory_equal(p.server_frame.body, big, len);
		assert_int_equal(vc_session_next(p.server, &p.server_frame, NULL), VC_SESSION_NEED_INPUT);
		assert_int_equal(vc_session_next(p.client, &p.client_frame, NULL), VC_SESSION_FRAME);
		assert_memory_equal(p.client_frame.body, "{}", 2);
		pair_destroy(&p);
	}
}

static void test_refused(void **state)
{
	(void)state;
	struct pair p = pair_create(false, false);
	p.cred_uid = 1001; // munge says another uid than the kernel
	pair_run(&p, 1000);
	assert_int_equal(p.server_event, VC_SESSION_CLOSED);
	assert_int_equal(p.server_err.code, VC_EAUTH);
	assert_int_equal(p.client_event, VC_SESSION_CLOSED);
	assert_contains(p.client_err.text, "uid 1001");
	pair_destroy(&p);
	p = pair_create(true, true);
	pair_run(&p, 1000); // role peer without uid 0
	assert_int_equal(p.server_err.code, VC_EDENIED);
	pair_destroy(&p);
	p = pair_create(true, true);
	p.cred_uid = 0;
	pair_run(&p, 1000);
	assert_int_equal(p.server_event, VC_SESSION_READY);
	assert_true(vc_session_is_peer(p.server));
	pair_destroy(&p);
	p = pair_create(false, true);
	p.cred_uid = 0;
	pair_run(&p, 1000); // peers only over TCP
	assert_int_equal(p.server_event, VC_SESSION_CLOSED);
	pair_destroy(&p);
}

// A credential caught from one connection is of no use on another one: its nonce is the first server's.
static void test_replay(void **state)
{
	(void)state;
	struct pair a = pair_create(true, false), b = pair_create(true, false);
	move_bytes(a.server, a.client, 1000);
	struct vc_frame frame;
	assert_int_equal(step(a.client, 0, &frame, NULL), VC_SESSION_ENCODE);
	move_bytes(a.client, b.server, 1000);
	assert_int_equal(step(b.server, 1000, &frame, NULL), VC_SESSION_DECODE);
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(step(b.server, 1000, &frame, &err), VC_SESSION_CLOSED);
	assert_int_equal(err.code, VC_EAUTH);
	assert_contains(err.text, "nonce");
	pair_destroy(&a);
	pair_destroy(&b);
}

static void test_wrong_host(void **state)
{
	(void)state;
	struct pair p = pair_create(true, false);
	vc_session_destroy(p.client);
	struct vc_session_opts client = {.sealed = true, .host = "n1", .expect_host = "n9"};
	p.client = vc_session_client(&client, NULL);
	pair_run(&p, 1000);
	assert_int_equal(p.client_event, VC_SESSION_CLOSED);
	assert_contains(p.client_err.text, "n9");
	pair_destroy(&p);
}

static void test_changed_on_the_way(void **state)
{
	(void)state;
	struct pair p = pair_create(true, false);
	pair_run(&p, 1000);
	assert_int_equal(vc_session_send(p.client, VC_FRAME_RPC, "{\"a\":1}", 7, NULL), 0);
	struct vc_buf *out = vc_session_output(p.client);
	vc_buf_head(out)[out->len - 3] ^= 1;
	move_bytes(p.client, p.server, 1000);
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(vc_session_next(p.server, &p.server_frame, &err), VC_SESSION_CLOSED);
	assert_contains(err.text, "changed");
	pair_destroy(&p);
}

static void feed(struct vc_session *s, uint32_t magic, unsigned type, unsigned version, uint32_t len)
{
	uint8_t h[VC_FRAME_HEADER_LEN] = {0};
	vc_put_be32(h, magic);
	h[4] = (uint8_t)type;
	vc_put_be16(h + 6, (uint16_t)version);
	vc_put_be32(h + 8, len);
	assert_int_equal(vc_session_input(s, h, sizeof(h), NULL), 0);
}

static void test_bad_headers(void **state)
{
	(void)state;
	static const struct {
		uint32_t magic;
		unsigned type, version;
		uint32_t len;
		const char *text;
	} rows[] = {
		{0x47455420, 1, 0x100, 10, "magic"},
		{VC_FRAME_MAGIC, 9, 0x100, 10, "type 9"},
		{VC_FRAME_MAGIC, 0, 0x100, 10, "type 0"},
		{VC_FRAME_MAGIC, 1, 0x100, 0xffffffff, "more than"},
		{VC_FRAME_MAGIC, 1, 0x100, VC_FRAME_HANDSHAKE_MAX + 1, "more than"},
		{VC_FRAME_MAGIC, 2, 0x100, 1 << 20, "more than"}, // large frames only after authentication
		{VC_FRAME_MAGIC, 1, 0x200, 10, "version 2.0"},
		{VC_FRAME_MAGIC, 2, 0x100, 0, "before authentication"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct pair p = pair_create(false, false);
		struct vc_error err = VC_ERROR_INIT;
		feed(p.server, rows[i].magic, rows[i].type, rows[i].version, rows[i].len);
		assert_int_equal(vc_session_next(p.server, &p.server_frame, &err), VC_SESSION_CLOSED);
		assert_int_equal(err.code, VC_EPROTO);
		assert_contains(err.text, rows[i].text);
		pair_destroy(&p);
	}
	struct pair p = pair_create(false, false);
	feed(p.server, VC_FRAME_MAGIC, 1, 0x10f, 10); // a higher minor is fine
	assert_int_equal(vc_session_next(p.server, &p.server_frame, NULL), VC_SESSION_NEED_INPUT);
	pair_destroy(&p);
}

static void test_random_bytes(void **state)
{
	(void)state;
	uint32_t seed = 1;
	for (int round = 0; round < 2000; round++) {
		struct pair p = pair_create(round & 1, false);
		uint8_t bytes[300];
		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)((seed = seed * 1103515245u + 12345u) >> 16);
		if (round % 3) { // often a right header before the garbage
			vc_put_be32(bytes, VC_FRAME_MAGIC);
			bytes[4] = bytes[4] % 6;
			vc_put_be16(bytes + 6, VC_FRAME_VERSION);
			vc_put_be32(bytes + 8, bytes[8]);
		}
		vc_session_input(p.server, bytes, sizeof(bytes), NULL);
		for (int i = 0; i < 5; i++)
			step(p.server, 1000, &p.server_frame, NULL);
		pair_destroy(&p);
	}
}

static void test_messages(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"", "[]", "{}", "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"x\"}", "{\"jsonrpc\":\"2.0\",\"id\":-1,\"method\":\"x\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"params\":[]}",
		"{\"jsonrpc\":\"2.0\",\"id\":1}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"trace\":\"zz\"}",
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"as\":-1}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"x\",\"as\":4294967295}",
		"{\"jsonrpc\":\"2.0\",\"result\":{}}",
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(bad); i++) {
		struct vc_message m;
		assert_int_equal(vc_message_parse(bad[i], strlen(bad[i]), &m, NULL), -1);
	}
	uid_t as = 2001;
	vc_autojson struct json_object *req = vc_message_request(7, "vcd.ping", NULL, "0123456789abcdef", &as);
	size_t len = 0;
	const char *text = vc_json_text(req, &len);
	struct vc_message m;
	assert_int_equal(vc_message_parse(text, len, &m, NULL), 0);
	assert_int_equal(m.kind, VC_MESSAGE_REQUEST);
	assert_int_equal(m.id, 7);
	assert_true(m.forwarded && m.as == 2001);
	assert_string_equal(m.trace, "0123456789abcdef");
	vc_message_clear(&m);
}

static void test_error_codes(void **state)
{
	(void)state;
	static const int codes[] = {VC_EUSER, VC_EHOST, VC_EBUSY, VC_EDENIED, VC_ESTALE, VC_ETIMEDOUT, VC_EPROTO, VC_EFAILED, 2};
	for (size_t i = 0; i < VC_ARRAY_LEN(codes); i++) {
		struct vc_error in = {.code = codes[i], .text = "why"}, out = VC_ERROR_INIT;
		vc_autojson struct json_object *body = vc_message_error_body(&in);
		vc_message_error_read(body, &out);
		assert_int_equal(out.code, codes[i]);
		assert_string_equal(out.text, "why");
	}
	struct vc_error out = VC_ERROR_INIT;
	vc_message_error_read(NULL, &out);
	assert_int_equal(out.code, VC_EFAILED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshakes),   cmocka_unit_test(test_frames_both_ways),
		cmocka_unit_test(test_refused),	     cmocka_unit_test(test_replay),
		cmocka_unit_test(test_wrong_host),   cmocka_unit_test(test_changed_on_the_way),
		cmocka_unit_test(test_bad_headers),  cmocka_unit_test(test_random_bytes),
		cmocka_unit_test(test_messages),     cmocka_unit_test(test_error_codes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
