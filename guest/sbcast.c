// SPDX-License-Identifier: GPL-2.0-or-later
// File broadcast by vcrsh: see sbcast.h. One process per member, a bounded number at once.
#include "guest/sbcast.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/vcrsh.h"
#include "libvc/cleanup.h"
#include "libvc/limits.h"

#define FANOUT 8 // copies at once; Slurm's default for its own tree

int sbcast_parse(char *const *argv, struct sbcast_args *ret, struct vc_error *err)
{
	struct sbcast_args a = {0};
	size_t i = 1;
	for (; argv[i] && argv[i][0] == '-' && argv[i][1]; i++) {
		const char *o = argv[i];
		if (!strcmp(o, "-f") || !strcmp(o, "--force"))
			a.force = true;
		else if (!strcmp(o, "-p") || !strcmp(o, "--preserve"))
			a.preserve = true;
		else if (!strcmp(o, "-F") || !strcmp(o, "-s") || !strcmp(o, "-t"))
			i += argv[i + 1] != NULL;
		else if (!strncmp(o, "-C", 2) || !strcmp(o, "-v") || !strncmp(o, "--compress", 10) || !strncmp(o, "--fanout=", 9) ||
			 !strncmp(o, "--size=", 7) || !strncmp(o, "--timeout=", 10) || !strcmp(o, "--verbose"))
			continue;
		else
			return vc_error_set(err, VC_EUSER, "sbcast: %s is unknown or not possible in a virtual cluster", o);
	}
	if (!argv[i] || !argv[i + 1] || argv[i + 2])
		return vc_error_set(err, VC_EUSER, "usage: sbcast [-f] [-p] SOURCE DEST");
	a.source = argv[i];
	a.dest = argv[i + 1];
	if (a.dest[0] != '/')
		return vc_error_set(err, VC_EUSER, "sbcast: DEST '%s' must be an absolute path", a.dest);
	*ret = a;
	return 0;
}

// In single quotes, as a shell takes it back.
static void quote(FILE *out, const char *text)
{
	fputc('\'', out);
	for (; *text; text++)
		fputs(*text == '\'' ? "'\\''" : (char[]){*text, '\0'}, out);
	fputc('\'', out);
}

char *sbcast_command(const struct sbcast_args *args, mode_t mode, long long mtime, struct vc_error *err)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	if (!out) {
		vc_error_errno(err, "sbcast");
		return NULL;
	}
	fputs("umask 077; d=", out);
	quote(out, args->dest);
	if (!args->force)
		fputs("; if [ -e \"$d\" ]; then echo \"vcluster: sbcast: $d exists (--force replaces it)\" >&2; exit 1; fi", out);
	fprintf(out, "; t=\"$d.sbcast.$$\"; cat >\"$t\" && chmod %04o \"$t\"", (unsigned)mode & 0777);
	if (args->preserve)
		fprintf(out, " && touch -d @%lld \"$t\"", mtime);
	fputs(" && mv -f \"$t\" \"$d\" || { rm -f \"$t\"; exit 1; }", out);
	if (fclose(out) != 0) {
		vc_error_errno(err, "sbcast");
		free(text);
		return NULL;
	}
	return text;
}

// In a process of its own: vcrsh's client takes the process over.
static void copy_to(const char *host, const char *source, char *command) __attribute__((noreturn));
static void copy_to(const char *host, const char *source, char *command)
{
	struct vcrsh_args args = {.host = host, .command = command};
	struct vc_exec_result result = {0};
	struct vc_error err = VC_ERROR_INIT;
	int fd = open(source, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || dup2(fd, STDIN_FILENO) < 0)
		vc_error_errno(&err, "%s", source);
	else if (vcrsh_run(&args, &result, &err) == 0)
		_exit(result.signo ? 1 : result.status);
	fprintf(stderr, "vcluster: sbcast: %s: %s\n", host, err.text);
	_exit(1);
}

static int wait_one(void)
{
	int wstatus;
	pid_t pid;
	do {
		pid = wait(&wstatus);
	} while (pid < 0 && errno == EINTR);
	return pid > 0 && WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 0 ? 0 : -1;
}

static int copy_to_all(FILE *members, const struct sbcast_args *args, char *command, struct vc_error *err)
{
	char host[VC_HOSTNAME_MAX + 2];
	int running = 0, failed = 0;
	while (fgets(host, sizeof(host), members)) {
		host[strcspn(host, "\n")] = '\0';
		if (running == FANOUT) {
			failed |= wait_one() < 0;
			running--;
		}
		pid_t pid = fork();
		if (pid == 0)
			copy_to(host, args->source, command);
		if (pid < 0)
			failed = vc_error_errno(err, "sbcast: fork") < 0;
		else
			running++;
	}
	for (; running > 0; running--)
		failed |= wait_one() < 0;
	return failed ? vc_error_set(err, VC_EFAILED, "sbcast: %s was not copied to all members", args->source) : 0;
}

int sbcast_main(int argc, char **argv)
{
	struct sbcast_args args;
	struct stat st;
	struct vc_error err = VC_ERROR_INIT;
	(void)argc;
	int rc = sbcast_parse(argv, &args, &err);
	if (rc == 0 && (stat(args.source, &st) < 0 || access(args.source, R_OK) < 0))
		rc = vc_error_errno(&err, "sbcast: %s", args.source);
	vc_autofree char *command = rc == 0 ? sbcast_command(&args, st.st_mode, (long long)st.st_mtime, &err) : NULL;
	vc_autofclose FILE *members = command ? fopen(VC_GUEST_DIR "/hostfile.plain", "re") : NULL;
	if (command && !members)
		vc_error_errno(&err, "sbcast: " VC_GUEST_DIR "/hostfile.plain");
	if (!members || copy_to_all(members, &args, command, &err) < 0) {
		fprintf(stderr, "vcluster: %s\n", err.text);
		return 1;
	}
	return 0;
}
