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
#define AGREE_RECORD_VERSION 2 // of a host's records; version 1 is read as well: it has no steps
#define AGREE_STEPS_MAX 16    // changes since the view of a whole record
#define AGREE_STEP_EVENTS_MAX 256 // and events in all of them
#define AGREE_WIRE_MAX (1u << 20) // bytes of one message or record: a view of HOSTVIEW_HOSTS_MAX hosts and VC_MEMBERS_MAX members

int agree_msg_encode(const struct agree_msg *m, struct vc_buf *out); // appends; -1: over out's cap or no memory
int agree_msg_decode(const uint8_t *data, size_t len, struct agree_msg *ret, struct vc_error *err);

// A host's record on its disk has two parts: the whole, which has a view, and the step, which has the changes since and what the
// host promised and voted after them. A vote, and nearly every install, writes a small step alone.
struct agree_record { // what is on the disk; zeros: nothing yet
	bool written;
	uint64_t base;	// epoch of the whole's view; a step that builds on another is void
	struct hv_change *steps[AGREE_STEPS_MAX];
	uint32_t n_steps, n_events;
};
void agree_record_clear(struct agree_record *r);
// The bytes of the part that is to be written now, so that the disk has d; last: agree_last(). r then stands for the disk with it.
int agree_record_encode(struct agree_record *r, const struct agree_durable *d, const struct hv_change *last, bool *ret_whole,
			struct vc_buf *out);
// r, which is empty, then stands for this disk. No step: step is NULL.
int agree_record_decode(struct agree_record *r, const uint8_t *whole, size_t whole_len, const uint8_t *step, size_t step_len,
			struct agree_durable *ret, struct vc_error *err);

#endif
