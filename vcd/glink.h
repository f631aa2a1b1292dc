// SPDX-License-Identifier: GPL-2.0-or-later
// The link of one guest, with all that travels on it: the unix socket of its virtio-serial port, kept open, or the vsock
// connection that the guest makes.
//
// Session 0 is the RPC with vcguestd. Sessions with VC_SESSION_FROM_GUEST go to the sink (gslurm). All others are
// relayed frame by frame to the route that a task registered; no stream state is kept here. The guest is hostile:
// frames and messages are bounded, and what fits nothing is dropped.
#ifndef VCD_GLINK_H
#define VCD_GLINK_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "libvc/error.h"
#include "libvc/link.h"

#define GLINK_MESSAGE_MAX (1u << 20)	// bytes of one RPC message from a guest; its hello and answers are small
#define GLINK_CALLS_MAX 16u		// our requests under way to one guest
#define GLINK_ROUTES_MAX 1024u		// task sessions of one guest
#define GLINK_RELAY_MAX (1u << 20)	// bytes waiting for a guest before its clients are not read any more
#define GLINK_TAKE_MS 100u		// between two connections that a guest makes
#define GLINK_RECONNECT_MS 100u		// QEMU's socket exists from the domain's start; this is for a broken connection

struct glink;

struct glink_ops {
	void (*hello)(void *ctx, struct json_object *params); // vcguestd is there (again); calls may be made
	void (*load)(void *ctx, struct json_object *params);  // guest.load; may be NULL
	void (*resize)(void *ctx, struct json_object *params); // guest.resize; may be NULL
	void (*down)(void *ctx);			      // the link was lost; it is being reopened
};

// Where a task's frames go. Intrusive and owned by the task.
struct glink_route {
	uint64_t session;
	void (*frame)(struct glink_route *route, struct vc_link_frame *frame);
	void (*up)(struct glink_route *route);	  // a new epoch: sessions resume
	void (*drained)(struct glink_route *route); // there is room again after glink_blocked()
	void (*gone)(struct glink_route *route, const char *code, const char *message); // the guest is; already removed
	struct glink_route *next;
};

// Sessions that the guest starts.
struct glink_sink {
	void (*frame)(void *ctx, struct glink *g, struct vc_link_frame *frame);
	void (*down)(void *ctx, struct glink *g);
	void (*writable)(void *ctx, struct glink *g);
	void *ctx;
};

struct glink *glink_create(uv_loop_t *loop, const char *path, const char *name, const struct glink_ops *ops, void *ctx,
			   struct vc_error *err);
// A connection that the guest made itself (vsock); takes fd. It replaces the one there is; while it lasts, the unix socket
// is left alone. One that comes at once after another is closed: a guest may not keep us busy with it.
void glink_take(struct glink *g, int fd);
// Fails calls with VC_ECANCELED, tells the routes code and message, closes. The memory goes in the loop's next turns.
void glink_close(struct glink *g, const char *code, const char *message);
void glink_set_sink(struct glink *g, const struct glink_sink *sink); // copied
bool glink_is_up(const struct glink *g);
// Milliseconds since the guest was last heard of through an open link; 0 while it is up.
uint64_t glink_down_ms(const struct glink *g);

typedef void (*glink_done_fn)(void *ctx, struct json_object *result, const struct vc_error *err);
// A request to vcguestd. params is taken. done is called once, never from inside, unless -1 is returned.
int glink_call(struct glink *g, const char *method, struct json_object *params, uint64_t timeout_ms, glink_done_fn done,
	       void *ctx, struct vc_error *err);

int glink_route_add(struct glink *g, struct glink_route *route, struct vc_error *err);
void glink_route_remove(struct glink *g, struct glink_route *route);
struct glink_route *glink_route_find(struct glink *g, uint64_t session);
// A relayed frame. -1 while the link is down: sessions resume later.
int glink_forward(struct glink *g, struct vc_link_frame *frame);
// A frame of the host's own; bounded: -1 EAGAIN, then sink's writable.
int glink_send(struct glink *g, struct vc_link_frame *frame);
bool glink_blocked(struct glink *g); // stop reading what would be relayed

struct glink_counts {
	uint64_t frames_in, frames_out, resets;
	unsigned routes, calls;
};
struct glink_counts glink_counts(const struct glink *g);

#endif
