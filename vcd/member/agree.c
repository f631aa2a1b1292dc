// SPDX-License-Identifier: GPL-2.0-or-later
// Agreement: facts and suspicions, dispatch of messages, installs. See agree.h for what is guaranteed.
#include "vcd/member/agree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vcd/member/agree_int.h"

// Each wait has its reason; all are ms.
struct agree_times agree_default_times(void)
{
	return (struct agree_times){
		.eof_quiet = 10,       // closed connections of one cause come within a few ms
		.silence_quiet = 200,  // timeouts of one cause are spread by the heartbeats' phases
		.stable_max = 3000,    // flapping suspicions do not hold a view up for longer
		.suspect_max = 4000,   // a suspicion is confirmed or dropped within 2.5 heartbeats and a probe
		.ack = 150,	       // a group's acknowledgements: a round trip and a write to disk
		.fast = 400,	       // proposals of all leaders: as long again, twice
		.stagger = 250,	       // between would-be coordinators: a ballot on a quiet network ends in this
		.ballot = 400,	       // a ballot's phase, doubled at each try
		.resend = 300,	       // above a round trip and a write to disk under load
		.hearsay = 3000,       // others repeat their facts each `resend`; one in ten arrives at least
		.sync = 5000,	       // status messages: a small part of the heartbeats' bytes
		.grace = 30000,	       // a vcd that is restarted or upgraded is back by then
		.valid = 30000,	       // several status messages may be lost
	};
}

void *agree_must(void *p)
{
	if (!p)
		abort();
	return p;
}

// --- values ------------------------------------------------------------------------------------------------------

void agree_durable_copy(struct agree_durable *to, const struct agree_durable *from)
{
	*to = *from;
	hostview_ref(to->view);
	hv_change_ref(to->fast);
	hv_change_ref(to->voted);
}

void agree_durable_clear(struct agree_durable *d)
{
	hostview_unref(d->view);
	hv_change_unref(d->fast);
	hv_change_unref(d->voted);
	*d = (struct agree_durable){0};
}

void agree_msg_clear(struct agree_msg *m)
{
	hv_change_unref(m->change);
	hv_change_unref(m->fast);
	hostview_unref(m->view);
	free(m->acks);
	*m = (struct agree_msg){0};
}

// --- outputs -----------------------------------------------------------------------------------------------------

static struct agree_out *push(struct agree *a, enum agree_out_kind kind)
{
	if (a->out_at == a->n_out)
		a->out_at = a->n_out = 0;
	if (a->n_out == a->out_room) {
		a->out_room = a->out_room ? 2 * a->out_room : 16;
		a->out = agree_must(realloc(a->out, a->out_room * sizeof(*a->out)));
	}
	struct agree_out *o = &a->out[a->n_out++];
	*o = (struct agree_out){.kind = kind};
	return o;
}

bool agree_pop(struct agree *a, struct agree_out *out)
{
	if (a->out_at == a->n_out)
		return false;
	*out = a->out[a->out_at++];
	return true;
}

struct agree_msg *agree_send(struct agree *a, enum agree_type type, uint32_t to)
{
	struct agree_msg *m = &push(a, AGREE_OUT_SEND)->msg;
	m->type = (uint8_t)type;
	m->from = a->d.self;
	m->to = to;
	m->epoch = a->d.view->epoch;
	memcpy(m->base, a->d.view->digest, sizeof(m->base));
	return m;
}

// One write covers what changed before anything else is said.
void agree_persist(struct agree *a)
{
	struct agree_out *o = a->n_out > a->out_at ? &a->out[a->n_out - 1] : NULL;
	if (!o || o->kind != AGREE_OUT_PERSIST)
		o = push(a, AGREE_OUT_PERSIST);
	o->lazy = BUG(a, BUG_LAZY_VOTE);
}

// An install: others hold the votes that led to it.
static void persist_lazily(struct agree *a)
{
	if (a->n_out == a->out_at || a->out[a->n_out - 1].kind != AGREE_OUT_PERSIST)
		push(a, AGREE_OUT_PERSIST)->lazy = true;
}

void agree_tell_full(struct agree *a, uint32_t to)
{
	struct agree_msg *m = agree_send(a, AGREE_FULL, to);
	m->view = hostview_ref(a->d.view);
}

void agree_tell(struct agree *a, uint32_t to, bool everybody)
{
	if (!a->last) {
		agree_tell_full(a, to);
		return;
	}
	struct agree_msg *m = agree_send(a, AGREE_DECIDED, to);
	m->epoch = a->d.view->epoch - 1;
	memcpy(m->base, a->last_base, sizeof(m->base));
	m->change = hv_change_ref(a->last);
	m->flag = everybody;
}

// Leaders, and the deputies of those in doubt.
static void for_leaders(struct agree *a, void (*fn)(struct agree *a, uint32_t to, const void *arg), const void *arg)
{
	const struct hostview *v = a->d.view;
	for (uint32_t g = 0; g < v->n_groups; g++) {
		uint32_t leader = v->leader[g], deputy = v->deputy[g];
		if (leader != HOSTVIEW_NONE && v->hosts[leader].id != a->d.self)
			fn(a, v->hosts[leader].id, arg);
		if (leader != HOSTVIEW_NONE && agree_doubted(a, leader) && deputy != HOSTVIEW_NONE &&
		    v->hosts[deputy].id != a->d.self)
			fn(a, v->hosts[deputy].id, arg);
	}
}

uint32_t agree_ask_whom(struct agree *a)
{
	const struct hostview *v = a->d.view;
	for (uint32_t k = 0; k < v->n_hosts; k++) {
		const struct hv_host *h = &v->hosts[a->rotor++ % v->n_hosts];
		if (h->id != a->d.self && (h->state != HV_GONE || a->me == HOSTVIEW_NONE))
			return h->id;
	}
	return HOSTVIEW_NONE;
}

// --- suspicions --------------------------------------------------------------------------------------------------

static void room_for(struct agree *a, uint32_t host)
{
	if (host < a->n_facts || host >= HOSTVIEW_HOSTS_MAX)
		return;
	uint32_t n = host + 1;
	a->facts = agree_must(realloc(a->facts, n * sizeof(*a->facts)));
	memset(a->facts + a->n_facts, 0, (n - a->n_facts) * sizeof(*a->facts));
	a->n_facts = n;
}

bool agree_doubted(const struct agree *a, uint32_t index)
{
	if (index >= a->d.view->n_hosts)
		return true;
	const struct host_facts *f = &a->facts[a->d.view->hosts[index].id];
	return f->open_until || f->down;
}

static void set_open(struct agree *a, uint64_t now, uint32_t host, bool open)
{
	struct host_facts *f = &a->facts[host];
	bool was = f->open_until != 0;
	f->open_until = open ? now + a->t.suspect_max : 0;
	if (open && BUG(a, BUG_SUSPECT_FOREVER))
		f->open_until = AGREE_NEVER;
	if (open && !was)
		a->n_open++;
	else if (!open && was)
		a->n_open--;
}

struct suspicion {
	uint32_t host;
	bool open;
};

static void send_suspicion(struct agree *a, uint32_t to, const void *arg)
{
	const struct suspicion *s = arg;
	if (to == s->host)
		return;
	struct agree_msg *m = agree_send(a, AGREE_SUSPECT, to);
	m->host = s->host;
	m->flag = s->open;
}

void agree_suspect(struct agree *a, uint64_t now, uint32_t host, bool open, bool tell)
{
	if (!hostview_is_voter(a->d.view, host) || host == a->d.self)
		return;
	struct host_facts *f = &a->facts[host];
	if (f->open_here == open)
		return;
	f->open_here = open;
	set_open(a, now, host, open);
	if (tell && a->me != HOSTVIEW_NONE)
		for_leaders(a, send_suspicion, &(struct suspicion){host, open});
	if (open)
		lease_send_status(a, now, host, true); // it may be silent because it has a newer view
	agree_tick(a, now);
}

static void expire_suspicions(struct agree *a, uint64_t now)
{
	if (BUG(a, BUG_SUSPECT_FOREVER))
		return;
	for (uint32_t i = 0; a->n_open && i < a->n_facts; i++)
		if (a->facts[i].open_until && a->facts[i].open_until <= now)
			set_open(a, now, i, false);
}

bool agree_stable(const struct agree *a, uint64_t now)
{
	if (BUG(a, BUG_SUSPECT_FOREVER))
		return !a->n_open && now >= a->quiet_at;
	if (a->first_fact_at && now >= a->first_fact_at + a->t.stable_max)
		return true;
	return !a->n_open && now >= a->quiet_at;
}

// --- facts -------------------------------------------------------------------------------------------------------

static void mark_down(struct agree *a)
{
	for (uint32_t i = 0; i < a->n_facts; i++)
		a->facts[i].down = 0;
	for (uint32_t i = 0; i < a->n_pending; i++) {
		const struct hv_event *e = &a->pending[i].event;
		if (e->kind == HV_HOST_FAIL || e->kind == HV_HOST_LOST)
			a->facts[e->id].down = e->kind;
	}
}

static struct pending *find_pending(struct agree *a, const struct hv_event *e)
{
	for (uint32_t i = 0; i < a->n_pending; i++)
		if (hv_event_compare(&a->pending[i].event, e) == 0)
			return &a->pending[i];
	return NULL;
}

static struct pending *new_pending(struct agree *a)
{
	if (a->n_pending == a->pending_room) {
		a->pending_room = a->pending_room ? 2 * a->pending_room : 8;
		a->pending = agree_must(realloc(a->pending, a->pending_room * sizeof(*a->pending)));
	}
	a->pending[a->n_pending] = (struct pending){0};
	return &a->pending[a->n_pending++];
}

static bool asks_in(const struct hv_event *e, uint32_t host)
{
	return (e->kind == HV_HOST_JOIN || e->kind == HV_HOST_RETURN) && e->id == host;
}

// What this host may say itself: nobody is dead in his own eyes, and who is out speaks for himself only.
static bool may_say(const struct agree *a, const struct hv_event *e)
{
	if (a->me == HOSTVIEW_NONE)
		return asks_in(e, a->d.self);
	return e->id != a->d.self || (e->kind != HV_HOST_FAIL && e->kind != HV_HOST_LOST);
}

// True when something is new in it.
static bool add_fact(struct agree *a, uint64_t now, const struct hv_event *e, bool mine)
{
	if (e->kind >= HV_KINDS || !hostview_applies(a->d.view, e))
		return false;
	if (mine && !may_say(a, e))
		return false;
	if (!hv_is_member(e))
		room_for(a, e->id);
	struct pending *p = find_pending(a, e);
	if (p)
		p->until = now + a->t.hearsay;
	if (p && (p->event.kind > e->kind || (p->event.kind == e->kind && p->event.what >= e->what))) {
		p->mine |= mine;
		return false;
	}
	if (!p)
		p = new_pending(a);
	p->event = *e;
	p->mine = mine;
	p->until = now + a->t.hearsay;
	uint64_t quiet = now + (e->evidence == HV_BY_SILENCE ? a->t.silence_quiet : a->t.eof_quiet);
	a->quiet_at = quiet > a->quiet_at ? quiet : a->quiet_at;
	a->first_fact_at = a->first_fact_at ? a->first_fact_at : now;
	if (e->kind == HV_HOST_FAIL || e->kind == HV_HOST_LOST) {
		a->facts[e->id].down = e->kind;
		a->facts[e->id].open_here = false;
		set_open(a, now, e->id, false);
	}
	return true;
}

void agree_adopt(struct agree *a, uint64_t now, const struct hv_change *c)
{
	for (uint32_t i = 0; c && i < c->n; i++)
		add_fact(a, now, &c->events[i], false);
}

static struct hv_change *gather(const struct agree *a, bool mine_only)
{
	struct hv_event *events = agree_must(malloc((a->n_pending + 1) * sizeof(*events)));
	uint32_t n = 0;
	for (uint32_t i = 0; i < a->n_pending; i++)
		if (a->pending[i].mine || !mine_only)
			events[n++] = a->pending[i].event;
	struct hv_change *c = hv_change_create(events, n);
	free(events);
	return c;
}

// No more than hostview_allows(): the others make the next view, unless they are taken back by then.
struct hv_change *agree_pending_change(const struct agree *a)
{
	struct hv_change *c = gather(a, false);
	uint32_t n = 0, fail = 0, leave = 0, voters = a->d.view->n_voters;
	for (uint32_t i = 0; i < c->n; i++) {
		bool fails = c->events[i].kind == HV_HOST_FAIL, leaves = c->events[i].kind == HV_HOST_LEAVE;
		if ((fails && fail == voters / 2) || ((fails || leaves) && fail + leave + 1 >= voters))
			continue;
		fail += fails;
		leave += leaves;
		c->events[n++] = c->events[i];
	}
	c->n = n;
	return c;
}

static void drop_pending(struct agree *a, uint32_t i)
{
	a->pending[i] = a->pending[--a->n_pending];
	if (a->n_pending == 0)
		a->first_fact_at = 0;
}

static void expire_hearsay(struct agree *a, uint64_t now)
{
	uint32_t before = a->n_pending;
	for (uint32_t i = a->n_pending; i > 0; i--)
		if (!a->pending[i - 1].mine && a->pending[i - 1].until <= now)
			drop_pending(a, i - 1);
	if (a->n_pending != before)
		mark_down(a);
}

struct report {
	struct hv_change *change;
	bool again;
};

static void send_report(struct agree *a, uint32_t to, const void *arg)
{
	const struct report *r = arg;
	struct agree_msg *m = agree_send(a, AGREE_REPORT, to);
	m->change = hv_change_ref(r->change);
	m->again = r->again;
}

static void report(struct agree *a, uint64_t now, bool again)
{
	struct report r = {.change = gather(a, true), .again = again};
	a->report_at = now + a->t.resend;
	if (r.change->n) {
		for_leaders(a, send_report, &r);
		uint32_t other = a->me == HOSTVIEW_NONE ? agree_ask_whom(a) : HOSTVIEW_NONE;
		if (other != HOSTVIEW_NONE)
			send_report(a, other, &r);
	}
	hv_change_unref(r.change);
}

void agree_fact(struct agree *a, uint64_t now, const struct hv_event *event)
{
	if (add_fact(a, now, event, true))
		report(a, now, false);
	agree_tick(a, now);
}

// What an answer of the host disproves; Slurm's word and a guest's death stand.
static bool taken_back(const struct hv_event *e)
{
	bool here = e->evidence == HV_BY_SILENCE || e->evidence == HV_BY_EOF || e->evidence == HV_BY_GRACE;
	return here && (e->kind == HV_HOST_FAIL || e->kind == HV_HOST_LOST);
}

void agree_alive(struct agree *a, uint64_t now, uint32_t host)
{
	uint32_t i = hostview_find(a->d.view, host);
	if (i == HOSTVIEW_NONE || host == a->d.self)
		return;
	agree_suspect(a, now, host, false, true);
	for (uint32_t k = 0; k < a->n_pending; k++) {
		const struct pending *p = &a->pending[k];
		if (p->event.id == host && p->mine && taken_back(&p->event)) {
			drop_pending(a, k);
			mark_down(a);
			break;
		}
	}
}

// The view calls this host lost, and it runs: it is the authority on that.
static void say_back(struct agree *a, uint64_t now)
{
	if (a->me == HOSTVIEW_NONE || a->d.view->hosts[a->me].state != HV_LOST)
		return;
	struct hv_event e = {.kind = HV_HOST_BACK, .id = a->d.self, .incarnation = a->d.incarnation};
	if (add_fact(a, now, &e, true))
		report(a, now, false);
}

void agree_ask_in(struct agree *a, uint64_t now)
{
	if (a->me != HOSTVIEW_NONE || a->d.view->epoch == 0) // first it must know the view that it wants to be in
		return;
	uint32_t i = hostview_find(a->d.view, a->d.self);
	struct hv_event e = {.kind = HV_HOST_JOIN, .id = a->d.self, .incarnation = 1};
	if (i != HOSTVIEW_NONE) {
		e.kind = HV_HOST_RETURN;
		e.incarnation = a->d.view->hosts[i].incarnation + 1;
	}
	a->d.incarnation = e.incarnation;
	agree_persist(a);
	agree_fact(a, now, &e);
}

// --- installs ----------------------------------------------------------------------------------------------------

static void find_me(struct agree *a)
{
	const struct hostview *v = a->d.view;
	uint32_t i = hostview_find(v, a->d.self);
	a->me = HOSTVIEW_NONE;
	if (i != HOSTVIEW_NONE && v->hosts[i].state != HV_GONE && v->hosts[i].incarnation == a->d.incarnation)
		a->me = i;
	a->words = v->n_hosts / 64 + 1;
	room_for(a, a->d.self);
	if (v->n_hosts)
		room_for(a, v->hosts[v->n_hosts - 1].id);
}

static void forget_old_facts(struct agree *a, uint64_t now)
{
	for (uint32_t i = a->n_pending; i > 0; i--) {
		const struct hv_event *e = &a->pending[i - 1].event;
		bool told = a->me != HOSTVIEW_NONE || asks_in(e, a->d.self); // who is out knows nothing of the others
		if (!told || !hostview_applies(a->d.view, e))
			drop_pending(a, i - 1);
	}
	mark_down(a);
	if (a->n_pending) {
		a->first_fact_at = now;
		a->quiet_at = now + a->t.eof_quiet;
	}
	for (uint32_t i = 0; i < a->d.view->n_hosts; i++) {
		const struct hv_host *h = &a->d.view->hosts[i];
		struct host_facts *f = &a->facts[h->id];
		f->lost_at = h->state != HV_LOST ? 0 : f->lost_at ? f->lost_at : now;
		if (h->state == HV_GONE) {
			set_open(a, now, h->id, false);
			f->open_here = false;
		}
	}
}

void agree_install(struct agree *a, uint64_t now, struct hostview *view, struct hv_change *change)
{
	bool was_in = a->me != HOSTVIEW_NONE;
	struct hostview *old = a->d.view;
	fast_reset(a);
	ballot_reset(a);
	hv_change_unref(a->last);
	a->last = hv_change_ref(change);
	memcpy(a->last_base, old->digest, sizeof(a->last_base));
	hv_change_unref(a->d.fast);
	hv_change_unref(a->d.voted);
	a->d = (struct agree_durable){.self = a->d.self, .incarnation = a->d.incarnation, .view = view};
	a->busy_at = a->hold_until = a->highest_seen = a->tries = 0;
	find_me(a);
	persist_lazily(a);
	push(a, AGREE_OUT_VIEW);
	if (was_in && a->me == HOSTVIEW_NONE)
		push(a, AGREE_OUT_REMOVED);
	forget_old_facts(a, now);
	lease_view_changed(a, now, old);
	hostview_unref(old);
}

void agree_decide(struct agree *a, uint64_t now, struct hv_change *change, bool everybody)
{
	struct hostview *view = hostview_apply(a->d.view, change);
	if (!view)
		return; // nobody votes for such a change
	struct hostview *old = hostview_ref(a->d.view);
	bool tells = !everybody && a->me != HOSTVIEW_NONE && hostview_is_leader(old, a->me);
	struct agree was = {.me = a->me};
	hv_change_ref(change);
	agree_install(a, now, view, change);
	if (tells) {
		uint32_t me = a->me;
		a->me = was.me; // its place in the view whose group it tells
		fast_fan_out(a, old, change);
		a->me = me;
	}
	hv_change_unref(change);
	hostview_unref(old);
}

// --- messages ----------------------------------------------------------------------------------------------------

// That a member moved is no news when it comes late: it may have moved back since.
static bool is_late_move(const struct agree *a, const struct agree_msg *m, const struct hv_event *e)
{
	return e->kind == HV_MEMBER && e->what == HV_MOVE && m->epoch != a->d.view->epoch;
}

static void recv_report(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	bool voter = hostview_is_voter(a->d.view, m->from);
	for (uint32_t i = 0; i < m->change->n; i++) {
		const struct hv_event *e = &m->change->events[i];
		if ((voter || asks_in(e, m->from)) && !is_late_move(a, m, e))
			add_fact(a, now, e, false);
	}
}

static void recv_suspect(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (m->host < a->n_facts && m->host != a->d.self && !a->facts[m->host].open_here &&
	    hostview_is_voter(a->d.view, m->host) && !a->facts[m->host].down)
		set_open(a, now, m->host, m->flag);
}

static void recv_decided(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (m->change)
		agree_decide(a, now, m->change, m->flag);
}

static void recv_full(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (m->view && hostview_follows(a->d.view, m->view))
		agree_install(a, now, hostview_ref(m->view), NULL);
}

static const struct {
	void (*recv)(struct agree *a, uint64_t now, const struct agree_msg *m);
	bool voters_only; // both ends are voters of the view
	bool change;	  // carries one
	bool always_answer; // to a sender that is behind
} dispatch[AGREE_TYPES] = {
	[AGREE_REPORT] = {recv_report, false, true, false},
	[AGREE_SUSPECT] = {recv_suspect, true, false, false},
	[AGREE_ASK] = {vote_recv_ask, true, true, true},
	[AGREE_ACK] = {fast_recv_ack, true, true, false},
	[AGREE_PROPOSE] = {fast_recv_propose, true, true, false},
	[AGREE_PREPARE] = {vote_recv_prepare, true, false, true},
	[AGREE_PROMISE] = {ballot_recv_promise, true, false, false},
	[AGREE_ACCEPT] = {vote_recv_accept, true, true, true},
	[AGREE_ACCEPTED] = {ballot_recv_accepted, true, false, false},
	[AGREE_REFUSE] = {ballot_recv_refuse, true, false, false},
	[AGREE_DECIDED] = {recv_decided, false, true, false},
	[AGREE_FULL] = {recv_full, false, false, false},
	[AGREE_STATUS] = {lease_recv_status, false, false, true},
	[AGREE_RENEW] = {lease_recv_renew, true, false, false},
};

static bool knows_sender(const struct agree *a, const struct agree_msg *m)
{
	if (m->from == AGREE_WITNESS)
		return m->type == AGREE_PROMISE || m->type == AGREE_ACCEPTED;
	if (m->from >= a->n_facts)
		return m->type == AGREE_REPORT || m->type == AGREE_FULL;
	return !dispatch[m->type].voters_only || (a->me != HOSTVIEW_NONE && hostview_is_voter(a->d.view, m->from));
}

// The sender lags: it gets what it lacks, when it waits for it.
static void recv_behind(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (m->type == AGREE_REPORT)
		recv_report(a, now, m);
	if ((!m->again && !dispatch[m->type].always_answer) || m->from == AGREE_WITNESS || BUG(a, BUG_NO_CATCH_UP))
		return;
	if (m->epoch + 1 == a->d.view->epoch)
		agree_tell(a, m->from, true);
	else
		agree_tell_full(a, m->from);
}

// This host lags: it says so, not too often.
static void recv_ahead(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (now < a->need_at || m->from == AGREE_WITNESS)
		return;
	a->need_at = now + a->t.resend / 4;
	lease_send_status(a, now, m->from, true);
}

void agree_recv(struct agree *a, uint64_t now, const struct agree_msg *m)
{
	if (m->type >= AGREE_TYPES || m->from == a->d.self || (dispatch[m->type].change && !m->change))
		return;
	uint64_t epoch = a->d.view->epoch;
	if (m->type == AGREE_FULL)
		recv_full(a, now, m);
	else if (m->epoch > epoch)
		recv_ahead(a, now, m);
	else if (m->epoch < epoch)
		recv_behind(a, now, m);
	else if (knows_sender(a, m) && memcmp(m->base, a->d.view->digest, sizeof(m->base)) == 0)
		dispatch[m->type].recv(a, now, m);
	agree_tick(a, now);
}

// --- time --------------------------------------------------------------------------------------------------------

// Lost hosts that do not come back are failed ones.
static void end_grace(struct agree *a, uint64_t now)
{
	if (!agree_leads(a))
		return;
	for (uint32_t i = 0; i < a->d.view->n_hosts; i++) {
		const struct hv_host *h = &a->d.view->hosts[i];
		uint64_t since = a->facts[h->id].lost_at;
		if (since && now >= since + a->t.grace) {
			struct hv_event e = {
				.kind = HV_HOST_FAIL, .evidence = HV_BY_GRACE, .id = h->id, .incarnation = h->incarnation};
			a->facts[h->id].lost_at = now;
			if (add_fact(a, now, &e, true))
				report(a, now, false);
		}
	}
}

void agree_tick(struct agree *a, uint64_t now)
{
	if (now >= a->poll_at || now >= a->sync_at) {
		say_back(a, now);
		end_grace(a, now);
		expire_suspicions(a, now);
		expire_hearsay(a, now);
	}
	if (a->n_pending && now >= a->report_at)
		report(a, now, true);
	uint64_t epoch;
	do {
		epoch = a->d.view->epoch;
		fast_tick(a, now);
		ballot_tick(a, now);
	} while (a->d.view->epoch != epoch);
	lease_tick(a, now);
}

static uint64_t sooner(uint64_t x, uint64_t y)
{
	return x < y ? x : y;
}

uint64_t agree_next(const struct agree *a)
{
	uint64_t at = sooner(a->sync_at, a->poll_at);
	if (a->n_pending) {
		at = sooner(at, a->report_at);
		if (!a->busy_at && a->me != HOSTVIEW_NONE) // not stable yet
			at = sooner(at, a->n_open ? a->first_fact_at + a->t.stable_max : a->quiet_at);
	}
	return sooner(at, sooner(fast_next(a), ballot_next(a)));
}

// --- life --------------------------------------------------------------------------------------------------------

struct agree *agree_create(const struct agree_conf *conf, const struct agree_durable *durable, uint64_t now)
{
	struct agree *a = agree_must(calloc(1, sizeof(*a)));
	a->t = conf->times;
	a->boot = conf->boot;
	a->bug = conf->bug;
	agree_durable_copy(&a->d, durable);
	if (BUG(a, BUG_FORGET_FAST_VOTE)) {
		hv_change_unref(a->d.fast);
		a->d.fast = NULL;
	}
	if (BUG(a, BUG_FORGET_PROMISE))
		a->d.promised = 0;
	if (BUG(a, BUG_FORGET_VOTE)) {
		hv_change_unref(a->d.voted);
		a->d.voted = NULL;
		a->d.voted_ballot = 0;
	}
	find_me(a);
	a->sync_at = a->poll_at = now;
	a->rotor = a->d.self + 1;
	forget_old_facts(a, now);
	return a;
}

void agree_destroy(struct agree *a)
{
	if (!a)
		return;
	struct agree_out out;
	while (agree_pop(a, &out))
		agree_msg_clear(&out.msg);
	fast_reset(a);
	ballot_reset(a);
	agree_durable_clear(&a->d);
	hv_change_unref(a->last);
	free(a->pending);
	free(a->facts);
	free(a->out);
	free(a);
}

const struct agree_durable *agree_durable(const struct agree *a)
{
	return &a->d;
}

const struct hostview *agree_view(const struct agree *a)
{
	return a->d.view;
}

const struct hv_change *agree_last(const struct agree *a)
{
	return a->last;
}

bool agree_is_voter(const struct agree *a)
{
	return a->me != HOSTVIEW_NONE;
}

void agree_facts_text(const struct agree *a, char *buf, size_t len)
{
	static const char *const kinds[HV_KINDS] = {"back", "lost", "leave", "fail", "join", "return", "agent", "member"};
	size_t used = 0;
	buf[0] = '\0';
	for (uint32_t i = 0; i < a->n_pending && used < len; i++) {
		const struct hv_event *e = &a->pending[i].event;
		int n = snprintf(buf + used, len - used, " %s(%u.%u)%s", kinds[e->kind], e->id, e->incarnation,
				 a->pending[i].mine ? "" : "?");
		used += n > 0 ? (size_t)n : 0;
	}
}

// --- what to watch -----------------------------------------------------------------------------------------------

static bool leader_in_doubt(const struct agree *a, uint32_t group)
{
	uint32_t leader = a->d.view->leader[group];
	return leader == HOSTVIEW_NONE || agree_doubted(a, leader);
}

bool agree_watches(const struct agree *a, uint32_t host)
{
	const struct hostview *v = a->d.view;
	uint32_t i = hostview_find(v, host);
	if (a->me == HOSTVIEW_NONE || i == HOSTVIEW_NONE || i == a->me || v->hosts[i].state != HV_ACTIVE)
		return false; // of a lost one silence is no news: it says itself when it is back, and has its grace
	uint32_t group = v->hosts[i].group;
	bool same = group == v->hosts[a->me].group;
	if (a->tries > 0 || a->facts[host].down)
		return true; // no quorum at the first try: who does not answer? And who was down may come back
	if (agree_leads(a))
		return same || hostview_is_leader(v, i) || leader_in_doubt(a, group);
	return same && (hostview_is_leader(v, i) || leader_in_doubt(a, group));
}

bool agree_can_observe(const struct agree *a, uint32_t host)
{
	const struct hostview *v = a->d.view;
	uint32_t i = hostview_find(v, host);
	return a->me != HOSTVIEW_NONE && i != HOSTVIEW_NONE && i != a->me && v->hosts[i].state == HV_ACTIVE &&
	       v->hosts[i].group == v->hosts[a->me].group && !agree_doubted(a, i);
}

bool agree_probes(const struct agree *a, uint32_t host)
{
	uint32_t i = hostview_find(a->d.view, host);
	if (i == HOSTVIEW_NONE || !agree_watches(a, host))
		return false;
	uint32_t leader = a->d.view->leader[a->d.view->hosts[i].group];
	if (leader == HOSTVIEW_NONE)
		return false;
	const struct host_facts *f = &a->facts[a->d.view->hosts[leader].id];
	return leader != i && (f->open_until || f->down == HV_HOST_FAIL);
}
