// SPDX-License-Identifier: GPL-2.0-or-later
// Calls to other vcds: one sealed session per host, opened when first needed, reopened with backoff, bounded queue.
//
// A call always ends in done(), on the loop thread and never from inside peer_call(): with the result, the error that
// the other vcd answered, VC_ETIMEDOUT at its deadline, VC_EBUSY when the queue is full, VC_EHOST when the host cannot
// be reached or the session broke (the call may or may not have run there: methods are idempotent, and `again` repeats it). A call to the own
// host runs through the local table with the same checks. Bulk data does not go this way: a worker uses libvc/client.
#ifndef VCD_PEER_H
#define VCD_PEER_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "libvc/error.h"

struct vcd;
struct peers;
struct peer_call;

// result and err are borrowed; exactly one is not NULL. The handle is dead when done() begins.
typedef void (*peer_done_fn)(void *ctx, struct json_object *result, const struct vc_error *err);
typedef void (*peer_notify_fn)(void *ctx, const char *method, struct json_object *params);

struct peer_args {
	const char *host;	    // Slurm node name, copied
	const char *method;	    // copied
	struct json_object *params; // borrowed (a reference is kept while needed); NULL: {}; must not be changed after
	uint64_t timeout_ms;	    // whole call, connecting included; 0 is not allowed
	const char *trace;	    // of the request that causes this one (rpc_trace), copied; NULL: a new one
	bool forward;		    // in the name of as_uid instead of this vcd's own
	uid_t as_uid;
	bool again;		    // sent again when the session broke: the other vcd may have been restarted
	peer_notify_fn notify; // may be NULL
	peer_done_fn done;
	void *ctx;
};

struct peers *peers_create(struct vcd *vcd, struct vc_error *err);
// Fails all calls with VC_ECANCELED, closes all sessions; handles close in the loop's next turns.
void peers_stop(struct peers *peers);
void peers_destroy(struct peers *peers); // after the loop has run dry

// NULL only without memory or with wrong arguments (then done() is not called).
struct peer_call *peer_call(struct peers *peers, const struct peer_args *args, struct vc_error *err);
// The other side is told, and done() is not called. NULL is fine.
void peer_cancel(struct peer_call *call);

// Where the open session with a host goes to; -1: there is none.
int peer_session_address(const struct peers *peers, const char *host, struct sockaddr_storage *ret);
// To the active controller of vcd.conf.
const char *peers_controller(const struct peers *peers);
// "host" or "host = address:port" of vcd.conf's hosts: what to connect to (for blocking clients in workers).
int peer_address(const struct peers *peers, const char *host, char *ret_addr, size_t len, int *ret_port,
		 struct vc_error *err);

#endif
