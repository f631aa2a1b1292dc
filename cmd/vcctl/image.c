// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl image ...: recipes and tars are read here, with the user's own rights; vcd only sees their content.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/vcctl/importsource.h"
#include "cmd/vcctl/table.h"
#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/recipe.h"
#include "vcd/image/recipe_conf.h"

#define DIGEST_SHOWN 12	   // hex digits in a table: enough to tell a site's images apart
#define LOG_MAX (1u << 20) // bytes of a log that vcd returns
#define META_LINE_MAX 200  // characters of one value in image show; --json has all

// --- build and import --------------------------------------------------------------------------------------------

static int print_progress(void *ctx, const char *method, struct json_object *params)
{
	const struct ctl *ctl = ctx;
	if (ctl->json || strcmp(method, "image.progress") != 0)
		return 0;
	const char *stage = ctl_str(params, "stage"), *text = ctl_str(params, "text");
	table_print_clean(stage, strlen(stage), stderr);
	fputs(*text ? ": " : "", stderr);
	table_print_clean(text, strlen(text), stderr);
	fputc('\n', stderr);
	return 0;
}

static int print_built(const struct ctl *ctl, struct json_object *result)
{
	if (ctl->json)
		return ctl_print_json(result);
	char size[CTL_TEXT];
	bool cached = false;
	(void)vc_json_bool_opt(result, "cached", &cached, NULL);
	printf("%s %.*s", ctl_str(result, "name"), DIGEST_SHOWN, ctl_str(result, "digest"));
	if (ctl_u64(result, "size"))
		printf(" %s", ctl_text_bytes(ctl_u64(result, "size"), size));
	if (cached)
		fputs(" (cached)", stdout);
	putchar('\n');
	return CTL_OK;
}

static struct json_object *recipe_params(const struct ctl *ctl, const struct recipe *recipe, struct vc_error *err)
{
	struct json_object *json = recipe_to_json(recipe, err);
	if (!json)
		return NULL;
	struct json_object *params = json_object_new_object();
	vc_json_add(params, "recipe", json);
	vc_json_add_str(params, "name", recipe->name);
	if (ctl->refresh)
		vc_json_add_bool(params, "refresh", true);
	if (recipe->base == RECIPE_BASE_IMPORT) {
		vc_json_add_str(params, "visibility", recipe->is_public ? "public" : "private");
		vc_json_add_u64(params, "size", recipe->import_size);
	}
	return params;
}

// Sends the tar. When vcd answered early its answer is the better message: leave it to vc_client_finish().
static int send_tar(struct vc_client *client, const char *path, struct vc_error *err)
{
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vc_error_errno(err, "%s", path);
	vc_autofree char *block = malloc(VC_CLIENT_DATA_MAX);
	if (!block)
		return vc_error_set(err, ENOMEM, "%s: out of memory", path);
	for (;;) {
		ssize_t n = read(fd, block, VC_CLIENT_DATA_MAX);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "%s", path);
		struct vc_error why = VC_ERROR_INIT;
		if (vc_client_send_data(client, block, (size_t)n, CTL_BUILD_MS, &why) < 0) {
			if (why.code == VC_ECANCELED)
				return 0;
			return vc_error_set(err, why.code, "%s", why.text);
		}
		if (n == 0)
			return 0;
	}
}

static int build_recipe(const struct ctl *ctl, const struct recipe *recipe, struct json_object **ret, struct vc_error *err)
{
	bool import = recipe->base == RECIPE_BASE_IMPORT;
	vc_autojson struct json_object *params = recipe_params(ctl, recipe, err);
	vc_autoclient struct vc_client *client = !params ? NULL : import ? ctl_connect_controller(ctl, err) : ctl_connect(ctl, err);
	if (!client)
		return -1;
	if (vc_client_start(client, import ? "image.import" : "image.build", params, CTL_CALL_MS, err) < 0)
		return -1;
	if (import && send_tar(client, recipe->import_path, err) < 0)
		return -1;
	return vc_client_finish(client, CTL_BUILD_MS, print_progress, (void *)ctl, ret, err);
}

static int build(const struct ctl *ctl, const struct recipe *recipe, struct vc_error *err)
{
	vc_autojson struct json_object *result = NULL;
	if (build_recipe(ctl, recipe, &result, err) == 0)
		return print_built(ctl, result);
	int status = ctl_fail(err);
	vc_error_wrap(err, "image '%s'", recipe->name);
	return status;
}

int ctl_image_build(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	recipe_auto struct recipe *recipe = NULL;
	if (recipe_parse_file(args[0], &recipe, err) < 0)
		return CTL_FAILED;
	return build(ctl, recipe, err);
}

int ctl_image_import(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	struct importsource *source = NULL;
	recipe_auto struct recipe *recipe = NULL;
	if (importsource_open(args[1], &source, err) < 0)
		return CTL_FAILED;
	int status = CTL_FAILED;
	if (recipe_for_import(args[0], ctl->is_public, importsource_file(source), &recipe, err) == 0)
		status = build(ctl, recipe, err);
	importsource_close(source);
	return status;
}

// --- names -------------------------------------------------------------------------------------------------------

static const struct table_column image_columns[] = {
	{"NAME", false, true},	{"OWNER", false, true},	  {"VISIBILITY", false, false}, {"SIZE", true, false},
	{"DATA", true, false}, {"CREATED", false, false}, {"DIGEST", false, false},
};

static int add_image(struct table *t, struct json_object *image)
{
	char owner[CTL_TEXT], size[CTL_TEXT], data[CTL_TEXT], created[CTL_TEXT], digest[DIGEST_SHOWN + 1];
	snprintf(digest, sizeof(digest), "%s", ctl_str(image, "digest"));
	const char *cells[] = {ctl_str(image, "name"),
			       ctl_text_user(ctl_u64(image, "owner"), owner),
			       ctl_str(image, "visibility"),
			       ctl_text_bytes(ctl_u64(image, "size"), size),
			       ctl_text_bytes(ctl_u64(image, "data_bytes"), data),
			       ctl_text_time(ctl_u64(image, "created"), created),
			       digest};
	return table_add(t, cells);
}

int ctl_image_list(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)args;
	(void)n;
	vc_autojson struct json_object *result = ctl_call(ctl, "image.list", NULL, err);
	if (!result)
		return ctl_fail(err);
	if (ctl->json)
		return ctl_print_json(result);
	struct json_object *images = ctl_get(result, "images");
	table_auto struct table *t = table_create(image_columns, VC_ARRAY_LEN(image_columns));
	for (size_t i = 0; t && i < ctl_len(images); i++)
		if (add_image(t, json_object_array_get_idx(images, i)) < 0)
			return vc_error_set(err, ENOMEM, "out of memory"), CTL_FAILED;
	if (t)
		table_print(t, ctl_width(), stdout);
	return CTL_OK;
}

static struct json_object *call_name(const struct ctl *ctl, const char *method, const char *name, struct vc_error *err)
{
	struct json_object *params = json_object_new_object();
	vc_json_add_str(params, "name", name);
	return ctl_call(ctl, method, params, err);
}

static void print_fields(struct json_object *obj, const char *indent)
{
	json_object_object_foreach(obj, key, value)
	{
		if (json_object_is_type(value, json_type_object)) {
			printf("%s%s:\n", indent, key);
			json_object_object_foreach(value, inner_key, inner)
			{
				printf("%s  %s: ", indent, inner_key);
				const char *text = json_object_get_string(inner);
				table_print_clean(text ? text : "-", strnlen(text ? text : "-", META_LINE_MAX), stdout);
				putchar('\n');
			}
			continue;
		}
		const char *text = json_object_get_string(value);
		printf("%s%s: ", indent, key);
		table_print_clean(text ? text : "-", text ? strlen(text) : 1, stdout);
		putchar('\n');
	}
}

int ctl_image_show(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	vc_autojson struct json_object *result = call_name(ctl, "image.show", args[0], err);
	if (!result)
		return ctl_fail(err);
	if (ctl->json)
		return ctl_print_json(result);
	print_fields(result, "");
	return CTL_OK;
}

int ctl_image_rm(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	vc_autojson struct json_object *result = call_name(ctl, "image.rm", args[0], err);
	if (!result)
		return ctl_fail(err);
	return ctl->json ? ctl_print_json(result) : CTL_OK;
}

int ctl_image_log(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	(void)n;
	vc_autojson struct json_object *result = call_name(ctl, "image.log", args[0], err);
	if (!result)
		return ctl_fail(err);
	if (ctl->json)
		return ctl_print_json(result);
	vc_autofree uint8_t *log = NULL;
	size_t len;
	if (vc_json_bytes(result, "log", LOG_MAX, &log, &len, err) < 0)
		return CTL_FAILED;
	if (isatty(STDOUT_FILENO))
		table_print_clean((const char *)log, len, stdout);
	else
		fwrite(log, 1, len, stdout);
	return CTL_OK;
}
