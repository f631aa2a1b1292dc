// SPDX-License-Identifier: GPL-2.0-or-later
// Scenario yield: random small cases, placed by the daemon's packer and by the exact optimum.
//
// A case: 12 services on 4 hosts. CPU needs are uniform, scaled so that together they are all of the CPUs; memory needs are
// uniform, scaled so that `slack` of all memory stays free. Cases that memory makes impossible are drawn again: the exact
// search says so. A figure is the packer's least yield divided by the optimum, over the cases it placed.
#include <stdio.h>

#include "cmd/vcsim/exact.h"
#include "cmd/vcsim/vcsim.h"
#include "vcd/elastic/policy.h"

#define HOSTS 4
#define ITEMS 12
#define CAPACITY 100000 // of CPU and of memory of a host
#define TRIES_MAX 1000	// draws for one feasible case: at slack 0.1 one in two is

static void draw(struct packer_item *items, uint32_t slack, uint64_t *seed)
{
	int64_t needs = 0, mems = 0;
	for (int i = 0; i < ITEMS; i++) {
		items[i] = (struct packer_item){100 + (int64_t)(policy_random(seed) % 900), 100 + (int64_t)(policy_random(seed) % 900)};
		needs += items[i].need;
		mems += items[i].mem;
	}
	for (int i = 0; i < ITEMS; i++) {
		items[i].need = items[i].need * HOSTS * CAPACITY / needs;
		items[i].mem = items[i].mem * HOSTS * (CAPACITY / 1000) * (1000 - slack) / mems;
	}
}

struct tally {
	long feasible, drawn, placed;
	double sum, worst, yields;
};

static int one_case(struct tally *t, uint32_t slack, uint64_t *seed, struct vc_error *err)
{
	struct packer_item items[ITEMS];
	struct packer_host hosts[HOSTS];
	const struct packer_case c = {items, ITEMS, hosts, HOSTS};
	uint32_t at[ITEMS];
	int64_t best = -1, yield;
	for (int h = 0; h < HOSTS; h++)
		hosts[h] = (struct packer_host){CAPACITY, CAPACITY};
	for (int try = 0; best < 0; try++, t->drawn++) {
		if (try == TRIES_MAX)
			return vc_error_set(err, VC_EFAILED, "no feasible case at slack %u permille", slack);
		draw(items, slack, seed);
		best = exact_yield(&c);
	}
	t->feasible++;
	if (packer_place(&c, *seed, at, &yield, err) < 0)
		return -1;
	if (yield < 0)
		return 0;
	double ratio = (double)yield / (double)best;
	t->placed++;
	t->sum += ratio;
	t->yields += (double)yield / PACKER_YIELD_MAX;
	t->worst = ratio < t->worst ? ratio : t->worst;
	return 0;
}

int scenario_yield(const struct vcsim_options *o, struct figures *f, struct vc_error *err)
{
	struct tally t = {.worst = 1};
	uint64_t seed = o->seed;
	for (uint32_t i = 0; i < o->cases; i++) {
		if (one_case(&t, o->slack, &seed, err) < 0)
			return -1;
	}
	double placed = t.placed > 0 ? (double)t.placed : 1;
	figures_add(f, "slack", (double)o->slack / 1000);
	figures_add(f, "cases", (double)t.feasible);
	figures_add(f, "cases_drawn", (double)t.drawn);
	figures_add(f, "placement_found", (double)t.placed / (double)t.feasible);
	figures_add(f, "min_yield_mean", t.sum / placed);
	figures_add(f, "min_yield_worst", t.worst);
	figures_add(f, "yield_mean", t.yields / placed);
	return 0;
}
