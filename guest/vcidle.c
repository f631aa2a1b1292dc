// SPDX-License-Identifier: GPL-2.0-or-later
// Lets ranks of MPI on a machine whose processors share CPUs with other machines' sleep a moment where they would spin.
// Preloaded where the host says that it is so (guest/preload.h); a user's own LD_PRELOAD takes its place.
//
// A rank that waits looks for messages all the time. Its own kernel sees a processor in use, and so does the host, which lets the
// machine whose message it is run only when this one's slice is over: each message then costs a slice, some milliseconds. Open
// MPI calls sched_yield between its looks when OMPI_MCA_mpi_yield_when_idle is set (guest/taskenv.c), which frees nothing where
// the machine has nothing else to do; MPICH over UCX calls ucp_worker_progress. Both sleep here once nothing has come for a
// while, and the machine's processor is the host's again.
//
// It is built without a C library, and names no version of one: what it calls is in the program that it is loaded into.
#include <stddef.h>

#define SLEEP_US 100 // a message is later by up to this. 20 made ping-pong a tenth faster, and 8 ranks on 4 machines twice as slow
#define LOOKS 64     // of UCX that found nothing, in a row, before the first sleep: messages within a machine come sooner
#define RTLD_NEXT ((void *)-1l)

typedef unsigned progress_fn(void *);

extern void *dlsym(void *, const char *) __attribute__((weak));
extern int usleep(unsigned) __attribute__((weak));

int sched_yield(void);
unsigned ucp_worker_progress(void *worker);

int sched_yield(void)
{
	if (usleep)
		usleep(SLEEP_US);
	return 0;
}

unsigned ucp_worker_progress(void *worker)
{
	static progress_fn *next;
	static __thread unsigned looks __attribute__((tls_model("initial-exec")));
	unsigned found;
	if (!next)
		next = (progress_fn *)dlsym(RTLD_NEXT, "ucp_worker_progress");
	found = next(worker);
	looks = found ? 0 : looks + 1;
	if (looks > LOOKS)
		sched_yield();
	return found;
}
