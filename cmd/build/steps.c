// SPDX-License-Identifier: GPL-2.0-or-later
// The stages of a build: see steps.h.
#include "cmd/build/steps.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "cmd/build/disk.h"
#include "cmd/build/inside.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/limits.h"
#include "libvc/parse.h"

#define KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"
#define ROOM (256ull << 20)	     // free bytes beside the content when the recipe names no size; holes cost nothing
#define ROOM_STEP (64ull << 20)	     // sizes without a wish: a small change does not grow the file system, which writes its group tables
#define ROOM_PACKAGES (64ull << 20)  // bytes beside what apt says: metadata, and what maintainer scripts make
#define ROOM_COMMANDS (1ull << 30)   // bytes that commands find free when the recipe names no size
#define ROOM_FILES (1ull << 20)	     // bytes beside the files' own
#define REMOVE_MS (120 * 1000)	     // time for emptying the work directory; 300 MB took 4 s on a busy disk
#define RESULT_MAX IMAGE_META_MAX    // bytes of the lock's text

// Lists and archives lie beside the image: what is written and removed there would leave its marks in new chunks.
#define OPTION_LISTS "Dir::State::lists=" SANDBOX_APT "/lists"
#define OPTION_CACHE "Dir::Cache=" SANDBOX_APT "/cache"
#define OPTION_PROXY "Acquire::http::Proxy=" SANDBOX_PROXY ";"

// A run with the defaults: the image as root, no network, no input.
static struct sandbox_spec plain_run(const struct build *b, sandbox_fn *fn, void *arg)
{
	return (struct sandbox_spec){.view = SANDBOX_TREE,
				     .input = -1,
				     .result = -1,
				     .file_max = b->env.limits.tree_bytes,
				     .fn = fn,
				     .arg = arg};
}

// --- base ------------------------------------------------------------------------------------------------------------

static int base_debian(struct build *b, struct vc_error *err)
{
	char source[1024];
	snprintf(source, sizeof(source), "deb [signed-by=" KEYRING "] %s %s main", b->mirror, b->recipe->suite);
	char *argv[] = {(char *)"mmdebstrap",
			(char *)"--mode=root",
			(char *)"--variant=minbase",
			(char *)"--quiet",
			(char *)"--format=directory",
			(char *)"--aptopt=Acquire::http::Proxy \"" SANDBOX_PROXY "\"",
			(char *)"--dpkgopt=force-unsafe-io",
			(char *)"--skip=output/dev,cleanup/apt/lists",
			(char *)b->recipe->suite,
			(char *)"/build/tree",
			source,
			NULL};
	struct inside_exec e = {.argv = argv};
	struct sandbox_spec spec = plain_run(b, inside_exec, &e);
	spec.view = SANDBOX_HOST;
	spec.network = true;
	return run_in_sandbox(&b->env, "base", &spec, err);
}

static const struct compression {
	const char *magic;
	size_t len;
	const char *option;
} compressions[] = {
	{"\x1f\x8b", 2, "--gzip"}, {"\xfd" "7zXZ", 5, "--xz"}, {"\x28\xb5\x2f\xfd", 4, "--zstd"}, {"BZh", 3, "--bzip2"},
};

static const char *compression_of(int fd)
{
	char head[8] = "";
	ssize_t n = pread(fd, head, sizeof(head), 0);
	for (size_t i = 0; i < VC_ARRAY_LEN(compressions); i++) {
		if (n >= (ssize_t)compressions[i].len && memcmp(head, compressions[i].magic, compressions[i].len) == 0)
			return compressions[i].option;
	}
	return NULL;
}

// The bytes must be those that the recipe, and so the key, speaks of.
static int check_import(struct build *b, struct vc_error *err)
{
	char hex[DIGEST_HEX_LEN];
	uint8_t digest[DIGEST_LEN];
	uint64_t size = 0;
	if (b->import_fd < 0)
		return vc_error_set(err, VC_EUSER, "the recipe imports a tar, and none was given");
	if (digest_fd(b->import_fd, IMAGE_IMPORT_MAX, digest, &size, err) < 0)
		return vc_error_wrap(err, "imported tar");
	digest_hex(digest, hex);
	if (strcmp(hex, b->recipe->import_digest) != 0 || size != b->recipe->import_size)
		return vc_error_set(err, VC_EUSER, "the imported tar is not the one of the recipe: its digest is %.12s", hex);
	return lseek(b->import_fd, 0, SEEK_SET) < 0 ? vc_error_errno(err, "imported tar") : 0;
}

// Mounting what a user made would hand it to the kernel of this host: it only becomes a member's disk.
static int base_file_system(struct build *b, struct vc_error *err)
{
	const struct recipe *r = b->recipe;
	if ((r->packages && r->packages[0]) || r->n_files || (r->commands && r->commands[0]))
		return vc_error_set(err, VC_EUSER, "an imported file system is taken as it is: packages, files and commands need a tar");
	b->imported = true;
	return disk_import(&b->disk, b->import_fd, b->env.limits.tree_bytes, err);
}

static int base_import(struct build *b, struct vc_error *err)
{
	char *argv[] = {(char *)"tar",	     (char *)"--extract",	  (char *)"--file=-",	  (char *)"--directory=/build/tree",
			(char *)"--numeric-owner", (char *)"--same-permissions", (char *)"--same-owner",
			(char *)"--exclude=./dev/*", (char *)"--exclude=dev/*",	 (char *)compression_of(b->import_fd),
			NULL};
	struct inside_exec e = {.argv = argv};
	struct sandbox_spec spec = plain_run(b, inside_exec, &e);
	spec.view = SANDBOX_HOST;
	spec.input = b->import_fd;
	return run_in_sandbox(&b->env, "imported tar", &spec, err);
}

// A UUID that depends on the base alone: children keep it, and two builds differ in less.
static void image_uuid(const struct build *b, char ret[37])
{
	char id[DIGEST_HEX_LEN];
	if (stage_base_id(b->recipe, id, NULL) < 0)
		memset(id, '0', sizeof(id));
	snprintf(ret, 37, "%.8s-%.4s-4%.3s-8%.3s-%.12s", id, id + 8, id + 12, id + 15, id + 18);
}

static uint64_t with_room(uint64_t used)
{
	return (used + used / 4 + ROOM + ROOM_STEP - 1) / ROOM_STEP * ROOM_STEP;
}

static int too_small(uint64_t content, struct vc_error *err)
{
	return vc_error_set(err, VC_EUSER, "the content has %llu MiB: size in the recipe is too small",
			    (unsigned long long)(content >> 20));
}

// The only mkfs of an image and of all that grow from it.
static int base_to_disk(struct build *b, struct vc_error *err)
{
	char uuid[37];
	uint64_t bytes = 0, files = 0;
	if (run_tree_usage("tree", &bytes, &files, err) < 0)
		return -1;
	uint64_t size = b->recipe->size ? b->recipe->size / DISK_ROUND * DISK_ROUND : with_room(bytes);
	if (bytes >= size)
		return too_small(bytes, err);
	image_uuid(b, uuid);
	return disk_make(&b->disk, &b->env, size, files, uuid, err);
}

static int base_make(struct build *b, struct vc_error *err)
{
	struct sandbox_spec lists = plain_run(b, inside_take_lists, NULL);
	lists.apt = true;
	if (b->recipe->base == RECIPE_BASE_IMPORT && check_import(b, err) < 0)
		return -1;
	if (b->recipe->base == RECIPE_BASE_IMPORT)
		return recipe_is_file_system(b->import_fd, 0) ? base_file_system(b, err) : base_import(b, err);
	if (b->recipe->base == RECIPE_BASE_IMAGE)
		return vc_error_set(err, VC_EHOST, "the recipe is built upon an image, and none was given");
	report_text(&b->report, "Debian %s from %s", b->recipe->suite, b->mirror);
	if (base_debian(b, err) < 0)
		return -1;
	return run_in_sandbox(&b->env, "package lists", &lists, err);
}

static int base_run(struct build *b, struct vc_error *err)
{
	if (b->parent) {
		report_text(&b->report, "grown from a cached image that has its %s", stage_name(b->parent_stage));
		return disk_copy(&b->disk, b->parent, err);
	}
	if (base_make(b, err) < 0)
		return -1;
	return b->imported ? 0 : base_to_disk(b, err);
}

// Mounts the image, with at least so much room; a recipe's own size is the limit.
static int mount_with(struct build *b, uint64_t room, struct vc_error *err)
{
	uint64_t used = 0, free_bytes = 0, files = 0;
	if (disk_mount(&b->disk, err) < 0)
		return -1;
	b->env.limits.mounted = true;
	if (disk_usage(&b->disk, &used, &free_bytes, &files, err) < 0)
		return -1;
	uint64_t size = b->disk.size + (room > free_bytes ? room - free_bytes : 0);
	if (b->recipe->size || size > b->env.limits.tree_bytes)
		size = b->env.limits.tree_bytes;
	if (disk_grow(&b->disk, &b->env, size, err) < 0)
		return -1;
	b->env.limits.disk_bytes = b->disk.size;
	return 0;
}

// --- packages --------------------------------------------------------------------------------------------------------

static char *const apt_get[] = {
	(char *)"apt-get",
	(char *)"-q",
	(char *)"-o", (char *)OPTION_PROXY,
	(char *)"-o", (char *)OPTION_LISTS,
	(char *)"-o", (char *)OPTION_CACHE,
	(char *)"-o", (char *)"Dpkg::Options::=--force-unsafe-io",
	(char *)"-o", (char *)"Dpkg::Use-Pty=0",
	(char *)"-o", (char *)"Acquire::Retries=3",
	(char *)"-o", (char *)"APT::Install-Recommends=0",
};
#define APT_GET_ARGS VC_ARRAY_LEN(apt_get)

static int run_apt(struct build *b, const char *const *verb, char *const *packages, struct vc_error *err)
{
	size_t n = APT_GET_ARGS;
	vc_autofree char **argv = calloc(APT_GET_ARGS + 4 + VC_PACKAGES_MAX, sizeof(*argv));
	if (!argv)
		return vc_error_set(err, ENOMEM, "packages: out of memory");
	memcpy(argv, apt_get, sizeof(apt_get));
	for (size_t i = 0; verb[i]; i++)
		argv[n++] = (char *)verb[i];
	for (size_t i = 0; packages && packages[i]; i++)
		argv[n++] = packages[i];
	struct inside_exec e = {.argv = argv};
	struct sandbox_spec spec = plain_run(b, inside_exec, &e);
	spec.network = true;
	spec.apt = true;
	return run_in_sandbox(&b->env, "packages", &spec, err);
}

static bool have_lists(void)
{
	glob_t found = {0};
	bool any = glob("out/apt/lists/*Release", 0, NULL, &found) == 0;
	globfree(&found);
	return any;
}

// "1,234 MB", "87.0 kB", "512 B": rounded up, in units of 1024.
static uint64_t growth_bytes(const char *text)
{
	char digits[32] = "";
	uint64_t bytes = 0;
	size_t n = 0;
	const char *c = text;
	for (; *c && (isdigit((unsigned char)*c) || *c == ',') && n < 16; c++) {
		if (*c != ',')
			digits[n++] = *c;
	}
	c += strspn(c, ".0123456789 ");
	if (n == 0 || vc_parse_u64("growth", digits, 0, UINT32_MAX, &bytes, NULL) < 0)
		return 0;
	bytes++;
	return *c == 'k' ? bytes << 10 : *c == 'M' ? bytes << 20 : *c == 'G' ? bytes << 30 : bytes;
}

// What apt would do, and so how much room it needs. Its refusal to go on is what was asked for.
static int packages_room(struct build *b, uint64_t *ret, struct vc_error *err)
{
	static const char *const plan[] = {"install", "--assume-no", "--", NULL};
	struct vc_error why = VC_ERROR_INIT;
	*ret = ROOM_PACKAGES;
	if (run_apt(b, plan, b->recipe->packages, &why) < 0 && !b->report.growth[0] && !strstr(b->report.cause, "Abort"))
		return vc_error_set(err, why.code, "%s", why.text);
	*ret += growth_bytes(b->report.growth) / 4 * 5;
	return 0;
}

static int packages_run(struct build *b, struct vc_error *err)
{
	static const char *const update[] = {"update", NULL}, *const install[] = {"install", "-y", "--", NULL};
	uint64_t room = 0;
	if (!b->recipe->packages || !b->recipe->packages[0])
		return 0;
	struct sandbox_spec prepare = plain_run(b, inside_prepare_packages, NULL);
	if (mount_with(b, ROOM_PACKAGES, err) < 0 || run_in_sandbox(&b->env, "packages", &prepare, err) < 0)
		return -1;
	// A Debian base has fresh lists, and a cached parent those of its date; an import's are of any age.
	if (!have_lists() && run_apt(b, update, NULL, err) < 0)
		return -1;
	if (packages_room(b, &room, err) < 0 || mount_with(b, room, err) < 0)
		return -1;
	return run_apt(b, install, b->recipe->packages, err);
}

// --- files and commands ----------------------------------------------------------------------------------------------

static int files_run(struct build *b, struct vc_error *err)
{
	struct sandbox_spec spec = plain_run(b, inside_files, (void *)b->recipe);
	uint64_t room = ROOM_FILES;
	if (b->recipe->n_files == 0)
		return 0;
	for (size_t i = 0; i < b->recipe->n_files; i++)
		room += b->recipe->files[i].len;
	return mount_with(b, room, err) < 0 ? -1 : run_in_sandbox(&b->env, "files", &spec, err);
}

static int commands_run(struct build *b, struct vc_error *err)
{
	if (b->recipe->commands && b->recipe->commands[0] && mount_with(b, ROOM_COMMANDS, err) < 0)
		return -1;
	for (size_t i = 0; b->recipe->commands && b->recipe->commands[i]; i++) {
		char what[96];
		char *argv[] = {(char *)"/bin/sh", (char *)"-e", (char *)"-c", b->recipe->commands[i], NULL};
		struct inside_exec e = {.argv = argv};
		struct sandbox_spec spec = plain_run(b, inside_exec, &e);
		snprintf(what, sizeof(what), "command %zu (%.60s)", i + 1, b->recipe->commands[i]);
		report_text(&b->report, "%s", what);
		if (run_in_sandbox(&b->env, what, &spec, err) < 0)
			return -1;
	}
	return 0;
}

// --- finish ----------------------------------------------------------------------------------------------------------

static int add_lock_line(struct json_object *releases, struct json_object *packages, char *line)
{
	struct json_object *array = strncmp(line, "release ", 8) == 0 ? releases
				    : strncmp(line, "package ", 8) == 0 ? packages
									: NULL;
	if (!array)
		return 0;
	for (char *c = line; *c; c++) {
		if (*c < 0x20 || *c >= 0x7f)
			*c = '?'; // the image wrote this text
	}
	return json_object_array_add(array, json_object_new_string(line + 8));
}

static int parse_lock(struct build *b, char *text, struct vc_error *err)
{
	struct json_object *releases = json_object_new_array(), *packages = json_object_new_array();
	char *rest = text, *line;
	int rc = 0;
	b->lock = json_object_new_object();
	while ((line = strsep(&rest, "\n")))
		rc |= add_lock_line(releases, packages, line);
	rc |= vc_json_add(b->lock, "release", releases);
	rc |= vc_json_add(b->lock, "packages", packages);
	return rc < 0 ? vc_error_set(err, ENOMEM, "lock: out of memory") : 0;
}

static int read_lock(struct build *b, int fd, struct vc_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return vc_error_errno(err, "lock");
	if (st.st_size > RESULT_MAX)
		return vc_error_set(err, VC_EUSER, "the image's list of packages has more than %u bytes", RESULT_MAX);
	vc_autofree char *text = calloc(1, (size_t)st.st_size + 1);
	if (!text)
		return vc_error_set(err, ENOMEM, "lock: out of memory");
	if (pread(fd, text, (size_t)st.st_size, 0) < 0)
		return vc_error_errno(err, "lock");
	return parse_lock(b, text, err);
}

static int finish_run(struct build *b, struct vc_error *err)
{
	char nothing[] = "";
	if (b->imported)
		return parse_lock(b, nothing, err);
	vc_autoclose int result = memfd_create("lock", MFD_CLOEXEC);
	if (result < 0)
		return vc_error_errno(err, "lock");
	struct sandbox_spec lock = plain_run(b, inside_lock, NULL), finish = plain_run(b, inside_finish, NULL);
	lock.result = result;
	lock.apt = true;
	lock.file_max = RESULT_MAX + 1;
	if (mount_with(b, ROOM_FILES, err) < 0)
		return -1;
	if (run_in_sandbox(&b->env, "lock", &lock, err) < 0 || read_lock(b, result, err) < 0)
		return -1;
	if (run_in_sandbox(&b->env, "finish", &finish, err) < 0)
		return -1;
	return 0;
}

// --- image -----------------------------------------------------------------------------------------------------------

static int image_run(struct build *b, struct vc_error *err)
{
	uint64_t free_bytes = 0;
	if (b->imported)
		return disk_take(&b->disk, &b->raw_bytes, err);
	if (disk_usage(&b->disk, &b->tree_bytes, &free_bytes, &b->tree_files, err) < 0)
		return -1;
	uint64_t size = b->recipe->size ? b->recipe->size / DISK_ROUND * DISK_ROUND : with_room(b->tree_bytes);
	if (b->recipe->size && b->disk.size > size)
		return too_small(b->disk.size, err); // of a parent that was made for more
	if (disk_unmount(&b->disk, err) < 0 || disk_grow(&b->disk, &b->env, size, err) < 0)
		return -1;
	return disk_take(&b->disk, &b->raw_bytes, err);
}

static void image_undo(struct build *b)
{
	(void)b;
	(void)unlink("root.raw");
}

// --- the table -------------------------------------------------------------------------------------------------------

static void tree_undo(struct build *b)
{
	(void)build_remove(b, NULL); // vcd removes the work directory again, with vc-build --remove
}

static const struct build_stage {
	const char *name;
	int (*run)(struct build *b, struct vc_error *err);
	void (*undo)(struct build *b);
} stages[BUILD_STAGES] = {
	[STAGE_BASE] = {"base", base_run, tree_undo}, [STAGE_PACKAGES] = {"packages", packages_run, NULL},
	[STAGE_FILES] = {"files", files_run, NULL},   [STAGE_COMMANDS] = {"commands", commands_run, NULL},
	[STAGES] = {"finish", finish_run, NULL},      [STAGES + 1] = {"image", image_run, image_undo},
};

static int make_dir(const char *path, uid_t owner, struct vc_error *err)
{
	if (mkdir(path, 0755) < 0 || chmod(path, 0755) < 0 || chown(path, owner, owner) < 0)
		return vc_error_errno(err, "%s", path);
	return 0;
}

// Lists are shared by links: they belong to root, who alone could change them.
static int link_lists(const char *from, const char *to, struct vc_error *err)
{
	char a[PATH_MAX], z[PATH_MAX];
	DIR *dir = opendir(from);
	if (!dir)
		return vc_error_errno(err, "%s", from);
	int rc = 0;
	for (struct dirent *e; rc == 0 && (e = readdir(dir));) {
		struct stat st;
		snprintf(a, sizeof(a), "%s/%s", from, e->d_name);
		snprintf(z, sizeof(z), "%s/%s", to, e->d_name);
		if (lstat(a, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		if (lchown(a, geteuid(), getegid()) < 0 || chmod(a, 0644) < 0 || link(a, z) < 0)
			rc = vc_error_errno(err, "%s", z);
	}
	closedir(dir);
	return rc;
}

int build_prepare(struct build *b, struct vc_error *err)
{
	b->env.report = &b->report;
	// Reachable for the sandbox's ids; who may come here at all is decided by the directory above.
	if (chmod(".", 0711) < 0)
		return vc_error_errno(err, "work directory");
	static const char *const dirs[] = {"tree", "out", "out/apt", "out/apt/lists", "out/apt/lists/partial", "out/apt/cache",
					   "out/apt/cache/archives", "out/apt/cache/archives/partial"};
	if (make_dir("sandbox", 0, err) < 0)
		return vc_error_wrap(err, "the work directory must be empty");
	for (size_t i = 0; i < VC_ARRAY_LEN(dirs); i++) {
		if (make_dir(dirs[i], IMAGE_UID_BASE, err) < 0)
			return vc_error_wrap(err, "the work directory must be empty");
	}
	return b->parent_lists ? link_lists(b->parent_lists, "out/apt/lists", err) : 0;
}

static struct json_object *seconds_json(double seconds)
{
	char text[32];
	snprintf(text, sizeof(text), "%.3f", seconds);
	return json_object_new_double_s(seconds, text);
}

static int add_kept(const struct build *b, struct json_object *obj)
{
	struct json_object *kept = json_object_new_object();
	int rc = 0;
	for (size_t i = 0; i < STAGES; i++)
		rc |= b->kept[i] ? vc_json_add_u64(kept, stages[i].name, b->kept[i]) : 0;
	return rc | vc_json_add(obj, "kept", kept);
}

static struct json_object *describe(const struct build *b)
{
	struct json_object *obj = json_object_new_object(), *seconds = json_object_new_object();
	int rc = vc_json_add_int(obj, "builder", IMAGE_BUILDER_VERSION);
	for (size_t i = 0; i < BUILD_STAGES; i++)
		rc |= vc_json_add(seconds, stages[i].name, seconds_json(b->seconds[i]));
	rc |= vc_json_add(obj, "seconds", seconds);
	rc |= vc_json_add_u64(obj, "content_bytes", b->tree_bytes);
	rc |= vc_json_add_u64(obj, "files", b->tree_files);
	rc |= vc_json_add_u64(obj, "raw_bytes", b->raw_bytes);
	rc |= b->imported ? vc_json_add_bool(obj, "imported", true) : 0;
	rc |= add_kept(b, obj);
	rc |= vc_json_add(obj, "lock", json_object_get(b->lock));
	if (rc == 0)
		return obj;
	json_object_put(obj);
	return NULL;
}

static int write_description(const struct build *b, struct vc_error *err)
{
	vc_autojson struct json_object *obj = describe(b);
	if (!obj)
		return vc_error_set(err, ENOMEM, "build.json: out of memory");
	return json_object_to_file_ext("build.json", obj, JSON_C_TO_STRING_PLAIN) < 0 ? vc_error_errno(err, "build.json") : 0;
}

static bool does_something(const struct recipe *r, size_t stage)
{
	switch (stage) {
	case STAGE_BASE: return r->base == RECIPE_BASE_DEBIAN;
	case STAGE_PACKAGES: return r->packages && r->packages[0];
	case STAGE_FILES: return r->n_files > 0;
	case STAGE_COMMANDS: return r->commands && r->commands[0];
	default: return false;
	}
}

// A stage that took long enough is copied for the cache: kept.STAGE/{root.raw,lists}.
static int keep(struct build *b, size_t stage, struct vc_error *err)
{
	char dir[32], path[64];
	if (stage >= STAGES || b->seconds[stage] < b->keep_seconds || !does_something(b->recipe, stage) ||
	    (stage == STAGE_BASE && b->parent))
		return 0;
	snprintf(dir, sizeof(dir), "kept.%s", stages[stage].name);
	snprintf(path, sizeof(path), "%s/lists", dir);
	if (mkdir(dir, 0700) < 0 || mkdir(path, 0700) < 0)
		return vc_error_errno(err, "%s", path);
	if (link_lists("out/apt/lists", path, err) < 0 || disk_unmount(&b->disk, err) < 0)
		return -1;
	b->env.limits.mounted = false;
	snprintf(path, sizeof(path), "%s/root.raw", dir);
	b->kept[stage] = b->disk.size;
	return disk_snapshot(&b->disk, path, err);
}

static bool is_in_parent(const struct build *b, size_t stage)
{
	// Packages of a parent may be some of them only; apt finds nothing to do when they are all.
	return b->parent && stage != STAGE_BASE && stage <= (size_t)b->parent_stage && (stage != STAGE_PACKAGES || b->parent_complete);
}

static int walk(struct build *b, size_t *done, struct vc_error *err)
{
	for (*done = 0; *done < BUILD_STAGES; ++*done) {
		uint64_t start = run_now_ms();
		if (is_in_parent(b, *done))
			continue;
		report_stage(&b->report, stages[*done].name);
		if (stages[*done].run(b, err) < 0)
			return -1;
		b->seconds[*done] = (double)(run_now_ms() - start) / 1000;
		report_stage_end(&b->report, b->seconds[*done]);
		if (keep(b, *done, err) < 0)
			return vc_error_wrap(err, "cache");
	}
	return write_description(b, err);
}

int build_run(struct build *b, struct vc_error *err)
{
	size_t done = 0;
	if (walk(b, &done, err) == 0)
		return 0;
	for (size_t i = done < BUILD_STAGES ? done + 1 : BUILD_STAGES; i-- > 0;) {
		if (stages[i].undo)
			stages[i].undo(b);
	}
	return -1;
}

void build_clear(struct build *b)
{
	json_object_put(b->lock);
	b->lock = NULL;
}

// Ours alone, and flat: kept.STAGE/{root.raw,lists/*}.
static void remove_kept(void)
{
	static const char *const patterns[] = {"kept.*/lists/*", "kept.*/root.raw", "kept.*/lists", "kept.*"};
	for (size_t i = 0; i < VC_ARRAY_LEN(patterns); i++) {
		glob_t found = {0};
		if (glob(patterns[i], 0, NULL, &found) == 0) {
			for (size_t k = 0; k < found.gl_pathc; k++)
				(void)remove(found.gl_pathv[k]);
		}
		globfree(&found);
	}
}

// Inside the sandbox: what a hostile recipe left (deep paths, odd names) is removed with no more rights than it had.
int build_remove(struct build *b, struct vc_error *err)
{
	static const char *const dirs[] = {"tree", "out", "sandbox"}, *const files[] = {"root.raw", "build.json"};
	char *argv[] = {(char *)"find", (char *)"/build/tree", (char *)"/build/out", (char *)"-mindepth", (char *)"1",
			(char *)"-delete", NULL};
	struct inside_exec e = {.argv = argv};
	struct sandbox_spec spec = plain_run(b, inside_exec, &e);
	struct run_limits limits = b->env.limits;
	int rc = 0;
	disk_drop(&b->disk);
	remove_kept();
	spec.view = SANDBOX_HOST;
	b->env.limits = (struct run_limits){.deadline_ms = run_now_ms() + REMOVE_MS, .tree_bytes = UINT64_MAX};
	if (access("tree", F_OK) == 0 && access("out", F_OK) == 0)
		rc = run_in_sandbox(&b->env, "cleaning up", &spec, err);
	b->env.limits = limits;
	for (size_t i = 0; i < VC_ARRAY_LEN(files); i++)
		(void)unlink(files[i]); // usually not there: published, or never made
	for (size_t i = 0; i < VC_ARRAY_LEN(dirs); i++) {
		if (rmdir(dirs[i]) < 0 && errno != ENOENT && rc == 0)
			rc = vc_error_errno(err, "%s", dirs[i]);
	}
	return rc;
}
