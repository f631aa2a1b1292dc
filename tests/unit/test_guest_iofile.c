// SPDX-License-Identifier: GPL-2.0-or-later
// Files for standard streams: what a word of --output names, what its patterns become, who empties a shared file.
#include "tests/unit/test.h"

#include <stdio.h>

#include "guest/iofile.h"
#include "libvc/cleanup.h"
#include "libvc/limits.h"

static void kinds(void **state)
{
	static const struct {
		const char *pattern;
		enum iofile_kind kind;
	} cases[] = {
		{NULL, IOFILE_ALL},	   {"all", IOFILE_ALL},	      {"-", IOFILE_ALL},	{"", IOFILE_ALL},
		{"0", IOFILE_TASK},	   {"17", IOFILE_TASK},	      {"17.out", IOFILE_ONE},	{"none", IOFILE_ONE},
		{"o.%j", IOFILE_ONE},	   {"o.%4j.%u%x", IOFILE_ONE}, {"o.%t", IOFILE_EACH},	{"o.%3t", IOFILE_EACH},
		{"%n", IOFILE_EACH},	   {"%j-%N", IOFILE_EACH},     {"o.%s", IOFILE_EACH},	{"%J.out", IOFILE_EACH},
		{"o.%%t", IOFILE_ONE},	   {"o.\\%t", IOFILE_ONE},    {"o.%", IOFILE_ONE},	{"o.%12", IOFILE_ONE},
		{"o.%%%t", IOFILE_EACH},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		if (iofile_kind(cases[i].pattern) != cases[i].kind)
			fail_msg("%s", cases[i].pattern);
	}
}

static void paths(void **state)
{
	static const struct iofile_facts array = {.job = "128", .step = "0", .array_job = "120", .array_task = "7", .user = "alice",
						  .name = "run", .task = "3", .node = "vc128-1", .node_id = "1"},
					 plain = {.job = "128"};
	static const struct {
		const char *pattern;
		const struct iofile_facts *facts;
		const char *want;
	} cases[] = {
		{"job%J.out", &array, "job128.0.out"},
		{"job%4j.out", &array, "job0128.out"},
		{"job%j-%2t.out", &array, "job128-03.out"},
		{"%A_%a.%n.%N", &array, "120_7.1.vc128-1"},
		{"%5N.%9u.%x", &array, "vc128-1.alice.run"}, // no numbers
		{"%3s|%999t", &array, "000|0000000003"},
		{"%z%%t%", &array, "%z%t%"},
		{"%5z", &array, "%5z"},
		{"a\\%t", &array, "a%t"},
		{"%A.%a", &plain, "128.4294967294"},
		{"%J", &plain, "128"},
		{"none", &plain, "/dev/null"},
		{"/x/y", &plain, "/x/y"},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		vc_autofree char *path = NULL;
		struct vc_error err = VC_ERROR_INIT;
		if (iofile_path(cases[i].pattern, cases[i].facts, &path, &err) < 0)
			fail_msg("%s: %s", cases[i].pattern, err.text);
		assert_string_equal(path, cases[i].want);
	}
}

static void bounded(void **state)
{
	static char longest[VC_PATH_MAX + 1], name[VC_PATH_MAX - 1];
	const struct iofile_facts facts = {.name = name};
	char *path = NULL;
	(void)state;
	memset(longest, 'x', VC_PATH_MAX);
	memset(name, 'x', sizeof(name) - 1);
	assert_int_equal(iofile_path(longest, &facts, &path, NULL), -1);
	assert_int_equal(iofile_path("%x%x", &facts, &path, NULL), -1);
	assert_int_equal(iofile_path("\\", &facts, &path, NULL), -1); // nothing is left
	assert_null(path);
}

static void first_of_a_step(void **state)
{
	struct iofile_seen seen = {0};
	char key[32];
	(void)state;
	assert_true(iofile_first(&seen, "1.0 e"));
	assert_false(iofile_first(&seen, "1.0 e"));
	assert_true(iofile_first(&seen, "1.1 e"));
	for (int i = 0; i < 3 * IOFILE_SEEN_MAX; i++) { // a file that all share stays known beside files of single tasks
		snprintf(key, sizeof(key), "1.0 o.%d", i);
		assert_true(iofile_first(&seen, key));
		assert_false(iofile_first(&seen, "1.0 e"));
	}
	assert_true(iofile_first(&seen, "1.1 e")); // long ago
	for (size_t i = 0; i < IOFILE_SEEN_MAX; i++)
		free(seen.keys[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds),
		cmocka_unit_test(paths),
		cmocka_unit_test(bounded),
		cmocka_unit_test(first_of_a_step),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
