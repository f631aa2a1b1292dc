// SPDX-License-Identifier: GPL-2.0-or-later
// A link on a descriptor in the loop: libvc/linkio driven by uv_poll. Used for guests' links and for tasks' connections.
//
// Callbacks may call anything here, pollio_close included: it takes effect when they have returned. No callback comes
// after pollio_close(). A link that broke is closed by itself; `broken` is then the last callback.
#ifndef VCD_POLLIO_H
#define VCD_POLLIO_H

#include <stdbool.h>
#include <uv.h>

#include "libvc/error.h"
#include "libvc/linkio.h"

struct pollio;

struct pollio_ops {
	void (*frame)(void *ctx, struct vc_link_frame *frame);
	void (*up)(void *ctx);
	void (*down)(void *ctx);
	void (*writable)(void *ctx); // after a refused frame: there is room again
	void (*written)(void *ctx);  // the queue has become shorter; may be NULL
	void (*broken)(void *ctx, const struct vc_error *err);
};

// boot as in vc_linkio_create(). Takes the descriptor, on failure too.
struct pollio *pollio_create(uv_loop_t *loop, int fd, const char *boot, const struct pollio_ops *ops, void *ctx,
			     struct vc_error *err);
void pollio_close(struct pollio *io); // NULL is fine; the memory goes in the loop's next turn

void pollio_pause(struct pollio *io, bool pause); // no reading
void pollio_hello(struct pollio *io);		  // see vc_link_hello()
void pollio_tick(struct pollio *io);		  // a few times a second; also takes bytes that were committed by hand
int pollio_send(struct pollio *io, struct vc_link_frame *frame);    // see vc_linkio_send()
int pollio_forward(struct pollio *io, struct vc_link_frame *frame); // see vc_linkio_forward()
size_t pollio_queued(const struct pollio *io);
bool pollio_is_up(const struct pollio *io);
struct vc_link *pollio_link(struct pollio *io);

#endif
