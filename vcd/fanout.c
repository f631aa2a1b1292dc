// SPDX-License-Identifier: GPL-2.0-or-later
// One method called on many hosts: see fanout.h. Each host's call is an owned object of the fan-out.
#include "vcd/fanout.h"

#include <stdlib.h>
#include <string.h>

#include "vcd/peer.h"
#include "vcd/vcd.h"

struct fanout_call {
	struct fanout *fanout;
	size_t host;
	char *name;
	struct peer_call *call; // NULL when it has ended
};

struct fanout {
	struct fanout_args args;
	struct fanout_call *calls;
	size_t n_calls, pending;
	bool failed;
	struct vc_error first;
};

static void fanout_free(struct fanout *f)
{
	for (size_t i = 0; i < f->n_calls; i++)
		free(f->calls[i].name);
	free(f->calls);
	free(f);
}

static void cancel_calls(struct fanout *f)
{
	for (size_t i = 0; i < f->n_calls; i++) {
		if (f->calls[i].call)
			peer_cancel(f->calls[i].call);
		f->calls[i].call = NULL;
	}
}

void fanout_cancel(struct fanout *f)
{
	if (!f)
		return;
	cancel_calls(f);
	fanout_free(f);
}

static void note_error(struct fanout *f, const char *host, const struct vc_error *err)
{
	if (f->failed)
		return;
	f->failed = true;
	f->first = *err;
	vc_error_wrap(&f->first, "host %s", host);
}

static void call_done(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct fanout_call *call = ctx;
	struct fanout *f = call->fanout;
	call->call = NULL;
	f->pending--;
	if (f->args.host_done)
		f->args.host_done(f->args.ctx, call->host, result, err);
	if (err)
		note_error(f, call->name, err);
	if (f->pending > 0 && !(f->failed && !f->args.keep_going))
		return;
	cancel_calls(f);
	struct fanout_args args = f->args;
	struct vc_error first = f->first;
	bool failed = f->failed;
	fanout_free(f);
	args.done(args.ctx, failed ? &first : NULL);
}

static void call_notify(void *ctx, const char *method, struct json_object *params)
{
	struct fanout_call *call = ctx;
	if (call->fanout->args.host_notify)
		call->fanout->args.host_notify(call->fanout->args.ctx, call->host, method, params);
}

static int start_call(struct vcd *vcd, struct fanout *f, size_t i, struct vc_error *err)
{
	struct fanout_call *call = &f->calls[i];
	call->name = strdup(f->args.hosts[i]);
	if (!call->name)
		return vc_error_errno(err, "%s", f->args.method);
	struct peer_args args = {.host = call->name,
				 .method = f->args.method,
				 .params = f->args.params,
				 .timeout_ms = f->args.timeout_ms,
				 .trace = f->args.trace,
				 .again = true, // a vcd that is killed and restarted takes its work back and joins the call
				 .notify = call_notify,
				 .done = call_done,
				 .ctx = call};
	call->fanout = f;
	call->host = i;
	call->call = peer_call(vcd->peers, &args, err);
	return call->call ? 0 : -1;
}

struct fanout *fanout_start(struct vcd *vcd, const struct fanout_args *args, struct vc_error *err)
{
	struct fanout *f = calloc(1, sizeof(*f));
	struct fanout_call *calls = calloc(args->n_hosts, sizeof(*calls));
	if (!f || !calls || args->n_hosts == 0) {
		free(f);
		free(calls);
		vc_error_set(err, VC_EFAILED, "%s: no memory, or no hosts to call", args->method);
		return NULL;
	}
	f->args = *args;
	f->calls = calls;
	f->n_calls = args->n_hosts;
	for (size_t i = 0; i < args->n_hosts; i++) {
		if (start_call(vcd, f, i, err) < 0) {
			fanout_cancel(f);
			return NULL;
		}
		f->pending++;
	}
	f->args.hosts = NULL; // the caller's array is not ours to keep
	f->args.params = NULL;
	f->args.method = NULL;
	return f;
}
