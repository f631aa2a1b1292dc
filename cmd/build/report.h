// SPDX-License-Identifier: GPL-2.0-or-later
// What a build tells: progress lines on standard output, its log on standard error, seconds per stage.
//
// Owns no descriptor. Writing never fails the build: a reader that went away ends it through SIGPIPE.
#ifndef CMD_BUILD_REPORT_H
#define CMD_BUILD_REPORT_H

#include <stddef.h>

#include "vcd/image/image_build.h"

struct report {
	char stage[16];	       // the current one
	size_t logged;	       // bytes of the log so far
	char line[IMAGE_BUILD_LINE_MAX]; // of the sandbox's output, not complete yet
	size_t line_len;
	char cause[IMAGE_BUILD_LINE_MAX]; // the line that says why the current run failed
	int cause_rank;
	char growth[64]; // what apt said that its operation needs on disk, "117 MB"; empty: it said nothing
};

void report_stage(struct report *r, const char *stage); // begins a stage
void report_stage_end(struct report *r, double seconds);
void report_text(struct report *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void report_failed(struct report *r, const char *text);

// Output of a program in the sandbox: to the log, and line by line through a table that knows which lines are
// worth showing and which name a failure's cause.
void report_output(struct report *r, const char *data, size_t len);
void report_forget_cause(struct report *r);

#endif
