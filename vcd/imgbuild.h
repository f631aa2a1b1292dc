// SPDX-License-Identifier: GPL-2.0-or-later
// One build under way: the spooled import, the vc-build child, its log and progress, the publication.
#ifndef VCD_IMGBUILD_H
#define VCD_IMGBUILD_H

#include "libvc/error.h"
#include "vcd/image/recipe.h"
#include "vcd/rpc.h"

struct store;
struct vcd;

struct imgbuild_args {
	struct vcd *vcd;
	struct store *store;
	struct recipe *recipe; // taken when the call succeeds
	uid_t owner;
	struct rpc_request *req; // replied to when the build ends; notified of its stages
	uint64_t max_mib;	 // of the image, as far as its owner has space
	bool import;		 // DATA frames with the tar follow the request
	void (*ended)(void *ctx); // once, when everything of the build is gone
	void *ctx;
};

struct imgbuild;
struct imgbuild *imgbuild_start(const struct imgbuild_args *args, struct vc_error *err);
void imgbuild_stop(struct imgbuild *b); // kills it; ended() follows
const char *imgbuild_name(const struct imgbuild *b);
// state-dir/builds/UID.NAME.log; the caller frees it.
char *imgbuild_log_path(const struct vcd *vcd, uid_t owner, const char *name);

// Makes the directories that builds use, and drops what a killed vcd left in them.
int imgbuild_clean(const struct vcd *vcd, struct store *store, struct vc_error *err);

#endif
