// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/elastic: smoothing, the gate, each policy, and that a recorded decision replays identically.
#include "tests/unit/test.h"

#include <stdio.h>

#include "libvc/json.h"
#include "libvc/spec.h"
#include "vcd/elastic/elastic.h"
#include "vcd/elastic/packer.h"
#include "vcd/elastic/policy.h"

#define POOL 40
#define INTERVAL 10000

// --- smoothing --------------------------------------------------------------------------------------------------------

static void test_mean(void **state)
{
	(void)state;
	struct smooth s = SMOOTH_INIT;
	smooth_add(&s, 1000, 0, 10000, 10000);
	assert_int_equal(s.value, 1000); // the first is taken as it is
	smooth_add(&s, 3000, 10000, 10000, 10000);
	assert_int_equal(s.value, 2000);
	smooth_add(&s, 3000, 10000, 10000, 10000); // no time passed
	assert_int_equal(s.value, 2000);
	smooth_add(&s, 0, 20000, 0, 30000); // falls slowly
	assert_int_equal(s.value, 1500);
	smooth_add(&s, 9000, 20001, 0, 30000); // rises at once
	assert_int_equal(s.value, 9000);
	for (int64_t t = 1; t < 2000; t++)
		smooth_add(&s, 9007, 20001 + t * 1000, 60000, 60000);
	assert_int_equal(s.value, 9007); // a steady load is reached, not only approached
}

static void test_since(void **state)
{
	(void)state;
	int64_t since = -1;
	assert_false(smooth_lasted(since, 0, 100));
	smooth_since(&since, true, 100);
	smooth_since(&since, true, 200);
	assert_false(smooth_lasted(since, 150, 200));
	assert_true(smooth_lasted(since, 150, 250));
	smooth_since(&since, false, 260);
	assert_false(smooth_lasted(since, 150, 400));
}

static void test_gate(void **state)
{
	(void)state;
	struct gate g = GATE_INIT;
	assert_true(gate_allows(&g, GATE_SHRINK, 1000, 0));
	gate_note(&g, GATE_GROW, 0);
	assert_true(gate_allows(&g, GATE_GROW, 1000, 1));
	assert_false(gate_allows(&g, GATE_SHRINK, 1000, 999));
	assert_true(gate_allows(&g, GATE_FORCED, 1000, 999));
	gate_note(&g, GATE_FORCED, 999); // first reversal
	assert_false(gate_allows(&g, GATE_GROW, 1000, 1500)); // would be the second, and a forced one might follow
	assert_true(gate_allows(&g, GATE_RESTORE, 1000, 1500));
	assert_true(gate_allows(&g, GATE_GROW, 1000, 1999));
}

// --- numbers ----------------------------------------------------------------------------------------------------------

static void test_params(void **state)
{
	(void)state;
	struct elastic_params p = elastic_params_standard();
	struct vc_error err = VC_ERROR_INIT;
	for (size_t i = 0; i < ELASTIC_PARAMS; i++) {
		const struct elastic_param *param = &elastic_param_table[i];
		assert_true(param->standard >= param->min && param->standard <= param->max);
		assert_int_equal(elastic_param_get(&p, param), param->standard);
		assert_ptr_equal(elastic_param_find(param->name), param);
	}
	assert_int_equal(elastic_param_set(&p, "cool-down=90s", &err), 0);
	assert_int_equal(p.cool_down_ms, 90000);
	assert_int_equal(elastic_param_set(&p, "headroom=0.25", &err), 0);
	assert_int_equal(p.headroom, 250);
	assert_int_equal(elastic_param_set(&p, "max-moves=7", &err), 0);
	assert_int_equal(p.max_moves, 7);
	static const char *const wrong[] = {"cool-down", "cooldown=3s", "headroom=1.2345", "headroom=.5", "headroom=9.9", "max-moves=-1",
					    "max-moves=65", "interval=0", ""};
	for (size_t i = 0; i < VC_ARRAY_LEN(wrong); i++)
		assert_int_equal(elastic_param_set(&p, wrong[i], &err), -1);
	assert_int_equal(elastic_param_set(&p, "cooldown=3s", &err), -1);
	assert_contains(err.text, "cool-down");
}

// --- inputs -----------------------------------------------------------------------------------------------------------

static struct elastic_input make_input(size_t n_clusters, size_t n_hosts, size_t n_members)
{
	struct elastic_input in = {.pool = POOL, .idle = POOL, .params = elastic_params_standard()};
	in.clusters = calloc(n_clusters + 1, sizeof(*in.clusters));
	in.hosts = calloc(n_hosts + 1, sizeof(*in.hosts));
	in.members = calloc(n_members + 1, sizeof(*in.members));
	in.n_clusters = n_clusters;
	in.n_hosts = n_hosts;
	in.n_members = n_members;
	in.params.headroom = in.params.scavenge = 0;
	for (uint32_t i = 0; i < n_clusters; i++)
		in.clusters[i] = (struct elastic_cluster){.id = 100 + i, .min = 1, .max = POOL, .weight = 1, .size = 1};
	for (uint32_t i = 0; i < n_hosts; i++) {
		in.hosts[i] = (struct elastic_host){.cpu = 4000, .mem_mib = 4096, .releasable = true};
		snprintf(in.hosts[i].name, sizeof(in.hosts[i].name), "n%u", i);
	}
	for (uint32_t i = 0; i < n_members; i++)
		in.members[i] = (struct elastic_member){.cluster = 100, .rank = i, .need = 1000, .mem_mib = 512};
	return in;
}

static struct elastic_decision decide(const char *name, const struct elastic_state *s, const struct elastic_input *in, int64_t now_ms)
{
	struct vc_error err = VC_ERROR_INIT;
	struct elastic_decision d = {0};
	const struct elastic_policy *policy = elastic_policy_find(name, &err);
	assert_non_null(policy);
	if (elastic_decide(policy, s, in, now_ms, 7, &d, &err) < 0)
		fail_msg("%s", err.text);
	return d;
}

// The sum of what a decision does to a cluster's size by one verb.
static int64_t total(const struct elastic_decision *d, enum elastic_verb verb, uint32_t cluster)
{
	int64_t n = 0;
	for (size_t i = 0; i < d->n_actions; i++)
		n += d->actions[i].verb == verb && d->actions[i].cluster == cluster ? d->actions[i].n : 0;
	return n;
}

static size_t count(const struct elastic_decision *d, enum elastic_verb verb)
{
	size_t n = 0;
	for (size_t i = 0; i < d->n_actions; i++)
		n += d->actions[i].verb == verb;
	return n;
}

// --- static and cod ---------------------------------------------------------------------------------------------------

static void test_static(void **state)
{
	(void)state;
	struct elastic_input in = make_input(1, 0, 0);
	in.clusters[0].load = 30000;
	struct elastic_decision d = decide("static", NULL, &in, 0);
	assert_int_equal(d.n_actions, 0); // whatever the load
	elastic_decision_clear(&d);
	in.clusters[0].wanted = 4;
	d = decide("static", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 100), 3);
	elastic_decision_clear(&d);
	in.clusters[0].size = 6;
	d = decide("static", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_RECLAIM, 100), 2);
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

static void test_cod_grows_with_load(void **state)
{
	(void)state;
	struct elastic_input in = make_input(1, 0, 0);
	in.clusters[0].load = 7500;
	struct elastic_decision d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 100), 7); // 8 hosts, one is there
	elastic_decision_clear(&d);
	in.clusters[0].max = 5;
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 100), 4);
	assert_contains(d.actions[0].reason, "from 1 to 5: load 7.500, target 5");
	elastic_decision_clear(&d);
	in.clusters[0].coming = 4;
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(d.n_actions, 0); // asked for already
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

// What samples of processes miss: processors' use, stolen time, processes that wait; and memory.
static void test_cod_takes_what_hosts_say(void **state)
{
	(void)state;
	struct elastic_input in = make_input(1, 0, 0);
	in.clusters[0].load = 200;
	in.clusters[0].cpu = 1500;
	in.clusters[0].steal = 700;
	struct elastic_decision d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 100), 2); // 2.2 hosts
	elastic_decision_clear(&d);
	in.clusters[0].stall = 4000; // and everybody waits on four hosts: a quarter of each
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 100), 3);
	elastic_decision_clear(&d);
	in.clusters[0].mem = 4000; // hosts' worth of memory in use, at most 90% of each
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 100), 4);
	// when the memory is given back, the size follows when that has lasted
	in.clusters[0].size = 5;
	in.clusters[0].mem = in.clusters[0].stall = in.clusters[0].cpu = in.clusters[0].steal = 0;
	struct elastic_decision later = decide("cod", &d.state, &in, 20000);
	assert_int_equal(total(&later, ELASTIC_SHRINK, 100), 0);
	elastic_decision_clear(&d);
	d = decide("cod", &later.state, &in, 3600000);
	assert_int_equal(total(&d, ELASTIC_SHRINK, 100), 4);
	elastic_decision_clear(&later);
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

static void test_cod_shares_by_weight(void **state)
{
	(void)state;
	struct elastic_input in = make_input(3, 0, 0);
	in.idle = POOL - 3;
	for (size_t i = 0; i < 3; i++)
		in.clusters[i].load = 40000;
	in.clusters[2].weight = 2;
	struct elastic_decision d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 100), 9);
	assert_int_equal(total(&d, ELASTIC_GROW, 101), 9);
	assert_int_equal(total(&d, ELASTIC_GROW, 102), 19);
	elastic_decision_clear(&d);
	in.clusters[1].priority = 5; // goes first: nothing is left for the others
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 101), POOL - 3);
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

static void test_cod_reclaims_for_reservations(void **state)
{
	(void)state;
	struct elastic_input in = make_input(2, 0, 0);
	in.idle = 0;
	in.clusters[0] = (struct elastic_cluster){.id = 1, .min = 1, .max = 40, .weight = 1, .size = 38, .busy = 30, .load = 40000};
	in.clusters[1] = (struct elastic_cluster){.id = 2, .min = 1, .max = 40, .weight = 1, .size = 2, .busy = 2, .reserve = 12,
						  .load = 14000};
	struct elastic_decision d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_SHRINK, 1), 8);  // those without work
	assert_int_equal(total(&d, ELASTIC_RECLAIM, 1), 2); // and two with: 12 are reserved, what is beyond waits
	assert_int_equal(total(&d, ELASTIC_GROW, 2), 10);
	for (size_t i = 0; i < d.n_actions; i++) {
		if (d.actions[i].verb == ELASTIC_RECLAIM)
			assert_int_equal(d.actions[i].deadline_ms, in.params.deadline_ms);
	}
	elastic_decision_clear(&d);
	in.clusters[1].priority = 1; // a higher priority takes hosts with work beyond its reservation
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_RECLAIM, 1) + total(&d, ELASTIC_SHRINK, 1), 12);
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

static void test_cod_shrinks_late(void **state)
{
	(void)state;
	struct elastic_input in = make_input(1, 0, 0);
	in.clusters[0].size = 10;
	in.clusters[0].load = 2000;
	in.idle = 30;
	struct elastic_decision d = decide("cod", NULL, &in, 0), next;
	int64_t now = 0;
	while (d.n_actions == 0 && now < 1000000) {
		now += INTERVAL;
		next = decide("cod", &d.state, &in, now);
		elastic_decision_clear(&d);
		d = next;
	}
	assert_int_equal(now, in.params.shrink_hold_ms);
	assert_int_equal(total(&d, ELASTIC_SHRINK, 100), 8);
	elastic_decision_clear(&d);
	in.queued = 3; // others wait: at once
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(d.n_actions, 0); // idle hosts serve them
	elastic_decision_clear(&d);
	in.idle = 0;
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_SHRINK, 100), 3);
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

static void test_cod_lends_idle_hosts(void **state)
{
	(void)state;
	struct elastic_input in = make_input(2, 0, 0);
	in.params.scavenge = 500;
	in.idle = POOL - 2;
	in.clusters[0].load = 4000;
	struct elastic_decision d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 100), 3 + 17); // half of the 35 that nobody asked for
	assert_int_equal(total(&d, ELASTIC_GROW, 101), 0);	 // has no load at all
	elastic_decision_clear(&d);
	in.queued = 1;
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_GROW, 100), 3);
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

// The most stretched piece of work has the turn: idle hosts of others go to it, and others start nothing new meanwhile.
static void test_cod_takes_turns(void **state)
{
	(void)state;
	struct elastic_input in = make_input(2, 0, 0);
	in.pool = 20;
	in.idle = 0;
	in.clusters[0] = (struct elastic_cluster){.id = 1, .min = 1, .max = 20, .weight = 1, .size = 12, .busy = 9, .load = 40000,
						  .head = 8, .waited_ms = 600000, .head_ms = 7200000};
	in.clusters[1] = (struct elastic_cluster){.id = 2, .min = 1, .max = 20, .weight = 1, .size = 8, .busy = 4, .load = 40000,
						  .head = 10, .waited_ms = 300000, .head_ms = 600000};
	struct elastic_decision d = decide("cod", NULL, &in, 0);
	// 2 waited less, but is stretched more: it gets the three idle hosts of 1, and 1 makes room for three more
	assert_int_equal(total(&d, ELASTIC_SHRINK, 1), 3);
	assert_int_equal(total(&d, ELASTIC_GROW, 2), 3);
	assert_int_equal(total(&d, ELASTIC_CAP, 1), 6);
	assert_int_equal(count(&d, ELASTIC_RECLAIM), 0); // nothing is taken from its work
	elastic_decision_clear(&d);
	in.clusters[0].weight = 10;
	d = decide("cod", NULL, &in, 0);
	assert_int_equal(total(&d, ELASTIC_SHRINK, 2), 4);
	assert_int_equal(total(&d, ELASTIC_GROW, 1), 4);
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

// Applies a decision as if every change took one interval.
static void apply(struct elastic_input *in, const struct elastic_decision *d)
{
	for (size_t i = 0; i < in->n_clusters; i++) {
		struct elastic_cluster *c = &in->clusters[i];
		c->size -= c->leaving;
		in->idle += c->leaving;
		uint32_t came = c->coming < in->idle ? c->coming : in->idle;
		c->size += came;
		c->coming -= came;
		in->idle -= came;
		c->leaving = (uint32_t)(total(d, ELASTIC_SHRINK, c->id) + total(d, ELASTIC_RECLAIM, c->id));
		c->coming += (uint32_t)total(d, ELASTIC_GROW, c->id);
		uint32_t cancelled = c->coming < c->leaving ? c->coming : c->leaving;
		if (c->leaving > c->size - c->min || cancelled > 0) {
			c->coming -= cancelled;
			c->leaving -= cancelled;
		}
	}
}

#define ROUNDS 3000
struct turns {
	int direction;
	int64_t at[ROUNDS];
	size_t n;
};

static void note_turns(struct turns *t, const struct elastic_decision *d, uint32_t id, int64_t now, int64_t cool_down)
{
	int64_t up = total(d, ELASTIC_GROW, id), down = total(d, ELASTIC_SHRINK, id) + total(d, ELASTIC_RECLAIM, id);
	assert_true(up == 0 || down == 0);
	int direction = up > 0 ? 1 : down > 0 ? -1 : 0;
	if (direction == 0)
		return;
	if (t->direction != 0 && direction != t->direction) {
		t->at[t->n++] = now;
		if (t->n >= 3 && now - t->at[t->n - 3] < cool_down)
			fail_msg("cluster %u turned three times within %lld ms", id, (long long)(now - t->at[t->n - 3]));
	}
	t->direction = direction;
}

// Random loads, jumps and all: never more than two reversals within a cool-down, never more than the pool.
static void test_cod_turns_twice_at_most(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct elastic_input in = make_input(4, 0, 0);
		struct elastic_state s = {0};
		static struct turns turns[4];
		memset(turns, 0, sizeof(turns));
		uint64_t random = seed;
		in.params.scavenge = 300 * (seed % 3);
		in.params.shrink_hold_ms = 20000;
		in.idle = POOL - 4;
		in.clusters[0].reserve = 10;
		in.clusters[1].reserve = 6;
		in.clusters[2].priority = seed % 2 ? 1 : 0;
		for (int64_t round = 0; round < ROUNDS; round++) {
			uint32_t sum = 0;
			for (size_t i = 0; i < 4; i++) {
				struct elastic_cluster *c = &in.clusters[i];
				if (policy_random(&random) % 4 == 0)
					c->load = (int64_t)(policy_random(&random) % 30000);
				int64_t could = (c->load + 999) / 1000;
				c->busy = (uint32_t)(could < c->size ? could : c->size);
				c->head = could > c->size ? (uint32_t)(could - c->size + 1) / 2 : 0;
				c->waited_ms = (int64_t)(policy_random(&random) % 1000000);
				sum += c->size;
			}
			in.queued = policy_random(&random) % 8 == 0;
			assert_int_equal(sum + in.idle, POOL);
			struct elastic_decision d = decide("cod", &s, &in, round * INTERVAL);
			for (size_t i = 0; i < 4; i++)
				note_turns(&turns[i], &d, in.clusters[i].id, round * INTERVAL, in.params.cool_down_ms);
			apply(&in, &d);
			elastic_state_clear(&s);
			s = d.state;
			d.state = (struct elastic_state){0};
			elastic_decision_clear(&d);
		}
		assert_true(turns[0].n > 20); // it did turn
		elastic_state_clear(&s);
		elastic_input_clear(&in);
	}
}

// --- balance ------------------------------------------------------------------------------------------------------------

static int64_t overload(const struct elastic_input *in, const uint32_t *at)
{
	int64_t worst = 0;
	for (uint32_t h = 0; h < in->n_hosts; h++) {
		int64_t cpu = 0, mem = 0;
		for (size_t i = 0; i < in->n_members; i++) {
			cpu += at[i] == h ? in->members[i].need : 0;
			mem += at[i] == h ? in->members[i].mem_mib : 0;
		}
		worst = cpu * 1000 / in->hosts[h].cpu > worst ? cpu * 1000 / in->hosts[h].cpu : worst;
		if (mem > layout_mem_limit(in, h))
			worst = 100000;
	}
	return worst;
}

// Fewest moves to no overload, by trying every placement; 99: there is none.
static int fewest(const struct elastic_input *in)
{
	int best = 99;
	uint32_t at[8], n = 1;
	for (size_t i = 0; i < in->n_members; i++)
		n *= (uint32_t)in->n_hosts;
	for (uint32_t code = 0; code < n; code++) {
		uint32_t rest = code;
		int moves = 0;
		for (size_t i = 0; i < in->n_members; i++) {
			at[i] = rest % (uint32_t)in->n_hosts;
			rest /= (uint32_t)in->n_hosts;
			moves += at[i] != in->members[i].host;
		}
		if (moves < best && overload(in, at) <= in->params.high)
			best = moves;
	}
	return best;
}

static struct elastic_decision decide_lasting(const char *name, const struct elastic_input *in)
{
	struct elastic_decision first = decide(name, NULL, in, 0);
	struct elastic_decision later = decide(name, &first.state, in, 3600000);
	elastic_decision_clear(&first);
	return later;
}

static void test_balance_moves_fewest(void **state)
{
	(void)state;
	uint64_t random = 3;
	int solvable = 0;
	for (int round = 0; round < 300; round++) {
		struct elastic_input in = make_input(1, 3, 7);
		in.params.low = 0;
		for (size_t i = 0; i < 7; i++) {
			in.members[i].need = 300 + (int64_t)(policy_random(&random) % 1800);
			in.members[i].host = policy_random(&random) % 3 == 0 ? (uint32_t)(policy_random(&random) % 3) : 0;
		}
		int best = fewest(&in);
		struct elastic_decision d = decide_lasting("balance", &in);
		uint32_t at[8];
		for (size_t i = 0; i < 7; i++)
			at[i] = in.members[i].host;
		for (size_t i = 0; i < d.n_actions; i++)
			at[d.actions[i].rank] = d.actions[i].to;
		if (best <= in.params.max_moves) {
			solvable++;
			assert_int_equal(d.n_actions, best);
			assert_true(overload(&in, at) <= in.params.high);
		}
		elastic_decision_clear(&d);
		elastic_input_clear(&in);
	}
	assert_true(solvable > 100);
}

static void test_balance_waits_and_fills(void **state)
{
	(void)state;
	struct elastic_input in = make_input(1, 2, 4); // all four on n0: at 100% of it
	struct elastic_decision d = decide("balance", NULL, &in, 0);
	assert_int_equal(d.n_actions, 0); // it has to last
	elastic_decision_clear(&d);
	d = decide_lasting("balance", &in);
	assert_int_equal(count(&d, ELASTIC_MIGRATE), 2); // one clears the overload, two the underload of n1 (below 30%)
	elastic_decision_clear(&d);
	in.params.max_moves = 1;
	in.members[0].dirty_mib = in.members[1].dirty_mib = 101; // dirties its memory faster than it is copied: others go first
	d = decide_lasting("balance", &in);
	assert_int_equal(count(&d, ELASTIC_MIGRATE), 1);
	assert_int_equal(d.actions[0].rank, 2);
	elastic_decision_clear(&d);
	for (size_t i = 0; i < 4; i++)
		in.members[i].fixed = true;
	d = decide_lasting("balance", &in);
	assert_int_equal(d.n_actions, 0);
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

// --- pack -----------------------------------------------------------------------------------------------------------------

static void test_pack(void **state)
{
	(void)state;
	struct elastic_input in = make_input(1, 4, 4);
	in.members[1].host = 1;
	in.members[2].host = 2;
	in.members[3].host = 2; // n0 1, n1 1, n2 2, n3 0 members, of 4 CPUs each
	in.hosts[0].releasable = false;
	for (size_t i = 0; i < 4; i++)
		in.members[i].need = 500;
	struct elastic_decision d = decide("pack", NULL, &in, 0);
	assert_int_equal(d.n_actions, 0);
	elastic_decision_clear(&d);
	d = decide_lasting("pack", &in);
	assert_int_equal(count(&d, ELASTIC_RELEASE), 3); // all fit on n0
	assert_int_equal(count(&d, ELASTIC_MIGRATE), 3);
	assert_int_equal(d.actions[0].verb, ELASTIC_MIGRATE);
	elastic_decision_clear(&d);
	in.params.max_moves = 1;
	in.members[1].anchor = true; // its host is the last choice: n2's two members are too many, n3 is empty
	d = decide_lasting("pack", &in);
	assert_int_equal(count(&d, ELASTIC_RELEASE), 2);
	elastic_decision_clear(&d);
	in.members[1].fixed = true;
	d = decide_lasting("pack", &in);
	assert_int_equal(count(&d, ELASTIC_RELEASE), 1);
	assert_int_equal(d.actions[0].from, 3);
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

// --- yield ----------------------------------------------------------------------------------------------------------------

static void test_packer(void **state)
{
	(void)state;
	const struct packer_item items[] = {{600, 10}, {600, 10}, {400, 70}, {400, 70}};
	const struct packer_host hosts[] = {{1000, 100}, {1000, 100}};
	const struct packer_case c = {items, 4, hosts, 2};
	uint32_t at[4];
	int64_t yield;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(packer_place(&c, 1, at, &yield, &err), 0);
	assert_int_equal(yield, 1000);
	assert_int_not_equal(at[0], at[1]);
	const struct packer_host one[] = {{1000, 200}};
	const struct packer_case narrow = {items, 4, one, 1};
	assert_int_equal(packer_place(&narrow, 1, at, &yield, &err), 0);
	assert_int_equal(yield, 500);
	const struct packer_case none = {items, 4, hosts, 1}; // 160 of memory on 100
	assert_int_equal(packer_place(&none, 1, at, &yield, &err), 0);
	assert_int_equal(yield, -1);
}

static void test_yield(void **state)
{
	(void)state;
	struct elastic_input in = make_input(1, 2, 4); // all four on n0
	for (size_t i = 0; i < 4; i++)
		in.members[i].need = 2000;
	struct elastic_decision d = decide("yield", NULL, &in, 0);
	assert_int_equal(count(&d, ELASTIC_MIGRATE), 2);
	assert_int_equal(count(&d, ELASTIC_SHARE), 4);
	for (size_t i = 0; i < d.n_actions; i++) {
		if (d.actions[i].verb == ELASTIC_SHARE)
			assert_int_equal(d.actions[i].n, 2000);
	}
	elastic_decision_clear(&d);
	in.params.max_moves = 1; // the whole repacking is too much: one step of it
	d = decide("yield", NULL, &in, 0);
	assert_int_equal(count(&d, ELASTIC_MIGRATE), 1);
	elastic_decision_clear(&d);
	in.params.max_moves = 0;
	d = decide("yield", NULL, &in, 0);
	assert_int_equal(count(&d, ELASTIC_MIGRATE), 0);
	assert_int_equal(d.actions[0].n, 1000); // 4 CPUs among needs of 8
	elastic_decision_clear(&d);
	elastic_input_clear(&in);
}

// --- records --------------------------------------------------------------------------------------------------------------

static struct elastic_input random_input(uint64_t *random)
{
	struct elastic_input in = make_input(5, 4, 12);
	in.idle = (uint32_t)(policy_random(random) % 10);
	in.queued = (uint32_t)(policy_random(random) % 3);
	in.params.scavenge = (int64_t)(policy_random(random) % 1000);
	in.params.shrink_hold_ms = 0;
	in.params.low = 500;
	for (size_t i = 0; i < 5; i++) {
		in.clusters[i].size = 1 + (uint32_t)(policy_random(random) % 8);
		in.clusters[i].busy = in.clusters[i].size / 2;
		in.clusters[i].load = (int64_t)(policy_random(random) % 20000);
		in.clusters[i].reserve = (uint32_t)(policy_random(random) % 5);
		in.clusters[i].priority = (int32_t)(policy_random(random) % 3) - 1;
		in.clusters[i].head = (uint32_t)(policy_random(random) % 6);
		in.clusters[i].waited_ms = (int64_t)(policy_random(random) % 10000000);
		in.clusters[i].head_ms = (int64_t)(policy_random(random) % 3) * 600000;
	}
	for (size_t i = 0; i < 12; i++) {
		in.members[i].host = (uint32_t)(policy_random(random) % 4);
		in.members[i].need = (int64_t)(policy_random(random) % 1800);
		in.members[i].anchor = policy_random(random) % 4 == 0;
	}
	return in;
}

// Written as text, read back, decided again: the same to the last digit. An altered record is told.
static void replay(const struct elastic_policy *policy, const struct elastic_state *s, const struct elastic_input *in,
		   int64_t now_ms, const struct elastic_decision *d)
{
	struct vc_error err = VC_ERROR_INIT;
	bool same = false;
	vc_autojson struct json_object *record = elastic_record(policy, s, in, now_ms, UINT64_MAX - 3, d);
	size_t len;
	const char *text = vc_json_text(record, &len);
	vc_autojson struct json_object *read = vc_json_parse(text, len, &err);
	assert_non_null(read);
	if (elastic_replay(read, &same, NULL, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(same);
	struct json_object *decision = NULL;
	json_object_object_get_ex(read, "decision", &decision);
	vc_json_add_str(decision, "reason", "another one");
	assert_int_equal(elastic_replay(read, &same, NULL, &err), 0);
	assert_false(same);
}

static void test_replay(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	uint64_t random = 11;
	for (size_t p = 0; p < elastic_n_policies; p++) {
		struct elastic_state s = {0};
		size_t acted = 0;
		for (int64_t round = 0; round < 60; round++) {
			struct elastic_input in = random_input(&random);
			struct elastic_decision d;
			assert_int_equal(elastic_decide(&elastic_policies[p], &s, &in, round * 70000, UINT64_MAX - 3, &d, &err), 0);
			replay(&elastic_policies[p], &s, &in, round * 70000, &d);
			acted += d.n_actions > 0;
			elastic_state_clear(&s);
			s = d.state;
			d.state = (struct elastic_state){0};
			elastic_decision_clear(&d);
			elastic_input_clear(&in);
		}
		if (acted < 10)
			fail_msg("%s acted %zu times", elastic_policies[p].name, acted);
		elastic_state_clear(&s);
	}
}

static void test_refuses_bad_records(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	bool same;
	vc_autojson struct json_object *record = json_object_new_object();
	assert_int_equal(elastic_replay(record, &same, NULL, &err), -1);
	struct elastic_input in = make_input(1, 1, 1);
	struct elastic_decision d = {0};
	in.members[0].host = 1;
	assert_int_equal(elastic_decide(&elastic_policies[0], NULL, &in, 0, 0, &d, &err), -1);
	assert_contains(err.text, "on no host");
	assert_null(elastic_policy_find("codd", &err));
	assert_contains(err.text, "static, cod, balance, pack, yield");
	elastic_input_clear(&in);
}

// What users may name at submission is in the table.
static void test_spec_policies(void **state)
{
	(void)state;
	for (size_t i = 0; vc_spec_policies[i]; i++)
		assert_non_null(elastic_policy_find(vc_spec_policies[i], NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spec_policies),
		cmocka_unit_test(test_mean),
		cmocka_unit_test(test_since),
		cmocka_unit_test(test_gate),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_static),
		cmocka_unit_test(test_cod_grows_with_load),
		cmocka_unit_test(test_cod_shares_by_weight),
		cmocka_unit_test(test_cod_reclaims_for_reservations),
		cmocka_unit_test(test_cod_shrinks_late),
		cmocka_unit_test(test_cod_lends_idle_hosts),
		cmocka_unit_test(test_cod_takes_turns),
		cmocka_unit_test(test_cod_turns_twice_at_most),
		cmocka_unit_test(test_cod_takes_what_hosts_say),
		cmocka_unit_test(test_balance_moves_fewest),
		cmocka_unit_test(test_balance_waits_and_fills),
		cmocka_unit_test(test_pack),
		cmocka_unit_test(test_packer),
		cmocka_unit_test(test_yield),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_refuses_bad_records),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
