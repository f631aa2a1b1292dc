// SPDX-License-Identifier: GPL-2.0-or-later
// `vcctl check`: findings {level, what, where, do} that modules contribute; methods host.check and site.check.
//
// A module registers one function per thing it can find. It runs on the loop thread (quick, may look at state) or in a
// worker with a deadline (may block, touches only its ctx). Reports nothing when all is well.
#ifndef VCD_CHECK_H
#define VCD_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"

struct vcd;
struct check;
struct check_report;

enum check_level { CHECK_INFO, CHECK_WARNING, CHECK_ERROR };
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
// Whether this host is one of Slurm's nodes, as far as the controller knows; for checks of what only those need.
bool check_is_compute(const struct check_report *report);
// Who answers "which are Slurm's nodes" for site.check, in a worker: a NULL-terminated vector (vc_strv_free). The hosts
// of vcd.conf and the controller are asked as well.
void check_set_hosts(struct check *check, int (*hosts)(void *ctx, char ***ret, struct vc_error *err), void *ctx);

// How far the clock of a host is from ours, in ms, from when it was asked and when its answer (`host_ms`) came. Pure.
int64_t check_skew_ms(int64_t asked_ms, int64_t host_ms, int64_t answered_ms);

#endif
