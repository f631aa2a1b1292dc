// SPDX-License-Identifier: GPL-2.0-or-later
// A build as vcd sees it: how to start vc-build, what its progress lines say, and how its result is published.
//
// vcd spawns the process itself (argument vector, standard input: the recipe's JSON; standard output: progress;
// standard error: the build's log), calls image_finish() in a worker after exit status 0, answers its client, and
// in every case (also for directories found at its start) spawns image_build_remove_argv() at the end.
#ifndef VCD_IMAGE_IMAGE_BUILD_H
#define VCD_IMAGE_IMAGE_BUILD_H

#include "vcd/image/stage_key.h"
#include "vcd/image/store.h"

#define IMAGE_DEFAULT_MIRROR "http://deb.debian.org/debian"

struct image_build_conf {
	const char *program;	  // NULL: VC_LIBEXECDIR/vc-build
	const char *mirror;	  // NULL: IMAGE_DEFAULT_MIRROR
	const char *mirror_proxy; // http://ADDRESS:PORT, or NULL
	const char *import_path;  // the tar of an import: base, as vcd spooled it; or NULL
	const char *parent;	  // raw file to grow from, or NULL
	enum stage parent_stage;  // the last stage that it has
	bool parent_complete;	  // its packages are all of the recipe's
	const char *parent_lists; // apt's lists of its date, or NULL
	bool keep;		  // stages that took IMAGE_KEEP_SECONDS or more are left in kept.STAGE
	unsigned seconds;	  // 0: IMAGE_BUILD_SECONDS
	unsigned mem_mib;	  // of the sandbox, where a cgroup can limit it; 0: IMAGE_BUILD_MEM_MIB
	unsigned max_mib;	  // of content, whatever the recipe says; 0: IMAGE_SIZE_MAX
};

// The NULL-terminated vector for the spawn; free with vc_strv_free(). work_dir is an empty directory on the
// store's file system that belongs to this build alone.
int image_build_argv(const struct image_build_conf *conf, const char *work_dir, char ***ret, struct vc_error *err);
// Removes work_dir and what a build left in it; work_dir must be an absolute path.
int image_build_remove_argv(const struct image_build_conf *conf, const char *work_dir, char ***ret, struct vc_error *err);

enum image_progress_kind {
	IMAGE_PROGRESS_BEGIN, // a stage begins
	IMAGE_PROGRESS_TEXT,  // something a person may want to read
	IMAGE_PROGRESS_END,   // a stage ended after `seconds`
	IMAGE_PROGRESS_FAILED, // the last line of a failed build: text names the package, file or command
};

struct image_progress {
	enum image_progress_kind kind;
	char stage[16];
	char text[IMAGE_BUILD_LINE_MAX];
	double seconds;
};

// One line of standard output, with or without its newline.
int image_progress_parse(const char *line, size_t len, struct image_progress *ret, struct vc_error *err);
// The line's text for a stage; the form that the parser above reads. Free with free().
char *image_progress_format(const struct image_progress *p);

// Publishes what lies in work_dir after a build that ended well, without a name: a cached copy, of which ret->key is
// the recipe's key with its lock. *ret_build: what build.json said.
int image_finish(struct store *s, const struct recipe *r, const char *work_dir, struct store_entry *ret, struct json_object **ret_build,
		 struct vc_error *err);

#endif
