// SPDX-License-Identifier: GPL-2.0-or-later
// What is done for leases: calls of slurmctld in workers, hosts into the clusters and out of them. See leases_int.h.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "vcd/elastic/params.h"
#include "vcd/fault.h"
#include "vcd/grow.h"
#include "vcd/leases_int.h"
#include "vcd/slurmctl.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

// One call of slurmctld. Belongs to the worker's job; what run() writes is read in done() only when it returned.
struct lease_op {
	struct lease_op *next;
	struct leases *owner; // NULL: vcd stops
	struct slurmctl *slurmctl;
	struct work_job *work;
	void (*done)(struct leases *l, struct lease_op *op, const struct vc_error *err);
	uint64_t lease;
	uint32_t job;	   // to load or cancel; what a submission got
	uint32_t primary;
	uid_t uid;
	// submit
	char cluster[PLAN_ID_LEN + 1];
	char *exclude, *exclude_least;
	uint32_t cpus;
	// look
	struct slurmlease_owner *owners;
	size_t n_owners;
	struct lease_job *jobs;
	size_t n_jobs;
	uint64_t asked;
	// load
	struct slurmctl_job *loaded;
};

static void op_unlink(struct lease_op *op)
{
	for (struct lease_op **p = &op->owner->ops; *p; p = &(*p)->next) {
		if (*p == op) {
			*p = op->next;
			return;
		}
	}
}

static void op_release(void *ctx)
{
	struct lease_op *op = ctx;
	slurmctl_job_destroy(op->loaded);
	free(op->exclude);
	free(op->exclude_least);
	free(op->owners);
	free(op->jobs);
	free(op);
}

static void op_done(void *ctx, const struct vc_error *err)
{
	struct lease_op *op = ctx;
	struct leases *l = op->owner;
	op_unlink(op);
	op->done(l, op, err);
}

// op is taken. -1: done() will not be called.
static int op_start(struct leases *l, struct lease_op *op, const char *what, int (*run)(void *ctx, struct vc_error *err),
		    struct vc_error *err)
{
	op->owner = l;
	op->slurmctl = l->slurmctl;
	op->next = l->ops;
	l->ops = op;
	struct work_args args = {.pool = WORK_GENERAL, .what = what, .deadline_ms = LEASES_SLURM_MS, .run = run, .done = op_done,
				 .release = op_release, .ctx = op};
	if (work_submit(l->vcd->work, &args, &op->work, err) == 0)
		return 0;
	op_unlink(op);
	op_release(op);
	return -1;
}

void leases_stop_work(struct leases *l)
{
	while (l->ops) {
		struct lease_op *op = l->ops;
		op_unlink(op);
		work_cancel(op->work);
	}
}

// --- looking at slurmctld ---------------------------------------------------------------------------------------------

static int look_run(void *ctx, struct vc_error *err)
{
	struct lease_op *op = ctx;
	return slurmlease_list(op->slurmctl, op->owners, op->n_owners, &op->jobs, &op->n_jobs, err);
}

// SIGTERM of a step for which slurmctld shows no reason: its owner wants the host to be given back.
static void reclaim_signalled(struct leases *l)
{
	for (size_t i = 0; i < l->book.n; i++) {
		struct lease *lease = &l->book.leases[i];
		struct lease_run *run = leases_run(l, lease->id);
		if (!run || !run->term)
			continue;
		run->term = false;
		if (lease->state != LEASE_HELD)
			continue;
		struct vc_error err = VC_ERROR_INIT;
		lease->deadline_ms = leases_now() + sizer_params(l->sizer)->deadline_ms;
		(void)leasebook_event(&l->book, lease->id, LEASE_EV_RECLAIM, 0, leases_now(), &err);
	}
}

// Slurm gave it a host that another lease has: that job goes, and a lease of another host is wanted instead.
static void avoid_clash(struct leases *l, const struct lease_job *job)
{
	struct vc_error err = VC_ERROR_INIT;
	struct lease *lease = leasebook_find(&l->book, job->lease);
	bool has_host = job->state == LEASE_JOB_CONFIGURING || job->state == LEASE_JOB_RUNNING;
	if (!lease || lease->job != job->job || lease->state != LEASE_PENDING || !has_host || !job->host[0])
		return;
	for (size_t i = 0; i < l->book.n; i++) {
		const struct lease *o = &l->book.leases[i];
		if (o == lease || strcmp(o->host, job->host) != 0 || o->state < LEASE_JOINING || o->state > LEASE_HELD)
			continue; // one that is on its way out is waited for
		uint32_t cluster = lease->cluster;
		vc_log_notice("job %u: lease %llu got host %s, which is in another lease: another is wanted", cluster,
			      (unsigned long long)lease->id, job->host);
		if (leasebook_event(&l->book, lease->id, LEASE_EV_RECLAIM, 0, leases_now(), &err) < 0 ||
		    leasebook_want(&l->book, cluster, 1, leases_now(), &err) < 0)
			vc_log_err("leases: %s", err.text);
		return;
	}
}

static void look_done(struct leases *l, struct lease_op *op, const struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	l->looking = false;
	if (err)
		vc_log_warning("leases: %s", err->text); // slurmctld is away: what is held stays held
	else if (leasebook_see(&l->book, op->jobs, op->n_jobs, op->asked, leases_now(), &why) < 0)
		vc_log_err("leases: %s", why.text);
	for (size_t i = 0; !err && i < op->n_jobs; i++)
		avoid_clash(l, &op->jobs[i]);
	if (!err)
		reclaim_signalled(l);
	leases_settle(l);
	if (l->look_again)
		leases_look(l);
}

static int fill_owners(const struct leases *l, struct lease_op *op, struct vc_error *err)
{
	size_t n = 0;
	for (const struct lease_cluster *c = l->clusters; c; c = c->next)
		n++;
	op->owners = calloc(n + 1, sizeof(*op->owners));
	if (!op->owners)
		return vc_error_errno(err, "leases");
	for (const struct lease_cluster *c = l->clusters; c; c = c->next) {
		if (leasebook_count(&l->book, c->job, LEASE_WANTED, LEASE_RELEASING) == 0)
			continue;
		struct slurmlease_owner *o = &op->owners[op->n_owners++];
		o->uid = c->uid;
		o->primary = c->job;
		memcpy(o->cluster, c->id, sizeof(o->cluster));
	}
	return 0;
}

void leases_look(struct leases *l)
{
	struct vc_error err = VC_ERROR_INIT;
	l->look_again = l->looking;
	if (l->looking)
		return;
	l->look_ms = uv_now(&l->vcd->loop);
	struct lease_op *op = calloc(1, sizeof(*op));
	if (!op)
		return;
	op->done = look_done;
	op->asked = l->book.count;
	if (fill_owners(l, op, &err) < 0) {
		op_release(op);
		return;
	}
	l->looking = op_start(l, op, "ask slurmctld for the jobs of leases", look_run, &err) == 0;
	if (!l->looking)
		vc_log_warning("leases: %s", err.text);
}

// --- submitting -----------------------------------------------------------------------------------------------------------

static int submit_run(void *ctx, struct vc_error *err)
{
	struct lease_op *op = ctx;
	const struct slurmlease_args args = {.primary = op->primary, .uid = op->uid, .cluster = op->cluster, .lease = op->lease,
					     .cpus = op->cpus, .exclude = op->exclude, .exclude_least = op->exclude_least};
	int rc = slurmlease_submit(op->slurmctl, &args, &op->job, err);
	if (rc == 0 && VC_FAULT("lease-submitted")) // the answer got lost
		return vc_error_set(err, VC_EHOST, "fault point lease-submitted");
	return rc;
}

static void submit_done(struct leases *l, struct lease_op *op, const struct vc_error *err)
{
	struct lease_run *run = leases_run(l, op->lease);
	if (run)
		run->submitting = false;
	if (!err)
		vc_log_notice("job %u: lease %llu is job %u, submitted for uid %u", op->primary, (unsigned long long)op->lease, op->job,
			      op->uid);
	leases_event(l, op->lease, !err ? LEASE_EV_ACCEPTED : err->code == VC_EUSER ? LEASE_EV_REFUSED : LEASE_EV_NO_ANSWER,
		     err ? 0 : op->job, err);
	leases_look(l);
}

// The hosts that the cluster has, and those of all leases up to `last`: a host is in one lease at most.
static char *exclude_list(const struct leases *l, const struct clusters_look *look, enum lease_state last)
{
	char *list = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&list, &len);
	if (!f)
		return NULL;
	for (size_t i = 0; i < look->plan->n_hosts; i++) {
		if (!look->plan->hosts[i].gone)
			fprintf(f, "%s%s", ftell(f) ? "," : "", look->plan->hosts[i].name);
	}
	for (size_t i = 0; i < l->book.n; i++) {
		const struct lease *o = &l->book.leases[i];
		if (o->host[0] && o->state >= LEASE_JOINING && o->state <= last)
			fprintf(f, "%s%s", ftell(f) ? "," : "", o->host);
	}
	if (fclose(f) != 0) {
		free(list);
		return NULL;
	}
	return list;
}

// Two jobs of one cluster would be put on one host where hosts are shared: the next one excludes the host of the one before.
static bool other_without_host(struct leases *l, uint32_t cluster, uint64_t lease)
{
	for (size_t i = 0; i < l->book.n; i++) {
		const struct lease *o = &l->book.leases[i];
		struct lease_run *run = o->cluster == cluster && o->id != lease ? leases_run(l, o->id) : NULL;
		if (run && (o->state == LEASE_PENDING || (o->state == LEASE_SUBMITTED && run->submitting)))
			return true;
	}
	return false;
}

static void submit(struct leases *l, const struct lease_todo *todo)
{
	struct vc_error err = VC_ERROR_INIT;
	struct clusters_look look;
	struct lease_run *run = leases_run(l, todo->lease);
	if (!run || (run->deferred = other_without_host(l, todo->cluster, todo->lease)))
		return; // it stays "submitted": a restarted controller submits it again
	const struct lease_cluster *c = leases_cluster(l, todo->cluster);
	if (!c || !clusters_look(l->vcd->clusters, todo->cluster, &look) || look.over || strcmp(look.id, c->id) != 0) {
		vc_error_set(&err, VC_EUSER, "its cluster has ended");
		leases_event(l, todo->lease, LEASE_EV_REFUSED, 0, &err);
		return;
	}
	struct lease_op *op = calloc(1, sizeof(*op));
	char *exclude = exclude_list(l, &look, LEASE_RECLAIMING), *least = exclude_list(l, &look, LEASE_HELD);
	if (!op || !exclude || !least) {
		free(op);
		free(exclude);
		free(least);
		leases_event(l, todo->lease, LEASE_EV_NO_ANSWER, 0, NULL);
		return;
	}
	*op = (struct lease_op){.done = submit_done, .lease = todo->lease, .primary = todo->cluster, .uid = c->uid,
				.cpus = look.plan->hosts[0].cpus, .exclude = exclude,
				.exclude_least = least};
	memcpy(op->cluster, c->id, sizeof(op->cluster));
	run->submitting = op_start(l, op, "submit a lease's job", submit_run, &err) == 0;
	if (!run->submitting)
		leases_event(l, todo->lease, LEASE_EV_NO_ANSWER, 0, &err);
}

void leases_submit_deferred(struct leases *l)
{
	for (size_t i = 0; i < l->book.n; i++) {
		const struct lease *lease = &l->book.leases[i];
		struct lease_run *run = leases_run(l, lease->id);
		if (!run || !run->deferred)
			continue;
		if (lease->state == LEASE_SUBMITTED) {
			const struct lease_todo todo = {.what = LEASE_SUBMIT, .lease = lease->id, .cluster = lease->cluster};
			submit(l, &todo);
			continue;
		}
		run->deferred = false;
		if (lease->state == LEASE_RELEASING) // given back before it was submitted at all
			leases_event(l, lease->id, LEASE_EV_REFUSED, 0, NULL);
	}
}

// --- cancelling ---------------------------------------------------------------------------------------------------------

static int cancel_run(void *ctx, struct vc_error *err)
{
	struct lease_op *op = ctx;
	return slurmlease_cancel(op->slurmctl, op->job, err);
}

static void cancel_done(struct leases *l, struct lease_op *op, const struct vc_error *err)
{
	(void)l;
	if (err)
		vc_log_warning("job %u: %s", op->job, err->text); // the next look tries again
}

void leases_cancel_job(struct leases *l, uint32_t job)
{
	struct vc_error err = VC_ERROR_INIT;
	struct lease_op *op = calloc(1, sizeof(*op));
	if (!op)
		return;
	op->done = cancel_done;
	op->job = job;
	if (op_start(l, op, "cancel a job", cancel_run, &err) < 0)
		vc_log_warning("job %u: %s", job, err.text);
}

static bool step_waits(const struct leases *l, uint64_t lease)
{
	for (const struct lease_waiter *w = l->waiters; w; w = w->next) {
		if (w->lease == lease && w->what == LEASE_WAIT_END)
			return true;
	}
	return false;
}

// A lease whose step listens ends by itself, COMPLETED in the accounting; only one that does not is cancelled.
static void cancel(struct leases *l, const struct lease_todo *todo)
{
	const struct lease *lease = leasebook_find(&l->book, todo->lease);
	struct lease_run *run = lease ? leases_run(l, todo->lease) : NULL;
	uint64_t now = uv_now(&l->vcd->loop);
	bool stray = !lease || lease->job != todo->job;
	if (!stray && run && !run->quit_ms && step_waits(l, todo->lease))
		run->quit_ms = now;
	if (!stray && run && run->quit_ms && now - run->quit_ms < LEASES_QUIT_MS)
		return;
	leases_cancel_job(l, todo->job);
}

// --- joining ------------------------------------------------------------------------------------------------------------

static void joined(void *ctx, const struct vc_error *err)
{
	struct lease_run *run = ctx;
	run->joining = false;
	leases_event(run->owner, run->lease, err ? LEASE_EV_JOIN_FAILED : LEASE_EV_JOINED, 0, err);
}

static int load_run(void *ctx, struct vc_error *err)
{
	struct lease_op *op = ctx;
	return slurmctl_load_job(op->slurmctl, op->job, &op->loaded, err);
}

static int check_loaded(const struct lease_op *op, const struct lease *lease, struct vc_error *err)
{
	if (op->loaded->uid != op->uid)
		return vc_error_set(err, VC_EDENIED, "job %u is of uid %u, its lease of uid %u", op->job, op->loaded->uid, op->uid);
	if (op->loaded->n_hosts != 1 || strcmp(op->loaded->hosts[0].name, lease->host) != 0)
		return vc_error_set(err, VC_EHOST, "job %u is not on host %s alone", op->job, lease->host);
	return 0;
}

static void load_done(struct leases *l, struct lease_op *op, const struct vc_error *err)
{
	const struct lease *lease = leasebook_find(&l->book, op->lease);
	struct lease_run *run = lease ? leases_run(l, op->lease) : NULL;
	struct vc_error why = err ? *err : (struct vc_error)VC_ERROR_INIT;
	if (!run)
		return;
	run->loading = false;
	if (lease->state != LEASE_JOINING)
		return; // taken back meanwhile
	struct grow_args args = {.job = lease->cluster, .lease = lease->id, .done = joined, .ctx = run};
	if (!err && check_loaded(op, lease, &why) == 0) {
		args.hosts = op->loaded->hosts;
		args.n_hosts = 1;
		if (grow_start(l->vcd->clusters, &args, &why) == 0) {
			run->joining = true;
			return;
		}
	}
	leases_event(l, lease->id, LEASE_EV_JOIN_FAILED, 0, &why);
}

static void join(struct leases *l, const struct lease_todo *todo)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct lease_cluster *c = leases_cluster(l, todo->cluster);
	struct lease_run *run = leases_run(l, todo->lease);
	struct lease_op *op = calloc(1, sizeof(*op));
	if (!c || !run || !op || run->loading || run->joining) {
		free(op);
		return;
	}
	*op = (struct lease_op){.done = load_done, .lease = todo->lease, .job = todo->job, .primary = todo->cluster, .uid = c->uid};
	run->loading = op_start(l, op, "ask slurmctld for a lease's host", load_run, &err) == 0;
	if (!run->loading)
		leases_event(l, todo->lease, LEASE_EV_JOIN_FAILED, 0, &err);
}

// --- leaving ----------------------------------------------------------------------------------------------------------

static void left(void *ctx, const struct vc_error *err)
{
	struct lease_run *run = ctx;
	run->leaving = false;
	if (err)
		vc_log_warning("lease %llu: its host: %s", (unsigned long long)run->lease, err->text);
	leases_event(run->owner, run->lease, LEASE_EV_EMPTY, 0, NULL);
}

static void leave(struct leases *l, const struct lease_todo *todo)
{
	struct vc_error err = VC_ERROR_INIT;
	struct lease_run *run = leases_run(l, todo->lease);
	int64_t rest = todo->what == LEASE_DRAIN ? todo->deadline_ms - leases_now() : 0;
	struct shrink_args args = {.job = todo->cluster, .lease = todo->lease, .deadline_ms = rest > 0 ? (uint64_t)rest : 0,
				   .reason = todo->what == LEASE_DRAIN ? "its host is reclaimed" : "its host is given up",
				   .done = left, .ctx = run};
	const struct elastic_params *params = sizer_params(l->sizer);
	if (!run)
		return;
	args.slack = (struct grow_slack){params->mem_slack, params->squeeze};
	if (run->leaving)
		args.done = NULL; // the earlier deadline counts; the first call tells the end
	if (grow_shrink(l->vcd->clusters, &args, &err) == 0)
		run->leaving = true;
	else if (todo->what == LEASE_DRAIN)
		leases_event(l, todo->lease, LEASE_EV_EMPTY, 0, NULL); // there is no such part: nothing to wait for
}

void leases_do(struct leases *l, const struct lease_todo *todo)
{
	static const struct {
		unsigned what;
		void (*run)(struct leases *l, const struct lease_todo *todo);
	} works[] = {{LEASE_DROP, leave}, {LEASE_SUBMIT, submit}, {LEASE_CANCEL, cancel}, {LEASE_JOIN, join}, {LEASE_DRAIN, leave}};
	for (size_t i = 0; i < VC_ARRAY_LEN(works); i++) {
		if (works[i].what == todo->what)
			works[i].run(l, todo);
	}
}
