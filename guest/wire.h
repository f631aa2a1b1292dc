// SPDX-License-Identifier: GPL-2.0-or-later
// Link descriptors in a libuv loop: polls each vc_linkio, and keeps its poll events up to date by itself.
//
// A wire owns its linkio and with it the descriptor. Callbacks may call wire_destroy, on their own wire too: the linkio
// lives until the loop has closed the handle.
#ifndef GUEST_WIRE_H
#define GUEST_WIRE_H

#include <uv.h>

#include "libvc/error.h"
#include "libvc/linkio.h"

struct wires; // all wires of one loop
struct wire;

struct wire_ops {
	void (*on_frame)(void *ctx, struct wire *w, struct vc_link_frame *frame);
	void (*on_up)(void *ctx, struct wire *w);	// may be NULL, as all below
	void (*on_down)(void *ctx, struct wire *w);
	void (*on_writable)(void *ctx, struct wire *w);
	// The connection is over (never for a port whose host end went away: it is tried again). Call wire_destroy.
	void (*on_end)(void *ctx, struct wire *w, const struct vc_error *why);
};

struct wires *wires_create(uv_loop_t *loop, struct vc_error *err);
// All wires must have been destroyed; frees itself from the loop.
void wires_destroy(struct wires *ws);

// boot as in vc_link_create. Takes fd, on failure too.
struct wire *wire_create(struct wires *ws, int fd, const char *boot, const struct wire_ops *ops, void *ctx, struct vc_error *err);
void wire_destroy(struct wire *w);

void *wire_ctx(const struct wire *w);
int wire_send(struct wire *w, struct vc_link_frame *frame);	  // as vc_linkio_send
int wire_forward(struct wire *w, struct vc_link_frame *frame); // as vc_linkio_forward
void wire_hello(struct wire *w);			  // as vc_link_hello
size_t wire_queued(const struct wire *w);

#endif
