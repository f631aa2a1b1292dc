// SPDX-License-Identifier: GPL-2.0-or-later
// Sessions in members: see session.h. The streams, signals and status are libvc/execclient.h's.
#include "cmd/vcctl/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"

// --- which member ------------------------------------------------------------------------------------------------

static bool is_meant(struct json_object *member, const char *text)
{
	char rank[CTL_TEXT];
	return strcmp(text, TARGET_ALL) == 0 || strcmp(text, ctl_str(member, "name")) == 0 ||
	       strcmp(text, ctl_text_u64(ctl_u64(member, "rank"), rank)) == 0;
}

static void fill_target(struct target *t, struct json_object *cluster, struct json_object *member)
{
	struct json_object *owner = ctl_get(ctl_get(cluster, "plan"), "owner");
	*t = (struct target){.job = (uint32_t)ctl_u64(cluster, "job"),
			     .restart = (uint32_t)ctl_u64(cluster, "restart"),
			     .rank = (uint32_t)ctl_u64(member, "rank")};
	snprintf(t->name, sizeof(t->name), "%s", ctl_str(member, "name"));
	snprintf(t->host, sizeof(t->host), "%s", ctl_str(member, "host"));
	snprintf(t->user, sizeof(t->user), "%s", ctl_str(owner, "user"));
	snprintf(t->home, sizeof(t->home), "%s", ctl_str(owner, "home"));
}

int target_find(const struct ctl *ctl, const char *job_text, const char *member, struct target **ret, size_t *ret_n,
		struct vc_error *err)
{
	uint32_t job;
	if (ctl_parse_job(job_text, &job, err) < 0)
		return -1;
	vc_autojson struct json_object *cluster = ctl_call(ctl, "cluster.show", ctl_job_params(job), err);
	if (!cluster)
		return -1;
	struct json_object *members = ctl_get(ctl_get(cluster, "plan"), "members");
	vc_autofree struct target *targets = calloc(ctl_len(members) + 1, sizeof(*targets));
	size_t n = 0;
	if (!targets)
		return vc_error_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < ctl_len(members); i++)
		if (is_meant(json_object_array_get_idx(members, i), member))
			fill_target(&targets[n++], cluster, json_object_array_get_idx(members, i));
	for (size_t i = 0; i < n; i++)
		if (ctl_find_host(ctl, targets[i].host, &targets[i].vcd, err) < 0)
			return -1;
	if (n == 0)
		return vc_error_set(err, VC_ENOTFOUND, "job %u (%s) has no member '%s': give a rank or a name of `vcctl show %u`",
				    job, ctl_str(cluster, "phase"), member, job);
	*ret = vc_steal(&targets);
	*ret_n = n;
	return 0;
}

int target_find_one(const struct ctl *ctl, const char *job, const char *member, struct target *ret, struct vc_error *err)
{
	vc_autofree struct target *targets = NULL;
	size_t n;
	if (strcmp(member, TARGET_ALL) == 0)
		return vc_error_set(err, VC_EUSER, "one member at a time: srun --jobid=%s reaches them all", job);
	if (target_find(ctl, job, member, &targets, &n, err) < 0)
		return -1;
	*ret = targets[0];
	return 0;
}

// --- the session -------------------------------------------------------------------------------------------------

static struct json_object *attach_params(const struct target *target, const char *kind, uint64_t session, bool resume, bool root)
{
	struct json_object *params = ctl_job_params(target->job);
	char id[17];
	snprintf(id, sizeof(id), "%016" PRIx64, session);
	vc_json_add_u64(params, "restart", target->restart);
	vc_json_add_u64(params, "rank", target->rank);
	vc_json_add_str(params, "kind", kind);
	vc_json_add_str(params, "session", id);
	vc_json_add_bool(params, "resume", resume);
	if (root)
		vc_json_add_bool(params, "root", true);
	return params;
}

// Keeps of all descriptors only these two, and the standard ones as /dev/null: pipes of the caller's must see their end.
static int keep_only(int a, int b)
{
	unsigned low = (unsigned)(a < b ? a : b), high = (unsigned)(a < b ? b : a);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (null < 0 || dup2(null, fd) < 0)
			return -1;
	return (low > STDERR_FILENO + 1 && close_range(STDERR_FILENO + 1, low - 1, 0) < 0) ||
	       (high > low + 1 && close_range(low + 1, high - 1, 0) < 0) || close_range(high + 1, ~0u, 0) < 0 ? -1 : 0;
}

// The child's whole life. In a session of its own: signals from the terminal are the command's, and the last bytes are
// still delivered when vcctl has ended.
static void __attribute__((noreturn)) relay_stream(struct vc_client *client, int fd)
{
	static const int usual[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT};
	for (size_t i = 0; i < VC_ARRAY_LEN(usual); i++)
		signal(usual[i], SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	setsid();
	if (keep_only(fd, vc_client_fd(client)) == 0)
		vc_client_relay(client, fd, NULL, NULL, NULL); // how it ended shows at the other end of the stream
	_exit(0);
}

// From another host: the stream is in DATA frames. A child of a child carries it, so that nobody has to wait for it.
static int take_stream(struct vc_client *client, int *ret_fd, struct vc_error *err)
{
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
		return vc_error_errno(err, "connection to another host");
	pid_t pid = fork();
	if (pid == 0) {
		close(fds[0]);
		if (fork() == 0)
			relay_stream(client, fds[1]);
		_exit(0);
	}
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return vc_error_errno(err, "connection to another host: fork");
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	*ret_fd = fds[0];
	return 0;
}

int session_attach(const struct ctl *ctl, const struct target *target, const char *kind, uint64_t session, bool resume,
		   int *ret_fd, struct vc_buf *pending, struct vc_error *err)
{
	vc_autoclient struct vc_client *client = ctl_connect_host(ctl, &target->vcd, err);
	if (!client)
		return -1;
	vc_autojson struct json_object *params = attach_params(target, kind, session, resume, ctl->root);
	if (vc_client_call(client, "task.attach", params, CTL_CALL_MS, NULL, NULL, NULL, err) < 0)
		return -1;
	if (target->vcd.port)
		return take_stream(client, ret_fd, err);
	if (vc_client_take_fd(client, ret_fd, pending, err) < 0)
		return -1;
	client = NULL; // taken
	return 0;
}

struct attach {
	const struct ctl *ctl;
	struct target target;
};

// It may have moved to another host meanwhile.
static int follow(struct attach *a, struct vc_error *err)
{
	char job[CTL_TEXT];
	vc_autofree struct target *found = NULL;
	size_t n = 0;
	if (target_find(a->ctl, ctl_text_u64(a->target.job, job), a->target.name, &found, &n, err) < 0)
		return -1;
	if (n == 1)
		a->target = found[0];
	return 0;
}

static int attach_exec(void *ctx, uint64_t session, bool resume, int *ret_fd, struct vc_buf *pending, struct vc_error *err)
{
	struct attach *a = ctx;
	if (resume && follow(a, err) < 0)
		return -1;
	return session_attach(a->ctl, &a->target, "exec", session, resume, ret_fd, pending, err);
}

// As at a login: who one is, and what makes a terminal and its language work. Nothing else of this host's environment.
static int fill_env(struct vc_exec_start *start, const struct target *t, bool root, struct vc_error *err)
{
	const char *user = root ? "root" : t->user, *home = root ? "/root" : t->home;
	static const char *const kept[] = {"TERM", "LANG", "LC_ALL", "LC_CTYPE", "COLORTERM"};
	const struct {
		const char *name, *value;
	} own[] = {{"HOME", home},
		   {"USER", user},
		   {"LOGNAME", user},
		   {"SHELL", "/bin/sh"},
		   {"PATH", VC_GUEST_DIR "/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"}};
	for (size_t i = 0; i < VC_ARRAY_LEN(own); i++)
		if (*own[i].value && vc_exec_setenv(start, own[i].name, own[i].value, err) < 0)
			return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(kept); i++)
		if (getenv(kept[i]) && vc_exec_setenv(start, kept[i], getenv(kept[i]), err) < 0)
			return -1;
	return 0;
}

int session_run(const struct ctl *ctl, const struct target *target, char *const *argv, bool pty, struct vc_exec_result *ret,
		struct vc_error *err)
{
	static char *const nothing[] = {"*", NULL};
	struct attach a = {.ctl = ctl, .target = *target};
	struct vc_exec_start start = {0};
	char where[VC_NAME_MAX + 64];
	snprintf(where, sizeof(where), "member %u (%s) of job %u", target->rank, target->name, target->job);
	ret->status = CTL_FAILED;
	if (vc_exec_start_from_self(&start, argv, nothing, err) < 0)
		return -1;
	free(vc_steal(&start.cwd)); // the home directory: this host's directory means nothing to an administrator's command
	struct vc_execclient client = {.connect = attach_exec, .ctx = &a, .start = &start, .pty = pty, .where = where};
	int rc = fill_env(&start, target, ctl->root, err);
	if (rc == 0)
		rc = vc_execclient_run(&client, ret, err);
	vc_exec_start_clear(&start);
	return rc;
}

void session_ended(const struct ctl *ctl, const struct target *target, const struct vc_exec_result *result)
{
	vc_autojson struct json_object *line = ctl->json ? json_object_new_object() : NULL;
	if (!line)
		return;
	vc_json_add_u64(line, "job", target->job);
	vc_json_add_str(line, "member", target->name);
	vc_json_add_u64(line, "rank", target->rank);
	vc_json_add_str(line, "host", target->host);
	if (result)
		vc_json_add_u64(line, result->signo ? "signal" : "exit", (uint64_t)(result->signo ? result->signo : result->status));
	fprintf(stderr, "%s\n", json_object_to_json_string_ext(line, JSON_C_TO_STRING_PLAIN));
}
