// SPDX-License-Identifier: GPL-2.0-or-later
// The database: see state.h. Owns the connection and a cache of prepared statements, one per SQL text.
#include "vcd/state.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"

#define BUSY_MS 2000	 // for a backup that reads at the same time
#define STATEMENTS_MAX 32 // texts in this file
#define CACHE_SIZE "-512" // KiB of pages; a history that nobody reads need not fill SQLite's own 2 MiB
#define EVENTS_SLACK 1000 // rows past STATE_EVENTS_MAX before the oldest are cut: not one delete per insert

// Forward only: a row here is never changed, a new one is added. The version is the number of rows applied.
static const char *const migrations[] = {
	"CREATE TABLE clusters (id TEXT PRIMARY KEY, slurm TEXT NOT NULL, job INTEGER NOT NULL, restart INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, vni INTEGER NOT NULL, phase TEXT NOT NULL, reason TEXT, spec TEXT, plan TEXT, view TEXT,"
	" extra TEXT, created INTEGER NOT NULL, changed INTEGER NOT NULL);"
	"CREATE UNIQUE INDEX clusters_key ON clusters (slurm, job, restart);"
	"CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, cluster TEXT, host TEXT,"
	" what TEXT NOT NULL, data TEXT);"
	"CREATE INDEX events_cluster ON events (cluster, id);"
	"CREATE TABLE shares (cluster TEXT PRIMARY KEY, slurm TEXT NOT NULL, job INTEGER NOT NULL, restart INTEGER NOT NULL,"
	" phase TEXT NOT NULL, plan TEXT, extra TEXT);"
	"CREATE TABLE items (kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (kind, key));",
};
#define SCHEMA_VERSION ((int)VC_ARRAY_LEN(migrations))

struct state {
	sqlite3 *db;
	struct {
		const char *sql; // compared by address: texts are literals
		sqlite3_stmt *stmt;
	} cache[STATEMENTS_MAX];
};

static int db_error(struct state *s, const char *what, struct vc_error *err)
{
	return vc_error_set(err, VC_EHOST, "state database: %s: %s", what, sqlite3_errmsg(s->db));
}

static int64_t wall_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

// --- opening ---

static int exec(struct state *s, const char *sql, struct vc_error *err)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : db_error(s, "executing", err);
}

static int read_version(struct state *s, int *ret, struct vc_error *err)
{
	sqlite3_stmt *stmt = NULL;
	if (sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &stmt, NULL) != SQLITE_OK)
		return db_error(s, "reading its version", err);
	int rc = sqlite3_step(stmt) == SQLITE_ROW ? 0 : db_error(s, "reading its version", err);
	if (rc == 0)
		*ret = sqlite3_column_int(stmt, 0);
	sqlite3_finalize(stmt);
	return rc;
}

static int migrate_one(struct state *s, int version, struct vc_error *err)
{
	char pragma[64];
	snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %d", version + 1);
	if (exec(s, "BEGIN EXCLUSIVE", err) < 0)
		return -1;
	if (exec(s, migrations[version], err) == 0 && exec(s, pragma, err) == 0 && exec(s, "COMMIT", err) == 0)
		return 0;
	exec(s, "ROLLBACK", NULL);
	return vc_error_wrap(err, "migrating to version %d", version + 1);
}

static int migrate(struct state *s, struct vc_error *err)
{
	int version = 0;
	if (read_version(s, &version, err) < 0)
		return -1;
	if (version > SCHEMA_VERSION)
		return vc_error_set(err, VC_EHOST, "it has version %d, this vcd knows up to %d: run the newer vcd again, or"
				    " restore a backup", version, SCHEMA_VERSION);
	for (; version < SCHEMA_VERSION; version++) {
		if (migrate_one(s, version, err) < 0)
			return -1;
	}
	return 0;
}

struct state *state_open(const char *path, struct vc_error *err)
{
	struct state *s = calloc(1, sizeof(*s));
	if (!s) {
		vc_error_errno(err, "state database");
		return NULL;
	}
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
	if (sqlite3_open_v2(path, &s->db, flags, NULL) != SQLITE_OK) {
		db_error(s, "opening", err);
	} else {
		sqlite3_busy_timeout(s->db, BUSY_MS);
		if (exec(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = " CACHE_SIZE, err) == 0 &&
		    migrate(s, err) == 0)
			return s;
	}
	vc_error_wrap(err, "%s", path);
	state_close(s);
	return NULL;
}

void state_close(struct state *s)
{
	if (!s)
		return;
	int saved = errno;
	for (size_t i = 0; i < STATEMENTS_MAX; i++)
		sqlite3_finalize(s->cache[i].stmt);
	sqlite3_close(s->db);
	free(s);
	errno = saved;
}

int state_version(struct state *s)
{
	int version = 0;
	return read_version(s, &version, NULL) < 0 ? -1 : version;
}

// --- statements ---

static sqlite3_stmt *statement(struct state *s, const char *sql, struct vc_error *err)
{
	size_t i = 0;
	while (i < STATEMENTS_MAX - 1 && s->cache[i].sql && s->cache[i].sql != sql)
		i++;
	if (s->cache[i].sql != sql) {
		sqlite3_finalize(s->cache[i].stmt); // the last slot is reused when all are taken
		s->cache[i].stmt = NULL;
		s->cache[i].sql = NULL;
		if (sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &s->cache[i].stmt, NULL) != SQLITE_OK) {
			db_error(s, sql, err);
			return NULL;
		}
		s->cache[i].sql = sql;
	}
	return s->cache[i].stmt;
}

// Binds one value per character of types: i (int64_t), s (text or NULL), j (json or NULL), then goes on. An object whose
// text cannot be made is an error: it must not be stored as NULL.
static int bind(sqlite3_stmt *stmt, const char *types, va_list ap)
{
	int rc = SQLITE_OK;
	for (int i = 1; *types && rc == SQLITE_OK; types++, i++) {
		if (*types == 'i') {
			rc = sqlite3_bind_int64(stmt, i, va_arg(ap, int64_t));
			continue;
		}
		const char *text = NULL;
		if (*types == 'j') {
			struct json_object *obj = va_arg(ap, struct json_object *);
			text = obj ? vc_json_text(obj, NULL) : NULL;
			if (obj && !text)
				return -1;
		} else {
			text = va_arg(ap, const char *);
		}
		rc = sqlite3_bind_text(stmt, i, text, -1, SQLITE_TRANSIENT);
	}
	return rc == SQLITE_OK ? 0 : -1;
}

static void release(sqlite3_stmt **stmt)
{
	if (!*stmt)
		return;
	sqlite3_reset(*stmt);
	sqlite3_clear_bindings(*stmt);
}
#define auto_stmt __attribute__((cleanup(release))) sqlite3_stmt

static sqlite3_stmt *query(struct state *s, struct vc_error *err, const char *sql, const char *types, ...)
{
	sqlite3_stmt *stmt = statement(s, sql, err);
	if (!stmt)
		return NULL;
	va_list ap;
	va_start(ap, types);
	int rc = bind(stmt, types, ap);
	va_end(ap);
	if (rc == 0)
		return stmt;
	vc_error_set(err, ENOMEM, "state database: binding: out of memory");
	release(&stmt);
	return NULL;
}

// A statement without rows.
static int finish(struct state *s, sqlite3_stmt *stmt, const char *what, struct vc_error *err)
{
	auto_stmt *st = stmt;
	if (!st)
		return -1;
	return sqlite3_step(st) == SQLITE_DONE ? 0 : db_error(s, what, err);
}

// *ret is NULL for NULL. SQLite says NULL as well when it has no memory: that is an error.
static int column_text(sqlite3_stmt *stmt, int column, const char **ret, struct vc_error *err)
{
	bool null = sqlite3_column_type(stmt, column) == SQLITE_NULL;
	*ret = (const char *)sqlite3_column_text(stmt, column);
	return *ret || null ? 0 : vc_error_set(err, ENOMEM, "state database: reading: out of memory");
}

static int copy_text(sqlite3_stmt *stmt, int column, char *ret, size_t len, struct vc_error *err)
{
	const char *text = NULL;
	if (column_text(stmt, column, &text, err) < 0)
		return -1;
	snprintf(ret, len, "%s", text ? text : "");
	return 0;
}

static int column_json(sqlite3_stmt *stmt, int column, struct json_object **ret, struct vc_error *err)
{
	const char *text = NULL;
	*ret = NULL;
	if (column_text(stmt, column, &text, err) < 0)
		return -1;
	if (!text)
		return 0;
	*ret = vc_json_parse(text, (size_t)sqlite3_column_bytes(stmt, column), err);
	return *ret ? 0 : vc_error_wrap(err, "state database");
}

// Runs each over the rows of stmt; *ret_rows may be NULL.
typedef int (*row_fn)(sqlite3_stmt *stmt, void *ctx, struct vc_error *err);
static int each_row(struct state *s, sqlite3_stmt *stmt, row_fn each, void *ctx, unsigned *ret_rows, struct vc_error *err)
{
	auto_stmt *st = stmt;
	unsigned rows = 0;
	int rc = st ? 0 : -1;
	while (rc == 0) {
		int step = sqlite3_step(st);
		if (step == SQLITE_DONE)
			break;
		if (step != SQLITE_ROW)
			return db_error(s, "reading", err);
		rows++;
		rc = each(st, ctx, err);
	}
	if (ret_rows)
		*ret_rows = rows;
	return rc;
}

// --- clusters ---

#define CLUSTER_COLUMNS "id, slurm, job, restart, uid, vni, phase, reason, spec, plan, view, extra, created, changed"

int state_cluster_put(struct state *s, const struct state_cluster *c, struct vc_error *err)
{
	int64_t now = wall_ms();
	// a released one of the same key is history: Slurm counts job ids anew when its own state is lost
	sqlite3_stmt *old = query(s, err, "DELETE FROM clusters WHERE slurm = ? AND job = ? AND restart = ? AND id <> ? AND phase = 'released'",
				  "siis", c->slurm, (int64_t)c->job, (int64_t)c->restart, c->id);
	if (finish(s, old, "storing a cluster", err) < 0)
		return -1;
	sqlite3_stmt *stmt = query(
		s, err,
		"INSERT INTO clusters (" CLUSTER_COLUMNS ") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET"
		" slurm=excluded.slurm, job=excluded.job, restart=excluded.restart, uid=excluded.uid, vni=excluded.vni,"
		" phase=excluded.phase, reason=excluded.reason, spec=excluded.spec, plan=excluded.plan, view=excluded.view,"
		" extra=excluded.extra, changed=excluded.changed",
		"ssiiiissjjjjii", c->id, c->slurm, (int64_t)c->job, (int64_t)c->restart, (int64_t)c->uid, (int64_t)c->vni,
		c->phase, c->reason, c->spec, c->plan, c->view, c->extra, c->created_ms ? c->created_ms : now, now);
	return finish(s, stmt, "storing a cluster", err);
}

struct cluster_each {
	state_cluster_fn fn;
	void *ctx;
};

static int cluster_row(sqlite3_stmt *st, void *ctx, struct vc_error *err)
{
	const struct cluster_each *each = ctx;
	struct state_cluster c = {.job = 0};
	vc_autojson struct json_object *spec = NULL, *plan = NULL, *view = NULL, *extra = NULL;
	if (column_json(st, 8, &spec, err) < 0 || column_json(st, 9, &plan, err) < 0 || column_json(st, 10, &view, err) < 0 ||
	    column_json(st, 11, &extra, err) < 0 || column_text(st, 6, &c.phase, err) < 0 ||
	    column_text(st, 7, &c.reason, err) < 0 || copy_text(st, 0, c.id, sizeof(c.id), err) < 0 ||
	    copy_text(st, 1, c.slurm, sizeof(c.slurm), err) < 0)
		return -1;
	c.job = (uint32_t)sqlite3_column_int64(st, 2);
	c.restart = (uint32_t)sqlite3_column_int64(st, 3);
	c.uid = (uid_t)sqlite3_column_int64(st, 4);
	c.vni = (uint32_t)sqlite3_column_int64(st, 5);
	c.spec = spec;
	c.plan = plan;
	c.view = view;
	c.extra = extra;
	c.created_ms = sqlite3_column_int64(st, 12);
	c.changed_ms = sqlite3_column_int64(st, 13);
	return each->fn(&c, each->ctx);
}

static int one_cluster(struct state *s, sqlite3_stmt *stmt, state_cluster_fn fn, void *ctx, struct vc_error *err)
{
	struct cluster_each each = {fn, ctx};
	unsigned rows = 0;
	int rc = each_row(s, stmt, cluster_row, &each, &rows, err);
	return rc == 0 && rows == 0 ? vc_error_set(err, VC_ENOTFOUND, "no such cluster") : rc;
}

int state_cluster_get(struct state *s, const char *id, state_cluster_fn fn, void *ctx, struct vc_error *err)
{
	return one_cluster(s, query(s, err, "SELECT " CLUSTER_COLUMNS " FROM clusters WHERE id = ?", "s", id), fn, ctx, err);
}

int state_cluster_find(struct state *s, const char *slurm, uint32_t job, uint32_t restart, state_cluster_fn fn,
		       void *ctx, struct vc_error *err)
{
	sqlite3_stmt *stmt = query(s, err,
				   "SELECT " CLUSTER_COLUMNS " FROM clusters WHERE slurm = ? AND job = ? AND restart = ?", "sii",
				   slurm, (int64_t)job, (int64_t)restart);
	return one_cluster(s, stmt, fn, ctx, err);
}

static int number_row(sqlite3_stmt *st, void *ctx, struct vc_error *err)
{
	(void)err;
	*(int64_t *)ctx = sqlite3_column_type(st, 0) == SQLITE_NULL ? -1 : sqlite3_column_int64(st, 0);
	return 0;
}

int state_cluster_last_restart(struct state *s, const char *slurm, uint32_t job, int64_t *ret, struct vc_error *err)
{
	int64_t last = -1;
	sqlite3_stmt *stmt = query(s, err, "SELECT MAX(restart) FROM clusters WHERE slurm = ? AND job = ?", "si", slurm,
				   (int64_t)job);
	if (each_row(s, stmt, number_row, &last, NULL, err) < 0)
		return -1;
	*ret = last;
	return 0;
}

int state_cluster_list(struct state *s, bool live, unsigned limit, state_cluster_fn fn, void *ctx, struct vc_error *err)
{
	struct cluster_each each = {fn, ctx};
	sqlite3_stmt *stmt = query(s, err,
				   "SELECT " CLUSTER_COLUMNS " FROM clusters WHERE NOT ? OR phase <> 'released'"
				   " ORDER BY created DESC, id LIMIT ?", "ii", (int64_t)live, limit ? (int64_t)limit : (int64_t)-1);
	return each_row(s, stmt, cluster_row, &each, NULL, err);
}

int state_cluster_remove(struct state *s, const char *id, struct vc_error *err)
{
	return finish(s, query(s, err, "DELETE FROM clusters WHERE id = ?", "s", id), "removing a cluster", err);
}

int state_vni_free(struct state *s, uint32_t min, uint32_t max, uint32_t *ret, struct vc_error *err)
{
	// the first gap: min itself, or one past a VNI in use
	int64_t vni = -1;
	sqlite3_stmt *stmt = query(
		s, err,
		"SELECT MIN(v) FROM (SELECT ?1 AS v UNION SELECT vni + 1 FROM clusters WHERE phase <> 'released' AND vni >= ?1)"
		" WHERE v NOT IN (SELECT vni FROM clusters WHERE phase <> 'released')", "i", (int64_t)min);
	if (each_row(s, stmt, number_row, &vni, NULL, err) < 0)
		return -1;
	if (vni < 0 || vni > max)
		return vc_error_set(err, VC_EBUSY, "all network numbers from %u to %u are in use (vni-range)", min, max);
	*ret = (uint32_t)vni;
	return 0;
}

// --- events ---

int state_event_add(struct state *s, const struct state_event *e, struct vc_error *err)
{
	sqlite3_stmt *stmt = query(s, err, "INSERT INTO events (time, cluster, host, what, data) VALUES (?,?,?,?,?)", "isssj",
				   e->time_ms ? e->time_ms : wall_ms(), e->cluster, e->host, e->what, e->data);
	if (finish(s, stmt, "storing an event", err) < 0)
		return -1;
	int64_t id = sqlite3_last_insert_rowid(s->db);
	if (id % EVENTS_SLACK != 0)
		return 0;
	return finish(s, query(s, err, "DELETE FROM events WHERE id <= ?", "i", id - STATE_EVENTS_MAX), "cutting events", err);
}

struct event_each {
	state_event_fn fn;
	void *ctx;
};

static int event_row(sqlite3_stmt *st, void *ctx, struct vc_error *err)
{
	const struct event_each *each = ctx;
	vc_autojson struct json_object *data = NULL;
	struct state_event e = {.id = sqlite3_column_int64(st, 0), .time_ms = sqlite3_column_int64(st, 1)};
	if (column_json(st, 5, &data, err) < 0 || column_text(st, 2, &e.cluster, err) < 0 ||
	    column_text(st, 3, &e.host, err) < 0 || column_text(st, 4, &e.what, err) < 0)
		return -1;
	e.data = data;
	return each->fn(&e, each->ctx);
}

int state_event_list(struct state *s, const char *cluster, unsigned limit, state_event_fn fn, void *ctx,
		     struct vc_error *err)
{
	struct event_each each = {fn, ctx};
	sqlite3_stmt *stmt = query(s, err,
				   "SELECT id, time, cluster, host, what, data FROM (SELECT * FROM events WHERE ?1 IS NULL OR"
				   " cluster = ?1 ORDER BY id DESC LIMIT ?2) ORDER BY id", "si", cluster,
				   limit ? (int64_t)limit : (int64_t)-1);
	return each_row(s, stmt, event_row, &each, NULL, err);
}

// --- shares ---

#define SHARE_COLUMNS "cluster, slurm, job, restart, phase, plan, extra"

int state_share_put(struct state *s, const struct state_share *h, struct vc_error *err)
{
	sqlite3_stmt *stmt = query(s, err, "INSERT OR REPLACE INTO shares (" SHARE_COLUMNS ") VALUES (?,?,?,?,?,?,?)", "ssiisjj",
				   h->cluster, h->slurm, (int64_t)h->job, (int64_t)h->restart, h->phase, h->plan, h->extra);
	return finish(s, stmt, "storing a share", err);
}

struct share_each {
	state_share_fn fn;
	void *ctx;
};

static int share_row(sqlite3_stmt *st, void *ctx, struct vc_error *err)
{
	const struct share_each *each = ctx;
	vc_autojson struct json_object *plan = NULL, *extra = NULL;
	struct state_share h = {.job = (uint32_t)sqlite3_column_int64(st, 2), .restart = (uint32_t)sqlite3_column_int64(st, 3)};
	if (column_json(st, 5, &plan, err) < 0 || column_json(st, 6, &extra, err) < 0 ||
	    column_text(st, 4, &h.phase, err) < 0 || copy_text(st, 0, h.cluster, sizeof(h.cluster), err) < 0 ||
	    copy_text(st, 1, h.slurm, sizeof(h.slurm), err) < 0)
		return -1;
	h.plan = plan;
	h.extra = extra;
	return each->fn(&h, each->ctx);
}

int state_share_get(struct state *s, const char *cluster, state_share_fn fn, void *ctx, struct vc_error *err)
{
	struct share_each each = {fn, ctx};
	unsigned rows = 0;
	sqlite3_stmt *stmt = query(s, err, "SELECT " SHARE_COLUMNS " FROM shares WHERE cluster = ?", "s", cluster);
	int rc = each_row(s, stmt, share_row, &each, &rows, err);
	return rc == 0 && rows == 0 ? vc_error_set(err, VC_ENOTFOUND, "no share of cluster %s here", cluster) : rc;
}

int state_share_list(struct state *s, state_share_fn fn, void *ctx, struct vc_error *err)
{
	struct share_each each = {fn, ctx};
	sqlite3_stmt *stmt = query(s, err, "SELECT " SHARE_COLUMNS " FROM shares ORDER BY job, restart", "");
	return each_row(s, stmt, share_row, &each, NULL, err);
}

int state_share_remove(struct state *s, const char *cluster, struct vc_error *err)
{
	return finish(s, query(s, err, "DELETE FROM shares WHERE cluster = ?", "s", cluster), "removing a share", err);
}

// --- items ---

int state_item_put(struct state *s, const char *kind, const char *key, struct json_object *value, struct vc_error *err)
{
	sqlite3_stmt *stmt = query(s, err, "INSERT OR REPLACE INTO items (kind, key, value) VALUES (?,?,?)", "ssj", kind, key,
				   value);
	return finish(s, stmt, "storing an item", err);
}

int state_item_put_lazily(struct state *s, const char *kind, const char *key, struct json_object *value, struct vc_error *err)
{
	if (exec(s, "PRAGMA synchronous = NORMAL", err) < 0) // a commit does not wait for the disk; the next full one does, for both
		return -1;
	int rc = state_item_put(s, kind, key, value, err);
	return exec(s, "PRAGMA synchronous = FULL", rc < 0 ? NULL : err) < 0 ? -1 : rc;
}

static int item_row(sqlite3_stmt *st, void *ctx, struct vc_error *err)
{
	return column_json(st, 0, ctx, err);
}

int state_item_get(struct state *s, const char *kind, const char *key, struct json_object **ret, struct vc_error *err)
{
	struct json_object *value = NULL;
	sqlite3_stmt *stmt = query(s, err, "SELECT value FROM items WHERE kind = ? AND key = ?", "ss", kind, key);
	if (each_row(s, stmt, item_row, &value, NULL, err) < 0)
		return -1;
	if (!value)
		return vc_error_set(err, VC_ENOTFOUND, "no %s '%s'", kind, key);
	*ret = value;
	return 0;
}

struct item_each {
	state_item_fn fn;
	void *ctx;
};

static int item_list_row(sqlite3_stmt *st, void *ctx, struct vc_error *err)
{
	const struct item_each *each = ctx;
	vc_autojson struct json_object *value = NULL;
	const char *key = NULL;
	if (column_json(st, 1, &value, err) < 0 || column_text(st, 0, &key, err) < 0)
		return -1;
	return each->fn(key, value, each->ctx);
}

int state_item_list(struct state *s, const char *kind, state_item_fn fn, void *ctx, struct vc_error *err)
{
	struct item_each each = {fn, ctx};
	sqlite3_stmt *stmt = query(s, err, "SELECT key, value FROM items WHERE kind = ? ORDER BY key", "s", kind);
	return each_row(s, stmt, item_list_row, &each, NULL, err);
}

int state_item_remove(struct state *s, const char *kind, const char *key, struct vc_error *err)
{
	sqlite3_stmt *stmt = query(s, err, "DELETE FROM items WHERE kind = ? AND key = ?", "ss", kind, key);
	return finish(s, stmt, "removing an item", err);
}
