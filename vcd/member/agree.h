// SPDX-License-Identifier: GPL-2.0-or-later
// Agreement of one cluster's hosts on the sequence of its views: the protocol's core for one host.
//
// Pure: no I/O, no clock, no globals, no randomness. Its owner passes in facts, messages and the host's own time (ms of any
// clock that never goes back and counts pauses), pops outputs in order, and calls agree_tick() by agree_next(). The same code
// runs in vcd, in unit tests and in the simulator (tests/sim). docs/membership.md has the protocol and its proof.
//
// Guarantees, under full asynchrony (loss, delay, repetition, any number of crashes, any clock rates), given that a host does
// what a PERSIST output says before it carries out the outputs after it, and that a disk that was lost is not voted from:
//   - no two hosts ever install different views with one epoch;
//   - epochs of one host grow by installs, also over restarts;
//   - a view was acknowledged by more than half of the last view's hosts, or by half of them and the witness.
// Termination, under partial synchrony: once facts are stable, messages arrive within a time that stays below the longest wait
// of a ballot, and more than half of the hosts (or half and the witness) run, every one of them installs the next view.
// Validity, given clock rates within 1% of each other: a host that is removed has let its view's validity pass before
// agree_reuse_ms() has passed at any host that installed the removal.
//
// One instance decides one epoch. Each voter votes once in ballot 0, for what its group's leader asks. A leader that has its
// group's acknowledgements sends one proposal to each other leader; identical ones of quorum_fast_leaders(), with the
// acknowledgements of quorum_fast_hosts(), are the decision. Otherwise a coordinator (a leader, then a deputy, then anybody)
// runs Paxos ballots over the hosts and proposes any change that ballot 0 may have chosen.
// Without memory these functions abort: to stop is the one failure that the protocol is made for.
#ifndef VCD_MEMBER_AGREE_H
#define VCD_MEMBER_AGREE_H

#include <stdbool.h>
#include <stdint.h>

#include "vcd/member/hostview.h"

#define AGREE_WITNESS (UINT32_MAX - 1) // as an address: the witness
#define AGREE_BASE_LEN 8 // bytes of a view's digest in a message: against mistakes, as hosts do not lie

struct agree;

struct agree_times { // ms; agree_default_times() has each with its reason
	uint32_t eof_quiet, silence_quiet, stable_max, suspect_max;
	uint32_t ack, fast, stagger, ballot, resend, hearsay, sync, grace, valid;
};
struct agree_times agree_default_times(void);

// What survives a crash. The owner writes all of it at a PERSIST output, and gives it back to agree_create().
struct agree_durable {
	uint32_t self, incarnation;
	struct hostview *view;	    // the last one installed
	uint64_t promised;	    // no vote below this ballot, for the next epoch
	struct hv_change *fast;	    // the vote in ballot 0; NULL: none
	uint64_t voted_ballot;	    // the last vote in a ballot above 0; 0: none
	struct hv_change *voted;
};
void agree_durable_copy(struct agree_durable *to, const struct agree_durable *from); // takes references
void agree_durable_clear(struct agree_durable *d);

enum agree_type {
	AGREE_REPORT,	// facts, to all leaders
	AGREE_SUSPECT,	// a suspicion was opened or closed: leaders wait for it
	AGREE_ASK,	// leader to its group: vote in ballot 0
	AGREE_ACK,
	AGREE_PROPOSE,	// leader to leaders, with the group's acknowledgements
	AGREE_PREPARE,	// ballots above 0
	AGREE_PROMISE,
	AGREE_ACCEPT,
	AGREE_ACCEPTED,
	AGREE_REFUSE,	// of a ballot: a higher one was promised
	AGREE_DECIDED,	// the change that leads to the next view
	AGREE_FULL,	// a whole view, for those that lag
	AGREE_STATUS,	// epoch, and whether a vote was cast: renews validity, finds those that lag
	AGREE_RENEW,	// the leader's answer
	AGREE_TYPES
};

struct agree_msg {
	uint8_t type; // enum agree_type
	bool again;   // sent before: a receiver that is ahead answers with what it knows
	bool flag;    // SUSPECT: open; STATUS: no vote cast; DECIDED: everybody gets it
	uint32_t from, to;
	uint32_t host;			    // SUSPECT: which
	uint64_t epoch;			    // the view that the sender stands on
	uint8_t base[AGREE_BASE_LEN];	    // and the first bytes of its digest
	uint64_t ballot, voted_ballot;
	struct hv_change *change; // REPORT, ASK, ACK, PROPOSE, PROMISE (voted), ACCEPT, DECIDED
	struct hv_change *fast;	  // PROMISE: the vote in ballot 0
	struct hostview *view;	  // FULL
	uint64_t *acks;		  // PROPOSE: bits by index in the view
	uint64_t stamp, echo;	  // STATUS, RENEW: sender's clock, last stamp seen from the receiver
	uint32_t boot, echo_boot; // which run of that clock
	uint64_t age;		  // how old what follows is; UINT64_MAX: nothing
	uint32_t count;		  // STATUS between leaders: hosts of the group that confirmed
};
void agree_msg_clear(struct agree_msg *m);

enum agree_out_kind {
	AGREE_OUT_PERSIST, // write agree_durable() before anything after this
	AGREE_OUT_SEND,
	AGREE_OUT_VIEW,	   // installed: agree_view()
	AGREE_OUT_REMOVED, // the view installed does not have this host any more
};
struct agree_out {
	enum agree_out_kind kind;
	bool lazy;	      // PERSIST: in its order, but it may be lost with the host's power: see docs/membership.md
	struct agree_msg msg; // of SEND; the owner clears it
};

struct agree_conf {
	struct agree_times times;
	uint32_t boot; // another number for each run of the host's clock
	int bug;       // tests/sim only: see agree_bugs.h
};

struct agree *agree_create(const struct agree_conf *conf, const struct agree_durable *durable, uint64_t now);
void agree_destroy(struct agree *a);

// --- what happens ---
// A detector began (open) or ended to doubt a host; `tell` the leaders, so that they wait for what comes of it.
void agree_suspect(struct agree *a, uint64_t now, uint32_t host, bool open, bool tell);
// A host answers: suspicions and facts of its failure that its answer disproves are dropped.
void agree_alive(struct agree *a, uint64_t now, uint32_t host);
// A fact that this host is the first to know, or authority of. Repeated to the leaders until a view has it.
void agree_fact(struct agree *a, uint64_t now, const struct hv_event *event);
// This host is not in the view: it asks to come in, as a new or a returning host. A new one begins with hostview_hearsay() and
// incarnation 0, and asks once it has a view: then it cannot take itself for a voter that it was before it lost its record.
void agree_ask_in(struct agree *a, uint64_t now);
void agree_recv(struct agree *a, uint64_t now, const struct agree_msg *m);
void agree_tick(struct agree *a, uint64_t now);

// --- what comes of it ---
bool agree_pop(struct agree *a, struct agree_out *out); // false: nothing left
uint64_t agree_next(const struct agree *a);		// when agree_tick() wants to be called
const struct agree_durable *agree_durable(const struct agree *a);
const struct hostview *agree_view(const struct agree *a);
const struct hv_change *agree_last(const struct agree *a); // that led to the view; NULL: it came whole
bool agree_is_voter(const struct agree *a);
bool agree_watches(const struct agree *a, uint32_t host); // the detector should watch it
bool agree_can_observe(const struct agree *a, uint32_t host); // may be asked whether it hears another host
bool agree_probes(const struct agree *a, uint32_t host);  // and ask it at once: its leader is silent
// Until when this host may call its view valid; 0: not at all.
uint64_t agree_valid_until(const struct agree *a);
// After the install of a removal: how long until the address, disk or lease of what was removed may serve again.
uint64_t agree_reuse_ms(const struct agree *a);
// Why there is no next view: "" while nothing is stuck.
void agree_reason(const struct agree *a, uint64_t now, char *buf, size_t len);
void agree_facts_text(const struct agree *a, char *buf, size_t len); // what waits for a view, for people
bool agree_busy(const struct agree *a); // facts or votes wait for a view

// --- the witness: the controller, or a host that the site names; one per cluster ---
// It votes in ballots like a host, and its vote counts only beside exactly half of the hosts. Its state is written before its
// answer is sent.
struct agree_witness {
	uint64_t epoch; // of the views it stands on: those below are over
	uint64_t promised, voted_ballot;
	struct hv_change *voted;
	int bug;
};
// True: *answer is to be sent after the state has been written.
bool agree_witness_recv(struct agree_witness *w, const struct agree_msg *m, struct agree_msg *answer);
void agree_witness_clear(struct agree_witness *w);

#endif
