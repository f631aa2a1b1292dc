// SPDX-License-Identifier: GPL-2.0-or-later
// portinit: PID 1 of the plain guest in which the exec benchmark measures what the bare virtio-serial port carries.
//
// Boots as vcguestd does (guest/boot.c), opens the same port, and does what portpeer asks for, one line at a time:
//   out BYTES   writes so many bytes to the port
//   in BYTES    reads so many bytes from it, then answers with one byte
// No frames, no sessions: nothing but read(2) and write(2) of PIECE bytes. Ends with power off on any error.
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest/boot.h"
#include "guest/port.h"
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

static int put(int fd, uint64_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, piece, bytes < PIECE ? (size_t)bytes : PIECE);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (n < 0)
			wait_port(fd, POLLOUT);
		else
			bytes -= (uint64_t)n;
	}
	return 0;
}

static int get(int fd, uint64_t bytes)
{
	while (bytes) {
		ssize_t n = read(fd, piece, bytes < PIECE ? (size_t)bytes : PIECE);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (n <= 0)
			wait_port(fd, POLLIN);
		else
			bytes -= (uint64_t)n;
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

static int serve(int fd, struct vc_error *err)
{
	char line[64];
	uint64_t bytes;
	while (get_line(fd, line, sizeof(line)) == 0) {
		bool out = strncmp(line, "out ", 4) == 0;
		if (!out && strncmp(line, "in ", 3) != 0)
			return vc_error_set(err, VC_EPROTO, "command '%s'", line);
		if (vc_parse_u64("bytes", line + (out ? 4 : 3), 1, BYTES_MAX, &bytes, err) < 0)
			return -1;
		if (out ? put(fd, bytes) < 0 : get(fd, bytes) < 0 || put(fd, 1) < 0)
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
