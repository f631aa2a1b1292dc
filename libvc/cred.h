// SPDX-License-Identifier: GPL-2.0-or-later
// munge credentials: encode for one reader, decode once. Both block on munged (milliseconds; its own retries bound it).
#ifndef LIBVC_CRED_H
#define LIBVC_CRED_H

#include <stddef.h>
#include <sys/types.h>

#include "libvc/error.h"

#define VC_CRED_TTL 60		     // seconds a credential may travel; covers clock differences that munge tolerates
#define VC_CRED_PAYLOAD_MAX (16 << 10) // bytes; ours are some hundred
#define VC_CRED_TEXT_MAX (32 << 10)    // bytes of the text form of such a payload

// socket: NULL or "" is munge's default. Only reader can decode it. *ret_cred is malloc'd.
int vc_cred_encode(const char *socket, uid_t reader, const void *payload, size_t len, char **ret_cred, struct vc_error *err);

struct vc_cred {
	uid_t uid;
	gid_t gid;
	char *payload; // len bytes and a zero; free()
	size_t len;
};
// VC_EAUTH for a credential that is forged, replayed, expired or for somebody else; VC_EHOST when munged does not answer.
int vc_cred_decode(const char *socket, const char *cred, struct vc_cred *ret, struct vc_error *err);

#endif
