// SPDX-License-Identifier: GPL-2.0-or-later
// The store's files and directories: what store.c and store_check.c do on disk, without tables or locks.
//
// Each change becomes visible by one rename, after fsync of what it shows. A failed call leaves at most something
// in incoming/, which the next open drops.
#ifndef VCD_IMAGE_STORE_FILE_H
#define VCD_IMAGE_STORE_FILE_H

#include "vcd/image/store_int.h"

struct chunks;
struct json_object;

// Reads DIGEST/image.json and checks it against the raw file and the chunk list.
int store_file_load_image(int dirfd, const char *digest, struct store_image *ret, struct vc_error *err);
int store_file_read_meta(int dirfd, const char *digest, char **ret, struct vc_error *err);
int store_file_open_raw(int dirfd, const char *digest, struct vc_error *err); // descriptor or -1
int store_file_open_raw_for_repair(int at, const char *digest, struct vc_error *err); // to be written, too

typedef int store_image_fn(void *arg, int dirfd, const char *digest, struct vc_error *err);
typedef int store_record_fn(void *arg, int dirfd, const struct store_record *record, struct vc_error *err);
int store_file_each_image(int dirfd, store_image_fn *fn, void *arg, struct vc_error *err);
// A record that is damaged comes with an empty digest.
int store_file_each_record(int dirfd, store_record_fn *fn, void *arg, struct vc_error *err);
// Failed: the record is as it was. It is durable after store_file_sync_record().
int store_file_write_record(int dirfd, const struct store_record *record, struct vc_error *err);
int store_file_sync_record(int dirfd, const struct store_record *record, struct vc_error *err);
int store_file_remove_record(int dirfd, const struct store_record *record, struct vc_error *err);

int store_file_drop_leftovers(int dirfd, unsigned *ret_n, struct vc_error *err);
// A fresh directory incoming/X; *ret is its path below dirfd.
int store_file_mkdir(int dirfd, char **ret, struct vc_error *err);
// Moves build_dir/root.raw into a fresh incoming directory and writes chunk list and image.json beside it.
int store_file_stage(int dirfd, const char *build_dir, bool received, char **ret_staged, struct store_image *ret,
		     struct vc_error *err);
// Writes chunks and image.json for the raw file in `staged`. build, what build.json says, may be NULL.
int store_file_describe(int dirfd, const char *staged, struct json_object *build, bool received,
			struct store_image *ret, struct vc_error *err);
// The same for a raw file of which list is known to be true, and which is on disk already.
int store_file_describe_list(int dirfd, const char *staged, const struct chunks *list, struct json_object *build, bool received,
			     struct store_image *ret, struct vc_error *err);
// staged -> digest, durable afterwards; failed: still staged.
int store_file_commit(int dirfd, const char *staged, const char *digest, struct vc_error *err);
void store_file_discard(int dirfd, const char *staged);
int store_file_trash(int dirfd, const char *digest, struct vc_error *err);

#endif
