// SPDX-License-Identifier: GPL-2.0-or-later
// Fuzz target for JSON-RPC: what a user or a peer may write into the body of an RPC frame.
//
// The first byte chooses: 0 a message, 1 the plan of host.prepare, 2 the view of host.view, 3 an error object.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/message.h"
#include "vcd/member/view.h"
#include "vcd/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_message(const char *text, size_t len)
{
	struct vc_message m = {0};
	if (vc_message_parse(text, len, &m, NULL) < 0)
		return;
	if ((m.kind == VC_MESSAGE_REQUEST || m.kind == VC_MESSAGE_NOTIFICATION) && (!m.method || strlen(m.method) > VC_METHOD_MAX))
		abort();
	if (m.trace[0] && !vc_hex_valid(m.trace, VC_TRACE_LEN))
		abort();
	vc_message_clear(&m);
}

// What was taken must be taken again from its own text: hosts persist it and read it after a restart.
static void fuzz_plan(const char *text, size_t len)
{
	vc_autojson struct json_object *obj = vc_json_parse(text, len, NULL);
	plan_auto struct plan *plan = obj ? plan_from_json(obj, NULL) : NULL;
	vc_autojson struct json_object *again = plan ? plan_to_json(plan) : NULL;
	struct plan *copy = again ? plan_from_json(again, NULL) : NULL;
	if (plan && !copy)
		abort();
	plan_destroy(copy);
}

static void fuzz_view(const char *text, size_t len)
{
	vc_autojson struct json_object *obj = vc_json_parse(text, len, NULL);
	struct view *view = obj ? view_from_json(obj, NULL) : NULL;
	view_destroy(view);
}

static void fuzz_error(const char *text, size_t len)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *obj = vc_json_parse(text, len, NULL);
	vc_message_error_read(obj, &err);
	if (!err.code)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(const char *, size_t) = {fuzz_message, fuzz_plan, fuzz_view, fuzz_error};
	if (size)
		targets[data[0] % VC_ARRAY_LEN(targets)]((const char *)data + 1, size - 1);
	return 0;
}
