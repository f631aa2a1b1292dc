// SPDX-License-Identifier: GPL-2.0-or-later
// A start of one cluster on N hosts of one machine: N vcd processes and a controller's, with stores, connections and handshakes of their own, on
// loopback. No machine runs: the hypervisor is libvirt's test driver, guests are gueststub.c's, slurmctld is fakeslurm.c's. The rest is
// the product: plan, image through the chain, domains, guest links, view 1, membership. Prints "SERIES VALUE" per line. Used by scale.bash.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/parse.h"
#include "libvc/spec.h"
#include "tests/daemon/vcds.h"

#define JOB 7
#define ENSURE_MS 300000u // without a sign of life
#define HOSTS_MAX 1000

static struct vcds v;
static pid_t stub;

static void finish(void)
{
	if (stub > 0)
		kill(stub, SIGKILL);
	vcds_destroy(&v);
}

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "scalebench: %s\n", what);
	finish();
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

// --- starting ------------------------------------------------------------------------------------------------------------

static void start_all(void)
{
	char n[16];
	snprintf(n, sizeof(n), "%u", v.n);
	setenv("SCALE_HOSTS", n, 1);
	setenv("LD_PRELOAD", FAKE_SLURM, 1); // of the controller's vcd alone
	if (vcds_start(&v, v.n) < 0)
		die("the controller's vcd does not start");
	unsetenv("LD_PRELOAD");
	for (unsigned i = 0; i < v.n; i++) {
		if (vcds_start(&v, i) < 0)
			die("a vcd does not start");
	}
	char log[96];
	char *argv[] = {(char *)GUEST_STUB, v.munged.dir, n, NULL};
	snprintf(log, sizeof(log), "%s/gueststub.log", v.munged.dir);
	stub = spawn(argv, log);
}

// --- the start that is measured --------------------------------------------------------------------------------------------

static struct json_object *ensure_params(void)
{
	struct json_object *params = json_object_new_object();
	struct vc_spec *spec = vc_spec_create();
	spec->image = strdup("none");
	vc_autofree char *text = vc_spec_to_text(spec, NULL);
	vc_spec_destroy(spec);
	vc_json_add_str(params, "slurm", "lab");
	vc_json_add_u64(params, "job", JOB);
	vc_json_add_u64(params, "restart", 0);
	vc_json_add_str(params, "spec", text);
	return params;
}

static int said(void *ctx, const char *method, struct json_object *params)
{
	(void)ctx, (void)method, (void)params; // a sign of life
	return 0;
}

static double ensure(void)
{
	struct vc_error err = VC_ERROR_INIT;
	char path[96];
	const char *state = "";
	snprintf(path, sizeof(path), "%s/ctl/run/vcd.sock", v.munged.dir);
	struct vc_client_opts opts = {.path = path, .munge_socket = v.munged.socket, .host = "ctl"};
	vc_autoclient struct vc_client *c = vc_client_connect(&opts, &err);
	vc_autojson struct json_object *params = ensure_params(), *result = NULL;
	double began = now_s();
	if (!c || vc_client_call(c, "job.ensure", params, ENSURE_MS, said, NULL, &result, &err) < 0)
		die(err.text);
	double took = now_s() - began;
	vc_json_str_opt(result, "state", 16, &state, NULL);
	if (strcmp(state, "ready") != 0)
		die(vc_json_text(result, NULL));
	return took;
}

static void print_stages(void)
{
	vc_autojson struct json_object *params = json_object_new_object(), *shown = NULL;
	struct json_object *stages = NULL, *view = NULL, *members = NULL;
	vc_json_add_u64(params, "job", JOB);
	shown = vcds_call(&v, v.n, "cluster.show", params);
	if (!shown || !json_object_object_get_ex(shown, "stages", &stages) || !json_object_object_get_ex(shown, "view", &view) ||
	    !json_object_object_get_ex(view, "members", &members) || json_object_array_length(members) != v.n)
		die("cluster.show has no view of all members");
	for (size_t i = 0; i < json_object_array_length(stages); i++) {
		struct json_object *stage = json_object_array_get_idx(stages, i);
		const char *name = "";
		uint64_t ms = 0;
		vc_json_str_opt(stage, "stage", 16, &name, NULL);
		vc_json_u64_opt(stage, "ms", UINT32_MAX, &ms, NULL);
		printf("stage_%s_s %.3f\n", name, (double)ms / 1000);
	}
}

// --- memory ----------------------------------------------------------------------------------------------------------------

// KiB of a line of a file of /proc
static unsigned long proc_kib(pid_t pid, const char *file, const char *key)
{
	char path[64], line[256];
	unsigned long kib = 0;
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	vc_autofclose FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), ": %lu", &kib) == 1)
			return kib;
	}
	die("a vcd is gone");
}

static int by_size(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;
	return x < y ? -1 : x > y;
}

static void print_memory(const char *name, const char *file, const char *key)
{
	unsigned long kib[HOSTS_MAX];
	for (unsigned i = 0; i < v.n; i++)
		kib[i] = proc_kib(v.hosts[i].pid, file, key);
	qsort(kib, v.n, sizeof(*kib), by_size);
	printf("%s_mib %.2f\n%s_max_mib %.2f\n%s_controller_mib %.2f\n", name, (double)kib[v.n / 2] / 1024, name, (double)kib[v.n - 1] / 1024,
	       name, (double)proc_kib(v.hosts[v.n].pid, file, key) / 1024);
}

int main(int argc, char **argv)
{
	uint64_t n = 0, mib = 0;
	struct rlimit files = {65536, 65536};
	if (argc != 3 || vc_parse_u64("HOSTS", argv[1], 2, HOSTS_MAX, &n, NULL) < 0 || vc_parse_u64("MIB", argv[2], 1, 1024, &mib, NULL) < 0) {
		fputs("usage: scalebench HOSTS MIB\n", stderr);
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &files);
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (vcds_create_site(&v, (unsigned)n, "log-level = notice\nguest-link = virtio-serial\n", (unsigned)mib) < 0)
		die("munged, directories or the image");
	start_all();
	printf("scale_s %.3f\n", ensure());
	print_stages();
	print_memory("rss", "status", "VmRSS");
	print_memory("pss", "smaps_rollup", "Pss");
	finish();
	return 0;
}
