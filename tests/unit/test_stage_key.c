// SPDX-License-Identifier: GPL-2.0-or-later
// Keys of stages, and which cached stage a build grows from.
#include "tests/unit/test.h"

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/stage_key.h"

#define DEBIAN "\"base\":{\"type\":\"debian\",\"suite\":\"bookworm\"}"
#define JSON(packages, rest) "{\"name\":\"x\"," DEBIAN ",\"packages\":[" packages "],\"commands\":[" rest "]}"

static struct recipe *recipe(const char *json)
{
	struct recipe *r = NULL;
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *obj = vc_json_parse(json, strlen(json), &err);
	assert_non_null(obj);
	if (recipe_from_json(obj, &r, &err) < 0)
		fail_msg("%s", err.text);
	return r;
}

static void keys(const char *json, const char *release, char ret[STAGES][DIGEST_HEX_LEN])
{
	recipe_auto struct recipe *r = recipe(json);
	assert_int_equal(stage_keys(r, release, ret, NULL), 0);
}

// a and b agree up to `same` stages, and in none behind them.
static void assert_branch(char a[STAGES][DIGEST_HEX_LEN], char b[STAGES][DIGEST_HEX_LEN], int same)
{
	for (int i = 0; i < STAGES; i++) {
		if (i < same)
			assert_string_equal(a[i], b[i]);
		else
			assert_string_not_equal(a[i], b[i]);
	}
}

static void test_keys_branch_where_recipes_differ(void **state)
{
	(void)state;
	char a[STAGES][DIGEST_HEX_LEN], b[STAGES][DIGEST_HEX_LEN];
	keys(JSON("\"mpich\",\"hpcc\"", "\"true\""), "r1", a);
	keys(JSON("\"hpcc\",\"mpich\"", "\"true\""), "r1", b);
	assert_branch(a, b, STAGES);
	keys(JSON("\"hpcc\",\"mpich\"", "\"false\""), "r1", b);
	assert_branch(a, b, STAGE_COMMANDS);
	keys(JSON("\"mpich\"", "\"true\""), "r1", b);
	assert_branch(a, b, STAGE_PACKAGES);
	keys(JSON("\"mpich\",\"hpcc\"", "\"true\""), "r2", b);
	assert_branch(a, b, STAGE_BASE);
	keys("{\"name\":\"x\"," DEBIAN ",\"packages\":[\"mpich\",\"hpcc\"],\"commands\":[\"true\"],"
	     "\"files\":[{\"path\":\"/a\",\"mode\":420,\"data\":\"\"}]}", "r1", b);
	assert_branch(a, b, STAGE_FILES);
}

static void test_a_base_image_counts_by_its_digest(void **state)
{
	(void)state;
	recipe_auto struct recipe *a =
		recipe("{\"name\":\"x\",\"base\":{\"type\":\"image\",\"name\":\"mpich\"},\"packages\":[],\"commands\":[]}");
	recipe_auto struct recipe *b =
		recipe("{\"name\":\"x\",\"base\":{\"type\":\"image\",\"name\":\"12/other\"},\"packages\":[],\"commands\":[]}");
	char x[DIGEST_HEX_LEN], y[DIGEST_HEX_LEN];
	memset(a->from_digest, 'a', 64);
	memset(b->from_digest, 'a', 64);
	assert_int_equal(recipe_key(a, NULL, x, NULL) | recipe_key(b, NULL, y, NULL), 0);
	assert_string_equal(x, y);
	memset(b->from_digest, 'b', 64);
	assert_int_equal(recipe_key(b, NULL, y, NULL), 0);
	assert_string_not_equal(x, y);
	assert_int_equal(recipe_check_from("../x", NULL), -1);
	assert_int_equal(recipe_check_from("/x", NULL), -1);
	assert_int_equal(recipe_check_from("12/", NULL), -1);
	assert_int_equal(recipe_check_from("12/a/b", NULL), -1);
	assert_int_equal(recipe_check_from("o.neil-x_y/mpich", NULL), 0);
	assert_int_equal(recipe_check_from("a b/mpich", NULL), -1);
}

struct cached {
	const char *json, *release;
	enum stage stage;
	double seconds;
	uint64_t size;
	int64_t created;
};

#define MAX 8
static struct stage_info infos[MAX];
static struct recipe *owners[MAX];

static size_t fill(const struct cached *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char all[STAGES][DIGEST_HEX_LEN];
		owners[i] = recipe(rows[i].json);
		struct stage_info *s = &infos[i];
		*s = (struct stage_info){.stage = rows[i].stage, .seconds = rows[i].seconds, .size = rows[i].size,
					 .created = rows[i].created};
		assert_int_equal(stage_keys(owners[i], rows[i].release, all, NULL), 0);
		assert_int_equal(stage_base_id(owners[i], s->base, NULL), 0);
		memcpy(s->key, all[s->stage], sizeof(s->key));
		snprintf(s->release, sizeof(s->release), "%s", rows[i].release);
		s->packages = s->stage >= STAGE_PACKAGES ? owners[i]->packages : NULL;
	}
	return n;
}

static void clear(size_t n)
{
	for (size_t i = 0; i < n; i++)
		recipe_destroy(owners[i]);
}

static int chosen(const char *json, size_t n)
{
	recipe_auto struct recipe *r = recipe(json);
	const char *release = stage_newest_release(r, infos, n);
	const struct stage_info *s = release ? stage_choose(r, release, infos, n) : NULL;
	return s ? (int)(s - infos) : -1;
}

static const struct cached rows[] = {
	{JSON("", ""), "r1", STAGE_BASE, 14, 500, 1},
	{JSON("\"mpich\"", ""), "r1", STAGE_PACKAGES, 20, 600, 2},
	{JSON("\"hpcc\",\"gcc\"", ""), "r1", STAGE_PACKAGES, 60, 900, 3},
	{JSON("\"mpich\",\"hpcc\"", "\"make it\""), "r1", STAGE_COMMANDS, 100, 700, 4},
	{JSON("\"mpich\",\"hpcc\"", ""), "r0", STAGE_PACKAGES, 70, 700, 5},
};
#define N VC_ARRAY_LEN(rows)

static void test_the_costliest_subset(void **state)
{
	(void)state;
	size_t n = fill(rows, N);
	assert_int_equal(chosen(JSON("\"vim\"", ""), n), 0);
	assert_int_equal(chosen(JSON("", ""), n), 0);
	assert_int_equal(chosen(JSON("\"vim\",\"mpich\"", ""), n), 1);
	assert_int_equal(chosen(JSON("\"gcc\",\"mpich\",\"hpcc\"", ""), n), 2); // more seconds than mpich
	// Row 3 has more packages but ran commands as well, row 4 is of another date.
	assert_int_equal(chosen(JSON("\"mpich\",\"hpcc\"", ""), n), 1);
	assert_int_equal(chosen(JSON("\"mpich\",\"hpcc\"", "\"make it\""), n), 3);
	assert_int_equal(chosen(JSON("\"mpich=1\"", ""), n), 0); // another version may be wanted
	assert_int_equal(chosen("{\"name\":\"x\",\"base\":{\"type\":\"debian\",\"suite\":\"trixie\"},\"packages\":[],\"commands\":[]}", n),
			 -1);
	clear(n);
}

static void test_a_file_system_does_not_shrink(void **state)
{
	(void)state;
	struct cached two[] = {rows[0], rows[1]};
	two[0].size = 20 << 20;
	two[1].size = 40 << 20;
	size_t n = fill(two, 2);
	assert_int_equal(chosen("{\"name\":\"x\"," DEBIAN ",\"packages\":[\"mpich\"],\"commands\":[],\"size\":33554432}", n), 0);
	assert_int_equal(chosen("{\"name\":\"x\"," DEBIAN ",\"packages\":[\"mpich\"],\"commands\":[],\"size\":16777216}", n), -1);
	clear(n);
}

static void test_release_is_that_of_the_newest_base(void **state)
{
	(void)state;
	struct cached three[] = {rows[4], rows[0], rows[1]};
	size_t n = fill(three, 3);
	recipe_auto struct recipe *r = recipe(JSON("", ""));
	assert_string_equal(stage_newest_release(r, infos, n), "r1");
	assert_string_equal(stage_newest_release(r, infos, 1), "r0"); // the base has gone from the cache
	assert_null(stage_newest_release(r, infos, 0));
	clear(n);
}

static void test_worth_is_what_the_others_do_not_give(void **state)
{
	(void)state;
	size_t n = fill(rows, N);
	assert_true(stage_worth(&infos[0], infos, n) == 14);
	assert_true(stage_worth(&infos[1], infos, n) == 20 - 14);
	assert_true(stage_worth(&infos[3], infos, n) == 100 - 20);
	assert_true(stage_worth(&infos[4], infos, n) == 70); // nothing else of its date
	clear(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_branch_where_recipes_differ),
		cmocka_unit_test(test_a_base_image_counts_by_its_digest),
		cmocka_unit_test(test_the_costliest_subset),
		cmocka_unit_test(test_a_file_system_does_not_shrink),
		cmocka_unit_test(test_release_is_that_of_the_newest_base),
		cmocka_unit_test(test_worth_is_what_the_others_do_not_give),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
