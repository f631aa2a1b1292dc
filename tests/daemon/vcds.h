// SPDX-License-Identifier: GPL-2.0-or-later
// Many real vcd processes on loopback, with one private munged and libvirt's test hypervisor (a fake, labelled so): for what
// happens between daemons. One of them need not run, or be there at all: "ctl", the controller that vcd.conf names.
#ifndef TESTS_DAEMON_VCDS_H
#define TESTS_DAEMON_VCDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/daemon/munged.h"
#include "vcd/member/view.h"
#include "vcd/plan.h"

struct vcds_host {
	char name[16], conf[128], log[128];
	int port;
	pid_t pid; // 0: does not run
};

struct vcds {
	struct munged munged;
	struct vcds_host *hosts;
	unsigned n, total; // of the cluster; with the controller, if it is there
	struct plan *plan; // of the one cluster, one member per host
	char digest[PLAN_HEX64_LEN + 1]; // of the image that every host has: nothing but zeros
};

int vcds_create(struct vcds *v, unsigned n, const char *extra_conf); // nothing runs yet but munged
// An image of so many MiB of noise in the store of one host, which does not run yet; only its owner, root, sees it.
int vcds_put_noise(struct vcds *v, unsigned i, const char *image, size_t mib);
// The same with a controller, whose index is n, and an image "none" of so many MiB of noise that it alone has. For a network namespace of its own.
int vcds_create_site(struct vcds *v, unsigned n, const char *extra_conf, size_t mib);
int vcds_start(struct vcds *v, unsigned i); // waits until it is ready
void vcds_signal(struct vcds *v, unsigned i, int sig); // SIGKILL: and waits for its end
int vcds_form(struct vcds *v, uint32_t job); // the cluster of all hosts, up to view 1; what the controller does
// One call as another vcd. NULL: it failed, with a line on standard error.
struct json_object *vcds_call(struct vcds *v, unsigned i, const char *method, struct json_object *params);
struct json_object *vcds_call_for(struct vcds *v, unsigned i, const char *method, struct json_object *params, unsigned ms);
bool vcds_log_has(const struct vcds *v, unsigned i, const char *text);
bool vcds_wait_log(const struct vcds *v, unsigned i, const char *text, unsigned limit_ms);
void vcds_destroy(struct vcds *v); // ends all, removes everything

#endif
