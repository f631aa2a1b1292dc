// SPDX-License-Identifier: GPL-2.0-or-later
// Datagrams between vcds: what is sent comes out, nothing else is taken, nothing is taken twice; and the guests' view of the
// hosts' view.
#include <sodium.h>

#include "tests/unit/test.h"
#include "vcd/member/agree_wire.h"
#include "vcd/memberpkt.h"
#include "vcd/memberview.h"

static const uint8_t key[MEMBERPKT_KEY_LEN] = {1, 2, 3};

static void test_round_trip(void **state)
{
	(void)state;
	uint8_t out[MEMBERPKT_MAX], body[300];
	struct memberpkt got, p = {.slot = 7, .seq = MEMBERPKT_SEQ_MAX, .kind = MEMBERPKT_BEAT, .ask = true};
	size_t len = memberpkt_encode(&p, key, out);
	assert_int_equal(len, MEMBERPKT_HEAD_LEN + MEMBERPKT_MAC_LEN);
	assert_int_equal(memberpkt_decode(out, len, key, &got, NULL), 0);
	assert_int_equal(len, 17); // what the protocol promises
	assert_true(got.slot == 7 && got.seq == MEMBERPKT_SEQ_MAX && got.kind == MEMBERPKT_BEAT && got.ask);
	p = (struct memberpkt){.seq = 1, .kind = MEMBERPKT_OBSERVE, .subject = "n17"};
	len = memberpkt_encode(&p, key, out);
	assert_int_equal(memberpkt_decode(out, len, key, &got, NULL), 0);
	assert_string_equal(got.subject, "n17");
	memset(body, 0xa5, sizeof(body));
	p = (struct memberpkt){.seq = 2, .kind = MEMBERPKT_AGREE, .cluster = {9}, .body = body, .body_len = sizeof(body)};
	len = memberpkt_encode(&p, key, out);
	assert_int_equal(memberpkt_decode(out, len, key, &got, NULL), 0);
	assert_int_equal(got.cluster[0], 9);
	assert_int_equal(got.body_len, sizeof(body));
	assert_memory_equal(got.body, body, sizeof(body));
	p.body_len = MEMBERPKT_BODY_MAX + 1;
	assert_int_equal(memberpkt_encode(&p, key, out), 0);
	p = (struct memberpkt){.slot = UINT16_MAX + 1, .seq = 1};
	assert_int_equal(memberpkt_encode(&p, key, out), 0);
	p = (struct memberpkt){.seq = MEMBERPKT_SEQ_MAX + 1}; // never around to numbers that were used
	assert_int_equal(memberpkt_encode(&p, key, out), 0);
}

// Each bit of it counts, and each length but the right one is refused.
static void test_forged(void **state)
{
	(void)state;
	uint8_t out[MEMBERPKT_MAX], other[MEMBERPKT_KEY_LEN] = {1, 2, 4};
	struct memberpkt got, p = {.slot = 3, .seq = 5, .kind = MEMBERPKT_SEEN, .subject = "n2"};
	size_t len = memberpkt_encode(&p, key, out);
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(memberpkt_decode(out, len, other, &got, &err), -1);
	assert_int_equal(err.code, VC_EDENIED);
	for (size_t bit = 0; bit < 8 * len; bit++) {
		out[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(memberpkt_decode(out, len, key, &got, NULL), -1);
		out[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t n = 0; n < len; n++)
		assert_int_equal(memberpkt_decode(out, n, key, &got, NULL), -1);
	assert_int_equal(memberpkt_decode(out, len, key, &got, NULL), 0);
}

static void test_window(void **state)
{
	(void)state;
	struct memberwindow w = {0};
	assert_true(memberwindow_take(&w, 1));
	assert_false(memberwindow_take(&w, 1));
	assert_true(memberwindow_take(&w, 3));
	assert_true(memberwindow_take(&w, 2)); // late, but not too late
	assert_false(memberwindow_take(&w, 2));
	assert_true(memberwindow_take(&w, 100));
	assert_false(memberwindow_take(&w, 36)); // too late to know
	assert_true(memberwindow_take(&w, 37));
	assert_true(memberwindow_take(&w, UINT64_MAX));
	assert_false(memberwindow_take(&w, 100));
}

// What goes between hosts at rest: a status message of a site that has been up for a month fits into 64 bytes.
static void test_status_is_small(void **state)
{
	(void)state;
	vc_autobuf struct vc_buf out = VC_BUF_INIT(AGREE_WIRE_MAX);
	struct agree_msg got, m = {.type = AGREE_STATUS, .flag = true, .from = 189, .to = 4, .epoch = 300, .base = {1, 2, 3}, .stamp = 1ull << 31,
				   .echo = (1ull << 31) - 7, .boot = UINT32_MAX, .echo_boot = UINT32_MAX - 1, .age = UINT64_MAX, .count = 13};
	assert_int_equal(agree_msg_encode(&m, &out), 0);
	assert_in_range(out.len, 11, 64 - 16);
	assert_int_equal(agree_msg_decode(vc_buf_head(&out), out.len, &got, NULL), 0);
	assert_memory_equal(&got, &m, sizeof(m));
	for (size_t n = 0; n < out.len; n++)
		assert_int_equal(agree_msg_decode(vc_buf_head(&out), n, &got, NULL), -1);
}

// A witness that was upgraded must not forget a promise: it is on its disk as a message of version 1.
static void test_older_message_is_read(void **state)
{
	(void)state;
	uint8_t old[107] = {1, AGREE_PROMISE, 0};
	struct agree_msg got;
	vc_put_be32(old + 3, 7);
	vc_put_be64(old + 15, 41);
	memset(old + 23, 0xab, 32);
	vc_put_be64(old + 55, 99);
	vc_put_be64(old + 63, 98);
	vc_put_be64(old + 95, UINT64_MAX);
	vc_put_be32(old + 103, 5);
	assert_int_equal(agree_msg_decode(old, sizeof(old), &got, NULL), 0);
	assert_true(got.type == AGREE_PROMISE && got.from == 7 && got.epoch == 41 && got.ballot == 99 && got.voted_ballot == 98);
	assert_true(got.base[7] == 0xab && got.age == UINT64_MAX && got.count == 5);
	old[0] = AGREE_WIRE_VERSION + 1;
	assert_int_equal(agree_msg_decode(old, sizeof(old), &got, NULL), -1);
}

static struct plan *make_plan(void)
{
	struct plan *plan = plan_create();
	const struct plan_limits limits = {0, 0};
	memset(plan->id, 'a', PLAN_ID_LEN);
	plan->key = (struct plan_key){.slurm = "lab", .job = 42};
	plan->net = (struct plan_net){.vni = 1, .network = "10.42.0.0", .prefix = 16, .mtu = 1450};
	plan->spec = vc_spec_create();
	plan->spec->vms = 2;
	plan->hosts = calloc(2, sizeof(*plan->hosts));
	for (int i = 0; i < 2; i++)
		plan->hosts[plan->n_hosts++] = (struct plan_host){.name = strdup(i ? "n2" : "n1"), .addr = strdup("10.77.0.1"), .cpus = 2,
								  .total_cpus = 2, .mem_mib = 1000, .real_mem_mib = 2000};
	assert_int_equal(plan_make(plan, &limits, NULL), 0);
	return plan;
}

static struct hostview *after(struct hostview *v, enum hv_kind kind, uint32_t id)
{
	struct hv_event e = {.kind = (uint8_t)kind, .id = id, .incarnation = 1};
	struct hv_change *c = hv_change_create(&e, 1);
	struct hostview *next = hostview_apply(v, c);
	hv_change_unref(c);
	hostview_unref(v);
	assert_non_null(next);
	return next;
}

static void test_view(void **state)
{
	(void)state;
	plan_auto struct plan *plan = make_plan();
	struct hostview *hosts = memberview_first(plan);
	view_auto struct view *first = memberview_make(plan, hosts, NULL);
	assert_int_equal(first->epoch, 1);
	assert_int_equal(view_size(first), 4);
	hosts = after(hosts, HV_HOST_LOST, 1);
	view_auto struct view *lost = memberview_make(plan, hosts, NULL);
	assert_int_equal(view_size(lost), 4); // they run
	assert_true(lost->members[2].agent_lost && lost->members[3].agent_lost && !lost->members[1].agent_lost);
	assert_string_not_equal(lost->digest, first->digest);
	struct json_object *json = view_to_json(lost);
	view_auto struct view *read = view_from_json(json, NULL);
	assert_non_null(read);
	assert_string_equal(read->digest, lost->digest);
	assert_true(read->members[3].agent_lost);
	json_object_put(json);
	hosts = after(hosts, HV_HOST_FAIL, 1);
	view_auto struct view *gone = memberview_make(plan, hosts, NULL);
	assert_int_equal(gone->epoch, 3);
	assert_int_equal(view_size(gone), 2);
	assert_string_equal(gone->members[3].host, "n2");
	assert_int_equal(gone->members[3].state, VIEW_GONE);
	hostview_unref(hosts);
}

int main(void)
{
	if (sodium_init() < 0)
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_status_is_small),
		cmocka_unit_test(test_older_message_is_read),
		cmocka_unit_test(test_view),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
