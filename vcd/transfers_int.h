// SPDX-License-Identifier: GPL-2.0-or-later
// What transfers.c (table, wishes, publication), transferdial.c (threads that reach other hosts) and transferrpc.c (methods)
// share.
#ifndef VCD_TRANSFERS_INT_H
#define VCD_TRANSFERS_INT_H

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "vcd/image/digest.h"
#include "vcd/pipe/pipeline.h"
#include "vcd/rpc.h"
#include "vcd/transfers.h"

struct bell;
struct store;

#define TRANSFER_PARK_MS 2000 // a successor's request waits so long for this host to want the image itself: its own request is on its way
#define TRANSFER_PARK_HOST_MS 20 // and so much more for each host of the chain: all of them are told one after another
#define TRANSFER_PARK_MAX_MS 30000
#define TRANSFER_PULL_MS 6000 // for the answer to image.pull, besides what the request waits there

struct parked {
	TAILQ_ENTRY(parked) link;
	struct rpc_request *req;
	uint64_t until;
};

struct transfer_wish {
	TAILQ_ENTRY(transfer_wish) link;
	struct transfer *transfer;
	void (*progress)(void *ctx, const struct transfer_progress *p);
	void (*done)(void *ctx, const struct transfer_result *result, const struct vc_error *err);
	void *ctx;
};

struct transfer {
	LIST_ENTRY(transfer) link;
	struct transfers *owner;
	char digest[DIGEST_HEX_LEN];
	char pin[32];		   // the store's, while the image is served
	struct pipeline *pipeline; // NULL: parked requests only, or the image was here
	TAILQ_HEAD(, transfer_wish) wishes;
	TAILQ_HEAD(, parked) parked;
	uint64_t begun, told, told_bytes, complete_at; // loop time; bytes at the last report
	bool serving;	 // the image is in the store, and pinned
	bool repair;	 // so it is from the beginning
	bool publishing; // in a worker
	bool stopping;
	bool go_on;	 // although nobody waits
	bool told_bad, told_damaged;
	struct transfer_result result;
	struct vc_error error;
};

struct transfers {
	struct vcd *vcd;
	struct store *store;
	LIST_HEAD(, transfer) list;
	struct bell *bell;
	uv_async_t *async;
	uv_timer_t timer;
	bool timer_up, stopped;
	void (*damaged)(void *ctx, const char *digest);
	void *damaged_ctx;
};

struct transfer *transfer_find(struct transfers *t, const char *digest);
struct transfer *transfer_make(struct transfers *t, const char *digest, struct vc_error *err);
int transfer_serve(struct transfer *tr, struct vc_error *err); // the image is in the store
int transfers_methods_register(struct transfers *t, struct vc_error *err);
void transfer_accept_parked(struct transfer *tr);
void transfer_drop_parked(struct transfer *tr, uint64_t now); // past their time; UINT64_MAX: all

// transferdial.c: what a pipeline's threads use, all of it copied at creation.
extern const struct pipeline_ops transfer_dial_ops;
struct dialer;
struct dialer *dialer_create(struct transfers *t, const char *digest, const char *trace, const char *const *hosts, size_t n,
			     struct vc_error *err);
void dialer_destroy(struct dialer *d);
// Rings the loop from any thread; silent after bell_stop().
struct bell *bell_create(uv_async_t *async);
struct bell *bell_ref(struct bell *b);
void bell_stop(struct bell *b);
void bell_unref(struct bell *b);

#endif
