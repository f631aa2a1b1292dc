// SPDX-License-Identifier: GPL-2.0-or-later
// Policy static: the size is what the user asked for, by --vcluster-size or `vcctl resize`, whatever the load is.
//
// Hosts with work on them go within the deadline, as the user said so.
#include <stdio.h>

#include "vcd/elastic/policy.h"

static int settle(const struct elastic_cluster *c, const struct elastic_input *in, struct elastic_cluster_state *s,
		  int64_t now_ms, struct elastic_decision *ret, struct vc_error *err)
{
	int64_t target = c->wanted ? policy_max(c->min, policy_min(c->wanted, c->max)) : c->min;
	int64_t have = (int64_t)c->size - c->leaving + c->coming;
	smooth_add(&s->load, c->load, now_ms, in->params.rise_ms, in->params.fall_ms);
	if (target == have)
		return 0;
	gate_note(&s->gate, target > have ? GATE_GROW : GATE_SHRINK, now_ms);
	if (target > have)
		return policy_size(ret, ELASTIC_GROW, c->id, target - have, 0, err, "%lld wanted, %lld here",
				   (long long)target, (long long)have);
	return policy_size(ret, ELASTIC_RECLAIM, c->id, have - target, in->params.deadline_ms, err, "%lld wanted, %lld here",
			   (long long)target, (long long)have);
}

int policy_static(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
		  struct vc_error *err)
{
	(void)seed;
	for (size_t i = 0; i < in->n_clusters; i++) {
		if (settle(&in->clusters[i], in, &ret->state.clusters[i], now_ms, ret, err) < 0)
			return -1;
	}
	snprintf(ret->reason, sizeof(ret->reason), "static: %zu changes in %zu clusters", ret->n_actions, in->n_clusters);
	return 0;
}
