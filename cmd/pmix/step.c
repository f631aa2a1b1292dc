// SPDX-License-Identifier: GPL-2.0-or-later
// Ranks on members: see step.h.
#include "cmd/pmix/step.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/limits.h"
#include "libvc/taskref.h"

#define NSPACE_MAX 255u // PMIX_MAX_NSLEN

void step_clear(struct step *s)
{
	free(s->nspace);
	free(s->member);
	free(s->local);
	vc_strv_free(s->names);
	*s = (struct step){0};
}

static int alloc(struct step *s, const char *nspace, uint32_t ranks, uint32_t names, struct vc_error *err)
{
	*s = (struct step){.ranks = ranks, .nspace = strdup(nspace), .member = calloc(ranks + 1, sizeof(uint32_t)),
			   .local = calloc(ranks + 1, sizeof(uint32_t)), .names = calloc(names + 1, sizeof(char *))};
	if (s->nspace && s->member && s->local && s->names)
		return 0;
	step_clear(s);
	return vc_error_set(err, ENOMEM, "step of %u ranks", ranks);
}

uint32_t step_find(const struct step *s, const char *member)
{
	for (uint32_t i = 0; i < s->members; i++) {
		if (strcmp(s->names[i], member) == 0)
			return i;
	}
	return STEP_NONE;
}

// The number of a member, which gets one when its first rank comes; index: {name: number}.
static int number(struct step *s, struct json_object *index, const char *name, uint32_t *ret, struct vc_error *err)
{
	struct json_object *known;
	if (json_object_object_get_ex(index, name, &known)) {
		*ret = (uint32_t)json_object_get_int64(known);
		return 0;
	}
	if (s->members == STEP_MEMBERS_MAX)
		return vc_error_set(err, VC_EUSER, "the step has ranks on more than %u members", STEP_MEMBERS_MAX);
	s->names[s->members] = strdup(name);
	if (!s->names[s->members] || vc_json_add_u64(index, name, s->members) < 0)
		return vc_error_set(err, ENOMEM, "member %s", name);
	*ret = s->members++;
	return 0;
}

static void count_locals(struct step *s)
{
	vc_autofree uint32_t *seen = calloc(s->members + 1, sizeof(*seen));
	for (uint32_t r = 0; seen && r < s->ranks; r++)
		s->local[r] = seen[s->member[r]]++;
}

// {host: number of its ranks}
static struct json_object *count_tasks(const char *const *hosts, uint32_t ranks)
{
	struct json_object *counts = json_object_new_object(), *n;
	for (uint32_t r = 0; counts && r < ranks; r++) {
		if (json_object_object_get_ex(counts, hosts[r], &n))
			json_object_int_inc(n, 1);
		else
			vc_json_add_u64(counts, hosts[r], 1);
	}
	return counts;
}

// The member of the next rank of this host; seen: {host: ranks that were there before}.
static const char *choose(const char *host, struct json_object *counts, struct json_object *seen, struct json_object *layout,
			  struct vc_error *err)
{
	struct json_object *list = NULL, *before = NULL;
	uint32_t tasks = 0, local = 0;
	if (vc_json_u32(counts, host, UINT32_MAX, &tasks, err) < 0 || vc_json_array(layout, host, STEP_MEMBERS_MAX, &list, err) < 0)
		return NULL;
	if (json_object_object_get_ex(seen, host, &before)) {
		local = (uint32_t)json_object_get_int64(before);
		json_object_int_inc(before, 1);
	} else {
		vc_json_add_u64(seen, host, 1);
	}
	uint32_t members = (uint32_t)json_object_array_length(list);
	if (members == 0) {
		vc_error_set(err, VC_EPROTO, "host %s has no members", host);
		return NULL;
	}
	return json_object_get_string(json_object_array_get_idx(list, vc_task_member_index(local, tasks, members)));
}

int step_make(struct step *s, const char *nspace, const char *const *hosts, uint32_t ranks, struct json_object *layout,
	      struct vc_error *err)
{
	vc_autojson struct json_object *counts = count_tasks(hosts, ranks), *seen = json_object_new_object();
	vc_autojson struct json_object *index = json_object_new_object();
	if (alloc(s, nspace, ranks, ranks < STEP_MEMBERS_MAX ? ranks : STEP_MEMBERS_MAX, err) < 0)
		return -1;
	for (uint32_t r = 0; r < ranks; r++) {
		const char *name = choose(hosts[r], counts, seen, layout, err);
		if (!name || number(s, index, name, &s->member[r], err) < 0) {
			step_clear(s);
			return -1;
		}
	}
	count_locals(s);
	return 0;
}

uint32_t step_size(const struct step *s, uint32_t member)
{
	uint32_t n = 0;
	for (uint32_t r = 0; r < s->ranks; r++)
		n += s->member[r] == member;
	return n;
}

uint32_t step_leader(const struct step *s, uint32_t member)
{
	for (uint32_t r = 0; r < s->ranks; r++) {
		if (s->member[r] == member)
			return r;
	}
	return STEP_NONE;
}

// ---- texts for libpmix ----

static char *text_of(FILE *f, char **text)
{
	if (fclose(f) == 0)
		return *text;
	free(*text);
	return NULL;
}

char *step_nodes(const struct step *s)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	for (uint32_t i = 0; f && i < s->members; i++)
		fprintf(f, "%s%s", i ? "," : "", s->names[i]);
	return f ? text_of(f, &text) : NULL;
}

static void print_peers(FILE *f, const struct step *s, uint32_t member)
{
	const char *comma = "";
	for (uint32_t r = 0; r < s->ranks; r++) {
		if (s->member[r] != member)
			continue;
		fprintf(f, "%s%u", comma, r);
		comma = ",";
	}
}

char *step_ranges(const struct step *s)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	for (uint32_t i = 0; f && i < s->members; i++) {
		fputs(i ? ";" : "", f);
		print_peers(f, s, i);
	}
	return f ? text_of(f, &text) : NULL;
}

char *step_peers(const struct step *s, uint32_t member)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	print_peers(f, s, member);
	return text_of(f, &text);
}

// ---- fences ----

uint32_t *step_leads(const struct step *s, const uint32_t *ranks, uint32_t n, uint32_t *ret_n)
{
	uint32_t *leads = malloc((s->members + 1) * sizeof(*leads));
	uint32_t count = 0, all = ranks ? n : s->ranks;
	for (uint32_t i = 0; leads && i < s->members; i++)
		leads[i] = STEP_NONE;
	for (uint32_t i = 0; leads && i < all; i++) {
		uint32_t r = ranks ? ranks[i] : i;
		if (r < s->ranks && r < leads[s->member[r]])
			leads[s->member[r]] = r;
	}
	for (uint32_t i = 0; leads && i < s->members; i++) {
		if (leads[i] != STEP_NONE)
			leads[count++] = leads[i];
	}
	*ret_n = count;
	return leads;
}

// ---- JSON ----

struct json_object *step_json(const struct step *s)
{
	vc_autojson struct json_object *obj = json_object_new_object(), *list = json_object_new_array();
	for (uint32_t r = 0; list && r < s->ranks; r++)
		json_object_array_add(list, json_object_new_int64(s->member[r]));
	if (!obj || !list || vc_json_add_str(obj, "nspace", s->nspace) < 0 || vc_json_add_strv(obj, "names", s->names) < 0 ||
	    vc_json_add(obj, "member", vc_steal(&list)) < 0)
		return NULL;
	return vc_steal(&obj);
}

int step_parse(struct step *s, struct json_object *obj, struct vc_error *err)
{
	const char *nspace;
	struct json_object *list;
	vc_autostrv char **names = NULL;
	uint32_t n = 0;
	if (vc_json_str(obj, "nspace", NSPACE_MAX, &nspace, err) < 0 ||
	    vc_json_array(obj, "member", STEP_RANKS_MAX, &list, err) < 0 ||
	    vc_json_strv(obj, "names", STEP_MEMBERS_MAX, VC_NAME_MAX, &names, err) < 0 ||
	    alloc(s, nspace, (uint32_t)json_object_array_length(list), 0, err) < 0)
		return -1;
	while (names && names[n])
		n++;
	for (uint32_t r = 0; r < s->ranks; r++) {
		int64_t m = json_object_get_int64(json_object_array_get_idx(list, r));
		if (m < 0 || m >= n) {
			step_clear(s);
			return vc_error_set(err, VC_EPROTO, "rank %u is on no member", r);
		}
		s->member[r] = (uint32_t)m;
	}
	free(s->names);
	s->names = vc_steal(&names);
	s->members = n;
	count_locals(s);
	return 0;
}
