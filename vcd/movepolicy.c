// SPDX-License-Identifier: GPL-2.0-or-later
// Policies and expectations: see movepolicy.h.
#include "vcd/movepolicy.h"

#include <string.h>

static const char *const names[] = {[MOVE_AUTO] = "auto", [MOVE_PRECOPY] = "pre-copy", [MOVE_CONVERGE] = "auto-converge",
				    [MOVE_COMPRESS] = "compress", [MOVE_MULTIFD] = "multifd", [MOVE_POSTCOPY] = "post-copy"};

const char *move_policy_name(enum move_policy policy)
{
	return names[policy];
}

int move_policy_from_name(const char *name, enum move_policy *ret, struct vc_error *err)
{
	for (int i = 0; i < MOVE_POLICIES; i++) {
		if (strcmp(names[i], name) == 0) {
			*ret = (enum move_policy)i;
			return 0;
		}
	}
	return vc_error_set(err, VC_EUSER, "'%.32s' is no policy of migration: auto, pre-copy, auto-converge, compress, multifd, post-copy", name);
}

static uint64_t bandwidth(const struct move_facts *f)
{
	return (f->bandwidth_mib ? f->bandwidth_mib : MOVE_LINK_MIB) << 20;
}

enum move_policy move_policy_choose(enum move_policy wanted, const struct move_facts *f)
{
	if (wanted != MOVE_AUTO)
		return wanted;
	if (f->dirty_rate > bandwidth(f) && f->can_postcopy)
		return MOVE_POSTCOPY;
	return f->dirty_rate > bandwidth(f) / 4 ? MOVE_CONVERGE : MOVE_PRECOPY;
}

const char *move_postcopy_obstacle(const struct move_uffd *host)
{
	if (!host->kernel)
		return "its kernel has no userfaultfd";
	if (host->unprivileged || host->root)
		return NULL;
	return "QEMU may not use userfaultfd there: set sysctl vm.unprivileged_userfaultfd = 1";
}

uint32_t move_at_once(uint64_t bandwidth_mib)
{
	uint64_t n = bandwidth_mib ? MOVE_LINK_MIB / bandwidth_mib : 1;
	return n < 1 ? 1 : n > MOVE_AT_ONCE_MAX ? MOVE_AT_ONCE_MAX : (uint32_t)n;
}

static uint64_t ms_for(uint64_t bytes, uint64_t rate)
{
	return (uint64_t)((double)bytes * 1000 / (double)rate);
}

static uint64_t dirtied_in(uint64_t ms, const struct move_facts *f)
{
	double bytes = (double)f->dirty_rate * (double)ms / 1000;
	return bytes < (double)f->memory ? (uint64_t)bytes : f->memory;
}

// One round, then it runs at the target, and what it dirtied in that round follows.
static struct move_estimate after_switch(struct move_estimate e, const struct move_facts *f)
{
	uint64_t ms = ms_for(f->memory, bandwidth(f)), rest = dirtied_in(ms, f);
	e.rounds = 1;
	e.bytes = f->disk + f->memory + rest;
	e.downtime_ms = MOVE_SWITCH_MS;
	e.total_ms = ms_for(e.bytes, bandwidth(f)) + e.downtime_ms;
	return e;
}

struct move_estimate move_estimate(enum move_policy wanted, const struct move_facts *f)
{
	struct move_estimate e = {.policy = move_policy_choose(wanted, f)};
	uint64_t rate = bandwidth(f), most_ms = f->downtime_ms ? f->downtime_ms : MOVE_DOWNTIME_MS;
	uint64_t cap = f->rounds ? f->rounds : MOVE_ROUNDS, left = f->memory;
	if (e.policy == MOVE_POSTCOPY)
		return after_switch(e, f);
	e.total_ms = ms_for(f->disk, rate);
	for (e.bytes = f->disk; ms_for(left, rate) > most_ms && e.rounds < cap; e.rounds++) {
		uint64_t ms = ms_for(left, rate);
		e.bytes += left;
		e.total_ms += ms;
		left = dirtied_in(ms, f);
	}
	e.forced = ms_for(left, rate) > most_ms;
	e.bytes += left;
	e.downtime_ms = ms_for(left, rate) + MOVE_SWITCH_MS;
	e.total_ms += e.downtime_ms;
	return e;
}
