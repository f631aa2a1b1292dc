// SPDX-License-Identifier: GPL-2.0-or-later
// Calls from libpmix's thread to the loop's: see evq.h.
#include "cmd/pmix/evq.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "libvc/cleanup.h"

struct evq_item {
	struct evq_item *next;
	void (*run)(void *ctx, void *arg);
	void *arg;
};

int evq_init(struct evq *q, struct vc_error *err)
{
	q->first = NULL;
	q->last = &q->first;
	pthread_mutex_init(&q->lock, NULL);
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->fd < 0 ? vc_error_errno(err, "eventfd") : 0;
}

static struct evq_item *take(struct evq *q)
{
	pthread_mutex_lock(&q->lock);
	struct evq_item *item = q->first;
	if (item && !(q->first = item->next))
		q->last = &q->first;
	pthread_mutex_unlock(&q->lock);
	return item;
}

void evq_clear(struct evq *q)
{
	struct evq_item *item;
	while ((item = take(q)))
		free(item);
	vc_cleanup_close(&q->fd);
	q->fd = -1;
}

int evq_push(struct evq *q, void (*run)(void *ctx, void *arg), void *arg)
{
	uint64_t one = 1;
	struct evq_item *item = calloc(1, sizeof(*item));
	if (!item)
		return -1;
	item->run = run;
	item->arg = arg;
	pthread_mutex_lock(&q->lock);
	*q->last = item;
	q->last = &item->next;
	pthread_mutex_unlock(&q->lock);
	return write(q->fd, &one, sizeof(one)) < 0 ? -1 : 0; // the counter cannot be full
}

void evq_run(struct evq *q, void *ctx)
{
	uint64_t n;
	struct evq_item *item;
	if (read(q->fd, &n, sizeof(n)) < 0)
		return;
	while ((item = take(q))) {
		item->run(ctx, item->arg);
		free(item);
	}
}
