// SPDX-License-Identifier: GPL-2.0-or-later
// A frame's content: see pipe_frame.h.
#include "vcd/pipe/pipe_frame.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "libvc/cleanup.h"

#define GROW_MIN (1u << 20) // bytes; a frame of chunks fits at once, a long list grows by doubling

void pipe_frame_clear(struct pipe_frame *f)
{
	free(f->data);
	*f = (struct pipe_frame){.data = NULL};
}

int pipe_frame_compress(const struct pipe_head *head, const uint8_t *raw, struct pipe_frame *ret, struct vc_error *err)
{
	size_t max = (size_t)((uint64_t)head->raw * PIPE_SHRINK_PERCENT / 100);
	uint8_t *data = malloc(ZSTD_compressBound(head->raw));
	if (!data)
		return vc_error_errno(err, "a frame of %u bytes", head->raw);
	size_t n = ZSTD_compress(data, ZSTD_compressBound(head->raw), raw, head->raw, PIPE_ZSTD_LEVEL);
	if (ZSTD_isError(n) || n > max) {
		free(data);
		*ret = (struct pipe_frame){.data = NULL};
		return 0;
	}
	*ret = (struct pipe_frame){.head = *head, .data = data};
	ret->head.zstd = true;
	ret->head.encoded = ret->got = (uint32_t)n;
	return 1;
}

int pipe_frame_raw(const struct pipe_head *head, const uint8_t *raw, struct pipe_frame *ret, struct vc_error *err)
{
	*ret = (struct pipe_frame){.head = *head, .data = malloc(head->raw)};
	if (!ret->data)
		return vc_error_errno(err, "a frame of %u bytes", head->raw);
	memcpy(ret->data, raw, head->raw);
	ret->head.zstd = false;
	ret->head.encoded = ret->got = head->raw;
	return 0;
}

int pipe_frame_open(const struct pipe_frame *f, const uint8_t **ret_raw, uint8_t **buf, struct vc_error *err)
{
	*buf = NULL;
	*ret_raw = f->data;
	if (!f->head.zstd)
		return 0;
	vc_autofree uint8_t *raw = malloc(f->head.raw);
	if (!raw)
		return vc_error_errno(err, "a frame of %u bytes", f->head.raw);
	size_t n = ZSTD_decompress(raw, f->head.raw, f->data, f->head.encoded);
	if (ZSTD_isError(n) || n != f->head.raw)
		return vc_error_set(err, VC_EPROTO, "a frame of %u bytes does not unpack to %u: %s", f->head.encoded, f->head.raw,
				    ZSTD_isError(n) ? ZSTD_getErrorName(n) : "too short");
	*ret_raw = *buf = vc_steal(&raw);
	return 0;
}

static uint32_t capacity(const struct pipe_frame *f, uint32_t need)
{
	uint32_t size = GROW_MIN;
	while (size < need)
		size *= 2;
	return size < f->head.encoded ? size : f->head.encoded;
}

int pipe_frame_add(struct pipe_frame *f, const uint8_t *data, size_t len, struct vc_error *err)
{
	if (len > f->head.encoded - f->got)
		return vc_error_set(err, VC_EPROTO, "more than the %u bytes that a frame was to have", f->head.encoded);
	uint32_t need = f->got + (uint32_t)len, have = f->data ? capacity(f, f->got) : 0;
	if (need > have) {
		uint8_t *more = realloc(f->data, capacity(f, need));
		if (!more)
			return vc_error_errno(err, "a frame of %u bytes", f->head.encoded);
		f->data = more;
	}
	memcpy(f->data + f->got, data, len);
	f->got = need;
	return 0;
}
