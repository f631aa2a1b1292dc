// SPDX-License-Identifier: GPL-2.0-or-later
// The table of policies, and what a decision is made of: see elastic.h.
#include "vcd/elastic/elastic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "vcd/elastic/policy.h"

const struct elastic_policy elastic_policies[] = {
	{"static", "keeps the size that the user asked for", policy_static},
	{"cod", "sizes follow loads: reservations, priorities, proportional shares, idle hosts lent", policy_cod},
	{"balance", "moves the fewest members that clear over- and underloaded hosts", policy_balance},
	{"pack", "empties hosts that others have room for, and gives them back", policy_pack},
	{"yield", "places members so that the one that gets least of its need gets most", policy_yield},
};
const size_t elastic_n_policies = VC_ARRAY_LEN(elastic_policies);

const struct elastic_policy *elastic_policy_find(const char *name, struct vc_error *err)
{
	char names[128] = "";
	size_t used = 0;
	for (size_t i = 0; i < elastic_n_policies; i++) {
		if (strcmp(elastic_policies[i].name, name) == 0)
			return &elastic_policies[i];
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "", elastic_policies[i].name);
	}
	vc_error_set(err, VC_EUSER, "there is no elastic policy '%s'; there are: %s", name, names);
	return NULL;
}

const char *elastic_verb_name(enum elastic_verb verb)
{
	static const char *const names[ELASTIC_VERBS] = {"grow", "shrink", "reclaim", "cap", "migrate", "share", "release"};
	return names[verb];
}

void elastic_input_clear(struct elastic_input *in)
{
	free(in->clusters);
	free(in->hosts);
	free(in->members);
	*in = (struct elastic_input){0};
}

void elastic_state_clear(struct elastic_state *state)
{
	free(state->clusters);
	free(state->hosts);
	*state = (struct elastic_state){0};
}

void elastic_decision_clear(struct elastic_decision *d)
{
	elastic_state_clear(&d->state);
	free(d->actions);
	*d = (struct elastic_decision){0};
}

static struct elastic_cluster_state cluster_state(const struct elastic_state *old, uint32_t id)
{
	for (size_t i = 0; old && i < old->n_clusters; i++) {
		if (old->clusters[i].id == id)
			return old->clusters[i];
	}
	return (struct elastic_cluster_state){.id = id, .load = SMOOTH_INIT, .mem = SMOOTH_INIT, .gate = GATE_INIT, .under_ms = -1};
}

static struct elastic_host_state host_state(const struct elastic_state *old, const char *name)
{
	for (size_t i = 0; old && i < old->n_hosts; i++) {
		if (strcmp(old->hosts[i].name, name) == 0)
			return old->hosts[i];
	}
	struct elastic_host_state s = {.load = SMOOTH_INIT, .over_ms = -1, .under_ms = -1};
	snprintf(s.name, sizeof(s.name), "%s", name);
	return s;
}

// One entry for each cluster and host of the input, in its order.
static int carry_state(const struct elastic_state *old, const struct elastic_input *in, struct elastic_state *ret)
{
	ret->clusters = calloc(in->n_clusters + 1, sizeof(*ret->clusters));
	ret->hosts = calloc(in->n_hosts + 1, sizeof(*ret->hosts));
	if (!ret->clusters || !ret->hosts)
		return -1;
	for (size_t i = 0; i < in->n_clusters; i++)
		ret->clusters[i] = cluster_state(old, in->clusters[i].id);
	for (size_t i = 0; i < in->n_hosts; i++)
		ret->hosts[i] = host_state(old, in->hosts[i].name);
	ret->n_clusters = in->n_clusters;
	ret->n_hosts = in->n_hosts;
	return 0;
}

static int check_input(const struct elastic_input *in, struct vc_error *err)
{
	for (size_t i = 0; i < in->n_members; i++) {
		if (in->members[i].host >= in->n_hosts)
			return vc_error_set(err, VC_EPROTO, "member %u of %u is on no host", in->members[i].rank,
					    in->members[i].cluster);
	}
	for (size_t i = 0; i < in->n_hosts; i++) {
		if (in->hosts[i].cpu <= 0)
			return vc_error_set(err, VC_EPROTO, "host %s has no CPUs", in->hosts[i].name);
	}
	for (size_t i = 1; i < in->n_clusters; i++) {
		if (in->clusters[i].id <= in->clusters[i - 1].id)
			return vc_error_set(err, VC_EPROTO, "clusters are not in the order of their ids");
	}
	return 0;
}

int elastic_decide(const struct elastic_policy *policy, const struct elastic_state *state, const struct elastic_input *in,
		   int64_t now_ms, uint64_t seed, struct elastic_decision *ret, struct vc_error *err)
{
	struct elastic_decision d = {0};
	if (check_input(in, err) < 0)
		return -1;
	if (carry_state(state, in, &d.state) < 0) {
		elastic_decision_clear(&d);
		return vc_error_errno(err, "policy %s", policy->name);
	}
	if (policy->decide(in, now_ms, seed, &d, err) < 0) {
		elastic_decision_clear(&d);
		return vc_error_wrap(err, "policy %s", policy->name);
	}
	*ret = d;
	return 0;
}

// --- for policies --------------------------------------------------------------------------------------------------

struct elastic_action *policy_add(struct elastic_decision *d, enum elastic_verb verb, struct vc_error *err)
{
	struct elastic_action *grown = reallocarray(d->actions, d->n_actions + 1, sizeof(*grown));
	if (!grown) {
		vc_error_errno(err, "actions");
		return NULL;
	}
	d->actions = grown;
	grown[d->n_actions] = (struct elastic_action){.verb = verb};
	return &grown[d->n_actions++];
}

int policy_size(struct elastic_decision *d, enum elastic_verb verb, uint32_t cluster, int64_t n, int64_t deadline_ms,
		struct vc_error *err, const char *fmt, ...)
{
	struct elastic_action *a = policy_add(d, verb, err);
	if (!a)
		return -1;
	a->cluster = cluster;
	a->n = n;
	a->deadline_ms = deadline_ms;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(a->reason, sizeof(a->reason), fmt, ap);
	va_end(ap);
	return 0;
}

int policy_migrate(struct elastic_decision *d, const struct elastic_input *in, uint32_t member, uint32_t to,
		   struct vc_error *err, const char *fmt, ...)
{
	struct elastic_action *a = policy_add(d, ELASTIC_MIGRATE, err);
	if (!a)
		return -1;
	const struct elastic_member *m = &in->members[member];
	a->cluster = m->cluster;
	a->rank = m->rank;
	a->from = m->host;
	a->to = to;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(a->reason, sizeof(a->reason), fmt, ap);
	va_end(ap);
	return 0;
}

uint64_t policy_random(uint64_t *seed)
{
	uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}
