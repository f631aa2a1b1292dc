// SPDX-License-Identifier: GPL-2.0-or-later
// vcd's command line: options, going to the background, and the exit status. Everything else is in vcd.c.
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "libvc/log.h"
#include "libvc/parse.h"
#include "vcd/conf.h"
#include "vcd/vcd.h"

const char *argp_program_version = PACKAGE_STRING;

struct arguments {
	const char *conf;
	bool foreground, test;
	int ready_fd;
};

static const struct argp_option options[] = {
	{"config", 'c', "FILE", 0, "read FILE instead of " CONF_DEFAULT_PATH, 0},
	{"foreground", 'F', NULL, 0, "stay in the foreground, log to standard error", 0},
	{"test", 't', NULL, 0, "test the configuration and exit", 0},
	{"ready-fd", 'r', "N", 0, "write a line to descriptor N when vcd is ready, and close it", 0},
	{0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct arguments *args = state->input;
	struct vc_error err = VC_ERROR_INIT;
	switch (key) {
	case 'c':
		args->conf = arg;
		return 0;
	case 'F':
		args->foreground = true;
		return 0;
	case 't':
		args->test = true;
		return 0;
	case 'r':
		if (vc_parse_int("--ready-fd", arg, 0, 1 << 20, &args->ready_fd, &err) < 0)
			argp_error(state, "%s", err.text);
		return 0;
	case ARGP_KEY_ARG:
		argp_usage(state);
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int test_conf(const char *path)
{
	struct vc_error err = VC_ERROR_INIT;
	struct conf *conf = conf_load(path, &err);
	if (!conf) {
		fprintf(stderr, "vcluster: %s\n", err.text);
		return 1;
	}
	printf("vcluster: %s: host %s, controller %s%s\n", path, conf->host_name, conf->controllers[0],
	       conf_is_controller(conf) ? " (this host)" : "");
	conf_destroy(conf);
	return 0;
}

static int run(const char *conf, int ready_fd)
{
	struct vc_error err = VC_ERROR_INIT;
	struct vcd *vcd = vcd_create(conf, &err);
	if (!vcd) {
		vc_log_err("%s", err.text);
		return 1;
	}
	int rc = vcd_run(vcd, ready_fd) < 0;
	vcd_destroy(vcd);
	return rc;
}

// The parent waits until the child is ready, or has failed: its exit status says which.
static int run_in_background(const char *conf)
{
	int fds[2];
	char byte;
	if (pipe2(fds, O_CLOEXEC) < 0) {
		perror("vcluster: pipe");
		return 1;
	}
	pid_t pid = fork();
	if (pid < 0) {
		perror("vcluster: fork");
		return 1;
	}
	if (pid > 0) {
		close(fds[1]);
		return read(fds[0], &byte, 1) == 1 ? 0 : 1;
	}
	close(fds[0]);
	setsid();
	vc_autoclose int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (chdir("/") < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return 1;
	return run(conf, fds[1]);
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse_option,
		.doc = "vcd, the daemon of slurm-vcluster: virtual clusters for Slurm jobs. See vcd(8) and vcd.conf(5).",
	};
	struct arguments args = {.conf = CONF_DEFAULT_PATH, .ready_fd = -1};
	argp_parse(&argp, argc, argv, 0, NULL, &args);
	vc_log_open("vcd", VC_LOG_STDERR, VC_LOG_INFO);
	if (args.test)
		return test_conf(args.conf);
	if (!args.foreground && args.ready_fd < 0)
		return run_in_background(args.conf);
	return run(args.conf, args.ready_fd);
}
