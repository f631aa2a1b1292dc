// SPDX-License-Identifier: GPL-2.0-or-later
// Recipes: checks and JSON form. See recipe.h; keys are in stage_key.c.
#include "vcd/image/recipe.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/limits.h"
#include "libvc/spec.h"
#include "libvc/user.h"
#include "vcd/image/recipe_int.h"

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

void recipe_destroy(struct recipe *r)
{
	if (!r)
		return;
	int saved = errno;
	for (size_t i = 0; i < r->n_files; i++) {
		free(r->files[i].path);
		free(r->files[i].owner);
		free(r->files[i].data);
	}
	free(r->files);
	free(r->name);
	free(r->suite);
	free(r->from);
	free(r->import_path);
	vc_strv_free(r->packages);
	vc_strv_free(r->commands);
	free(r);
	errno = saved;
}

void recipe_cleanup(struct recipe **r)
{
	recipe_destroy(*r);
}

// --- checks ------------------------------------------------------------------------------------------------

// First character out of `first`, the others out of `rest`, length 1 to max.
static bool matches(const char *s, const char *first, const char *rest, size_t max)
{
	size_t len = strlen(s);
	return len >= 1 && len <= max && strchr(first, s[0]) && strspn(s + 1, rest) == len - 1;
}

int recipe_check_name(const char *name, struct vc_error *err)
{
	if (matches(name, LOWER DIGITS, LOWER DIGITS "._-", IMAGE_NAME_MAX))
		return 0;
	return vc_error_set(err, VC_EUSER,
			    "image name '%.80s' must be 1 to %d of a-z 0-9 . _ - and start with a letter or digit", name,
			    IMAGE_NAME_MAX);
}

// NAME, or OWNER/NAME for another owner's public image.
int recipe_check_from(const char *from, struct vc_error *err)
{
	const char *slash = strchr(from, '/');
	size_t len = slash ? (size_t)(slash - from) : 0;
	bool is_user = len <= VC_USER_MAX && strchr(LOWER UPPER DIGITS "_", from[0]) && strspn(from, LOWER UPPER DIGITS "._+-@") == len;
	if (slash && (len == 0 || !is_user))
		return vc_error_set(err, VC_EUSER, "image '%.80s' must be NAME or OWNER/NAME", from);
	return recipe_check_name(slash ? slash + 1 : from, err);
}

int recipe_check_suite(const char *suite, struct vc_error *err)
{
	if (matches(suite, LOWER, LOWER DIGITS "-", IMAGE_SUITE_MAX))
		return 0;
	return vc_error_set(err, VC_EUSER, "Debian release '%.80s' must be a code name such as bookworm", suite);
}

int recipe_check_package(const char *package, struct vc_error *err)
{
	return vc_check_package("", package, err);
}

static bool has_dot_component(const char *path)
{
	for (const char *p = path; *p; p += *p == '/') {
		size_t n = strcspn(p, "/");
		if ((n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return true;
		p += n;
	}
	return false;
}

static bool has_control(const char *s)
{
	for (; *s; s++) {
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return true;
	}
	return false;
}

int recipe_check_path(const char *path, struct vc_error *err)
{
	size_t len = strlen(path);
	if (len < 2 || len > IMAGE_PATH_MAX || path[0] != '/' || path[len - 1] == '/')
		return vc_error_set(err, VC_EUSER, "file '%.80s' must be an absolute path of at most %d bytes", path,
				    IMAGE_PATH_MAX);
	if (has_dot_component(path) || strstr(path, "//") || has_control(path))
		return vc_error_set(err, VC_EUSER, "file '%.80s' must not hold '.', '..', '//' or control characters", path);
	return 0;
}

int recipe_check_owner(const char *owner, struct vc_error *err)
{
	char user[IMAGE_OWNER_MAX + 1] = "";
	const char *colon = strchr(owner, ':');
	if (colon && strlen(owner) <= IMAGE_OWNER_MAX) {
		memcpy(user, owner, (size_t)(colon - owner));
		if (matches(user, LOWER DIGITS "_", LOWER DIGITS "_-", 32) &&
		    matches(colon + 1, LOWER DIGITS "_", LOWER DIGITS "_-", 32))
			return 0;
	}
	return vc_error_set(err, VC_EUSER, "owner '%.80s' must be USER:GROUP", owner);
}

int recipe_check_command(const char *command, struct vc_error *err)
{
	size_t len = strlen(command);
	if (len >= 1 && len <= IMAGE_COMMAND_MAX)
		return 0;
	return vc_error_set(err, VC_EUSER, "a command must have 1 to %d bytes, this one has %zu", IMAGE_COMMAND_MAX, len);
}

int recipe_check_size(uint64_t size, struct vc_error *err)
{
	if (size == 0 || (size >= IMAGE_SIZE_MIN && size <= IMAGE_SIZE_MAX))
		return 0;
	return vc_error_set(err, VC_EUSER, "size must be %llu MiB to %llu MiB", IMAGE_SIZE_MIN >> 20, IMAGE_SIZE_MAX >> 20);
}

static int check_base(const struct recipe *r, struct vc_error *err)
{
	if (r->base == RECIPE_BASE_DEBIAN)
		return recipe_check_suite(r->suite ? r->suite : "", err);
	if (r->base == RECIPE_BASE_IMAGE) {
		if (r->from_digest[0] && !digest_hex_valid(r->from_digest))
			return vc_error_set(err, VC_EUSER, "digest of the image that is built upon is not SHA-256 in hex");
		return recipe_check_from(r->from ? r->from : "", err);
	}
	if (!digest_hex_valid(r->import_digest))
		return vc_error_set(err, VC_EUSER, "digest of the imported tar is not SHA-256 in hex");
	if (r->import_size == 0 || r->import_size > IMAGE_IMPORT_MAX)
		return vc_error_set(err, VC_EUSER, "the imported tar must have 1 byte to %llu GiB", IMAGE_IMPORT_MAX >> 30);
	return 0;
}

static int check_list(char *const *items, size_t max, const char *what,
		      int (*check)(const char *, struct vc_error *), struct vc_error *err)
{
	for (size_t i = 0; items && items[i]; i++) {
		if (i >= max)
			return vc_error_set(err, VC_EUSER, "more than %zu %s", max, what);
		if (check(items[i], err) < 0)
			return -1;
	}
	return 0;
}

static int check_files(const struct recipe *r, struct vc_error *err)
{
	uint64_t total = 0;
	if (r->n_files > IMAGE_FILES_MAX)
		return vc_error_set(err, VC_EUSER, "more than %d files", IMAGE_FILES_MAX);
	for (size_t i = 0; i < r->n_files; i++) {
		const struct recipe_file *f = &r->files[i];
		if (recipe_check_path(f->path, err) < 0 || recipe_check_owner(f->owner, err) < 0)
			return -1;
		if (f->mode > 07777)
			return vc_error_set(err, VC_EUSER, "file '%s': mode %o is not 0 to 7777", f->path, f->mode);
		if (f->len > IMAGE_FILE_BYTES_MAX)
			return vc_error_set(err, VC_EUSER, "file '%s' has more than %u bytes", f->path, IMAGE_FILE_BYTES_MAX);
		total += f->len;
	}
	if (total > IMAGE_FILES_BYTES_MAX)
		return vc_error_set(err, VC_EUSER, "files have %llu bytes together, more than %u",
				    (unsigned long long)total, IMAGE_FILES_BYTES_MAX);
	return 0;
}

int recipe_validate(const struct recipe *r, struct vc_error *err)
{
	if (recipe_check_name(r->name ? r->name : "", err) < 0 || check_base(r, err) < 0)
		return -1;
	if (check_list(r->packages, VC_PACKAGES_MAX, "packages", recipe_check_package, err) < 0)
		return -1;
	if (check_list(r->commands, IMAGE_COMMANDS_MAX, "commands", recipe_check_command, err) < 0)
		return -1;
	if (check_files(r, err) < 0)
		return -1;
	return recipe_check_size(r->size, err);
}

// --- JSON --------------------------------------------------------------------------------------------------

int recipe_base_to_json(const struct recipe *r, bool for_key, struct json_object *obj)
{
	struct json_object *base = json_object_new_object();
	int rc = 0;
	if (r->base == RECIPE_BASE_DEBIAN) {
		rc |= vc_json_add_str(base, "type", "debian");
		rc |= vc_json_add_str(base, "suite", r->suite);
	} else if (r->base == RECIPE_BASE_IMAGE) {
		// A name may mean another image tomorrow: the key knows the digest alone.
		rc |= vc_json_add_str(base, "type", "image");
		rc |= for_key ? 0 : vc_json_add_str(base, "name", r->from);
		rc |= r->from_digest[0] ? vc_json_add_str(base, "digest", r->from_digest) : 0;
	} else {
		rc |= vc_json_add_str(base, "type", "import");
		rc |= vc_json_add_str(base, "digest", r->import_digest);
		rc |= vc_json_add_u64(base, "size", r->import_size);
	}
	return rc | vc_json_add(obj, "base", base);
}

int recipe_files_to_json(const struct recipe *r, struct json_object *obj)
{
	struct json_object *files = json_object_new_array();
	if (!files)
		return -1;
	for (size_t i = 0; i < r->n_files; i++) {
		const struct recipe_file *f = &r->files[i];
		struct json_object *item = json_object_new_object();
		int rc = vc_json_add_str(item, "path", f->path);
		rc |= vc_json_add_int(item, "mode", (int64_t)f->mode);
		rc |= vc_json_add_str(item, "owner", f->owner);
		rc |= vc_json_add_bytes(item, "data", f->data, f->len);
		if (rc < 0 || json_object_array_add(files, item) < 0) {
			json_object_put(item);
			json_object_put(files);
			return -1;
		}
	}
	return vc_json_add(obj, "files", files);
}

int recipe_content_to_json(const struct recipe *r, bool for_key, char *const *packages, struct json_object *obj)
{
	int rc = recipe_base_to_json(r, for_key, obj);
	rc |= vc_json_add_strv(obj, "packages", packages);
	rc |= recipe_files_to_json(r, obj);
	rc |= vc_json_add_strv(obj, "commands", r->commands);
	return rc | vc_json_add_u64(obj, "size", r->size);
}

struct json_object *recipe_to_json(const struct recipe *r, struct vc_error *err)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	int rc = vc_json_add_str(obj, "name", r->name);
	rc |= vc_json_add_str(obj, "visibility", r->is_public ? "public" : "private");
	rc |= recipe_content_to_json(r, false, r->packages, obj);
	if (rc < 0) {
		vc_error_set(err, ENOMEM, "recipe: out of memory");
		return NULL;
	}
	return vc_steal(&obj);
}

static int image_from_json(struct json_object *base, struct recipe *r, struct vc_error *err)
{
	const char *name = NULL, *digest = "";
	if (vc_json_str(base, "name", IMAGE_FROM_MAX, &name, err) < 0 ||
	    vc_json_str_opt(base, "digest", DIGEST_HEX_LEN - 1, &digest, err) < 0)
		return -1;
	r->base = RECIPE_BASE_IMAGE;
	r->from = strdup(name);
	memcpy(r->from_digest, digest, strlen(digest) + 1);
	return r->from ? 0 : vc_error_set(err, ENOMEM, "recipe: out of memory");
}

static int base_from_json(struct json_object *obj, struct recipe *r, struct vc_error *err)
{
	struct json_object *base = NULL;
	const char *type = NULL, *text = NULL;
	if (vc_json_obj(obj, "base", &base, err) < 0 || vc_json_str(base, "type", 16, &type, err) < 0)
		return -1;
	if (strcmp(type, "debian") == 0) {
		if (vc_json_str(base, "suite", IMAGE_SUITE_MAX, &text, err) < 0)
			return -1;
		r->base = RECIPE_BASE_DEBIAN;
		r->suite = strdup(text);
		return r->suite ? 0 : vc_error_set(err, ENOMEM, "recipe: out of memory");
	}
	if (strcmp(type, "image") == 0)
		return image_from_json(base, r, err);
	if (strcmp(type, "import") != 0)
		return vc_error_set(err, VC_EUSER, "base type '%s' must be debian, image or import", type);
	if (vc_json_str(base, "digest", DIGEST_HEX_LEN - 1, &text, err) < 0 ||
	    vc_json_u64(base, "size", IMAGE_IMPORT_MAX, &r->import_size, err) < 0)
		return -1;
	r->base = RECIPE_BASE_IMPORT;
	memcpy(r->import_digest, text, strlen(text) + 1);
	return 0;
}

static int file_from_json(struct json_object *item, struct recipe_file *f, struct vc_error *err)
{
	const char *path = NULL, *owner = "root:root";
	int mode = 0644;
	if (vc_json_str(item, "path", IMAGE_PATH_MAX, &path, err) < 0 ||
	    vc_json_str_opt(item, "owner", IMAGE_OWNER_MAX, &owner, err) < 0 ||
	    vc_json_int(item, "mode", 0, 07777, &mode, err) < 0)
		return -1;
	f->path = strdup(path);
	f->owner = strdup(owner);
	f->mode = (unsigned)mode;
	if (!f->path || !f->owner)
		return vc_error_set(err, ENOMEM, "recipe: out of memory");
	return vc_json_bytes(item, "data", IMAGE_FILE_BYTES_MAX, &f->data, &f->len, err);
}

static int files_from_json(struct json_object *obj, struct recipe *r, struct vc_error *err)
{
	struct json_object *files = NULL;
	if (vc_json_array_opt(obj, "files", IMAGE_FILES_MAX, &files, err) < 0)
		return -1;
	size_t n = files ? json_object_array_length(files) : 0;
	if (n == 0)
		return 0;
	r->files = calloc(n, sizeof(*r->files));
	if (!r->files)
		return vc_error_set(err, ENOMEM, "recipe: out of memory");
	for (size_t i = 0; i < n; i++) {
		r->n_files = i + 1;
		if (file_from_json(json_object_array_get_idx(files, i), &r->files[i], err) < 0)
			return vc_error_wrap(err, "file %zu", i + 1);
	}
	return 0;
}

static int visibility_from_json(struct json_object *obj, struct recipe *r, struct vc_error *err)
{
	const char *text = "private";
	if (vc_json_str_opt(obj, "visibility", 16, &text, err) < 0)
		return -1;
	r->is_public = strcmp(text, "public") == 0;
	if (!r->is_public && strcmp(text, "private") != 0)
		return vc_error_set(err, VC_EUSER, "visibility '%s' must be private or public", text);
	return 0;
}

static const char *const known_keys[] = {"name", "visibility", "base", "packages", "files", "commands", "size"};

static int check_keys(struct json_object *obj, struct vc_error *err)
{
	if (!json_object_is_type(obj, json_type_object))
		return vc_error_set(err, VC_EPROTO, "a recipe must be an object");
	json_object_object_foreach(obj, key, value)
	{
		bool known = false;
		(void)value;
		for (size_t i = 0; i < VC_ARRAY_LEN(known_keys); i++)
			known |= strcmp(key, known_keys[i]) == 0;
		if (!known)
			return vc_error_set(err, VC_EUSER, "unknown key '%.80s'", key);
	}
	return 0;
}

static int fill_from_json(struct json_object *obj, struct recipe *r, struct vc_error *err)
{
	const char *name = NULL;
	if (check_keys(obj, err) < 0 || vc_json_str(obj, "name", IMAGE_NAME_MAX, &name, err) < 0)
		return -1;
	r->name = strdup(name);
	if (!r->name)
		return vc_error_set(err, ENOMEM, "recipe: out of memory");
	if (base_from_json(obj, r, err) < 0 || files_from_json(obj, r, err) < 0 || visibility_from_json(obj, r, err) < 0)
		return -1;
	if (vc_json_strv(obj, "packages", VC_PACKAGES_MAX, IMAGE_PACKAGE_MAX, &r->packages, err) < 0 ||
	    vc_json_strv(obj, "commands", IMAGE_COMMANDS_MAX, IMAGE_COMMAND_MAX, &r->commands, err) < 0)
		return -1;
	if (vc_json_u64_opt(obj, "size", IMAGE_SIZE_MAX, &r->size, err) < 0)
		return -1;
	return recipe_validate(r, err);
}

int recipe_from_json(struct json_object *obj, struct recipe **ret, struct vc_error *err)
{
	recipe_auto struct recipe *r = calloc(1, sizeof(*r));
	if (!r)
		return vc_error_set(err, ENOMEM, "recipe: out of memory");
	if (fill_from_json(obj, r, err) < 0)
		return vc_error_wrap(err, "recipe");
	*ret = vc_steal(&r);
	return 0;
}

// The magic number of ext2 to ext4, in the superblock at byte 1024.
bool recipe_is_file_system(int fd, uint64_t at)
{
	uint8_t magic[2];
	return pread(fd, magic, sizeof(magic), (off_t)(at + 1024 + 56)) == sizeof(magic) && magic[0] == 0x53 && magic[1] == 0xef;
}

// --- import ------------------------------------------------------------------------------------------------

static int fill_import(struct recipe *r, const char *name, const char *path, struct vc_error *err)
{
	uint8_t digest[DIGEST_LEN];
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return vc_error_errno(err, "%s", path);
	if (digest_fd(fd, IMAGE_IMPORT_MAX, digest, &r->import_size, err) < 0)
		return vc_error_wrap(err, "%s", path);
	digest_hex(digest, r->import_digest);
	r->base = RECIPE_BASE_IMPORT;
	r->name = strdup(name);
	r->import_path = strdup(path);
	if (!r->name || !r->import_path)
		return vc_error_set(err, ENOMEM, "recipe: out of memory");
	return recipe_validate(r, err);
}

int recipe_for_import(const char *name, bool is_public, const char *path, struct recipe **ret, struct vc_error *err)
{
	recipe_auto struct recipe *r = calloc(1, sizeof(*r));
	if (!r)
		return vc_error_set(err, ENOMEM, "recipe: out of memory");
	r->is_public = is_public;
	if (fill_import(r, name, path, err) < 0)
		return -1;
	*ret = vc_steal(&r);
	return 0;
}
