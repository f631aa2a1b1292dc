// SPDX-License-Identifier: GPL-2.0-or-later
// The store on disk: see store_file.h.
#include "vcd/image/store_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"
#include "vcd/image/chunks.h"
#include "vcd/image/recipe.h"

#define TREE_DEPTH_MAX 8 // of what the store itself makes: incoming/X/file

static void cleanup_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}
#define autodir __attribute__((cleanup(cleanup_dir)))

static DIR *open_subdir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

// --- small files -------------------------------------------------------------------------------------------------

static int read_text(int at, const char *path, size_t max, char **ret, struct vc_error *err)
{
	struct stat st;
	vc_autoclose int fd = openat(at, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "%s", path);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size > max)
		return vc_error_set(err, VC_EFAILED, "%s: not a regular file of at most %zu bytes", path, max);
	size_t size = (size_t)st.st_size;
	vc_autofree char *text = malloc(size + 1);
	if (!text)
		return vc_error_set(err, ENOMEM, "%s: out of memory", path);
	if (read(fd, text, size) != (ssize_t)size)
		return vc_error_set(err, VC_EFAILED, "%s: cannot be read", path);
	text[size] = '\0';
	*ret = vc_steal(&text);
	return 0;
}

static int write_text(int at, const char *path, const char *text, struct vc_error *err)
{
	vc_autoclose int fd = openat(at, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	size_t len = strlen(text);
	if (fd < 0)
		return vc_error_errno(err, "%s", path);
	ssize_t n = write(fd, text, len);
	if (n >= 0 && n != (ssize_t)len)
		errno = ENOSPC;
	if (n != (ssize_t)len || fsync(fd) < 0)
		return vc_error_errno(err, "%s", path);
	return 0;
}

static int read_json(int at, const char *path, struct json_object **ret, struct vc_error *err)
{
	vc_autofree char *text = NULL;
	if (read_text(at, path, IMAGE_META_MAX, &text, err) < 0)
		return -1;
	*ret = vc_json_parse(text, strlen(text), err);
	return *ret ? 0 : vc_error_wrap(err, "%s", path);
}

static int write_json(int at, const char *path, struct json_object *obj, struct vc_error *err)
{
	const char *text = vc_json_text(obj, NULL);
	return text ? write_text(at, path, text, err) : vc_error_set(err, ENOMEM, "%s: out of memory", path);
}

static int sync_dir(int at, const char *path, struct vc_error *err)
{
	vc_autoclose int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 || fsync(fd) < 0 ? vc_error_errno(err, "%s", path) : 0;
}

// --- deletion ----------------------------------------------------------------------------------------------------

static int delete_tree(int at, const char *name, int depth)
{
	if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
		return 0;
	if ((errno != EISDIR && errno != EPERM) || depth == 0)
		return -1;
	autodir DIR *dir = open_subdir(at, name);
	struct dirent *entry;
	while (dir && (entry = readdir(dir))) {
		if (!is_dot(entry->d_name) && delete_tree(dirfd(dir), entry->d_name, depth - 1) < 0)
			return -1;
	}
	return unlinkat(at, name, AT_REMOVEDIR);
}

void store_file_discard(int at, const char *staged)
{
	int saved = errno;
	(void)delete_tree(at, staged, TREE_DEPTH_MAX); // what stays is dropped at the next open
	errno = saved;
}

static int incoming_name(char **ret, struct vc_error *err)
{
	uint64_t random = 0;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return vc_error_errno(err, "random numbers");
	if (asprintf(ret, "incoming/%016llx", (unsigned long long)random) < 0)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	return 0;
}

int store_file_trash(int at, const char *digest, struct vc_error *err)
{
	vc_autofree char *trash = NULL;
	if (incoming_name(&trash, err) < 0)
		return -1;
	if (renameat(at, digest, at, trash) < 0)
		return vc_error_errno(err, "image %.12s: cannot be removed", digest);
	store_file_discard(at, trash);
	return 0;
}

int store_file_drop_leftovers(int at, unsigned *ret_n, struct vc_error *err)
{
	autodir DIR *dir = open_subdir(at, "incoming");
	struct dirent *entry;
	if (!dir)
		return vc_error_errno(err, "incoming");
	while ((entry = readdir(dir))) {
		if (is_dot(entry->d_name))
			continue;
		if (delete_tree(dirfd(dir), entry->d_name, TREE_DEPTH_MAX) < 0)
			return vc_error_errno(err, "incoming/%s: cannot be removed", entry->d_name);
		++*ret_n;
	}
	return 0;
}

// --- images ------------------------------------------------------------------------------------------------------

static int open_raw(int at, const char *digest, int mode, struct vc_error *err)
{
	char path[DIGEST_HEX_LEN + 16];
	snprintf(path, sizeof(path), "%s/root.raw", digest);
	int fd = openat(at, path, mode | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? vc_error_errno(err, "%s", path) : fd;
}

int store_file_open_raw(int at, const char *digest, struct vc_error *err)
{
	return open_raw(at, digest, O_RDONLY, err);
}

int store_file_open_raw_for_repair(int at, const char *digest, struct vc_error *err)
{
	return open_raw(at, digest, O_RDWR, err);
}

int store_file_read_meta(int at, const char *digest, char **ret, struct vc_error *err)
{
	char path[DIGEST_HEX_LEN + 16];
	snprintf(path, sizeof(path), "%s/image.json", digest);
	return read_text(at, path, IMAGE_META_MAX, ret, err);
}

static int parse_image(struct json_object *obj, const char *digest, struct store_image *ret, struct vc_error *err)
{
	const char *stated = NULL;
	uint64_t created = 0;
	*ret = (struct store_image){.size = 0};
	if (vc_json_str(obj, "digest", DIGEST_HEX_LEN - 1, &stated, err) < 0 ||
	    vc_json_u64(obj, "size", IMAGE_SIZE_MAX, &ret->size, err) < 0 ||
	    vc_json_u64(obj, "data_bytes", IMAGE_SIZE_MAX, &ret->data_bytes, err) < 0 ||
	    vc_json_u64(obj, "created", INT64_MAX, &created, err) < 0 ||
	    vc_json_bool_opt(obj, "received", &ret->received, err) < 0)
		return -1;
	if (strcmp(stated, digest) != 0)
		return vc_error_set(err, VC_EFAILED, "image.json is of another image");
	ret->created = (int64_t)created;
	memcpy(ret->digest, digest, sizeof(ret->digest));
	return 0;
}

// Lengths and the list's own digest; the raw file's content is read only by store_verify().
static int check_image(int imagefd, const struct store_image *image, struct vc_error *err)
{
	struct stat st;
	char digest[DIGEST_HEX_LEN];
	chunks_auto struct chunks *chunks = NULL;
	if (fstatat(imagefd, "root.raw", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return vc_error_errno(err, "root.raw");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != image->size)
		return vc_error_set(err, VC_EFAILED, "root.raw has the wrong length");
	if (chunks_read(imagefd, "chunks", &chunks, err) < 0)
		return -1;
	if (chunks_image_digest(chunks, digest, err) < 0)
		return -1;
	if (chunks_size(chunks) != image->size || strcmp(digest, image->digest) != 0)
		return vc_error_set(err, VC_EFAILED, "chunks does not give the image's digest");
	return 0;
}

int store_file_load_image(int at, const char *digest, struct store_image *ret, struct vc_error *err)
{
	vc_autojson struct json_object *obj = NULL;
	vc_autoclose int fd = openat(at, digest, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return vc_error_errno(err, "%s", digest);
	if (read_json(fd, "image.json", &obj, err) < 0 || parse_image(obj, digest, ret, err) < 0)
		return -1;
	return check_image(fd, ret, err);
}

int store_file_each_image(int at, store_image_fn *fn, void *arg, struct vc_error *err)
{
	autodir DIR *dir = open_subdir(at, ".");
	struct dirent *entry;
	if (!dir)
		return vc_error_errno(err, "image store");
	while ((entry = readdir(dir))) {
		if (digest_hex_valid(entry->d_name) && fn(arg, at, entry->d_name, err) < 0)
			return -1;
	}
	return 0;
}

// --- names -------------------------------------------------------------------------------------------------------

static void record_path(const struct store_record *record, char *ret, size_t len)
{
	snprintf(ret, len, "names/%lu/%s.json", (unsigned long)record->owner, record->name);
}

static int parse_record(struct json_object *obj, struct store_record *ret, struct vc_error *err)
{
	const char *digest = NULL, *key = "";
	uint64_t created = 0;
	if (vc_json_str(obj, "digest", DIGEST_HEX_LEN - 1, &digest, err) < 0 ||
	    vc_json_str_opt(obj, "key", DIGEST_HEX_LEN - 1, &key, err) < 0 ||
	    vc_json_bool_opt(obj, "public", &ret->is_public, err) < 0 ||
	    vc_json_u64(obj, "created", INT64_MAX, &created, err) < 0)
		return -1;
	ret->created = (int64_t)created;
	memcpy(ret->key, key, strlen(key) + 1);
	memcpy(ret->digest, digest, strlen(digest) + 1);
	return 0;
}

// Without memory or descriptors it is an error, everything else is a damaged record.
static int load_record(int userfd, const char *file, struct store_record *ret, struct vc_error *err)
{
	vc_autojson struct json_object *obj = NULL;
	struct vc_error why = VC_ERROR_INIT;
	if (read_json(userfd, file, &obj, &why) == 0 && parse_record(obj, ret, &why) == 0)
		return 0;
	if (why.code == ENOMEM || why.code == EMFILE || why.code == ENFILE)
		return vc_error_set(err, why.code, "%s", why.text);
	ret->digest[0] = '\0';
	return 0;
}

static int each_of_user(int at, DIR *user_dir, uid_t owner, store_record_fn *fn, void *arg, struct vc_error *err)
{
	struct dirent *entry;
	while ((entry = readdir(user_dir))) {
		struct store_record record = {.owner = owner};
		size_t len = strlen(entry->d_name);
		if (len <= 5 || len - 5 > IMAGE_NAME_MAX || strcmp(entry->d_name + len - 5, ".json") != 0)
			continue;
		memcpy(record.name, entry->d_name, len - 5);
		if (recipe_check_name(record.name, NULL) < 0)
			continue;
		if (load_record(dirfd(user_dir), entry->d_name, &record, err) < 0 || fn(arg, at, &record, err) < 0)
			return -1;
	}
	return 0;
}

int store_file_each_record(int at, store_record_fn *fn, void *arg, struct vc_error *err)
{
	autodir DIR *names = open_subdir(at, "names");
	struct dirent *entry;
	if (!names)
		return vc_error_errno(err, "names");
	while ((entry = readdir(names))) {
		uint64_t uid = 0;
		if (vc_parse_u64("uid", entry->d_name, 0, UINT32_MAX - 1, &uid, NULL) < 0)
			continue;
		autodir DIR *user_dir = open_subdir(dirfd(names), entry->d_name);
		if (!user_dir)
			return vc_error_errno(err, "names/%s", entry->d_name);
		if (each_of_user(at, user_dir, (uid_t)uid, fn, arg, err) < 0)
			return -1;
	}
	return 0;
}

int store_file_write_record(int at, const struct store_record *record, struct vc_error *err)
{
	char path[NAME_MAX], temp[NAME_MAX + 8], user[64];
	vc_autojson struct json_object *obj = json_object_new_object();
	int rc = vc_json_add_str(obj, "digest", record->digest);
	rc |= vc_json_add_str(obj, "key", record->key[0] ? record->key : NULL);
	rc |= vc_json_add_bool(obj, "public", record->is_public);
	rc |= vc_json_add_u64(obj, "created", (uint64_t)record->created);
	if (rc < 0)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	snprintf(user, sizeof(user), "names/%lu", (unsigned long)record->owner);
	record_path(record, path, sizeof(path));
	snprintf(temp, sizeof(temp), "%s.new", path);
	if (mkdirat(at, user, 0700) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", user);
	if (write_json(at, temp, obj, err) < 0)
		return -1;
	return renameat(at, temp, at, path) < 0 ? vc_error_errno(err, "%s", path) : 0;
}

int store_file_sync_record(int at, const struct store_record *record, struct vc_error *err)
{
	char user[64];
	snprintf(user, sizeof(user), "names/%lu", (unsigned long)record->owner);
	return sync_dir(at, user, err);
}

int store_file_remove_record(int at, const struct store_record *record, struct vc_error *err)
{
	char path[NAME_MAX];
	record_path(record, path, sizeof(path));
	if (unlinkat(at, path, 0) < 0 && errno != ENOENT)
		return vc_error_errno(err, "%s", path);
	return 0;
}

// --- publication -------------------------------------------------------------------------------------------------

int store_file_mkdir(int at, char **ret, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	if (incoming_name(&path, err) < 0)
		return -1;
	if (mkdirat(at, path, 0700) < 0)
		return vc_error_errno(err, "%s", path);
	*ret = vc_steal(&path);
	return 0;
}

static struct json_object *image_json(const struct store_image *image, struct json_object *build)
{
	struct json_object *obj = json_object_new_object();
	int rc = vc_json_add_str(obj, "digest", image->digest);
	rc |= vc_json_add_u64(obj, "size", image->size);
	rc |= vc_json_add_u64(obj, "data_bytes", image->data_bytes);
	rc |= vc_json_add_u64(obj, "chunk", IMAGE_CHUNK);
	rc |= vc_json_add_u64(obj, "created", (uint64_t)image->created);
	rc |= vc_json_add_bool(obj, "received", image->received);
	if (build)
		rc |= vc_json_add(obj, "build", json_object_get(build));
	if (rc == 0)
		return obj;
	json_object_put(obj);
	return NULL;
}

int store_file_describe_list(int at, const char *staged, const struct chunks *list, struct json_object *build, bool received,
			     struct store_image *ret, struct vc_error *err)
{
	vc_autoclose int dir = openat(at, staged, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return vc_error_errno(err, "%s", staged);
	*ret = (struct store_image){.size = chunks_size(list), .received = received, .created = time(NULL)};
	ret->data_bytes = chunks_data_bytes(list);
	if (chunks_image_digest(list, ret->digest, err) < 0)
		return -1;
	vc_autojson struct json_object *obj = image_json(ret, build);
	if (!obj)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	if (chunks_write(list, dir, "chunks", err) < 0 || write_json(dir, "image.json", obj, err) < 0)
		return -1;
	return fsync(dir) < 0 ? vc_error_errno(err, "%s", staged) : 0;
}

int store_file_describe(int at, const char *staged, struct json_object *build, bool received,
			struct store_image *ret, struct vc_error *err)
{
	chunks_auto struct chunks *chunks = NULL;
	vc_autofree char *path = NULL;
	if (asprintf(&path, "%s/root.raw", staged) < 0)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	vc_autoclose int raw = openat(at, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (raw < 0 || fsync(raw) < 0)
		return vc_error_errno(err, "root.raw");
	if (chunks_scan(raw, &chunks, err) < 0)
		return vc_error_wrap(err, "root.raw");
	return store_file_describe_list(at, staged, chunks, build, received, ret, err);
}

static int read_build(int buildfd, struct json_object **ret, struct vc_error *err)
{
	if (faccessat(buildfd, "build.json", F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	return read_json(buildfd, "build.json", ret, err);
}

// The raw file belongs to root from here on, whatever the build's sandbox made of it.
static int take_raw(int buildfd, int at, const char *staged, struct vc_error *err)
{
	struct stat st;
	vc_autofree char *path = NULL;
	vc_autoclose int fd = openat(buildfd, "root.raw", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "root.raw");
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return vc_error_set(err, VC_EFAILED, "root.raw is not a regular file of its own");
	if (fchown(fd, geteuid(), getegid()) < 0 || fchmod(fd, 0444) < 0)
		return vc_error_errno(err, "root.raw");
	if (asprintf(&path, "%s/root.raw", staged) < 0)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	if (renameat(buildfd, "root.raw", at, path) == 0)
		return 0;
	if (errno == EXDEV)
		return vc_error_set(err, VC_EHOST, "the build directory must be on the image store's file system");
	return vc_error_errno(err, "root.raw");
}

int store_file_stage(int at, const char *build_dir, bool received, char **ret_staged, struct store_image *ret,
		     struct vc_error *err)
{
	vc_autojson struct json_object *build = NULL;
	vc_autofree char *staged = NULL;
	vc_autoclose int dir = open(build_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return vc_error_errno(err, "%s", build_dir);
	if (read_build(dir, &build, err) < 0 || store_file_mkdir(at, &staged, err) < 0)
		return -1;
	if (take_raw(dir, at, staged, err) < 0 || store_file_describe(at, staged, build, received, ret, err) < 0) {
		store_file_discard(at, staged);
		return -1;
	}
	(void)unlinkat(dir, "build.json", 0); // its content is in image.json now
	*ret_staged = vc_steal(&staged);
	return 0;
}

int store_file_commit(int at, const char *staged, const char *digest, struct vc_error *err)
{
	if (renameat(at, staged, at, digest) < 0)
		return vc_error_errno(err, "%s", digest);
	if (fsync(at) == 0)
		return 0;
	vc_error_errno(err, "%s", digest);
	(void)renameat(at, digest, at, staged); // what stays is a whole image without a name
	return -1;
}
