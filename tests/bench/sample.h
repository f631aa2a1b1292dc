// SPDX-License-Identifier: GPL-2.0-or-later
// Statistics of a benchmark's bar: median, bootstrap interval of the median, verdict. Pure: no I/O, no clock.
#ifndef TESTS_BENCH_SAMPLE_H
#define TESTS_BENCH_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SAMPLE_SEED 0x5eed5eed5eed5eedu // fixed: the same rows give the same interval
#define SAMPLE_ROUNDS 10000u		// resamples; the ends of a 95% interval then move by less than a rank or two
#define SAMPLE_PAIRS_MIN 11u		// fewer pairs say nothing, unless a bar states why it takes fewer
#define SAMPLE_RATIO_WIDTH 0.15		// widest interval of a ratio that still counts

struct sample_interval {
	double lo, hi;
};

// 0, or -1 when n is 0 or without memory.
int sample_median(const double *values, size_t n, double *ret);
// 95% percentile bootstrap interval of the median.
int sample_bootstrap(const double *values, size_t n, uint64_t seed, unsigned rounds, struct sample_interval *ret);

enum verdict { VERDICT_PASSED, VERDICT_FAILED, VERDICT_INCONCLUSIVE, VERDICT_STATED };

struct bar_rule {
	bool has_limit; // false: a figure that is stated, without a verdict
	double limit;
	bool higher_is_better;
	double width_max; // of the interval; 0: any
	size_t pairs_min;
};

// Failed when the whole interval is on the wrong side of the limit, however wide it is. Otherwise inconclusive with
// too few pairs or too wide an interval. Otherwise by the value.
enum verdict bar_judge(const struct bar_rule *rule, double value, struct sample_interval ci, size_t pairs);
const char *verdict_name(enum verdict v);

#endif
