// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl cp: tar on both sides of an exec session. Names travel as arguments of fixed scripts, never inside them.
//
// A guest is not trusted with this host's files: what it sends is unpacked in a fresh directory beside the target, and
// only the one entry that was asked for is moved from there.
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/vcctl/copy.h"
#include "cmd/vcctl/session.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"

// In the guest: $1 where to, $2 the one name in the archive, or nothing when there are several.
static const char receive_script[] =
	"d=$1; [ -n \"$2\" ] && [ ! -d \"$d\" ] || exec tar -xf - -C \"$d\"\n"
	"case $d in */) echo \"$d: no such directory\" >&2; exit 1;; */*) p=${d%/*}/;; *) p=./;; esac\n"
	"t=$(mktemp -d \"${p}.vcctl.XXXXXX\") || exit 1\n"
	"tar -xf - -C \"$t\" && mv -- \"$t/$2\" \"$d\"; s=$?\n"
	"rm -rf -- \"$t\"; exit $s\n";
// In the first of several guests: $1 and $2 as above, $3 the names of the other members, $4 receive_script, $5 chain_script.
static const char first_script[] =
	"export VC_CP_DIR=\"$1\" VC_CP_NAME=\"$2\" VC_CP_NEXT=\"$3\" VC_CP_RECEIVE=\"$4\" VC_CP_CHAIN=\"$5\"\n"
	"exec /bin/sh -c \"$5\"\n";
// In each of them: unpacks what comes and passes it on to the next. vcrsh takes the variables along, so that no name becomes
// part of a command. A next one that ends early ends only its own copy and those behind it.
static const char chain_script[] =
	"set -- $VC_CP_NEXT\n"
	"[ $# -gt 0 ] || exec /bin/sh -c \"$VC_CP_RECEIVE\" vcctl \"$VC_CP_DIR\" \"$VC_CP_NAME\"\n"
	"next=$1; shift; export VC_CP_NEXT=\"$*\"\n"
	"t=$(mktemp -d) && mkfifo \"$t/next\" || exit 1\n"
	"trap '' PIPE\n"
	"/run/vcluster/bin/vcrsh \"$next\" 'exec /bin/sh -c \"$VC_CP_CHAIN\"' <\"$t/next\" &\n"
	"tee \"$t/next\" | /bin/sh -c \"$VC_CP_RECEIVE\" vcctl \"$VC_CP_DIR\" \"$VC_CP_NAME\"; s=$?\n"
	"wait $! || { echo \"copying to $next or behind it failed\" >&2; s=1; }\n"
	"rm -rf -- \"$t\"; exit $s\n";
// In the guest: $1 the directory, $2 the name in it.
static const char send_script[] = "cd -- \"$1\" && exec tar -cf - -- \"$2\"";

// --- processes ---------------------------------------------------------------------------------------------------

// A child whose standard input or output is fd; -1 with errno.
static pid_t spawn(char *const *argv, int as, int fd)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	if (dup2(fd, as) >= 0)
		execvp(argv[0], argv);
	fprintf(stderr, "vcctl: %s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

// The session takes over its process, so that each one has a process of its own. No program is executed in it: it has
// to let go of both ends of the pipe itself, or would wait for the end of its own input.
static pid_t spawn_session(const struct ctl *ctl, const struct target *target, char *const *argv, int as, const int *pipe_fds)
{
	int fd = pipe_fds[as == STDIN_FILENO ? 0 : 1];
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	struct vc_exec_result result = {.status = CTL_FAILED};
	struct vc_error err = VC_ERROR_INIT;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, as == STDIN_FILENO ? STDOUT_FILENO : STDIN_FILENO) < 0 || dup2(fd, as) < 0)
		vc_error_errno(&err, "redirecting the copy");
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	if (!err.code && session_run(ctl, target, argv, false, &result, &err) == 0)
		_exit(result.signo ? 128 + result.signo : result.status);
	fprintf(stderr, "vcctl: %s\n", err.text);
	_exit(result.status ? result.status : CTL_FAILED);
}

static int wait_status(pid_t pid)
{
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// A local tar and a session, joined by a pipe: `reader` reads what the other writes. Both said themselves what failed.
static int run_pair(const struct ctl *ctl, const struct target *target, char *const *local, char *const *remote, bool to_guest,
		    struct vc_error *err)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return vc_error_errno(err, "pipe");
	pid_t tar = spawn(local, to_guest ? STDOUT_FILENO : STDIN_FILENO, fds[to_guest ? 1 : 0]);
	pid_t session = tar < 0 ? -1 : spawn_session(ctl, target, remote, to_guest ? STDIN_FILENO : STDOUT_FILENO, fds);
	int saved = errno;
	close(fds[0]);
	close(fds[1]);
	int tar_status = tar < 0 ? 1 : wait_status(tar);
	int session_status = session < 0 ? 1 : wait_status(session);
	errno = saved;
	if (tar < 0 || session < 0)
		return vc_error_errno(err, "fork");
	if (tar_status || session_status)
		return vc_error_set(err, VC_EFAILED, "copying %s member %u (%s) of job %u failed", to_guest ? "to" : "from",
				    target->rank, target->name, target->job);
	return 0;
}

// --- to members --------------------------------------------------------------------------------------------------

// The absolute directory and the name of a source. A symbolic link is copied as one.
static int locate(const char *source, char **ret_dir, char **ret_name, struct vc_error *err)
{
	vc_autofree char *dir = NULL;
	struct stat st;
	if (lstat(source, &st) < 0)
		return vc_error_errno(err, "%s", source);
	if (copy_split(source, &dir, ret_name, err) < 0)
		return -1;
	*ret_dir = realpath(dir, NULL);
	if (*ret_dir)
		return 0;
	free(vc_steal(ret_name));
	return vc_error_errno(err, "%s", dir);
}

// tar -cf - -C DIR ./NAME -C DIR ./NAME...; directories are absolute since -C accumulates, "./": never an option.
static int pack_argv(char **sources, int n, char ***ret, struct vc_error *err)
{
	static const char *const head[] = {"tar", "-cf", "-"};
	vc_autostrv char **argv = calloc((size_t)n * 3 + VC_ARRAY_LEN(head) + 1, sizeof(*argv));
	size_t at = 0;
	for (; argv && at < VC_ARRAY_LEN(head); at++)
		if (!(argv[at] = strdup(head[at])))
			return vc_error_set(err, ENOMEM, "out of memory");
	for (int i = 0; argv && i < n; i++) {
		vc_autofree char *dir = NULL, *name = NULL;
		if (locate(sources[i], &dir, &name, err) < 0)
			return -1;
		argv[at++] = strdup("-C");
		argv[at++] = vc_steal(&dir);
		if (!argv[at - 2] || asprintf(&argv[at++], "./%s", name) < 0)
			return vc_error_set(err, ENOMEM, "out of memory");
	}
	*ret = vc_steal(&argv);
	return *ret ? 0 : vc_error_set(err, ENOMEM, "out of memory");
}

// The name that a single source has in the archive, "" for several.
static int single_name(char **sources, int n, char **ret, struct vc_error *err)
{
	vc_autofree char *dir = NULL;
	if (n == 1)
		return locate(sources[0], &dir, ret, err);
	*ret = strdup("");
	return *ret ? 0 : vc_error_set(err, ENOMEM, "out of memory");
}

// "vc1-1 vc1-2": all but the first.
static char *names_behind(const struct target *targets, size_t n)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	for (size_t i = 1; f && i < n; i++)
		fprintf(f, "%s%s", i > 1 ? " " : "", targets[i].name);
	return f && fclose(f) == 0 ? text : NULL;
}

static int copy_to(const struct ctl *ctl, char **sources, int n, const struct copy_side *to, struct vc_error *err)
{
	vc_autofree struct target *targets = NULL;
	vc_autofree char *name = NULL, *behind = NULL;
	vc_autostrv char **local = NULL;
	size_t n_targets;
	if (single_name(sources, n, &name, err) < 0 || pack_argv(sources, n, &local, err) < 0 ||
	    target_find(ctl, to->job, to->member, &targets, &n_targets, err) < 0)
		return -1;
	char *const remote[] = {"/bin/sh", "-c", (char *)receive_script, "vcctl", to->path, name, NULL};
	if (n_targets <= 1)
		return n_targets ? run_pair(ctl, &targets[0], local, remote, true, err) : 0;
	behind = names_behind(targets, n_targets);
	if (!behind)
		return vc_error_set(err, ENOMEM, "out of memory");
	char *const chain[] = {"/bin/sh", "-c", (char *)first_script, "vcctl", to->path, name, behind, (char *)receive_script,
			       (char *)chain_script, NULL};
	return run_pair(ctl, &targets[0], local, chain, true, err);
}

// --- from members ------------------------------------------------------------------------------------------------

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	return type == FTW_DP ? rmdir(path) : unlink(path);
}

static bool is_dir(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

// DIR/NAME when to is a directory (or must be one), to itself otherwise.
static char *final_path(const char *to, const char *name, bool into)
{
	char *path = NULL;
	if (!into && !is_dir(to))
		return strdup(to);
	return asprintf(&path, "%s/%s", to, name) < 0 ? NULL : path;
}

static int receive(const struct ctl *ctl, const struct target *target, const char *from, const char *to, bool into,
		   struct vc_error *err)
{
	vc_autofree char *dir = NULL, *name = NULL, *final = NULL, *final_dir = NULL, *final_name = NULL, *tmp = NULL, *got = NULL;
	if (copy_split(from, &dir, &name, err) < 0)
		return -1;
	final = final_path(to, name, into);
	if (!final || copy_split(final, &final_dir, &final_name, err) < 0)
		return -1;
	if (asprintf(&tmp, "%s/.vcctl.XXXXXX", final_dir) < 0 || !mkdtemp(tmp) || asprintf(&got, "%s/%s", tmp, name) < 0)
		return vc_error_errno(err, "%s", final_dir);
	char *const local[] = {"tar", "-xf", "-", "-C", tmp, "--no-same-owner", NULL};
	char *const remote[] = {"/bin/sh", "-c", (char *)send_script, "vcctl", dir, name, NULL};
	int rc = run_pair(ctl, target, local, remote, false, err);
	if (rc == 0 && rename(got, final) < 0)
		rc = vc_error_errno(err, "%s", final);
	nftw(tmp, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return rc;
}

// From all members: DST/NAME-OF-MEMBER/FILE.
static int copy_from(const struct ctl *ctl, const struct copy_side *from, const char *to, struct vc_error *err)
{
	vc_autofree struct target *targets = NULL;
	size_t n;
	if (target_find(ctl, from->job, from->member, &targets, &n, err) < 0)
		return -1;
	if (strcmp(from->member, TARGET_ALL) != 0)
		return receive(ctl, &targets[0], from->path, to, false, err);
	if (!is_dir(to))
		return vc_error_set(err, VC_EUSER, "%s: copying from all members needs a directory", to);
	for (size_t i = 0; i < n; i++) {
		vc_autofree char *dir = NULL;
		if (asprintf(&dir, "%s/%s", to, targets[i].name) < 0 || (mkdir(dir, 0777) < 0 && errno != EEXIST))
			return vc_error_errno(err, "%s/%s", to, targets[i].name);
		if (receive(ctl, &targets[i], from->path, dir, true, err) < 0)
			return -1;
	}
	return 0;
}

// --json: what went where, {copied: [{member, rank, host}], from: [...], to}.
static int print_copied(const struct ctl *ctl, const struct copy_side *side, char **sources, int n, const char *to, struct vc_error *err)
{
	vc_autofree struct target *targets = NULL;
	size_t n_targets;
	if (target_find(ctl, side->job, side->member, &targets, &n_targets, err) < 0)
		return -1;
	vc_autojson struct json_object *result = json_object_new_object();
	struct json_object *copied = json_object_new_array(), *from = json_object_new_array();
	for (size_t i = 0; i < n_targets; i++) {
		struct json_object *item = json_object_new_object();
		vc_json_add_str(item, "member", targets[i].name);
		vc_json_add_u64(item, "rank", targets[i].rank);
		vc_json_add_str(item, "host", targets[i].host);
		json_object_array_add(copied, item);
	}
	for (int i = 0; i < n; i++)
		json_object_array_add(from, json_object_new_string(sources[i]));
	vc_json_add(result, "copied", copied);
	vc_json_add(result, "from", from);
	vc_json_add_str(result, "to", to);
	return ctl_print_json(result);
}

// --- the verb ----------------------------------------------------------------------------------------------------

static int any_remote(char **words, int n, bool *ret, struct vc_error *err)
{
	*ret = false;
	for (int i = 0; i < n; i++) {
		struct copy_side side;
		if (copy_side_parse(words[i], &side, err) < 0)
			return -1;
		*ret |= side.job != NULL;
		copy_side_clear(&side);
	}
	return 0;
}

static int copy(const struct ctl *ctl, char **args, int n, const struct copy_side *first, const struct copy_side *last,
		struct vc_error *err)
{
	bool remote_source;
	if (any_remote(args, n - 1, &remote_source, err) < 0)
		return -1;
	if (last->job && !remote_source)
		return copy_to(ctl, args, n - 1, last, err);
	if (!last->job && first->job && n == 2)
		return copy_from(ctl, first, last->path, err);
	return vc_error_set(err, VC_EUSER, "cp goes from this host to members (the last word is JOB:MEMBER:PATH), or from one "
					   "JOB:MEMBER:PATH to this host");
}

int ctl_cp(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	struct copy_side first = {0}, last = {0};
	int rc = -1;
	if (copy_side_parse(args[0], &first, err) == 0 && copy_side_parse(args[n - 1], &last, err) == 0)
		rc = copy(ctl, args, n, &first, &last, err);
	if (rc == 0 && ctl->json)
		rc = print_copied(ctl, last.job ? &last : &first, args, n - 1, args[n - 1], err);
	copy_side_clear(&first);
	copy_side_clear(&last);
	return rc < 0 ? ctl_fail(err) : CTL_OK;
}
