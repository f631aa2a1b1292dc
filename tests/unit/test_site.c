// SPDX-License-Identifier: GPL-2.0-or-later
// One detector for the agreements of two clusters: each host is watched once, and what is found reaches every cluster.
#include <stdbool.h>

#include "tests/unit/test.h"
#include "vcd/member/site.h"

#define NUMBERS 6

struct seen {
	unsigned beats[NUMBERS];
	unsigned messages[NUMBERS]; // by the site's number of their receiver
	unsigned unknown;
	uint64_t last[NUMBERS], gap[NUMBERS]; // of what counts as a heartbeat: when, and the longest time between two
};

// This host is number 0. Cluster a: hosts 0, 1, 2 are numbers 0, 1, 2. Cluster b: they are 0, 2, 5.
struct fixture {
	struct site *site;
	struct site_cluster *a, *b;
	uint64_t now;
	struct seen seen;
};

static struct site_cluster *add(struct fixture *f, const uint32_t *numbers, int *ctx)
{
	struct agree_conf conf = {.times = agree_default_times(), .boot = 1};
	struct agree_durable d = {.self = 0, .incarnation = 1, .view = hostview_create(3, 0, NULL, 0)};
	struct site_cluster *c = site_add(f->site, &conf, &d, numbers, 3, ctx, f->now);
	hostview_unref(d.view);
	return c;
}

static int names[2];

static void create(struct fixture *f)
{
	static const uint32_t in_a[] = {0, 1, 2}, in_b[] = {0, 2, 5};
	struct detect_times times = detect_default_times(1000);
	*f = (struct fixture){.now = 50000};
	f->site = site_create(0, &times, f->now);
	f->a = add(f, in_a, &names[0]);
	f->b = add(f, in_b, &names[1]);
}

static void counts(struct fixture *f, uint32_t number)
{
	uint64_t gap = f->seen.last[number] ? f->now - f->seen.last[number] : 0;
	f->seen.gap[number] = gap > f->seen.gap[number] ? gap : f->seen.gap[number];
	f->seen.last[number] = f->now;
}

static void drain(struct fixture *f)
{
	struct site_out o;
	while (site_pop(f->site, f->now, &o)) {
		if (o.datagram) {
			assert_in_range(o.beat.peer, 0, NUMBERS - 1);
			f->seen.beats[o.beat.peer]++;
			counts(f, o.beat.peer);
			continue;
		}
		assert_non_null(o.cluster);
		if (o.agree.kind == AGREE_OUT_SEND && o.number == HOSTVIEW_NONE)
			f->seen.unknown++;
		else if (o.agree.kind == AGREE_OUT_SEND) {
			f->seen.messages[o.number]++;
			counts(f, o.number);
		}
		agree_msg_clear(&o.agree.msg);
	}
}

// Everybody but `silent` is heard four times a second.
static void run(struct fixture *f, uint64_t ms, uint32_t silent)
{
	for (uint64_t end = f->now + ms; f->now < end; f->now += 10) {
		for (uint32_t i = 1; i < NUMBERS && f->now % 250 == 0; i++)
			if (i != silent)
				site_heard(f->site, f->now, i, DETECT_OUT_BEAT, 0, false);
		if (site_next(f->site) <= f->now)
			site_tick(f->site, f->now);
		drain(f);
	}
}

static void test_one_heartbeat_for_two_clusters(void **state)
{
	struct fixture f;
	(void)state;
	create(&f);
	assert_ptr_equal(site_ctx(f.b), &names[1]);
	run(&f, 10000, 0);
	assert_int_equal(f.seen.beats[0], 0);
	for (unsigned i = 0; i < 3; i++) {
		static const uint32_t watched[] = {1, 2, 5}; // 2 is in both
		uint32_t number = watched[i];
		assert_in_range(f.seen.gap[number], 500, 1260); // a period and a tick
		assert_in_range(f.seen.beats[number], 0, 2); // status messages go more often as long as nobody confirms the view
		assert_true(f.seen.messages[number] > 10);
	}
	assert_int_equal(f.seen.beats[3] + f.seen.beats[4] + f.seen.messages[3] + f.seen.messages[4], 0);
	assert_int_equal(f.seen.unknown, 0);
	site_destroy(f.site);
}

static void facts(struct fixture *f, char *a, char *b, size_t len)
{
	agree_facts_text(site_agree(f->a), a, len);
	agree_facts_text(site_agree(f->b), b, len);
}

static void test_a_death_reaches_both(void **state)
{
	struct fixture f;
	char a[200], b[200];
	(void)state;
	create(&f);
	run(&f, 2000, 0);
	run(&f, 4000, 2);
	facts(&f, a, b, sizeof(a));
	assert_contains(a, "fail(2.1)");
	assert_contains(b, "fail(1.1)");
	run(&f, 1000, 0); // it answers again
	facts(&f, a, b, sizeof(a));
	assert_string_equal(a, "");
	assert_string_equal(b, "");
	site_destroy(f.site);
}

static void test_a_closed_connection_is_lost(void **state)
{
	struct fixture f;
	char a[200], b[200];
	(void)state;
	create(&f);
	run(&f, 1000, 0);
	site_closed(f.site, f.now, 5);
	drain(&f);
	facts(&f, a, b, sizeof(a));
	assert_string_equal(a, "");
	assert_contains(b, "lost(2.1)");
	site_destroy(f.site);
}

static void test_a_cluster_ends(void **state)
{
	struct fixture f;
	(void)state;
	create(&f);
	run(&f, 1000, 0);
	site_remove(f.site, f.b);
	run(&f, 1000, 0); // the next look
	f.seen = (struct seen){0};
	run(&f, 3000, 0);
	assert_int_equal(f.seen.beats[5] + f.seen.messages[5], 0);
	assert_true(f.seen.beats[2] + f.seen.messages[2] > 2); // cluster a has it still
	site_destroy(f.site);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_heartbeat_for_two_clusters),
		cmocka_unit_test(test_a_death_reaches_both),
		cmocka_unit_test(test_a_closed_connection_is_lost),
		cmocka_unit_test(test_a_cluster_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
