// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl image fsck: are the copies of images in the stores of hosts what they should be.
#include <string.h>

#include "cmd/vcctl/table.h"
#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"
#include "libvc/hostlist.h"
#include "libvc/json.h"
#include "libvc/limits.h"

#define DIGEST_SHOWN 12 // hex digits, as in image list

static const struct table_column columns[] = {
	{.title = "HOST"}, {.title = "IMAGE"}, {.title = "CHUNKS", .right = true}, {.title = "DAMAGED", .right = true}, {.title = "RESULT"},
};

static const char *result_of(struct json_object *image)
{
	if (*ctl_str(image, "error"))
		return ctl_str(image, "error");
	if (!ctl_u64(image, "damaged"))
		return "ok";
	struct json_object *repaired = NULL;
	json_object_object_get_ex(image, "repaired", &repaired);
	return json_object_get_boolean(repaired) ? "repaired" : "damaged";
}

static int add_image(struct table *t, const char *host, struct json_object *image, bool *bad)
{
	char digest[DIGEST_SHOWN + 1], chunks[CTL_TEXT], damaged[CTL_TEXT];
	const char *result = result_of(image);
	snprintf(digest, sizeof(digest), "%s", ctl_str(image, "digest"));
	*bad = *bad || (strcmp(result, "ok") != 0 && strcmp(result, "repaired") != 0);
	const char *cells[] = {host, digest, ctl_text_u64(ctl_u64(image, "chunks"), chunks),
			       ctl_text_u64(ctl_u64(image, "damaged"), damaged), result};
	return table_add(t, cells);
}

static int add_host(struct table *t, const char *host, struct json_object *r, bool *bad)
{
	struct json_object *images = ctl_get(r, "images");
	if (*ctl_str(r, "error")) {
		const char *cells[] = {host, "", "", "", ctl_str(r, "error")};
		*bad = true;
		return table_add(t, cells);
	}
	for (size_t i = 0; i < ctl_len(images); i++) {
		if (add_image(t, host, json_object_array_get_idx(images, i), bad) < 0)
			return -1;
	}
	return 0;
}

int ctl_image_fsck(struct ctl *ctl, char **args, int n, struct vc_error *err)
{
	bool bad = false;
	vc_autostrv char **hosts = NULL;
	vc_autojson struct json_object *params = json_object_new_object(), *result = NULL;
	table_auto struct table *t = table_create(columns, VC_ARRAY_LEN(columns));
	if (vc_hostlist_expand(args[0], VC_HOSTS_MAX, &hosts, NULL, err) < 0)
		return CTL_USAGE;
	if (!t || vc_json_add_strv(params, "hosts", hosts) < 0 || vc_json_add_bool(params, "repair", ctl->repair) < 0 ||
	    (n > 1 && vc_json_add_str(params, "name", args[1]) < 0))
		return CTL_FAILED;
	vc_autoclient struct vc_client *client = ctl_connect(ctl, err);
	if (!client || vc_client_call(client, "image.fsck", params, CTL_FOREVER_MS, NULL, NULL, &result, err) < 0)
		return ctl_fail(err);
	json_object_object_foreach(ctl_get(result, "hosts"), host, r) {
		if (add_host(t, host, r, &bad) < 0)
			return CTL_FAILED;
	}
	if (ctl->json)
		ctl_print_json(result);
	else
		table_print(t, ctl_width(), stdout);
	return bad ? CTL_FAILED : CTL_OK;
}
