// SPDX-License-Identifier: GPL-2.0-or-later
// Agreement on a network that loses nothing: quorums, views of hosts, and exactly which messages one change takes. What goes
// wrong is the simulator's matter (tests/sim).
#include <stdbool.h>

#include "tests/unit/test.h"
#include "vcd/member/agree.h"
#include "vcd/member/agree_wire.h"
#include "vcd/member/detect.h"
#include "vcd/member/quorum.h"

#define HOSTS_MAX 200
#define QUEUE_MAX 100000

struct net {
	struct agree *hosts[HOSTS_MAX];
	bool down[HOSTS_MAX];
	uint32_t n;
	uint64_t now;
	struct agree_msg queue[QUEUE_MAX];
	uint32_t head, tail;
	unsigned sent[AGREE_TYPES];
};

static struct net net;

static void net_create(uint32_t n, uint16_t groups)
{
	struct agree_conf conf = {.times = agree_default_times(), .boot = 1};
	struct hostview *v = hostview_create(n, groups, NULL, 0);
	memset(&net, 0, sizeof(net));
	net.n = n;
	net.now = 1000000;
	for (uint32_t i = 0; i < n; i++) {
		struct agree_durable d = {.self = i, .incarnation = 1, .view = v};
		net.hosts[i] = agree_create(&conf, &d, net.now);
	}
	hostview_unref(v);
}

static void drain(uint32_t i)
{
	struct agree_out o;
	while (agree_pop(net.hosts[i], &o)) {
		if (o.kind != AGREE_OUT_SEND)
			continue;
		net.sent[o.msg.type]++;
		assert_true(net.tail < QUEUE_MAX);
		net.queue[net.tail++] = o.msg;
	}
}

static void deliver(void)
{
	while (net.head < net.tail) {
		struct agree_msg *m = &net.queue[net.head++];
		if (m->to < net.n && !net.down[m->to] && !net.down[m->from]) {
			agree_recv(net.hosts[m->to], net.now, m);
			drain(m->to);
		}
		agree_msg_clear(m);
	}
}

static void run(uint64_t ms)
{
	for (uint64_t end = net.now + ms; net.now < end; net.now++) {
		for (uint32_t i = 0; i < net.n; i++) {
			if (net.down[i] || agree_next(net.hosts[i]) > net.now)
				continue;
			agree_tick(net.hosts[i], net.now);
			drain(i);
		}
		deliver();
	}
}

static void net_destroy(void)
{
	for (; net.head < net.tail; net.head++)
		agree_msg_clear(&net.queue[net.head]);
	for (uint32_t i = 0; i < net.n; i++)
		agree_destroy(net.hosts[i]);
}

static void fact(uint32_t at, uint8_t kind, uint32_t id, uint8_t evidence)
{
	agree_fact(net.hosts[at], net.now, &(struct hv_event){.kind = kind, .evidence = evidence, .id = id, .incarnation = 1});
	drain(at);
}

static void assert_epoch(uint64_t epoch)
{
	const struct hostview *first = NULL;
	for (uint32_t i = 0; i < net.n; i++) {
		if (net.down[i])
			continue;
		const struct hostview *v = agree_view(net.hosts[i]);
		first = first ? first : v;
		assert_int_equal(v->epoch, epoch);
		assert_memory_equal(v->digest, first->digest, HOSTVIEW_DIGEST_LEN);
	}
}

// --- quorums -----------------------------------------------------------------------------------------------------

static void test_quorums(void **state)
{
	static const unsigned leaders[] = {0, 1, 2, 3, 3, 4, 5, 6, 6};
	(void)state;
	for (unsigned m = 1; m <= 8; m++)
		assert_int_equal(quorum_fast_leaders(m), leaders[m]);
	for (unsigned n = 1; n <= 500; n++) {
		unsigned q = quorum_fast_hosts(n), least = (n + 1) / 2; // half of the hosts, with a grant
		assert_true(2 * q + least > 2 * n || q == n);
		assert_true(2 * (q - 1) + least <= 2 * n);
		assert_true(q >= quorum_majority(n));
	}
}

// --- views of hosts ----------------------------------------------------------------------------------------------

static struct hostview *after(const struct hostview *v, uint8_t kind, uint32_t id, uint32_t incarnation)
{
	struct hv_event e = {.kind = kind, .id = id, .incarnation = incarnation};
	struct hv_change *c = hv_change_create(&e, 1);
	struct hostview *next = hostview_apply(v, c);
	hv_change_unref(c);
	return next;
}

static void test_hosts_come_and_go(void **state)
{
	struct hostview *v1 = hostview_create(3, 1, NULL, 0), *v2, *v3, *v4;
	(void)state;
	assert_int_equal(v1->leader[0], 0);
	assert_int_equal(v1->deputy[0], 1);
	v2 = after(v1, HV_HOST_FAIL, 0, 1);
	assert_int_equal(v2->epoch, 2);
	assert_int_equal(v2->n_voters, 2);
	assert_int_equal(v2->leader[0], 1);
	assert_null(after(v2, HV_HOST_FAIL, 0, 1));   // it is gone
	assert_null(after(v2, HV_HOST_RETURN, 0, 1)); // only as another incarnation
	assert_null(after(v2, HV_HOST_FAIL, 1, 2));   // of an incarnation that is not there
	v3 = after(v2, HV_HOST_RETURN, 0, 2);
	assert_int_equal(v3->n_voters, 3);
	assert_int_equal(v3->leader[0], 1); // seniority
	v4 = after(v3, HV_HOST_LOST, 1, 1);
	assert_int_equal(v4->n_voters, 3); // lost, not gone
	assert_int_equal(v4->leader[0], 2);
	hostview_unref(v1);
	hostview_unref(v2);
	hostview_unref(v3);
	hostview_unref(v4);
}

// A view that lost a host on the way is no successor: hosts stay listed when they are gone.
static void test_a_view_follows_another(void **state)
{
	struct hostview *v1 = hostview_create(3, 1, NULL, 0), *v2 = after(v1, HV_HOST_FAIL, 2, 1), *small = hostview_create(2, 1, NULL, 0);
	(void)state;
	assert_true(hostview_follows(v1, v2));
	assert_false(hostview_follows(v2, v1));
	small->epoch = 9;
	assert_false(hostview_follows(v1, small));
	hostview_unref(v1);
	hostview_unref(v2);
	hostview_unref(small);
}

static void test_change_needs_a_rest(void **state)
{
	struct hv_event events[] = {{.kind = HV_HOST_FAIL, .id = 0, .incarnation = 1},
				    {.kind = HV_HOST_FAIL, .id = 1, .incarnation = 1},
				    {.kind = HV_HOST_FAIL, .id = 2, .incarnation = 1}};
	struct hostview *v = hostview_create(4, 0, NULL, 0);
	struct hv_change *three = hv_change_create(events, 3), *two = hv_change_create(events, 2);
	(void)state;
	assert_false(hostview_allows(v, three));
	assert_true(hostview_allows(v, two));
	hv_change_unref(three);
	hv_change_unref(two);
	hostview_unref(v);
}

static void test_member_events(void **state)
{
	struct hv_member members[] = {{.rank = 0, .host = 0, .incarnation = 1, .state = VIEW_ACTIVE},
				      {.rank = 1, .host = 1, .incarnation = 1, .state = VIEW_JOINING}};
	struct hostview *v = hostview_create(2, 0, members, 2);
	struct hv_event up = {.kind = HV_MEMBER, .what = VIEW_UP, .id = 1, .host = 1, .incarnation = 1};
	struct hv_event forged = {.kind = HV_MEMBER, .what = VIEW_FAIL, .id = 0, .host = 1, .incarnation = 1};
	(void)state;
	assert_true(hostview_applies(v, &up));
	assert_false(hostview_applies(v, &forged)); // it does not run on that host
	hostview_unref(v);
}

// --- one change --------------------------------------------------------------------------------------------------

// One host of 190 fails, its leader knows: one proposal from each leader to each, one view to each other host, and what the
// acknowledgements cost; nothing else.
static void test_a_member_moves(void **state)
{
	(void)state;
	struct hv_member members[] = {{.rank = 0, .host = 0, .incarnation = 1, .state = VIEW_ACTIVE},
				      {.rank = 1, .host = 1, .incarnation = 1, .state = VIEW_GONE}};
	struct hostview *v = hostview_create(3, 0, members, 2);
	struct hv_event move = {.kind = HV_MEMBER, .what = HV_MOVE, .id = 0, .host = 2, .incarnation = 1};
	struct hv_event dies = {.kind = HV_MEMBER, .what = VIEW_FAIL, .id = 0, .host = 0, .incarnation = 1};
	struct hv_event gone = {.kind = HV_MEMBER, .what = HV_MOVE, .id = 1, .host = 2, .incarnation = 1};
	struct hv_event nowhere = {.kind = HV_MEMBER, .what = HV_MOVE, .id = 0, .host = 3, .incarnation = 1};
	assert_false(hostview_applies(v, &gone));
	assert_false(hostview_applies(v, &nowhere));
	// that it ended where it came from is no news then
	struct hv_change *c = hv_change_create((struct hv_event[]){dies, move}, 2);
	assert_int_equal(c->n, 1);
	struct hostview *next = hostview_apply(v, c);
	assert_non_null(next);
	assert_int_equal(next->epoch, 2);
	assert_int_equal(next->members[0].host, 2);
	assert_int_equal(next->members[0].state, VIEW_ACTIVE);
	assert_int_equal(next->members[0].incarnation, 1);
	assert_memory_not_equal(next->digest, v->digest, sizeof(v->digest));
	assert_false(hostview_applies(next, &move));
	assert_false(hostview_applies(next, &dies));
	hv_change_unref(c);
	// a host that goes takes along who has moved there
	struct hv_event fails = {.kind = HV_HOST_FAIL, .id = 2, .incarnation = 1};
	c = hv_change_create(&fails, 1);
	struct hostview *last = hostview_apply(next, c);
	assert_int_equal(last->members[0].state, VIEW_GONE);
	hv_change_unref(c);
	hostview_unref(v);
	hostview_unref(next);
	hostview_unref(last);
}

static void test_messages_of_one_change(void **state)
{
	uint32_t n = 190, m = hostview_groups_for(190);
	(void)state;
	assert_int_equal(m, 14);
	net_create(n, 0);
	run(100); // first status messages
	memset(net.sent, 0, sizeof(net.sent));
	net.down[5] = true; // no leader: host 0 leads its group
	assert_true(hostview_is_leader(agree_view(net.hosts[0]), 0));
	fact(0, HV_HOST_FAIL, 5, HV_BY_EOF);
	run(100);
	assert_epoch(2);
	assert_int_equal(net.sent[AGREE_REPORT], m - 1);
	assert_int_equal(net.sent[AGREE_ASK], n - m - 1);
	assert_int_equal(net.sent[AGREE_ACK], n - m - 1);
	assert_int_equal(net.sent[AGREE_PROPOSE], m * (m - 1));
	assert_int_equal(net.sent[AGREE_DECIDED], n - m - 1);
	assert_int_equal(net.sent[AGREE_PREPARE] + net.sent[AGREE_FULL], 0);
	net_destroy();
}

static void test_leader_with_its_group(void **state)
{
	(void)state;
	net_create(64, 8);
	for (uint32_t i = 8; i < 16; i++)
		net.down[i] = true;
	for (uint32_t i = 8; i < 16; i++)
		fact(0, HV_HOST_FAIL, i, HV_BY_SILENCE);
	run(5000);
	assert_epoch(2); // one change
	assert_int_equal(agree_view(net.hosts[0])->n_voters, 56);
	net_destroy();
}

// One group of three: without its leader no round is possible, and the deputy takes over through a ballot.
static void test_deputy_takes_over_by_ballot(void **state)
{
	(void)state;
	net_create(3, 1);
	net.down[0] = true;
	fact(1, HV_HOST_FAIL, 0, HV_BY_SILENCE);
	run(3000);
	assert_epoch(2);
	assert_int_equal(net.sent[AGREE_PROPOSE], 0);
	assert_true(net.sent[AGREE_PREPARE] > 0);
	assert_int_equal(agree_view(net.hosts[1])->leader[0], 1);
	net_destroy();
}

static void test_minority_freezes(void **state)
{
	char reason[160];
	(void)state;
	net_create(5, 0);
	net.down[0] = net.down[1] = net.down[2] = true;
	for (uint32_t i = 0; i < 3; i++)
		fact(3, HV_HOST_FAIL, i, HV_BY_SILENCE);
	run(20000);
	assert_epoch(1);
	agree_reason(net.hosts[3], net.now, reason, sizeof(reason));
	assert_contains(reason, "more than 2 of the 5 hosts");
	net_destroy();
}

// Half of the hosts: nothing without a grant, a view with one.
static void test_half_needs_a_grant(void **state)
{
	struct agree_witness witness = {0};
	struct agree_out o;
	(void)state;
	net_create(2, 0);
	net.down[1] = true;
	fact(0, HV_HOST_FAIL, 1, HV_BY_SILENCE);
	run(10000);
	assert_epoch(1);
	for (uint64_t end = net.now + 20000; net.now < end; net.now++) {
		agree_tick(net.hosts[0], net.now);
		while (agree_pop(net.hosts[0], &o)) {
			struct agree_msg answer;
			if (o.kind == AGREE_OUT_SEND && o.msg.to == AGREE_WITNESS) {
				if (agree_witness_recv(&witness, &o.msg, &answer))
					agree_recv(net.hosts[0], net.now, &answer);
				agree_msg_clear(&answer);
			}
			agree_msg_clear(&o.msg);
		}
	}
	assert_epoch(2);
	agree_witness_clear(&witness);
	net_destroy();
}

// A host asks to come in; it has no vote in that.
static void test_join(void **state)
{
	(void)state;
	net_create(4, 0);
	struct agree_conf conf = {.times = agree_default_times(), .boot = 1};
	struct agree_durable d = {.self = 4, .view = hostview_ref((struct hostview *)agree_view(net.hosts[0]))};
	net.hosts[4] = agree_create(&conf, &d, net.now);
	net.n = 5;
	hostview_unref(d.view);
	agree_ask_in(net.hosts[4], net.now);
	drain(4);
	assert_false(agree_is_voter(net.hosts[4]));
	run(2000);
	assert_epoch(2);
	assert_true(agree_is_voter(net.hosts[4]));
	net_destroy();
}

// A host that knows nothing but whom to ask: it comes in, then its members do, then they are up; and it is a voter from then on.
static void test_join_with_members(void **state)
{
	(void)state;
	net_create(3, 0);
	struct agree_conf conf = {.times = agree_default_times(), .boot = 1};
	const uint32_t others[] = {0, 1, 2};
	struct agree_durable d = {.self = 3, .view = hostview_hearsay(others, 3)};
	net.hosts[3] = agree_create(&conf, &d, net.now);
	net.n = 4;
	hostview_unref(d.view);
	struct hv_event join = {.kind = HV_MEMBER, .what = VIEW_JOIN, .id = 7, .host = 3, .incarnation = 1};
	assert_false(hostview_applies(agree_view(net.hosts[0]), &join)); // its host is not there yet
	agree_ask_in(net.hosts[3], net.now); // too early
	drain(3);
	run(1500);
	assert_int_equal(agree_view(net.hosts[3])->epoch, 1);
	assert_false(agree_is_voter(net.hosts[3]));
	agree_ask_in(net.hosts[3], net.now);
	drain(3);
	run(1500);
	assert_epoch(2);
	assert_true(agree_is_voter(net.hosts[3]));
	agree_fact(net.hosts[3], net.now, &join);
	drain(3);
	run(1500);
	assert_epoch(3);
	const struct hostview *v = agree_view(net.hosts[0]);
	assert_int_equal(v->n_voters, 4);
	const struct hv_member *m = &v->members[v->n_members - 1];
	assert_int_equal(m->rank, 7);
	assert_int_equal(m->host, 3);
	assert_int_equal(m->state, VIEW_JOINING);
	join.what = VIEW_UP;
	agree_fact(net.hosts[3], net.now, &join);
	drain(3);
	run(1500);
	assert_epoch(4);
	v = agree_view(net.hosts[1]);
	assert_int_equal(v->members[v->n_members - 1].state, VIEW_ACTIVE);
	struct hv_event lost = {.kind = HV_AGENT, .what = 1, .id = 7, .host = 3, .incarnation = 1};
	agree_fact(net.hosts[3], net.now, &lost);
	drain(3);
	run(1500);
	assert_epoch(5);
	v = agree_view(net.hosts[1]);
	assert_true(v->members[v->n_members - 1].lost);
	assert_false(hostview_applies(v, &lost));
	struct hv_event fail = {.kind = HV_MEMBER, .what = VIEW_FAIL, .id = 7, .host = 3, .incarnation = 1};
	struct hv_event both[] = {lost, fail};
	struct hv_change *c = hv_change_create(both, 2);
	assert_int_equal(c->n, 1); // the graver one stands
	assert_int_equal(c->events[0].kind, HV_MEMBER);
	hv_change_unref(c);
	lost.what = 0;
	agree_fact(net.hosts[3], net.now, &lost);
	drain(3);
	run(1500);
	assert_epoch(6);
	v = agree_view(net.hosts[1]);
	assert_false(v->members[v->n_members - 1].lost);
	run(3000);
	assert_true(agree_valid_until(net.hosts[3]) > net.now);
	net_destroy();
}

// 100 hosts that come at once, each with a member, are a few views and not 300.
static void test_a_hundred_joins(void **state)
{
	(void)state;
	net_create(4, 0);
	struct agree_conf conf = {.times = agree_default_times(), .boot = 1};
	const uint32_t others[] = {0, 1, 2, 3};
	struct hostview *hearsay = hostview_hearsay(others, 4);
	for (uint32_t i = 4; i < 104; i++) {
		struct agree_durable d = {.self = i, .view = hearsay};
		net.hosts[i] = agree_create(&conf, &d, net.now);
	}
	hostview_unref(hearsay);
	net.n = 104;
	run(2000);
	for (uint32_t i = 4; i < 104; i++) {
		agree_ask_in(net.hosts[i], net.now);
		drain(i);
	}
	run(5000);
	for (uint32_t i = 4; i < 104; i++) {
		assert_true(agree_is_voter(net.hosts[i]));
		struct hv_event join = {.kind = HV_MEMBER, .what = VIEW_JOIN, .id = i, .host = i, .incarnation = 1};
		agree_fact(net.hosts[i], net.now, &join);
		drain(i);
	}
	run(5000);
	for (uint32_t i = 4; i < 104; i++) {
		struct hv_event up = {.kind = HV_MEMBER, .what = VIEW_UP, .id = i, .host = i, .incarnation = 1};
		agree_fact(net.hosts[i], net.now, &up);
		drain(i);
	}
	run(5000);
	const struct hostview *v = agree_view(net.hosts[103]);
	assert_int_equal(v->n_voters, 104);
	assert_true(v->epoch <= 12);
	assert_epoch(v->epoch);
	for (uint32_t i = 0; i < v->n_members; i++)
		assert_true(v->members[i].rank < 4 || v->members[i].state == VIEW_ACTIVE);
	net_destroy();
}

// Who lost its record while others count it as a voter is none until they have let it go.
static void test_join_without_record(void **state)
{
	(void)state;
	net_create(3, 0);
	struct agree_conf conf = {.times = agree_default_times(), .boot = 7};
	const uint32_t others[] = {0, 1};
	struct agree_durable d = {.self = 2, .view = hostview_hearsay(others, 2)};
	agree_destroy(net.hosts[2]);
	net.hosts[2] = agree_create(&conf, &d, net.now);
	hostview_unref(d.view);
	run(1500);
	assert_int_equal(agree_view(net.hosts[2])->epoch, 1);
	assert_false(agree_is_voter(net.hosts[2]));
	agree_ask_in(net.hosts[2], net.now);
	drain(2);
	run(1500);
	assert_epoch(1);
	struct hv_event fail = {.kind = HV_HOST_FAIL, .evidence = HV_BY_SLURM, .id = 2, .incarnation = 1};
	agree_fact(net.hosts[0], net.now, &fail);
	drain(0);
	run(3000);
	agree_ask_in(net.hosts[2], net.now);
	drain(2);
	run(3000);
	assert_true(agree_is_voter(net.hosts[2]));
	assert_int_equal(agree_view(net.hosts[0])->hosts[2].incarnation, 2);
	net_destroy();
}

static void test_validity(void **state)
{
	(void)state;
	net_create(9, 3);
	run(12000);
	for (uint32_t i = 0; i < 9; i++)
		assert_true(agree_valid_until(net.hosts[i]) > net.now);
	for (uint32_t i = 0; i < 8; i++)
		net.down[i] = true;
	uint64_t until = agree_valid_until(net.hosts[8]);
	run(40000);
	assert_int_equal(agree_valid_until(net.hosts[8]), until); // nobody renews it
	assert_true(until < net.now);
	net_destroy();
}

// --- the detector ------------------------------------------------------------------------------------------------

static bool says(struct detect *d, enum detect_out_kind kind, uint32_t peer)
{
	struct detect_out o;
	bool found = false;
	while (detect_pop(d, &o))
		found |= o.kind == kind && o.peer == peer;
	return found;
}

static struct detect *watching(uint64_t now)
{
	struct detect_times t = detect_default_times(1000);
	struct detect *d = detect_create(0, &t, now);
	detect_watch(d, now, 1, true, false);
	detect_watch(d, now, 2, true, false);
	return d;
}

static uint64_t ticks(struct detect *d, uint64_t from, uint64_t to)
{
	for (uint64_t now = from; now < to; now += 10) {
		if (now % 1000 < 10)
			detect_heard(d, now, 2, false);
		if (now >= detect_next(d))
			detect_tick(d, now);
	}
	return to;
}

static unsigned count_beats(struct detect *d, uint32_t peer)
{
	struct detect_out o;
	unsigned n = 0;
	while (detect_pop(d, &o))
		n += o.kind == DETECT_OUT_BEAT && o.peer == peer;
	return n;
}

// A heartbeat each period; what else went there and counts as one spares the next, and none comes later than a tick after it.
static void test_heartbeats(void **state)
{
	struct detect *d = watching(10000);
	(void)state;
	ticks(d, 10000, 20000);
	assert_int_equal(count_beats(d, 2), 10);
	ticks(d, 20000, 20700);
	assert_int_equal(count_beats(d, 2), 1); // the one at 20.0 s
	detect_sent(d, 20700, 2);
	ticks(d, 20700, 21700);
	assert_int_equal(count_beats(d, 2), 0);
	ticks(d, 21700, 21960);
	assert_int_equal(count_beats(d, 2), 1);
	detect_destroy(d);
}

static void test_silence_is_confirmed(void **state)
{
	struct detect *d = watching(10000);
	(void)state;
	ticks(d, 10000, 12490);
	assert_false(says(d, DETECT_OUT_SUSPECT, 1));
	ticks(d, 12490, 12800);
	assert_true(says(d, DETECT_OUT_OBSERVE, 2));
	ticks(d, 12800, 13400);
	assert_true(says(d, DETECT_OUT_DEAD, 1));
	detect_destroy(d);
}

static void test_second_observer_hears_it(void **state)
{
	struct detect *d = watching(10000);
	(void)state;
	ticks(d, 10000, 12800);
	detect_seen(d, 12800, 1);
	ticks(d, 12800, 13400);
	assert_false(says(d, DETECT_OUT_DEAD, 1));
	detect_destroy(d);
}

static void test_late_loop_suspects_nobody(void **state)
{
	struct detect *d = watching(10000);
	(void)state;
	ticks(d, 10000, 11000);
	detect_tick(d, 31000); // stopped for 20 s
	detect_heard(d, 31010, 1, false);
	detect_heard(d, 31010, 2, false);
	ticks(d, 31010, 33000);
	assert_false(says(d, DETECT_OUT_SUSPECT, 1));
	detect_destroy(d);
}

static void test_closed_connection(void **state)
{
	struct detect *d = watching(10000);
	(void)state;
	detect_closed(d, 10500, 1);
	assert_true(says(d, DETECT_OUT_LOST, 1));
	detect_heard(d, 11000, 1, false);
	assert_true(says(d, DETECT_OUT_ALIVE, 1));
	detect_destroy(d);
}

// --- what is on a disk -------------------------------------------------------------------------------------------

struct disk {
	struct agree_record record;
	struct vc_buf parts[2]; // whole, step
};

static void disk_clear(struct disk *k)
{
	agree_record_clear(&k->record);
	vc_buf_clear(&k->parts[0]);
	vc_buf_clear(&k->parts[1]);
}

static bool write_disk(struct disk *k, const struct agree_durable *d, const struct hv_change *last)
{
	struct vc_buf bytes = VC_BUF_INIT(AGREE_WIRE_MAX);
	bool whole;
	assert_int_equal(agree_record_encode(&k->record, d, last, &whole, &bytes), 0);
	vc_buf_clear(&k->parts[!whole]);
	k->parts[!whole] = bytes;
	return whole;
}

static void assert_disk_has(const struct disk *k, const struct agree_durable *d)
{
	struct agree_record r = {0};
	struct agree_durable got;
	assert_int_equal(agree_record_decode(&r, vc_buf_head(&k->parts[0]), k->parts[0].len,
					     k->parts[1].len ? vc_buf_head(&k->parts[1]) : NULL, k->parts[1].len, &got, NULL), 0);
	assert_int_equal(got.self, d->self);
	assert_int_equal(got.incarnation, d->incarnation);
	assert_int_equal(got.promised, d->promised);
	assert_int_equal(got.voted_ballot, d->voted_ballot);
	assert_memory_equal(got.view->digest, d->view->digest, HOSTVIEW_DIGEST_LEN);
	assert_true(hv_change_equal(got.fast, d->fast) && hv_change_equal(got.voted, d->voted));
	agree_record_clear(&r);
	agree_durable_clear(&got);
}

static struct hv_change *lost_or_back(uint64_t epoch)
{
	struct hv_event e = {.kind = epoch % 2 ? HV_HOST_LOST : HV_HOST_BACK, .id = 3, .incarnation = 1};
	return hv_change_create(&e, 1);
}

// A vote and an install write a step; a whole follows when there are too many of them, and makes the step void.
static void test_record_of_steps(void **state)
{
	struct disk k = {.parts = {VC_BUF_INIT(AGREE_WIRE_MAX), VC_BUF_INIT(AGREE_WIRE_MAX)}};
	struct agree_durable d = {.self = 1, .incarnation = 1, .view = hostview_create(190, 0, NULL, 0)};
	(void)state;
	assert_true(write_disk(&k, &d, NULL));
	assert_disk_has(&k, &d);
	for (unsigned i = 1; i <= 2 * AGREE_STEPS_MAX + 3; i++) {
		struct hv_change *c = lost_or_back(d.view->epoch);
		d.fast = c;
		d.promised = i;
		assert_false(write_disk(&k, &d, NULL));
		assert_true(k.parts[1].len < 60 + 19 * (AGREE_STEPS_MAX + 1));
		assert_disk_has(&k, &d);
		struct hostview *next = hostview_apply(d.view, c);
		hostview_unref(d.view);
		d = (struct agree_durable){.self = 1, .incarnation = 1, .view = next};
		assert_int_equal(write_disk(&k, &d, c), i % (AGREE_STEPS_MAX + 1) == 0);
		assert_disk_has(&k, &d);
		hv_change_unref(c);
	}
	disk_clear(&k);
	agree_durable_clear(&d);
}

// A view that came whole, or a step of another view, or a damaged one.
static void test_record_without_steps(void **state)
{
	struct disk k = {.parts = {VC_BUF_INIT(AGREE_WIRE_MAX), VC_BUF_INIT(AGREE_WIRE_MAX)}};
	struct agree_durable d = {.self = 1, .incarnation = 1, .view = hostview_create(4, 0, NULL, 0)};
	struct agree_record r = {0};
	struct agree_durable got;
	(void)state;
	assert_true(write_disk(&k, &d, NULL));
	d.promised = 7;
	assert_false(write_disk(&k, &d, NULL));
	((uint8_t *)vc_buf_head(&k.parts[1]))[15] ^= 1; // in the digest
	assert_int_equal(agree_record_decode(&r, vc_buf_head(&k.parts[0]), k.parts[0].len, vc_buf_head(&k.parts[1]), k.parts[1].len,
					     &got, NULL), -1);
	struct hv_change *c = lost_or_back(1);
	struct hostview *next = hostview_apply(d.view, c);
	hostview_unref(d.view);
	d = (struct agree_durable){.self = 1, .incarnation = 1, .view = next};
	assert_true(write_disk(&k, &d, NULL));
	assert_disk_has(&k, &d);
	hv_change_unref(c);
	disk_clear(&k);
	agree_durable_clear(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quorums),
		cmocka_unit_test(test_hosts_come_and_go),
		cmocka_unit_test(test_a_view_follows_another),
		cmocka_unit_test(test_change_needs_a_rest),
		cmocka_unit_test(test_member_events), cmocka_unit_test(test_a_member_moves),
		cmocka_unit_test(test_messages_of_one_change),
		cmocka_unit_test(test_leader_with_its_group),
		cmocka_unit_test(test_deputy_takes_over_by_ballot),
		cmocka_unit_test(test_minority_freezes),
		cmocka_unit_test(test_half_needs_a_grant),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_join_with_members),
		cmocka_unit_test(test_join_without_record),
		cmocka_unit_test(test_a_hundred_joins),
		cmocka_unit_test(test_validity),
		cmocka_unit_test(test_heartbeats),
		cmocka_unit_test(test_silence_is_confirmed),
		cmocka_unit_test(test_second_observer_hears_it),
		cmocka_unit_test(test_late_loop_suspects_nobody),
		cmocka_unit_test(test_closed_connection),
		cmocka_unit_test(test_record_of_steps), cmocka_unit_test(test_record_without_steps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
