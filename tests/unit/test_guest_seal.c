// SPDX-License-Identifier: GPL-2.0-or-later
// vcrsh's handshake: two ends over memory, in any pieces; wrong secrets, changed and impossible bytes are refused.
#include "tests/unit/test.h"

#include "guest/seal.h"

static const uint8_t secret[SEAL_SECRET_LEN] = {1, 2, 3};
static const uint8_t other[SEAL_SECRET_LEN] = {3, 2, 1};

struct end {
	struct seal *seal;
	struct vc_buf out, plain;
};

static void setup_ends(struct end *c, struct end *s, const uint8_t *server_secret)
{
	*c = (struct end){.seal = seal_create(true, secret, NULL)};
	*s = (struct end){.seal = seal_create(false, server_secret, NULL)};
	assert_non_null(c->seal);
	assert_non_null(s->seal);
	assert_int_equal(seal_start(c->seal, &c->out, NULL), 0);
}

static void end_clear(struct end *e)
{
	seal_destroy(e->seal);
	vc_buf_clear(&e->out);
	vc_buf_clear(&e->plain);
}

// Moves all bytes of from to `to`, in pieces of `step`.
static int move(struct end *from, struct end *to, size_t step, struct vc_error *err)
{
	while (from->out.len) {
		size_t n = from->out.len < step ? from->out.len : step;
		if (seal_input(to->seal, vc_buf_head(&from->out), n, &to->out, &to->plain, err) < 0)
			return -1;
		vc_buf_consume(&from->out, n);
	}
	return 0;
}

static void shake(struct end *c, struct end *s, size_t step)
{
	for (int i = 0; i < 3; i++) {
		assert_int_equal(move(c, s, step, NULL), 0);
		assert_int_equal(move(s, c, step, NULL), 0);
	}
	assert_true(seal_ready(c->seal) && seal_ready(s->seal));
}

static void both_ways(void **state)
{
	static const size_t steps[] = {1, 7, 100000};
	static uint8_t data[200000];
	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	for (size_t i = 0; i < 3; i++) {
		struct end c, s;
		setup_ends(&c, &s, secret);
		shake(&c, &s, steps[i]);
		assert_int_equal(seal_output(c.seal, data, sizeof(data), &c.out, NULL), 0);
		assert_int_equal(seal_output(s.seal, data, 10, &s.out, NULL), 0);
		assert_int_equal(move(&c, &s, steps[i], NULL), 0);
		assert_int_equal(move(&s, &c, steps[i], NULL), 0);
		assert_int_equal(s.plain.len, sizeof(data));
		assert_memory_equal(vc_buf_head(&s.plain), data, sizeof(data));
		assert_int_equal(c.plain.len, 10);
		end_clear(&c);
		end_clear(&s);
	}
}

static void wrong_secret(void **state)
{
	struct end c, s;
	struct vc_error err = VC_ERROR_INIT;
	(void)state;
	setup_ends(&c, &s, other);
	assert_int_equal(move(&c, &s, 4096, NULL), 0);
	assert_int_equal(move(&s, &c, 4096, &err), -1);
	assert_int_equal(err.code, VC_EAUTH);
	assert_false(seal_ready(c.seal));
	assert_false(seal_ready(s.seal));
	end_clear(&c);
	end_clear(&s);
}

// A client without the secret cannot answer for the server's key either.
static void forged_proof(void **state)
{
	struct end c, s;
	uint8_t zero[32] = {0};
	struct vc_error err = VC_ERROR_INIT;
	(void)state;
	setup_ends(&c, &s, secret);
	assert_int_equal(move(&c, &s, 4096, NULL), 0);
	assert_int_equal(seal_input(s.seal, zero, sizeof(zero), &s.out, &s.plain, &err), -1);
	assert_int_equal(err.code, VC_EAUTH);
	assert_false(seal_ready(s.seal));
	end_clear(&c);
	end_clear(&s);
}

static void damage(void **state)
{
	(void)state;
	for (size_t at = 0; at < 40; at++) {
		struct end c, s;
		setup_ends(&c, &s, secret);
		shake(&c, &s, 4096);
		assert_int_equal(seal_output(c.seal, secret, 19, &c.out, NULL), 0);
		assert_int_equal(c.out.len, 40);
		vc_buf_head(&c.out)[at] ^= 0x80;
		// a changed length may also leave the receiver waiting for more; nothing must come out in any case
		move(&c, &s, 4096, NULL);
		assert_int_equal(s.plain.len, 0);
		end_clear(&c);
		end_clear(&s);
	}
}

static void not_ours(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\nHost: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n\r\n";
	struct end c, s;
	struct vc_error err = VC_ERROR_INIT;
	(void)state;
	setup_ends(&c, &s, secret);
	assert_int_equal(seal_input(s.seal, (const uint8_t *)http, sizeof(http), &s.out, &s.plain, &err), -1);
	assert_int_equal(err.code, VC_EPROTO);
	end_clear(&c);
	end_clear(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ways), cmocka_unit_test(wrong_secret), cmocka_unit_test(forged_proof),
		cmocka_unit_test(damage),    cmocka_unit_test(not_ours),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
