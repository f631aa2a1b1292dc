// SPDX-License-Identifier: GPL-2.0-or-later
// Times of a start: see startstage.h.
#include "vcd/startstage.h"

#include <string.h>

#include "libvc/json.h"

static const char *const names[START_STAGES] = {
	[START_RESOLVE] = "resolve", [START_BUILD] = "build", [START_TRANSFER] = "transfer", [START_PUBLISH] = "publish",
	[START_DEFINE] = "define",   [START_BOOT] = "boot",   [START_FORM] = "form",
};

uint64_t start_times_sum(const struct start_times *t)
{
	uint64_t sum = 0;
	for (int i = 0; i < START_STAGES; i++)
		sum += t->ms[i];
	return sum;
}

void start_times_add(struct start_times *t, uint64_t ms, enum start_stage last, const struct start_times *now,
		     const struct start_times *before)
{
	uint64_t left = ms;
	for (int i = START_TRANSFER; i < (int)last; i++) {
		uint64_t part = now->ms[i] > before->ms[i] ? now->ms[i] - before->ms[i] : 0;
		part = part < left ? part : left;
		t->ms[i] += part;
		left -= part;
	}
	t->ms[last] += left;
}

static void add(struct json_object *array, const char *stage, uint64_t ms)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "stage", stage);
	vc_json_add_u64(obj, "ms", ms);
	json_object_array_add(array, obj);
}

struct json_object *start_times_to_json(const struct start_times *t, int64_t wait_ms)
{
	struct json_object *array = json_object_new_array();
	for (int i = 0; i < START_STAGES; i++)
		add(array, names[i], t->ms[i]);
	if (wait_ms >= 0)
		add(array, "wait", (uint64_t)wait_ms);
	return array;
}

static void take(struct start_times *t, struct json_object *obj)
{
	const char *stage;
	for (int i = 0; vc_json_str(obj, "stage", 16, &stage, NULL) == 0 && i < START_STAGES; i++) {
		if (strcmp(stage, names[i]) == 0)
			(void)vc_json_u64(obj, "ms", INT32_MAX, &t->ms[i], NULL);
	}
}

void start_times_from_json(struct start_times *t, struct json_object *array)
{
	*t = (struct start_times){.ms = {0}};
	if (!json_object_is_type(array, json_type_array))
		return;
	for (size_t i = 0; i <= START_STAGES && i < json_object_array_length(array); i++)
		take(t, json_object_array_get_idx(array, i));
}
