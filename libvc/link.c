// SPDX-License-Identifier: GPL-2.0-or-later
// Link frames and one end of a link: see link.h, and docs/protocol.md part 2 for the bytes and the reset rule.
//
// Owns the receive buffer. What a peer sends can cost it its own link, never more: bodies are bounded, a frame counts
// only with a right check, trailer, counter and epoch, and a port comes up only on a nonce of ours.
#include "libvc/link.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"

#define RX_SIZE (VC_LINK_FRAME_MAX * 4) // several frames per read(2)
#define HELLO_BODY_MAX 512u		// a HELLO is about 150 bytes; a port that is down believes no longer one
#define EPOCH_MAX (1ull << 53)		// a JSON number is exact up to here
#define STALL_MS 1000u			// a frame's rest that does not come: bytes were lost
#define NONCE_LEN 16

struct vc_link {
	vc_link_write_fn *write;
	void *ctx;
	bool port;
	bool up;
	char boot[VC_LINK_BOOT_LEN + 1];
	char peer_boot[VC_LINK_BOOT_LEN + 1];
	char nonce[NONCE_LEN + 1];	// ours, of this epoch
	char peer_nonce[NONCE_LEN + 1]; // what we echo; "" before the peer spoke in this epoch
	uint64_t epoch;
	uint64_t hello_at;   // when HELLO was last said
	unsigned hello_tries; // in this epoch; repeats grow rarer, so that a slow peer is not flooded
	uint64_t partial_at; // since when a frame is incomplete; 0: it is not
	uint32_t tx_counter, rx_counter;
	size_t start, end; // unparsed bytes of rx
	uint8_t *rx;
	struct vc_link_stats stats;
};

// ---- frames ----

static uint32_t head_check(const uint8_t *head)
{
	return vc_crc32c(vc_crc32c(0, head, 12), head + 16, 16);
}

static void encode(struct vc_link *link, const struct vc_link_frame *f, uint8_t *head, uint8_t *tail)
{
	vc_put_be32(head, VC_LINK_MAGIC);
	head[4] = f->type;
	head[5] = f->channel;
	vc_put_be16(head + 6, (uint16_t)link->epoch);
	vc_put_be32(head + 8, f->len);
	vc_put_be64(head + 16, f->session);
	vc_put_be64(head + 24, f->offset);
	uint32_t check = head_check(head);
	vc_put_be32(head + 12, check);
	vc_put_be32(tail, check);
	if (f->type == VC_LINK_HELLO)
		link->tx_counter = 0;
	vc_put_be32(tail + 4, link->tx_counter++);
}

static bool head_valid(const uint8_t *head)
{
	uint8_t type = head[4];
	if (vc_get_be32(head) != VC_LINK_MAGIC || type < VC_LINK_HELLO || type > VC_LINK_PONG)
		return false;
	return head[5] < VC_CHANNELS && vc_get_be32(head + 8) <= VC_LINK_BODY_MAX &&
	       vc_get_be32(head + 12) == head_check(head);
}

static void decode(uint8_t *raw, struct vc_link_frame *f)
{
	*f = (struct vc_link_frame){
		.type = raw[4],
		.channel = raw[5],
		.epoch = vc_get_be16(raw + 6),
		.len = vc_get_be32(raw + 8),
		.session = vc_get_be64(raw + 16),
		.offset = vc_get_be64(raw + 24),
		.body = raw + VC_LINK_HEAD_LEN,
		.in_place = true,
	};
}

static void write_frame(struct vc_link *link, struct vc_link_frame *f)
{
	uint8_t head[VC_LINK_HEAD_LEN], tail[VC_LINK_TAIL_LEN];
	size_t total = VC_LINK_HEAD_LEN + f->len + VC_LINK_TAIL_LEN;
	link->stats.frames_out++;
	link->stats.bytes_out += total;
	if (f->in_place) {
		uint8_t *raw = f->body - VC_LINK_HEAD_LEN;
		encode(link, f, raw, f->body + f->len);
		link->write(link->ctx, &(struct iovec){.iov_base = raw, .iov_len = total}, 1);
		return;
	}
	encode(link, f, head, tail);
	struct iovec iov[3] = {{head, sizeof(head)}, {f->body, f->len}, {tail, sizeof(tail)}};
	link->write(link->ctx, iov, 3);
}

// ---- handshake of a port ----

static void say_hello(struct vc_link *link, uint64_t now_ms)
{
	char body[HELLO_BODY_MAX];
	int len = snprintf(body, sizeof(body), "{\"v\":1,\"boot\":\"%s\",\"epoch\":%" PRIu64 ",\"nonce\":\"%s\"", link->boot,
			   link->epoch, link->nonce);
	if (link->peer_nonce[0])
		len += snprintf(body + len, sizeof(body) - (size_t)len, ",\"echo\":\"%s\"", link->peer_nonce);
	len += snprintf(body + len, sizeof(body) - (size_t)len, ",\"up\":%s}", link->up ? "true" : "false");
	link->hello_tries++;
	link->hello_at = now_ms;
	write_frame(link, &(struct vc_link_frame){.type = VC_LINK_HELLO, .len = (uint32_t)len, .body = (uint8_t *)body});
}

static void new_epoch(struct vc_link *link, uint64_t epoch)
{
	uint8_t raw[NONCE_LEN / 2];
	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		abort(); // cannot happen for so few bytes; a predictable nonce would let a stream forge a HELLO
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(link->nonce + 2 * i, 3, "%02x", raw[i]);
	link->peer_nonce[0] = '\0';
	link->hello_tries = 0;
	link->epoch = epoch;
	link->up = false;
	link->write(link->ctx, NULL, 0);
}

static void start_reset(struct vc_link *link, uint64_t now_ms)
{
	static uint8_t zeros[VC_LINK_FRAME_MAX]; // completes what the peer may be in the middle of
	if (link->up)
		link->stats.resets++;
	new_epoch(link, link->epoch < EPOCH_MAX ? link->epoch + 1 : EPOCH_MAX);
	link->write(link->ctx, &(struct iovec){.iov_base = zeros, .iov_len = sizeof(zeros)}, 1);
	say_hello(link, now_ms);
}

struct hello {
	uint64_t epoch;
	const char *boot, *nonce, *echo;
	bool up;
};

static bool is_hex(const char *s, size_t len)
{
	return strlen(s) == len && strspn(s, "0123456789abcdef") == len;
}

static int parse_hello(struct json_object *obj, struct hello *h)
{
	uint64_t version;
	h->echo = "";
	if (vc_json_u64(obj, "v", UINT32_MAX, &version, NULL) < 0 || vc_json_u64(obj, "epoch", EPOCH_MAX, &h->epoch, NULL) < 0 ||
	    vc_json_str(obj, "boot", VC_LINK_BOOT_LEN, &h->boot, NULL) < 0 ||
	    vc_json_str(obj, "nonce", NONCE_LEN, &h->nonce, NULL) < 0 ||
	    vc_json_str_opt(obj, "echo", NONCE_LEN, &h->echo, NULL) < 0 || vc_json_bool_opt(obj, "up", &h->up, NULL) < 0)
		return -1;
	return version == 1 && is_hex(h->boot, VC_LINK_BOOT_LEN) && is_hex(h->nonce, NONCE_LEN) ? 0 : -1;
}

// A HELLO while we are up, of our epoch or an older one.
static enum vc_link_event hello_while_up(struct vc_link *link, const struct hello *h, uint64_t now_ms)
{
	bool knows_us = h->epoch == link->epoch && strcmp(h->nonce, link->peer_nonce) == 0 && strcmp(h->echo, link->nonce) == 0;
	if (knows_us && h->up)
		return VC_LINK_NEED;
	if (knows_us && link->tx_counter == 1) { // our answer was lost, but nothing after it
		say_hello(link, now_ms);
		return VC_LINK_NEED;
	}
	start_reset(link, now_ms);
	return VC_LINK_DOWN;
}

// The rule of docs/protocol.md. Returns the event for the caller, VC_LINK_NEED for none.
static enum vc_link_event take_hello(struct vc_link *link, const struct hello *h, uint64_t now_ms)
{
	bool was_up = link->up;
	if (was_up && h->epoch <= link->epoch)
		return hello_while_up(link, h, now_ms);
	if (h->epoch < link->epoch)
		return VC_LINK_NEED; // it will adopt ours
	if (h->epoch > link->epoch) {
		link->stats.resets += was_up;
		new_epoch(link, h->epoch);
	}
	bool answered = strcmp(h->nonce, link->peer_nonce) == 0;
	memcpy(link->peer_nonce, h->nonce, sizeof(link->peer_nonce));
	link->up = strcmp(h->echo, link->nonce) == 0;
	if (link->up)
		memcpy(link->peer_boot, h->boot, sizeof(link->peer_boot));
	if (!answered || (link->up && !h->up))
		say_hello(link, now_ms);
	if (link->up)
		return VC_LINK_UP;
	return was_up ? VC_LINK_DOWN : VC_LINK_NEED;
}

static enum vc_link_event on_hello(struct vc_link *link, const struct vc_link_frame *f, uint64_t now_ms)
{
	if (!link->port)
		return VC_LINK_UP;
	struct hello h = {0};
	vc_autojson struct json_object *obj = vc_json_parse((const char *)f->body, f->len, NULL);
	if (!obj || parse_hello(obj, &h) < 0 || f->epoch != (uint16_t)h.epoch)
		return VC_LINK_NEED;
	return take_hello(link, &h, now_ms);
}

// ---- parser ----

static enum vc_link_event damage(struct vc_link *link, uint64_t now_ms)
{
	if (!link->port)
		return VC_LINK_DAMAGED;
	bool was_up = link->up;
	uint8_t *from = link->rx + link->start + 1;
	uint8_t *next = memchr(from, VC_LINK_MAGIC >> 24, link->end - link->start - 1);
	size_t skip = next ? (size_t)(next - from) + 1 : link->end - link->start;
	link->start += skip;
	link->stats.skipped += skip;
	if (!was_up)
		return VC_LINK_NEED;
	start_reset(link, now_ms);
	return VC_LINK_DOWN;
}

enum parsed { PARSED_NONE, PARSED_PARTIAL, PARSED_BAD, PARSED_FRAME };

// Looks at the first unparsed byte. A port that is down takes complete frames, or waits for the rest of a HELLO only.
static enum parsed parse_one(struct vc_link *link, struct vc_link_frame *f)
{
	uint8_t *raw = link->rx + link->start;
	size_t avail = link->end - link->start;
	if (avail < VC_LINK_HEAD_LEN)
		return avail ? PARSED_PARTIAL : PARSED_NONE;
	if (!head_valid(raw))
		return PARSED_BAD;
	decode(raw, f);
	if (link->port && f->type == VC_LINK_HELLO && f->len > HELLO_BODY_MAX)
		return PARSED_BAD;
	size_t total = VC_LINK_HEAD_LEN + f->len + VC_LINK_TAIL_LEN;
	if (avail < total)
		return link->up || f->type == VC_LINK_HELLO ? PARSED_PARTIAL : PARSED_BAD;
	const uint8_t *tail = raw + VC_LINK_HEAD_LEN + f->len;
	uint32_t counter = vc_get_be32(tail + 4);
	if (vc_get_be32(tail) != vc_get_be32(raw + 12))
		return PARSED_BAD;
	if (f->type != VC_LINK_HELLO && link->up && f->epoch == (uint16_t)link->epoch && counter != link->rx_counter)
		return PARSED_BAD;
	return PARSED_FRAME;
}

// What the link itself does with a frame; VC_LINK_NEED: nothing for the caller.
static enum vc_link_event handle(struct vc_link *link, struct vc_link_frame *f, uint64_t now_ms)
{
	if (f->type == VC_LINK_HELLO) {
		link->rx_counter = 1;
		return on_hello(link, f, now_ms);
	}
	if (!link->up || f->epoch != (uint16_t)link->epoch)
		return VC_LINK_NEED;
	link->rx_counter++;
	if (f->type == VC_LINK_PING && f->len <= 8) {
		f->type = VC_LINK_PONG;
		write_frame(link, f);
		return VC_LINK_NEED;
	}
	return f->type == VC_LINK_PING || f->type == VC_LINK_PONG ? VC_LINK_NEED : VC_LINK_FRAME;
}

enum vc_link_event vc_link_next(struct vc_link *link, uint64_t now_ms, struct vc_link_frame *frame)
{
	for (;;) {
		enum vc_link_event event;
		switch (parse_one(link, frame)) {
		case PARSED_NONE:
			link->partial_at = 0;
			return VC_LINK_NEED;
		case PARSED_PARTIAL:
			if (!link->partial_at)
				link->partial_at = now_ms ? now_ms : 1;
			if (!link->port || !link->up || now_ms - link->partial_at < STALL_MS)
				return VC_LINK_NEED;
			event = damage(link, now_ms);
			link->partial_at = 0;
			break;
		case PARSED_BAD:
			event = damage(link, now_ms);
			break;
		case PARSED_FRAME:
			link->partial_at = 0;
			link->start += VC_LINK_HEAD_LEN + frame->len + VC_LINK_TAIL_LEN;
			link->stats.frames_in++;
			event = handle(link, frame, now_ms);
			break;
		default:
			return VC_LINK_NEED;
		}
		if (event != VC_LINK_NEED)
			return event;
	}
}

uint8_t *vc_link_space(struct vc_link *link, size_t *ret_len)
{
	size_t waiting = link->end - link->start;
	if (link->start && (!waiting || RX_SIZE - link->end < VC_LINK_BODY_MAX)) {
		memmove(link->rx, link->rx + link->start, waiting);
		link->start = 0;
		link->end = waiting;
	}
	*ret_len = RX_SIZE - link->end;
	return link->rx + link->end;
}

void vc_link_commit(struct vc_link *link, size_t len)
{
	link->end += len;
	link->stats.bytes_in += len;
}

// ---- the object ----

struct vc_link *vc_link_create(const char *boot, vc_link_write_fn *write, void *ctx)
{
	struct vc_link *link = calloc(1, sizeof(*link));
	if (!link)
		return NULL;
	link->rx = malloc(RX_SIZE);
	if (!link->rx) {
		free(link);
		errno = ENOMEM;
		return NULL;
	}
	link->write = write;
	link->ctx = ctx;
	link->port = boot != NULL;
	link->up = !link->port;
	snprintf(link->boot, sizeof(link->boot), "%s", boot ? boot : "");
	return link;
}

void vc_link_destroy(struct vc_link *link)
{
	if (!link)
		return;
	int saved = errno;
	free(link->rx);
	free(link);
	errno = saved;
}

void vc_link_hello(struct vc_link *link, uint64_t now_ms)
{
	if (link->port)
		start_reset(link, now_ms);
	else
		say_hello(link, now_ms);
}

void vc_link_tick(struct vc_link *link, uint64_t now_ms)
{
	if (!link->port)
		return;
	if (link->up || !link->hello_tries)
		return;
	uint64_t wait = (uint64_t)VC_LINK_HELLO_RETRY_MS << (link->hello_tries < 4 ? link->hello_tries - 1 : 3);
	if (now_ms - link->hello_at >= wait)
		say_hello(link, now_ms);
}

bool vc_link_is_up(const struct vc_link *link)
{
	return link->up;
}

const char *vc_link_peer_boot(const struct vc_link *link)
{
	return link->peer_boot;
}

int vc_link_send(struct vc_link *link, struct vc_link_frame *frame)
{
	if (!link->up) {
		errno = ENOTCONN;
		return -1;
	}
	write_frame(link, frame);
	return 0;
}

void vc_link_get_stats(const struct vc_link *link, struct vc_link_stats *ret)
{
	*ret = link->stats;
}
