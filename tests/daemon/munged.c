// SPDX-License-Identifier: GPL-2.0-or-later
// The private munged and small helpers of the daemon's tests: see munged.h.
#include "tests/daemon/munged.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/cred.h"

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

void write_file(const char *path, const char *text)
{
	vc_autofclose FILE *f = fopen(path, "w");
	if (!f || fputs(text, f) < 0)
		abort();
}

pid_t spawn(char *const argv[], const char *log)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL); // a test that aborts leaves nothing running
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
		_exit(126);
	execv(argv[0], argv);
	_exit(127);
}

int wait_exit(pid_t pid)
{
	int status = 0;
	for (int i = 0; i < TEST_LIMIT_MS / 20; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		nap();
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

int port_free(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	vc_autoclose int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sin, len) < 0 || getsockname(fd, (struct sockaddr *)&sin, &len) < 0)
		abort();
	return ntohs(sin.sin_port);
}

static int make_key(const char *path)
{
	uint8_t key[128];
	vc_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	if (fd < 0 || getrandom(key, sizeof(key), 0) != (ssize_t)sizeof(key))
		return -1;
	return write(fd, key, sizeof(key)) == (ssize_t)sizeof(key) ? 0 : -1;
}

static int wait_ready(const char *socket)
{
	for (int i = 0; i < TEST_LIMIT_MS / 20; i++) {
		vc_autofree char *cred = NULL;
		if (access(socket, R_OK) == 0 && vc_cred_encode(socket, geteuid(), "x", 1, &cred, NULL) == 0)
			return 0;
		nap();
	}
	return -1;
}

// number 0 is the first one
static pid_t start_one(const struct munged *m, unsigned number, const char *socket)
{
	char opts[6][128], log[96];
	static const char *const names[] = {"pid-file", "log-file", "seed-file"};
	char *argv[10] = {"/usr/sbin/munged", "--foreground", "--force", opts[0], opts[1]};
	snprintf(log, sizeof(log), "%s/munged%u.out", m->dir, number);
	snprintf(opts[0], sizeof(opts[0]), "--key-file=%s/key-file", m->dir);
	snprintf(opts[1], sizeof(opts[1]), "--socket=%s", socket);
	for (size_t i = 0; i < VC_ARRAY_LEN(names); i++) {
		snprintf(opts[2 + i], sizeof(opts[2 + i]), "--%s=%s/%s%u", names[i], m->dir, names[i], number);
		argv[5 + i] = opts[2 + i];
	}
	return spawn(argv, log);
}

int munged_start(struct munged *m)
{
	char key[96];
	*m = (struct munged){.dir = "/tmp/vcd-test-XXXXXX"};
	if (access("/usr/sbin/munged", X_OK) < 0 || !mkdtemp(m->dir) || chmod(m->dir, 0755) < 0)
		return -1;
	snprintf(key, sizeof(key), "%s/key-file", m->dir);
	snprintf(m->socket, sizeof(m->socket), "%s/socket", m->dir);
	if (make_key(key) < 0)
		return -1;
	m->pid = start_one(m, 0, m->socket);
	if (m->pid > 0 && wait_ready(m->socket) == 0)
		return 0;
	munged_stop(m);
	return -1;
}

int munged_start_more(struct munged *m, unsigned n)
{
	for (; m->n_more < n && m->n_more < MUNGED_MORE_MAX; m->n_more++) {
		char socket[96];
		snprintf(socket, sizeof(socket), "%s/socket%u", m->dir, m->n_more + 1);
		m->more[m->n_more] = start_one(m, m->n_more + 1, socket);
		if (m->more[m->n_more] <= 0 || wait_ready(socket) < 0)
			return -1;
	}
	return 0;
}

const char *munged_socket(const struct munged *m, unsigned i, char buf[96])
{
	unsigned which = i % (m->n_more + 1);
	if (which)
		snprintf(buf, 96, "%s/socket%u", m->dir, which);
	else
		snprintf(buf, 96, "%s", m->socket);
	return buf;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void munged_stop(struct munged *m)
{
	if (m->pid > 0) {
		kill(m->pid, SIGTERM);
		wait_exit(m->pid);
	}
	for (unsigned i = 0; i < m->n_more; i++) {
		kill(m->more[i], SIGTERM);
		wait_exit(m->more[i]);
	}
	m->pid = 0;
	m->n_more = 0;
	nftw(m->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
