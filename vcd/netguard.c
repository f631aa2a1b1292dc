// SPDX-License-Identifier: GPL-2.0-or-later
// Tables through nft(8): see netguard.h. What goes into the text are addresses that were parsed, numbers, and hex digits.
#include "vcd/netguard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/cleanup.h"

#define NFT "nft"
#define OUTPUT_MAX (64 * 1024) // bytes of nft's messages or list that are looked at: hundreds of tables

extern char **environ;

static bool is_ipv6(const char *addr)
{
	return strchr(addr, ':') != NULL;
}

static int put_peers(FILE *out, const struct net_segment *seg, struct vc_error *err)
{
	uint8_t bytes[16];
	for (size_t i = 0; i < seg->n_peers; i++) {
		const char *addr = seg->peers[i].addr;
		if (inet_pton(is_ipv6(addr) ? AF_INET6 : AF_INET, addr, bytes) != 1 || is_ipv6(addr) != is_ipv6(seg->local))
			return vc_error_set(err, VC_EPROTO, "'%s' is not an address of the underlay's kind", addr);
		fprintf(out, i ? ", %s" : "%s", addr);
	}
	return 0;
}

static int put_vxlan(FILE *out, const struct net_segment *seg, struct vc_error *err)
{
	bool v6 = is_ipv6(seg->local);
	// bytes 12 to 14 of the UDP packet: the VNI
	fprintf(out, "  udp dport %" PRIu32 " @th,96,24 %" PRIu32 " meta nfproto != %s drop\n", seg->port, seg->vni, v6 ? "ipv6" : "ipv4");
	fprintf(out, "  udp dport %" PRIu32 " @th,96,24 %" PRIu32 " %s saddr != { ", seg->port, seg->vni, v6 ? "ip6" : "ip");
	if (put_peers(out, seg, err) < 0)
		return -1;
	fprintf(out, " } drop\n }\n chain out {\n  type filter hook output priority filter; policy accept;\n");
	fprintf(out, "  udp dport %" PRIu32 " meta skuid != 0 drop\n", seg->port);
	return 0;
}

static int put_rules(FILE *out, const struct net_segment *seg, const char *table, struct vc_error *err)
{
	// the first line makes a table where there is none, for the second to remove: both do nothing else
	fprintf(out, "table inet %s\ndelete table inet %s\ntable inet %s {\n", table, table, table);
	fprintf(out, " chain in {\n  type filter hook input priority filter; policy accept;\n");
	fprintf(out, "  iifname \"" NET_BRIDGE_PREFIX "%.*s\" drop\n", NET_SHORT_LEN, seg->id);
	if (seg->n_peers && put_vxlan(out, seg, err) < 0)
		return -1;
	fprintf(out, " }\n}\n");
	return 0;
}

char *netguard_rules(const struct net_segment *seg, struct vc_error *err)
{
	char table[NET_NAME_LEN];
	vc_autofree char *text = NULL;
	size_t len = 0;
	snprintf(table, sizeof(table), NETGUARD_PREFIX "%.*s", NET_SHORT_LEN, seg->id);
	FILE *out = open_memstream(&text, &len);
	if (!out) {
		vc_error_errno(err, "packet filter");
		return NULL;
	}
	int rc = put_rules(out, seg, table, err);
	if (fclose(out) == EOF && rc == 0)
		rc = vc_error_errno(err, "packet filter");
	return rc == 0 ? vc_steal(&text) : NULL;
}

// --- nft --------------------------------------------------------------------------------------------------------

static int start(pid_t *pid, char *const argv[], int in, int out, struct vc_error *err)
{
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, 0);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	posix_spawn_file_actions_adddup2(&actions, out, 2);
	int rc = posix_spawnp(pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc)
		return vc_error_set(err, rc, "%s: %s: install nftables on this host", argv[0], strerror(rc));
	return 0;
}

// Runs nft with `input` and gives back what it said, cut at OUTPUT_MAX.
static int run(char *const argv[], const char *input, char **ret_output, int *ret_status, struct vc_error *err)
{
	pid_t pid;
	int status;
	vc_autofree char *text = calloc(1, OUTPUT_MAX + 1);
	vc_autoclose int in = memfd_create("nft-in", MFD_CLOEXEC), out = memfd_create("nft-out", MFD_CLOEXEC);
	if (!text || in < 0 || out < 0 || pwrite(in, input, strlen(input), 0) != (ssize_t)strlen(input))
		return vc_error_errno(err, "packet filter");
	if (start(&pid, argv, in, out, err) < 0)
		return -1;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return vc_error_errno(err, "%s", argv[0]);
	}
	if (pread(out, text, OUTPUT_MAX, 0) < 0)
		return vc_error_errno(err, "%s", argv[0]);
	*ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	*ret_output = vc_steal(&text);
	return 0;
}

static int apply(const char *rules, struct vc_error *err)
{
	char *const argv[] = {NFT, "-f", "-", NULL};
	vc_autofree char *output = NULL;
	int status = 0;
	if (run(argv, rules, &output, &status, err) < 0)
		return vc_error_wrap(err, "packet filter");
	output[strcspn(output, "\n")] = '\0';
	return status == 0 ? 0 : vc_error_set(err, VC_EHOST, "packet filter: nft failed with status %d: %s", status, output);
}

int netguard_ensure(const struct net_segment *seg, struct vc_error *err)
{
	vc_autofree char *rules = netguard_rules(seg, err);
	return rules ? apply(rules, err) : -1;
}

int netguard_remove(const char *table, struct vc_error *err)
{
	char rules[128];
	snprintf(rules, sizeof(rules), "table inet %.16s\ndelete table inet %.16s\n", table, table);
	return apply(rules, err);
}

int netguard_each(int (*fn)(const char *table, void *ctx), void *ctx, struct vc_error *err)
{
	char *const argv[] = {NFT, "list", "tables", "inet", NULL};
	vc_autofree char *output = NULL;
	struct vc_error why = VC_ERROR_INIT;
	int status = 0;
	if (run(argv, "", &output, &status, &why) < 0)
		return why.code == ENOENT ? 0 : vc_error_set(err, why.code, "%s", why.text);
	char *save = NULL;
	for (char *line = strtok_r(output, "\n", &save); line && status == 0; line = strtok_r(NULL, "\n", &save)) {
		char *name = strrchr(line, ' ');
		if (strncmp(line, "table inet " NETGUARD_PREFIX, strlen("table inet " NETGUARD_PREFIX)) == 0 && fn(name + 1, ctx) != 0)
			return -1;
	}
	return 0;
}
