// SPDX-License-Identifier: GPL-2.0-or-later
// Order of predecessors: see chain.h.
#include "vcd/pipe/chain.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/hostlist.h"
#include "libvc/limits.h"

struct candidate {
	const char *host; // in hosts
	bool complete;
};

struct chain {
	char **hosts; // head first
	size_t n;
	struct candidate *order; // the order of trying
	size_t n_order, next;
	bool again; // not the first round
	char *self;
	bool at_tail;
};

struct place {
	const char *host;
	size_t group;
};

void chain_destroy(struct chain *c)
{
	if (!c)
		return;
	vc_strv_free(c->hosts);
	free(c->order);
	free(c->self);
	free(c);
}

static int compare(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	if (x->group != y->group)
		return x->group < y->group ? -1 : 1;
	return strverscmp(x->host, y->host);
}

static bool lists(char *const *names, const char *host)
{
	for (size_t i = 0; names[i]; i++) {
		if (strcmp(names[i], host) == 0)
			return true;
	}
	return false;
}

static int find_groups(struct place *places, size_t n, char *const *topology, struct vc_error *err)
{
	size_t group = 0;
	for (; topology && topology[group]; group++) {
		vc_autostrv char **names = NULL;
		if (vc_hostlist_expand(topology[group], VC_HOSTS_MAX, &names, NULL, err) < 0)
			return vc_error_wrap(err, "topology");
		for (size_t i = 0; i < n; i++) {
			if (places[i].group == SIZE_MAX && lists(names, places[i].host))
				places[i].group = group;
		}
	}
	return 0;
}

static int add(struct chain *c, const char *host)
{
	for (size_t i = 0; i < c->n; i++) {
		if (strcmp(c->hosts[i], host) == 0)
			return 0;
	}
	c->hosts[c->n] = strdup(host);
	return c->hosts[c->n++] ? 0 : -1;
}

static int fill(struct chain *c, const char *head, const char *const *hosts, size_t n, char *const *topology, struct vc_error *err)
{
	vc_autofree struct place *sorted = calloc(n + 1, sizeof(*sorted));
	if (!sorted || (head && add(c, head) < 0))
		return vc_error_set(err, ENOMEM, "chain of hosts: out of memory");
	for (size_t i = 0; i < n; i++)
		sorted[i] = (struct place){hosts[i], SIZE_MAX};
	if (find_groups(sorted, n, topology, err) < 0)
		return -1;
	qsort(sorted, n, sizeof(*sorted), compare);
	for (size_t i = 0; i < n; i++) {
		if (add(c, sorted[i].host) < 0)
			return vc_error_set(err, ENOMEM, "chain of hosts: out of memory");
	}
	return 0;
}

// Those before self, nearest first; then those behind it. One that is not in the chain stands behind its end.
static void order(struct chain *c, const char *self)
{
	size_t at = 0;
	while (at < c->n && strcmp(c->hosts[at], self) != 0)
		at++;
	for (size_t i = at; i-- > 0;)
		c->order[c->n_order++] = (struct candidate){c->hosts[i], false};
	for (size_t i = at + 1; i < c->n; i++)
		c->order[c->n_order++] = (struct candidate){c->hosts[i], true};
}

struct chain *chain_create(const char *head, const char *const *hosts, size_t n, const char *self, char *const *topology, struct vc_error *err)
{
	struct chain *c = calloc(1, sizeof(*c));
	if (c)
		c->hosts = calloc(n + 2, sizeof(*c->hosts));
	if (c)
		c->order = calloc(n + 1, sizeof(*c->order));
	if (c)
		c->self = strdup(self);
	if (!c || !c->hosts || !c->order || !c->self) {
		chain_destroy(c);
		vc_error_set(err, ENOMEM, "chain of hosts: out of memory");
		return NULL;
	}
	if (fill(c, head, hosts, n, topology, err) < 0) {
		chain_destroy(c);
		return NULL;
	}
	order(c, self);
	return c;
}

const char *chain_next(struct chain *c, enum chain_ask *ret_ask)
{
	if (c->next >= c->n_order)
		return NULL;
	*ret_ask = c->order[c->next].complete ? CHAIN_COMPLETE : c->again ? CHAIN_NOW : CHAIN_WAIT;
	return c->order[c->next++].host;
}

void chain_restart(struct chain *c)
{
	c->next = 0;
	c->again = true;
}

void chain_demote(struct chain *c, const char *host)
{
	for (size_t i = 0; i < c->n_order; i++) {
		if (strcmp(c->order[i].host, host) != 0)
			continue;
		struct candidate last = c->order[i];
		memmove(&c->order[i], &c->order[i + 1], (c->n_order - i - 1) * sizeof(last));
		c->order[c->n_order - 1] = last;
		c->next -= c->next > i;
		return;
	}
}

bool chain_to_tail(struct chain *c)
{
	if (c->at_tail || !c->n || strcmp(c->hosts[c->n - 1], c->self) == 0)
		return false;
	c->at_tail = true;
	c->n_order = 0;
	for (size_t i = c->n; i-- > 0;) {
		if (strcmp(c->hosts[i], c->self) != 0)
			c->order[c->n_order++] = (struct candidate){c->hosts[i], false};
	}
	chain_restart(c);
	return true;
}

size_t chain_length(const struct chain *c)
{
	return c->n;
}

const char *chain_host(const struct chain *c, size_t i)
{
	return c->hosts[i];
}
