// SPDX-License-Identifier: GPL-2.0-or-later
// Keys: whether two builds, or two stages of builds, give the same content. And which cached stage a build grows from.
//
// Pure. A key is SHA-256 over the builder's version, the lock, the base and the configuration in the order in which
// it takes effect; packages count as a set. Name, owner, visibility and identity of members are never part of it.
#ifndef VCD_IMAGE_STAGE_KEY_H
#define VCD_IMAGE_STAGE_KEY_H

#include "vcd/image/recipe.h"

enum stage { STAGE_BASE, STAGE_PACKAGES, STAGE_FILES, STAGE_COMMANDS, STAGES };

const char *stage_name(enum stage stage);
int stage_from_name(const char *name, enum stage *ret); // -1: no such stage

// The image of a recipe. lock is the digest (hex) of the resolved versions; NULL gives the recipe's own digest, which
// finds an image that the same recipe has made with whatever lock.
int recipe_key(const struct recipe *r, const char *lock, char ret[DIGEST_HEX_LEN], struct vc_error *err);
// What a recipe begins with, without a date.
int stage_base_id(const struct recipe *r, char ret[DIGEST_HEX_LEN], struct vc_error *err);
// One key per stage, each over the one before it. release is the digest of the archive's state ("" without packages).
int stage_keys(const struct recipe *r, const char *release, char ret[STAGES][DIGEST_HEX_LEN], struct vc_error *err);

// A stage that is in the cache.
struct stage_info {
	enum stage stage;
	char key[DIGEST_HEX_LEN];
	char base[DIGEST_HEX_LEN];    // stage_base_id()
	char release[DIGEST_HEX_LEN]; // the lock's date, as the digest of the archive's Release
	char **packages;	      // NULL-terminated; NULL when empty
	double seconds;		      // that its content took to make, from nothing
	uint64_t size;		      // bytes of its file system
	int64_t created;	      // seconds since 1970
};

// The newest archive state that a cached stage of this base has; NULL: none, the build resolves anew.
const char *stage_newest_release(const struct recipe *r, const struct stage_info *all, size_t n);
// The stage to grow from: the deepest one of this very recipe, else the costliest whose packages are a subset of the
// recipe's, with the same base and release. NULL: from nothing. A file system larger than the recipe's size is none.
const struct stage_info *stage_choose(const struct recipe *r, const char *release, const struct stage_info *all, size_t n);
// Seconds that it would cost to have this stage again, given the others: what its removal costs.
double stage_worth(const struct stage_info *stage, const struct stage_info *all, size_t n);

#endif
