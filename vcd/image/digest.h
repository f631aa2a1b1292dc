// SPDX-License-Identifier: GPL-2.0-or-later
// SHA-256 as bytes and as 64 lower-case hex digits, of memory, of files and of streams.
//
// Fails only without memory or when the file cannot be read.
#ifndef VCD_IMAGE_DIGEST_H
#define VCD_IMAGE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"

#define DIGEST_LEN 32
#define DIGEST_HEX_LEN 65 // with the terminating zero

struct digest_ctx;

struct digest_ctx *digest_ctx_create(void);
void digest_ctx_destroy(struct digest_ctx *ctx);
void digest_ctx_cleanup(struct digest_ctx **ctx);
void digest_ctx_update(struct digest_ctx *ctx, const void *data, size_t len);
void digest_ctx_final(struct digest_ctx *ctx, uint8_t ret[DIGEST_LEN]); // starts afresh afterwards

#define digest_auto __attribute__((cleanup(digest_ctx_cleanup)))

void digest_bytes(const void *data, size_t len, uint8_t ret[DIGEST_LEN]);
// Digest of what fd still holds; more than max bytes is an error.
int digest_fd(int fd, uint64_t max, uint8_t ret[DIGEST_LEN], uint64_t *ret_size, struct vc_error *err);
void digest_hex(const uint8_t digest[DIGEST_LEN], char ret[DIGEST_HEX_LEN]);
bool digest_hex_valid(const char *hex);

#endif
