// SPDX-License-Identifier: GPL-2.0-or-later
// Messages of a transfer (docs/protocol.md, part 6): each is the body of one DATA frame of a sealed session. Pure.
//
// A frame carries the chunk list, one chunk as it is, or some chunks compressed together. It is announced by BEGIN and
// follows in PIECEs of at most PIPE_PIECE_MAX bytes, in order, with no other frame in between.
#ifndef VCD_PIPE_MSG_H
#define VCD_PIPE_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/pipe/pipe_limits.h"

enum pipe_type {
	PIPE_BEGIN = 'B', // sender
	PIPE_PIECE = 'P',
	PIPE_ABORT = 'X', // the frame under way, or the last one: forget it
	PIPE_LACK = 'L',  // a chunk that was asked for cannot be had here
	PIPE_END = 'E',	  // all that was asked for has been sent
	PIPE_SLOW = 'S',  // the receiver is slower than a host may be that others stand behind: to the tail with it
	PIPE_LIST = 'G',  // receiver: send the chunk list
	PIPE_WANT = 'W',  // these chunks as well
	PIPE_TICK = 'T',  // both: still here
};

struct pipe_head { // of a frame
	bool list, zstd;
	uint32_t encoded, raw; // bytes
	uint32_t n;	       // chunks, 0 for the list
	uint32_t chunk[PIPE_FRAME_CHUNKS];
};

struct pipe_msg {
	enum pipe_type type;
	struct pipe_head head;	       // BEGIN
	const uint8_t *data;	       // PIECE: bytes; WANT: bits, lowest first
	size_t len;		       // of data, bytes
	uint32_t chunk;		       // LACK; WANT: of the first bit
	bool bad;		       // ABORT: its bytes were wrong when they came (false: the source is gone)
	uint32_t count;		       // TICK: chunks that the speaker holds; END: WANTs that it has seen
};

#define PIPE_MSG_MAX (PIPE_PIECE_MAX + 8) // bytes of one message

// Into buf of PIPE_MSG_MAX; the length.
size_t pipe_msg_write(const struct pipe_msg *m, uint8_t *buf);
// *ret points into body. Checks every length, and that a head makes sense by itself.
int pipe_msg_parse(const uint8_t *body, size_t len, struct pipe_msg *ret, struct vc_error *err);

#endif
