// SPDX-License-Identifier: GPL-2.0-or-later
// A transfer's predecessor: who it is, what comes from it, and what becomes of it when it is silent, wrong or gone.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "vcd/image/chunks.h"
#include "vcd/image/image_limits.h"
#include "vcd/pipe/pipe_int.h"

#define LIST_HEAD_LEN 12
#define WANT_CHUNKS (PIPE_PIECE_MAX * 8) // bits of one WANT

void up_close(struct pipeline *p)
{
	if (!p->up.io)
		return;
	if (p->up.frame.head.encoded)
		downs_finish(p, false, false);
	p->bytes_in += pipe_link_bytes_in(p->up.io);
	pipe_link_destroy(p->up.io);
	pipe_frame_clear(&p->up.frame);
	p->up = (struct up){.io = NULL};
}

void up_lost(struct pipeline *p, const struct vc_error *why)
{
	if (!p->up.io)
		return;
	vc_log_notice("fetching image %.12s from %s: %s; going on with another host", p->digest, pipe_link_host(p->up.io), why->text);
	p->last_loss = *why;
	p->bypassed++;
	p->orphan_since = pipe_now_ms();
	p->retry_at = 0;
	up_close(p);
}

// --- what is wanted -----------------------------------------------------------------------------------------------------

static int send_want(struct pipeline *p, size_t first, struct vc_error *err)
{
	uint8_t bits[PIPE_PIECE_MAX] = {0};
	size_t n = chunks_count(holding_chunks(p->holding)), last = 0;
	bool any = false;
	for (size_t i = first; i < n && i < first + WANT_CHUNKS; i++) {
		if (!holding_wants(p->holding, i))
			continue;
		bits[(i - first) / 8] |= (uint8_t)(1u << ((i - first) % 8));
		last = (i - first) / 8;
		any = true;
	}
	struct pipe_msg m = {.type = PIPE_WANT, .chunk = (uint32_t)first, .data = bits, .len = last + 1};
	p->up.n_wants += any;
	return any ? pipe_link_send(p->up.io, &m, err) : 0;
}

static int send_wants(struct pipeline *p, struct vc_error *err)
{
	for (size_t i = 0; i < chunks_count(holding_chunks(p->holding)); i += WANT_CHUNKS) {
		if (send_want(p, i, err) < 0)
			return -1;
	}
	return pipe_link_flush(p->up.io, err);
}

static int want_again(struct pipeline *p, size_t chunk, struct vc_error *err)
{
	uint8_t bit = 1;
	struct pipe_msg m = {.type = PIPE_WANT, .chunk = (uint32_t)chunk, .data = &bit, .len = 1};
	p->up.n_wants += p->up.io != NULL;
	return p->up.io ? pipe_link_send(p->up.io, &m, err) : 0;
}

void up_adopt(struct pipeline *p)
{
	struct vc_error err = VC_ERROR_INIT;
	size_t wanted;
	int rc = holding_adopt(p->holding, &wanted, &err);
	if (rc < 0) {
		pipe_fail(p, &err);
		return;
	}
	p->adopting = rc > 0;
	p->version++;
	if (wanted != SIZE_MAX && want_again(p, wanted, &err) < 0)
		up_lost(p, &err);
}

// --- what comes ---------------------------------------------------------------------------------------------------------

static int parse_list(struct pipeline *p, const uint8_t *raw, size_t len, struct vc_error *err)
{
	struct chunks *list = NULL;
	if (len < LIST_HEAD_LEN || vc_get_be32(raw + 8) > IMAGE_META_MAX || vc_get_be32(raw + 8) > len - LIST_HEAD_LEN)
		return vc_error_set(err, VC_EPROTO, "a chunk list of %zu bytes", len);
	size_t meta_len = vc_get_be32(raw + 8);
	vc_autofree char *meta = strndup((const char *)raw + LIST_HEAD_LEN, meta_len);
	if (!meta)
		return vc_error_errno(err, "chunk list");
	if (chunks_from_bytes(vc_get_be64(raw), raw + LIST_HEAD_LEN + meta_len, len - LIST_HEAD_LEN - meta_len, &list, err) < 0)
		return -1;
	return holding_begin(p->store, p->digest, list, meta, &p->holding, err);
}

static int take_list(struct pipeline *p, const uint8_t *raw, size_t len, struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	if (parse_list(p, raw, len, &why) < 0) {
		if (why.code == VC_EPROTO)
			return vc_error_set(err, why.code, "%s", why.text);
		pipe_fail(p, &why); // this host's own trouble
		return 0;
	}
	pipe_chunks_known(p);
	return send_wants(p, err);
}

// 1: all chunks are what they should be; 0: one is not.
static int take_chunks(struct pipeline *p, const struct pipe_head *h, const uint8_t *raw, struct vc_error *err)
{
	int good = 1;
	for (uint32_t i = 0; i < h->n; i++) {
		struct vc_error why = VC_ERROR_INIT;
		if (holding_write(p->holding, h->chunk[i], raw + (size_t)i * IMAGE_CHUNK, &why) == 0)
			continue;
		if (why.code != VC_EPROTO) {
			pipe_fail(p, &why);
			return 1;
		}
		vc_log_warning("from %s: %s", pipe_link_host(p->up.io), why.text);
		good = 0;
		if (want_again(p, h->chunk[i], err) < 0)
			return -1;
	}
	p->version++;
	return good;
}

// Not told from whoever sent it first until the next message: a predecessor that only passed it on says so.
static int frame_is_bad(struct pipeline *p, struct vc_error *err)
{
	downs_finish(p, false, true);
	p->up.suspect = true;
	if (++p->up.bad > PIPE_BAD_MAX)
		return vc_error_set(err, VC_EPROTO, "%u frames were not what they should be", p->up.bad);
	return 0;
}

static int want_all_again(struct pipeline *p, const struct pipe_head *h, struct vc_error *err)
{
	for (uint32_t i = 0; i < h->n; i++) {
		if (want_again(p, h->chunk[i], err) < 0)
			return -1;
	}
	return h->list ? pipe_link_send_type(p->up.io, PIPE_LIST, err) : 0;
}

// 1: good, 0: bad, -1: the link is to be left.
static int take_frame(struct pipeline *p, const struct pipe_head *h, struct vc_error *err)
{
	const uint8_t *raw = NULL;
	vc_autofree uint8_t *buf = NULL;
	struct vc_error why = VC_ERROR_INIT;
	if (pipe_frame_open(&p->up.frame, &raw, &buf, &why) < 0) {
		if (why.code != VC_EPROTO)
			return vc_error_set(err, why.code, "%s", why.text);
		return want_all_again(p, h, err);
	}
	if (!h->list)
		return take_chunks(p, h, raw, err);
	return take_list(p, raw, h->raw, err) < 0 ? -1 : 1;
}

static int finish_frame(struct pipeline *p, struct vc_error *err)
{
	const struct pipe_head head = p->up.frame.head;
	int rc = take_frame(p, &head, err);
	if (rc > 0)
		downs_finish(p, true, false);
	else if (rc == 0)
		rc = frame_is_bad(p, err);
	if (rc >= 0)
		pipe_frame_clear(&p->up.frame);
	return rc < 0 ? -1 : 0;
}

// What comes next of the frame under way; a message that ends it early is found a moment later.
static void expect_piece(struct pipeline *p)
{
	uint32_t rest = p->up.frame.head.encoded - p->up.frame.got;
	pipe_link_expect(p->up.io, rest ? (rest < PIPE_PIECE_MAX ? rest : PIPE_PIECE_MAX) + PIPE_MSG_OVERHEAD : 0);
}

static int begin_frame(struct pipeline *p, const struct pipe_head *h, struct vc_error *err)
{
	if (p->up.frame.head.encoded)
		return vc_error_set(err, VC_EPROTO, "a frame inside a frame");
	if (h->list == (p->holding != NULL))
		return vc_error_set(err, VC_EPROTO, h->list ? "a second chunk list" : "chunks before their list");
	for (uint32_t i = 0; i < h->n; i++) {
		if (h->chunk[i] >= chunks_count(holding_chunks(p->holding)))
			return vc_error_set(err, VC_EPROTO, "chunk %u of %zu", h->chunk[i], chunks_count(holding_chunks(p->holding)));
	}
	p->up.frame = (struct pipe_frame){.head = *h};
	expect_piece(p);
	downs_begin(p);
	return 0;
}

static int take_piece(struct pipeline *p, const struct pipe_msg *m, struct vc_error *err)
{
	if (!p->up.frame.head.encoded)
		return vc_error_set(err, VC_EPROTO, "a piece of no frame");
	if (pipe_frame_add(&p->up.frame, m->data, m->len, err) < 0)
		return -1;
	expect_piece(p);
	p->up.came_at = pipe_now_ms();
	downs_piece(p, m->data, m->len);
	return pipe_frame_is_complete(&p->up.frame) ? finish_frame(p, err) : 0;
}

static int take_abort(struct pipeline *p, const struct pipe_msg *m, struct vc_error *err)
{
	if (p->up.suspect && m->bad) {
		p->up.suspect = false; // it had it from somebody else, and asks for it again itself
		return 0;
	}
	if (!p->up.frame.head.encoded)
		return m->bad ? 0 : vc_error_set(err, VC_EPROTO, "the end of no frame");
	downs_finish(p, false, m->bad);
	pipe_frame_clear(&p->up.frame);
	expect_piece(p);
	return 0;
}

// The last frame was bad, and its sender had not said so: it is where it came from.
static int blame(struct pipeline *p, struct vc_error *err)
{
	snprintf(p->bad_host, sizeof(p->bad_host), "%s", pipe_link_host(p->up.io));
	chain_demote(p->chain, p->bad_host);
	return vc_error_set(err, VC_EPROTO, "it sent bytes that are not those of the image");
}

// An END that crossed a later WANT on its way says nothing yet.
static int take_end(struct pipeline *p, const struct pipe_msg *m, struct vc_error *err)
{
	if (!p->holding)
		return vc_error_set(err, VC_EPROTO, "an end before the chunk list");
	if (m->count < p->up.n_wants || p->adopting || !holding_lacking(p->holding))
		return 0;
	return vc_error_set(err, VC_ENOTFOUND, "it has no more of it");
}

// Those behind this host ask the next one in front of it; it goes behind them.
static int go_to_tail(struct pipeline *p, struct vc_error *err)
{
	if (!p->chain || !chain_to_tail(p->chain))
		return 0;
	p->at_tail = true;
	downs_leave(p);
	return vc_error_set(err, VC_ECANCELED, "this host is too slow for its place in the chain, and goes to its tail");
}

static int on_msg(void *ctx, const struct pipe_msg *m, struct vc_error *err)
{
	struct pipeline *p = ctx;
	if (p->phase != PIPELINE_FETCHING || !p->up.io)
		return vc_error_set(err, VC_ECANCELED, "it is not wanted any more");
	if (p->up.suspect && m->type != PIPE_ABORT)
		return blame(p, err);
	switch (m->type) {
	case PIPE_BEGIN:
		return begin_frame(p, &m->head, err);
	case PIPE_PIECE:
		return take_piece(p, m, err);
	case PIPE_ABORT:
		return take_abort(p, m, err);
	case PIPE_END:
		return take_end(p, m, err);
	case PIPE_SLOW:
		return go_to_tail(p, err);
	case PIPE_LACK:
	case PIPE_TICK:
		return 0;
	default:
		return vc_error_set(err, VC_EPROTO, "'%c' from a predecessor", (int)m->type);
	}
}

void up_read(struct pipeline *p)
{
	struct vc_error err = VC_ERROR_INIT;
	if (pipe_link_read(p->up.io, on_msg, p, &err) < 0 && p->phase == PIPELINE_FETCHING)
		up_lost(p, &err);
}

// --- who it is ----------------------------------------------------------------------------------------------------------

void up_attach(struct pipeline *p, struct mail *m)
{
	struct vc_error err = VC_ERROR_INIT;
	p->dialing = false;
	if (m->fd < 0) {
		p->last_loss = m->err;
		vc_log_debug("image %.12s is not to be had from %s: %s", p->digest, m->host, m->err.text);
		return;
	}
	if (p->phase != PIPELINE_FETCHING)
		return;
	p->up = (struct up){.io = pipe_link_create(vc_steal_fd(&m->fd), vc_steal(&m->session), m->host, &err)};
	if (!p->up.io) {
		p->last_loss = err;
		return;
	}
	p->up.came_at = pipe_now_ms();
	int rc = p->holding ? send_wants(p, &err) : pipe_link_send_type(p->up.io, PIPE_LIST, &err);
	if (rc < 0 || pipe_link_flush(p->up.io, &err) < 0 || pipe_link_pending(p->up.io, on_msg, p, &err) < 0)
		up_lost(p, &err);
}

static void dial_next(struct pipeline *p, uint64_t now)
{
	enum chain_ask how;
	struct vc_error err = VC_ERROR_INIT;
	uint64_t limit = PIPE_ORPHAN_MS + PIPE_ORPHAN_HOST_MS * chain_length(p->chain);
	if (now - p->orphan_since > limit) {
		vc_error_set(&err, VC_EHOST, "image %.12s: no host of %zu has sent it for %u s; the last one: %s", p->digest,
			     chain_length(p->chain), (unsigned)(limit / 1000), p->last_loss.code ? p->last_loss.text : "none answered");
		pipe_fail(p, &err);
		return;
	}
	const char *host = chain_next(p->chain, &how);
	if (host) {
		pipe_ask(p, MAIL_DIALED, host, how);
		return;
	}
	chain_restart(p->chain);
	p->retry_at = now + PIPE_RETRY_MS;
}

void up_probed(struct pipeline *p, const struct mail *m)
{
	struct vc_error why = VC_ERROR_INIT;
	p->probing = false;
	if (!p->up.io || strcmp(pipe_link_host(p->up.io), m->host) != 0)
		return;
	p->up.probed = pipe_now_ms();
	if (m->alive || p->up.probed - pipe_link_heard(p->up.io) < PIPE_SILENCE_MS)
		return;
	vc_error_set(&why, VC_EHOST, "silent, and its vcd does not answer");
	up_lost(p, &why);
}

static void watch_silence(struct pipeline *p, uint64_t now)
{
	struct vc_error why = VC_ERROR_INIT;
	uint64_t heard = pipe_link_heard(p->up.io);
	if (now - heard > PIPE_MUTE_MS || now - p->up.came_at > PIPE_MUTE_MS) {
		vc_error_set(&why, VC_ETIMEDOUT, "nothing came for %u s", PIPE_MUTE_MS / 1000);
		up_lost(p, &why);
	} else if (now - heard > PIPE_SILENCE_MS && !p->probing && now - p->up.probed > PIPE_SILENCE_MS) {
		pipe_ask(p, MAIL_PROBED, pipe_link_host(p->up.io), CHAIN_NOW);
	}
}

void up_tick(struct pipeline *p, uint64_t now)
{
	struct vc_error err = VC_ERROR_INIT;
	if (p->phase != PIPELINE_FETCHING)
		return;
	if (!p->up.io) {
		if (!p->dialing && now >= p->retry_at)
			dial_next(p, now);
		return;
	}
	p->orphan_since = now;
	if (pipe_link_flush(p->up.io, &err) < 0)
		up_lost(p, &err);
	else
		watch_silence(p, now);
}
