// SPDX-License-Identifier: GPL-2.0-or-later
// The planner of migrations: see moveplan.h. Places first (a bounded search, the largest member first), then waves.
#include "vcd/moveplan.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"

struct planner {
	const struct moveplan_host *hosts;
	size_t n_hosts;
	const struct moveplan_member *members;
	struct moveplan *plan;
	uint64_t *used;	 // MiB, by host: when all is done (places), now (waves)
	uint64_t *vcpus; // by host, when all is done
	uint32_t *order; // members without a place, the largest first
	uint32_t *place, *best; // of them
	size_t n_order, n_best;
	unsigned tries;
	uint32_t per_host;
};

static void __attribute__((format(printf, 3, 4))) refuse(struct planner *p, uint32_t member, const char *fmt, ...)
{
	struct moveplan_refusal *r = &p->plan->refusals[p->plan->n_refusals++];
	va_list ap;
	r->member = member;
	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
}

static void add_step(struct planner *p, uint32_t member, uint32_t to)
{
	p->plan->steps[p->plan->n_steps++] = (struct moveplan_step){.member = member, .from = p->members[member].host, .to = to};
}

static bool fits(const struct planner *p, uint32_t host, uint64_t mem)
{
	const struct moveplan_host *h = &p->hosts[host];
	return !h->mem_mib || p->used[host] + mem <= h->mem_mib;
}

// --- places ---------------------------------------------------------------------------------------------------

static double load_with(const struct planner *p, uint32_t host, uint32_t more)
{
	uint32_t cpus = p->hosts[host].cpus ? p->hosts[host].cpus : 1;
	return (double)(p->vcpus[host] + more) / cpus;
}

static bool has_cpus(const struct planner *p, uint32_t host, uint32_t more)
{
	const struct moveplan_host *h = &p->hosts[host];
	return !h->vcpus_max || p->vcpus[host] + more <= h->vcpus_max;
}

// The next host to try for it: of those with room and not tried, where its processors are shared least.
static uint32_t next_host(const struct planner *p, const struct moveplan_member *m, const bool *tried)
{
	uint32_t found = MOVEPLAN_ANYWHERE;
	for (uint32_t h = 0; h < p->n_hosts; h++) {
		if (tried[h] || h == m->host || p->hosts[h].closed || !fits(p, h, m->mem_mib) || !has_cpus(p, h, m->vcpus))
			continue;
		if (found == MOVEPLAN_ANYWHERE || load_with(p, h, m->vcpus) < load_with(p, found, m->vcpus))
			found = h;
	}
	return found;
}

static void search(struct planner *p, size_t at, size_t placed)
{
	if (placed > p->n_best) {
		memcpy(p->best, p->place, p->n_order * sizeof(*p->best));
		p->n_best = placed;
	}
	if (at == p->n_order || p->n_best == p->n_order || p->tries >= MOVEPLAN_SEARCH_MAX)
		return;
	const struct moveplan_member *m = &p->members[p->order[at]];
	vc_autofree bool *tried = calloc(p->n_hosts + 1, sizeof(*tried));
	for (uint32_t h; tried && p->n_best < p->n_order && (h = next_host(p, m, tried)) != MOVEPLAN_ANYWHERE;) {
		tried[h] = true;
		p->tries++;
		p->place[at] = h;
		p->used[h] += m->mem_mib;
		p->vcpus[h] += m->vcpus;
		search(p, at + 1, placed + 1);
		p->used[h] -= m->mem_mib;
		p->vcpus[h] -= m->vcpus;
	}
	p->place[at] = MOVEPLAN_ANYWHERE;
	search(p, at + 1, placed); // without it
}

static void refuse_room(struct planner *p, uint32_t member)
{
	const struct moveplan_member *m = &p->members[member];
	uint64_t most = 0;
	uint32_t where = MOVEPLAN_ANYWHERE, crowded = MOVEPLAN_ANYWHERE;
	for (uint32_t h = 0; h < p->n_hosts; h++) {
		uint64_t room = p->hosts[h].mem_mib > p->used[h] ? p->hosts[h].mem_mib - p->used[h] : 0;
		if (h == m->host || p->hosts[h].closed || (where != MOVEPLAN_ANYWHERE && room <= most))
			continue;
		most = room;
		where = h;
	}
	for (uint32_t h = 0; h < p->n_hosts; h++) {
		if (h != m->host && !p->hosts[h].closed && fits(p, h, m->mem_mib) && !has_cpus(p, h, m->vcpus))
			crowded = h;
	}
	if (where == MOVEPLAN_ANYWHERE)
		refuse(p, member, "the job has no other host");
	else if (crowded != MOVEPLAN_ANYWHERE)
		refuse(p, member, "has %u processors; host %s has %llu of members for %u CPUs", m->vcpus, p->hosts[crowded].name,
		       (unsigned long long)p->vcpus[crowded], p->hosts[crowded].cpus);
	else
		refuse(p, member, "needs %llu MiB; of the job's other hosts %s has most room, %llu MiB", (unsigned long long)m->mem_mib,
		       p->hosts[where].name, (unsigned long long)most);
}

static int by_size(const void *a, const void *b, void *ctx)
{
	const struct moveplan_member *members = ctx, *x = &members[*(const uint32_t *)a], *y = &members[*(const uint32_t *)b];
	if (x->mem_mib != y->mem_mib)
		return x->mem_mib > y->mem_mib ? -1 : 1;
	return x->rank < y->rank ? -1 : x->rank > y->rank;
}

static void find_places(struct planner *p)
{
	qsort_r(p->order, p->n_order, sizeof(*p->order), by_size, (void *)p->members);
	for (size_t i = 0; i < p->n_order; i++)
		p->place[i] = p->best[i] = MOVEPLAN_ANYWHERE;
	search(p, 0, 0);
	for (size_t i = 0; i < p->n_order; i++) {
		if (p->best[i] == MOVEPLAN_ANYWHERE)
			continue;
		p->used[p->best[i]] += p->members[p->order[i]].mem_mib;
		p->vcpus[p->best[i]] += p->members[p->order[i]].vcpus;
		add_step(p, p->order[i], p->best[i]);
	}
	for (size_t i = 0; i < p->n_order; i++) {
		if (p->best[i] == MOVEPLAN_ANYWHERE)
			refuse_room(p, p->order[i]);
	}
}

// A member with a place of its own: whether it fits shows when all that leave have left.
static void take_place(struct planner *p, uint32_t member)
{
	const struct moveplan_member *m = &p->members[member];
	if (m->to == m->host)
		refuse(p, member, "is on host %s already", p->hosts[m->host].name);
	else if (m->to >= p->n_hosts || p->hosts[m->to].closed)
		refuse(p, member, "cannot go to that host");
	else
		add_step(p, member, m->to);
}

static void choose(struct planner *p, size_t n_members)
{
	for (uint32_t i = 0; i < n_members; i++) {
		const struct moveplan_member *m = &p->members[i];
		if (m->moves && m->fixed)
			refuse(p, i, "%s", m->fixed);
		else if (m->moves && m->to != MOVEPLAN_ANYWHERE)
			take_place(p, i);
		else if (m->moves)
			p->order[p->n_order++] = i;
	}
	for (size_t i = 0; i < p->plan->n_steps; i++) { // at the end
		const struct moveplan_step *s = &p->plan->steps[i];
		p->used[s->from] -= p->members[s->member].mem_mib;
		p->used[s->to] += p->members[s->member].mem_mib;
		p->vcpus[s->from] -= p->members[s->member].vcpus;
		p->vcpus[s->to] += p->members[s->member].vcpus;
	}
	for (size_t i = 0; i < p->n_order; i++) {
		p->used[p->members[p->order[i]].host] -= p->members[p->order[i]].mem_mib;
		p->vcpus[p->members[p->order[i]].host] -= p->members[p->order[i]].vcpus;
	}
	find_places(p);
}

// --- waves ----------------------------------------------------------------------------------------------------

#define NOT_YET UINT32_MAX

// Whether another step waits for room at the host that this one leaves.
static bool is_awaited(const struct planner *p, const struct moveplan_step *s)
{
	for (size_t i = 0; i < p->plan->n_steps; i++) {
		const struct moveplan_step *o = &p->plan->steps[i];
		if (o->wave == NOT_YET && o->to == s->from && !fits(p, o->to, p->members[o->member].mem_mib))
			return true;
	}
	return false;
}

static bool begin(struct planner *p, struct moveplan_step *s, uint32_t wave, uint32_t *busy)
{
	uint64_t mem = p->members[s->member].mem_mib;
	if (s->wave != NOT_YET || busy[s->from] >= p->per_host || busy[s->to] >= p->per_host || !fits(p, s->to, mem))
		return false;
	s->wave = wave;
	p->used[s->to] += mem;
	busy[s->from]++;
	busy[s->to]++;
	return true;
}

// Those that free what others wait for come first.
static size_t fill_wave(struct planner *p, uint32_t wave, uint32_t *busy)
{
	size_t n = 0;
	for (int awaited = 1; awaited >= 0; awaited--) {
		for (size_t i = 0; i < p->plan->n_steps; i++) {
			struct moveplan_step *s = &p->plan->steps[i];
			if ((!awaited || is_awaited(p, s)) && begin(p, s, wave, busy))
				n++;
		}
	}
	for (size_t i = 0; i < p->plan->n_steps; i++) {
		const struct moveplan_step *s = &p->plan->steps[i];
		if (s->wave == wave)
			p->used[s->from] -= p->members[s->member].mem_mib;
	}
	return n;
}

static int by_wave(const void *a, const void *b)
{
	const struct moveplan_step *x = a, *y = b;
	if (x->wave != y->wave)
		return x->wave < y->wave ? -1 : 1;
	return x->member < y->member ? -1 : x->member > y->member;
}

static int order_steps(struct planner *p)
{
	vc_autofree uint32_t *busy = calloc(p->n_hosts + 1, sizeof(*busy));
	size_t begun = 0, n;
	if (!busy)
		return -1;
	for (size_t h = 0; h < p->n_hosts; h++)
		p->used[h] = p->hosts[h].used_mib;
	for (size_t i = 0; i < p->plan->n_steps; i++)
		p->plan->steps[i].wave = NOT_YET;
	for (uint32_t wave = 0; begun < p->plan->n_steps && (n = fill_wave(p, wave, busy)) > 0; wave++) {
		begun += n;
		memset(busy, 0, p->n_hosts * sizeof(*busy));
	}
	qsort(p->plan->steps, p->plan->n_steps, sizeof(*p->plan->steps), by_wave);
	for (; p->plan->n_steps && p->plan->steps[p->plan->n_steps - 1].wave == NOT_YET; p->plan->n_steps--) {
		const struct moveplan_step *s = &p->plan->steps[p->plan->n_steps - 1];
		const struct moveplan_host *h = &p->hosts[s->to];
		refuse(p, s->member, "needs %llu MiB on host %s, where the job has %llu MiB and its members use %llu",
		       (unsigned long long)p->members[s->member].mem_mib, h->name, (unsigned long long)h->mem_mib,
		       (unsigned long long)p->used[s->to]);
	}
	return 0;
}

// --- life -----------------------------------------------------------------------------------------------------

static void planner_clear(struct planner *p)
{
	free(p->used);
	free(p->vcpus);
	free(p->order);
	free(p->place);
	free(p->best);
}

static int allocate(struct planner *p, size_t n_members)
{
	size_t n = n_members + 1;
	p->plan = calloc(1, sizeof(*p->plan));
	p->used = calloc(p->n_hosts + 1, sizeof(*p->used));
	p->vcpus = calloc(p->n_hosts + 1, sizeof(*p->vcpus));
	p->order = calloc(n, sizeof(*p->order));
	p->place = calloc(n, sizeof(*p->place));
	p->best = calloc(n, sizeof(*p->best));
	if (!p->plan || !p->used || !p->vcpus || !p->order || !p->place || !p->best)
		return -1;
	p->plan->steps = calloc(n, sizeof(*p->plan->steps));
	p->plan->refusals = calloc(n, sizeof(*p->plan->refusals));
	return p->plan->steps && p->plan->refusals ? 0 : -1;
}

struct moveplan *moveplan_make(const struct moveplan_host *hosts, size_t n_hosts, const struct moveplan_member *members,
			       size_t n_members, uint32_t per_host, struct vc_error *err)
{
	struct planner p = {.hosts = hosts, .n_hosts = n_hosts, .members = members, .per_host = per_host ? per_host : 1};
	int rc = allocate(&p, n_members);
	for (size_t h = 0; rc == 0 && h < n_hosts; h++) {
		p.used[h] = hosts[h].used_mib;
		p.vcpus[h] = hosts[h].vcpus;
	}
	if (rc == 0) {
		choose(&p, n_members);
		rc = order_steps(&p);
	}
	planner_clear(&p);
	if (rc == 0)
		return p.plan;
	moveplan_destroy(p.plan);
	vc_error_set(err, ENOMEM, "plan of migrations: out of memory");
	return NULL;
}

void moveplan_destroy(struct moveplan *p)
{
	if (!p)
		return;
	free(p->steps);
	free(p->refusals);
	free(p);
}

// --- balance --------------------------------------------------------------------------------------------------

struct balance {
	const struct moveplan_host *hosts;
	size_t n_hosts;
	uint64_t *used, *vcpus;
};

static double load_of(const struct balance *b, size_t host, int64_t more)
{
	return (double)((int64_t)b->vcpus[host] + more) / (b->hosts[host].cpus ? b->hosts[host].cpus : 1);
}

static size_t extreme(const struct balance *b, bool most, const struct moveplan_member *m)
{
	size_t found = SIZE_MAX;
	for (size_t h = 0; h < b->n_hosts; h++) {
		if (m && (b->hosts[h].closed || (b->hosts[h].mem_mib && b->used[h] + m->mem_mib > b->hosts[h].mem_mib)))
			continue;
		if (found == SIZE_MAX || (most ? load_of(b, h, 0) > load_of(b, found, 0) : load_of(b, h, 0) < load_of(b, found, 0)))
			found = h;
	}
	return found;
}

// One move from the busiest host that makes the busier of the two less busy than it was. False: there is none.
static bool improve(struct balance *b, struct moveplan_member *members, size_t n)
{
	size_t from = extreme(b, true, NULL);
	for (size_t i = 0; i < n && from != SIZE_MAX; i++) {
		struct moveplan_member *m = &members[i];
		size_t to = m->host == from && !m->fixed && !m->moves ? extreme(b, false, m) : SIZE_MAX;
		if (to == SIZE_MAX || to == from || load_of(b, to, m->vcpus) >= load_of(b, from, 0))
			continue;
		m->moves = true;
		m->to = (uint32_t)to;
		b->used[from] -= m->mem_mib;
		b->used[to] += m->mem_mib;
		b->vcpus[from] -= m->vcpus;
		b->vcpus[to] += m->vcpus;
		return true;
	}
	return false;
}

void moveplan_balance(const struct moveplan_host *hosts, size_t n_hosts, struct moveplan_member *members, size_t n_members)
{
	vc_autofree uint64_t *used = calloc(n_hosts + 1, sizeof(*used)), *vcpus = calloc(n_hosts + 1, sizeof(*vcpus));
	struct balance b = {hosts, n_hosts, used, vcpus};
	if (!used || !vcpus)
		return; // nothing moves
	for (size_t h = 0; h < n_hosts; h++) {
		used[h] = hosts[h].used_mib;
		vcpus[h] = hosts[h].vcpus;
	}
	while (improve(&b, members, n_members)) // each member once: it ends
		;
}
