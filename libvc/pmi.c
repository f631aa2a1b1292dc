// SPDX-License-Identifier: GPL-2.0-or-later
// PMI relay: see pmi.h. The first command of a task, and its answer, are lines of PMI-1 in both versions; when both name
// version 2, each message from then on is six digits of length and a list "key=value;...".
#include "libvc/pmi.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"
#include "libvc/taskref.h"

#define HEAD 6u // digits before a message of PMI-2
#define MAPPING_KEY "PMI_process_mapping"
#define NETINFO_KEY "PMI_netinfo_of_task"
#define VECTOR "(vector,"

// --- the mapping ---

struct block {
	uint32_t first, nodes, ranks;
};

struct blocks {
	struct block *v;
	size_t n;
};

static int parse_number(const char **p, char end, uint32_t max, uint32_t *ret, struct vc_error *err)
{
	char text[16];
	uint64_t n;
	size_t len = strspn(*p, "0123456789");
	if (len == 0 || len >= sizeof(text) || (*p)[len] != end)
		return vc_error_set(err, VC_EPROTO, "Slurm's process mapping is malformed");
	memcpy(text, *p, len);
	text[len] = '\0';
	if (vc_parse_u64("process mapping", text, 0, max, &n, err) < 0)
		return -1;
	*ret = (uint32_t)n;
	*p += len + 1;
	return 0;
}

static int parse_block(const char **p, struct block *ret, struct vc_error *err)
{
	if (*(*p)++ != '(')
		return vc_error_set(err, VC_EPROTO, "Slurm's process mapping is malformed");
	if (parse_number(p, ',', VC_PMI_NODES_MAX, &ret->first, err) < 0 || parse_number(p, ',', VC_PMI_NODES_MAX, &ret->nodes, err) < 0 ||
	    parse_number(p, ')', VC_PMI_RANKS_MAX, &ret->ranks, err) < 0)
		return -1;
	return ret->nodes && ret->ranks ? 0 : vc_error_set(err, VC_EPROTO, "Slurm's process mapping has an empty block");
}

// At most one block per 7 characters ("(0,1,1)"), and a value is bounded.
static int parse_blocks(const char *text, struct blocks *ret, struct vc_error *err)
{
	const char *p = text + strlen(VECTOR);
	if (strncmp(text, VECTOR, strlen(VECTOR)) != 0 || strlen(text) > VC_PMI_VALUE_MAX)
		return vc_error_set(err, VC_EPROTO, "Slurm's process mapping is not a vector");
	ret->v = calloc(strlen(text) / 7 + 1, sizeof(*ret->v));
	if (!ret->v)
		return vc_error_errno(err, "process mapping");
	do {
		if (parse_block(&p, &ret->v[ret->n++], err) < 0)
			return -1;
	} while (*p++ == ',');
	return p[-1] == ')' && !*p ? 0 : vc_error_set(err, VC_EPROTO, "Slurm's process mapping is malformed");
}

// The node of each rank; blocks are gone through again where they hold fewer ranks than there are.
static int place_ranks(const struct blocks *blocks, uint32_t *node, uint32_t ranks, size_t nodes, struct vc_error *err)
{
	uint32_t rank = 0;
	for (size_t b = 0; rank < ranks; b = (b + 1) % blocks->n) {
		const struct block *k = &blocks->v[b];
		if ((uint64_t)k->first + k->nodes > nodes)
			return vc_error_set(err, VC_EPROTO, "Slurm's process mapping names node %u of %zu", k->first + k->nodes - 1, nodes);
		for (uint32_t n = 0; n < k->nodes; n++) {
			for (uint32_t i = 0; i < k->ranks && rank < ranks; i++)
				node[rank++] = k->first + n;
		}
	}
	return 0;
}

// From the node of each rank to its machine, numbered through all nodes.
static int spread_ranks(uint32_t *place, uint32_t ranks, const uint32_t *members, size_t nodes, struct vc_error *err)
{
	vc_autofree uint32_t *counts = calloc(nodes * 3, sizeof(*counts));
	if (!counts)
		return vc_error_errno(err, "process mapping");
	uint32_t *seen = counts + nodes, *base = seen + nodes, sum = 0;
	for (uint32_t r = 0; r < ranks; r++)
		counts[place[r]]++;
	for (size_t n = 0; n < nodes; n++) {
		base[n] = sum;
		sum += members[n];
		if (counts[n] && !members[n])
			return vc_error_set(err, VC_EPROTO, "node %zu of the step has no machine", n);
	}
	for (uint32_t r = 0; r < ranks; r++) {
		uint32_t n = place[r];
		place[r] = base[n] + vc_task_member_index(seen[n]++, counts[n], members[n]);
	}
	return 0;
}

// The shortest form that is easy to find: runs of ranks on one machine, and runs of machines with as many ranks each.
static int write_vector(const uint32_t *place, uint32_t ranks, char **ret, struct vc_error *err)
{
	char text[VC_PMI_VALUE_MAX + 1] = "(vector";
	size_t len = strlen(text);
	struct block b = {0};
	for (uint32_t r = 0, run; r <= ranks; r += run) {
		for (run = 1; r < ranks && r + run < ranks && place[r + run] == place[r]; run++)
			;
		if (r < ranks && b.nodes && b.ranks == run && place[r] == b.first + b.nodes) {
			b.nodes++;
			continue;
		}
		if (b.nodes)
			len += (size_t)snprintf(text + len, sizeof(text) - len, ",(%u,%u,%u)", b.first, b.nodes, b.ranks);
		if (len + 2 >= sizeof(text))
			return vc_error_set(err, VC_EUSER, "the placement of %u ranks does not fit into %u bytes: use --distribution=block", ranks,
					    VC_PMI_VALUE_MAX);
		if (r < ranks)
			b = (struct block){place[r], 1, run};
	}
	snprintf(text + len, sizeof(text) - len, ")");
	*ret = strdup(text);
	return *ret ? 0 : vc_error_errno(err, "process mapping");
}

char *vc_pmi_mapping(const char *mapping, uint32_t ranks, const uint32_t *members, size_t nodes, struct vc_error *err)
{
	struct blocks blocks = {0};
	char *text = NULL;
	vc_autofree uint32_t *place = ranks && ranks <= VC_PMI_RANKS_MAX ? calloc(ranks, sizeof(*place)) : NULL;
	if (!place)
		vc_error_set(err, VC_EPROTO, "a step of %u ranks", ranks);
	else if (parse_blocks(mapping, &blocks, err) == 0 && place_ranks(&blocks, place, ranks, nodes, err) == 0 &&
		 spread_ranks(place, ranks, members, nodes, err) == 0)
		(void)write_vector(place, ranks, &text, err);
	free(blocks.v);
	return text;
}

// --- the conversation ---

struct way {
	struct vc_buf in; // an unfinished message
	bool v2;	  // messages have a length
};

struct vc_pmi {
	uint32_t ranks, member;
	uint32_t *members;
	size_t nodes;
	struct way task, slurm;
	bool v2_asked; // by the task's init
	bool mapping_asked;
};

struct vc_pmi *vc_pmi_create(const struct vc_pmi_layout *layout, struct vc_error *err)
{
	struct vc_pmi *pmi = calloc(1, sizeof(*pmi));
	if (pmi)
		pmi->members = calloc(layout->nodes + 1, sizeof(*pmi->members));
	if (!pmi || !pmi->members) {
		free(pmi);
		vc_error_errno(err, "PMI");
		return NULL;
	}
	pmi->ranks = layout->ranks;
	pmi->member = layout->member;
	pmi->nodes = layout->nodes;
	memcpy(pmi->members, layout->members, layout->nodes * sizeof(*pmi->members));
	pmi->task.in = pmi->slurm.in = VC_BUF_INIT(VC_PMI_MESSAGE_MAX + HEAD);
	return pmi;
}

void vc_pmi_destroy(struct vc_pmi *pmi)
{
	if (!pmi)
		return;
	vc_buf_clear(&pmi->task.in);
	vc_buf_clear(&pmi->slurm.in);
	free(pmi->members);
	free(pmi);
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

// Passes a message on, its length anew where it has one.
static int put(const struct way *way, const char *text, struct vc_buf *out, struct vc_error *err)
{
	char head[24];
	size_t len = strlen(text);
	snprintf(head, sizeof(head), "%6zu", len);
	if ((way->v2 && vc_buf_append(out, head, HEAD) < 0) || vc_buf_append(out, text, len) < 0)
		return vc_error_set(err, VC_EPROTO, "PMI: too much is under way");
	return 0;
}

// `text` with the `cut` bytes at `at` replaced.
static int put_replaced(const struct way *way, const char *text, const char *at, size_t cut, const char *with, struct vc_buf *out,
			struct vc_error *err)
{
	vc_autofree char *whole = NULL;
	if (asprintf(&whole, "%.*s%s%s", (int)(at - text), text, with, at + cut) < 0) {
		whole = NULL;
		return vc_error_errno(err, "PMI");
	}
	return put(way, whole, out, err);
}

static int task_command(struct vc_pmi *pmi, const char *text, struct vc_buf *out, struct vc_error *err)
{
	const struct way *way = &pmi->task;
	const char *key = strstr(text, "key=");
	char prefix[24];
	snprintf(prefix, sizeof(prefix), "vc%u.", pmi->member);
	if (!way->v2 && starts(text, "cmd=init "))
		pmi->v2_asked = strstr(text, "pmi_version=2") != NULL;
	pmi->mapping_asked = key && starts(key + 4, MAPPING_KEY);
	if (way->v2 && key &&
	    (starts(text, "cmd=info-putnodeattr;") || starts(text, "cmd=info-getnodeattr;") || starts(key + 4, NETINFO_KEY)))
		return put_replaced(way, text, key + 4, 0, prefix, out, err);
	return put(way, text, out, err);
}

static int slurm_answer(struct vc_pmi *pmi, const char *text, struct vc_buf *out, struct vc_error *err)
{
	const char *value = strstr(text, "value=" VECTOR);
	if (!pmi->mapping_asked || !value)
		return put(&pmi->slurm, text, out, err);
	value += strlen("value=");
	size_t len = strcspn(value, " ;\n");
	vc_autofree char *old = strndup(value, len);
	vc_autofree char *new = old ? vc_pmi_mapping(old, pmi->ranks, pmi->members, pmi->nodes, err) : NULL;
	pmi->mapping_asked = false;
	return new ? put_replaced(&pmi->slurm, text, value, len, new, out, err) : -1;
}

// How many bytes the next message has, its head not counted; 0: it is not complete.
static int message_length(const struct way *way, size_t *ret_len, struct vc_error *err)
{
	const char *head = (const char *)vc_buf_head(&way->in);
	const char *end = way->in.len ? memchr(head, '\n', way->in.len) : NULL;
	uint64_t len;
	char digits[HEAD + 1] = "";
	*ret_len = 0;
	if (!way->v2) {
		*ret_len = end ? (size_t)(end - head) + 1 : 0;
		return 0;
	}
	if (way->in.len < HEAD)
		return 0;
	memcpy(digits, head, HEAD);
	digits[strcspn(digits + strspn(digits, " "), " ") + strspn(digits, " ")] = '\0';
	if (vc_parse_u64("length of a PMI message", digits + strspn(digits, " "), 1, VC_PMI_MESSAGE_MAX, &len, err) < 0)
		return -1;
	if (way->in.len >= HEAD + len)
		*ret_len = len;
	return 0;
}

// The next whole message as a string; NULL: not there yet, or (*ret < 0) it is none.
static char *take(struct way *way, int *ret, struct vc_error *err)
{
	size_t len, head = way->v2 ? HEAD : 0;
	*ret = message_length(way, &len, err);
	if (*ret < 0 || len == 0)
		return NULL;
	char *text = strndup((const char *)vc_buf_head(&way->in) + head, len);
	if (!text || strlen(text) != len) {
		*ret = vc_error_set(err, VC_EPROTO, "a PMI message is not text");
		free(text);
		return NULL;
	}
	vc_buf_consume(&way->in, head + len);
	return text;
}

int vc_pmi_from_task(struct vc_pmi *pmi, const void *data, size_t len, struct vc_buf *out, struct vc_error *err)
{
	int rc = 0;
	if (vc_buf_append(&pmi->task.in, data, len) < 0)
		return vc_error_set(err, VC_EPROTO, "a PMI message of the task is too long");
	for (;;) {
		vc_autofree char *text = take(&pmi->task, &rc, err);
		if (!text)
			return rc;
		if (task_command(pmi, text, out, err) < 0)
			return -1;
	}
}

// The answer to init says which version both speak from then on.
static void slurm_init(struct vc_pmi *pmi, const char *text)
{
	if (pmi->slurm.v2 || !starts(text, "cmd=response_to_init"))
		return;
	if (pmi->v2_asked && strstr(text, "pmi_version=2") && strstr(text, "rc=0"))
		pmi->task.v2 = pmi->slurm.v2 = true;
}

int vc_pmi_from_slurm(struct vc_pmi *pmi, const void *data, size_t len, struct vc_buf *out, struct vc_error *err)
{
	int rc = 0;
	if (vc_buf_append(&pmi->slurm.in, data, len) < 0)
		return vc_error_set(err, VC_EPROTO, "a PMI message of Slurm is too long");
	for (;;) {
		vc_autofree char *text = take(&pmi->slurm, &rc, err);
		if (!text)
			return rc;
		if (slurm_answer(pmi, text, out, err) < 0)
			return -1;
		slurm_init(pmi, text);
	}
}
