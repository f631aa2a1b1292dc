// SPDX-License-Identifier: GPL-2.0-or-later
// What the store holds of an image, and whether it is sound: see store.h.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/chunks.h"
#include "vcd/image/store_file.h"

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
