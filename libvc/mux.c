// SPDX-License-Identifier: GPL-2.0-or-later
// Sessions and channels: see mux.h, and docs/protocol.md part 2 for the rules.
//
// Sent bytes live in slots with room for a frame's head and tail around them, so that a slot is read into once, stamped in
// place and written as one piece, and kept until it is acknowledged. All output follows from state (what is pending), so a
// refused frame needs no queue here: vc_mux_route_writable pumps again. Memory is bounded by credit, the number of slots,
// the window and the message limit; who breaks a bound loses the session.
#include "libvc/mux.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"

#define BUCKETS 256u
// Body of a full slot: with head and tail exactly 64 KiB, two writes of a virtio-serial port (32 KiB each).
#define SLOT_BODY (65536u - VC_LINK_HEAD_LEN - VC_LINK_TAIL_LEN)
#define SLOT_SMALL 4096u	// fewer bytes than this are copied to a small slot
#define SLOTS_MAX 512u		// unacknowledged slots of a data channel: bounds the overhead of tiny writes
#define ACK_FRAMES 64u		// a peer with many tiny frames unacknowledged runs out of slots before credit
#define OFFSET_MAX (1ull << 62) // no stream is that long; keeps sums from wrapping
#define RESUME_LEN (VC_CHANNELS * 16u)
#define CODE_MAX 32u
#define REASON_MAX 512u

struct slot {
	struct slot *next;
	uint64_t offset;
	uint32_t len, cap;
	bool sent;
	uint8_t raw[]; // head, cap bytes of body, tail
};

struct tx {
	struct slot *head, *tail; // unacknowledged, in order
	struct slot *spare;	  // a list, given out by vc_mux_session_space
	size_t slots;
	uint64_t base;	// first byte the peer has not received
	uint64_t next;	// next to send; goes back on RESUME
	uint64_t sent;	// highest byte ever sent
	uint64_t end;	// bytes written by the caller
	uint64_t limit; // the peer's credit
	bool allowed;	// this end's role sends on this channel
	bool closed;	// the peer's reader is gone
	bool eof, eof_sent;
	bool starved; // the caller was told that there is no room
};

struct rx {
	struct vc_buf buf; // received, not consumed; control: an unfinished message
	uint64_t next;	   // next byte wanted
	uint64_t limit;	   // granted
	uint64_t eof_at;
	bool allowed;
	bool eof, eof_done;
	bool closed;
	bool ack;	 // an ACK is pending
	unsigned frames; // since the last ACK
};

struct vc_mux_session {
	struct vc_mux *mux;
	struct vc_mux_session *hash_next, *prev, *next;
	uint64_t id;
	enum vc_mux_role role;
	void *route, *data;
	char *open_body;
	uint64_t detached_at, asked_at;
	bool dead;
	bool attached;	 // data may be sent
	bool asking;	 // a RESUME of ours has not been answered
	bool open, ask, answer; // pending OPEN, RESUME 0, RESUME 1
	bool was_acked;
	struct tx tx[VC_CHANNELS];
	struct rx rx[VC_CHANNELS];
};

struct vc_mux {
	struct vc_mux_config conf;
	const struct vc_mux_ops *ops;
	void *ctx;
	struct vc_mux_session *bucket[BUCKETS];
	struct vc_mux_session *first, *last, *grave;
	size_t count;
	unsigned depth; // nested calls: the dead are freed when it is back to 0
	uint64_t now_ms;
};

// ---- table of sessions ----

static struct vc_mux_session **bucket_of(const struct vc_mux *mux, uint64_t id)
{
	uint64_t h = id * 0x9e3779b97f4a7c15ull;
	return (struct vc_mux_session **)&mux->bucket[h >> 56];
}

static void list_append(struct vc_mux *mux, struct vc_mux_session *s)
{
	s->prev = mux->last;
	s->next = NULL;
	*(mux->last ? &mux->last->next : &mux->first) = s;
	mux->last = s;
}

static void list_remove(struct vc_mux *mux, struct vc_mux_session *s)
{
	*(s->prev ? &s->prev->next : &mux->first) = s->next;
	*(s->next ? &s->next->prev : &mux->last) = s->prev;
}

static void slots_free(struct slot **list)
{
	while (*list) {
		struct slot *slot = *list;
		*list = slot->next;
		free(slot);
	}
}

static void tx_drop(struct tx *t)
{
	slots_free(&t->head);
	t->tail = NULL;
	t->slots = 0;
}

static void session_free(struct vc_mux_session *s)
{
	for (int ch = 0; ch < VC_CHANNELS; ch++) {
		tx_drop(&s->tx[ch]);
		slots_free(&s->tx[ch].spare);
		vc_buf_clear(&s->rx[ch].buf);
	}
	free(s->open_body);
	free(s);
}

static void enter(struct vc_mux *mux)
{
	mux->depth++;
}

static void leave(struct vc_mux *mux)
{
	if (--mux->depth)
		return;
	while (mux->grave) {
		struct vc_mux_session *s = mux->grave;
		mux->grave = s->next;
		session_free(s);
	}
}

static void session_bury(struct vc_mux_session *s)
{
	struct vc_mux *mux = s->mux;
	if (s->dead)
		return;
	enter(mux);
	struct vc_mux_session **p = bucket_of(mux, s->id);
	while (*p != s)
		p = &(*p)->hash_next;
	*p = s->hash_next;
	list_remove(mux, s);
	mux->count--;
	s->dead = true;
	s->next = mux->grave;
	mux->grave = s;
	leave(mux);
}

struct vc_mux_session *vc_mux_session_find(const struct vc_mux *mux, uint64_t id)
{
	struct vc_mux_session *s = *bucket_of(mux, id);
	while (s && s->id != id)
		s = s->hash_next;
	return s;
}

// Which channels an end sends, by role; it receives the others of the pair.
static bool role_sends(enum vc_mux_role role, int ch)
{
	if (ch == VC_CH_CONTROL)
		return true;
	if (ch == VC_CH_PMI)
		return role != VC_MUX_PEER;
	return role == VC_MUX_CLIENT ? ch == VC_CH_STDIN : role == VC_MUX_SERVER && ch != VC_CH_STDIN;
}

static bool role_receives(enum vc_mux_role role, int ch)
{
	switch (role) {
	case VC_MUX_CLIENT:
		return role_sends(VC_MUX_SERVER, ch);
	case VC_MUX_SERVER:
		return role_sends(VC_MUX_CLIENT, ch);
	default:
		return ch == VC_CH_CONTROL;
	}
}

static struct vc_mux_session *session_new(struct vc_mux *mux, void *route, uint64_t id, enum vc_mux_role role)
{
	struct vc_mux_session *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->mux = mux;
	s->id = id;
	s->role = role;
	s->route = route;
	s->detached_at = mux->now_ms;
	s->was_acked = true;
	for (int ch = 0; ch < VC_CHANNELS; ch++) {
		s->tx[ch].allowed = role_sends(role, ch);
		s->tx[ch].limit = VC_MUX_CREDIT_INITIAL;
		s->rx[ch].allowed = role_receives(role, ch);
		s->rx[ch].limit = VC_MUX_CREDIT_INITIAL;
	}
	s->hash_next = *bucket_of(mux, id);
	*bucket_of(mux, id) = s;
	list_append(mux, s);
	mux->count++;
	return s;
}

// ---- sending: what is pending, in order ----

enum sent { SENT_NOTHING, SENT_SOME, SENT_BLOCKED };

static enum sent send_frame(struct vc_mux_session *s, struct vc_link_frame *f)
{
	f->session = s->id;
	return s->mux->ops->send_frame(s->mux->ctx, s->route, f) < 0 ? SENT_BLOCKED : SENT_SOME;
}

static void send_reset(struct vc_mux *mux, void *route, uint64_t id, const char *code, const char *message)
{
	size_t len = 0;
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!obj || vc_json_add_str(obj, "code", code) < 0 || vc_json_add_str(obj, "message", message) < 0)
		return;
	const char *text = vc_json_text(obj, &len);
	if (text && len <= VC_LINK_BODY_MAX)
		mux->ops->send_frame(mux->ctx, route,
				     &(struct vc_link_frame){.type = VC_LINK_RESET, .session = id, .len = (uint32_t)len, .body = (uint8_t *)text});
}

// What was received and needs no more room; the control buffer holds an unfinished message, bounded by its own limit.
static uint64_t rx_taken(const struct vc_mux_session *s, const struct rx *r)
{
	return r == &s->rx[VC_CH_CONTROL] ? r->next : r->next - r->buf.len;
}

static uint64_t grant(struct vc_mux_session *s, struct rx *r)
{
	uint64_t limit = rx_taken(s, r) + s->mux->conf.window;
	if (limit > r->limit)
		r->limit = limit;
	return r->limit;
}

static uint64_t wanted(const struct rx *r)
{
	return r->closed ? VC_MUX_OFFSET_CLOSED : r->next;
}

static enum sent send_resume(struct vc_mux_session *s, bool answer)
{
	uint8_t body[RESUME_LEN];
	for (int ch = 0; ch < VC_CHANNELS; ch++) {
		struct rx *r = &s->rx[ch];
		vc_put_be64(body + 16 * ch, r->allowed ? wanted(r) : 0);
		vc_put_be64(body + 16 * ch + 8, r->allowed ? grant(s, r) : 0);
	}
	enum sent sent = send_frame(s, &(struct vc_link_frame){.type = VC_LINK_RESUME, .offset = answer, .len = sizeof(body), .body = body});
	if (sent == SENT_BLOCKED)
		return sent;
	for (int ch = 0; ch < VC_CHANNELS; ch++) {
		s->rx[ch].ack = false;
		s->rx[ch].frames = 0;
	}
	if (answer) {
		s->answer = false;
	} else {
		s->ask = false;
		s->asking = true;
		s->asked_at = s->mux->now_ms;
	}
	return sent;
}

static enum sent send_ack(struct vc_mux_session *s, int ch)
{
	struct rx *r = &s->rx[ch];
	uint8_t body[8];
	vc_put_be64(body, grant(s, r));
	enum sent sent = send_frame(s, &(struct vc_link_frame){.type = VC_LINK_ACK, .channel = (uint8_t)ch, .offset = wanted(r),
							  .len = sizeof(body), .body = body});
	if (sent == SENT_SOME) {
		r->ack = false;
		r->frames = 0;
	}
	return sent;
}

static struct slot *slot_at(const struct tx *t, uint64_t offset)
{
	struct slot *slot = t->head;
	while (slot && slot->offset + slot->len <= offset)
		slot = slot->next;
	return slot;
}

// One DATA frame: the whole slot in place where credit covers it (a part that the peer has is a duplicate), else a piece.
static enum sent send_slot(struct vc_mux_session *s, int ch)
{
	struct tx *t = &s->tx[ch];
	struct slot *slot = t->tail && t->tail->offset <= t->next ? t->tail : slot_at(t, t->next);
	uint64_t end = slot->offset + slot->len;
	struct vc_link_frame f = {.type = VC_LINK_DATA, .channel = (uint8_t)ch};
	f.in_place = end <= t->limit;
	f.offset = f.in_place ? slot->offset : t->next;
	f.len = (uint32_t)((f.in_place ? end : t->limit) - f.offset);
	f.body = slot->raw + VC_LINK_HEAD_LEN + (f.offset - slot->offset);
	enum sent sent = send_frame(s, &f);
	if (sent == SENT_SOME) {
		slot->sent = true;
		t->next = f.offset + f.len;
		if (t->next > t->sent)
			t->sent = t->next;
	}
	return sent;
}

static enum sent send_channel(struct vc_mux_session *s, int ch)
{
	struct tx *t = &s->tx[ch];
	if (t->closed)
		return SENT_NOTHING;
	if (t->next < t->end && t->next < t->limit)
		return send_slot(s, ch);
	if (!t->eof || t->eof_sent || t->next < t->end)
		return SENT_NOTHING;
	enum sent sent = send_frame(s, &(struct vc_link_frame){.type = VC_LINK_EOF, .channel = (uint8_t)ch, .offset = t->end});
	t->eof_sent = sent == SENT_SOME;
	return sent;
}

static enum sent send_signalling(struct vc_mux_session *s)
{
	if (s->open) {
		enum sent sent = send_frame(s, &(struct vc_link_frame){.type = VC_LINK_OPEN, .len = (uint32_t)strlen(s->open_body),
								  .body = (uint8_t *)s->open_body});
		s->open = sent != SENT_SOME;
		return sent;
	}
	if (s->ask)
		return send_resume(s, false);
	if (s->answer)
		return send_resume(s, true);
	for (int ch = 0; ch < VC_CHANNELS; ch++) {
		if (s->rx[ch].ack && s->attached)
			return send_ack(s, ch);
	}
	return SENT_NOTHING;
}

// One round: all signalling, then a frame of each channel, so that no session and no channel starves another.
static enum sent pump_round(struct vc_mux_session *s)
{
	enum sent any = SENT_NOTHING, sent;
	if (!s->route || s->dead)
		return SENT_NOTHING;
	while ((sent = send_signalling(s)) == SENT_SOME)
		any = SENT_SOME;
	for (int ch = 0; sent != SENT_BLOCKED && s->attached && ch < VC_CHANNELS; ch++) {
		sent = send_channel(s, ch);
		if (sent == SENT_SOME)
			any = SENT_SOME;
	}
	return sent == SENT_BLOCKED ? sent : any;
}

static void pump(struct vc_mux_session *s)
{
	while (pump_round(s) == SENT_SOME)
		;
}

// ---- receiving ----

// Ends a session that broke the rules: the peer is told, the owner too.
static void violate(struct vc_mux_session *s, const char *code, const char *message)
{
	struct vc_mux *mux = s->mux;
	if (s->dead)
		return;
	if (s->route)
		send_reset(mux, s->route, s->id, code, message);
	mux->ops->on_reset(mux->ctx, s, code, message);
	session_bury(s);
}

// Asks for an ACK when enough was consumed, or received in small pieces, that the peer should know.
static void consumed(struct vc_mux_session *s, struct rx *r)
{
	uint32_t window = s->mux->conf.window;
	if (rx_taken(s, r) + window >= r->limit + window / 2 || r == &s->rx[VC_CH_CONTROL] || r->eof_done || r->frames >= ACK_FRAMES)
		r->ack = true;
}

static void deliver_eof(struct vc_mux_session *s, int ch)
{
	struct rx *r = &s->rx[ch];
	if (!r->eof || r->eof_done || r->buf.len || r->next != r->eof_at)
		return;
	r->eof_done = true;
	r->ack = true;
	if (s->mux->ops->on_eof && !r->closed)
		s->mux->ops->on_eof(s->mux->ctx, s, (enum vc_channel)ch);
}

// Complete messages out of the control buffer.
static void take_messages(struct vc_mux_session *s)
{
	struct vc_buf *b = &s->rx[VC_CH_CONTROL].buf;
	while (!s->dead && b->len >= 4) {
		uint32_t len = vc_get_be32(vc_buf_head(b));
		if (len > s->mux->conf.message_max) {
			violate(s, "proto", "a control message is too long");
			return;
		}
		if (b->len - 4 < len)
			return;
		s->mux->ops->on_message(s->mux->ctx, s, (const char *)vc_buf_head(b) + 4, len);
		vc_buf_consume(b, 4 + len);
		if (!b->len)
			vc_buf_clear(b); // a start message may have been megabytes
	}
}

// Room for two windows at once: the buffer then moves its bytes to the front once per window, not at each frame.
static int keep(struct vc_mux_session *s, struct rx *r, const uint8_t *data, size_t len)
{
	if (!r->buf.data && !vc_buf_reserve(&r->buf, 2 * (size_t)s->mux->conf.window))
		return -1;
	return vc_buf_append(&r->buf, data, len);
}

static void take_data(struct vc_mux_session *s, int ch, const uint8_t *data, size_t len)
{
	struct rx *r = &s->rx[ch];
	r->next += len;
	r->frames++;
	if (ch == VC_CH_CONTROL) {
		if (vc_buf_append(&r->buf, data, len) < 0)
			violate(s, "failed", "no memory for a control message");
		else
			take_messages(s);
		consumed(s, r);
		return;
	}
	size_t used = 0;
	if (r->closed)
		used = len;
	else if (!r->buf.len)
		used = s->mux->ops->on_data(s->mux->ctx, s, (enum vc_channel)ch, data, len);
	if (!s->dead && !r->closed && used < len && keep(s, r, data + used, len - used) < 0)
		violate(s, "failed", "no memory to receive");
	consumed(s, r);
}

static void ask_again(struct vc_mux_session *s)
{
	if (s->role == VC_MUX_PEER) {
		violate(s, "lost", "bytes were lost");
	} else if (!s->asking && !s->ask && s->attached) {
		s->ask = true; // once, the tick repeats it
	}
}

static void on_data(struct vc_mux_session *s, const struct vc_link_frame *f)
{
	struct rx *r = &s->rx[f->channel];
	if (f->offset > OFFSET_MAX || f->offset + f->len > r->limit || (r->eof && f->offset + f->len > r->eof_at)) {
		if (!r->closed)
			violate(s, "proto", "data past the credit or the end");
		return;
	}
	if (f->offset > r->next) {
		ask_again(s);
		return;
	}
	uint64_t skip = r->next - f->offset;
	if (skip < f->len)
		take_data(s, f->channel, f->body + skip, f->len - (size_t)skip);
	if (!s->dead)
		deliver_eof(s, f->channel);
}

static void on_eof(struct vc_mux_session *s, const struct vc_link_frame *f)
{
	struct rx *r = &s->rx[f->channel];
	if (f->offset < r->next || f->offset > OFFSET_MAX || (r->eof && r->eof_at != f->offset)) {
		if (!r->closed)
			violate(s, "proto", "a stream ends before its data");
		return;
	}
	if (f->offset > r->next) {
		ask_again(s);
		return;
	}
	r->eof = true;
	r->eof_at = f->offset;
	deliver_eof(s, f->channel);
}

static void tx_close(struct vc_mux_session *s, int ch)
{
	struct tx *t = &s->tx[ch];
	if (t->closed)
		return;
	t->closed = true;
	tx_drop(t);
	if (s->mux->ops->on_reader_closed)
		s->mux->ops->on_reader_closed(s->mux->ctx, s, (enum vc_channel)ch);
}

static void tx_release(struct tx *t, uint64_t received)
{
	t->base = received;
	while (t->head && t->head->offset + t->head->len <= received) {
		struct slot *slot = t->head;
		t->head = slot->next;
		t->slots--;
		free(slot);
	}
	if (!t->head)
		t->tail = NULL;
}

// The peer has all before `offset`, and grants up to `limit`. -1: that cannot be.
static int tx_acked(struct tx *t, uint64_t offset, uint64_t limit)
{
	if (offset > t->sent)
		return -1;
	if (offset > t->base)
		tx_release(t, offset);
	if (t->next < t->base)
		t->next = t->base;
	uint64_t most = t->base + VC_MUX_WINDOW_MAX;
	if (limit > most)
		limit = most;
	if (limit > t->limit)
		t->limit = limit;
	return 0;
}

static bool tx_has_room(const struct tx *t)
{
	return t->end < t->limit && t->slots < SLOTS_MAX;
}

static void tell_room(struct vc_mux_session *s)
{
	const struct vc_mux_ops *ops = s->mux->ops;
	for (int ch = 0; ch < VC_CHANNELS && !s->dead; ch++) {
		struct tx *t = &s->tx[ch];
		if (!t->starved || t->closed || t->eof || !tx_has_room(t))
			continue;
		t->starved = false;
		if (ops->on_writable)
			ops->on_writable(s->mux->ctx, s, (enum vc_channel)ch);
	}
	bool acked = !s->dead && vc_mux_session_acked(s);
	if (acked && !s->was_acked && ops->on_acked) {
		s->was_acked = true;
		ops->on_acked(s->mux->ctx, s);
	}
}

static void on_ack(struct vc_mux_session *s, const struct vc_link_frame *f)
{
	if (f->len != 8) {
		violate(s, "proto", "an ACK without its limit");
	} else if (f->offset == VC_MUX_OFFSET_CLOSED) {
		tx_close(s, f->channel);
	} else if (!s->tx[f->channel].closed && tx_acked(&s->tx[f->channel], f->offset, vc_get_be64(f->body)) < 0) {
		violate(s, "proto", "bytes were acknowledged that were never sent");
	}
	if (!s->dead)
		tell_room(s);
}

// One channel's part of a RESUME. -1: the session cannot go on.
static int resume_channel(struct vc_mux_session *s, int ch, uint64_t from, uint64_t limit)
{
	struct tx *t = &s->tx[ch];
	if (!t->allowed || t->closed)
		return 0;
	if (from == VC_MUX_OFFSET_CLOSED) {
		tx_close(s, ch);
		return 0;
	}
	if (from < t->base) {
		violate(s, "lost", "the other end does not have this session any more");
		return -1;
	}
	if (tx_acked(t, from, limit) < 0) {
		violate(s, "proto", "bytes were acknowledged that were never sent");
		return -1;
	}
	t->next = from;
	t->eof_sent = false;
	return 0;
}

static void on_resume(struct vc_mux_session *s, void *route, const struct vc_link_frame *f)
{
	if (f->len != RESUME_LEN || f->offset > 1 || s->role == VC_MUX_PEER) {
		violate(s, "proto", "a RESUME of the wrong form");
		return;
	}
	if (s->role == VC_MUX_SERVER)
		s->route = route;
	for (int ch = 0; ch < VC_CHANNELS; ch++) {
		if (resume_channel(s, ch, vc_get_be64(f->body + 16 * ch), vc_get_be64(f->body + 16 * ch + 8)) < 0 || s->dead)
			return;
	}
	if (f->offset == 0)
		s->answer = true;
	else
		s->asking = false;
	if (s->role == VC_MUX_SERVER || f->offset == 1)
		s->attached = true;
	if (s->attached && s->mux->ops->on_attached)
		s->mux->ops->on_attached(s->mux->ctx, s);
	if (!s->dead)
		tell_room(s);
}

// RESET's body is only shown to a person: what cannot be read becomes a plain word.
static void on_reset(struct vc_mux_session *s, const struct vc_link_frame *f)
{
	const char *code = "failed", *message = "the other end ended the session";
	vc_autojson struct json_object *obj = f->len ? vc_json_parse((const char *)f->body, f->len, NULL) : NULL;
	if (obj) {
		vc_json_str_opt(obj, "code", CODE_MAX, &code, NULL);
		vc_json_str_opt(obj, "message", REASON_MAX, &message, NULL);
	}
	s->mux->ops->on_reset(s->mux->ctx, s, code, message);
	session_bury(s);
}

static void open_new(struct vc_mux *mux, void *route, const struct vc_link_frame *f)
{
	struct vc_error err = VC_ERROR_INIT;
	struct vc_mux_session *s = NULL;
	if (!mux->ops->on_open || (f->session & mux->conf.id_mask) != mux->conf.id_value)
		vc_error_set(&err, VC_EDENIED, "no session of this kind can be opened here");
	else if (mux->count >= mux->conf.sessions_max)
		vc_error_set(&err, VC_EBUSY, "there are too many sessions (%u)", mux->conf.sessions_max);
	else if (!(s = session_new(mux, route, f->session, VC_MUX_SERVER)))
		vc_error_set(&err, VC_EFAILED, "no memory for a session");
	else if (mux->ops->on_open(mux->ctx, s, f->body, f->len, &err) == 0)
		return;
	send_reset(mux, route, f->session, vc_error_name(err.code), err.text);
	if (s)
		session_bury(s);
}

static void on_open(struct vc_mux *mux, void *route, const struct vc_link_frame *f)
{
	struct vc_mux_session *s = vc_mux_session_find(mux, f->session);
	if (!s) {
		open_new(mux, route, f);
	} else if (s->role == VC_MUX_SERVER && s->route != route) {
		if (s->attached)
			s->detached_at = mux->now_ms;
		s->route = route;
		s->attached = false; // until its RESUME
	}
}

static void dispatch(struct vc_mux_session *s, void *route, const struct vc_link_frame *f)
{
	bool receives = s->rx[f->channel].allowed, sends = s->tx[f->channel].allowed;
	bool data = f->type == VC_LINK_DATA || f->type == VC_LINK_EOF;
	if ((data && !receives) || (f->type == VC_LINK_ACK && !sends)) {
		violate(s, "proto", "a channel was used in the wrong direction");
		return;
	}
	switch (f->type) {
	case VC_LINK_DATA:
		on_data(s, f);
		break;
	case VC_LINK_EOF:
		on_eof(s, f);
		break;
	case VC_LINK_ACK:
		on_ack(s, f);
		break;
	case VC_LINK_RESUME:
		on_resume(s, route, f);
		break;
	case VC_LINK_RESET:
		on_reset(s, f);
		break;
	default:
		break;
	}
}

void vc_mux_input(struct vc_mux *mux, void *route, struct vc_link_frame *f, uint64_t now_ms)
{
	mux->now_ms = now_ms;
	if (f->channel >= VC_CHANNELS)
		return;
	enter(mux);
	struct vc_mux_session *s = vc_mux_session_find(mux, f->session);
	if (f->type == VC_LINK_OPEN) {
		on_open(mux, route, f);
	} else if (s) {
		dispatch(s, route, f);
		if (!s->dead)
			pump(s);
	} else if (f->type != VC_LINK_RESET) {
		send_reset(mux, route, f->session, "unknown", "there is no such session here");
	}
	leave(mux);
}

// ---- routes and time ----

static void client_attach(struct vc_mux_session *s)
{
	s->attached = false;
	s->asking = false;
	s->ask = true;
	s->answer = false;
	s->open = s->open_body != NULL;
}

void vc_mux_route_up(struct vc_mux *mux, void *route, uint64_t now_ms)
{
	mux->now_ms = now_ms;
	enter(mux);
	for (struct vc_mux_session *s = mux->first, *next; s; s = next) {
		next = s->next;
		if (s->route != route || s->role != VC_MUX_CLIENT)
			continue;
		client_attach(s);
		pump(s);
	}
	leave(mux);
}

void vc_mux_route_down(struct vc_mux *mux, void *route, uint64_t now_ms)
{
	mux->now_ms = now_ms;
	for (struct vc_mux_session *s = mux->first; s; s = s->next) {
		if (s->route != route)
			continue;
		s->attached = false;
		s->asking = s->ask = s->answer = s->open = false;
		s->detached_at = now_ms;
		if (s->role == VC_MUX_SERVER)
			s->route = NULL;
	}
}

void vc_mux_route_writable(struct vc_mux *mux, void *route, uint64_t now_ms)
{
	mux->now_ms = now_ms;
	enter(mux);
	bool any = true;
	while (any) {
		any = false;
		for (struct vc_mux_session *s = mux->first; s; s = s->next) {
			enum sent sent = s->route == route ? pump_round(s) : SENT_NOTHING;
			if (sent == SENT_SOME)
				any = true;
			if (sent != SENT_BLOCKED)
				continue;
			list_remove(mux, s); // next time the others come first
			list_append(mux, s);
			leave(mux);
			return;
		}
	}
	leave(mux);
}

void vc_mux_tick(struct vc_mux *mux, uint64_t now_ms)
{
	mux->now_ms = now_ms;
	enter(mux);
	for (struct vc_mux_session *s = mux->first, *next; s; s = next) {
		next = s->next;
		if (s->asking && s->route && now_ms - s->asked_at >= VC_MUX_RESUME_RETRY_MS) {
			s->ask = true;
			s->open = s->open_body && !s->attached;
		}
		pump(s);
	}
	leave(mux);
}

// ---- mux and session objects ----

struct vc_mux *vc_mux_create(const struct vc_mux_config *conf, const struct vc_mux_ops *ops, void *ctx)
{
	struct vc_mux *mux = calloc(1, sizeof(*mux));
	if (!mux)
		return NULL;
	mux->conf = conf ? *conf : (struct vc_mux_config){0};
	if (!mux->conf.window)
		mux->conf.window = VC_MUX_WINDOW;
	if (mux->conf.window < VC_MUX_CREDIT_INITIAL)
		mux->conf.window = VC_MUX_CREDIT_INITIAL;
	if (!mux->conf.sessions_max)
		mux->conf.sessions_max = VC_MUX_SESSIONS_MAX;
	if (!mux->conf.message_max)
		mux->conf.message_max = VC_MUX_MESSAGE_MAX;
	mux->ops = ops;
	mux->ctx = ctx;
	return mux;
}

void vc_mux_destroy(struct vc_mux *mux)
{
	if (!mux)
		return;
	int saved = errno;
	while (mux->first)
		session_bury(mux->first);
	free(mux);
	errno = saved;
}

size_t vc_mux_sessions(const struct vc_mux *mux)
{
	return mux->count;
}

void vc_mux_each(struct vc_mux *mux, void (*fn)(void *arg, struct vc_mux_session *s), void *arg)
{
	enter(mux);
	for (struct vc_mux_session *s = mux->first, *next; s; s = next) {
		next = s->next;
		fn(arg, s);
	}
	leave(mux);
}

struct vc_mux_session *vc_mux_session_create(struct vc_mux *mux, void *route, uint64_t id, enum vc_mux_role role,
				     const char *open_body, uint64_t now_ms, struct vc_error *err)
{
	mux->now_ms = now_ms;
	if (vc_mux_session_find(mux, id) || mux->count >= mux->conf.sessions_max) {
		vc_error_set(err, VC_EBUSY, "the session's id is in use, or there are too many (%zu)", mux->count);
		return NULL;
	}
	char *body = open_body ? strdup(open_body) : NULL;
	struct vc_mux_session *s = open_body && !body ? NULL : session_new(mux, route, id, role);
	if (!s) {
		free(body);
		errno = ENOMEM;
		vc_error_errno(err, "no memory for a session");
		return NULL;
	}
	s->open_body = body;
	s->attached = role == VC_MUX_PEER;
	if (route && role == VC_MUX_CLIENT)
		vc_mux_session_attach(s, route, now_ms);
	return s;
}

void vc_mux_session_destroy(struct vc_mux_session *s)
{
	if (s)
		session_bury(s);
}

void vc_mux_session_reset(struct vc_mux_session *s, const char *code, const char *message)
{
	if (s->dead)
		return;
	enter(s->mux);
	pump(s); // acknowledgements first: the peer may wait for them
	if (s->route)
		send_reset(s->mux, s->route, s->id, code, message);
	session_bury(s);
	leave(s->mux);
}

void vc_mux_session_attach(struct vc_mux_session *s, void *route, uint64_t now_ms)
{
	s->mux->now_ms = now_ms;
	enter(s->mux);
	s->route = route;
	client_attach(s);
	pump(s);
	leave(s->mux);
}

uint64_t vc_mux_session_id(const struct vc_mux_session *s)
{
	return s->id;
}

void *vc_mux_session_route(const struct vc_mux_session *s)
{
	return s->route;
}

void vc_mux_session_set_data(struct vc_mux_session *s, void *data)
{
	s->data = data;
}

void *vc_mux_session_data(const struct vc_mux_session *s)
{
	return s->data;
}

uint64_t vc_mux_session_detached_ms(const struct vc_mux_session *s, uint64_t now_ms)
{
	if (s->attached)
		return 0;
	return now_ms > s->detached_at ? now_ms - s->detached_at : 1;
}

// ---- the caller's side of a channel ----

static struct slot *slot_new(uint32_t cap)
{
	struct slot *slot = malloc(sizeof(*slot) + VC_LINK_HEAD_LEN + cap + VC_LINK_TAIL_LEN);
	if (slot)
		*slot = (struct slot){.cap = cap};
	return slot;
}

static void slot_append(struct tx *t, struct slot *slot, uint32_t len)
{
	slot->offset = t->end;
	slot->len = len;
	*(t->tail ? &t->tail->next : &t->head) = slot;
	t->tail = slot;
	t->slots++;
	t->end += len;
}

// The last slot when it can still grow.
static struct slot *open_tail(const struct tx *t)
{
	struct slot *tail = t->tail;
	return tail && !tail->sent && tail->len < tail->cap ? tail : NULL;
}

// A place in `slot` for up to *credit bytes, which it takes from that.
static struct iovec slot_room(struct slot *slot, uint64_t *credit)
{
	uint32_t room = slot->cap - slot->len;
	size_t len = *credit < room ? (size_t)*credit : room;
	*credit -= len;
	return (struct iovec){.iov_base = slot->raw + VC_LINK_HEAD_LEN + slot->len, .iov_len = len};
}

int vc_mux_session_space(struct vc_mux_session *s, enum vc_channel ch, struct iovec *iov, int max)
{
	struct tx *t = &s->tx[ch];
	int n = 0;
	if (s->dead || !t->allowed || t->closed || t->eof)
		return 0;
	uint64_t credit = tx_has_room(t) ? t->limit - t->end : 0;
	struct slot *slot = open_tail(t);
	if (slot && credit)
		iov[n++] = slot_room(slot, &credit);
	for (struct slot **p = &t->spare; n < max && credit && t->slots + (size_t)n < SLOTS_MAX; p = &(*p)->next) {
		if (!*p && !(*p = slot_new(SLOT_BODY)))
			break;
		iov[n++] = slot_room(*p, &credit);
	}
	t->starved = n == 0;
	return n;
}

// The next `len` bytes are in the first spare slot: a few of them move to a small one.
static void spare_commit(struct tx *t, uint32_t len)
{
	struct slot *slot = t->spare, *small = len < SLOT_SMALL ? slot_new(SLOT_SMALL) : NULL;
	if (small) {
		memcpy(small->raw + VC_LINK_HEAD_LEN, slot->raw + VC_LINK_HEAD_LEN, len);
		slot = small;
	} else {
		t->spare = slot->next;
		slot->next = NULL;
	}
	slot_append(t, slot, len);
}

void vc_mux_session_commit(struct vc_mux_session *s, enum vc_channel ch, size_t len)
{
	struct tx *t = &s->tx[ch];
	struct slot *slot = open_tail(t);
	if (!len || s->dead)
		return;
	s->was_acked = false;
	if (slot) {
		size_t part = len < slot->cap - slot->len ? len : slot->cap - slot->len;
		slot->len += (uint32_t)part;
		t->end += part;
		len -= part;
	}
	while (len) {
		size_t part = len < SLOT_BODY ? len : SLOT_BODY;
		spare_commit(t, (uint32_t)part);
		len -= part;
	}
	enter(s->mux);
	pump(s);
	leave(s->mux);
}

size_t vc_mux_session_write(struct vc_mux_session *s, enum vc_channel ch, const void *data, size_t len)
{
	struct iovec space;
	size_t done = 0;
	while (done < len && vc_mux_session_space(s, ch, &space, 1) == 1) {
		size_t part = space.iov_len < len - done ? space.iov_len : len - done;
		memcpy(space.iov_base, (const uint8_t *)data + done, part);
		vc_mux_session_commit(s, ch, part);
		done += part;
	}
	return done;
}

void vc_mux_session_eof(struct vc_mux_session *s, enum vc_channel ch)
{
	struct tx *t = &s->tx[ch];
	if (s->dead || !t->allowed || t->eof)
		return;
	t->eof = true;
	enter(s->mux);
	pump(s);
	leave(s->mux);
}

// Splits a message over slots made before anything is linked, so that a failure changes nothing.
static struct slot *message_slots(const char *text, size_t len)
{
	struct slot *first = NULL, **last = &first;
	uint8_t head[4];
	vc_put_be32(head, (uint32_t)len);
	size_t prefix = sizeof(head);
	do {
		size_t part = len < SLOT_BODY - prefix ? len : SLOT_BODY - prefix;
		struct slot *slot = slot_new((uint32_t)(prefix + part));
		*last = slot;
		if (!slot)
			break;
		memcpy(slot->raw + VC_LINK_HEAD_LEN, head, prefix);
		memcpy(slot->raw + VC_LINK_HEAD_LEN + prefix, text, part);
		slot->len = (uint32_t)(prefix + part);
		last = &slot->next;
		text += part;
		len -= part;
		prefix = 0;
	} while (len);
	if (*last || !len)
		return first;
	while (first) {
		struct slot *next = first->next;
		free(first);
		first = next;
	}
	return NULL;
}

int vc_mux_session_message(struct vc_mux_session *s, const char *text, size_t len, struct vc_error *err)
{
	struct tx *t = &s->tx[VC_CH_CONTROL];
	if (s->dead || t->eof || t->closed)
		return vc_error_set(err, VC_ECANCELED, "the session has ended");
	if (len > s->mux->conf.message_max || t->end - t->base + len > 2 * (uint64_t)s->mux->conf.message_max)
		return vc_error_set(err, VC_EBUSY, "a message of %zu bytes does not fit (limit %u)", len, s->mux->conf.message_max);
	struct slot *slot = message_slots(text, len);
	if (!slot)
		return vc_error_set(err, VC_EFAILED, "no memory for a message of %zu bytes", len);
	s->was_acked = false;
	while (slot) {
		struct slot *next = slot->next;
		slot->next = NULL;
		slot_append(t, slot, slot->len);
		slot = next;
	}
	enter(s->mux);
	pump(s);
	leave(s->mux);
	return 0;
}

bool vc_mux_session_acked(const struct vc_mux_session *s)
{
	for (int ch = 0; ch < VC_CHANNELS; ch++) {
		const struct tx *t = &s->tx[ch];
		if (!t->closed && (t->base < t->end || (t->eof && !t->eof_sent)))
			return false;
	}
	return true;
}

const uint8_t *vc_mux_session_peek(const struct vc_mux_session *s, enum vc_channel ch, size_t *ret_len)
{
	*ret_len = ch == VC_CH_CONTROL ? 0 : s->rx[ch].buf.len;
	return *ret_len ? vc_buf_head(&s->rx[ch].buf) : NULL;
}

void vc_mux_session_consume(struct vc_mux_session *s, enum vc_channel ch, size_t len)
{
	struct rx *r = &s->rx[ch];
	if (s->dead || ch == VC_CH_CONTROL || len > r->buf.len)
		return;
	enter(s->mux);
	vc_buf_consume(&r->buf, len);
	consumed(s, r);
	deliver_eof(s, ch);
	pump(s);
	leave(s->mux);
}

void vc_mux_session_close_reader(struct vc_mux_session *s, enum vc_channel ch)
{
	struct rx *r = &s->rx[ch];
	if (s->dead || !r->allowed || r->closed)
		return;
	r->closed = true;
	r->ack = true;
	vc_buf_clear(&r->buf);
	enter(s->mux);
	pump(s);
	leave(s->mux);
}
