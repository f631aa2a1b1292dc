// SPDX-License-Identifier: GPL-2.0-or-later
// Slurm's commands in a guest: see slurmtool.h. Files for standard streams are this guest's, so they are opened here.
#include "guest/slurmtool.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/askagent.h"
#include "guest/slurmopt.h"
#include "libvc/cleanup.h"
#include "libvc/hostlist.h"
#include "libvc/limits.h"

#define NAMES_MAX 65536u // of scontrol show hostnames

// --- standard streams ------------------------------------------------------------------------------------------

static int expand(const char *option, const char *pattern, const char *job, const char *user, FILE *out, struct vc_error *err)
{
	for (const char *p = pattern; *p; p++) {
		if (*p != '%') {
			fputc(*p, out);
			continue;
		}
		switch (*++p) {
		case '%':
			fputc('%', out);
			break;
		case 'j':
		case 'A':
			fputs(job, out);
			break;
		case 'u':
			fputs(user, out);
			break;
		default:
			return vc_error_set(err, VC_EUSER,
					    "srun: --%s=%s: of the patterns only %%j, %%A, %%u and %%%% are possible in a virtual cluster",
					    option, pattern);
		}
	}
	return 0;
}

int slurmtool_file(const char *option, const char *pattern, const char *job, const char *user, char **ret_path,
		   struct vc_error *err)
{
	char *path = NULL;
	size_t len;
	*ret_path = NULL;
	if (!strcmp(pattern, "all"))
		return 0;
	if (!strcmp(pattern, "none"))
		pattern = "/dev/null";
	if (!*pattern || strspn(pattern, "0123456789") == strlen(pattern))
		return vc_error_set(err, VC_EUSER, "srun: --%s=%s: streams of one task alone are not possible in a virtual cluster", option,
				    pattern);
	FILE *out = open_memstream(&path, &len);
	if (!out)
		return vc_error_errno(err, "srun: --%s", option);
	int rc = expand(option, pattern, job, user, out, err);
	if (fclose(out) != 0 && rc == 0)
		rc = vc_error_errno(err, "srun: --%s", option);
	if (rc < 0)
		free(path);
	else
		*ret_path = path;
	return rc;
}

static const char *env_or(const char *name, const char *fallback)
{
	const char *value = getenv(name);
	return value ? value : fallback;
}

static int redirect(const struct slurmopt_request *r, const char *option, int fd, int flags, struct vc_error *err)
{
	const char *pattern = slurmopt_get(r, option);
	vc_autofree char *path = NULL;
	if (!pattern)
		return 0;
	if (slurmtool_file(option, pattern, env_or("SLURM_JOB_ID", "0"), env_or("USER", "nobody"), &path, err) < 0)
		return -1;
	if (!path)
		return 0;
	vc_autoclose int file = open(path, flags | O_CLOEXEC, 0666);
	if (file < 0 || dup2(file, fd) < 0)
		return vc_error_errno(err, "srun: --%s=%s", option, path);
	return 0;
}

static int redirect_all(const struct slurmopt_request *r, struct vc_error *err)
{
	const char *mode = slurmopt_get(r, "open-mode");
	const char *dir = slurmopt_get(r, "chdir");
	int flags = O_WRONLY | O_CREAT | (mode && mode[0] == 'a' ? O_APPEND : O_TRUNC);
	if (dir && chdir(dir) < 0)
		return vc_error_errno(err, "srun: --chdir=%s", dir);
	if (redirect(r, "input", STDIN_FILENO, O_RDONLY, err) < 0 || redirect(r, "output", STDOUT_FILENO, flags, err) < 0 ||
	    redirect(r, "error", STDERR_FILENO, flags, err) < 0)
		return -1;
	// as with Slurm: without a file of its own, standard error goes where --output says
	if (slurmopt_get(r, "output") && !slurmopt_get(r, "error") && strcmp(slurmopt_get(r, "output"), "all") != 0 &&
	    dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
		return vc_error_errno(err, "srun: standard error");
	return 0;
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

static int run_on_host(const struct slurmopt_request *r, struct vc_exec_result *ret, struct vc_error *err)
{
	const char *tool = slurmopt_tool_name(r->tool);
	struct askagent ask = {.kind = "slurm", .tool = tool};
	struct vc_exec_start start = {0};
	unsigned fates = 1u << SLURMOPT_PASS | 1u << SLURMOPT_HOST;
	vc_autostrv char **argv = slurmopt_rebuild(r, tool, fates, NULL, err);
	if (!argv || vc_exec_start_from_self(&start, argv, NULL, err) < 0)
		return -1;
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
	if (rc == 0 && wants_hostnames(&req)) {
		if (show_hostnames(req.n_rest > 2 ? req.rest[2] : NULL, &err) == 0)
			return 0;
		rc = -1;
	}
	if (rc == 0 && tool == SLURMOPT_SRUN)
		rc = redirect_all(&req, &err);
	if (rc == 0)
		rc = run_on_host(&req, &result, &err);
	if (rc < 0) {
		fprintf(stderr, "vcluster: %s\n", err.text);
		return result.status ? result.status : 1;
	}
	vc_execclient_die(&result);
}
