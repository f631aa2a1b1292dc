// SPDX-License-Identifier: GPL-2.0-or-later
// vc-stage: moves a job's files into a member of its virtual cluster, or back, as the job's user.
//
// A pipe between tar on this host and tar in the guest, which vcexec runs there: names and modes stay, contents are
// never seen by root. Started by vcd before the job (in, --as USER drops root first) and by vcexec after the batch
// script (out). On the way out only the names that were asked for are unpacked, whatever the guest's tar sends. With check,
// nothing moves: it says which files the user cannot read here, before a machine is started for them.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/error.h"
#include "libvc/limits.h"

#define FIXED_ARGS 16 // words beside the files: vcexec's options and tar's

struct stage {
	const char *as, *job, *restart, *rank, *vcexec;
	bool out, check;
	char **files; // NULL-terminated, absolute
	size_t n_files;
};

static const char usage_text[] = "Example:\n"
				 "  vc-stage --job=123 --rank=0 in /home/alice/input.dat\n"
				 "\n"
				 "Usage: vc-stage [--as=USER] --job=N [--restart=N] --rank=R in|out FILE...\n"
				 "       vc-stage [--as=USER] check FILE...\n"
				 "Copies files between this host and a member of a job's virtual cluster, or says\n"
				 "which of them cannot be read here; FILE is absolute.\n";

static int parse(struct stage *s, int argc, char **argv, struct vc_error *err)
{
	static const struct option options[] = {
		{"as", 1, NULL, 'a'}, {"job", 1, NULL, 'j'}, {"restart", 1, NULL, 'r'}, {"rank", 1, NULL, 'k'}, {NULL, 0, NULL, 0},
	};
	int opt;
	opterr = 0;
	while ((opt = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		const char **slot = opt == 'a' ? &s->as : opt == 'j' ? &s->job : opt == 'r' ? &s->restart : opt == 'k' ? &s->rank : NULL;
		if (!slot)
			return vc_error_set(err, VC_EUSER, "unknown option\n%s", usage_text);
		*slot = optarg;
	}
	const char *way = argv[optind] ? argv[optind] : "";
	s->out = strcmp(way, "out") == 0;
	s->check = strcmp(way, "check") == 0;
	if ((!s->check && (!s->job || !s->rank || (!s->out && strcmp(way, "in") != 0))) || !argv[optind + 1])
		return vc_error_set(err, VC_EUSER, "job, rank, direction or files are missing\n%s", usage_text);
	s->files = &argv[optind + 1];
	for (; s->files[s->n_files]; s->n_files++) {
		if (s->files[s->n_files][0] != '/')
			return vc_error_set(err, VC_EUSER, "'%s' is not an absolute path", s->files[s->n_files]);
	}
	return 0;
}

static int drop_root(const char *user, struct vc_error *err)
{
	const struct passwd *pwd = getpwnam(user);
	if (!pwd)
		return vc_error_set(err, VC_EHOST, "user '%s' is unknown on this host", user);
	if (initgroups(user, pwd->pw_gid) < 0 || setgid(pwd->pw_gid) < 0 || setuid(pwd->pw_uid) < 0)
		return vc_error_errno(err, "becoming user '%s'", user);
	return 0;
}

// The host's tar, or with in_guest the guest's behind vcexec. tar works from /; "./name" is never taken for an option.
static char **command(const struct stage *s, bool in_guest)
{
	bool create = in_guest == s->out;
	char **argv = calloc(FIXED_ARGS + s->n_files + 1, sizeof(*argv)), **a = argv;
	if (!argv)
		return NULL;
	if (in_guest) {
		*a++ = (char *)s->vcexec;
		*a++ = "--job";
		*a++ = (char *)s->job;
		*a++ = "--restart";
		*a++ = (char *)s->restart;
		*a++ = "--rank";
		*a++ = (char *)s->rank;
		*a++ = "--";
	}
	*a++ = "tar";
	*a++ = "-C";
	*a++ = "/";
	*a++ = create ? "-cf" : "-xf";
	*a++ = "-";
	for (size_t i = 0; i < s->n_files && (create || !in_guest); i++) {
		if (asprintf(a++, ".%s", s->files[i]) < 0)
			return NULL;
	}
	return argv;
}

static pid_t run(const struct stage *s, bool in_guest, int in, int out)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	char **argv = command(s, in_guest);
	if (argv && (in < 0 || dup2(in, STDIN_FILENO) >= 0) && (out < 0 || dup2(out, STDOUT_FILENO) >= 0)) {
		closefrom(STDERR_FILENO + 1);
		execvp(argv[0], argv);
	}
	fprintf(stderr, "vcluster: %s: %s\n", argv ? argv[0] : "vc-stage", strerror(errno));
	_exit(127);
}

static int wait_for(pid_t pid, const char *what, struct vc_error *err)
{
	int status;
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return vc_error_errno(err, "%s", what);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return vc_error_set(err, VC_EUSER, "%s ended with %s %d", what, WIFEXITED(status) ? "status" : "signal",
			    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

// Neither side may read what is our own standard input; the pipe must not become one of descriptors 0 to 2.
static int open_null(struct vc_error *err)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	return fd < 0 ? vc_error_errno(err, "/dev/null") : fd;
}

static int stage(const struct stage *s, struct vc_error *err)
{
	int fds[2];
	vc_autoclose int null = open_null(err);
	if (null < 0)
		return -1;
	if (pipe(fds) < 0)
		return vc_error_errno(err, "pipe");
	pid_t sender = run(s, s->out, null, fds[1]);
	close(fds[1]);
	pid_t receiver = run(s, !s->out, fds[0], -1);
	close(fds[0]);
	int rc = wait_for(sender, s->out ? "tar in the guest" : "tar on the host", err);
	if (wait_for(receiver, s->out ? "tar on the host" : "tar in the guest", rc < 0 ? NULL : err) < 0)
		rc = -1;
	return rc < 0 ? vc_error_wrap(err, "member %s: stage-%s", s->rank, s->out ? "out" : "in") : 0;
}

// What tar will not get: a symbolic link goes as such, wherever it leads.
static bool is_there(const char *file)
{
	struct stat st;
	if (lstat(file, &st) < 0)
		return false;
	return S_ISLNK(st.st_mode) || access(file, S_ISDIR(st.st_mode) ? R_OK | X_OK : R_OK) == 0;
}

static int check(const struct stage *s, struct vc_error *err)
{
	const char *first = NULL;
	int why = 0;
	size_t missing = 0;
	for (size_t i = 0; i < s->n_files; i++) {
		if (is_there(s->files[i]))
			continue;
		if (!missing++) {
			why = errno;
			first = s->files[i];
		}
	}
	if (missing > 1)
		return vc_error_set(err, VC_EUSER, "%s: %s; and %zu more", first, strerror(why), missing - 1);
	return missing ? vc_error_set(err, VC_EUSER, "%s: %s", first, strerror(why)) : 0;
}

int main(int argc, char **argv)
{
	struct stage s = {.restart = "0", .vcexec = VC_LIBEXECDIR "/vcexec"};
	struct vc_error err = VC_ERROR_INIT;
	unsetenv("VCEXEC_TASK"); // of the batch script that we follow: our vcexec takes options
	if (parse(&s, argc, argv, &err) == 0 && (!s.as || drop_root(s.as, &err) == 0) &&
	    (s.check ? check(&s, &err) : stage(&s, &err)) == 0)
		return 0;
	fprintf(stderr, "vcluster: %s\n", err.text);
	return 1;
}
