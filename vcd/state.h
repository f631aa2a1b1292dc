// SPDX-License-Identifier: GPL-2.0-or-later
// Intent and history that survive a crash: one SQLite database per vcd (state-dir/vcd.db, WAL, synchronous=FULL).
//
// Loop thread only: each call is one small transaction (some hundred microseconds, one fsync), and returns when it is
// durable. Schema changes are forward migrations, a database of a later version is refused. Getters give VC_ENOTFOUND.
// A row callback must not call the same getter again.
#ifndef VCD_STATE_H
#define VCD_STATE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "libvc/limits.h"

struct state;

#define STATE_ID_LEN 32 // hex digits of a cluster id

struct state *state_open(const char *path, struct vc_error *err); // ":memory:" for tests
void state_close(struct state *s);
int state_version(struct state *s);

// --- controller: clusters ---
struct state_cluster {
	char id[STATE_ID_LEN + 1];
	char slurm[VC_NAME_MAX + 1];
	uint32_t job, restart;
	uid_t uid;
	uint32_t vni;	      // 0: none
	const char *phase;    // owned by the row in getters; "released" when it is over
	const char *reason;   // may be NULL
	struct json_object *spec; // each may be NULL; row's own in getters, borrowed in put
	struct json_object *plan;
	struct json_object *view;
	struct json_object *extra; // whatever else the cluster module keeps
	int64_t created_ms, changed_ms; // wall clock, set by state_cluster_put() when 0 and at each change
};
// The row with that id is replaced, or made.
int state_cluster_put(struct state *s, const struct state_cluster *c, struct vc_error *err);
// The callback gets rows that are valid during the call only; non-zero stops and is returned.
typedef int (*state_cluster_fn)(const struct state_cluster *c, void *ctx);
int state_cluster_get(struct state *s, const char *id, state_cluster_fn fn, void *ctx, struct vc_error *err);
int state_cluster_find(struct state *s, const char *slurm, uint32_t job, uint32_t restart, state_cluster_fn fn,
		       void *ctx, struct vc_error *err);
// The highest restart count seen of a job: -1 in *ret when none.
int state_cluster_last_restart(struct state *s, const char *slurm, uint32_t job, int64_t *ret, struct vc_error *err);
// Newest first; live: only those not in phase "released". limit 0: all.
int state_cluster_list(struct state *s, bool live, unsigned limit, state_cluster_fn fn, void *ctx, struct vc_error *err);
int state_cluster_remove(struct state *s, const char *id, struct vc_error *err);
// The smallest VNI in min..max that no live cluster holds; VC_EBUSY when all are taken.
int state_vni_free(struct state *s, uint32_t min, uint32_t max, uint32_t *ret, struct vc_error *err);

// --- controller: events (history) ---
#define STATE_EVENTS_MAX 100000 // rows kept; the oldest go first
struct state_event {
	int64_t id;	    // set by the database
	int64_t time_ms;    // wall clock; 0 in add: now
	const char *cluster; // id; may be NULL
	const char *host;    // may be NULL
	const char *what;    // "phase", "member-up", ...
	struct json_object *data; // may be NULL
};
int state_event_add(struct state *s, const struct state_event *e, struct vc_error *err);
typedef int (*state_event_fn)(const struct state_event *e, void *ctx);
int state_event_list(struct state *s, const char *cluster, unsigned limit, state_event_fn fn, void *ctx,
		     struct vc_error *err); // oldest first; cluster NULL: all

// --- host: shares ---
struct state_share {
	char cluster[STATE_ID_LEN + 1];
	char slurm[VC_NAME_MAX + 1];
	uint32_t job, restart;
	const char *phase;
	struct json_object *plan;
	struct json_object *extra; // view, guests' boot ids: what the share module keeps; may be NULL
};
int state_share_put(struct state *s, const struct state_share *share, struct vc_error *err);
typedef int (*state_share_fn)(const struct state_share *share, void *ctx);
int state_share_get(struct state *s, const char *cluster, state_share_fn fn, void *ctx, struct vc_error *err);
int state_share_list(struct state *s, state_share_fn fn, void *ctx, struct vc_error *err);
int state_share_remove(struct state *s, const char *cluster, struct vc_error *err); // absent is fine

// --- small nouns: one JSON object per (kind, key), as ("hypervisor", "probe") or ("image", NAME) ---
int state_item_put(struct state *s, const char *kind, const char *key, struct json_object *value, struct vc_error *err);
// The same in its order, but not waited for: it may be lost when the host loses its power, never when vcd ends.
int state_item_put_lazily(struct state *s, const char *kind, const char *key, struct json_object *value, struct vc_error *err);
int state_item_get(struct state *s, const char *kind, const char *key, struct json_object **ret, struct vc_error *err);
typedef int (*state_item_fn)(const char *key, struct json_object *value, void *ctx);
int state_item_list(struct state *s, const char *kind, state_item_fn fn, void *ctx, struct vc_error *err); // by key
int state_item_remove(struct state *s, const char *kind, const char *key, struct vc_error *err); // absent is fine

#endif
