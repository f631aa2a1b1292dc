// SPDX-License-Identifier: GPL-2.0-or-later
// A transfer's successors: what each wants, what is read from disk for it, and what is passed on as it arrives.
//
// A frame is passed on when the successor wants all of its chunks and is not behind; else it gets them from disk later.
#include <stdlib.h>
#include <string.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "vcd/image/chunks.h"
#include "vcd/image/image_limits.h"
#include "vcd/pipe/pipe_int.h"

#define LIST_HEAD_LEN 12 // size of the image, length of image.json

// A broken link: the loop drops it.
static void drop(struct down *d, const struct vc_error *why)
{
	if (!d->dead)
		vc_log(why->code == VC_ECANCELED ? VC_LOG_DEBUG : VC_LOG_NOTICE, "sending an image: %s", why->text);
	d->dead = true;
	d->relaying = false;
}

static bool wants(const struct down *d, size_t i)
{
	return d->want && (d->want[i / 8] >> (i % 8) & 1);
}

static void set_want(struct pipeline *p, struct down *d, size_t i, bool on)
{
	if (wants(d, i) == on)
		return;
	d->want[i / 8] ^= (uint8_t)(1u << (i % 8));
	d->n_want += on ? 1 : (size_t)-1;
	p->version += on;
	d->ended = d->ended && !on;
}

// --- what it asks for ---------------------------------------------------------------------------------------------------

static int make_list_frame(struct pipeline *p, struct pipe_frame *ret, struct vc_error *err)
{
	const struct chunks *list = holding_chunks(p->holding);
	const char *meta = holding_meta(p->holding);
	size_t meta_len = strlen(meta), list_len = chunks_count(list) * DIGEST_LEN;
	struct pipe_head head = {.list = true, .raw = (uint32_t)(LIST_HEAD_LEN + meta_len + list_len)};
	vc_autofree uint8_t *raw = malloc(head.raw);
	if (!raw)
		return vc_error_errno(err, "chunk list");
	vc_put_be64(raw, chunks_size(list));
	vc_put_be32(raw + 8, (uint32_t)meta_len);
	memcpy(raw + LIST_HEAD_LEN, meta, meta_len);
	memcpy(raw + LIST_HEAD_LEN + meta_len, chunks_bytes(list), list_len);
	int rc = pipe_frame_compress(&head, raw, ret, err);
	return rc == 0 ? pipe_frame_raw(&head, raw, ret, err) : rc < 0 ? -1 : 0;
}

static int send_list(struct pipeline *p, struct down *d, struct vc_error *err)
{
	struct pipe_frame f = {.data = NULL};
	if (make_list_frame(p, &f, err) < 0)
		return -1;
	d->wants_list = false;
	int rc = pipe_link_send_frame(d->io, &f, err);
	pipe_frame_clear(&f);
	return rc;
}

static int make_want(struct pipeline *p, struct down *d)
{
	if (!d->want)
		d->want = calloc(chunks_count(holding_chunks(p->holding)) / 8 + 1, 1);
	return d->want ? 0 : -1;
}

static int take_want(struct pipeline *p, struct down *d, const struct pipe_msg *m, struct vc_error *err)
{
	if (!p->holding || make_want(p, d) < 0)
		return vc_error_set(err, VC_EPROTO, "%s asks for chunks of a list that it has not seen", pipe_link_host(d->io));
	size_t n = chunks_count(holding_chunks(p->holding));
	d->n_asked++;
	d->ended = false;
	for (size_t bit = 0; bit < m->len * 8; bit++) {
		if (!(m->data[bit / 8] >> (bit % 8) & 1))
			continue;
		if (m->chunk + bit >= n)
			return vc_error_set(err, VC_EPROTO, "%s asks for chunk %zu of %zu", pipe_link_host(d->io), m->chunk + bit, n);
		set_want(p, d, m->chunk + bit, true);
	}
	return 0;
}

struct down_ctx {
	struct pipeline *p;
	struct down *d;
};

static int on_msg(void *ctx, const struct pipe_msg *m, struct vc_error *err)
{
	struct down_ctx *c = ctx;
	switch (m->type) {
	case PIPE_LIST:
		c->d->wants_list = true;
		return c->p->holding ? send_list(c->p, c->d, err) : 0;
	case PIPE_WANT:
		return take_want(c->p, c->d, m, err);
	case PIPE_TICK:
		return 0;
	default:
		return vc_error_set(err, VC_EPROTO, "%s sends '%c' to its predecessor", pipe_link_host(c->d->io), (int)m->type);
	}
}

void down_read(struct pipeline *p, struct down *d)
{
	struct vc_error err = VC_ERROR_INIT;
	struct down_ctx c = {p, d};
	if (!d->dead && pipe_link_read(d->io, on_msg, &c, &err) < 0)
		drop(d, &err);
}

void down_attach(struct pipeline *p, struct mail *m)
{
	struct vc_error err = VC_ERROR_INIT;
	struct down *d = p->n_downs < PIPE_DOWNS_MAX ? calloc(1, sizeof(*d)) : NULL;
	if (!d)
		return; // the mail's memory goes, and with it the connection: the host tries another one
	d->io = pipe_link_create(vc_steal_fd(&m->fd), vc_steal(&m->session), m->host, &err);
	if (!d->io) {
		vc_log_warning("sending image %.12s: %s", p->digest, err.text);
		free(d);
		return;
	}
	LIST_INSERT_HEAD(&p->downs, d, link);
	p->n_downs++;
	struct down_ctx c = {p, d};
	if (pipe_link_pending(d->io, on_msg, &c, &err) < 0)
		drop(d, &err);
}

// --- what arrives is passed on ----------------------------------------------------------------------------------------------

static bool wants_frame(const struct down *d, const struct pipe_head *h)
{
	if (h->list)
		return d->wants_list;
	for (uint32_t i = 0; i < h->n; i++) {
		if (!wants(d, h->chunk[i]))
			return false;
	}
	return true;
}

// The frame may have begun some time ago: what is here of it goes first.
static void join(struct pipeline *p, struct down *d)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct pipe_frame *f = &p->up.frame;
	if (d->dead || d->relaying || !f->head.encoded || pipe_link_queued(d->io) > PIPE_QUEUE_HIGH || !wants_frame(d, &f->head))
		return;
	if (pipe_link_send_frame(d->io, f, &err) < 0) {
		drop(d, &err);
		return;
	}
	d->relaying = true;
	d->wants_list = d->wants_list && !f->head.list;
	for (uint32_t i = 0; i < f->head.n; i++)
		set_want(p, d, f->head.chunk[i], false);
}

void downs_begin(struct pipeline *p)
{
	struct down *d;
	LIST_FOREACH(d, &p->downs, link)
		join(p, d);
}

void downs_piece(struct pipeline *p, const uint8_t *data, size_t len)
{
	struct down *d;
	struct vc_error err = VC_ERROR_INIT;
	LIST_FOREACH(d, &p->downs, link) {
		if (d->relaying && (pipe_link_send_pieces(d->io, data, len, &err) < 0 || pipe_link_flush(d->io, &err) < 0))
			drop(d, &err);
	}
}

void downs_finish(struct pipeline *p, bool good, bool bad)
{
	struct down *d;
	struct vc_error err = VC_ERROR_INIT;
	const struct pipe_head *h = &p->up.frame.head;
	struct pipe_msg abort = {.type = PIPE_ABORT, .bad = bad};
	LIST_FOREACH(d, &p->downs, link) {
		if (!d->relaying)
			continue;
		d->relaying = false;
		if (good)
			continue;
		if (pipe_link_send(d->io, &abort, &err) < 0)
			drop(d, &err);
		d->wants_list = d->wants_list || h->list;
		for (uint32_t i = 0; i < h->n; i++)
			set_want(p, d, h->chunk[i], true);
	}
}

void downs_list_known(struct pipeline *p)
{
	struct down *d;
	struct vc_error err = VC_ERROR_INIT;
	LIST_FOREACH(d, &p->downs, link) {
		if (!d->dead && d->wants_list && send_list(p, d, &err) < 0)
			drop(d, &err);
	}
}

// --- what is here is read from disk -----------------------------------------------------------------------------------------

// This host will never have chunk i: it is the one that should.
static bool is_hopeless(const struct pipeline *p, size_t i)
{
	return p->phase == PIPELINE_COMPLETE && !holding_has(p->holding, i);
}

static int say_lack(struct pipeline *p, struct down *d, size_t i, struct vc_error *err)
{
	struct pipe_msg m = {.type = PIPE_LACK, .chunk = (uint32_t)i};
	set_want(p, d, i, false);
	return pipe_link_send(d->io, &m, err);
}

// The next wanted chunks that are here and sound, into p->raw. Chunks that can never come are said so.
static int gather(struct pipeline *p, struct down *d, struct pipe_head *h, struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	size_t n = chunks_count(holding_chunks(p->holding));
	*h = (struct pipe_head){.n = 0};
	for (size_t i = 0; i < n && h->n < PIPE_FRAME_CHUNKS; i++) {
		if (i % 8 == 0 && !d->want[i / 8]) {
			i += 7;
			continue;
		}
		if (!wants(d, i))
			continue;
		if (holding_has(p->holding, i) && holding_read(p->holding, i, p->raw + (size_t)h->n * IMAGE_CHUNK, &why) < 0) {
			vc_log_err("%s", why.text);
			p->damaged = true;
		}
		if (is_hopeless(p, i) && say_lack(p, d, i, err) < 0)
			return -1;
		if (holding_has(p->holding, i))
			h->chunk[h->n++] = (uint32_t)i;
	}
	h->raw = h->n * IMAGE_CHUNK;
	return 0;
}

static int send_raw(struct pipeline *p, struct down *d, const struct pipe_head *h, struct vc_error *err)
{
	for (uint32_t i = 0; i < h->n; i++) {
		struct pipe_frame f = {.head = {.n = 1, .raw = IMAGE_CHUNK, .encoded = IMAGE_CHUNK, .chunk = {h->chunk[i]}},
				       .data = p->raw + (size_t)i * IMAGE_CHUNK, .got = IMAGE_CHUNK};
		if (pipe_link_send_frame(d->io, &f, err) < 0)
			return -1;
	}
	return 0;
}

static int send_gathered(struct pipeline *p, struct down *d, const struct pipe_head *h, struct vc_error *err)
{
	struct pipe_frame f = {.data = NULL};
	int rc = pipe_frame_compress(h, p->raw, &f, err);
	if (rc == 0)
		rc = send_raw(p, d, h, err);
	else if (rc > 0)
		rc = pipe_link_send_frame(d->io, &f, err);
	pipe_frame_clear(&f);
	for (uint32_t i = 0; i < h->n; i++)
		set_want(p, d, h->chunk[i], false);
	return rc;
}

static int feed(struct pipeline *p, struct down *d, struct vc_error *err)
{
	while (!d->relaying && d->n_want && d->fed_at != p->version && pipe_link_queued(d->io) < PIPE_QUEUE_LOW) {
		struct pipe_head h;
		if (gather(p, d, &h, err) < 0)
			return -1;
		if (!h.n)
			d->fed_at = p->version; // nothing of it is here before the next chunk
		else if (send_gathered(p, d, &h, err) < 0 || pipe_link_flush(d->io, err) < 0)
			return -1;
	}
	return 0;
}

static int say_something(struct pipeline *p, struct down *d, uint64_t now, struct vc_error *err)
{
	if (d->n_asked && !d->n_want && !d->relaying && !d->ended) {
		struct pipe_msg end = {.type = PIPE_END, .count = d->n_asked};
		d->ended = true;
		return pipe_link_send(d->io, &end, err);
	}
	if (now - pipe_link_said(d->io) < PIPE_TICK_MS || pipe_link_queued(d->io))
		return 0;
	struct pipe_msg m = {.type = PIPE_TICK, .count = p->holding ? (uint32_t)(p->total - holding_lacking(p->holding)) : 0};
	return pipe_link_send(d->io, &m, err);
}

// A successor that has always something waiting for it takes what its disk and its wire can. When that is less than the limit, and than
// half of what comes here, it must not stand in front of others.
static int watch_pace(struct pipeline *p, struct down *d, uint64_t now, struct vc_error *err)
{
	uint64_t out = pipe_link_bytes_out(d->io) - pipe_link_queued(d->io), in = pipe_bytes_in(p), ms = now - d->busy_since;
	bool busy = pipe_link_queued(d->io) > 0, over = busy && ms >= PIPE_SLOW_MS;
	uint64_t took = out - d->busy_out;
	bool slow = over && took * 1000 < p->min_rate * ms && (p->phase != PIPELINE_FETCHING || in - d->busy_in >= 2 * took);
	if (!busy || over) {
		d->busy_since = now;
		d->busy_out = out;
		d->busy_in = in;
	}
	if (!slow || d->told_slow)
		return 0;
	d->told_slow = true;
	vc_log_notice("image %.12s: %s takes %llu KiB/s: sent to the tail of the chain", p->digest, pipe_link_host(d->io),
		      (unsigned long long)(took * 1000 / ms >> 10));
	return pipe_link_send_type(d->io, PIPE_SLOW, err);
}

void down_turn(struct pipeline *p, struct down *d, uint64_t now)
{
	struct vc_error err = VC_ERROR_INIT;
	if (d->dead)
		return;
	join(p, d);
	if (feed(p, d, &err) < 0 || say_something(p, d, now, &err) < 0 || pipe_link_flush(d->io, &err) < 0 ||
	    watch_pace(p, d, now, &err) < 0)
		drop(d, &err);
}

// --- the end ------------------------------------------------------------------------------------------------------------

static void down_free(struct pipeline *p, struct down *d)
{
	LIST_REMOVE(d, link);
	p->n_downs--;
	p->bytes_out += pipe_link_bytes_out(d->io);
	pipe_link_destroy(d->io);
	free(d->want);
	free(d);
}

void downs_leave(struct pipeline *p)
{
	struct down *d;
	LIST_FOREACH(d, &p->downs, link) {
		d->dead = true;
		d->relaying = false;
	}
}

void downs_reap(struct pipeline *p)
{
	struct down *d = LIST_FIRST(&p->downs), *next;
	for (; d; d = next) {
		next = LIST_NEXT(d, link);
		if (d->dead)
			down_free(p, d);
	}
}

void downs_close(struct pipeline *p)
{
	while (!LIST_EMPTY(&p->downs))
		down_free(p, LIST_FIRST(&p->downs));
}
