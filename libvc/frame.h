// SPDX-License-Identifier: GPL-2.0-or-later
// Control frames (docs/protocol.md, part 1): header encoding and an incremental parser over a struct vc_buf. Pure.
#ifndef LIBVC_FRAME_H
#define LIBVC_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "libvc/buf.h"
#include "libvc/error.h"
#include "libvc/limits.h"

#define VC_FRAME_MAGIC 0x5643460au // "VCF\n"
#ifndef VC_FRAME_VERSION		   // the test of an upgrade has a vcd with the next minor
#define VC_FRAME_VERSION 0x0100u   // major in the high byte
#endif
#define VC_FRAME_HANDSHAKE_MAX (64u << 10) // bytes of HELLO and BYE: a credential and some names
#define VC_FRAME_SEAL_OVERHEAD (VC_FRAME_HEADER_LEN + 17u) // inner header and the seal of secretstream

enum vc_frame_type {
	VC_FRAME_HELLO = 1,
	VC_FRAME_RPC = 2,
	VC_FRAME_SEALED = 3,
	VC_FRAME_DATA = 4,
	VC_FRAME_BYE = 5,
};

struct vc_frame {
	enum vc_frame_type type;
	uint16_t version;
	const uint8_t *body; // inside the buffer, valid until it changes
	size_t len;
};

// Largest body of a type in bytes; 0 for an unknown one.
size_t vc_frame_max(unsigned type);
// Appends one frame. ENOBUFS/ENOMEM as vc_buf_append; a body over the type's limit is VC_EPROTO.
int vc_frame_append(struct vc_buf *out, enum vc_frame_type type, const void *body, size_t len, struct vc_error *err);
// Looks at the front of in: 1 and *ret filled, 0 when bytes are missing, -1 when the bytes are no frame of this
// protocol. Consumes nothing; `max_len` bounds the body further (0: only the type's limit).
int vc_frame_peek(const struct vc_buf *in, size_t max_len, struct vc_frame *ret, struct vc_error *err);
static inline size_t vc_frame_size(const struct vc_frame *f)
{
	return VC_FRAME_HEADER_LEN + f->len;
}

#endif
