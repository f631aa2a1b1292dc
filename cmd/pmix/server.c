// SPDX-License-Identifier: GPL-2.0-or-later
// One member's PMIx server: see server.h.
//
// libpmix runs a thread of its own, which calls the functions of `module`; each of them hands over to the loop through
// evq and returns.
#include "cmd/pmix/server.h"

#include <errno.h>
#include <poll.h>
#include <pmix.h>
#include <pmix_server.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd/pmix/ctl.h"
#include "cmd/pmix/evq.h"
#include "cmd/pmix/jobinfo.h"
#include "cmd/pmix/ops.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"

#define START_MS 60000u // until all ranks of the member have come: slurmstepd starts them together

struct conn {
	struct ctl ctl;
	uint32_t rank; // STEP_NONE: it has not said hello
	bool open;
};

struct server {
	const struct step *step;
	uint32_t member;
	int listener;
	struct evq evq;
	struct conn *conns; // one for each rank of the member
	uint32_t local, came, gone;
	struct ops ops;
};

static struct server *the_server; // libpmix's functions have no argument of ours

// ---- connections of the ranks' vc-pmix ----

static void conn_lost(struct server *s, struct conn *c)
{
	if (!c->open)
		return;
	c->open = false;
	ctl_clear(&c->ctl);
	s->gone++;
}

static struct conn *conn_of(struct server *s, uint32_t rank)
{
	for (uint32_t i = 0; i < s->came; i++) {
		struct conn *c = &s->conns[i];
		if (c->open && (c->rank == rank || (rank == STEP_NONE && c->rank != STEP_NONE)))
			return c;
	}
	return NULL;
}

static int tell(void *ctx, uint32_t rank, struct json_object *msg)
{
	struct conn *c = conn_of(ctx, rank);
	if (!c) {
		json_object_put(msg);
		return -1;
	}
	if (ctl_send(&c->ctl, msg, NULL) == 0)
		return 0;
	conn_lost(ctx, c);
	return -1;
}

static int tell_type(struct server *s, uint32_t rank, const char *type)
{
	struct json_object *msg = json_object_new_object();
	vc_json_add_str(msg, "type", type);
	return tell(s, rank, msg);
}

// ---- what libpmix asks for: in its own thread, then in ours ----

enum ask_what { ASK_CONNECTED, ASK_FINALIZED, ASK_ABORT, ASK_FENCE, ASK_GET, ASK_SAID };

struct ask {
	enum ask_what what;
	uint32_t rank;
	int status;
	char *text;	// of an abort
	void *data;	// what the rank has said of itself
	size_t len;
	struct op *op;	// fence, get
	pmix_op_cbfunc_t done;
	void *done_arg;
};

static void ask_free(struct ask *a)
{
	free(a->text);
	free(a->data);
	op_free(a->op);
	free(a);
}

static void ask_abort(struct server *s, const struct ask *a)
{
	struct json_object *msg = json_object_new_object();
	vc_json_add_str(msg, "type", "abort");
	vc_json_add_int(msg, "status", a->status);
	vc_json_add_str(msg, "text", a->text);
	tell(s, a->rank, msg);
}

// So that members elsewhere can ask for it: its vc-pmix says it to Slurm.
static void ask_said(struct server *s, const struct ask *a)
{
	struct json_object *msg = json_object_new_object();
	vc_json_add_str(msg, "type", "said");
	vc_json_add_bytes(msg, "data", a->data ? a->data : "", a->len);
	tell(s, a->rank, msg);
}

static void take_ask(void *ctx, void *arg)
{
	struct server *s = ctx;
	struct ask *a = arg;
	switch (a->what) {
	case ASK_CONNECTED:
		tell_type(s, a->rank, "connected");
		break;
	case ASK_FINALIZED: // its vc-pmix knows before the rank goes on
		tell_type(s, a->rank, "finalized");
		break;
	case ASK_ABORT:
		ask_abort(s, a);
		break;
	case ASK_FENCE:
		ops_fence(&s->ops, vc_steal(&a->op));
		break;
	case ASK_GET:
		ops_get(&s->ops, vc_steal(&a->op), a->rank);
		break;
	case ASK_SAID:
		ask_said(s, a);
		break;
	}
	if (a->done)
		a->done(PMIX_SUCCESS, a->done_arg);
	ask_free(a);
}

static pmix_status_t push(const struct ask *ask)
{
	struct ask *a = malloc(sizeof(*a));
	if (a)
		*a = *ask;
	if (a && evq_push(&the_server->evq, take_ask, a) == 0)
		return PMIX_SUCCESS;
	free(a);
	return PMIX_ERR_NOMEM;
}

static pmix_status_t on_connected(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t done, void *arg)
{
	(void)object;
	return push(&(struct ask){.what = ASK_CONNECTED, .rank = proc->rank, .done = done, .done_arg = arg});
}

static pmix_status_t on_finalized(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t done, void *arg)
{
	(void)object;
	return push(&(struct ask){.what = ASK_FINALIZED, .rank = proc->rank, .done = done, .done_arg = arg});
}

static pmix_status_t on_abort(const pmix_proc_t *proc, void *object, int status, const char text[], pmix_proc_t procs[], size_t n,
			      pmix_op_cbfunc_t done, void *arg)
{
	(void)object;
	(void)procs;
	(void)n;
	return push(&(struct ask){.what = ASK_ABORT, .rank = proc->rank, .status = status, .text = text ? strdup(text) : NULL,
				  .done = done, .done_arg = arg});
}

// The ranks of a fence; none for all of them.
static int fence_ranks(struct op *op, const pmix_proc_t procs[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (procs[i].rank == PMIX_RANK_WILDCARD)
			return 0;
	}
	op->ranks = calloc(n + 1, sizeof(*op->ranks));
	for (size_t i = 0; op->ranks && i < n; i++)
		op->ranks[op->n++] = procs[i].rank;
	return op->ranks ? 0 : -1;
}

static bool wants_data(const pmix_info_t info[], size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (PMIX_CHECK_KEY(&info[i], PMIX_COLLECT_DATA))
			return PMIX_INFO_TRUE(&info[i]);
	}
	return false;
}

static struct op *new_op(pmix_modex_cbfunc_t done, void *arg, const char *data, size_t len)
{
	struct op *op = calloc(1, sizeof(*op));
	if (!op || (len && !(op->data = malloc(len)))) {
		free(op);
		return NULL;
	}
	if (len)
		memcpy(op->data, data, len);
	op->len = len;
	op->done = done;
	op->done_arg = arg;
	return op;
}

static pmix_status_t on_fence(const pmix_proc_t procs[], size_t n, const pmix_info_t info[], size_t ninfo, char *data, size_t len,
			      pmix_modex_cbfunc_t done, void *arg)
{
	struct op *op = new_op(done, arg, data, len);
	if (!op || fence_ranks(op, procs, n) < 0) {
		op_free(op);
		return PMIX_ERR_NOMEM;
	}
	op->collect = wants_data(info, ninfo);
	return push(&(struct ask){.what = ASK_FENCE, .op = op});
}

static pmix_status_t on_get(const pmix_proc_t *proc, const pmix_info_t info[], size_t n, pmix_modex_cbfunc_t done, void *arg)
{
	struct op *op = new_op(done, arg, NULL, 0);
	(void)info;
	(void)n;
	if (!op)
		return PMIX_ERR_NOMEM;
	op->collect = true;
	return push(&(struct ask){.what = ASK_GET, .op = op, .rank = proc->rank});
}

static void on_said(pmix_status_t status, char *data, size_t len, void *arg)
{
	struct ask a = {.what = ASK_SAID, .rank = (uint32_t)(uintptr_t)arg, .len = len, .data = malloc(len + 1)};
	if (status != PMIX_SUCCESS || !a.data) {
		free(a.data);
		return;
	}
	memcpy(a.data, data, len);
	push(&a);
}

static pmix_server_module_t module = {
	.client_connected = on_connected,
	.client_finalized = on_finalized,
	.abort = on_abort,
	.fence_nb = on_fence,
	.direct_modex = on_get,
};

// ---- a rank's vc-pmix comes ----

// "...;tcp4://127.0.0.1:40001"
static int port_of(char *const *env, uint16_t *ret, struct vc_error *err)
{
	uint64_t port;
	for (; env && *env; env++) {
		const char *colon = strrchr(*env, ':');
		if (strncmp(*env, "PMIX_SERVER_URI", 15) != 0 || !strstr(*env, "tcp4://127.0.0.1:"))
			continue;
		if (vc_parse_u64("port", colon + 1, 1, UINT16_MAX, &port, err) < 0)
			return -1;
		*ret = (uint16_t)port;
		return 0;
	}
	return vc_error_set(err, VC_EFAILED, "libpmix names no port");
}

static int welcome(struct server *s, struct conn *c, struct vc_error *err)
{
	pmix_proc_t proc;
	char **env = NULL;
	uint16_t port = 0;
	PMIX_LOAD_PROCID(&proc, s->step->nspace, c->rank);
	if (PMIx_server_setup_fork(&proc, &env) != PMIX_SUCCESS || port_of(env, &port, err) < 0)
		return vc_error_set(err, VC_EFAILED, "libpmix prepares no rank");
	if (s->step->members > 1)
		PMIx_server_dmodex_request(&proc, on_said, (void *)(uintptr_t)c->rank);
	struct json_object *msg = json_object_new_object();
	vc_json_add_str(msg, "type", "welcome");
	vc_json_add_strv(msg, "env", env);
	vc_json_add_u64(msg, "port", port);
	vc_strv_free(env);
	return ctl_send(&c->ctl, msg, err);
}

static int take_message(struct server *s, struct conn *c, struct json_object *msg, struct vc_error *err)
{
	const char *type;
	if (vc_json_str(msg, "type", 16, &type, err) < 0)
		return -1;
	if (strcmp(type, "done") == 0)
		return ops_answer(&s->ops, msg, err);
	if (strcmp(type, "hello") != 0 || c->rank != STEP_NONE)
		return vc_error_set(err, VC_EPROTO, "'%s'", type);
	if (vc_json_u32(msg, "rank", s->step->ranks - 1, &c->rank, err) < 0 || s->step->member[c->rank] != s->member)
		return vc_error_set(err, VC_EPROTO, "a rank that is not here");
	return welcome(s, c, err);
}

static void conn_ready(struct server *s, struct conn *c, short revents)
{
	struct vc_error err = VC_ERROR_INIT;
	struct json_object *msg;
	if (ctl_ready(&c->ctl, revents, &err) < 0) {
		conn_lost(s, c);
		return;
	}
	while (c->open && !err.code && (msg = ctl_next(&c->ctl, &err))) {
		take_message(s, c, msg, &err);
		json_object_put(msg);
	}
	if (err.code)
		conn_lost(s, c);
}

static void take_connection(struct server *s)
{
	struct ucred who;
	socklen_t len = sizeof(who);
	vc_autoclose int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || s->came == s->local || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || who.uid != getuid())
		return;
	struct conn *c = &s->conns[s->came];
	*c = (struct conn){.rank = STEP_NONE};
	if (ctl_init(&c->ctl, vc_steal_fd(&fd), NULL) < 0) {
		ctl_clear(&c->ctl);
		return;
	}
	c->open = true;
	s->came++;
}

// ---- life ----

static void poll_once(struct server *s, struct pollfd *p)
{
	uint32_t n = s->came;
	p[0] = (struct pollfd){.fd = s->evq.fd, .events = POLLIN};
	p[1] = (struct pollfd){.fd = s->came < s->local ? s->listener : -1, .events = POLLIN};
	for (uint32_t i = 0; i < n; i++)
		p[2 + i] = (struct pollfd){.fd = s->conns[i].open ? s->conns[i].ctl.fd : -1, .events = ctl_events(&s->conns[i].ctl)};
	if (poll(p, n + 2, s->came < s->local ? 1000 : -1) < 0)
		return;
	if (p[0].revents)
		evq_run(&s->evq, s);
	for (uint32_t i = 0; i < n; i++) {
		if (p[2 + i].revents && s->conns[i].open)
			conn_ready(s, &s->conns[i], p[2 + i].revents);
	}
	if (p[1].revents)
		take_connection(s);
}

static int loop(struct server *s, struct vc_error *err)
{
	vc_autofree struct pollfd *p = calloc(s->local + 2, sizeof(*p));
	int64_t until = ctl_now_ms() + START_MS;
	if (!p)
		return vc_error_set(err, ENOMEM, "PMIx server");
	while (s->gone < s->local) {
		poll_once(s, p);
		if (s->came < s->local && (ctl_now_ms() > until || (s->came && s->gone == s->came)))
			return vc_error_set(err, VC_ETIMEDOUT, "only %u of %u ranks of member %s came", s->came, s->local,
					    s->step->names[s->member]);
	}
	return 0;
}

// gds=hash: no files that a client in a machine could not map. native: munge is not in the machine; a rank is known by uid, gid,
// and the name of the namespace, which nobody else knows.
static int open_libpmix(struct server *s, struct vc_error *err)
{
	pmix_info_t info[3];
	pmix_rank_t rank = s->member;
	setenv("PMIX_MCA_gds", "hash", 1);
	setenv("PMIX_MCA_psec", "native", 1);
	PMIX_INFO_LOAD(&info[0], PMIX_SERVER_NSPACE, "vcluster", PMIX_STRING);
	PMIX_INFO_LOAD(&info[1], PMIX_SERVER_RANK, &rank, PMIX_PROC_RANK);
	PMIX_INFO_LOAD(&info[2], PMIX_HOSTNAME, s->step->names[s->member], PMIX_STRING);
	int rc = PMIx_server_init(&module, info, 3);
	if (rc != PMIX_SUCCESS)
		return vc_error_set(err, VC_EFAILED, "libpmix: %s", PMIx_Error_string(rc));
	return jobinfo_register(s->step, s->member, err);
}

int server_run(const struct step *step, uint32_t member, int listener, struct vc_error *err)
{
	struct server s = {.step = step, .member = member, .listener = listener, .local = step_size(step, member)};
	s.ops = (struct ops){.step = step, .member = member, .tell = tell, .ctx = &s};
	s.conns = calloc(s.local + 1, sizeof(*s.conns));
	the_server = &s;
	int rc = !s.conns ? vc_error_set(err, ENOMEM, "PMIx server") : evq_init(&s.evq, err);
	if (rc == 0 && (rc = open_libpmix(&s, err)) == 0)
		rc = loop(&s, err);
	ops_clear(&s.ops);
	PMIx_server_finalize();
	evq_clear(&s.evq);
	for (uint32_t i = 0; s.conns && i < s.came; i++)
		conn_lost(&s, &s.conns[i]);
	free(s.conns);
	close(listener);
	return rc;
}
