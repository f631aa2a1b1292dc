// SPDX-License-Identifier: GPL-2.0-or-later
// One run in the sandbox, watched: output to the log, the mirror's relay, time, size of the tree, room on disk.
#ifndef CMD_BUILD_RUN_H
#define CMD_BUILD_RUN_H

#include <stdint.h>

#include "cmd/build/relay.h"
#include "cmd/build/report.h"
#include "cmd/build/sandbox.h"

struct run_limits {
	uint64_t deadline_ms; // monotonic
	uint64_t tree_bytes;  // of the image's content; UINT64_MAX: no look at tree and disk
	bool mounted;	      // the tree is a file system of its own, which bounds it
	uint64_t disk_bytes;  // of that file system
};

struct run_env {
	struct report *report;
	struct run_limits limits;
	struct relay_target mirror;
};

uint64_t run_now_ms(void);
// 0 only when fn ended with status 0. Otherwise err says why in one line, by the limit that was hit or the
// output's own words behind `what`.
int run_in_sandbox(struct run_env *env, const char *what, const struct sandbox_spec *spec, struct vc_error *err);

// Bytes and number of files below path, as blocks of 4 KiB; does not follow links.
int run_tree_usage(const char *path, uint64_t *ret_bytes, uint64_t *ret_files, struct vc_error *err);

#endif
