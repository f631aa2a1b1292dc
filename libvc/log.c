// SPDX-License-Identifier: GPL-2.0-or-later
// The process's log sink: one line per call, control characters replaced so that no input forges a line.
#include "libvc/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"

#define LINE_MAX_BYTES 2048 // one log line; longer text is cut

static struct {
	const char *ident;
	char host[VC_HOSTNAME_MAX + 2]; // with a blank behind it; "": not said
	enum vc_log_sink sink;
	enum vc_log_level max_level;
} log_state = {.ident = "vcluster", .sink = VC_LOG_STDERR, .max_level = VC_LOG_INFO};

static const struct {
	const char *name;
	enum vc_log_level level;
} level_names[] = {
	{"error", VC_LOG_ERR},	   {"warning", VC_LOG_WARNING}, {"notice", VC_LOG_NOTICE},
	{"info", VC_LOG_INFO},	   {"debug", VC_LOG_DEBUG},
};

void vc_log_open(const char *ident, enum vc_log_sink sink, enum vc_log_level max_level)
{
	log_state.ident = ident;
	log_state.sink = sink;
	log_state.max_level = max_level;
	if (sink == VC_LOG_SYSLOG)
		openlog(ident, LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void vc_log_set_host(const char *host)
{
	snprintf(log_state.host, sizeof(log_state.host), "%s ", host);
}

void vc_log_set_level(enum vc_log_level max_level)
{
	log_state.max_level = max_level;
}

int vc_log_level_from_name(const char *name, enum vc_log_level *ret_level)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(level_names); i++) {
		if (strcmp(level_names[i].name, name) == 0) {
			*ret_level = level_names[i].level;
			return 0;
		}
	}
	return -1;
}

static const char *level_name(enum vc_log_level level)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(level_names); i++) {
		if (level_names[i].level == level)
			return level_names[i].name;
	}
	return "?";
}

static void replace_control(char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = ' ';
	}
}

static void write_line(enum vc_log_level level, const char *line)
{
	if (log_state.sink == VC_LOG_SYSLOG) {
		syslog((int)level, "%s", line);
		return;
	}
	if (log_state.sink == VC_LOG_JOURNAL) {
		fprintf(stderr, "<%d>%s\n", (int)level, line);
		return;
	}
	struct timespec now;
	struct tm tm;
	char stamp[32];
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	fprintf(stderr, "%s.%03ld %s%s: %s: %s\n", stamp, now.tv_nsec / 1000000, log_state.host, log_state.ident, level_name(level), line);
}

void vc_log_ctx(enum vc_log_level level, const struct vc_log_ctx *ctx, const char *fmt, ...)
{
	if (level > log_state.max_level)
		return;
	int saved = errno;
	char line[LINE_MAX_BYTES];
	int n = 0;
	if (ctx && ctx->job)
		n += snprintf(line + n, sizeof(line) - (size_t)n, "job %.64s: ", ctx->job);
	va_list ap;
	va_start(ap, fmt);
	int m = vsnprintf(line + n, sizeof(line) - (size_t)n, fmt, ap);
	va_end(ap);
	n = m < 0 ? n : n + m;
	if (ctx && ctx->trace && n < (int)sizeof(line) - 1)
		snprintf(line + n, sizeof(line) - (size_t)n, " [%.32s]", ctx->trace);
	replace_control(line);
	write_line(level, line);
	errno = saved;
}
