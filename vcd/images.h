// SPDX-License-Identifier: GPL-2.0-or-later
// This host's image store, and on the controller the methods image.*: names, builds, imports, serving to hosts.
//
// Builds run as children (vc-build) with their own work directory. Whoever needs the same image waits for the same
// build; one whose callers have all gone away is killed, unless a queued job is to need it. The store's work is done in workers (WORK_GENERAL), the tables here on the loop thread.
#ifndef VCD_IMAGES_H
#define VCD_IMAGES_H

#include <stdbool.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "vcd/plan.h"

struct vcd;
struct images;
struct store;

struct images *images_create(struct vcd *vcd, struct vc_error *err);
void images_stop(struct images *im); // kills builds
void images_destroy(struct images *im);

struct store *images_store(struct images *im);
struct imgcache *images_cache(struct images *im);
// The image that `name` means for this user: an own one first, then a public one. VC_EUSER when there is none.
int images_resolve(struct images *im, const char *name, uid_t uid, char ret_digest[PLAN_HEX64_LEN + 1], bool *ret_trusted,
		   struct vc_error *err);

// The image of a user's job: the one of that name, or, with packages, that image with more in it, which is found in the
// cache, or built, or waited for. 0: *ret is it. 1: done() follows, unless the wish is canceled. -1: it cannot be.
struct images_found {
	char digest[PLAN_HEX64_LEN + 1];
	bool trusted;
};
struct images_wish;
struct images_wish_args {
	const char *name;
	char *const *packages; // NULL-terminated; NULL: none
	uid_t uid;
	void (*done)(void *ctx, const struct images_found *found, const struct vc_error *err);
	void (*progress)(void *ctx, const char *text); // what the build does; may be NULL
	void *ctx;
};
int images_want(struct images *im, const struct images_wish_args *args, struct images_found *ret, struct images_wish **ret_wish,
		struct vc_error *err);
void images_wish_cancel(struct images_wish *wish); // NULL is allowed

// A cluster of this controller stands on it: the last name that leads to it cannot be removed, and it stays until the cluster is gone.
int images_hold(struct images *im, const char *digest, const char *cluster, struct vc_error *err);
void images_let_go(struct images *im, const char *digest, const char *cluster);

#endif
