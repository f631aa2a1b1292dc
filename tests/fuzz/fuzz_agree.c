// SPDX-License-Identifier: GPL-2.0-or-later
// Fuzz target of the agreement's bytes: a message, and a record of a disk. What parses must be written again as it was read, and
// a host must live through it.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vcd/member/agree_wire.h"

#define HOSTS 4

static void require(bool truth)
{
	if (!truth)
		abort();
}

static void same_again(const struct agree_msg *m)
{
	vc_autobuf struct vc_buf one = VC_BUF_INIT(AGREE_WIRE_MAX), two = VC_BUF_INIT(AGREE_WIRE_MAX);
	struct agree_msg again;
	require(agree_msg_encode(m, &one) == 0);
	require(agree_msg_decode(vc_buf_head(&one), one.len, &again, NULL) == 0);
	require(agree_msg_encode(&again, &two) == 0);
	require(one.len == two.len && memcmp(vc_buf_head(&one), vc_buf_head(&two), one.len) == 0);
	agree_msg_clear(&again);
}

// Into a host of a small cluster, as if it stood on the same view.
static void into_host(struct agree_msg *m)
{
	struct agree_conf conf = {.times = agree_default_times(), .boot = 1};
	struct hostview *v = hostview_create(HOSTS, 0, NULL, 0);
	struct agree_durable d = {.self = 0, .incarnation = 1, .view = v};
	struct agree *a = agree_create(&conf, &d, 1000000);
	if (m->from & 1)
		memcpy(m->base, v->digest, sizeof(m->base));
	for (unsigned i = 0; i < HOSTS; i++) {
		m->from = i;
		m->epoch = i & 1 ? 1 : m->epoch;
		agree_recv(a, 1000001 + i, m);
	}
	agree_destroy(a);
	hostview_unref(v);
}

// The bytes as what follows a whole record of view 1.
static void step_of_record(const uint8_t *data, size_t size)
{
	vc_autobuf struct vc_buf whole = VC_BUF_INIT(AGREE_WIRE_MAX);
	struct agree_durable d = {.self = 1, .incarnation = 1, .view = hostview_create(4, 0, NULL, 0)}, got;
	struct agree_record r = {0}, read = {0};
	bool is_whole;
	if (agree_record_encode(&r, &d, NULL, &is_whole, &whole) < 0)
		abort();
	if (agree_record_decode(&read, vc_buf_head(&whole), whole.len, data, size, &got, NULL) == 0)
		agree_durable_clear(&got);
	agree_record_clear(&read);
	agree_record_clear(&r);
	agree_durable_clear(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct agree_msg m;
	struct agree_durable d;
	if (agree_msg_decode(data, size, &m, NULL) == 0) {
		same_again(&m);
		into_host(&m);
		agree_msg_clear(&m);
	}
	struct agree_record r = {0};
	if (agree_record_decode(&r, data, size, NULL, 0, &d, NULL) == 0)
		agree_durable_clear(&d);
	agree_record_clear(&r);
	step_of_record(data, size);
	return 0;
}
