// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/state: rows survive a reopening, lists and lookups, free network numbers, a later schema is refused.
#include "tests/unit/test.h"

#include <stdio.h>
#include <sqlite3.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/state.h"

static char dir[64], path[96];

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/vcd-state-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/vcd.db", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	static const char *const suffixes[] = {"", "-wal", "-shm"};
	for (size_t i = 0; i < VC_ARRAY_LEN(suffixes); i++) {
		char name[128];
		snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
		unlink(name);
	}
	return rmdir(dir);
}

static struct state_cluster cluster(const char *id, uint32_t job, uint32_t restart, uint32_t vni, const char *phase)
{
	struct state_cluster c = {.slurm = "lab", .job = job, .restart = restart, .uid = 2001, .vni = vni, .phase = phase};
	snprintf(c.id, sizeof(c.id), "%s", id);
	return c;
}

static int check_cluster(const struct state_cluster *c, void *ctx)
{
	int *seen = ctx;
	uint64_t n = 0;
	assert_string_equal(c->slurm, "lab");
	assert_string_equal(c->phase, "ready");
	assert_string_equal(c->reason, "because");
	assert_int_equal(c->uid, 2001);
	assert_int_equal(vc_json_u64(c->plan, "n", 100, &n, NULL), 0);
	assert_int_equal(n, 42);
	assert_null(c->view);
	assert_true(c->created_ms > 0 && c->changed_ms >= c->created_ms);
	(*seen)++;
	return 0;
}

static void test_cluster(void **state)
{
	(void)state;
	struct state *s = state_open(path, NULL);
	assert_non_null(s);
	struct state_cluster c = cluster("aa", 7, 1, 4096, "planned");
	assert_int_equal(state_cluster_put(s, &c, NULL), 0);
	vc_autojson struct json_object *plan = vc_json_parse("{\"n\":42}", 8, NULL);
	c.plan = plan;
	c.phase = "ready";
	c.reason = "because";
	assert_int_equal(state_cluster_put(s, &c, NULL), 0);
	state_close(s);
	s = state_open(path, NULL); // as after a crash
	int seen = 0;
	assert_int_equal(state_cluster_get(s, "aa", check_cluster, &seen, NULL), 0);
	assert_int_equal(state_cluster_find(s, "lab", 7, 1, check_cluster, &seen, NULL), 0);
	assert_int_equal(state_cluster_list(s, true, 0, check_cluster, &seen, NULL), 0);
	assert_int_equal(seen, 3);
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(state_cluster_find(s, "lab", 7, 2, check_cluster, &seen, &err), -1);
	assert_int_equal(err.code, VC_ENOTFOUND);
	int64_t last = 0;
	assert_int_equal(state_cluster_last_restart(s, "lab", 7, &last, NULL), 0);
	assert_int_equal(last, 1);
	assert_int_equal(state_cluster_last_restart(s, "lab", 8, &last, NULL), 0);
	assert_int_equal(last, -1);
	struct state_cluster twin = cluster("bb", 7, 1, 0, "planned"); // the key is unique
	assert_int_equal(state_cluster_put(s, &twin, &err), -1);
	c.phase = "released"; // unless the other one is history
	assert_int_equal(state_cluster_put(s, &c, NULL), 0);
	assert_int_equal(state_cluster_put(s, &twin, NULL), 0);
	assert_int_equal(state_cluster_get(s, "aa", check_cluster, &seen, &err), -1);
	assert_int_equal(state_cluster_put(s, &c, &err), -1);
	assert_int_equal(state_cluster_remove(s, "bb", NULL), 0);
	assert_int_equal(state_cluster_find(s, "lab", 7, 1, check_cluster, &seen, &err), -1);
	state_close(s);
}

static void test_vni(void **state)
{
	(void)state;
	struct state *s = state_open(path, NULL);
	uint32_t vni = 0;
	assert_int_equal(state_vni_free(s, 100, 102, &vni, NULL), 0);
	assert_int_equal(vni, 100);
	static const struct {
		const char *id, *phase;
		uint32_t vni;
	} rows[] = {{"c1", "ready", 100}, {"c2", "ready", 102}, {"c3", "released", 101}};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct state_cluster c = cluster(rows[i].id, (uint32_t)(50 + i), 0, rows[i].vni, rows[i].phase);
		assert_int_equal(state_cluster_put(s, &c, NULL), 0);
	}
	assert_int_equal(state_vni_free(s, 100, 102, &vni, NULL), 0);
	assert_int_equal(vni, 101);
	struct state_cluster c = cluster("c4", 60, 0, 101, "ready");
	assert_int_equal(state_cluster_put(s, &c, NULL), 0);
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(state_vni_free(s, 100, 102, &vni, &err), -1);
	assert_int_equal(err.code, VC_EBUSY);
	state_close(s);
}

static int count_event(const struct state_event *e, void *ctx)
{
	char *log = ctx;
	strncat(log, e->what, 20);
	return 0;
}

static int count_share(const struct state_share *h, void *ctx)
{
	assert_string_equal(h->phase, "booted");
	assert_int_equal(h->job, 9);
	(*(int *)ctx)++;
	return 0;
}

static int count_item(const char *key, struct json_object *value, void *ctx)
{
	(void)value;
	strncat(ctx, key, 20);
	return 0;
}

static void test_others(void **state)
{
	(void)state;
	struct state *s = state_open(path, NULL);
	static const char *const whats[] = {"a", "b", "c"};
	for (size_t i = 0; i < VC_ARRAY_LEN(whats); i++) {
		struct state_event e = {.cluster = i == 1 ? NULL : "aa", .what = whats[i]};
		assert_int_equal(state_event_add(s, &e, NULL), 0);
	}
	char log[100] = "";
	assert_int_equal(state_event_list(s, "aa", 0, count_event, log, NULL), 0);
	assert_string_equal(log, "ac");
	assert_int_equal(state_event_list(s, NULL, 2, count_event, log, NULL), 0);
	assert_string_equal(log, "acbc");
	struct state_share h = {.cluster = "aa", .slurm = "lab", .job = 9, .phase = "booted"};
	int shares = 0;
	assert_int_equal(state_share_put(s, &h, NULL), 0);
	assert_int_equal(state_share_list(s, count_share, &shares, NULL), 0);
	assert_int_equal(state_share_get(s, "aa", count_share, &shares, NULL), 0);
	assert_int_equal(shares, 2);
	assert_int_equal(state_share_remove(s, "aa", NULL), 0);
	assert_int_equal(state_share_get(s, "aa", count_share, &shares, NULL), -1);
	vc_autojson struct json_object *value = vc_json_parse("{}", 2, NULL), *back = NULL;
	assert_int_equal(state_item_put(s, "image", "y", value, NULL), 0);
	assert_int_equal(state_item_put_lazily(s, "image", "x", value, NULL), 0);
	log[0] = '\0';
	assert_int_equal(state_item_list(s, "image", count_item, log, NULL), 0);
	assert_string_equal(log, "xy");
	assert_int_equal(state_item_get(s, "image", "x", &back, NULL), 0);
	assert_int_equal(state_item_remove(s, "image", "x", NULL), 0);
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(state_item_get(s, "image", "x", &back, &err), -1);
	assert_int_equal(err.code, VC_ENOTFOUND);
	state_close(s);
}

static void test_later_schema(void **state)
{
	(void)state;
	struct state *s = state_open(path, NULL);
	assert_true(state_version(s) >= 1);
	state_close(s);
	sqlite3 *db = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 1000", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	struct vc_error err = VC_ERROR_INIT;
	assert_null(state_open(path, &err));
	assert_contains(err.text, "version 1000");
	assert_null(state_open("/nonexistent/vcd.db", &err));
	assert_contains(err.text, "/nonexistent/vcd.db");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cluster),
		cmocka_unit_test(test_vni),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_later_schema),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
