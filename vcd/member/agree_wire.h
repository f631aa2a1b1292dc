// SPDX-License-Identifier: GPL-2.0-or-later
// Bytes of the agreement: messages between hosts, and what a host writes to its disk. docs/membership.md has the layout.
//
// Decoding trusts nothing: lengths are checked against what is there before anything is allocated, views are checked as
// hostview_restore() does, and a failed call leaves nothing behind.
#ifndef VCD_MEMBER_AGREE_WIRE_H
#define VCD_MEMBER_AGREE_WIRE_H

#include "libvc/buf.h"
#include "vcd/member/agree.h"

#define AGREE_WIRE_VERSION 2   // of messages as they are written; version 1 is read as well: the witness keeps its promises as messages
#define AGREE_RECORD_VERSION 1 // of a host's records
#define AGREE_WIRE_MAX (1u << 20) // bytes of one message or record: a view of HOSTVIEW_HOSTS_MAX hosts and VC_MEMBERS_MAX members

int agree_msg_encode(const struct agree_msg *m, struct vc_buf *out); // appends; -1: over out's cap or no memory
int agree_msg_decode(const uint8_t *data, size_t len, struct agree_msg *ret, struct vc_error *err);
int agree_durable_encode(const struct agree_durable *d, struct vc_buf *out);
int agree_durable_decode(const uint8_t *data, size_t len, struct agree_durable *ret, struct vc_error *err);

#endif
