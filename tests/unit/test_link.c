// SPDX-License-Identifier: GPL-2.0-or-later
// Link frames: CRC, chunked parsing, damage, and the reset handshake over a pipe that loses bytes.
#include "tests/unit/test.h"

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/link.h"

#define BOOT_A "0123456789abcdef0123456789abcdef"
#define BOOT_B "fedcba9876543210fedcba9876543210"

struct end {
	struct vc_link *link;
	struct vc_buf out; // what it wrote
	unsigned ups, downs, frames;
	uint64_t last_offset;
	bool damaged;
};

static void write_out(void *ctx, const struct iovec *iov, int n)
{
	struct end *e = ctx;
	if (n == 0)
		vc_buf_consume(&e->out, e->out.len);
	for (int i = 0; i < n; i++)
		assert_int_equal(vc_buf_append(&e->out, iov[i].iov_base, iov[i].iov_len), 0);
}

static void end_open(struct end *e, const char *boot)
{
	*e = (struct end){.out = VC_BUF_INIT(0)};
	e->link = vc_link_create(boot, write_out, e);
	assert_non_null(e->link);
}

static void end_close(struct end *e)
{
	vc_link_destroy(e->link);
	vc_buf_clear(&e->out);
}

static void drain(struct end *e, uint64_t now)
{
	struct vc_link_frame f;
	for (;;) {
		switch (vc_link_next(e->link, now, &f)) {
		case VC_LINK_NEED:
			return;
		case VC_LINK_FRAME:
			e->frames++;
			e->last_offset = f.offset;
			break;
		case VC_LINK_UP:
			e->ups++;
			break;
		case VC_LINK_DOWN:
			e->downs++;
			break;
		case VC_LINK_DAMAGED:
			e->damaged = true;
			return;
		}
	}
}

static void feed(struct end *e, const uint8_t *data, size_t len, uint64_t now)
{
	while (len && !e->damaged) {
		size_t room;
		uint8_t *space = vc_link_space(e->link, &room);
		size_t part = len < room ? len : room;
		memcpy(space, data, part);
		vc_link_commit(e->link, part);
		drain(e, now);
		data += part;
		len -= part;
	}
}

// Moves up to max bytes that `from` wrote to `to`.
static size_t move(struct end *from, struct end *to, size_t max, uint64_t now)
{
	size_t len = from->out.len < max ? from->out.len : max;
	uint8_t *copy = malloc(len + 1);
	if (len)
		memcpy(copy, vc_buf_head(&from->out), len);
	vc_buf_consume(&from->out, len);
	feed(to, copy, len, now);
	free(copy);
	return len;
}

static void settle(struct end *a, struct end *b, uint64_t now)
{
	for (int i = 0; i < 100 && (a->out.len || b->out.len); i++) {
		move(a, b, SIZE_MAX, now);
		move(b, a, SIZE_MAX, now);
	}
	assert_int_equal(a->out.len + b->out.len, 0);
}

static void send_data(struct end *e, uint64_t offset, size_t len)
{
	uint8_t raw[VC_LINK_FRAME_MAX];
	memset(raw, 'x', sizeof(raw));
	struct vc_link_frame f = {.type = VC_LINK_DATA, .channel = 2, .session = 7, .offset = offset, .len = (uint32_t)len,
				  .body = raw + VC_LINK_HEAD_LEN, .in_place = offset % 2};
	vc_link_send(e->link, &f);
}

static void test_crc(void **state)
{
	(void)state;
	uint8_t data[100];
	assert_int_equal(vc_crc32c(0, "123456789", 9), 0xe3069283u);
	assert_int_equal(vc_crc32c_table(0, "123456789", 9), 0xe3069283u);
	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (uint8_t)(i * 37);
		assert_int_equal(vc_crc32c(5, data, i), vc_crc32c_table(5, data, i));
		assert_int_equal(vc_crc32c(vc_crc32c(0, data, i / 2), data + i / 2, i - i / 2), vc_crc32c(0, data, i));
	}
}

static void test_chunks(void **state)
{
	(void)state;
	static const size_t lens[] = {0, 1, 31, 4096, VC_LINK_BODY_MAX};
	for (size_t chunk = 1; chunk < 70000; chunk = chunk * 3 + 1) {
		struct end a, b;
		end_open(&a, NULL);
		end_open(&b, NULL);
		for (size_t i = 0; i < VC_ARRAY_LEN(lens); i++)
			send_data(&a, i, lens[i]);
		while (move(&a, &b, chunk, 1))
			;
		assert_int_equal(b.frames, VC_ARRAY_LEN(lens));
		assert_int_equal(b.last_offset, VC_ARRAY_LEN(lens) - 1);
		end_close(&a);
		end_close(&b);
	}
}

static void test_stream_damage(void **state)
{
	(void)state;
	// byte 0 of the header, its length, its check, the trailer's check and counter
	static const size_t at[] = {0, 4, 8, 12, 17, VC_LINK_HEAD_LEN + 10, VC_LINK_HEAD_LEN + 17};
	for (size_t i = 0; i < VC_ARRAY_LEN(at); i++) {
		struct end a, b;
		end_open(&a, NULL);
		end_open(&b, NULL);
		send_data(&a, 0, 10);
		vc_buf_head(&a.out)[at[i]] ^= 1;
		move(&a, &b, SIZE_MAX, 1);
		assert_true(b.damaged);
		assert_int_equal(b.frames, 0);
		end_close(&a);
		end_close(&b);
	}
}

static void pair(struct end *a, struct end *b)
{
	end_open(a, BOOT_A);
	end_open(b, BOOT_B);
	vc_link_hello(a->link, 1);
	vc_link_hello(b->link, 1);
	settle(a, b, 1);
	assert_true(vc_link_is_up(a->link) && vc_link_is_up(b->link));
	assert_string_equal(vc_link_peer_boot(a->link), BOOT_B);
}

static void test_handshake(void **state)
{
	(void)state;
	struct end a, b;
	pair(&a, &b);
	assert_int_equal(a.ups, 1);
	assert_int_equal(b.ups, 1);
	send_data(&a, 5, 100);
	send_data(&b, 6, VC_LINK_BODY_MAX);
	settle(&a, &b, 2);
	assert_int_equal(a.frames, 1);
	assert_int_equal(b.frames, 1);
	end_close(&a);
	end_close(&b);
}

// The other end is killed in the middle of a frame and comes back: the reset must not wait for the frame's rest.
static void test_restart(void **state)
{
	(void)state;
	struct end a, b;
	pair(&a, &b);
	for (int i = 0; i < 20; i++) {
		send_data(&a, 1, 60000);
		move(&a, &b, 30000, 3);
		end_close(&a);
		end_open(&a, BOOT_A);
		send_data(&b, 1, 50000); // still of the old epoch
		if (i % 2)
			vc_buf_consume(&b.out, 20000);
		vc_link_hello(a.link, 4);
		settle(&a, &b, 5);
		assert_true(vc_link_is_up(a.link) && vc_link_is_up(b.link));
		assert_int_equal(a.frames, 0);
		unsigned before = b.frames;
		send_data(&a, 9, 10);
		settle(&a, &b, 6);
		assert_int_equal(b.frames, before + 1);
	}
	end_close(&a);
	end_close(&b);
}

// Bytes vanish without notice: found by the next frame, or by the clock when none comes.
static void test_loss(void **state)
{
	(void)state;
	for (int quiet = 0; quiet < 2; quiet++) {
		struct end a, b;
		pair(&a, &b);
		send_data(&a, 1, 1000);
		vc_buf_consume(&a.out, 1); // the first byte, or bytes inside
		a.out.len -= quiet ? 100 : 0;
		move(&a, &b, SIZE_MAX, 10);
		if (!quiet)
			send_data(&a, 2, 1000);
		settle(&a, &b, 20);
		drain(&b, 2000);
		settle(&a, &b, 2000);
		assert_true(b.downs > 0);
		assert_true(vc_link_is_up(a.link) && vc_link_is_up(b.link));
		unsigned before = b.frames;
		send_data(&a, 3, 10);
		settle(&a, &b, 2001);
		assert_int_equal(b.frames, before + 1);
		end_close(&a);
		end_close(&b);
	}
}

// A task's stream that looks like frames must not pass for them, not even while the parser searches.
static void test_injection(void **state)
{
	(void)state;
	struct end a, b, forger;
	pair(&a, &b);
	end_open(&forger, BOOT_A);
	vc_link_hello(forger.link, 1);
	vc_buf_consume(&forger.out, VC_LINK_FRAME_MAX); // its zeros
	uint8_t body[4096];
	size_t hello = forger.out.len;
	memcpy(body, vc_buf_head(&forger.out), hello);
	struct vc_link_frame f = {.type = VC_LINK_DATA, .session = 7, .len = (uint32_t)hello, .body = body};
	vc_link_send(a.link, &f);
	vc_buf_consume(&a.out, 3); // lose the real header
	move(&a, &b, SIZE_MAX, 10);
	assert_int_equal(b.frames, 0);
	assert_false(vc_link_is_up(b.link));
	settle(&a, &b, 20);
	assert_true(vc_link_is_up(a.link) && vc_link_is_up(b.link));
	assert_string_equal(vc_link_peer_boot(b.link), BOOT_A);
	end_close(&a);
	end_close(&b);
	end_close(&forger);
}

// HELLOs get lost; repeats bring the link up without an endless exchange.
static void test_hello_loss(void **state)
{
	(void)state;
	unsigned seed = 1;
	for (int round = 0; round < 200; round++) {
		struct end a, b;
		uint64_t now = 1;
		end_open(&a, BOOT_A);
		end_open(&b, BOOT_B);
		vc_link_hello(a.link, now);
		if (round % 3)
			vc_link_hello(b.link, now);
		for (int i = 0; i < 400 && !(vc_link_is_up(a.link) && vc_link_is_up(b.link)); i++, now += 100) {
			struct end *from = i % 2 ? &a : &b, *to = i % 2 ? &b : &a;
			if (rand_r(&seed) % 4 == 0)
				vc_buf_consume(&from->out, from->out.len);
			move(from, to, SIZE_MAX, now);
			vc_link_tick(a.link, now);
			vc_link_tick(b.link, now);
		}
		settle(&a, &b, now);
		assert_true(vc_link_is_up(a.link) && vc_link_is_up(b.link));
		end_close(&a);
		end_close(&b);
	}
}

static void test_garbage(void **state)
{
	(void)state;
	unsigned seed = 7;
	uint8_t junk[5000];
	struct end a, b;
	pair(&a, &b);
	for (int i = 0; i < 200; i++) {
		for (size_t j = 0; j < sizeof(junk); j++)
			junk[j] = (uint8_t)(rand_r(&seed) % 3 ? rand_r(&seed) : "VCL\x01"[j % 4]);
		feed(&b, junk, sizeof(junk), 5);
	}
	assert_int_equal(b.frames, 0);
	settle(&a, &b, 6);
	assert_true(vc_link_is_up(a.link) && vc_link_is_up(b.link));
	end_close(&a);
	end_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc),	  cmocka_unit_test(test_chunks),    cmocka_unit_test(test_stream_damage),
		cmocka_unit_test(test_handshake), cmocka_unit_test(test_restart),   cmocka_unit_test(test_loss),
		cmocka_unit_test(test_injection), cmocka_unit_test(test_hello_loss), cmocka_unit_test(test_garbage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
