// SPDX-License-Identifier: GPL-2.0-or-later
// A member's serial console for a client of task.attach: raw bytes both ways until one side closes.
#ifndef VCD_CONSOLE_H
#define VCD_CONSOLE_H

#include <json-c/json.h>

#include "libvc/error.h"

struct rpc_request;
struct vcd;

// Connects to QEMU's socket, then takes the request's connection over. As rpc_take_connection(): result is taken on
// success only. One client at a time: another one waits until QEMU takes it.
int console_attach(struct vcd *vcd, const char *path, struct rpc_request *req, struct json_object *result, struct vc_error *err);

#endif
