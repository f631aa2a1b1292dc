// SPDX-License-Identifier: GPL-2.0-or-later
// Links between vcds for the membership: datagrams with a MAC, a request that stays open on the sealed session (its end is
// evidence), and messages too long for a datagram. Gives the hosts of the site their numbers.
//
// A link is opened by the first thing to send, and kept while it is in use. Nothing here is reliable: what is lost is sent
// again by the protocol above. Everything on the loop thread.
#ifndef VCD_MEMBERLINK_H
#define VCD_MEMBERLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/member/detect.h"
#include "vcd/plan.h"

#define MEMBERLINK_TICK_MS 250u   // looks at links: retries, probes that hang, links out of use
#define MEMBERLINK_RETRY_MS 500u  // between two tries to open a link; sessions back off by themselves as well
#define MEMBERLINK_IDLE_MS 60000u // a link that nobody used for so long is closed
#define MEMBERLINK_PROBE_MS 2000u // a kernel that refuses a connection does so at once
#define MEMBERLINK_UNSENT_MAX 16u // datagrams that wait for a link; older ones are dropped

struct vcd;
struct memberlinks;

struct memberlink_ops {
	void (*beat)(void *ctx, const struct detect_out *beat); // from beat->peer: BEAT, OBSERVE or SEEN
	void (*message)(void *ctx, uint32_t from, const char *cluster, const uint8_t *data, size_t len);
	void (*closed)(void *ctx, uint32_t number); // its vcd is gone: its kernel refuses connections
};

struct memberlinks *memberlinks_create(struct vcd *vcd, const struct memberlink_ops *ops, void *ctx, struct vc_error *err);
void memberlinks_stop(struct memberlinks *l);
void memberlinks_destroy(struct memberlinks *l); // after the loop has run dry

// The number of a host, a new one at its first mention; this host is 0. UINT32_MAX: no memory, or too many.
uint32_t memberlinks_number(struct memberlinks *l, const char *host);
const char *memberlinks_name(const struct memberlinks *l, uint32_t number);
void memberlinks_beat(struct memberlinks *l, const struct detect_out *beat); // to beat->peer
void memberlinks_send(struct memberlinks *l, uint32_t number, const char *cluster, const uint8_t *data, size_t len);
bool memberlinks_is_open(const struct memberlinks *l, uint32_t number); // this host's link to it stands
uint64_t memberlinks_bad(const struct memberlinks *l); // datagrams that were dropped: no key, wrong MAC, seen before

#endif
