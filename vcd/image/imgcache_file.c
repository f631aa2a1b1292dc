// SPDX-License-Identifier: GPL-2.0-or-later
// The image cache's files: see imgcache_file.h.
#include "vcd/image/imgcache_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/limits.h"

#define ENTRY "entry.json"
#define ENTRY_MAX (256u << 10) // bytes: 512 package names
#define GONE ".gone"	       // behind the name of an entry on its way out

void imgcache_entry_clear(struct imgcache_entry *e)
{
	vc_strv_free(e->info.packages);
	e->info.packages = NULL;
}

// --- JSON ------------------------------------------------------------------------------------------------------

static struct json_object *to_json(const struct imgcache_entry *e)
{
	char seconds[32], uses[32];
	snprintf(seconds, sizeof(seconds), "%.3f", e->info.seconds);
	snprintf(uses, sizeof(uses), "%.3f", e->uses);
	struct json_object *obj = json_object_new_object();
	int rc = vc_json_add_str(obj, "kind", e->is_image ? "image" : stage_name(e->info.stage));
	rc |= e->is_image ? vc_json_add_str(obj, "digest", e->digest) : 0;
	rc |= e->is_image ? vc_json_add_str(obj, "key", e->image_key) : 0;
	rc |= vc_json_add_str(obj, "base", e->info.base);
	rc |= vc_json_add_str(obj, "release", e->info.release);
	rc |= vc_json_add_strv(obj, "packages", e->info.packages);
	rc |= vc_json_add(obj, "seconds", json_object_new_double_s(e->info.seconds, seconds));
	rc |= vc_json_add(obj, "uses", json_object_new_double_s(e->uses, uses));
	rc |= vc_json_add_u64(obj, "size", e->info.size);
	rc |= vc_json_add_u64(obj, "bytes", e->bytes);
	rc |= vc_json_add_int(obj, "created", e->info.created);
	rc |= vc_json_add_int(obj, "used", e->used);
	rc |= e->charged ? vc_json_add_u64(obj, "uid", e->uid) : 0;
	if (rc == 0)
		return obj;
	json_object_put(obj);
	return NULL;
}

static int get_hex(struct json_object *obj, const char *key, bool may_be_empty, char ret[DIGEST_HEX_LEN], struct vc_error *err)
{
	const char *text = NULL;
	if (vc_json_str(obj, key, DIGEST_HEX_LEN - 1, &text, err) < 0)
		return -1;
	if (!digest_hex_valid(text) && !(may_be_empty && !text[0]))
		return vc_error_set(err, VC_EFAILED, "'%s' is no digest", key);
	memcpy(ret, text, strlen(text) + 1);
	return 0;
}

static int get_double(struct json_object *obj, const char *key, double *ret, struct vc_error *err)
{
	struct json_object *value = NULL;
	if (!json_object_object_get_ex(obj, key, &value) || !(json_object_get_double(value) >= 0))
		return vc_error_set(err, VC_EFAILED, "'%s' is missing or negative", key);
	*ret = json_object_get_double(value);
	return 0;
}

static int from_json(struct json_object *obj, struct imgcache_entry *e, struct vc_error *err)
{
	const char *kind = NULL;
	uint64_t created = 0, used = 0, uid = UINT32_MAX;
	if (vc_json_str(obj, "kind", 16, &kind, err) < 0)
		return -1;
	e->is_image = strcmp(kind, "image") == 0;
	if (e->is_image ? get_hex(obj, "digest", false, e->digest, err) < 0 : stage_from_name(kind, &e->info.stage) < 0)
		return vc_error_set(err, VC_EFAILED, "unknown kind '%.16s'", kind);
	if (e->is_image && get_hex(obj, "key", true, e->image_key, err) < 0)
		return -1;
	if (get_hex(obj, "base", false, e->info.base, err) < 0 || get_hex(obj, "release", true, e->info.release, err) < 0 ||
	    vc_json_strv(obj, "packages", VC_PACKAGES_MAX, IMAGE_PACKAGE_MAX, &e->info.packages, err) < 0 ||
	    get_double(obj, "seconds", &e->info.seconds, err) < 0 || get_double(obj, "uses", &e->uses, err) < 0 ||
	    vc_json_u64(obj, "size", IMAGE_SIZE_MAX, &e->info.size, err) < 0 ||
	    vc_json_u64(obj, "bytes", IMAGE_SIZE_MAX, &e->bytes, err) < 0 ||
	    vc_json_u64(obj, "created", INT64_MAX, &created, err) < 0 || vc_json_u64(obj, "used", INT64_MAX, &used, err) < 0 ||
	    vc_json_u64_opt(obj, "uid", UINT32_MAX, &uid, err) < 0)
		return -1;
	e->charged = uid != UINT32_MAX;
	e->uid = (uid_t)uid;
	e->info.created = (int64_t)created;
	e->used = (int64_t)used;
	return 0;
}

// --- reading -----------------------------------------------------------------------------------------------------

static int read_entry(int dirfd, const char *id, struct imgcache_entry *e, struct vc_error *err)
{
	struct stat st;
	char text[ENTRY_MAX];
	*e = (struct imgcache_entry){0};
	vc_autoclose int dir = openat(dirfd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return vc_error_errno(err, "%s", id);
	vc_autoclose int fd = openat(dir, ENTRY, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (n < 0)
		return vc_error_errno(err, ENTRY);
	vc_autojson struct json_object *obj = vc_json_parse(text, (size_t)n, err);
	if (!obj || from_json(obj, e, err) < 0)
		return -1;
	memcpy(e->id, id, strlen(id) + 1);
	memcpy(e->info.key, id, strlen(id) + 1);
	if (!e->is_image && (fstatat(dir, "root.raw", &st, AT_SYMLINK_NOFOLLOW) < 0 || (uint64_t)st.st_size != e->info.size))
		return vc_error_set(err, VC_EFAILED, "root.raw has not the size of its entry");
	return 0;
}

int imgcache_file_each(int dirfd, int (*fn)(void *ctx, struct imgcache_entry *e, struct vc_error *err), void *ctx,
		       unsigned *ret_dropped, struct vc_error *err)
{
	int own = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	if (!dir)
		return vc_error_errno(err, "image cache");
	int rc = 0;
	for (struct dirent *d; rc == 0 && (d = readdir(dir));) {
		struct imgcache_entry e;
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		if (digest_hex_valid(d->d_name) && read_entry(dirfd, d->d_name, &e, NULL) == 0) {
			rc = fn(ctx, &e, err);
			continue;
		}
		if (digest_hex_valid(d->d_name))
			imgcache_entry_clear(&e);
		imgcache_file_remove(dirfd, d->d_name);
		++*ret_dropped;
	}
	closedir(dir);
	return rc;
}

// --- writing -----------------------------------------------------------------------------------------------------

static int write_json(int dir, const struct imgcache_entry *e, struct vc_error *err)
{
	vc_autojson struct json_object *obj = to_json(e);
	size_t len = 0;
	const char *text = obj ? vc_json_text(obj, &len) : NULL;
	if (!text)
		return vc_error_set(err, ENOMEM, "image cache: out of memory");
	vc_autoclose int fd = openat(dir, ENTRY ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len || fsync(fd) < 0 || renameat(dir, ENTRY ".new", dir, ENTRY) < 0)
		return vc_error_errno(err, "image cache: " ENTRY);
	return 0;
}

// A raw file that is complete on disk before its entry is seen.
static int flush(int dir, struct vc_error *err)
{
	vc_autoclose int raw = openat(dir, "root.raw", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return raw < 0 || fsync(raw) < 0 || fsync(dir) < 0 ? vc_error_errno(err, "image cache: root.raw") : 0;
}

int imgcache_file_write(int dirfd, const struct imgcache_entry *e, const char *from, struct vc_error *err)
{
	if (!from && mkdirat(dirfd, e->id, 0700) < 0 && errno != EEXIST)
		return vc_error_errno(err, "image cache: %s", e->id);
	vc_autoclose int dir = from ? open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
				    : openat(dirfd, e->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return vc_error_errno(err, "image cache: %s", e->id);
	if (write_json(dir, e, err) < 0 || (from && flush(dir, err) < 0))
		return -1;
	if (from && renameat(AT_FDCWD, from, dirfd, e->id) < 0)
		return vc_error_errno(err, "image cache: %s", e->id);
	return fsync(dirfd) < 0 ? vc_error_errno(err, "image cache") : 0;
}

int imgcache_file_bytes(const char *from, uint64_t *ret, struct vc_error *err)
{
	char path[PATH_MAX];
	struct stat st;
	snprintf(path, sizeof(path), "%s/root.raw", from);
	if (stat(path, &st) < 0)
		return vc_error_errno(err, "%s", path);
	*ret = (uint64_t)st.st_blocks * 512;
	return 0;
}

// --- removing ----------------------------------------------------------------------------------------------------

static void empty(int at, const char *name)
{
	int own = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = own < 0 ? NULL : fdopendir(own);
	for (struct dirent *d; dir && (d = readdir(dir));)
		(void)unlinkat(own, d->d_name, 0); // "." and ".." are not for unlink
	if (dir)
		closedir(dir);
	(void)unlinkat(at, name, AT_REMOVEDIR);
}

void imgcache_file_remove(int dirfd, const char *id)
{
	char gone[NAME_MAX + 1];
	snprintf(gone, sizeof(gone), "%.200s" GONE, id);
	if (renameat(dirfd, id, dirfd, gone) < 0)
		return; // it was not there
	vc_autoclose int dir = openat(dirfd, gone, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir >= 0)
		empty(dir, "lists");
	empty(dirfd, gone);
}
