// SPDX-License-Identifier: GPL-2.0-or-later
// One build under way: the spooled import, the vc-build child, its log and progress, the publication.
#ifndef VCD_IMGBUILD_H
#define VCD_IMGBUILD_H

#include "libvc/error.h"
#include "vcd/image/recipe.h"
#include "vcd/rpc.h"

struct imgcache;
struct json_object;
struct store;
struct store_entry;
struct vcd;

struct imgbuild_args {
	struct vcd *vcd;
	struct store *store;
	struct imgcache *cache;
	struct recipe *recipe;	 // taken when the call succeeds
	bool refresh;		 // from nothing, so that everything is resolved again
	uid_t owner;
	uint64_t max_mib;	 // of content, by the owner's space; UINT64_MAX: no limit but the site's
	struct rpc_request *import; // DATA frames with the tar follow this request; NULL: no import
	void (*progress)(void *ctx, struct json_object *params); // takes params
	// Once: the image, without a name, or why there is none. Both NULL: the import failed while it came in, and rpc answers the request.
	void (*done)(void *ctx, const struct store_entry *entry, const struct vc_error *err);
	void (*ended)(void *ctx); // once, after done(), when everything of the build is gone
	void *ctx;
};

struct imgbuild;
struct imgbuild *imgbuild_start(const struct imgbuild_args *args, struct vc_error *err);
// Nobody waits any more: kills it; done() and ended() follow, perhaps at once.
void imgbuild_stop(struct imgbuild *b);
const char *imgbuild_name(const struct imgbuild *b);
// state-dir/builds/UID.NAME.log; the caller frees it.
char *imgbuild_log_path(const struct vcd *vcd, uid_t owner, const char *name);
#define IMGBUILD_LOG_MAX (256u << 10) // bytes of a log that anybody asks for: its end
struct json_object *imgbuild_log_json(const struct vcd *vcd, uid_t owner, const char *name, struct vc_error *err); // {log}, the answer to who asks; NULL: none

// Makes the directories that builds use, and drops what a killed vcd left in them.
int imgbuild_clean(const struct vcd *vcd, struct store *store, struct vc_error *err);

#endif
