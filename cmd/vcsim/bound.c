// SPDX-License-Identifier: GPL-2.0-or-later
// The offline bound: no schedule of the trace on this pool has a smaller mean bounded slowdown.
//
// A job's slowdown is at least w (start - submit + run), w = 1 / max(run, 10 s). Seen as shares of one fast machine, any
// schedule gives each job the mean busy time start + run / 2. Among all preemptive schedules of the fast machine the sum of
// weighted mean busy times is smallest when the machine always works on the released job of greatest w / work (Goemans). That
// sum, less w run / 2, bounds the sum of weighted starts. The plain bound (nobody waits) is taken where it is greater.
#include <stdlib.h>

#include "cmd/vcsim/pool.h"
#include "libvc/cleanup.h"

struct piece {
	double left, work, weight; // seconds of the whole pool
	double busy;		   // integral of time over what was done
};

struct heap {
	const struct piece *pieces;
	uint32_t *items;
	size_t n;
};

static bool before(const struct heap *h, size_t a, size_t b)
{
	const struct piece *p = &h->pieces[h->items[a]], *q = &h->pieces[h->items[b]];
	return p->weight * q->work > q->weight * p->work;
}

static void swap(struct heap *h, size_t a, size_t b)
{
	uint32_t item = h->items[a];
	h->items[a] = h->items[b];
	h->items[b] = item;
}

static void push(struct heap *h, uint32_t item)
{
	size_t i = h->n++;
	h->items[i] = item;
	for (; i > 0 && before(h, i, (i - 1) / 2); i = (i - 1) / 2)
		swap(h, i, (i - 1) / 2);
}

static void pop(struct heap *h)
{
	h->items[0] = h->items[--h->n];
	for (size_t i = 0, child; (child = 2 * i + 1) < h->n; i = child) {
		if (child + 1 < h->n && before(h, child + 1, child))
			child++;
		if (!before(h, child, i))
			return;
		swap(h, i, child);
	}
}

// Works on the best piece until `until`; returns the time reached.
static double work(struct heap *h, struct piece *pieces, double now, double until)
{
	while (h->n > 0 && now < until) {
		struct piece *p = &pieces[h->items[0]];
		double step = p->left < until - now ? p->left : until - now;
		p->busy += step * (now + step / 2);
		p->left -= step;
		now += step;
		if (p->left <= 1e-9)
			pop(h);
	}
	return until;
}

static double max(double a, double b)
{
	return a > b ? a : b;
}

int pool_bound(const struct trace *trace, uint32_t hosts, double *ret, struct vc_error *err)
{
	vc_autofree struct piece *pieces = calloc(trace->n + 1, sizeof(*pieces));
	vc_autofree uint32_t *items = calloc(trace->n + 1, sizeof(*items));
	if (!pieces || !items)
		return vc_error_errno(err, "bound");
	struct heap heap = {pieces, items, 0};
	double now = 0, fluid = 0, plain = 0;
	for (uint32_t i = 0; i < trace->n; i++) {
		const struct trace_job *j = &trace->jobs[i];
		now = work(&heap, pieces, now, (double)j->submit_ms / 1000);
		double run = (double)j->run_ms / 1000, size = run * j->hosts / hosts;
		pieces[i] = (struct piece){.left = size, .work = size, .weight = 1000.0 / max((double)j->run_ms, POOL_BOUNDED_MS)};
		push(&heap, i);
	}
	work(&heap, pieces, now, 1e18);
	for (uint32_t i = 0; i < trace->n; i++) {
		double submit = (double)trace->jobs[i].submit_ms / 1000, run = (double)trace->jobs[i].run_ms / 1000;
		const struct piece *p = &pieces[i];
		fluid += p->weight * (p->busy / p->work - run / 2 - submit + run);
		plain += max(1, p->weight * run);
	}
	*ret = trace->n ? max(fluid, plain) / (double)trace->n : 1;
	return 0;
}
