// SPDX-License-Identifier: GPL-2.0-or-later
// A task's process: see taskproc.h.
//
// Between vfork and exec the child only makes system calls on memory that was prepared before, of which it changes none but
// its own stack: a copy of this process's pages, which fork makes, costs an emulated machine milliseconds. A failure there
// comes back through a close-on-exec pipe as {step, errno}.
#include "guest/taskproc.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/taskrun.h"
#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "libvc/parse.h"

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"
#define PMIX_BACKLOG 8 // one is wanted; strangers may be in front of it
#define KILL_PASSES 8 // a tree that forks while it is killed is caught in a later pass

enum step { STEP_SESSION, STEP_CGROUP, STEP_GROUPS, STEP_IDENTITY, STEP_CWD, STEP_STDIN, STEP_STDOUT, STEP_STDERR, STEP_EXEC };

static const char *const step_names[] = {
	[STEP_SESSION] = "cannot start a session",	[STEP_CGROUP] = "cannot enter the task's cgroup",
	[STEP_GROUPS] = "cannot set groups",	[STEP_IDENTITY] = "cannot become the job's user",
	[STEP_CWD] = "cannot enter the directory", [STEP_STDIN] = "--input: cannot open",
	[STEP_STDOUT] = "--output: cannot open", [STEP_STDERR] = "--error: cannot open",
	[STEP_EXEC] = "cannot run",
};

struct report {
	int32_t step, error;
};

struct streams {
	int child[3], ours[3];
	int pmi_child, pmi, pmix; // -1: none
};

// ---- streams ----

static void close_fd(int *fd)
{
	vc_cleanup_close(fd);
	*fd = -1;
}

static void streams_close(int fds[3])
{
	for (int i = 0; i < 3; i++) {
		for (int j = i + 1; j < 3; j++) {
			if (fds[j] == fds[i])
				fds[j] = -1;
		}
		close_fd(&fds[i]);
	}
}

static int open_pipe(struct streams *st, int i)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	(void)fcntl(p[0], F_SETPIPE_SZ, TASKRUN_PIPE_SIZE); // smaller pipes only cost speed
	st->child[i] = p[i == 0 ? 0 : 1];
	st->ours[i] = p[i == 0 ? 1 : 0];
	return fcntl(st->ours[i], F_SETFL, O_NONBLOCK);
}

static int open_pipes(struct streams *st, bool stdin_open)
{
	if (!stdin_open)
		st->child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (stdin_open ? open_pipe(st, 0) < 0 : st->child[0] < 0)
		return -1;
	return open_pipe(st, 1) < 0 ? -1 : open_pipe(st, 2);
}

// The number that the task finds in PMI_FD is the one that its end has here.
static int open_pmi(struct streams *st, struct vc_exec_start *start, struct vc_error *err)
{
	int pair[2];
	char number[16];
	if (!start->pmi)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return vc_error_errno(err, "cannot make the PMI socket of %s", start->argv[0]);
	st->pmi_child = pair[0];
	st->pmi = pair[1];
	snprintf(number, sizeof(number), "%d", pair[0]);
	if (fcntl(st->pmi, F_SETFL, O_NONBLOCK) < 0)
		return vc_error_errno(err, "cannot make the PMI socket of %s", start->argv[0]);
	return vc_exec_setenv(start, "PMI_FD", number, err);
}

// The PMIx server that the variables name is on the host: here its port is another.
static int name_port(struct vc_exec_start *start, uint16_t port, struct vc_error *err)
{
	for (size_t i = 0; start->env && start->env[i]; i++) {
		const char *item = start->env[i], *colon = strrchr(item, ':');
		char *text;
		if (strncmp(item, "PMIX_SERVER_URI", 15) != 0 || !colon)
			continue;
		if (asprintf(&text, "%.*s:%u", (int)(colon - item), item, port) < 0)
			return vc_error_errno(err, "PMIX_SERVER_URI");
		free(start->env[i]);
		start->env[i] = text;
	}
	return 0;
}

static int open_pmix(struct streams *st, struct vc_exec_start *start, struct vc_error *err)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	if (!start->pmix)
		return 0;
	st->pmix = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (st->pmix < 0 || bind(st->pmix, (struct sockaddr *)&sin, sizeof(sin)) < 0 || listen(st->pmix, PMIX_BACKLOG) < 0 ||
	    getsockname(st->pmix, (struct sockaddr *)&sin, &len) < 0)
		return vc_error_errno(err, "cannot listen for PMIx of %s", start->argv[0]);
	return name_port(start, ntohs(sin.sin_port), err);
}

static int open_terminal(struct streams *st, const struct taskproc_conf *conf)
{
	char name[64];
	struct winsize ws = {.ws_row = conf->start->rows, .ws_col = conf->start->cols};
	st->ours[1] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (st->ours[1] < 0 || grantpt(st->ours[1]) < 0 || unlockpt(st->ours[1]) < 0 ||
	    ptsname_r(st->ours[1], name, sizeof(name)) != 0)
		return -1;
	int slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return -1;
	st->child[0] = st->child[1] = st->child[2] = slave;
	if (geteuid() == 0 && fchown(slave, conf->uid, (gid_t)-1) < 0)
		return -1;
	st->ours[0] = fcntl(st->ours[1], F_DUPFD_CLOEXEC, 3); // own descriptor: the loop watches each direction apart
	return st->ours[0] < 0 ? -1 : ioctl(slave, TIOCSWINSZ, &ws);
}

// ---- the child ----

static _Noreturn void child_fail(int fd, enum step step)
{
	struct report r = {.step = step, .error = errno};
	ssize_t n = write(fd, &r, sizeof(r));
	_exit(n == (ssize_t)sizeof(r) ? 1 : 126);
}

static void child_signals(void)
{
	sigset_t none;
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

// A limit that cannot be had as it is, is set as far as it goes: guests have smaller tables than their hosts.
static void child_rlimits(const struct vc_exec_start *st)
{
	for (size_t i = 0; i < st->rlimit_count; i++) {
		const struct vc_exec_rlimit *l = &st->rlimits[i];
		struct rlimit want = {l->soft, l->hard}, now;
		if (setrlimit((__rlimit_resource_t)l->resource, &want) == 0 || getrlimit((__rlimit_resource_t)l->resource, &now) < 0)
			continue;
		now.rlim_cur = l->soft < now.rlim_max ? l->soft : now.rlim_max;
		(void)setrlimit((__rlimit_resource_t)l->resource, &now);
	}
}

// Binding that cannot be had is left out: a machine may have fewer processors than the host's mask had.
static void child_cpus(const struct vc_exec_start *st)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	for (size_t i = 0; i < st->cpu_count; i++)
		CPU_SET(st->cpus[i], &set);
	if (st->cpu_count)
		(void)sched_setaffinity(0, sizeof(set), &set);
}

// By system calls: the C library's would change all threads of the process, which are the parent's here.
static void child_identity(const struct taskproc_conf *conf, int report)
{
	if (geteuid() != 0)
		return;
	if (syscall(SYS_setgroups, conf->group_count, conf->groups) < 0)
		child_fail(report, STEP_GROUPS);
	if (syscall(SYS_setresgid, conf->gid, conf->gid, conf->gid) < 0 || syscall(SYS_setresuid, conf->uid, conf->uid, conf->uid) < 0)
		child_fail(report, STEP_IDENTITY);
}

static void child_streams(const struct streams *st)
{
	int fds[3];
	for (int i = 0; i < 3; i++)
		fds[i] = fcntl(st->child[i], F_DUPFD, 3); // none of them may be overwritten before it is used
	for (int i = 0; i < 3; i++) {
		dup2(fds[i], i);
		close(fds[i]);
	}
}

// As the user, in the task's directory. What would make open() wait (a FIFO that nobody reads) fails: the parent waits for us.
static void child_files(const struct vc_exec_start *st, int report)
{
	for (int i = 0; i < 3; i++) {
		const struct vc_exec_file *f = &st->files[i];
		if (!f->path || st->pty)
			continue;
		int fd = open(f->path, f->flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
		if (fd < 0 || fcntl(fd, F_SETFL, f->flags & O_APPEND) < 0 || dup2(fd, i) < 0)
			child_fail(report, STEP_STDIN + (unsigned)i);
		close(fd);
	}
}

// Tries the candidates in order, as execvp does, and keeps the most telling error.
static void child_exec(char *const *paths, char *const *argv, char *const *env)
{
	int denied = 0;
	for (size_t i = 0; paths[i]; i++) {
		execve(paths[i], argv, env);
		if (errno == EACCES)
			denied = errno;
		else if (errno != ENOENT && errno != ENOTDIR)
			return;
	}
	if (denied)
		errno = denied;
}

struct child {
	const struct taskproc_conf *conf;
	const struct streams *st;
	char **paths;
	int report;
	int cgroup; // cgroup.procs; -1: none
};

static _Noreturn void child_run(const struct child *c)
{
	const struct vc_exec_start *start = c->conf->start;
	child_signals();
	if (setsid() < 0)
		child_fail(c->report, STEP_SESSION);
	child_streams(c->st);
	if (start->pty && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
		child_fail(c->report, STEP_SESSION);
	if (c->cgroup >= 0 && write(c->cgroup, "0", 1) < 0)
		child_fail(c->report, STEP_CGROUP);
	child_rlimits(start);
	child_cpus(start);
	child_identity(c->conf, c->report);
	umask(start->umask);
	if (chdir(c->conf->cwd) < 0)
		child_fail(c->report, STEP_CWD);
	child_files(start, c->report);
	close_range(3, UINT_MAX, CLOSE_RANGE_CLOEXEC);
	if (c->st->pmi_child >= 0)
		fcntl(c->st->pmi_child, F_SETFD, 0);
	child_exec(c->paths, start->argv, start->env);
	child_fail(c->report, STEP_EXEC);
}

// ---- the parent ----

// argv[0] itself when it has a slash, else one candidate per entry of PATH.
static char **candidates(const struct taskproc_conf *conf)
{
	const char *name = conf->start->argv[0], *path = vc_exec_getenv(conf->start, "PATH");
	if (!path)
		path = conf->path ? conf->path : DEFAULT_PATH;
	size_t count = 2, n = 0;
	for (const char *p = path; *p; p++)
		count += *p == ':';
	vc_autostrv char **v = calloc(count + 1, sizeof(*v));
	if (v && strchr(name, '/'))
		return (v[0] = strdup(name)) ? vc_steal(&v) : NULL;
	for (const char *p = path; v; p++) {
		size_t len = strcspn(p, ":");
		if (asprintf(&v[n++], "%.*s%s%s", (int)len, p, len ? "/" : "./", name) < 0)
			return NULL;
		p += len;
		if (!*p)
			break;
	}
	return vc_steal(&v);
}

// The program is there, so that it was what has to run it that was not found.
static bool lacks_interpreter(const struct taskproc_conf *conf, const struct report *r, const char *program)
{
	struct stat st;
	vc_autoclose int cwd = open(conf->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return r->step == STEP_EXEC && r->error == ENOENT && strchr(program, '/') && fstatat(cwd, program, &st, 0) == 0;
}

static int explain(const struct taskproc_conf *conf, const struct report *r, int *ret_status, struct vc_error *err)
{
	const char *what = r->step == STEP_CWD ? conf->cwd : r->step == STEP_EXEC ? conf->start->argv[0] : "";
	if (r->step >= STEP_STDIN && r->step <= STEP_STDERR)
		what = conf->start->files[r->step - STEP_STDIN].path;
	const char *space = *what ? " " : "";
	*ret_status = 1;
	if (r->step == STEP_EXEC)
		*ret_status = r->error == ENOENT || r->error == ENOTDIR ? 127 : 126;
	if (lacks_interpreter(conf, r, what)) {
		*ret_status = 126;
		return vc_error_set(err, ENOENT, "%s: its interpreter or loader is not here", what);
	}
	if (*ret_status == 127 && !strchr(what, '/'))
		return vc_error_set(err, ENOENT, "%s: command not found", what);
	errno = r->error;
	return vc_error_errno(err, "%s%s%s", step_names[r->step], space, what);
}

// Waits for exec: the pipe closes without a word. The child hangs before it only where the task's directory, program or files
// are on a file system that hangs, as a host's under --vcluster-mount may (docs/security.md).
static int await_exec(const struct taskproc_conf *conf, pid_t pid, int fd, int *ret_status, struct vc_error *err)
{
	struct report r;
	ssize_t n;
	do
		n = read(fd, &r, sizeof(r));
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (n != (ssize_t)sizeof(r) || r.step < 0 || r.step > STEP_EXEC)
		r = (struct report){.step = STEP_EXEC, .error = EIO};
	return explain(conf, &r, ret_status, err);
}

static int open_cgroup(const char *cgroup)
{
	char path[VC_PATH_MAX];
	if (!cgroup || snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup) >= (int)sizeof(path))
		return -1;
	return open(path, O_WRONLY | O_CLOEXEC);
}

static int fork_child(const struct taskproc_conf *conf, struct streams *st, char **paths, pid_t *ret_pid, int *ret_status,
		      struct vc_error *err)
{
	int report[2];
	if (pipe2(report, O_CLOEXEC) < 0)
		return vc_error_errno(err, "cannot make a pipe");
	vc_autoclose int reader = report[0], cgroup = open_cgroup(conf->cgroup);
	const struct child child = {conf, st, paths, report[1], cgroup};
	sigset_t all, saved;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &saved); // no handler of this process runs in the child
	pid_t pid = vfork();
	if (pid == 0)
		child_run(&child);
	sigprocmask(SIG_SETMASK, &saved, NULL);
	close(report[1]);
	if (pid < 0)
		return vc_error_errno(err, "cannot start a process");
	*ret_pid = pid;
	return await_exec(conf, pid, reader, ret_status, err);
}

int taskproc_spawn(const struct taskproc_conf *conf, struct taskproc *ret, int *ret_status, struct vc_error *err)
{
	struct streams st = {{-1, -1, -1}, {-1, -1, -1}, -1, -1, -1};
	vc_autostrv char **paths = candidates(conf);
	int rc = -1;
	*ret_status = 1;
	if (!paths || (conf->start->pty ? open_terminal(&st, conf) : open_pipes(&st, conf->start->stdin_open)) < 0)
		vc_error_errno(err, "cannot make the streams of %s", conf->start->argv[0]);
	else if (open_pmi(&st, conf->start, err) == 0 && open_pmix(&st, conf->start, err) == 0)
		rc = fork_child(conf, &st, paths, &ret->pid, ret_status, err);
	streams_close(st.child);
	close_fd(&st.pmi_child);
	if (rc < 0) {
		streams_close(st.ours);
		close_fd(&st.pmi);
		close_fd(&st.pmix);
		return -1;
	}
	ret->pmi = st.pmi;
	ret->pmix = st.pmix;
	ret->in = st.ours[0];
	ret->out = st.ours[1];
	ret->err = st.ours[2];
	return 0;
}

// ---- who connects ----

// One line of /proc/net/tcp: is it the other end of this connection, and whose?
static bool tcp_line(const char *line, uint16_t from, uint16_t to, unsigned *uid)
{
	unsigned addr, port, peer, peer_port;
	return sscanf(line, " %*u: %x:%x %x:%x %*x %*x:%*x %*x:%*x %*x %u", &addr, &port, &peer, &peer_port, uid) == 5 &&
	       addr == htonl(INADDR_LOOPBACK) && peer == addr && port == from && peer_port == to;
}

static bool is_users(int fd, uid_t uid)
{
	struct sockaddr_in from, to;
	socklen_t from_len = sizeof(from), to_len = sizeof(to);
	char line[512];
	unsigned owner;
	vc_autofclose FILE *f = fopen("/proc/net/tcp", "re");
	if (!f || getpeername(fd, (struct sockaddr *)&from, &from_len) < 0 || getsockname(fd, (struct sockaddr *)&to, &to_len) < 0)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (tcp_line(line, ntohs(from.sin_port), ntohs(to.sin_port), &owner))
			return owner == uid;
	}
	return false;
}

int taskproc_accept_pmix(int listener, uid_t uid)
{
	int one = 1;
	vc_autoclose int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return -1;
	if (!is_users(fd, uid)) {
		errno = EPERM;
		return -1;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); // only speed
	return vc_steal_fd(&fd);
}

// ---- killing ----

// The session of a process from /proc/PID/stat; -1: gone.
static pid_t session_of(const char *pid)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return -1;
	text[n] = '\0';
	char *p = strrchr(text, ')'); // the name may hold anything
	int session;
	return p && sscanf(p + 1, " %*c %*d %*d %d", &session) == 1 ? session : -1;
}

static int kill_session(pid_t sid, int signo)
{
	int count = 0;
	DIR *dir = opendir("/proc");
	struct dirent *e;
	while (dir && (e = readdir(dir))) {
		uint64_t pid;
		if (vc_parse_u64("pid", e->d_name, 1, INT32_MAX, &pid, NULL) == 0 && session_of(e->d_name) == sid)
			count += kill((pid_t)pid, signo) == 0;
	}
	if (dir)
		closedir(dir);
	return count;
}

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[VC_PATH_MAX];
	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -1;
	vc_autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

static int kill_cgroup(const char *cgroup, int signo)
{
	char path[VC_PATH_MAX];
	int pid, count = 0;
	if (snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup) >= (int)sizeof(path))
		return 0;
	vc_autofclose FILE *f = fopen(path, "re");
	while (f && fscanf(f, "%d", &pid) == 1)
		count += pid > 0 && kill(pid, signo) == 0;
	return count;
}

void taskproc_kill_tree(pid_t pid, const char *cgroup, int signo)
{
	if (cgroup && signo == SIGKILL && write_file(cgroup, "cgroup.kill", "1") == 0)
		return;
	for (int i = 0; i < (signo == SIGKILL ? KILL_PASSES : 1); i++) {
		int n = cgroup ? kill_cgroup(cgroup, signo) : 0;
		if (pid > 1)
			n += kill_session(pid, signo);
		if (!n)
			return;
	}
}

// ---- directory and script ----

// The deepest part of path that exists, cut in place; *ret_rest is what is missing.
static int open_existing(char *path, char **ret_rest)
{
	struct stat st;
	for (char *slash = path + strlen(path); slash > path; slash--) {
		if (*slash != '/' && *slash)
			continue;
		char saved = *slash;
		*slash = '\0';
		if (stat(path, &st) == 0) {
			*ret_rest = slash + (saved ? 1 : 0);
			return open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
		}
		*slash = saved;
	}
	*ret_rest = path + 1;
	return open("/", O_DIRECTORY | O_RDONLY | O_CLOEXEC);
}

static int make_parts(int at, char *rest, uid_t uid, gid_t gid)
{
	vc_autoclose int fd = at;
	char *save = NULL;
	for (char *part = strtok_r(rest, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, "..") == 0) {
			errno = EINVAL;
			return -1;
		}
		if (mkdirat(fd, part, 0755) < 0 && errno != EEXIST)
			return -1;
		int next = openat(fd, part, O_DIRECTORY | O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return -1;
		close(fd);
		fd = next;
		if (geteuid() == 0 && fchown(fd, uid, gid) < 0)
			return -1;
	}
	return 1;
}

int taskproc_make_dir(const char *path, uid_t uid, gid_t gid, struct vc_error *err)
{
	struct stat st;
	char *rest, real[PATH_MAX];
	vc_autofree char *copy = strdup(path);
	if (!copy)
		return vc_error_errno(err, "%s", path);
	if (stat(path, &st) == 0)
		return 0;
	int at = open_existing(copy, &rest);
	// Behind a user's symbolic link nothing is made: it may point to where only root may write.
	bool plain = rest == copy + 1 || (realpath(copy, real) && strcmp(real, copy) == 0);
	if (at >= 0 && !plain) {
		close(at);
		return vc_error_set(err, ENOENT, "%s does not exist, and is not made behind a symbolic link", path);
	}
	if (at < 0 || make_parts(at, rest, uid, gid) < 0)
		return vc_error_errno(err, "cannot make the directory %s", path);
	return 1;
}

int taskproc_put_script(const char *dir, const char *name, const struct vc_exec_start *start, uid_t uid, gid_t gid,
			char **ret_path, struct vc_error *err)
{
	const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
	vc_autofree char *path = NULL;
	if (!*base || strcmp(base, "..") == 0 || strlen(base) > 200)
		base = "slurm_script";
	if (asprintf(&path, "%s/%s", dir, base) < 0)
		return vc_error_errno(err, "batch script");
	if (mkdir(dir, 0711) < 0 && errno != EEXIST)
		return vc_error_errno(err, "cannot make %s", dir);
	vc_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0700);
	if (fd < 0 || (geteuid() == 0 && fchown(fd, uid, gid) < 0))
		return vc_error_errno(err, "cannot make %s", path);
	for (size_t done = 0; done < start->script_len;) {
		ssize_t n = write(fd, start->script + done, start->script_len - done);
		if (n <= 0)
			return vc_error_errno(err, "cannot write %s", path);
		done += (size_t)n;
	}
	*ret_path = vc_steal(&path);
	return 0;
}
