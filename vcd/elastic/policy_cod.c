// SPDX-License-Identifier: GPL-2.0-or-later
// Policy cod: sizes follow loads, as Cluster-on-Demand shared one pool.
//
// Targets: each cluster its minimum; then, by priority, its reservation as far as its load asks for it; then, priority by
// priority, what the loads ask for in proportion to weights; then part of what is idle is lent, while nobody else queues.
// Changes: growth takes idle hosts. Who still misses hosts gets those that others hold without work above their target, and,
// for a reservation or by a higher priority, hosts with work on them too, within the deadline. Hosts that nobody needs go
// back when the under-load has lasted. smooth.h's gate bounds how often a size turns.
#include <stdio.h>
#include <stdlib.h>

#include "libvc/cleanup.h"
#include "vcd/elastic/policy.h"

#define UNKNOWN_RUN_MS 3600000 // of work whose user did not say how long it takes: an hour, as a common default time limit

struct party {
	const struct elastic_cluster *c;
	struct elastic_cluster_state *s;
	int64_t want;	// hosts that its load asks for, within min and max
	int64_t sure;	// of them: minimum and reservation
	int64_t target;
	int64_t have;	// here, and not leaving
	int64_t coming; // asked for, what this decision asks for included
	int64_t given;	// taken from it by this decision
	bool capped;	// it starts nothing new
	bool served;	// its next piece of work had its turn
	bool first;	// it has the turn of its priority: it gets what others' work leaves
	uint64_t tie;	// order among equals
};

struct round {
	const struct elastic_input *in;
	struct elastic_decision *d;
	struct party *parties; // by priority, then tie
	size_t n;
	int64_t now_ms;
	int64_t idle;	 // free, or at the next deadline, and not promised to anybody
};

// --- what each could use ----------------------------------------------------------------------------------------------

static int64_t clamp(int64_t value, int64_t min, int64_t max)
{
	return policy_max(min, policy_min(value, max));
}

// Processes that could run are a moment's sample; what was used, stolen and waited for since the last round makes up for what it missed.
static int64_t load_of(const struct elastic_cluster *c, const struct elastic_params *params)
{
	return policy_max(c->load, c->cpu + c->steal + c->stall * params->pressure / 1000);
}

static void look(struct party *p, const struct elastic_input *in, int64_t now_ms)
{
	const struct elastic_cluster *c = p->c;
	smooth_add(&p->s->load, load_of(c, &in->params), now_ms, in->params.rise_ms, in->params.fall_ms);
	smooth_add(&p->s->mem, c->mem, now_ms, in->params.rise_ms, in->params.fall_ms);
	int64_t load = p->s->load.value * (1000 + in->params.headroom);
	int64_t hosts = policy_max((load + 999999) / 1000000, (p->s->mem.value + in->params.mem_high - 1) / in->params.mem_high);
	p->want = clamp(c->wanted ? c->wanted : hosts, c->min, c->max);
	p->sure = clamp(p->want, c->min, policy_max(c->min, c->reserve));
	p->have = (int64_t)c->size - c->leaving;
	p->coming = c->coming;
}

static int by_right(const void *a, const void *b)
{
	const struct party *p = a, *q = b;
	if (p->c->priority != q->c->priority)
		return p->c->priority > q->c->priority ? -1 : 1;
	return p->tie < q->tie ? -1 : p->tie > q->tie;
}

static int begin(struct round *r, uint64_t seed, struct vc_error *err)
{
	r->parties = calloc(r->in->n_clusters + 1, sizeof(*r->parties));
	if (!r->parties)
		return vc_error_errno(err, "clusters");
	r->n = r->in->n_clusters;
	for (size_t i = 0; i < r->n; i++) {
		uint64_t mix = seed ^ r->in->clusters[i].id;
		r->parties[i] = (struct party){.c = &r->in->clusters[i], .s = &r->d->state.clusters[i], .tie = policy_random(&mix)};
		look(&r->parties[i], r->in, r->now_ms);
	}
	qsort(r->parties, r->n, sizeof(*r->parties), by_right);
	return 0;
}

// --- targets ----------------------------------------------------------------------------------------------------------

static int64_t give(struct party *p, int64_t up_to, int64_t left)
{
	int64_t n = policy_max(0, policy_min(up_to - p->target, left));
	p->target += n;
	return left - n;
}

static int64_t right(const struct party *p)
{
	return (int64_t)p->c->weight;
}

// Hosts one by one to whoever has least for its weight, among parties first..end, up to `limit` of each.
static int64_t share_out(struct round *r, size_t first, size_t end, int64_t (*limit)(const struct party *), int64_t left)
{
	while (left > 0) {
		struct party *next = NULL;
		for (size_t i = first; i < end; i++) {
			struct party *p = &r->parties[i];
			if (p->target < limit(p) && p->c->weight > 0 && (!next || p->target * right(next) < next->target * right(p)))
				next = p;
		}
		if (!next)
			break;
		next->target++;
		left--;
	}
	return left;
}

static int64_t limit_want(const struct party *p)
{
	return p->want;
}

static int64_t limit_lent(const struct party *p)
{
	return p->s->load.value > 0 && !p->c->wanted ? p->c->max : p->want;
}

// How much longer its next piece of work takes than it would have without waiting, in millionths, by weight; a wide piece has to
// be stretched more: the hosts that it waits for would serve as many narrow ones.
static int64_t stretch(const struct party *p)
{
	int64_t run = p->c->head_ms > 0 ? p->c->head_ms : UNKNOWN_RUN_MS;
	return (int64_t)((__int128)(p->c->waited_ms + run) * 1000000 / run) * p->c->weight / p->c->head;
}

static struct party *most_stretched(struct round *r, size_t first, size_t end)
{
	struct party *best = NULL;
	for (size_t i = first; i < end; i++) {
		struct party *p = &r->parties[i];
		if (p->c->head > 0 && !p->served && (!best || stretch(p) > stretch(best)))
			best = p;
	}
	return best;
}

// Work that runs keeps its hosts. Then the cluster whose next piece of work is stretched most has its turn: it gets the
// hosts for it, so that idle hosts come together where they are of use, and not a few in each cluster. Then others' next
// pieces that fit, then the rest of the loads.
static int64_t hand_out_turns(struct round *r, size_t first, size_t end, int64_t left)
{
	for (size_t i = first; i < end; i++)
		left = give(&r->parties[i], policy_min(r->parties[i].c->busy, r->parties[i].want), left);
	struct party *next;
	for (bool turn = true; (next = most_stretched(r, first, end)); turn = false) {
		next->served = true;
		int64_t need = policy_min((int64_t)next->c->busy + next->c->head, next->want);
		bool fits = need - next->target <= left;
		if (fits || turn)
			left = give(next, need, left);
		if (turn) // it gets the next hosts that become free anywhere
			next->target = policy_max(next->target, need);
		next->first = turn;
	}
	return share_out(r, first, end, limit_want, left);
}

// Each priority's part, one after the other.
static int64_t hand_out(struct round *r, int64_t left)
{
	for (size_t first = 0, end; first < r->n; first = end) {
		for (end = first; end < r->n && r->parties[end].c->priority == r->parties[first].c->priority;)
			end++;
		left = hand_out_turns(r, first, end, left);
	}
	return left;
}

static int64_t sure_targets(struct round *r)
{
	int64_t left = r->in->pool;
	for (size_t i = 0; i < r->n; i++) {
		r->parties[i].target = 0;
		left = give(&r->parties[i], r->parties[i].c->min, left);
	}
	for (size_t i = 0; i < r->n; i++)
		left = give(&r->parties[i], r->parties[i].sure, left);
	return left;
}

static void set_targets(struct round *r)
{
	int64_t left = hand_out(r, sure_targets(r));
	if (r->in->queued == 0)
		share_out(r, 0, r->n, limit_lent, left * r->in->params.scavenge / 1000);
}

// --- changes ----------------------------------------------------------------------------------------------------------

static int64_t missing(const struct party *p, int64_t up_to)
{
	return policy_max(0, policy_min(up_to, p->target) - p->have - p->coming);
}

// What nobody takes from it: its target, unless work has to make room, and what it is sure of.
static int64_t keep(const struct party *p, bool with_work)
{
	int64_t sure = policy_max(p->sure, policy_min(p->c->reserve, p->have));
	return policy_max(p->c->min, with_work ? sure : policy_max(sure, p->target));
}

// What can be taken from it so that nothing has to be given back at once.
static int64_t surplus(const struct party *p, bool with_work)
{
	int64_t have = p->have - p->given, over = have - keep(p, with_work);
	return policy_max(0, with_work ? over : policy_min(over, have - p->c->busy));
}

struct taking {
	const struct party *to; // NULL: for other jobs in Slurm's queue
	bool with_work;		// hosts with work on them as well: only for what `to` is sure of, or from lower priorities
	bool sure;
};

static int take(struct round *r, struct party *from, const struct taking *t, int64_t n, struct vc_error *err)
{
	from->given += n;
	gate_note(&from->s->gate, GATE_FORCED, r->now_ms);
	enum elastic_verb verb = t->with_work ? ELASTIC_RECLAIM : ELASTIC_SHRINK;
	return policy_size(r->d, verb, from->c->id, n, t->with_work ? r->in->params.deadline_ms : 0, err,
			   "%s%u: it holds %lld, its target is %lld", t->to ? "for cluster " : "for other jobs, hosts queued: ",
			   t->to ? t->to->c->id : r->in->queued, (long long)from->have, (long long)from->target);
}

// Hosts of others for t->to, which misses n; from the last in right on. Returns those that were found, -1 without memory.
static int64_t take_from_others(struct round *r, const struct taking *t, int64_t n, struct vc_error *err)
{
	int64_t found = 0;
	for (size_t i = r->n; i-- > 0 && found < n;) {
		struct party *from = &r->parties[i];
		bool no_right = from == t->to || (t->with_work && !t->sure && from->c->priority >= t->to->c->priority);
		int64_t k = no_right ? 0 : policy_min(n - found, surplus(from, t->with_work));
		if (k > 0 && take(r, from, t, k, err) < 0)
			return -1;
		found += k;
	}
	return found;
}

static int grow(struct round *r, struct party *p, int64_t n, bool sure, struct vc_error *err)
{
	int64_t before = p->have + p->coming;
	p->coming += n;
	gate_note(&p->s->gate, sure ? GATE_RESTORE : GATE_GROW, r->now_ms);
	return policy_size(r->d, ELASTIC_GROW, p->c->id, n, 0, err, "from %lld to %lld%s: load %lld.%03lld, target %lld",
			   (long long)before, (long long)(before + n), sure ? " of its reservation" : "",
			   (long long)(p->s->load.value / 1000), (long long)(p->s->load.value % 1000), (long long)p->target);
}

// Grows one party up to `up_to`: from what is idle, from others' hosts without work, from others' hosts with work.
static int raise_to(struct round *r, struct party *p, int64_t up_to, bool sure, struct vc_error *err)
{
	int64_t n = missing(p, up_to);
	if (n == 0 || p->given > 0 ||
	    !gate_allows(&p->s->gate, sure ? GATE_RESTORE : GATE_GROW, r->in->params.cool_down_ms, r->now_ms))
		return 0;
	int64_t got = policy_min(n, r->idle);
	r->idle -= got;
	for (int with_work = 0; with_work < 2 && got < n; with_work++) {
		const struct taking t = {p, with_work, sure};
		int64_t found = take_from_others(r, &t, n - got, err);
		if (found < 0)
			return -1;
		got += found;
	}
	return got > 0 ? grow(r, p, got, sure, err) : 0;
}

static int raise_all(struct round *r, bool sure, struct vc_error *err)
{
	for (size_t i = 0; i < r->n; i++) {
		struct party *p = &r->parties[i];
		if (raise_to(r, p, sure ? p->sure : p->target, sure, err) < 0)
			return -1;
	}
	return 0;
}

// Other jobs in Slurm's queue get hosts that are held without work above the targets.
static int yield_to_queue(struct round *r, struct vc_error *err)
{
	const struct taking unused = {NULL, false, false};
	int64_t left = (int64_t)r->in->queued - r->idle;
	for (size_t i = r->n; i-- > 0 && left > 0;) {
		struct party *p = &r->parties[i];
		int64_t n = policy_min(left, surplus(p, false));
		if (n > 0 && p->coming == p->c->coming && take(r, p, &unused, n, err) < 0)
			return -1;
		left -= n;
	}
	return 0;
}

static int settle(struct round *r, struct party *p, struct vc_error *err)
{
	const struct elastic_params *params = &r->in->params;
	int64_t over = p->have + p->coming - p->given - p->target;
	bool under = over > 0 && over * 1000 >= p->have * params->shrink_band;
	smooth_since(&p->s->under_ms, under, r->now_ms);
	int64_t n = policy_min(over, p->have + p->coming - p->given - p->c->busy);
	if (p->given > 0 || n <= 0 || !smooth_lasted(p->s->under_ms, params->shrink_hold_ms, r->now_ms) ||
	    !gate_allows(&p->s->gate, GATE_SHRINK, params->cool_down_ms, r->now_ms))
		return 0;
	gate_note(&p->s->gate, GATE_SHRINK, r->now_ms);
	p->s->under_ms = -1;
	return policy_size(r->d, ELASTIC_SHRINK, p->c->id, n, 0, err, "load %lld.%03lld, target %lld of %lld for %lld s",
			   (long long)(p->s->load.value / 1000), (long long)(p->s->load.value % 1000), (long long)p->target,
			   (long long)p->have, (long long)(params->shrink_hold_ms / 1000));
}

// Whose turn it is still misses hosts: the others, the largest first, start nothing new on as many.
static int cap_others(struct round *r, const struct party *turn, struct vc_error *err)
{
	int64_t n = missing(turn, turn->target);
	while (n > 0) {
		struct party *from = NULL;
		for (size_t i = 0; i < r->n; i++) {
			struct party *p = &r->parties[i];
			bool may = p != turn && !p->capped && p->c->priority <= turn->c->priority && surplus(p, true) > 0;
			if (may && (!from || surplus(p, true) > surplus(from, true)))
				from = p;
		}
		if (!from)
			break;
		int64_t k = policy_min(n, surplus(from, true));
		from->capped = true;
		n -= k;
		if (policy_size(r->d, ELASTIC_CAP, from->c->id, from->have - from->given - k, 0, err,
				"cluster %u, which has waited longest, needs %lld more", turn->c->id, (long long)k) < 0)
			return -1;
	}
	return 0;
}

static int cap_all(struct round *r, struct vc_error *err)
{
	for (size_t i = 0; i < r->n; i++) {
		if (r->parties[i].first && cap_others(r, &r->parties[i], err) < 0)
			return -1;
	}
	return 0;
}

static int change(struct round *r, struct vc_error *err)
{
	int64_t idle = r->in->idle;
	for (size_t i = 0; i < r->n; i++)
		idle += (int64_t)r->parties[i].c->leaving - r->parties[i].c->coming;
	r->idle = policy_max(0, idle);
	if (raise_all(r, true, err) < 0 || raise_all(r, false, err) < 0 || yield_to_queue(r, err) < 0)
		return -1;
	for (size_t i = 0; i < r->n; i++) {
		if (settle(r, &r->parties[i], err) < 0)
			return -1;
	}
	return cap_all(r, err);
}

int policy_cod(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
	       struct vc_error *err)
{
	vc_autofree struct party *parties = NULL;
	struct round r = {.in = in, .d = ret, .now_ms = now_ms};
	if (begin(&r, seed, err) < 0)
		return -1;
	parties = r.parties;
	set_targets(&r);
	if (change(&r, err) < 0)
		return -1;
	int64_t want = 0, target = 0;
	for (size_t i = 0; i < r.n; i++) {
		want += parties[i].want;
		target += parties[i].target;
	}
	snprintf(ret->reason, sizeof(ret->reason), "cod: %lld hosts wanted, %lld given of %u; %u idle, %u queued; %zu changes",
		 (long long)want, (long long)target, in->pool, in->idle, in->queued, ret->n_actions);
	return 0;
}
