// SPDX-License-Identifier: GPL-2.0-or-later
// A recipe: what a user wants in an image. Its JSON form travels from the client to the controller's vcd.
//
// recipe_from_json() trusts nothing: it is what the daemon and the builder call on bytes of a user. Every
// recipe that these functions return has passed recipe_validate(). The text form is read by recipe_conf.h.
#ifndef VCD_IMAGE_RECIPE_H
#define VCD_IMAGE_RECIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/image/digest.h"
#include "vcd/image/image_limits.h"

struct json_object;

#define RECIPE_DEFAULT_SUITE "bookworm"

enum recipe_base {
	RECIPE_BASE_DEBIAN, // a Debian release's minimal base
	RECIPE_BASE_IMPORT, // the tar of a root file system
	RECIPE_BASE_IMAGE,  // another image
};

struct recipe_file {
	char *path;	// absolute, in the image
	unsigned mode;	// permission bits, 0 to 07777
	char *owner;	// "user:group", names of the image or numbers
	uint8_t *data;
	size_t len;
};

struct recipe {
	char *name;
	enum recipe_base base;
	char *suite;			      // RECIPE_BASE_DEBIAN
	char import_digest[DIGEST_HEX_LEN];   // RECIPE_BASE_IMPORT: SHA-256 of the tar as it is, compressed or not
	uint64_t import_size;		      // bytes of that tar
	char *from;			      // RECIPE_BASE_IMAGE: NAME or OWNER/NAME, as the user wrote it
	char from_digest[DIGEST_HEX_LEN];     // and the image that the controller found under that name; "" before
	char *import_path;		      // where the client found it; never in the JSON
	char **packages;		      // NULL-terminated: name or name=version
	struct recipe_file *files;
	size_t n_files;
	char **commands; // NULL-terminated, each for /bin/sh -e -c
	bool is_public;
	uint64_t size; // bytes of the root file system; 0: content and some room
};

void recipe_destroy(struct recipe *r);
void recipe_cleanup(struct recipe **r);
#define recipe_auto __attribute__((cleanup(recipe_cleanup)))

struct json_object *recipe_to_json(const struct recipe *r, struct vc_error *err);
int recipe_from_json(struct json_object *obj, struct recipe **ret, struct vc_error *err);

// The recipe of a plain import: the root tar at path under a name, nothing else. Reads the tar for its digest.
int recipe_for_import(const char *name, bool is_public, const char *path, struct recipe **ret, struct vc_error *err);

// Single checks, shared by both forms; each says what is wrong with which value.
int recipe_check_name(const char *name, struct vc_error *err);
int recipe_check_from(const char *from, struct vc_error *err);
int recipe_check_suite(const char *suite, struct vc_error *err);
int recipe_check_package(const char *package, struct vc_error *err);
int recipe_check_path(const char *path, struct vc_error *err);
int recipe_check_owner(const char *owner, struct vc_error *err);
int recipe_check_command(const char *command, struct vc_error *err);
int recipe_check_size(uint64_t size, struct vc_error *err);
int recipe_validate(const struct recipe *r, struct vc_error *err);

// An ext4 file system begins at that byte of the file: an import that is taken as it is, and that nothing grows from.
bool recipe_is_file_system(int fd, uint64_t at);

#endif
