// SPDX-License-Identifier: GPL-2.0-or-later
// JSON-RPC with the host: see hostrpc.h. One table of methods; an unknown one is answered with an error.
#include "guest/hostrpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include "guest/members.h"
#include "guest/sample.h"
#include "guest/tasks.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "libvc/mux.h"

#define LOAD_MS 5000		 // between two guest.load
#define STOP_GRACE_MS 2000	 // of guest.shutdown when the host names none
#define STOP_GRACE_MAX_MS 600000 // the host's own limits are shorter
#define VALID_MAX_MS 3600000u	 // of a view; the host renews far more often
#define METHOD_MAX 64		 // bytes of a method's name

struct hostrpc {
	struct agent *a;
	struct vc_mux *mux;
	struct vc_mux_session *session; // NULL while the link is down
	uv_timer_t load;
};

struct method {
	const char *name;
	int (*handler)(struct hostrpc *r, struct json_object *params, struct vc_error *err);
};

// --- methods ---------------------------------------------------------------------------------------------------

static int do_configure(struct hostrpc *r, struct json_object *params, struct vc_error *err)
{
	setup_auto struct setup *s = setup_from_json(params, err);
	if (!s || agent_configure(r->a, s, err) < 0)
		return -1;
	(void)vc_steal(&s);
	return 0;
}

static int do_view(struct hostrpc *r, struct json_object *params, struct vc_error *err)
{
	struct json_object *obj;
	uint64_t valid_ms = 0;
	if (!r->a->setup)
		return vc_error_set(err, VC_EBUSY, "this guest is not configured yet");
	if (vc_json_obj(params, "view", &obj, err) < 0 || vc_json_u64_opt(params, "valid_ms", VALID_MAX_MS, &valid_ms, err) < 0)
		return -1;
	view_auto struct view *view = view_from_json(obj, err);
	unsigned long long before = members_epoch(r->a->members);
	if (!view || members_publish(r->a->members, view, valid_ms, err) < 0)
		return -1;
	if (before && view->epoch > before) // the first view is nothing's change
		hooks_run(&r->a->hooks, r->a->setup, view->epoch);
	(void)vc_steal(&view);
	return 0;
}

static int do_renew(struct hostrpc *r, struct json_object *params, struct vc_error *err)
{
	uint64_t epoch, valid_ms;
	if (vc_json_u64(params, "epoch", UINT64_MAX, &epoch, err) < 0 ||
	    vc_json_u64(params, "valid_ms", VALID_MAX_MS, &valid_ms, err) < 0)
		return -1;
	return members_renew(r->a->members, epoch, valid_ms, err);
}

static int do_shutdown(struct hostrpc *r, struct json_object *params, struct vc_error *err)
{
	uint64_t grace_ms = STOP_GRACE_MS;
	if (vc_json_u64_opt(params, "grace_ms", STOP_GRACE_MAX_MS, &grace_ms, err) < 0)
		return -1;
	agent_stop(r->a, grace_ms);
	return 0;
}

static const struct method methods[] = {
	{"guest.configure", do_configure},
	{"guest.view", do_view},
	{"guest.renew", do_renew},
	{"guest.shutdown", do_shutdown},
};

// --- messages --------------------------------------------------------------------------------------------------

static void send_object(struct hostrpc *r, struct json_object *obj)
{
	size_t len;
	struct vc_error err = VC_ERROR_INIT;
	const char *text = vc_json_text(obj, &len);
	if (r->session && text && vc_mux_session_message(r->session, text, len, &err) < 0)
		vc_log_warning("no message to the host: %s", err.text);
}

static void notify(struct hostrpc *r, const char *method, struct json_object *params)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!obj || vc_json_add_str(obj, "jsonrpc", "2.0") < 0 || vc_json_add_str(obj, "method", method) < 0) {
		json_object_put(params);
		return;
	}
	if (vc_json_add(obj, "params", params) == 0)
		send_object(r, obj);
}

static struct json_object *error_object(const struct vc_error *err)
{
	struct json_object *obj = json_object_new_object(), *data = json_object_new_object();
	int code = err->code > VC_EBASE ? -32000 - (err->code - VC_EBASE) : err->code < 0 ? err->code : -32000;
	vc_json_add_str(data, "name", vc_error_name(err->code));
	vc_json_add_int(obj, "code", code);
	vc_json_add_str(obj, "message", err->text);
	vc_json_add(obj, "data", data);
	return obj;
}

static void reply(struct hostrpc *r, struct json_object *id, const struct vc_error *err)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!obj || vc_json_add_str(obj, "jsonrpc", "2.0") < 0)
		return;
	json_object_object_add(obj, "id", json_object_get(id));
	if ((err ? vc_json_add(obj, "error", error_object(err)) : vc_json_add(obj, "result", json_object_new_object())) == 0)
		send_object(r, obj);
}

static int dispatch(struct hostrpc *r, struct json_object *obj, struct vc_error *err)
{
	const char *name;
	struct json_object *params;
	if (vc_json_str(obj, "method", METHOD_MAX, &name, err) < 0 || vc_json_obj(obj, "params", &params, err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(methods); i++) {
		if (!strcmp(methods[i].name, name))
			return methods[i].handler(r, params, err);
	}
	return vc_error_set(err, -32601, "no method '%s'", name);
}

static void on_message(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	struct hostrpc *r = ctx;
	struct vc_error err = VC_ERROR_INIT;
	(void)s;
	vc_autojson struct json_object *obj = vc_json_parse(text, len, &err);
	struct json_object *id = NULL;
	int rc = obj ? dispatch(r, obj, &err) : -1;
	if (rc < 0)
		vc_log_warning("the host's request failed: %s", err.text);
	if (obj && json_object_object_get_ex(obj, "id", &id) && id)
		reply(r, id, rc < 0 ? &err : NULL);
}

static void say_hello(struct hostrpc *r)
{
	struct utsname u = {0};
	struct sysinfo si = {0};
	const struct view *view = members_view(r->a->members);
	struct json_object *p = json_object_new_object();
	uname(&u);
	sysinfo(&si);
	vc_json_add_str(p, "boot", r->a->boot);
	vc_json_add_str(p, "version", PACKAGE_VERSION);
	vc_json_add_str(p, "kernel", u.release);
	vc_json_add_u64(p, "mem_kib", (uint64_t)si.totalram * si.mem_unit / 1024);
	vc_json_add_int(p, "cpus", get_nprocs());
	vc_json_add_bool(p, "configured", r->a->setup != NULL);
	vc_json_add_u64(p, "epoch", view ? view->epoch : 0);
	vc_json_add_u64(p, "tasks", tasks_count(r->a->tasks));
	notify(r, "guest.hello", p);
}

void hostrpc_resize(struct hostrpc *r, uint32_t hosts)
{
	struct json_object *p = json_object_new_object();
	vc_json_add_u64(p, "hosts", hosts);
	notify(r, "guest.resize", p);
}

static void load_cb(uv_timer_t *handle)
{
	struct hostrpc *r = handle->data;
	struct sample s;
	if (!r->session || !r->a->setup)
		return;
	sample_take(&s);
	struct json_object *p = json_object_new_object();
	vc_json_add_u64(p, "runnable", s.runnable);
	vc_json_add(p, "cpu_some_avg10", json_object_new_double(s.cpu_some_avg10));
	vc_json_add_u64(p, "mem_kib", s.mem_available_kib);
	vc_json_add_u64(p, "tasks", tasks_count(r->a->tasks));
	notify(r, "guest.load", p);
}

// --- the mux ---------------------------------------------------------------------------------------------------

static int send_frame(void *ctx, void *route, struct vc_link_frame *frame)
{
	(void)ctx;
	return wire_send(route, frame);
}

static void on_reset(void *ctx, struct vc_mux_session *s, const char *code, const char *message)
{
	struct hostrpc *r = ctx;
	vc_log_warning("the host ended the control session: %s: %s", code, message);
	if (r->session == s)
		r->session = NULL;
}

static size_t on_data(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	(void)ctx;
	(void)s;
	(void)ch;
	(void)data;
	return len; // session 0 has a control channel only
}

static void ignore_channel(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	(void)ctx;
	(void)s;
	(void)ch;
}

static void ignore_session(void *ctx, struct vc_mux_session *s)
{
	(void)ctx;
	(void)s;
}

static const struct vc_mux_ops mux_ops = {
	.send_frame = send_frame,
	.on_data = on_data,
	.on_eof = ignore_channel,
	.on_message = on_message,
	.on_writable = ignore_channel,
	.on_reader_closed = ignore_channel,
	.on_acked = ignore_session,
	.on_reset = on_reset,
};

struct hostrpc *hostrpc_create(struct agent *a, struct vc_error *err)
{
	const struct vc_mux_config conf = {.sessions_max = 1};
	struct hostrpc *r = calloc(1, sizeof(*r));
	struct vc_mux *mux = r ? vc_mux_create(&conf, &mux_ops, r) : NULL;
	if (!mux) {
		vc_error_errno(err, "control session");
		free(r);
		return NULL;
	}
	r->a = a;
	r->mux = mux;
	uv_timer_init(&a->loop, &r->load);
	r->load.data = r;
	uv_timer_start(&r->load, load_cb, LOAD_MS, LOAD_MS);
	return r;
}

void hostrpc_input(struct hostrpc *r, struct wire *w, struct vc_link_frame *frame)
{
	vc_mux_input(r->mux, w, frame, uv_now(&r->a->loop));
}

void hostrpc_up(struct hostrpc *r, struct wire *w)
{
	struct vc_error err = VC_ERROR_INIT;
	if (r->session)
		hostrpc_down(r, w);
	r->session = vc_mux_session_create(r->mux, w, VC_SESSION_RPC, VC_MUX_PEER, NULL, uv_now(&r->a->loop), &err);
	if (!r->session)
		vc_log_err("no control session with the host: %s", err.text);
	else
		say_hello(r);
}

void hostrpc_down(struct hostrpc *r, struct wire *w)
{
	if (r->session)
		vc_mux_session_destroy(r->session);
	r->session = NULL;
	vc_mux_route_down(r->mux, w, uv_now(&r->a->loop));
}

void hostrpc_writable(struct hostrpc *r, struct wire *w)
{
	vc_mux_route_writable(r->mux, w, uv_now(&r->a->loop));
}

void hostrpc_tick(struct hostrpc *r)
{
	vc_mux_tick(r->mux, uv_now(&r->a->loop));
}
