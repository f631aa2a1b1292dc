// SPDX-License-Identifier: GPL-2.0-or-later
// Lets MPI_Finalize of MPICH before 4.2 end. Preloaded into ranks only (guest/vcrsh.c, guest/taskenv.c); a user's own
// LD_PRELOAD takes its place.
//
// MPICH over UCX closes its endpoints, makes progress until they are closed, and then waits in a PMI barrier where it
// makes no more progress. Over TCP an endpoint is closed when its peer has acknowledged, and a peer that waits in the
// barrier already never does: both wait for ever. It needs a rank that is later than another by more than a round trip,
// which machines that share processors give easily. MPICH 4.2 took the barrier out (github.com/pmodels/mpich, pull
// request 6596). Here the wait goes on making progress.
//
// It is built without a C library, and names no version of one: what it calls is in the program that it is loaded into.
#include <poll.h>
#include <stddef.h>
#include <sys/types.h>

#define WORKERS_MAX 64	// of one process; MPICH makes one per virtual interface, 1 unless told otherwise
#define PROGRESS_MS 1	// between two rounds of progress while the barrier lasts
#define RTLD_NEXT ((void *)-1l)

typedef signed char status_t; // ucs_status_t
typedef status_t worker_create_fn(void *, const void *, void **);
typedef void worker_destroy_fn(void *);
typedef void *disconnect_fn(void *);
typedef ssize_t read_fn(int, void *, size_t);

extern void *dlsym(void *, const char *) __attribute__((weak));
extern ssize_t __read(int, void *, size_t) __attribute__((weak)); // glibc's, for programs without libdl before 2.34
extern char *getenv(const char *) __attribute__((weak));
extern unsigned ucp_worker_progress(void *) __attribute__((weak));

status_t ucp_worker_create(void *context, const void *params, void **worker);
void ucp_worker_destroy(void *worker);
void *ucp_disconnect_nb(void *ep);
ssize_t read(int fd, void *buf, size_t n);

static void *workers[WORKERS_MAX];
static int closing; // endpoints are being closed: MPI_Finalize is under way

static int pmi_fd(void)
{
	const char *s = getenv ? getenv("PMI_FD") : NULL;
	int fd = 0;
	if (!s || !*s)
		return -1;
	for (; *s >= '0' && *s <= '9' && fd < 1 << 20; s++)
		fd = fd * 10 + (*s - '0');
	return fd;
}

status_t ucp_worker_create(void *context, const void *params, void **worker)
{
	worker_create_fn *next = (worker_create_fn *)dlsym(RTLD_NEXT, "ucp_worker_create");
	status_t status = next(context, params, worker);
	for (int i = 0; status == 0 && i < WORKERS_MAX; i++) {
		if (!workers[i]) {
			workers[i] = *worker;
			break;
		}
	}
	return status;
}

void ucp_worker_destroy(void *worker)
{
	worker_destroy_fn *next = (worker_destroy_fn *)dlsym(RTLD_NEXT, "ucp_worker_destroy");
	for (int i = 0; i < WORKERS_MAX; i++) {
		if (workers[i] == worker)
			workers[i] = NULL;
	}
	next(worker);
}

void *ucp_disconnect_nb(void *ep)
{
	disconnect_fn *next = (disconnect_fn *)dlsym(RTLD_NEXT, "ucp_disconnect_nb");
	closing = 1;
	return next(ep);
}

static void progress_until_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	while (poll(&p, 1, PROGRESS_MS) == 0) {
		for (int i = 0; i < WORKERS_MAX; i++) {
			if (workers[i])
				ucp_worker_progress(workers[i]);
		}
	}
}

ssize_t read(int fd, void *buf, size_t n)
{
	static read_fn *next;
	if (!next)
		next = dlsym ? (read_fn *)dlsym(RTLD_NEXT, "read") : __read;
	if (closing && ucp_worker_progress && fd == pmi_fd())
		progress_until_readable(fd);
	return next(fd, buf, n);
}
