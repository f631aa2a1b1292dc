// SPDX-License-Identifier: GPL-2.0-or-later
// Starting vc-build, reading its progress, publishing its result: see image_build.h.
#include "vcd/image/image_build.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"

// --- argv --------------------------------------------------------------------------------------------------------------

static int push(char **argv, size_t *n, const char *option, const char *value)
{
	if (!value)
		return 0;
	if (asprintf(&argv[*n], "%s%s", option, value) < 0) {
		argv[*n] = NULL;
		return -1;
	}
	++*n;
	return 0;
}

// An option with a number; 0 leaves vc-build's default.
static int push_number(char **argv, size_t *n, const char *option, unsigned value)
{
	char text[24];
	snprintf(text, sizeof(text), "%u", value);
	return push(argv, n, option, value ? text : NULL);
}

int image_build_argv(const struct image_build_conf *conf, const char *work_dir, char ***ret, struct vc_error *err)
{
	size_t n = 0;
	vc_autostrv char **argv = calloc(14, sizeof(*argv));
	if (!argv || push(argv, &n, "", conf->program ? conf->program : VC_LIBEXECDIR "/vc-build") < 0 ||
	    push(argv, &n, "--work-dir=", work_dir) < 0 ||
	    push(argv, &n, "--mirror=", conf->mirror ? conf->mirror : IMAGE_DEFAULT_MIRROR) < 0 ||
	    push(argv, &n, "--mirror-proxy=", conf->mirror_proxy) < 0 ||
	    push(argv, &n, "--import=", conf->import_path) < 0 ||
	    push(argv, &n, "--parent=", conf->parent) < 0 ||
	    push(argv, &n, "--parent-stage=", conf->parent ? stage_name(conf->parent_stage) : NULL) < 0 ||
	    push(argv, &n, "--parent-complete", conf->parent && conf->parent_complete ? "" : NULL) < 0 ||
	    push(argv, &n, "--parent-lists=", conf->parent_lists) < 0 ||
	    push(argv, &n, "--keep=", conf->keep ? IMAGE_KEEP_SECONDS : NULL) < 0 ||
	    push_number(argv, &n, "--time-limit=", conf->seconds) < 0 ||
	    push_number(argv, &n, "--memory=", conf->mem_mib) < 0 || push_number(argv, &n, "--max-size=", conf->max_mib) < 0)
		return vc_error_set(err, ENOMEM, "vc-build: out of memory");
	*ret = vc_steal(&argv);
	return 0;
}

int image_build_remove_argv(const struct image_build_conf *conf, const char *work_dir, char ***ret, struct vc_error *err)
{
	size_t n = 0;
	vc_autostrv char **argv = calloc(4, sizeof(*argv));
	if (!argv || push(argv, &n, "", conf->program ? conf->program : VC_LIBEXECDIR "/vc-build") < 0 ||
	    push(argv, &n, "--work-dir=", work_dir) < 0 || push(argv, &n, "--remove", "") < 0)
		return vc_error_set(err, ENOMEM, "vc-build: out of memory");
	*ret = vc_steal(&argv);
	return 0;
}

// --- progress ------------------------------------------------------------------------------------------------------------

static const char *const kind_names[] = {
	[IMAGE_PROGRESS_BEGIN] = "begin",
	[IMAGE_PROGRESS_TEXT] = "text",
	[IMAGE_PROGRESS_END] = "end",
	[IMAGE_PROGRESS_FAILED] = "failed",
};

int image_progress_parse(const char *line, size_t len, struct image_progress *ret, struct vc_error *err)
{
	const char *kind = NULL, *stage = NULL, *text = "";
	struct json_object *seconds = NULL;
	vc_autojson struct json_object *obj = vc_json_parse(line, len, err);
	if (!obj)
		return vc_error_wrap(err, "vc-build");
	*ret = (struct image_progress){.kind = IMAGE_PROGRESS_BEGIN};
	if (vc_json_str(obj, "kind", 16, &kind, err) < 0 ||
	    vc_json_str(obj, "stage", sizeof(ret->stage) - 1, &stage, err) < 0 ||
	    vc_json_str_opt(obj, "text", sizeof(ret->text) - 1, &text, err) < 0)
		return vc_error_wrap(err, "vc-build");
	size_t k = 0;
	while (k < VC_ARRAY_LEN(kind_names) && strcmp(kind_names[k], kind) != 0)
		k++;
	if (k == VC_ARRAY_LEN(kind_names))
		return vc_error_set(err, VC_EPROTO, "vc-build: unknown kind of progress '%s'", kind);
	ret->kind = (enum image_progress_kind)k;
	memcpy(ret->stage, stage, strlen(stage) + 1);
	memcpy(ret->text, text, strlen(text) + 1);
	if (json_object_object_get_ex(obj, "seconds", &seconds))
		ret->seconds = json_object_get_double(seconds);
	return 0;
}

char *image_progress_format(const struct image_progress *p)
{
	char seconds[32];
	snprintf(seconds, sizeof(seconds), "%.3f", p->seconds);
	vc_autojson struct json_object *obj = json_object_new_object();
	int rc = vc_json_add_str(obj, "stage", p->stage);
	rc |= vc_json_add_str(obj, "kind", kind_names[p->kind]);
	if (p->text[0])
		rc |= vc_json_add_str(obj, "text", p->text);
	if (p->kind == IMAGE_PROGRESS_END)
		rc |= vc_json_add(obj, "seconds", json_object_new_double_s(p->seconds, seconds));
	const char *text = rc < 0 ? NULL : vc_json_text(obj, NULL);
	return text ? strdup(text) : NULL;
}

// --- result --------------------------------------------------------------------------------------------------------------

static int read_build(const char *work_dir, struct json_object **ret, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	struct stat st;
	if (asprintf(&path, "%s/build.json", work_dir) < 0)
		return vc_error_set(err, ENOMEM, "image: out of memory");
	if (stat(path, &st) < 0)
		return vc_error_errno(err, "%s", path);
	if (st.st_size > IMAGE_META_MAX)
		return vc_error_set(err, VC_EFAILED, "%s: more than %u bytes", path, IMAGE_META_MAX);
	*ret = json_object_from_file(path);
	return *ret ? 0 : vc_error_set(err, VC_EFAILED, "%s: not what vc-build writes", path);
}

// What was resolved: the Release's digest and every package's version, without times and sizes.
static int lock_digest(struct json_object *build, char ret[DIGEST_HEX_LEN], struct vc_error *err)
{
	struct json_object *lock = NULL;
	size_t len = 0;
	if (vc_json_obj(build, "lock", &lock, err) < 0)
		return vc_error_wrap(err, "build.json");
	const char *text = vc_json_text(lock, &len);
	if (!text)
		return vc_error_set(err, ENOMEM, "image: out of memory");
	uint8_t digest[DIGEST_LEN];
	digest_bytes(text, len, digest);
	digest_hex(digest, ret);
	return 0;
}

int image_finish(struct store *s, const struct recipe *r, const char *work_dir, struct store_entry *ret, struct json_object **ret_build,
		 struct vc_error *err)
{
	static const struct store_name nameless;
	char lock[DIGEST_HEX_LEN], key[DIGEST_HEX_LEN];
	vc_autojson struct json_object *build = NULL;
	if (read_build(work_dir, &build, err) < 0 || lock_digest(build, lock, err) < 0 || recipe_key(r, lock, key, err) < 0 ||
	    store_publish(s, work_dir, &nameless, ret, err) < 0)
		return vc_error_wrap(err, "image '%s'", r->name);
	memcpy(ret->key, key, sizeof(ret->key));
	*ret_build = vc_steal(&build);
	return 0;
}
