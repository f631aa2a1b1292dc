// SPDX-License-Identifier: GPL-2.0-or-later
// A transfer's life: its thread, its mail, its loop. See pipeline.h.
//
// The struct has three kinds of owners: who started it, the thread, and each thread that dials or probes. The last one
// frees it. Everything but the mail and the status belongs to the thread alone.
#include "vcd/pipe/pipeline.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "libvc/session.h"
#include "vcd/image/chunks.h"
#include "vcd/image/image_limits.h"
#include "vcd/image/store.h"
#include "vcd/pipe/pipe_int.h"

#define POLL_MS PIPE_READ_MS // how often limits are looked at; far below the shortest

// --- life ---------------------------------------------------------------------------------------------------------------

static void mail_free(struct mail *m)
{
	vc_cleanup_close(&m->fd);
	vc_session_destroy(m->session);
	free(m);
}

static void destroy(struct pipeline *p)
{
	while (!STAILQ_EMPTY(&p->mail)) {
		struct mail *m = STAILQ_FIRST(&p->mail);
		STAILQ_REMOVE_HEAD(&p->mail, link);
		mail_free(m);
	}
	holding_close(p->holding);
	chain_destroy(p->chain);
	vc_cleanup_close(&p->wake);
	pthread_mutex_destroy(&p->lock);
	p->ops->release(p->ctx);
	free(p->raw);
	free(p);
}

void pipeline_unref(struct pipeline *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	unsigned left = --p->refs;
	pthread_mutex_unlock(&p->lock);
	if (!left)
		destroy(p);
}

static void wake(struct pipeline *p)
{
	uint64_t one = 1;
	if (write(p->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort(); // an eventfd takes a number, or is not one
}

static void post(struct pipeline *p, struct mail *m)
{
	pthread_mutex_lock(&p->lock);
	STAILQ_INSERT_TAIL(&p->mail, m, link);
	pthread_mutex_unlock(&p->lock);
	wake(p);
}

void pipeline_stop(struct pipeline *p)
{
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_mutex_unlock(&p->lock);
	wake(p);
}

void pipeline_add(struct pipeline *p, int fd, struct vc_session *session, const char *host)
{
	struct mail *m = calloc(1, sizeof(*m));
	if (!m) {
		vc_cleanup_close(&fd);
		vc_session_destroy(session);
		return; // the host sees the end of the connection and tries another one
	}
	*m = (struct mail){.type = MAIL_DOWN, .fd = fd, .session = session};
	snprintf(m->host, sizeof(m->host), "%s", host);
	post(p, m);
}

// --- threads that may block ---------------------------------------------------------------------------------------------

struct question {
	struct pipeline *p;
	struct mail *answer;
	enum chain_ask how;
};

static int start_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, PIPE_STACK);
	int rc = pthread_create(&thread, &attr, run, arg);
	pthread_attr_destroy(&attr);
	return rc;
}

static void *ask(void *arg)
{
	struct question *q = arg;
	struct mail *m = q->answer;
	struct pipeline *p = q->p;
	if (m->type == MAIL_PROBED)
		m->alive = p->ops->probe(p->ctx, m->host);
	else if (p->ops->dial(p->ctx, m->host, q->how, &m->fd, &m->session, &m->err) < 0)
		m->fd = -1;
	post(p, m);
	free(q);
	pipeline_unref(p);
	return NULL;
}

void pipe_ask(struct pipeline *p, enum mail_type type, const char *host, enum chain_ask how)
{
	struct question *q = calloc(1, sizeof(*q));
	struct mail *m = calloc(1, sizeof(*m));
	if (!q || !m) {
		free(q);
		free(m);
		return; // asked again at the next tick
	}
	*m = (struct mail){.type = type, .fd = -1};
	snprintf(m->host, sizeof(m->host), "%s", host);
	*q = (struct question){p, m, how};
	pthread_mutex_lock(&p->lock);
	p->refs++;
	pthread_mutex_unlock(&p->lock);
	if (start_thread(ask, q) != 0) {
		mail_free(m);
		free(q);
		pipeline_unref(p); // never the last one: the thread has its own
		return;
	}
	p->dialing = p->dialing || type == MAIL_DIALED;
	p->probing = p->probing || type == MAIL_PROBED;
}

// --- phase and status ---------------------------------------------------------------------------------------------------

void pipe_fail(struct pipeline *p, const struct vc_error *err)
{
	if (p->phase != PIPELINE_FETCHING)
		return;
	p->phase = PIPELINE_FAILED;
	p->error = *err;
}

void pipe_chunks_known(struct pipeline *p)
{
	p->total = chunks_data_bytes(holding_chunks(p->holding)) / IMAGE_CHUNK;
	p->adopting = true;
	p->version++;
	downs_list_known(p);
}

static void fill_status(struct pipeline *p, struct pipeline_status *s, uint64_t now)
{
	struct down *d;
	s->phase = p->phase;
	s->error = p->error;
	s->bytes_in = pipe_bytes_in(p);
	s->bytes_out = p->bytes_out;
	LIST_FOREACH(d, &p->downs, link)
		s->bytes_out += pipe_link_bytes_out(d->io);
	s->total = p->total;
	size_t lacking = p->holding ? holding_lacking(p->holding) : p->total; // a repair may lack holes, which are no part of total
	s->held = lacking < p->total ? p->total - lacking : 0;
	s->adopted = p->holding ? holding_adopted_bytes(p->holding) : 0;
	snprintf(s->predecessor, sizeof(s->predecessor), "%s", p->up.io ? pipe_link_host(p->up.io) : "");
	s->successors = p->n_downs;
	s->idle_ms = p->n_downs ? 0 : now - p->idle_since;
	s->bypassed = p->bypassed;
	s->damaged = p->damaged;
	s->at_tail = p->at_tail;
	memcpy(s->bad_host, p->bad_host, sizeof(s->bad_host));
}

static void publish_status(struct pipeline *p, uint64_t now)
{
	struct pipeline_status s = {.phase = p->phase};
	fill_status(p, &s, now);
	pthread_mutex_lock(&p->lock);
	bool changed = s.phase != p->status.phase || s.damaged != p->status.damaged || strcmp(s.bad_host, p->status.bad_host) != 0;
	p->status = s;
	pthread_mutex_unlock(&p->lock);
	if (changed)
		p->ops->changed(p->ctx);
}

void pipeline_status(struct pipeline *p, struct pipeline_status *ret)
{
	pthread_mutex_lock(&p->lock);
	*ret = p->status;
	pthread_mutex_unlock(&p->lock);
}

struct holding *pipeline_holding(struct pipeline *p)
{
	return p->holding;
}

// --- the loop -----------------------------------------------------------------------------------------------------------

static void take_mail(struct pipeline *p)
{
	STAILQ_HEAD(, mail) mail = STAILQ_HEAD_INITIALIZER(mail);
	pthread_mutex_lock(&p->lock);
	STAILQ_CONCAT(&mail, &p->mail);
	pthread_mutex_unlock(&p->lock);
	while (!STAILQ_EMPTY(&mail)) {
		struct mail *m = STAILQ_FIRST(&mail);
		STAILQ_REMOVE_HEAD(&mail, link);
		if (m->type == MAIL_DOWN)
			down_attach(p, m);
		else if (m->type == MAIL_DIALED)
			up_attach(p, m);
		else
			up_probed(p, m);
		mail_free(m);
	}
}

static void turn(struct pipeline *p, uint64_t now)
{
	struct down *d;
	if (p->adopting && p->phase == PIPELINE_FETCHING)
		up_adopt(p);
	up_tick(p, now);
	if (p->phase == PIPELINE_FETCHING && p->holding && !holding_lacking(p->holding)) {
		p->phase = PIPELINE_COMPLETE;
		up_close(p);
		p->adopting = false;
	}
	LIST_FOREACH(d, &p->downs, link)
		down_turn(p, d, now);
	downs_reap(p);
	if (p->n_downs || p->phase != PIPELINE_COMPLETE)
		p->idle_since = now;
}

static size_t fill_polls(struct pipeline *p, struct pollfd *polls)
{
	size_t n = 0;
	struct down *d;
	polls[n++] = (struct pollfd){.fd = p->wake, .events = POLLIN};
	polls[n++] = (struct pollfd){.fd = p->up.io ? pipe_link_fd(p->up.io) : -1,
				     .events = (short)(POLLIN | (p->up.io && pipe_link_queued(p->up.io) ? POLLOUT : 0))};
	LIST_FOREACH(d, &p->downs, link)
		polls[n++] = (struct pollfd){.fd = pipe_link_fd(d->io),
					     .events = (short)(POLLIN | (pipe_link_queued(d->io) ? POLLOUT : 0))};
	return n;
}

static void read_all(struct pipeline *p, const struct pollfd *polls)
{
	uint64_t count;
	size_t at = 2;
	struct down *d;
	if (polls[0].revents && read(p->wake, &count, sizeof(count)) < 0 && errno != EAGAIN)
		abort();
	LIST_FOREACH(d, &p->downs, link) {
		if (polls[at++].revents & ~POLLOUT)
			down_read(p, d);
	}
	if (p->up.io && (polls[1].revents & ~POLLOUT || pipe_link_is_due(p->up.io, pipe_now_ms())))
		up_read(p);
}

static bool must_stop(struct pipeline *p)
{
	pthread_mutex_lock(&p->lock);
	bool stop = p->stop;
	pthread_mutex_unlock(&p->lock);
	return stop || p->phase == PIPELINE_FAILED;
}

static void *run(void *arg)
{
	struct pipeline *p = arg;
	struct pollfd polls[PIPE_DOWNS_MAX + 2];
	while (!must_stop(p)) {
		take_mail(p);
		turn(p, pipe_now_ms());
		publish_status(p, pipe_now_ms());
		size_t n = fill_polls(p, polls);
		if (poll(polls, n, p->adopting ? 0 : (int)POLL_MS) >= 0)
			read_all(p, polls);
	}
	publish_status(p, pipe_now_ms());
	downs_close(p);
	up_close(p);
	p->phase = PIPELINE_ENDED;
	publish_status(p, pipe_now_ms());
	pipeline_unref(p);
	return NULL;
}

// --- start --------------------------------------------------------------------------------------------------------------

static struct pipeline *create(const struct pipeline_args *args)
{
	struct pipeline *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	*p = (struct pipeline){.refs = 2, .ops = args->ops, .ctx = args->ctx, .store = args->store, .holding = args->holding,
			       .chain = args->chain, .min_rate = args->min_rate};
	memcpy(p->digest, args->digest, sizeof(p->digest));
	pthread_mutex_init(&p->lock, NULL);
	STAILQ_INIT(&p->mail);
	LIST_INIT(&p->downs);
	p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	p->raw = malloc((size_t)PIPE_FRAME_CHUNKS * IMAGE_CHUNK);
	p->orphan_since = p->idle_since = pipe_now_ms();
	p->phase = p->holding && !holding_lacking(p->holding) ? PIPELINE_COMPLETE : PIPELINE_FETCHING;
	if (p->holding)
		p->total = chunks_data_bytes(holding_chunks(p->holding)) / IMAGE_CHUNK;
	fill_status(p, &p->status, p->idle_since);
	return p;
}

struct pipeline *pipeline_start(const struct pipeline_args *args, struct vc_error *err)
{
	struct pipeline *p = create(args);
	if (!p) {
		vc_error_errno(err, "image %.12s", args->digest);
		holding_close(args->holding);
		chain_destroy(args->chain);
		args->ops->release(args->ctx);
		return NULL;
	}
	if (p->wake >= 0 && p->raw && start_thread(run, p) == 0)
		return p;
	vc_error_set(err, VC_EHOST, "image %.12s: no thread to transfer it", args->digest);
	destroy(p);
	return NULL;
}
