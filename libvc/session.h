// SPDX-License-Identifier: GPL-2.0-or-later
// One connection's handshake and sealing as a state machine: bytes in, frames and requests for munge out. No I/O.
//
// The owner feeds what it reads into vc_session_input(), asks vc_session_next() until it says NEED_INPUT, and sends
// what vc_session_output() holds. ENCODE and DECODE ask the owner for a munge call (it blocks: a daemon does it in a
// worker); until it is given back, next() says WAIT. On failure the session queues a BYE with the reason, then next()
// is VC_SESSION_CLOSED for ever: send the output and close.
#ifndef LIBVC_SESSION_H
#define LIBVC_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/buf.h"
#include "libvc/error.h"
#include "libvc/frame.h"
#include "libvc/limits.h"

struct vc_session;

struct vc_session_opts {
	bool sealed;	    // TCP: keys are exchanged and all frames sealed; otherwise plain (unix socket)
	bool peer;	    // client: role peer
	const char *host;   // own host name, copied
	uid_t own_uid;	    // server: the uid that role peer needs, vcd's own
	uid_t server_uid;   // client: who may read the credential; sealed: whom the answer must come from
	const char *expect_host; // client: host name that the server must have, copied; NULL: any
	uid_t socket_uid;   // server, plain: the kernel's word on the client (SO_PEERCRED)
	size_t output_max;  // bytes queued for sending; 0: VC_SESSION_OUTPUT_MAX
};
#define VC_SESSION_OUTPUT_MAX (2 * (VC_RPC_BODY_MAX + 4096u)) // one largest frame under way, one behind it

struct vc_session *vc_session_server(const struct vc_session_opts *opts, struct vc_error *err);
struct vc_session *vc_session_client(const struct vc_session_opts *opts, struct vc_error *err);
void vc_session_destroy(struct vc_session *s);

enum vc_session_event {
	VC_SESSION_NEED_INPUT,
	VC_SESSION_WAIT,   // for the owner's encode or decode
	VC_SESSION_DECODE, // vc_session_cred(): decode it, then vc_session_decoded()
	VC_SESSION_ENCODE, // vc_session_payload(), for vc_session_reader(): encode it, then vc_session_encoded()
	VC_SESSION_READY,  // once: authenticated; frames may be sent now
	VC_SESSION_FRAME,  // *ret_frame: RPC or DATA; valid until the next call of input() or next()
	VC_SESSION_CLOSED, // err says why: the peer's BYE, or a broken protocol
};

// Appends bytes; -1 (ENOBUFS) when more than one largest frame waits unread: stop reading first.
int vc_session_input(struct vc_session *s, const void *data, size_t len, struct vc_error *err);
// The same without a copy: room for len bytes (NULL: as above), of which some have arrived.
uint8_t *vc_session_room(struct vc_session *s, size_t len);
void vc_session_arrived(struct vc_session *s, size_t len);
// Bytes that a frame lacks whose beginning has come; 0: none has. For SO_RCVLOWAT: nothing can be done before.
size_t vc_session_missing(const struct vc_session *s);
enum vc_session_event vc_session_next(struct vc_session *s, struct vc_frame *ret_frame, struct vc_error *err);
const char *vc_session_cred(const struct vc_session *s);
const char *vc_session_payload(const struct vc_session *s);
uid_t vc_session_reader(const struct vc_session *s);
// The answers; failed calls of munge go to vc_session_fail(). They return nothing: next() tells.
void vc_session_decoded(struct vc_session *s, uid_t uid, const char *payload, size_t len);
void vc_session_encoded(struct vc_session *s, const char *cred);
void vc_session_fail(struct vc_session *s, const struct vc_error *why); // queues a BYE and closes

// Queues one RPC or DATA frame; before READY, or after the end, VC_EPROTO; ENOBUFS past output_max.
int vc_session_send(struct vc_session *s, enum vc_frame_type type, const void *body, size_t len, struct vc_error *err);
struct vc_buf *vc_session_output(struct vc_session *s); // to send and consume
struct vc_buf *vc_session_pending(struct vc_session *s); // unread input: what follows when frames end (task.attach)

// Valid after READY. Client: the server's. Server: the client's.
uid_t vc_session_uid(const struct vc_session *s);
const char *vc_session_host(const struct vc_session *s);
bool vc_session_is_peer(const struct vc_session *s);

#endif
