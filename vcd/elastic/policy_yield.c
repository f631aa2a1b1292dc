// SPDX-License-Identifier: GPL-2.0-or-later
// Policy yield: members that share hosts get the greatest minimum yield; packer.h does the placing.
//
// Members move only when the least yield rises by min-gain, with at most max-moves migrations, each of which fits when its
// turn comes. Else the best single moves are taken while they help. Then each member's share of its host is set.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "vcd/elastic/packer.h"
#include "vcd/elastic/policy.h"

static int64_t yield_of(const struct layout *l, uint32_t host)
{
	int64_t cpu = l->cpu[host];
	return cpu > 0 ? policy_min(1000, l->in->hosts[host].cpu * 1000 / cpu) : 1000;
}

static int64_t least_yield(const struct layout *l)
{
	int64_t least = 1000;
	for (uint32_t h = 0; h < l->in->n_hosts; h++)
		least = policy_min(least, yield_of(l, h));
	return least;
}

static bool fits(const struct layout *l, uint32_t member, uint32_t host)
{
	return layout_fits(l, member, host, INT32_MAX);
}

// Puts the wanted placement into the layout, one migration after the other; false when there are too many, a fixed member
// among them, or none of the rest fits.
static bool follow(struct layout *l, const uint32_t *wanted, struct elastic_decision *d, int *ret_rc, struct vc_error *err)
{
	const struct elastic_input *in = l->in;
	int64_t left = 0;
	for (size_t i = 0; i < in->n_members; i++) {
		left += wanted[i] != l->at[i];
		if (wanted[i] != l->at[i] && in->members[i].fixed)
			return false;
	}
	if (left > in->params.max_moves)
		return false;
	while (left > 0) {
		uint32_t i = 0;
		while (i < in->n_members && (wanted[i] == l->at[i] || !fits(l, i, wanted[i])))
			i++;
		if (i == in->n_members)
			return false;
		layout_move(l, i, wanted[i]);
		*ret_rc = policy_migrate(d, in, i, wanted[i], err, "raises the least yield");
		if (*ret_rc < 0)
			return false;
		left--;
	}
	return true;
}

// The single move that raises the least yield most.
static bool best_step(const struct layout *now, struct layout *l, uint32_t *ret_member, uint32_t *ret_to)
{
	int64_t best = least_yield(now);
	bool found = false;
	for (uint32_t m = 0; m < l->in->n_members; m++) {
		uint32_t from = l->at[m];
		if (l->in->members[m].fixed || policy_reluctant(l->in, &l->in->members[m]) || yield_of(l, from) > least_yield(now))
			continue;
		for (uint32_t h = 0; h < l->in->n_hosts; h++) {
			if (h == from || !fits(l, m, h))
				continue;
			layout_move(l, m, h);
			if (least_yield(l) > best) {
				best = least_yield(l);
				*ret_member = m;
				*ret_to = h;
				found = true;
			}
			layout_move(l, m, from);
		}
	}
	return found;
}

static int step_by_step(struct layout *l, struct elastic_decision *d, struct vc_error *err)
{
	uint32_t member, to;
	for (int64_t i = 0; i < l->in->params.max_moves && best_step(l, l, &member, &to); i++) {
		layout_move(l, member, to);
		if (policy_migrate(d, l->in, member, to, err, "raises the least yield") < 0)
			return -1;
	}
	return 0;
}

static int pack(const struct elastic_input *in, uint64_t seed, uint32_t *at, int64_t *ret_yield, struct vc_error *err)
{
	vc_autofree struct packer_item *items = calloc(in->n_members + 1, sizeof(*items));
	vc_autofree struct packer_host *hosts = calloc(in->n_hosts + 1, sizeof(*hosts));
	if (!items || !hosts)
		return vc_error_errno(err, "placement");
	for (size_t i = 0; i < in->n_members; i++)
		items[i] = (struct packer_item){in->members[i].need, in->members[i].mem_mib};
	for (uint32_t h = 0; h < in->n_hosts; h++) {
		if (!in->hosts[h].leaving)
			hosts[h] = (struct packer_host){in->hosts[h].cpu, layout_mem_limit(in, h)};
	}
	const struct packer_case c = {items, in->n_members, hosts, in->n_hosts};
	return packer_place(&c, seed, at, ret_yield, err);
}

static int place(struct layout *l, uint64_t seed, struct elastic_decision *d, struct vc_error *err)
{
	const struct elastic_input *in = l->in;
	vc_autofree uint32_t *wanted = calloc(in->n_members + 1, sizeof(*wanted));
	int64_t now = least_yield(l), packed = -1;
	if (!wanted)
		return vc_error_errno(err, "placement");
	if (now >= 1000)
		return 0;
	if (pack(in, seed, wanted, &packed, err) < 0)
		return -1;
	if (packed < now + in->params.min_gain)
		return 0;
	int rc = 0;
	if (follow(l, wanted, d, &rc, err) || rc < 0)
		return rc;
	d->n_actions = 0;
	layout_clear(l);
	return layout_init(l, in, err) < 0 ? -1 : step_by_step(l, d, err);
}

static int set_shares(const struct layout *l, struct elastic_decision *d, struct vc_error *err)
{
	for (uint32_t i = 0; i < l->in->n_members; i++) {
		const struct elastic_member *m = &l->in->members[i];
		int64_t yield = yield_of(l, l->at[i]);
		struct elastic_action *a = policy_add(d, ELASTIC_SHARE, err);
		if (!a)
			return -1;
		a->cluster = m->cluster;
		a->rank = m->rank;
		a->n = m->need * yield / 1000;
		a->from = a->to = l->at[i];
		snprintf(a->reason, sizeof(a->reason), "yield %lld permille", (long long)yield);
	}
	return 0;
}

int policy_yield(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
		 struct vc_error *err)
{
	layout_auto struct layout l = {0};
	if (layout_init(&l, in, err) < 0)
		return -1;
	for (uint32_t h = 0; h < in->n_hosts; h++)
		smooth_add(&ret->state.hosts[h].load, layout_load(&l, h), now_ms, in->params.rise_ms, in->params.fall_ms);
	int64_t before = least_yield(&l);
	if (place(&l, seed, ret, err) < 0)
		return -1;
	size_t moves = ret->n_actions;
	int64_t after = least_yield(&l);
	if (set_shares(&l, ret, err) < 0)
		return -1;
	snprintf(ret->reason, sizeof(ret->reason), "yield: least %lld permille, %lld before; %zu moves", (long long)after,
		 (long long)before, moves);
	return 0;
}
