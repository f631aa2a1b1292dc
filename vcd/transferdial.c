// SPDX-License-Identifier: GPL-2.0-or-later
// How a pipeline's threads reach other hosts, and how they ring the loop: see transfers_int.h. Nothing here is shared with the
// loop but the bell: addresses and names are copies.
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/message.h"
#include "vcd/conf.h"
#include "vcd/peer.h"
#include "vcd/pipe/pipe_limits.h"
#include "vcd/transfers_int.h"
#include "vcd/vcd.h"

// --- the bell -----------------------------------------------------------------------------------------------------------

struct bell {
	pthread_mutex_t lock;
	unsigned refs;
	uv_async_t *async; // NULL: stopped
};

struct bell *bell_create(uv_async_t *async)
{
	struct bell *b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	pthread_mutex_init(&b->lock, NULL);
	b->refs = 1;
	b->async = async;
	return b;
}

struct bell *bell_ref(struct bell *b)
{
	pthread_mutex_lock(&b->lock);
	b->refs++;
	pthread_mutex_unlock(&b->lock);
	return b;
}

void bell_stop(struct bell *b)
{
	pthread_mutex_lock(&b->lock);
	b->async = NULL;
	pthread_mutex_unlock(&b->lock);
}

void bell_unref(struct bell *b)
{
	pthread_mutex_lock(&b->lock);
	unsigned left = --b->refs;
	pthread_mutex_unlock(&b->lock);
	if (left)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static void ring(struct bell *b)
{
	pthread_mutex_lock(&b->lock);
	if (b->async)
		uv_async_send(b->async);
	pthread_mutex_unlock(&b->lock);
}

// --- the dialer ---------------------------------------------------------------------------------------------------------

struct place {
	char *host, *addr;
	int port;
};

struct dialer {
	struct bell *bell;
	char digest[DIGEST_HEX_LEN];
	char trace[VC_TRACE_LEN + 1];
	char *own_name, *munge_socket;
	struct place *places;
	size_t n;
};

void dialer_destroy(struct dialer *d)
{
	if (!d)
		return;
	for (size_t i = 0; d->places && i < d->n; i++) {
		free(d->places[i].host);
		free(d->places[i].addr);
	}
	free(d->places);
	free(d->own_name);
	free(d->munge_socket);
	bell_unref(d->bell);
	free(d);
}

static int fill_place(struct place *p, struct transfers *t, const char *host, struct vc_error *err)
{
	char addr[VC_HOSTNAME_MAX + 1];
	if (peer_address(t->vcd->peers, host, addr, sizeof(addr), &p->port, err) < 0)
		return -1;
	p->host = strdup(host);
	p->addr = strdup(addr);
	return p->host && p->addr ? 0 : vc_error_errno(err, "chain of hosts");
}

struct dialer *dialer_create(struct transfers *t, const char *digest, const char *trace, const char *const *hosts, size_t n,
			     struct vc_error *err)
{
	struct dialer *d = calloc(1, sizeof(*d));
	if (!d) {
		vc_error_errno(err, "chain of hosts");
		return NULL;
	}
	d->bell = bell_ref(t->bell);
	memcpy(d->digest, digest, sizeof(d->digest));
	snprintf(d->trace, sizeof(d->trace), "%s", trace ? trace : "");
	d->own_name = strdup(t->vcd->conf->host_name);
	d->munge_socket = strdup(t->vcd->conf->munge_socket);
	d->places = calloc(n + 1, sizeof(*d->places));
	int rc = d->own_name && d->munge_socket && d->places ? 0 : vc_error_set(err, ENOMEM, "chain of hosts: out of memory");
	for (size_t i = 0; rc == 0 && i < n; i++) {
		d->n = i + 1;
		rc = fill_place(&d->places[i], t, hosts[i], err);
	}
	if (rc == 0)
		return d;
	dialer_destroy(d);
	return NULL;
}

static const struct place *find_place(const struct dialer *d, const char *host)
{
	for (size_t i = 0; i < d->n; i++) {
		if (strcmp(d->places[i].host, host) == 0)
			return &d->places[i];
	}
	return NULL;
}

static int connect_start(const struct addrinfo *ai)
{
	vc_autoclose int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
	if (fd < 0 || (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0 && errno != EINPROGRESS))
		return -1;
	return vc_steal_fd(&fd);
}

// A vcd that lives says HELLO first, to anybody.
static bool answers(const struct place *p, int limit_ms)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	char service[16], byte;
	snprintf(service, sizeof(service), "%d", p->port);
	if (getaddrinfo(p->addr, service, &hints, &list) != 0)
		return false;
	vc_autoclose int fd = connect_start(list);
	freeaddrinfo(list);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	return fd >= 0 && poll(&poll_fd, 1, limit_ms) == 1 && recv(fd, &byte, 1, MSG_PEEK) == 1;
}

static bool probe(void *ctx, const char *host)
{
	const struct place *p = find_place(ctx, host);
	return p && answers(p, PIPE_PROBE_MS);
}

static int dial(void *ctx, const char *host, enum chain_ask how, int *ret_fd, struct vc_session **ret_session, struct vc_error *err)
{
	const struct dialer *d = ctx;
	const struct place *p = find_place(d, host);
	uint64_t wait_ms = how == CHAIN_WAIT ? TRANSFER_PARK_MS + TRANSFER_PARK_HOST_MS * d->n : 0;
	if (!p)
		return vc_error_set(err, VC_EFAILED, "host %s is not of the chain", host);
	if (!answers(p, PIPE_REACH_MS))
		return vc_error_set(err, VC_EHOST, "vcd of %s does not answer", host);
	struct vc_client_opts opts = {.munge_socket = d->munge_socket, .host = d->own_name, .peer = true, .server_host = host,
				      .timeout_ms = PIPE_CONNECT_MS};
	vc_autoclient struct vc_client *c = vc_client_connect_tcp(p->addr, p->port, &opts, err);
	if (!c)
		return -1;
	vc_client_set_trace(c, d->trace);
	vc_autojson struct json_object *params = json_object_new_object();
	if (vc_json_add_str(params, "digest", d->digest) < 0 || vc_json_add_bool(params, "complete", how == CHAIN_COMPLETE) < 0 ||
	    vc_json_add_u64(params, "wait_ms", wait_ms) < 0)
		return vc_error_set(err, ENOMEM, "image.pull: out of memory");
	if (vc_client_call(c, "image.pull", params, TRANSFER_PULL_MS + wait_ms, NULL, NULL, NULL, err) < 0)
		return -1;
	vc_client_take_session(vc_steal(&c), ret_fd, ret_session);
	return 0;
}

static void changed(void *ctx)
{
	struct dialer *d = ctx;
	ring(d->bell);
}

static void release(void *ctx)
{
	dialer_destroy(ctx);
}

const struct pipeline_ops transfer_dial_ops = {.dial = dial, .probe = probe, .changed = changed, .release = release};
