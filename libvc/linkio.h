// SPDX-License-Identifier: GPL-2.0-or-later
// A link on a descriptor: reads and parses, writes with a bounded queue. Fits poll(2) and uv_poll alike.
//
// Owns the descriptor (made non-blocking) and the queue. Callbacks may call anything but vc_linkio_destroy. A frame is
// refused with EAGAIN while the queue is over its limit (the mux keeps what it could not send); on_writable follows.
// For virtio-serial ports one more thing: a guest whose host end is closed sees POLLHUP for ever. vc_linkio_ready then
// returns -1 with ENOTCONN and keeps the descriptor: stop polling, call vc_linkio_retry from a timer (50 ms) until it says 1.
#ifndef LIBVC_LINKIO_H
#define LIBVC_LINKIO_H

#include "libvc/link.h"

#define VC_LINKIO_QUEUE_MAX (256u << 10) // bytes that wait in user space before frames are refused
#define VC_LINKIO_QUEUE_HARD (8u << 20)	 // a relay forwards past the soft limit, credit bounds it; past this the peer is cut off

struct vc_linkio;

struct vc_linkio_ops {
	void (*on_frame)(void *ctx, struct vc_link_frame *frame);
	void (*on_up)(void *ctx);   // see VC_LINK_UP
	void (*on_down)(void *ctx); // see VC_LINK_DOWN
	void (*on_writable)(void *ctx); // after a refused frame: there is room again
};

// boot as in vc_link_create. Takes the descriptor, on failure too. A port says HELLO at once.
struct vc_linkio *vc_linkio_create(int fd, const char *boot, const struct vc_linkio_ops *ops, void *ctx, uint64_t now_ms,
				   struct vc_error *err);
void vc_linkio_destroy(struct vc_linkio *io); // closes the descriptor

int vc_linkio_fd(const struct vc_linkio *io);
short vc_linkio_events(const struct vc_linkio *io); // POLLIN, and POLLOUT while the queue is not empty
struct vc_link *vc_linkio_link(struct vc_linkio *io);

// Handles revents. -1: end of file, an error or a damaged stream: destroy it (or ENOTCONN, see above).
int vc_linkio_ready(struct vc_linkio *io, short revents, uint64_t now_ms, struct vc_error *err);
// Bytes that were read from the descriptor before it became a link's. -1 as above.
int vc_linkio_feed(struct vc_linkio *io, const void *data, size_t len, uint64_t now_ms, struct vc_error *err);
// A port after ENOTCONN: 1 when the host's end is there again (and HELLO was said), else 0.
int vc_linkio_retry(struct vc_linkio *io, uint64_t now_ms);
void vc_linkio_tick(struct vc_linkio *io, uint64_t now_ms); // a few times a second

// 0, or -1: EAGAIN (not taken), ENOTCONN (port is down), EPIPE (broken: the next vc_linkio_ready says so).
int vc_linkio_send(struct vc_linkio *io, struct vc_link_frame *frame);
// For relays: as send, but refuses only past VC_LINKIO_QUEUE_HARD.
int vc_linkio_forward(struct vc_linkio *io, struct vc_link_frame *frame);
size_t vc_linkio_queued(const struct vc_linkio *io);

#endif
