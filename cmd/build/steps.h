// SPDX-License-Identifier: GPL-2.0-or-later
// The stages of a build, in their table: base, packages, files, commands, finish, image.
//
// The current directory is the build's work directory: tree/ (the base's content, then the mounted image), out/ (its
// file system, disk.h, and apt's files), sandbox/ (a mount point). After a good end root.raw, build.json and the stages
// for the cache (kept.STAGE) lie there too, and tree/ waits for build_remove(), which nobody has to wait for; a failed
// build has emptied the directory.
#ifndef CMD_BUILD_STEPS_H
#define CMD_BUILD_STEPS_H

#include "cmd/build/disk.h"
#include "vcd/image/stage_key.h"

#define BUILD_STAGES (STAGES + 2)

struct build {
	const struct recipe *recipe;
	const char *mirror;	 // http://HOST[:PORT]/PATH
	int import_fd;		 // the tar of an import, -1
	const char *parent;	  // raw file of a cached stage or image to grow from; NULL: none
	enum stage parent_stage;  // the last one that it has
	bool parent_complete;	  // its packages are all of the recipe's
	const char *parent_lists; // directory of apt's lists of its date, NULL
	double keep_seconds;	  // stages that took this long are kept
	bool imported;		  // a file system that is taken as it is
	uint64_t kept[STAGES];	  // bytes of the file system of those that were
	struct disk disk;
	struct run_env env;
	struct report report;
	struct json_object *lock; // release digests and package versions
	uint64_t tree_bytes, tree_files, raw_bytes;
	double seconds[BUILD_STAGES];
};

int build_prepare(struct build *b, struct vc_error *err);
int build_run(struct build *b, struct vc_error *err);
void build_clear(struct build *b);
// Empties the work directory of a build that ended in any way, kill -9 included.
int build_remove(struct build *b, struct vc_error *err);

#endif
