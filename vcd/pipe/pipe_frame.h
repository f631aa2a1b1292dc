// SPDX-License-Identifier: GPL-2.0-or-later
// A frame's content: raw bytes to what travels, and back. Pure.
#ifndef VCD_PIPE_FRAME_H
#define VCD_PIPE_FRAME_H

#include "vcd/pipe/pipe_msg.h"

struct pipe_frame {
	struct pipe_head head;
	uint8_t *data; // head.encoded bytes
	uint32_t got;  // of them, while it arrives
};

void pipe_frame_clear(struct pipe_frame *f);

// 1: raw (head.raw bytes of head's chunks, or the list) is compressed in *ret; 0: it does not shrink, *ret is empty.
int pipe_frame_compress(const struct pipe_head *head, const uint8_t *raw, struct pipe_frame *ret, struct vc_error *err);
int pipe_frame_raw(const struct pipe_head *head, const uint8_t *raw, struct pipe_frame *ret, struct vc_error *err);
// The raw bytes of a complete frame: f's own or *buf (malloc'd, the caller's).
int pipe_frame_open(const struct pipe_frame *f, const uint8_t **ret_raw, uint8_t **buf, struct vc_error *err);

// An arriving frame: memory grows with what comes, not with what is announced.
int pipe_frame_add(struct pipe_frame *f, const uint8_t *data, size_t len, struct vc_error *err);
static inline bool pipe_frame_is_complete(const struct pipe_frame *f)
{
	return f->head.encoded && f->got == f->head.encoded;
}

#endif
