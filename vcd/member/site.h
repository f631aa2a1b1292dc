// SPDX-License-Identifier: GPL-2.0-or-later
// One host's part in the membership of its site: one failure detector, shared by the agreements of all clusters that it is in.
//
// Pure, like what it is made of: the owner (vcd, or the simulator for each of its hosts) does the I/O. Hosts of the site have
// numbers that the owner gives out; each cluster counts its own hosts, and brings a map from one to the other.
#ifndef VCD_MEMBER_SITE_H
#define VCD_MEMBER_SITE_H

#include "vcd/member/agree.h"
#include "vcd/member/detect.h"

struct site;
struct site_cluster;

struct site *site_create(uint32_t self, const struct detect_times *times, uint64_t now);
void site_destroy(struct site *s); // with its clusters
// The last resort of a host that watches only one other: the controller's number.
void site_observer(struct site *s, uint32_t number);

// numbers: of the cluster's hosts 0..n-1. ctx comes back from site_ctx().
struct site_cluster *site_add(struct site *s, const struct agree_conf *conf, const struct agree_durable *durable,
			      const uint32_t *numbers, uint32_t n, void *ctx, uint64_t now);
void site_remove(struct site *s, struct site_cluster *c); // ended, or its host is not in it any more
void site_map(struct site_cluster *c, uint32_t host, uint32_t number); // of a host that may join
struct agree *site_agree(struct site_cluster *c);
void *site_ctx(const struct site_cluster *c);

// --- what comes in; agree_*() of one cluster may be called directly as well ---
void site_heard(struct site *s, uint64_t now, uint32_t number, enum detect_out_kind kind, uint32_t subject, bool asks); // a datagram
void site_closed(struct site *s, uint64_t now, uint32_t number); // a connection ended, and its host's kernel answers
void site_tick(struct site *s, uint64_t now);
uint64_t site_next(const struct site *s);

// --- what is to be done, in this order ---
struct site_out {
	bool datagram;
	struct detect_out beat;	   // of a datagram: BEAT, OBSERVE or SEEN, to beat.peer
	struct site_cluster *cluster; // otherwise
	struct agree_out agree;	   // the owner clears agree.msg
	uint32_t number;	   // of a SEND: the site's number of agree.msg.to; HOSTVIEW_NONE: the witness, or not known
};
bool site_pop(struct site *s, uint64_t now, struct site_out *out);

#endif
