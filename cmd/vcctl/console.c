// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl console: the bytes of a member's serial port, both ways, until the escape character or the machine's end.
//
// Owns the terminal's mode while it runs and gives it back in every case that a process can see.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "cmd/vcctl/session.h"
#include "libvc/buf.h"
#include "libvc/cleanup.h"

#define ESCAPE 0x1d	    // ctrl-], as virsh console and telnet have it
#define BLOCK 4096	    // bytes moved at once
#define OUTPUT_WAIT_MS 5000 // for a socket or a terminal that takes no bytes; past it the console is given up

static volatile sig_atomic_t stopped;

static void on_signal(int signo)
{
	(void)signo;
	stopped = 1;
}

struct console {
	int socket;
	bool in_open, terminal;
	struct termios saved;
};

static void raw_mode(struct console *c)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction act = {.sa_handler = on_signal};
	for (size_t i = 0; i < VC_ARRAY_LEN(signals); i++)
		sigaction(signals[i], &act, NULL);
	signal(SIGPIPE, SIG_IGN); // a closed connection must not leave the terminal raw
	c->terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &c->saved) == 0;
	if (!c->terminal)
		return;
	struct termios raw = c->saved;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	fputs("connected; ctrl-] ends this\r\n", stderr);
}

static void usual_mode(const struct console *c)
{
	if (c->terminal)
		tcsetattr(STDIN_FILENO, TCSANOW, &c->saved);
}

// All of it, waiting where the other side is slow.
static int put(int fd, const char *data, size_t len, const char *what, struct vc_error *err)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);
		if (n > 0) {
			data += n;
			len -= (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return vc_error_errno(err, "%s", what);
		struct pollfd p = {.fd = fd, .events = POLLOUT};
		if (poll(&p, 1, OUTPUT_WAIT_MS) == 0)
			return vc_error_set(err, VC_ETIMEDOUT, "%s takes no data", what);
		if (stopped)
			return vc_error_set(err, VC_ECANCELED, "stopped by a signal");
	}
	return 0;
}

// 1: go on; 0: the end; -1: error.
static int from_terminal(struct console *c, struct vc_error *err)
{
	char block[BLOCK];
	ssize_t n = read(STDIN_FILENO, block, sizeof(block));
	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 1 : vc_error_errno(err, "standard input");
	if (n == 0) { // nothing more to say, but what the machine says is still wanted
		c->in_open = false;
		return 1;
	}
	const char *end = c->terminal ? memchr(block, ESCAPE, (size_t)n) : NULL;
	if (put(c->socket, block, end ? (size_t)(end - block) : (size_t)n, "the console", err) < 0)
		return -1;
	return end ? 0 : 1;
}

static int from_machine(struct console *c, struct vc_error *err)
{
	char block[BLOCK];
	ssize_t n = read(c->socket, block, sizeof(block));
	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 1 : vc_error_errno(err, "the console");
	if (n > 0 && put(STDOUT_FILENO, block, (size_t)n, "standard output", err) < 0)
		return -1;
	return n > 0;
}

static int relay(struct console *c, struct vc_error *err)
{
	int rc = 1;
	while (rc > 0 && !stopped) {
		struct pollfd p[] = {{.fd = c->socket, .events = POLLIN},
				     {.fd = c->in_open ? STDIN_FILENO : -1, .events = POLLIN}};
		if (poll(p, VC_ARRAY_LEN(p), -1) < 0) { // a person ends it, or the machine
			rc = errno == EINTR ? 1 : vc_error_errno(err, "poll");
			continue;
		}
		if (p[0].revents)
			rc = from_machine(c, err);
		if (rc > 0 && p[1].revents)
			rc = from_terminal(c, err);
	}
	return rc < 0 ? -1 : 0;
}

int ctl_console(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	struct target target;
	struct console c = {.socket = -1, .in_open = true};
	vc_autobuf struct vc_buf pending = VC_BUF_INIT(VC_RPC_BODY_MAX);
	if (target_find_one(ctl, args[0], args[1], &target, err) < 0 ||
	    session_attach(ctl, &target, "console", 0, false, &c.socket, &pending, err) < 0)
		return ctl_fail(err);
	raw_mode(&c);
	int rc = put(STDOUT_FILENO, (const char *)vc_buf_head(&pending), pending.len, "standard output", err);
	if (rc == 0)
		rc = relay(&c, err);
	usual_mode(&c);
	close(c.socket);
	if (rc < 0)
		return ctl_fail(err);
	session_ended(ctl, &target, NULL);
	return CTL_OK;
}
