// SPDX-License-Identifier: GPL-2.0-or-later
// How much memory a domain has touched, and how fast it dirties it: see hv.h.
//
// The rate is QEMU's, by sampled pages (a second); what was touched is the resident part of the guest's memory in the
// kernel's list of its QEMU's mappings.
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "vcd/hv_int.h"

#define CALC_SECONDS 1	// QEMU's least
#define CALC_TRIES 50	// and then it hashes what it has sampled
#define CALC_POLL_MS 100

#define auto_domain __attribute__((cleanup(hv_free_domain)))

struct measure_args {
	const char *name;
	struct hv_memory *ret;
};

static void free_records(virDomainStatsRecordPtr **list)
{
	if (*list)
		virDomainStatsRecordListFree(*list);
}

// HV_CALL_AGAIN while it is still measured.
static int read_rate(virDomainPtr dom, uint64_t *ret)
{
	virDomainPtr list[] = {dom, NULL};
	__attribute__((cleanup(free_records))) virDomainStatsRecordPtr *records = NULL;
	long long rate = 0;
	int status = VIR_DOMAIN_DIRTYRATE_UNSTARTED;
	if (virDomainListGetStats(list, VIR_DOMAIN_STATS_DIRTYRATE, &records, 0) != 1)
		return -1;
	virTypedParameterPtr p = records[0]->params;
	int n = records[0]->nparams;
	if (virTypedParamsGetInt(p, n, "dirtyrate.calc_status", &status) <= 0 || status == VIR_DOMAIN_DIRTYRATE_UNSTARTED)
		return -1;
	if (status != VIR_DOMAIN_DIRTYRATE_MEASURED)
		return HV_CALL_AGAIN;
	if (virTypedParamsGetLLong(p, n, "dirtyrate.megabytes_per_second", &rate) <= 0 || rate < 0)
		return -1;
	*ret = (uint64_t)rate << 20;
	return 0;
}

static int measure_rate(virDomainPtr dom, uint64_t *ret)
{
	int rc = HV_CALL_AGAIN;
	(void)virDomainStartDirtyRateCalc(dom, CALC_SECONDS, 0); // hv_stats() may have begun it already
	for (int i = 0; rc == HV_CALL_AGAIN && i < CALC_TRIES; i++) {
		poll(NULL, 0, CALC_POLL_MS);
		rc = read_rate(dom, ret);
	}
	return rc == 0 ? 0 : -1;
}

// The resident part of the first mapping that has room for all of the guest's memory; 0: not known.
static uint64_t touched_kib(const char *name, uint64_t memory_kib)
{
	vc_autofree char *line = NULL;
	size_t room = 0;
	uint64_t pid, size = 0, kib;
	char path[64];
	if (hv_pid(name, &pid) < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%" PRIu64 "/smaps", pid);
	vc_autofclose FILE *f = fopen(path, "re");
	while (f && getline(&line, &room, f) > 0) {
		if (sscanf(line, "Size: %" SCNu64, &kib) == 1)
			size = kib;
		else if (size >= memory_kib && sscanf(line, "Rss: %" SCNu64, &kib) == 1)
			return kib;
	}
	return 0;
}

static int measure_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const struct measure_args *a = ctx;
	virDomainInfo info;
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, a->name);
	if (!dom || virDomainGetInfo(dom, &info) < 0)
		return hv_error(err, "domain %s", a->name);
	uint64_t kib = touched_kib(a->name, info.memory);
	a->ret->touched = (kib && kib < info.memory ? kib : info.memory) << 10;
	return measure_rate(dom, &a->ret->dirty_rate) < 0 ? hv_error(err, "the dirty rate of domain %s is not known", a->name) : 0;
}

int hv_measure(struct hv *hv, const char *name, struct hv_memory *ret, struct vc_error *err)
{
	struct measure_args a = {name, ret};
	*ret = (struct hv_memory){0};
	return hv_call(hv, &hv_once, measure_run, &a, err);
}
