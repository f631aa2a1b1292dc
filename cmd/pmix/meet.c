// SPDX-License-Identifier: GPL-2.0-or-later
// Where ranks and server meet: see meet.h.
#include "cmd/pmix/meet.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"

#define MEET_MS 60000	// the lowest rank may start later than others, on a busy host
#define RETRY_US 10000	// between two looks
#define BACKLOG 128

static int make_address(struct sockaddr_un *sun, const char *dir, const char *member, struct vc_error *err)
{
	*sun = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/%s", dir, member) >= (int)sizeof(sun->sun_path))
		return vc_error_set(err, ENAMETOOLONG, "%s/%s", dir, member);
	return 0;
}

// ---- the lowest rank ----

static int open_listener(const struct sockaddr_un *sun, struct vc_error *err)
{
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0 || chmod(sun->sun_path, 0600) < 0 || listen(fd, BACKLOG) < 0)
		return vc_error_errno(err, "socket %s", sun->sun_path);
	return vc_steal_fd(&fd);
}

static int write_step(const struct step *step, uint32_t member, struct vc_error *err)
{
	size_t len = 0, done = 0;
	vc_autojson struct json_object *obj = step_json(step);
	vc_autoclose int fd = memfd_create("vc-pmix step", MFD_CLOEXEC);
	if (vc_json_add_u64(obj, "self", member) < 0 || fd < 0)
		return vc_error_set(err, ENOMEM, "step");
	const char *text = vc_json_text(obj, &len);
	while (text && done < len) {
		ssize_t n = write(fd, text + done, len - done);
		if (n <= 0)
			return vc_error_errno(err, "step");
		done += (size_t)n;
	}
	if (!text || lseek(fd, 0, SEEK_SET) < 0)
		return vc_error_errno(err, "step");
	return vc_steal_fd(&fd);
}

// The server is nobody's client. Parameters that the user gives to libpmix stay.
static void drop_pmix(void)
{
	size_t kept = 0;
	for (size_t i = 0; environ[i]; i++) {
		if (strncmp(environ[i], "PMIX_", 5) != 0 || strncmp(environ[i], "PMIX_MCA_", 9) == 0)
			environ[kept++] = environ[i];
	}
	environ[kept] = NULL;
}

static void become_server(int step, int listener)
{
	char *const argv[] = {"vc-pmix", "server", NULL};
	int in = fcntl(step, F_DUPFD_CLOEXEC, 10), sock = fcntl(listener, F_DUPFD_CLOEXEC, 10), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (in < 0 || sock < 0 || null < 0 || dup2(in, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 || dup2(sock, MEET_LISTENER) < 0)
		_exit(1);
	close_range(MEET_LISTENER + 1, UINT_MAX, CLOSE_RANGE_CLOEXEC);
	drop_pmix();
	execve("/proc/self/exe", argv, environ);
	_exit(127);
}

static int start_server(const struct step *step, uint32_t member, const struct sockaddr_un *sun, struct vc_error *err)
{
	vc_autoclose int listener = open_listener(sun, err), text = write_step(step, member, err);
	if (listener < 0 || text < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0)
		become_server(text, listener);
	return pid < 0 ? vc_error_errno(err, "PMIx server") : 0;
}

// ---- every rank ----

static int connect_to(const struct sockaddr_un *sun, struct vc_error *err)
{
	int64_t until = ctl_now_ms() + MEET_MS;
	struct ucred who;
	socklen_t len = sizeof(who);
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	while (fd >= 0 && connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) < 0) {
		if ((errno != ENOENT && errno != ECONNREFUSED && errno != EINTR) || ctl_now_ms() > until)
			return vc_error_errno(err, "PMIx server of the member at %s", sun->sun_path);
		usleep(RETRY_US);
	}
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return vc_error_errno(err, "%s", sun->sun_path);
	if (who.uid != getuid())
		return vc_error_set(err, VC_EDENIED, "%s belongs to uid %u", sun->sun_path, who.uid);
	return vc_steal_fd(&fd);
}

int meet_server(const struct step *step, uint32_t member, uint32_t rank, const char *dir, struct ctl *ret, struct vc_error *err)
{
	struct sockaddr_un sun;
	if (make_address(&sun, dir, step->names[member], err) < 0 ||
	    (rank == step_leader(step, member) && start_server(step, member, &sun, err) < 0))
		return -1;
	int fd = connect_to(&sun, err);
	return fd < 0 ? -1 : ctl_init(ret, fd, err);
}

// ---- the server ----

int meet_read(struct step *ret, uint32_t *ret_member, struct vc_error *err)
{
	struct stat st;
	if (fstat(STDIN_FILENO, &st) < 0 || st.st_size <= 0 || st.st_size > CTL_MESSAGE_MAX)
		return vc_error_set(err, VC_EUSER, "the server is started by vc-pmix itself");
	void *text = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, STDIN_FILENO, 0);
	if (text == MAP_FAILED)
		return vc_error_errno(err, "step");
	vc_autojson struct json_object *obj = vc_json_parse(text, (size_t)st.st_size, err);
	munmap(text, (size_t)st.st_size);
	if (!obj || step_parse(ret, obj, err) < 0)
		return -1;
	return vc_json_u32(obj, "self", ret->members - 1, ret_member, err);
}
