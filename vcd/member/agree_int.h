// SPDX-License-Identifier: GPL-2.0-or-later
// What the files of the agreement share: agree.c (facts, dispatch, installs), agree_vote.c (voter), agree_fast.c (leader),
// agree_ballot.c (coordinator), agree_lease.c (status, validity).
#ifndef VCD_MEMBER_AGREE_INT_H
#define VCD_MEMBER_AGREE_INT_H

#include "vcd/member/agree.h"
#include "vcd/member/agree_bugs.h"
#include "vcd/member/quorum.h"

#define AGREE_NEVER UINT64_MAX

struct pending { // a fact that waits for a view
	struct hv_event event;
	bool mine; // reported from here until a view has it
	uint64_t until; // others repeat theirs; those that they took back end then
};

struct proposal { // of one group's leader
	struct hv_change *change;
	uint64_t *acks;
};

struct tally { // votes of ballot 0 that promises told
	struct hv_change *change;
	uint32_t n;
};

enum ballot_phase { BALLOT_NONE, BALLOT_PREPARE, BALLOT_ACCEPT };

struct ballot {
	enum ballot_phase phase;
	uint64_t number;
	uint64_t started, deadline, resend_at;
	uint64_t *heard; // promises, then votes; bits by index
	uint32_t n_heard;
	bool witness_asked, witness_heard;
	uint64_t best_ballot; // of the votes that promises told
	struct hv_change *best;
	struct tally *tallies;
	uint32_t n_tallies;
	struct hv_change *change; // what phase ACCEPT proposes
};

struct host_facts { // by host number
	uint64_t open_until; // a suspicion is open until then; 0: none
	bool open_here;	     // by this host's detector
	uint8_t down;	     // HV_HOST_LOST or HV_HOST_FAIL: that fact is pending; 0: none
	uint64_t lost_at;    // since when the view calls it lost
	// validity
	uint64_t confirm_at; // own time: at that time or later it had not voted for the next epoch
	uint64_t seen_stamp; // its last stamp, to echo
	uint32_t seen_boot;
	uint64_t group_at; // of a leader: own time at or after which `group_count` of its group had not voted
	uint32_t group_count;
};

struct agree {
	struct agree_times t;
	uint32_t boot;
	int bug;
	struct agree_durable d;
	uint32_t me;	// index in the view, HOSTVIEW_NONE: not a voter
	uint32_t words; // of bits by index
	struct hv_change *last; // that led to the view; NULL: not known
	uint8_t last_base[AGREE_BASE_LEN]; // and the digest of the view before

	struct host_facts *facts; // by host number
	uint32_t n_facts;
	uint32_t n_open;
	struct pending *pending; // by subject
	uint32_t n_pending, pending_room;
	uint64_t first_fact_at, quiet_at;
	uint64_t report_at;

	// this epoch as a leader
	bool asked, proposed;
	uint64_t ack_deadline, resend_at;
	uint64_t *acks;
	uint32_t n_acks;
	struct proposal *proposals; // by group
	uint32_t n_proposals;	    // room

	// this epoch as a coordinator
	struct ballot b;
	uint64_t highest_seen; // ballot
	uint64_t busy_at;      // facts are stable, or a vote was cast, since; 0: not busy
	uint64_t hold_until;   // somebody else's ballot is under way
	uint32_t tries;

	uint64_t sync_at, poll_at, need_at;
	uint32_t rotor;
	uint64_t valid_from; // own time at or after which the primary was whole; 0: never

	struct agree_out *out;
	size_t n_out, out_at, out_room;
};

// bits by index
static inline bool bit_get(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}
static inline void bit_set(uint64_t *bits, uint32_t i)
{
	bits[i / 64] |= 1ull << (i % 64);
}

// agree.c
void *agree_must(void *p); // aborts on NULL
struct agree_msg *agree_send(struct agree *a, enum agree_type type, uint32_t to);
void agree_persist(struct agree *a);
bool agree_stable(const struct agree *a, uint64_t now);
struct hv_change *agree_pending_change(const struct agree *a);
void agree_adopt(struct agree *a, uint64_t now, const struct hv_change *c); // others' facts become ours
void agree_install(struct agree *a, uint64_t now, struct hostview *view, struct hv_change *change); // takes the view
// Decided: installs; `everybody` was told by a coordinator.
void agree_decide(struct agree *a, uint64_t now, struct hv_change *change, bool everybody);
bool agree_voted(const struct agree *a); // in this instance, in any ballot
bool agree_leads(const struct agree *a);
bool agree_doubted(const struct agree *a, uint32_t index); // suspected, or known to be down
void agree_tell(struct agree *a, uint32_t to, bool everybody);   // what the receiver lacks, as DECIDED
void agree_tell_full(struct agree *a, uint32_t to);
uint32_t agree_ask_whom(struct agree *a); // a host that may know more

// agree_vote.c
bool vote_fast(struct agree *a, struct hv_change *c); // true: this host's vote in ballot 0 is c
bool vote_promise(struct agree *a, uint64_t ballot);
bool vote_ballot(struct agree *a, uint64_t ballot, struct hv_change *c);
void vote_recv_ask(struct agree *a, uint64_t now, const struct agree_msg *m);
void vote_recv_prepare(struct agree *a, uint64_t now, const struct agree_msg *m);
void vote_recv_accept(struct agree *a, uint64_t now, const struct agree_msg *m);

// agree_fast.c
void fast_reset(struct agree *a);
void fast_tick(struct agree *a, uint64_t now);
void fast_recv_ack(struct agree *a, uint64_t now, const struct agree_msg *m);
void fast_recv_propose(struct agree *a, uint64_t now, const struct agree_msg *m);
void fast_fan_out(struct agree *a, const struct hostview *old, const struct hv_change *change);
uint64_t fast_next(const struct agree *a);

// agree_ballot.c
void ballot_reset(struct agree *a);
void ballot_tick(struct agree *a, uint64_t now);
void ballot_recv_promise(struct agree *a, uint64_t now, const struct agree_msg *m);
void ballot_recv_accepted(struct agree *a, uint64_t now, const struct agree_msg *m);
void ballot_recv_refuse(struct agree *a, uint64_t now, const struct agree_msg *m);
uint64_t ballot_next(const struct agree *a);

// agree_lease.c
void lease_tick(struct agree *a, uint64_t now);
void lease_send_status(struct agree *a, uint64_t now, uint32_t to, bool again);
void lease_recv_status(struct agree *a, uint64_t now, const struct agree_msg *m);
void lease_recv_renew(struct agree *a, uint64_t now, const struct agree_msg *m);
void lease_view_changed(struct agree *a, uint64_t now, const struct hostview *old);

#endif
