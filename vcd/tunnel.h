// SPDX-License-Identifier: GPL-2.0-or-later
// Takes a request's connection as a byte stream: a unix socket itself, or a TCP session whose DATA frames carry the bytes.
//
// The module gets the same uv_pipe_t in both cases. On TCP it is one end of a socket pair; this file moves bytes between
// the other end and the DATA frames, with backpressure both ways, until one side ends.
#ifndef VCD_TUNNEL_H
#define VCD_TUNNEL_H

#include "vcd/rpc.h"

struct vcd;

// As rpc_take_connection(), which see.
int tunnel_take(struct vcd *vcd, struct rpc_request *req, struct json_object *result, rpc_taken_fn taken, void *ctx,
		struct vc_error *err);

// The same, where the bytes go to and come from a stream that is there already: fd, taken in every case.
int tunnel_connect(struct vcd *vcd, struct rpc_request *req, struct json_object *result, int fd, struct vc_error *err);

#endif
