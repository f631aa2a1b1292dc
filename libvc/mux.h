// SPDX-License-Identifier: GPL-2.0-or-later
// Sessions and their channels over links that may break (docs/protocol.md, part 2): the engine of both ends.
//
// Pure: no descriptors, no clock (now_ms is given). Each channel is a byte stream with offsets. What was sent is kept,
// bounded by the peer's credit, until the peer acknowledges it; after a break the client says RESUME and both ends go on
// from the last byte that arrived. A route is whatever the caller sends frames to (a link): sessions bind to the route
// on which their OPEN or RESUME came. One mux serves one domain of trust: any of its routes may resume any of its sessions.
// Callbacks may call any function here but vc_mux_destroy; a destroyed session stays readable until the callback returns.
#ifndef LIBVC_MUX_H
#define LIBVC_MUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "libvc/error.h"
#include "libvc/link.h"

#define VC_MUX_CREDIT_INITIAL 65536u	  // bytes per channel before the first ACK or RESUME
#define VC_MUX_WINDOW (512u << 10)	  // bytes a receiver grants by default: several round trips at full speed
#define VC_MUX_WINDOW_MAX (1u << 20)	  // credit beyond what was acknowledged is cut to this: bounds the send buffer
#define VC_MUX_SESSIONS_MAX 1024u	  // default limit of sessions of one mux
#define VC_MUX_MESSAGE_MAX (9u << 20)	  // bytes of one control message: base64 of VC_SCRIPT_MAX and VC_ARG_MAX, and room
#define VC_MUX_RESUME_RETRY_MS 1000u	  // an unanswered RESUME is repeated
#define VC_MUX_OFFSET_CLOSED UINT64_MAX	  // "next wanted" of a reader that is gone

struct vc_mux;
struct vc_mux_session;

enum vc_mux_role {
	VC_MUX_CLIENT, // sends control and stdin; resumes after a break
	VC_MUX_SERVER, // made by an OPEN frame; sends control, stdout, stderr
	VC_MUX_PEER,   // session 0: control both ways; made by both ends at each VC_LINK_UP, ends at VC_LINK_DOWN
};

struct vc_mux_ops {
	// 0: sent. -1: not taken (full or down); the mux keeps it until vc_mux_route_writable or a RESUME. Only writes:
	// it must not call back into the mux.
	int (*send_frame)(void *ctx, void *route, struct vc_link_frame *frame);
	// Server: an OPEN for a new session; body is JSON, not parsed. -1: refused, RESET carries err. NULL refuses all.
	int (*on_open)(void *ctx, struct vc_mux_session *s, const uint8_t *body, size_t len, struct vc_error *err);
	// Bytes of a data channel in order. Returns how many were taken; the rest is kept: see vc_mux_session_peek.
	size_t (*on_data)(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len);
	void (*on_eof)(void *ctx, struct vc_mux_session *s, enum vc_channel ch); // after all data was consumed
	// One whole message of the control channel (without its length); always consumed.
	void (*on_message)(void *ctx, struct vc_mux_session *s, const char *text, size_t len);
	void (*on_writable)(void *ctx, struct vc_mux_session *s, enum vc_channel ch); // vc_mux_session_space gives some again
	void (*on_reader_closed)(void *ctx, struct vc_mux_session *s, enum vc_channel ch); // the peer takes no more of it
	void (*on_acked)(void *ctx, struct vc_mux_session *s); // all that was sent on all channels is acknowledged
	// The peer ended the session, or broke the protocol (it was told). The session is freed after this returns.
	void (*on_reset)(void *ctx, struct vc_mux_session *s, const char *code, const char *message);
	void (*on_attached)(void *ctx, struct vc_mux_session *s); // may be NULL: a RESUME exchange has completed
};

struct vc_mux_config {
	uint32_t window;       // bytes granted per channel; 0: VC_MUX_WINDOW
	uint32_t sessions_max; // 0: VC_MUX_SESSIONS_MAX
	uint32_t message_max;  // 0: VC_MUX_MESSAGE_MAX; smaller where many peers are hostile
	uint64_t id_mask, id_value; // OPEN is refused unless (id & mask) == value; e.g. mask = value = VC_SESSION_FROM_GUEST
};

struct vc_mux *vc_mux_create(const struct vc_mux_config *conf, const struct vc_mux_ops *ops, void *ctx);
void vc_mux_destroy(struct vc_mux *mux); // drops all sessions without a word and without callbacks
// Feeds one frame that came over `route`. What breaks the protocol is answered with RESET; never fails.
void vc_mux_input(struct vc_mux *mux, void *route, struct vc_link_frame *frame, uint64_t now_ms);
void vc_mux_route_up(struct vc_mux *mux, void *route, uint64_t now_ms);	 // clients on it resume
void vc_mux_route_down(struct vc_mux *mux, void *route, uint64_t now_ms); // its sessions wait for a RESUME
void vc_mux_route_writable(struct vc_mux *mux, void *route, uint64_t now_ms);
void vc_mux_tick(struct vc_mux *mux, uint64_t now_ms); // about twice a second: repeats RESUME
size_t vc_mux_sessions(const struct vc_mux *mux);
// Calls fn for each session; fn may destroy it.
void vc_mux_each(struct vc_mux *mux, void (*fn)(void *arg, struct vc_mux_session *s), void *arg);

// Client or peer: makes a session on `route` (NULL: attach later). open_body is sent as an OPEN frame at each attach;
// NULL where the relay does that (vcd for vcexec). NULL: no memory, id in use, or too many.
struct vc_mux_session *vc_mux_session_create(struct vc_mux *mux, void *route, uint64_t id, enum vc_mux_role role,
				     const char *open_body, uint64_t now_ms, struct vc_error *err);
void vc_mux_session_destroy(struct vc_mux_session *s); // without a word to the peer, without callbacks
// Tells the peer and destroys; no callback. code: "done", "canceled", "lost", "denied"...
void vc_mux_session_reset(struct vc_mux_session *s, const char *code, const char *message);
void vc_mux_session_attach(struct vc_mux_session *s, void *route, uint64_t now_ms); // client: (re)binds to a route and resumes
struct vc_mux_session *vc_mux_session_find(const struct vc_mux *mux, uint64_t id);
uint64_t vc_mux_session_id(const struct vc_mux_session *s);
void *vc_mux_session_route(const struct vc_mux_session *s); // NULL while detached
void vc_mux_session_set_data(struct vc_mux_session *s, void *data);
void *vc_mux_session_data(const struct vc_mux_session *s);
uint64_t vc_mux_session_detached_ms(const struct vc_mux_session *s, uint64_t now_ms); // how long nobody has been there; 0: attached

// Sending. space: up to `max` places that may be filled in order, returns how many; 0 when credit or buffers are used up
// (on_writable follows) or the stream is over; nothing else of this session may be called before commit. commit takes the
// sum of what was put there and sends as much as goes. write copies, returns how many bytes were taken.
int vc_mux_session_space(struct vc_mux_session *s, enum vc_channel ch, struct iovec *iov, int max);
void vc_mux_session_commit(struct vc_mux_session *s, enum vc_channel ch, size_t len);
size_t vc_mux_session_write(struct vc_mux_session *s, enum vc_channel ch, const void *data, size_t len);
void vc_mux_session_eof(struct vc_mux_session *s, enum vc_channel ch);
// Queues a whole control message whatever the credit (it waits in memory). -1: too long, too much waits, or no memory.
int vc_mux_session_message(struct vc_mux_session *s, const char *text, size_t len, struct vc_error *err);
bool vc_mux_session_acked(const struct vc_mux_session *s); // nothing sent is unacknowledged

// Receiving what on_data did not take: look, then consume; credit grows as bytes are consumed.
const uint8_t *vc_mux_session_peek(const struct vc_mux_session *s, enum vc_channel ch, size_t *ret_len); // NULL: nothing waits
void vc_mux_session_consume(struct vc_mux_session *s, enum vc_channel ch, size_t len); // may call on_eof
void vc_mux_session_close_reader(struct vc_mux_session *s, enum vc_channel ch); // the peer's writer is to get EPIPE

#endif
