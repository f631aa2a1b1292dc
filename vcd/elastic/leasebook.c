// SPDX-License-Identifier: GPL-2.0-or-later
// The book of leases: see leasebook.h.
#include "vcd/elastic/leasebook.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"

static const unsigned all_todo[] = {LEASE_DROP, LEASE_SUBMIT, LEASE_CANCEL, LEASE_JOIN, LEASE_DRAIN};

// What a crash may have lost, by the state that was saved.
static const unsigned lost_todo[LEASE_STATES] = {
	[LEASE_PENDING] = LEASE_DROP, // it may have lost a host
	[LEASE_JOINING] = LEASE_JOIN,
	[LEASE_RECLAIMING] = LEASE_DRAIN,
	[LEASE_RELEASING] = LEASE_DROP | LEASE_CANCEL,
	[LEASE_ENDED] = LEASE_DROP,
};

void leasebook_clear(struct leasebook *book)
{
	free(book->leases);
	free(book->todo);
	*book = (struct leasebook){0};
}

struct lease *leasebook_find(const struct leasebook *book, uint64_t id)
{
	for (size_t i = 0; i < book->n; i++) {
		if (book->leases[i].id == id)
			return &book->leases[i];
	}
	return NULL;
}

static bool has_host(const struct lease *l)
{
	return l->host[0] && l->state >= LEASE_JOINING && l->state < LEASE_ENDED;
}

// --- to do ------------------------------------------------------------------------------------------------------------

static int queue(struct leasebook *book, const struct lease_todo *todo, struct vc_error *err)
{
	struct lease_todo *grown = reallocarray(book->todo, book->n_todo + 1, sizeof(*grown));
	if (!grown)
		return vc_error_errno(err, "leases");
	book->todo = grown;
	grown[book->n_todo++] = *todo;
	return 0;
}

static int queue_all(struct leasebook *book, const struct lease *l, unsigned todo, struct vc_error *err)
{
	struct lease_todo item = {.lease = l->id, .cluster = l->cluster, .job = l->job, .deadline_ms = l->deadline_ms};
	memcpy(item.host, l->host, sizeof(item.host));
	for (size_t i = 0; i < VC_ARRAY_LEN(all_todo); i++) {
		item.what = all_todo[i];
		bool useless = item.what == LEASE_CANCEL && l->job == 0;
		if ((todo & item.what) && !useless && queue(book, &item, err) < 0)
			return -1;
	}
	return 0;
}

static int apply(struct leasebook *book, struct lease *l, const struct lease_step *step, int64_t now_ms, struct vc_error *err)
{
	if (!step->valid)
		return 0;
	if (step->next != l->state || step->todo)
		l->changed = ++book->count;
	if (step->next != l->state)
		l->since_ms = now_ms;
	if (step->end != LEASE_END_NONE && l->end == LEASE_END_NONE)
		l->end = step->end;
	l->state = step->next;
	if (step->todo & LEASE_SUBMIT)
		l->flying = true;
	int rc = queue_all(book, l, step->todo, err);
	if (l->state < LEASE_JOINING)
		l->host[0] = '\0';
	return rc;
}

// --- wanting and giving back --------------------------------------------------------------------------------------------

int leasebook_want(struct leasebook *book, uint32_t cluster, uint32_t n, int64_t now_ms, struct vc_error *err)
{
	if (n > LEASEBOOK_MAX - book->n)
		return vc_error_set(err, VC_EBUSY, "%u more leases for job %u: there would be more than %d", n, cluster, LEASEBOOK_MAX);
	struct lease *grown = reallocarray(book->leases, book->n + n + 1, sizeof(*grown));
	if (!grown)
		return vc_error_errno(err, "leases");
	book->leases = grown;
	for (uint32_t i = 0; i < n; i++) {
		struct lease *l = &grown[book->n++];
		*l = (struct lease){.id = ++book->next_id, .cluster = cluster, .since_ms = now_ms, .deadline_ms = -1};
		struct lease_step step = lease_on_slurm(LEASE_WANTED, LEASE_JOB_UNKNOWN);
		if (apply(book, l, &step, now_ms, err) < 0)
			return -1;
	}
	return 0;
}

// The order of giving back: lower goes first; -1: not to be given back.
static int rank_of(const struct lease *l, bool idle_only)
{
	if (l->state <= LEASE_JOINING)
		return (int)l->state;
	if (l->state != LEASE_HELD || (idle_only && l->work != LEASE_WORK_NONE))
		return -1;
	return LEASE_STATES + (int)l->work;
}

static struct lease *next_back(const struct leasebook *book, uint32_t cluster, bool idle_only)
{
	struct lease *best = NULL;
	for (size_t i = 0; i < book->n; i++) {
		struct lease *l = &book->leases[i];
		int rank = l->cluster == cluster ? rank_of(l, idle_only) : -1;
		// of equals the youngest: it has the least on it
		if (rank >= 0 && (!best || rank <= rank_of(best, idle_only)))
			best = l;
	}
	return best;
}

static int reclaim(struct leasebook *book, struct lease *l, int64_t deadline_ms, int64_t now_ms, struct vc_error *err)
{
	if (l->deadline_ms < 0 || deadline_ms < l->deadline_ms)
		l->deadline_ms = deadline_ms;
	struct lease_step step = lease_on_event(l->state, LEASE_EV_RECLAIM);
	return apply(book, l, &step, now_ms, err);
}

int64_t leasebook_give_back(struct leasebook *book, uint32_t cluster, int64_t n, bool idle_only, int64_t deadline_ms,
			    int64_t now_ms, struct vc_error *err)
{
	int64_t found = 0;
	for (struct lease *l; found < n && (l = next_back(book, cluster, idle_only)); found++) {
		if (reclaim(book, l, deadline_ms, now_ms, err) < 0)
			return -1;
	}
	return found;
}

// --- what Slurm says ----------------------------------------------------------------------------------------------------

static bool host_taken(const struct leasebook *book, const struct lease *l, const char *host)
{
	for (size_t i = 0; i < book->n; i++) {
		const struct lease *o = &book->leases[i];
		if (o != l && has_host(o) && strcmp(o->host, host) == 0)
			return true;
	}
	return false;
}

static int cancel_stray(struct leasebook *book, const struct lease_job *job, struct vc_error *err)
{
	const struct lease_todo todo = {.what = LEASE_CANCEL, .lease = job->lease, .job = job->job, .deadline_ms = -1};
	return lease_job_live(job->state) && job->state != LEASE_JOB_COMPLETING ? queue(book, &todo, err) : 0;
}

static int see_job(struct leasebook *book, struct lease *l, const struct lease_job *job, int64_t now_ms, struct vc_error *err)
{
	bool moved = has_host(l) && job->host[0] && strcmp(l->host, job->host) != 0; // requeued and started between two lists
	struct lease_step step = lease_on_slurm(l->state, moved && lease_job_live(job->state) ? LEASE_JOB_REQUEUED : job->state);
	if (step.todo & LEASE_JOIN) {
		// Slurm frees a host before its former lease has cleaned up: join when it has
		if (!job->host[0] || host_taken(book, l, job->host))
			step = lease_on_slurm(l->state, LEASE_JOB_PENDING);
		else
			memcpy(l->host, job->host, sizeof(l->host));
	}
	if (step.todo & LEASE_DRAIN && (l->deadline_ms < 0 || job->end_ms < l->deadline_ms))
		l->deadline_ms = job->end_ms;
	return apply(book, l, &step, now_ms, err);
}

static int see_one(struct leasebook *book, const struct lease_job *job, int64_t now_ms, struct vc_error *err)
{
	struct lease *l = leasebook_find(book, job->lease);
	if (!l)
		return cancel_stray(book, job, err);
	if (l->job == 0)
		l->job = job->job;
	if (l->job != job->job) // submitted twice, as the first answer was lost
		return cancel_stray(book, job, err);
	return see_job(book, l, job, now_ms, err);
}

static bool is_named(const struct lease_job *jobs, size_t n, const struct lease *l)
{
	for (size_t i = 0; i < n; i++) {
		if (jobs[i].lease == l->id && (l->job == 0 || l->job == jobs[i].job))
			return true;
	}
	return false;
}

int leasebook_see(struct leasebook *book, const struct lease_job *jobs, size_t n, uint64_t asked, int64_t now_ms,
		  struct vc_error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (see_one(book, &jobs[i], now_ms, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < book->n; i++) {
		struct lease *l = &book->leases[i];
		if (l->state == LEASE_ENDED || l->flying || l->changed > asked || is_named(jobs, n, l))
			continue;
		struct lease_step step = lease_on_slurm(l->state, LEASE_JOB_UNKNOWN);
		if (apply(book, l, &step, now_ms, err) < 0)
			return -1;
	}
	return 0;
}

// --- what happens elsewhere ------------------------------------------------------------------------------------------------

int leasebook_event(struct leasebook *book, uint64_t id, enum lease_event event, uint32_t job, int64_t now_ms, struct vc_error *err)
{
	struct lease *l = leasebook_find(book, id);
	if (!l)
		return 0; // forgotten: nothing hangs on it
	if (event <= LEASE_EV_NO_ANSWER)
		l->flying = false;
	if (event == LEASE_EV_ACCEPTED && l->job == 0)
		l->job = job;
	struct lease_step step = lease_on_event(l->state, event);
	return apply(book, l, &step, now_ms, err);
}

int leasebook_cluster_gone(struct leasebook *book, uint32_t cluster, int64_t now_ms, struct vc_error *err)
{
	for (size_t i = 0; i < book->n; i++) {
		struct lease *l = &book->leases[i];
		struct lease_step step = lease_on_event(l->state, LEASE_EV_CLUSTER_GONE);
		if (l->cluster == cluster && apply(book, l, &step, now_ms, err) < 0)
			return -1;
	}
	return 0;
}

static void forget(struct leasebook *book, int64_t now_ms)
{
	size_t kept = 0;
	for (size_t i = 0; i < book->n; i++) {
		if (book->leases[i].state != LEASE_ENDED || now_ms - book->leases[i].since_ms < LEASEBOOK_KEEP_MS)
			book->leases[kept++] = book->leases[i];
	}
	book->n = kept;
}

int leasebook_tick(struct leasebook *book, int64_t now_ms, struct vc_error *err)
{
	for (size_t i = 0; i < book->n; i++) {
		struct lease *l = &book->leases[i];
		if (l->state != LEASE_RECLAIMING || l->deadline_ms < 0 || now_ms < l->deadline_ms)
			continue;
		struct lease_step step = lease_on_event(l->state, LEASE_EV_DEADLINE);
		if (apply(book, l, &step, now_ms, err) < 0)
			return -1;
	}
	forget(book, now_ms);
	return 0;
}

uint32_t leasebook_count(const struct leasebook *book, uint32_t cluster, enum lease_state first, enum lease_state last)
{
	uint32_t n = 0;
	for (size_t i = 0; i < book->n; i++) {
		const struct lease *l = &book->leases[i];
		n += l->cluster == cluster && l->state >= first && l->state <= last;
	}
	return n;
}

// --- invariants -----------------------------------------------------------------------------------------------------------

static int check_lease(const struct leasebook *book, const struct lease *l, struct vc_error *err)
{
	unsigned long long id = l->id;
	bool joined = l->state >= LEASE_JOINING && l->state <= LEASE_RECLAIMING;
	if (leasebook_find(book, l->id) != l)
		return vc_error_set(err, VC_EFAILED, "lease %llu is there twice", id);
	if (joined && (l->job == 0 || !l->host[0]))
		return vc_error_set(err, VC_EFAILED, "lease %llu is %s without job or host", id, lease_state_name(l->state));
	if (has_host(l) && host_taken(book, l, l->host))
		return vc_error_set(err, VC_EFAILED, "host %s is in lease %llu and in another", l->host, id);
	if (l->state >= LEASE_RELEASING && l->end == LEASE_END_NONE)
		return vc_error_set(err, VC_EFAILED, "lease %llu is %s without a reason", id, lease_state_name(l->state));
	if (l->state == LEASE_RECLAIMING && l->deadline_ms < 0)
		return vc_error_set(err, VC_EFAILED, "lease %llu is reclaimed without a deadline", id);
	return 0;
}

int leasebook_check(const struct leasebook *book, uint32_t pool, struct vc_error *err)
{
	uint32_t hosts = 0;
	for (size_t i = 0; i < book->n; i++) {
		if (check_lease(book, &book->leases[i], err) < 0)
			return -1;
		hosts += has_host(&book->leases[i]);
	}
	return hosts <= pool ? 0 : vc_error_set(err, VC_EFAILED, "leases hold %u hosts of a pool of %u", hosts, pool);
}

// --- JSON -----------------------------------------------------------------------------------------------------------------

static struct json_object *lease_to_json(const struct lease *l)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_u64(obj, "id", l->id);
	vc_json_add_u64(obj, "cluster", l->cluster);
	vc_json_add_u64(obj, "job", l->job);
	vc_json_add_str(obj, "host", l->host);
	vc_json_add_str(obj, "state", lease_state_name(l->state));
	vc_json_add_str(obj, "end", lease_end_name(l->end));
	vc_json_add_u64(obj, "since_ms", (uint64_t)l->since_ms);
	if (l->deadline_ms >= 0)
		vc_json_add_u64(obj, "deadline_ms", (uint64_t)l->deadline_ms);
	return obj;
}

struct json_object *leasebook_to_json(const struct leasebook *book)
{
	struct json_object *obj = json_object_new_object(), *array = json_object_new_array();
	for (size_t i = 0; i < book->n; i++)
		json_object_array_add(array, lease_to_json(&book->leases[i]));
	vc_json_add_u64(obj, "next_id", book->next_id);
	vc_json_add(obj, "leases", array);
	return obj;
}

static int read_name(struct json_object *obj, const char *key, int n, const char *(*name_of)(int), int *ret, struct vc_error *err)
{
	const char *name;
	if (vc_json_str(obj, key, VC_NAME_MAX, &name, err) < 0)
		return -1;
	for (int i = 0; i < n; i++) {
		if (strcmp(name_of(i), name) == 0) {
			*ret = i;
			return 0;
		}
	}
	return vc_error_set(err, VC_EPROTO, "'%s' is no %s of a lease", name, key);
}

static const char *state_name(int i)
{
	return lease_state_name((enum lease_state)i);
}

static const char *end_name(int i)
{
	return lease_end_name((enum lease_end)i);
}

static int lease_from_json(struct json_object *obj, struct lease *l, struct vc_error *err)
{
	const char *host;
	int state = 0, end = 0;
	uint64_t since, deadline = UINT64_MAX;
	if (vc_json_u64(obj, "id", UINT64_MAX, &l->id, err) < 0 || vc_json_u32(obj, "cluster", UINT32_MAX, &l->cluster, err) < 0 ||
	    vc_json_u32(obj, "job", UINT32_MAX, &l->job, err) < 0 || vc_json_str(obj, "host", VC_NAME_MAX, &host, err) < 0 ||
	    read_name(obj, "state", LEASE_STATES, state_name, &state, err) < 0 ||
	    read_name(obj, "end", LEASE_ENDS, end_name, &end, err) < 0 || vc_json_u64(obj, "since_ms", INT64_MAX, &since, err) < 0 ||
	    vc_json_u64_opt(obj, "deadline_ms", INT64_MAX, &deadline, err) < 0)
		return -1;
	l->state = (enum lease_state)state;
	l->end = (enum lease_end)end;
	l->since_ms = (int64_t)since;
	l->deadline_ms = deadline == UINT64_MAX ? -1 : (int64_t)deadline;
	snprintf(l->host, sizeof(l->host), "%s", host);
	return 0;
}

static int read_leases(struct json_object *obj, struct leasebook *book, struct vc_error *err)
{
	struct json_object *array;
	if (vc_json_u64(obj, "next_id", UINT64_MAX, &book->next_id, err) < 0 ||
	    vc_json_array(obj, "leases", LEASEBOOK_MAX, &array, err) < 0)
		return -1;
	book->leases = calloc(json_object_array_length(array) + 1, sizeof(*book->leases));
	if (!book->leases)
		return vc_error_errno(err, "leases");
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		struct lease *l = &book->leases[book->n++];
		if (lease_from_json(json_object_array_get_idx(array, i), l, err) < 0)
			return vc_error_wrap(err, "lease %zu", i);
	}
	return 0;
}

// Drops before joins: a host may be on its way from one lease to another.
static int queue_lost(struct leasebook *book, struct vc_error *err)
{
	for (size_t k = 0; k < VC_ARRAY_LEN(all_todo); k++) {
		for (size_t i = 0; i < book->n; i++) {
			if (queue_all(book, &book->leases[i], lost_todo[book->leases[i].state] & all_todo[k], err) < 0)
				return -1;
		}
	}
	return 0;
}

int leasebook_from_json(struct json_object *obj, struct leasebook *ret, struct vc_error *err)
{
	struct leasebook book = {0};
	if (read_leases(obj, &book, err) < 0 || queue_lost(&book, err) < 0) {
		leasebook_clear(&book);
		return -1;
	}
	*ret = book;
	return 0;
}
