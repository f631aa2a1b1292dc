// SPDX-License-Identifier: GPL-2.0-or-later
// libvc/hostlist: expansion, refusal, compression and the way back.
#include "tests/unit/test.h"

#include <slurm/slurm.h>
#include <stdio.h>
#include <stdlib.h>

#include "libvc/cleanup.h"
#include "libvc/hostlist.h"

static void test_expand(void **state)
{
	(void)state;
	static const struct {
		const char *list, *first, *last;
		size_t n;
	} rows[] = {
		{"n1", "n1", "n1", 1},
		{"n[1-3,07],login", "n1", "login", 5},
		{"n[08-11]", "n08", "n11", 4},
		{"a,b,c", "a", "c", 3},
		{"rack[1-2]-x", "rack1-x", "rack2-x", 2},
		{"n[08364530736453,123456789012345678901234]", "n08364530736453", "n123456789012345678901234", 2},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		vc_autostrv char **v = NULL;
		size_t n = 0;
		assert_int_equal(vc_hostlist_expand(rows[i].list, 100, &v, &n, NULL), 0);
		assert_int_equal(n, rows[i].n);
		assert_string_equal(v[0], rows[i].first);
		assert_string_equal(v[n - 1], rows[i].last);
	}
}

static void test_refuse(void **state)
{
	(void)state;
	static const char *const rows[] = {
		"", ",", "a,,b", "n[", "n]", "n[]", "n[1-]", "n[3-1]", "n[1", "n[1,]", "n[x]", "n[1-9999999999]", "n[1-9999999999999999999]", "n[1-200]",
		"n[1][2]", "n]1[", "n[1-2]]",
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		char **v = NULL;
		struct vc_error err = VC_ERROR_INIT;
		assert_int_equal(vc_hostlist_expand(rows[i], 100, &v, NULL, &err), -1);
		assert_null(v);
		assert_contains(err.text, "host list");
	}
}

static void test_compress(void **state)
{
	(void)state;
	static const struct {
		const char *list, *text;
	} rows[] = {
		{"n1,n2,n3,n5", "n[1-3,5]"}, {"a,b", "a,b"}, {"n1,n02", "n1,n02"}, {"n08,n09,n10,x1", "n[08-10],x1"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		vc_autostrv char **v = NULL;
		assert_int_equal(vc_hostlist_expand(rows[i].list, 100, &v, NULL, NULL), 0);
		vc_autofree char *text = vc_hostlist_compress(v, NULL);
		assert_string_equal(text, rows[i].text);
	}
}

// --- as Slurm writes and reads them ---

#define ODD_ROUNDS 3000
#define ODD_NAMES 6

// Any byte that Slurm takes in a NodeName: all but those that end a name or open a range.
static void odd_name(unsigned *seed, char *ret, size_t max)
{
	static const char often[] = "n.-_0123456789";
	size_t len = 1 + (size_t)rand_r(seed) % (max - 1);
	for (size_t i = 0; i < len; i++) {
		int c = rand_r(seed) % 4 ? often[rand_r(seed) % (int)(sizeof(often) - 1)] : 1 + rand_r(seed) % 255;
		ret[i] = strchr("\t\n ,[]", c) ? '_' : (char)c;
	}
	ret[len] = '\0';
}

static char *ranged(hostlist_t list)
{
	char *slurms = slurm_hostlist_ranged_string_malloc(list), *text = slurms ? strdup(slurms) : NULL;
	free(slurms);
	return text;
}

static void check_odd(char *const *names, size_t n)
{
	struct vc_error err = VC_ERROR_INIT;
	hostlist_t list = slurm_hostlist_create(NULL);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(slurm_hostlist_push_host(list, names[i]), 1);
	vc_autofree char *text = ranged(list), *again = NULL;
	vc_autostrv char **read = NULL;
	size_t n_read = 0;
	assert_non_null(text);
	if (vc_hostlist_expand(text, 1000, &read, &n_read, &err) < 0)
		fail_msg("'%s': %s", text, err.text);
	assert_int_equal(n_read, n);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(read[i], names[i]);
	slurm_hostlist_destroy(list);
	vc_autofree char *ours = vc_hostlist_compress(read, NULL);
	list = slurm_hostlist_create(ours);
	assert_int_equal(slurm_hostlist_count(list), (int)n);
	for (size_t i = 0; i < n; i++) {
		char *name = slurm_hostlist_shift(list);
		assert_string_equal(name, names[i]);
		free(name);
	}
	slurm_hostlist_destroy(list);
}

// Neighbours in number and width among them, which both sides join.
static void test_odd_names(void **state)
{
	unsigned seed = 1;
	(void)state;
	for (int round = 0; round < ODD_ROUNDS; round++) {
		char text[ODD_NAMES][40], *names[ODD_NAMES];
		for (size_t i = 0; i < ODD_NAMES; i++) {
			names[i] = text[i];
			if (i % 2)
				snprintf(text[i], sizeof(text[i]), "%.24s%02d", text[i - 1], rand_r(&seed) % 12);
			else
				odd_name(&seed, text[i], 24);
		}
		check_odd(names, ODD_NAMES);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expand),
		cmocka_unit_test(test_refuse),
		cmocka_unit_test(test_compress),
		cmocka_unit_test(test_odd_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
