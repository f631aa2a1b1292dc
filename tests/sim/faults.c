// SPDX-License-Identifier: GPL-2.0-or-later
// What goes wrong in a run: see world.h. Each run takes a few classes of faults; what happens comes in bursts, since it is
// coincidence that breaks protocols. In a storm few hosts have many contradicting facts and crashes. When the time of faults is over everything is healed and a minority may stay dead.
#include <stdlib.h>
#include <string.h>

#include "tests/sim/world.h"
#include "vcd/member/agree_bugs.h"

const char *const fault_names[F_CLASSES] = {
	"loss", "delay", "reorder", "one-way", "crash", "crash-at-step", "power", "witness-crash", "controller-away",
	"partition", "even-split", "pause", "clock-rate", "join", "leave", "guest-events", "declared-down", "repeat"};

#define HEAL_PARTS 100
#define HEAL_CUTS 101
#define WITNESS_BACK 102
#define END 103
#define STEPS_CRASH_MAX 40 // outputs until a crash at a step

static uint64_t between(struct world *w, uint64_t low, uint64_t high)
{
	return low + world_random(w, high - low + 1);
}

static bool has(const struct world *w, enum fault_class f)
{
	return w->classes >> f & 1;
}

static void did(struct world *w, enum fault_class f)
{
	w->stats.by_class[f] |= 1ull << 63; // run_seed() counts it
}

static uint32_t any_host(struct world *w, bool running)
{
	for (int tries = 0; tries < 50; tries++) {
		uint32_t i = (uint32_t)world_random(w, w->n);
		if (w->hosts[i].exists && (!running || w->hosts[i].running))
			return i;
	}
	return HOSTVIEW_NONE;
}

// Leaders are worth more attention than their number.
static uint32_t victim(struct world *w)
{
	uint32_t i = any_host(w, true);
	if (i == HOSTVIEW_NONE || world_chance(w) < 0.5)
		return i;
	const struct hostview *v = agree_view(w->hosts[i].agree);
	uint32_t index = v->leader[world_random(w, v->n_groups)];
	if (index == HOSTVIEW_NONE || !w->hosts[v->hosts[index].id].running)
		return i;
	return v->hosts[index].id;
}

// --- what happens ------------------------------------------------------------------------------------------------

static void one_way(struct world *w)
{
	uint32_t from = victim(w);
	if (from == HOSTVIEW_NONE)
		return;
	double share = world_chance(w) < 0.3 ? 1.0 : world_chance(w);
	bool in = world_chance(w) < 0.5;
	for (uint32_t j = 0; j <= HOSTS_MAX; j++) {
		if ((j < w->n || j == HOSTS_MAX) && world_chance(w) <= share)
			*(in ? &w->cut[j][from] : &w->cut[from][j]) = true;
	}
	world_at(w, w->now + between(w, SECOND / 2, 12 * SECOND), ITEM_FAULT, 0, HEAL_CUTS);
	did(w, F_ONE_WAY);
}

static void crash(struct world *w)
{
	uint32_t i = victim(w);
	if (i == HOSTVIEW_NONE)
		return;
	host_crash(w, i, false);
	uint64_t longest = world_chance(w) < 0.3 ? 12 * SECOND : SECOND;
	world_at(w, w->now + between(w, 50 * MS, longest), ITEM_RESTART, i, 0);
	did(w, F_CRASH);
}

static void crash_at_step(struct world *w)
{
	uint32_t i = victim(w);
	if (i == HOSTVIEW_NONE)
		return;
	w->hosts[i].crash_on_install = world_chance(w) < 0.4;
	w->hosts[i].crash_in = w->hosts[i].crash_on_install ? 0 : 1 + (uint32_t)world_random(w, STEPS_CRASH_MAX);
	w->hosts[i].crash_for = between(w, 10 * MS, world_chance(w) < 0.3 ? 8 * SECOND : SECOND);
	did(w, F_CRASH_AT_STEP);
}

static void power(struct world *w)
{
	uint32_t i = victim(w);
	if (i == HOSTVIEW_NONE)
		return;
	host_crash(w, i, true);
	did(w, F_POWER);
}

static void witness_crash(struct world *w)
{
	w->witness_up = false;
	world_at(w, w->now + between(w, 10 * MS, 2 * SECOND), ITEM_FAULT, 0, WITNESS_BACK);
	did(w, F_WITNESS_CRASH);
}

static void witness_back(struct world *w)
{
	if (has(w, F_CONTROLLER_AWAY))
		return;
	if (w->bug != BUG_GRANT_LOST) {
		agree_witness_clear(&w->witness);
		w->witness = w->witness_disk;
		hv_change_ref(w->witness.voted);
	} else {
		agree_witness_clear(&w->witness);
	}
	w->witness_up = true;
}

static void partition(struct world *w)
{
	unsigned parts = world_chance(w) < 0.75 ? 2 : 3;
	double share = world_chance(w);
	for (uint32_t i = 0; i < w->n; i++)
		w->hosts[i].part = parts == 2 ? world_chance(w) < share : (uint32_t)world_random(w, parts);
	w->witness_part = (uint32_t)world_random(w, parts);
	world_at(w, w->now + between(w, SECOND / 2, 15 * SECOND), ITEM_FAULT, 0, HEAL_PARTS);
	did(w, F_PARTITION);
}

// Of the voters of somebody's view.
static void even_split(struct world *w)
{
	uint32_t i = any_host(w, true);
	if (i == HOSTVIEW_NONE)
		return;
	const struct hostview *v = agree_view(w->hosts[i].agree);
	uint32_t left = v->n_voters / 2, rest = v->n_voters;
	for (uint32_t k = 0; k < v->n_hosts; k++) {
		if (v->hosts[k].state == HV_GONE)
			continue;
		bool first = world_random(w, rest--) < left;
		left -= first;
		w->hosts[v->hosts[k].id].part = first;
	}
	w->witness_part = (uint32_t)world_random(w, 2);
	world_at(w, w->now + between(w, 4 * SECOND, 15 * SECOND), ITEM_FAULT, 0, HEAL_PARTS);
	did(w, F_EVEN_SPLIT);
}

static void pause_host(struct world *w)
{
	uint32_t i = victim(w);
	if (i == HOSTVIEW_NONE)
		return;
	w->hosts[i].paused_until = w->now + between(w, 100 * MS, world_chance(w) < 0.5 ? 2 * SECOND : 15 * SECOND);
	did(w, F_PAUSE);
}

static void join(struct world *w)
{
	uint32_t n = 1 + (uint32_t)world_random(w, 4);
	if (w->crowd || world_chance(w) < 0.1)
		n = w->n;
	for (uint32_t i = w->n_first; i < w->n && n > 0; i++) {
		if (w->hosts[i].exists)
			continue;
		w->hosts[i].exists = true;
		host_start(w, i);
		n--;
		did(w, F_JOIN);
	}
}

static void fact(struct world *w, uint32_t i, struct hv_event e)
{
	struct sim_host *h = &w->hosts[i];
	if (h->paused_until > w->now)
		return;
	agree_fact(h->agree, world_local(w, h), &e);
	host_after(w, i);
}

static void leave(struct world *w)
{
	uint32_t i = victim(w);
	if (i == HOSTVIEW_NONE || !agree_is_voter(w->hosts[i].agree) || w->hosts[i].disk.view->n_voters < 3)
		return;
	w->hosts[i].wants_in = world_chance(w) < 0.3; // some come back
	fact(w, i, (struct hv_event){.kind = HV_HOST_LEAVE, .id = i, .incarnation = (uint32_t)w->hosts[i].disk.incarnation});
	did(w, F_LEAVE);
}

// A member of another host runs on this one now.
static void guest_moves(struct world *w, uint32_t to)
{
	const struct hostview *v = agree_view(w->hosts[to].agree);
	for (uint32_t k = 0; k < v->n_members; k++) {
		const struct hv_member *m = &v->members[k];
		if (m->host == to || m->state == VIEW_GONE)
			continue;
		did(w, F_GUEST_EVENTS);
		fact(w, to, (struct hv_event){.kind = HV_MEMBER, .what = HV_MOVE, .evidence = HV_BY_DOMAIN, .id = m->rank, .host = to,
					      .incarnation = m->incarnation});
		return;
	}
}

static void guest_event(struct world *w)
{
	static const uint8_t what[VIEW_STATES] = {VIEW_UP, VIEW_LEAVE, VIEW_FAIL, VIEW_RETURN};
	uint32_t i = any_host(w, true);
	if (i == HOSTVIEW_NONE || !agree_is_voter(w->hosts[i].agree))
		return;
	if (world_chance(w) < 0.3) {
		guest_moves(w, i);
		return;
	}
	const struct hostview *v = agree_view(w->hosts[i].agree);
	for (uint32_t k = 0; k < v->n_members; k++) {
		const struct hv_member *m = &v->members[k];
		if (m->host != i)
			continue;
		did(w, F_GUEST_EVENTS);
		if (m->state != VIEW_GONE && world_chance(w) < 0.3) {
			fact(w, i, (struct hv_event){.kind = HV_AGENT, .what = !m->lost, .id = m->rank, .host = i, .incarnation = m->incarnation});
			return;
		}
		fact(w, i, (struct hv_event){.kind = HV_MEMBER, .what = what[m->state], .evidence = HV_BY_DOMAIN, .id = m->rank, .host = i,
					     .incarnation = m->incarnation});
		return;
	}
}

// Slurm, or an admin, says that a host is down; half of them are so, or cut off.
static void declared_down(struct world *w)
{
	uint32_t by = any_host(w, true), x = victim(w);
	if (by == HOSTVIEW_NONE || x == HOSTVIEW_NONE || by == x)
		return;
	const struct hostview *v = agree_view(w->hosts[by].agree);
	uint32_t index = hostview_find(v, x);
	if (index == HOSTVIEW_NONE)
		return;
	if (world_chance(w) < 0.5) {
		for (uint32_t j = 0; j < w->n; j++)
			w->cut[x][j] = w->cut[j][x] = true;
		world_at(w, w->now + between(w, 2 * SECOND, 20 * SECOND), ITEM_FAULT, 0, HEAL_CUTS);
	}
	did(w, F_DECLARED_DOWN);
	fact(w, by, (struct hv_event){.kind = HV_HOST_FAIL, .evidence = HV_BY_SLURM, .id = x, .incarnation = v->hosts[index].incarnation});
}

static void (*const actions[F_CLASSES])(struct world *w) = {
	[F_ONE_WAY] = one_way, [F_CRASH] = crash, [F_CRASH_AT_STEP] = crash_at_step, [F_POWER] = power,
	[F_WITNESS_CRASH] = witness_crash, [F_PARTITION] = partition, [F_EVEN_SPLIT] = even_split, [F_PAUSE] = pause_host,
	[F_JOIN] = join, [F_LEAVE] = leave, [F_GUEST_EVENTS] = guest_event, [F_DECLARED_DOWN] = declared_down};

// --- when --------------------------------------------------------------------------------------------------------

static void heal_parts(struct world *w)
{
	for (uint32_t i = 0; i < w->n; i++)
		w->hosts[i].part = 0;
	w->witness_part = 0;
}

void faults_happen(struct world *w, uint32_t number)
{
	if (number < F_CLASSES && !w->quiet)
		actions[number](w);
	else if (number == HEAL_PARTS)
		heal_parts(w);
	else if (number == HEAL_CUTS)
		memset(w->cut, 0, sizeof(w->cut));
	else if (number == WITNESS_BACK)
		witness_back(w);
	else if (number == END)
		faults_end(w);
}

static void set_network(struct world *w)
{
	if (has(w, F_LOSS)) {
		w->loss = 0.01 + world_chance(w) * 0.25;
		did(w, F_LOSS);
	}
	if (has(w, F_DELAY)) {
		w->delay_max = between(w, 20 * MS, 500 * MS);
		did(w, F_DELAY);
	}
	if (has(w, F_REORDER)) {
		w->reorder = true;
		w->delay_max += between(w, 5 * MS, 50 * MS);
		did(w, F_REORDER);
	}
	if (has(w, F_REPEAT)) {
		w->repeat = 0.02 + world_chance(w) * 0.2;
		did(w, F_REPEAT);
	}
	for (uint32_t i = 0; i < w->n && has(w, F_CLOCK_RATE); i++) {
		w->hosts[i].rate = 0.99 + world_chance(w) * 0.02;
		did(w, F_CLOCK_RATE);
	}
	if (has(w, F_CONTROLLER_AWAY)) {
		w->witness_up = false;
		did(w, F_CONTROLLER_AWAY);
	}
}

static void choose_classes(struct world *w)
{
	for (unsigned k = 1 + (unsigned)world_random(w, 7); k > 0; k--)
		w->classes |= 1u << world_random(w, F_CLASSES);
	if (!(w->classes & (1u << F_ONE_WAY | 1u << F_CRASH | 1u << F_POWER | 1u << F_PARTITION | 1u << F_DECLARED_DOWN)))
		w->classes |= 1u << (world_chance(w) < 0.5 ? F_CRASH : F_DECLARED_DOWN); // something to agree on
	if (w->crowd)
		w->classes |= 1u << F_JOIN;
	if (w->storm)
		w->classes |= 1u << F_GUEST_EVENTS | 1u << F_CRASH_AT_STEP | 1u << (world_chance(w) < 0.5 ? F_DELAY : F_LOSS);
}

void faults_plan(struct world *w)
{
	choose_classes(w);
	uint64_t end = between(w, 4 * SECOND, 25 * SECOND), burst = 0;
	set_network(w);
	for (unsigned k = 2 + (unsigned)world_random(w, w->storm ? 60 : 9); k > 0; k--) {
		if (!burst || world_chance(w) < 0.4)
			burst = between(w, SECOND / 2, end);
		uint64_t at = burst + (world_chance(w) < 0.7 ? world_random(w, 40 * MS) : world_random(w, SECOND));
		uint32_t f;
		do
			f = (uint32_t)world_random(w, F_CLASSES);
		while (!has(w, f) || !actions[f]);
		world_at(w, at, ITEM_FAULT, 0, f);
	}
	world_at(w, end, ITEM_FAULT, 0, END);
}

// --- the end -----------------------------------------------------------------------------------------------------

void faults_end(struct world *w)
{
	w->quiet = true;
	w->quiet_at = w->now;
	heal_parts(w);
	memset(w->cut, 0, sizeof(w->cut));
	w->loss = w->repeat = 0;
	w->reorder = false;
	w->delay_max = 1500;
	witness_back(w);
	for (uint32_t i = 0; i < w->n; i++) {
		struct sim_host *h = &w->hosts[i];
		h->crash_in = 0;
		h->crash_on_install = false;
		h->paused_until = h->paused_until > w->now ? w->now + MS : 0;
		if (!h->exists || h->running)
			continue;
		host_start(w, i);
	}
}

// Once all is well a minority of the common view loses power for good: the rest has to find its own view again.
void faults_last(struct world *w)
{
	uint32_t in = 0, dead = 0;
	w->last = true;
	w->quiet_at = w->now;
	if (!has(w, F_POWER))
		return;
	for (uint32_t i = 0; i < w->n; i++)
		in += w->hosts[i].running && w->hosts[i].wants_in;
	for (uint32_t i = 0; i < w->n; i++) {
		if (w->hosts[i].running && w->hosts[i].wants_in && (dead + 1) * 2 < in && world_chance(w) < 0.4) {
			host_crash(w, i, true);
			dead++;
		}
	}
}
