// SPDX-License-Identifier: GPL-2.0-or-later
// Order of predecessors: see chain.h.
#include "vcd/pipe/chain.h"

#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"

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
};

void chain_destroy(struct chain *c)
{
	if (!c)
		return;
	vc_strv_free(c->hosts);
	free(c->order);
	free(c);
}

static int compare(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
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

static int fill(struct chain *c, const char *head, const char *const *hosts, size_t n)
{
	vc_autofree char **sorted = calloc(n + 1, sizeof(*sorted));
	if (!sorted || (head && add(c, head) < 0))
		return -1;
	memcpy(sorted, hosts, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), compare);
	for (size_t i = 0; i < n; i++) {
		if (add(c, sorted[i]) < 0)
			return -1;
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

struct chain *chain_create(const char *head, const char *const *hosts, size_t n, const char *self, struct vc_error *err)
{
	struct chain *c = calloc(1, sizeof(*c));
	if (c)
		c->hosts = calloc(n + 2, sizeof(*c->hosts));
	if (c)
		c->order = calloc(n + 1, sizeof(*c->order));
	if (!c || !c->hosts || !c->order || fill(c, head, hosts, n) < 0) {
		chain_destroy(c);
		vc_error_set(err, ENOMEM, "chain of hosts: out of memory");
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

size_t chain_length(const struct chain *c)
{
	return c->n;
}

const char *chain_host(const struct chain *c, size_t i)
{
	return c->hosts[i];
}
