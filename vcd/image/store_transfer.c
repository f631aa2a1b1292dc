// SPDX-License-Identifier: GPL-2.0-or-later
// The store's two ends of a transfer, and checks of what it holds: see store.h.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/chunks.h"
#include "vcd/image/store_file.h"

struct store_receive {
	struct store *store;
	char digest[DIGEST_HEX_LEN];
	char *staged; // below the store's directory
	struct json_object *build;
	uint64_t size;
	int fd;
};

static int check_digest(const char *digest, struct vc_error *err)
{
	return digest_hex_valid(digest) ? 0 : vc_error_set(err, VC_EUSER, "'%.80s' is not an image digest", digest);
}

static int must_have(struct store *s, const char *digest, struct vc_error *err)
{
	if (check_digest(digest, err) < 0)
		return -1;
	return store_has(s, digest) ? 0 : vc_error_set(err, VC_ENOTFOUND, "no image with digest %.64s", digest);
}

bool store_has(struct store *s, const char *digest)
{
	pthread_mutex_lock(&s->lock);
	bool has = store_image_find(s, digest) != NULL;
	pthread_mutex_unlock(&s->lock);
	return has;
}

int store_path(struct store *s, const char *digest, char **ret, struct vc_error *err)
{
	if (must_have(s, digest, err) < 0)
		return -1;
	char *path = NULL;
	if (asprintf(&path, "%s/%s/root.raw", s->dir, digest) < 0)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	*ret = path;
	return 0;
}

int store_meta(struct store *s, const char *digest, char **ret, struct vc_error *err)
{
	return must_have(s, digest, err) < 0 ? -1 : store_file_read_meta(s->dirfd, digest, ret, err);
}

int store_chunks(struct store *s, const char *digest, struct chunks **ret, struct vc_error *err)
{
	if (must_have(s, digest, err) < 0)
		return -1;
	vc_autoclose int fd = openat(s->dirfd, digest, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? vc_error_errno(err, "image %.12s", digest) : chunks_read(fd, "chunks", ret, err);
}

int store_verify(struct store *s, const char *digest, struct vc_error *err)
{
	chunks_auto struct chunks *stated = NULL, *found = NULL;
	if (store_chunks(s, digest, &stated, err) < 0)
		return -1;
	vc_autoclose int fd = store_file_open_raw(s->dirfd, digest, err);
	if (fd < 0 || chunks_scan(fd, &found, err) < 0)
		return -1;
	int64_t bad = chunks_compare(stated, found);
	if (bad < 0)
		return 0;
	return vc_error_set(err, VC_EFAILED, "image %.12s is damaged: chunk %lld (byte %lld) of root.raw does not match",
			    digest, (long long)bad, (long long)bad * IMAGE_CHUNK);
}

// --- sender ------------------------------------------------------------------------------------------------------

int store_read(struct store *s, const char *digest, uint64_t offset, void *buf, size_t len, struct vc_error *err)
{
	if (must_have(s, digest, err) < 0)
		return -1;
	vc_autoclose int fd = store_file_open_raw(s->dirfd, digest, err);
	if (fd < 0)
		return -1;
	if (offset > IMAGE_SIZE_MAX)
		return vc_error_set(err, VC_EPROTO, "image %.12s: offset is past the end", digest);
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "image %.12s", digest);
		if (n == 0)
			return vc_error_set(err, VC_EPROTO, "image %.12s: offset is past the end", digest);
		done += (size_t)n;
	}
	return 0;
}

// What the file system calls data, in whole chunks: a host's file has holes wherever the image has zeros.
int store_next_data(struct store *s, const char *digest, uint64_t offset, uint64_t *ret_offset, size_t *ret_len,
		    struct vc_error *err)
{
	if (must_have(s, digest, err) < 0)
		return -1;
	vc_autoclose int fd = store_file_open_raw(s->dirfd, digest, err);
	if (fd < 0)
		return -1;
	*ret_offset = 0;
	*ret_len = 0;
	if (offset > IMAGE_SIZE_MAX)
		return 0;
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
	if (data < 0)
		return errno == ENXIO ? 0 : vc_error_errno(err, "image %.12s", digest);
	off_t hole = lseek(fd, data, SEEK_HOLE);
	if (hole < 0)
		return vc_error_errno(err, "image %.12s", digest);
	uint64_t first = (uint64_t)data / IMAGE_CHUNK * IMAGE_CHUNK;
	uint64_t end = ((uint64_t)hole + IMAGE_CHUNK - 1) / IMAGE_CHUNK * IMAGE_CHUNK;
	*ret_offset = first;
	*ret_len = end - first < IMAGE_RUN_MAX ? end - first : IMAGE_RUN_MAX;
	return 0;
}

// --- receiver ----------------------------------------------------------------------------------------------------

static void receive_destroy(struct store_receive *rx)
{
	if (!rx)
		return;
	int saved = errno;
	vc_cleanup_close(&rx->fd);
	if (rx->staged)
		store_file_discard(rx->store->dirfd, rx->staged);
	json_object_put(rx->build);
	free(rx->staged);
	free(rx);
	errno = saved;
}

static int parse_meta(struct store_receive *rx, const char *meta, struct vc_error *err)
{
	size_t len = strlen(meta);
	struct json_object *build = NULL;
	if (len > IMAGE_META_MAX)
		return vc_error_set(err, VC_EPROTO, "image.json of a peer has %zu bytes, more than %u", len, IMAGE_META_MAX);
	vc_autojson struct json_object *obj = vc_json_parse(meta, len, err);
	if (!obj)
		return vc_error_wrap(err, "image.json of a peer");
	if (json_object_object_get_ex(obj, "build", &build))
		rx->build = json_object_get(build);
	return 0;
}

static int receive_open(struct store_receive *rx, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	if (store_file_mkdir(rx->store->dirfd, &rx->staged, err) < 0)
		return -1;
	if (asprintf(&path, "%s/root.raw", rx->staged) < 0)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	rx->fd = openat(rx->store->dirfd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (rx->fd < 0 || ftruncate(rx->fd, (off_t)rx->size) < 0)
		return vc_error_errno(err, "%s", path);
	return 0;
}

int store_receive_begin(struct store *s, const char *digest, const char *meta, uint64_t size,
			struct store_receive **ret, struct vc_error *err)
{
	if (check_digest(digest, err) < 0)
		return -1;
	if (size == 0 || size > IMAGE_SIZE_MAX || size % IMAGE_CHUNK)
		return vc_error_set(err, VC_EPROTO, "image %.12s: a size of %llu bytes is refused", digest,
				    (unsigned long long)size);
	if (store_has(s, digest))
		return vc_error_set(err, EEXIST, "image %.12s is already here", digest);
	struct store_receive *rx = calloc(1, sizeof(*rx));
	if (!rx)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	*rx = (struct store_receive){.store = s, .size = size, .fd = -1};
	memcpy(rx->digest, digest, sizeof(rx->digest));
	if (parse_meta(rx, meta, err) < 0 || receive_open(rx, err) < 0) {
		receive_destroy(rx);
		return -1;
	}
	*ret = rx;
	return 0;
}

int store_receive_write(struct store_receive *rx, uint64_t offset, const void *data, size_t len, struct vc_error *err)
{
	if (len > rx->size || offset > rx->size - len)
		return vc_error_set(err, VC_EPROTO, "image %.12s: %zu bytes at %llu are outside of its %llu bytes",
				    rx->digest, len, (unsigned long long)offset, (unsigned long long)rx->size);
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(rx->fd, (const char *)data + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "image %.12s: write", rx->digest);
		done += (size_t)n;
	}
	return 0;
}

static int commit_locked(struct store_receive *rx, const struct store_image *image, struct vc_error *err)
{
	struct store *s = rx->store;
	if (store_image_find(s, rx->digest))
		return 0; // somebody else was faster with the same bytes
	if (store_image_reserve(s, err) < 0 || store_file_commit(s->dirfd, rx->staged, rx->digest, err) < 0)
		return -1;
	store_image_append(s, image);
	return 0;
}

static int receive_publish(struct store_receive *rx, struct vc_error *err)
{
	struct store_image image;
	if (fchmod(rx->fd, 0444) < 0)
		return vc_error_errno(err, "image %.12s", rx->digest);
	if (store_file_describe(rx->store->dirfd, rx->staged, rx->build, true, &image, err) < 0)
		return vc_error_wrap(err, "image %.12s", rx->digest);
	if (strcmp(image.digest, rx->digest) != 0)
		return vc_error_set(err, VC_EPROTO, "image %.12s: what was received has digest %.12s", rx->digest,
				    image.digest);
	pthread_mutex_lock(&rx->store->lock);
	int rc = commit_locked(rx, &image, err);
	pthread_mutex_unlock(&rx->store->lock);
	return rc;
}

int store_receive_commit(struct store_receive *rx, struct vc_error *err)
{
	int rc = receive_publish(rx, err);
	receive_destroy(rx);
	return rc;
}

void store_receive_abort(struct store_receive *rx)
{
	receive_destroy(rx);
}
