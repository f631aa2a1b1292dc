// SPDX-License-Identifier: GPL-2.0-or-later
// What must hold in every run, whatever goes wrong: see world.h. The checker knows more than any host could.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/world.h"

void check_fail(struct world *w, const char *fmt, ...)
{
	if (w->failure[0])
		return; // the first one counts
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(w->failure, sizeof(w->failure), fmt, ap);
	va_end(ap);
}

// One epoch, one view; wherever it is written or installed.
static void check_view(struct world *w, uint32_t i, const struct hostview *v)
{
	if (v->epoch >= EPOCHS_MAX) {
		check_fail(w, "host %u reached epoch %llu", i, (unsigned long long)v->epoch);
		return;
	}
	uint8_t *known = w->digests[v->epoch];
	if (!w->decided[v->epoch]) {
		w->decided[v->epoch] = true;
		memcpy(known, v->digest, HOSTVIEW_DIGEST_LEN);
	} else if (memcmp(known, v->digest, HOSTVIEW_DIGEST_LEN) != 0) {
		check_fail(w, "host %u has another view of epoch %llu", i, (unsigned long long)v->epoch);
	}
}

// Within one epoch: one vote in ballot 0, none after a promise, none below a promise, nothing forgotten; restarts included.
static void check_votes(struct world *w, uint32_t i, const struct agree_durable *old, const struct agree_durable *next)
{
	if (old->fast && !hv_change_equal(old->fast, next->fast))
		check_fail(w, "host %u %s its vote in ballot 0", i, next->fast ? "changed" : "forgot");
	if (!old->fast && next->fast && old->promised)
		check_fail(w, "host %u voted in ballot 0 after a promise", i);
	if (next->promised < old->promised)
		check_fail(w, "host %u forgot a promise", i);
	if (next->voted_ballot < old->voted_ballot)
		check_fail(w, "host %u forgot a vote", i);
	if (next->voted_ballot > old->voted_ballot && next->voted_ballot < old->promised)
		check_fail(w, "host %u voted below its promise", i);
	if (next->voted_ballot == old->voted_ballot && !hv_change_equal(next->voted, old->voted))
		check_fail(w, "host %u voted twice in one ballot", i);
}

void check_disk(struct world *w, uint32_t i, const struct agree_durable *next)
{
	const struct agree_durable *old = &w->hosts[i].disk;
	check_view(w, i, next->view);
	if (next->view->epoch == old->view->epoch)
		check_votes(w, i, old, next);
	else if (next->view->epoch < old->view->epoch)
		check_fail(w, "host %u went back to epoch %llu", i, (unsigned long long)next->view->epoch);
}

// What a host told of itself is on its disk; an install may be lost, as the others hold the votes that led to it.
void check_power_loss(struct world *w, uint32_t i, const struct agree_durable *left)
{
	const struct agree_durable *old = &w->hosts[i].disk;
	check_view(w, i, left->view);
	if (left->view->epoch > old->view->epoch)
		check_fail(w, "host %u has gained an epoch by its loss of power", i);
	if (left->view->epoch == old->view->epoch)
		check_votes(w, i, old, left);
}

// --- addresses ---------------------------------------------------------------------------------------------------

static void check_reuse(struct world *w, const struct reuse *r)
{
	const struct sim_host *h = &w->hosts[r->host];
	if (h->valid_incarnation == r->incarnation && h->valid_until > r->at)
		check_fail(w, "host %u's address was free %llu ms before its members' view became stale", r->host,
			   (unsigned long long)(h->valid_until - r->at) / 1000);
}

static void removed(struct world *w, uint32_t by, uint32_t host, uint64_t incarnation)
{
	const struct sim_host *h = &w->hosts[by];
	if (w->n_reuses == REUSES_MAX)
		return;
	struct reuse *r = &w->reuses[w->n_reuses++];
	*r = (struct reuse){host, incarnation, world_of_local(h, world_local(w, h) + agree_reuse_ms(h->agree))};
	check_reuse(w, r);
}

static void find_removed(struct world *w, uint32_t i, const struct hostview *old, const struct hostview *v)
{
	for (uint32_t k = 0; k < old->n_hosts; k++) {
		const struct hv_host *was = &old->hosts[k];
		uint32_t j = hostview_find(v, was->id);
		bool stays = v->hosts[j].state != HV_GONE && v->hosts[j].incarnation == was->incarnation;
		if (was->state != HV_GONE && !stays && was->id != i)
			removed(w, i, was->id, was->incarnation);
	}
}

void check_install(struct world *w, uint32_t i, const struct hostview *old)
{
	struct sim_host *h = &w->hosts[i];
	const struct hostview *v = agree_view(h->agree);
	w->stats.installs++;
	check_view(w, i, v);
	if (v->epoch <= h->installed)
		check_fail(w, "host %u installs epoch %llu after %llu", i, (unsigned long long)v->epoch,
			   (unsigned long long)h->installed);
	h->installed = v->epoch;
	if (agree_is_voter(h->agree))
		find_removed(w, i, old, v);
}

// What its members believe; they are told after each of its steps.
void check_valid(struct world *w, uint32_t i)
{
	struct sim_host *h = &w->hosts[i];
	uint64_t until = agree_valid_until(h->agree), incarnation = h->disk.incarnation;
	if (!until) {
		if (!agree_is_voter(h->agree))
			h->valid_until = 0; // it knows that it is out, and told them
		return;
	}
	uint64_t at = world_of_local(h, until);
	if (h->valid_incarnation == incarnation && at <= h->valid_until)
		return;
	h->valid_incarnation = incarnation;
	h->valid_until = at;
	for (uint32_t k = 0; k < w->n_reuses; k++)
		if (w->reuses[k].host == i)
			check_reuse(w, &w->reuses[k]);
}

// --- the end -----------------------------------------------------------------------------------------------------

// All that run and want to be in are in one view, with nobody else, none of them lost, nothing pending.
bool check_settled(struct world *w)
{
	const struct hostview *first = NULL;
	uint32_t in = 0;
	for (uint32_t i = 0; i < w->n; i++) {
		struct sim_host *h = &w->hosts[i];
		if (!h->running || !h->wants_in)
			continue;
		const struct hostview *v = agree_view(h->agree);
		first = first ? first : v;
		in++;
		if (!agree_is_voter(h->agree) || v->epoch != first->epoch || agree_busy(h->agree))
			return false;
	}
	for (uint32_t k = 0; first && k < first->n_hosts; k++)
		if (first->hosts[k].state == HV_LOST)
			return false;
	return !first || first->n_voters == in;
}
