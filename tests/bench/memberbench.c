// SPDX-License-Identifier: GPL-2.0-or-later
// Real daemons of membership on loopback, N of them: vcd (libvirt's test hypervisor) or serf's agent (lan profile). Who says what,
// and when, is read from their logs as the lines come in, the same way for both; bytes are those of the interface lo, which is
// this network namespace's own. Prints "SERIES VALUE" per line. Used by membership.bash, which makes the namespace.
//
// Each run is one part of the benchmark, with a cluster of its own: see parts[].
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"
#include "tests/daemon/vcds.h"

#define NODES_MAX 1000
#define LINE_MAX_BYTES 4096
#define SETTLE_MS 15000   // after the last member joined: anti-entropy and first confirmations are over
#define EVENT_MS 60000	  // for anything to be said by all
#define SERF_START_MS 50  // between two agents: a crowd at once makes the first ones suspect each other
#define SIZES_MAX 64	  // different sizes of the cluster that one daemon can be seen to tell
#define GRACE_MS 35000	  // until hosts whose vcd does not return are failed ones, and then some
#define NOISE "noise"	  // an image that only the first host has
#define STAGE_MS 600000	  // for its way to all

struct node {
	char line[LINE_MAX_BYTES];
	size_t len;
	int fd; // of its log, a FIFO
	bool said, dead;
	unsigned views, gone; // vcd: views installed; anybody: failures told
	uint64_t said_at;     // us
};

struct bench;

struct part {
	const char *name;
	void (*run)(struct bench *b);
	bool only_vcd;
};

struct bench {
	bool serf;
	unsigned n, seconds, pairs;
	struct vcds v; // hosts, ports and logs, of serf's agents as well
	struct node *nodes;
	bool resting;	  // each line that is said is passed on
	const char *text; // that is waited for; NULL: nothing
	unsigned sizes[SIZES_MAX], n_sizes; // hosts with a vcd, of every view that anybody told
};

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "memberbench: %s\n", what);
	exit(1);
}

// --- logs --------------------------------------------------------------------------------------------------------

static void take_view(struct bench *b, struct node *node, const char *text)
{
	unsigned hosts, lost, i = 0;
	unsigned long long epoch;
	if (sscanf(text, ": view %llu, %u hosts, %u without vcd", &epoch, &hosts, &lost) != 3)
		return;
	node->views++;
	while (i < b->n_sizes && b->sizes[i] != hosts - lost)
		i++;
	if (i == b->n_sizes && i < SIZES_MAX)
		b->sizes[b->n_sizes++] = hosts - lost;
}

static void take_line(struct bench *b, struct node *node, const char *line)
{
	const char *view = strstr(line, ": view ");
	if (view)
		take_view(b, node, view);
	if (strstr(line, "EventMemberFailed") || strstr(line, " is gone") || strstr(line, "has lost its vcd"))
		node->gone++;
	if (b->resting)
		fprintf(stderr, "%llu ms: %s says: %s\n", (unsigned long long)now_us() / 1000, b->v.hosts[node - b->nodes].name, line);
	if (b->text && !node->said && strstr(line, b->text)) {
		node->said = true;
		node->said_at = now_us();
	}
}

static void read_log(struct bench *b, struct node *node)
{
	ssize_t n;
	while ((n = read(node->fd, node->line + node->len, sizeof(node->line) - 1 - node->len)) > 0) {
		node->len += (size_t)n;
		char *end;
		while ((end = memchr(node->line, '\n', node->len))) {
			*end = '\0';
			take_line(b, node, node->line);
			size_t used = (size_t)(end + 1 - node->line);
			memmove(node->line, end + 1, node->len - used);
			node->len -= used;
		}
		if (node->len == sizeof(node->line) - 1)
			node->len = 0;
	}
}

static bool all_said(const struct bench *b)
{
	for (unsigned i = 0; i < b->n; i++) {
		if (!b->nodes[i].dead && !b->nodes[i].said)
			return false;
	}
	return true;
}

// From now on it is noted who says that; NULL: nothing is.
static void expect(struct bench *b, const char *text)
{
	b->text = text;
	for (unsigned i = 0; i < b->n; i++)
		b->nodes[i].said = false;
}

// Reads logs for that long, or until all have said what is expected.
static bool listen_for(struct bench *b, unsigned ms)
{
	struct pollfd *fds = calloc(b->n, sizeof(*fds));
	uint64_t end = now_us() + (uint64_t)ms * 1000;
	for (unsigned i = 0; i < b->n; i++)
		fds[i] = (struct pollfd){.fd = b->nodes[i].fd, .events = POLLIN};
	while (now_us() < end && !(b->text && all_said(b))) {
		if (poll(fds, b->n, 20) <= 0)
			continue;
		for (unsigned i = 0; i < b->n; i++) {
			if (fds[i].revents & POLLIN)
				read_log(b, &b->nodes[i]);
		}
	}
	free(fds);
	return !b->text || all_said(b);
}

static bool listen_until(struct bench *b, unsigned ms)
{
	bool said = listen_for(b, ms);
	b->text = NULL;
	return said;
}

// --- starting ----------------------------------------------------------------------------------------------------

static void open_log(struct bench *b, unsigned i)
{
	if (mkfifo(b->v.hosts[i].log, 0600) < 0 && errno != EEXIST)
		die("mkfifo");
	b->nodes[i].fd = open(b->v.hosts[i].log, O_RDWR | O_NONBLOCK | O_CLOEXEC); // O_RDWR: no end of file without a writer
	if (b->nodes[i].fd < 0)
		die("log");
}

static void start_serf(struct bench *b, unsigned i)
{
	struct vcds_host *h = &b->v.hosts[i];
	char bind[48], rpc[48], join[48];
	snprintf(bind, sizeof(bind), "-bind=127.0.0.1:%d", h->port);
	snprintf(rpc, sizeof(rpc), "-rpc-addr=127.0.0.1:%d", h->port - 10000);
	snprintf(join, sizeof(join), "-retry-join=127.0.0.1:%d", b->v.hosts[i ? 0 : b->n - 1].port);
	char node[32];
	snprintf(node, sizeof(node), "-node=%s", h->name);
	char *argv[] = {"/usr/bin/serf", "agent", node, bind, rpc, "-profile=lan", join, NULL};
	h->pid = spawn(argv, h->log);
	listen_for(b, SERF_START_MS);
}

// With what it said last.
static void __attribute__((noreturn)) die_of(struct bench *b, unsigned i)
{
	char text[LINE_MAX_BYTES] = "";
	ssize_t n = read(b->nodes[i].fd, text, sizeof(text) - 1);
	fprintf(stderr, "%s says: %.*s\n", b->v.hosts[i].name, (int)(n > 0 ? n : 0), text);
	die("vcd does not start");
}

static void start(struct bench *b, unsigned i)
{
	if (b->serf)
		start_serf(b, i);
	else if (vcds_start(&b->v, i) < 0)
		die_of(b, i);
	b->nodes[i].dead = false;
}

static void form(struct bench *b)
{
	char last[64];
	snprintf(last, sizeof(last), "EventMemberJoin: %s ", b->v.hosts[b->n - 1].name);
	for (unsigned i = 0; i < b->n; i++)
		open_log(b, i);
	expect(b, b->serf ? last : NULL);
	for (unsigned i = 0; i < b->n; i++)
		start(b, i);
	if (b->serf)
		listen_until(b, EVENT_MS);
	else if (vcds_form(&b->v, 7) < 0)
		die("the cluster does not form");
	listen_for(b, SETTLE_MS);
}

// --- measuring ---------------------------------------------------------------------------------------------------

static uint64_t lo_bytes(void)
{
	char text[256];
	unsigned long long n = 0;
	vc_autofclose FILE *f = fopen("/proc/self/net/dev", "r"); // of this namespace, whatever /sys shows
	while (f && fgets(text, sizeof(text), f)) {
		if (sscanf(text, " lo: %llu", &n) == 1)
			return n;
	}
	die("lo's counters");
}

// utime + stime of the daemons that run, in clock ticks
static uint64_t cpu_ticks(const struct bench *b)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < b->n; i++) {
		char path[64], text[1024] = "";
		unsigned long user = 0, sys = 0;
		snprintf(path, sizeof(path), "/proc/%d/stat", (int)b->v.hosts[i].pid);
		vc_autofclose FILE *f = fopen(path, "r");
		if (f && fgets(text, sizeof(text), f) && strrchr(text, ')') &&
		    sscanf(strrchr(text, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) == 2)
			sum += user + sys;
	}
	return sum;
}

static unsigned failures(const struct bench *b)
{
	unsigned sum = 0;
	for (unsigned i = 0; i < b->n; i++)
		sum += b->nodes[i].gone;
	return sum;
}

static pid_t spinners[2];

static void spin(bool on)
{
	for (int i = 0; i < 2; i++) {
		if (on) {
			spinners[i] = fork();
			if (spinners[i] == 0)
				prctl(PR_SET_PDEATHSIG, SIGKILL); // also where this program dies
			while (spinners[i] == 0)
				;
		} else {
			kill(spinners[i], SIGKILL);
			waitpid(spinners[i], NULL, 0);
		}
	}
}

static void rest(struct bench *b, const char *name)
{
	unsigned before = failures(b);
	uint64_t bytes = lo_bytes(), ticks = cpu_ticks(b), began = now_us();
	b->resting = true; // whatever is said now has a reason that one wants to know
	listen_for(b, b->seconds * 1000);
	b->resting = false;
	double spent = (double)(now_us() - began) / 1e6;
	printf("%s_bytes %.1f\n", name, (double)(lo_bytes() - bytes) / spent / b->n);
	printf("%s_cpu_us %.1f\n", name, (double)(cpu_ticks(b) - ticks) * 1e6 / (double)sysconf(_SC_CLK_TCK) / spent / b->n);
	printf("%s_false_failures %u\n", name, failures(b) - before);
}

static void part_rest(struct bench *b)
{
	rest(b, "rest");
}

static void part_busyrest(struct bench *b)
{
	spin(true);
	rest(b, "busyrest");
	spin(false);
}

// From an event at `began` to what the first and the last one said of it.
static void print_times(const struct bench *b, const char *name, uint64_t began)
{
	uint64_t first = UINT64_MAX, last = 0;
	for (unsigned i = 0; i < b->n; i++) {
		if (b->nodes[i].dead)
			continue;
		first = b->nodes[i].said_at < first ? b->nodes[i].said_at : first;
		last = b->nodes[i].said_at > last ? b->nodes[i].said_at : last;
	}
	printf("%s_first %.1f\n%s_all %.1f\n%s_window %.1f\n", name, (double)(first - began) / 1e3, name, (double)(last - began) / 1e3,
	       name, (double)(last - first) / 1e3);
}

static const char *says_failed(const struct bench *b, unsigned i, bool lost, char *buf, size_t len)
{
	if (b->serf)
		snprintf(buf, len, "EventMemberFailed: %s ", b->v.hosts[i].name);
	else
		snprintf(buf, len, "host %s %s", b->v.hosts[i].name, lost ? "has lost its vcd" : "is gone");
	return buf;
}

static void kill_and_return(struct bench *b, unsigned i, const char *name)
{
	char text[64];
	expect(b, says_failed(b, i, true, text, sizeof(text)));
	b->nodes[i].dead = true;
	uint64_t began = now_us();
	vcds_signal(&b->v, i, SIGKILL);
	if (!listen_until(b, EVENT_MS))
		die("a killed daemon was not noticed by all");
	print_times(b, name, began);
	snprintf(text, sizeof(text), b->serf ? "EventMemberJoin: %s " : "host %s is there", b->v.hosts[i].name);
	expect(b, text);
	start(b, i);
	listen_until(b, EVENT_MS);
	listen_for(b, 5000);
}

static void part_kill(struct bench *b)
{
	for (unsigned k = 0; k < b->pairs; k++)
		kill_and_return(b, (k * 7 + 3) % b->n, "kill");
}

static void part_busy(struct bench *b)
{
	spin(true);
	for (unsigned k = 0; k < b->pairs; k++)
		kill_and_return(b, (k * 7 + 2) % b->n, "busy");
	spin(false);
}

static void nft(const char *rule)
{
	char *argv[] = {"/usr/sbin/nft", (char *)rule, NULL};
	if (wait_exit(spawn(argv, "/dev/stderr")) != 0)
		die("nft");
}

static void power_off(struct bench *b, unsigned i)
{
	char text[128];
	b->nodes[i].dead = true;
	snprintf(text, sizeof(text), "add rule inet bench in meta l4proto { tcp, udp } th dport %d drop", b->v.hosts[i].port);
	nft(text);
	uint64_t began = now_us();
	expect(b, says_failed(b, i, false, text, sizeof(text)));
	vcds_signal(&b->v, i, SIGSTOP);
	if (!listen_until(b, EVENT_MS))
		die("a host without power was not noticed by all");
	print_times(b, "poweroff", began);
}

static void part_poweroff(struct bench *b)
{
	nft("add table inet bench");
	nft("add chain inet bench in { type filter hook input priority 0; }");
	for (unsigned k = 0; k < b->pairs && k < b->n / 2 - 1; k++)
		power_off(b, b->n - 1 - 2 * k);
}

// Ten of 190 at once: first they are lost, after the grace they are gone.
static void part_ten(struct bench *b)
{
	char text[64];
	unsigned most = 0, k = b->n / 19 ? b->n / 19 : 1;
	for (unsigned i = 0; i < b->n; i++)
		b->nodes[i].views = 0;
	b->n_sizes = 0;
	b->sizes[b->n_sizes++] = b->n;
	expect(b, says_failed(b, 1 + 2 * (k - 1), true, text, sizeof(text)));
	for (unsigned i = 0; i < k; i++) {
		b->nodes[1 + 2 * i].dead = true;
		vcds_signal(&b->v, 1 + 2 * i, SIGKILL);
	}
	if (!listen_until(b, EVENT_MS))
		die("killed daemons were not noticed by all");
	listen_for(b, GRACE_MS);
	for (unsigned i = 0; i < b->n; i++)
		most = !b->nodes[i].dead && b->nodes[i].views > most ? b->nodes[i].views : most;
	printf("views_for_killed %u\nkilled_together %u\ndistinct_sizes %u\n", most, k, b->n_sizes);
}

static void tc(char *const argv[])
{
	if (wait_exit(spawn(argv, "/dev/stderr")) != 0)
		die("tc");
}

// The first host is the controller here, and sends its image to all others, over a loopback that is slower than it can send.
static pid_t stage(struct bench *b)
{
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	vc_autojson struct json_object *params = json_object_new_object(), *hosts = json_object_new_array();
	for (unsigned i = 1; i < b->n; i++)
		json_object_array_add(hosts, json_object_new_string(b->v.hosts[i].name));
	vc_json_add_str(params, "name", NOISE);
	vc_json_add(params, "hosts", json_object_get(hosts));
	vc_autojson struct json_object *result = vcds_call_for(&b->v, 0, "image.stage", params, STAGE_MS);
	_exit(result && !strstr(json_object_to_json_string(result), "\"error\"") ? 0 : 1);
}

static void part_install(struct bench *b)
{
	static char *const shape[] = {"/usr/sbin/tc", "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "400mbit", "burst", "256kb", "latency",
				      "40ms", NULL};
	unsigned before = failures(b);
	uint64_t bytes = lo_bytes(), began = now_us();
	int status = -1;
	tc(shape);
	pid_t pid = stage(b);
	while (waitpid(pid, &status, WNOHANG) == 0 && now_us() - began < (uint64_t)STAGE_MS * 1000)
		listen_for(b, 100);
	if (status != 0)
		die("the image did not come to all");
	double spent = (double)(now_us() - began) / 1e6;
	listen_for(b, 5000);
	printf("install_false_failures %u\ninstall_s %.1f\ninstall_mbit %.1f\n", failures(b) - before, spent,
	       (double)(lo_bytes() - bytes) * 8 / 1e6 / spent);
}

static const struct part parts[] = {
	{"rest", part_rest, false}, {"busyrest", part_busyrest, true},	  {"kill", part_kill, false}, {"busy", part_busy, true},
	{"ten", part_ten, true},    {"poweroff", part_poweroff, false}, {"install", part_install, true},
};

static const struct part *find_part(const char *name, bool serf)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(parts); i++) {
		if (strcmp(parts[i].name, name) == 0 && !(serf && parts[i].only_vcd))
			return &parts[i];
	}
	die("no such part");
}

// Of this network namespace: what daemons connect from must not be what others listen on when they start again.
static void local_ports(const char *range)
{
	write_file("/proc/sys/net/ipv4/ip_local_port_range", range);
}

static void prepare(struct bench *b, const struct part *part)
{
	bool install = part->run == part_install;
	local_ports("20000 29999"); // to listen on
	if (vcds_create(&b->v, b->n, install ? "log-level = notice\ncontroller = {\"t1\"}\n" : "log-level = notice\n") < 0)
		die("munged does not start");
	local_ports("30000 60999");
	if (install && vcds_put_noise(&b->v, 0, NOISE, b->seconds) < 0)
		die("no image to send");
}

int main(int argc, char **argv)
{
	struct bench b = {0};
	uint64_t n = 0, seconds = 0, pairs = 0;
	if (argc != 6 || vc_parse_u64("HOSTS", argv[3], 4, NODES_MAX, &n, NULL) < 0 ||
	    vc_parse_u64("SECONDS", argv[4], 1, 3600, &seconds, NULL) < 0 || vc_parse_u64("PAIRS", argv[5], 1, 100, &pairs, NULL) < 0)
		die("usage: memberbench vcd|serf PART HOSTS SECONDS-AT-REST|MIB-TO-INSTALL PAIRS");
	b.serf = strcmp(argv[1], "serf") == 0;
	b.n = (unsigned)n;
	b.seconds = (unsigned)seconds;
	b.pairs = (unsigned)pairs;
	b.nodes = calloc(n, sizeof(*b.nodes));
	setvbuf(stdout, NULL, _IOLBF, 0);
	const struct part *part = find_part(argv[2], b.serf);
	prepare(&b, part);
	form(&b);
	part->run(&b);
	for (unsigned i = 0; i < b.n; i++)
		vcds_signal(&b.v, i, SIGKILL);
	vcds_destroy(&b.v);
	return 0;
}
