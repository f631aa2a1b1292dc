// SPDX-License-Identifier: GPL-2.0-or-later
// What the verbs of vcctl share: the options, one connection to the local vcd, exit codes, printing.
#ifndef VCCTL_H
#define VCCTL_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "libvc/client.h"
#include "libvc/error.h"

// Exit codes, as vcctl(1) lists them. exec ends with the status of what it ran.
enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1, // also: check found something
	CTL_USAGE = 2,
	CTL_NOTFOUND = 3,
	CTL_DENIED = 4,
	CTL_UNREACHABLE = 5, // no vcd, no controller, or no answer in time
};

#define CTL_CALL_MS 60000    // an answer of vcd; the controller asks hosts for some
#define CTL_BUILD_MS 1800000 // without a sign of life of a build; a slow mirror's longest silence
#define CTL_FOREVER_MS 0x7fffffff // 24 days: watching ends with the job

struct ctl {
	bool json, all, watch, is_public, pty, root, refresh, repair, dry_run, csv;
	const char *to, *policy, *bandwidth, *downtime, *rounds; // of migrations; NULL: not given
	const char *socket; // NULL: vcd's usual one
};

// A verb gets the words after its name. Returns an exit code, with err filled when it is not 0 (its text may be empty
// when everything was said already).
typedef int (*ctl_verb_fn)(struct ctl *ctl, char **args, int n, struct vc_error *err);

int ctl_list(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_show(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_watch(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_view(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_resize(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_leases(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_elastic(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_events(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_plot(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_console(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_exec(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_cp(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_migrate(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_evacuate(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_rebalance(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_image_build(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_image_import(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_image_list(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_image_show(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_image_rm(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_image_log(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_image_fsck(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_image_stage(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_check(struct ctl *ctl, char **args, int n, struct vc_error *err);
int ctl_ping(struct ctl *ctl, char **args, int n, struct vc_error *err);

// Where the vcd of a host is reached: over TCP, or (port 0) through the socket of this host.
struct ctl_host {
	char name[VC_HOSTNAME_MAX + 1];
	char addr[VC_HOSTNAME_MAX + 1];
	int port;
};
int ctl_find_host(const struct ctl *ctl, const char *name, struct ctl_host *ret, struct vc_error *err);
struct vc_client *ctl_connect_host(const struct ctl *ctl, const struct ctl_host *host, struct vc_error *err);
// To the controller itself: DATA frames are not forwarded by other vcds.
struct vc_client *ctl_connect_controller(const struct ctl *ctl, struct vc_error *err);

struct vc_client *ctl_connect(const struct ctl *ctl, struct vc_error *err);
// Connects, calls, disconnects. params are taken. NULL: err.
struct json_object *ctl_call(const struct ctl *ctl, const char *method, struct json_object *params, struct vc_error *err);
// The exit code for err; for use as `return ctl_fail(err)`.
int ctl_fail(const struct vc_error *err);

int ctl_parse_job(const char *text, uint32_t *ret, struct vc_error *err);
// {"job": N}
struct json_object *ctl_job_params(uint32_t job);

// Fields of an answer of vcd; what is missing reads as "" and 0, so that an older vcd still shows the rest.
const char *ctl_str(struct json_object *obj, const char *key);
uint64_t ctl_u64(struct json_object *obj, const char *key);
struct json_object *ctl_get(struct json_object *obj, const char *key); // an object or array, or NULL
size_t ctl_len(struct json_object *array);

#define CTL_TEXT 40 // bytes that the texts below need
const char *ctl_text_ms(uint64_t ms, char buf[CTL_TEXT]);    // "3.2s", "4m05s", "2h03m", "3d04h"
const char *ctl_text_bytes(uint64_t n, char buf[CTL_TEXT]);  // "12.3M"
const char *ctl_text_u64(uint64_t n, char buf[CTL_TEXT]);
const char *ctl_text_time(uint64_t seconds, char buf[CTL_TEXT]); // local time, to the minute
const char *ctl_text_user(uint64_t uid, char buf[CTL_TEXT]);

int ctl_print_json(struct json_object *obj); // indented, to standard output; CTL_OK
size_t ctl_width(void);			     // of standard output, 0: no limit

#endif
