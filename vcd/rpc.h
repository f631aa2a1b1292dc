// SPDX-License-Identifier: GPL-2.0-or-later
// The method table and one request's life, from its frame to its one reply.
//
// Modules register methods once at creation. A handler runs on the loop thread and must not block. It returns -1 with
// err filled: the caller gets that error. It returns 0: the request is the module's until it replies, exactly once,
// now or later, by rpc_reply(), rpc_reply_error(), rpc_take_connection() or rpc_data_end(); after that the pointer is
// dead. The reply is owed even when the caller went away (it is then dropped); rpc_on_cancel() tells of that early.
// Roles of docs/protocol.md are checked before the handler, except that `owner` needs rpc_caller_may() in the handler,
// which knows the job.
#ifndef VCD_RPC_H
#define VCD_RPC_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <uv.h>

#include "libvc/buf.h"
#include "libvc/error.h"
#include "libvc/limits.h"
#include "libvc/log.h"

struct vcd;
struct rpc;
struct rpc_request;
struct vc_session;

enum rpc_role {
	RPC_ANY,   // authenticated
	RPC_OWNER, // authenticated; the handler asks rpc_caller_may()
	RPC_ADMIN, // admins of vcd.conf and root
	RPC_SLURM, // SlurmUser or root
	RPC_ROOT,
	RPC_PEER, // another vcd, or this one calling itself
};
enum rpc_where {
	RPC_HOST,	// answered by every vcd
	RPC_CONTROLLER, // another vcd forwards it to the controller in the caller's name
};
enum rpc_flags {
	RPC_DATA = 1, // moves DATA frames or the connection itself: is never forwarded
};

struct rpc_method {
	const char *name; // "cluster.show"; must stay valid
	enum rpc_role role;
	enum rpc_where where;
	unsigned flags; // of enum rpc_flags
	int (*handler)(struct rpc_request *req, void *ctx, struct vc_error *err);
};

struct rpc *rpc_create(struct vcd *vcd, struct vc_error *err);
void rpc_destroy(struct rpc *rpc);
// Adds a module's methods; every handler gets ctx. A name that exists already is an error.
int rpc_register(struct rpc *rpc, const struct rpc_method *methods, size_t n, void *ctx, struct vc_error *err);

// The table as JSON: [{method, role, on: "C"|"H"}] by name. A new object, NULL without memory.
struct json_object *rpc_list(const struct rpc *rpc);

// Who asks. For a forwarded request uid is the original caller's, and via names the vcd that passed it on.
struct rpc_caller {
	uid_t uid;
	bool peer;			   // a vcd speaks for itself
	char host[VC_HOSTNAME_MAX + 1];	   // where it comes from, as the handshake proved
	bool forwarded;
};

struct json_object *rpc_params(const struct rpc_request *req); // an object, borrowed
// The parameter `hosts`, one name at least; an array that ends with NULL, the caller's.
int rpc_param_hosts(const struct rpc_request *req, char ***ret, size_t *ret_n, struct vc_error *err);
const char *rpc_method_name(const struct rpc_request *req);
const struct rpc_caller *rpc_caller(const struct rpc_request *req);
bool rpc_caller_may(const struct rpc_request *req, uid_t owner); // the owner, an admin, root or a vcd
bool rpc_caller_is_admin(const struct rpc_request *req);
// As rpc_caller_may(), with a VC_EDENIED that names the job and its owner.
int rpc_require_owner(const struct rpc_request *req, uid_t owner, const char *job, struct vc_error *err);
const char *rpc_trace(const struct rpc_request *req);		     // 16 hex digits, to pass on in peer calls
const struct vc_log_ctx *rpc_log(const struct rpc_request *req);     // for vc_log_ctx()
void rpc_set_job(struct rpc_request *req, const char *job);	     // names the job in that log context, copied

// Each ends the request. result is taken; NULL means {}.
void rpc_reply(struct rpc_request *req, struct json_object *result);
void rpc_reply_error(struct rpc_request *req, const struct vc_error *err);
// For a request under way: params (taken, NULL: {}) get the request's id in "request". Dropped, with one log line, when
// the caller reads so slowly that its queue is full.
void rpc_notify(struct rpc_request *req, const char *method, struct json_object *params);

// Called once, from the loop, when the caller cancels, disconnects, or vcd stops; the reply is still owed (and may be
// sent from inside cb). Called at once when it happened before.
void rpc_on_cancel(struct rpc_request *req, void (*cb)(struct rpc_request *req, void *ctx), void *ctx);
bool rpc_canceled(const struct rpc_request *req);
// The reply for such a callback: VC_ECANCELED.
void rpc_reply_canceled(struct rpc_request *req);
// Answers a request that may have had such a callback, by err where there is one; NULL: nobody waits. result is taken.
static inline void rpc_finish(struct rpc_request *req, struct json_object *result, const struct vc_error *err)
{
	if (req)
		rpc_on_cancel(req, NULL, NULL);
	if (req && !err) {
		rpc_reply(req, result);
		return;
	}
	if (req)
		rpc_reply_error(req, err);
	json_object_put(result);
}

bool rpc_is_local(const struct rpc_request *req); // it came over this host's unix socket
// Where the caller's connection comes from; -1: it is gone, or has no address.
int rpc_caller_address(const struct rpc_request *req, struct sockaddr_storage *ret);

// --- the connection itself (task.attach) ---
// stream: a uv_pipe_t made by malloc(), not reading, now the callee's (uv_close, then free); pending: bytes that came
// after the request, valid during the call: copy them. NULL, NULL when the connection died first.
typedef void (*rpc_taken_fn)(void *ctx, uv_stream_t *stream, struct vc_buf *pending);
// Replies with result, and when that is written calls taken (never from inside). Ends the request. Only on a unix
// socket and with no other request open there: otherwise VC_EPROTO, the request goes on, result is still the caller's.
int rpc_take_connection(struct rpc_request *req, struct json_object *result, rpc_taken_fn taken, void *ctx,
			struct vc_error *err);

// The same for another vcd's connection over TCP: its descriptor (non-blocking) and session, both the callee's. -1, NULL
// when the connection died first.
typedef void (*rpc_session_fn)(void *ctx, int fd, struct vc_session *session);
int rpc_take_session(struct rpc_request *req, struct json_object *result, rpc_session_fn taken, void *ctx, struct vc_error *err);

// --- DATA frames (image.import, task.attach): one request per connection may use them ---
struct rpc_data_ops {
	// One body, len 0 at the stream's end. -1 with err ends the request with that error. May call rpc_data_pause().
	int (*received)(struct rpc_request *req, const uint8_t *data, size_t len, void *ctx, struct vc_error *err);
	// The send queue has drained after rpc_data_send() returned 1.
	void (*drained)(struct rpc_request *req, void *ctx);
};
// Opens the request for DATA frames, in the handler itself (frames may follow the request at once).
int rpc_data_open(struct rpc_request *req, const struct rpc_data_ops *ops, void *ctx, struct vc_error *err);
void rpc_data_pause(struct rpc_request *req);  // no more received() until resume: the peer's socket fills up
void rpc_data_resume(struct rpc_request *req);
// Sends the reply and keeps the request for DATA; rpc_data_end() ends it.
int rpc_data_reply(struct rpc_request *req, struct json_object *result, struct vc_error *err);
// 0: sent or queued; 1: queued, wait for drained(); -1: the connection is gone.
int rpc_data_send(struct rpc_request *req, const void *data, size_t len, struct vc_error *err);
// After rpc_data_reply(): the empty frame and the end; with err the connection closes instead, with that reason.
void rpc_data_end(struct rpc_request *req, const struct vc_error *err);

#endif
