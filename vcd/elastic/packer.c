// SPDX-License-Identifier: GPL-2.0-or-later
// Vector packing under bisection, and local improvement: see packer.h.
#include "vcd/elastic/packer.h"

#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "vcd/elastic/policy.h"

#define UNIT 1000000	     // a host's whole capacity in the packer's own measure
#define SHUFFLES 12	     // perturbed orders per yield tried, after the plain ones
#define IMPROVEMENTS_MAX 200 // moves and exchanges; each raises the worst host, more never were seen

enum order { BY_MAX, BY_SUM, BY_MEM, BY_CPU, BY_DIFFERENCE, ORDERS };
enum choice { FIRST_FIT, BEST_FIT, MOST_BALANCED, CHOICES };

struct keyed {
	int64_t key;
	uint32_t item;
};

struct packing {
	const struct packer_case *c;
	int64_t cpu_unit, mem_unit; // of an average host
	struct keyed *sorted;
	int64_t *cpu, *mem; // host -> used
	uint32_t *at;
};

static int64_t need_at(int64_t need, int64_t yield)
{
	return (need * yield + PACKER_YIELD_MAX - 1) / PACKER_YIELD_MAX;
}

int64_t packer_least_yield(const struct packer_case *c, const uint32_t *at)
{
	int64_t least = PACKER_YIELD_MAX;
	for (uint32_t h = 0; h < c->n_hosts; h++) {
		int64_t cpu = 0, mem = 0;
		for (size_t i = 0; i < c->n_items; i++) {
			cpu += at[i] == h ? c->items[i].need : 0;
			mem += at[i] == h ? c->items[i].mem : 0;
		}
		if (mem > c->hosts[h].mem)
			return -1;
		if (cpu > 0)
			least = policy_min(least, c->hosts[h].cpu * PACKER_YIELD_MAX / cpu);
	}
	return least;
}

// --- packing at a given yield ----------------------------------------------------------------------------------------

static int by_key(const void *a, const void *b)
{
	const struct keyed *x = a, *y = b;
	if (x->key != y->key)
		return x->key > y->key ? -1 : 1;
	return x->item < y->item ? -1 : x->item > y->item;
}

static int64_t key_of(const struct packing *p, size_t item, int64_t yield, enum order order)
{
	int64_t cpu = need_at(p->c->items[item].need, yield) * UNIT / p->cpu_unit;
	int64_t mem = p->c->items[item].mem * UNIT / p->mem_unit;
	switch (order) {
	case BY_MAX: return policy_max(cpu, mem);
	case BY_SUM: return cpu + mem;
	case BY_MEM: return mem;
	case BY_CPU: return cpu;
	default: return policy_max(cpu - mem, mem - cpu);
	}
}

// Keys are perturbed by up to an eighth when there is a seed.
static void sort_items(struct packing *p, int64_t yield, enum order order, uint64_t *seed)
{
	for (size_t i = 0; i < p->c->n_items; i++) {
		int64_t key = key_of(p, i, yield, order);
		if (seed)
			key += key * ((int64_t)(policy_random(seed) % 257) - 128) / 1024;
		p->sorted[i] = (struct keyed){key, (uint32_t)i};
	}
	qsort(p->sorted, p->c->n_items, sizeof(*p->sorted), by_key);
}

// How good `host` is for the item: lower is better; -1 when it does not fit.
static int64_t badness(const struct packing *p, size_t item, size_t host, int64_t yield, enum choice choice)
{
	const struct packer_host *h = &p->c->hosts[host];
	int64_t cpu = h->cpu - p->cpu[host] - need_at(p->c->items[item].need, yield);
	int64_t mem = h->mem - p->mem[host] - p->c->items[item].mem;
	if (cpu < 0 || mem < 0)
		return -1;
	int64_t cpu_left = cpu * UNIT / p->cpu_unit, mem_left = mem * UNIT / p->mem_unit;
	if (choice == FIRST_FIT)
		return (int64_t)host;
	if (choice == BEST_FIT)
		return cpu_left + mem_left;
	return policy_max(cpu_left - mem_left, mem_left - cpu_left);
}

static bool pack(struct packing *p, int64_t yield, enum order order, enum choice choice, uint64_t *seed)
{
	sort_items(p, yield, order, seed);
	memset(p->cpu, 0, p->c->n_hosts * sizeof(*p->cpu));
	memset(p->mem, 0, p->c->n_hosts * sizeof(*p->mem));
	for (size_t i = 0; i < p->c->n_items; i++) {
		uint32_t item = p->sorted[i].item;
		int64_t best = -1;
		for (size_t h = 0; h < p->c->n_hosts; h++) {
			int64_t b = badness(p, item, h, yield, choice);
			if (b < 0 || (best >= 0 && b >= best))
				continue;
			best = b;
			p->at[item] = (uint32_t)h;
		}
		if (best < 0)
			return false;
		p->cpu[p->at[item]] += need_at(p->c->items[item].need, yield);
		p->mem[p->at[item]] += p->c->items[item].mem;
	}
	return true;
}

static bool pack_somehow(struct packing *p, int64_t yield, uint64_t seed)
{
	for (int order = 0; order < ORDERS; order++) {
		for (int choice = 0; choice < CHOICES; choice++) {
			if (pack(p, yield, (enum order)order, (enum choice)choice, NULL))
				return true;
		}
	}
	for (int i = 0; i < SHUFFLES; i++) {
		if (pack(p, yield, (enum order)(i % ORDERS), (enum choice)(i % CHOICES), &seed))
			return true;
	}
	return false;
}

// --- improvement: the worst host gives an item away or exchanges one ----------------------------------------------------

static uint32_t worst_host(const struct packing *p)
{
	uint32_t worst = 0;
	for (uint32_t h = 1; h < p->c->n_hosts; h++) {
		if (p->cpu[h] * p->c->hosts[worst].cpu > p->cpu[worst] * p->c->hosts[h].cpu)
			worst = h;
	}
	return worst;
}

static void count_up(struct packing *p, const uint32_t *at)
{
	memset(p->cpu, 0, p->c->n_hosts * sizeof(*p->cpu));
	memset(p->mem, 0, p->c->n_hosts * sizeof(*p->mem));
	for (size_t i = 0; i < p->c->n_items; i++) {
		p->cpu[at[i]] += p->c->items[i].need;
		p->mem[at[i]] += p->c->items[i].mem;
	}
}

// Both hosts would be less loaded than `worst` is now.
static bool better(const struct packing *p, uint32_t worst, uint32_t other, int64_t cpu_over, int64_t mem_over)
{
	const struct packer_host *w = &p->c->hosts[worst], *o = &p->c->hosts[other];
	return cpu_over > 0 && p->mem[other] + mem_over <= o->mem && p->mem[worst] - mem_over <= w->mem &&
	       (p->cpu[other] + cpu_over) * w->cpu < p->cpu[worst] * o->cpu;
}

static bool improve_item(struct packing *p, uint32_t *at, uint32_t worst, size_t item)
{
	const struct packer_item *items = p->c->items;
	for (uint32_t h = 0; h < p->c->n_hosts; h++) {
		if (h != worst && better(p, worst, h, items[item].need, items[item].mem)) {
			at[item] = h;
			return true;
		}
	}
	for (size_t j = 0; j < p->c->n_items; j++) {
		if (at[j] != worst && better(p, worst, at[j], items[item].need - items[j].need, items[item].mem - items[j].mem)) {
			at[item] = at[j];
			at[j] = worst;
			return true;
		}
	}
	return false;
}

static void improve(struct packing *p, uint32_t *at)
{
	for (int i = 0; i < IMPROVEMENTS_MAX; i++) {
		count_up(p, at);
		uint32_t worst = worst_host(p);
		bool done = true;
		for (size_t item = 0; item < p->c->n_items && done; item++)
			done = at[item] != worst || !improve_item(p, at, worst, item);
		if (done)
			return;
	}
}

// --- both ----------------------------------------------------------------------------------------------------------

static void bisect(struct packing *p, uint64_t seed, uint32_t *at, int64_t *ret_yield)
{
	int64_t low = 0, high = PACKER_YIELD_MAX;
	size_t bytes = p->c->n_items * sizeof(*at);
	if (!pack_somehow(p, 0, seed))
		return;
	memcpy(at, p->at, bytes);
	while (low < high) {
		int64_t middle = (low + high + 1) / 2;
		if (pack_somehow(p, middle, seed)) {
			memcpy(at, p->at, bytes);
			low = middle;
		} else {
			high = middle - 1;
		}
	}
	improve(p, at);
	*ret_yield = packer_least_yield(p->c, at);
}

static void average_host(struct packing *p)
{
	int64_t cpu = 0, mem = 0, n = (int64_t)p->c->n_hosts;
	for (size_t h = 0; h < p->c->n_hosts; h++) {
		cpu += p->c->hosts[h].cpu;
		mem += p->c->hosts[h].mem;
	}
	p->cpu_unit = policy_max(1, n ? cpu / n : 1);
	p->mem_unit = policy_max(1, n ? mem / n : 1);
}

int packer_place(const struct packer_case *c, uint64_t seed, uint32_t *at, int64_t *ret_yield, struct vc_error *err)
{
	vc_autofree struct keyed *sorted = calloc(c->n_items + 1, sizeof(*sorted));
	vc_autofree int64_t *used = calloc(2 * c->n_hosts + 1, sizeof(*used));
	vc_autofree uint32_t *tried = calloc(c->n_items + 1, sizeof(*tried));
	if (!sorted || !used || !tried)
		return vc_error_errno(err, "placement");
	struct packing p = {.c = c, .sorted = sorted, .cpu = used, .mem = used + c->n_hosts, .at = tried};
	*ret_yield = c->n_items ? -1 : PACKER_YIELD_MAX;
	average_host(&p);
	if (c->n_items && c->n_hosts)
		bisect(&p, seed, at, ret_yield);
	return 0;
}
