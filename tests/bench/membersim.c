// SPDX-License-Identifier: GPL-2.0-or-later
// membership-sim's figures: the protocol of vcd/member on a simulated network that loses nothing. Prints rows for tests/bench.
//
//   membersim kills SEED        share of views that needed a ballot, for 1 to 10 of 190 vcds killed at once, TRIALS times each
//   membersim messages HOSTS    messages of one host's failure, by kind, and what the protocol's formula says
//
// A kill closes connections: its leader sees that (a leader's: all leaders and its group) after 0.1 to 3 ms. Messages take
// 0.05 to 1 ms, an acknowledgement 1 to 5 ms more for its write.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/parse.h"
#include "vcd/member/agree.h"

#define TRIALS 5
#define KILLS_MAX 10
#define KILLED_OF 190
#define SETTLE_MS 3000

struct item { // a message, or news of a closed connection
	uint64_t at;
	struct agree_msg msg;
	uint32_t host, closed; // of news
	bool news;
};

struct net {
	struct agree **hosts;
	bool *down;
	uint32_t n;
	uint64_t now, random; // us
	struct item *heap;
	size_t n_items, room;
	uint64_t sent[AGREE_TYPES];
	bool counting;
};

static uint64_t chance(struct net *net, uint64_t below)
{
	uint64_t z = (net->random += 0x9e3779b97f4a7c15ull);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	return (z ^ (z >> 29)) % below;
}

static void put(struct net *net, struct item item)
{
	if (net->n_items == net->room) {
		net->room = net->room ? 2 * net->room : 4096;
		net->heap = realloc(net->heap, net->room * sizeof(*net->heap));
		if (!net->heap)
			abort();
	}
	size_t i = net->n_items++;
	for (; i > 0 && item.at < net->heap[(i - 1) / 2].at; i = (i - 1) / 2)
		net->heap[i] = net->heap[(i - 1) / 2];
	net->heap[i] = item;
}

static struct item take(struct net *net)
{
	struct item top = net->heap[0], last = net->heap[--net->n_items];
	size_t i = 0, child;
	for (; (child = 2 * i + 1) < net->n_items; i = child) {
		child += child + 1 < net->n_items && net->heap[child + 1].at < net->heap[child].at;
		if (last.at <= net->heap[child].at)
			break;
		net->heap[i] = net->heap[child];
	}
	net->heap[i] = last;
	return top;
}

static uint64_t ms(const struct net *net)
{
	return net->now / 1000;
}

static void drain(struct net *net, uint32_t i)
{
	struct agree_out o;
	while (agree_pop(net->hosts[i], &o)) {
		if (o.kind != AGREE_OUT_SEND)
			continue;
		net->sent[o.msg.type] += net->counting;
		uint64_t delay = 50 + chance(net, 950) + (o.msg.type == AGREE_ACK ? 1000 + chance(net, 4000) : 0);
		put(net, (struct item){.at = net->now + delay, .msg = o.msg});
	}
}

static void arrive(struct net *net, struct item *item)
{
	uint32_t to = item->news ? item->host : item->msg.to;
	if (to < net->n && !net->down[to]) {
		struct hv_event e = {.kind = HV_HOST_LOST, .evidence = HV_BY_EOF, .id = item->closed, .incarnation = 1};
		if (item->news)
			agree_fact(net->hosts[to], ms(net), &e);
		else if (!net->down[item->msg.from])
			agree_recv(net->hosts[to], ms(net), &item->msg);
		drain(net, to);
	}
	agree_msg_clear(&item->msg);
}

static void run(struct net *net, uint64_t for_ms)
{
	for (uint64_t end = net->now + for_ms * 1000; net->now < end; net->now += 1000) {
		for (uint32_t i = 0; i < net->n; i++) {
			if (net->down[i] || agree_next(net->hosts[i]) > ms(net))
				continue;
			agree_tick(net->hosts[i], ms(net));
			drain(net, i);
		}
		uint64_t now = net->now;
		while (net->n_items && net->heap[0].at < now + 1000) {
			struct item item = take(net);
			net->now = item.at > now ? item.at : now;
			arrive(net, &item);
		}
		net->now = now;
	}
}

static void create(struct net *net, uint32_t n, uint64_t seed)
{
	struct agree_conf conf = {.times = agree_default_times(), .boot = 1};
	struct hostview *v = hostview_create(n, 0, NULL, 0);
	*net = (struct net){.n = n, .now = 1000000000, .random = seed};
	net->hosts = calloc(n, sizeof(*net->hosts));
	net->down = calloc(n, sizeof(*net->down));
	if (!net->hosts || !net->down)
		abort();
	conf.times.sync = 3600000; // status messages at rest are not what is counted
	for (uint32_t i = 0; i < n; i++) {
		struct agree_durable d = {.self = i, .incarnation = 1, .view = v};
		net->hosts[i] = agree_create(&conf, &d, ms(net));
	}
	hostview_unref(v);
	run(net, 50);
}

static void clear(struct net *net)
{
	while (net->n_items) {
		struct item item = take(net);
		agree_msg_clear(&item.msg);
	}
	for (uint32_t i = 0; i < net->n; i++)
		agree_destroy(net->hosts[i]);
	free(net->hosts);
	free(net->down);
	free(net->heap);
}

// Who has a connection to it that it watches: its leader; of a leader all leaders and its group.
static void kill_vcd(struct net *net, const struct hostview *v, uint32_t victim)
{
	bool leads = hostview_is_leader(v, victim);
	net->down[victim] = true;
	for (uint32_t i = 0; i < net->n; i++) {
		bool leader = hostview_is_leader(v, i), same = v->hosts[i].group == v->hosts[victim].group;
		if (i != victim && ((leads && (leader || same)) || (leader && same)))
			put(net, (struct item){.at = net->now + 100 + chance(net, 2900), .news = true, .host = i, .closed = victim});
	}
}

static void kill_some(struct net *net, unsigned kills)
{
	const struct hostview *v = agree_view(net->hosts[0]);
	for (unsigned k = 0; k < kills;) {
		uint32_t victim = (uint32_t)chance(net, net->n);
		if (net->down[victim])
			continue;
		kill_vcd(net, v, victim);
		k++;
	}
}

// Views installed, and whether a ballot was needed; -1: the survivors do not have one view.
static int views(const struct net *net)
{
	const struct hostview *first = NULL;
	for (uint32_t i = 0; i < net->n; i++) {
		const struct hostview *v = agree_view(net->hosts[i]);
		if (net->down[i])
			continue;
		first = first ? first : v;
		if (v->epoch != first->epoch || memcmp(v->digest, first->digest, sizeof(v->digest)) != 0)
			return -1;
	}
	return first ? (int)first->epoch - 1 : -1;
}

static int kills(uint64_t seed)
{
	struct net net;
	unsigned all = 0, fallbacks = 0;
	for (unsigned k = 1; k <= KILLS_MAX; k++) {
		unsigned n_views = 0, n_ballots = 0;
		for (unsigned t = 0; t < TRIALS; t++) {
			create(&net, KILLED_OF, (seed * KILLS_MAX + k) * TRIALS + t + 1);
			net.counting = true;
			kill_some(&net, k);
			run(&net, SETTLE_MS);
			int v = views(&net);
			clear(&net);
			if (v < 1)
				return fprintf(stderr, "membersim: no common view after %u kills\n", k), 1;
			n_views += (unsigned)v;
			n_ballots += net.sent[AGREE_ACCEPT] > 0;
		}
		printf("views_%u %.4f\nfallback_%u %.4f\n", k, (double)n_views / TRIALS, k, (double)n_ballots / n_views);
		all += n_views;
		fallbacks += n_ballots;
	}
	printf("fallback %.5f\n", (double)fallbacks / all);
	return 0;
}

static int messages(uint32_t n)
{
	struct net net;
	uint64_t m = hostview_groups_for(n), sum = 0;
	create(&net, n, n);
	const struct hostview *v = agree_view(net.hosts[0]);
	uint32_t victim = n - 1;
	while (victim > 0 && hostview_is_leader(v, victim))
		victim--;
	net.counting = true;
	kill_vcd(&net, v, victim);
	run(&net, SETTLE_MS);
	int installed = views(&net);
	clear(&net);
	if (installed != 1)
		return fprintf(stderr, "membersim: %d views of one failure\n", installed), 1;
	for (unsigned t = 0; t < AGREE_TYPES; t++)
		sum += net.sent[t];
	uint64_t acks = net.sent[AGREE_ASK] + net.sent[AGREE_ACK];
	uint64_t status = net.sent[AGREE_STATUS] + net.sent[AGREE_RENEW]; // validity's, whatever happens
	printf("messages_%u %" PRIu64 "\nacknowledgements_%u %" PRIu64 "\nformula_%u %" PRIu64 "\nstatus_%u %" PRIu64 "\n", n,
	       sum - acks - status, n, acks, n, m * (m - 1) + n - m, n, status);
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t number;
	struct vc_error err;
	if (argc != 3 || (strcmp(argv[1], "kills") != 0 && strcmp(argv[1], "messages") != 0)) {
		fprintf(stderr, "Usage: membersim kills SEED | membersim messages HOSTS\n");
		return 2;
	}
	if (vc_parse_u64(argv[1], argv[2], 1, HOSTVIEW_HOSTS_MAX, &number, &err) < 0) {
		fprintf(stderr, "membersim: %s\n", err.text);
		return 2;
	}
	return strcmp(argv[1], "kills") == 0 ? kills(number) : messages((uint32_t)number);
}
