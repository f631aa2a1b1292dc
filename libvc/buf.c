// SPDX-License-Identifier: GPL-2.0-or-later
// Byte buffer: see buf.h.
#include "libvc/buf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUF_MIN_ALLOC 256 // bytes; below this, growing costs more than it saves

void vc_buf_clear(struct vc_buf *b)
{
	int saved = errno;
	free(b->data);
	*b = VC_BUF_INIT(b->cap);
	errno = saved;
}

static int buf_grow(struct vc_buf *b, size_t need)
{
	size_t alloc = b->alloc ? b->alloc : BUF_MIN_ALLOC;
	while (alloc < need) {
		if (__builtin_mul_overflow(alloc, 2, &alloc))
			return -1;
	}
	uint8_t *data = realloc(b->data, alloc);
	if (!data)
		return -1;
	b->data = data;
	b->alloc = alloc;
	return 0;
}

uint8_t *vc_buf_reserve(struct vc_buf *b, size_t len)
{
	size_t total;
	if (__builtin_add_overflow(b->len, len, &total) || (b->cap && total > b->cap)) {
		errno = ENOBUFS;
		return NULL;
	}
	if (b->off + total > b->alloc && b->off > 0) {
		memmove(b->data, b->data + b->off, b->len);
		b->off = 0;
	}
	if ((!b->data || total > b->alloc) && buf_grow(b, total ? total : 1) < 0) {
		errno = ENOMEM;
		return NULL;
	}
	return b->data + b->off + b->len;
}

void vc_buf_commit(struct vc_buf *b, size_t len)
{
	b->len += len;
}

int vc_buf_append(struct vc_buf *b, const void *data, size_t len)
{
	uint8_t *room = vc_buf_reserve(b, len);
	if (!room)
		return -1;
	if (len)
		memcpy(room, data, len);
	b->len += len;
	return 0;
}

void vc_buf_consume(struct vc_buf *b, size_t len)
{
	b->off += len;
	b->len -= len;
	if (b->len == 0)
		b->off = 0;
}
