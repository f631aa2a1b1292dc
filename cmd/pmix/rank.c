// SPDX-License-Identifier: GPL-2.0-or-later
// One rank's part outside its member: see rank.h.
#include "cmd/pmix/rank.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/pmix/ctl.h"
#include "cmd/pmix/evq.h"
#include "cmd/pmix/meet.h"
#include "cmd/pmix/slurm.h"
#include "cmd/pmix/step.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/limits.h"

#define SETUP_MS 10000	  // for vcexec's first message: it is sent before we start
#define WELCOME_MS 60000u // for the server: libpmix starts, on a busy host
#define TOKEN_MAX 64u
#define SAID_KEY "vc.said"
#define KEY_MAX 64u

struct rank {
	struct ctl parent, server;
	struct evq evq;
	struct slurm slurm;
	struct step step;
	bool connected, finalized; // the program in the member, to and from PMIx
};

// A fence or a request under way.
struct job {
	struct rank *rank;
	uint64_t id;
	bool lead, collect;
	char key[KEY_MAX];
	struct slurm_answer fence;
	struct slurm_answer *parts; // of other members' lowest ranks
	uint32_t *leads;
	uint32_t n, pending;
};

static void job_free(struct job *j)
{
	for (uint32_t i = 0; j->parts && i < j->n; i++)
		free(j->parts[i].data);
	free(j->parts);
	free(j->leads);
	free(j);
}

// ---- answers to the server ----

static struct json_object *join_parts(const struct job *j)
{
	vc_autobuf struct vc_buf all = VC_BUF_INIT(0);
	struct json_object *msg = json_object_new_object();
	int status = j->fence.status;
	for (uint32_t i = 0; i < j->n; i++) {
		if (j->parts[i].status)
			status = j->parts[i].status;
		if (j->parts[i].len && vc_buf_append(&all, j->parts[i].data, j->parts[i].len) < 0)
			status = -1;
	}
	vc_json_add_str(msg, "type", "done");
	vc_json_add_u64(msg, "id", j->id);
	vc_json_add_int(msg, "status", status);
	if (status == 0 && j->collect)
		vc_json_add_bytes(msg, "data", all.len ? (void *)vc_buf_head(&all) : "", all.len);
	return msg;
}

static void job_end(struct rank *r, struct job *j)
{
	if (j->lead)
		(void)ctl_send(&r->server, join_parts(j), NULL); // a server that has gone is seen by the loop
	job_free(j);
}

static void part_done(void *ctx, void *arg)
{
	struct job *j = arg;
	if (--j->pending == 0)
		job_end(ctx, j);
}

// Asks for one value of each of these ranks.
static void get_parts(struct rank *r, struct job *j)
{
	j->pending = j->n;
	for (uint32_t i = 0, n = j->n; i < n; i++) {
		j->parts[i] = (struct slurm_answer){.evq = &r->evq, .done = part_done, .arg = j};
		slurm_get(&r->slurm, j->leads[i], j->key, &j->parts[i]);
	}
}

static void fence_done(void *ctx, void *arg)
{
	struct rank *r = ctx;
	struct job *j = arg;
	if (j->lead && j->collect && j->n && j->fence.status == 0) {
		get_parts(r, j);
	} else {
		j->n = 0;
		job_end(r, j);
	}
}

// ---- what the server asks for ----

static uint32_t *ranks_of(struct json_object *msg, const char *key, uint32_t *ret_n, struct vc_error *err)
{
	struct json_object *list;
	if (vc_json_array(msg, key, STEP_RANKS_MAX, &list, err) < 0)
		return NULL;
	*ret_n = (uint32_t)json_object_array_length(list);
	uint32_t *ranks = calloc(*ret_n + 1, sizeof(*ranks));
	for (uint32_t i = 0; ranks && i < *ret_n; i++)
		ranks[i] = (uint32_t)json_object_get_int64(json_object_array_get_idx(list, i));
	if (!ranks)
		vc_error_set(err, ENOMEM, "ranks");
	return ranks;
}

static struct job *new_job(struct rank *r, struct json_object *msg, struct vc_error *err)
{
	struct job *j = calloc(1, sizeof(*j));
	if (!j) {
		vc_error_set(err, ENOMEM, "fence");
		return NULL;
	}
	j->rank = r;
	j->fence = (struct slurm_answer){.evq = &r->evq, .done = fence_done, .arg = j};
	if (vc_json_u64(msg, "id", UINT64_MAX, &j->id, err) < 0 || vc_json_bool_opt(msg, "collect", &j->collect, err) < 0) {
		job_free(j);
		return NULL;
	}
	return j;
}

// Others' lowest ranks, and what the member's ranks say, put under the fence's name.
static int take_lead(struct rank *r, struct job *j, struct json_object *msg, struct vc_error *err)
{
	const char *key;
	vc_autofree uint8_t *data = NULL;
	size_t len = 0;
	uint32_t n = 0;
	if (!json_object_object_get_ex(msg, "leads", NULL))
		return 0;
	j->lead = true;
	j->leads = ranks_of(msg, "leads", &n, err);
	if (!j->leads || vc_json_str(msg, "key", KEY_MAX - 1, &key, err) < 0)
		return -1;
	snprintf(j->key, sizeof(j->key), "%s", key);
	for (uint32_t i = 0; i < n; i++) {
		if (j->leads[i] != r->slurm.rank)
			j->leads[j->n++] = j->leads[i];
	}
	j->parts = calloc(j->n + 1, sizeof(*j->parts));
	if (!j->parts)
		return vc_error_set(err, ENOMEM, "fence");
	if (!j->collect)
		return 0;
	if (vc_json_bytes(msg, "data", CTL_MESSAGE_MAX, &data, &len, err) < 0)
		return -1;
	int rc = slurm_put(j->key, data, len);
	return rc == 0 ? 0 : vc_error_set(err, VC_EFAILED, "Slurm's PMIx takes no value (%d)", rc);
}

static int on_fence(struct rank *r, struct json_object *msg, struct vc_error *err)
{
	uint32_t n = 0;
	struct job *j = new_job(r, msg, err);
	vc_autofree uint32_t *ranks = NULL;
	if (!j)
		return -1;
	if (json_object_object_get_ex(msg, "ranks", NULL) && !(ranks = ranks_of(msg, "ranks", &n, err))) {
		job_free(j);
		return -1;
	}
	if (take_lead(r, j, msg, err) < 0) {
		job_free(j);
		return -1;
	}
	slurm_fence(&r->slurm, ranks, n, j->collect, &j->fence);
	return 0;
}

static int on_get(struct rank *r, struct json_object *msg, struct vc_error *err)
{
	struct job *j = new_job(r, msg, err);
	if (!j)
		return -1;
	j->leads = calloc(1, sizeof(*j->leads));
	j->parts = calloc(1, sizeof(*j->parts));
	if (!j->leads || !j->parts || vc_json_u32(msg, "rank", STEP_RANKS_MAX, &j->leads[0], err) < 0) {
		job_free(j);
		return vc_error_set(err, VC_EPROTO, "get");
	}
	j->n = 1;
	j->lead = j->collect = true;
	snprintf(j->key, sizeof(j->key), SAID_KEY);
	get_parts(r, j);
	return 0;
}

static int on_said(struct rank *r, struct json_object *msg, struct vc_error *err)
{
	vc_autofree uint8_t *data = NULL;
	size_t len;
	(void)r;
	if (vc_json_bytes(msg, "data", CTL_MESSAGE_MAX, &data, &len, err) < 0)
		return -1;
	slurm_put(SAID_KEY, data, len);
	return 0;
}

static int on_abort(struct rank *r, struct json_object *msg, struct vc_error *err)
{
	const char *text = "";
	int status = 1;
	(void)r;
	if (vc_json_int(msg, "status", INT32_MIN, INT32_MAX, &status, err) < 0 ||
	    vc_json_str_opt(msg, "text", VC_ERROR_TEXT_MAX * 8, &text, err) < 0)
		return -1;
	slurm_abort(status, text);
	return 0;
}

static int on_connected(struct rank *r, struct json_object *msg, struct vc_error *err)
{
	(void)msg;
	(void)err;
	r->connected = true;
	r->finalized = false;
	return 0;
}

static int on_finalized(struct rank *r, struct json_object *msg, struct vc_error *err)
{
	(void)msg;
	(void)err;
	r->finalized = true;
	return 0;
}

static const struct {
	const char *type;
	int (*take)(struct rank *r, struct json_object *msg, struct vc_error *err);
} messages[] = {{"fence", on_fence},	     {"get", on_get},		  {"said", on_said}, {"abort", on_abort},
		{"connected", on_connected}, {"finalized", on_finalized}};

static void take_message(struct rank *r, struct json_object *msg, struct vc_error *err)
{
	const char *type;
	if (vc_json_str(msg, "type", 16, &type, err) < 0)
		return;
	for (size_t i = 0; i < VC_ARRAY_LEN(messages); i++) {
		if (strcmp(messages[i].type, type) == 0)
			messages[i].take(r, msg, err);
	}
}

static void server_ready(struct rank *r, short revents, struct vc_error *err)
{
	struct json_object *msg;
	(void)ctl_ready(&r->server, revents, err); // what came before its end is still taken
	struct vc_error bad = VC_ERROR_INIT;
	while (!bad.code && (msg = ctl_next(&r->server, &bad))) {
		take_message(r, msg, &bad);
		json_object_put(msg);
	}
	if (bad.code)
		*err = bad;
}

// ---- life ----

static int make_step(struct rank *r, struct json_object *setup, struct vc_error *err)
{
	struct json_object *layout;
	const char *token;
	char nspace[256];
	vc_autostrv char **hosts = slurm_hosts(&r->slurm, err);
	if (!hosts || vc_json_obj(setup, "layout", &layout, err) < 0 || vc_json_str(setup, "token", TOKEN_MAX, &token, err) < 0)
		return -1;
	if (snprintf(nspace, sizeof(nspace), "%s.%s", r->slurm.nspace, token) >= (int)sizeof(nspace))
		return vc_error_set(err, VC_EPROTO, "the name of the step is too long");
	return step_make(&r->step, nspace, (const char *const *)hosts, r->slurm.ranks, layout, err);
}

// Where this rank runs: Slurm's map and vcd's must agree.
static int own_member(const struct rank *r, struct json_object *setup, uint32_t *ret, struct vc_error *err)
{
	const char *name;
	if (vc_json_str(setup, "name", VC_NAME_MAX, &name, err) < 0)
		return -1;
	*ret = r->step.member[r->slurm.rank];
	if (strcmp(r->step.names[*ret], name) == 0)
		return 0;
	return vc_error_set(err, VC_EFAILED, "rank %u runs on member %s, but by Slurm's PMIx it belongs on %s", r->slurm.rank, name,
			    r->step.names[*ret]);
}

static struct json_object *say_hello(struct rank *r, struct vc_error *err)
{
	struct json_object *msg = json_object_new_object();
	vc_json_add_str(msg, "type", "hello");
	vc_json_add_u64(msg, "rank", r->slurm.rank);
	return ctl_send(&r->server, msg, err) < 0 ? NULL : ctl_wait(&r->server, WELCOME_MS, err);
}

static int prepare(struct rank *r, struct json_object **ret_welcome, struct vc_error *err)
{
	uint32_t member;
	vc_autojson struct json_object *setup = ctl_wait(&r->parent, SETUP_MS, err);
	if (!setup || slurm_init(&r->slurm, err) < 0 || make_step(r, setup, err) < 0 || own_member(r, setup, &member, err) < 0 ||
	    meet_server(&r->step, member, r->slurm.rank, r->slurm.dir, &r->server, err) < 0)
		return -1;
	*ret_welcome = say_hello(r, err);
	return *ret_welcome ? 0 : vc_error_wrap(err, "PMIx server of member %s", r->step.names[member]);
}

// Until vcexec hangs up. A server that has gone, or that says odd things, is the end of the rank's part: Slurm sees a rank that died.
static void loop(struct rank *r)
{
	struct vc_error err = VC_ERROR_INIT;
	for (;;) {
		struct pollfd p[3] = {{.fd = r->parent.fd, .events = POLLIN},
				      {.fd = err.code ? -1 : r->server.fd, .events = ctl_events(&r->server)},
				      {.fd = r->evq.fd, .events = POLLIN}};
		if (poll(p, VC_ARRAY_LEN(p), -1) < 0)
			continue;
		if (p[2].revents)
			evq_run(&r->evq, r);
		if (p[1].revents)
			server_ready(r, p[1].revents, &err);
		if (p[0].revents)
			break;
	}
	if (!err.code) // the last that it said
		server_ready(r, POLLIN, &err);
}

static int tell_parent(struct rank *r, struct json_object *welcome, struct vc_error *err)
{
	if (welcome)
		return ctl_send(&r->parent, welcome, err);
	struct json_object *msg = json_object_new_object();
	vc_json_add_str(msg, "error", err->text);
	return ctl_send(&r->parent, msg, NULL);
}

int rank_run(int parent, struct vc_error *err)
{
	struct rank r = {.server.fd = -1};
	struct json_object *welcome = NULL;
	if (ctl_init(&r.parent, parent, err) < 0 || evq_init(&r.evq, err) < 0)
		return -1;
	int rc = prepare(&r, &welcome, err);
	if (tell_parent(&r, welcome, err) == 0 && rc == 0)
		loop(&r);
	slurm_finalize(&r.slurm, r.slurm.ranks && (rc < 0 || !r.connected || r.finalized));
	ctl_clear(&r.server);
	ctl_clear(&r.parent);
	step_clear(&r.step);
	evq_clear(&r.evq);
	return rc;
}
