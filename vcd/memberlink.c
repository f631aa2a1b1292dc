// SPDX-License-Identifier: GPL-2.0-or-later
// Links between vcds for the membership: see memberlink.h. Owns the UDP socket, the table of hosts and their keys, the open
// requests member.link both ways, and probes of hosts whose connection ended.
#include "vcd/memberlink.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/member/hostview.h"
#include "vcd/memberpkt.h"
#include "vcd/peer.h"
#include "vcd/rpc.h"
#include "vcd/server.h"
#include "vcd/vcd.h"

#define MESSAGE_MS 2000u	     // member.message: the protocol repeats what is not answered
#define MESSAGE_MAX (1u << 20)	     // bytes of one, as AGREE_WIRE_MAX
#define LINK_FOREVER UINT64_MAX	     // member.link ends with its connection
#define PROBE_TRIES 20		     // a process that was killed closes its sockets one after the other
#define SOCKET_BUFFER (1 << 20)	     // bytes: bursts of all leaders at once while the loop writes to disk

struct unsent {
	struct unsent *next;
	struct memberpkt pkt;
	uint8_t body[];
};

struct link {
	struct memberlinks *links;
	char name[VC_HOSTNAME_MAX + 1];
	uint32_t number;
	// to it: what it told
	bool known;
	struct sockaddr_storage udp, tcp;
	uint8_t key[MEMBERPKT_KEY_LEN];
	uint32_t slot;
	uint64_t seq;
	// from it: what this host told
	uint8_t own_key[MEMBERPKT_KEY_LEN];
	struct memberwindow window;

	struct peer_call *call;	      // this host's member.link there
	bool answered;		      // and the other side has answered it
	struct rpc_request *incoming; // its member.link here
	uv_tcp_t *probe;
	unsigned probe_tries;
	uint64_t probe_until, retry_at, used_at; // loop time
	struct unsent *unsent;
	unsigned n_unsent;
};

struct memberlinks {
	struct vcd *vcd;
	const struct memberlink_ops *ops;
	void *ctx;
	struct link **links; // by number
	uint32_t n;
	uv_udp_t udp;
	uv_timer_t timer;
	bool udp_open, stopped;
	int family;
	uint64_t bad;
	uint8_t in[MEMBERPKT_MAX + 1];
};

static uint64_t now(const struct memberlinks *l)
{
	return uv_now(&l->vcd->loop);
}

// --- the table of hosts ------------------------------------------------------------------------------------------

static struct link *new_link(struct memberlinks *l, const char *host)
{
	if (l->n >= HOSTVIEW_HOSTS_MAX || strlen(host) > VC_HOSTNAME_MAX)
		return NULL;
	struct link **grown = reallocarray(l->links, l->n + 1, sizeof(*grown));
	struct link *k = grown ? calloc(1, sizeof(*k)) : NULL;
	if (grown)
		l->links = grown;
	if (!k)
		return NULL;
	k->links = l;
	k->number = l->n;
	snprintf(k->name, sizeof(k->name), "%s", host);
	randombytes_buf(k->own_key, sizeof(k->own_key));
	l->links[l->n++] = k;
	return k;
}

static struct link *find_link(struct memberlinks *l, const char *host)
{
	for (uint32_t i = 0; i < l->n; i++) {
		if (strcmp(l->links[i]->name, host) == 0)
			return l->links[i];
	}
	return new_link(l, host);
}

uint32_t memberlinks_number(struct memberlinks *l, const char *host)
{
	const struct link *k = find_link(l, host);
	return k ? k->number : UINT32_MAX;
}

const char *memberlinks_name(const struct memberlinks *l, uint32_t number)
{
	return number < l->n ? l->links[number]->name : "?";
}

bool memberlinks_is_open(const struct memberlinks *l, uint32_t number)
{
	return number < l->n && l->links[number]->call && l->links[number]->answered;
}

uint64_t memberlinks_bad(const struct memberlinks *l)
{
	return l->bad;
}

// --- addresses ---------------------------------------------------------------------------------------------------

// The same host and another port, in the family of our socket: a v6 socket takes mapped v4 addresses, a v4 socket only v4.
static void set_address(struct sockaddr_storage *to, const struct sockaddr_storage *from, int family, int port)
{
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)from;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
	struct sockaddr_storage ss = *from;
	if (family == AF_INET6 && from->ss_family == AF_INET) {
		struct sockaddr_in6 *out = (struct sockaddr_in6 *)&ss;
		*out = (struct sockaddr_in6){.sin6_family = AF_INET6};
		out->sin6_addr.s6_addr[10] = out->sin6_addr.s6_addr[11] = 0xff;
		memcpy(&out->sin6_addr.s6_addr[12], &in4->sin_addr, sizeof(in4->sin_addr));
	} else if (family == AF_INET && from->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		struct sockaddr_in *out = (struct sockaddr_in *)&ss;
		*out = (struct sockaddr_in){.sin_family = AF_INET};
		memcpy(&out->sin_addr, &in6->sin6_addr.s6_addr[12], sizeof(out->sin_addr));
	}
	if (ss.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&ss)->sin6_port = htons((uint16_t)port);
	else
		((struct sockaddr_in *)&ss)->sin_port = htons((uint16_t)port);
	*to = ss;
}

// --- datagrams out -----------------------------------------------------------------------------------------------

static void send_now(struct link *k, struct memberpkt *pkt)
{
	uint8_t out[MEMBERPKT_MAX];
	pkt->slot = k->slot;
	pkt->seq = k->seq++;
	size_t len = memberpkt_encode(pkt, k->key, out);
	uv_buf_t buf = uv_buf_init((char *)out, (unsigned)len);
	if (len && k->links->udp_open)
		(void)uv_udp_try_send(&k->links->udp, &buf, 1, (const struct sockaddr *)&k->udp); // lost like any other
}

static void drop_unsent(struct link *k)
{
	for (struct unsent *u; (u = k->unsent);) {
		k->unsent = u->next;
		free(u);
	}
	k->n_unsent = 0;
}

static void keep_unsent(struct link *k, const struct memberpkt *pkt)
{
	struct unsent **last = &k->unsent;
	if (k->n_unsent == MEMBERLINK_UNSENT_MAX) {
		struct unsent *oldest = k->unsent;
		k->unsent = oldest->next;
		free(oldest);
		k->n_unsent--;
	}
	struct unsent *u = malloc(sizeof(*u) + pkt->body_len);
	if (!u)
		return;
	*u = (struct unsent){.pkt = *pkt};
	if (pkt->body_len)
		memcpy(u->body, pkt->body, pkt->body_len);
	u->pkt.body = u->body;
	while (*last)
		last = &(*last)->next;
	*last = u;
	k->n_unsent++;
}

static void flush_unsent(struct link *k)
{
	for (struct unsent *u = k->unsent; u; u = u->next)
		send_now(k, &u->pkt);
	drop_unsent(k);
}

static void open_link(struct link *k);

static void send_pkt(struct link *k, struct memberpkt *pkt)
{
	k->used_at = now(k->links);
	open_link(k);
	if (k->known)
		send_now(k, pkt);
	else
		keep_unsent(k, pkt);
}

void memberlinks_beat(struct memberlinks *l, const struct detect_out *beat)
{
	static const uint8_t kinds[] = {[DETECT_OUT_BEAT] = MEMBERPKT_BEAT, [DETECT_OUT_OBSERVE] = MEMBERPKT_OBSERVE,
					[DETECT_OUT_SEEN] = MEMBERPKT_SEEN};
	struct memberpkt pkt = {.ask = beat->ask};
	if (l->stopped || beat->peer >= l->n || beat->peer == 0 || beat->kind > DETECT_OUT_SEEN)
		return;
	pkt.kind = kinds[beat->kind];
	snprintf(pkt.subject, sizeof(pkt.subject), "%s", beat->kind == DETECT_OUT_BEAT ? "" : memberlinks_name(l, beat->subject));
	send_pkt(l->links[beat->peer], &pkt);
}

static void long_sent(void *ctx, struct json_object *result, const struct vc_error *err)
{
	(void)ctx;
	(void)result;
	if (err)
		vc_log_debug("member.message: %s", err->text);
}

static void send_long(struct link *k, const char *cluster, const uint8_t *data, size_t len)
{
	vc_autojson struct json_object *params = json_object_new_object();
	struct vc_error err = VC_ERROR_INIT;
	if (!params || vc_json_add_str(params, "cluster", cluster) < 0 || vc_json_add_bytes(params, "data", data, len) < 0)
		return;
	struct peer_args args = {.host = k->name, .method = "member.message", .params = params, .timeout_ms = MESSAGE_MS,
				 .done = long_sent};
	if (!peer_call(k->links->vcd->peers, &args, &err))
		vc_log_debug("member.message: %s", err.text);
}

void memberlinks_send(struct memberlinks *l, uint32_t number, const char *cluster, const uint8_t *data, size_t len)
{
	struct memberpkt pkt = {.kind = MEMBERPKT_AGREE, .body = data, .body_len = len};
	if (l->stopped || number >= l->n || number == 0)
		return;
	if (len > MEMBERPKT_BODY_MAX)
		send_long(l->links[number], cluster, data, len);
	else if (sodium_hex2bin(pkt.cluster, sizeof(pkt.cluster), cluster, strlen(cluster), NULL, NULL, NULL) == 0)
		send_pkt(l->links[number], &pkt);
}

// --- datagrams in ------------------------------------------------------------------------------------------------

static void take_pkt(struct link *k, const struct memberpkt *pkt)
{
	static const enum detect_out_kind kinds[] = {[MEMBERPKT_BEAT] = DETECT_OUT_BEAT, [MEMBERPKT_OBSERVE] = DETECT_OUT_OBSERVE,
						     [MEMBERPKT_SEEN] = DETECT_OUT_SEEN};
	struct memberlinks *l = k->links;
	if (pkt->kind == MEMBERPKT_AGREE) {
		char cluster[PLAN_ID_LEN + 1];
		sodium_bin2hex(cluster, sizeof(cluster), pkt->cluster, sizeof(pkt->cluster));
		l->ops->message(l->ctx, k->number, cluster, pkt->body, pkt->body_len);
		return;
	}
	struct detect_out beat = {.kind = kinds[pkt->kind], .peer = k->number, .ask = pkt->ask};
	if (pkt->subject[0])
		beat.subject = memberlinks_number(l, pkt->subject);
	l->ops->beat(l->ctx, &beat);
}

static void take_datagram(struct memberlinks *l, const uint8_t *data, size_t len)
{
	struct memberpkt pkt;
	uint32_t slot;
	if (memberpkt_slot(data, len, &slot) < 0 || slot >= l->n ||
	    memberpkt_decode(data, len, l->links[slot]->own_key, &pkt, NULL) < 0 ||
	    !memberwindow_take(&l->links[slot]->window, pkt.seq)) {
		l->bad++;
		return;
	}
	take_pkt(l->links[slot], &pkt);
}

static void on_room(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
	struct memberlinks *l = handle->data;
	(void)hint;
	*buf = uv_buf_init((char *)l->in, sizeof(l->in));
}

static void on_datagram(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from, unsigned flags)
{
	struct memberlinks *l = udp->data;
	if (n > 0 && from && !(flags & UV_UDP_PARTIAL))
		take_datagram(l, (const uint8_t *)buf->base, (size_t)n);
}

// --- the end of a connection -------------------------------------------------------------------------------------

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void try_probe(struct link *k);

static void end_probe(struct link *k)
{
	if (k->probe)
		uv_close((uv_handle_t *)k->probe, free_handle);
	k->probe = NULL;
}

static void probe_room(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
	struct link *k = handle->data;
	(void)hint;
	*buf = uv_buf_init((char *)k->links->in, sizeof(k->links->in));
}

// A vcd that runs says HELLO. One that is just ending still listened a moment ago: then the end comes instead.
static void on_probe_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct link *k = stream->data;
	(void)buf;
	if (n == 0)
		return;
	end_probe(k);
	if (n < 0 && ++k->probe_tries < PROBE_TRIES)
		try_probe(k);
}

struct probe {
	uv_connect_t req;
	uv_tcp_t *tcp;
	struct link *link;
};

static void on_probed(uv_connect_t *req, int status)
{
	struct probe *p = req->data;
	struct link *k = p->link;
	uv_tcp_t *tcp = p->tcp;
	free(p);
	if (status == UV_ECANCELED) // given up: it is closed already
		return;
	tcp->data = k;
	if (status == 0 && uv_read_start((uv_stream_t *)tcp, probe_room, on_probe_read) == 0)
		return;
	end_probe(k);
	if (status == UV_ECONNREFUSED && !k->links->stopped)
		k->links->ops->closed(k->links->ctx, k->number);
}

static void try_probe(struct link *k)
{
	struct memberlinks *l = k->links;
	if (l->stopped || k->probe || !k->tcp.ss_family)
		return;
	struct probe *p = calloc(1, sizeof(*p));
	uv_tcp_t *tcp = p ? malloc(sizeof(*tcp)) : NULL;
	if (!tcp || uv_tcp_init(&l->vcd->loop, tcp) < 0) {
		free(p);
		free(tcp);
		return;
	}
	*p = (struct probe){.tcp = tcp, .link = k};
	p->req.data = p;
	if (uv_tcp_connect(&p->req, tcp, (const struct sockaddr *)&k->tcp, on_probed) < 0) {
		free(p);
		uv_close((uv_handle_t *)tcp, free_handle);
		return;
	}
	k->probe = tcp;
	k->probe_until = now(l) + MEMBERLINK_PROBE_MS;
}

// A connection may end for many reasons; that nobody listens there any more has only one.
static void probe(struct link *k)
{
	if (!k->probe)
		k->probe_tries = 0;
	try_probe(k);
}

// --- member.link -------------------------------------------------------------------------------------------------

// What the other side needs to send datagrams here.
static struct json_object *own_terms(struct link *k)
{
	struct memberlinks *l = k->links;
	struct sockaddr_storage ss = {0};
	int len = sizeof(ss), port = 0;
	char key[2 * MEMBERPKT_KEY_LEN + 1];
	if (uv_udp_getsockname(&l->udp, (struct sockaddr *)&ss, &len) == 0)
		port = ntohs(ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&ss)->sin6_port : ((struct sockaddr_in *)&ss)->sin_port);
	sodium_bin2hex(key, sizeof(key), k->own_key, sizeof(k->own_key));
	struct json_object *terms = json_object_new_object();
	vc_json_add_str(terms, "key", key);
	vc_json_add_u64(terms, "slot", k->number);
	vc_json_add_u64(terms, "seq", k->window.top + 1);
	vc_json_add_int(terms, "udp", port);
	vc_json_add_int(terms, "tcp", server_port(l->vcd->server));
	return terms;
}

static int take_terms(struct link *k, struct json_object *terms, const struct sockaddr_storage *from, struct vc_error *err)
{
	const char *key;
	uint32_t slot, udp, tcp;
	uint64_t seq;
	if (vc_json_str(terms, "key", 2 * MEMBERPKT_KEY_LEN, &key, err) < 0 ||
	    vc_json_u32(terms, "slot", HOSTVIEW_HOSTS_MAX, &slot, err) < 0 || vc_json_u64(terms, "seq", INT64_MAX, &seq, err) < 0 ||
	    vc_json_u32(terms, "udp", 65535, &udp, err) < 0 || vc_json_u32(terms, "tcp", 65535, &tcp, err) < 0)
		return -1;
	size_t len = 0;
	if (sodium_hex2bin(k->key, sizeof(k->key), key, strlen(key), NULL, &len, NULL) != 0 || len != sizeof(k->key))
		return vc_error_set(err, VC_EPROTO, "member.link: 'key' is not %d hex digits", 2 * MEMBERPKT_KEY_LEN);
	k->slot = slot;
	k->seq = seq > k->seq ? seq : k->seq; // of an earlier run of this vcd it has seen some already
	set_address(&k->udp, from, k->links->family, (int)udp);
	set_address(&k->tcp, from, from->ss_family, (int)tcp);
	k->known = true;
	flush_unsent(k);
	return 0;
}

static void link_answered(void *ctx, const char *method, struct json_object *params)
{
	struct link *k = ctx;
	struct vc_error err = VC_ERROR_INIT;
	struct sockaddr_storage from;
	if (strcmp(method, "member.linked") != 0 || peer_session_address(k->links->vcd->peers, k->name, &from) < 0)
		return;
	if (take_terms(k, params, &from, &err) < 0)
		vc_log_warning("link with vcd of %s: %s", k->name, err.text);
	else
		k->answered = true;
}

static void link_ended(void *ctx, struct json_object *result, const struct vc_error *err)
{
	struct link *k = ctx;
	bool was = k->answered;
	(void)result;
	k->call = NULL;
	k->answered = false;
	k->retry_at = now(k->links) + MEMBERLINK_RETRY_MS;
	if (err)
		vc_log_debug("link with vcd of %s: %s", k->name, err->text);
	if (was)
		probe(k);
}

static void open_link(struct link *k)
{
	struct memberlinks *l = k->links;
	struct vc_error err = VC_ERROR_INIT;
	if (k->call || l->stopped || now(l) < k->retry_at)
		return;
	vc_autojson struct json_object *params = own_terms(k);
	struct peer_args args = {.host = k->name, .method = "member.link", .params = params, .timeout_ms = LINK_FOREVER,
				 .notify = link_answered, .done = link_ended, .ctx = k};
	k->call = peer_call(l->vcd->peers, &args, &err);
	if (!k->call)
		k->retry_at = now(l) + MEMBERLINK_RETRY_MS;
}

static void incoming_gone(struct rpc_request *req, void *ctx)
{
	struct link *k = ctx;
	if (k->incoming == req)
		k->incoming = NULL;
	rpc_reply(req, NULL);
	probe(k);
}

static int method_link(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct memberlinks *l = ctx;
	struct sockaddr_storage from;
	struct link *k = find_link(l, rpc_caller(req)->host);
	if (!k || k->number == 0)
		return vc_error_set(err, VC_EUSER, "member.link: from no other host");
	if (rpc_caller_address(req, &from) < 0)
		return vc_error_set(err, VC_ECANCELED, "the caller went away");
	if (take_terms(k, rpc_params(req), &from, err) < 0)
		return -1;
	if (k->incoming) { // of a session that ended without our noticing
		struct rpc_request *old = k->incoming;
		k->incoming = NULL;
		rpc_on_cancel(old, NULL, NULL);
		rpc_reply(old, NULL);
	}
	k->incoming = req;
	rpc_notify(req, "member.linked", own_terms(k));
	rpc_on_cancel(req, incoming_gone, k);
	return 0;
}

static int method_message(struct rpc_request *req, void *ctx, struct vc_error *err)
{
	struct memberlinks *l = ctx;
	const char *cluster;
	vc_autofree uint8_t *data = NULL;
	size_t len;
	const struct link *k = find_link(l, rpc_caller(req)->host);
	if (vc_json_str(rpc_params(req), "cluster", PLAN_ID_LEN, &cluster, err) < 0 ||
	    vc_json_bytes(rpc_params(req), "data", MESSAGE_MAX, &data, &len, err) < 0)
		return -1;
	if (k && k->number != 0)
		l->ops->message(l->ctx, k->number, cluster, data, len);
	rpc_reply(req, NULL);
	return 0;
}

static const struct rpc_method methods[] = {
	{"member.link", RPC_PEER, RPC_HOST, 0, method_link},
	{"member.message", RPC_PEER, RPC_HOST, 0, method_message},
};

// --- time --------------------------------------------------------------------------------------------------------

static void look_at(struct link *k, uint64_t t)
{
	bool used = k->used_at && t - k->used_at < MEMBERLINK_IDLE_MS;
	if (k->probe && t >= k->probe_until)
		end_probe(k);
	if (used)
		open_link(k);
	else if (k->call) {
		peer_cancel(vc_steal(&k->call));
		k->answered = false;
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct memberlinks *l = timer->data;
	for (uint32_t i = 1; i < l->n; i++)
		look_at(l->links[i], now(l));
}

// --- life --------------------------------------------------------------------------------------------------------

static int bind_udp(struct memberlinks *l, const char *addr, int port)
{
	struct sockaddr_storage ss = {0};
	int rc = uv_ip4_addr(addr, port, (struct sockaddr_in *)&ss);
	if (rc < 0)
		rc = uv_ip6_addr(addr, port, (struct sockaddr_in6 *)&ss);
	if (rc == 0)
		rc = uv_udp_bind(&l->udp, (const struct sockaddr *)&ss, 0);
	l->family = ss.ss_family;
	return rc;
}

static int open_udp(struct memberlinks *l, struct vc_error *err)
{
	const struct conf *conf = l->vcd->conf;
	int size = SOCKET_BUFFER;
	uv_udp_init(&l->vcd->loop, &l->udp);
	l->udp.data = l;
	l->udp_open = true;
	int rc = bind_udp(l, *conf->listen ? conf->listen : "::", conf->port);
	if (rc < 0 && !*conf->listen)
		rc = bind_udp(l, "0.0.0.0", conf->port); // a kernel without IPv6
	if (rc == 0)
		rc = uv_udp_recv_start(&l->udp, on_room, on_datagram);
	if (rc < 0)
		return vc_error_set(err, -rc, "%s UDP port %d: %s", conf->listen, conf->port, uv_strerror(rc));
	(void)uv_recv_buffer_size((uv_handle_t *)&l->udp, &size); // the kernel's limit may be lower
	return 0;
}

struct memberlinks *memberlinks_create(struct vcd *vcd, const struct memberlink_ops *ops, void *ctx, struct vc_error *err)
{
	struct memberlinks *l = calloc(1, sizeof(*l));
	if (!l) {
		vc_error_errno(err, "membership");
		return NULL;
	}
	l->vcd = vcd;
	l->ops = ops;
	l->ctx = ctx;
	uv_timer_init(&vcd->loop, &l->timer);
	l->timer.data = l;
	uv_timer_start(&l->timer, on_timer, MEMBERLINK_TICK_MS, MEMBERLINK_TICK_MS);
	if (open_udp(l, err) == 0 && new_link(l, vcd->conf->host_name) &&
	    rpc_register(vcd->rpc, methods, VC_ARRAY_LEN(methods), l, err) == 0)
		return l;
	memberlinks_stop(l);
	uv_run(&vcd->loop, UV_RUN_NOWAIT);
	memberlinks_destroy(l);
	return NULL;
}

void memberlinks_stop(struct memberlinks *l)
{
	if (!l || l->stopped)
		return;
	l->stopped = true;
	for (uint32_t i = 0; i < l->n; i++) {
		peer_cancel(vc_steal(&l->links[i]->call));
		end_probe(l->links[i]);
		drop_unsent(l->links[i]);
	}
	if (l->udp_open)
		uv_close((uv_handle_t *)&l->udp, NULL);
	uv_close((uv_handle_t *)&l->timer, NULL);
}

void memberlinks_destroy(struct memberlinks *l)
{
	if (!l)
		return;
	for (uint32_t i = 0; i < l->n; i++)
		free(l->links[i]);
	free(l->links);
	free(l);
}
