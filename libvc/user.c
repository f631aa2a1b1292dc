// SPDX-License-Identifier: GPL-2.0-or-later
// Users by name or number: see user.h. Any thread may ask.
#include "libvc/user.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"

#define NSS_BUF_MAX (64u << 10) // bytes of one entry; a home and a shell have a path's length at most

int vc_user_find(const char *what, const char *text, uid_t *ret, struct vc_error *err)
{
	uint64_t number = 0;
	struct passwd pw, *found = NULL;
	if (*text && strspn(text, "0123456789") == strlen(text)) {
		if (vc_parse_u64(what, text, 0, UINT32_MAX - 1, &number, err) < 0)
			return -1;
		*ret = (uid_t)number;
		return 0;
	}
	vc_autofree char *buf = malloc(NSS_BUF_MAX);
	if (!buf)
		return vc_error_errno(err, "%s", what);
	if (getpwnam_r(text, &pw, buf, NSS_BUF_MAX, &found) != 0 || !found)
		return vc_error_set(err, VC_EUSER, "%s: there is no user '%.100s' on this host", what, text);
	*ret = pw.pw_uid;
	return 0;
}
