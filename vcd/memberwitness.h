// SPDX-License-Identifier: GPL-2.0-or-later
// The witness of the controller's clusters: in an even split it grants an epoch to one half at most.
//
// Its state of a cluster is in the database before its answer is sent; where that fails there is no answer. Loop thread only.
#ifndef VCD_MEMBERWITNESS_H
#define VCD_MEMBERWITNESS_H

#include "libvc/error.h"
#include "vcd/member/agree.h"

struct vcd;
struct memberlinks;
struct memberwitness;

typedef void (*memberwitness_answer_fn)(void *ctx, uint32_t to, const char *cluster, const struct agree_msg *msg);

struct memberwitness *memberwitness_create(struct vcd *vcd, struct memberlinks *links, memberwitness_answer_fn answer, void *ctx,
					   struct vc_error *err);
void memberwitness_destroy(struct memberwitness *w);
// A message to the witness from the host with that number; answered when the cluster is the controller's and the sender in it.
void memberwitness_take(struct memberwitness *w, uint32_t from, const char *cluster, const struct agree_msg *msg);

#endif
