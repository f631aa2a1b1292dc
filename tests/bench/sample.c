// SPDX-License-Identifier: GPL-2.0-or-later
// Median, bootstrap and verdict: see sample.h.
#include "tests/bench/sample.h"

#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double sort_median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

int sample_median(const double *values, size_t n, double *ret)
{
	vc_autofree double *copy = n ? malloc(n * sizeof(*copy)) : NULL;
	if (!copy)
		return -1;
	memcpy(copy, values, n * sizeof(*copy));
	*ret = sort_median(copy, n);
	return 0;
}

// splitmix64: small, and the same on every machine
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

// n is far below 2^32, so the bias of the multiplication is far below what a median shows.
static size_t random_index(uint64_t *state, size_t n)
{
	return (size_t)(((next_random(state) >> 32) * (uint64_t)n) >> 32);
}

int sample_bootstrap(const double *values, size_t n, uint64_t seed, unsigned rounds, struct sample_interval *ret)
{
	if (!n || !rounds || n > UINT32_MAX)
		return -1;
	vc_autofree double *draw = malloc(n * sizeof(*draw));
	vc_autofree double *medians = malloc(rounds * sizeof(*medians));
	if (!draw || !medians)
		return -1;
	for (unsigned r = 0; r < rounds; r++) {
		for (size_t i = 0; i < n; i++)
			draw[i] = values[random_index(&seed, n)];
		medians[r] = sort_median(draw, n);
	}
	qsort(medians, rounds, sizeof(*medians), compare);
	ret->lo = medians[rounds / 40];		     // 2.5%
	ret->hi = medians[rounds - 1 - rounds / 40]; // 97.5%
	return 0;
}

static bool is_better(const struct bar_rule *rule, double a, double b)
{
	return rule->higher_is_better ? a >= b : a <= b;
}

enum verdict bar_judge(const struct bar_rule *rule, double value, struct sample_interval ci, size_t pairs)
{
	if (!rule->has_limit)
		return VERDICT_STATED;
	double best = rule->higher_is_better ? ci.hi : ci.lo;
	if (pairs >= rule->pairs_min && !is_better(rule, best, rule->limit))
		return VERDICT_FAILED;
	if (pairs < rule->pairs_min || (rule->width_max > 0 && ci.hi - ci.lo > rule->width_max))
		return VERDICT_INCONCLUSIVE;
	return is_better(rule, value, rule->limit) ? VERDICT_PASSED : VERDICT_FAILED;
}

const char *verdict_name(enum verdict v)
{
	static const char *const names[] = {"passed", "failed", "inconclusive", "stated"};
	return names[v];
}
