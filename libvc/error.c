// SPDX-License-Identifier: GPL-2.0-or-later
// Errors: see error.h for the convention. Owns nothing, never fails.
#include "libvc/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int vc_error_vset(struct vc_error *err, int code, const char *fmt, va_list ap)
{
	int saved = errno;
	if (err) {
		err->code = code;
		vsnprintf(err->text, sizeof(err->text), fmt, ap);
	}
	errno = saved;
	return -1;
}

int vc_error_set(struct vc_error *err, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vc_error_vset(err, code, fmt, ap);
	va_end(ap);
	return -1;
}

int vc_error_errno(struct vc_error *err, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;
	va_start(ap, fmt);
	vc_error_vset(err, saved, fmt, ap);
	va_end(ap);
	if (err) {
		size_t len = strlen(err->text);
		snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerror(saved));
	}
	errno = saved;
	return -1;
}

int vc_error_wrap(struct vc_error *err, const char *fmt, ...)
{
	if (!err)
		return -1;
	int saved = errno;
	char context[VC_ERROR_TEXT_MAX], inner[VC_ERROR_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
	memcpy(inner, err->text, sizeof(inner));
	size_t len = strnlen(context, sizeof(context));
	if (len > sizeof(context) / 2)
		context[sizeof(context) / 2] = '\0'; // the inner text names the cause: keep room for it
	snprintf(err->text, sizeof(err->text), "%.*s: %.*s", (int)(sizeof(err->text) / 2), context,
		 (int)(sizeof(err->text) - sizeof(err->text) / 2 - 3), inner);
	errno = saved;
	return -1;
}

const char *vc_error_name(int code)
{
	static const char *const names[] = {
		[VC_EUSER - VC_EBASE] = "user",	      [VC_EHOST - VC_EBASE] = "host",
		[VC_EBUSY - VC_EBASE] = "busy",	      [VC_EDENIED - VC_EBASE] = "denied",
		[VC_EAUTH - VC_EBASE] = "auth",	      [VC_EPROTO - VC_EBASE] = "protocol",
		[VC_ENOTFOUND - VC_EBASE] = "notfound", [VC_ETIMEDOUT - VC_EBASE] = "timeout",
		[VC_ESTALE - VC_EBASE] = "stale",     [VC_ECANCELED - VC_EBASE] = "canceled",
		[VC_EFAILED - VC_EBASE] = "failed",
	};
	if (code > VC_EBASE && code <= VC_EFAILED)
		return names[code - VC_EBASE];
	const char *name = code > 0 ? strerrorname_np(code) : NULL;
	return name ? name : "unknown";
}
