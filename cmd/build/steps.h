// SPDX-License-Identifier: GPL-2.0-or-later
// The stages of a build, in their table: base, packages, files, commands, finish, image.
//
// The current directory is the build's work directory: tree/ (the image's content), out/ (what mke2fs makes),
// sandbox/ (a mount point). After a good end root.raw and build.json lie there too, and tree/ waits for
// build_remove(), which nobody has to wait for; a failed build has emptied the directory.
#ifndef CMD_BUILD_STEPS_H
#define CMD_BUILD_STEPS_H

#include "cmd/build/run.h"
#include "vcd/image/recipe.h"

#define BUILD_STAGES 6

struct build {
	const struct recipe *recipe;
	const char *mirror;	 // http://HOST[:PORT]/PATH
	int import_fd;		 // the tar of an import, -1
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
