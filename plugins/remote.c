// SPDX-License-Identifier: GPL-2.0-or-later
// slurmstepd: turns each task of a vcluster job into vcexec, as the job's user, just before it would be executed.
//
// Fails closed: from the moment that a task is known to belong to a vcluster job, every way out is vcexec or -1.
// Normally only argv[0] changes, so that Slurm still does all that comes after this hook: task prologs, TMPDIR,
// limits. Slurm does not say whether a step is --multi-prog, when argv is [file's name][file's text]... and Slurm takes
// the program from the text, whatever argv[0] is. So where a text could be read so, either every program in it is vcexec
// (srun's side of this plugin wrapped them) and argv[0] is made vcexec as well, or vcexec is executed from here; for it
// Slurm's limits are set here too, and task prologs do not run.
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "libvc/cleanup.h"
#include "libvc/multiprog.h"
#include "libvc/parse.h"
#include "libvc/taskref.h"
#include "plugins/decide.h"
#include "plugins/plugin.h"

#define STEP_BATCH 0xfffffffbu // SLURM_BATCH_SCRIPT of slurm/slurm.h

struct task {
	uint32_t job, step, rank, local, tasks, restart;
	int argc;
	char **argv; // Slurm's
	char **env;  // Slurm's
	char **program; // what is to be executed from here; vc_strv_free
};

void remote_option(struct plugin *p, enum vc_spec_opt opt, const char *value)
{
	if (opt == VC_SPEC_OPT_IMAGE)
		p->asked = true;
	if (opt == VC_SPEC_OPT_SCRIPT)
		p->script_host = value && strcmp(value, "host") == 0;
}

static int get_task(const struct plugin *p, spank_t sp, struct task *t, struct vc_error *err)
{
	int local = 0;
	if (spank_get_item(sp, S_JOB_STEPID, &t->step) != ESPANK_SUCCESS || spank_get_item(sp, S_TASK_GLOBAL_ID, &t->rank) != ESPANK_SUCCESS ||
	    spank_get_item(sp, S_TASK_ID, &local) != ESPANK_SUCCESS || local < 0 ||
	    spank_get_item(sp, S_JOB_LOCAL_TASK_COUNT, &t->tasks) != ESPANK_SUCCESS ||
	    spank_get_item(sp, S_JOB_ENV, &t->env) != ESPANK_SUCCESS)
		return vc_error_set(err, VC_EHOST, "slurmstepd does not say which task this is");
	if (spank_get_item(sp, S_JOB_ARGV, &t->argc, &t->argv) != ESPANK_SUCCESS || !t->argv)
		t->argc = 0;
	// Slurm 22.05 tells 0 for every run, so that vcd's mark has to say
	if (spank_get_item(sp, S_SLURM_RESTART_COUNT, &t->restart) != ESPANK_SUCCESS || t->restart == 0)
		t->restart = mark_restart(&p->args, t->job);
	t->local = (uint32_t)local;
	return 0;
}

static const char *env_get(char *const *env, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; env && env[i]; i++) {
		if (strncmp(env[i], name, len) == 0 && env[i][len] == '=')
			return env[i] + len + 1;
	}
	return NULL;
}

// The user's own to forge: it only ends the looking for programs in a text, and the task is vcexec either way.
// Steps that Slurm's mpi/pmi2 makes have it from the step of the spawner, of which it is true; --multi-prog is then their own.
static bool is_one_program(const struct task *t)
{
	return env_get(t->env, VC_TASKREF_ONE_PROGRAM_ENV) != NULL && env_get(t->env, "PMI_SPAWNED") == NULL;
}

static void get_facts(const struct plugin *p, struct task *t, struct task_facts *facts)
{
	const char *program = t->argc > 0 ? t->argv[0] : NULL;
	size_t len = program ? strlen(program) : 0;
	*facts = (struct task_facts){
		.asked = p->asked,
		.marked = mark_exists(&p->args, t->job),
		.script_host = p->script_host,
		.batch = t->step == STEP_BATCH,
		.het = env_get(t->env, "SLURM_HET_SIZE") != NULL,
		.container = env_get(t->env, "SLURM_CONTAINER") != NULL,
		.bcast = len > 0 && program[len - 1] == '/',
		.no_program = len == 0,
		.no_vcexec = access(p->args.vcexec, X_OK) != 0,
	};
	facts->lease = mark_is_lease(&p->args, t->job);
	facts->lease_step = len > 0 && strcmp(program, VC_LIBEXECDIR "/vc-lease") == 0;
	if (!facts->asked && !facts->marked)
		return; // plain jobs pay for nothing more
	facts->multiprog = !facts->batch && t->argc >= 2 && multiprog_possible(t->argv[1]);
	facts->wrapped = facts->multiprog && !is_one_program(t) && multiprog_is_wrapped(t->argv[1], p->args.vcexec);
}

static int set_taskref(const struct plugin *p, spank_t sp, const struct task *t, struct vc_error *err)
{
	char text[VC_TASKREF_LEN];
	const struct vc_taskref ref = {
		.job = t->job,
		.restart = t->restart,
		.kind = t->step == STEP_BATCH ? VC_TASK_SCRIPT : VC_TASK_STEP,
		.local = t->local,
		.tasks = t->tasks ? t->tasks : 1,
	};
	spank_err_t rc = spank_setenv(sp, VC_TASKREF_ENV, vc_taskref_format(&ref, text), 1);
	if (rc == ESPANK_SUCCESS && strcmp(p->args.socket, VC_SOCKET_PATH) != 0)
		rc = spank_setenv(sp, VC_TASKREF_SOCKET_ENV, p->args.socket, 1);
	return rc == ESPANK_SUCCESS ? 0 : vc_error_set(err, VC_EHOST, "cannot set %s: %s", VC_TASKREF_ENV, spank_strerror(rc));
}

static int replace_program(const struct plugin *p, struct task *t, struct vc_error *err)
{
	char *path = strdup(p->args.vcexec); // Slurm's vector holds it until the exec that follows
	if (!path)
		return vc_error_errno(err, "the task's program");
	t->argv[0] = path;
	return 0;
}

static int tell_program(spank_t sp, const struct task *t, struct vc_error *err)
{
	spank_err_t rc = spank_setenv(sp, VC_TASKREF_PROGRAM_ENV, t->argv[0], 1);
	return rc == ESPANK_SUCCESS ? 0 : vc_error_set(err, VC_EHOST, "cannot set %s: %s", VC_TASKREF_PROGRAM_ENV, spank_strerror(rc));
}

// The limits that srun sent along; Slurm sets them after this hook.
static void set_limits(char *const *env)
{
	static const struct {
		const char *name;
		int resource;
	} limits[] = {
		{"SLURM_RLIMIT_CPU", RLIMIT_CPU},     {"SLURM_RLIMIT_FSIZE", RLIMIT_FSIZE},   {"SLURM_RLIMIT_DATA", RLIMIT_DATA},
		{"SLURM_RLIMIT_STACK", RLIMIT_STACK}, {"SLURM_RLIMIT_CORE", RLIMIT_CORE},     {"SLURM_RLIMIT_RSS", RLIMIT_RSS},
		{"SLURM_RLIMIT_NPROC", RLIMIT_NPROC}, {"SLURM_RLIMIT_NOFILE", RLIMIT_NOFILE}, {"SLURM_RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
		{"SLURM_RLIMIT_AS", RLIMIT_AS},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(limits); i++) {
		const char *text = env_get(env, limits[i].name);
		struct rlimit now;
		uint64_t soft;
		if (!text || vc_parse_u64(limits[i].name, text, 0, UINT64_MAX, &soft, NULL) < 0 || getrlimit(limits[i].resource, &now) < 0)
			continue;
		now.rlim_cur = soft < now.rlim_max ? soft : now.rlim_max;
		setrlimit(limits[i].resource, &now);
	}
}

static int add_words(char **program, size_t *n, char *const *words, struct vc_error *err)
{
	for (size_t i = 0; words[i]; i++) {
		if (!(program[(*n)++] = strdup(words[i])))
			return vc_error_errno(err, "the task's program");
	}
	return 0;
}

// What the user meant to run. A file that holds the text, or a name of nothing that can be executed here, is a --multi-prog
// file: arguments after it go to each of its programs. Anything else is a command.
static int find_program(struct task *t, struct vc_error *err)
{
	vc_autostrv char **first = NULL;
	size_t n = 0;
	bool file = multiprog_is_file(t->argv[0], t->argv[1]), maybe = file || access(t->argv[0], X_OK) != 0;
	if (maybe && !is_one_program(t) && multiprog_argv(t->argv[1], t->rank, &first, err) < 0 && file)
		return -1;
	char **program = t->program = calloc(vc_strv_len(first) + vc_strv_len(t->argv) + 1, sizeof(*t->program));
	if (!program)
		return vc_error_errno(err, "the task's program");
	if (first && add_words(program, &n, first, err) < 0)
		return -1;
	return add_words(program, &n, first ? t->argv + 2 : t->argv, err);
}

// vcexec -- PROGRAM ARGUMENTS; returns only when it failed.
static int exec_program(const struct plugin *p, spank_t sp, struct task *t, struct vc_error *err)
{
	if (find_program(t, err) < 0)
		return -1;
	size_t n = vc_strv_len(t->program);
	vc_autofree char **argv = calloc(n + 3, sizeof(*argv));
	if (!argv || spank_get_item(sp, S_JOB_ENV, &t->env) != ESPANK_SUCCESS)
		return vc_error_set(err, VC_EHOST, "cannot start %s: out of memory", p->args.vcexec);
	argv[0] = (char *)p->args.vcexec;
	argv[1] = (char *)"--";
	memcpy(argv + 2, t->program, n * sizeof(*argv));
	set_limits(t->env);
	execve(argv[0], argv, t->env);
	return vc_error_errno(err, "cannot start %s", argv[0]);
}

static int turn(const struct plugin *p, spank_t sp, struct task *t, struct vc_error *err)
{
	struct task_facts facts;
	const char *why = NULL;
	get_facts(p, t, &facts);
	enum task_action action = task_decide(&facts, &why);
	if (action == TASK_PLAIN)
		return 0;
	if (action == TASK_REFUSE)
		return vc_error_set(err, VC_EUSER, "%s", why);
	if (set_taskref(p, sp, t, err) < 0)
		return -1;
	if (action == TASK_REPLACE)
		return tell_program(sp, t, err) < 0 ? -1 : replace_program(p, t, err);
	spank_unsetenv(sp, VC_TASKREF_PROGRAM_ENV); // the program stands behind vcexec's "--"
	return action == TASK_READY ? replace_program(p, t, err) : exec_program(p, sp, t, err);
}

int remote_task(struct plugin *p, spank_t sp)
{
	struct vc_error err = VC_ERROR_INIT;
	struct task t = {0};
	// Without the job's id there is no telling whose it is: only a step that asked can be failed for it.
	bool known = spank_get_item(sp, S_JOB_ID, &t.job) == ESPANK_SUCCESS;
	bool ours = p->asked || (known && (mark_exists(&p->args, t.job) || mark_is_lease(&p->args, t.job)));
	if (!known)
		vc_error_set(&err, VC_EHOST, "slurmstepd does not say which job this is");
	int rc = !known || get_task(p, sp, &t, &err) < 0 ? (ours ? -1 : 0) : turn(p, sp, &t, &err);
	vc_strv_free(t.program);
	if (rc < 0)
		plugin_say(&err);
	return rc;
}
