// SPDX-License-Identifier: GPL-2.0-or-later
// Bytes of the agreement: see agree_wire.h. Integers are big-endian; optional parts follow the fixed ones, in the order of their
// bits in the head.
#include "vcd/member/agree_wire.h"

#include <stdlib.h>
#include <string.h>

#define KIND_DURABLE 255
#define KIND_STEP 254
#define EVENT_LEN 15	 // kind, what, evidence, id, host, incarnation
#define HOST_LEN 19	 // id, incarnation, since, group, state
#define MEMBER_LEN 13	 // rank, host, incarnation, state

#define MEMBER_LOST 0x80 // in a member's state

enum { HAS_CHANGE = 1, HAS_FAST = 2, HAS_VIEW = 4, HAS_ACKS = 8, IS_AGAIN = 16, IS_FLAG = 32 };

// --- writing -----------------------------------------------------------------------------------------------------

static int put8(struct vc_buf *b, uint8_t v)
{
	return vc_buf_append(b, &v, 1);
}

static int put16(struct vc_buf *b, uint16_t v)
{
	uint8_t bytes[2];
	vc_put_be16(bytes, v);
	return vc_buf_append(b, bytes, sizeof(bytes));
}

static int put32(struct vc_buf *b, uint32_t v)
{
	uint8_t bytes[4];
	vc_put_be32(bytes, v);
	return vc_buf_append(b, bytes, sizeof(bytes));
}

static int put64(struct vc_buf *b, uint64_t v)
{
	uint8_t bytes[8];
	vc_put_be64(bytes, v);
	return vc_buf_append(b, bytes, sizeof(bytes));
}

// Seven bits a byte, the lowest first, the top bit while more follow: most numbers of a message are small.
static int put_short(struct vc_buf *b, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;
	for (; v >= 0x80; v >>= 7)
		bytes[n++] = (uint8_t)(v | 0x80);
	bytes[n++] = (uint8_t)v;
	return vc_buf_append(b, bytes, n);
}

static int put_change(struct vc_buf *b, const struct hv_change *c)
{
	int status = put32(b, c->n);
	for (uint32_t i = 0; i < c->n; i++) {
		const struct hv_event *e = &c->events[i];
		status |= put8(b, e->kind) | put8(b, e->what) | put8(b, e->evidence) | put32(b, e->id) | put32(b, e->host) |
			  put32(b, e->incarnation);
	}
	return status;
}

static int put_view(struct vc_buf *b, const struct hostview *v)
{
	int status = put64(b, v->epoch) | put16(b, v->want_groups) | put16(b, v->n_groups) | put32(b, v->n_hosts) |
		     put32(b, v->n_members);
	for (uint32_t i = 0; i < v->n_hosts; i++) {
		const struct hv_host *h = &v->hosts[i];
		status |= put32(b, h->id) | put32(b, h->incarnation) | put64(b, h->since) | put16(b, h->group) | put8(b, h->state);
	}
	for (uint32_t i = 0; i < v->n_members; i++) {
		const struct hv_member *m = &v->members[i];
		status |= put32(b, m->rank) | put32(b, m->host) | put32(b, m->incarnation) |
			  put8(b, (uint8_t)(m->state | (m->lost ? MEMBER_LOST : 0)));
	}
	return status;
}

static int put_acks(struct vc_buf *b, const struct agree_msg *m)
{
	int status = 0;
	for (uint32_t i = 0; i < m->count / 64 + 1; i++)
		status |= put64(b, m->acks[i]);
	return status;
}

static uint8_t bits_of(const struct agree_msg *m)
{
	return (uint8_t)((m->change ? HAS_CHANGE : 0) | (m->fast ? HAS_FAST : 0) | (m->view ? HAS_VIEW : 0) |
			 (m->acks ? HAS_ACKS : 0) | (m->again ? IS_AGAIN : 0) | (m->flag ? IS_FLAG : 0));
}

int agree_msg_encode(const struct agree_msg *m, struct vc_buf *out)
{
	int status = put8(out, AGREE_WIRE_VERSION) | put8(out, m->type) | put8(out, bits_of(m)) |
		     vc_buf_append(out, m->base, sizeof(m->base)) | put_short(out, m->from) | put_short(out, m->to) |
		     put_short(out, m->host) | put_short(out, m->epoch) | put_short(out, m->ballot) |
		     put_short(out, m->voted_ballot) | put_short(out, m->stamp) | put_short(out, m->echo) |
		     put_short(out, m->boot) | put_short(out, m->echo_boot) | put_short(out, m->age + 1) | // none: one byte
		     put_short(out, m->count);
	if (m->change)
		status |= put_change(out, m->change);
	if (m->fast)
		status |= put_change(out, m->fast);
	if (m->view)
		status |= put_view(out, m->view);
	if (m->acks)
		status |= put_acks(out, m);
	return status ? -1 : 0;
}

static int encode_whole(const struct agree_durable *d, struct vc_buf *out)
{
	uint8_t bits = (uint8_t)((d->voted ? HAS_CHANGE : 0) | (d->fast ? HAS_FAST : 0));
	int status = put8(out, AGREE_RECORD_VERSION) | put8(out, KIND_DURABLE) | put8(out, bits) | put32(out, d->self) |
		     put32(out, d->incarnation) | put64(out, d->promised) | put64(out, d->voted_ballot) | put_view(out, d->view);
	if (d->voted)
		status |= put_change(out, d->voted);
	if (d->fast)
		status |= put_change(out, d->fast);
	return status ? -1 : 0;
}

static int encode_step(const struct agree_record *r, const struct agree_durable *d, struct vc_buf *out)
{
	uint8_t bits = (uint8_t)((d->voted ? HAS_CHANGE : 0) | (d->fast ? HAS_FAST : 0));
	int status = put8(out, AGREE_RECORD_VERSION) | put8(out, KIND_STEP) | put8(out, bits) | put64(out, r->base) |
		     put32(out, r->n_steps) | vc_buf_append(out, d->view->digest, AGREE_BASE_LEN) | put32(out, d->incarnation) |
		     put64(out, d->promised) | put64(out, d->voted_ballot);
	for (uint32_t i = 0; i < r->n_steps; i++)
		status |= put_change(out, r->steps[i]);
	if (d->voted)
		status |= put_change(out, d->voted);
	if (d->fast)
		status |= put_change(out, d->fast);
	return status ? -1 : 0;
}

void agree_record_clear(struct agree_record *r)
{
	for (uint32_t i = 0; i < r->n_steps; i++)
		hv_change_unref(r->steps[i]);
	*r = (struct agree_record){0};
}

static void add_step(struct agree_record *r, struct hv_change *c)
{
	r->steps[r->n_steps++] = c;
	r->n_events += c->n;
}

// True when steps lead from the whole to d's view.
static bool can_step(struct agree_record *r, const struct agree_durable *d, const struct hv_change *last)
{
	uint64_t epoch = r->base + r->n_steps;
	if (!r->written || d->view->epoch == epoch)
		return r->written;
	if (d->view->epoch != epoch + 1 || !last || r->n_steps == AGREE_STEPS_MAX || r->n_events + last->n > AGREE_STEP_EVENTS_MAX)
		return false;
	add_step(r, hv_change_create(last->events, last->n));
	return true;
}

int agree_record_encode(struct agree_record *r, const struct agree_durable *d, const struct hv_change *last, bool *ret_whole,
			struct vc_buf *out)
{
	*ret_whole = !can_step(r, d, last);
	if (!*ret_whole)
		return encode_step(r, d, out);
	agree_record_clear(r);
	r->written = true;
	r->base = d->view->epoch;
	return encode_whole(d, out);
}

// --- reading -----------------------------------------------------------------------------------------------------

struct reader {
	const uint8_t *data;
	size_t left;
	bool short_of; // something was missing: all later reads are zeros
};

static const uint8_t *take(struct reader *r, size_t n)
{
	static const uint8_t zeros[HOSTVIEW_DIGEST_LEN];
	if (r->short_of || n > r->left) {
		r->short_of = true;
		return zeros;
	}
	const uint8_t *p = r->data;
	r->data += n;
	r->left -= n;
	return p;
}

static uint8_t get8(struct reader *r)
{
	return *take(r, 1);
}
static uint16_t get16(struct reader *r)
{
	return vc_get_be16(take(r, 2));
}
static uint32_t get32(struct reader *r)
{
	return vc_get_be32(take(r, 4));
}
static uint64_t get64(struct reader *r)
{
	return vc_get_be64(take(r, 8));
}

// A number of put_short() up to max, in its one shortest form.
static uint64_t get_short(struct reader *r, uint64_t max)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 64; shift += 7) {
		uint8_t byte = get8(r);
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		bool strange = v > max || (shift && !byte) || (shift == 63 && byte > 1);
		r->short_of = r->short_of || strange;
		return strange ? 0 : v;
	}
	r->short_of = true;
	return 0;
}

static uint32_t get_short32(struct reader *r)
{
	return (uint32_t)get_short(r, UINT32_MAX);
}

// A number of entries of a size each: no more than there are bytes for.
static uint32_t get_count(struct reader *r, uint32_t max, size_t size)
{
	uint32_t n = get32(r);
	if (n > max || (uint64_t)n * size > r->left)
		r->short_of = true;
	return r->short_of ? 0 : n;
}

static struct hv_change *get_change(struct reader *r)
{
	uint32_t n = get_count(r, HOSTVIEW_HOSTS_MAX + VC_MEMBERS_MAX, EVENT_LEN);
	struct hv_event *events = calloc(n + 1, sizeof(*events));
	if (!events)
		abort();
	for (uint32_t i = 0; i < n; i++) {
		struct hv_event *e = &events[i];
		e->kind = get8(r);
		e->what = get8(r);
		e->evidence = get8(r);
		e->id = get32(r);
		e->host = get32(r);
		e->incarnation = get32(r);
	}
	struct hv_change *c = hv_change_create(events, n); // sorted again, one per subject
	free(events);
	return c;
}

static void get_hosts(struct reader *r, struct hostview *parts)
{
	for (uint32_t i = 0; i < parts->n_hosts; i++) {
		struct hv_host *h = &parts->hosts[i];
		h->id = get32(r);
		h->incarnation = get32(r);
		h->since = get64(r);
		h->group = get16(r);
		h->state = get8(r);
	}
}

static void get_members(struct reader *r, struct hostview *parts)
{
	for (uint32_t i = 0; i < parts->n_members; i++) {
		struct hv_member *m = &parts->members[i];
		m->rank = get32(r);
		m->host = get32(r);
		m->incarnation = get32(r);
		uint8_t state = get8(r);
		m->state = state & (uint8_t)~MEMBER_LOST;
		m->lost = state & MEMBER_LOST;
	}
}

static struct hostview *get_view(struct reader *r, struct vc_error *err)
{
	struct hostview parts = {0};
	parts.epoch = get64(r);
	parts.want_groups = get16(r);
	parts.n_groups = get16(r);
	parts.n_hosts = get_count(r, HOSTVIEW_HOSTS_MAX, HOST_LEN);
	parts.n_members = get_count(r, VC_MEMBERS_MAX, MEMBER_LEN);
	parts.hosts = calloc(parts.n_hosts + 1, sizeof(*parts.hosts));
	parts.members = calloc(parts.n_members + 1, sizeof(*parts.members));
	if (!parts.hosts || !parts.members)
		abort();
	get_hosts(r, &parts);
	get_members(r, &parts);
	struct hostview *v = NULL;
	if (r->short_of)
		vc_error_set(err, VC_EPROTO, "view of hosts: it ends too early");
	else
		v = hostview_restore(&parts, err);
	free(parts.hosts);
	free(parts.members);
	return v;
}

static void get_acks(struct reader *r, struct agree_msg *m)
{
	uint32_t words = m->count / 64 + 1;
	if (m->count > HOSTVIEW_HOSTS_MAX || (uint64_t)words * 8 > r->left) {
		r->short_of = true;
		return;
	}
	m->acks = calloc(words, sizeof(*m->acks));
	if (!m->acks)
		abort();
	for (uint32_t i = 0; i < words; i++)
		m->acks[i] = get64(r);
}

static void get_fixed(struct reader *r, struct agree_msg *m)
{
	memcpy(m->base, take(r, sizeof(m->base)), sizeof(m->base));
	m->from = get_short32(r);
	m->to = get_short32(r);
	m->host = get_short32(r);
	m->epoch = get_short(r, UINT64_MAX);
	m->ballot = get_short(r, UINT64_MAX);
	m->voted_ballot = get_short(r, UINT64_MAX);
	m->stamp = get_short(r, UINT64_MAX);
	m->echo = get_short(r, UINT64_MAX);
	m->boot = get_short32(r);
	m->echo_boot = get_short32(r);
	m->age = get_short(r, UINT64_MAX) - 1;
	m->count = get_short32(r);
}

static void get_fixed_1(struct reader *r, struct agree_msg *m)
{
	m->from = get32(r);
	m->to = get32(r);
	m->host = get32(r);
	m->epoch = get64(r);
	memcpy(m->base, take(r, HOSTVIEW_DIGEST_LEN), sizeof(m->base));
	m->ballot = get64(r);
	m->voted_ballot = get64(r);
	m->stamp = get64(r);
	m->echo = get64(r);
	m->boot = get32(r);
	m->echo_boot = get32(r);
	m->age = get64(r);
	m->count = get32(r);
}

static int begin(struct reader *r, size_t len, uint8_t newest, uint8_t *ret_version, uint8_t *ret_kind, struct vc_error *err)
{
	*ret_version = get8(r);
	if (len > AGREE_WIRE_MAX || *ret_version < 1 || *ret_version > newest)
		return vc_error_set(err, VC_EPROTO, "agreement: too long, or of a version that this program does not know");
	*ret_kind = get8(r);
	return 0;
}

int agree_msg_decode(const uint8_t *data, size_t len, struct agree_msg *ret, struct vc_error *err)
{
	struct reader r = {.data = data, .left = len};
	struct agree_msg m = {0};
	uint8_t version = 0;
	if (begin(&r, len, AGREE_WIRE_VERSION, &version, &m.type, err) < 0)
		return -1;
	uint8_t bits = get8(&r);
	m.again = bits & IS_AGAIN;
	m.flag = bits & IS_FLAG;
	if (version == 1)
		get_fixed_1(&r, &m);
	else
		get_fixed(&r, &m);
	m.change = bits & HAS_CHANGE ? get_change(&r) : NULL;
	m.fast = bits & HAS_FAST ? get_change(&r) : NULL;
	m.view = bits & HAS_VIEW ? get_view(&r, err) : NULL;
	if (bits & HAS_ACKS)
		get_acks(&r, &m);
	if (r.short_of || r.left || m.type >= AGREE_TYPES || (bits & HAS_VIEW && !m.view)) {
		agree_msg_clear(&m);
		return vc_error_set(err, VC_EPROTO, "agreement: a message that does not parse");
	}
	*ret = m;
	return 0;
}

static int decode_whole(const uint8_t *data, size_t len, struct agree_durable *ret, struct vc_error *err)
{
	struct reader r = {.data = data, .left = len};
	struct agree_durable d = {0};
	uint8_t version = 0, kind = 0;
	if (begin(&r, len, AGREE_RECORD_VERSION, &version, &kind, err) < 0)
		return -1;
	uint8_t bits = get8(&r);
	d.self = get32(&r);
	d.incarnation = get32(&r);
	d.promised = get64(&r);
	d.voted_ballot = get64(&r);
	d.view = get_view(&r, err);
	d.voted = bits & HAS_CHANGE ? get_change(&r) : NULL;
	d.fast = bits & HAS_FAST ? get_change(&r) : NULL;
	if (r.short_of || r.left || kind != KIND_DURABLE || !d.view) {
		agree_durable_clear(&d);
		return vc_error_set(err, VC_EPROTO, "agreement: a record that does not parse");
	}
	*ret = d;
	return 0;
}

// Replaces what is after a view.
static void take_votes(struct agree_durable *d, const struct agree_durable *votes)
{
	struct hostview *view = hostview_ref(d->view);
	uint32_t self = d->self;
	agree_durable_clear(d);
	*d = *votes;
	d->self = self;
	d->view = view;
}

static int apply_steps(const struct agree_record *r, const uint8_t *base, struct agree_durable *d, struct vc_error *err)
{
	for (uint32_t i = 0; i < r->n_steps; i++) {
		struct hostview *next = hostview_apply(d->view, r->steps[i]);
		if (!next)
			return vc_error_set(err, VC_EPROTO, "agreement: a record whose steps do not apply");
		hostview_unref(d->view);
		d->view = next;
	}
	if (memcmp(d->view->digest, base, AGREE_BASE_LEN) != 0)
		return vc_error_set(err, VC_EPROTO, "agreement: a record whose steps lead to another view");
	return 0;
}

static int decode_step(struct agree_record *r, const uint8_t *data, size_t len, struct agree_durable *d, struct vc_error *err)
{
	struct reader in = {.data = data, .left = len};
	struct agree_durable votes = {0};
	uint8_t version = 0, kind = 0;
	if (begin(&in, len, AGREE_RECORD_VERSION, &version, &kind, err) < 0)
		return -1;
	uint8_t bits = get8(&in);
	uint64_t on = get64(&in);
	uint32_t n = get_count(&in, AGREE_STEPS_MAX, 4);
	const uint8_t *base = take(&in, AGREE_BASE_LEN);
	votes.incarnation = get32(&in);
	votes.promised = get64(&in);
	votes.voted_ballot = get64(&in);
	if (!in.short_of && kind == KIND_STEP && on != r->base)
		return 0; // of an earlier whole
	for (uint32_t i = 0; i < n; i++)
		add_step(r, get_change(&in));
	votes.voted = bits & HAS_CHANGE ? get_change(&in) : NULL;
	votes.fast = bits & HAS_FAST ? get_change(&in) : NULL;
	take_votes(d, &votes);
	if (in.short_of || in.left || kind != KIND_STEP)
		return vc_error_set(err, VC_EPROTO, "agreement: a record that does not parse");
	return apply_steps(r, base, d, err);
}

int agree_record_decode(struct agree_record *r, const uint8_t *whole, size_t whole_len, const uint8_t *step, size_t step_len,
			struct agree_durable *ret, struct vc_error *err)
{
	struct agree_durable d = {0};
	if (decode_whole(whole, whole_len, &d, err) < 0)
		return -1;
	r->written = true;
	r->base = d.view->epoch;
	if (step && decode_step(r, step, step_len, &d, err) < 0) {
		agree_record_clear(r);
		agree_durable_clear(&d);
		return -1;
	}
	*ret = d;
	return 0;
}
