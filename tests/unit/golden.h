// SPDX-License-Identifier: GPL-2.0-or-later
// Compares a text with tests/golden/NAME. VC_REGENERATE=1 in the environment writes the files instead: look at
// `git diff tests/golden` before you commit them.
#ifndef TESTS_UNIT_GOLDEN_H
#define TESTS_UNIT_GOLDEN_H

#include <stdio.h>

#include "tests/unit/test.h"

#define GOLDEN_MAX (1u << 20) // bytes of one file; a longer one is a mistake

static inline void golden_path(const char *name, char *ret, size_t len)
{
	int n = snprintf(ret, len, "%s/golden/%s", TEST_SRCDIR, name);
	assert_true(n > 0 && (size_t)n < len);
}

static inline void assert_golden(const char *name, const char *text)
{
	char path[4096];
	golden_path(name, path, sizeof(path));
	if (getenv("VC_REGENERATE")) {
		FILE *out = fopen(path, "w");
		if (!out || fputs(text, out) < 0 || fclose(out) != 0)
			fail_msg("%s cannot be written", path);
		return;
	}
	FILE *in = fopen(path, "r");
	if (!in)
		fail_msg("%s is missing: run this test once with VC_REGENERATE=1", path);
	char *want = calloc(1, GOLDEN_MAX + 1);
	assert_non_null(want);
	size_t n = fread(want, 1, GOLDEN_MAX, in);
	fclose(in);
	want[n] = '\0';
	if (strcmp(want, text) != 0)
		fail_msg("%s differs; got:\n%s", path, text);
	free(want);
}

#endif
