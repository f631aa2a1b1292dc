// SPDX-License-Identifier: GPL-2.0-or-later
// Fuzz target for what a hostile guest can send: bytes into the link parser, frames into a mux, messages into a decoder.
//
// The first byte chooses: 0 stream link, 1 port link, 2 frames for a server's mux, 3 for a client's, 4 an exec message.
// With clang's -fsanitize=fuzzer (--enable-fuzzers), or with fuzz_driver.c for a bounded run in make check.
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/buf.h"
#include "libvc/execmsg.h"
#include "libvc/link.h"
#include "libvc/mux.h"

#define BOOT "0123456789abcdef0123456789abcdef"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct app {
	struct vc_mux *mux;
	struct vc_mux_session *session;
	uint64_t now;
};

static int app_send(void *ctx, void *route, struct vc_link_frame *f)
{
	(void)ctx;
	(void)route;
	return f->offset % 5 == 4 ? -1 : 0; // blocked now and then
}

static int app_open(void *ctx, struct vc_mux_session *s, const uint8_t *body, size_t len, struct vc_error *err)
{
	(void)ctx;
	(void)s;
	return len && body[0] == 'x' ? vc_error_set(err, VC_EDENIED, "no") : 0;
}

static size_t app_data(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	(void)ctx;
	if (len && data[0] == 'r')
		vc_mux_session_reset(s, "canceled", "");
	if (len && data[0] == 'c')
		vc_mux_session_close_reader(s, ch);
	if (len && data[0] == 'w')
		vc_mux_session_write(s, VC_CH_STDOUT, data, len);
	return len / 2;
}

static void app_message(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	(void)ctx;
	if (len && text[0] == 'd')
		vc_mux_session_destroy(s);
	else
		vc_mux_session_message(s, text, len, NULL);
}

static void app_event(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	size_t len;
	(void)ctx;
	if (vc_mux_session_peek(s, ch, &len))
		vc_mux_session_consume(s, ch, len / 2 + 1);
	vc_mux_session_write(s, VC_CH_STDERR, "hello", 5);
}

static void app_acked(void *ctx, struct vc_mux_session *s)
{
	(void)ctx;
	vc_mux_session_eof(s, VC_CH_STDERR);
}

static void app_reset(void *ctx, struct vc_mux_session *s, const char *code, const char *message)
{
	struct app *a = ctx;
	if (!code || !message)
		abort();
	if (s == a->session)
		a->session = NULL;
}

static const struct vc_mux_ops app_ops = {app_send,  app_open,	app_data,  app_event, app_message, app_event,
					  app_event, app_acked, app_reset, app_acked};

static void swallow(void *ctx, const struct iovec *iov, int n)
{
	(void)ctx;
	(void)iov;
	(void)n;
}

static void fuzz_bytes(const char *boot, const uint8_t *data, size_t size)
{
	struct vc_link_frame f;
	struct vc_link *link = vc_link_create(boot, swallow, NULL);
	if (!link)
		return;
	vc_link_hello(link, 1);
	for (uint64_t now = 1; size; now += 300) {
		size_t room, part = size < 100 ? size : 100;
		memcpy(vc_link_space(link, &room), data, part);
		vc_link_commit(link, part);
		for (enum vc_link_event e; (e = vc_link_next(link, now, &f)) != VC_LINK_NEED;) {
			if (e == VC_LINK_DAMAGED)
				goto out;
			if (e == VC_LINK_FRAME && (f.len > VC_LINK_BODY_MAX || f.channel >= VC_CHANNELS))
				abort();
		}
		vc_link_tick(link, now);
		data += part;
		size -= part;
	}
out:
	vc_link_destroy(link);
}

// Records of 8 bytes: type, channel, session, flags, offset (2), length (2), then the body.
static void fuzz_frames(bool client, const uint8_t *data, size_t size)
{
	struct app a = {.now = 1};
	uint8_t body[4096];
	a.mux = vc_mux_create(&(struct vc_mux_config){.sessions_max = 8, .message_max = 1000}, &app_ops, &a);
	if (!a.mux)
		return;
	if (client)
		a.session = vc_mux_session_create(a.mux, &a, 1, VC_MUX_CLIENT, "{}", 1, NULL);
	while (size >= 8) {
		uint16_t len = vc_get_be16(data + 6), offset = vc_get_be16(data + 4);
		uint8_t flags = data[3];
		struct vc_link_frame f = {.type = data[0] % 12, .channel = data[1] % 5, .session = data[2] % 12, .body = body};
		f.offset = flags & 1 ? UINT64_MAX - offset : flags & 2 ? (uint64_t)offset << 30 : offset;
		data += 8;
		size -= 8;
		f.len = len % sizeof(body) < size ? len % sizeof(body) : (uint32_t)size;
		memcpy(body, data, f.len);
		data += f.len;
		size -= f.len;
		a.now += flags;
		vc_mux_input(a.mux, flags & 4 ? &a : (void *)body, &f, a.now);
		if (flags & 8)
			vc_mux_route_writable(a.mux, &a, a.now);
		if (flags & 16)
			vc_mux_route_down(a.mux, &a, a.now);
		if (flags & 32)
			vc_mux_route_up(a.mux, &a, a.now);
		vc_mux_tick(a.mux, a.now);
	}
	vc_mux_destroy(a.mux);
}

static void fuzz_message(const uint8_t *data, size_t size)
{
	struct vc_execmsg msg = VC_EXECMSG_INIT;
	size_t len;
	if (vc_execmsg_decode((const char *)data, size, &msg, NULL) < 0)
		return;
	free(vc_execmsg_encode(&msg, &len, NULL));
	vc_execmsg_clear(&msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	switch (data[0] % 5) {
	case 0:
		fuzz_bytes(NULL, data + 1, size - 1);
		break;
	case 1:
		fuzz_bytes(BOOT, data + 1, size - 1);
		break;
	case 2:
	case 3:
		fuzz_frames(data[0] % 5 == 3, data + 1, size - 1);
		break;
	default:
		fuzz_message(data + 1, size - 1);
	}
	return 0;
}
