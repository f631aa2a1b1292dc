// SPDX-License-Identifier: GPL-2.0-or-later
// vc-prolog: PrologSlurmctld and EpilogSlurmctld. Once per job, asks vcd for its virtual cluster, or to take it down.
//
// Gone at once for jobs without a spec. While the cluster is made it waits, and with it the job (CONFIGURING); when
// slurmctld kills it, its connection closes and vcd aborts. While vcd restarts it reconnects and repeats the call,
// which joins the work under way. Exit status: 0 when vcd has answered, also with a refusal (the job's tasks then say
// why); 1 when no vcd could be asked in time, which makes Slurm requeue a batch job; 2 for wrong use.
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/parse.h"
#include "libvc/spec.h"

#define AWAY_MS (120 * 1000)	// how long vcd may be away at a stretch: a restart takes seconds, a failover a minute
#define RETRY_MS 500		// between two tries to reach it
#define SILENCE_MS (900 * 1000) // vcd has its own limits for each phase; past this it has forgotten us
#define RELEASE_MS (300 * 1000) // guests are destroyed, not shut down; hosts that are gone take their timeouts

struct job {
	const char *cluster; // Slurm's ClusterName
	uint32_t id, restart;
	uint32_t array_id, array_task; // 0, 0 outside arrays
	const char *spec; // NULL: the job of a lease
	uint64_t lease;
};

struct call {
	const char *method;
	bool ensure;
	uint64_t timeout_ms;
};

#define LEASE_ENV "SPANK_VCLUSTER_LEASE" // "CLUSTER LEASE PRIMARY", set by vcd at submission (vcd/slurmlease.h)

static const struct call calls[] = {{"job.ensure", true, SILENCE_MS}, {"job.release", false, RELEASE_MS}};
static const struct call lease_calls[] = {{"lease.ensure", true, SILENCE_MS}, {"lease.release", false, RELEASE_MS}};

static const char usage[] =
	"Example (slurm.conf):\n"
	"  PrologSlurmctld=/usr/libexec/vcluster/vc-prolog\n"
	"  EpilogSlurmctld=/usr/libexec/vcluster/vc-prolog\n"
	"\n"
	"Usage: vc-prolog [--prolog | --epilog] [--socket PATH] [--away SECONDS]\n"
	"Asks vcd for the virtual cluster of the job in SLURM_JOB_ID, or takes it down.\n"
	"  --prolog, --epilog  which of the two (default: what SLURM_SCRIPT_CONTEXT says)\n"
	"  --socket PATH       vcd's socket (default " VC_SOCKET_PATH ")\n"
	"  --away SECONDS      how long to try to reach vcd (default 120)\n"
	"Exit status: 0 vcd has answered, or the job has no virtual cluster; 1 vcd\n"
	"cannot be reached; 2 wrong use.\n";

// slurmctld keeps no output of its prolog: what matters goes to syslog too.
__attribute__((format(printf, 2, 3))) static void say(int priority, const char *fmt, ...)
{
	char text[VC_ERROR_TEXT_MAX + 128];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "vcluster: %s\n", text);
	syslog(priority, "%s", text);
}

static int get_u32(const char *name, uint32_t fallback, uint32_t *ret, struct vc_error *err)
{
	const char *text = getenv(name);
	uint64_t n = fallback;
	if (text && *text && vc_parse_u64(name, text, 0, UINT32_MAX, &n, err) < 0)
		return -1;
	*ret = (uint32_t)n;
	return 0;
}

// A user can forge it: what is no such text is lease 0, which the controller does not know, and his job goes on as it is.
static uint64_t get_lease(void)
{
	vc_autostrv char **words = NULL;
	const char *text = getenv(LEASE_ENV);
	uint64_t n = 0;
	if (text && vc_parse_list(LEASE_ENV, text, ' ', 3, &words, NULL) == 0 && words[1])
		(void)vc_parse_u64(LEASE_ENV, words[1], 1, UINT64_MAX, &n, NULL);
	return n;
}

static int get_job(struct job *job, struct vc_error *err)
{
	job->cluster = getenv("SLURM_CLUSTER_NAME");
	job->spec = getenv("SPANK_" VC_SPEC_CONTROL_NAME);
	if (!job->spec)
		job->lease = get_lease();
	if (!job->cluster)
		job->cluster = "";
	// PrologSlurmctld's name of it; SLURM_RESTART_COUNT is that of the hosts' hooks, for sites that call us from elsewhere
	const char *restart = getenv("SLURM_JOB_RESTART_COUNT") ? "SLURM_JOB_RESTART_COUNT" : "SLURM_RESTART_COUNT";
	if (get_u32("SLURM_JOB_ID", 0, &job->id, err) < 0 || get_u32(restart, 0, &job->restart, err) < 0 ||
	    get_u32("SLURM_ARRAY_JOB_ID", 0, &job->array_id, err) < 0 || get_u32("SLURM_ARRAY_TASK_ID", 0, &job->array_task, err) < 0)
		return -1;
	if (job->id == 0)
		return vc_error_set(err, VC_EUSER, "SLURM_JOB_ID is not set: run this from PrologSlurmctld or EpilogSlurmctld");
	return 0;
}

static struct json_object *make_params(const struct job *job, const struct call *call)
{
	vc_autojson struct json_object *params = json_object_new_object();
	if (!params || vc_json_add_str(params, "slurm", job->cluster) < 0 || vc_json_add_u64(params, "job", job->id) < 0 ||
	    vc_json_add_u64(params, "restart", job->restart) < 0)
		return NULL;
	if (call->ensure && job->spec && vc_json_add_str(params, "spec", job->spec) < 0)
		return NULL;
	if (!job->spec && vc_json_add_u64(params, "lease", job->lease) < 0)
		return NULL;
	if (job->array_id && (vc_json_add_u64(params, "array_job", job->array_id) < 0 ||
			      vc_json_add_u64(params, "array_task", job->array_task) < 0))
		return NULL;
	return vc_steal(&params);
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

// vcd did not say no: it is away, restarting, full, or it lost the connection.
static bool may_retry(const struct vc_error *err)
{
	return err->code < VC_EBASE || err->code == VC_EBUSY || err->code == VC_ECANCELED || err->code == VC_EPROTO ||
	       err->code == VC_ETIMEDOUT;
}

static void report(const struct job *job, struct json_object *result)
{
	const char *state = "", *reason = "";
	if (vc_json_str_opt(result, "state", VC_NAME_MAX, &state, NULL) == 0 && strcmp(state, "failed") == 0 &&
	    vc_json_str_opt(result, "reason", VC_ERROR_TEXT_MAX, &reason, NULL) == 0)
		say(LOG_NOTICE, "job %" PRIu32 ": %s", job->id, reason);
}

// 0: vcd has answered. Sets *ret_reached when there was a vcd at all.
static int try_once(const struct job *job, const struct call *call, const char *socket, uint64_t connect_ms, bool *ret_reached,
		    struct vc_error *err)
{
	const struct vc_client_opts opts = {.path = socket, .timeout_ms = connect_ms};
	if (!job->spec)
		call = &lease_calls[!call->ensure];
	vc_autojson struct json_object *params = make_params(job, call), *result = NULL;
	if (!params)
		return vc_error_set(err, ENOMEM, "out of memory");
	vc_autoclient struct vc_client *vcd = vc_client_connect(&opts, err);
	*ret_reached = vcd != NULL;
	if (!vcd || vc_client_call(vcd, call->method, params, call->timeout_ms, NULL, NULL, &result, err) < 0)
		return -1;
	report(job, result);
	return 0;
}

// Each connection that vcd accepted starts the time anew: it is alive, and restarting does not count against the job.
static int run_call(const struct job *job, const struct call *call, const char *socket, uint64_t away_ms, struct vc_error *err)
{
	uint64_t limit = now_ms() + away_ms;
	for (;;) {
		bool reached = false;
		uint64_t left = limit > now_ms() ? limit - now_ms() : 1;
		if (try_once(job, call, socket, left < VC_CLIENT_CONNECT_MS ? left : VC_CLIENT_CONNECT_MS, &reached, err) == 0)
			return 0;
		if (!may_retry(err))
			return -1;
		if (reached && err->code != VC_EBUSY)
			limit = now_ms() + away_ms;
		if (now_ms() + RETRY_MS >= limit)
			return vc_error_wrap(err, "gave up after %" PRIu64 " s", away_ms / 1000);
		poll(NULL, 0, RETRY_MS);
	}
}

struct options {
	const struct call *call;
	const char *socket;
	uint64_t away_ms;
};

static const struct call *call_from_context(const char *argv0)
{
	const char *context = getenv("SLURM_SCRIPT_CONTEXT");
	const char *name = strrchr(argv0, '/');
	if (strcmp(name ? name + 1 : argv0, "vc-epilog") == 0)
		return &calls[1];
	if (!context)
		return NULL;
	if (strcmp(context, "prolog_slurmctld") == 0)
		return &calls[0];
	return strcmp(context, "epilog_slurmctld") == 0 ? &calls[1] : NULL;
}

static int parse_options(int argc, char *argv[], struct options *ret, struct vc_error *err)
{
	*ret = (struct options){.call = call_from_context(argv[0]), .away_ms = AWAY_MS};
	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		if (strcmp(argv[i], "--prolog") == 0) {
			ret->call = &calls[0];
		} else if (strcmp(argv[i], "--epilog") == 0) {
			ret->call = &calls[1];
		} else if (strcmp(argv[i], "--socket") == 0 && value) {
			ret->socket = argv[++i];
		} else if (strcmp(argv[i], "--away") == 0 && value) {
			if (vc_parse_duration_ms("--away", argv[++i], 3600 * 1000, &ret->away_ms, err) < 0)
				return -1;
		} else {
			return vc_error_set(err, VC_EUSER, "unknown option '%.64s'; see vc-prolog --help", argv[i]);
		}
	}
	if (!ret->call)
		return vc_error_set(err, VC_EUSER, "neither --prolog nor --epilog, and SLURM_SCRIPT_CONTEXT does not say");
	return 0;
}

static int wrong_use(const struct vc_error *err)
{
	say(LOG_ERR, "%s", err->text);
	return 2;
}

int main(int argc, char *argv[])
{
	struct vc_error err = VC_ERROR_INIT;
	struct options options;
	struct job job = {0};
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (!getenv("SPANK_" VC_SPEC_CONTROL_NAME) && !getenv(LEASE_ENV))
		return 0; // a plain job
	openlog("vc-prolog", LOG_PID, LOG_DAEMON);
	if (parse_options(argc, argv, &options, &err) < 0 || get_job(&job, &err) < 0)
		return wrong_use(&err);
	if (run_call(&job, options.call, options.socket, options.away_ms, &err) == 0)
		return 0;
	say(LOG_ERR, "job %" PRIu32 ": %s: %s", job.id, options.call->method, err.text);
	return may_retry(&err) ? 1 : 0;
}
