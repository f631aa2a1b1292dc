// SPDX-License-Identifier: GPL-2.0-or-later
// vcexec: runs one task of a job in a member of its virtual cluster and behaves as that task would.
//
// Owns nothing but this process. Called by the SPANK plugin (VCEXEC_TASK says what for, the arguments are the task's own)
// or by hand with options. Fails with one line on standard error and status 1, or 126 and 127 as a shell.
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/vcexec_pmix.h"
#include "guest/taskenv.h"
#include "libvc/buf.h"
#include "libvc/client.h"
#include "libvc/execclient.h"
#include "libvc/hostlist.h"
#include "libvc/json.h"
#include "libvc/parse.h"
#include "libvc/taskref.h"

#define ATTACH_MS 30000	 // vcd asks the controller for the reason when a cluster is not here
#define CHANGED_MS 1000	 // to tell vcd that the job is being suspended: SIGSTOP comes two seconds after SIGTSTP
#define FILTERS_MAX 256	 // patterns in vcd's reply
#define UNSET UINT32_MAX

struct exec {
	uint32_t job, restart, rank, local, tasks;
	const char *kind; // task, script, exec, console
	const char *script; // file to read
	bool pty;
	struct vc_exec_start start;
	struct vc_execclient client;
	char where[VC_NAME_MAX + 64];
	char **stage_out; // files to fetch from the member when the batch script has ended
	const char *socket;
	struct vcexec_pmix pmix;
};

// Never passed on: our own, and what names descriptors and servers that only slurmstepd's children can reach.
static char *const own_filter[] = {VC_TASKREF_ENV, VC_TASKREF_PROGRAM_ENV, VC_TASKREF_SOCKET_ENV, VC_TASKREF_ONE_PROGRAM_ENV, "PMI_FD", "PMI_PORT", "PMIX_NAMESPACE",
				   "PMIX_RANK", "PMIX_SERVER_*", "PMIX_SECURITY_MODE", "PMIX_GDS_MODULE", "PMIX_BFROP_*", "PMIX_PTL_*",
				   "PMIX_DSTORE_*", "PMIX_HOSTNAME", "PMIX_VERSION", "PMIX_SYSTEM_TMPDIR", "PMIX_ID", "SLURM_PMI*", "SLURM_SRUN_COMM_*", "SLURM_PTY_*", "SLURM_JWT", NULL};
// When vcd names none (env-filter of vcd.conf).
static const char *const default_filter[] = {"SLURM_SPANK_*",	 "SPANK_*", "SLURM_CONF", "DBUS_*",
					     "XDG_RUNTIME_DIR", "SSH_*",   "KRB5CCNAME", NULL};

static const char usage_text[] =
	"Usage: vcexec [options] -- COMMAND [ARGUMENT...]\n"
	"Runs a command in a member of a job's virtual cluster.\n"
	"\n"
	"  --job=N        the job (SLURM_JOB_ID)\n"
	"  --restart=N    its restart count (SLURM_RESTART_COUNT, else 0)\n"
	"  --rank=R       on this member; or:\n"
	"  --local=L      the L-th of the step's tasks on this host (SLURM_LOCALID)\n"
	"  --tasks=T      how many those are (SLURM_STEP_TASKS_PER_NODE)\n"
	"  --script       COMMAND is a batch script on this host\n"
	"  --pty          with a terminal\n"
	"  --socket=PATH  vcd's socket\n"
	"  --help, --version\n";

static int fail(const struct vc_error *err, int status)
{
	fprintf(stderr, "vcluster: %s\n", err->text);
	return status;
}

// ---- options ----

static int env_u32(const char *name, uint32_t *value, struct vc_error *err)
{
	uint64_t n;
	const char *text = getenv(name);
	if (*value != UNSET || !text || !*text)
		return 0;
	if (vc_parse_u64(name, text, 0, UINT32_MAX - 1, &n, err) < 0)
		return -1;
	*value = (uint32_t)n;
	return 0;
}

// "4(x2),3": steps with one count for all hosts are what Slurm's tasks see most; by hand --tasks says it.
static int env_tasks(struct exec *x, struct vc_error *err)
{
	const char *text = getenv("SLURM_STEP_TASKS_PER_NODE");
	uint64_t n;
	char first[16];
	if (x->tasks != UNSET || !text)
		return 0;
	snprintf(first, sizeof(first), "%.*s", (int)strcspn(text, "(,"), text);
	if (vc_parse_u64("SLURM_STEP_TASKS_PER_NODE", first, 1, UINT32_MAX - 1, &n, err) < 0)
		return -1;
	x->tasks = (uint32_t)n;
	return 0;
}

static int defaults(struct exec *x, struct vc_error *err)
{
	if (env_u32("SLURM_JOB_ID", &x->job, err) < 0 || env_u32("SLURM_RESTART_COUNT", &x->restart, err) < 0 ||
	    env_u32("SLURM_LOCALID", &x->local, err) < 0 || env_tasks(x, err) < 0)
		return -1;
	if (x->restart == UNSET)
		x->restart = 0;
	if (x->local == UNSET)
		x->local = 0;
	if (x->tasks == UNSET)
		x->tasks = x->local + 1;
	if (x->job == UNSET)
		return vc_error_set(err, VC_EUSER, "which job? give --job, or run inside one");
	return 0;
}

static int option_u32(struct exec *x, int opt, struct vc_error *err)
{
	struct {
		int opt;
		const char *name;
		uint32_t *value;
	} table[] = {{'j', "--job", &x->job},	  {'r', "--restart", &x->restart}, {'k', "--rank", &x->rank},
		     {'l', "--local", &x->local}, {'t', "--tasks", &x->tasks}};
	uint64_t n;
	for (size_t i = 0; i < VC_ARRAY_LEN(table); i++) {
		if (table[i].opt != opt)
			continue;
		if (vc_parse_u64(table[i].name, optarg, 0, UINT32_MAX - 1, &n, err) < 0)
			return -1;
		*table[i].value = (uint32_t)n;
		return 0;
	}
	return vc_error_set(err, VC_EUSER, "unknown option; vcexec --help lists them");
}

// Sets *ret_done when there is nothing to run (--help, --version).
static int parse_options(struct exec *x, int argc, char **argv, bool *ret_done, struct vc_error *err)
{
	static const struct option options[] = {
		{"job", 1, NULL, 'j'},	  {"restart", 1, NULL, 'r'}, {"rank", 1, NULL, 'k'},  {"local", 1, NULL, 'l'},
		{"tasks", 1, NULL, 't'},  {"script", 0, NULL, 's'},  {"pty", 0, NULL, 'p'},   {"socket", 1, NULL, 'S'},
		{"help", 0, NULL, 'h'}, {"version", 0, NULL, 'V'}, {NULL, 0, NULL, 0},
	};
	int opt;
	opterr = 0;
	while ((opt = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (opt) {
		case 's':
			x->kind = "script";
			break;
		case 'p':
			x->pty = true;
			break;
		case 'S':
			x->socket = optarg;
			break;
		case 'h':
		case 'V':
			fputs(opt == 'h' ? usage_text : "vcexec " PACKAGE_VERSION "\n", stdout);
			*ret_done = true;
			return 0;
		default:
			if (option_u32(x, opt, err) < 0)
				return -1;
		}
	}
	if (!argv[optind])
		return vc_error_set(err, VC_EUSER, "no command was given; vcexec --help says how");
	if (strcmp(x->kind, "script") == 0)
		x->script = argv[optind];
	return defaults(x, err);
}

// The task's own vector: argv[1..] with the program back in front, or, of a --multi-prog line, what stands behind "--".
static int task_argv(char **argv, char ***ret_argv, struct vc_error *err)
{
	char *program = getenv(VC_TASKREF_PROGRAM_ENV);
	if (program && *program) {
		argv[0] = program;
		*ret_argv = argv;
		return 0;
	}
	if (!argv[1] || strcmp(argv[1], "--") != 0 || !argv[2])
		return vc_error_set(err, VC_EUSER, "%s is set but not %s", VC_TASKREF_ENV, VC_TASKREF_PROGRAM_ENV);
	*ret_argv = argv + 2;
	return 0;
}

// From the plugin.
static int parse_taskref(struct exec *x, const char *text, char **argv, char ***ret_argv, struct vc_error *err)
{
	struct vc_taskref ref;
	if (vc_taskref_parse(text, &ref, err) < 0)
		return vc_error_wrap(err, "%s", VC_TASKREF_ENV);
	if (task_argv(argv, ret_argv, err) < 0)
		return -1;
	x->socket = getenv(VC_TASKREF_SOCKET_ENV);
	x->job = ref.job;
	x->restart = ref.restart;
	x->local = ref.local;
	x->tasks = ref.tasks;
	if (ref.kind == VC_TASK_SCRIPT) {
		x->kind = "script";
		x->script = (*ret_argv)[0];
	}
	return 0;
}

// ---- attach ----

static bool wants_pmi(const struct exec *x)
{
	return strcmp(x->kind, "task") == 0 && getenv("PMI_FD") && getenv("PMI_SIZE");
}

static bool wants_pmix(const struct exec *x)
{
	return strcmp(x->kind, "task") == 0 && vcexec_pmix_wanted();
}

static struct json_object *attach_params(const struct exec *x, uint64_t session, bool resume)
{
	char id[17];
	snprintf(id, sizeof(id), "%016" PRIx64, session);
	vc_autojson struct json_object *p = json_object_new_object();
	if (!p || vc_json_add_int(p, "job", x->job) < 0 || vc_json_add_int(p, "restart", x->restart) < 0 ||
	    vc_json_add_str(p, "kind", x->kind) < 0 || vc_json_add_str(p, "session", id) < 0 ||
	    vc_json_add_bool(p, "resume", resume) < 0 || (!resume && (wants_pmi(x) || wants_pmix(x)) && vc_json_add_bool(p, "layout", true) < 0))
		return NULL;
	int rc = x->rank != UNSET ? vc_json_add_int(p, "rank", x->rank)
				  : vc_json_add_int(p, "local", x->local) < 0 ? -1 : vc_json_add_int(p, "tasks", x->tasks);
	return rc < 0 ? NULL : vc_steal(&p);
}

static void filter_env(struct vc_exec_start *start, char *const *filter)
{
	char **env = vc_exec_env_filter(start->env, filter);
	if (!env)
		return;
	vc_strv_free(start->env);
	start->env = env;
}

// ---- PMI ----

// The members of each host of the step, in its order.
static uint32_t *step_members(struct json_object *layout, size_t *ret_n, struct vc_error *err)
{
	const char *list = getenv("SLURM_STEP_NODELIST");
	vc_autostrv char **names = NULL;
	if (!list)
		list = getenv("SLURM_JOB_NODELIST");
	if (!list || vc_hostlist_expand(list, VC_PMI_NODES_MAX, &names, ret_n, err) < 0)
		return NULL;
	vc_autofree uint32_t *members = calloc(*ret_n + 1, sizeof(*members));
	for (size_t i = 0; members && i < *ret_n; i++) {
		struct json_object *of_host = NULL;
		if (vc_json_array(layout, names[i], VC_PMI_NODES_MAX, &of_host, err) < 0)
			return NULL;
		members[i] = (uint32_t)json_object_array_length(of_host);
	}
	return vc_steal(&members);
}

// Slurm's mpi/pmi2 gave this task a socket: the program in the member takes part in PMI through it.
static int open_pmi(struct exec *x, struct json_object *reply, uint32_t rank, struct vc_error *err)
{
	struct json_object *layout = NULL;
	struct vc_pmi_layout l = {.member = rank};
	uint64_t fd;
	uint32_t ranks = UNSET;
	if (vc_parse_u64("PMI_FD", getenv("PMI_FD"), 3, INT32_MAX, &fd, err) < 0 || env_u32("PMI_SIZE", &ranks, err) < 0 ||
	    vc_json_obj(reply, "layout", &layout, err) < 0)
		return -1;
	vc_autofree uint32_t *members = step_members(layout, &l.nodes, err);
	l.members = members;
	l.ranks = ranks;
	x->client.pmi = members ? vc_pmi_create(&l, err) : NULL;
	x->client.pmi_fd = (int)fd;
	return x->client.pmi ? 0 : -1;
}

// slurmstepd has bound this process to CPUs of the host: the task is bound to the machine's processors that run there.
static void bind_cpus(struct vc_exec_start *start, struct json_object *reply)
{
	struct json_object *list = NULL;
	cpu_set_t mask;
	if (vc_json_array_opt(reply, "cpus", VC_EXEC_CPUS_MAX, &list, NULL) < 0 || !list || sched_getaffinity(0, sizeof(mask), &mask) < 0)
		return;
	size_t n = json_object_array_length(list);
	start->cpus = calloc(n + 1, sizeof(*start->cpus));
	for (size_t i = 0; start->cpus && i < n; i++) {
		int64_t cpu = json_object_get_int64(json_object_array_get_idx(list, i));
		if (cpu >= 0 && cpu < CPU_SETSIZE && CPU_ISSET((size_t)cpu, &mask))
			start->cpus[start->cpu_count++] = (uint32_t)i;
	}
	if (start->cpu_count == n)
		start->cpu_count = 0; // all of them: not bound
}

// What the reply says: where the task runs and which variables stay behind. Without its part in PMIx a program would run as many
// programs of one rank: the task fails.
static int take_reply(struct exec *x, struct json_object *reply, struct vc_error *ret_err)
{
	const char *name = "";
	uint32_t rank = 0;
	vc_autostrv char **filter = NULL;
	vc_json_u32(reply, "rank", UINT32_MAX - 1, &rank, NULL);
	vc_json_str_opt(reply, "name", VC_NAME_MAX, &name, NULL);
	snprintf(x->where, sizeof(x->where), "member %u (%s) of job %u", rank, name, x->job);
	bool given = vc_json_strv(reply, "env_filter", FILTERS_MAX, VC_NAME_MAX * 2, &filter, NULL) == 0;
	vc_json_strv(reply, "stage_out", VC_STAGE_FILES_MAX, VC_PATH_MAX, &x->stage_out, NULL);
	bind_cpus(&x->start, reply);
	filter_env(&x->start, given ? filter : (char *const *)default_filter);
	struct vc_error err = VC_ERROR_INIT;
	if (wants_pmi(x) && open_pmi(x, reply, rank, &err) < 0)
		fprintf(stderr, "vcluster: the task takes no part in PMI: %s\n", err.text);
	if (!wants_pmix(x))
		return 0;
	x->client.pmi_open = vcexec_pmix_connect;
	x->client.pmi_ctx = &x->pmix;
	return vcexec_pmix_start(&x->pmix, reply, &x->start, ret_err);
}

static int attach(void *ctx, uint64_t session, bool resume, int *ret_fd, struct vc_buf *pending, struct vc_error *err)
{
	struct exec *x = ctx;
	vc_autojson struct json_object *reply = NULL, *params = attach_params(x, session, resume);
	struct vc_client_opts opts = {.path = x->socket};
	vc_autoclient struct vc_client *client = vc_client_connect(&opts, err);
	if (!client)
		return -1;
	if (!params)
		return vc_error_set(err, VC_EFAILED, "no memory");
	if (vc_client_call(client, "task.attach", params, ATTACH_MS, NULL, NULL, &reply, err) < 0)
		return -1;
	if (!resume && take_reply(x, reply, err) < 0)
		return -1;
	if (vc_client_take_fd(client, ret_fd, pending, err) < 0)
		return -1;
	client = NULL;
	return 0;
}

// ---- suspension ----

// Slurm stops or continues this process: vcd asks slurmctld whether the job is suspended. One task of a step says so;
// vcd's own sweep finds what nobody could say.
static void job_stopping(void *ctx, bool stop)
{
	struct exec *x = ctx;
	(void)stop;
	struct vc_client_opts opts = {.path = x->socket, .timeout_ms = CHANGED_MS};
	vc_autojson struct json_object *params = json_object_new_object();
	if (x->local != 0 || vc_json_add_u64(params, "job", x->job) < 0)
		return;
	vc_autoclient struct vc_client *client = vc_client_connect(&opts, NULL);
	if (client)
		(void)vc_client_call(client, "job.changed", params, CHANGED_MS, NULL, NULL, NULL, NULL);
}

// ---- files back to the host ----

static char **stage_argv(const struct exec *x, char *job, char *restart)
{
	size_t n = 0;
	while (x->stage_out[n])
		n++;
	char *const head[] = {VC_LIBEXECDIR "/vc-stage", "--job", job, "--restart", restart, "--rank", "0", "out"};
	char **argv = calloc(VC_ARRAY_LEN(head) + n + 1, sizeof(*argv));
	if (!argv)
		return NULL;
	memcpy(argv, head, sizeof(head));
	memcpy(argv + VC_ARRAY_LEN(head), x->stage_out, n * sizeof(*argv));
	return argv;
}

// Fetches --vcluster-stage-out's files. vc-stage says what went wrong.
static int stage_out(const struct exec *x)
{
	char job[16], restart[16];
	int status = -1;
	snprintf(job, sizeof(job), "%u", x->job);
	snprintf(restart, sizeof(restart), "%u", x->restart);
	vc_autofree char **argv = stage_argv(x, job, restart);
	pid_t pid = argv ? fork() : -1;
	if (pid == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
		return -1;
	return 0;
}

// ---- main ----

// srun --pty gives the task a terminal of its own and says so.
static bool wants_pty(const struct exec *x)
{
	return x->pty || (getenv("SLURM_PTY_PORT") && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO));
}

// A program of the host's file system, as --bcast puts one there, is none of the machine's.
static void explain_missing(const struct exec *x, const char *program, int status)
{
	if (status == 127 && !x->script && !getenv(TASKENV_PROGRAMS) && strchr(program, '/') && access(program, F_OK) == 0)
		fprintf(stderr, "vcluster: %s is on the host, which the machines do not see, nor what --bcast copies there: use "
				"--vcluster-stage-in, or sbcast in the job\n", program);
}

static int run(struct exec *x, char **argv)
{
	struct vc_error err = VC_ERROR_INIT;
	struct vc_exec_result result;
	if (vc_exec_start_from_self(&x->start, argv, own_filter, &err) < 0 ||
	    (x->script && vc_exec_start_script(&x->start, x->script, &err) < 0))
		return fail(&err, 1);
	x->client = (struct vc_execclient){
		.connect = attach,
		.ctx = x,
		.start = &x->start,
		.pty = wants_pty(x),
		.where = x->where,
		.stopping = job_stopping,
	};
	int rc = vc_execclient_run(&x->client, &result, &err);
	vc_exec_start_clear(&x->start);
	vc_pmi_destroy(x->client.pmi);
	vcexec_pmix_end(&x->pmix);
	if (rc < 0) {
		(void)fail(&err, result.status);
		explain_missing(x, argv[0], result.status);
		return result.status;
	}
	if (x->stage_out && x->stage_out[0] && stage_out(x) < 0 && result.signo == 0 && result.status == 0)
		result.status = 1; // a job whose results are lost has not succeeded
	vc_execclient_die(&result);
}

int main(int argc, char **argv)
{
	struct exec x = {.job = UNSET, .restart = UNSET, .rank = UNSET, .local = UNSET, .tasks = UNSET, .kind = "task"};
	struct vc_error err = VC_ERROR_INIT;
	const char *ref = getenv(VC_TASKREF_ENV);
	bool done = false;
	snprintf(x.where, sizeof(x.where), "vcd");
	char **task = argv;
	if (ref ? parse_taskref(&x, ref, argv, &task, &err) < 0 : parse_options(&x, argc, argv, &done, &err) < 0)
		return fail(&err, 1);
	return done ? 0 : run(&x, ref ? task : argv + optind);
}
