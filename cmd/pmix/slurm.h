// SPDX-License-Identifier: GPL-2.0-or-later
// A rank as client of Slurm's PMIx server: values put and read, fences joined. Wraps libpmix's client calls.
//
// Completions come through an evq, in its thread. One per process: libpmix knows one client.
#ifndef PMIX_SLURM_H
#define PMIX_SLURM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmd/pmix/evq.h"
#include "libvc/error.h"

struct slurm {
	char nspace[256]; // the step's, as Slurm calls it
	uint32_t rank, ranks;
	char *dir; // the step's own on this host, which Slurm removes
};

int slurm_init(struct slurm *s, struct vc_error *err);
void slurm_finalize(struct slurm *s, bool in_order); // not in order: Slurm sees a rank that died
// The host of each rank; NULL-terminated.
char **slurm_hosts(const struct slurm *s, struct vc_error *err);

int slurm_put(const char *key, const void *data, size_t len); // a libpmix status
void slurm_abort(int status, const char *text);

// done(ctx, arg) runs in the evq's thread; status and data are then in what was given.
struct slurm_answer {
	struct evq *evq;
	void (*done)(void *ctx, void *arg);
	void *arg;
	int status;
	uint8_t *data; // malloc'ed
	size_t len;
};
// ranks NULL: all.
void slurm_fence(const struct slurm *s, const uint32_t *ranks, uint32_t n, bool collect, struct slurm_answer *answer);
void slurm_get(const struct slurm *s, uint32_t rank, const char *key, struct slurm_answer *answer);

#endif
