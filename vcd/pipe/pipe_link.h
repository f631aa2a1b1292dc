// SPDX-License-Identifier: GPL-2.0-or-later
// One connection of a transfer: a non-blocking socket and its authenticated session. Used by the transfer's thread only.
#ifndef VCD_PIPE_LINK_H
#define VCD_PIPE_LINK_H

#include "libvc/session.h"
#include "vcd/pipe/pipe_msg.h"

struct pipe_frame;
struct pipe_link;

// Takes fd (connected) and session (READY) in every case.
struct pipe_link *pipe_link_create(int fd, struct vc_session *session, const char *host, struct vc_error *err);
void pipe_link_destroy(struct pipe_link *l);

int pipe_link_fd(const struct pipe_link *l);
const char *pipe_link_host(const struct pipe_link *l);
size_t pipe_link_queued(const struct pipe_link *l);
uint64_t pipe_link_bytes_in(const struct pipe_link *l); // of frames' pieces
uint64_t pipe_link_bytes_out(const struct pipe_link *l);
uint64_t pipe_link_heard(const struct pipe_link *l); // ms, monotonic: the last bytes that came
uint64_t pipe_link_said(const struct pipe_link *l);  // the last message that was queued

int pipe_link_send(struct pipe_link *l, const struct pipe_msg *m, struct vc_error *err);
int pipe_link_send_type(struct pipe_link *l, enum pipe_type type, struct vc_error *err);
int pipe_link_send_pieces(struct pipe_link *l, const uint8_t *data, size_t len, struct vc_error *err);
int pipe_link_send_frame(struct pipe_link *l, const struct pipe_frame *f, struct vc_error *err);
int pipe_link_flush(struct pipe_link *l, struct vc_error *err); // as much as the socket takes now

// How many bytes the next message will have, as far as is known (0: not): with TCP, the thread sleeps until they are there. What is
// shorter is found by reading now and then: pipe_link_is_due().
void pipe_link_expect(struct pipe_link *l, size_t bytes);
bool pipe_link_is_due(const struct pipe_link *l, uint64_t now); // was not read for PIPE_READ_MS

// Reads what is there, and calls fn for each message, up to one turn's worth of bytes. -1: fn's error, a broken protocol,
// or the end of the connection (VC_ECANCELED).
typedef int (*pipe_msg_fn)(void *ctx, const struct pipe_msg *m, struct vc_error *err);
int pipe_link_read(struct pipe_link *l, pipe_msg_fn fn, void *ctx, struct vc_error *err);
// Messages that came with the handshake, before anything is read.
int pipe_link_pending(struct pipe_link *l, pipe_msg_fn fn, void *ctx, struct vc_error *err);

uint64_t pipe_now_ms(void);

#endif
