// SPDX-License-Identifier: GPL-2.0-or-later
// Carries the sandbox's connections to the mirror: see relay.h.
#include "cmd/build/relay.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/cleanup.h"

#define CONNECTIONS_MAX 16    // at once; apt opens one per host
#define SILENCE_MS (60 * 1000) // neither side sent anything: a dead mirror must not hold a build
#define URL_HOST_MAX 255
#define NOBODY 65534

int relay_resolve(const char *url, struct relay_target *ret, struct vc_error *err)
{
	char host[URL_HOST_MAX + 1] = "", port[6] = "80";
	if (strncmp(url, "http://", 7) != 0)
		return vc_error_set(err, VC_EHOST, "mirror '%.200s' must begin with http://", url);
	const char *rest = url + 7;
	size_t host_len = strcspn(rest, ":/");
	size_t port_len = rest[host_len] == ':' ? strcspn(rest + host_len + 1, "/") : 0;
	if (host_len == 0 || host_len > URL_HOST_MAX || port_len >= sizeof(port) ||
	    (rest[host_len] == ':' && (port_len == 0 || strspn(rest + host_len + 1, "0123456789") < port_len)))
		return vc_error_set(err, VC_EHOST, "mirror '%.200s' must be http://HOST[:PORT]/PATH", url);
	memcpy(host, rest, host_len);
	if (port_len) {
		memcpy(port, rest + host_len + 1, port_len);
		port[port_len] = '\0';
	}
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
	int rc = getaddrinfo(host, port, &hints, &found);
	if (rc)
		return vc_error_set(err, VC_EHOST, "mirror '%.200s': %s", url, gai_strerror(rc));
	memcpy(&ret->addr, found->ai_addr, found->ai_addrlen);
	ret->len = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

// Copies what is there; false when `from` has ended or either side failed.
static bool carry(int from, int to)
{
	char buf[64 << 10];
	ssize_t n = read(from, buf, sizeof(buf));
	for (ssize_t done = 0; n > 0 && done < n;) {
		ssize_t w = write(to, buf + done, (size_t)(n - done));
		if (w < 0)
			return false;
		done += w;
	}
	return n > 0;
}

static int serve(int client, const struct relay_target *target)
{
	int mirror = socket(target->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (mirror < 0 || connect(mirror, (const struct sockaddr *)&target->addr, target->len) < 0)
		return 1;
	struct pollfd p[2] = {{.fd = client, .events = POLLIN}, {.fd = mirror, .events = POLLIN}};
	while (p[1].fd >= 0 && poll(p, 2, SILENCE_MS) > 0) {
		for (int i = 0; i < 2; i++) {
			if (!p[i].revents || carry(i ? mirror : client, i ? client : mirror))
				continue;
			p[i].fd = -1; // this direction has ended: tell the other side
			shutdown(i ? client : mirror, SHUT_WR);
		}
	}
	return 0;
}

static void accept_one(int listener, const struct relay_target *target, int *running)
{
	vc_autoclose int client = accept(listener, NULL, NULL);
	if (client < 0)
		return;
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(listener);
		_exit(serve(client, target));
	}
	*running += pid > 0;
}

static int run(int listener, const struct relay_target *target)
{
	int running = 0;
	signal(SIGPIPE, SIG_IGN);
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return 1;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		while (running > 0 && waitpid(-1, NULL, running >= CONNECTIONS_MAX ? 0 : WNOHANG) > 0)
			running--;
		accept_one(listener, target, &running);
	}
}

int relay_start(int listener, const struct relay_target *target, pid_t *ret, struct vc_error *err)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		_exit(run(listener, target));
	if (pid < 0)
		return vc_error_errno(err, "mirror relay");
	*ret = pid;
	return 0;
}

void relay_stop(pid_t pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}
