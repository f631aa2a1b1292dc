// SPDX-License-Identifier: GPL-2.0-or-later
// Reading a job's request: see request.h. An unknown is 0, which refuses nothing: a job that could run is never
// refused here, one that cannot is refused with its numbers at the latest when its tasks start.
#include "plugins/request.h"

#include <string.h>
#include <strings.h>

#include "libvc/cleanup.h"

static uint64_t known(uint64_t value, uint64_t none, uint64_t fallback)
{
	return value == none ? fallback : value;
}

// Most CPUs that one host can give: all of the job's but one task's on each other host.
static uint64_t cpus_on_one_host(const job_desc_msg_t *job)
{
	uint64_t per_task = known(job->cpus_per_task, NO_VAL16, 1);
	uint64_t tasks = known(job->num_tasks, NO_VAL, 0);
	uint64_t hosts = known(job->min_nodes, NO_VAL, 1);
	uint64_t total = known(job->min_cpus, NO_VAL, 0);
	if (tasks * per_task > total)
		total = tasks * per_task;
	if (job->ntasks_per_node != NO_VAL16 && job->ntasks_per_node && job->ntasks_per_node * per_task * hosts > total)
		total = job->ntasks_per_node * per_task * hosts;
	uint64_t elsewhere = hosts > 1 ? (hosts - 1) * per_task : 0;
	uint64_t most = total > elsewhere ? total - elsewhere : 0;
	uint64_t least = known(job->pn_min_cpus, NO_VAL16, 0); // --mincpus, and -c
	return most && most < least ? least : most;
}

static bool cpus_are_open(const job_desc_msg_t *job)
{
	return job->shared == 0 || (job->overcommit != NO_VAL8 && job->overcommit) || job->tres_per_job || job->tres_per_node ||
	       job->tres_per_socket || job->tres_per_task || job->cpus_per_tres;
}

void request_from_job(const job_desc_msg_t *job, bool whole_hosts, struct vc_spec_request *ret)
{
	uint64_t cpus = whole_hosts || cpus_are_open(job) ? 0 : cpus_on_one_host(job) * REQUEST_THREADS;
	uint64_t mem = job->pn_min_memory == NO_VAL64 ? 0 : job->pn_min_memory;
	if (mem & MEM_PER_CPU)
		mem = (mem & ~MEM_PER_CPU) * cpus;
	*ret = (struct vc_spec_request){
		.cpus_per_host_max = cpus > UINT32_MAX ? 0 : (uint32_t)cpus,
		.mem_mib_per_host = mem > VC_SPEC_MEM_MAX_MIB ? 0 : mem,
	};
}

static bool starts(const char *line, const char *word)
{
	return strncasecmp(line, word, strlen(word)) == 0;
}

static bool line_has(const char *line, size_t len, const char *word)
{
	for (size_t i = 0; i + strlen(word) <= len; i++) {
		if (starts(line + i, word))
			return true;
	}
	return false;
}

bool request_site_gives_whole_hosts(const char *slurm_conf)
{
	static const char *const words[] = {"select/linear", "OverSubscribe=EXCLUSIVE", "Shared=EXCLUSIVE", "select/cray"};
	for (const char *line = slurm_conf; *line; line += *line == '\n') {
		line += strspn(line, " \t\r");
		size_t len = strcspn(line, "#\n");
		if (starts(line, "include"))
			return true;
		for (size_t i = 0; i < VC_ARRAY_LEN(words); i++) {
			if (line_has(line, len, words[i]))
				return true;
		}
		line += strcspn(line, "\n");
	}
	return strcasestr(slurm_conf, "SelectType") == NULL; // the default has changed between versions
}
