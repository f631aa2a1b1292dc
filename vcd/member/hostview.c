// SPDX-License-Identifier: GPL-2.0-or-later
// Views of hosts: see hostview.h. Everything here is a function of the old view and the change, so that hosts that agree on
// changes agree on groups, leaders and deputies as well.
#include "vcd/member/hostview.h"

#include <sodium/crypto_hash_sha256.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/buf.h"

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

// --- changes -----------------------------------------------------------------------------------------------------

int hv_event_compare(const struct hv_event *a, const struct hv_event *b)
{
	bool a_member = hv_is_member(a), b_member = hv_is_member(b);
	if (a_member != b_member)
		return a_member ? 1 : -1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static int compare_severity(const void *x, const void *y)
{
	const struct hv_event *a = x, *b = y;
	int by_subject = hv_event_compare(a, b);
	if (by_subject)
		return by_subject;
	if (a->kind != b->kind)
		return a->kind > b->kind ? -1 : 1;
	if (a->what != b->what)
		return a->what > b->what ? -1 : 1;
	return a->incarnation > b->incarnation ? -1 : a->incarnation < b->incarnation;
}

struct hv_change *hv_change_create(const struct hv_event *events, size_t n)
{
	struct hv_change *c = must(calloc(1, sizeof(*c) + n * sizeof(*events)));
	struct hv_event *sorted = must(malloc((n + 1) * sizeof(*events)));
	if (n)
		memcpy(sorted, events, n * sizeof(*events));
	qsort(sorted, n, sizeof(*sorted), compare_severity);
	for (size_t i = 0; i < n; i++)
		if (c->n == 0 || hv_event_compare(&c->events[c->n - 1], &sorted[i]) != 0)
			c->events[c->n++] = sorted[i];
	free(sorted);
	c->refs = 1;
	return c;
}

struct hv_change *hv_change_ref(struct hv_change *c)
{
	if (c)
		c->refs++;
	return c;
}

void hv_change_unref(struct hv_change *c)
{
	if (c && --c->refs == 0)
		free(c);
}

static bool event_equal(const struct hv_event *a, const struct hv_event *b)
{
	return a->kind == b->kind && a->what == b->what && a->id == b->id && a->host == b->host &&
	       a->incarnation == b->incarnation;
}

bool hv_change_equal(const struct hv_change *a, const struct hv_change *b)
{
	if (a == b)
		return true;
	if (!a || !b || a->n != b->n)
		return false;
	for (uint32_t i = 0; i < a->n; i++)
		if (!event_equal(&a->events[i], &b->events[i]))
			return false;
	return true;
}

// --- life --------------------------------------------------------------------------------------------------------

struct hostview *hostview_ref(struct hostview *v)
{
	if (v)
		v->refs++;
	return v;
}

void hostview_unref(struct hostview *v)
{
	if (!v || --v->refs > 0)
		return;
	free(v->hosts);
	free(v->members);
	free(v->leader);
	free(v->deputy);
	free(v);
}

static struct hostview *copy(const struct hostview *old, size_t more_hosts, size_t more_members)
{
	struct hostview *v = must(calloc(1, sizeof(*v)));
	v->refs = 1;
	v->epoch = old->epoch;
	v->want_groups = old->want_groups;
	v->n_groups = old->n_groups;
	v->n_hosts = old->n_hosts;
	v->n_members = old->n_members;
	v->hosts = must(calloc(old->n_hosts + more_hosts + 1, sizeof(*v->hosts)));
	v->members = must(calloc(old->n_members + more_members + 1, sizeof(*v->members)));
	if (old->n_hosts)
		memcpy(v->hosts, old->hosts, old->n_hosts * sizeof(*v->hosts));
	if (old->n_members)
		memcpy(v->members, old->members, old->n_members * sizeof(*v->members));
	return v;
}

// --- groups ------------------------------------------------------------------------------------------------------

unsigned hostview_groups_for(unsigned n_hosts)
{
	if (n_hosts <= HOSTVIEW_FLAT_MAX)
		return n_hosts ? n_hosts : 1;
	unsigned root = HOSTVIEW_FLAT_MAX / 2;
	while (root * root + root < n_hosts)
		root++;
	return root > HOSTVIEW_FLAT_MAX ? root : HOSTVIEW_FLAT_MAX;
}

static unsigned count_voters(const struct hostview *v)
{
	unsigned n = 0;
	for (uint32_t i = 0; i < v->n_hosts; i++)
		n += v->hosts[i].state != HV_GONE;
	return n;
}

static unsigned groups_wanted(const struct hostview *v, unsigned n_voters)
{
	unsigned m = v->want_groups ? v->want_groups : hostview_groups_for(n_voters);
	if (m > n_voters)
		m = n_voters;
	return m ? m : 1;
}

static void count_groups(const struct hostview *v, unsigned *sizes)
{
	memset(sizes, 0, (v->n_groups + 1u) * sizeof(*sizes));
	for (uint32_t i = 0; i < v->n_hosts; i++)
		if (v->hosts[i].state != HV_GONE)
			sizes[v->hosts[i].group]++;
}

// All hosts anew, in runs of the plan's order.
static void regroup(struct hostview *v, unsigned n_voters, unsigned m)
{
	unsigned k = 0;
	for (uint32_t i = 0; i < v->n_hosts; i++)
		if (v->hosts[i].state != HV_GONE)
			v->hosts[i].group = (uint16_t)((uint64_t)k++ * m / n_voters);
	v->n_groups = (uint16_t)m;
}

// Groups without hosts go, the numbers close up.
static void close_up(struct hostview *v, const unsigned *sizes)
{
	uint16_t *number = must(calloc(v->n_groups + 1u, sizeof(*number)));
	uint16_t next = 0;
	for (unsigned g = 0; g < v->n_groups; g++)
		number[g] = sizes[g] ? next++ : 0;
	for (uint32_t i = 0; i < v->n_hosts; i++)
		v->hosts[i].group = v->hosts[i].state == HV_GONE ? 0 : number[v->hosts[i].group];
	v->n_groups = next ? next : 1;
	free(number);
}

// Groups stay as they are while they are of use: only far too few, too many or too large ones are made anew.
static void keep_groups(struct hostview *v)
{
	unsigned n = count_voters(v), m = groups_wanted(v, n), largest = 0;
	unsigned *sizes = must(calloc(v->n_groups + 1u, sizeof(*sizes)));
	count_groups(v, sizes);
	close_up(v, sizes);
	count_groups(v, sizes);
	for (unsigned g = 0; g < v->n_groups; g++)
		largest = sizes[g] > largest ? sizes[g] : largest;
	free(sizes);
	if (n > 0 && (v->n_groups * 2 < m || v->n_groups > m * 2 || largest > 2 * ((n + m - 1) / m)))
		regroup(v, n, m);
}

static uint16_t smallest_group(const struct hostview *v)
{
	unsigned *sizes = must(calloc(v->n_groups + 1u, sizeof(*sizes)));
	unsigned best = 0;
	count_groups(v, sizes);
	for (unsigned g = 1; g < v->n_groups; g++)
		best = sizes[g] < sizes[best] ? g : best;
	free(sizes);
	return (uint16_t)best;
}

static bool senior(const struct hv_host *a, const struct hv_host *b)
{
	return a->since != b->since ? a->since < b->since : a->id < b->id;
}

static void name_leaders(struct hostview *v)
{
	v->leader = must(malloc((v->n_groups + 1u) * sizeof(*v->leader)));
	v->deputy = must(malloc((v->n_groups + 1u) * sizeof(*v->deputy)));
	for (unsigned g = 0; g < v->n_groups; g++)
		v->leader[g] = v->deputy[g] = HOSTVIEW_NONE;
	for (uint32_t i = 0; i < v->n_hosts; i++) {
		const struct hv_host *h = &v->hosts[i];
		if (h->state != HV_ACTIVE)
			continue;
		uint32_t *first = &v->leader[h->group], *second = &v->deputy[h->group];
		if (*first == HOSTVIEW_NONE || senior(h, &v->hosts[*first])) {
			*second = *first;
			*first = i;
		} else if (*second == HOSTVIEW_NONE || senior(h, &v->hosts[*second])) {
			*second = i;
		}
	}
}

// --- digest ------------------------------------------------------------------------------------------------------

static void digest_number(crypto_hash_sha256_state *state, uint64_t n)
{
	uint8_t bytes[8];
	vc_put_be64(bytes, n);
	crypto_hash_sha256_update(state, bytes, sizeof(bytes));
}

static void compute_digest(struct hostview *v)
{
	crypto_hash_sha256_state state;
	crypto_hash_sha256_init(&state);
	digest_number(&state, v->epoch);
	digest_number(&state, (uint64_t)v->want_groups << 16 | v->n_groups);
	digest_number(&state, (uint64_t)v->n_hosts << 32 | v->n_members);
	for (uint32_t i = 0; i < v->n_hosts; i++) {
		const struct hv_host *h = &v->hosts[i];
		digest_number(&state, (uint64_t)h->id << 32 | h->incarnation);
		digest_number(&state, h->since);
		digest_number(&state, (uint64_t)h->group << 8 | h->state);
	}
	for (uint32_t i = 0; i < v->n_members; i++) {
		const struct hv_member *m = &v->members[i];
		digest_number(&state, (uint64_t)m->rank << 32 | m->host);
		digest_number(&state, (uint64_t)m->incarnation << 8 | (uint64_t)m->lost << 7 | m->state);
	}
	crypto_hash_sha256_final(&state, v->digest);
}

static struct hostview *seal(struct hostview *v)
{
	v->n_voters = count_voters(v);
	name_leaders(v);
	compute_digest(v);
	return v;
}

struct hostview *hostview_create(uint32_t n_hosts, uint16_t want_groups, const struct hv_member *members, uint32_t n_members)
{
	struct hostview parts = {.epoch = 1, .want_groups = want_groups};
	struct hostview *v = copy(&parts, n_hosts, 0);
	for (uint32_t i = 0; i < n_hosts; i++)
		v->hosts[i] = (struct hv_host){.id = i, .incarnation = 1, .since = 1};
	v->n_hosts = n_hosts;
	free(v->members);
	v->members = must(calloc(n_members + 1, sizeof(*members)));
	if (n_members)
		memcpy(v->members, members, n_members * sizeof(*members));
	v->n_members = n_members;
	regroup(v, n_hosts ? n_hosts : 1, groups_wanted(v, n_hosts));
	return seal(v);
}

struct hostview *hostview_hearsay(const uint32_t *hosts, uint32_t n)
{
	struct hostview parts = {.n_groups = 1};
	struct hostview *v = copy(&parts, n, 0);
	for (uint32_t i = 0; i < n; i++)
		v->hosts[v->n_hosts++] = (struct hv_host){.id = hosts[i], .incarnation = 1};
	return seal(v);
}

static int check_hosts(const struct hostview *v, struct vc_error *err)
{
	if (v->n_groups < 1 || v->n_hosts > HOSTVIEW_HOSTS_MAX || v->n_groups > HOSTVIEW_HOSTS_MAX)
		return vc_error_set(err, VC_EPROTO, "view of hosts: epoch, groups or number of hosts out of range");
	for (uint32_t i = 0; i < v->n_hosts; i++) {
		const struct hv_host *h = &v->hosts[i];
		if ((i && h[-1].id >= h->id) || h->incarnation < 1 || h->since > v->epoch || h->group >= v->n_groups ||
		    h->state > HV_GONE || h->id >= HOSTVIEW_HOSTS_MAX)
			return vc_error_set(err, VC_EPROTO, "view of hosts: host %u is out of order or range", h->id);
	}
	return 0;
}

static int check_members(const struct hostview *v, struct vc_error *err)
{
	if (v->n_members > VC_MEMBERS_MAX)
		return vc_error_set(err, VC_EPROTO, "view of hosts: too many members");
	for (uint32_t i = 0; i < v->n_members; i++) {
		const struct hv_member *m = &v->members[i];
		if ((i && m[-1].rank >= m->rank) || m->incarnation < 1 || m->state >= VIEW_STATES)
			return vc_error_set(err, VC_EPROTO, "view of hosts: member %u is out of order or range", m->rank);
	}
	return 0;
}

struct hostview *hostview_restore(const struct hostview *parts, struct vc_error *err)
{
	if (check_hosts(parts, err) < 0 || check_members(parts, err) < 0)
		return NULL;
	return seal(copy(parts, 0, 0));
}

// --- applying ----------------------------------------------------------------------------------------------------

uint32_t hostview_find(const struct hostview *v, uint32_t id)
{
	uint32_t low = 0, high = v->n_hosts;
	if (id < high && v->hosts[id].id == id) // nearly always: numbers are dense
		return id;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (v->hosts[mid].id == id)
			return mid;
		if (v->hosts[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return HOSTVIEW_NONE;
}

bool hostview_follows(const struct hostview *v, const struct hostview *next)
{
	if (v->epoch == 0)
		return next->epoch > 0;
	if (next->epoch <= v->epoch || next->n_hosts < v->n_hosts)
		return false;
	for (uint32_t i = 0; i < v->n_hosts; i++) {
		uint32_t j = hostview_find(next, v->hosts[i].id);
		if (j == HOSTVIEW_NONE || next->hosts[j].incarnation < v->hosts[i].incarnation)
			return false;
	}
	return true;
}

bool hostview_is_voter(const struct hostview *v, uint32_t id)
{
	uint32_t i = hostview_find(v, id);
	return i != HOSTVIEW_NONE && v->hosts[i].state != HV_GONE;
}

bool hostview_is_leader(const struct hostview *v, uint32_t index)
{
	return index < v->n_hosts && v->hosts[index].state == HV_ACTIVE && v->leader[v->hosts[index].group] == index;
}

#define REFUSED VIEW_STATES
static const uint8_t member_next[VIEW_EVENTS][VIEW_STATES] = {
	// from          joining      active        leaving       gone
	[VIEW_JOIN] = {REFUSED, REFUSED, REFUSED, REFUSED}, // only a rank that is not there
	[VIEW_UP] = {VIEW_ACTIVE, REFUSED, REFUSED, REFUSED},
	[VIEW_LEAVE] = {VIEW_LEAVING, VIEW_LEAVING, REFUSED, REFUSED},
	[VIEW_FAIL] = {VIEW_GONE, VIEW_GONE, VIEW_GONE, REFUSED},
	[VIEW_RETURN] = {REFUSED, REFUSED, REFUSED, VIEW_JOINING},
};

static uint32_t find_member(const struct hostview *v, uint32_t rank)
{
	if (rank < v->n_members && v->members[rank].rank == rank) // nearly always: ranks are dense
		return rank;
	for (uint32_t i = rank < v->n_members ? rank : v->n_members; i > 0; i--)
		if (v->members[i - 1].rank == rank)
			return i - 1;
	return HOSTVIEW_NONE;
}

// Only what comes in needs its host to be there: that a guest died was true whatever became of the host.
static bool comes_in(const struct hv_event *e)
{
	return e->what == VIEW_JOIN || e->what == VIEW_UP || e->what == VIEW_RETURN;
}

static bool move_applies(const struct hostview *v, const struct hv_member *m, const struct hv_event *e)
{
	return m->host != e->host && m->incarnation == e->incarnation && m->state != VIEW_GONE && hostview_is_voter(v, e->host);
}

static bool member_applies(const struct hostview *v, const struct hv_event *e)
{
	uint32_t i = find_member(v, e->id);
	if (e->what > HV_MOVE || (comes_in(e) && !hostview_is_voter(v, e->host)))
		return false;
	if (i == HOSTVIEW_NONE)
		return e->what == VIEW_JOIN && e->id < VC_MEMBERS_MAX && e->incarnation == 1;
	const struct hv_member *m = &v->members[i];
	if (e->what == HV_MOVE)
		return move_applies(v, m, e);
	return m->host == e->host && m->incarnation == e->incarnation && member_next[e->what][m->state] != REFUSED;
}

static bool agent_applies(const struct hostview *v, const struct hv_event *e)
{
	uint32_t i = find_member(v, e->id);
	const struct hv_member *m = i == HOSTVIEW_NONE ? NULL : &v->members[i];
	return m && e->what <= 1 && hostview_is_voter(v, e->host) && m->host == e->host && m->incarnation == e->incarnation &&
	       m->state != VIEW_GONE && m->lost != (bool)e->what;
}

bool hostview_applies(const struct hostview *v, const struct hv_event *e)
{
	if (e->kind == HV_MEMBER)
		return member_applies(v, e);
	if (e->kind == HV_AGENT)
		return agent_applies(v, e);
	uint32_t i = hostview_find(v, e->id);
	const struct hv_host *h = i == HOSTVIEW_NONE ? NULL : &v->hosts[i];
	bool same = h && h->state != HV_GONE && h->incarnation == e->incarnation;
	switch ((enum hv_kind)e->kind) {
	case HV_HOST_BACK:
		return same && h->state == HV_LOST;
	case HV_HOST_LOST:
		return same && h->state == HV_ACTIVE;
	case HV_HOST_LEAVE:
	case HV_HOST_FAIL:
		return same && v->n_voters > 1; // with the last host the cluster ends, not its view
	case HV_HOST_JOIN:
		return !h && e->id < HOSTVIEW_HOSTS_MAX && e->incarnation == 1;
	case HV_HOST_RETURN:
		return h && h->state == HV_GONE && e->incarnation > h->incarnation;
	default:
		return false;
	}
}

static void insert_host(struct hostview *v, const struct hv_host *host)
{
	uint32_t i = v->n_hosts++;
	for (; i > 0 && v->hosts[i - 1].id > host->id; i--)
		v->hosts[i] = v->hosts[i - 1];
	v->hosts[i] = *host;
}

static void member_is(struct hv_member *m, enum view_state state)
{
	m->state = (uint8_t)state;
	m->lost = m->lost && state != VIEW_GONE;
}

static void host_is_gone(struct hostview *v, struct hv_host *h)
{
	h->state = HV_GONE;
	for (uint32_t i = 0; i < v->n_members; i++)
		if (v->members[i].host == h->id)
			member_is(&v->members[i], VIEW_GONE);
}

static void apply_host(struct hostview *v, const struct hv_event *e)
{
	if (e->kind == HV_HOST_JOIN) {
		insert_host(v, &(struct hv_host){.id = e->id, .incarnation = 1, .since = v->epoch, .group = smallest_group(v)});
		return;
	}
	struct hv_host *h = &v->hosts[hostview_find(v, e->id)];
	if (e->kind == HV_HOST_LOST) {
		h->state = HV_LOST;
	} else if (e->kind == HV_HOST_LEAVE || e->kind == HV_HOST_FAIL) {
		host_is_gone(v, h);
	} else {
		h->group = e->kind == HV_HOST_RETURN ? smallest_group(v) : h->group;
		h->state = HV_ACTIVE;
		h->incarnation = e->incarnation;
		h->since = v->epoch;
	}
}

static void insert_member(struct hostview *v, const struct hv_member *member)
{
	uint32_t i = v->n_members++;
	for (; i > 0 && v->members[i - 1].rank > member->rank; i--)
		v->members[i] = v->members[i - 1];
	v->members[i] = *member;
}

static void apply_member(struct hostview *v, const struct hv_event *e)
{
	if (e->what == VIEW_JOIN) {
		insert_member(v, &(struct hv_member){.rank = e->id, .host = e->host, .incarnation = 1, .state = VIEW_JOINING});
		return;
	}
	struct hv_member *m = &v->members[find_member(v, e->id)];
	if (e->what == HV_MOVE) {
		m->host = e->host;
		return;
	}
	m->incarnation += e->what == VIEW_RETURN;
	member_is(m, (enum view_state)member_next[e->what][m->state]);
}

bool hostview_allows(const struct hostview *v, const struct hv_change *c)
{
	uint32_t fail = 0, leave = 0;
	for (uint32_t i = 0; i < c->n; i++) {
		if (!hostview_applies(v, &c->events[i]))
			return false;
		fail += c->events[i].kind == HV_HOST_FAIL;
		leave += c->events[i].kind == HV_HOST_LEAVE;
	}
	return c->n > 0 && fail <= v->n_voters / 2 && fail + leave < v->n_voters;
}

struct hostview *hostview_apply(const struct hostview *old, const struct hv_change *c)
{
	if (!hostview_allows(old, c))
		return NULL;
	struct hostview *v = copy(old, c->n, c->n);
	v->epoch = old->epoch + 1;
	for (uint32_t i = 0; i < c->n; i++) {
		const struct hv_event *e = &c->events[i];
		if (!hv_is_member(e))
			apply_host(v, e);
		else if (!hostview_applies(v, e))
			continue; // its host may just have gone
		else if (e->kind == HV_AGENT)
			v->members[find_member(v, e->id)].lost = e->what;
		else
			apply_member(v, e);
	}
	keep_groups(v);
	return seal(v);
}
