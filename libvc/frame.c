// SPDX-License-Identifier: GPL-2.0-or-later
// Control frames: see frame.h. Owns nothing.
#include "libvc/frame.h"

#include <string.h>

size_t vc_frame_max(unsigned type)
{
	switch (type) {
	case VC_FRAME_HELLO:
	case VC_FRAME_BYE:
		return VC_FRAME_HANDSHAKE_MAX;
	case VC_FRAME_RPC:
	case VC_FRAME_DATA:
		return VC_RPC_BODY_MAX;
	case VC_FRAME_SEALED:
		return VC_RPC_BODY_MAX + VC_FRAME_SEAL_OVERHEAD;
	default:
		return 0;
	}
}

int vc_frame_append(struct vc_buf *out, enum vc_frame_type type, const void *body, size_t len, struct vc_error *err)
{
	if (len > vc_frame_max(type))
		return vc_error_set(err, VC_EPROTO, "a frame of %zu bytes is more than %zu", len, vc_frame_max(type));
	uint8_t *p = vc_buf_reserve(out, VC_FRAME_HEADER_LEN + len);
	if (!p)
		return vc_error_errno(err, "frame of %zu bytes", len);
	vc_put_be32(p, VC_FRAME_MAGIC);
	p[4] = (uint8_t)type;
	p[5] = 0;
	vc_put_be16(p + 6, VC_FRAME_VERSION);
	vc_put_be32(p + 8, (uint32_t)len);
	if (len)
		memcpy(p + VC_FRAME_HEADER_LEN, body, len);
	vc_buf_commit(out, VC_FRAME_HEADER_LEN + len);
	return 0;
}

int vc_frame_peek(const struct vc_buf *in, size_t max_len, struct vc_frame *ret, struct vc_error *err)
{
	const uint8_t *p = vc_buf_head(in);
	if (in->len < VC_FRAME_HEADER_LEN)
		return 0;
	if (vc_get_be32(p) != VC_FRAME_MAGIC)
		return vc_error_set(err, VC_EPROTO, "this is not the protocol of vcd (magic %08x)", vc_get_be32(p));
	size_t limit = vc_frame_max(p[4]);
	if (limit == 0)
		return vc_error_set(err, VC_EPROTO, "unknown frame type %u", p[4]);
	size_t len = vc_get_be32(p + 8);
	if (max_len && max_len < limit)
		limit = max_len;
	if (len > limit)
		return vc_error_set(err, VC_EPROTO, "a frame of %zu bytes is more than %zu", len, limit);
	uint16_t version = vc_get_be16(p + 6);
	if (version >> 8 != VC_FRAME_VERSION >> 8)
		return vc_error_set(err, VC_EPROTO, "protocol version %u.%u, but this side speaks %u.%u: upgrade the older one",
				    version >> 8, version & 0xff, VC_FRAME_VERSION >> 8, VC_FRAME_VERSION & 0xff);
	if (in->len < VC_FRAME_HEADER_LEN + len)
		return 0;
	*ret = (struct vc_frame){.type = p[4], .version = version, .body = p + VC_FRAME_HEADER_LEN, .len = len};
	return 1;
}
