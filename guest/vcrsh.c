// SPDX-License-Identifier: GPL-2.0-or-later
// The launch agent: see vcrsh.h. Fails with a message and status 255, as ssh does.
#include "guest/vcrsh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/askagent.h"
#include "libvc/cleanup.h"
#include "libvc/limits.h"

#define RECONNECT_MS 20000u // a member that does not answer for so long is down: mpirun wants to know
#define FAILED_STATUS 255 // launchers know it from ssh: the connection failed, not the command

// rsh starts a command with the target's own environment. Ours goes along, so that what the batch script has set up
// (modules, paths) holds on all members, but for what is true of this process or this member only.
static char *const env_filter[] = {"HOSTNAME",	      "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_GTIDS",
				   "SLURM_TASK_PID",  "SLURMD_*",     "PMI_*",	       "PMI2_*",       "PMIX_*",
				   "VCLUSTER_RANK",   "VCLUSTER_MEMBER", "SSH_*",      NULL};

// ssh's and rsh's options that have a value in the next word.
static const char with_value[] = "BbcDEeFIiJLlmOopQRSWw";

static int join(char *const *words, char **ret, struct vc_error *err)
{
	size_t len = 1;
	for (size_t i = 0; words[i]; i++)
		len += strlen(words[i]) + 1;
	if (len > VC_ARG_MAX)
		return vc_error_set(err, VC_EUSER, "the command has more than %u bytes", VC_ARG_MAX);
	char *text = malloc(len), *p = text;
	if (!text)
		return vc_error_errno(err, "command");
	for (size_t i = 0; words[i]; i++) {
		if (i)
			*p++ = ' ';
		p = stpcpy(p, words[i]);
	}
	*p = '\0';
	*ret = text;
	return 0;
}

// Takes one word of options; *i is moved past a value.
static int take_options(char *const *argv, size_t *i, struct vcrsh_args *args, struct vc_error *err)
{
	for (const char *p = argv[*i] + 1; *p; p++) {
		if (*p == 'n')
			args->no_stdin = true;
		if (*p == 't')
			args->tty = true;
		if (!strchr(with_value, *p))
			continue;
		if (!p[1] && !argv[++*i])
			return vc_error_set(err, VC_EUSER, "-%c needs a value", *p);
		return 0;
	}
	return 0;
}

int vcrsh_parse(char *const *argv, struct vcrsh_args *ret, struct vc_error *err)
{
	struct vcrsh_args args = {0};
	size_t i = 1;
	for (int pass = 0; pass < 2; pass++) { // options may follow the host, as rsh takes `HOST -l USER COMMAND`
		for (; argv[i] && argv[i][0] == '-' && argv[i][1]; i++) {
			if (!strcmp(argv[i], "--")) {
				i++;
				break;
			}
			if (take_options(argv, &i, &args, err) < 0)
				return -1;
		}
		if (pass == 0 && !argv[i])
			return vc_error_set(err, VC_EUSER, "usage: vcrsh [-n] [-t] HOST [COMMAND...]");
		if (pass == 0)
			args.host = argv[i++];
	}
	const char *at = strrchr(args.host, '@');
	args.host = at ? at + 1 : args.host;
	if (argv[i] && join(argv + i, &args.command, err) < 0)
		return -1;
	*ret = args;
	return 0;
}

static const char *find_shell(void)
{
	return access("/bin/bash", X_OK) == 0 ? "/bin/bash" : "/bin/sh"; // all members boot one image
}

int vcrsh_run(const struct vcrsh_args *args, struct vc_exec_result *ret, struct vc_error *err)
{
	struct askagent ask = {.kind = "rsh", .host = args->host};
	struct vc_exec_start start = {0};
	char *shell = (char *)(uintptr_t)find_shell();
	char *const with[] = {shell, (char *)(uintptr_t)"-c", args->command, NULL};
	char *const alone[] = {shell, (char *)(uintptr_t)"-l", NULL};
	struct vc_execclient client = {
		.connect = askagent_connect,
		.ctx = &ask,
		.session = askagent_session(false),
		.open_body = "{\"kind\":\"rsh\"}",
		.start = &start,
		.pty = args->tty || (!args->command && isatty(STDIN_FILENO)),
		.where = args->host,
		.reconnect_ms = RECONNECT_MS,
	};
	if (vc_exec_start_from_self(&start, args->command ? with : alone, env_filter, err) < 0)
		return -1;
	free(start.cwd);
	start.cwd = NULL; // the home directory, as with rsh
	int rc = vc_execclient_run(&client, ret, err);
	vc_exec_start_clear(&start);
	return rc;
}

int vcrsh_main(int argc, char **argv)
{
	struct vcrsh_args args = {0};
	struct vc_exec_result result = {.status = FAILED_STATUS};
	struct vc_error err = VC_ERROR_INIT;
	(void)argc;
	if (vcrsh_parse(argv, &args, &err) < 0) {
		fprintf(stderr, "vcluster: vcrsh: %s\n", err.text);
		return FAILED_STATUS;
	}
	if (args.no_stdin) {
		int fd = open("/dev/null", O_RDONLY);
		if (fd < 0 || dup2(fd, STDIN_FILENO) < 0)
			perror("vcluster: vcrsh: /dev/null");
	}
	if (vcrsh_run(&args, &result, &err) < 0) {
		fprintf(stderr, "vcluster: vcrsh: %s: %s\n", args.host, err.text);
		free(args.command);
		return result.status > 1 ? result.status : FAILED_STATUS;
	}
	free(args.command);
	vc_execclient_die(&result);
}
