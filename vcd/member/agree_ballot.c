// SPDX-License-Identifier: GPL-2.0-or-later
// The coordinator: Paxos over the hosts for the epoch that one round did not decide. Its proposal is what an earlier ballot may
// have chosen, else what ballot 0 may have chosen, else the facts that it knows.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vcd/member/agree_int.h"

#define TRIES_MAX 4	 // doublings of a ballot's wait: 16 times the first covers a slow network
#define ORDER_REST 64	 // hosts beyond leaders and deputies share so many turns; who meets backs off
#define BUSY_MIN_TRIES 2 // ballots without an answer before a reason is given

static void clear_round(struct agree *a)
{
	struct ballot *b = &a->b;
	memset(b->heard, 0, a->words * sizeof(*b->heard));
	b->n_heard = 0;
	b->witness_asked = b->witness_heard = false;
}

void ballot_reset(struct agree *a)
{
	struct ballot *b = &a->b;
	free(b->heard);
	hv_change_unref(b->best);
	hv_change_unref(b->change);
	for (uint32_t i = 0; i < b->n_tallies; i++)
		hv_change_unref(b->tallies[i].change);
	free(b->tallies);
	*b = (struct ballot){0};
}

static bool has_quorum(const struct agree *a)
{
	uint32_t n = a->d.view->n_voters, heard = a->b.n_heard;
	if (heard >= quorum_majority(n))
		return true;
	return n % 2 == 0 && heard == n / 2 && (a->b.witness_heard || BUG(a, BUG_HALF_IS_ENOUGH));
}

// --- phase 2 -----------------------------------------------------------------------------------------------------

static struct hv_change *chosen_by_fast(const struct agree *a)
{
	const struct ballot *b = &a->b;
	uint32_t n = a->d.view->n_voters, unheard = n - b->n_heard;
	for (uint32_t i = 0; i < b->n_tallies && !BUG(a, BUG_IGNORE_FAST); i++)
		if (b->tallies[i].n + unheard >= quorum_fast_hosts(n))
			return hv_change_ref(b->tallies[i].change);
	return NULL;
}

static struct hv_change *choose(const struct agree *a)
{
	const struct ballot *b = &a->b;
	if (b->best && !BUG(a, BUG_IGNORE_VOTED))
		return hv_change_ref(b->best);
	struct hv_change *c = chosen_by_fast(a);
	if (!c && a->n_pending)
		c = agree_pending_change(a);
	if (!c && b->n_tallies)
		c = hv_change_ref(b->tallies[0].change);
	return c;
}

static void send_all(struct agree *a, enum agree_type type, bool again)
{
	const struct hostview *v = a->d.view;
	for (uint32_t i = 0; i < v->n_hosts; i++) {
		if (v->hosts[i].state == HV_GONE || i == a->me || bit_get(a->b.heard, i))
			continue;
		struct agree_msg *m = agree_send(a, type, v->hosts[i].id);
		m->ballot = a->b.number;
		m->again = again;
		if (type == AGREE_ACCEPT)
			m->change = hv_change_ref(a->b.change);
	}
}

static void give_up(struct agree *a, uint64_t now)
{
	uint32_t spread = (a->d.self * 2654435761u + a->tries * 40503u) % (a->t.ballot + 1);
	uint32_t doublings = a->tries < TRIES_MAX ? a->tries : TRIES_MAX;
	ballot_reset(a);
	a->tries++;
	a->hold_until = now + ((uint64_t)a->t.ballot << doublings) + spread;
	if (BUG(a, BUG_NO_RETRY))
		a->hold_until = AGREE_NEVER;
}

// Everybody's view: a coordinator tells all voters and those that came in.
static void announce(struct agree *a, const struct hostview *v, const struct hv_change *c)
{
	for (uint32_t i = 0; i < v->n_hosts; i++)
		if (v->hosts[i].state != HV_GONE && v->hosts[i].id != a->d.self)
			agree_tell(a, v->hosts[i].id, true);
	for (uint32_t i = 0; i < c->n; i++)
		if (c->events[i].kind == HV_HOST_JOIN || c->events[i].kind == HV_HOST_RETURN)
			agree_tell_full(a, c->events[i].id);
}

static void heard_vote(struct agree *a, uint64_t now, uint32_t i)
{
	if (i != HOSTVIEW_NONE && !bit_get(a->b.heard, i)) {
		bit_set(a->b.heard, i);
		a->b.n_heard++;
	}
	if (!has_quorum(a))
		return;
	struct hostview *old = hostview_ref(a->d.view);
	struct hv_change *c = hv_change_ref(a->b.change);
	agree_decide(a, now, c, true);
	announce(a, old, c);
	hostview_unref(old);
	hv_change_unref(c);
}

static void begin_accept(struct agree *a, uint64_t now)
{
	struct ballot *b = &a->b;
	b->change = choose(a);
	if (!b->change || !vote_ballot(a, b->number, b->change)) {
		give_up(a, now);
		return;
	}
	b->phase = BALLOT_ACCEPT;
	b->started = now;
	clear_round(a);
	b->resend_at = now + a->t.ballot / 2;
	b->deadline = now + ((uint64_t)a->t.ballot << (a->tries < TRIES_MAX ? a->tries : TRIES_MAX));
	send_all(a, AGREE_ACCEPT, false);
	heard_vote(a, now, a->me);
}

// --- phase 1 -----------------------------------------------------------------------------------------------------

static void count_fast(struct agree *a, struct hv_change *c)
{
	struct ballot *b = &a->b;
	for (uint32_t i = 0; i < b->n_tallies; i++) {
		if (hv_change_equal(b->tallies[i].change, c)) {
			b->tallies[i].n++;
			return;
		}
	}
	b->tallies = agree_must(realloc(b->tallies, (b->n_tallies + 1) * sizeof(*b->tallies)));
	b->tallies[b->n_tallies++] = (struct tally){.change = hv_change_ref(c), .n = 1};
}

static void heard_promise(struct agree *a, uint64_t now, uint32_t i, uint64_t voted_ballot, struct hv_change *voted,
			  struct hv_change *fast)
{
	struct ballot *b = &a->b;
	bool better = BUG(a, BUG_LOWEST_BALLOT) ? !b->best || voted_ballot < b->best_ballot : voted_ballot > b->best_ballot;
	if (voted && better) {
		hv_change_ref(voted);
		hv_change_unref(b->best);
		b->best = voted;
		b->best_ballot = voted_ballot;
	}
	if (i != HOSTVIEW_NONE && !bit_get(b->heard, i)) {
		bit_set(b->heard, i);
		b->n_heard++;
		if (fast)
			count_fast(a, fast);
	}
	if (has_quorum(a))
		begin_accept(a, now);
}

static void begin_prepare(struct agree *a, uint64_t now)
{
	uint64_t top = a->d.promised > a->highest_seen ? a->d.promised : a->highest_seen;
	uint64_t number = ((top >> 32) + 1) << 32 | (BUG(a, BUG_SAME_BALLOT) ? 0 : a->d.self);
	if (!vote_promise(a, number))
		return;
	ballot_reset(a);
	a->b = (struct ballot){.phase = BALLOT_PREPARE, .number = number, .started = now};
	a->b.heard = agree_must(calloc(a->words, sizeof(*a->b.heard)));
	a->b.resend_at = now + a->t.ballot / 2;
	a->b.deadline = now + ((uint64_t)a->t.ballot << (a->tries < TRIES_MAX ? a->tries : TRIES_MAX));
	send_all(a, AGREE_PREPARE, false);
	heard_promise(a, now, a->me, a->d.voted_ballot, a->d.voted, a->d.fast);
}

// --- whose turn it is --------------------------------------------------------------------------------------------

// Leaders first, then the deputies of leaders in doubt, then the rest.
static uint32_t turn(const struct agree *a)
{
	const struct hostview *v = a->d.view;
	uint32_t leaders = 0, before = 0, deputies = 0, mine = v->hosts[a->me].group;
	for (uint32_t g = 0; g < v->n_groups; g++) {
		bool up = v->leader[g] != HOSTVIEW_NONE && !agree_doubted(a, v->leader[g]);
		leaders += up;
		before += up && g < mine;
		deputies += !up && g < mine;
	}
	if (hostview_is_leader(v, a->me))
		return before;
	if (v->deputy[mine] == a->me)
		return leaders + (agree_doubted(a, v->leader[mine]) ? deputies : v->n_groups);
	return leaders + v->n_groups + 1 + a->me % ORDER_REST;
}

bool agree_busy(const struct agree *a)
{
	return a->n_pending || agree_voted(a);
}

static void note_busy(struct agree *a, uint64_t now)
{
	bool busy = a->me != HOSTVIEW_NONE && (agree_voted(a) || (a->n_pending && agree_stable(a, now)));
	if (!busy)
		a->busy_at = 0;
	else if (!a->busy_at)
		a->busy_at = now;
}

static uint64_t start_at(const struct agree *a)
{
	if (!a->busy_at)
		return AGREE_NEVER;
	uint64_t at = a->busy_at + a->t.fast + (uint64_t)turn(a) * a->t.stagger;
	return at > a->hold_until ? at : a->hold_until;
}

// Exactly half answered: only then the witness has a say.
static bool wants_witness(const struct agree *a)
{
	uint32_t n = a->d.view->n_voters;
	return a->b.phase != BALLOT_NONE && n % 2 == 0 && a->b.n_heard == n / 2 && !a->b.witness_asked;
}

static void ask_witness(struct agree *a)
{
	a->b.witness_asked = true;
	struct agree_msg *m = agree_send(a, a->b.phase == BALLOT_PREPARE ? AGREE_PREPARE : AGREE_ACCEPT, AGREE_WITNESS);
	m->ballot = a->b.number;
	m->change = hv_change_ref(a->b.change);
}

static void tick_running(struct agree *a, uint64_t now)
{
	struct ballot *b = &a->b;
	if (now >= b->deadline) {
		give_up(a, now);
	} else if (now >= b->resend_at) {
		b->resend_at = now + a->t.ballot / 2;
		b->witness_asked = false;
		send_all(a, b->phase == BALLOT_PREPARE ? AGREE_PREPARE : AGREE_ACCEPT, true);
	}
	if (wants_witness(a) && now >= b->started + a->t.ballot / 4)
		ask_witness(a);
}

void ballot_tick(struct agree *a, uint64_t now)
{
	note_busy(a, now);
	if (a->me == HOSTVIEW_NONE)
		return;
	if (a->b.phase != BALLOT_NONE)
		tick_running(a, now);
	else if (now >= start_at(a))
		begin_prepare(a, now);
}

uint64_t ballot_next(const struct agree *a)
{
	const struct ballot *b = &a->b;
	if (a->me == HOSTVIEW_NONE)
		return AGREE_NEVER;
	if (b->phase == BALLOT_NONE)
		return start_at(a);
	uint64_t at = b->resend_at < b->deadline ? b->resend_at : b->deadline;
	uint64_t witness = b->started + a->t.ballot / 4;
	return wants_witness(a) && witness < at ? witness : at;
}

// --- from others -------------------------------------------------------------------------------------------------

static uint32_t index_of(const struct agree *a, uint32_t id)
{
	return id == AGREE_WITNESS ? HOSTVIEW_NONE : hostview_find(a->d.view, id);
}

void ballot_recv_promise(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (a->b.phase != BALLOT_PREPARE || m->ballot != a->b.number)
		return;
	if (m->from == AGREE_WITNESS)
		a->b.witness_heard = true;
	heard_promise(a, now, index_of(a, m->from), m->voted_ballot, m->change, m->fast);
}

void ballot_recv_accepted(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (a->b.phase != BALLOT_ACCEPT || m->ballot != a->b.number)
		return;
	if (m->from == AGREE_WITNESS)
		a->b.witness_heard = true;
	heard_vote(a, now, index_of(a, m->from));
}

void ballot_recv_refuse(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (m->ballot > a->highest_seen)
		a->highest_seen = m->ballot;
	if (a->b.phase != BALLOT_NONE && m->ballot > a->b.number)
		give_up(a, now);
}

void agree_reason(const struct agree *a, uint64_t now, char *buf, size_t len)
{
	const struct hostview *v = a->d.view;
	(void)now;
	buf[0] = '\0';
	if (a->me == HOSTVIEW_NONE)
		snprintf(buf, len, "this host is not in view %llu", (unsigned long long)v->epoch);
	else if (agree_busy(a) && a->tries >= BUSY_MIN_TRIES)
		snprintf(buf, len, "more than %u of the %u hosts of view %llu must answer%s", v->n_voters / 2, v->n_voters,
			 (unsigned long long)v->epoch, v->n_voters % 2 ? "" : ", or half of them and the witness");
}
