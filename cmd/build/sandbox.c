// SPDX-License-Identifier: GPL-2.0-or-later
// Starting and ending a sandbox: see sandbox.h.
//
// The child is the first process of its pid namespace. It waits until the parent has written the id maps, sets
// itself up, hands out the listener, forks the worker and reaps until the worker ends.
#include "cmd/build/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/build/sandbox_root.h"
#include "libvc/cleanup.h"
#include "libvc/parse.h"
#include "vcd/image/image_limits.h"

#define NAMESPACES \
	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
#define FAILED_STATUS 126 // the sandbox itself could not be set up; the reason is on its standard error
#define LISTEN_BACKLOG 16 // apt opens at most a few connections
#define OPEN_FILES 4096	  // dpkg and tar need tens

// --- inside ----------------------------------------------------------------------------------------------------------

static int become_root(struct vc_error *err)
{
	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return vc_error_errno(err, "sandbox: ids");
	// A change of ids forgets this, so it comes behind them. vc-build's death is the sandbox's.
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return vc_error_errno(err, "sandbox: death signal");
	return sethostname("build", 5) < 0 ? vc_error_errno(err, "sandbox: host name") : 0;
}

static int loopback_up(struct vc_error *err)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	vc_autoclose int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return vc_error_errno(err, "sandbox: loopback");
	ifr.ifr_flags = (short)(ifr.ifr_flags | IFF_UP);
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? vc_error_errno(err, "sandbox: loopback") : 0;
}

static int listen_here(struct vc_error *err)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(SANDBOX_PROXY_PORT)};
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	vc_autoclose int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return vc_error_errno(err, "sandbox: listener");
	return vc_steal_fd(&fd);
}

static int send_fd(int sock, int fd)
{
	char byte = 'L';
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {.space = {0}};
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(sock, &msg, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

static int offer_network(const struct sandbox_spec *spec, int sock, struct vc_error *err)
{
	if (!spec->network)
		return 0;
	if (loopback_up(err) < 0)
		return -1;
	vc_autoclose int fd = listen_here(err);
	if (fd < 0)
		return -1;
	return send_fd(sock, fd) < 0 ? vc_error_errno(err, "sandbox: listener") : 0;
}

static int set_limits(const struct sandbox_spec *spec, struct vc_error *err)
{
	const struct {
		__rlimit_resource_t resource;
		rlim_t value;
	} limits[] = {
		{RLIMIT_NPROC, IMAGE_BUILD_PROCS},
		{RLIMIT_FSIZE, spec->file_max},
		{RLIMIT_NOFILE, OPEN_FILES},
		{RLIMIT_CORE, 0},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(limits); i++) {
		struct rlimit r = {.rlim_cur = limits[i].value, .rlim_max = limits[i].value};
		if (setrlimit(limits[i].resource, &r) < 0)
			return vc_error_errno(err, "sandbox: limits");
	}
	return 0;
}

// With the image as root nothing needs to mount, trace or configure; package scripts do need these.
static bool is_kept(int cap)
{
	static const int kept[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,  CAP_FOWNER,	CAP_FSETID, CAP_KILL,
				   CAP_SETGID, CAP_SETUID,	 CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT, CAP_SETFCAP};
	for (size_t i = 0; i < VC_ARRAY_LEN(kept); i++) {
		if (kept[i] == cap)
			return true;
	}
	return false;
}

// A nested user namespace would give every capability again: there is room for none.
static int forbid_namespaces(struct vc_error *err)
{
	vc_autoclose int fd = open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		return vc_error_errno(err, "sandbox: max_user_namespaces");
	return 0;
}

static int drop_privileges(const struct sandbox_spec *spec, struct vc_error *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return vc_error_errno(err, "sandbox: no_new_privs");
	if (forbid_namespaces(err) < 0)
		return -1;
	if (spec->view == SANDBOX_HOST)
		return 0; // mmdebstrap mounts; only programs of the host and packages' scripts run there
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
		if (!is_kept(cap) && prctl(PR_CAPBSET_DROP, cap) < 0)
			return vc_error_errno(err, "sandbox: capability %d", cap);
	}
	return 0;
}

static int set_up(const struct sandbox_spec *spec, int sock, struct vc_error *err)
{
	if (become_root(err) < 0 || offer_network(spec, sock, err) < 0 || sandbox_root_enter(spec, err) < 0)
		return -1;
	if (drop_privileges(spec, err) < 0 || set_limits(spec, err) < 0)
		return -1;
	umask(022);
	return 0;
}

// Descriptors 0 to 2 and, if there is one, the result; nothing else comes in.
static int place_fds(const struct sandbox_spec *spec, int out)
{
	int in = spec->input >= 0 ? dup(spec->input) : open("/dev/null", O_RDONLY | O_CLOEXEC);
	int result = spec->result >= 0 ? fcntl(spec->result, F_DUPFD_CLOEXEC, 10) : -1;
	if (in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
		return -1;
	if (result >= 0 && dup2(result, SANDBOX_RESULT_FD) < 0)
		return -1;
	return close_range(result >= 0 ? SANDBOX_RESULT_FD + 1 : 3, ~0u, 0);
}

static void set_environment(void)
{
	clearenv();
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	setenv("LC_ALL", "C", 1);
	setenv("TMPDIR", "/tmp", 1);
	setenv("DEBIAN_FRONTEND", "noninteractive", 1);
}

static int reap_until(pid_t worker)
{
	for (;;) {
		int status = 0;
		pid_t pid = waitpid(-1, &status, 0);
		if (pid == worker)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		if (pid < 0 && errno != EINTR)
			return FAILED_STATUS;
	}
}

static int child(const struct sandbox_spec *spec, int sock, int out)
{
	struct vc_error err = VC_ERROR_INIT;
	char go = 0;
	if (read(sock, &go, 1) != 1)
		return FAILED_STATUS; // the parent is gone
	if (set_up(spec, sock, &err) < 0) {
		dprintf(out, "%s\n", err.text);
		return FAILED_STATUS;
	}
	set_environment();
	if (place_fds(spec, out) < 0)
		return FAILED_STATUS;
	pid_t worker = fork();
	if (worker == 0) {
		setsid();
		_exit(spec->fn(spec->arg));
	}
	return worker < 0 ? FAILED_STATUS : reap_until(worker);
}

// --- cgroups -----------------------------------------------------------------------------------------------------------

enum limited { LIMIT_NONE, LIMIT_PROCS, LIMIT_MEMORY };

static const struct cgroup {
	const char *root;  // where the hierarchy is mounted
	const char *probe; // exists when it is one of this kind
	struct {
		const char *file;
		enum limited what;
	} limits[2];
} cgroups[] = {
	{"/sys/fs/cgroup",
	 "/sys/fs/cgroup/cgroup.controllers",
	 {{"pids.max", LIMIT_PROCS}, {"memory.max", LIMIT_MEMORY}}},
	{"/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids/cgroup.procs", {{"pids.max", LIMIT_PROCS}}},
	{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/memory/cgroup.procs", {{"memory.limit_in_bytes", LIMIT_MEMORY}}},
};

static void cgroup_path(const struct cgroup *c, const char *file, char *ret, size_t len)
{
	snprintf(ret, len, "%s/vcluster-build-%ld%s%s", c->root, (long)getpid(), file[0] ? "/" : "", file);
}

static int write_number(const char *path, uint64_t value)
{
	vc_autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 || dprintf(fd, "%llu\n", (unsigned long long)value) < 0 ? -1 : 0;
}

// Groups of builds that were killed: their number is no process of today. What still runs in one keeps it.
static void cgroup_remove_stale(const struct cgroup *c)
{
	char pattern[256];
	glob_t found = {0};
	snprintf(pattern, sizeof(pattern), "%s/vcluster-build-*", c->root);
	if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			int pid = 0;
			const char *number = strrchr(found.gl_pathv[i], '-') + 1;
			if (vc_parse_int("pid", number, 1, INT_MAX, &pid, NULL) == 0 && kill(pid, 0) < 0 && errno == ESRCH)
				(void)rmdir(found.gl_pathv[i]);
		}
	}
	globfree(&found);
}

bool sandbox_cgroup_create(uint64_t mem_mib)
{
	const uint64_t values[] = {[LIMIT_PROCS] = IMAGE_BUILD_PROCS, [LIMIT_MEMORY] = mem_mib << 20};
	bool any = false;
	for (size_t i = 0; i < VC_ARRAY_LEN(cgroups); i++) {
		char path[256];
		const struct cgroup *c = &cgroups[i];
		cgroup_remove_stale(c);
		cgroup_path(c, "", path, sizeof(path));
		if (access(c->probe, F_OK) < 0 || mkdir(path, 0755) < 0)
			continue;
		for (size_t k = 0; k < VC_ARRAY_LEN(c->limits) && c->limits[k].file; k++) {
			cgroup_path(c, c->limits[k].file, path, sizeof(path));
			any |= write_number(path, values[c->limits[k].what]) == 0;
		}
	}
	return any;
}

static void cgroup_enter(pid_t pid)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(cgroups); i++) {
		char path[256];
		cgroup_path(&cgroups[i], "cgroup.procs", path, sizeof(path));
		(void)write_number(path, (uint64_t)pid);
	}
}

void sandbox_cgroup_remove(void)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(cgroups); i++) {
		char path[256];
		cgroup_path(&cgroups[i], "", path, sizeof(path));
		(void)rmdir(path);
	}
}

// --- outside -----------------------------------------------------------------------------------------------------------

static int write_map(pid_t pid, const char *file, struct vc_error *err)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, file);
	vc_autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || dprintf(fd, "0 %u %u\n", IMAGE_UID_BASE, IMAGE_UID_COUNT) < 0)
		return vc_error_errno(err, "sandbox: %s", file);
	return 0;
}

static int receive_listener(int sock, int *ret, struct vc_error *err)
{
	char byte;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (!c || c->cmsg_type != SCM_RIGHTS)
		return vc_error_set(err, VC_EHOST, "sandbox: no listener came out of it");
	memcpy(ret, CMSG_DATA(c), sizeof(int));
	return 0;
}

static int let_go(const struct sandbox_spec *spec, struct sandbox *s, int sock, struct vc_error *err)
{
	s->pidfd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	if (s->pidfd < 0)
		return vc_error_errno(err, "sandbox: pidfd");
	if (write_map(s->pid, "gid_map", err) < 0 || write_map(s->pid, "uid_map", err) < 0)
		return -1;
	cgroup_enter(s->pid);
	if (send(sock, "g", 1, MSG_NOSIGNAL) != 1)
		return vc_error_errno(err, "sandbox: start");
	// When the set-up fails there is no listener; its reason is in the output, which the caller reads anyway.
	if (spec->network)
		(void)receive_listener(sock, &s->listener, NULL);
	return 0;
}

int sandbox_userns(struct vc_error *err)
{
	char path[64];
	int fd = -1;
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid < 0)
		return vc_error_errno(err, "sandbox: user namespace");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	if (write_map(pid, "gid_map", err) == 0 && write_map(pid, "uid_map", err) == 0) {
		snprintf(path, sizeof(path), "/proc/%ld/ns/user", (long)pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			vc_error_errno(err, "sandbox: %s", path);
	}
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return fd;
}

int sandbox_start(const struct sandbox_spec *spec, struct sandbox *ret, struct vc_error *err)
{
	int socks[2], pipes[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return vc_error_errno(err, "sandbox");
	if (pipe2(pipes, O_CLOEXEC) < 0) {
		vc_error_errno(err, "sandbox");
		close(socks[0]);
		close(socks[1]);
		return -1;
	}
	fflush(NULL);
	struct sandbox s = {.pidfd = -1, .out = pipes[0], .listener = -1};
	s.pid = (pid_t)syscall(SYS_clone, NAMESPACES | SIGCHLD, NULL, NULL, NULL, NULL);
	if (s.pid == 0) {
		close(socks[0]);
		_exit(child(spec, socks[1], pipes[1]));
	}
	int saved = errno;
	close(socks[1]);
	close(pipes[1]);
	errno = saved;
	int rc = s.pid < 0 ? vc_error_errno(err, "sandbox: namespaces") : let_go(spec, &s, socks[0], err);
	close(socks[0]);
	if (rc < 0)
		(void)sandbox_finish(&s, true, &(int){0}, NULL);
	else
		*ret = s;
	return rc;
}

int sandbox_finish(struct sandbox *s, bool kill_it, int *ret_status, struct vc_error *err)
{
	int rc = 0;
	if (s->pid > 0 && kill_it)
		kill(s->pid, SIGKILL);
	while (s->pid > 0 && (rc = waitpid(s->pid, ret_status, 0)) < 0 && errno == EINTR)
		;
	if (s->pidfd >= 0)
		close(s->pidfd);
	if (s->listener >= 0)
		close(s->listener);
	close(s->out);
	s->pid = -1;
	return rc < 0 ? vc_error_errno(err, "sandbox: wait") : 0;
}
