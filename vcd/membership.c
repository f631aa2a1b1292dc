// SPDX-License-Identifier: GPL-2.0-or-later
// Membership on the loop: see membership.h. Owns the site's core, the links, the timer and the list of clusters.
#include "vcd/membership.h"

#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/check.h"
#include "vcd/conf.h"
#include "vcd/member/agree_wire.h"
#include "vcd/member/site.h"
#include "vcd/memberlink.h"
#include "vcd/memberview.h"
#include "vcd/memberwitness.h"
#include "vcd/peer.h"
#include "vcd/rpc.h"
#include "vcd/state.h"
#include "vcd/vcd.h"

#define PERIOD_MS 1000u	   // between heartbeats
#define ASK_IN_MS 1000u	   // between two questions to come in
#define ASK_BUSY_MS 50u	   // the view that it would be in is being changed just now
#define VIEW_CALL_MS 5000u // event.view: the controller answers at once, or is away and is told again
#define WHOLE "member"	   // kinds of the state database's items: the two parts of a record
#define STEP "member-step"

struct membership_cluster {
	struct membership_cluster *next;
	struct membership *owner;
	const struct plan *plan;
	struct site_cluster *site; // NULL: given up
	uint32_t *numbers;	   // the site's, by host of the plan
	struct hostview *view;	   // the last one installed
	struct hostview *told_here; // and the last one that this host's share was told; NULL: none yet
	struct agree_record record; // on the disk
	uint64_t told;		   // the newest epoch that the controller has acknowledged
	struct peer_call *telling;
	uint64_t tell_at; // not before; boot-time ms
	bool left, broken, removed;
	bool to_publish; // when the others have been told
	bool lacking;	     // the view is not published: the plan here does not have all of it
	uint64_t ask_in_at;  // boot-time ms: not before; 0: it does not want in
	const struct membership_ops *ops;
	void *ctx;
};

struct membership {
	struct vcd *vcd;
	struct site *site;
	struct memberlinks *links;
	struct memberwitness *witness;
	struct membership_cluster *clusters;
	uv_timer_t timer;
	uint32_t boot;
	uint32_t controller; // its number
	bool draining, stopped;
	uint64_t bad; // messages that did not parse, or were not from whom they said
};

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_BOOTTIME, &ts); // counts pauses of the machine
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct agree *core(const struct membership_cluster *c)
{
	return c->site ? site_agree(c->site) : NULL;
}

static struct membership_cluster *find(const struct membership *m, const char *id)
{
	struct membership_cluster *c = m->clusters;
	while (c && (c->left || strcmp(c->plan->id, id) != 0))
		c = c->next;
	return c;
}

static const char *host_name(const struct membership_cluster *c, uint32_t host)
{
	return host < c->plan->n_hosts ? c->plan->hosts[host].name : "?";
}

// --- the record --------------------------------------------------------------------------------------------------

static int save(struct membership *m, const char *id, struct agree_record *r, const struct agree_durable *d,
		const struct hv_change *last, bool lazy, struct vc_error *err)
{
	vc_autobuf struct vc_buf bytes = VC_BUF_INIT(AGREE_WIRE_MAX);
	vc_autojson struct json_object *item = json_object_new_object();
	bool whole;
	if (!item || agree_record_encode(r, d, last, &whole, &bytes) < 0 ||
	    vc_json_add_bytes(item, "data", vc_buf_head(&bytes), bytes.len) < 0)
		return vc_error_set(err, ENOMEM, "membership of cluster %.8s: out of memory", id);
	return (lazy ? state_item_put_lazily : state_item_put)(m->vcd->state, whole ? WHOLE : STEP, id, item, err);
}

static int load_part(struct membership *m, const char *part, const char *id, uint8_t **ret, size_t *ret_len, struct vc_error *err)
{
	vc_autojson struct json_object *item = NULL;
	if (state_item_get(m->vcd->state, part, id, &item, err) < 0)
		return -1;
	return vc_json_bytes(item, "data", AGREE_WIRE_MAX, ret, ret_len, err);
}

static int load(struct membership *m, const char *id, struct agree_record *r, struct agree_durable *ret, struct vc_error *err)
{
	vc_autofree uint8_t *whole = NULL, *step = NULL;
	struct vc_error why = VC_ERROR_INIT;
	size_t whole_len = 0, step_len = 0;
	if (load_part(m, WHOLE, id, &whole, &whole_len, err) < 0)
		return -1;
	if (load_part(m, STEP, id, &step, &step_len, &why) < 0 && why.code != VC_ENOTFOUND)
		return vc_error_set(err, why.code, "%s", why.text);
	return agree_record_decode(r, whole, whole_len, step, step_len, ret, err);
}

int membership_forget(struct membership *m, const char *cluster, struct vc_error *err)
{
	if (state_item_remove(m->vcd->state, WHOLE, cluster, err) < 0)
		return -1;
	return state_item_remove(m->vcd->state, STEP, cluster, err);
}

// --- the controller is told --------------------------------------------------------------------------------------

static void view_told(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct membership_cluster *c = ctx;
	(void)result;
	c->telling = NULL;
	c->tell_at = err ? now_ms() + MEMBERSHIP_TELL_MS : 0;
	if (err && err->code != VC_ENOTFOUND) {
		c->told = 0;
		vc_log_debug("event.view: %s", err->text);
	}
}

static bool leads(const struct membership_cluster *c)
{
	const struct agree *a = core(c);
	const struct hostview *v = a ? agree_view(a) : NULL;
	return v && hostview_is_leader(v, hostview_find(v, agree_durable(a)->self));
}

static struct json_object *gone_hosts(const struct membership_cluster *c)
{
	struct json_object *list = json_object_new_array();
	for (uint32_t i = 0; list && i < c->view->n_hosts; i++) {
		if (c->view->hosts[i].state == HV_GONE)
			json_object_array_add(list, json_object_new_string(host_name(c, c->view->hosts[i].id)));
	}
	return list;
}

// View 1 is the controller's own.
static void tell_controller(struct membership_cluster *c)
{
	struct vc_error err = VC_ERROR_INIT;
	if (c->telling || c->view->epoch <= 1 || c->told >= c->view->epoch || now_ms() < c->tell_at || !leads(c))
		return;
	view_auto struct view *view = memberview_make(c->plan, c->view, &err);
	vc_autojson struct json_object *params = json_object_new_object();
	if (!view || vc_json_add_str(params, "cluster", c->plan->id) < 0 || vc_json_add(params, "view", view_to_json(view)) < 0 ||
	    vc_json_add(params, "gone", gone_hosts(c)) < 0)
		return;
	struct peer_args args = {.host = peers_controller(c->owner->vcd->peers), .method = "event.view", .params = params,
				 .timeout_ms = VIEW_CALL_MS, .done = view_told, .ctx = c};
	c->telling = peer_call(c->owner->vcd->peers, &args, &err);
	c->told = c->view->epoch;
}

// --- installs ----------------------------------------------------------------------------------------------------

static const char *const state_text[] = {[HV_ACTIVE] = "is there", [HV_LOST] = "has lost its vcd, its members go on",
					 [HV_GONE] = "is gone"};

static void log_changes(const struct membership_cluster *c, const struct hostview *v)
{
	uint32_t n_lost = 0;
	for (uint32_t i = 0; i < v->n_hosts; i++)
		n_lost += v->hosts[i].state == HV_LOST;
	vc_log_notice("cluster %.8s of job %" PRIu32 ": view %" PRIu64 ", %" PRIu32 " hosts, %" PRIu32 " without vcd", c->plan->id,
		      c->plan->key.job, v->epoch, v->n_voters, n_lost);
	for (uint32_t i = 0; i < v->n_hosts; i++) {
		uint32_t was = hostview_find(c->view, v->hosts[i].id);
		if (was == HOSTVIEW_NONE || c->view->hosts[was].state != v->hosts[i].state)
			vc_log_notice("cluster %.8s: host %s %s", c->plan->id, host_name(c, v->hosts[i].id), state_text[v->hosts[i].state]);
	}
	for (uint32_t i = 0; i < v->n_members && i < c->view->n_members; i++) {
		if (v->members[i].lost != c->view->members[i].lost)
			vc_log_notice("cluster %.8s: the agent of member %" PRIu32 " %s", c->plan->id, v->members[i].rank,
				      v->members[i].lost ? "does not answer its host" : "answers again");
		if (v->members[i].host != c->view->members[i].host)
			vc_log_notice("cluster %.8s: member %" PRIu32 " is on host %s now", c->plan->id, v->members[i].rank,
				      host_name(c, v->members[i].host));
		if (v->members[i].state != c->view->members[i].state)
			vc_log_notice("cluster %.8s: member %" PRIu32 " is %s", c->plan->id, v->members[i].rank,
				      view_state_name((enum view_state)v->members[i].state));
	}
}

static void publish(struct membership_cluster *c)
{
	c->to_publish = false;
	c->lacking = !memberview_has_all(c->plan, c->view);
	if (c->lacking) {
		c->ops->lacks_plan(c->ctx);
	} else {
		hostview_unref(c->told_here);
		c->told_here = hostview_ref(c->view);
		c->ops->view(c->ctx, c->view->epoch);
	}
	tell_controller(c);
}

struct json_object *membership_view(const struct membership_cluster *c)
{
	struct vc_error err = VC_ERROR_INIT;
	view_auto struct view *view = c->told_here ? memberview_make(c->plan, c->told_here, &err) : NULL;
	struct json_object *json = view ? view_to_json(view) : NULL;
	if (!json && c->told_here)
		vc_log_err("cluster %.8s, view %" PRIu64 ": %s", c->plan->id, c->told_here->epoch, err.code ? err.text : "out of memory");
	return json;
}

static void is_in(struct membership_cluster *c)
{
	c->ask_in_at = 0;
	if (!c->removed)
		return;
	c->removed = false;
	vc_log_notice("cluster %.8s of job %" PRIu32 ": this host is in it again", c->plan->id, c->plan->key.job);
	c->ops->returned(c->ctx);
}

static void install(struct membership_cluster *c)
{
	const struct hostview *v = agree_durable(core(c))->view;
	if (v->epoch <= c->view->epoch)
		return;
	log_changes(c, v);
	hostview_unref(c->view);
	c->view = hostview_ref((struct hostview *)v);
	if (agree_is_voter(core(c)))
		is_in(c);
	c->to_publish = true;
}

// --- outputs of the core -----------------------------------------------------------------------------------------

static void send_message(struct membership_cluster *c, uint32_t number, const struct agree_msg *msg)
{
	struct membership *m = c->owner;
	vc_autobuf struct vc_buf bytes = VC_BUF_INIT(AGREE_WIRE_MAX);
	if (msg->to == AGREE_WITNESS)
		number = m->controller;
	if (number == HOSTVIEW_NONE || agree_msg_encode(msg, &bytes) < 0)
		return;
	if (number == 0 && msg->to == AGREE_WITNESS) // this host is the witness as well
		memberwitness_take(m->witness, 0, c->plan->id, msg);
	else
		memberlinks_send(m->links, number, c->plan->id, vc_buf_head(&bytes), bytes.len);
}

static void persist(struct membership_cluster *c, bool lazy)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct agree *a = core(c);
	if (save(c->owner, c->plan->id, &c->record, agree_durable(a), agree_last(a), lazy, &err) == 0)
		return;
	c->broken = true; // nothing that depends on it is said: this host votes no more
	vc_log_err("cluster %.8s of job %" PRIu32 ": this host leaves its membership: %s", c->plan->id, c->plan->key.job, err.text);
}

static void carry_out(struct membership_cluster *c, struct site_out *o)
{
	if (c->broken || c->left)
		return;
	switch (o->agree.kind) {
	case AGREE_OUT_PERSIST:
		persist(c, o->agree.lazy);
		break;
	case AGREE_OUT_SEND:
		send_message(c, o->number, &o->agree.msg);
		break;
	case AGREE_OUT_VIEW:
		install(c);
		break;
	case AGREE_OUT_REMOVED:
		publish(c);
		c->removed = true;
		vc_log_warning("cluster %.8s of job %" PRIu32 ": the other hosts go on without this one", c->plan->id, c->plan->key.job);
		c->ops->removed(c->ctx);
		break;
	}
}

static void free_cluster(struct membership_cluster *c)
{
	if (c->site)
		site_remove(c->owner->site, c->site);
	peer_cancel(c->telling);
	hostview_unref(c->view);
	hostview_unref(c->told_here);
	agree_record_clear(&c->record);
	free(c->numbers);
	free(c);
}

static void bury(struct membership *m)
{
	for (struct membership_cluster **at = &m->clusters; *at;) {
		struct membership_cluster *c = *at;
		if (c->broken && c->site) {
			site_remove(m->site, c->site);
			c->site = NULL;
		}
		if (!c->left) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		free_cluster(c);
	}
}

static bool wants_in(const struct membership_cluster *c)
{
	return core(c) && c->ask_in_at && c->view->epoch > 0; // first it must know the view that it wants to be in
}

static void ask_in(struct membership_cluster *c)
{
	if (!wants_in(c) || now_ms() < c->ask_in_at)
		return;
	bool busy = agree_busy(core(c));
	c->ask_in_at = now_ms() + (busy ? ASK_BUSY_MS : ASK_IN_MS);
	if (!busy)
		agree_ask_in(core(c), now_ms());
}

static void on_timer(uv_timer_t *timer);

static void arm(struct membership *m)
{
	uint64_t now = now_ms(), next = site_next(m->site);
	if (m->stopped)
		return;
	for (const struct membership_cluster *c = m->clusters; c; c = c->next) {
		if (wants_in(c) && c->ask_in_at < next)
			next = c->ask_in_at;
	}
	if (m->clusters)
		uv_timer_start(&m->timer, on_timer, next > now ? next - now : 1, 0);
	else
		uv_timer_stop(&m->timer);
}

static void carry_out_all(struct membership *m)
{
	struct site_out o;
	while (site_pop(m->site, now_ms(), &o)) {
		if (o.datagram) {
			memberlinks_beat(m->links, &o.beat);
			continue;
		}
		carry_out(site_ctx(o.cluster), &o);
		agree_msg_clear(&o.agree.msg);
	}
}

static bool publish_all(struct membership *m)
{
	bool any = false;
	for (struct membership_cluster *c = m->clusters; c; c = c->next) {
		if (!c->to_publish || c->left)
			continue;
		publish(c);
		any = true;
	}
	return any;
}

// Everything that the core wants done, in its order; what is called from here may give it more. Other hosts wait for what is
// sent, so that this host's own members read a view after that.
static void drain(struct membership *m)
{
	if (m->draining || m->stopped)
		return;
	m->draining = true;
	do
		carry_out_all(m);
	while (publish_all(m));
	m->draining = false;
	bury(m);
	arm(m);
}

static void on_timer(uv_timer_t *timer)
{
	struct membership *m = timer->data;
	site_tick(m->site, now_ms());
	for (struct membership_cluster *c = m->clusters; c; c = c->next) {
		tell_controller(c);
		ask_in(c);
	}
	drain(m);
}

// --- what comes in -----------------------------------------------------------------------------------------------

static void on_beat(void *ctx, const struct detect_out *beat)
{
	struct membership *m = ctx;
	site_heard(m->site, now_ms(), beat->peer, beat->kind, beat->subject, beat->ask);
	drain(m);
}

static void on_closed(void *ctx, uint32_t number)
{
	struct membership *m = ctx;
	vc_log_debug("vcd of %s is gone, its kernel answers", memberlinks_name(m->links, number));
	site_closed(m->site, now_ms(), number);
	drain(m);
}

// A message speaks for the host that sent it, or for the witness when the controller sent it.
static bool is_from(const struct membership_cluster *c, uint32_t number, const struct agree_msg *msg)
{
	struct membership *m = c->owner;
	if (msg->from == AGREE_WITNESS)
		return number == m->controller;
	return msg->from < c->plan->n_hosts && c->numbers[msg->from] == number;
}

static void take_message(struct membership *m, uint32_t from, const char *id, const struct agree_msg *msg)
{
	struct membership_cluster *c = find(m, id);
	if (msg->to == AGREE_WITNESS) {
		memberwitness_take(m->witness, from, id, msg);
		return;
	}
	if (!c || !core(c))
		return;
	if (!is_from(c, from, msg) || msg->to != agree_durable(core(c))->self) {
		m->bad++;
		return;
	}
	agree_recv(core(c), now_ms(), msg);
}

static void on_message(void *ctx, uint32_t from, const char *id, const uint8_t *data, size_t len)
{
	struct membership *m = ctx;
	struct agree_msg msg;
	if (agree_msg_decode(data, len, &msg, NULL) < 0) {
		m->bad++;
		return;
	}
	site_heard(m->site, now_ms(), from, DETECT_OUT_BEAT, 0, false);
	take_message(m, from, id, &msg);
	agree_msg_clear(&msg);
	drain(m);
}

static const struct memberlink_ops link_ops = {.beat = on_beat, .message = on_message, .closed = on_closed};

// The witness of this host answers: to a host over its link, to this host itself at once.
static void witness_answers(void *ctx, uint32_t to, const char *id, const struct agree_msg *msg)
{
	struct membership *m = ctx;
	vc_autobuf struct vc_buf bytes = VC_BUF_INIT(AGREE_WIRE_MAX);
	if (to == 0) {
		struct membership_cluster *c = find(m, id);
		if (c && core(c))
			agree_recv(core(c), now_ms(), msg);
	} else if (agree_msg_encode(msg, &bytes) == 0) {
		memberlinks_send(m->links, to, id, vc_buf_head(&bytes), bytes.len);
	}
}

// --- facts of others ---------------------------------------------------------------------------------------------

static const struct {
	const char *name;
	enum hv_kind kind;
} facts[] = {{"leave", HV_HOST_LEAVE}, {"fail", HV_HOST_FAIL}};

static void host_fact(struct membership_cluster *c, const char *host, enum hv_kind kind)
{
	int index = plan_host_index(c->plan, host);
	uint32_t at = index < 0 ? HOSTVIEW_NONE : hostview_find(c->view, (uint32_t)index);
	if (at == HOSTVIEW_NONE)
		return;
	struct hv_event e = {.kind = (uint8_t)kind, .evidence = HV_BY_SLURM, .id = (uint32_t)index,
			     .incarnation = c->view->hosts[at].incarnation};
	agree_fact(core(c), now_ms(), &e);
}

// Slurm's word on hosts, which the controller passes on.
static int method_fact(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct membership *m = ctx;
	const char *id, *what;
	vc_autostrv char **hosts = NULL;
	if (vc_json_str(rpc_params(req), "cluster", PLAN_ID_LEN, &id, err) < 0 ||
	    vc_json_strv(rpc_params(req), "hosts", VC_HOSTS_MAX, VC_HOSTNAME_MAX, &hosts, err) < 0 ||
	    vc_json_str(rpc_params(req), "event", 16, &what, err) < 0)
		return -1;
	struct membership_cluster *c = find(m, id);
	if (!c || !core(c))
		return vc_error_set(err, VC_ENOTFOUND, "cluster %.8s has no membership here", id);
	for (size_t i = 0; i < VC_ARRAY_LEN(facts); i++) {
		for (size_t k = 0; strcmp(what, facts[i].name) == 0 && hosts[k]; k++)
			host_fact(c, hosts[k], facts[i].kind);
	}
	rpc_reply(req, NULL);
	drain(m);
	return 0;
}

static const struct rpc_method methods[] = {{"member.fact", RPC_PEER, RPC_HOST, 0, method_fact}};

// --- for a cluster's share ---------------------------------------------------------------------------------------

static int first_record(struct membership *m, const struct plan *plan, uint32_t self, struct agree_record *r,
			struct agree_durable *d, struct vc_error *err)
{
	*d = (struct agree_durable){.self = self, .incarnation = 1, .view = memberview_first(plan)};
	if (!d->view)
		return vc_error_errno(err, "membership");
	if (save(m, plan->id, r, d, NULL, false, err) == 0)
		return 0;
	agree_durable_clear(d);
	return -1;
}

// A host that comes later knows whom to ask, and nothing else.
static int joining_record(struct membership *m, const struct plan *plan, uint32_t self, struct agree_record *r,
			  struct agree_durable *d, struct vc_error *err)
{
	vc_autofree uint32_t *others = calloc(plan->n_hosts + 1, sizeof(*others));
	uint32_t n = 0;
	if (!others)
		return vc_error_errno(err, "membership");
	for (uint32_t i = 0; i < plan->n_hosts; i++) {
		if (i != self && !plan->hosts[i].gone)
			others[n++] = i;
	}
	*d = (struct agree_durable){.self = self, .view = hostview_hearsay(others, n)};
	if (save(m, plan->id, r, d, NULL, false, err) == 0)
		return 0;
	agree_durable_clear(d);
	return -1;
}

static int new_record(struct membership *m, const struct plan *plan, enum membership_begin begin, struct agree_record *r,
		      struct agree_durable *d, struct vc_error *err)
{
	int self = plan_host_index(plan, m->vcd->conf->host_name);
	if (self < 0)
		return vc_error_set(err, VC_EPROTO, "the plan does not name this host");
	if (state_item_remove(m->vcd->state, STEP, plan->id, err) < 0) // a vcd that ended while it forgot one may have left it
		return -1;
	return (begin == MEMBERSHIP_FIRST ? first_record : joining_record)(m, plan, (uint32_t)self, r, d, err);
}

static int number_hosts(struct membership_cluster *c, struct vc_error *err)
{
	uint32_t *numbers = reallocarray(c->numbers, c->plan->n_hosts + 1, sizeof(*numbers));
	if (!numbers)
		return vc_error_errno(err, "membership");
	c->numbers = numbers;
	for (size_t i = 0; i < c->plan->n_hosts; i++)
		numbers[i] = memberlinks_number(c->owner->links, c->plan->hosts[i].name);
	return 0;
}

static int add_to_site(struct membership_cluster *c, const struct agree_durable *d, struct vc_error *err)
{
	struct membership *m = c->owner;
	struct agree_conf conf = {.times = agree_default_times(), .boot = m->boot};
	if (number_hosts(c, err) < 0)
		return -1;
	c->site = site_add(m->site, &conf, d, c->numbers, (uint32_t)c->plan->n_hosts, c, now_ms());
	return 0;
}

struct membership_cluster *membership_join(struct membership *m, const struct plan *plan, enum membership_begin begin,
					   const struct membership_ops *ops, void *ctx, struct vc_error *err)
{
	struct agree_durable d = {0};
	struct agree_record record = {0};
	struct vc_error why = VC_ERROR_INIT;
	int rc = load(m, plan->id, &record, &d, &why);
	if (rc < 0 && why.code == VC_ENOTFOUND && begin != MEMBERSHIP_AGAIN)
		rc = new_record(m, plan, begin, &record, &d, &why);
	struct membership_cluster *c = rc == 0 ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		agree_durable_clear(&d);
		agree_record_clear(&record);
		vc_error_set(err, why.code ? why.code : ENOMEM, "membership of cluster %.8s: %s", plan->id, why.code ? why.text : "out of memory");
		return NULL;
	}
	*c = (struct membership_cluster){.owner = m, .plan = plan, .view = hostview_ref(d.view), .record = record, .ops = ops,
					   .ctx = ctx};
	rc = add_to_site(c, &d, err);
	agree_durable_clear(&d);
	if (rc < 0) {
		free_cluster(c);
		return NULL;
	}
	c->next = m->clusters;
	m->clusters = c;
	if (c->view->epoch > 1)
		publish(c);
	c->removed = c->view->epoch > 0 && !agree_is_voter(core(c));
	c->ask_in_at = c->view->epoch == 0 ? now_ms() : 0;
	site_tick(m->site, now_ms());
	drain(m);
	return c;
}

void membership_plan(struct membership_cluster *c, const struct plan *plan)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct plan *old = c->plan;
	c->plan = plan;
	if (number_hosts(c, &err) < 0) { // the old one stands: the share tries again
		c->plan = old;
		vc_log_err("cluster %.8s: %s", plan->id, err.text);
		return;
	}
	for (uint32_t i = 0; c->site && i < plan->n_hosts; i++)
		site_map(c->site, i, c->numbers[i]);
	if (c->lacking)
		publish(c);
}

bool membership_lacks_plan(const struct membership_cluster *c)
{
	return c->lacking;
}

bool membership_host_is_gone(const struct membership_cluster *c, uint32_t host)
{
	uint32_t at = hostview_find(c->view, host);
	return at != HOSTVIEW_NONE && c->view->hosts[at].state == HV_GONE;
}

bool membership_is_removed(const struct membership_cluster *c)
{
	return c->removed;
}

void membership_ask_in(struct membership_cluster *c)
{
	if (!c->removed || c->ask_in_at)
		return;
	c->ask_in_at = now_ms();
	ask_in(c);
	drain(c->owner);
}

void membership_leave(struct membership_cluster *c)
{
	if (!c)
		return;
	c->left = true;
	if (!c->owner->draining)
		bury(c->owner);
}

static const struct hv_member *find_member(const struct membership_cluster *c, uint32_t rank)
{
	if (rank < c->view->n_members && c->view->members[rank].rank == rank) // nearly always
		return &c->view->members[rank];
	for (uint32_t i = 0; i < c->view->n_members; i++) {
		if (c->view->members[i].rank == rank)
			return &c->view->members[i];
	}
	return NULL;
}

static void tell_fact(struct membership_cluster *c, uint32_t rank, enum hv_kind kind, int what, enum hv_evidence evidence)
{
	const struct hv_member *m = find_member(c, rank);
	struct agree *a = core(c);
	if (!a || (!m && (kind != HV_MEMBER || what != VIEW_JOIN)))
		return;
	struct hv_event e = {.kind = (uint8_t)kind, .what = (uint8_t)what, .evidence = (uint8_t)evidence, .id = rank,
			     .host = m && !(kind == HV_MEMBER && what == HV_MOVE) ? m->host : agree_durable(a)->self, .incarnation = m ? m->incarnation : 1};
	agree_fact(a, now_ms(), &e);
	drain(c->owner);
}

static void member_fact(struct membership_cluster *c, uint32_t rank, int what, enum hv_evidence evidence)
{
	tell_fact(c, rank, HV_MEMBER, what, evidence);
}

void membership_member_down(struct membership_cluster *c, uint32_t rank)
{
	member_fact(c, rank, VIEW_FAIL, HV_BY_DOMAIN);
}

void membership_member_leaves(struct membership_cluster *c, uint32_t rank)
{
	member_fact(c, rank, VIEW_LEAVE, HV_BY_ANNOUNCEMENT);
}

void membership_member_runs(struct membership_cluster *c, uint32_t rank, uint64_t epoch, bool linked)
{
	const struct hv_member *m = find_member(c, rank);
	if (!core(c) || !agree_is_voter(core(c)) || c->lacking)
		return;
	if (m && m->host != agree_durable(core(c))->self) {
		member_fact(c, rank, HV_MOVE, HV_BY_DOMAIN);
		return;
	}
	if (m && m->state != VIEW_GONE && m->lost == linked)
		tell_fact(c, rank, HV_AGENT, !linked, HV_BY_EOF);
	else if (!linked)
		return;
	else if (!m)
		member_fact(c, rank, VIEW_JOIN, HV_BY_DOMAIN);
	else if (m->state == VIEW_GONE)
		member_fact(c, rank, VIEW_RETURN, HV_BY_DOMAIN);
	else if (m->state == VIEW_JOINING && epoch >= c->view->epoch)
		member_fact(c, rank, VIEW_UP, HV_BY_DOMAIN);
}

void membership_member_moved(struct membership_cluster *c, uint32_t rank)
{
	member_fact(c, rank, HV_MOVE, HV_BY_DOMAIN);
}

uint32_t membership_member_host(const struct membership_cluster *c, uint32_t rank)
{
	const struct hv_member *m = find_member(c, rank);
	return m ? m->host : HOSTVIEW_NONE;
}

uint64_t membership_valid_ms(const struct membership_cluster *c)
{
	const struct agree *a = core(c);
	uint64_t until = a ? agree_valid_until(a) : 0, now = now_ms();
	return until > now ? until - now : 0;
}

// --- check -------------------------------------------------------------------------------------------------------

static void check_cluster(const struct membership_cluster *c, struct check_report *report)
{
	char why[256] = "this host could not write its record";
	if (core(c))
		agree_reason(core(c), now_ms(), why, sizeof(why));
	if (why[0])
		check_finding(report, CHECK_WARNING, "see that the hosts of the job run and reach each other; the members that are cut off have a stale view",
			      "job %" PRIu32 " has no view after %" PRIu64 ": %s", c->plan->key.job, c->view->epoch, why);
	for (uint32_t i = 0; i < c->view->n_hosts; i++) {
		if (c->view->hosts[i].state == HV_LOST && leads(c))
			check_finding(report, CHECK_WARNING, "start vcd there", "vcd of %s is away: its members of job %" PRIu32 " go on unmanaged",
				      host_name(c, c->view->hosts[i].id), c->plan->key.job);
	}
}

static void check_links(struct check_report *report, void *ctx)
{
	struct membership *m = ctx;
	for (const struct membership_cluster *c = m->clusters; c; c = c->next)
		check_cluster(c, report);
	if (m->bad + memberlinks_bad(m->links) > 0)
		check_finding(report, CHECK_INFO, "", "%" PRIu64 " datagrams between vcds were dropped: late, or not from whom they said",
			      m->bad + memberlinks_bad(m->links));
}

// --- life --------------------------------------------------------------------------------------------------------

static int fill(struct membership *m, struct vc_error *err)
{
	struct detect_times times = detect_default_times(PERIOD_MS);
	if (!(m->links = memberlinks_create(m->vcd, &link_ops, m, err)) ||
	    !(m->witness = memberwitness_create(m->vcd, m->links, witness_answers, m, err)))
		return -1;
	m->controller = memberlinks_number(m->links, peers_controller(m->vcd->peers));
	m->site = site_create(0, &times, now_ms());
	if (m->controller != 0)
		site_observer(m->site, m->controller);
	if (rpc_register(m->vcd->rpc, methods, VC_ARRAY_LEN(methods), m, err) < 0)
		return -1;
	return check_register(m->vcd->check, "membership", CHECK_ON_LOOP, check_links, m, err);
}

struct membership *membership_create(struct vcd *vcd, struct vc_error *err)
{
	struct membership *m = calloc(1, sizeof(*m));
	if (!m) {
		vc_error_errno(err, "membership");
		return NULL;
	}
	m->vcd = vcd;
	randombytes_buf(&m->boot, sizeof(m->boot));
	uv_timer_init(&vcd->loop, &m->timer);
	m->timer.data = m;
	if (fill(m, err) == 0)
		return m;
	membership_stop(m);
	uv_run(&vcd->loop, UV_RUN_NOWAIT);
	membership_destroy(m);
	return NULL;
}

void membership_stop(struct membership *m)
{
	if (!m || m->stopped)
		return;
	m->stopped = true;
	for (struct membership_cluster *c = m->clusters; c; c = c->next)
		peer_cancel(vc_steal(&c->telling));
	memberlinks_stop(m->links);
	uv_close((uv_handle_t *)&m->timer, NULL);
}

void membership_destroy(struct membership *m)
{
	if (!m)
		return;
	while (m->clusters) {
		struct membership_cluster *c = m->clusters;
		m->clusters = c->next;
		free_cluster(c);
	}
	site_destroy(m->site);
	memberwitness_destroy(m->witness);
	memberlinks_destroy(m->links);
	free(m);
}
