// SPDX-License-Identifier: GPL-2.0-or-later
// Fuzz target for recipes. The first byte chooses: 0 the JSON that a client sends to vcd, 1 the text that a user writes.
//
// What the daemon accepts must be the same recipe, with the same key, when it comes back from its own JSON.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "tests/fuzz/memfile.h"
#include "vcd/image/stage_key.h"
#include "vcd/image/recipe_conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct recipe *r)
{
	char key[DIGEST_HEX_LEN], again_key[DIGEST_HEX_LEN];
	vc_autojson struct json_object *obj = recipe_to_json(r, NULL);
	recipe_auto struct recipe *again = NULL;
	if (!obj)
		return; // over IMAGE_RECIPE_JSON_MAX
	if (recipe_from_json(obj, &again, NULL) < 0 || recipe_key(r, NULL, key, NULL) < 0 ||
	    recipe_key(again, NULL, again_key, NULL) < 0 || strcmp(key, again_key) != 0)
		abort();
}

static void fuzz_json(const uint8_t *data, size_t size)
{
	vc_autojson struct json_object *obj = vc_json_parse((const char *)data, size, NULL);
	recipe_auto struct recipe *r = NULL;
	if (obj && recipe_from_json(obj, &r, NULL) == 0)
		round_trip(r);
}

static void fuzz_text(const uint8_t *data, size_t size)
{
	char path[32];
	recipe_auto struct recipe *r = NULL;
	vc_autoclose int fd = memfile(data, size, path);
	if (fd >= 0 && recipe_parse_file(path, &r, NULL) == 0)
		round_trip(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] % 2)
		fuzz_text(data + 1, size - 1);
	else
		fuzz_json(data + 1, size - 1);
	return 0;
}
