// SPDX-License-Identifier: GPL-2.0-or-later
// What the store's own files share; nobody else includes it.
#ifndef VCD_IMAGE_STORE_INT_H
#define VCD_IMAGE_STORE_INT_H

#include <pthread.h>

#include "vcd/image/store.h"

struct store_image {
	char digest[DIGEST_HEX_LEN];
	uint64_t size;
	uint64_t data_bytes;
	int64_t created;
	bool received; // a copy from another host: a cache entry, not somebody's only one
};

struct store_record {
	char name[IMAGE_NAME_MAX + 1];
	char digest[DIGEST_HEX_LEN];
	char key[DIGEST_HEX_LEN];
	uid_t owner;
	bool is_public;
	int64_t created;
};

struct store_pin {
	char digest[DIGEST_HEX_LEN];
	char cluster[IMAGE_CLUSTER_ID_MAX + 1];
};

struct store {
	char *dir;
	int dirfd;
	int lockfd;
	struct store_report report;
	pthread_mutex_t lock; // guards the tables below
	struct store_image *images;
	size_t n_images;
	struct store_record *records;
	size_t n_records;
	struct store_pin *pins;
	size_t n_pins;
};

struct store_image *store_image_find(struct store *s, const char *digest);
int store_image_add(struct store *s, const struct store_image *image, struct vc_error *err);
// In two parts, for what must not fail between a change on disk and the tables: first room, then the image.
int store_image_reserve(struct store *s, struct vc_error *err);
void store_image_append(struct store *s, const struct store_image *image);

#endif
