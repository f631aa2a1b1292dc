// SPDX-License-Identifier: GPL-2.0-or-later
// vcmembersim: runs the simulator over seeds. A failing seed is printed with what failed; the same seed fails the same way.
// --bugs runs every planted bug until the checker catches it, and fails when one is not caught.
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/parse.h"
#include "tests/sim/world.h"
#include "vcd/member/agree_bugs.h"

#define SETTLE_LIMIT (150 * SECOND) // world time after the last fault
#define SETTLE_LOOK (500 * MS)
#define FAILURES_SHOWN 10
#define JOBS_MAX 64

// `seed`: where it was caught last. The search begins there, and goes on when the code has changed since.
static const struct {
	const char *name;
	uint64_t seed;
} bugs[BUG_COUNT] = {
	[BUG_NONE] = {"none", 1},
	[BUG_FAST_MAJORITY] = {"fast-majority", 491},
	[BUG_HALF_IS_ENOUGH] = {"half-is-enough", 1},
	[BUG_VOTE_TWICE] = {"vote-twice", 1},
	[BUG_FORGET_FAST_VOTE] = {"forget-fast-vote", 1},
	[BUG_FORGET_PROMISE] = {"forget-promise", 1},
	[BUG_FORGET_VOTE] = {"forget-vote", 1},
	[BUG_STALE_BALLOT] = {"stale-ballot", 1},
	[BUG_FAST_AFTER_PROMISE] = {"fast-after-promise", 1},
	[BUG_IGNORE_FAST] = {"ignore-fast", 1},
	[BUG_IGNORE_VOTED] = {"ignore-voted", 1},
	[BUG_LOWEST_BALLOT] = {"lowest-ballot", 1916},
	[BUG_SAME_BALLOT] = {"same-ballot", 1},
	[BUG_CLAIM_ACKS] = {"claim-acks", 1},
	[BUG_DEPUTY_AT_ONCE] = {"deputy-at-once", 1},
	[BUG_MIXED_PROPOSALS] = {"mixed-proposals", 1},
	[BUG_JOIN_VOTES] = {"join-votes", 1},
	[BUG_GRANT_LOST] = {"grant-lost", 1558},
	[BUG_GRANT_TWICE] = {"grant-twice", 439},
	[BUG_RENEW_ALONE] = {"renew-alone", 1},
	[BUG_REUSE_EARLY] = {"reuse-early", 1},
	[BUG_NO_RETRY] = {"no-retry", 1},
	[BUG_NO_CATCH_UP] = {"no-catch-up", 1},
	[BUG_SUSPECT_FOREVER] = {"suspect-forever", 1},
	[BUG_LAZY_VOTE] = {"lazy-vote", 1},
};

struct options {
	uint64_t from, to, need, limit;
	int bug, jobs;
	bool bugs, verbose;
};

void run_seed(struct world *w, uint64_t seed, int bug, bool verbose)
{
	world_create(w, seed, bug);
	w->verbose = verbose;
	faults_plan(w);
	uint64_t look = 0;
	while (world_step(w)) {
		if (!w->quiet || w->now < look)
			continue;
		look = w->now + SETTLE_LOOK;
		bool settled = w->now >= w->quiet_at + 5 * SECOND && check_settled(w);
		if (settled && w->last)
			break;
		if (settled)
			faults_last(w);
		if (w->now > w->quiet_at + SETTLE_LIMIT)
			check_fail(w, "no common view %llu s after the last fault", (unsigned long long)(SETTLE_LIMIT / SECOND));
	}
	for (unsigned f = 0; f < F_CLASSES; f++) {
		bool did = w->stats.by_class[f] >> 63;
		w->stats.by_class[f] = (w->stats.by_class[f] & ~(1ull << 63)) + did;
	}
	w->stats.runs++;
}

static void say_hosts(const struct world *w)
{
	for (uint32_t i = 0; i < w->n; i++) {
		const struct sim_host *h = &w->hosts[i];
		char reason[160] = "down";
		if (!h->exists)
			continue;
		if (h->running)
			agree_reason(h->agree, world_local(w, h), reason, sizeof(reason));
		const struct hostview *v = h->disk.view;
		printf("  host %u%s%s: epoch %llu, incarnation %u, promised %llx, votes %s%s, view:", i, h->powered ? "" : " (no power)",
		       h->wants_in ? "" : " (leaves)", (unsigned long long)v->epoch, h->disk.incarnation,
		       (unsigned long long)h->disk.promised, h->disk.fast ? "fast " : "", h->disk.voted ? "ballot" : "");
		for (uint32_t k = 0; k < v->n_hosts; k++)
			if (v->hosts[k].state != HV_GONE)
				printf(" %u.%u%s/%u", v->hosts[k].id, v->hosts[k].incarnation, v->hosts[k].state == HV_LOST ? "(lost)" : "",
				       v->hosts[k].group);
		char facts[256] = "";
		if (h->running)
			agree_facts_text(h->agree, facts, sizeof(facts));
		printf("; %s; facts:%s\n", reason, facts);
	}
}

static void say_failure(const struct world *w)
{
	printf("seed %llu: %s (at %.3f s, %u hosts, faults:", (unsigned long long)w->seed, w->failure, (double)w->now / 1e6,
	       w->n_first);
	for (unsigned f = 0; f < F_CLASSES; f++)
		if (w->classes >> f & 1)
			printf(" %s", fault_names[f]);
	printf(")\n");
	if (w->verbose)
		say_hosts(w);
	fflush(stdout);
}

// Seeds from, from + step...; the number of failures. limit: stop at the first one.
static unsigned run_range(struct world *w, const struct options *o, uint64_t from, uint64_t step)
{
	unsigned failures = 0;
	for (uint64_t seed = from; seed <= o->to; seed += step) {
		run_seed(w, seed, o->bug, o->verbose);
		if (w->failure[0]) {
			if (failures++ < FAILURES_SHOWN)
				say_failure(w);
		} else if (o->verbose) {
			printf("seed %llu: %u hosts, %llu steps\n", (unsigned long long)seed, w->n_first, (unsigned long long)w->stats.steps);
		}
		world_clear(w);
	}
	return failures;
}

static struct world *new_world(void)
{
	struct world *w = calloc(1, sizeof(*w));
	if (!w)
		abort();
	return w;
}

// One process per job; each writes its counters into the pipe.
static int job(const struct options *o, int k, int fd)
{
	struct world *w = new_world();
	unsigned failures = run_range(w, o, o->from + (uint64_t)k, (uint64_t)o->jobs);
	ssize_t n = write(fd, &w->stats, sizeof(w->stats));
	free(w);
	return failures || n != sizeof(w->stats) ? 1 : 0;
}

static int start_jobs(const struct options *o, int *fds)
{
	for (int k = 0; k < o->jobs; k++) {
		int ends[2];
		if (pipe(ends) < 0)
			return -1;
		fflush(stdout);
		pid_t pid = fork();
		if (pid < 0)
			return -1;
		if (pid == 0) {
			close(ends[0]);
			int status = job(o, k, ends[1]);
			fflush(stdout);
			_exit(status);
		}
		close(ends[1]);
		fds[k] = ends[0];
	}
	return 0;
}

static bool add_up(const struct options *o, const int *fds, struct stats *sum)
{
	bool ok = true;
	for (int k = 0; k < o->jobs; k++) {
		struct stats s = {0};
		int status;
		ok &= read(fds[k], &s, sizeof(s)) == sizeof(s);
		close(fds[k]);
		ok &= wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
		sum->runs += s.runs;
		sum->messages += s.messages;
		sum->installs += s.installs;
		for (unsigned f = 0; f < F_CLASSES; f++)
			sum->by_class[f] += s.by_class[f];
	}
	return ok;
}

static int run_all(const struct options *o)
{
	int fds[JOBS_MAX];
	struct stats sum = {0};
	if (start_jobs(o, fds) < 0) {
		fprintf(stderr, "vcmembersim: no process: %s\n", strerror(errno));
		return 1;
	}
	bool ok = add_up(o, fds, &sum);
	printf("# %llu runs, %llu messages, %llu installs;", (unsigned long long)sum.runs, (unsigned long long)sum.messages,
	       (unsigned long long)sum.installs);
	for (unsigned f = 0; f < F_CLASSES; f++) {
		printf(" %s %llu", fault_names[f], (unsigned long long)sum.by_class[f]);
		if (ok && sum.by_class[f] < o->need) {
			printf(" (below %llu)", (unsigned long long)o->need);
			ok = false;
		}
	}
	printf("\n%sok 1 - membership: seeds %llu to %llu\n1..1\n", ok ? "" : "not ", (unsigned long long)o->from,
	       (unsigned long long)o->to);
	return ok ? 0 : 1;
}

static bool caught(const struct options *o, int bug)
{
	struct world *w = new_world();
	bool found = false;
	for (uint64_t seed = bugs[bug].seed; seed < bugs[bug].seed + o->limit && !found; seed++) {
		run_seed(w, seed, bug, false);
		found = w->failure[0];
		if (found)
			printf("# %s: seed %llu: %s\n", bugs[bug].name, (unsigned long long)seed, w->failure);
		world_clear(w);
	}
	free(w);
	return found;
}

static int run_bugs(const struct options *o)
{
	int missed = 0;
	for (int bug = 1; bug < BUG_COUNT; bug++) {
		bool found = caught(o, bug);
		printf("%sok %d - planted bug %s is caught\n", found ? "" : "not ", bug, bugs[bug].name);
		fflush(stdout);
		missed += !found;
	}
	printf("1..%d\n", BUG_COUNT - 1);
	return missed ? 1 : 0;
}

static int bug_from_name(const char *name)
{
	for (int i = 0; i < BUG_COUNT; i++)
		if (strcmp(name, bugs[i].name) == 0)
			return i;
	return -1;
}

static void usage(FILE *f)
{
	fprintf(f, "Example: vcmembersim --seeds 1-10000\n         vcmembersim --seeds 4711 --verbose\n\n"
		   "Usage: vcmembersim [--seeds FROM[-TO]] [--jobs N] [--need N] [--bug NAME | --bugs [--limit N]] [--verbose]\n"
		   "  --seeds   runs to make (1-1000)\n  --jobs    processes (1)\n"
		   "  --need    fail unless each class of faults happened in so many runs\n"
		   "  --bug     plant one bug; --bugs: each in turn, until it is caught, at most --limit runs (20000)\n");
}

static int parse_seeds(char *s, struct options *o, struct vc_error *err)
{
	char *dash = strchr(s, '-');
	if (dash)
		*dash = '\0';
	if (vc_parse_u64("--seeds", s, 0, INT64_MAX, &o->from, err) < 0)
		return -1;
	o->to = o->from;
	return dash ? vc_parse_u64("--seeds", dash + 1, o->from, INT64_MAX, &o->to, err) : 0;
}

static int parse(int argc, char **argv, struct options *o, struct vc_error *err)
{
	static const struct option table[] = {{"seeds", 1, NULL, 's'}, {"jobs", 1, NULL, 'j'}, {"need", 1, NULL, 'n'},
					      {"bug", 1, NULL, 'b'},   {"bugs", 0, NULL, 'B'}, {"limit", 1, NULL, 'l'},
					      {"verbose", 0, NULL, 'v'}, {"help", 0, NULL, 'h'}, {0}};
	int c, status = 0;
	while (status == 0 && (c = getopt_long(argc, argv, "h", table, NULL)) != -1) {
		if (c == 's')
			status = parse_seeds(optarg, o, err);
		else if (c == 'j')
			status = vc_parse_int("--jobs", optarg, 1, JOBS_MAX, &o->jobs, err);
		else if (c == 'n')
			status = vc_parse_u64("--need", optarg, 0, INT64_MAX, &o->need, err);
		else if (c == 'l')
			status = vc_parse_u64("--limit", optarg, 1, INT64_MAX, &o->limit, err);
		else if (c == 'b' && (o->bug = bug_from_name(optarg)) < 0)
			status = vc_error_set(err, VC_EUSER, "--bug: there is no bug '%s'", optarg);
		else if (c == 'B')
			o->bugs = true;
		else if (c == 'v')
			o->verbose = true;
		else if (c == 'h' || c == '?') {
			usage(c == 'h' ? stdout : stderr);
			exit(c == 'h' ? 0 : 2);
		}
	}
	return status;
}

int main(int argc, char **argv)
{
	struct options o = {.from = 1, .to = 1000, .limit = 20000, .jobs = 1};
	struct vc_error err;
	if (parse(argc, argv, &o, &err) < 0) {
		fprintf(stderr, "vcmembersim: %s\n", err.text);
		return 2;
	}
	return o.bugs ? run_bugs(&o) : run_all(&o);
}
