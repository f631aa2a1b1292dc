// SPDX-License-Identifier: GPL-2.0-or-later
// Worker pools: see work.h. Each pool owns its threads and its queue; a finished job travels back through one uv_async.
//
// A job is in exactly one place: its pool's queue, a thread, or the list of ended jobs. Two things must have happened
// before it is freed: it was settled (done() called, or canceled) and its run() is over (or never began). The loop
// thread alone settles; a thread that returns only moves the job to `ended`.
#include "vcd/work.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include "libvc/log.h"

#define QUEUE_MAX 1024	// jobs waiting in one pool; a host has at most 64 members and some transfers
#define WHAT_MAX 160	// bytes of a job's name
#define SWEEP_MS 100	// how often deadlines are looked at; they are seconds

struct work_job {
	TAILQ_ENTRY(work_job) link;  // queue or ended list, under the pool's lock
	LIST_ENTRY(work_job) all;    // every job not yet freed; loop thread only
	struct work *work;
	struct pool *pool;
	struct work_args args;
	char what[WHAT_MAX];
	uint64_t deadline; // loop time, ms
	bool settled;	   // loop thread: done() was called or is not wanted any more
	bool lost;	   // loop thread: its thread is written off
	enum { QUEUED, RUNNING, ENDED } where; // under the lock
	int rc;
	struct vc_error err;
};
TAILQ_HEAD(job_queue, work_job);
LIST_HEAD(job_list, work_job);

struct pool {
	struct work *work;
	pthread_cond_t wake;
	struct job_queue queue;
	unsigned queued, running, hung, threads, want;
};

// Shared with the threads. Freed by whoever lets go last: a hung thread may outlive struct work.
struct shared {
	pthread_mutex_t lock;
	pthread_cond_t idle; // a thread ended or a job did
	struct pool pools[WORK_POOLS];
	struct job_queue ended;
	bool stop;
	unsigned refs; // threads, and struct work
	uv_async_t *async; // NULL after work_stop
};

struct work {
	uv_loop_t *loop;
	struct shared *shared;
	uv_async_t async;
	uv_timer_t timer;
	struct job_list jobs;
	bool stopped;
};

static void shared_unref_unlock(struct shared *s)
{
	bool last = --s->refs == 0;
	pthread_mutex_unlock(&s->lock);
	if (!last)
		return;
	for (int i = 0; i < WORK_POOLS; i++)
		pthread_cond_destroy(&s->pools[i].wake);
	pthread_cond_destroy(&s->idle);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

// --- threads ---

struct thread_arg {
	struct shared *shared;
	struct pool *pool;
};

static void run_job(struct shared *s, struct work_job *job)
{
	job->where = RUNNING;
	job->pool->queued--;
	job->pool->running++;
	pthread_mutex_unlock(&s->lock);
	struct vc_error err = VC_ERROR_INIT;
	int rc = job->args.run(job->args.ctx, &err);
	pthread_mutex_lock(&s->lock);
	job->rc = rc;
	job->err = err;
	job->where = ENDED;
	job->pool->running--;
	TAILQ_INSERT_TAIL(&s->ended, job, link);
	if (s->async)
		uv_async_send(s->async);
	pthread_cond_broadcast(&s->idle);
}

static void *thread_main(void *arg)
{
	struct shared *s = ((struct thread_arg *)arg)->shared;
	struct pool *pool = ((struct thread_arg *)arg)->pool;
	free(arg);
	pthread_mutex_lock(&s->lock);
	while (!s->stop && pool->threads <= pool->want) {
		struct work_job *job = TAILQ_FIRST(&pool->queue);
		if (!job) {
			pthread_cond_wait(&pool->wake, &s->lock);
			continue;
		}
		TAILQ_REMOVE(&pool->queue, job, link);
		run_job(s, job);
	}
	pool->threads--;
	pthread_cond_broadcast(&s->idle);
	shared_unref_unlock(s);
	return NULL;
}

// Called with the lock held. Threads are detached: a hung one can never be joined.
static int thread_start(struct shared *s, struct pool *pool)
{
	struct thread_arg *arg = malloc(sizeof(*arg));
	pthread_attr_t attr;
	pthread_t thread;
	if (!arg)
		return ENOMEM;
	*arg = (struct thread_arg){.shared = s, .pool = pool};
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	s->refs++;
	pool->threads++;
	int rc = pthread_create(&thread, &attr, thread_main, arg);
	pthread_attr_destroy(&attr);
	if (rc != 0) {
		s->refs--;
		pool->threads--;
		free(arg);
	}
	return rc;
}

// --- loop thread ---

static void job_free(struct work_job *job)
{
	LIST_REMOVE(job, all);
	if (job->args.release)
		job->args.release(job->args.ctx);
	free(job);
}

static void job_settle(struct work_job *job, const struct vc_error *err)
{
	if (job->settled)
		return;
	job->settled = true;
	job->args.done(job->args.ctx, err);
}

// The thread of a job that was written off came back: there is one more than wanted now, and one of them ends.
static void job_found(struct work_job *job)
{
	struct pool *pool = job->pool;
	pthread_mutex_lock(&job->work->shared->lock);
	pool->hung--;
	pool->want--;
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&job->work->shared->lock);
	vc_log_notice("%s: came back after it had been given up", job->what);
}

static void collect(struct work *w)
{
	for (;;) {
		pthread_mutex_lock(&w->shared->lock);
		struct work_job *job = TAILQ_FIRST(&w->shared->ended);
		if (job)
			TAILQ_REMOVE(&w->shared->ended, job, link);
		pthread_mutex_unlock(&w->shared->lock);
		if (!job)
			return;
		if (job->lost)
			job_found(job);
		job_settle(job, job->rc < 0 ? &job->err : NULL);
		job_free(job);
	}
}

static void on_async(uv_async_t *async)
{
	collect(async->data);
}

// A job past its deadline: out of the queue, or its thread is written off and replaced.
static void job_expire(struct work *w, struct work_job *job)
{
	struct vc_error err = VC_ERROR_INIT;
	struct shared *s = w->shared;
	pthread_mutex_lock(&s->lock);
	bool queued = job->where == QUEUED, running = job->where == RUNNING;
	if (queued) {
		TAILQ_REMOVE(&job->pool->queue, job, link);
		job->pool->queued--;
	} else if (running) {
		job->lost = true;
		job->pool->hung++;
		job->pool->want++;
		if (job->pool->hung <= WORK_HUNG_MAX && thread_start(s, job->pool) != 0)
			vc_log_err("%s: no thread to replace the hung one", job->what);
	}
	pthread_mutex_unlock(&s->lock);
	if (!queued && !running)
		return; // ended just now: collect() takes it
	vc_error_set(&err, VC_ETIMEDOUT, "%s: %s", job->what,
		     queued ? "no worker was free in time" : "did not end in time");
	job_settle(job, &err);
	if (queued)
		job_free(job);
}

static struct work_job *find_expired(struct work *w, uint64_t now)
{
	struct work_job *job;
	LIST_FOREACH(job, &w->jobs, all) {
		if (!job->lost && now >= job->deadline)
			return job;
	}
	return NULL;
}

static void on_sweep(uv_timer_t *timer)
{
	struct work *w = timer->data;
	uint64_t now = uv_now(w->loop);
	struct work_job *job;
	collect(w);
	while ((job = find_expired(w, now))) { // from the start each time: done() may have changed the list
		job_expire(w, job);
		collect(w);
	}
	if (LIST_EMPTY(&w->jobs))
		uv_timer_stop(timer);
}

static struct shared *shared_create(const unsigned threads[WORK_POOLS])
{
	struct shared *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->idle, &attr);
	pthread_condattr_destroy(&attr);
	TAILQ_INIT(&s->ended);
	s->refs = 1;
	for (int i = 0; i < WORK_POOLS; i++) {
		pthread_cond_init(&s->pools[i].wake, NULL);
		TAILQ_INIT(&s->pools[i].queue);
		s->pools[i].want = threads[i];
	}
	return s;
}

static int start_threads(struct shared *s)
{
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	for (int i = 0; i < WORK_POOLS && rc == 0; i++) {
		while (s->pools[i].threads < s->pools[i].want && rc == 0)
			rc = thread_start(s, &s->pools[i]);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

struct work *work_create(uv_loop_t *loop, unsigned general_threads, unsigned hv_threads, struct vc_error *err)
{
	struct work *w = calloc(1, sizeof(*w));
	unsigned threads[WORK_POOLS] = {[WORK_GENERAL] = general_threads, [WORK_HV] = hv_threads};
	if (w)
		w->shared = shared_create(threads);
	if (!w || !w->shared) {
		vc_error_set(err, ENOMEM, "worker pools: out of memory");
		free(w);
		return NULL;
	}
	w->loop = loop;
	LIST_INIT(&w->jobs);
	int rc = uv_async_init(loop, &w->async, on_async);
	if (rc == 0) {
		uv_timer_init(loop, &w->timer);
		w->async.data = w->timer.data = w;
		w->shared->async = &w->async;
		uv_unref((uv_handle_t *)&w->async);
		rc = -start_threads(w->shared);
	}
	if (rc == 0)
		return w;
	vc_error_set(err, VC_EHOST, "worker pools: %s", uv_strerror(rc));
	if (w->shared->async)
		work_stop(w, 0);
	uv_run(loop, UV_RUN_NOWAIT);
	work_destroy(w);
	return NULL;
}

static int check_room(struct pool *pool, const char *what, struct vc_error *err)
{
	if (pool->hung >= WORK_HUNG_MAX)
		return vc_error_set(err, VC_EHOST, "%s: %u workers of this kind hang: restart vcd when the cause is gone", what,
				    pool->hung);
	if (pool->queued >= QUEUE_MAX)
		return vc_error_set(err, VC_EBUSY, "%s: %u jobs wait for a worker already", what, pool->queued);
	return 0;
}

int work_submit(struct work *w, const struct work_args *args, struct work_job **ret_job, struct vc_error *err)
{
	if (w->stopped)
		return vc_error_set(err, VC_ECANCELED, "%s: vcd is stopping", args->what);
	struct pool *pool = &w->shared->pools[args->pool];
	struct work_job *job = calloc(1, sizeof(*job));
	if (!job)
		return vc_error_errno(err, "%s", args->what);
	job->work = w;
	job->pool = pool;
	job->args = *args;
	snprintf(job->what, sizeof(job->what), "%s", args->what);
	job->args.what = job->what;
	uv_update_time(w->loop);
	job->deadline = uv_now(w->loop) + args->deadline_ms;
	pthread_mutex_lock(&w->shared->lock);
	int rc = check_room(pool, job->what, err);
	if (rc == 0) {
		TAILQ_INSERT_TAIL(&pool->queue, job, link);
		pool->queued++;
		pthread_cond_signal(&pool->wake);
	}
	pthread_mutex_unlock(&w->shared->lock);
	if (rc < 0) {
		free(job);
		return -1;
	}
	LIST_INSERT_HEAD(&w->jobs, job, all);
	if (!uv_is_active((uv_handle_t *)&w->timer))
		uv_timer_start(&w->timer, on_sweep, SWEEP_MS, SWEEP_MS);
	if (ret_job)
		*ret_job = job;
	return 0;
}

void work_cancel(struct work_job *job)
{
	job->settled = true;
	pthread_mutex_lock(&job->work->shared->lock);
	bool queued = job->where == QUEUED;
	if (queued) {
		TAILQ_REMOVE(&job->pool->queue, job, link);
		job->pool->queued--;
	}
	pthread_mutex_unlock(&job->work->shared->lock);
	if (queued)
		job_free(job);
}

struct work_stats work_stats(const struct work *w, enum work_pool pool)
{
	struct pool *p = &w->shared->pools[pool];
	pthread_mutex_lock(&w->shared->lock);
	struct work_stats stats = {.queued = p->queued, .running = p->running - p->hung, .hung = p->hung};
	pthread_mutex_unlock(&w->shared->lock);
	return stats;
}

// --- the end ---

static bool all_idle(const struct shared *s)
{
	for (int i = 0; i < WORK_POOLS; i++) {
		if (s->pools[i].running > s->pools[i].hung)
			return false;
	}
	return true;
}

static void wait_idle(struct shared *s, uint64_t grace_ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(grace_ms / 1000);
	until.tv_nsec += (long)(grace_ms % 1000) * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	int rc = 0;
	while (!all_idle(s) && rc == 0)
		rc = pthread_cond_timedwait(&s->idle, &s->lock, &until);
}

static void cancel_queued(struct work *w)
{
	struct vc_error err = VC_ERROR_INIT;
	for (int i = 0; i < WORK_POOLS; i++) {
		struct work_job *job;
		while ((job = TAILQ_FIRST(&w->shared->pools[i].queue))) {
			vc_error_set(&err, VC_ECANCELED, "%s: vcd is stopping", job->what);
			pthread_mutex_lock(&w->shared->lock);
			TAILQ_REMOVE(&job->pool->queue, job, link);
			job->pool->queued--;
			pthread_mutex_unlock(&w->shared->lock);
			job_settle(job, &err);
			job_free(job);
		}
	}
}

// What still runs is told canceled; its memory stays with its thread, the process is about to end.
static void abandon_running(struct work *w)
{
	struct vc_error err = VC_ERROR_INIT;
	struct work_job *job, *next;
	for (job = LIST_FIRST(&w->jobs); job; job = next) {
		next = LIST_NEXT(job, all);
		vc_error_set(&err, VC_ECANCELED, "%s: vcd is stopping", job->what);
		job_settle(job, &err);
	}
}

void work_stop(struct work *w, uint64_t grace_ms)
{
	if (w->stopped)
		return;
	w->stopped = true;
	struct shared *s = w->shared;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	for (int i = 0; i < WORK_POOLS; i++)
		pthread_cond_broadcast(&s->pools[i].wake);
	pthread_mutex_unlock(&s->lock);
	cancel_queued(w); // no thread takes a job any more
	pthread_mutex_lock(&s->lock);
	wait_idle(s, grace_ms);
	s->async = NULL;
	pthread_mutex_unlock(&s->lock);
	collect(w);
	abandon_running(w);
	uv_close((uv_handle_t *)&w->async, NULL);
	uv_close((uv_handle_t *)&w->timer, NULL);
}

// Threads between two jobs need a moment to see the stop; without this they would be reported as leaked.
static void wait_threads(struct shared *s)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	unsigned left = 1;
	for (int rc = 0; left && rc == 0;) {
		left = 0;
		for (int i = 0; i < WORK_POOLS; i++)
			left += s->pools[i].threads > s->pools[i].running ? s->pools[i].threads - s->pools[i].running : 0;
		if (left)
			rc = pthread_cond_timedwait(&s->idle, &s->lock, &until);
	}
}

void work_destroy(struct work *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->shared->lock);
	wait_threads(w->shared);
	shared_unref_unlock(w->shared);
	free(w);
}
