// SPDX-License-Identifier: GPL-2.0-or-later
// Progress and log of a build: see report.h.
#include "cmd/build/report.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "libvc/cleanup.h"

static void emit(struct report *r, enum image_progress_kind kind, const char *text, double seconds)
{
	struct image_progress p = {.kind = kind, .seconds = seconds};
	memcpy(p.stage, r->stage, sizeof(p.stage));
	snprintf(p.text, sizeof(p.text), "%s", text);
	for (unsigned char *c = (unsigned char *)p.text; *c; c++) {
		if (*c < 0x20 || *c >= 0x7f)
			*c = '?'; // the reader wants valid UTF-8 on one line
	}
	vc_autofree char *line = image_progress_format(&p);
	if (line)
		printf("%s\n", line);
	fflush(stdout);
}

void report_stage(struct report *r, const char *stage)
{
	snprintf(r->stage, sizeof(r->stage), "%s", stage);
	emit(r, IMAGE_PROGRESS_BEGIN, "", 0);
	fprintf(stderr, "== %s\n", stage);
}

void report_stage_end(struct report *r, double seconds)
{
	emit(r, IMAGE_PROGRESS_END, "", seconds);
}

void report_text(struct report *r, const char *fmt, ...)
{
	char text[IMAGE_BUILD_LINE_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	emit(r, IMAGE_PROGRESS_TEXT, text, 0);
	fprintf(stderr, "-- %s\n", text);
}

void report_failed(struct report *r, const char *text)
{
	emit(r, IMAGE_PROGRESS_FAILED, text, 0);
	fprintf(stderr, "vcluster: image build failed in stage %s: %s\n", r->stage, text);
}

// --- output of programs ------------------------------------------------------------------------------------------

// Lines that people may want to see, and lines that say why a program failed; of the latter the highest rank
// counts, and of equals the first: apt's later messages follow from its first.
static const struct line_rule {
	const char *prefix;
	int cause; // 0: none
	bool show;
} rules[] = {
	{"E: ", 2, false},
	{"dpkg: error processing ", 3, false},
	{"mke2fs: ", 2, false},
	{"resize2fs: ", 2, false},
	{"tar: ", 1, false},
	{"I: ", 0, true},
	{"Setting up ", 0, true},
};

static void take_growth(struct report *r, const char *line)
{
	static const char before[] = "After this operation, ", behind[] = " of additional disk space";
	const char *end = strstr(line, behind);
	if (strncmp(line, before, sizeof(before) - 1) == 0 && end)
		snprintf(r->growth, sizeof(r->growth), "%.*s", (int)(end - line) - (int)sizeof(before) + 1, line + sizeof(before) - 1);
}

static void take_line(struct report *r, const char *line)
{
	take_growth(r, line);
	for (size_t i = 0; i < VC_ARRAY_LEN(rules); i++) {
		if (strncmp(line, rules[i].prefix, strlen(rules[i].prefix)) != 0)
			continue;
		if (rules[i].show)
			emit(r, IMAGE_PROGRESS_TEXT, line, 0);
		if (rules[i].cause > r->cause_rank) {
			r->cause_rank = rules[i].cause;
			snprintf(r->cause, sizeof(r->cause), "%s", line);
		}
		return;
	}
	// Without a better line the last one that is not empty names the cause.
	if (r->cause_rank == 0 && line[0])
		snprintf(r->cause, sizeof(r->cause), "%s", line);
}

static void split_lines(struct report *r, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n' || data[i] == '\r') {
			r->line[r->line_len] = '\0';
			take_line(r, r->line);
			r->line_len = 0;
		} else if (r->line_len < sizeof(r->line) - 1) {
			r->line[r->line_len++] = data[i] ? data[i] : '?';
		}
	}
}

void report_output(struct report *r, const char *data, size_t len)
{
	split_lines(r, data, len);
	if (r->logged >= IMAGE_BUILD_LOG_MAX)
		return;
	fwrite(data, 1, len, stderr);
	r->logged += len;
	if (r->logged >= IMAGE_BUILD_LOG_MAX)
		fprintf(stderr, "\n-- the log is cut after %u bytes\n", IMAGE_BUILD_LOG_MAX);
}

void report_forget_cause(struct report *r)
{
	r->cause[0] = '\0';
	r->growth[0] = '\0';
	r->cause_rank = 0;
	r->line_len = 0;
}
