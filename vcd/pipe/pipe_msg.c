// SPDX-License-Identifier: GPL-2.0-or-later
// Messages of a transfer: see pipe_msg.h.
#include "vcd/pipe/pipe_msg.h"

#include <string.h>

#include "libvc/buf.h"
#include "vcd/image/image_limits.h"

#define HEAD_LEN 11 // type, flags, number of chunks, two lengths
#define FLAG_LIST 1u
#define FLAG_ZSTD 2u

static size_t write_begin(const struct pipe_head *h, uint8_t *buf)
{
	buf[1] = (uint8_t)((h->list ? FLAG_LIST : 0) | (h->zstd ? FLAG_ZSTD : 0));
	buf[2] = (uint8_t)h->n;
	vc_put_be32(buf + 3, h->encoded);
	vc_put_be32(buf + 7, h->raw);
	for (uint32_t i = 0; i < h->n; i++)
		vc_put_be32(buf + HEAD_LEN + 4 * (size_t)i, h->chunk[i]);
	return HEAD_LEN + 4 * (size_t)h->n;
}

size_t pipe_msg_write(const struct pipe_msg *m, uint8_t *buf)
{
	buf[0] = (uint8_t)m->type;
	switch (m->type) {
	case PIPE_BEGIN:
		return write_begin(&m->head, buf);
	case PIPE_PIECE:
		memcpy(buf + 1, m->data, m->len);
		return 1 + m->len;
	case PIPE_ABORT:
		buf[1] = m->bad;
		return 2;
	case PIPE_LACK:
		vc_put_be32(buf + 1, m->chunk);
		return 5;
	case PIPE_WANT:
		vc_put_be32(buf + 1, m->chunk);
		memcpy(buf + 5, m->data, m->len);
		return 5 + m->len;
	case PIPE_TICK:
	case PIPE_END:
		vc_put_be32(buf + 1, m->count);
		return 5;
	case PIPE_LIST:
	case PIPE_SLOW:
		break;
	}
	return 1;
}

static int check_head(const struct pipe_head *h, struct vc_error *err)
{
	uint32_t raw_max = h->list ? PIPE_LIST_MAX : h->n * IMAGE_CHUNK;
	bool sizes = h->list ? h->raw && h->raw <= raw_max && h->n == 0 : h->n && h->raw == raw_max;
	if (!sizes || !h->encoded || h->encoded > h->raw || (!h->zstd && h->encoded != h->raw) || (!h->list && !h->zstd && h->n != 1))
		return vc_error_set(err, VC_EPROTO, "a frame of %u chunks with %u bytes out of %u", h->n, h->encoded, h->raw);
	for (uint32_t i = 1; i < h->n; i++) {
		if (h->chunk[i] <= h->chunk[i - 1])
			return vc_error_set(err, VC_EPROTO, "a frame whose chunks are not in order");
	}
	return 0;
}

static int parse_begin(const uint8_t *body, size_t len, struct pipe_head *h, struct vc_error *err)
{
	if (len < HEAD_LEN || body[2] > PIPE_FRAME_CHUNKS || len != HEAD_LEN + 4 * (size_t)body[2])
		return vc_error_set(err, VC_EPROTO, "a frame's head of %zu bytes", len);
	*h = (struct pipe_head){.list = body[1] & FLAG_LIST, .zstd = body[1] & FLAG_ZSTD, .n = body[2],
				.encoded = vc_get_be32(body + 3), .raw = vc_get_be32(body + 7)};
	for (uint32_t i = 0; i < h->n; i++)
		h->chunk[i] = vc_get_be32(body + HEAD_LEN + 4 * (size_t)i);
	return check_head(h, err);
}

static int want_len(enum pipe_type type, size_t len, size_t min, size_t max, struct vc_error *err)
{
	if (len >= min && len <= max)
		return 0;
	return vc_error_set(err, VC_EPROTO, "a message '%c' of %zu bytes", (int)type, len);
}

int pipe_msg_parse(const uint8_t *body, size_t len, struct pipe_msg *ret, struct vc_error *err)
{
	if (!len)
		return vc_error_set(err, VC_EPROTO, "an empty message");
	*ret = (struct pipe_msg){.type = body[0]};
	switch (ret->type) {
	case PIPE_BEGIN:
		return parse_begin(body, len, &ret->head, err);
	case PIPE_PIECE:
		ret->data = body + 1;
		ret->len = len - 1;
		return want_len(ret->type, len, 2, 1 + PIPE_PIECE_MAX, err);
	case PIPE_ABORT:
		if (want_len(ret->type, len, 2, 2, err) < 0)
			return -1;
		ret->bad = body[1];
		return 0;
	case PIPE_LACK:
	case PIPE_TICK:
	case PIPE_END:
		if (want_len(ret->type, len, 5, 5, err) < 0)
			return -1;
		ret->chunk = ret->count = vc_get_be32(body + 1);
		return 0;
	case PIPE_WANT:
		if (want_len(ret->type, len, 6, 5 + PIPE_PIECE_MAX, err) < 0)
			return -1;
		ret->chunk = vc_get_be32(body + 1);
		ret->data = body + 5;
		ret->len = len - 5;
		return 0;
	case PIPE_LIST:
	case PIPE_SLOW:
		return want_len(ret->type, len, 1, 1, err);
	}
	return vc_error_set(err, VC_EPROTO, "a message of type %d", (int)body[0]);
}
