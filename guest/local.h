// SPDX-License-Identifier: GPL-2.0-or-later
// This guest's own clients: VC_GUEST_DIR/agent.sock (docs/protocol.md, part 5).
//
// Owns the listening socket, clients that have not said yet what they want, and the Slurm clients, whose sessions it
// relays over the host's link. vcrsh clients are handed to rsh.c. Only root and the job's owner are served.
#ifndef GUEST_LOCAL_H
#define GUEST_LOCAL_H

#include "guest/agent.h"

#define LOCAL_SOCKET VC_GUEST_DIR "/agent.sock"
#define LOCAL_MESSAGE_MAX 65536u // bytes of the request and of the answer

struct local;

struct local *local_create(struct agent *a, struct vc_error *err);

// From the host's link: a frame of a guest-initiated session; the link was reset.
void local_host_frame(struct local *l, struct vc_link_frame *frame);
void local_host_up(struct local *l);

// The one answer to a client's request: {} or {code, message}. Small enough for a fresh socket's buffer.
int local_answer(int fd, const struct vc_error *why);

#endif
