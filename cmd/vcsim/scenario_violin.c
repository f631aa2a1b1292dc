// SPDX-License-Identifier: GPL-2.0-or-later
// Scenario violin: five environments of machines on two hosts, left where they started or moved by a policy.
//
// Each environment arrives at its own time on the hosts in turn, and has its work to do in phases of high and low need. Its
// members wait for each other (as MPI ranks at barriers): it goes on at the pace of its slowest member. Members of one host
// share its CPUs in proportion to their needs. While a member migrates its whole environment stands still.
#include <stdio.h>
#include <stdlib.h>

#include "cmd/vcsim/vcsim.h"
#include "libvc/cleanup.h"
#include "vcd/elastic/policy.h"

#define HOSTS 2
#define ENVIRONMENTS 5
#define MEMBERS 4		 // of each
#define HOST_CPU 10000		 // thousandths
#define HOST_MEM_MIB 65536
#define MEMBER_MEM_MIB 2048
#define TICK_MS 1000
#define RUN_MAX_MS (48 * 3600000L) // a run that takes longer is a mistake

struct environment {
	int64_t arrives_ms, paused_ms; // paused until
	int64_t high, low;	       // need of each member, thousandths of CPUs
	int64_t phase_ms;	       // length of its phases
	double left;		       // of its work, milliseconds at full pace
	int64_t ended_ms;	       // -1: not yet
};

struct violin {
	const struct vcsim_options *o;
	const struct elastic_policy *policy; // NULL: nothing moves
	struct environment env[ENVIRONMENTS];
	uint32_t at[ENVIRONMENTS][MEMBERS];
	int64_t now_ms;
	struct elastic_state state;
	struct plot *plot;
	double used; // CPU thousandths x milliseconds
	long moves;
};

static int64_t between(uint64_t *seed, int64_t min, int64_t max)
{
	return min + (int64_t)(policy_random(seed) % (uint64_t)(max - min + 1));
}

static void begin(struct violin *v)
{
	uint64_t seed = v->o->seed;
	int64_t arrives = 0;
	for (uint32_t e = 0; e < ENVIRONMENTS; e++) {
		v->env[e] = (struct environment){.arrives_ms = arrives, .high = between(&seed, 500, 2500), .low = between(&seed, 200, 600),
						 .phase_ms = between(&seed, 300, 1200) * 1000,
						 .left = (double)between(&seed, 4500, 5400) * 1000, .ended_ms = -1};
		arrives += between(&seed, 0, 120) * 1000;
		for (uint32_t m = 0; m < MEMBERS; m++)
			v->at[e][m] = e % HOSTS;
	}
}

static bool active(const struct violin *v, uint32_t e)
{
	return v->env[e].ended_ms < 0 && v->now_ms >= v->env[e].arrives_ms;
}

static int64_t need(const struct violin *v, uint32_t e)
{
	const struct environment *env = &v->env[e];
	return (v->now_ms - env->arrives_ms) / env->phase_ms % 3 == 2 ? env->low : env->high;
}

static void host_needs(const struct violin *v, int64_t *ret)
{
	for (uint32_t h = 0; h < HOSTS; h++)
		ret[h] = 0;
	for (uint32_t e = 0; e < ENVIRONMENTS; e++) {
		for (uint32_t m = 0; m < MEMBERS && active(v, e); m++)
			ret[v->at[e][m]] += need(v, e);
	}
}

// --- a tick -----------------------------------------------------------------------------------------------------------

static void advance(struct violin *v)
{
	int64_t needs[HOSTS];
	host_needs(v, needs);
	for (uint32_t e = 0; e < ENVIRONMENTS; e++) {
		struct environment *env = &v->env[e];
		if (!active(v, e) || v->now_ms < env->paused_ms)
			continue;
		double pace = 1;
		for (uint32_t m = 0; m < MEMBERS; m++) {
			double share = (double)HOST_CPU / (double)needs[v->at[e][m]];
			pace = share < pace ? share : pace;
		}
		v->used += pace * (double)need(v, e) * MEMBERS * TICK_MS;
		env->left -= pace * TICK_MS;
		if (env->left <= 0)
			env->ended_ms = v->now_ms + TICK_MS;
	}
}

static void fill_input(const struct violin *v, struct elastic_input *in)
{
	for (uint32_t h = 0; h < HOSTS; h++) {
		in->hosts[h] = (struct elastic_host){.cpu = HOST_CPU, .mem_mib = HOST_MEM_MIB};
		snprintf(in->hosts[h].name, sizeof(in->hosts[h].name), "h%u", h);
	}
	for (uint32_t e = 0; e < ENVIRONMENTS; e++) {
		for (uint32_t m = 0; m < MEMBERS && active(v, e); m++)
			in->members[in->n_members++] = (struct elastic_member){.cluster = e, .rank = m, .host = v->at[e][m],
				.need = need(v, e), .mem_mib = MEMBER_MEM_MIB, .fixed = v->now_ms < v->env[e].paused_ms};
	}
}

static void follow(struct violin *v, const struct elastic_decision *d)
{
	for (size_t i = 0; i < d->n_actions; i++) {
		const struct elastic_action *a = &d->actions[i];
		if (a->verb != ELASTIC_MIGRATE)
			continue;
		struct environment *env = &v->env[a->cluster];
		v->at[a->cluster][a->rank] = a->to;
		int64_t from = env->paused_ms > v->now_ms ? env->paused_ms : v->now_ms;
		env->paused_ms = from + (int64_t)v->o->migrate_ms; // one after the other
		v->moves++;
	}
}

static int decide(struct violin *v, struct vc_error *err)
{
	struct elastic_host hosts[HOSTS];
	struct elastic_member members[ENVIRONMENTS * MEMBERS];
	struct elastic_input in = {.params = v->o->params, .hosts = hosts, .n_hosts = HOSTS, .members = members};
	struct elastic_decision d;
	fill_input(v, &in);
	if (elastic_decide(v->policy, &v->state, &in, v->now_ms, v->o->seed, &d, err) < 0)
		return -1;
	follow(v, &d);
	elastic_state_clear(&v->state);
	v->state = d.state;
	d.state = (struct elastic_state){0};
	elastic_decision_clear(&d);
	return 0;
}

static int sample(struct violin *v, struct vc_error *err)
{
	int64_t needs[HOSTS];
	host_needs(v, needs);
	for (uint32_t h = 0; v->plot && h < HOSTS; h++) {
		if (plot_add(v->plot, h, (double)v->now_ms / 1000, (double)needs[h] / 1000, err) < 0)
			return -1;
	}
	return 0;
}

static bool done(const struct violin *v)
{
	for (uint32_t e = 0; e < ENVIRONMENTS; e++) {
		if (v->env[e].ended_ms < 0)
			return false;
	}
	return true;
}

static int run(struct violin *v, struct vc_error *err)
{
	begin(v);
	for (; !done(v); v->now_ms += TICK_MS) {
		if (v->now_ms > RUN_MAX_MS)
			return vc_error_set(err, VC_EFAILED, "the environments do not end");
		bool turn = v->now_ms % (v->o->params.interval_ms / TICK_MS * TICK_MS) == 0;
		if (turn && ((v->policy && decide(v, err) < 0) || sample(v, err) < 0))
			return -1;
		advance(v);
	}
	return 0;
}

static int measure(struct violin *v, const char *name, struct figures *f, struct vc_error *err)
{
	char key[64];
	int rc = run(v, err);
	elastic_state_clear(&v->state);
	if (rc < 0)
		return -1;
	snprintf(key, sizeof(key), "%s_makespan_s", name);
	figures_add(f, key, (double)v->now_ms / 1000);
	snprintf(key, sizeof(key), "%s_utilisation", name);
	figures_add(f, key, v->used / ((double)v->now_ms * HOSTS * HOST_CPU));
	return 0;
}

int scenario_violin(const struct vcsim_options *o, struct figures *f, struct vc_error *err)
{
	struct plot plot = {0};
	const struct elastic_policy *policy = elastic_policy_find(o->policy ? o->policy : "balance", err);
	struct violin still = {.o = o}, moved = {.o = o, .policy = policy, .plot = o->csv || o->svg ? &plot : NULL};
	int rc = policy ? plot_init(&plot, "CPUs that members need", "CPUs", err) : -1;
	if (rc == 0 && (plot_series(&plot, "host 1", err) < 0 || plot_series(&plot, "host 2", err) < 0))
		rc = -1;
	if (rc == 0)
		rc = measure(&still, "static", f, err);
	if (rc == 0)
		rc = measure(&moved, "adapted", f, err);
	if (rc == 0) {
		figures_add(f, "moves", (double)moved.moves);
		figures_add(f, "migrate_s", (double)moved.moves * (double)o->migrate_ms / 1000);
		figures_add(f, "makespan_vs_static", (double)moved.now_ms / (double)still.now_ms);
		rc = write_plot(o, &plot, err);
	}
	plot_clear(&plot);
	return rc;
}
