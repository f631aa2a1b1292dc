// SPDX-License-Identifier: GPL-2.0-or-later
// A client of Slurm's PMIx server: see slurm.h.
#include "cmd/pmix/slurm.h"

#include <errno.h>
#include <pmix.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/pmix/step.h"
#include "libvc/cleanup.h"

static int failed(struct vc_error *err, const char *what, int rc)
{
	return vc_error_set(err, VC_EFAILED, "Slurm's PMIx: %s: %s", what, PMIx_Error_string(rc));
}

// A value that Slurm has given to the whole step, or to one rank.
static int job_value(const struct slurm *s, uint32_t rank, const char *key, pmix_value_t **ret)
{
	pmix_proc_t proc;
	PMIX_LOAD_PROCID(&proc, s->nspace, rank);
	return PMIx_Get(&proc, key, NULL, 0, ret);
}

static char *job_text(const struct slurm *s, uint32_t rank, const char *key)
{
	pmix_value_t *value = NULL;
	char *text = NULL;
	if (job_value(s, rank, key, &value) != PMIX_SUCCESS)
		return NULL;
	if (value->type == PMIX_STRING && value->data.string)
		text = strdup(value->data.string);
	PMIX_VALUE_RELEASE(value);
	return text;
}

int slurm_init(struct slurm *s, struct vc_error *err)
{
	pmix_proc_t me;
	pmix_value_t *size = NULL;
	*s = (struct slurm){0};
	int rc = PMIx_Init(&me, NULL, 0);
	if (rc != PMIX_SUCCESS)
		return failed(err, "init", rc);
	memcpy(s->nspace, me.nspace, sizeof(s->nspace) - 1);
	s->rank = me.rank;
	rc = job_value(s, PMIX_RANK_WILDCARD, PMIX_JOB_SIZE, &size);
	if (rc != PMIX_SUCCESS)
		return failed(err, PMIX_JOB_SIZE, rc);
	if (size->type == PMIX_UINT32 && size->data.uint32 <= STEP_RANKS_MAX)
		s->ranks = size->data.uint32;
	PMIX_VALUE_RELEASE(size);
	s->dir = job_text(s, PMIX_RANK_WILDCARD, PMIX_NSDIR);
	if (s->ranks == 0 || s->rank >= s->ranks || !s->dir)
		return vc_error_set(err, VC_EFAILED, "Slurm's PMIx does not say how large the step is, or where its directory is");
	return 0;
}

void slurm_finalize(struct slurm *s, bool in_order)
{
	if (in_order)
		PMIx_Finalize(NULL, 0);
	free(s->dir);
	s->dir = NULL;
}

char **slurm_hosts(const struct slurm *s, struct vc_error *err)
{
	vc_autostrv char **hosts = calloc(s->ranks + 1, sizeof(*hosts));
	for (uint32_t r = 0; hosts && r < s->ranks; r++) {
		hosts[r] = job_text(s, r, PMIX_HOSTNAME);
		if (hosts[r])
			continue;
		vc_error_set(err, VC_EFAILED, "Slurm's PMIx does not say where rank %u runs", r);
		return NULL;
	}
	if (!hosts)
		vc_error_set(err, ENOMEM, "hosts");
	return vc_steal(&hosts);
}

int slurm_put(const char *key, const void *data, size_t len)
{
	pmix_value_t value = {.type = PMIX_BYTE_OBJECT, .data.bo = {.bytes = (char *)data, .size = len}};
	int rc = PMIx_Put(PMIX_GLOBAL, key, &value);
	return rc == PMIX_SUCCESS ? PMIx_Commit() : rc;
}

void slurm_abort(int status, const char *text)
{
	PMIx_Abort(status, text, NULL, 0);
}

// ---- fence and get ----

static void answer(struct slurm_answer *a, int status)
{
	a->status = status;
	if (evq_push(a->evq, a->done, a->arg) < 0)
		abort(); // without it the step waits for ever
}

static void on_fence(pmix_status_t status, void *arg)
{
	answer(arg, status);
}

void slurm_fence(const struct slurm *s, const uint32_t *ranks, uint32_t n, bool collect, struct slurm_answer *a)
{
	pmix_info_t info;
	size_t count = ranks ? n : 1;
	vc_autofree pmix_proc_t *procs = calloc(count + 1, sizeof(*procs));
	for (size_t i = 0; procs && i < count; i++)
		PMIX_LOAD_PROCID(&procs[i], s->nspace, ranks ? ranks[i] : PMIX_RANK_WILDCARD);
	PMIX_INFO_LOAD(&info, PMIX_COLLECT_DATA, &collect, PMIX_BOOL);
	int rc = procs ? PMIx_Fence_nb(procs, count, &info, 1, on_fence, a) : PMIX_ERR_NOMEM;
	if (rc != PMIX_SUCCESS)
		answer(a, rc == PMIX_OPERATION_SUCCEEDED ? PMIX_SUCCESS : rc);
}

static int take_value(struct slurm_answer *a, const pmix_value_t *value)
{
	const pmix_byte_object_t *bo = &value->data.bo;
	if (value->type == PMIX_COMPRESSED_BYTE_OBJECT)
		return PMIx_Data_decompress((uint8_t *)bo->bytes, bo->size, &a->data, &a->len) ? PMIX_SUCCESS : PMIX_ERR_UNPACK_FAILURE;
	if (value->type != PMIX_BYTE_OBJECT)
		return PMIX_ERR_TYPE_MISMATCH;
	a->data = malloc(bo->size + 1);
	if (!a->data)
		return PMIX_ERR_NOMEM;
	if (bo->size)
		memcpy(a->data, bo->bytes, bo->size);
	a->len = bo->size;
	return PMIX_SUCCESS;
}

static void on_value(pmix_status_t status, pmix_value_t *value, void *arg)
{
	struct slurm_answer *a = arg;
	if (status == PMIX_SUCCESS)
		status = value ? take_value(a, value) : PMIX_ERR_NOT_FOUND;
	answer(a, status);
}

void slurm_get(const struct slurm *s, uint32_t rank, const char *key, struct slurm_answer *a)
{
	pmix_proc_t proc;
	PMIX_LOAD_PROCID(&proc, s->nspace, rank);
	int rc = PMIx_Get_nb(&proc, key, NULL, 0, on_value, a);
	if (rc != PMIX_SUCCESS)
		answer(a, rc);
}
