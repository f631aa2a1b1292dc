// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/state under a failing C library: each call of each kind fails once, in each operation; the database then holds the
// row before or the row after, whole, and passes SQLite's own check; the same operation then succeeds.
#include "tests/unit/test.h"

#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "tests/unit/libcfault.h"
#include "vcd/state.h"

struct env {
	char dir[64], path[96];
	struct state *s;
	struct json_object *old, *new;
};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

// --- the operations: each brings its row from the old object to the new one, or away ---

static int put_cluster(struct state *s, struct json_object *obj, struct vc_error *err)
{
	struct state_cluster c = {.id = "aa", .slurm = "lab", .job = 7, .uid = 2001, .vni = 4096, .phase = "ready", .reason = "x",
				  .spec = obj, .plan = obj, .view = obj, .extra = obj};
	return state_cluster_put(s, &c, err);
}

static int put_share(struct state *s, struct json_object *obj, struct vc_error *err)
{
	struct state_share h = {.cluster = "aa", .slurm = "lab", .job = 7, .phase = "up", .plan = obj, .extra = obj};
	return state_share_put(s, &h, err);
}

static int put_item(struct state *s, struct json_object *obj, struct vc_error *err)
{
	return state_item_put(s, "kind", "key", obj, err);
}

static int op_cluster(struct env *e, struct vc_error *err)
{
	return put_cluster(e->s, e->new, err);
}

static int op_share(struct env *e, struct vc_error *err)
{
	return put_share(e->s, e->new, err);
}

static int op_item(struct env *e, struct vc_error *err)
{
	return put_item(e->s, e->new, err);
}

static int op_remove(struct env *e, struct vc_error *err)
{
	return state_share_remove(e->s, "aa", err);
}

static int op_event(struct env *e, struct vc_error *err)
{
	struct state_event event = {.cluster = "aa", .what = "phase", .data = e->new};
	return state_event_add(e->s, &event, err);
}

static int op_reopen(struct env *e, struct vc_error *err)
{
	state_close(e->s);
	e->s = state_open(e->path, err);
	return e->s ? 0 : -1;
}

static int op_create(struct env *e, struct vc_error *err)
{
	state_close(e->s);
	e->s = NULL;
	unlink(e->path);
	e->s = state_open(e->path, err);
	return e->s ? 0 : -1;
}

static int ignore_cluster(const struct state_cluster *c, void *ctx)
{
	(void)c, (void)ctx;
	return 0;
}

static int op_list(struct env *e, struct vc_error *err)
{
	uint32_t vni;
	if (state_vni_free(e->s, 4096, 5000, &vni, err) < 0)
		return -1;
	assert_int_equal(vni, 4097); // never one that is in use
	return state_cluster_list(e->s, false, 0, ignore_cluster, NULL, err);
}

struct op {
	const char *name;
	int (*run)(struct env *e, struct vc_error *err);
	bool cluster, share, item; // rows that it changes
};
static const struct op ops[] = {
	{"cluster", op_cluster, true, false, false}, {"share", op_share, false, true, false},
	{"item", op_item, false, false, true},	     {"remove", op_remove, false, true, false},
	{"event", op_event, false, false, false},    {"reopen", op_reopen, false, false, false},
	{"list", op_list, false, false, false},
};

// --- what must hold ---

struct expect {
	struct env *e;
	bool may_change;
	int seen;
};

static void check_object(const struct expect *x, struct json_object *obj)
{
	assert_non_null(obj);
	assert_true(json_object_equal(obj, x->e->old) || (x->may_change && json_object_equal(obj, x->e->new)));
}

static int check_cluster(const struct state_cluster *c, void *ctx)
{
	struct expect *x = ctx;
	assert_string_equal(c->phase, "ready");
	assert_string_equal(c->reason, "x");
	check_object(x, c->spec);
	check_object(x, c->plan);
	check_object(x, c->view);
	check_object(x, c->extra);
	x->seen++;
	return 0;
}

static int check_share(const struct state_share *h, void *ctx)
{
	struct expect *x = ctx;
	assert_string_equal(h->phase, "up");
	check_object(x, h->plan);
	check_object(x, h->extra);
	x->seen++;
	return 0;
}

static int check_event(const struct state_event *event, void *ctx)
{
	struct env *e = ctx;
	assert_string_equal(event->what, "phase");
	assert_string_equal(event->cluster, "aa");
	assert_true(event->data && json_object_equal(event->data, e->new));
	return 0;
}

static void check_rows(struct env *e, const struct op *op)
{
	struct expect c = {e, op->cluster, 0}, h = {e, op->share, 0}, i = {e, op->item, 0};
	vc_autojson struct json_object *item = NULL;
	assert_int_equal(state_cluster_get(e->s, "aa", check_cluster, &c, NULL), 0);
	assert_int_equal(c.seen, 1);
	assert_int_equal(state_share_list(e->s, check_share, &h, NULL), 0);
	assert_int_equal(h.seen, op->run == op_remove ? h.seen : 1);
	assert_int_equal(state_item_get(e->s, "kind", "key", &item, NULL), 0);
	check_object(&i, item);
	assert_int_equal(state_event_list(e->s, NULL, 0, check_event, e, NULL), 0);
}

static int is_ok(void *ctx, int n, char **values, char **names)
{
	(void)names;
	*(bool *)ctx = n == 1 && strcmp(values[0], "ok") == 0;
	return 0;
}

static void check_file(struct env *e)
{
	sqlite3 *db = NULL;
	bool ok = false;
	assert_int_equal(sqlite3_open(e->path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA integrity_check", is_ok, &ok, NULL), SQLITE_OK);
	assert_true(ok);
	sqlite3_close(db);
}

static void reopen(struct env *e)
{
	struct vc_error err = VC_ERROR_INIT;
	if (op_reopen(e, &err) < 0)
		fail_msg("open again: %s", err.text);
}

static void fresh(struct env *e)
{
	static const char text[] = "{\"n\":2,\"list\":[4,5,6],\"s\":\"new, and longer than the first buffer of json-c, which grows while the text is made\"}";
	struct vc_error err = VC_ERROR_INIT;
	json_object_put(e->new); // an own one each time: json-c keeps an object's text once it was made
	e->new = vc_json_parse(text, strlen(text), NULL);
	if (op_create(e, &err) < 0 || put_cluster(e->s, e->old, &err) < 0 || put_share(e->s, e->old, &err) < 0 ||
	    put_item(e->s, e->old, &err) < 0)
		fail_msg("%s", err.text);
}

// Every second time the disk or the memory stays full.
static bool try_one(void *env, const void *of, enum libcfault kind, unsigned n)
{
	struct env *e = env;
	const struct op *op = of;
	struct vc_error err = VC_ERROR_INIT;
	fresh(e);
	libcfault_arm(kind, n, n % 2);
	int rc = op->run(e, &err);
	bool hit = libcfault_disarm();
	if (rc < 0 && (!hit || !err.code || !err.text[0]))
		fail_msg("%s: code %d '%s'", op->name, err.code, err.text);
	if (!e->s)
		reopen(e);
	check_rows(e, op); // in the process that saw the failure
	reopen(e);
	check_file(e);
	check_rows(e, op); // and in the next one
	if (op->run(e, &err) < 0)
		fail_msg("%s again: %s", op->name, err.text);
	return hit;
}

// A new database: made whole, or made whole by the next start.
static bool try_create(void *env, const void *op, enum libcfault kind, unsigned n)
{
	struct env *e = env;
	struct vc_error err = VC_ERROR_INIT;
	(void)op;
	state_close(e->s);
	e->s = NULL;
	libcfault_arm(kind, n, n % 2);
	int rc = op_create(e, &err);
	bool hit = libcfault_disarm();
	assert_true(rc == 0 || hit);
	reopen(e);
	check_file(e);
	assert_int_equal(put_item(e->s, e->old, NULL), 0);
	return hit;
}

static void try_all(void *env, enum libcfault kind)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(ops); i++)
		libcfault_each(ops[i].name, kind, try_one, env, &ops[i]);
	libcfault_each("create", kind, try_create, env, NULL);
}

static int setup(void **state)
{
	static const char old[] = "{\"n\":1,\"list\":[1,2,3],\"s\":\"old\"}";
	static struct env e;
	e = (struct env){.old = vc_json_parse(old, strlen(old), NULL)};
	snprintf(e.dir, sizeof(e.dir), "%s/vc-test-state-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(e.dir) || !e.old)
		return -1;
	snprintf(e.path, sizeof(e.path), "%s/vcd.db", e.dir);
	*state = &e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;
	state_close(e->s);
	json_object_put(e->old);
	json_object_put(e->new);
	return nftw(e->dir, remove_entry, 4, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	return libcfault_run(try_all, setup, teardown);
}
