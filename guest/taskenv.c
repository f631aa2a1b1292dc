// SPDX-License-Identifier: GPL-2.0-or-later
// A task's environment: see taskenv.h. Tables say what each MPI library reads.
#include "guest/taskenv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/iofile.h"
#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "libvc/multiprog.h"
#include "libvc/parse.h"

#define BIN_DIR VC_GUEST_DIR "/bin"
#define AGENT BIN_DIR "/vcrsh"

// Set where the task has no such variable.
static const struct {
	const char *name, *value;
} defaults[] = {
	// Open MPI 4 (ORTE): with SLURM_* set it would call srun for its daemons and read the hosts from Slurm
	{"OMPI_MCA_plm", "rsh"},
	{"OMPI_MCA_plm_rsh_agent", AGENT},
	{"OMPI_MCA_ras", "^slurm"},
	{"OMPI_MCA_orte_default_hostfile", VC_GUEST_DIR "/hostfile"},
	// Open MPI 4.1's windows over UCX fail between machines that have only TCP (MPI_ERR_WIN); its others work
	{"OMPI_MCA_osc", "^ucx"},
	// Open MPI 5 and PRRTE
	{"PRTE_MCA_plm", "ssh"},
	{"PRTE_MCA_plm_ssh_agent", AGENT},
	{"PRTE_MCA_plm_rsh_agent", AGENT},
	{"PRTE_MCA_ras", "^slurm"},
	{"PRTE_MCA_prte_default_hostfile", VC_GUEST_DIR "/hostfile"},
	// MPICH's Hydra: it refuses Open MPI's hostfile, and takes Slurm for its resource manager when SLURM_* is set
	{"HYDRA_LAUNCHER", "rsh"},
	{"HYDRA_LAUNCHER_EXEC", AGENT},
	{"HYDRA_HOST_FILE", VC_GUEST_DIR "/hostfile.hydra"},
	{"HYDRA_RMK", "user"},
	// Intel MPI's
	{"I_MPI_HYDRA_BOOTSTRAP", "rsh"},
	{"I_MPI_HYDRA_BOOTSTRAP_EXEC", AGENT},
	{"I_MPI_HYDRA_HOST_FILE", VC_GUEST_DIR "/hostfile.hydra"},
};

// Of these a step's own values, set by Slurm on the way, are truer than those of the guest that asked for the step.
static const char *const step_prefixes[] = {"SLURM", "SPANK_", "PMI_", "PMI2_", "PMIX_"};

// --- undoing the way through the host --------------------------------------------------------------------------

struct item {
	char *text;
	const char *name; // in text; with the prefix skipped
	size_t name_len;
	int rank;     // the lowest of one name stays
	size_t index; // of equal ones the first stays
};

static int rank_of(const char *name, bool passed)
{
	for (size_t i = 0; passed && i < VC_ARRAY_LEN(step_prefixes); i++) {
		if (!strncmp(name, step_prefixes[i], strlen(step_prefixes[i])))
			return 2;
	}
	return passed ? 0 : 1;
}

static int compare(const void *va, const void *vb)
{
	const struct item *a = va, *b = vb;
	size_t n = a->name_len < b->name_len ? a->name_len : b->name_len;
	int c = memcmp(a->name, b->name, n);
	if (c == 0 && a->name_len != b->name_len)
		c = a->name_len < b->name_len ? -1 : 1;
	if (c == 0)
		c = a->rank - b->rank;
	return c ? c : a->index < b->index ? -1 : 1;
}

static bool any_passed(char *const *env)
{
	for (; *env; env++) {
		if (!strncmp(*env, TASKENV_PASS, strlen(TASKENV_PASS)))
			return true;
	}
	return false;
}

static struct item *items_of(char **env, size_t n)
{
	struct item *items = calloc(n + 1, sizeof(*items));
	for (size_t i = 0; items && i < n; i++) {
		bool passed = !strncmp(env[i], TASKENV_PASS, strlen(TASKENV_PASS));
		const char *name = env[i] + (passed ? strlen(TASKENV_PASS) : 0);
		items[i] = (struct item){env[i], name, strcspn(name, "="), rank_of(name, passed), i};
	}
	return items;
}

static bool same_name(const struct item *a, const struct item *b)
{
	return a->name_len == b->name_len && !memcmp(a->name, b->name, a->name_len);
}

// Moves the texts of the winners to env, without the prefix, and frees the others.
static void take_winners(struct item *items, size_t n, char **env)
{
	size_t kept = 0;
	for (size_t i = n; i-- > 0;) { // downwards: the winner of a name, the first, is still whole when others look at it
		if (items[i].name_len == 0 || (i > 0 && same_name(&items[i], &items[i - 1])))
			free(items[i].text);
		else
			env[kept++] = memmove(items[i].text, items[i].name, strlen(items[i].name) + 1);
	}
}

static int unpass(struct vc_exec_start *start, struct vc_error *err)
{
	size_t n = 0;
	if (!start->env || !any_passed(start->env))
		return 0;
	while (start->env[n])
		n++;
	vc_autofree struct item *items = items_of(start->env, n);
	char **env = calloc(n + 1, sizeof(*env));
	if (!items || !env) {
		free(env);
		return vc_error_errno(err, "environment");
	}
	qsort(items, n, sizeof(*items), compare);
	take_winners(items, n, env);
	free(start->env);
	start->env = env;
	return 0;
}

static int take_cwd(struct vc_exec_start *start, struct vc_error *err)
{
	const char *cwd = vc_exec_getenv(start, TASKENV_CWD);
	if (!cwd)
		return 0;
	if (cwd[0] == '/' && strlen(cwd) < VC_PATH_MAX) {
		char *copy = strdup(cwd);
		if (!copy)
			return vc_error_errno(err, "directory");
		free(start->cwd);
		start->cwd = copy;
	}
	return vc_exec_setenv(start, TASKENV_CWD, NULL, err);
}

static uint64_t env_number(const struct vc_exec_start *start, const char *name)
{
	const char *text = vc_exec_getenv(start, name);
	uint64_t n;
	return text && vc_parse_u64(name, text, 0, UINT32_MAX, &n, NULL) == 0 ? n : UINT64_MAX;
}

// Of a stream that one task alone has: NULL: this one, else what the others have.
static const char *file_of_one(const struct vc_exec_start *start, const char *number)
{
	uint64_t task, tasks = env_number(start, "SLURM_STEP_NUM_TASKS");
	if (vc_parse_u64("task", number, 0, UINT32_MAX, &task, NULL) < 0 || task >= tasks)
		return number; // with Slurm that is a file's name
	return task == env_number(start, "SLURM_PROCID") ? NULL : "/dev/null";
}

// "<in.%t", ">out.%t", ">>out.%t"
static int take_file(const struct taskenv *facts, struct vc_exec_start *start, const char *name, struct vc_exec_file *ret,
		     struct vc_error *err)
{
	const char *text = vc_exec_getenv(start, name);
	const struct iofile_facts f = {
		.job = vc_exec_getenv(start, "SLURM_JOB_ID"),
		.step = vc_exec_getenv(start, "SLURM_STEP_ID"),
		.array_job = vc_exec_getenv(start, "SLURM_ARRAY_JOB_ID"),
		.array_task = vc_exec_getenv(start, "SLURM_ARRAY_TASK_ID"),
		.user = facts->user,
		.name = vc_exec_getenv(start, "SLURM_JOB_NAME"),
		.task = vc_exec_getenv(start, "SLURM_PROCID"),
		.node = facts->member,
		.node_id = vc_exec_getenv(start, "SLURM_NODEID"),
	};
	if (!text)
		return 0;
	size_t arrows = strspn(text, "<>");
	const char *pattern = text + arrows;
	if (iofile_kind(pattern) == IOFILE_TASK)
		pattern = file_of_one(start, pattern);
	ret->flags = *text == '<' ? O_RDONLY : O_WRONLY | O_CREAT | O_APPEND | (arrows == 1 ? O_TRUNC : 0);
	if (pattern && iofile_path(pattern, &f, &ret->path, err) < 0)
		return -1;
	return vc_exec_setenv(start, name, NULL, err);
}

static int take_files(const struct taskenv *facts, struct vc_exec_start *start, struct vc_error *err)
{
	static const char *const names[] = {TASKENV_STDIN, TASKENV_STDOUT, TASKENV_STDERR};
	for (size_t i = 0; i < VC_ARRAY_LEN(names); i++) {
		if (take_file(facts, start, names[i], &start->files[i], err) < 0)
			return -1;
	}
	return 0;
}

// The line's words, then what the command line has behind the file.
static int take_programs(struct vc_exec_start *start, struct vc_error *err)
{
	const char *text = vc_exec_getenv(start, TASKENV_PROGRAMS);
	uint64_t rank = env_number(start, "SLURM_PROCID");
	char **words = NULL;
	if (!text)
		return 0;
	if (rank == UINT64_MAX)
		return vc_error_set(err, VC_EUSER, "--multi-prog: this is no task of a step");
	if (multiprog_argv(text, (uint32_t)rank, &words, err) < 0)
		return -1;
	size_t n = vc_strv_len(words), rest = vc_strv_len(start->argv) - 1; // argv[0] is the file
	char **argv = reallocarray(words, n + rest + 1, sizeof(*argv));
	if (!argv) {
		vc_strv_free(words);
		return vc_error_errno(err, "--multi-prog");
	}
	memcpy(argv + n, start->argv + 1, rest * sizeof(*argv));
	argv[n + rest] = NULL;
	start->argv[1] = NULL; // the rest is in argv
	vc_strv_free(start->argv);
	start->argv = argv;
	return vc_exec_setenv(start, TASKENV_PROGRAMS, NULL, err);
}

// --- what the cluster adds -------------------------------------------------------------------------------------

static int set_default(struct vc_exec_start *start, const char *name, const char *value, struct vc_error *err)
{
	return !value || vc_exec_getenv(start, name) ? 0 : vc_exec_setenv(start, name, value, err);
}

static int set_number(struct vc_exec_start *start, const char *name, uint64_t value, struct vc_error *err)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRIu64, value);
	return vc_exec_setenv(start, name, text, err);
}

static int set_path(struct vc_exec_start *start, struct vc_error *err)
{
	const char *old = vc_exec_getenv(start, "PATH");
	size_t n = strlen(BIN_DIR);
	if (!old || !*old)
		old = TASKENV_PATH;
	if (!strncmp(old, BIN_DIR, n) && (old[n] == ':' || !old[n]))
		return 0;
	vc_autofree char *path = NULL;
	if (asprintf(&path, "%s:%s", BIN_DIR, old) < 0) {
		path = NULL;
		return vc_error_errno(err, "PATH");
	}
	return vc_exec_setenv(start, "PATH", path, err);
}

static int set_facts(const struct taskenv *f, struct vc_exec_start *start, struct vc_error *err)
{
	if (vc_exec_setenv(start, "VCLUSTER_VIEW", VC_GUEST_DIR "/view", err) < 0 ||
	    vc_exec_setenv(start, "VCLUSTER_HOSTFILE", VC_GUEST_DIR "/hostfile", err) < 0 ||
	    vc_exec_setenv(start, "VCLUSTER_MEMBER", f->member, err) < 0 ||
	    set_number(start, "VCLUSTER_RANK", f->rank, err) < 0 || set_number(start, "VCLUSTER_EPOCH", f->epoch, err) < 0 ||
	    set_number(start, "VCLUSTER_SIZE", f->size, err) < 0)
		return -1;
	// the host's name, taken along by the batch script's shell, would be a lie here
	return vc_exec_getenv(start, "HOSTNAME") ? vc_exec_setenv(start, "HOSTNAME", f->member, err) : 0;
}

static int set_site(char *const *site, struct vc_exec_start *start, struct vc_error *err)
{
	for (; site && *site; site++) {
		vc_autofree char *name = strndup(*site, strcspn(*site, "="));
		if (!name)
			return vc_error_errno(err, "environment");
		const char *value = *site + strlen(name);
		if (*value && set_default(start, name, value + 1, err) < 0)
			return -1;
	}
	return 0;
}

// A task of a step that Slurm's mpi/pmi2 made for a spawner: its srun ran with a copy of the spawner's step's environment, and what
// that says of files and programs is not for this step. Only slurmstepd's own word counts, not one passed on from a guest.
static int forget_spawner(struct vc_exec_start *start, struct vc_error *err)
{
	static const char *const names[] = {TASKENV_STDIN, TASKENV_STDOUT, TASKENV_STDERR, TASKENV_PROGRAMS};
	for (size_t i = 0; vc_exec_getenv(start, "PMI_SPAWNED") && i < VC_ARRAY_LEN(names); i++) {
		if (vc_exec_setenv(start, names[i], NULL, err) < 0)
			return -1;
	}
	return 0;
}

int taskenv_apply(const struct taskenv *facts, struct vc_exec_start *start, struct vc_error *err)
{
	if (forget_spawner(start, err) < 0 || unpass(start, err) < 0 || take_cwd(start, err) < 0 || take_files(facts, start, err) < 0 ||
	    take_programs(start, err) < 0 || set_facts(facts, start, err) < 0 || set_path(start, err) < 0 ||
	    set_default(start, "HOME", facts->home, err) < 0 || set_default(start, "USER", facts->user, err) < 0 ||
	    set_default(start, "LOGNAME", facts->user, err) < 0 || set_default(start, "SHELL", facts->shell, err) < 0 ||
	    set_site(facts->site, start, err) < 0 || set_default(start, "LD_PRELOAD", facts->preload, err) < 0 ||
	    set_default(start, "OMPI_MCA_mpi_yield_when_idle", facts->shared_cpus ? "1" : NULL, err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(defaults); i++) {
		if (set_default(start, defaults[i].name, defaults[i].value, err) < 0)
			return -1;
	}
	return 0;
}
