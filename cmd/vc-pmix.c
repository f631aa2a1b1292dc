// SPDX-License-Identifier: GPL-2.0-or-later
// vc-pmix: PMIx for the ranks of a step that run in members of a virtual cluster (docs/mpi.md).
//
// Started by vcexec, once per rank (descriptor 0 is its socket), and by itself, as `vc-pmix server`, once per member. Runs
// as the job's user. Ends when its rank, or all ranks of the member, have ended; signals to the step are vcexec's matter.
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/pmix/meet.h"
#include "cmd/pmix/rank.h"
#include "cmd/pmix/server.h"

static int run_server(struct vc_error *err)
{
	struct step step;
	uint32_t member;
	if (meet_read(&step, &member, err) < 0)
		return -1;
	int rc = server_run(&step, member, MEET_LISTENER, err);
	step_clear(&step);
	return rc;
}

int main(int argc, char **argv)
{
	struct vc_error err = VC_ERROR_INIT;
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL); // libpmix's thread inherits it
	bool server = argc == 2 && strcmp(argv[1], "server") == 0;
	if (argc > 1 && !server) {
		fprintf(stderr, "vc-pmix is started by vcexec; see docs/mpi.md\n");
		return 1;
	}
	if ((server ? run_server(&err) : rank_run(dup(STDIN_FILENO), &err)) == 0)
		return 0;
	if (server)
		fprintf(stderr, "vcluster: PMIx server: %s\n", err.text);
	return 1;
}
