// SPDX-License-Identifier: GPL-2.0-or-later
// libvc/taskref: the round trip, and what a user may have put into the variable.
#include "tests/unit/test.h"

#include "libvc/cleanup.h"
#include "libvc/taskref.h"

static void test_round_trip(void **state)
{
	(void)state;
	const struct vc_taskref in = {.job = UINT32_MAX, .restart = 3, .kind = VC_TASK_SCRIPT, .local = 0, .tasks = 1};
	struct vc_taskref out = {0};
	char buf[VC_TASKREF_LEN];
	assert_int_equal(vc_taskref_parse(vc_taskref_format(&in, buf), &out, NULL), 0);
	assert_string_equal(buf, "job=4294967295 restart=3 kind=script local=0 tasks=1");
	assert_memory_equal(&in, &out, sizeof(in));
}

static void test_refused(void **state)
{
	(void)state;
	static const char *const rows[] = {
		"",
		"job=1",
		"job=1 restart=0 kind=task local=0",
		"job=1 restart=0 kind=task local=0 tasks=1 x=1",
		"job=1 restart=0 kind=moon local=0 tasks=1",
		"job=-1 restart=0 kind=task local=0 tasks=1",
		"job=4294967296 restart=0 kind=task local=0 tasks=1",
		"job=1 restart=0 kind=task local=1 tasks=1",
		"job=1 restart=0 kind=task local=0 tasks=0",
		"job=1  restart=0 kind=task local=0 tasks=1",
		"restart=0 job=1 kind=task local=0 tasks=1",
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct vc_taskref ref = {.job = 7};
		struct vc_error err = VC_ERROR_INIT;
		assert_int_equal(vc_taskref_parse(rows[i], &ref, &err), -1);
		assert_int_equal(ref.job, 7);
		assert_true(err.text[0] != '\0');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_refused)};
	return cmocka_run_group_tests_name("taskref", tests, NULL, NULL);
}
