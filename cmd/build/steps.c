// SPDX-License-Identifier: GPL-2.0-or-later
// The stages of a build: see steps.h.
#include "cmd/build/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "cmd/build/inside.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/limits.h"

#define KEYRING "/usr/share/keyrings/debian-archive-keyring.gpg"
#define BLOCK 4096u		     // bytes of an ext4 block; mke2fs would take 1024 below 512 MiB
#define SIZE_ROUND (1ull << 20)	     // sizes are multiples of this, and so of a chunk
#define ROOM (256ull << 20)	     // free bytes beside the content when the recipe names no size; holes cost nothing
#define BYTES_PER_INODE 16384u	     // mke2fs's own default
#define REMOVE_MS (120 * 1000)	     // time for emptying the work directory; 300 MB took 4 s on a busy disk
#define RESULT_MAX IMAGE_META_MAX    // bytes of the lock's text

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

static int base_import(struct build *b, struct vc_error *err)
{
	if (check_import(b, err) < 0)
		return -1;
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

static int base_run(struct build *b, struct vc_error *err)
{
	if (b->recipe->base == RECIPE_BASE_IMPORT)
		return base_import(b, err);
	report_text(&b->report, "Debian %s from %s", b->recipe->suite, b->mirror);
	return base_debian(b, err);
}

// --- packages --------------------------------------------------------------------------------------------------------

static char *const apt_get[] = {
	(char *)"apt-get",
	(char *)"-y",
	(char *)"-q",
	(char *)"-o", (char *)OPTION_PROXY,
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
	return run_in_sandbox(&b->env, "packages", &spec, err);
}

static int packages_run(struct build *b, struct vc_error *err)
{
	static const char *const update[] = {"update", NULL}, *const install[] = {"install", "--", NULL};
	if (!b->recipe->packages || !b->recipe->packages[0])
		return 0;
	struct sandbox_spec prepare = plain_run(b, inside_prepare_packages, NULL);
	if (run_in_sandbox(&b->env, "packages", &prepare, err) < 0)
		return -1;
	// A Debian base has fresh lists; those of an import are of any age.
	if (b->recipe->base == RECIPE_BASE_IMPORT && run_apt(b, update, NULL, err) < 0)
		return -1;
	return run_apt(b, install, b->recipe->packages, err);
}

// --- files and commands ----------------------------------------------------------------------------------------------

static int files_run(struct build *b, struct vc_error *err)
{
	struct sandbox_spec spec = plain_run(b, inside_files, (void *)b->recipe);
	return b->recipe->n_files ? run_in_sandbox(&b->env, "files", &spec, err) : 0;
}

static int commands_run(struct build *b, struct vc_error *err)
{
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
	vc_autoclose int result = memfd_create("lock", MFD_CLOEXEC);
	if (result < 0)
		return vc_error_errno(err, "lock");
	struct sandbox_spec lock = plain_run(b, inside_lock, NULL), finish = plain_run(b, inside_finish, NULL);
	lock.result = result;
	lock.file_max = RESULT_MAX + 1;
	if (run_in_sandbox(&b->env, "lock", &lock, err) < 0 || read_lock(b, result, err) < 0)
		return -1;
	if (run_in_sandbox(&b->env, "finish", &finish, err) < 0)
		return -1;
	return run_tree_usage("tree", &b->tree_bytes, &b->tree_files, err);
}

// --- image -----------------------------------------------------------------------------------------------------------

static uint64_t image_size(const struct build *b)
{
	uint64_t size = b->recipe->size ? b->recipe->size : b->tree_bytes + b->tree_bytes / 4 + ROOM;
	return (size + SIZE_ROUND - 1) / SIZE_ROUND * SIZE_ROUND;
}

// A UUID that depends on the recipe alone, so that two builds differ in less.
static void image_uuid(const struct build *b, char ret[37])
{
	char key[DIGEST_HEX_LEN];
	if (recipe_key(b->recipe, NULL, key, NULL) < 0)
		memset(key, '0', sizeof(key));
	snprintf(ret, 37, "%.8s-%.4s-4%.3s-8%.3s-%.12s", key, key + 8, key + 12, key + 15, key + 18);
}

static int make_ext4(struct build *b, uint64_t size, struct vc_error *err)
{
	char blocks[24], inodes[24], uuid[37], extended[160];
	uint64_t n_inodes = size / BYTES_PER_INODE;
	if (n_inodes < b->tree_files + b->tree_files / 4 + 1024)
		n_inodes = b->tree_files + b->tree_files / 4 + 1024;
	snprintf(blocks, sizeof(blocks), "%llu", (unsigned long long)(size / BLOCK));
	snprintf(inodes, sizeof(inodes), "%llu", (unsigned long long)n_inodes);
	image_uuid(b, uuid);
	snprintf(extended, sizeof(extended), "root_owner=0:0,hash_seed=%s,lazy_itable_init=1,lazy_journal_init=1,nodiscard", uuid);
	char *argv[] = {(char *)"mke2fs", (char *)"-q", (char *)"-F", (char *)"-t", (char *)"ext4", (char *)"-b",
			(char *)"4096",	  (char *)"-m", (char *)"0",  (char *)"-N", inodes,	    (char *)"-U",
			uuid,		  (char *)"-E", extended,     (char *)"-d", (char *)"/build/tree",
			(char *)"/build/out/root.raw", blocks, NULL};
	struct inside_exec e = {.argv = argv};
	struct sandbox_spec spec = plain_run(b, inside_exec, &e);
	spec.view = SANDBOX_HOST;
	spec.tree_read_only = true;
	spec.file_max = size;
	return run_in_sandbox(&b->env, "image", &spec, err);
}

static int take_raw(struct build *b, uint64_t size, struct vc_error *err)
{
	struct stat st;
	vc_autoclose int fd = open("out/root.raw", O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "root.raw");
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || (uint64_t)st.st_size > size)
		return vc_error_set(err, VC_EHOST, "root.raw is not what mke2fs makes");
	if (fchown(fd, geteuid(), getegid()) < 0 || fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0)
		return vc_error_errno(err, "root.raw");
	b->raw_bytes = (uint64_t)st.st_blocks * 512;
	return rename("out/root.raw", "root.raw") < 0 ? vc_error_errno(err, "root.raw") : 0;
}

static int image_run(struct build *b, struct vc_error *err)
{
	uint64_t size = image_size(b);
	if (size > IMAGE_SIZE_MAX)
		return vc_error_set(err, VC_EUSER, "the image needs more than %llu GiB", IMAGE_SIZE_MAX >> 30);
	if (b->tree_bytes >= size)
		return vc_error_set(err, VC_EUSER, "the content has %llu MiB: size in the recipe is too small",
				    (unsigned long long)(b->tree_bytes >> 20));
	if (make_ext4(b, size, err) < 0)
		return -1;
	return take_raw(b, size, err);
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
	{"base", base_run, tree_undo}, {"packages", packages_run, NULL}, {"files", files_run, NULL},
	{"commands", commands_run, NULL}, {"finish", finish_run, NULL},	 {"image", image_run, image_undo},
};

static int make_dir(const char *path, uid_t owner, struct vc_error *err)
{
	if (mkdir(path, 0755) < 0 || chmod(path, 0755) < 0 || chown(path, owner, owner) < 0)
		return vc_error_errno(err, "%s", path);
	return 0;
}

int build_prepare(struct build *b, struct vc_error *err)
{
	b->env.report = &b->report;
	// Reachable for the sandbox's ids; who may come here at all is decided by the directory above.
	if (chmod(".", 0711) < 0)
		return vc_error_errno(err, "work directory");
	if (make_dir("sandbox", 0, err) < 0 || make_dir("tree", IMAGE_UID_BASE, err) < 0 ||
	    make_dir("out", IMAGE_UID_BASE, err) < 0)
		return vc_error_wrap(err, "the work directory must be empty");
	return 0;
}

static struct json_object *seconds_json(double seconds)
{
	char text[32];
	snprintf(text, sizeof(text), "%.3f", seconds);
	return json_object_new_double_s(seconds, text);
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

static int walk(struct build *b, size_t *done, struct vc_error *err)
{
	for (*done = 0; *done < BUILD_STAGES; ++*done) {
		uint64_t start = run_now_ms();
		report_stage(&b->report, stages[*done].name);
		if (stages[*done].run(b, err) < 0)
			return -1;
		b->seconds[*done] = (double)(run_now_ms() - start) / 1000;
		report_stage_end(&b->report, b->seconds[*done]);
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
