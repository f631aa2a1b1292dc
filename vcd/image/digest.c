// SPDX-License-Identifier: GPL-2.0-or-later
// SHA-256 by OpenSSL's EVP interface: see digest.h.
#include "vcd/image/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvc/cleanup.h"

#define READ_BYTES (256u << 10) // one read; large enough that system calls do not show

struct digest_ctx {
	EVP_MD_CTX *md;
};

struct digest_ctx *digest_ctx_create(void)
{
	struct digest_ctx *ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return NULL;
	ctx->md = EVP_MD_CTX_new();
	if (ctx->md && EVP_DigestInit_ex(ctx->md, EVP_sha256(), NULL) == 1)
		return ctx;
	digest_ctx_destroy(ctx);
	return NULL;
}

void digest_ctx_destroy(struct digest_ctx *ctx)
{
	int saved = errno;
	if (ctx)
		EVP_MD_CTX_free(ctx->md);
	free(ctx);
	errno = saved;
}

void digest_ctx_cleanup(struct digest_ctx **ctx)
{
	digest_ctx_destroy(*ctx);
}

// EVP fails only on misuse, which would be a wrong digest, or without memory for its context: stop instead.
static void must(int ok)
{
	if (ok != 1)
		abort();
}

void digest_ctx_update(struct digest_ctx *ctx, const void *data, size_t len)
{
	must(EVP_DigestUpdate(ctx->md, data, len));
}

void digest_ctx_final(struct digest_ctx *ctx, uint8_t ret[DIGEST_LEN])
{
	must(EVP_DigestFinal_ex(ctx->md, ret, NULL));
	must(EVP_DigestInit_ex(ctx->md, EVP_sha256(), NULL));
}

void digest_bytes(const void *data, size_t len, uint8_t ret[DIGEST_LEN])
{
	must(EVP_Digest(data, len, ret, NULL, EVP_sha256(), NULL));
}

int digest_fd(int fd, uint64_t max, uint8_t ret[DIGEST_LEN], uint64_t *ret_size, struct vc_error *err)
{
	digest_auto struct digest_ctx *ctx = digest_ctx_create();
	vc_autofree uint8_t *buf = malloc(READ_BYTES);
	if (!ctx || !buf)
		return vc_error_set(err, ENOMEM, "digest: out of memory");
	uint64_t size = 0;
	for (;;) {
		ssize_t n = read(fd, buf, READ_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "read");
		if (n == 0)
			break;
		size += (uint64_t)n;
		if (size > max)
			return vc_error_set(err, VC_EUSER, "more than %llu bytes", (unsigned long long)max);
		digest_ctx_update(ctx, buf, (size_t)n);
	}
	digest_ctx_final(ctx, ret);
	*ret_size = size;
	return 0;
}

void digest_hex(const uint8_t digest[DIGEST_LEN], char ret[DIGEST_HEX_LEN])
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < DIGEST_LEN; i++) {
		ret[2 * i] = digits[digest[i] >> 4];
		ret[2 * i + 1] = digits[digest[i] & 15];
	}
	ret[2 * DIGEST_LEN] = '\0';
}

bool digest_hex_valid(const char *hex)
{
	return strlen(hex) == DIGEST_HEX_LEN - 1 && strspn(hex, "0123456789abcdef") == DIGEST_HEX_LEN - 1;
}
