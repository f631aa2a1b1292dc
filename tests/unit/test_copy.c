// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl cp: which words name a member's file, and how paths are split.
#include "tests/unit/test.h"

#include "cmd/vcctl/copy.h"
#include "libvc/cleanup.h"

static void test_sides(void **state)
{
	(void)state;
	static const struct {
		const char *text, *job, *member, *path;
	} rows[] = {
		{"123:0:/tmp/x", "123", "0", "/tmp/x"},
		{"123:vc123-1:x", "123", "vc123-1", "x"},
		{"123:all:", "123", "all", "."},
		{"123:all:a:b", "123", "all", "a:b"},
		{"file", NULL, NULL, "file"},
		{"./123:0:file", NULL, NULL, "./123:0:file"},
		{"123:file", NULL, NULL, "123:file"},
		{"123::file", NULL, NULL, "123::file"},
		{"host:0:file", NULL, NULL, "host:0:file"},
		{"123:a/b:c", NULL, NULL, "123:a/b:c"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct copy_side side;
		assert_int_equal(copy_side_parse(rows[i].text, &side, NULL), 0);
		if (rows[i].job) {
			assert_string_equal(side.job, rows[i].job);
			assert_string_equal(side.member, rows[i].member);
		} else {
			assert_null(side.job);
			assert_null(side.member);
		}
		assert_string_equal(side.path, rows[i].path);
		copy_side_clear(&side);
	}
	struct copy_side side;
	assert_int_equal(copy_side_parse("", &side, NULL), -1);
}

static void test_split(void **state)
{
	(void)state;
	static const struct {
		const char *path, *dir, *name;
	} rows[] = {
		{"a", ".", "a"},	     {"a/b", "a", "b"},	 {"/a", "/", "a"}, {"/a/b/", "/a", "b"},
		{"a//", ".", "a"},	     {"-rf", ".", "-rf"}, {"./a", ".", "a"}, {"/", NULL, NULL},
		{"..", NULL, NULL},	     {"a/..", NULL, NULL}, {".", NULL, NULL}, {"//", NULL, NULL},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		vc_autofree char *dir = NULL, *name = NULL;
		assert_int_equal(copy_split(rows[i].path, &dir, &name, NULL), rows[i].dir ? 0 : -1);
		if (!rows[i].dir)
			continue;
		assert_string_equal(dir, rows[i].dir);
		assert_string_equal(name, rows[i].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_sides), cmocka_unit_test(test_split)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
