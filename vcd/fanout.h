// SPDX-License-Identifier: GPL-2.0-or-later
// One method called on many hosts at once: done() when all have answered, or at the first error.
#ifndef VCD_FANOUT_H
#define VCD_FANOUT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"

struct vcd;
struct fanout;

struct fanout_args {
	const char *method;
	const char *const *hosts; // names, copied
	size_t n_hosts;
	struct json_object *params; // the same for all, borrowed
	uint64_t timeout_ms;
	const char *trace;
	bool keep_going; // wait for every host although one has failed
	// err is NULL on success; both may be NULL functions
	void (*host_done)(void *ctx, size_t host, struct json_object *result, const struct vc_error *err);
	void (*host_notify)(void *ctx, size_t host, const char *method, struct json_object *params);
	// Once, from the loop; err is the first error with the host's name in front. The handle is dead then.
	void (*done)(void *ctx, const struct vc_error *err);
	void *ctx;
};

// NULL: nothing was sent and done() is not called.
struct fanout *fanout_start(struct vcd *vcd, const struct fanout_args *args, struct vc_error *err);
// Calls under way are canceled, done() is not called. NULL is fine.
void fanout_cancel(struct fanout *f);

#endif
