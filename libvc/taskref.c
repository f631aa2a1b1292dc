// SPDX-License-Identifier: GPL-2.0-or-later
// Task references: see taskref.h. One table says what the text holds, in its order.
#include "libvc/taskref.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"

static const char *const kinds[] = {[VC_TASK_STEP] = "task", [VC_TASK_SCRIPT] = "script"};

const char *vc_taskref_format(const struct vc_taskref *ref, char buf[VC_TASKREF_LEN])
{
	snprintf(buf, VC_TASKREF_LEN, "job=%" PRIu32 " restart=%" PRIu32 " kind=%s local=%" PRIu32 " tasks=%" PRIu32, ref->job,
		 ref->restart, kinds[ref->kind], ref->local, ref->tasks);
	return buf;
}

static int parse_u32(const char *key, const char *value, uint32_t *ret, struct vc_error *err)
{
	uint64_t n;
	if (vc_parse_u64(key, value, 0, UINT32_MAX, &n, err) < 0)
		return -1;
	*ret = (uint32_t)n;
	return 0;
}

static int parse_kind(const char *value, enum vc_task_kind *ret, struct vc_error *err)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(kinds); i++) {
		if (strcmp(kinds[i], value) == 0) {
			*ret = (enum vc_task_kind)i;
			return 0;
		}
	}
	return vc_error_set(err, VC_EUSER, "kind '%.32s' is neither 'task' nor 'script'", value);
}

int vc_taskref_parse(const char *text, struct vc_taskref *ret, struct vc_error *err)
{
	static const char *const keys[] = {"job", "restart", "kind", "local", "tasks"};
	struct vc_taskref ref;
	uint32_t *const numbers[] = {&ref.job, &ref.restart, NULL, &ref.local, &ref.tasks};
	vc_autostrv char **items = NULL;
	if (strnlen(text, VC_TASKREF_LEN) == VC_TASKREF_LEN)
		return vc_error_set(err, VC_EUSER, VC_TASKREF_ENV " is too long");
	if (vc_parse_list(VC_TASKREF_ENV, text, ' ', VC_ARRAY_LEN(keys), &items, err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(keys); i++) {
		size_t len = strlen(keys[i]);
		if (!items[i] || strncmp(items[i], keys[i], len) != 0 || items[i][len] != '=')
			return vc_error_set(err, VC_EUSER, VC_TASKREF_ENV ": '%s=' is missing in '%.64s'", keys[i], text);
		const char *value = items[i] + len + 1;
		if ((numbers[i] ? parse_u32(keys[i], value, numbers[i], err) : parse_kind(value, &ref.kind, err)) < 0)
			return -1;
	}
	if (ref.tasks == 0 || ref.local >= ref.tasks)
		return vc_error_set(err, VC_EUSER, VC_TASKREF_ENV ": task %" PRIu32 " of %" PRIu32, ref.local, ref.tasks);
	*ret = ref;
	return 0;
}
