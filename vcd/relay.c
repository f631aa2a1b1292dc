// SPDX-License-Identifier: GPL-2.0-or-later
// Relayed streams: see relay.h.
//
// Threads share a struct relay by its lock: a reference each, the stop flag, and the descriptors that a stop shuts down.
#include "vcd/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/message.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/peer.h"
#include "vcd/vcd.h"

#define BACKLOG 8 // libvirtd makes one connection, QEMU one per stream
#define MEMORY_PIECE (1u << 20) // bytes, between two looks at whether more may go on
#define LIBVIRT_KEEPALIVE 0x6b656570u // program of a message of libvirt's protocol: the second of its words, after its length

const char *const relay_stream_names[RELAY_STREAMS] = {"libvirt", "memory", "disk"};

struct relays {
	atomic_uint refs; // the owner's, and one of each thread
};

struct relay_target {
	char *host, *own_name, *munge_socket;
	char addr[VC_HOSTNAME_MAX + 1];
	int port;
	char trace[VC_TRACE_LEN + 1];
};

struct stream {
	struct stream *next;
	struct relays *relays;
	struct relay *relay; // NULL: of nobody
	struct vc_client *client;
	int fd;
	unsigned what, turn;
};

struct relay {
	struct relays *relays;
	pthread_mutex_t lock;
	pthread_cond_t served_one;
	unsigned turns[RELAY_STREAMS], served[RELAY_STREAMS]; // connections are made there in the order in which they came
	unsigned refs;
	bool stop;
	uint64_t hold_after;
	atomic_bool passes[RELAY_STREAMS], holding[RELAY_STREAMS];
	int wake; // eventfd
	int listen[RELAY_STREAMS];
	char *paths[RELAY_STREAMS];
	struct relay_target *target;
	char *cluster;
	uint32_t rank;
	struct stream *streams;
	atomic_ullong sent[RELAY_STREAMS]; // bytes
};

// --- where the other vcd is -----------------------------------------------------------------------------------

struct relay_target *relay_target_create(struct vcd *vcd, const char *host, const char *trace, struct vc_error *err)
{
	struct relay_target *t = calloc(1, sizeof(*t));
	if (t && (t->host = strdup(host)) && (t->own_name = strdup(vcd->conf->host_name)) &&
	    (t->munge_socket = strdup(vcd->conf->munge_socket)))
		snprintf(t->trace, sizeof(t->trace), "%s", trace ? trace : "");
	else
		vc_error_set(err, ENOMEM, "relay to %s: out of memory", host), relay_target_destroy(vc_steal(&t));
	if (t && peer_address(vcd->peers, host, t->addr, sizeof(t->addr), &t->port, err) < 0)
		relay_target_destroy(vc_steal(&t));
	return t;
}

void relay_target_destroy(struct relay_target *t)
{
	if (!t)
		return;
	free(t->host);
	free(t->own_name);
	free(t->munge_socket);
	free(t);
}

struct vc_client *relay_dial(const struct relay_target *t, struct vc_error *err)
{
	struct vc_client_opts opts = {.munge_socket = t->munge_socket, .host = t->own_name, .peer = true, .server_host = t->host,
				      .timeout_ms = RELAY_CONNECT_MS};
	struct vc_client *c = vc_client_connect_tcp(t->addr, t->port, &opts, err);
	if (c && t->trace[0])
		vc_client_set_trace(c, t->trace);
	return c;
}

// --- threads --------------------------------------------------------------------------------------------------

struct relays *relays_create(struct vc_error *err)
{
	struct relays *rs = calloc(1, sizeof(*rs));
	if (!rs)
		vc_error_errno(err, "relays");
	else
		rs->refs = 1;
	return rs;
}

void relays_destroy(struct relays *rs)
{
	if (rs && --rs->refs == 0)
		free(rs);
}

// The thread ends with relays_destroy().
static int start_thread(struct relays *rs, void *(*run)(void *arg), void *arg, struct vc_error *err)
{
	pthread_attr_t attr;
	pthread_t thread;
	if (rs->refs++ > RELAY_THREADS_MAX) {
		relays_destroy(rs);
		return vc_error_set(err, VC_EBUSY, "%u streams are relayed already", RELAY_THREADS_MAX);
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int rc = pthread_create(&thread, &attr, run, arg);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		return 0;
	relays_destroy(rs);
	return vc_error_set(err, rc, "relay: %s", strerror(rc));
}

struct relay *relay_ref(struct relay *r)
{
	pthread_mutex_lock(&r->lock);
	r->refs++;
	pthread_mutex_unlock(&r->lock);
	return r;
}

void relay_unref(struct relay *r)
{
	pthread_mutex_lock(&r->lock);
	unsigned left = --r->refs;
	pthread_mutex_unlock(&r->lock);
	if (left)
		return;
	for (unsigned i = 0; i < RELAY_STREAMS; i++) {
		if (r->listen[i] >= 0)
			close(r->listen[i]);
		free(r->paths[i]);
	}
	if (r->wake >= 0)
		close(r->wake);
	relay_target_destroy(r->target);
	free(r->cluster);
	pthread_cond_destroy(&r->served_one);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

// False: the relay was stopped meanwhile.
static bool enlist(struct stream *s)
{
	struct relay *r = s->relay;
	pthread_mutex_lock(&r->lock);
	bool go = !r->stop;
	if (go) {
		r->refs++;
		s->turn = r->turns[s->what]++;
		s->next = r->streams;
		r->streams = s;
	}
	pthread_mutex_unlock(&r->lock);
	return go;
}

static void delist(struct stream *s)
{
	struct relay *r = s->relay;
	pthread_mutex_lock(&r->lock);
	struct stream **at = &r->streams;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	close(s->fd); // under the lock: a stop shuts down no other descriptor of that number
	s->fd = -1;
	pthread_mutex_unlock(&r->lock);
	relay_unref(r);
}

static struct vc_client *ask(const struct stream *s, struct vc_error *err)
{
	const struct relay *r = s->relay;
	vc_autojson struct json_object *params = json_object_new_object();
	vc_autoclient struct vc_client *c = relay_dial(r->target, err);
	if (!c)
		return NULL;
	vc_json_add_str(params, "cluster", r->cluster);
	vc_json_add_u64(params, "rank", r->rank);
	vc_json_add_str(params, "what", relay_stream_names[s->what]);
	if (vc_client_call(c, "host.stream", params, RELAY_CONNECT_MS, NULL, NULL, NULL, err) < 0)
		return NULL;
	return vc_steal(&c);
}

static void serve(struct stream *s)
{
	pthread_mutex_lock(&s->relay->lock);
	s->relay->served[s->what]++;
	pthread_cond_broadcast(&s->relay->served_one);
	pthread_mutex_unlock(&s->relay->lock);
}

// QEMU tells the first of several connections from the others by their order. No longer than those before it take to be made.
static struct vc_client *ask_in_turn(struct stream *s, struct vc_error *err)
{
	struct relay *r = s->relay;
	pthread_mutex_lock(&r->lock);
	while (r->served[s->what] < s->turn)
		pthread_cond_wait(&r->served_one, &r->lock);
	pthread_mutex_unlock(&r->lock);
	struct vc_client *c = ask(s, err);
	serve(s);
	return c;
}

static uint32_t word(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool is_stopped(struct relay *r, bool *ret_memory)
{
	pthread_mutex_lock(&r->lock);
	bool stop = r->stop;
	*ret_memory = r->turns[RELAY_MEMORY] > 0;
	pthread_mutex_unlock(&r->lock);
	return stop;
}

static size_t pass_words(void *ctx, const uint8_t *head, size_t n)
{
	struct relay *r = ctx;
	bool memory;
	if (is_stopped(r, &memory))
		return VC_RELAY_END;
	if (n < VC_RELAY_HEAD)
		return 0;
	r->holding[RELAY_LIBVIRT] = !r->passes[RELAY_LIBVIRT] && memory && word(head + 4) != LIBVIRT_KEEPALIVE;
	return r->holding[RELAY_LIBVIRT] ? 0 : word(head) > VC_RELAY_HEAD ? word(head) : VC_RELAY_HEAD;
}

static size_t pass_memory(void *ctx, const uint8_t *head, size_t n)
{
	struct relay *r = ctx;
	bool memory;
	(void)head;
	(void)n;
	if (is_stopped(r, &memory))
		return VC_RELAY_END;
	r->holding[RELAY_MEMORY] = !r->passes[RELAY_MEMORY] && r->sent[RELAY_MEMORY] >= r->hold_after;
	return r->holding[RELAY_MEMORY] ? 0 : MEMORY_PIECE;
}

static int carry(struct stream *s, struct vc_error *err)
{
	struct relay *r = s->relay;
	const struct vc_relay_gate gates[RELAY_STREAMS] = {[RELAY_LIBVIRT] = {pass_words, r}, [RELAY_MEMORY] = {pass_memory, r}};
	bool gated = r && r->hold_after && gates[s->what].pass;
	return vc_client_relay(s->client, s->fd, r ? &r->sent[s->what] : NULL, gated ? &gates[s->what] : NULL, err);
}

static void *stream_thread(void *arg)
{
	struct stream *s = arg;
	struct relays *rs = s->relays;
	struct vc_error err = VC_ERROR_INIT;
	if (!s->client)
		s->client = ask_in_turn(s, &err);
	if (!s->client || carry(s, &err) < 0)
		vc_log_debug("relayed stream: %s", err.text);
	vc_client_destroy(s->client);
	if (s->relay)
		delist(s);
	else
		close(s->fd);
	free(s);
	relays_destroy(rs);
	return NULL;
}

int relay_carry(struct relays *rs, struct vc_client *client, int fd, struct vc_error *err)
{
	struct stream *s = calloc(1, sizeof(*s));
	if (s) {
		*s = (struct stream){.relays = rs, .client = client, .fd = fd};
		if (start_thread(rs, stream_thread, s, err) == 0)
			return 0;
		free(s);
	} else {
		vc_error_errno(err, "relay");
	}
	vc_client_destroy(client);
	close(fd);
	return -1;
}

static void take_stream(struct relay *r, unsigned what)
{
	struct vc_error err = VC_ERROR_INIT;
	int fd = accept4(r->listen[what], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct stream *s = fd >= 0 ? calloc(1, sizeof(*s)) : NULL;
	if (!s) {
		if (fd >= 0)
			close(fd);
		return;
	}
	*s = (struct stream){.relays = r->relays, .relay = r, .fd = fd, .what = what};
	if (!enlist(s)) {
		close(fd);
		free(s);
	} else if (start_thread(r->relays, stream_thread, s, &err) < 0) {
		vc_log_warning("%s", err.text);
		serve(s);
		delist(s);
		free(s);
	}
}

static void *listen_thread(void *arg)
{
	struct relay *r = arg;
	struct relays *rs = r->relays;
	struct pollfd p[RELAY_STREAMS + 1];
	for (unsigned i = 0; i < RELAY_STREAMS; i++)
		p[i] = (struct pollfd){.fd = r->listen[i], .events = POLLIN};
	p[RELAY_STREAMS] = (struct pollfd){.fd = r->wake, .events = POLLIN};
	while (!p[RELAY_STREAMS].revents) { // ends with the relay
		if (poll(p, RELAY_STREAMS + 1, -1) < 0 && errno != EINTR)
			break;
		for (unsigned i = 0; i < RELAY_STREAMS; i++) {
			if (p[i].revents & POLLIN)
				take_stream(r, i);
		}
	}
	relay_unref(r);
	relays_destroy(rs);
	return NULL;
}

// --- life -----------------------------------------------------------------------------------------------------

static int open_socket(struct relay *r, unsigned i, const struct relay_args *args, struct vc_error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", args->dir, relay_stream_names[i]);
	if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return vc_error_set(err, VC_EHOST, "%s is too long for a socket: choose a shorter run-dir", args->dir);
	(void)unlink(addr.sun_path);
	r->paths[i] = strdup(addr.sun_path);
	r->listen[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!r->paths[i] || r->listen[i] < 0 || bind(r->listen[i], (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    chown(addr.sun_path, args->user, (gid_t)-1) < 0 || chmod(addr.sun_path, 0600) < 0 || listen(r->listen[i], BACKLOG) < 0)
		return vc_error_errno(err, "%s", addr.sun_path);
	return 0;
}

static int open_all(struct relay *r, const struct relay_args *args, struct vc_error *err)
{
	for (unsigned i = 0; i < RELAY_STREAMS; i++) {
		if (open_socket(r, i, args, err) < 0)
			return -1;
	}
	r->refs++; // the thread's
	if (start_thread(r->relays, listen_thread, r, err) == 0)
		return 0;
	r->refs--;
	return -1;
}

struct relay *relay_create(struct vcd *vcd, const struct relay_args *args, struct vc_error *err)
{
	struct relay *r = calloc(1, sizeof(*r));
	if (!r) {
		vc_error_errno(err, "relay");
		return NULL;
	}
	r->relays = vcd->relays;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->served_one, NULL);
	r->refs = 1;
	for (unsigned i = 0; i < RELAY_STREAMS; i++)
		r->listen[i] = -1;
	r->rank = args->rank;
	r->hold_after = args->hold_after;
	r->wake = eventfd(0, EFD_CLOEXEC);
	r->cluster = strdup(args->cluster);
	r->target = relay_target_create(vcd, args->host, args->trace, err);
	if (r->target && (r->wake < 0 || !r->cluster))
		vc_error_errno(err, "relay to %s", args->host);
	else if (r->target && open_all(r, args, err) == 0)
		return r;
	relay_unref(r);
	return NULL;
}

int relay_while_open(struct relay *r, enum relay_stream what, int (*fn)(void *ctx, struct vc_error *err), void *ctx, struct vc_error *err)
{
	pthread_mutex_lock(&r->lock);
	const struct stream *s = r->stop ? NULL : r->streams;
	while (s && s->what != what)
		s = s->next;
	int rc = s ? fn(ctx, err) : vc_error_set(err, VC_ECANCELED, "stream '%s' has ended", relay_stream_names[what]);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

void relay_pass(struct relay *r, enum relay_stream what)
{
	r->passes[what] = true;
}

bool relay_is_holding(const struct relay *r, enum relay_stream what)
{
	return r->holding[what];
}

uint64_t relay_sent(const struct relay *r, enum relay_stream what)
{
	return r->sent[what];
}

void relay_destroy(struct relay *r)
{
	uint64_t one = 1;
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stop = true;
	for (const struct stream *s = r->streams; s; s = s->next)
		(void)shutdown(s->fd, SHUT_RDWR);
	for (unsigned i = 0; i < RELAY_STREAMS; i++)
		(void)unlink(r->paths[i]);
	if (write(r->wake, &one, sizeof(one)) < 0)
		vc_log_err("relay: %s", strerror(errno)); // never: the counter is far from full
	pthread_mutex_unlock(&r->lock);
	relay_unref(r);
}
