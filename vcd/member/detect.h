// SPDX-License-Identifier: GPL-2.0-or-later
// Failure detector of one host for its whole site: who answers, who is silent, whose vcd went away.
//
// Pure: no I/O, no clock. The owner says whom to watch, passes in what it hears, pops outputs and calls detect_tick() by
// detect_next(). Each watched peer gets a heartbeat per period, or another small datagram, and is expected to send one. After 2.5 periods of silence it is
// suspected, asked directly, and two other hosts are asked whether they hear it; only when nobody does is it dead. A closed
// connection of a host whose kernel answers makes it lost at once. A host whose own loop was late trusts no silence of that time.
#ifndef VCD_MEMBER_DETECT_H
#define VCD_MEMBER_DETECT_H

#include <stdbool.h>
#include <stdint.h>

struct detect;

struct detect_times { // ms
	uint32_t period;  // between heartbeats
	uint32_t suspect; // of silence
	uint32_t probe;	  // between direct questions to one that is suspected
	uint32_t first;	  // for an answer of one that is asked at once, before it is suspected
	uint32_t confirm; // from suspicion to death, for direct and observers' answers
	uint32_t late;	  // of the own loop
};
struct detect_times detect_default_times(uint32_t period_ms);

enum detect_out_kind {
	DETECT_OUT_BEAT,    // heartbeat to peer; `ask`: it shall answer at once
	DETECT_OUT_OBSERVE, // ask peer whether it hears `subject`
	DETECT_OUT_SEEN,    // answer to peer: `subject` is heard
	DETECT_OUT_SUSPECT, // peer: `ask` is true when others should wait for the outcome
	DETECT_OUT_ALIVE,   // peer is heard again, or an observer hears it
	DETECT_OUT_DEAD,    // peer: silence, confirmed
	DETECT_OUT_LOST,    // peer: its vcd is gone, its kernel answers
};
struct detect_out {
	enum detect_out_kind kind;
	uint32_t peer, subject;
	bool ask;
};

struct detect *detect_create(uint32_t self, const struct detect_times *times, uint64_t now);
void detect_destroy(struct detect *d);

void detect_watch(struct detect *d, uint64_t now, uint32_t peer, bool watch, bool at_once);
void detect_heard(struct detect *d, uint64_t now, uint32_t peer, bool asks); // a heartbeat, or any authentic message
void detect_sent(struct detect *d, uint64_t now, uint32_t peer); // a datagram that will count as a heartbeat there
void detect_closed(struct detect *d, uint64_t now, uint32_t peer);	      // its connection, and its kernel answers
void detect_asked(struct detect *d, uint64_t now, uint32_t by, uint32_t subject); // OBSERVE came
void detect_seen(struct detect *d, uint64_t now, uint32_t subject);		   // SEEN came
void detect_candidate(struct detect *d, uint32_t peer, bool candidate); // who may observe for this host, watched or not
void detect_observer(struct detect *d, uint32_t peer); // the last resort where no other host is watched: the controller
void detect_tick(struct detect *d, uint64_t now);

bool detect_pop(struct detect *d, struct detect_out *out);
uint64_t detect_next(const struct detect *d);

#endif
