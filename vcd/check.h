// SPDX-License-Identifier: GPL-2.0-or-later
// `vcctl check`: findings {level, what, where, do} that modules contribute; methods host.check and site.check.
//
// A module registers one function per thing it can find. It runs on the loop thread (quick, may look at state) or in a
// worker with a deadline (may block, touches only its ctx). Reports nothing when all is well.
#ifndef VCD_CHECK_H
#define VCD_CHECK_H

#include <stdint.h>

#include "libvc/error.h"

struct vcd;
struct check;
struct check_report;

enum check_level { CHECK_NOTE, CHECK_WARNING, CHECK_ERROR };
enum check_thread { CHECK_ON_LOOP, CHECK_IN_WORKER };

#define CHECK_TIMEOUT_MS 20000 // for one check in a worker; munge and libvirt answer in milliseconds or hang

typedef void (*check_fn)(struct check_report *report, void *ctx);

struct check *check_create(struct vcd *vcd, struct vc_error *err);
void check_destroy(struct check *check);
int check_register(struct check *check, const char *name, enum check_thread thread, check_fn fn, void *ctx,
		   struct vc_error *err);
// what: the finding, one line; do_: what to do about it. The host is added by itself.
void check_finding(struct check_report *report, enum check_level level, const char *do_, const char *what_fmt, ...)
	__attribute__((format(printf, 4, 5)));
// Who answers "which hosts has the site" for site.check: a NULL-terminated vector (vc_strv_free), or NULL. Without one:
// the hosts of vcd.conf.
void check_set_hosts(struct check *check, char **(*hosts)(void *ctx), void *ctx);

#endif
