// SPDX-License-Identifier: GPL-2.0-or-later
// Many vcd processes: see vcds.h.
#include "tests/daemon/vcds.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "vcd/image/store.h"

#define MUNGED_HOSTS 50 // that one munged serves
#define SITE_PORT 10000 // and up: below those that the kernel gives, in a network namespace of its own
#define CALL_MS 30000u // milliseconds on an idle machine; a crowd of vcds on two processors takes its time

static void write_confs(struct vcds *v, const char *extra)
{
	vc_autofree char *hosts = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&hosts, &len);
	for (unsigned i = 0; i < v->total; i++)
		fprintf(f, "%s\"%s=127.0.0.1:%d\"", i ? ", " : "", v->hosts[i].name, v->hosts[i].port);
	fclose(f);
	for (unsigned i = 0; i < v->total; i++) {
		struct vcds_host *h = &v->hosts[i];
		char socket[96];
		f = fopen(h->conf, "w");
		if (!f)
			abort();
		fprintf(f, "host-name = %s\ncontroller = {\"ctl\"}\nport = %d\nlisten = \"127.0.0.1\"\nrun-dir = \"%s/%s/run\"\n"
			   "state-dir = \"%s/%s/state\"\nimage-dir = \"%s/%s/images\"\nmunge-socket = \"%s\"\n"
			   "libvirt-uri = \"test:///default\"\nlog-sink = stderr\nwork-threads = 1\nhv-threads = 1\nhosts = {%s}\n%s",
			h->name, h->port, v->munged.dir, h->name, v->munged.dir, h->name, v->munged.dir, h->name,
			munged_socket(&v->munged, i, socket), hosts, extra);
		fclose(f);
	}
}

static int publish(const char *images, int (*fill)(int fd, size_t mib), const char *name, size_t mib, struct store_entry *ret)
{
	struct store *store = NULL;
	struct store_name as = {.name = name};
	char build[160], path[192];
	snprintf(build, sizeof(build), "%s/build", images);
	snprintf(path, sizeof(path), "%s/root.raw", build);
	if (store_open(images, &store, NULL, NULL) < 0)
		return -1;
	int fd = mkdir(build, 0700) == 0 ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
	int rc = fd < 0 || fill(fd, mib) < 0 ? -1 : store_publish(store, build, &as, ret, NULL);
	if (fd >= 0)
		close(fd);
	rmdir(build);
	store_close(store);
	return rc;
}

static int fill_zeros(int fd, size_t mib)
{
	return ftruncate(fd, (off_t)(mib << 20));
}

static int fill_noise(int fd, size_t mib)
{
	vc_autofree uint8_t *piece = malloc(1 << 20);
	for (size_t i = 0; piece && i < mib; i++) {
		if (getrandom(piece, 1 << 20, 0) < (1 << 20)) // not split: below 32 MiB, and nobody interrupts
			return -1;
		if (write(fd, piece, 1 << 20) != 1 << 20)
			return -1;
	}
	return piece ? 0 : -1;
}

// What the test hypervisor's machines boot from; no chain of transfers is wanted here.
static int put_image(struct vcds *v, const char *host)
{
	struct store_entry entry;
	char images[128];
	snprintf(images, sizeof(images), "%s/%s/images", v->munged.dir, host);
	if (mkdir(images, 0711) < 0 || publish(images, fill_zeros, "none", 1, &entry) < 0)
		return -1;
	snprintf(v->digest, sizeof(v->digest), "%s", entry.digest);
	return 0;
}

int vcds_put_noise(struct vcds *v, unsigned i, const char *image, size_t mib)
{
	struct store_entry entry;
	char images[128];
	snprintf(images, sizeof(images), "%s/%s/images", v->munged.dir, v->hosts[i].name);
	return publish(images, fill_noise, image, mib, &entry);
}

// That no other of these hosts has: nobody listens yet, and the kernel may give one twice.
static int own_port(const struct vcds *v, unsigned i)
{
	for (;;) {
		int port = port_free();
		unsigned k = 0;
		while (k < i && v->hosts[k].port != port)
			k++;
		if (k == i)
			return port;
	}
}

static int make_host(struct vcds *v, unsigned i, const char *name, int port)
{
	struct vcds_host *h = &v->hosts[i];
	char dir[96];
	snprintf(h->name, sizeof(h->name), "%s", name);
	snprintf(dir, sizeof(dir), "%s/%s", v->munged.dir, h->name);
	snprintf(h->conf, sizeof(h->conf), "%s/vcd.conf", dir);
	snprintf(h->log, sizeof(h->log), "%s/log", dir);
	h->port = port;
	return mkdir(dir, 0755);
}

static int begin(struct vcds *v, unsigned n, unsigned total)
{
	*v = (struct vcds){.n = n, .total = total, .hosts = calloc(total, sizeof(*v->hosts))};
	return v->hosts ? munged_start(&v->munged) : -1;
}

int vcds_create(struct vcds *v, unsigned n, const char *extra_conf)
{
	if (begin(v, n, n) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		char name[16];
		snprintf(name, sizeof(name), "t%u", i + 1);
		if (make_host(v, i, name, own_port(v, i)) < 0 || put_image(v, name) < 0)
			return -1;
	}
	write_confs(v, extra_conf);
	return 0;
}

int vcds_create_site(struct vcds *v, unsigned n, const char *extra_conf, size_t mib)
{
	char images[128];
	struct store_entry entry;
	if (begin(v, n, n + 1) < 0 || munged_start_more(&v->munged, n / MUNGED_HOSTS) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		char name[16];
		snprintf(name, sizeof(name), "t%u", i + 1);
		if (make_host(v, i, name, SITE_PORT + 1 + (int)i) < 0)
			return -1;
	}
	if (make_host(v, n, "ctl", SITE_PORT) < 0)
		return -1;
	snprintf(images, sizeof(images), "%s/ctl/images", v->munged.dir);
	if (mkdir(images, 0711) < 0 || publish(images, fill_noise, "none", mib, &entry) < 0)
		return -1;
	write_confs(v, extra_conf);
	return 0;
}

int vcds_start(struct vcds *v, unsigned i)
{
	struct vcds_host *h = &v->hosts[i];
	int fds[2];
	char ready[16], byte;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -1;
	snprintf(ready, sizeof(ready), "%d", fds[1]);
	fcntl(fds[1], F_SETFD, 0);
	char *argv[] = {VCD_PATH, "-F", "-c", h->conf, "--ready-fd", ready, NULL};
	h->pid = spawn(argv, h->log);
	close(fds[1]);
	struct pollfd p = {.fd = fds[0], .events = POLLIN};
	int rc = poll(&p, 1, CALL_MS) == 1 && read(fds[0], &byte, 1) == 1 ? 0 : -1;
	close(fds[0]);
	return rc;
}

void vcds_signal(struct vcds *v, unsigned i, int sig)
{
	struct vcds_host *h = &v->hosts[i];
	if (!h->pid)
		return;
	kill(h->pid, sig);
	if (sig != SIGKILL)
		return;
	waitpid(h->pid, NULL, 0);
	h->pid = 0;
}

struct json_object *vcds_call(struct vcds *v, unsigned i, const char *method, struct json_object *params)
{
	return vcds_call_for(v, i, method, params, CALL_MS);
}

struct json_object *vcds_call_for(struct vcds *v, unsigned i, const char *method, struct json_object *params, unsigned ms)
{
	struct vc_error err = VC_ERROR_INIT;
	struct vc_client_opts opts = {.munge_socket = v->munged.socket, .host = "ctl", .peer = true, .timeout_ms = CALL_MS};
	vc_autoclient struct vc_client *c = vc_client_connect_tcp("127.0.0.1", v->hosts[i].port, &opts, &err);
	struct json_object *result = NULL;
	if (!c || vc_client_call(c, method, params, ms, NULL, NULL, &result, &err) < 0) {
		fprintf(stderr, "%s on %s: %s\n", method, v->hosts[i].name, err.text);
		return NULL;
	}
	return result;
}

// --- the cluster -------------------------------------------------------------------------------------------------

static struct plan *make_plan(const struct vcds *v, uint32_t job)
{
	struct plan *plan = plan_create();
	const struct plan_limits limits = {0, 0};
	snprintf(plan->image_digest, sizeof(plan->image_digest), "%s", v->digest);
	memset(plan->secret, 'c', PLAN_HEX64_LEN);
	snprintf(plan->id, sizeof(plan->id), "%08x%024x", job, job);
	snprintf(plan->image_name, sizeof(plan->image_name), "none");
	plan->key = (struct plan_key){.slurm = "lab", .job = job};
	plan->owner = (struct plan_owner){.uid = 2001, .gid = 2001, .user = strdup("alice"), .home = strdup("/home/alice")};
	plan->net = (struct plan_net){.vni = 4097, .network = "10.42.0.0", .prefix = 16, .mtu = 1450};
	plan->spec = vc_spec_create();
	plan->spec->image = strdup("none");
	plan->hosts = calloc(v->n, sizeof(*plan->hosts));
	for (unsigned i = 0; i < v->n; i++)
		plan->hosts[plan->n_hosts++] = (struct plan_host){.name = strdup(v->hosts[i].name), .addr = strdup("127.0.0.1"), .cpus = 1,
								  .total_cpus = 1, .real_mem_mib = 256};
	if (plan_make(plan, &limits, NULL) < 0)
		abort();
	return plan;
}

static int call_all(struct vcds *v, const char *method, const char *key, struct json_object *value)
{
	vc_autojson struct json_object *params = json_object_new_object();
	if (strcmp(method, "host.prepare") != 0)
		vc_json_add_str(params, "cluster", v->plan->id);
	if (key)
		vc_json_add(params, key, value);
	for (unsigned i = 0; i < v->n; i++) {
		vc_autojson struct json_object *result = vcds_call(v, i, method, params);
		if (!result)
			return -1;
	}
	return 0;
}

static struct json_object *first_view(const struct plan *plan)
{
	view_auto struct view *view = view_create(plan->id, plan->key.job, NULL);
	for (size_t i = 0; i < plan->n_members; i++) {
		const struct plan_member *m = &plan->members[i];
		struct view_member vm = {.rank = m->rank, .state = VIEW_ACTIVE, .incarnation = 1, .slots = m->slots, .site = "default"};
		snprintf(vm.name, sizeof(vm.name), "%s", m->name);
		snprintf(vm.addr, sizeof(vm.addr), "%s", m->addr);
		snprintf(vm.host, sizeof(vm.host), "%s", plan->hosts[m->host].name);
		if (view_add(view, &vm, NULL) < 0)
			abort();
	}
	return view_seal(view, 1, NULL) == 0 ? view_to_json(view) : NULL;
}

int vcds_form(struct vcds *v, uint32_t job)
{
	v->plan = make_plan(v, job);
	if (call_all(v, "host.prepare", "plan", plan_to_json(v->plan)) < 0 || call_all(v, "host.boot", NULL, NULL) < 0)
		return -1;
	return call_all(v, "host.view", "view", first_view(v->plan));
}

// --- logs --------------------------------------------------------------------------------------------------------

bool vcds_log_has(const struct vcds *v, unsigned i, const char *text)
{
	char line[4096];
	vc_autofclose FILE *f = fopen(v->hosts[i].log, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (strstr(line, text))
			return true;
	}
	return false;
}

bool vcds_wait_log(const struct vcds *v, unsigned i, const char *text, unsigned limit_ms)
{
	for (unsigned waited = 0; waited < limit_ms; waited += 20) {
		if (vcds_log_has(v, i, text))
			return true;
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	}
	return vcds_log_has(v, i, text);
}

void vcds_destroy(struct vcds *v)
{
	for (unsigned i = 0; i < v->total; i++) { // all at once: nobody is to find out about others
		if (v->hosts[i].pid)
			kill(v->hosts[i].pid, SIGKILL);
	}
	for (unsigned i = 0; i < v->total; i++)
		vcds_signal(v, i, SIGKILL);
	plan_destroy(v->plan);
	free(v->hosts);
	munged_stop(&v->munged);
}
