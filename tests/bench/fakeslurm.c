// SPDX-License-Identifier: GPL-2.0-or-later
// A fake of libslurm, for tests/bench/scale alone: preloaded into the controller's vcd, it knows one configuring job that has all of the
// hosts t1..tN (SCALE_HOSTS), each with one CPU, and nothing else. What vcd does with that is the product's own.
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvc/parse.h"

#define JOB 7
#define MEM_MIB 512
#define USER 0 // whose image it is

struct hostlist {
	unsigned next, n;
};

static unsigned count(void)
{
	uint64_t n = 0;
	const char *text = getenv("SCALE_HOSTS");
	return text && vc_parse_u64("SCALE_HOSTS", text, 1, 65535, &n, NULL) == 0 ? (unsigned)n : 0;
}

static char *host_name(unsigned i)
{
	char *name = NULL;
	return asprintf(&name, "t%u", i + 1) < 0 ? NULL : name;
}

// --- jobs ----------------------------------------------------------------------------------------------------------------

int slurm_load_job(job_info_msg_t **ret, uint32_t id, uint16_t flags)
{
	(void)flags;
	if (id != JOB) {
		slurm_seterrno(ESLURM_INVALID_JOB_ID);
		return SLURM_ERROR;
	}
	job_info_msg_t *msg = calloc(1, sizeof(*msg));
	msg->job_array = calloc(1, sizeof(*msg->job_array));
	msg->record_count = 1;
	msg->job_array[0].job_id = JOB;
	msg->job_array[0].job_state = JOB_RUNNING | JOB_CONFIGURING;
	msg->job_array[0].user_id = msg->job_array[0].group_id = USER;
	msg->job_array[0].nodes = strdup("all of them");
	*ret = msg;
	return SLURM_SUCCESS;
}

void slurm_free_job_info_msg(job_info_msg_t *msg)
{
	free(msg->job_array[0].nodes);
	free(msg->job_array);
	free(msg);
}

int slurm_job_cpus_allocated_on_node(job_resources_t *resources, const char *node)
{
	(void)resources, (void)node;
	return 1;
}

int slurm_job_cpus_allocated_str_on_node(char *cpus, size_t len, job_resources_t *resources, const char *node)
{
	(void)cpus, (void)len, (void)resources, (void)node;
	return SLURM_ERROR; // not known: nobody is pinned
}

hostlist_t slurm_hostlist_create(const char *text)
{
	struct hostlist *list = calloc(1, sizeof(*list));
	(void)text;
	list->n = count();
	return list;
}

int slurm_hostlist_count(hostlist_t list)
{
	return (int)list->n;
}

char *slurm_hostlist_shift(hostlist_t list)
{
	return list->next < list->n ? host_name(list->next++) : NULL;
}

void slurm_hostlist_destroy(hostlist_t list)
{
	free(list);
}

// --- the site ------------------------------------------------------------------------------------------------------------

int slurm_load_ctl_conf(time_t since, slurm_conf_t **ret)
{
	(void)since;
	*ret = calloc(1, sizeof(**ret));
	(*ret)->cluster_name = strdup("lab");
	return SLURM_SUCCESS;
}

void slurm_free_ctl_conf(slurm_conf_t *conf)
{
	free(conf->cluster_name);
	free(conf);
}

int slurm_load_node(time_t since, node_info_msg_t **ret, uint16_t flags)
{
	(void)since, (void)flags;
	node_info_msg_t *msg = calloc(1, sizeof(*msg));
	msg->record_count = count();
	msg->node_array = calloc(msg->record_count, sizeof(*msg->node_array));
	for (unsigned i = 0; i < msg->record_count; i++) {
		msg->node_array[i] = (node_info_t){.name = host_name(i), .node_addr = strdup("127.0.0.1"), .cpus = 1, .real_memory = MEM_MIB};
	}
	*ret = msg;
	return SLURM_SUCCESS;
}

void slurm_free_node_info_msg(node_info_msg_t *msg)
{
	for (unsigned i = 0; i < msg->record_count; i++) {
		free(msg->node_array[i].name);
		free(msg->node_array[i].node_addr);
	}
	free(msg->node_array);
	free(msg);
}
