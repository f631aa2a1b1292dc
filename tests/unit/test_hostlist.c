// SPDX-License-Identifier: GPL-2.0-or-later
// libvc/hostlist: expansion, refusal, compression and the way back.
#include "tests/unit/test.h"

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
		"", ",", "a,,b", "n[", "n]", "n[]", "n[1-]", "n[3-1]", "n[1", "n[1,]", "n[x]", "n[1-9999999999]", "n[1-200]",
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expand),
		cmocka_unit_test(test_refuse),
		cmocka_unit_test(test_compress),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
