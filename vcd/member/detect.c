// SPDX-License-Identifier: GPL-2.0-or-later
// Failure detector: see detect.h.
#include "vcd/member/detect.h"

#include <stdlib.h>
#include <string.h>

#define PEERS_MAX 16384	 // host numbers of a site; bounds what a message can make it allocate
#define OBSERVERS 2	 // asked at each suspicion
#define ASKS_MAX 64	 // questions of others that wait for an answer
#define TICKS 4		 // looks per period; a suspicion is that much late at most

enum peer_state { PEER_ALIVE, PEER_ASKED, PEER_SUSPECT, PEER_DEAD, PEER_LOST };

struct peer {
	bool watched, candidate, seen; // seen: an observer hears it
	enum peer_state state;
	uint64_t heard_at, limit, ask_at;
	uint64_t sent_at; // the last heartbeat to it, or what counts as one
};

struct question {
	uint32_t by, subject;
	uint64_t until;
};

struct detect {
	uint32_t self, observer;
	struct detect_times t;
	struct peer *peers; // by number
	uint32_t n_peers;
	uint32_t *watched; // their numbers
	uint32_t n_watched, n_doubted;
	struct question questions[ASKS_MAX];
	uint32_t n_questions, rotor;
	uint64_t due;
	struct detect_out *out;
	uint32_t n_out, out_at, out_room;
};

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

struct detect_times detect_default_times(uint32_t period)
{
	return (struct detect_times){
		.period = period,
		.suspect = period * 5 / 2,
		.probe = period / 5,
		.first = period * 3 / 5, // three questions
		.confirm = period / 2,
		.late = period / 2,
	};
}

struct detect *detect_create(uint32_t self, const struct detect_times *times, uint64_t now)
{
	struct detect *d = must(calloc(1, sizeof(*d)));
	d->self = self;
	d->observer = UINT32_MAX;
	d->t = *times;
	d->due = now;
	return d;
}

void detect_destroy(struct detect *d)
{
	if (!d)
		return;
	free(d->peers);
	free(d->watched);
	free(d->out);
	free(d);
}

static struct peer *peer_at(struct detect *d, uint32_t number);

void detect_candidate(struct detect *d, uint32_t number, bool candidate)
{
	struct peer *p = peer_at(d, number);
	if (p)
		p->candidate = candidate && number != d->self;
}

void detect_observer(struct detect *d, uint32_t peer)
{
	d->observer = peer;
}

static void push(struct detect *d, enum detect_out_kind kind, uint32_t peer, uint32_t subject, bool ask)
{
	if (d->out_at == d->n_out)
		d->out_at = d->n_out = 0;
	if (d->n_out == d->out_room) {
		d->out_room = d->out_room ? 2 * d->out_room : 16;
		d->out = must(realloc(d->out, d->out_room * sizeof(*d->out)));
	}
	d->out[d->n_out++] = (struct detect_out){kind, peer, subject, ask};
}

bool detect_pop(struct detect *d, struct detect_out *out)
{
	if (d->out_at == d->n_out)
		return false;
	*out = d->out[d->out_at++];
	return true;
}

static struct peer *peer_at(struct detect *d, uint32_t number)
{
	if (number >= PEERS_MAX)
		return NULL;
	if (number >= d->n_peers) {
		d->peers = must(realloc(d->peers, (number + 1) * sizeof(*d->peers)));
		d->watched = must(realloc(d->watched, (number + 1) * sizeof(*d->watched)));
		memset(d->peers + d->n_peers, 0, (number + 1 - d->n_peers) * sizeof(*d->peers));
		d->n_peers = number + 1;
	}
	return &d->peers[number];
}

static bool doubted(enum peer_state state)
{
	return state == PEER_ASKED || state == PEER_SUSPECT;
}

static void enter(struct detect *d, struct peer *p, enum peer_state state)
{
	d->n_doubted -= doubted(p->state);
	d->n_doubted += doubted(state);
	p->state = state;
}

static void beat(struct detect *d, uint64_t now, uint32_t number, bool ask)
{
	d->peers[number].sent_at = now;
	push(d, DETECT_OUT_BEAT, number, 0, ask);
}

void detect_sent(struct detect *d, uint64_t now, uint32_t number)
{
	struct peer *p = peer_at(d, number);
	if (p)
		p->sent_at = now;
}

// --- watching ----------------------------------------------------------------------------------------------------

static void ask_at_once(struct detect *d, uint64_t now, uint32_t number)
{
	struct peer *p = &d->peers[number];
	enter(d, p, PEER_ASKED);
	p->limit = now + d->t.first;
	p->ask_at = now + d->t.probe;
	push(d, DETECT_OUT_SUSPECT, number, 0, false);
	beat(d, now, number, true);
}

static void unwatch(struct detect *d, uint32_t number)
{
	struct peer *p = &d->peers[number];
	if (doubted(p->state))
		push(d, DETECT_OUT_ALIVE, number, 0, false); // nobody's business any more
	enter(d, p, PEER_ALIVE);
	p->watched = false;
	for (uint32_t i = 0; i < d->n_watched; i++) {
		if (d->watched[i] == number) {
			d->watched[i] = d->watched[--d->n_watched];
			break;
		}
	}
}

void detect_watch(struct detect *d, uint64_t now, uint32_t number, bool watch, bool at_once)
{
	struct peer *p = peer_at(d, number);
	if (!p || number == d->self || p->watched == watch)
		return;
	if (!watch) {
		unwatch(d, number);
		return;
	}
	p->watched = true;
	d->watched[d->n_watched++] = number;
	bool fresh = p->heard_at && now - p->heard_at < d->t.period;
	p->heard_at = fresh ? p->heard_at : now;
	enter(d, p, PEER_ALIVE);
	if (at_once && !fresh)
		ask_at_once(d, now, number);
}

// --- what is heard -----------------------------------------------------------------------------------------------

static void answer_questions(struct detect *d, uint32_t subject)
{
	for (uint32_t i = d->n_questions; i > 0; i--) {
		if (d->questions[i - 1].subject != subject)
			continue;
		push(d, DETECT_OUT_SEEN, d->questions[i - 1].by, subject, false);
		d->questions[i - 1] = d->questions[--d->n_questions];
	}
}

void detect_heard(struct detect *d, uint64_t now, uint32_t number, bool asks)
{
	struct peer *p = peer_at(d, number);
	if (!p || number == d->self)
		return;
	p->heard_at = now;
	if (asks)
		beat(d, now, number, false);
	answer_questions(d, number);
	if (p->watched && p->state != PEER_ALIVE) {
		enter(d, p, PEER_ALIVE);
		push(d, DETECT_OUT_ALIVE, number, 0, false);
	}
}

void detect_closed(struct detect *d, uint64_t now, uint32_t number)
{
	struct peer *p = peer_at(d, number);
	(void)now;
	if (!p || !p->watched || p->state == PEER_DEAD || p->state == PEER_LOST)
		return;
	enter(d, p, PEER_LOST);
	push(d, DETECT_OUT_LOST, number, 0, false);
}

void detect_asked(struct detect *d, uint64_t now, uint32_t by, uint32_t subject)
{
	struct peer *p = peer_at(d, subject);
	if (!p || subject == d->self || d->n_questions == ASKS_MAX)
		return;
	d->questions[d->n_questions++] = (struct question){by, subject, now + d->t.confirm};
	beat(d, now, subject, true);
}

void detect_seen(struct detect *d, uint64_t now, uint32_t subject)
{
	struct peer *p = peer_at(d, subject);
	(void)now;
	if (p && p->state == PEER_SUSPECT)
		p->seen = true;
}

// --- time --------------------------------------------------------------------------------------------------------

static bool can_observe(const struct peer *p)
{
	return (p->watched || p->candidate) && p->state == PEER_ALIVE;
}

// Those that are watched first: they are known to answer.
static unsigned ask_candidates(struct detect *d, uint32_t subject, bool watched, unsigned most)
{
	unsigned asked = 0;
	for (uint32_t k = 0; k < d->n_peers && asked < most; k++) {
		uint32_t number = d->rotor++ % d->n_peers;
		const struct peer *p = &d->peers[number];
		if (number == subject || p->watched != watched || !can_observe(p))
			continue;
		push(d, DETECT_OUT_OBSERVE, number, subject, false);
		asked++;
	}
	return asked;
}

static void ask_observers(struct detect *d, uint32_t subject)
{
	unsigned asked = ask_candidates(d, subject, true, OBSERVERS);
	asked += ask_candidates(d, subject, false, OBSERVERS - asked);
	if (!asked && d->observer != UINT32_MAX)
		push(d, DETECT_OUT_OBSERVE, d->observer, subject, false);
}

static void suspect(struct detect *d, uint64_t now, uint32_t number)
{
	struct peer *p = &d->peers[number];
	bool known = p->state == PEER_ASKED;
	enter(d, p, PEER_SUSPECT);
	p->seen = false;
	p->limit = now + d->t.confirm;
	p->ask_at = now + d->t.probe;
	if (!known)
		push(d, DETECT_OUT_SUSPECT, number, 0, true);
	beat(d, now, number, true);
	ask_observers(d, number);
}

static void conclude(struct detect *d, uint64_t now, uint32_t number)
{
	struct peer *p = &d->peers[number];
	if (p->seen) { // by others: it stays, and is looked at again later
		enter(d, p, PEER_ALIVE);
		p->heard_at = now;
		push(d, DETECT_OUT_ALIVE, number, 0, false);
	} else {
		enter(d, p, PEER_DEAD);
		push(d, DETECT_OUT_DEAD, number, 0, false);
	}
}

static void look(struct detect *d, uint64_t now, uint32_t number)
{
	struct peer *p = &d->peers[number];
	if (p->state == PEER_ALIVE && now >= p->heard_at + d->t.suspect)
		suspect(d, now, number);
	else if (p->state == PEER_ASKED && now >= p->limit)
		suspect(d, now, number);
	else if (p->state == PEER_SUSPECT && now >= p->limit)
		conclude(d, now, number);
	else if (doubted(p->state) && now >= p->ask_at) {
		p->ask_at = now + d->t.probe;
		beat(d, now, number, true);
	}
}

// What came while this loop did not run was not read yet: silence of that time proves nothing.
static void forgive(struct detect *d, uint64_t now)
{
	for (uint32_t i = 0; i < d->n_watched; i++) {
		struct peer *p = &d->peers[d->watched[i]];
		uint64_t least = now + d->t.period > d->t.suspect ? now + d->t.period - d->t.suspect : 0;
		if (p->state == PEER_ALIVE && p->heard_at < least)
			p->heard_at = least;
		if (doubted(p->state))
			p->limit = now + d->t.confirm;
	}
}

void detect_tick(struct detect *d, uint64_t now)
{
	if (now > d->due + d->t.late)
		forgive(d, now);
	if (now < d->due)
		return;
	for (uint32_t i = 0; i < d->n_watched; i++) {
		const struct peer *p = &d->peers[d->watched[i]];
		if (now >= p->sent_at + d->t.period)
			beat(d, now, d->watched[i], p->state != PEER_ALIVE);
		look(d, now, d->watched[i]);
	}
	for (uint32_t i = d->n_questions; i > 0; i--)
		if (d->questions[i - 1].until <= now)
			d->questions[i - 1] = d->questions[--d->n_questions];
	d->due = now + (d->n_doubted ? d->t.probe / 2 : d->t.period / TICKS);
}

uint64_t detect_next(const struct detect *d)
{
	return d->due;
}
