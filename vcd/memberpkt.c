// SPDX-License-Identifier: GPL-2.0-or-later
// Datagrams between vcds: see memberpkt.h.
#include "vcd/memberpkt.h"

#include <sodium.h>
#include <string.h>

#include "libvc/buf.h"

#define PKT_VERSION 2 // version 1 began with a 'V'

enum { AT_VERSION = 0, AT_KIND = 1, AT_SLOT = 2, AT_SEQ = 4 };
enum { FLAG_ASK = 0x80 }; // beside the kind

static void mac(const uint8_t *data, size_t len, const uint8_t *key, uint8_t *ret)
{
	uint8_t whole[crypto_generichash_BYTES_MIN];
	crypto_generichash(whole, sizeof(whole), data, len, key, MEMBERPKT_KEY_LEN);
	memcpy(ret, whole, MEMBERPKT_MAC_LEN);
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
	if (p->slot > UINT16_MAX || p->seq > MEMBERPKT_SEQ_MAX)
		return 0;
	out[AT_VERSION] = PKT_VERSION;
	out[AT_KIND] = (uint8_t)(p->kind | (p->ask ? FLAG_ASK : 0));
	vc_put_be16(out + AT_SLOT, (uint16_t)p->slot);
	out[AT_SEQ] = (uint8_t)(p->seq >> 32);
	vc_put_be32(out + AT_SEQ + 1, (uint32_t)p->seq);
	size_t len = put_body(p, out + MEMBERPKT_HEAD_LEN, MEMBERPKT_MAX - MEMBERPKT_HEAD_LEN - MEMBERPKT_MAC_LEN);
	if (len == SIZE_MAX)
		return 0;
	len += MEMBERPKT_HEAD_LEN;
	mac(out, len, key, out + len);
	return len + MEMBERPKT_MAC_LEN;
}

int memberpkt_slot(const uint8_t *data, size_t len, uint32_t *ret_slot)
{
	if (len < MEMBERPKT_HEAD_LEN + MEMBERPKT_MAC_LEN || len > MEMBERPKT_MAX || data[AT_VERSION] != PKT_VERSION)
		return -1;
	*ret_slot = vc_get_be16(data + AT_SLOT);
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
	p.seq = (uint64_t)data[AT_SEQ] << 32 | vc_get_be32(data + AT_SEQ + 1);
	p.kind = data[AT_KIND] & (uint8_t)~FLAG_ASK;
	p.ask = data[AT_KIND] & FLAG_ASK;
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
