// SPDX-License-Identifier: GPL-2.0-or-later
// The blocking client of vcd for tools and plugins: connect, call, receive notifications, exchange DATA frames.
//
// One thread per client. Every call has a limit in milliseconds and fails with VC_ETIMEDOUT past it. After VC_EPROTO,
// VC_ETIMEDOUT or a lost connection (VC_ECANCELED) the client is only good for vc_client_destroy(). An error that vcd
// answered with keeps its code (VC_EUSER, VC_EDENIED, VC_ESTALE...) and text, and the client stays usable.
#ifndef LIBVC_CLIENT_H
#define LIBVC_CLIENT_H

#include <json-c/json.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/buf.h"
#include "libvc/error.h"
#include "libvc/limits.h"

struct vc_client;
struct vc_session;

#define VC_CLIENT_CONNECT_MS 10000 // ms to connect and authenticate; munge answers in one, a loaded host in hundreds

// What a caller may set; NULL or zero members take the default in the comment.
struct vc_client_opts {
	const char *path;	  // unix socket; VC_SOCKET_PATH
	const char *munge_socket; // munge's own default
	const char *host;	  // own host name as the server will log it; gethostname
	uint64_t timeout_ms;	  // to connect and authenticate; VC_CLIENT_CONNECT_MS
	uid_t server_uid;	  // TCP: the uid that the other vcd must have; 0, root
	bool peer;		  // TCP: role peer (needs vcd's own uid); a client otherwise
	const char *server_host;  // TCP: name of the host that must answer; any
};

// To the vcd of this host, or another one over TCP (sealed). opts may be NULL.
// No vcd there is errno's code (ENOENT, ECONNREFUSED) with a text that says what to do.
struct vc_client *vc_client_connect(const struct vc_client_opts *opts, struct vc_error *err);
struct vc_client *vc_client_connect_tcp(const char *host, int port, const struct vc_client_opts *opts, struct vc_error *err);
void vc_client_destroy(struct vc_client *c);
const char *vc_client_server_host(const struct vc_client *c);
int vc_client_fd(const struct vc_client *c); // to add to one's own poll(); do not read or write it
// 16 hex digits that all requests of this client carry; made at connect, or set here from a job's own trace.
const char *vc_client_trace(const struct vc_client *c);
void vc_client_set_trace(struct vc_client *c, const char *trace);

// A notification of the call under way. params are borrowed. Non-zero gives the call up (VC_ECANCELED).
typedef int (*vc_client_notify_fn)(void *ctx, const char *method, struct json_object *params);

// One call; params are borrowed (NULL: {}), *ret_result is the caller's (json_object_put), ret_result may be NULL.
// timeout_ms counts from the last sign of life of this call: its start or a notification.
int vc_client_call(struct vc_client *c, const char *method, struct json_object *params, uint64_t timeout_ms,
		   vc_client_notify_fn notify, void *ctx, struct json_object **ret_result, struct vc_error *err);

// The two halves of a call, for DATA frames in between (image.import): start, send..., finish.
int vc_client_start(struct vc_client *c, const char *method, struct json_object *params, uint64_t timeout_ms,
		    struct vc_error *err);
int vc_client_finish(struct vc_client *c, uint64_t timeout_ms, vc_client_notify_fn notify, void *ctx,
		     struct json_object **ret_result, struct vc_error *err);

#define VC_CLIENT_DATA_MAX (256u << 10) // bytes of one DATA body that senders use; larger buys nothing on a pipe

// One DATA frame; len 0 ends the stream. -1 with VC_ECANCELED and "answered early" when vcd already replied:
// vc_client_finish() then tells why.
int vc_client_send_data(struct vc_client *c, const void *data, size_t len, uint64_t timeout_ms, struct vc_error *err);
// Replaces the contents of *body by the next DATA frame's; an empty body is the end of the stream.
int vc_client_recv_data(struct vc_client *c, struct vc_buf *body, uint64_t timeout_ms, struct vc_error *err);

// After task.attach: gives away the unix socket (non-blocking) and the bytes read past the reply; the client is
// destroyed. Fails, and keeps the client, on TCP.
int vc_client_take_fd(struct vc_client *c, int *ret_fd, struct vc_buf *pending, struct vc_error *err);

// After a call by which the other vcd gave its end away (image.pull): the descriptor (non-blocking) and the session, with
// what was read past the reply; the client is destroyed.
void vc_client_take_session(struct vc_client *c, int *ret_fd, struct vc_session **ret_session);

// After task.attach over TCP: carries bytes between fd (a non-blocking stream) and the DATA frames of the connection
// until one side ends; what the other side is still owed is sent first. 0, or -1 when the connection broke. *sent (may be
// NULL) grows by what came from fd. With a gate (may be NULL) fd is read piece by piece, each when the gate has told how long it is.
#define VC_RELAY_HEAD 8u // bytes that a gate sees
#define VC_RELAY_END SIZE_MAX
struct vc_relay_gate {
	// Of what begins with these n bytes: the length of what may go on; 0: not yet, it is asked again within milliseconds;
	// VC_RELAY_END: never, the stream ends before it.
	size_t (*pass)(void *ctx, const uint8_t *head, size_t n);
	void *ctx;
};
int vc_client_relay(struct vc_client *c, int fd, atomic_ullong *sent, const struct vc_relay_gate *gate, struct vc_error *err);

static inline void vc_client_cleanup(struct vc_client **c)
{
	vc_client_destroy(*c);
}
#define vc_autoclient __attribute__((cleanup(vc_client_cleanup)))

#endif
