// SPDX-License-Identifier: GPL-2.0-or-later
// task.attach for a member that has moved away: this vcd attaches at the member's host, and carries the connection there.
//
// Streams of a task belong to its two ends, vcexec here and vcguestd there, so that nothing of them is kept: a connection that
// ends, for whatever reason, is made again by vcexec.
#ifndef VCD_TASKAWAY_H
#define VCD_TASKAWAY_H

#include <json-c/json.h>

#include "libvc/error.h"

struct rpc_request;
struct vcd;

#define TASKAWAY_MS 20000u // to attach at the other host

// result is taken: the answer to the client when the other vcd has taken the task. 0: the request is answered.
int taskaway_attach(struct vcd *vcd, struct rpc_request *req, const char *host, uint32_t rank, struct json_object *result,
		    struct vc_error *err);

#endif
