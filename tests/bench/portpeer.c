// SPDX-License-Identifier: GPL-2.0-or-later
// portpeer: the host's end of portinit.
//
//   portpeer SOCKET [relay-]out|[relay-]in BYTES     moves BYTES through the port; prints the microseconds that it took
//   portpeer SOCKET spawn TIMES                      has the guest start true(1) so many times; prints the same
//
// The clock starts before the command is sent and stops at the last byte (out) or at the guest's answer (in).
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"

#define PIECE 65536u
#define BYTES_MAX (UINT64_C(1) << 40)
#define LIMIT_S 120 // without a byte

static uint8_t piece[PIECE];

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int open_socket(const char *path, struct vc_error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = LIMIT_S};
	if (strlen(path) >= sizeof(addr.sun_path))
		return vc_error_set(err, VC_EUSER, "%s: too long for a socket", path);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0)
		return vc_error_errno(err, "%s", path);
	return vc_steal_fd(&fd);
}

static int get(int fd, uint64_t bytes, struct vc_error *err)
{
	while (bytes) {
		ssize_t n = read(fd, piece, bytes < PIECE ? (size_t)bytes : PIECE);
		if (n == 0)
			return vc_error_set(err, VC_EFAILED, "the guest is gone, with %llu bytes to go", (unsigned long long)bytes);
		if (n < 0)
			return vc_error_errno(err, "read, with %llu bytes to go", (unsigned long long)bytes);
		bytes -= (uint64_t)n;
	}
	return 0;
}

static int put(int fd, uint64_t bytes, struct vc_error *err)
{
	while (bytes) {
		ssize_t n = write(fd, piece, bytes < PIECE ? (size_t)bytes : PIECE);
		if (n < 0)
			return vc_error_errno(err, "write, with %llu bytes to go", (unsigned long long)bytes);
		bytes -= (uint64_t)n;
	}
	return 0;
}

static bool is_out(const char *direction)
{
	return !strcmp(direction, "out") || !strcmp(direction, "relay-out");
}

static bool is_in(const char *direction)
{
	return !strcmp(direction, "in") || !strcmp(direction, "relay-in");
}

static bool is_spawn(const char *command)
{
	return !strcmp(command, "spawn");
}

static int measure(int fd, const char *direction, uint64_t bytes, uint64_t *ret_us, struct vc_error *err)
{
	char line[64];
	int len = snprintf(line, sizeof(line), "%s %llu\n", direction, (unsigned long long)bytes);
	uint64_t started = now_us();
	if (write(fd, line, (size_t)len) != len)
		return vc_error_errno(err, "write");
	int rc;
	if (is_out(direction))
		rc = get(fd, bytes, err);
	else
		rc = !is_spawn(direction) && put(fd, bytes, err) < 0 ? -1 : get(fd, 1, err);
	*ret_us = now_us() - started;
	return rc;
}

int main(int argc, char **argv)
{
	struct vc_error err = VC_ERROR_INIT;
	uint64_t bytes, us = 0;
	if (argc != 4 || (!is_out(argv[2]) && !is_in(argv[2]) && !is_spawn(argv[2])) ||
	    vc_parse_u64("bytes", argv[3], 1, BYTES_MAX, &bytes, &err) < 0) {
		fprintf(stderr, "Usage: portpeer SOCKET [relay-]out|[relay-]in BYTES, or portpeer SOCKET spawn TIMES\n");
		return 2;
	}
	vc_autoclose int fd = open_socket(argv[1], &err);
	if (fd < 0 || measure(fd, argv[2], bytes, &us, &err) < 0) {
		fprintf(stderr, "portpeer: %s\n", err.text);
		return 1;
	}
	printf("%llu\n", (unsigned long long)us);
	return 0;
}
