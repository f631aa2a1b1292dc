// SPDX-License-Identifier: GPL-2.0-or-later
// The chunk list of a raw image: SHA-256 of each aligned 64 KiB, and the image's digest made from them.
//
// The digest is SHA-256 over "vcluster image 1\n", the size and the chunk size as 8 and 4 bytes big-endian, and
// the chunks' digests in order. A chunk of zeros is a hole: it is not stored, read or sent.
#ifndef VCD_IMAGE_CHUNKS_H
#define VCD_IMAGE_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/image/digest.h"

struct chunks;

// Reads only what the file system calls data. The size must be a multiple of the chunk size.
int chunks_scan(int fd, struct chunks **ret, struct vc_error *err);
void chunks_destroy(struct chunks *c);
void chunks_cleanup(struct chunks **c);
#define chunks_auto __attribute__((cleanup(chunks_cleanup)))

uint64_t chunks_size(const struct chunks *c); // bytes of the image
size_t chunks_count(const struct chunks *c);
uint64_t chunks_data_bytes(const struct chunks *c); // bytes that are not holes
const uint8_t *chunks_digest(const struct chunks *c, size_t i);
bool chunks_is_hole(const struct chunks *c, size_t i);
int chunks_image_digest(const struct chunks *c, char ret[DIGEST_HEX_LEN], struct vc_error *err); // fails without memory only
// Index of the first chunk at which the lists differ, -1 when they are equal.
int64_t chunks_compare(const struct chunks *a, const struct chunks *b);

// The list as bytes on the wire: chunks_count() * DIGEST_LEN, in order; the size travels beside them.
const uint8_t *chunks_bytes(const struct chunks *c);
int chunks_from_bytes(uint64_t size, const uint8_t *bytes, size_t len, struct chunks **ret, struct vc_error *err);

// The list as a file: "VCCHNK1\n", chunk size (4), size (8), digests. Read checks every length.
int chunks_write(const struct chunks *c, int dirfd, const char *name, struct vc_error *err);
int chunks_read(int dirfd, const char *name, struct chunks **ret, struct vc_error *err);

#endif
