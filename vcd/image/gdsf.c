// SPDX-License-Identifier: GPL-2.0-or-later
// Greedy-Dual-Size-Frequency: see gdsf.h. Cherkasova's rank, with admission by the same rank and halved uses.
#include "vcd/image/gdsf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"

struct gdsf {
	struct gdsf_item *items; // in the cache, and remembered
	size_t n, room;
	uint64_t capacity, bytes; // bytes of those in the cache
	double age;
	uint64_t clock;	 // uses so far
	uint64_t halved; // clock of the last halving
};

struct gdsf *gdsf_create(uint64_t capacity)
{
	struct gdsf *g = calloc(1, sizeof(*g));
	if (g)
		g->capacity = capacity;
	return g;
}

void gdsf_destroy(struct gdsf *g)
{
	if (!g)
		return;
	free(g->items);
	free(g);
}

uint64_t gdsf_bytes(const struct gdsf *g)
{
	return g->bytes;
}

static struct gdsf_item *known(const struct gdsf *g, const char *key)
{
	for (size_t i = 0; i < g->n; i++) {
		if (strcmp(g->items[i].key, key) == 0)
			return &g->items[i];
	}
	return NULL;
}

const struct gdsf_item *gdsf_find(const struct gdsf *g, const char *key)
{
	struct gdsf_item *item = known(g, key);
	return item && item->cached ? item : NULL;
}

static void drop(struct gdsf *g, struct gdsf_item *item)
{
	if (item->cached)
		g->bytes -= item->bytes;
	*item = g->items[--g->n];
}

// Of what is only remembered the one that was used longest ago goes.
static void forget_one(struct gdsf *g)
{
	struct gdsf_item *oldest = NULL;
	size_t remembered = 0;
	for (size_t i = 0; i < g->n; i++) {
		struct gdsf_item *item = &g->items[i];
		if (item->cached || item->holds)
			continue;
		remembered++;
		if (!oldest || item->last < oldest->last)
			oldest = item;
	}
	if (remembered > GDSF_REMEMBERED)
		drop(g, oldest);
}

static struct gdsf_item *add(struct gdsf *g, const char *key)
{
	if (g->n == g->room) {
		size_t room = g->room ? 2 * g->room : 64;
		struct gdsf_item *items = reallocarray(g->items, room, sizeof(*items));
		if (!items)
			return NULL;
		g->items = items;
		g->room = room;
	}
	struct gdsf_item *item = &g->items[g->n++];
	*item = (struct gdsf_item){.last = g->clock};
	memcpy(item->key, key, strnlen(key, DIGEST_HEX_LEN - 1));
	return item;
}

static void set_rank(const struct gdsf *g, struct gdsf_item *item)
{
	item->rank = g->age + item->uses * item->seconds / (double)(item->bytes ? item->bytes : 1);
}

static void halve(struct gdsf *g)
{
	if (g->clock - g->halved < GDSF_HALVE_USES * (uint64_t)g->n)
		return;
	g->halved = g->clock;
	for (size_t i = 0; i < g->n; i++)
		g->items[i].uses /= 2;
}

bool gdsf_use(struct gdsf *g, const char *key)
{
	struct gdsf_item *item = known(g, key);
	g->clock++;
	if (!item)
		item = add(g, key);
	if (!item)
		return false; // without memory a use is not counted
	item->uses++;
	item->last = g->clock;
	bool cached = item->cached;
	if (cached)
		set_rank(g, item);
	else
		forget_one(g);
	halve(g);
	return cached;
}

static struct gdsf_item *lowest(const struct gdsf *g)
{
	struct gdsf_item *low = NULL;
	for (size_t i = 0; i < g->n; i++) {
		struct gdsf_item *item = &g->items[i];
		if (item->cached && !item->holds && (!low || item->rank < low->rank || (item->rank == low->rank && item->last < low->last)))
			low = item;
	}
	return low;
}

// Takes items out by rank, lowest first, until at most `limit` bytes are left or only held ones are. Their keys go
// to victims; `newcomer` stops it: it would be the next to go.
static bool make_room(struct gdsf *g, uint64_t limit, const char *newcomer, char (*victims)[DIGEST_HEX_LEN], size_t *n)
{
	while (g->bytes > limit) {
		struct gdsf_item *low = lowest(g);
		if (!low)
			return false;
		if (newcomer && strcmp(low->key, newcomer) == 0)
			return false;
		g->age = low->rank > g->age ? low->rank : g->age;
		memcpy(victims[(*n)++], low->key, DIGEST_HEX_LEN);
		g->bytes -= low->bytes;
		low->cached = false;
	}
	return true;
}

// Items that were taken out for a newcomer which then did not fit are in again.
static void put_back(struct gdsf *g, char (*victims)[DIGEST_HEX_LEN], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct gdsf_item *item = known(g, victims[i]);
		item->cached = true;
		g->bytes += item->bytes;
	}
}

static struct gdsf_item *enter(struct gdsf *g, const char *key, double seconds, uint64_t bytes)
{
	struct gdsf_item *item = known(g, key);
	if (!item)
		item = add(g, key);
	if (!item)
		return NULL;
	if (item->cached)
		g->bytes -= item->bytes;
	item->seconds = seconds;
	item->bytes = bytes;
	item->uses = item->uses < 1 ? 1 : item->uses;
	item->cached = true;
	g->bytes += bytes;
	set_rank(g, item);
	return item;
}

bool gdsf_admit(struct gdsf *g, const char *key, double seconds, uint64_t bytes, char (**ret_victims)[DIGEST_HEX_LEN],
		size_t *ret_n)
{
	double age = g->age;
	*ret_n = 0;
	*ret_victims = calloc(g->n + 1, sizeof(**ret_victims));
	if (!*ret_victims || !enter(g, key, seconds, bytes))
		return false;
	if (make_room(g, g->capacity, key, *ret_victims, ret_n))
		return true;
	put_back(g, *ret_victims, *ret_n);
	*ret_n = 0;
	struct gdsf_item *item = known(g, key);
	g->bytes -= item->bytes;
	item->cached = false;
	// As if the newcomer had come and gone, and the others had stayed: the lowest of them is still to be kept.
	const struct gdsf_item *low = lowest(g);
	g->age = age;
	if (bytes <= g->capacity && low)
		g->age = low->rank < item->rank ? low->rank : item->rank;
	g->age = g->age > age ? g->age : age;
	return false;
}

int gdsf_restore(struct gdsf *g, const char *key, double seconds, uint64_t bytes, double uses, struct vc_error *err)
{
	struct gdsf_item *item = enter(g, key, seconds, bytes);
	if (!item)
		return vc_error_set(err, ENOMEM, "image cache: out of memory");
	item->uses = uses < 1 ? 1 : uses;
	set_rank(g, item);
	return 0;
}

void gdsf_shrink(struct gdsf *g, uint64_t bytes, char (**ret_victims)[DIGEST_HEX_LEN], size_t *ret_n)
{
	*ret_n = 0;
	*ret_victims = calloc(g->n + 1, sizeof(**ret_victims));
	if (*ret_victims)
		(void)make_room(g, bytes, NULL, *ret_victims, ret_n);
}

void gdsf_remove(struct gdsf *g, const char *key)
{
	struct gdsf_item *item = known(g, key);
	if (item)
		drop(g, item);
}

void gdsf_hold(struct gdsf *g, const char *key)
{
	struct gdsf_item *item = known(g, key);
	if (item)
		item->holds++;
}

void gdsf_release(struct gdsf *g, const char *key)
{
	struct gdsf_item *item = known(g, key);
	if (item && item->holds)
		item->holds--;
}
