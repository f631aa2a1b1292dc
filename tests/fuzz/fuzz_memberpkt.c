// SPDX-License-Identifier: GPL-2.0-or-later
// Fuzz target of the datagrams between vcds: a strange one (its MAC is wrong, whatever it says), and the same with a right MAC, as a vcd
// of another version would send it. What parses must be written again as it was read, but for what it has no meaning for.
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vcd/memberpkt.h"

static void require(bool truth)
{
	if (!truth)
		abort();
}

static void same_again(const struct memberpkt *p, const uint8_t key[MEMBERPKT_KEY_LEN])
{
	uint8_t out[MEMBERPKT_MAX];
	struct memberpkt again;
	size_t len = memberpkt_encode(p, key, out);
	require(len > 0 && memberpkt_decode(out, len, key, &again, NULL) == 0);
	require(again.slot == p->slot && again.seq == p->seq && again.kind == p->kind && again.ask == p->ask);
	require(strcmp(again.subject, p->subject) == 0 && memcmp(again.cluster, p->cluster, sizeof(p->cluster)) == 0);
	require(again.body_len == p->body_len && (!p->body_len || memcmp(again.body, p->body, p->body_len) == 0));
}

static void window(uint64_t seq)
{
	struct memberwindow w = {.top = 1000, .bits = 0x5555};
	bool taken = memberwindow_take(&w, seq);
	require(!memberwindow_take(&w, seq)); // each once
	require(taken || seq <= 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[MEMBERPKT_KEY_LEN] = {1};
	uint8_t whole[MEMBERPKT_MAX], mac[crypto_generichash_BYTES_MIN];
	struct memberpkt p;
	require(memberpkt_decode(data, size, key, &p, NULL) < 0);
	if (size > MEMBERPKT_MAX - MEMBERPKT_MAC_LEN)
		return 0;
	memcpy(whole, data, size);
	crypto_generichash(mac, sizeof(mac), data, size, key, sizeof(key));
	memcpy(whole + size, mac, MEMBERPKT_MAC_LEN);
	if (memberpkt_decode(whole, size + MEMBERPKT_MAC_LEN, key, &p, NULL) < 0)
		return 0;
	same_again(&p, key);
	window(p.seq);
	return 0;
}
