// SPDX-License-Identifier: GPL-2.0-or-later
// JSON-RPC 2.0 messages of the control protocol: parsing and building, and errors to and from their codes. Pure.
#ifndef LIBVC_MESSAGE_H
#define LIBVC_MESSAGE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"

#define VC_TRACE_LEN 16	      // hex digits
#define VC_METHOD_MAX 64      // bytes of a method's name
#define VC_MESSAGE_CANCEL "rpc.cancel" // notification to a server: {request: id}

enum vc_message_kind { VC_MESSAGE_REQUEST, VC_MESSAGE_NOTIFICATION, VC_MESSAGE_RESULT, VC_MESSAGE_ERROR };

struct vc_message {
	enum vc_message_kind kind;
	struct json_object *obj; // owns all below; vc_message_clear()
	uint64_t id;		 // not of notifications
	const char *method;	 // requests, notifications
	struct json_object *params; // an object; NULL when absent
	char trace[VC_TRACE_LEN + 1]; // "" when absent
	bool forwarded;		      // "as" is there
	uid_t as;
	struct json_object *result;
	struct vc_error error;
};

// -1 with VC_EPROTO, and *ret is untouched.
int vc_message_parse(const void *text, size_t len, struct vc_message *ret, struct vc_error *err);
void vc_message_clear(struct vc_message *m);

// New objects, NULL without memory. params and result are borrowed (a reference is taken); NULL is {}.
struct json_object *vc_message_request(uint64_t id, const char *method, struct json_object *params, const char *trace,
				       const uid_t *as);
struct json_object *vc_message_notification(const char *method, struct json_object *params);
struct json_object *vc_message_result(uint64_t id, struct json_object *result);
struct json_object *vc_message_error(uint64_t id, const struct vc_error *err);
// {"code", "message", "data"}: the error object alone, as in BYE.
struct json_object *vc_message_error_body(const struct vc_error *err);
// The reverse: fills ret from such an object; anything malformed becomes VC_EFAILED with what can be read.
void vc_message_error_read(struct json_object *body, struct vc_error *ret);

void vc_trace_make(char ret[VC_TRACE_LEN + 1]); // random
bool vc_hex_valid(const char *s, size_t digits); // exactly that many lower-case hex digits

#endif
