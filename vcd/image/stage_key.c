// SPDX-License-Identifier: GPL-2.0-or-later
// Keys of images and stages, and the choice of a parent: see stage_key.h.
#include "vcd/image/stage_key.h"

#include <errno.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/recipe_int.h"

static const char *const names[STAGES] = {"base", "packages", "files", "commands"};

const char *stage_name(enum stage stage)
{
	return names[stage];
}

int stage_from_name(const char *name, enum stage *ret)
{
	for (int i = 0; i < STAGES; i++) {
		if (strcmp(names[i], name) == 0) {
			*ret = (enum stage)i;
			return 0;
		}
	}
	return -1;
}

// --- digests -------------------------------------------------------------------------------------------------

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

// A sorted copy of the vector (not of its strings); free() it.
static char **sorted(char *const *items)
{
	size_t n = 0;
	while (items && items[n])
		n++;
	char **copy = calloc(n + 1, sizeof(*copy));
	if (copy && n) {
		memcpy(copy, items, n * sizeof(*copy));
		qsort(copy, n, sizeof(*copy), compare_strings);
	}
	return copy;
}

static int digest_json(struct json_object *obj, int rc, char ret[DIGEST_HEX_LEN], struct vc_error *err)
{
	size_t len = 0;
	const char *text = rc < 0 ? NULL : vc_json_text(obj, &len);
	if (!text)
		return vc_error_set(err, ENOMEM, "recipe: out of memory");
	uint8_t digest[DIGEST_LEN];
	digest_bytes(text, len, digest);
	digest_hex(digest, ret);
	return 0;
}

int recipe_key(const struct recipe *r, const char *lock, char ret[DIGEST_HEX_LEN], struct vc_error *err)
{
	vc_autofree char **packages = sorted(r->packages);
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!packages || !obj)
		return vc_error_set(err, ENOMEM, "recipe: out of memory");
	int rc = vc_json_add_int(obj, "builder", IMAGE_BUILDER_VERSION);
	rc |= vc_json_add_str(obj, "lock", lock);
	rc |= recipe_content_to_json(r, true, packages, obj);
	return digest_json(obj, rc, ret, err);
}

int stage_base_id(const struct recipe *r, char ret[DIGEST_HEX_LEN], struct vc_error *err)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	int rc = vc_json_add_int(obj, "builder", IMAGE_BUILDER_VERSION);
	rc |= recipe_base_to_json(r, true, obj);
	return digest_json(obj, rc, ret, err);
}

static int add_packages(const struct recipe *r, struct json_object *obj)
{
	vc_autofree char **packages = sorted(r->packages);
	return packages ? vc_json_add_strv(obj, "packages", packages) : -1;
}

static int add_commands(const struct recipe *r, struct json_object *obj)
{
	return vc_json_add_strv(obj, "commands", r->commands);
}

int stage_keys(const struct recipe *r, const char *release, char ret[STAGES][DIGEST_HEX_LEN], struct vc_error *err)
{
	static int (*const parts[STAGES])(const struct recipe *, struct json_object *) = {
		[STAGE_PACKAGES] = add_packages, [STAGE_FILES] = recipe_files_to_json, [STAGE_COMMANDS] = add_commands};
	char former[DIGEST_HEX_LEN];
	if (stage_base_id(r, former, err) < 0)
		return -1;
	for (int i = 0; i < STAGES; i++) {
		vc_autojson struct json_object *obj = json_object_new_object();
		int rc = vc_json_add_str(obj, "after", former);
		rc |= i == STAGE_BASE ? vc_json_add_str(obj, "release", release) : parts[i](r, obj);
		if (digest_json(obj, rc, ret[i], err) < 0)
			return -1;
		memcpy(former, ret[i], sizeof(former));
	}
	return 0;
}

// --- the parent -----------------------------------------------------------------------------------------------

const char *stage_newest_release(const struct recipe *r, const struct stage_info *all, size_t n)
{
	char base[DIGEST_HEX_LEN];
	const struct stage_info *best = NULL;
	if (stage_base_id(r, base, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		if (strcmp(all[i].base, base) != 0)
			continue;
		// A base stage was resolved when it was made; a later stage took over an earlier date.
		bool later = !best || (all[i].stage == STAGE_BASE) > (best->stage == STAGE_BASE) ||
			     ((all[i].stage == STAGE_BASE) == (best->stage == STAGE_BASE) && all[i].created > best->created);
		if (later)
			best = &all[i];
	}
	return best ? best->release : NULL;
}

static bool has(char *const *items, const char *item)
{
	for (; items && *items; items++) {
		if (strcmp(*items, item) == 0)
			return true;
	}
	return false;
}

static bool is_subset(char *const *some, char *const *all)
{
	for (; some && *some; some++) {
		if (!has(all, *some))
			return false;
	}
	return true;
}

// How far a stage carries this recipe: 0 not at all, 1 as a subset of its packages, 2 + stage as a stage of its own.
static int fitness(const struct recipe *r, const char *base, const char *release, char keys[STAGES][DIGEST_HEX_LEN],
		   const struct stage_info *s)
{
	if (r->size && s->size > r->size)
		return 0;
	if (strcmp(s->key, keys[s->stage]) == 0)
		return 2 + (int)s->stage;
	if (s->stage > STAGE_PACKAGES || strcmp(s->base, base) != 0 || strcmp(s->release, release) != 0)
		return 0;
	return is_subset(s->packages, r->packages) ? 1 : 0;
}

const struct stage_info *stage_choose(const struct recipe *r, const char *release, const struct stage_info *all, size_t n)
{
	char keys[STAGES][DIGEST_HEX_LEN], base[DIGEST_HEX_LEN];
	const struct stage_info *best = NULL;
	int best_fit = 0;
	if (stage_keys(r, release, keys, NULL) < 0 || stage_base_id(r, base, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		int fit = fitness(r, base, release, keys, &all[i]);
		// The bare base is a subset like any other.
		if (fit == 2 + STAGE_BASE)
			fit = 1;
		if (fit > best_fit || (fit && fit == best_fit && all[i].seconds > best->seconds)) {
			best = &all[i];
			best_fit = fit;
		}
	}
	return best;
}

double stage_worth(const struct stage_info *stage, const struct stage_info *all, size_t n)
{
	double other = 0;
	for (size_t i = 0; i < n; i++) {
		const struct stage_info *s = &all[i];
		if (s == stage || s->stage > stage->stage || strcmp(s->base, stage->base) != 0 ||
		    strcmp(s->release, stage->release) != 0 || strcmp(s->key, stage->key) == 0)
			continue;
		// A stage behind the packages is an ancestor only with the same packages; its own files are not known here.
		bool usable = s->stage <= STAGE_PACKAGES && is_subset(s->packages, stage->packages);
		if (usable && s->seconds > other && s->seconds <= stage->seconds)
			other = s->seconds;
	}
	return stage->seconds - other;
}
