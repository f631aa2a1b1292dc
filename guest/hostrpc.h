// SPDX-License-Identifier: GPL-2.0-or-later
// Session 0 (docs/protocol.md, part 4): JSON-RPC between the host's vcd and this guest.
//
// Owns the mux of session 0 and a timer for guest.load. Requests are answered at once, in order.
#ifndef GUEST_HOSTRPC_H
#define GUEST_HOSTRPC_H

#include "guest/agent.h"

struct hostrpc;

struct hostrpc *hostrpc_create(struct agent *a, struct vc_error *err);
void hostrpc_input(struct hostrpc *r, struct wire *w, struct vc_link_frame *frame);
void hostrpc_up(struct hostrpc *r, struct wire *w); // says guest.hello
void hostrpc_down(struct hostrpc *r, struct wire *w);
void hostrpc_writable(struct hostrpc *r, struct wire *w);
void hostrpc_resize(struct hostrpc *r, uint32_t hosts); // says guest.resize
void hostrpc_tick(struct hostrpc *r);

#endif
