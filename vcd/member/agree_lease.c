// SPDX-License-Identifier: GPL-2.0-or-later
// Status messages: they find those that lag, and renew the time until which a host may call its view valid.
//
// Validity stands on this: if at own time T or later more than half of the hosts had not voted for the next epoch, then the next
// epoch was not decided before T, since its quorum shares a host with them. A host is known to have been so at T when it says
// so in a message that echoes a stamp which was sent at T. Leaders add up their groups; times of others' clocks travel as
// ages, which are stretched by twice the rate that two clocks may differ.
#include <stdlib.h>
#include <string.h>

#include "vcd/member/agree_int.h"

#define FRESH 3 // confirmations older than a third of the validity do not count: they would renew next to nothing
#define NO_AGE UINT64_MAX

static uint64_t stretch(uint64_t age)
{
	return age + age / 50 + 1; // clocks run within 1% of true time
}

// --- adding up ---------------------------------------------------------------------------------------------------

struct part {
	uint64_t at;
	uint32_t n;
};

static int compare_parts(const void *x, const void *y)
{
	const struct part *a = x, *b = y;
	return a->at > b->at ? -1 : a->at < b->at;
}

// This leader's own group: hosts that confirmed lately, and the oldest of these confirmations.
static struct part own_group(const struct agree *a, uint64_t now)
{
	const struct hostview *v = a->d.view;
	struct part p = {.at = now, .n = !agree_voted(a)};
	uint64_t oldest = now > a->t.valid / FRESH ? now - a->t.valid / FRESH : 1;
	for (uint32_t i = 0; i < v->n_hosts; i++) {
		const struct hv_host *h = &v->hosts[i];
		uint64_t at = a->facts[h->id].confirm_at;
		if (i == a->me || h->state == HV_GONE || h->group != v->hosts[a->me].group || at < oldest)
			continue;
		p.n++;
		p.at = at < p.at ? at : p.at;
	}
	return p;
}

// The latest time at which more than half had not voted; 0: none known.
static uint64_t whole_at(const struct agree *a, uint64_t now)
{
	const struct hostview *v = a->d.view;
	struct part *parts = agree_must(malloc((v->n_groups + 1u) * sizeof(*parts)));
	uint32_t n = 0, sum = 0, i = 0;
	parts[n++] = own_group(a, now);
	for (uint32_t g = 0; g < v->n_groups; g++) {
		uint32_t leader = v->leader[g];
		if (leader == HOSTVIEW_NONE || leader == a->me)
			continue;
		const struct host_facts *f = &a->facts[v->hosts[leader].id];
		if (f->group_count)
			parts[n++] = (struct part){.at = f->group_at, .n = f->group_count};
	}
	qsort(parts, n, sizeof(*parts), compare_parts);
	while (i < n && sum < quorum_majority(v->n_voters))
		sum += parts[i++].n;
	uint64_t at = sum >= quorum_majority(v->n_voters) && i > 0 ? parts[i - 1].at : 0;
	free(parts);
	return BUG(a, BUG_RENEW_ALONE) ? now : at;
}

static void raise_valid(struct agree *a, uint64_t from)
{
	if (from > a->valid_from)
		a->valid_from = from;
}

uint64_t agree_valid_until(const struct agree *a)
{
	return a->me != HOSTVIEW_NONE && a->valid_from ? a->valid_from + a->t.valid : 0;
}

uint64_t agree_reuse_ms(const struct agree *a)
{
	if (BUG(a, BUG_REUSE_EARLY))
		return a->t.valid / 2;
	return a->t.valid + a->t.valid * 3 / 100 + 100; // 1.01 / 0.99 of it, and a margin for rounding
}

// --- sending -----------------------------------------------------------------------------------------------------

static void add_group(struct agree *a, struct agree_msg *m, uint64_t now)
{
	struct part own = own_group(a, now);
	m->count = own.n;
	m->age = own.n ? now - own.at : NO_AGE;
}

static struct agree_msg *stamped(struct agree *a, enum agree_type type, uint64_t now, uint32_t to)
{
	struct agree_msg *m = agree_send(a, type, to);
	m->stamp = now;
	m->boot = a->boot;
	m->age = NO_AGE;
	if (to < a->n_facts) {
		m->echo = a->facts[to].seen_stamp;
		m->echo_boot = a->facts[to].seen_boot;
	}
	return m;
}

void lease_send_status(struct agree *a, uint64_t now, uint32_t to, bool again)
{
	struct agree_msg *m = stamped(a, AGREE_STATUS, now, to);
	m->flag = a->me != HOSTVIEW_NONE && !agree_voted(a);
	m->again = again;
	if (agree_leads(a))
		add_group(a, m, now);
}

static void sync_all(struct agree *a, uint64_t now)
{
	const struct hostview *v = a->d.view;
	if (!agree_leads(a)) {
		uint32_t leader = v->leader[v->hosts[a->me].group];
		if (leader != HOSTVIEW_NONE)
			lease_send_status(a, now, v->hosts[leader].id, false);
		return;
	}
	for (uint32_t g = 0; g < v->n_groups; g++)
		if (v->leader[g] != HOSTVIEW_NONE && v->leader[g] != a->me)
			lease_send_status(a, now, v->hosts[v->leader[g]].id, false);
	raise_valid(a, whole_at(a, now));
}

// Who is busy, doubts its leader or is not in the view asks around, one host at a time.
static bool asks_around(const struct agree *a)
{
	if (a->me == HOSTVIEW_NONE || agree_busy(a))
		return true;
	uint32_t leader = a->d.view->leader[a->d.view->hosts[a->me].group];
	return leader == HOSTVIEW_NONE || agree_doubted(a, leader);
}

void lease_tick(struct agree *a, uint64_t now)
{
	if (now >= a->sync_at) {
		a->sync_at = now + (a->valid_from || a->t.sync < 2 * a->t.resend ? a->t.sync : 2 * a->t.resend); // more often until valid
		if (a->me != HOSTVIEW_NONE)
			sync_all(a, now);
	}
	if (now < a->poll_at)
		return;
	a->poll_at = now + 2 * a->t.resend;
	uint32_t whom = asks_around(a) ? agree_ask_whom(a) : HOSTVIEW_NONE;
	if (whom != HOSTVIEW_NONE)
		lease_send_status(a, now, whom, true);
}

// --- receiving ---------------------------------------------------------------------------------------------------

static bool own_stamp(const struct agree *a, uint64_t now, const struct agree_msg *m)
{
	return m->echo && m->echo_boot == a->boot && m->echo <= now;
}

static void saw_stamp(struct agree *a, const struct agree_msg *m)
{
	a->facts[m->from].seen_stamp = m->stamp;
	a->facts[m->from].seen_boot = m->boot;
}

void lease_recv_status(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	uint32_t i = hostview_find(a->d.view, m->from);
	struct host_facts *f = &a->facts[m->from];
	saw_stamp(a, m);
	if (!agree_leads(a) || i == HOSTVIEW_NONE)
		return;
	bool confirms = m->flag && own_stamp(a, now, m);
	if (confirms && m->echo > f->confirm_at)
		f->confirm_at = m->echo;
	if (hostview_is_leader(a->d.view, i)) {
		if (own_stamp(a, now, m) && m->age != NO_AGE && m->echo > stretch(m->age)) {
			f->group_at = m->echo - stretch(m->age);
			f->group_count = m->count;
		}
		return;
	}
	struct agree_msg *answer = stamped(a, AGREE_RENEW, now, m->from);
	answer->echo = m->stamp;
	answer->echo_boot = m->boot;
	uint64_t at = whole_at(a, now);
	raise_valid(a, at);
	answer->age = at ? now - at : NO_AGE;
}

void lease_recv_renew(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	saw_stamp(a, m);
	if (own_stamp(a, now, m) && m->age != NO_AGE && m->echo > stretch(m->age))
		raise_valid(a, m->echo - stretch(m->age));
}

// Hosts that left or went to another group no longer count where they were.
void lease_view_changed(struct agree *a, uint64_t now, const struct hostview *old)
{
	const struct hostview *v = a->d.view;
	for (uint32_t i = 0; old->epoch && i < old->n_hosts; i++) {
		const struct hv_host *was = &old->hosts[i];
		uint32_t j = hostview_find(v, was->id), leader = old->leader[was->group];
		bool stays = was->state != HV_GONE && v->hosts[j].state != HV_GONE && v->hosts[j].incarnation == was->incarnation;
		if (!stays)
			a->facts[was->id].confirm_at = 0;
		if (was->state == HV_GONE || leader == HOSTVIEW_NONE)
			continue;
		bool same_leader = stays && v->leader[v->hosts[j].group] != HOSTVIEW_NONE &&
				   v->hosts[v->leader[v->hosts[j].group]].id == old->hosts[leader].id;
		struct host_facts *f = &a->facts[old->hosts[leader].id];
		if (!same_leader && f->group_count)
			f->group_count--;
	}
	if (a->me == HOSTVIEW_NONE)
		a->valid_from = 0;
	(void)now;
}
