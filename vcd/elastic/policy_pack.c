// SPDX-License-Identifier: GPL-2.0-or-later
// Policy pack: empties the leased hosts that are cheapest to empty, when the others have room, and gives them back.
//
// A host goes when it has been below `low` for shrink-hold, or is empty; at most max-moves migrations in a decision. Members
// go to the fullest host that takes them, up to `high`. Hosts with a member that an srun task anchors come last, fixed members never.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vcd/elastic/policy.h"

struct cost {
	bool possible;
	bool anchored;
	size_t members;
};

static struct cost cost_of(const struct layout *l, uint32_t host)
{
	struct cost c = {.possible = l->in->hosts[host].releasable && !l->in->hosts[host].leaving};
	for (size_t i = 0; i < l->in->n_members; i++) {
		if (l->at[i] != host)
			continue;
		c.members++;
		c.anchored |= policy_reluctant(l->in, &l->in->members[i]);
		c.possible &= !l->in->members[i].fixed;
	}
	return c;
}

static bool cheaper(struct cost a, struct cost b)
{
	if (a.possible != b.possible)
		return a.possible;
	if (a.anchored != b.anchored)
		return !a.anchored;
	return a.members < b.members;
}

static int best_host(const struct layout *l, uint32_t member, const bool *gone)
{
	int best = -1;
	for (uint32_t h = 0; h < l->in->n_hosts; h++) {
		if (h == l->at[member] || gone[h] || l->count[h] == 0 || !layout_fits(l, member, h, l->in->params.high))
			continue;
		if (best < 0 || layout_load(l, h) > layout_load(l, (uint32_t)best))
			best = (int)h;
	}
	return best;
}

// Moves all members of `host` elsewhere, biggest memory first; false, and everything as before, when they do not fit.
static bool empty_host(struct layout *l, uint32_t host, const bool *gone, size_t max_moves)
{
	uint32_t moved[64];
	size_t n = 0;
	while (l->count[host] > 0) {
		int pick = -1;
		for (uint32_t i = 0; i < l->in->n_members; i++) {
			if (l->at[i] == host && (pick < 0 || l->in->members[i].mem_mib > l->in->members[pick].mem_mib))
				pick = (int)i;
		}
		int to = pick >= 0 && n < max_moves && n < sizeof(moved) / sizeof(moved[0]) ? best_host(l, (uint32_t)pick, gone) : -1;
		if (to < 0) {
			while (n > 0)
				layout_move(l, moved[--n], host);
			return false;
		}
		layout_move(l, (uint32_t)pick, (uint32_t)to);
		moved[n++] = (uint32_t)pick;
	}
	return true;
}

static void look(const struct elastic_input *in, const struct layout *l, struct elastic_state *state, int64_t now_ms)
{
	for (uint32_t h = 0; h < in->n_hosts; h++) {
		struct elastic_host_state *s = &state->hosts[h];
		smooth_add(&s->load, layout_load(l, h), now_ms, in->params.rise_ms, in->params.fall_ms);
		smooth_since(&s->under_ms, l->count[h] == 0 || s->load.value < in->params.low, now_ms);
	}
}

static int release(struct elastic_decision *d, const struct elastic_input *in, uint32_t host, size_t members, struct vc_error *err)
{
	struct elastic_action *a = policy_add(d, ELASTIC_RELEASE, err);
	if (!a)
		return -1;
	a->from = a->to = host;
	snprintf(a->reason, sizeof(a->reason), "%s: %zu members, load %lld permille", in->hosts[host].name, members,
		 (long long)d->state.hosts[host].load.value);
	return 0;
}

static int64_t next_host(const struct elastic_input *in, const struct layout *l, const struct elastic_state *state,
			 const bool *tried, int64_t now_ms)
{
	int64_t best = -1;
	for (uint32_t h = 0; h < in->n_hosts; h++) {
		if (tried[h] || !cost_of(l, h).possible || !smooth_lasted(state->hosts[h].under_ms, in->params.shrink_hold_ms, now_ms))
			continue;
		if (best < 0 || cheaper(cost_of(l, h), cost_of(l, (uint32_t)best)))
			best = h;
	}
	return best;
}

static int pack(struct layout *l, bool *tried, bool *gone, int64_t now_ms, struct elastic_decision *d, struct vc_error *err)
{
	const struct elastic_input *in = l->in;
	size_t moves = 0;
	for (int64_t h; (h = next_host(in, l, &d->state, tried, now_ms)) >= 0;) {
		tried[h] = true;
		size_t members = l->count[h];
		gone[h] = true;
		if (members + moves > (size_t)in->params.max_moves || !empty_host(l, (uint32_t)h, gone, members)) {
			gone[h] = false;
			continue;
		}
		moves += members;
		if (release(d, in, (uint32_t)h, members, err) < 0)
			return -1;
	}
	return 0;
}

// Migrations come before the releases that they make possible.
static int by_verb(const void *a, const void *b)
{
	const struct elastic_action *x = a, *y = b;
	if (x->verb != y->verb)
		return (int)x->verb - (int)y->verb;
	if (x->verb == ELASTIC_RELEASE)
		return x->from < y->from ? -1 : x->from > y->from;
	if (x->cluster != y->cluster)
		return x->cluster < y->cluster ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

int policy_pack(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
		struct vc_error *err)
{
	(void)seed;
	layout_auto struct layout l = {0};
	if (layout_init(&l, in, err) < 0)
		return -1;
	bool *marks = calloc(in->n_hosts * 2 + 1, sizeof(*marks));
	if (!marks)
		return vc_error_errno(err, "hosts");
	look(in, &l, &ret->state, now_ms);
	int rc = pack(&l, marks, marks + in->n_hosts, now_ms, ret, err);
	free(marks);
	if (rc < 0 || layout_tell(&l, ret, "its host is emptied", err) < 0)
		return -1;
	if (ret->n_actions > 1)
		qsort(ret->actions, ret->n_actions, sizeof(*ret->actions), by_verb);
	snprintf(ret->reason, sizeof(ret->reason), "pack: %zu changes on %zu hosts", ret->n_actions, in->n_hosts);
	return 0;
}
