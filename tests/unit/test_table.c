// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl's tables: widths, cutting, what hostile text may not do to a terminal.
#include "tests/unit/golden.h"

#include "cmd/vcctl/table.h"
#include "libvc/cleanup.h"

static const struct table_column columns[] = {
	{"JOBID", true, false}, {"USER", false, true}, {"PHASE", false, false}, {"REASON", false, true}};

static char *print(const struct table *t, size_t width)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	assert_non_null(f);
	table_print(t, width, f);
	fclose(f);
	return text;
}

static struct table *fill(void)
{
	struct table *t = table_create(columns, VC_ARRAY_LEN(columns));
	static const char *const rows[][4] = {
		{"1", "alice", "running", NULL},
		{"123456", "a-user-with-a-long-name", "preparing", "host n2: waiting for the image, 34% of 612 MiB"},
		{"7", "bob", "failed", "\033[2Jclear\nthe screen \x7f"},
		{"8", "j\xc3\xbcrgen", "", "\xc3\xa4\xc3\xb6\xc3\xbc"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++)
		assert_int_equal(table_add(t, rows[i]), 0);
	return t;
}

static void test_golden(void **state)
{
	(void)state;
	table_auto struct table *t = fill();
	vc_autofree char *wide = print(t, 0), *narrow = print(t, 50);
	assert_golden("table.wide", wide);
	assert_golden("table.50", narrow);
}

static size_t longest_line(const char *text)
{
	size_t longest = 0, now = 0;
	for (; *text; text++) {
		now = *text == '\n' ? 0 : now + (((unsigned char)*text & 0xc0) != 0x80);
		longest = now > longest ? now : longest;
	}
	return longest;
}

static void test_fits(void **state)
{
	(void)state;
	table_auto struct table *t = fill();
	for (size_t width = 40; width < 100; width++) {
		vc_autofree char *text = print(t, width);
		assert_true(longest_line(text) <= width);
	}
	vc_autofree char *tiny = print(t, 1); // what may not be cut stays readable
	assert_contains(tiny, "123456");
	assert_contains(tiny, "preparing");
}

static void test_terminal_width(void **state)
{
	(void)state;
	FILE *f = tmpfile();
	unsetenv("COLUMNS");
	assert_int_equal(table_terminal_width(fileno(f)), 0);
	setenv("COLUMNS", "72", 1);
	assert_int_equal(table_terminal_width(fileno(f)), 72);
	setenv("COLUMNS", "many", 1);
	assert_int_equal(table_terminal_width(fileno(f)), 0);
	fclose(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_fits),
					   cmocka_unit_test(test_terminal_width)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
