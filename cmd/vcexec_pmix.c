// SPDX-License-Identifier: GPL-2.0-or-later
// vcexec's side of PMIx: see vcexec_pmix.h.
#include "cmd/vcexec_pmix.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cmd/pmix/ctl.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/limits.h"

#define WELCOME_MS 120000u // vc-pmix has limits of its own for each of its waits; they explain better
#define END_MS 5000	   // for vc-pmix to take leave of Slurm; then it is killed, and Slurm sees a rank that died
#define END_STEP_MS 5
#define ENV_MAX 64u
#define ENV_TEXT_MAX 4096u

bool vcexec_pmix_wanted(void)
{
	return getenv("PMIX_NAMESPACE") && getenv("PMIX_RANK") && getenv("SLURM_STEP_ID");
}

static pid_t spawn(int fd, struct vc_error *err)
{
	char *const argv[] = {VC_LIBEXECDIR "/vc-pmix", NULL};
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		if (dup2(fd, STDIN_FILENO) < 0 || null < 0 || dup2(null, STDOUT_FILENO) < 0)
			_exit(1);
		execv(argv[0], argv);
		_exit(127);
	}
	return pid < 0 ? vc_error_errno(err, "cannot start %s", argv[0]) : pid;
}

static struct json_object *setup_message(struct json_object *reply)
{
	static const char *const keys[] = {"layout", "token", "name"};
	struct json_object *msg = json_object_new_object(), *value;
	for (size_t i = 0; i < VC_ARRAY_LEN(keys); i++) {
		if (json_object_object_get_ex(reply, keys[i], &value))
			vc_json_add(msg, keys[i], json_object_get(value));
	}
	return msg;
}

// The server's directories are the host's; the task finds its own.
static bool is_hosts(const char *item)
{
	return strncmp(item, "PMIX_SERVER_TMPDIR=", 19) == 0 || strncmp(item, "PMIX_SYSTEM_TMPDIR=", 19) == 0;
}

static int take_welcome(struct vcexec_pmix *p, struct json_object *msg, struct vc_exec_start *start, struct vc_error *err)
{
	const char *text = NULL;
	uint32_t port;
	vc_autostrv char **env = NULL;
	if (vc_json_str_opt(msg, "error", VC_ERROR_TEXT_MAX, &text, err) == 0 && text)
		return vc_error_set(err, VC_EFAILED, "%s", text);
	if (vc_json_u32(msg, "port", UINT16_MAX, &port, err) < 0 || vc_json_strv(msg, "env", ENV_MAX, ENV_TEXT_MAX, &env, err) < 0)
		return -1;
	p->port = (uint16_t)port;
	for (size_t i = 0; env && env[i]; i++) {
		char *equals = strchr(env[i], '=');
		if (!equals || is_hosts(env[i]))
			continue;
		*equals = '\0';
		if (vc_exec_setenv(start, env[i], equals + 1, err) < 0)
			return -1;
	}
	start->pmix = true;
	return 0;
}

int vcexec_pmix_start(struct vcexec_pmix *p, struct json_object *reply, struct vc_exec_start *start, struct vc_error *err)
{
	int pair[2];
	struct ctl ctl;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return vc_error_errno(err, "vc-pmix");
	p->fd = pair[0];
	p->pid = spawn(pair[1], err);
	close(pair[1]);
	if (p->pid < 0) {
		p->pid = 0;
		vc_cleanup_close(&p->fd);
		return -1;
	}
	vc_autojson struct json_object *msg = NULL;
	if (ctl_init(&ctl, dup(p->fd), err) == 0 && ctl_send(&ctl, setup_message(reply), err) == 0)
		msg = ctl_wait(&ctl, WELCOME_MS, err);
	ctl_clear(&ctl);
	if (msg && take_welcome(p, msg, start, err) == 0)
		return 0;
	vcexec_pmix_end(p);
	return vc_error_wrap(err, "the task takes no part in PMIx");
}

int vcexec_pmix_connect(void *arg)
{
	const struct vcexec_pmix *p = arg;
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons(p->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1;
	vc_autoclose int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		return -1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); // only speed
	return vc_steal_fd(&fd);
}

void vcexec_pmix_end(struct vcexec_pmix *p)
{
	const struct timespec step = {.tv_nsec = END_STEP_MS * 1000000L};
	if (!p->pid)
		return;
	vc_cleanup_close(&p->fd);
	p->fd = -1;
	for (int ms = 0; waitpid(p->pid, NULL, WNOHANG) == 0; ms += END_STEP_MS) {
		if (ms >= END_MS)
			kill(p->pid, SIGKILL);
		nanosleep(&step, NULL);
	}
	p->pid = 0;
}
