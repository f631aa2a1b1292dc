// SPDX-License-Identifier: GPL-2.0-or-later
// One authenticated connection on the loop: a uv stream, its session, munge in workers, bounded queues both ways.
//
// Used by the server for accepted and by peers for outgoing connections. The owner gets events; closed() is the last
// one, comes once, and only from the loop, never from inside a call of the owner. After conn_close() there is none.
// The conn frees itself when its handles have closed; the owner's pointer is dead after closed() or conn_close().
#ifndef VCD_CONN_H
#define VCD_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <uv.h>

#include "libvc/error.h"
#include "libvc/session.h"

struct vcd;
struct conn;

#define CONN_HANDSHAKE_MS 10000	      // to authenticate; the same as the client's own limit
#define CONN_LINGER_MS 2000	      // for a BYE to leave before the connection is cut
#define CONN_STALL_MS 60000	      // without any byte leaving a full queue: the reader is gone
#define CONN_OUT_HIGH (1u << 20)      // bytes queued from which no further frame is taken from this connection
#define CONN_OUT_LOW (256u << 10)     // bytes queued below which drained() is called
#define CONN_NOTIFY_MAX (4u << 20)    // bytes queued past which notifications are dropped

struct conn_ops {
	void (*ready)(struct conn *conn, void *ctx); // authenticated
	void (*frame)(struct conn *conn, void *ctx, const struct vc_frame *frame); // RPC or DATA
	void (*drained)(struct conn *conn, void *ctx); // may be NULL
	void (*closed)(struct conn *conn, void *ctx, const struct vc_error *why);
};

// Takes the stream (malloc'd, connected) and the session in every case, also on failure. Nothing is read before
// conn_start().
struct conn *conn_create(struct vcd *vcd, uv_stream_t *stream, struct vc_session *session, const struct conn_ops *ops,
			 void *ctx, struct vc_error *err);
void conn_start(struct conn *conn);
struct vc_session *conn_session(struct conn *conn);
uv_stream_t *conn_stream(struct conn *conn);
// Queues a frame; a reader so slow that the queue is full loses its connection (VC_EBUSY).
int conn_send(struct conn *conn, enum vc_frame_type type, const void *body, size_t len, struct vc_error *err);
size_t conn_queued(const struct conn *conn);
int conn_address(const struct conn *conn, struct sockaddr_storage *ret); // the other end's, over TCP; -1: none
void conn_pause(struct conn *conn); // no frame() until conn_resume(); the peer's data waits in the socket
void conn_resume(struct conn *conn);
// Sends a BYE with why (NULL: none) and closes.
void conn_close(struct conn *conn, const struct vc_error *why);
// Stops reading frames; when all is sent, taken() gets the stream and the bytes that were read past the last frame, and
// the conn is gone. NULL, NULL when the connection dies first (instead of closed()).
void conn_take(struct conn *conn, void (*taken)(void *ctx, uv_stream_t *stream, struct vc_buf *pending), void *ctx);

// The same with the session, which goes on elsewhere and has the bytes that were read past the last frame.
void conn_take_session(struct conn *conn, void (*taken)(void *ctx, uv_stream_t *stream, struct vc_session *session), void *ctx);

#endif
