// SPDX-License-Identifier: GPL-2.0-or-later
// The planner of migrations: places, order, and that no host's memory is overcommitted at any time.
#include "tests/unit/test.h"

#include <stdio.h>

#include "vcd/moveplan.h"

#define N_MAX 12

struct scene {
	struct moveplan_host hosts[N_MAX];
	struct moveplan_member members[N_MAX];
	size_t n_hosts, n_members;
};

static uint32_t add_host(struct scene *s, uint64_t mem_mib)
{
	static const char *const names[N_MAX] = {"n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9", "n10", "n11", "n12"};
	s->hosts[s->n_hosts] = (struct moveplan_host){.name = names[s->n_hosts], .mem_mib = mem_mib, .cpus = 4};
	return (uint32_t)s->n_hosts++;
}

static struct moveplan_member *add_member(struct scene *s, uint32_t host, uint64_t mem_mib)
{
	struct moveplan_member *m = &s->members[s->n_members];
	*m = (struct moveplan_member){.rank = (uint32_t)s->n_members, .host = host, .mem_mib = mem_mib, .vcpus = 1, .to = MOVEPLAN_ANYWHERE};
	s->hosts[host].used_mib += mem_mib;
	s->hosts[host].vcpus++;
	s->n_members++;
	return m;
}

// In each wave all targets hold what comes before anything has left.
static void check_memory(const struct scene *s, const struct moveplan *p, uint32_t per_host)
{
	uint64_t used[N_MAX];
	for (size_t h = 0; h < s->n_hosts; h++)
		used[h] = s->hosts[h].used_mib;
	for (size_t i = 0, end; i < p->n_steps; i = end) {
		uint32_t busy[N_MAX] = {0};
		for (end = i; end < p->n_steps && p->steps[end].wave == p->steps[i].wave; end++) {
			const struct moveplan_step *step = &p->steps[end];
			used[step->to] += s->members[step->member].mem_mib;
			assert_true(!s->hosts[step->to].mem_mib || used[step->to] <= s->hosts[step->to].mem_mib);
			assert_true(++busy[step->to] <= per_host);
			assert_true(++busy[step->from] <= per_host);
		}
		for (size_t k = i; k < end; k++)
			used[p->steps[k].from] -= s->members[p->steps[k].member].mem_mib;
	}
}

// "0:n2 1:n3 | 2:n2 ! 3", waves apart, refused ones behind the mark.
static const char *plan(const struct scene *s, uint32_t per_host)
{
	static char text[512];
	size_t len = 0;
	struct moveplan *p = moveplan_make(s->hosts, s->n_hosts, s->members, s->n_members, per_host, NULL);
	assert_non_null(p);
	check_memory(s, p, per_host);
	text[0] = '\0';
	for (size_t i = 0; i < p->n_steps; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u:%s", !i ? "" : p->steps[i].wave != p->steps[i - 1].wave ? " | " : " ",
					s->members[p->steps[i].member].rank, s->hosts[p->steps[i].to].name);
	for (size_t i = 0; i < p->n_refusals; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%u", i ? " " : " ! ", s->members[p->refusals[i].member].rank);
	moveplan_destroy(p);
	return text;
}

static void test_one_member_to_a_host(void **state)
{
	(void)state;
	struct scene s = {0};
	uint32_t a = add_host(&s, 1000), b = add_host(&s, 1000);
	struct moveplan_member *m = add_member(&s, a, 400);
	assert_string_equal(plan(&s, 1), "");
	m->moves = true;
	m->to = b;
	assert_string_equal(plan(&s, 1), "0:n2");
	m->to = a;
	assert_string_equal(plan(&s, 1), " ! 0"); // it is there
	m->to = b;
	m->fixed = "has a mount";
	assert_string_equal(plan(&s, 1), " ! 0");
}

static void test_room_is_looked_at(void **state)
{
	(void)state;
	struct scene s = {0};
	uint32_t a = add_host(&s, 1000), b = add_host(&s, 1000);
	add_member(&s, b, 700);
	struct moveplan_member *m = add_member(&s, a, 301);
	m->moves = true;
	assert_string_equal(plan(&s, 1), " ! 1");
	m->to = b;
	assert_string_equal(plan(&s, 1), " ! 1");
	m->mem_mib = 300;
	s.hosts[a].used_mib = 300;
	assert_string_equal(plan(&s, 1), "1:n2");
	m->mem_mib = 900;
	s.hosts[a].used_mib = 900;
	s.hosts[b].mem_mib = 0; // not counted
	assert_string_equal(plan(&s, 1), "1:n2");
}

// The largest first, and a second thought where the first choice leaves no room for the rest.
static void test_off_a_host(void **state)
{
	(void)state;
	struct scene s = {0};
	uint32_t a = add_host(&s, 2000);
	add_host(&s, 600);
	add_host(&s, 1000);
	s.hosts[a].closed = true;
	for (int i = 0; i < 2; i++)
		add_member(&s, a, 500)->moves = true;
	add_member(&s, a, 600)->moves = true;
	assert_string_equal(plan(&s, 3), "0:n3 1:n3 2:n2");
	assert_string_equal(plan(&s, 1), "2:n2 | 0:n3 | 1:n3"); // the largest first
	add_member(&s, a, 100)->moves = true;
	assert_string_equal(plan(&s, 4), "0:n3 1:n3 2:n2 ! 3"); // as many as fit
}

// n2's member must leave before n1's can come.
static void test_what_frees_comes_first(void **state)
{
	(void)state;
	struct scene s = {0};
	uint32_t a = add_host(&s, 1000), b = add_host(&s, 1000), c = add_host(&s, 1000);
	struct moveplan_member *m = add_member(&s, a, 800), *blocks = add_member(&s, b, 800);
	m->moves = blocks->moves = true;
	m->to = b;
	blocks->to = c;
	assert_string_equal(plan(&s, 1), "1:n3 | 0:n2");
	assert_string_equal(plan(&s, 4), "1:n3 | 0:n2");
}

static void test_a_swap_needs_room(void **state)
{
	(void)state;
	struct scene s = {0};
	uint32_t a = add_host(&s, 1000), b = add_host(&s, 1000);
	struct moveplan_member *x = add_member(&s, a, 600), *y = add_member(&s, b, 600);
	x->moves = y->moves = true;
	x->to = b;
	y->to = a;
	assert_string_equal(plan(&s, 1), " ! 1 0");
	s.hosts[b].mem_mib = 1200;
	assert_string_equal(plan(&s, 1), "0:n2 | 1:n1");
}

static void test_fewest_moves_to_balance(void **state)
{
	(void)state;
	struct scene s = {0};
	uint32_t a = add_host(&s, 4000), b = add_host(&s, 4000);
	for (int i = 0; i < 4; i++)
		add_member(&s, a, 500);
	moveplan_balance(s.hosts, s.n_hosts, s.members, s.n_members);
	assert_string_equal(plan(&s, 1), "0:n2 | 1:n2");
	for (size_t i = 0; i < s.n_members; i++)
		s.members[i].moves = false;
	s.hosts[b].mem_mib = 600; // room for one
	moveplan_balance(s.hosts, s.n_hosts, s.members, s.n_members);
	assert_string_equal(plan(&s, 1), "0:n2");
	for (size_t i = 0; i < s.n_members; i++) {
		s.members[i].moves = false;
		s.members[i].fixed = "has a mount";
	}
	moveplan_balance(s.hosts, s.n_hosts, s.members, s.n_members);
	assert_string_equal(plan(&s, 1), "");
}

static void test_processors_may_be_limited(void **state)
{
	(void)state;
	struct scene s = {0};
	uint32_t a = add_host(&s, 4000), b = add_host(&s, 4000);
	for (int i = 0; i < 3; i++)
		add_member(&s, a, 500)->moves = true;
	add_member(&s, b, 500);
	s.hosts[b].vcpus_max = 3;
	assert_string_equal(plan(&s, 1), "0:n2 | 1:n2 ! 2");
	struct moveplan *p = moveplan_make(s.hosts, s.n_hosts, s.members, s.n_members, 1, NULL);
	assert_contains(p->refusals[0].why, "has 1 processors; host n2 has 3 of members for 4 CPUs");
	moveplan_destroy(p);
}

// Whatever is asked for: no overcommitment (check_memory), each member once, and every one has an answer.
static void test_random_scenes(void **state)
{
	(void)state;
	uint32_t seed = 1;
	for (int run = 0; run < 2000; run++) {
		struct scene s = {0};
		size_t wanted = 0;
		for (int i = 0; i < 4; i++)
			add_host(&s, 1000);
		for (int i = 0; i < 10; i++) {
			seed = seed * 1103515245 + 12345;
			uint32_t host = (seed >> 16) % 4;
			uint64_t mem = 100 + (seed >> 18) % 8 * 50;
			if (s.hosts[host].used_mib + mem > 1000)
				continue;
			struct moveplan_member *m = add_member(&s, host, mem);
			m->moves = (seed >> 20) % 3 > 0;
			m->to = (seed >> 22) % 2 ? (seed >> 24) % 4 : MOVEPLAN_ANYWHERE;
			wanted += m->moves;
		}
		struct moveplan *p = moveplan_make(s.hosts, s.n_hosts, s.members, s.n_members, 2, NULL);
		check_memory(&s, p, 2);
		assert_int_equal(p->n_steps + p->n_refusals, wanted);
		moveplan_destroy(p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_member_to_a_host),   cmocka_unit_test(test_room_is_looked_at),
		cmocka_unit_test(test_off_a_host),	       cmocka_unit_test(test_what_frees_comes_first),
		cmocka_unit_test(test_a_swap_needs_room),      cmocka_unit_test(test_fewest_moves_to_balance),
		cmocka_unit_test(test_processors_may_be_limited), cmocka_unit_test(test_random_scenes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
