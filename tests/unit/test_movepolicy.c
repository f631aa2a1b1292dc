// SPDX-License-Identifier: GPL-2.0-or-later
// Policies of migrations: names, the choice by the dirty rate, what a move is expected to cost.
#include "tests/unit/test.h"

#include "vcd/movepolicy.h"

#define MIB (1ull << 20)

static void test_names_come_back(void **state)
{
	(void)state;
	for (int i = 0; i < MOVE_POLICIES; i++) {
		enum move_policy p = MOVE_POLICIES;
		assert_int_equal(move_policy_from_name(move_policy_name((enum move_policy)i), &p, NULL), 0);
		assert_int_equal(p, i);
	}
	struct vc_error err = VC_ERROR_INIT;
	enum move_policy p;
	assert_int_equal(move_policy_from_name("late-copy", &p, &err), -1);
	assert_non_null(strstr(err.text, "is no policy"));
}

static void test_choice_follows_the_rate(void **state)
{
	(void)state;
	struct move_facts f = {.bandwidth_mib = 100, .dirty_rate = 25 * MIB};
	assert_int_equal(move_policy_choose(MOVE_AUTO, &f), MOVE_PRECOPY);
	f.dirty_rate++;
	assert_int_equal(move_policy_choose(MOVE_AUTO, &f), MOVE_CONVERGE);
	assert_int_equal(move_policy_choose(MOVE_COMPRESS, &f), MOVE_COMPRESS);
}

static void test_postcopy_where_no_round_helps(void **state)
{
	(void)state;
	struct move_facts f = {.memory = 1000 * MIB, .disk = 100 * MIB, .bandwidth_mib = 100, .dirty_rate = 100 * MIB, .can_postcopy = true};
	assert_int_equal(move_policy_choose(MOVE_AUTO, &f), MOVE_CONVERGE);
	f.dirty_rate++;
	assert_int_equal(move_policy_choose(MOVE_AUTO, &f), MOVE_POSTCOPY);
	assert_int_equal(move_policy_choose(MOVE_PRECOPY, &f), MOVE_PRECOPY);
	struct move_estimate e = move_estimate(MOVE_AUTO, &f);
	assert_int_equal(e.policy, MOVE_POSTCOPY);
	assert_int_equal(e.bytes / MIB, 2100);
	assert_int_equal(e.downtime_ms, MOVE_SWITCH_MS);
	assert_false(e.forced);
	f.can_postcopy = false;
	assert_int_equal(move_policy_choose(MOVE_AUTO, &f), MOVE_CONVERGE);
}

static void test_obstacles_to_postcopy(void **state)
{
	(void)state;
	struct move_uffd host = {.root = true, .unprivileged = true};
	assert_non_null(strstr(move_postcopy_obstacle(&host), "kernel"));
	host.kernel = true;
	assert_null(move_postcopy_obstacle(&host));
	host.root = false;
	assert_null(move_postcopy_obstacle(&host));
	host.unprivileged = false;
	assert_non_null(strstr(move_postcopy_obstacle(&host), "unprivileged_userfaultfd"));
	host.root = true;
	assert_null(move_postcopy_obstacle(&host));
}

// 1000 MiB at 100 MiB/s and 10 MiB/s dirtied: rounds of 1000, 100 MiB; then 10 MiB take 100 ms.
static void test_rounds_get_shorter(void **state)
{
	(void)state;
	struct move_facts f = {.memory = 1000 * MIB, .disk = 50 * MIB, .bandwidth_mib = 100, .dirty_rate = 10 * MIB};
	struct move_estimate e = move_estimate(MOVE_AUTO, &f);
	assert_int_equal(e.policy, MOVE_PRECOPY);
	assert_int_equal(e.rounds, 2);
	assert_int_equal(e.bytes / MIB, 1160);
	assert_int_equal(e.downtime_ms, 100 + MOVE_SWITCH_MS);
	assert_int_equal(e.total_ms, 500 + 10000 + 1000 + 100 + MOVE_SWITCH_MS);
	assert_false(e.forced);
}

static void test_what_does_not_converge_is_forced(void **state)
{
	(void)state;
	struct move_facts f = {.memory = 1000 * MIB, .bandwidth_mib = 100, .dirty_rate = 1000 * MIB, .rounds = 5};
	struct move_estimate e = move_estimate(MOVE_PRECOPY, &f);
	assert_true(e.forced);
	assert_int_equal(e.rounds, 5);
	assert_int_equal(e.bytes / MIB, 6000); // all of it each time
	assert_int_equal(e.downtime_ms, 10000 + MOVE_SWITCH_MS);
}

// Nothing touched, no rate, largest numbers: neither a division by zero nor a loop without end.
static void test_extremes(void **state)
{
	(void)state;
	struct move_facts none = {0}, most = {UINT64_MAX / 2, UINT64_MAX / 4, UINT64_MAX, 1, 1, UINT64_MAX, false};
	assert_int_equal(move_estimate(MOVE_AUTO, &none).downtime_ms, MOVE_SWITCH_MS);
	most.rounds = 1000;
	assert_true(move_estimate(MOVE_AUTO, &most).forced);
}

static void test_a_link_is_filled_and_not_more(void **state)
{
	(void)state;
	assert_int_equal(move_at_once(0), 1);
	assert_int_equal(move_at_once(MOVE_LINK_MIB), 1);
	assert_int_equal(move_at_once(MOVE_LINK_MIB / 2 + 1), 1);
	assert_int_equal(move_at_once(MOVE_LINK_MIB / 2), 2);
	assert_int_equal(move_at_once(1), MOVE_AT_ONCE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_come_back), cmocka_unit_test(test_choice_follows_the_rate),
		cmocka_unit_test(test_postcopy_where_no_round_helps),
		cmocka_unit_test(test_obstacles_to_postcopy),
		cmocka_unit_test(test_rounds_get_shorter), cmocka_unit_test(test_what_does_not_converge_is_forced),
		cmocka_unit_test(test_extremes),	cmocka_unit_test(test_a_link_is_filled_and_not_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
