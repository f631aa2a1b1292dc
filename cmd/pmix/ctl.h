// SPDX-License-Identifier: GPL-2.0-or-later
// Control messages between vcexec, vc-pmix and a member's PMIx server: 4-byte length + JSON on a unix stream socket.
//
// Both ends run as the job's user on one host. Owns the descriptor. A lost or misused connection is -1 with an error.
#ifndef PMIX_CTL_H
#define PMIX_CTL_H

#include <json-c/json.h>
#include <stdint.h>

#include "libvc/buf.h"
#include "libvc/error.h"

#define CTL_MESSAGE_MAX (256u << 20) // bytes: what 100,000 ranks say of themselves in a fence, in base64

struct ctl {
	int fd; // non-blocking
	struct vc_buf in, out;
};

int ctl_init(struct ctl *c, int fd, struct vc_error *err); // takes fd in every case
void ctl_clear(struct ctl *c);

// Takes the message in every case (NULL: no memory). What cannot be written now is queued: see ctl_events.
int ctl_send(struct ctl *c, struct json_object *msg, struct vc_error *err);
short ctl_events(const struct ctl *c); // for poll(2)
int ctl_ready(struct ctl *c, short revents, struct vc_error *err); // reads and writes; -1 with VC_ECANCELED: the end
// The next whole message; NULL with err->code 0: not here yet.
struct json_object *ctl_next(struct ctl *c, struct vc_error *err);
// Waits for one message.
struct json_object *ctl_wait(struct ctl *c, unsigned ms, struct vc_error *err);
int64_t ctl_now_ms(void); // monotonic

#endif
