// SPDX-License-Identifier: GPL-2.0-or-later
// The image cache of a host: build stages on disk, and images that are kept for the work they save.
//
// DIR/stages/ID/ holds entry.json and, for a stage, root.raw and lists/; it appears and goes by one rename, so that a
// crash leaves an entry or none. An image's entry names its digest; the store holds it. Images without a name that
// have no entry are adopted. What stays within the
// capacity is gdsf.h's decision. Never removed: a parent of a build under way, an image that has a name or a pin, and
// one that was asked for less than the lease ago (its job may still be fetching it).
// All functions are synchronous and safe to call from several threads.
#ifndef VCD_IMAGE_IMGCACHE_H
#define VCD_IMAGE_IMGCACHE_H

#include "vcd/image/stage_key.h"
#include "vcd/image/store.h"

#define IMGCACHE_DIR "stages"	  // of the store's directory
#define IMGCACHE_LEASE_S 1800	  // seconds that an image stays after it was asked for: the default ensure-timeout
#define IMGCACHE_ENTRIES_MAX 4096 // a bound for what is read at start; entries of 100 MiB would be 400 GiB

struct imgcache;
// capacity: bytes of stages and of images without a name. ret_dropped: leftovers of a crash, and images that are gone.
int imgcache_open(struct store *store, uint64_t capacity, unsigned lease_s, struct imgcache **ret, unsigned *ret_dropped,
		  struct vc_error *err);
void imgcache_close(struct imgcache *c);

// What a build grows from; held until imgcache_end().
struct imgcache_parent {
	char *raw, *lists;	     // NULL: from nothing; lists may be NULL alone
	enum stage stage;
	bool complete;		     // its packages are all of the recipe's
	double seconds;		     // that its content took
	char held[2][DIGEST_HEX_LEN]; // entries
	char pinned[DIGEST_HEX_LEN]; // image of the store
	char pin[32];
};
// refresh: from nothing, so that everything is resolved again.
int imgcache_begin(struct imgcache *c, const struct recipe *r, bool refresh, struct imgcache_parent *ret, struct vc_error *err);
void imgcache_end(struct imgcache *c, struct imgcache_parent *parent);

// After a build that ended well, before its work directory goes: takes the stages that it kept, and the image, which
// is in the store already. Failing to keep a stage is no error of the build; err says so and the rest is kept.
// work_dir NULL: another host built it and has the stages.
int imgcache_keep(struct imgcache *c, const struct recipe *r, const struct imgcache_parent *parent, const char *work_dir,
		  struct json_object *build, const struct store_entry *image, struct vc_error *err);
// The image that this recipe has made, whatever its lock; counts as a use. VC_ENOTFOUND: none. ret_key, the key with its
// lock, may be NULL.
int imgcache_find(struct imgcache *c, const struct recipe *r, char ret_digest[DIGEST_HEX_LEN], char *ret_key, struct vc_error *err);
// An image is used on this host, after it came here in so many seconds; 0: it was here.
int imgcache_fetched(struct imgcache *c, const char *digest, double seconds, struct vc_error *err);

// A cluster of uid uses this copy, which is pinned: it counts as that user's from now on, unless it has a name here. The user's other copies
// go, the least valuable first, until they have at most max bytes. VC_EUSER: those that are in use are too many.
int imgcache_charge(struct imgcache *c, const char *digest, uid_t uid, uint64_t max, struct vc_error *err);

struct imgcache_usage {
	uint64_t capacity, bytes;
	unsigned stages, images, evicted, refused; // the latter two since the start
};
struct imgcache_usage imgcache_usage(struct imgcache *c);

#endif
