// SPDX-License-Identifier: GPL-2.0-or-later
// Datagrams between vcds: see memberpkt.h.
#include "vcd/memberpkt.h"

#include <sodium.h>
#include <string.h>

#include "libvc/buf.h"

static const uint8_t magic[4] = {'V', 'C', 'M', 1}; // with the version

enum { FLAG_ASK = 1 };

static void mac(const uint8_t *data, size_t len, const uint8_t *key, uint8_t *ret)
{
	crypto_generichash(ret, MEMBERPKT_MAC_LEN, data, len, key, MEMBERPKT_KEY_LEN);
}

// What follows the head: a host's name, or a cluster and a message; nothing after a heartbeat.
static size_t put_body(const struct memberpkt *p, uint8_t *out, size_t room)
{
	size_t len = 0;
	if (p->kind == MEMBERPKT_OBSERVE || p->kind == MEMBERPKT_SEEN) {
		len = strlen(p->subject);
		memcpy(out, p->subject, len);
	} else if (p->kind == MEMBERPKT_AGREE) {
		len = sizeof(p->cluster) + p->body_len;
		if (len > room)
			return SIZE_MAX;
		memcpy(out, p->cluster, sizeof(p->cluster));
		memcpy(out + sizeof(p->cluster), p->body, p->body_len);
	}
	return len;
}

size_t memberpkt_encode(const struct memberpkt *p, const uint8_t key[MEMBERPKT_KEY_LEN], uint8_t *out)
{
	memcpy(out, magic, sizeof(magic));
	vc_put_be32(out + 4, p->slot);
	vc_put_be64(out + 8, p->seq);
	out[16] = p->kind;
	out[17] = p->ask ? FLAG_ASK : 0;
	size_t len = put_body(p, out + MEMBERPKT_HEAD_LEN, MEMBERPKT_MAX - MEMBERPKT_HEAD_LEN - MEMBERPKT_MAC_LEN);
	if (len == SIZE_MAX)
		return 0;
	len += MEMBERPKT_HEAD_LEN;
	mac(out, len, key, out + len);
	return len + MEMBERPKT_MAC_LEN;
}

int memberpkt_slot(const uint8_t *data, size_t len, uint32_t *ret_slot)
{
	if (len < MEMBERPKT_HEAD_LEN + MEMBERPKT_MAC_LEN || len > MEMBERPKT_MAX || memcmp(data, magic, sizeof(magic)) != 0)
		return -1;
	*ret_slot = vc_get_be32(data + 4);
	return 0;
}

static int get_body(struct memberpkt *p, const uint8_t *body, size_t len)
{
	if (p->kind == MEMBERPKT_OBSERVE || p->kind == MEMBERPKT_SEEN) {
		if (len == 0 || len > VC_HOSTNAME_MAX || memchr(body, '\0', len))
			return -1;
		memcpy(p->subject, body, len);
	} else if (p->kind == MEMBERPKT_AGREE) {
		if (len < sizeof(p->cluster))
			return -1;
		memcpy(p->cluster, body, sizeof(p->cluster));
		p->body = body + sizeof(p->cluster);
		p->body_len = len - sizeof(p->cluster);
	} else if (p->kind >= MEMBERPKT_KINDS || len) {
		return -1;
	}
	return 0;
}

int memberpkt_decode(const uint8_t *data, size_t len, const uint8_t key[MEMBERPKT_KEY_LEN], struct memberpkt *ret,
		     struct vc_error *err)
{
	uint8_t right[MEMBERPKT_MAC_LEN];
	struct memberpkt p = {0};
	if (memberpkt_slot(data, len, &p.slot) < 0)
		return vc_error_set(err, VC_EPROTO, "not a datagram of vcd");
	size_t signed_len = len - MEMBERPKT_MAC_LEN;
	mac(data, signed_len, key, right);
	if (sodium_memcmp(right, data + signed_len, sizeof(right)) != 0)
		return vc_error_set(err, VC_EDENIED, "a datagram with a wrong MAC");
	p.seq = vc_get_be64(data + 8);
	p.kind = data[16];
	p.ask = data[17] & FLAG_ASK;
	if (p.seq == 0 || get_body(&p, data + MEMBERPKT_HEAD_LEN, signed_len - MEMBERPKT_HEAD_LEN) < 0)
		return vc_error_set(err, VC_EPROTO, "a datagram that does not parse");
	*ret = p;
	return 0;
}

bool memberwindow_take(struct memberwindow *w, uint64_t seq)
{
	if (seq > w->top) {
		uint64_t ahead = seq - w->top;
		w->bits = ahead < 64 ? w->bits << ahead | 1 : 1;
		w->top = seq;
		return true;
	}
	uint64_t behind = w->top - seq;
	if (behind >= 64 || w->bits >> behind & 1)
		return false;
	w->bits |= 1ull << behind;
	return true;
}
