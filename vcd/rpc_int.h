// SPDX-License-Identifier: GPL-2.0-or-later
// What rpc.c (table, dispatch, replies), wire.c (requests of a connection) and peer.c (calls to oneself) share.
#ifndef VCD_RPC_INT_H
#define VCD_RPC_INT_H

#include <sys/queue.h>

#include "libvc/message.h"
#include "vcd/rpc.h"

#define RPC_OPEN_MAX 64	       // requests under way of one client connection, docs/protocol.md
#define RPC_OPEN_MAX_PEER 4096 // of another vcd, which bundles its users' requests

struct wire;

// Where a request came from; each gets the request's own `origin`. origin is NULL after it went away.
struct rpc_origin_ops {
	void (*reply)(struct rpc_request *req, struct json_object *result, const struct vc_error *err); // both borrowed
	void (*notify)(struct rpc_request *req, const char *method, struct json_object *params); // borrowed
	void (*ended)(struct rpc_request *req); // just before it is freed
};

struct rpc_request {
	LIST_ENTRY(rpc_request) link; // in rpc->open
	struct rpc *rpc;
	const struct rpc_method *method;
	void *method_ctx;
	const struct rpc_origin_ops *ops;
	void *origin;
	struct wire *wire; // origin as a connection, for DATA and taking over; NULL: none, or gone
	uint64_t id;	   // on the wire
	struct json_object *params;
	struct rpc_caller caller;
	char trace[VC_TRACE_LEN + 1];
	char *job;
	struct vc_log_ctx log;
	uint64_t started_ms;
	void (*cancel)(struct rpc_request *req, void *ctx);
	void *cancel_ctx;
	bool canceled, stop_told;
	struct peer_call *forward; // the call that answers it, when this vcd is not the controller
	const struct rpc_data_ops *data_ops;
	void *data_ctx;
	bool data_out; // rpc_data_reply() was called
	bool data_in_ended;
};

struct rpc_call {
	const char *method;
	struct json_object *params; // may be NULL
	const char *trace;	    // "" makes one
	uint64_t id;
	struct rpc_caller caller;
	const struct rpc_origin_ops *ops;
	void *origin;
	struct wire *wire;
};

// Looks the method up, checks the role, runs or forwards. *ret_req is set before the handler runs, and may be dead when
// this returns 0. -1 with err: there is no request, the origin replies itself.
int rpc_dispatch(struct rpc *rpc, const struct rpc_call *call, struct rpc_request **ret_req, struct vc_error *err);
// The origin goes away: all its requests are canceled, their replies dropped.
void rpc_origin_gone(struct rpc *rpc, void *origin);
struct rpc_request *rpc_find(struct rpc *rpc, void *origin, uint64_t id);
void rpc_cancel(struct rpc_request *req);
void rpc_cancel_all(struct rpc *rpc); // vcd stops
void rpc_end(struct rpc_request *req); // frees it: the reply is on its way
struct vcd *rpc_vcd(struct rpc *rpc);

// wire.c: one accepted connection
struct conn;
struct wire *wire_create(struct vcd *vcd, struct vc_error *err);
void wire_destroy(struct wire *wire); // one that was never attached
void wire_attach(struct wire *wire, struct conn *conn);
void wire_start(struct wire *wire, struct conn *conn); // attach, and let it read
extern const struct conn_ops wire_conn_ops; // ctx: the wire
void wire_set_closed(struct wire *wire, void (*closed)(void *ctx), void *ctx);
void wire_close(struct wire *wire, const struct vc_error *why); // closed() is called from inside
uid_t wire_uid(const struct wire *wire); // after authentication; (uid_t)-1 before

#endif
