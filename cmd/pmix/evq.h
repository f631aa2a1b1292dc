// SPDX-License-Identifier: GPL-2.0-or-later
// What libpmix's own thread tells, brought to the thread of the loop: a locked queue of calls, and a descriptor to poll.
#ifndef PMIX_EVQ_H
#define PMIX_EVQ_H

#include <pthread.h>

#include "libvc/error.h"

struct evq_item;

struct evq {
	pthread_mutex_t lock;
	struct evq_item *first, **last;
	int fd; // readable while something waits
};

int evq_init(struct evq *q, struct vc_error *err);
void evq_clear(struct evq *q); // what still waits is dropped
// From any thread: run(ctx, arg) will be called by evq_run. -1 without memory.
int evq_push(struct evq *q, void (*run)(void *ctx, void *arg), void *arg);
void evq_run(struct evq *q, void *ctx);

#endif
