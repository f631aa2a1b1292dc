// SPDX-License-Identifier: GPL-2.0-or-later
// The leader: asks its group once facts are stable, sends one proposal to each other leader, and decides when a fast quorum of
// leaders proposed the same with the acknowledgements of a fast quorum of hosts.
#include <stdlib.h>
#include <string.h>

#include "vcd/member/agree_int.h"

bool agree_leads(const struct agree *a)
{
	if (a->me == HOSTVIEW_NONE)
		return false;
	const struct hostview *v = a->d.view;
	if (hostview_is_leader(v, a->me))
		return true;
	uint32_t g = v->hosts[a->me].group;
	return BUG(a, BUG_DEPUTY_AT_ONCE) && v->deputy[g] == a->me && agree_doubted(a, v->leader[g]);
}

static uint32_t my_group(const struct agree *a)
{
	return a->d.view->hosts[a->me].group;
}

static void clear_proposals(struct agree *a)
{
	for (uint32_t g = 0; g < a->n_proposals; g++) {
		hv_change_unref(a->proposals[g].change);
		free(a->proposals[g].acks);
	}
	free(a->proposals);
	a->proposals = NULL;
	a->n_proposals = 0;
}

void fast_reset(struct agree *a)
{
	clear_proposals(a);
	free(a->acks);
	a->acks = NULL;
	a->n_acks = 0;
	a->asked = a->proposed = false;
}

// --- asking the group ------------------------------------------------------------------------------------------

static bool awaited(const struct agree *a, uint32_t i)
{
	const struct hv_host *h = &a->d.view->hosts[i];
	return i != a->me && h->state == HV_ACTIVE && h->group == my_group(a) && !agree_doubted(a, i) && !bit_get(a->acks, i);
}

static void ask(struct agree *a, uint64_t now, bool again)
{
	for (uint32_t i = 0; i < a->d.view->n_hosts; i++) {
		if (!awaited(a, i))
			continue;
		struct agree_msg *m = agree_send(a, AGREE_ASK, a->d.view->hosts[i].id);
		m->change = hv_change_ref(a->d.fast);
		m->again = again;
		m->stamp = now;
		m->boot = a->boot;
	}
}

static bool all_acked(const struct agree *a)
{
	for (uint32_t i = 0; i < a->d.view->n_hosts; i++)
		if (awaited(a, i))
			return false;
	return true;
}

static void begin(struct agree *a, uint64_t now)
{
	a->asked = true;
	a->ack_deadline = now + a->t.ack;
	a->resend_at = now + a->t.resend;
	a->acks = agree_must(calloc(a->words, sizeof(*a->acks)));
	bit_set(a->acks, a->me);
	a->n_acks = 1;
	ask(a, now, false);
}

// --- proposals ---------------------------------------------------------------------------------------------------

static void store(struct agree *a, uint32_t group, struct hv_change *change, const uint64_t *acks)
{
	if (!a->proposals) {
		a->n_proposals = a->d.view->n_groups;
		a->proposals = agree_must(calloc(a->n_proposals, sizeof(*a->proposals)));
	}
	struct proposal *p = &a->proposals[group];
	hv_change_ref(change);
	hv_change_unref(p->change);
	p->change = change;
	free(p->acks);
	p->acks = agree_must(malloc(a->words * sizeof(*acks)));
	memcpy(p->acks, acks, a->words * sizeof(*acks));
}

static void claim_all(struct agree *a)
{
	for (uint32_t i = 0; i < a->d.view->n_hosts; i++)
		if (a->d.view->hosts[i].group == my_group(a) && a->d.view->hosts[i].state != HV_GONE)
			bit_set(a->acks, i);
}

static void send_proposal(struct agree *a, bool again)
{
	const struct hostview *v = a->d.view;
	for (uint32_t g = 0; g < v->n_groups; g++) {
		uint32_t leader = v->leader[g];
		if (leader == HOSTVIEW_NONE || leader == a->me)
			continue;
		struct agree_msg *m = agree_send(a, AGREE_PROPOSE, v->hosts[leader].id);
		m->change = hv_change_ref(a->d.fast);
		m->again = again;
		m->count = v->n_hosts;
		m->acks = agree_must(malloc(a->words * sizeof(*m->acks)));
		memcpy(m->acks, a->acks, a->words * sizeof(*m->acks));
	}
}

static unsigned joins(const struct hv_change *c)
{
	unsigned n = 0;
	for (uint32_t i = 0; i < c->n; i++)
		n += c->events[i].kind == HV_HOST_JOIN || c->events[i].kind == HV_HOST_RETURN;
	return n;
}

static unsigned count_acks(const struct agree *a, const struct hv_change *c, unsigned *ret_leaders)
{
	unsigned n = 0;
	*ret_leaders = 0;
	for (uint32_t w = 0; w < a->words; w++) {
		uint64_t bits = 0;
		for (uint32_t g = 0; g < a->n_proposals; g++)
			if (hv_change_equal(a->proposals[g].change, c) || (BUG(a, BUG_MIXED_PROPOSALS) && a->proposals[g].change))
				bits |= a->proposals[g].acks[w];
		n += (unsigned)__builtin_popcountll(bits);
	}
	for (uint32_t g = 0; g < a->n_proposals; g++)
		*ret_leaders += hv_change_equal(a->proposals[g].change, c) || (BUG(a, BUG_MIXED_PROPOSALS) && a->proposals[g].change);
	return n;
}

static void check(struct agree *a, uint64_t now, struct hv_change *c)
{
	const struct hostview *v = a->d.view;
	unsigned leaders, acks = count_acks(a, c, &leaders);
	unsigned need_leaders = quorum_fast_leaders(v->n_groups), need_acks = quorum_fast_hosts(v->n_voters);
	if (BUG(a, BUG_FAST_MAJORITY)) {
		need_leaders = quorum_majority(v->n_groups);
		need_acks = quorum_majority(v->n_voters);
	}
	if (BUG(a, BUG_JOIN_VOTES)) {
		acks += joins(c);
		leaders += joins(c);
	}
	if (leaders >= need_leaders && acks >= need_acks)
		agree_decide(a, now, c, false);
}

static void propose(struct agree *a, uint64_t now)
{
	a->proposed = true;
	if (BUG(a, BUG_CLAIM_ACKS) || BUG(a, BUG_DEPUTY_AT_ONCE))
		claim_all(a);
	store(a, my_group(a), a->d.fast, a->acks);
	send_proposal(a, false);
	check(a, now, a->d.fast);
}

static void resend(struct agree *a, uint64_t now)
{
	a->resend_at = now + a->t.resend;
	ask(a, now, true);
	if (!a->proposed)
		return;
	store(a, my_group(a), a->d.fast, a->acks);
	send_proposal(a, true);
	check(a, now, a->d.fast);
}

static void start(struct agree *a, uint64_t now)
{
	if (!a->d.fast) {
		struct hv_change *c = agree_pending_change(a);
		bool voted = vote_fast(a, c);
		hv_change_unref(c);
		if (!voted)
			return;
	}
	begin(a, now);
}

// Planted: newer facts replace a vote that was cast.
static void vote_again(struct agree *a)
{
	struct hv_change *c = agree_pending_change(a);
	if (a->d.fast && c->n && !hv_change_equal(c, a->d.fast) && vote_fast(a, c))
		fast_reset(a);
	hv_change_unref(c);
}

void fast_tick(struct agree *a, uint64_t now)
{
	if (BUG(a, BUG_VOTE_TWICE) && a->proposed)
		vote_again(a);
	if (!agree_leads(a) || (a->d.promised && !a->asked))
		return; // a ballot is under way: it decides
	if (!a->asked && (a->d.fast || (a->n_pending && agree_stable(a, now))))
		start(a, now);
	if (a->asked && !a->proposed && (now >= a->ack_deadline || all_acked(a)))
		propose(a, now);
	else if (a->asked && now >= a->resend_at)
		resend(a, now);
}

uint64_t fast_next(const struct agree *a)
{
	if (!a->asked)
		return AGREE_NEVER;
	return a->proposed || a->resend_at < a->ack_deadline ? a->resend_at : a->ack_deadline;
}

// --- from others -------------------------------------------------------------------------------------------------

void fast_recv_ack(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	uint32_t i = hostview_find(a->d.view, m->from);
	if (!a->asked || !hv_change_equal(m->change, a->d.fast) || bit_get(a->acks, i))
		return;
	bit_set(a->acks, i);
	a->n_acks++;
	struct host_facts *f = &a->facts[m->from];
	if (m->echo_boot == a->boot && m->echo <= now && m->echo > f->confirm_at)
		f->confirm_at = m->echo; // it was in this epoch then, so without a vote for the one after the next
}

// Who has not voted joins the first proposal that comes: fewer disagree so, and other facts make the next view.
static void follow(struct agree *a, uint64_t now, struct hv_change *c)
{
	agree_adopt(a, now, c);
	if (!a->asked && !a->d.promised && vote_fast(a, c))
		begin(a, now);
}

void fast_recv_propose(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	const struct hostview *v = a->d.view;
	uint32_t i = hostview_find(v, m->from), g = v->hosts[i].group;
	if (!agree_leads(a) || (!hostview_is_leader(v, i) && !BUG(a, BUG_DEPUTY_AT_ONCE)) || !m->acks || m->count != v->n_hosts)
		return;
	store(a, g, m->change, m->acks);
	follow(a, now, m->change);
	check(a, now, m->change);
}

// --- telling the group -------------------------------------------------------------------------------------------

static bool fails_in(const struct hv_change *c, uint32_t id)
{
	for (uint32_t i = 0; i < c->n && !hv_is_member(&c->events[i]); i++)
		if (c->events[i].id == id)
			return c->events[i].kind == HV_HOST_FAIL || c->events[i].kind == HV_HOST_LOST;
	return false;
}

static bool leader_left(const struct hostview *v, const struct hv_change *c, uint32_t g)
{
	return v->leader[g] == HOSTVIEW_NONE || fails_in(c, v->hosts[v->leader[g]].id);
}

// The group whose leader tells group g: its own, or the next one that still has a leader.
static uint32_t teller(const struct hostview *v, const struct hv_change *c, uint32_t g)
{
	uint32_t t = g;
	for (uint32_t k = 0; k < v->n_groups && leader_left(v, c, t); k++)
		t = (t + 1) % v->n_groups;
	return t;
}

void fast_fan_out(struct agree *a, const struct hostview *v, const struct hv_change *c)
{
	uint32_t mine = v->hosts[a->me].group;
	uint32_t *by = agree_must(malloc(v->n_groups * sizeof(*by)));
	for (uint32_t g = 0; g < v->n_groups; g++)
		by[g] = teller(v, c, g);
	for (uint32_t i = 0; i < v->n_hosts; i++) {
		const struct hv_host *h = &v->hosts[i];
		if (i != a->me && h->state != HV_GONE && by[h->group] == mine && !hostview_is_leader(v, i) && !fails_in(c, h->id))
			agree_tell(a, h->id, false);
	}
	for (uint32_t i = 0; i < c->n && by[0] == mine; i++)
		if (c->events[i].kind == HV_HOST_JOIN || c->events[i].kind == HV_HOST_RETURN)
			agree_tell_full(a, c->events[i].id);
	free(by);
}
