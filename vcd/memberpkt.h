// SPDX-License-Identifier: GPL-2.0-or-later
// Datagrams between vcds: heartbeats, questions about third hosts, small messages of the agreement. docs/protocol.md, part 7.
//
// Pure. Each receiver gives each sender a key, a slot (where to find that key again) and the first sequence number that it
// takes, over their sealed session. Nothing of a datagram but its slot is believed before its MAC is right.
#ifndef VCD_MEMBERPKT_H
#define VCD_MEMBERPKT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "libvc/limits.h"

#define MEMBERPKT_KEY_LEN 32   // bytes, random
#define MEMBERPKT_HEAD_LEN 9   // version, kind with flag, slot, sequence number
#define MEMBERPKT_MAC_LEN 8    // keyed BLAKE2b's first: a forger has one try in 2^64 with each datagram, and each is counted
#define MEMBERPKT_SEQ_MAX ((1ull << 40) - 1) // of a key, which lives as long as its vcd: 35 years at 1000 a second
#define MEMBERPKT_MAX 1400     // bytes: one frame on any Ethernet, IPv6 and a tunnel's head included
#define MEMBERPKT_CLUSTER_LEN 16 // bytes of a cluster id
// What a message of the agreement may have to travel as a datagram; longer ones go over TCP.
#define MEMBERPKT_BODY_MAX (MEMBERPKT_MAX - MEMBERPKT_HEAD_LEN - MEMBERPKT_CLUSTER_LEN - MEMBERPKT_MAC_LEN)

enum memberpkt_kind { MEMBERPKT_BEAT, MEMBERPKT_OBSERVE, MEMBERPKT_SEEN, MEMBERPKT_AGREE, MEMBERPKT_KINDS };

struct memberpkt {
	uint32_t slot;
	uint64_t seq;
	uint8_t kind; // enum memberpkt_kind
	bool ask;     // BEAT: answer at once
	char subject[VC_HOSTNAME_MAX + 1];	// OBSERVE, SEEN
	uint8_t cluster[MEMBERPKT_CLUSTER_LEN]; // AGREE
	const uint8_t *body;			// AGREE; after decoding it points into the datagram
	size_t body_len;
};

// The length written to out (room for MEMBERPKT_MAX); 0: it does not fit.
size_t memberpkt_encode(const struct memberpkt *p, const uint8_t key[MEMBERPKT_KEY_LEN], uint8_t *out);
// The slot that a datagram claims; -1: it is none of ours.
int memberpkt_slot(const uint8_t *data, size_t len, uint32_t *ret_slot);
int memberpkt_decode(const uint8_t *data, size_t len, const uint8_t key[MEMBERPKT_KEY_LEN], struct memberpkt *ret,
		     struct vc_error *err);

// Which sequence numbers came: each is taken once, and late ones only while they are within the last 64.
struct memberwindow {
	uint64_t top; // the highest taken; 0: none
	uint64_t bits; // bit i: top - i was taken
};
bool memberwindow_take(struct memberwindow *w, uint64_t seq);

#endif
