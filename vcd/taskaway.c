// SPDX-License-Identifier: GPL-2.0-or-later
// Tasks of members elsewhere: see taskaway.h. A worker attaches there, the loop takes the client's connection, a thread of
// relay.h carries the bytes.
#include "vcd/taskaway.h"

#include <fcntl.h>
#include <stdlib.h>
#include <uv.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/relay.h"
#include "vcd/rpc.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

struct away { // of the worker's job, then of the connection's hand-over
	struct vcd *vcd;
	struct rpc_request *req;
	struct relay_target *target;
	struct json_object *params, *result;
	struct vc_client *client;
};

static void away_free(struct away *a)
{
	relay_target_destroy(a->target);
	json_object_put(a->params);
	json_object_put(a->result);
	vc_client_destroy(a->client);
	free(a);
}

static int attach_run(void *ctx, struct vc_error *err)
{
	struct away *a = ctx;
	vc_autoclient struct vc_client *c = relay_dial(a->target, err);
	if (!c || vc_client_call(c, "task.attach", a->params, TASKAWAY_MS, NULL, NULL, NULL, err) < 0)
		return -1;
	a->client = vc_steal(&c);
	return 0;
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void taken(void *ctx, uv_stream_t *stream, struct vc_buf *pending)
{
	struct away *a = ctx;
	struct vc_error err = VC_ERROR_INIT;
	uv_os_fd_t fd = -1;
	int copy = -1;
	if (stream) {
		copy = uv_fileno((uv_handle_t *)stream, &fd) == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : -1;
		uv_close((uv_handle_t *)stream, free_handle);
	}
	// what came behind the request is a few frames, which the socket's buffer takes
	if (copy >= 0 && pending->len && vc_client_send_data(a->client, vc_buf_head(pending), pending->len, TASKAWAY_MS, &err) < 0) {
		close(copy);
		copy = -1;
	}
	if (copy >= 0)
		(void)relay_carry(a->vcd->relays, vc_steal(&a->client), copy, &err);
	if (err.code)
		vc_log_warning("task of a member that has moved: %s", err.text);
	away_free(a);
}

static void attach_done(void *ctx, const struct vc_error *err)
{
	struct away *a = ctx;
	struct vc_error why = VC_ERROR_INIT;
	if (err) {
		rpc_reply_error(a->req, err);
		return;
	}
	struct away *next = calloc(1, sizeof(*next));
	if (!next) {
		vc_error_errno(&why, "task.attach");
		rpc_reply_error(a->req, &why);
		return;
	}
	*next = (struct away){.vcd = a->vcd, .client = vc_steal(&a->client)};
	if (rpc_take_connection(a->req, a->result, taken, next, &why) == 0) {
		a->result = NULL;
		return;
	}
	rpc_reply_error(a->req, &why);
	away_free(next);
}

static void attach_release(void *ctx)
{
	away_free(ctx);
}

// The client's own words, for the member by its rank: where tasks are told apart by their host they would go astray there.
static struct json_object *params_for(struct rpc_request *req, uint32_t rank)
{
	struct json_object *params = json_object_new_object();
	json_object_object_foreach(rpc_params(req), key, value) {
		vc_json_add(params, key, json_object_get(value));
	}
	vc_json_add_u64(params, "rank", rank);
	return params;
}

int taskaway_attach(struct vcd *vcd, struct rpc_request *req, const char *host, uint32_t rank, struct json_object *result,
		    struct vc_error *err)
{
	struct away *a = calloc(1, sizeof(*a));
	if (!a) {
		json_object_put(result);
		return vc_error_errno(err, "task.attach");
	}
	*a = (struct away){.vcd = vcd, .req = req, .result = result, .params = params_for(req, rank)};
	a->target = relay_target_create(vcd, host, rpc_trace(req), err);
	struct work_args args = {.pool = WORK_GENERAL, .what = "attach to a member that has moved", .deadline_ms = 2 * TASKAWAY_MS,
				 .run = attach_run, .done = attach_done, .release = attach_release, .ctx = a};
	if (a->target && work_submit(vcd->work, &args, NULL, err) == 0)
		return 0;
	away_free(a);
	return -1;
}
