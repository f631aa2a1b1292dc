// SPDX-License-Identifier: GPL-2.0-or-later
// Medians, intervals, verdicts, and a whole report from its two files.
#include "tests/unit/test.h"

#include <stdio.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "tests/bench/report.h"
#include "tests/bench/sample.h"

static void median_of_odd_and_even(void **state)
{
	(void)state;
	double odd[] = {9, 1, 5}, even[] = {4, 1, 3, 2}, m;
	assert_int_equal(sample_median(odd, 3, &m), 0);
	assert_true(m == 5);
	assert_true(odd[0] == 9); // left as it was
	assert_int_equal(sample_median(even, 4, &m), 0);
	assert_true(m == 2.5);
	assert_int_equal(sample_median(odd, 0, &m), -1);
}

static void interval_holds_the_median_and_repeats(void **state)
{
	(void)state;
	double v[41];
	struct sample_interval a, b;
	for (int i = 0; i < 41; i++)
		v[i] = i;
	assert_int_equal(sample_bootstrap(v, 41, SAMPLE_SEED, SAMPLE_ROUNDS, &a), 0);
	assert_int_equal(sample_bootstrap(v, 41, SAMPLE_SEED, SAMPLE_ROUNDS, &b), 0);
	assert_true(a.lo == b.lo && a.hi == b.hi);
	assert_true(a.lo < 20 && a.hi > 20);
	// the exact 95% interval of order statistics of 41 values is [13, 27]
	assert_true(a.lo >= 12 && a.lo <= 15 && a.hi >= 25 && a.hi <= 28);
}

static void interval_of_equal_values_is_a_point(void **state)
{
	(void)state;
	double v[] = {7, 7, 7, 7, 7};
	struct sample_interval ci;
	assert_int_equal(sample_bootstrap(v, 5, SAMPLE_SEED, 200, &ci), 0);
	assert_true(ci.lo == 7 && ci.hi == 7);
	assert_int_equal(sample_bootstrap(v, 0, SAMPLE_SEED, 200, &ci), -1);
}

static void verdicts(void **state)
{
	static const struct {
		struct bar_rule rule;
		double value, lo, hi;
		size_t pairs;
		enum verdict want;
	} cases[] = {
		{{true, 1.15, false, 0.15, 11}, 1.10, 1.05, 1.14, 11, VERDICT_PASSED},
		{{true, 1.15, false, 0.15, 11}, 1.15, 1.10, 1.20, 11, VERDICT_PASSED},
		{{true, 1.15, false, 0.15, 11}, 1.16, 1.10, 1.20, 11, VERDICT_FAILED},
		{{true, 1.15, false, 0.15, 11}, 1.10, 1.00, 1.16, 11, VERDICT_INCONCLUSIVE}, // too wide
		{{true, 1.15, false, 0.15, 11}, 1.00, 1.00, 1.01, 10, VERDICT_INCONCLUSIVE}, // too few
		{{true, 1.15, false, 0.15, 11}, 20, 1.50, 2.50, 11, VERDICT_FAILED},	     // wide, and all of it is bad
		{{true, 0.6, true, 0.15, 11}, 0.7, 0.65, 0.75, 20, VERDICT_PASSED},
		{{true, 0.6, true, 0.15, 11}, 0.5, 0.1, 0.55, 20, VERDICT_FAILED},
		{{true, 0.6, true, 0.15, 11}, 0.7, 0.4, 0.9, 20, VERDICT_INCONCLUSIVE},
		{{false, 0, true, 0.15, 11}, 0.7, 0.4, 0.9, 1, VERDICT_STATED},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct sample_interval ci = {cases[i].lo, cases[i].hi};
		enum verdict got = bar_judge(&cases[i].rule, cases[i].value, ci, cases[i].pairs);
		if (got != cases[i].want)
			fail_msg("case %zu: %s, want %s", i, verdict_name(got), verdict_name(cases[i].want));
	}
}

static int make(const char *rows, const char *bars, struct json_object **ret, struct vc_error *err)
{
	vc_autofclose FILE *r = fmemopen((void *)(uintptr_t)rows, strlen(rows), "r");
	vc_autofclose FILE *b = fmemopen((void *)(uintptr_t)bars, strlen(bars), "r");
	assert_non_null(r);
	assert_non_null(b);
	return report_make("demo", r, b, ret, err);
}

static void report_pairs_what_belongs_together(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *report = NULL;
	// pair 3 has no baseline: it does not count; the order of the rows does not matter
	int rc = make("new\t1\t12\ts\nold\t1\t10\ts\nold\t2\t20\ts\nnew\t2\t22\ts\nnew\t3\t99\ts\n",
		      "r\tratio\tnew\told\t1\tlower\t1.5\t-\t2\t\n"
		      "d\tdifference\tnew\told\ts\tlower\t1\t-\t2\twhy\n"
		      "v\tvalue\tnew\t-\ts\tlower\t-\t-\t-\t-\n",
		      &report, &err);
	assert_string_equal(err.text, "");
	assert_int_equal(rc, 0);
	assert_string_equal(
		json_object_to_json_string_ext(json_object_object_get(report, "bars"), JSON_C_TO_STRING_PLAIN),
		"[{\"name\":\"r\",\"value\":1.15,\"ci95\":[1.1,1.2],\"unit\":\"1\",\"baseline\":15,\"limit\":1.5,\"better\":"
		"\"lower\",\"verdict\":\"passed\",\"pairs\":2,\"mean\":1.15},"
		"{\"name\":\"d\",\"value\":2,\"ci95\":[2,2],\"unit\":\"s\",\"baseline\":15,\"limit\":1,\"better\":"
		"\"lower\",\"verdict\":\"failed\",\"pairs\":2,\"mean\":2,\"note\":\"why\"}]");
	struct json_object *stated = json_object_array_get_idx(json_object_object_get(report, "stated"), 0);
	assert_true(json_object_get_double(json_object_object_get(stated, "value")) == 22);
	assert_int_equal(json_object_array_length(json_object_object_get(report, "rows")), 5);
	assert_int_equal(json_object_array_length(json_object_object_get(report, "series")), 2);
	assert_int_equal(report_status(report), 1);
}

static void report_refuses_what_is_malformed(void **state)
{
	static const struct {
		const char *rows, *bars, *want;
	} cases[] = {
		{"a\t1\t2\n", "x\tvalue\ta\t-\ts\tlower\t1\t-\t-\t-\n", "rows, line 1: 3 fields"},
		{"a\t1\t2x\ts\n", "x\tvalue\ta\t-\ts\tlower\t1\t-\t-\t-\n", "'2x' is not a number"},
		{"a\t1\tnan\ts\n", "x\tvalue\ta\t-\ts\tlower\t1\t-\t-\t-\n", "not a number"},
		{"a\t1\t2\ts\tt\n", "x\tvalue\ta\t-\ts\tlower\t1\t-\t-\t-\n", "more than 4 fields"},
		{"a\t1\t2\ts\n", "x\tsum\ta\t-\ts\tlower\t1\t-\t-\t-\n", "bars, line 1: kind 'sum'"},
		{"a\t1\t2\ts\n", "x\tvalue\ta\t-\ts\tfaster\t1\t-\t-\t-\n", "want higher or lower"},
		{"a\t1\t2\ts\n", "x\tratio\ta\tb\ts\tlower\t1\t-\t-\t-\n", "no measurement"},
		{"a\t1\t2\ts\nb\t1\t0\ts\n", "x\tratio\ta\tb\ts\tlower\t1\t-\t-\t-\n", "is 0"},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct vc_error err = VC_ERROR_INIT;
		struct json_object *report = NULL;
		assert_int_equal(make(cases[i].rows, cases[i].bars, &report, &err), -1);
		assert_null(report);
		assert_contains(err.text, cases[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(median_of_odd_and_even),
		cmocka_unit_test(interval_holds_the_median_and_repeats),
		cmocka_unit_test(interval_of_equal_values_is_a_point),
		cmocka_unit_test(verdicts),
		cmocka_unit_test(report_pairs_what_belongs_together),
		cmocka_unit_test(report_refuses_what_is_malformed),
	};
	return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
