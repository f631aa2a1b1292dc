// SPDX-License-Identifier: GPL-2.0-or-later
// What a member's PMIx server asks of Slurm's through the ranks' vc-pmix: fences with other members, and what a rank
// elsewhere has said of itself. In the loop's thread; libpmix is answered through the callback that it gave.
#ifndef PMIX_OPS_H
#define PMIX_OPS_H

#include <json-c/json.h>
#include <pmix_server.h>
#include <stdbool.h>
#include <stdint.h>

#include "cmd/pmix/step.h"
#include "libvc/error.h"

struct op {
	struct op *next;
	uint64_t id;
	pmix_modex_cbfunc_t done;
	void *done_arg;
	bool collect;	 // its end brings data
	char *data;	 // of the ranks here
	size_t len;
	uint32_t *ranks; // of a fence; NULL: all
	uint32_t n;
};

struct ops {
	const struct step *step;
	uint32_t member;
	int (*tell)(void *ctx, uint32_t rank, struct json_object *msg); // takes msg; STEP_NONE: any rank; -1: it is not there
	void *ctx;
	struct op *list; // under way
	struct series *series;
	uint64_t last_id;
};

void op_free(struct op *op);
// Both take op.
void ops_fence(struct ops *o, struct op *op);
void ops_get(struct ops *o, struct op *op, uint32_t rank);
// {id, status, data}: an answer from a rank.
int ops_answer(struct ops *o, struct json_object *msg, struct vc_error *err);
void ops_clear(struct ops *o); // all that is under way fails

#endif
