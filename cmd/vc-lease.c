// SPDX-License-Identifier: GPL-2.0-or-later
// vc-lease: the one step of a lease's job. Holds the host for the virtual cluster of another job of the same user, until vcd says
// that the cluster has left it.
//
// SIGTERM (Slurm preempts the job, or its owner wants it to end) is passed on to the controller, and the waiting goes on: the
// members of this host leave first. Ends by itself when the lease or its cluster is gone, and when for a minute neither the
// controller answered nor this host was one of the cluster's. Exit status: 0 the lease has ended; 2 wrong use.
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/parse.h"

#define WAIT_MS 0x7fffffff     // the lease's end; 24 days, then it asks again
#define CALL_MS 10000	       // what the local vcd knows by itself
#define RETRY_MS 2000	       // between two tries to reach the controller
#define SILENCE_MS (60 * 1000) // a host that hears nobody of its cluster for so long has lost it

struct lease {
	const char *socket;
	uint64_t primary, number;
};

static const char usage[] =
	"Example (what vcd submits for a lease):\n"
	"  srun " VC_LIBEXECDIR "/vc-lease 123 7\n"
	"\n"
	"Usage: vc-lease [--socket PATH] JOB LEASE\n"
	"Holds this host for the virtual cluster of JOB until vcd lets it go.\n"
	"  --socket PATH  vcd's socket (default " VC_SOCKET_PATH ")\n"
	"Exit status: 0 the lease has ended; 2 wrong use.\n";

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int call(const struct lease *l, const char *method, uint64_t timeout_ms, struct json_object **ret, struct vc_error *err)
{
	const struct vc_client_opts opts = {.path = l->socket};
	vc_autojson struct json_object *params = json_object_new_object();
	if (!params || vc_json_add_u64(params, "job", l->primary) < 0 || vc_json_add_u64(params, "lease", l->number) < 0)
		return vc_error_set(err, ENOMEM, "out of memory");
	vc_autoclient struct vc_client *vcd = vc_client_connect(&opts, err);
	return vcd ? vc_client_call(vcd, method, params, timeout_ms, NULL, NULL, ret, err) : -1;
}

// SIGTERM is passed on until the controller has heard it; a second one finds it told.
static void *watch_signals(void *ctx)
{
	const struct lease *l = ctx;
	sigset_t set;
	int sig;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	while (sigwait(&set, &sig) == 0) {
		struct vc_error err = VC_ERROR_INIT;
		while (call(l, "lease.term", CALL_MS, NULL, &err) < 0 && err.code != VC_ENOTFOUND && err.code != VC_EDENIED)
			poll(NULL, 0, RETRY_MS);
	}
	return NULL;
}

// The cluster is still on this host, and this host in its view.
static bool is_here(const struct lease *l)
{
	vc_autojson struct json_object *result = NULL;
	uint64_t valid = 0;
	return call(l, "lease.here", CALL_MS, &result, NULL) == 0 &&
	       vc_json_u64_opt(result, "valid_ms", UINT64_MAX, &valid, NULL) == 0 && valid > 0;
}

static const char *hold(const struct lease *l)
{
	uint64_t heard = now_ms();
	for (;;) {
		struct vc_error err = VC_ERROR_INIT;
		if (call(l, "lease.wait", WAIT_MS, NULL, &err) == 0)
			return "the host is given back";
		if (err.code == VC_ENOTFOUND || err.code == VC_EDENIED)
			return "there is no such lease any more";
		if (is_here(l))
			heard = now_ms();
		if (now_ms() - heard >= SILENCE_MS)
			return "nobody of the cluster was heard for a minute";
		poll(NULL, 0, RETRY_MS);
	}
}

static int parse(int argc, char *argv[], struct lease *ret, struct vc_error *err)
{
	int i = 1;
	*ret = (struct lease){0};
	if (argc > 2 && strcmp(argv[1], "--socket") == 0) {
		ret->socket = argv[2];
		i = 3;
	}
	if (argc - i != 2)
		return vc_error_set(err, VC_EUSER, "a job and a lease are wanted; see vc-lease --help");
	return vc_parse_u64("JOB", argv[i], 1, UINT32_MAX, &ret->primary, err) < 0 ||
		       vc_parse_u64("LEASE", argv[i + 1], 1, UINT64_MAX, &ret->number, err) < 0
		       ? -1
		       : 0;
}

int main(int argc, char *argv[])
{
	struct vc_error err = VC_ERROR_INIT;
	struct lease lease;
	pthread_t signals;
	sigset_t set;
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(usage, stdout);
		return 0;
	}
	if (parse(argc, argv, &lease, &err) < 0) {
		fprintf(stderr, "vc-lease: %s\n", err.text);
		return 2;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (pthread_create(&signals, NULL, watch_signals, &lease) != 0) // without it the end time still starts a reclaim
		fprintf(stderr, "vc-lease: signals are not passed on: no thread\n");
	printf("vc-lease: lease %llu of job %llu: %s\n", (unsigned long long)lease.number, (unsigned long long)lease.primary, hold(&lease));
	return 0;
}
