// SPDX-License-Identifier: GPL-2.0-or-later
// Traces: see trace.h.
#include "cmd/vcsim/trace.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"
#include "vcd/elastic/policy.h"

#define DAY_MS (24 * 3600000L)
#define RUN_MIN_MS 10000
#define RUN_MAX_MS (8 * 3600000L)
#define RUN_MEDIAN_MS 900000.0
#define RUN_SIGMA 1.5 // of the natural logarithm: one job in ten is above 100 minutes, one in ten below two
#define ESTIMATE_STEP_MS 300000
#define SWF_FIELDS 18
#define SWF_LINE_MAX 1024

// --- the model --------------------------------------------------------------------------------------------------------

static double uniform(uint64_t *seed)
{
	return ((double)(policy_random(seed) >> 11) + 0.5) / 9007199254740992.0;
}

static double normal(uint64_t *seed)
{
	double u = uniform(seed), v = uniform(seed);
	return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

static uint32_t draw_hosts(const struct trace_model *m, uint64_t *seed)
{
	if (uniform(seed) < 0.25)
		return 1;
	double power = uniform(seed) * log2(m->max_hosts);
	if (uniform(seed) < 0.75)
		power = round(power);
	double hosts = round(exp2(power));
	return hosts < 1 ? 1 : hosts > m->max_hosts ? m->max_hosts : (uint32_t)hosts;
}

static int64_t draw_run(uint64_t *seed)
{
	double ms = RUN_MEDIAN_MS * exp(RUN_SIGMA * normal(seed));
	return ms < RUN_MIN_MS ? RUN_MIN_MS : ms > RUN_MAX_MS ? RUN_MAX_MS : (int64_t)(ms / 1000) * 1000;
}

static int64_t draw_estimate(int64_t run_ms, uint64_t *seed)
{
	double ms = (double)run_ms * (1 + 4 * uniform(seed));
	return ((int64_t)ms / ESTIMATE_STEP_MS + 1) * ESTIMATE_STEP_MS;
}

// A time with density 1 + swing * sin(day), by rejection.
static int64_t draw_submit(const struct trace_model *m, uint32_t group, uint64_t *seed)
{
	double swing = m->swing / 1000.0, shift = m->out_of_phase ? (double)group / m->groups : 0;
	for (;;) {
		double day = uniform(seed) * m->days;
		if (uniform(seed) * (1 + swing) < 1 + swing * sin(2 * M_PI * (day + shift)))
			return (int64_t)(day * 86400) * 1000;
	}
}

static int by_submit(const void *a, const void *b)
{
	const struct trace_job *p = a, *q = b;
	if (p->submit_ms != q->submit_ms)
		return p->submit_ms < q->submit_ms ? -1 : 1;
	return p->id < q->id ? -1 : p->id > q->id;
}

static int add_job(struct trace *t, size_t *room, const struct trace_job *job, struct vc_error *err)
{
	if (t->n == TRACE_JOBS_MAX)
		return vc_error_set(err, VC_EUSER, "a trace of more than %d jobs", TRACE_JOBS_MAX);
	if (t->n == *room) {
		size_t more = *room ? *room * 2 : 1024;
		struct trace_job *grown = reallocarray(t->jobs, more, sizeof(*grown));
		if (!grown)
			return vc_error_errno(err, "trace");
		t->jobs = grown;
		*room = more;
	}
	t->jobs[t->n++] = *job;
	return 0;
}

static void number_jobs(struct trace *t)
{
	qsort(t->jobs, t->n, sizeof(*t->jobs), by_submit);
	for (size_t i = 0; i < t->n; i++)
		t->jobs[i].id = (uint32_t)i + 1;
}

int trace_make(const struct trace_model *m, struct trace *ret, struct vc_error *err)
{
	struct trace t = {0};
	size_t room = 0;
	double part = (double)m->pool * m->days * DAY_MS * m->load / 1000.0 / m->groups;
	for (uint32_t g = 0; g < m->groups; g++) {
		uint64_t seed = m->seed * 1000003 + g;
		for (double work = 0; work < part;) {
			struct trace_job job = {.id = (uint32_t)t.n, .group = g, .hosts = draw_hosts(m, &seed), .run_ms = draw_run(&seed)};
			job.estimate_ms = draw_estimate(job.run_ms, &seed);
			job.submit_ms = draw_submit(m, g, &seed);
			work += (double)job.hosts * (double)job.run_ms;
			if (add_job(&t, &room, &job, err) < 0) {
				trace_clear(&t);
				return -1;
			}
		}
	}
	number_jobs(&t);
	*ret = t;
	return 0;
}

// --- SWF --------------------------------------------------------------------------------------------------------------

static int read_fields(char *line, unsigned number, int64_t *fields, struct vc_error *err)
{
	char *save = NULL, *word = strtok_r(line, " \t\r\n", &save);
	for (int i = 0; i < SWF_FIELDS; i++, word = strtok_r(NULL, " \t\r\n", &save)) {
		uint64_t value = 0;
		bool negative = word && word[0] == '-';
		if (!word)
			return vc_error_set(err, VC_EUSER, "line %u has %d fields, SWF has %d", number, i, SWF_FIELDS);
		char *point = strchr(word, '.'); // averages may have decimals
		if (point)
			*point = '\0';
		if (vc_parse_u64("field", word + negative, 0, TRACE_SECONDS_MAX, &value, err) < 0)
			return vc_error_wrap(err, "line %u, field %d", number, i + 1);
		fields[i] = negative ? -(int64_t)value : (int64_t)value;
	}
	return 0;
}

static int read_line(struct trace *t, size_t *room, char *line, unsigned number, uint32_t groups, uint32_t max_hosts,
		     struct vc_error *err)
{
	int64_t f[SWF_FIELDS];
	if (read_fields(line, number, f, err) < 0)
		return -1;
	int64_t hosts = f[4] > 0 ? f[4] : f[7], run = f[3], estimate = f[8] > run ? f[8] : run;
	if (hosts <= 0 || run <= 0 || f[1] < 0)
		return 0;
	if (hosts > max_hosts)
		return vc_error_set(err, VC_EUSER, "line %u: a job of %lld hosts, more than %u", number, (long long)hosts, max_hosts);
	const struct trace_job job = {.id = (uint32_t)t->n, .hosts = (uint32_t)hosts,
				      .group = (uint32_t)((f[12] > 0 ? f[12] - 1 : 0) % groups),
				      .submit_ms = f[1] * 1000, .run_ms = run * 1000, .estimate_ms = estimate * 1000};
	return add_job(t, room, &job, err);
}

int trace_read(FILE *in, uint32_t groups, uint32_t max_hosts, struct trace *ret, struct vc_error *err)
{
	struct trace t = {0};
	size_t room = 0;
	char line[SWF_LINE_MAX];
	for (unsigned number = 1; fgets(line, sizeof(line), in); number++) {
		if (line[0] == ';' || line[strspn(line, " \t\r\n")] == '\0')
			continue;
		if (read_line(&t, &room, line, number, groups, max_hosts, err) < 0) {
			trace_clear(&t);
			return -1;
		}
	}
	number_jobs(&t);
	*ret = t;
	return 0;
}

int trace_write(const struct trace *t, const char *comment, FILE *out, struct vc_error *err)
{
	fprintf(out, "; Version: 2.2\n; Computer: none: made by vcsim's model\n; Note: %s\n; UnixStartTime: 0\n", comment);
	for (size_t i = 0; i < t->n; i++) {
		const struct trace_job *j = &t->jobs[i];
		fprintf(out, "%u %lld -1 %lld %u -1 -1 %u %lld -1 1 %u %u -1 -1 -1 -1 -1\n", j->id, (long long)(j->submit_ms / 1000),
			(long long)(j->run_ms / 1000), j->hosts, j->hosts, (long long)(j->estimate_ms / 1000), j->group + 1, j->group + 1);
	}
	return ferror(out) ? vc_error_errno(err, "trace") : 0;
}

void trace_clear(struct trace *t)
{
	free(t->jobs);
	*t = (struct trace){0};
}
