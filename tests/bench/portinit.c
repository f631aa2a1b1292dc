// SPDX-License-Identifier: GPL-2.0-or-later
// portinit: PID 1 of the plain guest in which the exec benchmark measures what the bare virtio-serial port carries.
//
// Boots as vcguestd does (guest/boot.c), opens the same port, and does what portpeer asks for, one line at a time:
//   out BYTES     writes so many bytes to the port
//   in BYTES      reads so many bytes from it, then answers with one byte
//   relay-out BYTES, relay-in BYTES   the same, but another process writes or reads them through a pipe of the size that
//                 tasks have: the least that carrying a task's stream can cost
//   spawn TIMES   starts true(1) and waits for its end, so many times, then answers with one byte
// No frames, no sessions: nothing but read(2) and write(2) of PIECE bytes. Ends with power off on any error.
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest/boot.h"
#include "guest/port.h"
#include "guest/taskrun.h"
#include "libvc/cleanup.h"
#include "libvc/parse.h"

#define PIECE 65536u		     // as the largest body of a link frame
#define BYTES_MAX (UINT64_C(1) << 40) // of one command
#define PAUSE_MS 20		     // while the host's end is closed poll() returns at once

static uint8_t piece[PIECE];

// The port is non-blocking, and says POLLHUP for as long as nobody holds the host's end.
static void wait_port(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};
	if (poll(&p, 1, -1) > 0 && (p.revents & POLLHUP))
		usleep(PAUSE_MS * 1000);
}

// One way, from `from` to `to`; either may be -1: the piece as it is, or nowhere.
static int move(int from, int to, uint64_t bytes)
{
	while (bytes) {
		size_t want = bytes < PIECE ? (size_t)bytes : PIECE;
		ssize_t n = from < 0 ? (ssize_t)want : read(from, piece, want);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (n <= 0) {
			wait_port(from, POLLIN);
			continue;
		}
		for (ssize_t done = 0; to >= 0 && done < n;) {
			ssize_t m = write(to, piece + done, (size_t)(n - done));
			if (m < 0 && errno != EAGAIN && errno != EINTR)
				return -1;
			if (m < 0)
				wait_port(to, POLLOUT);
			else
				done += m;
		}
		bytes -= (uint64_t)n;
	}
	return 0;
}

static int put(int fd, uint64_t bytes)
{
	return move(-1, fd, bytes);
}

static int get(int fd, uint64_t bytes)
{
	return move(fd, -1, bytes);
}

// The other process is at the far end of the pipe, where a task would be.
static int relay(int fd, bool out, uint64_t bytes)
{
	int p[2];
	if (pipe2(p, O_CLOEXEC) < 0 || fcntl(p[0], F_SETPIPE_SZ, TASKRUN_PIPE_SIZE) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0)
		_exit((out ? put(p[1], bytes) : get(p[0], bytes)) < 0);
	int rc = pid < 0 ? -1 : out ? move(p[0], fd, bytes) : move(fd, p[1], bytes);
	close(p[0]);
	close(p[1]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return rc;
}

static int spawn_one(void)
{
	int status = 0;
	pid_t pid = vfork();
	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	return pid < 0 || waitpid(pid, &status, 0) != pid || status != 0 ? -1 : 0;
}

static int spawn(uint64_t times)
{
	for (uint64_t i = 0; i < times; i++) {
		if (spawn_one() < 0)
			return -1;
	}
	return 0;
}

static int get_line(int fd, char *line, size_t size)
{
	for (size_t len = 0; len + 1 < size; len++) {
		if (get(fd, 1) < 0)
			return -1;
		line[len] = (char)piece[0];
		if (line[len] == '\n') {
			line[len] = '\0';
			return 0;
		}
	}
	return -1;
}

static int serve_one(int fd, const char *word, uint64_t bytes)
{
	if (!strcmp(word, "out"))
		return put(fd, bytes);
	if (!strcmp(word, "relay-out"))
		return relay(fd, true, bytes);
	if (!strcmp(word, "in"))
		return get(fd, bytes) < 0 ? -1 : put(fd, 1);
	if (!strcmp(word, "spawn"))
		return spawn(bytes) < 0 ? -1 : put(fd, 1);
	return relay(fd, false, bytes) < 0 ? -1 : put(fd, 1);
}

static int serve(int fd, struct vc_error *err)
{
	static const char *const words[] = {"out", "in", "relay-out", "relay-in", "spawn"};
	char line[64];
	uint64_t bytes;
	while (get_line(fd, line, sizeof(line)) == 0) {
		char *number = strchr(line, ' ');
		bool known = false;
		if (number)
			*number++ = '\0';
		for (size_t i = 0; i < VC_ARRAY_LEN(words); i++)
			known |= !strcmp(line, words[i]);
		if (!number || !known)
			return vc_error_set(err, VC_EPROTO, "command '%s'", line);
		if (vc_parse_u64("bytes", number, 1, BYTES_MAX, &bytes, err) < 0)
			return -1;
		if (serve_one(fd, line, bytes) < 0)
			break;
	}
	return vc_error_errno(err, "the port");
}

int main(void)
{
	struct boot_params params;
	struct vc_error err = VC_ERROR_INIT;
	int fd = boot_run(&params, &err) < 0 ? -1 : port_open(&params.vsock_port, &err);
	if (fd >= 0)
		serve(fd, &err);
	fprintf(stderr, "portinit: %s\n", err.text);
	boot_poweroff();
}
