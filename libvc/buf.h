// SPDX-License-Identifier: GPL-2.0-or-later
// A growable byte buffer with a cap: bytes are appended at the end and consumed from the front.
//
// Owns its memory. An append past the cap or without memory fails and leaves the buffer as it was.
#ifndef LIBVC_BUF_H
#define LIBVC_BUF_H

#include <stddef.h>
#include <stdint.h>

struct vc_buf {
	uint8_t *data; // start of the allocation
	size_t off;    // first unconsumed byte
	size_t len;    // unconsumed bytes
	size_t alloc;  // bytes allocated
	size_t cap;    // most bytes that len may reach; 0: no cap
};

#define VC_BUF_INIT(max) ((struct vc_buf){.cap = (max)})

void vc_buf_clear(struct vc_buf *b); // frees the memory, keeps the cap
static inline uint8_t *vc_buf_head(const struct vc_buf *b)
{
	return b->data + b->off;
}
int vc_buf_append(struct vc_buf *b, const void *data, size_t len);
// Room for len more bytes at the end; NULL when over the cap. vc_buf_commit() makes written bytes count.
uint8_t *vc_buf_reserve(struct vc_buf *b, size_t len);
void vc_buf_commit(struct vc_buf *b, size_t len);
void vc_buf_consume(struct vc_buf *b, size_t len);

#define vc_autobuf __attribute__((cleanup(vc_buf_clear)))

// Big-endian integers at any alignment.
static inline void vc_put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void vc_put_be32(uint8_t *p, uint32_t v)
{
	vc_put_be16(p, (uint16_t)(v >> 16));
	vc_put_be16(p + 2, (uint16_t)v);
}
static inline void vc_put_be64(uint8_t *p, uint64_t v)
{
	vc_put_be32(p, (uint32_t)(v >> 32));
	vc_put_be32(p + 4, (uint32_t)v);
}
static inline uint16_t vc_get_be16(const uint8_t *p)
{
	return (uint16_t)((uint16_t)p[0] << 8 | p[1]);
}
static inline uint32_t vc_get_be32(const uint8_t *p)
{
	return (uint32_t)vc_get_be16(p) << 16 | vc_get_be16(p + 2);
}
static inline uint64_t vc_get_be64(const uint8_t *p)
{
	return (uint64_t)vc_get_be32(p) << 32 | vc_get_be32(p + 4);
}

#endif
