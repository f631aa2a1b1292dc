// SPDX-License-Identifier: GPL-2.0-or-later
// One host's part in its site's membership: see site.h.
#include "vcd/member/site.h"

#include <stdlib.h>
#include <string.h>

struct site_cluster {
	struct site_cluster *next;
	struct agree *agree;
	uint32_t *numbers; // by host of the cluster
	uint32_t n;
	void *ctx;
};

struct site {
	uint32_t self;
	struct detect *detect;
	struct site_cluster *clusters;
	uint8_t *wants; // by number, of the last look: WATCH and AT_ONCE
	uint32_t n_wants;
};

enum { WATCH = 1, AT_ONCE = 2, OBSERVER = 4 };

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

// --- life --------------------------------------------------------------------------------------------------------

struct site *site_create(uint32_t self, const struct detect_times *times, uint64_t now)
{
	struct site *s = must(calloc(1, sizeof(*s)));
	s->self = self;
	s->detect = detect_create(self, times, now);
	return s;
}

static void free_cluster(struct site_cluster *c)
{
	agree_destroy(c->agree);
	free(c->numbers);
	free(c);
}

void site_destroy(struct site *s)
{
	if (!s)
		return;
	while (s->clusters) {
		struct site_cluster *c = s->clusters;
		s->clusters = c->next;
		free_cluster(c);
	}
	detect_destroy(s->detect);
	free(s->wants);
	free(s);
}

void site_observer(struct site *s, uint32_t number)
{
	detect_observer(s->detect, number);
}

void site_map(struct site_cluster *c, uint32_t host, uint32_t number)
{
	if (host >= HOSTVIEW_HOSTS_MAX)
		return;
	if (host >= c->n) {
		c->numbers = must(realloc(c->numbers, (host + 1) * sizeof(*c->numbers)));
		for (uint32_t i = c->n; i <= host; i++)
			c->numbers[i] = HOSTVIEW_NONE;
		c->n = host + 1;
	}
	c->numbers[host] = number;
}

struct site_cluster *site_add(struct site *s, const struct agree_conf *conf, const struct agree_durable *durable,
			      const uint32_t *numbers, uint32_t n, void *ctx, uint64_t now)
{
	struct site_cluster *c = must(calloc(1, sizeof(*c)));
	for (uint32_t i = n; i > 0; i--)
		site_map(c, i - 1, numbers[i - 1]);
	c->agree = agree_create(conf, durable, now);
	c->ctx = ctx;
	c->next = s->clusters;
	s->clusters = c;
	return c;
}

void site_remove(struct site *s, struct site_cluster *c)
{
	for (struct site_cluster **at = &s->clusters; *at; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			free_cluster(c);
			return;
		}
	}
}

struct agree *site_agree(struct site_cluster *c)
{
	return c->agree;
}

void *site_ctx(const struct site_cluster *c)
{
	return c->ctx;
}

// --- whom to watch: whoever any cluster wants to -----------------------------------------------------------------

static void note_wants(struct site *s, const struct site_cluster *c)
{
	for (uint32_t host = 0; host < c->n; host++) {
		uint32_t number = c->numbers[host];
		bool watch = number < HOSTVIEW_HOSTS_MAX && agree_watches(c->agree, host);
		bool observer = number < HOSTVIEW_HOSTS_MAX && agree_can_observe(c->agree, host);
		if (!watch && !observer)
			continue;
		if (number >= s->n_wants) {
			s->wants = must(realloc(s->wants, number + 1));
			memset(s->wants + s->n_wants, 0, number + 1 - s->n_wants);
			s->n_wants = number + 1;
		}
		bool at_once = watch && agree_probes(c->agree, host);
		s->wants[number] |= (uint8_t)((watch ? WATCH : 0) | (at_once ? AT_ONCE : 0) | (observer ? OBSERVER : 0));
	}
}

static void choose_watches(struct site *s, uint64_t now)
{
	if (s->n_wants)
		memset(s->wants, 0, s->n_wants);
	for (const struct site_cluster *c = s->clusters; c; c = c->next)
		note_wants(s, c);
	for (uint32_t i = 0; i < s->n_wants; i++) {
		detect_watch(s->detect, now, i, s->wants[i] & WATCH, s->wants[i] & AT_ONCE);
		detect_candidate(s->detect, i, s->wants[i] & OBSERVER);
	}
}

// --- the detector's findings, to every cluster that has the host -------------------------------------------------

static void tell_fact(struct site_cluster *c, uint64_t now, uint32_t host, enum hv_kind kind, enum hv_evidence evidence)
{
	const struct hostview *v = agree_view(c->agree);
	uint32_t i = hostview_find(v, host);
	if (i == HOSTVIEW_NONE)
		return;
	struct hv_event e = {
		.kind = (uint8_t)kind, .evidence = (uint8_t)evidence, .id = host, .incarnation = v->hosts[i].incarnation};
	agree_fact(c->agree, now, &e);
}

static void tell_cluster(struct site_cluster *c, uint64_t now, uint32_t host, const struct detect_out *o)
{
	if (o->kind == DETECT_OUT_SUSPECT)
		agree_suspect(c->agree, now, host, true, o->ask);
	else if (o->kind == DETECT_OUT_ALIVE)
		agree_alive(c->agree, now, host);
	else if (o->kind == DETECT_OUT_DEAD)
		tell_fact(c, now, host, HV_HOST_FAIL, HV_BY_SILENCE);
	else if (o->kind == DETECT_OUT_LOST)
		tell_fact(c, now, host, HV_HOST_LOST, HV_BY_EOF);
}

static void tell_clusters(struct site *s, uint64_t now, const struct detect_out *o)
{
	for (struct site_cluster *c = s->clusters; c; c = c->next)
		for (uint32_t host = 0; host < c->n; host++)
			if (c->numbers[host] == o->peer)
				tell_cluster(c, now, host, o);
}

// --- in and out --------------------------------------------------------------------------------------------------

void site_heard(struct site *s, uint64_t now, uint32_t number, enum detect_out_kind kind, uint32_t subject, bool asks)
{
	detect_heard(s->detect, now, number, kind == DETECT_OUT_BEAT && asks);
	if (kind == DETECT_OUT_OBSERVE)
		detect_asked(s->detect, now, number, subject);
	else if (kind == DETECT_OUT_SEEN)
		detect_seen(s->detect, now, subject);
}

void site_closed(struct site *s, uint64_t now, uint32_t number)
{
	detect_closed(s->detect, now, number);
}

void site_tick(struct site *s, uint64_t now)
{
	if (now >= detect_next(s->detect)) {
		choose_watches(s, now);
		detect_tick(s->detect, now);
	}
	for (struct site_cluster *c = s->clusters; c; c = c->next)
		agree_tick(c->agree, now);
}

uint64_t site_next(const struct site *s)
{
	uint64_t at = detect_next(s->detect);
	for (const struct site_cluster *c = s->clusters; c; c = c->next) {
		uint64_t next = agree_next(c->agree);
		at = next < at ? next : at;
	}
	return at;
}

static bool pop_detector(struct site *s, uint64_t now, struct site_out *out)
{
	struct detect_out o;
	while (detect_pop(s->detect, &o)) {
		if (o.kind <= DETECT_OUT_SEEN) {
			*out = (struct site_out){.datagram = true, .beat = o};
			return true;
		}
		tell_clusters(s, now, &o);
	}
	return false;
}

// Where it goes. What always fits a datagram spares the next heartbeat there.
static void address(struct site *s, uint64_t now, const struct site_cluster *c, struct site_out *out)
{
	const struct agree_msg *m = &out->agree.msg;
	out->number = m->to < c->n ? c->numbers[m->to] : HOSTVIEW_NONE;
	if (out->number != HOSTVIEW_NONE && (m->type == AGREE_STATUS || m->type == AGREE_RENEW))
		detect_sent(s->detect, now, out->number);
}

bool site_pop(struct site *s, uint64_t now, struct site_out *out)
{
	if (pop_detector(s, now, out))
		return true;
	for (struct site_cluster *c = s->clusters; c; c = c->next) {
		*out = (struct site_out){.cluster = c, .number = HOSTVIEW_NONE};
		if (!agree_pop(c->agree, &out->agree))
			continue;
		if (out->agree.kind == AGREE_OUT_SEND)
			address(s, now, c, out);
		return true;
	}
	return false;
}
