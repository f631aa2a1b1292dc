// SPDX-License-Identifier: GPL-2.0-or-later
// Link frames (docs/protocol.md, part 2): encoder, incremental parser, and the reset handshake of one end of a link.
//
// Pure: no descriptors, no clock. A link is one of two kinds:
//   stream  a socket (vcexec - vcd, client - vcguestd, vcrsh): epoch 0, no handshake; damage ends the connection;
//           a HELLO that arrives says that the path behind the relay was reset (event VC_LINK_UP): resume the sessions
//   port    virtio-serial: bytes get lost when an end reopens it; HELLO starts each epoch, damage starts a new one
// The parser never copies a body: frames point into its buffer and are valid until the next vc_link_next or _space.
#ifndef LIBVC_LINK_H
#define LIBVC_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "libvc/error.h"

#define VC_LINK_MAGIC 0x56434c01u
#define VC_LINK_HEAD_LEN 32u
#define VC_LINK_TAIL_LEN 8u
#define VC_LINK_BODY_MAX 65536u // bytes of one body; a bigger one would hold up the other sessions of the link
#define VC_LINK_FRAME_MAX (VC_LINK_HEAD_LEN + VC_LINK_BODY_MAX + VC_LINK_TAIL_LEN)
#define VC_LINK_BOOT_LEN 32u	// hex digits of a boot id
#define VC_LINK_HELLO_RETRY_MS 500u // a HELLO without an answer is repeated, then after 1, 2, 4 s: the peer may be booting

enum vc_link_type {
	VC_LINK_HELLO = 1,
	VC_LINK_OPEN,
	VC_LINK_DATA,
	VC_LINK_ACK,
	VC_LINK_EOF,
	VC_LINK_RESUME,
	VC_LINK_RESET,
	VC_LINK_PING,
	VC_LINK_PONG,
};
enum vc_channel { VC_CH_CONTROL, VC_CH_STDIN, VC_CH_STDOUT, VC_CH_STDERR, VC_CH_PMI, VC_CHANNELS };

#define VC_SESSION_RPC 0u		 // vcd <-> vcguestd
#define VC_SESSION_FROM_GUEST (1ull << 63) // set in ids of sessions that a guest starts

struct vc_link_frame {
	uint8_t type;	 // enum vc_link_type
	uint8_t channel; // enum vc_channel
	uint16_t epoch;	 // filled by the parser; the encoder uses the link's own
	uint32_t len;
	uint64_t session;
	uint64_t offset;
	uint8_t *body;
	// VC_LINK_HEAD_LEN bytes before and VC_LINK_TAIL_LEN bytes after the body may be overwritten: the frame can be
	// stamped in place and written as one piece. True for parsed frames (relays) and for the mux's send buffers.
	bool in_place;
};

// CRC-32C, with SSE4.2 where the processor has it. Start with crc 0; calls may be chained.
uint32_t vc_crc32c(uint32_t crc, const void *data, size_t len);
uint32_t vc_crc32c_table(uint32_t crc, const void *data, size_t len); // the portable one

// ---- one end of a link ----
struct vc_link;

enum vc_link_event {
	VC_LINK_NEED,  // read more bytes
	VC_LINK_FRAME, // *frame is for the caller: OPEN, DATA, ACK, EOF, RESUME, RESET
	VC_LINK_UP,    // port: the handshake is done, a new epoch has begun; stream: the relay's other side was reset
	VC_LINK_DOWN,  // port: damage was found or the peer resets: nothing goes through until the next UP
	VC_LINK_DAMAGED, // stream: not a valid frame; close the connection
};

// Takes one whole frame in `n` pieces (one when it could be stamped in place) and writes or copies it before it
// returns. HELLO and PONG come this way too and must not be refused for lack of room. n = 0: a port was reset, drop all
// that still waits to be written.
typedef void vc_link_write_fn(void *ctx, const struct iovec *iov, int n);

// boot: VC_LINK_BOOT_LEN hex digits that change whenever this side lost its sessions; NULL makes a stream link.
struct vc_link *vc_link_create(const char *boot, vc_link_write_fn *write, void *ctx);
void vc_link_destroy(struct vc_link *link);

// Port: says HELLO and begins a new epoch (after opening the port, or to recover). Stream, by a relay: tells the client
// that the path behind was reset.
void vc_link_hello(struct vc_link *link, uint64_t now_ms);
// Repeats an unanswered HELLO; call it every VC_LINK_HELLO_RETRY_MS / 2 or so, then vc_link_next: a frame whose rest does
// not come within a second counts as damage.
void vc_link_tick(struct vc_link *link, uint64_t now_ms);
bool vc_link_is_up(const struct vc_link *link); // stream links always are
const char *vc_link_peer_boot(const struct vc_link *link); // "" before the first UP

// Stamps and writes a frame. -1 (ENOTCONN) while a port link is down.
int vc_link_send(struct vc_link *link, struct vc_link_frame *frame);

// Reading: get space, read(2) into it, commit, then take events until VC_LINK_NEED.
uint8_t *vc_link_space(struct vc_link *link, size_t *ret_len); // at least VC_LINK_BODY_MAX bytes
void vc_link_commit(struct vc_link *link, size_t len);
enum vc_link_event vc_link_next(struct vc_link *link, uint64_t now_ms, struct vc_link_frame *frame);

struct vc_link_stats {
	uint64_t frames_in, frames_out, bytes_in, bytes_out;
	uint64_t resets;  // epochs after the first
	uint64_t skipped; // bytes thrown away while looking for a frame
};
void vc_link_get_stats(const struct vc_link *link, struct vc_link_stats *ret);

#endif
