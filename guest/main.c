// SPDX-License-Identifier: GPL-2.0-or-later
// vcguestd: PID 1 and agent of a guest; under other names the tools of VC_GUEST_DIR/bin.
//
// As PID 1 it never exits: the kernel would panic. What it cannot go on from is said on the console, then it powers off.
#include <libgen.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest/agent.h"
#include "guest/boot.h"
#include "guest/port.h"
#include "guest/sbcast.h"
#include "guest/slurmtool.h"
#include "guest/vcrsh.h"
#include "libvc/cleanup.h"
#include "libvc/log.h"

static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} tools[] = {
	{"vcrsh", vcrsh_main},	    {"sbcast", sbcast_main},	{"srun", slurmtool_main},
	{"scancel", slurmtool_main}, {"squeue", slurmtool_main}, {"scontrol", slurmtool_main},
};

#define HEAP_KEPT (8 << 20) // bytes

static int run_guest(struct vc_error *err)
{
	static struct agent agent; // PID 1's context lives as long as the guest
	struct boot_params params;
	signal(SIGPIPE, SIG_IGN);
	// Buffers of streams come and go: heap that is given back at each turn and faulted in again costs an emulated machine
	// more than the bytes' whole way does.
	mallopt(M_TRIM_THRESHOLD, HEAP_KEPT);
	mallopt(M_MMAP_THRESHOLD, HEAP_KEPT);
	if (boot_run(&params, err) < 0)
		return -1;
	int fd = port_open(&params.vsock_port, err);
	if (fd < 0 || agent_init(&agent, fd, params.vsock_port, err) < 0)
		return -1;
	agent_run(&agent);
	return 0;
}

static void be_init(void) __attribute__((noreturn));
static void be_init(void)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_log_open("vcguestd", VC_LOG_STDERR, VC_LOG_INFO);
	if (run_guest(&err) < 0)
		vc_log_err("this guest cannot run: %s", err.text);
	boot_poweroff();
}

int main(int argc, char **argv)
{
	if (getpid() == 1)
		be_init();
	const char *name = argc > 0 ? basename(argv[0]) : "";
	for (size_t i = 0; i < VC_ARRAY_LEN(tools); i++) {
		if (!strcmp(tools[i].name, name))
			return tools[i].main(argc, argv);
	}
	fprintf(stderr, "vcguestd %s: PID 1 of a guest of slurm-vcluster; see vcluster(7)\n", PACKAGE_VERSION);
	return 2;
}
