// SPDX-License-Identifier: GPL-2.0-or-later
// Which members move where, and in which order. Pure: no I/O, no clock.
//
// No host's memory is ever overcommitted: a step needs room at its target before it begins, and gives room at its source when
// it has ended. Steps of one wave go on at once, at most PER_HOST of them from or to one host (its link); the next wave begins
// when all of them have ended. Only members that have to move do, each once.
#ifndef VCD_MOVEPLAN_H
#define VCD_MOVEPLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"

#define MOVEPLAN_ANYWHERE UINT32_MAX
#define MOVEPLAN_SEARCH_MAX 20000u // places tried for members without a place of their own, before the best so far is taken
#define MOVEPLAN_WHY 160	   // bytes of a reason

struct moveplan_host {
	const char *name;
	uint64_t mem_mib, used_mib; // what the job may use there (0: not counted), what its members there use
	uint32_t cpus, vcpus;
	uint32_t vcpus_max; // that it takes; 0: any number
	bool closed; // takes no member
};

struct moveplan_member {
	uint32_t rank, host;
	uint64_t mem_mib; // with the hypervisor's own
	uint32_t vcpus;
	bool moves;
	uint32_t to;	   // MOVEPLAN_ANYWHERE: wherever it fits
	const char *fixed; // why it cannot move; NULL: it can
};

struct moveplan_step {
	uint32_t member; // index
	uint32_t from, to;
	uint32_t wave; // 0..
};

struct moveplan_refusal {
	uint32_t member; // index
	char why[MOVEPLAN_WHY];
};

struct moveplan {
	struct moveplan_step *steps; // by wave
	struct moveplan_refusal *refusals;
	size_t n_steps, n_refusals;
};

// per_host: migrations from or to one host at once.
struct moveplan *moveplan_make(const struct moveplan_host *hosts, size_t n_hosts, const struct moveplan_member *members,
			       size_t n_members, uint32_t per_host, struct vc_error *err);
// Sets `moves` and `to` of members so that processors are shared more evenly: each move takes a member from the host with the
// most virtual processors per processor to where it helps most; ends when none helps.
void moveplan_balance(const struct moveplan_host *hosts, size_t n_hosts, struct moveplan_member *members, size_t n_members);
void moveplan_destroy(struct moveplan *p);

#endif
