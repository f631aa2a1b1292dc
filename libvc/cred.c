// SPDX-License-Identifier: GPL-2.0-or-later
// munge credentials: see cred.h.
#include "libvc/cred.h"

#include <munge.h>
#include <stdint.h>
#include <string.h>

#include "libvc/cleanup.h"

static void ctx_cleanup(munge_ctx_t *ctx)
{
	if (*ctx)
		munge_ctx_destroy(*ctx);
}

static munge_ctx_t ctx_create(const char *socket, struct vc_error *err)
{
	munge_ctx_t ctx = munge_ctx_create();
	if (!ctx) {
		vc_error_set(err, ENOMEM, "munge: out of memory");
		return NULL;
	}
	if (socket && *socket && munge_ctx_set(ctx, MUNGE_OPT_SOCKET, socket) != EMUNGE_SUCCESS) {
		vc_error_set(err, VC_EHOST, "munge socket %s: %s", socket, munge_ctx_strerror(ctx));
		munge_ctx_destroy(ctx);
		return NULL;
	}
	return ctx;
}

// The daemon's own troubles are the host's; all else is the credential's.
static int cred_error(munge_ctx_t ctx, munge_err_t rc, const char *what, struct vc_error *err)
{
	const char *text = munge_ctx_strerror(ctx);
	if (!text)
		text = munge_strerror(rc);
	if (rc == EMUNGE_SOCKET || rc == EMUNGE_TIMEOUT || rc == EMUNGE_SNAFU || rc == EMUNGE_NO_MEMORY)
		return vc_error_set(err, VC_EHOST, "%s: munged on this host: %s: check that munge runs", what, text);
	return vc_error_set(err, VC_EAUTH, "%s: %s", what, text);
}

int vc_cred_encode(const char *socket, uid_t reader, const void *payload, size_t len, char **ret_cred, struct vc_error *err)
{
	if (len > VC_CRED_PAYLOAD_MAX)
		return vc_error_set(err, VC_EPROTO, "a credential's payload of %zu bytes is too long", len);
	munge_ctx_t ctx __attribute__((cleanup(ctx_cleanup))) = ctx_create(socket, err);
	if (!ctx)
		return -1;
	munge_err_t rc = munge_ctx_set(ctx, MUNGE_OPT_TTL, VC_CRED_TTL);
	if (rc == EMUNGE_SUCCESS)
		rc = munge_ctx_set(ctx, MUNGE_OPT_UID_RESTRICTION, reader);
	char *cred = NULL;
	if (rc == EMUNGE_SUCCESS)
		rc = munge_encode(&cred, ctx, payload, (int)len);
	if (rc != EMUNGE_SUCCESS)
		return cred_error(ctx, rc, "encoding a credential", err);
	*ret_cred = cred;
	return 0;
}

int vc_cred_decode(const char *socket, const char *cred, struct vc_cred *ret, struct vc_error *err)
{
	munge_ctx_t ctx __attribute__((cleanup(ctx_cleanup))) = ctx_create(socket, err);
	if (!ctx)
		return -1;
	vc_autofree void *payload = NULL;
	int len = 0;
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	munge_err_t rc = munge_decode(cred, ctx, &payload, &len, &uid, &gid);
	if (rc != EMUNGE_SUCCESS)
		return cred_error(ctx, rc, "decoding a credential", err);
	if (len < 0 || len > VC_CRED_PAYLOAD_MAX)
		return vc_error_set(err, VC_EPROTO, "a credential's payload of %d bytes is too long", len);
	char *copy = malloc((size_t)len + 1);
	if (!copy)
		return vc_error_errno(err, "decoding a credential");
	if (len)
		memcpy(copy, payload, (size_t)len);
	copy[len] = '\0';
	*ret = (struct vc_cred){.uid = uid, .gid = gid, .payload = copy, .len = (size_t)len};
	return 0;
}
