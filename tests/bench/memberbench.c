// SPDX-License-Identifier: GPL-2.0-or-later
// Real daemons of membership on loopback, N of them: vcd (libvirt's test hypervisor) or serf's agent (lan profile). Who says what,
// and when, is read from their logs as the lines come in, the same way for both; bytes are those of the interface lo, which is
// this network namespace's own. Prints "SERIES VALUE" per line. Used by membership.bash, which makes the namespace.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"
#include "tests/daemon/vcds.h"

#define NODES_MAX 1000
#define LINE_MAX_BYTES 4096
#define SETTLE_MS 15000   // after the last member joined: anti-entropy and first confirmations are over
#define EVENT_MS 60000	  // for anything to be said by all
#define SERF_START_MS 50  // between two agents: a crowd at once makes the first ones suspect each other

struct node {
	char line[LINE_MAX_BYTES];
	size_t len;
	int fd; // of its log, a FIFO
	bool said, dead;
	unsigned views, gone; // vcd: views installed; anybody: failures told
	uint64_t said_at;     // us
};

struct bench {
	bool serf;
	unsigned n;
	struct vcds v; // hosts, ports and logs, of serf's agents as well
	struct node *nodes;
	const char *text; // that is waited for
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

static void take_line(struct bench *b, struct node *node, const char *line)
{
	if (strstr(line, ": view ") && strstr(line, " hosts"))
		node->views++;
	if (strstr(line, "EventMemberFailed") || strstr(line, " is gone") || strstr(line, "has lost its vcd"))
		node->gone++;
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

// Reads logs for that long, or until all have said what is waited for.
static bool listen_for(struct bench *b, const char *text, unsigned ms)
{
	struct pollfd *fds = calloc(b->n, sizeof(*fds));
	uint64_t end = now_us() + (uint64_t)ms * 1000;
	b->text = text;
	for (unsigned i = 0; i < b->n; i++)
		fds[i] = (struct pollfd){.fd = b->nodes[i].fd, .events = POLLIN};
	while (now_us() < end && !(text && all_said(b))) {
		if (poll(fds, b->n, 20) <= 0)
			continue;
		for (unsigned i = 0; i < b->n; i++) {
			if (fds[i].revents & POLLIN)
				read_log(b, &b->nodes[i]);
		}
	}
	free(fds);
	b->text = NULL;
	return !text || all_said(b);
}

static void forget(struct bench *b)
{
	listen_for(b, NULL, 20);
	for (unsigned i = 0; i < b->n; i++)
		b->nodes[i].said = false;
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
	snprintf(rpc, sizeof(rpc), "-rpc-addr=127.0.0.1:%d", port_free());
	snprintf(join, sizeof(join), "-retry-join=127.0.0.1:%d", b->v.hosts[i ? 0 : b->n - 1].port);
	char node[32];
	snprintf(node, sizeof(node), "-node=%s", h->name);
	char *argv[] = {"/usr/bin/serf", "agent", node, bind, rpc, "-profile=lan", join, NULL};
	h->pid = spawn(argv, h->log);
	listen_for(b, NULL, SERF_START_MS);
}

static void start(struct bench *b, unsigned i)
{
	if (b->serf)
		start_serf(b, i);
	else if (vcds_start(&b->v, i) < 0)
		die("vcd does not start");
	b->nodes[i].dead = false;
}

static void form(struct bench *b)
{
	char last[64];
	snprintf(last, sizeof(last), "EventMemberJoin: %s ", b->v.hosts[b->n - 1].name);
	for (unsigned i = 0; i < b->n; i++) {
		open_log(b, i);
		if (i == b->n - 1)
			b->text = last;
		start(b, i);
	}
	if (b->serf)
		listen_for(b, last, EVENT_MS);
	else if (vcds_form(&b->v, 7) < 0)
		die("the cluster does not form");
	listen_for(b, NULL, SETTLE_MS);
	forget(b);
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

static void rest(struct bench *b, unsigned seconds, const char *name)
{
	unsigned before = failures(b);
	uint64_t bytes = lo_bytes(), ticks = cpu_ticks(b), began = now_us();
	listen_for(b, NULL, seconds * 1000);
	double spent = (double)(now_us() - began) / 1e6;
	printf("%s_bytes %.1f\n", name, (double)(lo_bytes() - bytes) / spent / b->n);
	printf("%s_cpu_us %.1f\n", name, (double)(cpu_ticks(b) - ticks) * 1e6 / (double)sysconf(_SC_CLK_TCK) / spent / b->n);
	printf("%s_false_failures %u\n", name, failures(b) - before);
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
	forget(b);
	b->nodes[i].dead = true;
	uint64_t began = now_us();
	vcds_signal(&b->v, i, SIGKILL);
	if (!listen_for(b, says_failed(b, i, true, text, sizeof(text)), EVENT_MS))
		die("a killed daemon was not noticed by all");
	print_times(b, name, began);
	forget(b);
	start(b, i);
	snprintf(text, sizeof(text), b->serf ? "EventMemberJoin: %s " : "host %s is there", b->v.hosts[i].name);
	listen_for(b, text, EVENT_MS);
	listen_for(b, NULL, 5000);
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
	forget(b);
	b->nodes[i].dead = true;
	snprintf(text, sizeof(text), "add rule inet bench in meta l4proto { tcp, udp } th dport %d drop", b->v.hosts[i].port);
	nft(text);
	uint64_t began = now_us();
	vcds_signal(&b->v, i, SIGSTOP);
	if (!listen_for(b, says_failed(b, i, false, text, sizeof(text)), EVENT_MS))
		die("a host without power was not noticed by all");
	print_times(b, "poweroff", began);
}

static void kill_ten(struct bench *b)
{
	char text[64];
	unsigned most = 0, k = b->n / 19 ? b->n / 19 : 1; // ten of 190
	forget(b);
	for (unsigned i = 0; i < b->n; i++)
		b->nodes[i].views = 0;
	for (unsigned i = 0; i < k; i++) {
		b->nodes[1 + 2 * i].dead = true;
		vcds_signal(&b->v, 1 + 2 * i, SIGKILL);
	}
	if (!listen_for(b, says_failed(b, 1 + 2 * (k - 1), true, text, sizeof(text)), EVENT_MS))
		die("killed daemons were not noticed by all");
	listen_for(b, NULL, 3000);
	for (unsigned i = 0; i < b->n; i++)
		most = !b->nodes[i].dead && b->nodes[i].views > most ? b->nodes[i].views : most;
	printf("views_for_killed %u\nkilled_together %u\n", most, k);
}

static pid_t spinners[2];

static void spin(bool on)
{
	for (int i = 0; i < 2; i++) {
		if (on) {
			spinners[i] = fork();
			while (spinners[i] == 0)
				;
		} else {
			kill(spinners[i], SIGKILL);
			waitpid(spinners[i], NULL, 0);
		}
	}
}

int main(int argc, char **argv)
{
	struct bench b = {0};
	uint64_t n = 0, seconds = 0, pairs = 0;
	if (argc != 5 || vc_parse_u64("HOSTS", argv[2], 4, NODES_MAX, &n, NULL) < 0 ||
	    vc_parse_u64("SECONDS", argv[3], 1, 3600, &seconds, NULL) < 0 || vc_parse_u64("PAIRS", argv[4], 1, 100, &pairs, NULL) < 0)
		die("usage: memberbench vcd|serf HOSTS SECONDS-AT-REST PAIRS");
	b.serf = strcmp(argv[1], "serf") == 0;
	b.n = (unsigned)n;
	b.nodes = calloc(n, sizeof(*b.nodes));
	setvbuf(stdout, NULL, _IOLBF, 0);
	nft("add table inet bench");
	nft("add chain inet bench in { type filter hook input priority 0; }");
	if (vcds_create(&b.v, b.n, "log-level = notice\n") < 0)
		die("munged does not start");
	form(&b);
	rest(&b, (unsigned)seconds, "rest");
	for (uint64_t k = 0; k < pairs; k++)
		kill_and_return(&b, (unsigned)((k * 7 + 3) % n), "kill");
	if (!b.serf) {
		spin(true);
		for (uint64_t k = 0; k < pairs; k++)
			kill_and_return(&b, (unsigned)((k * 7 + 2) % n), "busy");
		rest(&b, (unsigned)seconds, "busy_rest");
		spin(false);
	}
	for (uint64_t k = 0; k < pairs && k < n / 2 - 1; k++)
		power_off(&b, (unsigned)(n - 1 - 2 * k));
	if (!b.serf)
		kill_ten(&b);
	for (unsigned i = 0; i < b.n; i++)
		vcds_signal(&b.v, i, SIGKILL);
	vcds_destroy(&b.v);
	return 0;
}
