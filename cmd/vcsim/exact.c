// SPDX-License-Identifier: GPL-2.0-or-later
// Branch and bound: see exact.h. Items go in falling order of size; hosts that hold the same are tried once.
#include "cmd/vcsim/exact.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct search {
	struct packer_item items[EXACT_ITEMS_MAX];
	size_t n_items, n_hosts;
	struct packer_host host;
	int64_t cpu[EXACT_HOSTS_MAX], mem[EXACT_HOSTS_MAX];
	int64_t best, ceiling; // nothing is better than the ceiling
};

static int64_t yield_of(const struct search *s, int64_t cpu)
{
	int64_t yield = cpu > 0 ? s->host.cpu * PACKER_YIELD_MAX / cpu : PACKER_YIELD_MAX;
	return yield < PACKER_YIELD_MAX ? yield : PACKER_YIELD_MAX;
}

static bool seen_before(const struct search *s, size_t host)
{
	for (size_t h = 0; h < host; h++) {
		if (s->cpu[h] == s->cpu[host] && s->mem[h] == s->mem[host])
			return true;
	}
	return false;
}

static void place(struct search *s, size_t item, int64_t least)
{
	if (item == s->n_items) {
		s->best = least > s->best ? least : s->best;
		return;
	}
	for (size_t h = 0; h < s->n_hosts && s->best < s->ceiling; h++) {
		const struct packer_item *it = &s->items[item];
		int64_t yield = yield_of(s, s->cpu[h] + it->need);
		if (s->mem[h] + it->mem > s->host.mem || yield <= s->best || seen_before(s, h))
			continue;
		s->cpu[h] += it->need;
		s->mem[h] += it->mem;
		place(s, item + 1, yield < least ? yield : least);
		s->cpu[h] -= it->need;
		s->mem[h] -= it->mem;
	}
}

static int by_size(const void *a, const void *b)
{
	const struct packer_item *x = a, *y = b;
	int64_t p = x->need + x->mem, q = y->need + y->mem;
	return p > q ? -1 : p < q;
}

int64_t exact_yield(const struct packer_case *c)
{
	struct search s = {.n_items = c->n_items, .n_hosts = c->n_hosts, .host = c->hosts[0], .best = -1};
	int64_t needs = 0;
	memcpy(s.items, c->items, c->n_items * sizeof(*s.items));
	qsort(s.items, s.n_items, sizeof(*s.items), by_size);
	for (size_t i = 0; i < s.n_items; i++)
		needs += s.items[i].need;
	s.ceiling = yield_of(&s, (needs + (int64_t)c->n_hosts - 1) / (int64_t)c->n_hosts);
	place(&s, 0, PACKER_YIELD_MAX);
	return s.best;
}
