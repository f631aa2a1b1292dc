// SPDX-License-Identifier: GPL-2.0-or-later
// The image cache's files: what imgcache.c does on disk, without tables or locks.
#ifndef VCD_IMAGE_IMGCACHE_FILE_H
#define VCD_IMAGE_IMGCACHE_FILE_H

#include <sys/types.h>

#include "vcd/image/stage_key.h"

struct json_object;

struct imgcache_entry {
	char id[DIGEST_HEX_LEN];     // a stage's key; the recipe's own digest for an image
	bool is_image;
	char digest[DIGEST_HEX_LEN]; // of an image
	char image_key[DIGEST_HEX_LEN]; // of an image: its recipe's key with the lock; "": not known
	struct stage_info info;	     // of an image: base, release and packages of its recipe
	uint64_t bytes;		     // that its removal frees
	double uses;
	int64_t used;		     // seconds since 1970
	bool charged;		     // to uid, whose cluster was the last one here to use this copy
	uid_t uid;
	bool tried;		     // to make room for its user
	bool stays;		     // held because of its image's name, pin or lease
};

void imgcache_entry_clear(struct imgcache_entry *e);
// dirfd is DIR/stages. Every entry that can be read goes to fn, the others are removed.
int imgcache_file_each(int dirfd, int (*fn)(void *ctx, struct imgcache_entry *e, struct vc_error *err), void *ctx,
		       unsigned *ret_dropped, struct vc_error *err);
// Writes ID/entry.json: into the existing directory, or, with from (a kept stage's directory on the same file system),
// into that one, which then becomes ID.
int imgcache_file_write(int dirfd, const struct imgcache_entry *e, const char *from, struct vc_error *err);
void imgcache_file_remove(int dirfd, const char *id);
// Bytes on disk of from/root.raw.
int imgcache_file_bytes(const char *from, uint64_t *ret, struct vc_error *err);

#endif
