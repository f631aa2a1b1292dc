// SPDX-License-Identifier: GPL-2.0-or-later
// vc-build: makes one image from a recipe (JSON on standard input) in a work directory, as root, in a sandbox.
// With --remove: deletes such a work directory, whatever state it is in.
//
// Progress goes to standard output, one JSON object a line; the log to standard error. Exit status 0: root.raw
// and build.json lie in the work directory. 1: the recipe's fault, 2: wrong usage, 3: this host's fault; the last
// line of progress then says why.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "cmd/build/steps.h"
#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"

enum { EXIT_OK, EXIT_RECIPE, EXIT_USAGE, EXIT_HOST };

struct options {
	const char *work_dir, *mirror, *mirror_proxy, *import, *parent, *parent_lists;
	uint64_t seconds, mem_mib, max_mib, keep_ms;
	enum stage parent_stage;
	bool remove, parent_complete, keep;
};

static const char usage[] =
	"Usage: vc-build --work-dir=DIR [--mirror=URL] [--mirror-proxy=URL] [--import=TAR] [--time-limit=SECONDS]\n"
	"                [--memory=MIB] [--max-size=MIB] [--keep=SECONDS] < RECIPE.json\n"
	"                [--parent=RAW --parent-stage=STAGE [--parent-complete] [--parent-lists=DIR]]\n"
	"       vc-build --work-dir=DIR --remove\n";

static int take_option(int c, struct options *o, struct vc_error *err)
{
	switch (c) {
	case 'w': o->work_dir = optarg; return 0;
	case 'm': o->mirror = optarg; return 0;
	case 'p': o->mirror_proxy = optarg; return 0;
	case 'i': o->import = optarg; return 0;
	case 'r': o->remove = true; return 0;
	case 'P': o->parent = optarg; return 0;
	case 'L': o->parent_lists = optarg; return 0;
	case 'C': o->parent_complete = true; return 0;
	case 'S':
		return stage_from_name(optarg, &o->parent_stage) < 0 ? vc_error_set(err, EINVAL, "unknown stage '%.32s'", optarg) : 0;
	case 'k': o->keep = true; return vc_parse_duration_ms("--keep", optarg, IMAGE_BUILD_SECONDS_MAX * 1000ull, &o->keep_ms, err);
	case 't': return vc_parse_u64("--time-limit", optarg, 1, IMAGE_BUILD_SECONDS_MAX, &o->seconds, err);
	case 'M': return vc_parse_u64("--memory", optarg, 16, 1 << 20, &o->mem_mib, err);
	case 's': return vc_parse_u64("--max-size", optarg, 1, IMAGE_SIZE_MAX >> 20, &o->max_mib, err);
	default: return vc_error_set(err, EINVAL, "unknown option");
	}
}

static int parse_options(int argc, char **argv, struct options *o, struct vc_error *err)
{
	static const struct option longs[] = {
		{"work-dir", required_argument, NULL, 'w'},	{"mirror", required_argument, NULL, 'm'},
		{"mirror-proxy", required_argument, NULL, 'p'}, {"import", required_argument, NULL, 'i'},
		{"time-limit", required_argument, NULL, 't'},	{"remove", no_argument, NULL, 'r'},
		{"memory", required_argument, NULL, 'M'},	{"max-size", required_argument, NULL, 's'},
		{"parent", required_argument, NULL, 'P'},	{"parent-stage", required_argument, NULL, 'S'},
		{"parent-lists", required_argument, NULL, 'L'}, {"parent-complete", no_argument, NULL, 'C'},
		{"keep", required_argument, NULL, 'k'},		{NULL, 0, NULL, 0},
	};
	int c;
	*o = (struct options){.mirror = IMAGE_DEFAULT_MIRROR,
			      .seconds = IMAGE_BUILD_SECONDS,
			      .mem_mib = IMAGE_BUILD_MEM_MIB,
			      .max_mib = IMAGE_SIZE_MAX >> 20};
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (take_option(c, o, err) < 0)
			return -1;
	}
	if (optind != argc || !o->work_dir)
		return vc_error_set(err, EINVAL, "--work-dir is needed, and nothing but options");
	return 0;
}

static int read_recipe(struct recipe **ret, struct vc_error *err)
{
	vc_autobuf struct vc_buf text = VC_BUF_INIT(IMAGE_RECIPE_JSON_MAX);
	for (;;) {
		char block[64 << 10];
		ssize_t n = read(STDIN_FILENO, block, sizeof(block));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "recipe");
		if (n == 0)
			break;
		if (vc_buf_append(&text, block, (size_t)n) < 0)
			return vc_error_set(err, VC_EUSER, "recipe: more than %u bytes", IMAGE_RECIPE_JSON_MAX);
	}
	vc_autojson struct json_object *obj = vc_json_parse(text.len ? (char *)vc_buf_head(&text) : "", text.len, err);
	return obj ? recipe_from_json(obj, ret, err) : vc_error_wrap(err, "recipe");
}

// A file that only root can change between the check of its digest and its use.
static int open_import(const char *path, int *ret, struct vc_error *err)
{
	struct stat st;
	if (!path)
		return 0;
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "%s", path);
	if (!S_ISREG(st.st_mode) || st.st_uid != 0 || st.st_mode & 022)
		return vc_error_set(err, VC_EHOST, "%s: must be a regular file that only root can write", path);
	*ret = vc_steal_fd(&fd);
	return 0;
}

// A mount namespace of our own: what the sandbox mounts can never show outside.
static int enter_work_dir(const char *path, struct vc_error *err)
{
	if (geteuid() != 0)
		return vc_error_set(err, VC_EHOST, "must run as root, which it leaves inside the sandbox");
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return vc_error_errno(err, "mount namespace");
	if (chdir(path) < 0)
		return vc_error_errno(err, "%s", path);
	return 0;
}

static int build(struct build *b, const struct options *o, struct vc_error *err)
{
	recipe_auto struct recipe *recipe = NULL;
	vc_autoclose int import = -1;
	if (read_recipe(&recipe, err) < 0 || open_import(o->import, &import, err) < 0)
		return -1;
	b->recipe = recipe;
	b->mirror = o->mirror;
	b->import_fd = import;
	b->parent = o->parent;
	b->parent_stage = o->parent_stage;
	b->parent_complete = o->parent_complete;
	b->parent_lists = o->parent_lists;
	b->keep_seconds = o->keep ? (double)o->keep_ms / 1000 : HUGE_VAL;
	b->env.limits.tree_bytes = recipe->size ? recipe->size : IMAGE_SIZE_DEFAULT_MAX;
	if (b->env.limits.tree_bytes > o->max_mib << 20)
		b->env.limits.tree_bytes = o->max_mib << 20;
	if (relay_resolve(o->mirror_proxy ? o->mirror_proxy : o->mirror, &b->env.mirror, err) < 0 && recipe->packages &&
	    (recipe->packages[0] || recipe->base == RECIPE_BASE_DEBIAN))
		return -1; // an import without packages needs no mirror
	if (build_prepare(b, err) < 0)
		return -1;
	int rc = build_run(b, err);
	b->recipe = NULL;
	return rc;
}

static int remove_all(struct build *b, const struct options *o, struct vc_error *err)
{
	if (build_remove(b, err) < 0)
		return -1;
	return rmdir(o->work_dir) < 0 ? vc_error_errno(err, "%s", o->work_dir) : 0;
}

static int run(const struct options *o, struct vc_error *err)
{
	struct build b = {.import_fd = -1, .report = {.stage = "start"}};
	b.env.report = &b.report;
	b.env.limits.deadline_ms = run_now_ms() + o->seconds * 1000;
	if (enter_work_dir(o->work_dir, err) < 0)
		return -1;
	if (!sandbox_cgroup_create(o->mem_mib))
		fprintf(stderr, "-- no cgroup for this build: memory is not limited\n");
	int rc = o->remove ? remove_all(&b, o, err) : build(&b, o, err);
	sandbox_cgroup_remove();
	if (rc < 0)
		report_failed(&b.report, err->text);
	build_clear(&b);
	return rc;
}

int main(int argc, char **argv)
{
	struct options o;
	struct vc_error err = VC_ERROR_INIT;
	// vcd's end is ours, and the sandbox's: nothing goes on building for nobody.
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (parse_options(argc, argv, &o, &err) < 0) {
		fprintf(stderr, "vcluster: vc-build: %s\n%s", err.text, usage);
		return EXIT_USAGE;
	}
	if (run(&o, &err) == 0)
		return EXIT_OK;
	return err.code == VC_EUSER || err.code == VC_EPROTO ? EXIT_RECIPE : EXIT_HOST;
}
