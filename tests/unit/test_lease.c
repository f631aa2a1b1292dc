// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/elastic/lease, leasebook: every cell of the tables, the order of giving back, and a made-up Slurm with faults at
// each step (lost answers, crashes between saving and acting, nodes, holds, requeues, preemption) under random walks.
#include "tests/unit/test.h"

#include <stdio.h>

#include "libvc/json.h"
#include "vcd/elastic/leasebook.h"
#include "vcd/elastic/policy.h"

// --- the tables -------------------------------------------------------------------------------------------------------

static bool job_over(enum lease_slurm job)
{
	return job == LEASE_JOB_UNKNOWN || job > LEASE_JOB_COMPLETING;
}

static void check_cell(enum lease_state state, enum lease_slurm job, struct lease_step step)
{
	bool counted = state >= LEASE_JOINING && state <= LEASE_RECLAIMING;
	assert_true(step.valid);
	// nothing goes back into the queue but what was joining, nothing comes back from the end
	assert_true(step.next >= state || (state == LEASE_JOINING && step.next == LEASE_PENDING) ||
		    (state == LEASE_SUBMITTED && step.next == LEASE_WANTED));
	if (job_over(job)) {
		// no cluster counts a lease whose job is over, and nothing is asked of such a job
		assert_true(step.next == LEASE_ENDED || state <= LEASE_SUBMITTED);
		assert_int_equal(step.todo & (LEASE_CANCEL | LEASE_JOIN | LEASE_DRAIN), 0);
		if (counted)
			assert_int_equal(step.todo, LEASE_DROP);
	} else if (step.next == LEASE_ENDED && state != LEASE_ENDED) {
		fail_msg("%s ends while its job is %s", lease_state_name(state), lease_slurm_name(job));
	}
	// a lease that ends, or will, says why, once
	if (step.next >= LEASE_RELEASING && state < LEASE_RECLAIMING)
		assert_int_not_equal(step.end, LEASE_END_NONE);
	if (state >= LEASE_RELEASING)
		assert_int_equal(step.end, LEASE_END_NONE);
	// who leaves the view's states without a drain is dropped
	if (counted && (step.next < LEASE_JOINING || step.next > LEASE_RECLAIMING))
		assert_true(step.todo & LEASE_DROP);
	// a live job of a lease that is over is cancelled
	if (state >= LEASE_RELEASING && lease_job_live(job) && job != LEASE_JOB_COMPLETING)
		assert_int_equal(step.todo, LEASE_CANCEL);
	assert_true(!(step.todo & LEASE_SUBMIT) || (state == LEASE_WANTED && job == LEASE_JOB_UNKNOWN));
	assert_true(!(step.todo & LEASE_JOIN) || (state < LEASE_JOINING && step.next == LEASE_JOINING));
	assert_true(!(step.todo & LEASE_DRAIN) || (state == LEASE_HELD && step.next == LEASE_RECLAIMING));
}

static void test_every_cell(void **state)
{
	(void)state;
	for (int s = 0; s < LEASE_STATES; s++) {
		for (int j = 0; j < LEASE_JOBS; j++)
			check_cell((enum lease_state)s, (enum lease_slurm)j, lease_on_slurm((enum lease_state)s, (enum lease_slurm)j));
	}
}

static void test_every_event(void **state)
{
	(void)state;
	for (int s = 0; s < LEASE_STATES; s++) {
		for (int e = 0; e < LEASE_EVENTS; e++) {
			struct lease_step step = lease_on_event((enum lease_state)s, (enum lease_event)e);
			if (!step.valid)
				continue;
			assert_true((int)step.next >= s || e == LEASE_EV_ACCEPTED);
			if (step.next >= LEASE_RELEASING && s < LEASE_RECLAIMING)
				assert_int_not_equal(step.end, LEASE_END_NONE);
			// a job that may live is cancelled when its lease is given up
			if (step.next == LEASE_RELEASING && s >= LEASE_PENDING && s < LEASE_RELEASING)
				assert_true(step.todo & LEASE_CANCEL);
		}
		// these two can come at any time
		assert_true(lease_on_event((enum lease_state)s, LEASE_EV_RECLAIM).valid);
		assert_true(lease_on_event((enum lease_state)s, LEASE_EV_CLUSTER_GONE).valid);
		assert_true(lease_on_event((enum lease_state)s, LEASE_EV_CLUSTER_GONE).next >= LEASE_RELEASING);
	}
}

// --- one lease at a time -----------------------------------------------------------------------------------------------

static struct lease_job job_of(uint64_t lease, uint32_t job, enum lease_slurm state, const char *host)
{
	struct lease_job j = {.lease = lease, .job = job, .state = state, .end_ms = 5000};
	snprintf(j.host, sizeof(j.host), "%s", host);
	return j;
}

static unsigned take_todo(struct leasebook *book)
{
	unsigned what = 0;
	for (size_t i = 0; i < book->n_todo; i++)
		what |= book->todo[i].what;
	book->n_todo = 0;
	return what;
}

static void see(struct leasebook *book, struct lease_job job)
{
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(leasebook_see(book, &job, 1, book->count, 0, &err), 0);
}

static void event(struct leasebook *book, uint64_t id, enum lease_event what, uint32_t job)
{
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(leasebook_event(book, id, what, job, 0, &err), 0);
}

static void test_life(void **state)
{
	(void)state;
	struct leasebook book = {0};
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(leasebook_want(&book, 7, 1, 0, &err), 0);
	assert_int_equal(take_todo(&book), LEASE_SUBMIT);
	// a list that was asked for before, or while the submission is under way, says nothing
	assert_int_equal(leasebook_see(&book, NULL, 0, 0, 0, &err), 0);
	assert_int_equal(leasebook_see(&book, NULL, 0, book.count, 0, &err), 0);
	assert_int_equal(book.leases[0].state, LEASE_SUBMITTED);
	event(&book, 1, LEASE_EV_ACCEPTED, 31);
	see(&book, job_of(1, 31, LEASE_JOB_LIMITED, ""));
	assert_int_equal(book.leases[0].state, LEASE_PENDING);
	see(&book, job_of(1, 31, LEASE_JOB_RUNNING, "n4"));
	assert_int_equal(take_todo(&book), LEASE_JOIN);
	event(&book, 1, LEASE_EV_JOINED, 0);
	assert_int_equal(leasebook_count(&book, 7, LEASE_HELD, LEASE_HELD), 1);
	see(&book, job_of(1, 31, LEASE_JOB_ENDING_SOON, "n4")); // preempted
	assert_int_equal(take_todo(&book), LEASE_DRAIN);
	assert_int_equal(book.leases[0].deadline_ms, 5000);
	assert_int_equal(leasebook_tick(&book, 4999, &err), 0);
	assert_int_equal(take_todo(&book), 0); // nothing before the deadline
	assert_int_equal(leasebook_tick(&book, 5000, &err), 0);
	assert_int_equal(take_todo(&book), LEASE_DROP | LEASE_CANCEL);
	see(&book, job_of(1, 31, LEASE_JOB_PREEMPTED, "n4"));
	assert_int_equal(book.leases[0].state, LEASE_ENDED);
	assert_int_equal(book.leases[0].end, LEASE_END_PREEMPTED);
	assert_int_equal(leasebook_tick(&book, LEASEBOOK_KEEP_MS + 1, &err), 0);
	assert_int_equal(book.n, 0);
	leasebook_clear(&book);
}

static void test_submitted_twice(void **state)
{
	(void)state;
	struct leasebook book = {0};
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(leasebook_want(&book, 7, 1, 0, &err), 0);
	event(&book, 1, LEASE_EV_NO_ANSWER, 0);
	take_todo(&book);
	assert_int_equal(leasebook_see(&book, NULL, 0, book.count, 0, &err), 0); // wanted
	assert_int_equal(leasebook_see(&book, NULL, 0, book.count, 0, &err), 0);
	assert_int_equal(take_todo(&book), LEASE_SUBMIT);
	const struct lease_job both[] = {job_of(1, 40, LEASE_JOB_PENDING, ""), job_of(1, 41, LEASE_JOB_PENDING, "")};
	assert_int_equal(leasebook_see(&book, both, 2, book.count, 0, &err), 0);
	assert_int_equal(book.n_todo, 1);
	assert_int_equal(book.todo[0].what, LEASE_CANCEL);
	assert_int_equal(book.todo[0].job, 41);
	const struct lease_job stray = job_of(99, 50, LEASE_JOB_RUNNING, "n1"); // of a lease that nobody knows
	take_todo(&book);
	see(&book, stray);
	assert_int_equal(book.todo[0].job, 50);
	leasebook_clear(&book);
}

static void test_host_is_fenced(void **state)
{
	(void)state;
	struct leasebook book = {0};
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(leasebook_want(&book, 7, 2, 0, &err), 0);
	event(&book, 1, LEASE_EV_ACCEPTED, 31);
	event(&book, 2, LEASE_EV_ACCEPTED, 32);
	struct lease_job jobs[] = {job_of(1, 31, LEASE_JOB_RUNNING, "n4"), job_of(2, 32, LEASE_JOB_RUNNING, "n4")};
	assert_int_equal(leasebook_see(&book, jobs, 2, book.count, 0, &err), 0);
	assert_int_equal(book.leases[1].state, LEASE_PENDING); // until the first is gone
	jobs[0].state = LEASE_JOB_COMPLETED;
	assert_int_equal(leasebook_see(&book, jobs, 2, book.count, 0, &err), 0);
	assert_int_equal(book.leases[1].state, LEASE_JOINING);
	assert_int_equal(leasebook_check(&book, 1, &err), 0);
	leasebook_clear(&book);
}

static void test_order_of_giving_back(void **state)
{
	(void)state;
	struct leasebook book = {0};
	struct vc_error err = VC_ERROR_INIT;
	static const enum lease_work work[] = {LEASE_WORK_ANCHOR, LEASE_WORK_NONE, LEASE_WORK_SOME};
	assert_int_equal(leasebook_want(&book, 7, 4, 0, &err), 0);
	for (uint32_t i = 1; i <= 4; i++) {
		char host[16];
		snprintf(host, sizeof(host), "n%u", i);
		event(&book, i, LEASE_EV_ACCEPTED, 30 + i);
		if (i == 4)
			continue; // pending
		const struct lease_job job = job_of(i, 30 + i, LEASE_JOB_RUNNING, host);
		assert_int_equal(leasebook_see(&book, &job, 1, 0, 0, &err), 0);
		event(&book, i, LEASE_EV_JOINED, 0);
		book.leases[i - 1].work = work[i - 1];
	}
	static const uint64_t order[] = {4, 2, 3, 1};
	assert_int_equal(leasebook_give_back(&book, 7, 9, true, 60000, 0, &err), 2); // only those without work
	assert_int_equal(leasebook_find(&book, 3)->state, LEASE_HELD);
	assert_int_equal(leasebook_give_back(&book, 7, 1, false, 60000, 0, &err), 1);
	for (size_t i = 0; i < 3; i++)
		assert_true(leasebook_find(&book, order[i])->state > LEASE_HELD);
	assert_int_equal(leasebook_find(&book, order[3])->state, LEASE_HELD);
	assert_int_equal(leasebook_give_back(&book, 8, 1, false, 0, 0, &err), 0); // another cluster's
	leasebook_clear(&book);
}

// --- a made-up Slurm, and faults ------------------------------------------------------------------------------------------

#define HOSTS 6
#define JOBS_MAX 4000
#define CLUSTERS 3
#define STUCK_MS 150000 // thirty rounds
#define LOST_MAX 3 // rounds with an answering slurmctld until the book must know what has become of a job

struct fake_job {
	uint64_t lease;
	enum lease_slurm state;
	int host; // -1: none
	int64_t end_ms;
	bool late;	// taken by slurmctld, which does not tell yet
	bool in_view;	// its members are in the view
	int unseen;	// complete lists since the job ended while it is counted
};

struct world {
	struct fake_job jobs[JOBS_MAX];
	uint32_t n_jobs;
	struct leasebook book;
	struct json_object *saved;
	bool cluster_alive[CLUSTERS + 1];
	uint64_t random;
	int64_t now_ms;
	bool faults;
	long crashes, doubles, preempted, lost;
};

static bool chance(struct world *w, unsigned one_in)
{
	return policy_random(&w->random) % one_in == 0;
}

static bool fault(struct world *w, unsigned one_in)
{
	return w->faults && chance(w, one_in);
}

static void invariants(struct world *w)
{
	struct vc_error err = VC_ERROR_INIT;
	if (leasebook_check(&w->book, HOSTS, &err) < 0)
		fail_msg("at %lld: %s", (long long)w->now_ms, err.text);
	bool in_view[HOSTS] = {false};
	for (uint32_t i = 0; i < w->n_jobs; i++) {
		const struct fake_job *j = &w->jobs[i];
		if (j->unseen > LOST_MAX)
			fail_msg("at %lld: job %u is %s and its lease still counts it", (long long)w->now_ms, i + 1, lease_slurm_name(j->state));
		if (!j->in_view)
			continue;
		if (in_view[j->host])
			fail_msg("at %lld: host %d is in the view twice", (long long)w->now_ms, j->host);
		in_view[j->host] = true;
	}
}

static void save(struct world *w)
{
	json_object_put(w->saved);
	w->saved = leasebook_to_json(&w->book);
}

static void crash(struct world *w)
{
	struct vc_error err = VC_ERROR_INIT;
	size_t len;
	const char *text = vc_json_text(w->saved, &len);
	vc_autojson struct json_object *read = vc_json_parse(text, len, &err);
	leasebook_clear(&w->book);
	if (leasebook_from_json(read, &w->book, &err) < 0)
		fail_msg("%s", err.text);
	for (uint32_t c = 1; c <= CLUSTERS; c++) {
		if (!w->cluster_alive[c])
			assert_int_equal(leasebook_cluster_gone(&w->book, c, w->now_ms, &err), 0);
	}
	w->crashes++;
}

static void tell(struct world *w, uint64_t lease, enum lease_event what, uint32_t job)
{
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(leasebook_event(&w->book, lease, what, job, w->now_ms, &err), 0);
	save(w);
}

static void submit(struct world *w, uint64_t lease)
{
	if (fault(w, 8)) {
		tell(w, lease, chance(w, 2) ? LEASE_EV_REFUSED : LEASE_EV_NO_ANSWER, 0);
		return;
	}
	assert_true(w->n_jobs < JOBS_MAX);
	for (uint32_t i = 0; i < w->n_jobs; i++)
		w->doubles += w->jobs[i].lease == lease;
	struct fake_job *j = &w->jobs[w->n_jobs++];
	*j = (struct fake_job){.lease = lease, .state = LEASE_JOB_PENDING, .host = -1};
	if (fault(w, 6)) { // taken, but the answer is lost
		j->late = chance(w, 2);
		j->state = j->late ? LEASE_JOB_UNKNOWN : LEASE_JOB_PENDING;
		tell(w, lease, LEASE_EV_NO_ANSWER, 0);
		return;
	}
	tell(w, lease, LEASE_EV_ACCEPTED, w->n_jobs);
}

static void end_job(struct fake_job *j, enum lease_slurm how)
{
	j->state = how;
}

static void cancel(struct world *w, uint32_t job)
{
	struct fake_job *j = &w->jobs[job - 1];
	if (fault(w, 8) || !lease_job_live(j->state))
		return; // slurmctld did not answer, or too late
	end_job(j, j->host < 0 ? LEASE_JOB_CANCELLED : LEASE_JOB_COMPLETING);
}

static void join_host(struct world *w, const struct lease_todo *todo)
{
	struct fake_job *j = &w->jobs[todo->job - 1];
	if (fault(w, 8)) {
		tell(w, todo->lease, LEASE_EV_JOIN_FAILED, 0);
		return;
	}
	if (lease_job_live(j->state)) {
		j->in_view = true;
		tell(w, todo->lease, LEASE_EV_JOINED, 0);
	}
}

static void drop(struct world *w, uint64_t lease)
{
	for (uint32_t i = 0; i < w->n_jobs; i++) {
		if (w->jobs[i].lease == lease)
			w->jobs[i].in_view = false;
	}
}

// Does what is queued, one by one; a crash may come before each of them.
static void act(struct world *w)
{
	save(w);
	while (w->book.n_todo > 0) {
		if (fault(w, 20)) {
			crash(w);
			save(w);
			continue;
		}
		struct lease_todo todo = w->book.todo[0];
		memmove(w->book.todo, w->book.todo + 1, --w->book.n_todo * sizeof(todo));
		if (todo.what == LEASE_SUBMIT)
			submit(w, todo.lease);
		else if (todo.what == LEASE_CANCEL)
			cancel(w, todo.job);
		else if (todo.what == LEASE_JOIN)
			join_host(w, &todo);
		else if (todo.what == LEASE_DROP)
			drop(w, todo.lease);
		invariants(w);
	}
}

static int free_host(const struct world *w)
{
	bool used[HOSTS] = {false};
	for (uint32_t i = 0; i < w->n_jobs; i++) {
		if (lease_job_live(w->jobs[i].state) && w->jobs[i].host >= 0)
			used[w->jobs[i].host] = true;
	}
	for (int h = 0; h < HOSTS; h++) {
		if (!used[h])
			return h;
	}
	return -1;
}

static void disturb(struct world *w, struct fake_job *j)
{
	static const enum lease_slurm ends[] = {LEASE_JOB_CANCELLED, LEASE_JOB_FAILED, LEASE_JOB_TIMEOUT,
						 LEASE_JOB_NODE_FAIL, LEASE_JOB_UNKNOWN};
	if (j->state < LEASE_JOB_CONFIGURING) {
		j->state = (enum lease_slurm)(LEASE_JOB_PENDING + policy_random(&w->random) % 4);
		return;
	}
	if (chance(w, 4)) {
		j->state = LEASE_JOB_REQUEUED;
		j->host = -1;
		j->in_view = false; // its host is gone, with what ran there
	} else if (chance(w, 2)) {
		end_job(j, ends[policy_random(&w->random) % VC_ARRAY_LEN(ends)]);
		w->lost++;
	} else {
		j->state = chance(w, 4) ? LEASE_JOB_SUSPENDED : LEASE_JOB_ENDING_SOON;
		j->end_ms = w->now_ms + 30000;
		w->preempted++;
	}
}

static void slurm_moves(struct world *w)
{
	for (uint32_t i = 0; i < w->n_jobs; i++) {
		struct fake_job *j = &w->jobs[i];
		bool pending = j->state >= LEASE_JOB_PENDING && j->state <= LEASE_JOB_REQUEUED;
		if (j->late && chance(w, 3)) {
			j->late = false;
			j->state = LEASE_JOB_PENDING;
			continue;
		}
		if (!lease_job_live(j->state))
			continue;
		if (fault(w, 60))
			disturb(w, j);
		else if (pending && (j->host = free_host(w)) >= 0)
			j->state = chance(w, 2) ? LEASE_JOB_CONFIGURING : LEASE_JOB_RUNNING;
		else if (j->state == LEASE_JOB_CONFIGURING)
			j->state = LEASE_JOB_RUNNING;
		else if (j->state == LEASE_JOB_COMPLETING)
			end_job(j, LEASE_JOB_COMPLETED);
		else if ((j->state == LEASE_JOB_ENDING_SOON || j->state == LEASE_JOB_SUSPENDED) && w->now_ms >= j->end_ms)
			end_job(j, LEASE_JOB_PREEMPTED);
	}
}

// Nobody waits for ever for an answer, a join or an end that a crash has lost.
static void check_progress(const struct world *w)
{
	for (size_t i = 0; i < w->book.n; i++) {
		const struct lease *l = &w->book.leases[i];
		bool passing = l->state == LEASE_SUBMITTED || l->state == LEASE_JOINING || l->state == LEASE_RELEASING;
		if (passing && w->now_ms - l->since_ms > STUCK_MS)
			fail_msg("at %lld: lease %llu is %s since %lld", (long long)w->now_ms, (unsigned long long)l->id,
				 lease_state_name(l->state), (long long)l->since_ms);
	}
}

static void count_unseen(struct world *w)
{
	check_progress(w);
	for (uint32_t i = 0; i < w->n_jobs; i++) {
		struct fake_job *j = &w->jobs[i];
		const struct lease *l = leasebook_find(&w->book, j->lease);
		bool counted = l && l->job == i + 1 && l->state >= LEASE_JOINING && l->state <= LEASE_RECLAIMING;
		bool over = !lease_job_live(j->state);
		j->unseen = over && (counted || j->in_view) ? j->unseen + 1 : 0;
	}
}

static void slurm_tells(struct world *w)
{
	static struct lease_job list[JOBS_MAX];
	struct vc_error err = VC_ERROR_INIT;
	size_t n = 0;
	if (fault(w, 5))
		return; // slurmctld is away
	for (uint32_t i = 0; i < w->n_jobs; i++) {
		const struct fake_job *j = &w->jobs[i];
		char host[16] = "";
		if (j->host >= 0)
			snprintf(host, sizeof(host), "n%d", j->host);
		if (j->state != LEASE_JOB_UNKNOWN) {
			list[n] = job_of(j->lease, i + 1, j->state, host);
			list[n++].end_ms = j->end_ms;
		}
	}
	assert_int_equal(leasebook_see(&w->book, list, n, w->book.count, w->now_ms, &err), 0);
	act(w);
	count_unseen(w);
}

static void users_want(struct world *w)
{
	struct vc_error err = VC_ERROR_INIT;
	uint32_t cluster = 1 + (uint32_t)(policy_random(&w->random) % CLUSTERS);
	if (w->cluster_alive[cluster] && chance(w, 3) && leasebook_count(&w->book, cluster, LEASE_WANTED, LEASE_HELD) < 4)
		assert_int_equal(leasebook_want(&w->book, cluster, 1, w->now_ms, &err), 0);
	else if (chance(w, 4))
		assert_true(leasebook_give_back(&w->book, cluster, 1, false, w->now_ms + 20000, w->now_ms, &err) >= 0);
	for (size_t i = 0; i < w->book.n; i++) {
		if (w->book.leases[i].state == LEASE_RECLAIMING && chance(w, 3)) {
			drop(w, w->book.leases[i].id); // its members have moved away
			tell(w, w->book.leases[i].id, LEASE_EV_EMPTY, 0);
		} else if (fault(w, 200))
			tell(w, w->book.leases[i].id, LEASE_EV_HOST_LOST, 0);
	}
	act(w);
}

static void one_round(struct world *w)
{
	struct vc_error err = VC_ERROR_INIT;
	w->now_ms += 5000;
	slurm_moves(w);
	slurm_tells(w);
	assert_int_equal(leasebook_tick(&w->book, w->now_ms, &err), 0);
	act(w);
	invariants(w);
}

static uint32_t live_jobs(const struct world *w)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < w->n_jobs; i++)
		n += lease_job_live(w->jobs[i].state);
	return n;
}

// Without faults each cluster gets what it asks for within ten rounds, and when all have ended nothing is left.
static void settle(struct world *w)
{
	struct vc_error err = VC_ERROR_INIT;
	w->faults = false;
	for (uint32_t c = 1; c <= CLUSTERS; c++)
		assert_true(leasebook_give_back(&w->book, c, 100, false, w->now_ms, w->now_ms, &err) >= 0);
	for (int i = 0; i < 20; i++)
		one_round(w);
	assert_int_equal(leasebook_want(&w->book, 1, HOSTS, w->now_ms, &err), 0);
	for (int i = 0; i < 10; i++)
		one_round(w);
	assert_int_equal(leasebook_count(&w->book, 1, LEASE_HELD, LEASE_HELD), HOSTS);
	for (uint32_t c = 1; c <= CLUSTERS; c++)
		assert_int_equal(leasebook_cluster_gone(&w->book, c, w->now_ms, &err), 0);
	for (uint32_t i = 0; i < w->n_jobs; i++)
		w->jobs[i].in_view = false; // the clusters' own release took the views along
	for (int i = 0; i < 10; i++)
		one_round(w);
	assert_int_equal(live_jobs(w), 0);
	for (uint32_t c = 1; c <= CLUSTERS; c++)
		assert_int_equal(leasebook_count(&w->book, c, LEASE_WANTED, LEASE_RELEASING), 0);
}

static void test_faults_at_each_step(void **state)
{
	(void)state;
	static struct world w;
	long crashes = 0, doubles = 0, preempted = 0, lost = 0;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		memset(&w, 0, sizeof(w));
		w.random = seed;
		w.faults = true;
		for (uint32_t c = 1; c <= CLUSTERS; c++)
			w.cluster_alive[c] = true;
		for (int round = 0; round < 300; round++) {
			one_round(&w);
			users_want(&w);
		}
		settle(&w);
		crashes += w.crashes;
		doubles += w.doubles;
		preempted += w.preempted;
		lost += w.lost;
		leasebook_clear(&w.book);
		json_object_put(w.saved);
	}
	// the walks have been where it hurts
	assert_true(crashes > 200 && preempted > 50 && lost > 50);
	assert_true(doubles > 0);
}

static void test_refuses_bad_books(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"{}", "{\"next_id\":1,\"leases\":[{}]}",
		"{\"next_id\":1,\"leases\":[{\"id\":1,\"cluster\":1,\"job\":1,\"host\":\"n\",\"state\":\"hold\",\"end\":\"\",\"since_ms\":0}]}"};
	for (size_t i = 0; i < VC_ARRAY_LEN(wrong); i++) {
		struct vc_error err = VC_ERROR_INIT;
		struct leasebook book = {0};
		vc_autojson struct json_object *obj = vc_json_parse(wrong[i], strlen(wrong[i]), &err);
		assert_non_null(obj);
		assert_int_equal(leasebook_from_json(obj, &book, &err), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cell),
		cmocka_unit_test(test_every_event),
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_submitted_twice),
		cmocka_unit_test(test_host_is_fenced),
		cmocka_unit_test(test_order_of_giving_back),
		cmocka_unit_test(test_faults_at_each_step),
		cmocka_unit_test(test_refuses_bad_books),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
