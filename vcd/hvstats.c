// SPDX-License-Identifier: GPL-2.0-or-later
// What all members' domains here use, in one call, and what one may use: see hv.h.
//
// The dirty rate is what QEMU measured since the last call, which asks for the next measurement: one second of sampled pages
// that nobody waits for. A domain that libvirt is busy with (a migration) tells what libvirt knows without its monitor.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libvirt/virterror.h>

#include "libvc/cleanup.h"
#include "vcd/hv_int.h"

#define RATE_SECONDS 1		// QEMU's least
#define PERIOD_US 100000	// of a quota; the kernel's usual one
#define QUOTA_MIN_US 1000	// libvirt's least
#define SHARES_MIN 2		// the kernel's least
#define SHARES_MAX 10000	// libvirt's most with cgroup v2
#define SHARES_OF_CPU 1024	// libvirt's default, of a domain with one CPU

#define auto_domain __attribute__((cleanup(hv_free_domain)))

struct stats_args {
	struct hv_stats *list;
	size_t n;
};

static void free_records(virDomainStatsRecordPtr **list)
{
	if (*list)
		virDomainStatsRecordListFree(*list);
}

// The time that its processors waited for one of the host's.
static uint64_t delay_ms(virTypedParameterPtr p, int n)
{
	unsigned count = 0;
	unsigned long long sum = 0;
	(void)virTypedParamsGetUInt(p, n, "vcpu.maximum", &count);
	for (unsigned i = 0; i < count && i < VC_MEMBERS_MAX; i++) {
		unsigned long long delay = 0;
		char key[32];
		snprintf(key, sizeof(key), "vcpu.%u.delay", i);
		(void)virTypedParamsGetULLong(p, n, key, &delay);
		sum += delay;
	}
	return sum / 1000000;
}

static uint64_t dirty_rate(virTypedParameterPtr p, int n)
{
	long long rate = 0;
	int status = VIR_DOMAIN_DIRTYRATE_UNSTARTED;
	(void)virTypedParamsGetInt(p, n, "dirtyrate.calc_status", &status);
	if (status != VIR_DOMAIN_DIRTYRATE_MEASURED || virTypedParamsGetLLong(p, n, "dirtyrate.megabytes_per_second", &rate) <= 0 || rate < 0)
		return 0;
	return (uint64_t)rate;
}

static bool is_member(const char *name)
{
	return name && strncmp(name, HV_DOMAIN_PREFIX, strlen(HV_DOMAIN_PREFIX)) == 0 && strcmp(name, HV_PROBE_DOMAIN) != 0;
}

// Not while libvirt has a job with it: the call would wait for that.
static void ask_rate(virDomainPtr dom)
{
	virDomainJobInfo job;
	if (virDomainGetJobInfo(dom, &job) == 0 && job.type == VIR_DOMAIN_JOB_NONE)
		(void)virDomainStartDirtyRateCalc(dom, RATE_SECONDS, 0);
}

static void take_record(const virDomainStatsRecord *r, struct hv_stats *to)
{
	unsigned long long cpu = 0;
	(void)virTypedParamsGetULLong(r->params, r->nparams, "cpu.time", &cpu);
	*to = (struct hv_stats){.cpu_ms = cpu / 1000000, .delay_ms = delay_ms(r->params, r->nparams),
				.dirty_mib = dirty_rate(r->params, r->nparams)};
	snprintf(to->name, sizeof(to->name), "%s", virDomainGetName(r->dom));
	ask_rate(r->dom);
}

static int stats_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const unsigned what = VIR_DOMAIN_STATS_CPU_TOTAL | VIR_DOMAIN_STATS_VCPU | VIR_DOMAIN_STATS_DIRTYRATE;
	const unsigned which = VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING | VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
	__attribute__((cleanup(free_records))) virDomainStatsRecordPtr *records = NULL;
	struct stats_args *a = ctx;
	(void)hv;
	int n = virConnectGetAllDomainStats(conn, what, &records, which);
	if (n < 0)
		return hv_error(err, "statistics of domains");
	free(a->list);
	a->n = 0;
	a->list = calloc((size_t)n + 1, sizeof(*a->list));
	if (!a->list)
		return vc_error_errno(err, "statistics of domains");
	for (int i = 0; i < n; i++) {
		if (is_member(virDomainGetName(records[i]->dom)))
			take_record(records[i], &a->list[a->n++]);
	}
	return 0;
}

int hv_stats(struct hv *hv, struct hv_stats **ret, size_t *ret_n, struct vc_error *err)
{
	struct stats_args a = {0};
	if (hv_call(hv, &hv_once, stats_run, &a, err) < 0) {
		free(a.list);
		return -1;
	}
	*ret = a.list;
	*ret_n = a.n;
	return 0;
}

// --- what it may use --------------------------------------------------------------------------------------------------

struct cpu_args {
	const char *name;
	struct hv_cpu cpu;
};

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
	return value < min ? min : value > max ? max : value;
}

static int cpu_run(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err)
{
	const struct cpu_args *a = ctx;
	virTypedParameterPtr p = NULL;
	int n = 0, room = 0;
	long long quota = -1; // none
	(void)hv;
	auto_domain virDomainPtr dom = virDomainLookupByName(conn, a->name);
	if (!dom)
		return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN ? 0 : hv_error(err, "domain %s", a->name); // it ended, or has moved
	if (a->cpu.cap)
		quota = (long long)clamp((uint64_t)a->cpu.cap * PERIOD_US / 1000, QUOTA_MIN_US, UINT32_MAX);
	bool made = virTypedParamsAddULLong(&p, &n, &room, VIR_DOMAIN_SCHEDULER_CPU_SHARES,
					    clamp((uint64_t)a->cpu.weight * SHARES_OF_CPU / 1000, SHARES_MIN, SHARES_MAX)) == 0 &&
		    virTypedParamsAddULLong(&p, &n, &room, VIR_DOMAIN_SCHEDULER_GLOBAL_PERIOD, PERIOD_US) == 0 &&
		    virTypedParamsAddLLong(&p, &n, &room, VIR_DOMAIN_SCHEDULER_GLOBAL_QUOTA, quota) == 0;
	int rc = made ? virDomainSetSchedulerParametersFlags(dom, p, n, VIR_DOMAIN_AFFECT_LIVE) : -1;
	virTypedParamsFree(p, n);
	return rc < 0 ? hv_error(err, "libvirt cannot set the share of domain %s", a->name) : 0;
}

int hv_set_cpu(struct hv *hv, const char *name, const struct hv_cpu *cpu, struct vc_error *err)
{
	struct cpu_args a = {name, *cpu};
	return hv_call(hv, &hv_once, cpu_run, &a, err);
}
