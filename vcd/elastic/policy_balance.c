// SPDX-License-Identifier: GPL-2.0-or-later
// Policy balance: the fewest migrations that clear over- and underloaded hosts, as VIOLIN moved environments.
//
// A host is overloaded when its members need more than `high` of its CPUs, underloaded when they need less than `low` while
// the hosts together have enough work for all. Only what has lasted for shrink-hold counts. The search deepens move by move
// up to max-moves, so the first layout that clears everything has the fewest moves; when none does, the best step by step.
#include <stdio.h>

#include "vcd/elastic/policy.h"

#define STRAIN_MAX 100000 // permille of overload of one host: its square, summed over all hosts, fits
#define SEARCH_NODES_MAX 200000 // layouts looked at in one decision: some milliseconds

struct search {
	struct layout l;
	int64_t low;	    // permille; 0 when there is not enough work to go round
	long nodes;
	bool overloads_only; // underload is let be, as it cannot be cleared
};

static int64_t violation_of(const struct search *s, uint32_t host)
{
	const struct elastic_host *h = &s->l.in->hosts[host];
	if (h->leaving)
		return 0;
	int64_t cpu = s->l.cpu[host] * 1000;
	int64_t over = cpu - h->cpu * s->l.in->params.high, under = s->overloads_only ? 0 : h->cpu * s->low - cpu;
	return policy_max(0, policy_max(over, under));
}

static int64_t violated_hosts(const struct search *s)
{
	int64_t n = 0;
	for (uint32_t h = 0; h < s->l.in->n_hosts; h++)
		n += violation_of(s, h) > 0;
	return n;
}

static bool may_move(const struct search *s, uint32_t member, uint32_t to)
{
	const struct elastic_member *m = &s->l.in->members[member];
	// a second move of one member is a better first one
	return !m->fixed && s->l.at[member] == m->host && to != m->host && layout_fits(&s->l, member, to, INT32_MAX);
}

// On the way a host's CPUs may be overcommitted, its memory may not. Members in rising order of index, so that each set of
// moves is tried once; reluctant ones in the second round only.
static bool clears(struct search *s, uint32_t first, int64_t depth, bool anchors)
{
	int64_t hosts = violated_hosts(s);
	if (hosts == 0)
		return true;
	// a move changes two hosts
	if (hosts > 2 * depth || ++s->nodes > SEARCH_NODES_MAX)
		return false;
	for (uint32_t m = first; m < s->l.in->n_members; m++) {
		if (policy_reluctant(s->l.in, &s->l.in->members[m]) && !anchors)
			continue;
		for (uint32_t to = 0; to < s->l.in->n_hosts; to++) {
			if (!may_move(s, m, to))
				continue;
			uint32_t from = s->l.at[m];
			layout_move(&s->l, m, to);
			if (clears(s, m + 1, depth - 1, anchors))
				return true;
			layout_move(&s->l, m, from);
		}
	}
	return false;
}

static bool deepen(struct search *s)
{
	for (int64_t depth = 0; depth <= s->l.in->params.max_moves; depth++) {
		for (int anchors = 0; anchors < 2; anchors++) {
			if (clears(s, 0, depth, anchors))
				return true;
		}
		if (s->nodes > SEARCH_NODES_MAX)
			return false;
	}
	return false;
}

// Squares, in permille of each host: where overload cannot be cleared it is spread, and the worst host counts most.
static int64_t strain(const struct search *s)
{
	int64_t sum = 0;
	for (uint32_t h = 0; h < s->l.in->n_hosts; h++) {
		int64_t v = policy_min(violation_of(s, h) / s->l.in->hosts[h].cpu, STRAIN_MAX);
		sum += v * v;
	}
	return sum;
}

// The move that lowers the strain most, by a worthwhile part of it; false when none does.
static bool best_step(struct search *s)
{
	int64_t before = strain(s), best = before - before * s->l.in->params.min_gain / 1000;
	int64_t member = -1, target = 0;
	for (uint32_t m = 0; m < s->l.in->n_members; m++) {
		for (uint32_t to = 0; to < s->l.in->n_hosts; to++) {
			if (!may_move(s, m, to))
				continue;
			uint32_t from = s->l.at[m];
			layout_move(&s->l, m, to);
			int64_t v = strain(s);
			layout_move(&s->l, m, from);
			if (v < best) {
				best = v;
				member = m;
				target = to;
			}
		}
	}
	if (member >= 0)
		layout_move(&s->l, (uint32_t)member, (uint32_t)target);
	return member >= 0;
}

static void improve(struct search *s)
{
	if (deepen(s))
		return;
	s->nodes = 0;
	s->overloads_only = true;
	if (deepen(s))
		return;
	s->overloads_only = false;
	for (int64_t i = 0; i < s->l.in->params.max_moves && best_step(s);)
		i++;
}

// Is there something that has lasted?
static bool look(struct search *s, struct elastic_state *state, int64_t now_ms)
{
	const struct elastic_params *p = &s->l.in->params;
	bool lasting = false;
	for (uint32_t h = 0; h < s->l.in->n_hosts; h++) {
		struct elastic_host_state *hs = &state->hosts[h];
		int64_t load = layout_load(&s->l, h);
		smooth_add(&hs->load, load, now_ms, p->rise_ms, p->fall_ms);
		smooth_since(&hs->over_ms, load > p->high && hs->load.value > p->high, now_ms);
		smooth_since(&hs->under_ms, violation_of(s, h) > 0 && load < s->low, now_ms);
		lasting |= smooth_lasted(hs->over_ms, p->interval_ms, now_ms) || smooth_lasted(hs->under_ms, p->shrink_hold_ms, now_ms);
	}
	return lasting;
}

static int64_t low_that_can_be(const struct layout *l)
{
	int64_t need = 0, cpu = 0;
	for (uint32_t h = 0; h < l->in->n_hosts; h++) {
		need += l->cpu[h];
		cpu += l->in->hosts[h].leaving ? 0 : l->in->hosts[h].cpu;
	}
	return need * 1000 >= cpu * l->in->params.low ? l->in->params.low : 0;
}

int policy_balance(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
		   struct vc_error *err)
{
	(void)seed;
	struct search s = {0};
	int rc = layout_init(&s.l, in, err);
	if (rc == 0) {
		s.low = low_that_can_be(&s.l);
		if (look(&s, &ret->state, now_ms))
			improve(&s);
		rc = layout_tell(&s.l, ret, "clears over- and underload", err);
	}
	snprintf(ret->reason, sizeof(ret->reason), "balance: %zu moves on %zu hosts", ret->n_actions, in->n_hosts);
	layout_clear(&s.l);
	return rc;
}
