// SPDX-License-Identifier: GPL-2.0-or-later
// The one error convention: functions return 0 or -1 (or NULL) and fill a caller-owned struct vc_error.
//
// The struct is untouched on success and may be NULL when the caller does not care. Code is an errno value
// or one of enum vc_errcode; text is one line that names what, where and what to do.
#ifndef LIBVC_ERROR_H
#define LIBVC_ERROR_H

#include <stdarg.h>

#define VC_ERROR_TEXT_MAX 1024 // bytes; fits a full path and a reason, longer text is cut

// Product errors start above errno's range; they travel in JSON-RPC errors as -32000 - (code - VC_EBASE).
enum vc_errcode {
	VC_EBASE = 1000,
	VC_EUSER,     // the user's request is wrong; fails the job, never a host
	VC_EHOST,     // this host is broken; an admin has to look
	VC_EBUSY,     // a bounded queue is full, or a limit is reached: try again later
	VC_EDENIED,   // authenticated, but not allowed
	VC_EAUTH,     // not authenticated
	VC_EPROTO,    // the peer broke the protocol
	VC_ENOTFOUND, // no such cluster, image, member, method
	VC_ETIMEDOUT, // a wait reached its limit
	VC_ESTALE,    // the call belongs to an earlier incarnation of the cluster
	VC_ECANCELED, // the job ended or the caller went away
	VC_EFAILED,   // everything else; the text says what
};

struct vc_error {
	int code;
	char text[VC_ERROR_TEXT_MAX];
};

#define VC_ERROR_INIT ((struct vc_error){0})

// Fills err (if not NULL) and returns -1, so that `return vc_error_set(...)` reads well. Keeps errno.
int vc_error_set(struct vc_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int vc_error_vset(struct vc_error *err, int code, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
// As vc_error_set with code = errno and ": strerror" appended.
int vc_error_errno(struct vc_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Puts "context: " in front of the text; returns -1.
int vc_error_wrap(struct vc_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// A short stable name ("user", "host", "busy"...) for logs and JSON; errno codes give strerrorname_np.
const char *vc_error_name(int code);

#endif
