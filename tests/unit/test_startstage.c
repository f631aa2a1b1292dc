// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/startstage: the stages of a start add up to its time, whatever hosts tell of themselves.
#include "tests/unit/test.h"

#include <json-c/json.h>

#include "libvc/cleanup.h"
#include "vcd/startstage.h"

static const struct start_times nothing;

static void stages_follow_the_last_host(void **state)
{
	(void)state;
	struct start_times t = {.ms = {0}};
	struct start_times prepared = {.ms = {[START_TRANSFER] = 700, [START_PUBLISH] = 50, [START_DEFINE] = 30}};
	struct start_times up = {.ms = {[START_TRANSFER] = 700, [START_PUBLISH] = 50, [START_DEFINE] = 80, [START_BOOT] = 2000}};
	start_times_add(&t, 5, START_RESOLVE, &nothing, &nothing);
	start_times_add(&t, 0, START_BUILD, &nothing, &nothing);
	start_times_add(&t, 800, START_DEFINE, &prepared, &nothing);
	start_times_add(&t, 2100, START_BOOT, &up, &prepared);
	start_times_add(&t, 40, START_FORM, &up, &up);
	static const uint64_t expected[START_STAGES] = {5, 0, 700, 50, 50 + 50, 2050, 40};
	for (int i = 0; i < START_STAGES; i++)
		assert_int_equal(t.ms[i], expected[i]);
	assert_int_equal(start_times_sum(&t), 5 + 800 + 2100 + 40);
}

// A host's clock, or its lie, changes no sum.
static void no_host_adds_time(void **state)
{
	(void)state;
	struct start_times t = {.ms = {0}};
	struct start_times wild = {.ms = {[START_TRANSFER] = 1000000, [START_PUBLISH] = 9, [START_DEFINE] = 9}};
	start_times_add(&t, 800, START_DEFINE, &wild, &nothing);
	start_times_add(&t, 10, START_BOOT, &nothing, &wild); // a host that was restarted knows less than before
	assert_int_equal(start_times_sum(&t), 810);
	assert_int_equal(t.ms[START_TRANSFER], 800);
	assert_int_equal(t.ms[START_BOOT], 10);
}

static void as_json_and_back(void **state)
{
	(void)state;
	struct start_times t = {.ms = {1, 2, 3, 4, 5, 6, 7}}, back;
	vc_autojson struct json_object *json = start_times_to_json(&t, 8);
	assert_string_equal(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN),
			    "[{\"stage\":\"resolve\",\"ms\":1},{\"stage\":\"build\",\"ms\":2},{\"stage\":\"transfer\",\"ms\":3},"
			    "{\"stage\":\"publish\",\"ms\":4},{\"stage\":\"define\",\"ms\":5},{\"stage\":\"boot\",\"ms\":6},"
			    "{\"stage\":\"form\",\"ms\":7},{\"stage\":\"wait\",\"ms\":8}]");
	start_times_from_json(&back, json);
	assert_memory_equal(&t, &back, sizeof(t));
	vc_autojson struct json_object *odd = json_tokener_parse("[1,{},{\"stage\":5},{\"stage\":\"boot\",\"ms\":-4}]");
	start_times_from_json(&back, odd);
	assert_int_equal(start_times_sum(&back), 0);
	start_times_from_json(&back, NULL);
	assert_int_equal(start_times_sum(&back), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stages_follow_the_last_host),
		cmocka_unit_test(no_host_adds_time),
		cmocka_unit_test(as_json_and_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
