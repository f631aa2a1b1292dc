// SPDX-License-Identifier: GPL-2.0-or-later
// The transfers of images that this host takes part in: one per image, whoever asks for it, fetching and serving alike.
//
// Whoever needs an image here says so with transfers_want(); the first one starts a pipeline (vcd/pipe/pipeline.h) along the
// chain of hosts that it names, the others wait for the same. A finished transfer goes on serving its successors. Methods:
// image.pull (a successor asks), host.image (the controller wants it here), image.stage (an admin wants it on hosts).
#ifndef VCD_TRANSFERS_H
#define VCD_TRANSFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"

struct transfer_wish;
struct transfers;
struct vcd;

struct transfer_result {
	uint64_t bytes;	  // that came over the wire
	uint64_t adopted; // bytes that this host had in other images
	uint64_t ms;	  // from the first wish to the publication; 0: it was here already
	uint64_t publish_ms; // of them, since all of it was here
	unsigned bypassed; // predecessors that were lost on the way
};

struct transfer_progress {
	uint64_t bytes, rate; // that came; a second, since the last report
	size_t held, total; // chunks
	const char *from;   // "" none at the moment
};

struct transfer_args {
	const char *digest;
	const char *head;	  // a host that has it, as a rule the controller
	const char *const *hosts; // that want it, this one included
	size_t n_hosts;
	const char *trace;
	void (*progress)(void *ctx, const struct transfer_progress *p); // twice a second; may be NULL
	// Once, from the loop, never from inside transfers_want(). err is NULL when the image is in the store. Dead then.
	void (*done)(void *ctx, const struct transfer_result *result, const struct vc_error *err);
	void *ctx;
};

// fn is called when a copy that was served turned out damaged, after nobody is served from it any more.
void transfers_on_damage(struct transfers *t, void (*fn)(void *ctx, const char *digest), void *ctx);

struct transfers *transfers_create(struct vcd *vcd, struct vc_error *err);
void transfers_stop(struct transfers *t); // done() is not called any more
void transfers_destroy(struct transfers *t);

struct transfer_wish *transfers_want(struct transfers *t, const struct transfer_args *args, struct vc_error *err);
// The same for an image that is here, and of which `damaged` (taken in every case) lacks chunks: they are fetched and written into their place.
// VC_EBUSY: it is just coming.
struct holding;
struct transfer_wish *transfers_repair(struct transfers *t, const struct transfer_args *args, struct holding *damaged, struct vc_error *err);
// done() is not called. A transfer that nobody waits for any more, here or behind, ends, unless it is to go on. NULL is fine.
void transfer_cancel(struct transfer_wish *wish, bool go_on);

#endif
