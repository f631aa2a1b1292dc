// SPDX-License-Identifier: GPL-2.0-or-later
// The image store of one host: DIR/DIGEST/{root.raw,chunks,image.json} and DIR/names/UID/NAME.json.
//
// An image is published by fsync and rename of its directory; what lies in DIR/incoming at open is dropped, and
// so is an image whose files do not fit together. Names carry owner and visibility: knowing a digest alone gives
// a user no access (store_lookup() is the only way from a user's name to a digest). Pins live in memory: vcd pins
// again, from its clusters, after a restart, then calls store_collect().
//
// All functions are synchronous and safe to call from several threads of one process; a second process is
// refused by a lock on the directory.
#ifndef VCD_IMAGE_STORE_H
#define VCD_IMAGE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "vcd/image/digest.h"
#include "vcd/image/image_limits.h"

#define STORE_DEFAULT_DIR "/var/lib/vcluster/images"

struct store;
struct chunks;

// What store_open() found and dropped; its caller logs it.
struct store_report {
	unsigned images;     // usable
	unsigned leftovers;  // unpublished builds and transfers, dropped
	unsigned damaged;    // images whose files do not fit together, dropped
	unsigned lost_names; // names without image, dropped
};

// One name in the store, or one image without a name (name is "").
struct store_entry {
	char name[IMAGE_NAME_MAX + 1];
	char digest[DIGEST_HEX_LEN];
	char key[DIGEST_HEX_LEN]; // recipe_key() with the lock; "" when unknown
	uid_t owner;
	bool is_public;
	int64_t created;     // seconds since 1970, for people
	uint64_t size;	     // bytes of the root file system
	uint64_t data_bytes; // bytes of chunks that are not holes
	unsigned pins;
};

struct store_name {
	const char *name;
	const char *key; // may be NULL
	uid_t owner;
	bool is_public;
};

int store_open(const char *dir, struct store **ret, struct store_report *report, struct vc_error *err);
void store_close(struct store *s);
const char *store_dir(const struct store *s);

// Takes build_dir/root.raw (and build_dir/build.json when it is there) into the store under a name.
// build_dir must be on the store's file system; it is empty of both files afterwards. The name's former image
// goes when nothing else names or pins it. With name->name NULL the image gets no name: it is a cached copy then.
int store_publish(struct store *s, const char *build_dir, const struct store_name *name, struct store_entry *ret,
		  struct vc_error *err);
// Gives a further name to an image that is there.
int store_name(struct store *s, const char *digest, const struct store_name *name, struct store_entry *ret, struct vc_error *err);
// Rule: the user's own image of that name, else root's public one, else the oldest public one. "OWNER/NAME" names
// an owner. VC_ENOTFOUND covers "not yours" as well.
int store_lookup(struct store *s, const char *name, uid_t uid, struct store_entry *ret, struct vc_error *err);
// What uid may see (root: everything, also images without a name). Free *ret with free().
int store_list(struct store *s, uid_t uid, struct store_entry **ret, size_t *ret_n, struct vc_error *err);
#define STORE_PASSING_PIN "transfer-" // begins a pin of who only passes the image on: its bytes stay for that, a name may go
// Removes the owner's name, and the image when no other name has it. VC_EBUSY while pinned by that last name.
int store_remove(struct store *s, const char *name, uid_t owner, struct vc_error *err);
// Removes an image that has no name and no pin (a host's copy).
int store_evict(struct store *s, const char *digest, struct vc_error *err);
// Drops images that were built here and have neither name nor pin. Returns how many.
int store_collect(struct store *s, unsigned *ret_dropped, struct vc_error *err);

// Pins count per (digest, cluster): pinning twice is one pin. Unpin of what is not pinned is no error.
int store_pin(struct store *s, const char *digest, const char *cluster, struct vc_error *err);
void store_unpin(struct store *s, const char *digest, const char *cluster);
// fn for each pin, under the store's lock: it must not call the store.
void store_each_pin(struct store *s, void (*fn)(const char *digest, const char *cluster, void *ctx), void *ctx);

bool store_has(struct store *s, const char *digest);
int store_find(struct store *s, const char *digest, struct store_entry *ret, struct vc_error *err); // without a name; VC_ENOTFOUND
// Path of the raw file. Valid as long as the image is pinned.
int store_path(struct store *s, const char *digest, char **ret, struct vc_error *err);
// image.json's text: size, digest, how it was built. A receiver keeps it: see holding.h.
int store_meta(struct store *s, const char *digest, char **ret, struct vc_error *err);
int store_chunks(struct store *s, const char *digest, struct chunks **ret, struct vc_error *err);
// Reads the whole image again. VC_EFAILED names the first chunk that does not match.
int store_verify(struct store *s, const char *digest, struct vc_error *err);

#endif
