// SPDX-License-Identifier: GPL-2.0-or-later
// Registration of a step with libpmix: see jobinfo.h.
#include "cmd/pmix/jobinfo.h"

#include <errno.h>
#include <pmix.h>
#include <pmix_server.h>
#include <string.h>
#include <unistd.h>

#include "libvc/cleanup.h"

#define PROC_KEYS 9u

// The next free item of an array that was made large enough.
struct list {
	pmix_info_t *info;
	size_t n;
};

static void add_u32(struct list *l, const char *key, uint32_t value)
{
	PMIX_INFO_LOAD(&l->info[l->n++], key, &value, PMIX_UINT32);
}

static void add_u16(struct list *l, const char *key, uint16_t value)
{
	PMIX_INFO_LOAD(&l->info[l->n++], key, &value, PMIX_UINT16);
}

static void add_rank(struct list *l, const char *key, uint32_t value)
{
	pmix_rank_t rank = value;
	PMIX_INFO_LOAD(&l->info[l->n++], key, &rank, PMIX_PROC_RANK);
}

static void add_text(struct list *l, const char *key, const char *value)
{
	PMIX_INFO_LOAD(&l->info[l->n++], key, value, PMIX_STRING);
}

static void add_proc(struct list *l, const struct step *s, uint32_t rank)
{
	pmix_data_array_t *array;
	PMIX_DATA_ARRAY_CREATE(array, PROC_KEYS, PMIX_INFO);
	struct list proc = {.info = array->array};
	add_rank(&proc, PMIX_RANK, rank);
	add_u32(&proc, PMIX_APPNUM, 0);
	add_rank(&proc, PMIX_APPLDR, 0);
	add_rank(&proc, PMIX_GLOBAL_RANK, rank);
	add_rank(&proc, PMIX_APP_RANK, rank);
	add_u16(&proc, PMIX_LOCAL_RANK, (uint16_t)s->local[rank]);
	add_u16(&proc, PMIX_NODE_RANK, (uint16_t)s->local[rank]);
	add_u32(&proc, PMIX_NODEID, s->member[rank]);
	add_text(&proc, PMIX_HOSTNAME, s->names[s->member[rank]]);
	pmix_info_t *item = &l->info[l->n++];
	PMIX_LOAD_KEY(item->key, PMIX_PROC_DATA);
	item->value.type = PMIX_DATA_ARRAY;
	item->value.data.darray = array;
}

static void add_sizes(struct list *l, const struct step *s, uint32_t member)
{
	uint32_t local = step_size(s, member);
	add_u32(l, PMIX_UNIV_SIZE, s->ranks);
	add_u32(l, PMIX_JOB_SIZE, s->ranks);
	add_u32(l, PMIX_APP_SIZE, s->ranks);
	add_u32(l, PMIX_MAX_PROCS, s->ranks);
	add_u32(l, PMIX_JOB_NUM_APPS, 1);
	add_u32(l, PMIX_NUM_NODES, s->members);
	add_u32(l, PMIX_LOCAL_SIZE, local);
	add_u32(l, PMIX_NODE_SIZE, local);
	add_u32(l, PMIX_NODEID, member);
	add_rank(l, PMIX_LOCALLDR, step_leader(s, member));
}

// Maps in libpmix's own form, and the member's ranks.
static int add_maps(struct list *l, const struct step *s, uint32_t member)
{
	char *regex = NULL, *ppn = NULL;
	vc_autofree char *nodes = step_nodes(s), *ranges = step_ranges(s), *peers = step_peers(s, member);
	if (!nodes || !ranges || !peers)
		return PMIX_ERR_NOMEM;
	int rc = PMIx_generate_regex(nodes, &regex);
	if (rc == PMIX_SUCCESS)
		rc = PMIx_generate_ppn(ranges, &ppn);
	if (rc == PMIX_SUCCESS) {
		PMIX_INFO_LOAD(&l->info[l->n++], PMIX_NODE_MAP, regex, PMIX_REGEX);
		PMIX_INFO_LOAD(&l->info[l->n++], PMIX_PROC_MAP, ppn, PMIX_REGEX);
		add_text(l, PMIX_LOCAL_PEERS, peers);
	}
	free(regex);
	free(ppn);
	return rc;
}

static int register_nspace(const struct step *s, uint32_t member)
{
	struct list l = {0};
	size_t size = s->ranks + 16u;
	PMIX_INFO_CREATE(l.info, size);
	if (!l.info)
		return PMIX_ERR_NOMEM;
	add_sizes(&l, s, member);
	int rc = add_maps(&l, s, member);
	for (uint32_t r = 0; rc == PMIX_SUCCESS && r < s->ranks; r++)
		add_proc(&l, s, r);
	if (rc == PMIX_SUCCESS)
		rc = PMIx_server_register_nspace(s->nspace, (int)step_size(s, member), l.info, l.n, NULL, NULL);
	PMIX_INFO_FREE(l.info, size);
	return rc == PMIX_OPERATION_SUCCEEDED ? PMIX_SUCCESS : rc;
}

int jobinfo_register(const struct step *s, uint32_t member, struct vc_error *err)
{
	pmix_proc_t proc;
	int rc = register_nspace(s, member);
	for (uint32_t r = 0; rc == PMIX_SUCCESS && r < s->ranks; r++) {
		if (s->member[r] != member)
			continue;
		PMIX_LOAD_PROCID(&proc, s->nspace, r);
		rc = PMIx_server_register_client(&proc, getuid(), getgid(), NULL, NULL, NULL);
		if (rc == PMIX_OPERATION_SUCCEEDED)
			rc = PMIX_SUCCESS;
	}
	return rc == PMIX_SUCCESS ? 0 : vc_error_set(err, VC_EFAILED, "libpmix does not take the step: %s", PMIx_Error_string(rc));
}
