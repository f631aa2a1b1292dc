// SPDX-License-Identifier: GPL-2.0-or-later
// Slurm's commands in a guest: see slurmtool.h. Files of srun's own streams are this guest's, so they are opened here; files of
// tasks are opened where the tasks run.
#include "guest/slurmtool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/askagent.h"
#include "guest/iofile.h"
#include "guest/slurmopt.h"
#include "guest/taskenv.h"
#include "libvc/cleanup.h"
#include "libvc/hostlist.h"
#include "libvc/limits.h"
#include "libvc/multiprog.h"
#include "libvc/parse.h"

#define NAMES_MAX 65536u // of scontrol show hostnames

// --- standard streams ------------------------------------------------------------------------------------------

static const struct stream {
	const char *option, *env;
	int fd;
} streams[] = {
	{"input", "SLURM_STDINMODE", STDIN_FILENO},
	{"output", "SLURM_STDOUTMODE", STDOUT_FILENO},
	{"error", "SLURM_STDERRMODE", STDERR_FILENO},
};

// What the host's srun is told of files and, with --multi-prog, of the number of tasks.
struct told {
	char *options[VC_ARRAY_LEN(streams) + 3]; // and --open-mode, --ntasks; NULL-terminated
	size_t n;
};

static void told_clear(struct told *told)
{
	for (size_t i = 0; i < told->n; i++)
		free(told->options[i]);
}

static int tell(struct told *told, const char *option, const char *value, struct vc_error *err)
{
	if (strlen(value) > SLURMOPT_VALUE_MAX)
		return vc_error_set(err, VC_EUSER, "srun: --%s: the value is longer than %d bytes", option, SLURMOPT_VALUE_MAX);
	if (asprintf(&told->options[told->n], "--%s=%s", option, value) < 0) {
		told->options[told->n] = NULL;
		return vc_error_errno(err, "srun: --%s", option);
	}
	told->n++;
	return 0;
}

static const char *option_or_env(const struct slurmopt_request *r, const char *option, const char *env)
{
	const char *value = slurmopt_get(r, option);
	return value ? value : getenv(env);
}

static bool appends(const struct slurmopt_request *r)
{
	const char *mode = option_or_env(r, "open-mode", "SLURM_OPEN_MODE");
	return mode && mode[0] == 'a';
}

static int open_one(const struct slurmopt_request *r, const struct stream *s, const char *pattern, struct vc_error *err)
{
	const char *name = slurmopt_get(r, "job-name"), *job = getenv("SLURM_JOB_ID"), *user = getenv("USER");
	const struct iofile_facts facts = {
		.job = job ? job : "0",
		.array_job = getenv("SLURM_ARRAY_JOB_ID"),
		.array_task = getenv("SLURM_ARRAY_TASK_ID"),
		.user = user ? user : "nobody",
		.name = name ? name : getenv("SLURM_JOB_NAME"),
	};
	int flags = s->fd == STDIN_FILENO ? O_RDONLY : O_WRONLY | O_CREAT | O_APPEND | (appends(r) ? 0 : O_TRUNC);
	vc_autofree char *path = NULL;
	if (iofile_path(pattern, &facts, &path, err) < 0)
		return vc_error_wrap(err, "srun: --%s", s->option);
	vc_autoclose int file = open(path, flags | O_CLOEXEC, 0666);
	if (file < 0 || (file == s->fd ? fcntl(file, F_SETFD, 0) : dup2(file, s->fd)) < 0)
		return vc_error_errno(err, "srun: --%s=%s", s->option, path);
	if (file == s->fd) // it was closed
		file = -1;
	return 0;
}

// What tasks' files bring is not for this process; what they read does not come from it.
static int unused(const struct stream *s, struct vc_error *err)
{
	vc_autoclose int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (s->fd == STDIN_FILENO && (null < 0 || (null == s->fd ? fcntl(null, F_SETFD, 0) : dup2(null, s->fd)) < 0))
		return vc_error_errno(err, "srun: /dev/null");
	if (null == s->fd)
		null = -1;
	return 0;
}

static int redirect(const struct slurmopt_request *r, const struct stream *s, const char *pattern, struct told *told,
		    struct vc_error *err)
{
	switch (iofile_kind(pattern)) {
	case IOFILE_ONE:
		return open_one(r, s, pattern, err);
	case IOFILE_TASK:
		return tell(told, s->option, pattern, err); // that task's stream is ours
	case IOFILE_EACH:
		return tell(told, s->option, pattern, err) < 0 ? -1 : unused(s, err);
	case IOFILE_ALL:
		break;
	}
	return 0;
}

// As with Slurm: without a word of its own, standard error goes where --output says. One file is then opened once.
static int redirect_all(const struct slurmopt_request *r, struct told *told, struct vc_error *err)
{
	const char *dir = slurmopt_get(r, "chdir"), *patterns[VC_ARRAY_LEN(streams)];
	if (dir && chdir(dir) < 0)
		return vc_error_errno(err, "srun: --chdir=%s", dir);
	for (size_t i = 0; i < VC_ARRAY_LEN(streams); i++) {
		patterns[i] = option_or_env(r, streams[i].option, streams[i].env);
		bool follows = i == STDERR_FILENO && !patterns[i] && iofile_kind(patterns[STDOUT_FILENO]) == IOFILE_ONE;
		if (i == STDERR_FILENO && !patterns[i])
			patterns[i] = patterns[STDOUT_FILENO];
		if (follows ? dup2(STDOUT_FILENO, STDERR_FILENO) < 0 : redirect(r, &streams[i], patterns[i], told, err) < 0)
			return follows ? vc_error_errno(err, "srun: standard error") : -1;
	}
	return appends(r) ? tell(told, "open-mode", "append", err) : 0;
}

// --- --multi-prog ----------------------------------------------------------------------------------------------

// NUL-terminated; bytes behind a NUL do not count.
static char *read_text(const char *path, struct vc_error *err)
{
	vc_autofclose FILE *f = fopen(path, "re");
	vc_autofree char *text = f ? malloc(MULTIPROG_TEXT_MAX + 2) : NULL;
	size_t n = text ? fread(text, 1, MULTIPROG_TEXT_MAX + 1, f) : 0;
	if (!text || ferror(f)) {
		vc_error_errno(err, "srun: --multi-prog: %s", path);
		return NULL;
	}
	text[n] = '\0';
	return vc_steal(&text);
}

// As srun: a file that does not fit the tasks is refused before a step begins, and where nothing says how many tasks there are, it does.
static int check_programs(const struct slurmopt_request *r, const char *text, struct told *told, struct vc_error *err)
{
	const char *given = option_or_env(r, "ntasks", "SLURM_NTASKS");
	char number[24];
	uint64_t n = 0;
	uint32_t ntasks = 0;
	if (!given)
		given = getenv("SLURM_NPROCS");
	if (given && vc_parse_u64("ntasks", given, 1, UINT32_MAX, &n, err) < 0)
		return -1;
	if (multiprog_check(text, (uint32_t)n, &ntasks, err) < 0)
		return -1;
	snprintf(number, sizeof(number), "%" PRIu32, ntasks);
	return given ? 0 : tell(told, "ntasks", number, err);
}

// The text goes along, and each task takes its program from it in its own machine: the host never knows it for one. NULL: none.
static int get_programs(const struct slurmopt_request *r, struct told *told, char **ret_text, struct vc_error *err)
{
	if (!slurmopt_get(r, "multi-prog"))
		return 0;
	if (r->n_rest == 0)
		return vc_error_set(err, VC_EUSER, "srun: --multi-prog: name the file of programs");
	*ret_text = read_text(r->rest[0], err);
	if (!*ret_text)
		return -1;
	return check_programs(r, *ret_text, told, err) < 0 ? vc_error_wrap(err, "srun: %s", r->rest[0]) : 0;
}

// --- scontrol show hostnames: needs nobody ---------------------------------------------------------------------

static int show_hostnames(const char *list, struct vc_error *err)
{
	vc_autostrv char **names = NULL;
	if (!list)
		list = getenv("SLURM_JOB_NODELIST");
	if (!list)
		return vc_error_set(err, VC_EUSER, "scontrol: show hostnames: no list given and SLURM_JOB_NODELIST is not set");
	if (vc_hostlist_expand(list, NAMES_MAX, &names, NULL, err) < 0)
		return -1;
	for (size_t i = 0; names[i]; i++)
		puts(names[i]);
	return fflush(stdout) == 0 ? 0 : vc_error_errno(err, "scontrol: standard output");
}

static bool wants_hostnames(const struct slurmopt_request *r)
{
	return r->tool == SLURMOPT_SCONTROL && r->n_rest >= 2 && !strcmp(r->rest[0], "show") &&
	       !strncmp(r->rest[1], "hostn", 5);
}

// --- the rest --------------------------------------------------------------------------------------------------

static int run_on_host(const struct slurmopt_request *r, char *const *told, const char *programs, struct vc_exec_result *ret,
		       struct vc_error *err)
{
	const char *tool = slurmopt_tool_name(r->tool);
	struct askagent ask = {.kind = "slurm", .tool = tool};
	struct vc_exec_start start = {0};
	unsigned fates = 1u << SLURMOPT_PASS | 1u << SLURMOPT_HOST;
	vc_autostrv char **argv = slurmopt_rebuild(r, tool, fates, told, err);
	if (!argv || vc_exec_start_from_self(&start, argv, NULL, err) < 0)
		return -1;
	if (programs && vc_exec_setenv(&start, TASKENV_PROGRAMS, programs, err) < 0) {
		vc_exec_start_clear(&start);
		return -1;
	}
	struct vc_execclient client = {
		.connect = askagent_connect,
		.ctx = &ask,
		.session = askagent_session(true),
		.start = &start,
		.pty = r->tool == SLURMOPT_SRUN && slurmopt_get(r, "pty"),
		.where = "the host's Slurm",
	};
	int rc = vc_execclient_run(&client, ret, err);
	vc_exec_start_clear(&start);
	return rc;
}

static int run_tool(const struct slurmopt_request *r, struct vc_exec_result *ret, struct vc_error *err)
{
	struct told told = {0};
	vc_autofree char *programs = NULL;
	int rc = r->tool == SLURMOPT_SRUN ? redirect_all(r, &told, err) : 0;
	if (rc == 0 && r->tool == SLURMOPT_SRUN)
		rc = get_programs(r, &told, &programs, err);
	if (rc == 0)
		rc = run_on_host(r, told.options, programs, ret, err);
	told_clear(&told);
	return rc;
}

// True: it is done, or has failed.
static bool run_here(const struct slurmopt_request *r, int *ret_rc, struct vc_error *err)
{
	bool brief = slurmopt_get(r, "usage") != NULL;
	*ret_rc = 0;
	if (wants_hostnames(r))
		*ret_rc = show_hostnames(r->n_rest > 2 ? r->rest[2] : NULL, err);
	else if (brief || slurmopt_get(r, "help"))
		slurmopt_help(r->tool, brief, stdout);
	else
		return false;
	return true;
}

int slurmtool_main(int argc, char **argv)
{
	struct slurmopt_request req;
	struct vc_exec_result result = {.status = 1};
	struct vc_error err = VC_ERROR_INIT;
	enum slurmopt_tool tool;
	(void)argc;
	int rc = slurmopt_tool_from_name(basename(argv[0]), &tool, &err);
	if (rc == 0)
		rc = slurmopt_parse(tool, argv, &req, &err);
	if (rc == 0 && run_here(&req, &rc, &err) && rc == 0)
		return 0;
	if (rc == 0)
		rc = run_tool(&req, &result, &err);
	if (rc < 0) {
		fprintf(stderr, "vcluster: %s\n", err.text);
		return result.status ? result.status : 1;
	}
	vc_execclient_die(&result);
}
