// SPDX-License-Identifier: GPL-2.0-or-later
// The simulated machine: see world.h. Time, clocks, processes with disks, and messages; a process's outputs are carried out one
// by one, so that a crash can come between any two of them.
#include "tests/sim/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vcd/member/agree_wire.h"

#define CLOCK_START 1000000ull // ms: all clocks begin well above 0
#define STEPS_MAX 4000000      // of one run; more is a livelock

// --- chance ------------------------------------------------------------------------------------------------------

uint64_t world_random(struct world *w, uint64_t below)
{
	uint64_t z = (w->random += 0x9e3779b97f4a7c15ull); // splitmix64
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	z ^= z >> 31;
	return below ? z % below : z;
}

double world_chance(struct world *w)
{
	return (double)(world_random(w, 0) >> 11) / 9007199254740992.0;
}

// --- the queue ---------------------------------------------------------------------------------------------------

static bool before(const struct item *a, const struct item *b)
{
	return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void put(struct world *w, struct item item)
{
	if (w->n_items == w->items_room) {
		w->items_room = w->items_room ? 2 * w->items_room : 1024;
		w->heap = realloc(w->heap, w->items_room * sizeof(*w->heap));
		if (!w->heap)
			abort();
	}
	item.seq = w->seq++;
	uint32_t i = w->n_items++;
	for (; i > 0 && before(&item, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = item;
}

static struct item take(struct world *w)
{
	struct item top = w->heap[0], last = w->heap[--w->n_items];
	uint32_t i = 0;
	for (;;) {
		uint32_t child = 2 * i + 1;
		if (child >= w->n_items)
			break;
		if (child + 1 < w->n_items && before(&w->heap[child + 1], &w->heap[child]))
			child++;
		if (!before(&w->heap[child], &last))
			break;
		w->heap[i] = w->heap[child];
		i = child;
	}
	w->heap[i] = last;
	return top;
}

void world_at(struct world *w, uint64_t at, enum item_kind kind, uint32_t host, uint32_t number)
{
	put(w, (struct item){.at = at, .kind = kind, .host = host, .number = number});
}

// --- clocks ------------------------------------------------------------------------------------------------------

uint64_t world_local(const struct world *w, const struct sim_host *h)
{
	return CLOCK_START + (uint64_t)((double)w->now * h->rate / 1000.0);
}

uint64_t world_of_local(const struct sim_host *h, uint64_t local_ms)
{
	return local_ms <= CLOCK_START ? 0 : (uint64_t)((double)(local_ms - CLOCK_START) * 1000.0 / h->rate);
}

// --- the network -------------------------------------------------------------------------------------------------

static uint32_t node(uint32_t address)
{
	return address == AGREE_WITNESS ? HOSTS_MAX : address;
}

static uint32_t part_of(const struct world *w, uint32_t node)
{
	return node == HOSTS_MAX ? w->witness_part : w->hosts[node].part;
}

static bool passes(struct world *w, uint32_t from, uint32_t to)
{
	if (part_of(w, from) != part_of(w, to) || w->cut[from][to])
		return false;
	return !(w->loss > 0 && world_chance(w) < w->loss);
}

static uint64_t arrival(struct world *w, uint32_t from, uint32_t to)
{
	uint64_t at = w->now + w->delay_min + world_random(w, w->delay_max - w->delay_min + 1);
	if (!w->reorder && at < w->last_at[from][to])
		at = w->last_at[from][to];
	w->last_at[from][to] = at;
	return at;
}

// What arrives is what a wire would carry.
static struct agree_msg *over_the_wire(const struct agree_msg *m)
{
	vc_autobuf struct vc_buf bytes = VC_BUF_INIT(AGREE_WIRE_MAX);
	struct agree_msg *copy = malloc(sizeof(*copy));
	if (!copy || agree_msg_encode(m, &bytes) < 0 || agree_msg_decode(vc_buf_head(&bytes), bytes.len, copy, NULL) < 0)
		abort();
	return copy;
}

static void set_part(struct sim_part *p, const void *bytes, size_t len)
{
	uint8_t *copy = malloc(len + 1);
	if (!copy)
		abort();
	if (len)
		memcpy(copy, bytes, len);
	free(p->bytes);
	*p = (struct sim_part){copy, len};
}

// A lazy write is in the kernel's memory; the next one that is not brings it to the disk as well.
static void write_disk(struct sim_host *h, const struct agree_durable *d, const struct hv_change *last, bool lazy)
{
	vc_autobuf struct vc_buf bytes = VC_BUF_INIT(AGREE_WIRE_MAX);
	bool whole;
	if (agree_record_encode(&h->record, d, last, &whole, &bytes) < 0)
		abort();
	set_part(&h->parts[whole ? 0 : 1], vc_buf_head(&bytes), bytes.len);
	for (unsigned k = 0; !lazy && k < 2; k++)
		set_part(&h->safe[k], h->parts[k].bytes, h->parts[k].len);
	struct agree_durable old = h->disk;
	agree_durable_copy(&h->disk, d);
	agree_durable_clear(&old);
}

// What a restarted host reads.
static struct agree_durable read_disk(struct sim_host *h)
{
	struct agree_durable d;
	const struct sim_part *p = h->parts;
	agree_record_clear(&h->record);
	if (agree_record_decode(&h->record, p[0].bytes, p[0].len, p[1].len ? p[1].bytes : NULL, p[1].len, &d, NULL) < 0)
		abort();
	return d;
}

static void replace_disk(struct sim_host *h, struct agree_durable d)
{
	agree_durable_clear(&h->disk);
	h->disk = d;
}

static void lose_power(struct world *w, uint32_t i)
{
	struct sim_host *h = &w->hosts[i];
	for (unsigned k = 0; k < 2; k++)
		set_part(&h->parts[k], h->safe[k].bytes, h->safe[k].len);
	struct agree_durable left = read_disk(h);
	check_power_loss(w, i, &left);
	replace_disk(h, left);
	h->installed = h->disk.view->epoch;
}

static void carry(struct world *w, const struct agree_msg *m)
{
	uint32_t from = node(m->from), to = node(m->to);
	w->stats.messages++;
	w->stats.sent[m->type]++;
	unsigned copies = w->repeat > 0 && world_chance(w) < w->repeat ? 2 : 1;
	for (unsigned k = 0; k < copies; k++) {
		if (to > HOSTS_MAX || !passes(w, from, to))
			continue;
		put(w, (struct item){.at = arrival(w, from, to), .kind = ITEM_MSG, .host = to, .msg = over_the_wire(m)});
	}
}

static void carry_dgram(struct world *w, struct dgram d)
{
	uint32_t to = node(d.to);
	if (passes(w, d.from, to))
		put(w, (struct item){.at = arrival(w, d.from, to), .kind = ITEM_DGRAM, .host = to, .dgram = d});
}

// --- processes ---------------------------------------------------------------------------------------------------

static void stop_process(struct sim_host *h)
{
	site_destroy(h->site);
	h->site = NULL;
	h->agree = NULL;
	h->running = false;
	h->run++;
	h->crash_in = 0;
	h->paused_until = 0;
}

void host_crash(struct world *w, uint32_t i, bool power)
{
	struct sim_host *h = &w->hosts[i];
	if (h->running)
		stop_process(h);
	if (power) {
		h->powered = false;
		h->valid_until = 0;
		lose_power(w, i);
		return;
	}
	for (uint32_t j = 0; j < w->n; j++)
		if (j != i && w->hosts[j].running && part_of(w, i) == part_of(w, j) && !w->cut[i][j] && world_chance(w) < 0.95)
			put(w, (struct item){.at = w->now + 100 + world_random(w, 900), .kind = ITEM_CLOSED, .host = j, .number = i});
}

void host_start(struct world *w, uint32_t i)
{
	struct sim_host *h = &w->hosts[i];
	if (h->running || !h->exists)
		return;
	uint64_t now = world_local(w, h);
	struct agree_conf conf = {.times = w->times, .boot = i + 1, .bug = w->bug};
	struct detect_times times = detect_default_times(1000);
	uint32_t numbers[HOSTS_MAX];
	for (uint32_t k = 0; k < w->n; k++)
		numbers[k] = k;
	h->powered = h->running = true;
	h->run++;
	struct agree_durable read = read_disk(h);
	check_disk(w, i, &read);
	replace_disk(h, read);
	h->site = site_create(i, &times, now);
	h->agree = site_agree(site_add(h->site, &conf, &h->disk, numbers, w->n, NULL, now));
	if (w->n_first <= 2)
		site_observer(h->site, AGREE_WITNESS);
	h->tick_at = UINT64_MAX;
	h->ask_in_at = w->now + world_random(w, SECOND);
	host_after(w, i);
}

static void crash_here(struct world *w, uint32_t i)
{
	w->hosts[i].crash_on_install = false;
	host_crash(w, i, false);
	world_at(w, w->now + w->hosts[i].crash_for, ITEM_RESTART, i, 0);
}

// One output; false when the host crashes with it.
static bool carry_out(struct world *w, uint32_t i, struct site_out *o, struct hostview **seen)
{
	struct sim_host *h = &w->hosts[i];
	if (o->datagram) {
		const struct detect_out *d = &o->beat;
		carry_dgram(w, (struct dgram){.from = i, .to = d->peer, .subject = d->subject, .kind = d->kind, .ask = d->ask});
		return true;
	}
	if (h->crash_in && --h->crash_in == 0)
		return false;
	if (o->agree.kind == AGREE_OUT_PERSIST) {
		check_disk(w, i, agree_durable(h->agree));
		write_disk(h, agree_durable(h->agree), agree_last(h->agree), o->agree.lazy);
	} else if (o->agree.kind == AGREE_OUT_VIEW) {
		check_install(w, i, *seen);
		hostview_unref(*seen);
		*seen = hostview_ref(h->disk.view);
		return !h->crash_on_install;
	} else if (o->agree.kind == AGREE_OUT_SEND) {
		carry(w, &o->agree.msg);
	}
	return true;
}

// False when the host crashed on the way.
static bool drain(struct world *w, uint32_t i)
{
	struct sim_host *h = &w->hosts[i];
	struct hostview *seen = hostview_ref(h->disk.view);
	struct site_out o;
	bool up = true;
	while (up && site_pop(h->site, world_local(w, h), &o)) {
		up = carry_out(w, i, &o, &seen);
		if (!o.datagram)
			agree_msg_clear(&o.agree.msg);
	}
	if (!up)
		crash_here(w, i);
	hostview_unref(seen);
	return up;
}

// A host's member (of the same number) follows it, as vcd's membership.c sees to: it joins, is up, and comes back.
static void bring_member(struct world *w, struct sim_host *h)
{
	const struct hostview *v = h->disk.view;
	struct hv_event e = {.kind = HV_MEMBER, .what = VIEW_JOIN, .id = h->disk.self, .host = h->disk.self, .incarnation = 1};
	if (!h->wants_in || !agree_is_voter(h->agree) || agree_busy(h->agree))
		return;
	for (uint32_t i = 0; i < v->n_members; i++) {
		if (v->members[i].rank != h->disk.self)
			continue;
		if (v->members[i].state != VIEW_GONE && v->members[i].state != VIEW_JOINING)
			return;
		e.what = v->members[i].state == VIEW_GONE ? VIEW_RETURN : VIEW_UP;
		e.incarnation = v->members[i].incarnation;
	}
	agree_fact(h->agree, world_local(w, h), &e);
}

// Hosts that are out and want in ask for it; those that want out say so again after a restart.
static void ask_in(struct world *w, struct sim_host *h)
{
	if (!h->wants_in && agree_is_voter(h->agree) && w->now >= h->ask_in_at && !agree_busy(h->agree)) {
		h->ask_in_at = w->now + SECOND;
		agree_fact(h->agree, world_local(w, h),
			   &(struct hv_event){.kind = HV_HOST_LEAVE, .id = h->disk.self, .incarnation = h->disk.incarnation});
	}
	if (h->wants_in && !agree_is_voter(h->agree) && w->now >= h->ask_in_at && !agree_busy(h->agree)) {
		h->ask_in_at = w->now + SECOND;
		agree_ask_in(h->agree, world_local(w, h));
	}
}

static void schedule(struct world *w, uint32_t i)
{
	struct sim_host *h = &w->hosts[i];
	uint64_t next = site_next(h->site);
	uint64_t now = world_local(w, h), at = world_of_local(h, (next > now ? next : now + 1)) + 1;
	if (at < h->tick_at || h->tick_at <= w->now) {
		h->tick_at = at;
		put(w, (struct item){.at = at, .kind = ITEM_TICK, .host = i, .run = h->run});
	}
}

void host_after(struct world *w, uint32_t i)
{
	struct sim_host *h = &w->hosts[i];
	ask_in(w, h);
	bring_member(w, h);
	if (!drain(w, i))
		return;
	check_valid(w, i);
	schedule(w, i);
}

// --- what comes to a process -------------------------------------------------------------------------------------

static void witness_step(struct world *w, struct item *item)
{
	struct agree_msg answer;
	if (item->kind != ITEM_MSG || !w->witness_up)
		return;
	if (agree_witness_recv(&w->witness, item->msg, &answer)) {
		hv_change_unref(w->witness_disk.voted);
		w->witness_disk = w->witness;
		hv_change_ref(w->witness_disk.voted);
		carry(w, &answer);
	}
	agree_msg_clear(&answer);
}

static void host_step(struct world *w, struct item *item)
{
	struct sim_host *h = &w->hosts[item->host];
	switch (item->kind) {
	case ITEM_MSG:
		if (item->msg->from != AGREE_WITNESS) // as vcd's membership.c does
			site_heard(h->site, world_local(w, h), item->msg->from, DETECT_OUT_BEAT, 0, false);
		agree_recv(h->agree, world_local(w, h), item->msg);
		break;
	case ITEM_DGRAM:
		site_heard(h->site, world_local(w, h), item->dgram.from, item->dgram.kind, item->dgram.subject, item->dgram.ask);
		break;
	case ITEM_CLOSED:
		if (!w->hosts[item->number].running)
			site_closed(h->site, world_local(w, h), item->number);
		break;
	default:
		if (item->run == h->run)
			site_tick(h->site, world_local(w, h));
	}
	host_after(w, item->host);
}

static void free_item(struct item *item)
{
	if (item->kind == ITEM_MSG) {
		agree_msg_clear(item->msg);
		free(item->msg);
	}
}

static void dispatch(struct world *w, struct item *item)
{
	if (item->kind == ITEM_FAULT) {
		faults_happen(w, item->number);
	} else if (item->kind == ITEM_RESTART) {
		if (!w->hosts[item->host].powered && !w->quiet)
			return; // a power loss came between
		host_start(w, item->host);
	} else if (item->host == HOSTS_MAX) {
		witness_step(w, item);
	} else if (w->hosts[item->host].running) {
		host_step(w, item);
	}
}

bool world_step(struct world *w)
{
	if (!w->n_items || w->failure[0])
		return false;
	struct item item = take(w);
	w->now = item.at;
	if (++w->stats.steps > STEPS_MAX)
		check_fail(w, "the run does not end: %d steps", STEPS_MAX);
	struct sim_host *h = item.kind <= ITEM_CLOSED && item.host < HOSTS_MAX ? &w->hosts[item.host] : NULL;
	if (h && h->running && h->paused_until > w->now) { // it waits in its sockets
		item.at = h->paused_until;
		put(w, item);
		return true;
	}
	dispatch(w, &item);
	free_item(&item);
	return true;
}

// --- life --------------------------------------------------------------------------------------------------------

static void first_view(struct world *w, uint16_t groups)
{
	struct hv_member members[HOSTS_MAX];
	for (uint32_t i = 0; i < w->n_first; i++)
		members[i] = (struct hv_member){.rank = i, .host = i, .incarnation = 1, .state = VIEW_ACTIVE};
	struct hostview *v = hostview_create(w->n_first, groups, members, w->n_first);
	uint32_t ids[HOSTS_MAX];
	for (uint32_t i = 0; i < w->n_first; i++)
		ids[i] = i;
	struct hostview *hearsay = hostview_hearsay(ids, w->n_first); // all that the others know
	for (uint32_t i = 0; i < w->n; i++) {
		struct sim_host *h = &w->hosts[i];
		bool first = i < w->n_first;
		*h = (struct sim_host){.exists = first, .wants_in = true, .rate = 1.0, .installed = first};
		struct agree_durable d = {.self = i, .incarnation = first, .view = first ? v : hearsay};
		write_disk(h, &d, NULL, false);
	}
	hostview_unref(hearsay);
	memcpy(w->digests[1], v->digest, sizeof(v->digest));
	w->decided[1] = true;
	hostview_unref(v);
}

static uint32_t choose_size(struct world *w)
{
	uint64_t r = world_random(w, 100);
	if (w->storm)
		return 3 + (uint32_t)world_random(w, 4);
	if (r < 60)
		return 2 + (uint32_t)world_random(w, 7);
	if (r < 92)
		return 9 + (uint32_t)world_random(w, 8);
	return 17 + (uint32_t)world_random(w, 48);
}

void world_create(struct world *w, uint64_t seed, int bug)
{
	struct stats stats = w->stats;
	memset(w, 0, sizeof(*w));
	w->stats = stats;
	w->stats.steps = 0;
	w->seed = seed;
	w->random = seed * 0x2545f4914f6cdd1dull + 1;
	w->bug = w->witness.bug = w->witness_disk.bug = bug;
	w->times = agree_default_times();
	w->storm = world_chance(w) < 0.3;
	w->times.sync = world_chance(w) < 0.5 ? 300 : 2000;
	w->times.grace = 6000;
	w->times.valid = w->times.sync == 300 && world_chance(w) < 0.5 ? 3000 : 10000;
	w->delay_min = 100;
	w->delay_max = 1500;
	w->witness_up = true;
	w->n_first = choose_size(w);
	w->crowd = !w->storm && world_chance(w) < 0.02;
	w->n = w->n_first + (w->crowd ? CROWD : JOINERS);
	uint32_t most = w->n_first < 8 ? w->n_first : 8;
	first_view(w, (uint16_t)(1 + world_random(w, most)));
	for (uint32_t i = 0; i < w->n_first; i++)
		host_start(w, i);
}

void world_clear(struct world *w)
{
	while (w->n_items) {
		struct item item = take(w);
		free_item(&item);
	}
	for (uint32_t i = 0; i < w->n; i++) {
		if (w->hosts[i].running)
			stop_process(&w->hosts[i]);
		agree_durable_clear(&w->hosts[i].disk);
		agree_record_clear(&w->hosts[i].record);
		for (unsigned k = 0; k < 2; k++) {
			free(w->hosts[i].parts[k].bytes);
			free(w->hosts[i].safe[k].bytes);
		}
	}
	agree_witness_clear(&w->witness);
	agree_witness_clear(&w->witness_disk);
	free(w->heap);
	w->heap = NULL;
}
