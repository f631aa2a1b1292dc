// SPDX-License-Identifier: GPL-2.0-or-later
// Leveled log to stderr, syslog or the journal's stderr prefix, with the job, host and trace id of the current work.
//
// The sink is process-wide by nature (as stderr is); context travels in struct vc_log_ctx given by the caller.
#ifndef LIBVC_LOG_H
#define LIBVC_LOG_H

#include <stdint.h>

enum vc_log_level { VC_LOG_ERR = 3, VC_LOG_WARNING = 4, VC_LOG_NOTICE = 5, VC_LOG_INFO = 6, VC_LOG_DEBUG = 7 };
enum vc_log_sink { VC_LOG_STDERR, VC_LOG_SYSLOG, VC_LOG_JOURNAL };

// What a line is about; NULL members are left out. trace follows one request through all hosts.
struct vc_log_ctx {
	const char *job;   // "123" or "123_4"
	const char *trace; // 16 hex digits
};

void vc_log_open(const char *ident, enum vc_log_sink sink, enum vc_log_level max_level);
void vc_log_set_host(const char *host); // in each line on standard error; journal and syslog know it themselves
void vc_log_set_level(enum vc_log_level max_level);
int vc_log_level_from_name(const char *name, enum vc_log_level *ret_level);
void vc_log_ctx(enum vc_log_level level, const struct vc_log_ctx *ctx, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#define vc_log(level, ...) vc_log_ctx(level, NULL, __VA_ARGS__)
#define vc_log_err(...) vc_log_ctx(VC_LOG_ERR, NULL, __VA_ARGS__)
#define vc_log_warning(...) vc_log_ctx(VC_LOG_WARNING, NULL, __VA_ARGS__)
#define vc_log_notice(...) vc_log_ctx(VC_LOG_NOTICE, NULL, __VA_ARGS__)
#define vc_log_info(...) vc_log_ctx(VC_LOG_INFO, NULL, __VA_ARGS__)
#define vc_log_debug(...) vc_log_ctx(VC_LOG_DEBUG, NULL, __VA_ARGS__)

#endif
