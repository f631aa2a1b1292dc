// SPDX-License-Identifier: GPL-2.0-or-later
// The cache policy: what goes first, who is admitted, what is held, how former favourites sink.
#include "tests/unit/test.h"

#include <stdio.h>

#include "vcd/image/gdsf.h"

// Admits and gives the victims' keys, joined with spaces; "!" when it was refused.
static const char *admit(struct gdsf *g, const char *key, double seconds, uint64_t bytes)
{
	static char text[1024];
	char(*victims)[DIGEST_HEX_LEN] = NULL;
	size_t n = 0, len = 0;
	bool ok = gdsf_admit(g, key, seconds, bytes, &victims, &n);
	text[0] = '\0';
	if (!ok) {
		assert_int_equal(n, 0);
		snprintf(text, sizeof(text), "!");
	}
	for (size_t i = 0; i < n; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "", victims[i]);
	free(victims);
	return text;
}

static void test_seconds_per_byte_decide(void **state)
{
	(void)state;
	struct gdsf *g = gdsf_create(100);
	assert_string_equal(admit(g, "cheap", 1, 50), "");
	assert_string_equal(admit(g, "dear", 100, 50), "");
	assert_int_equal(gdsf_bytes(g), 100);
	assert_string_equal(admit(g, "middle", 10, 50), "cheap"); // and not the oldest or the largest
	assert_null(gdsf_find(g, "cheap"));
	assert_non_null(gdsf_find(g, "dear"));
	assert_int_equal(gdsf_bytes(g), 100);
	gdsf_destroy(g);
}

static void test_a_newcomer_can_be_the_worst(void **state)
{
	(void)state;
	struct gdsf *g = gdsf_create(100);
	admit(g, "a", 50, 50);
	admit(g, "b", 50, 50);
	assert_string_equal(admit(g, "poor", 1, 60), "!");
	assert_non_null(gdsf_find(g, "a"));
	assert_non_null(gdsf_find(g, "b"));
	assert_null(gdsf_find(g, "poor"));
	assert_int_equal(gdsf_bytes(g), 100);
	assert_string_equal(admit(g, "giant", 1e9, 101), "!"); // larger than the cache
	assert_int_equal(gdsf_bytes(g), 100);
	// Refused, but asked for again and again: its uses are remembered, and count.
	int refused = 0;
	while (refused < 1000 && strcmp(admit(g, "poor", 1, 60), "!") == 0) {
		assert_false(gdsf_use(g, "poor"));
		refused++;
	}
	assert_true(refused > 0 && refused < 1000);
	assert_true(gdsf_use(g, "poor"));
	gdsf_destroy(g);
}

static void test_uses_keep(void **state)
{
	(void)state;
	struct gdsf *g = gdsf_create(100);
	admit(g, "a", 10, 50);
	admit(g, "b", 10, 50);
	assert_true(gdsf_use(g, "a"));
	assert_string_equal(admit(g, "c", 15, 50), "b");
	gdsf_destroy(g);
}

static void test_what_is_held_stays(void **state)
{
	(void)state;
	struct gdsf *g = gdsf_create(100);
	admit(g, "a", 1, 50);
	admit(g, "b", 2, 50);
	gdsf_hold(g, "a");
	gdsf_hold(g, "a");
	assert_string_equal(admit(g, "c", 100, 50), "b");
	gdsf_release(g, "a");
	assert_string_equal(admit(g, "d", 1000, 100), "!"); // a is held once more; c alone does not make room
	assert_non_null(gdsf_find(g, "c"));
	gdsf_release(g, "a");
	assert_string_equal(admit(g, "d", 10000, 100), "a c");
	gdsf_destroy(g);
}

static void test_old_favourites_sink(void **state)
{
	(void)state;
	struct gdsf *g = gdsf_create(100);
	char key[16];
	admit(g, "favourite", 1, 50);
	for (int i = 0; i < 20; i++)
		gdsf_use(g, "favourite");
	int rounds = 0;
	while (gdsf_find(g, "favourite") && rounds < 10000) {
		snprintf(key, sizeof(key), "new%d", rounds++);
		gdsf_use(g, key);
		admit(g, key, 1, 50);
	}
	assert_true(rounds > 5);     // its uses did protect it
	assert_true(rounds < 10000); // but not for ever
	gdsf_destroy(g);
}

static void test_shrink_remove_restore(void **state)
{
	(void)state;
	struct gdsf *g = gdsf_create(100);
	char(*victims)[DIGEST_HEX_LEN] = NULL;
	size_t n = 0;
	assert_int_equal(gdsf_restore(g, "a", 5, 90, 3, NULL), 0);
	assert_int_equal(gdsf_restore(g, "b", 1, 90, 1, NULL), 0);
	assert_int_equal(gdsf_bytes(g), 180); // more than the capacity: it has been made smaller
	gdsf_shrink(g, 100, &victims, &n);
	assert_int_equal(n, 1);
	assert_string_equal(victims[0], "b");
	free(victims);
	assert_string_equal(admit(g, "a", 7, 40), ""); // new figures
	assert_int_equal(gdsf_bytes(g), 40);
	gdsf_remove(g, "a");
	gdsf_remove(g, "a");
	assert_int_equal(gdsf_bytes(g), 0);
	gdsf_destroy(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seconds_per_byte_decide), cmocka_unit_test(test_a_newcomer_can_be_the_worst),
		cmocka_unit_test(test_uses_keep),		cmocka_unit_test(test_what_is_held_stays),
		cmocka_unit_test(test_old_favourites_sink),	cmocka_unit_test(test_shrink_remove_restore),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
