// SPDX-License-Identifier: GPL-2.0-or-later
// The voter: what this host promises and votes in the instance of the next epoch. Each change of its state is written before
// the answer that tells of it. These few rules carry the whole safety of the protocol.
#include <stdlib.h>
#include <string.h>

#include "vcd/member/agree_int.h"

bool agree_voted(const struct agree *a)
{
	return a->d.fast || a->d.voted_ballot;
}

// One vote in ballot 0, and none after the promise of a higher one.
bool vote_fast(struct agree *a, struct hv_change *c)
{
	if (a->d.fast && !BUG(a, BUG_VOTE_TWICE))
		return hv_change_equal(a->d.fast, c);
	if (a->d.promised && !BUG(a, BUG_FAST_AFTER_PROMISE))
		return false;
	if (!hostview_allows(a->d.view, c))
		return false;
	hv_change_unref(a->d.fast);
	a->d.fast = hv_change_ref(c);
	agree_persist(a);
	return true;
}

bool vote_promise(struct agree *a, uint64_t ballot)
{
	if (ballot < a->d.promised)
		return false;
	if (ballot > a->d.promised) {
		a->d.promised = ballot;
		agree_persist(a);
	}
	return true;
}

bool vote_ballot(struct agree *a, uint64_t ballot, struct hv_change *c)
{
	if ((ballot < a->d.promised && !BUG(a, BUG_STALE_BALLOT)) || !hostview_allows(a->d.view, c))
		return false;
	if (ballot == a->d.voted_ballot)
		return hv_change_equal(c, a->d.voted) || BUG(a, BUG_SAME_BALLOT);
	hv_change_ref(c);
	hv_change_unref(a->d.voted);
	a->d.voted = c;
	a->d.voted_ballot = ballot;
	if (ballot > a->d.promised)
		a->d.promised = ballot;
	agree_persist(a);
	return true;
}

static void refuse(struct agree *a, const struct agree_msg *m)
{
	struct agree_msg *answer = agree_send(a, AGREE_REFUSE, m->from);
	answer->ballot = a->d.promised;
}

void vote_recv_ask(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	(void)now;
	if (!vote_fast(a, m->change))
		return; // the leader goes on without
	struct agree_msg *answer = agree_send(a, AGREE_ACK, m->from);
	answer->change = hv_change_ref(a->d.fast);
	answer->echo = m->stamp;
	answer->echo_boot = m->boot;
}

// Somebody else coordinates: one's own ballot waits.
static void hold(struct agree *a, uint64_t now, uint64_t ballot)
{
	if (ballot > a->highest_seen)
		a->highest_seen = ballot;
	uint64_t until = now + 2 * a->t.ballot;
	if (until > a->hold_until)
		a->hold_until = until;
	if (a->b.phase != BALLOT_NONE && ballot > a->b.number)
		ballot_reset(a);
}

void vote_recv_prepare(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (!vote_promise(a, m->ballot)) {
		refuse(a, m);
		return;
	}
	hold(a, now, m->ballot);
	struct agree_msg *answer = agree_send(a, AGREE_PROMISE, m->from);
	answer->ballot = m->ballot;
	answer->voted_ballot = a->d.voted_ballot;
	answer->change = hv_change_ref(a->d.voted);
	answer->fast = hv_change_ref(a->d.fast);
}

void vote_recv_accept(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (!vote_ballot(a, m->ballot, m->change)) {
		refuse(a, m);
		return;
	}
	hold(a, now, m->ballot);
	struct agree_msg *answer = agree_send(a, AGREE_ACCEPTED, m->from);
	answer->ballot = m->ballot;
}

// --- the witness -------------------------------------------------------------------------------------------------

void agree_witness_clear(struct agree_witness *w)
{
	hv_change_unref(w->voted);
	*w = (struct agree_witness){.bug = w->bug};
}

static bool witness_prepare(struct agree_witness *w, const struct agree_msg *m, struct agree_msg *answer)
{
	if (m->ballot < w->promised && !BUG(w, BUG_GRANT_TWICE))
		return false;
	w->promised = m->ballot;
	answer->type = AGREE_PROMISE;
	if (!BUG(w, BUG_GRANT_TWICE)) {
		answer->voted_ballot = w->voted_ballot;
		answer->change = hv_change_ref(w->voted);
	}
	return true;
}

static bool witness_accept(struct agree_witness *w, const struct agree_msg *m, struct agree_msg *answer)
{
	if (m->ballot < w->promised && !BUG(w, BUG_GRANT_TWICE))
		return false;
	if (m->ballot == w->voted_ballot && !hv_change_equal(m->change, w->voted) && !BUG(w, BUG_GRANT_TWICE))
		return false;
	hv_change_ref(m->change);
	hv_change_unref(w->voted);
	w->voted = m->change;
	w->promised = w->voted_ballot = m->ballot;
	answer->type = AGREE_ACCEPTED;
	return true;
}

// That a host stands on a view proves that the view was decided: what was granted for earlier ones is over.
bool agree_witness_recv(struct agree_witness *w, const struct agree_msg *m, struct agree_msg *answer)
{
	*answer = (struct agree_msg){.from = AGREE_WITNESS, .to = m->from, .epoch = m->epoch, .ballot = m->ballot};
	memcpy(answer->base, m->base, sizeof(answer->base));
	if (m->epoch < w->epoch)
		return false;
	if (m->epoch > w->epoch) {
		agree_witness_clear(w);
		w->epoch = m->epoch;
	}
	if (m->type == AGREE_PREPARE)
		return witness_prepare(w, m, answer);
	return m->type == AGREE_ACCEPT && m->change && witness_accept(w, m, answer);
}
