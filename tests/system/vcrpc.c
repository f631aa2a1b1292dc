// SPDX-License-Identifier: GPL-2.0-or-later
// For tests: one call of vcd on this host. vcrpc METHOD JSON [LIMIT_MS]: the result as JSON, or the error's text and status 1.
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/parse.h"

static int call(const char *method, const char *text, uint64_t limit_ms, struct vc_error *err)
{
	vc_autojson struct json_object *params = vc_json_parse(text, strlen(text), err), *result = NULL;
	vc_autoclient struct vc_client *vcd = params ? vc_client_connect(NULL, err) : NULL;
	if (!vcd || vc_client_call(vcd, method, params, limit_ms, NULL, NULL, &result, err) < 0)
		return -1;
	puts(vc_json_text(result, NULL));
	return 0;
}

int main(int argc, char *argv[])
{
	struct vc_error err = VC_ERROR_INIT;
	uint64_t limit_ms = 60000;
	if (argc < 3 || argc > 4 || (argc == 4 && vc_parse_u64("LIMIT_MS", argv[3], 1, UINT32_MAX, &limit_ms, &err) < 0)) {
		fputs("usage: vcrpc METHOD JSON [LIMIT_MS]\n", stderr);
		return 2;
	}
	if (call(argv[1], argv[2], limit_ms, &err) == 0)
		return 0;
	fprintf(stderr, "vcrpc: %s\n", err.text);
	return 1;
}
