// SPDX-License-Identifier: GPL-2.0-or-later
// A job step as PMIx has to see it: which rank runs on which member. Pure.
//
// Slurm's map is of ranks on hosts; the ranks of one host are dealt to its members as vcd does (libvc/taskref.h). From
// that come the maps that a member's PMIx server is given, and which ranks stand for their members in a fence.
#ifndef PMIX_STEP_H
#define PMIX_STEP_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"

#define STEP_RANKS_MAX (1u << 20)
#define STEP_MEMBERS_MAX 65536u
#define STEP_NONE UINT32_MAX

struct step {
	char *nspace;	// of the step in its members: Slurm's with the cluster's token behind it
	uint32_t ranks;
	uint32_t *member; // of each rank: index of names
	uint32_t *local;  // number of each rank among those of its member
	char **names;	  // of members that have ranks, in the order of their first ranks; ends with NULL
	uint32_t members;
};

// hosts: where Slurm runs each rank; the ranks of a host are its tasks in their order. layout: {host: [names of its members, in
// vcd's order]}.
int step_make(struct step *s, const char *nspace, const char *const *hosts, uint32_t ranks, struct json_object *layout,
	      struct vc_error *err);
void step_clear(struct step *s);

uint32_t step_find(const struct step *s, const char *member); // STEP_NONE: it has no rank
uint32_t step_size(const struct step *s, uint32_t member);    // how many ranks it has
uint32_t step_leader(const struct step *s, uint32_t member);  // its lowest rank

char *step_nodes(const struct step *s);			// "vc1-0,vc1-1"
char *step_ranges(const struct step *s);		// "0,1;2,3": the ranks of each member
char *step_peers(const struct step *s, uint32_t member); // "0,1"

// The lowest of these ranks (NULL: all) on each member that has one, in the members' order; the number of them.
uint32_t *step_leads(const struct step *s, const uint32_t *ranks, uint32_t n, uint32_t *ret_n);

struct json_object *step_json(const struct step *s);
int step_parse(struct step *s, struct json_object *obj, struct vc_error *err);

#endif
