// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/task: which member takes which task.
#include "tests/unit/test.h"

#include "libvc/taskref.h"

static void test_mapping(void **state)
{
	(void)state;
	static const struct {
		uint32_t tasks, members, want[8];
	} rows[] = {
		{1, 1, {0}},
		{4, 1, {0, 0, 0, 0}},
		{2, 2, {0, 1}},
		{4, 2, {0, 0, 1, 1}},
		{3, 2, {0, 0, 1}},
		{5, 3, {0, 0, 1, 1, 2}},
		{1, 3, {0}},
		{8, 4, {0, 0, 1, 1, 2, 2, 3, 3}},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (uint32_t local = 0; local < rows[i].tasks; local++)
			assert_int_equal(vc_task_member_index(local, rows[i].tasks, rows[i].members), rows[i].want[local]);
	}
}

// Every member gets its part, none more than one task over another's.
static void test_balance(void **state)
{
	(void)state;
	for (uint32_t members = 1; members <= 64; members++) {
		for (uint32_t tasks = 1; tasks <= 130; tasks++) {
			uint32_t count[64] = {0}, last = 0, least = UINT32_MAX, most = 0;
			for (uint32_t local = 0; local < tasks; local++) {
				uint32_t m = vc_task_member_index(local, tasks, members);
				assert_true(m < members && m >= last);
				last = m;
				count[m]++;
			}
			for (uint32_t m = 0; m < members; m++) {
				least = count[m] < least ? count[m] : least;
				most = count[m] > most ? count[m] : most;
			}
			assert_true(most - least <= 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_mapping), cmocka_unit_test(test_balance)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
