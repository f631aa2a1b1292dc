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

struct party {
	const struct elastic_cluster *c;
	struct elastic_cluster_state *s;
	int64_t want;	// hosts that its load asks for, within min and max
	int64_t sure;	// of them: minimum and reservation
	int64_t target;
	int64_t have;	// here, and not leaving
	int64_t coming; // asked for, what this decision asks for included
	int64_t given;	// taken from it by this decision
	bool forced;	// of them hosts with work
	uint64_t tie;	// order among equals
};

struct round {
	const struct elastic_input *in;
	struct elastic_decision *d;
	struct party *parties; // by priority, then tie
	size_t n;
	int64_t now_ms;
	int64_t idle;	 // free and not promised in this decision
};

// --- what each could use ----------------------------------------------------------------------------------------------

static int64_t clamp(int64_t value, int64_t min, int64_t max)
{
	return policy_max(min, policy_min(value, max));
}

static void look(struct party *p, const struct elastic_input *in, int64_t now_ms)
{
	const struct elastic_cluster *c = p->c;
	smooth_add(&p->s->load, c->load, now_ms, in->params.rise_ms, in->params.fall_ms);
	int64_t load = p->s->load.value * (1000 + in->params.headroom);
	p->want = clamp(c->wanted ? c->wanted : (load + 999999) / 1000000, c->min, c->max);
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

// Hosts one by one to whoever has least for its weight, among parties first..end, up to `limit` of each.
static int64_t share_out(struct round *r, size_t first, size_t end, int64_t (*limit)(const struct party *), int64_t left)
{
	while (left > 0) {
		struct party *next = NULL;
		for (size_t i = first; i < end; i++) {
			struct party *p = &r->parties[i];
			if (p->target < limit(p) && p->c->weight > 0 &&
			    (!next || p->target * next->c->weight < next->target * p->c->weight))
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

static void set_targets(struct round *r)
{
	int64_t left = r->in->pool;
	for (size_t i = 0; i < r->n; i++)
		left = give(&r->parties[i], r->parties[i].c->min, left);
	for (size_t i = 0; i < r->n; i++)
		left = give(&r->parties[i], r->parties[i].sure, left);
	for (size_t first = 0, end; first < r->n; first = end) {
		for (end = first; end < r->n && r->parties[end].c->priority == r->parties[first].c->priority;)
			end++;
		left = share_out(r, first, end, limit_want, left);
	}
	if (r->in->queued == 0)
		share_out(r, 0, r->n, limit_lent, left * r->in->params.scavenge / 1000);
}

// --- changes ----------------------------------------------------------------------------------------------------------

static int64_t missing(const struct party *p, int64_t up_to)
{
	return policy_max(0, policy_min(up_to, p->target) - p->have - p->coming);
}

// What can be taken from `p`: above its target and above what it is sure of, so that nothing has to be given back at once.
static int64_t surplus(const struct party *p, bool with_work)
{
	int64_t keep = policy_max(policy_max(p->target, p->c->min), policy_max(p->sure, policy_min(p->c->reserve, p->have)));
	int64_t over = p->have - p->given - keep;
	int64_t without = p->have - p->given - p->c->busy;
	return policy_max(0, with_work ? over : policy_min(over, without));
}

static int take(struct round *r, struct party *from, const struct party *to, int64_t n, bool with_work, struct vc_error *err)
{
	from->given += n;
	from->forced = true;
	gate_note(&from->s->gate, GATE_FORCED, r->now_ms);
	return policy_size(r->d, with_work ? ELASTIC_RECLAIM : ELASTIC_SHRINK, from->c->id, n,
			   with_work ? r->in->params.deadline_ms : 0, err, "%s%u: it holds %lld, its target is %lld",
			   to ? "for cluster " : "for other jobs, hosts queued: ", to ? to->c->id : r->in->queued,
			   (long long)from->have, (long long)from->target);
}

// Hosts of others for `to`, which misses n; from the last in right on. Returns those that were found, -1 without memory.
static int64_t take_from_others(struct round *r, const struct party *to, int64_t n, bool with_work, bool sure, struct vc_error *err)
{
	int64_t found = 0;
	for (size_t i = r->n; i-- > 0 && found < n;) {
		struct party *from = &r->parties[i];
		if (from == to || (with_work && !sure && from->c->priority >= to->c->priority))
			continue;
		int64_t k = policy_min(n - found, surplus(from, with_work));
		if (k > 0 && take(r, from, to, k, with_work, err) < 0)
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

// Grows one party up to `up_to`: first from what is idle, then from others.
static int raise_to(struct round *r, struct party *p, int64_t up_to, bool sure, struct vc_error *err)
{
	int64_t n = missing(p, up_to);
	if (n == 0 || p->given > 0 ||
	    !gate_allows(&p->s->gate, sure ? GATE_RESTORE : GATE_GROW, r->in->params.cool_down_ms, r->now_ms))
		return 0;
	int64_t got = policy_min(n, r->idle);
	r->idle -= got;
	for (int with_work = 0; with_work < 2 && got < n; with_work++) {
		int64_t found = take_from_others(r, p, n - got, with_work, sure, err);
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
	int64_t left = (int64_t)r->in->queued - r->idle;
	for (size_t i = r->n; i-- > 0 && left > 0;) {
		struct party *p = &r->parties[i];
		int64_t n = policy_min(left, surplus(p, false));
		if (n > 0 && p->coming == p->c->coming && take(r, p, NULL, n, false, err) < 0)
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
	if (p->forced || n <= 0 || !smooth_lasted(p->s->under_ms, params->shrink_hold_ms, r->now_ms) ||
	    !gate_allows(&p->s->gate, GATE_SHRINK, params->cool_down_ms, r->now_ms))
		return 0;
	gate_note(&p->s->gate, GATE_SHRINK, r->now_ms);
	p->s->under_ms = -1;
	return policy_size(r->d, ELASTIC_SHRINK, p->c->id, n, 0, err, "load %lld.%03lld, target %lld of %lld for %lld s",
			   (long long)(p->s->load.value / 1000), (long long)(p->s->load.value % 1000), (long long)p->target,
			   (long long)p->have, (long long)(params->shrink_hold_ms / 1000));
}

static int change(struct round *r, struct vc_error *err)
{
	r->idle = r->in->idle;
	for (size_t i = 0; i < r->n; i++)
		r->idle += r->parties[i].c->leaving;
	if (raise_all(r, true, err) < 0 || raise_all(r, false, err) < 0 || yield_to_queue(r, err) < 0)
		return -1;
	for (size_t i = 0; i < r->n; i++) {
		if (settle(r, &r->parties[i], err) < 0)
			return -1;
	}
	return 0;
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
