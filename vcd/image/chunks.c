// SPDX-License-Identifier: GPL-2.0-or-later
// Chunk lists: see chunks.h.
#include "vcd/image/chunks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "vcd/image/image_limits.h"

#define HEADER_LEN 20
static const char magic[8] = "VCCHNK1\n";

struct chunks {
	uint64_t size;
	size_t n;
	uint64_t data_bytes;
	uint8_t zero[DIGEST_LEN];
	uint8_t (*digest)[DIGEST_LEN];
};

static const uint8_t zeros[IMAGE_CHUNK];

static int check_size(uint64_t size, struct vc_error *err)
{
	if (size == 0 || size > IMAGE_SIZE_MAX || size % IMAGE_CHUNK)
		return vc_error_set(err, VC_EUSER, "image of %llu bytes: must be a multiple of %u up to %llu",
				    (unsigned long long)size, IMAGE_CHUNK, IMAGE_SIZE_MAX);
	return 0;
}

static struct chunks *chunks_create(uint64_t size)
{
	struct chunks *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->size = size;
	c->n = size / IMAGE_CHUNK;
	c->digest = calloc(c->n, DIGEST_LEN);
	digest_bytes(zeros, sizeof(zeros), c->zero);
	if (c->digest)
		return c;
	chunks_destroy(c);
	return NULL;
}

void chunks_destroy(struct chunks *c)
{
	int saved = errno;
	if (c)
		free(c->digest);
	free(c);
	errno = saved;
}

void chunks_cleanup(struct chunks **c)
{
	chunks_destroy(*c);
}

static int read_chunk(int fd, uint64_t off, uint8_t *buf, struct vc_error *err)
{
	for (size_t len = 0; len < IMAGE_CHUNK;) {
		ssize_t n = pread(fd, buf + len, IMAGE_CHUNK - len, (off_t)(off + len));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "read at byte %llu", (unsigned long long)off);
		if (n == 0)
			return vc_error_set(err, VC_EFAILED, "the file became shorter than %llu bytes",
					    (unsigned long long)(off + IMAGE_CHUNK));
		len += (size_t)n;
	}
	return 0;
}

// First chunk at or behind i that holds data by the file system's word; n when there is none.
static size_t next_data(int fd, size_t i, size_t n)
{
	off_t off = lseek(fd, (off_t)(i * IMAGE_CHUNK), SEEK_DATA);
	if (off < 0)
		return errno == ENXIO ? n : i; // no SEEK_DATA here: everything is data
	size_t found = (size_t)off / IMAGE_CHUNK;
	return found > i ? found : i;
}

int chunks_scan(int fd, struct chunks **ret, struct vc_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return vc_error_errno(err, "fstat");
	if (check_size((uint64_t)st.st_size, err) < 0)
		return -1;
	chunks_auto struct chunks *c = chunks_create((uint64_t)st.st_size);
	vc_autofree uint8_t *buf = malloc(IMAGE_CHUNK);
	if (!c || !buf)
		return vc_error_set(err, ENOMEM, "chunk list: out of memory");
	for (size_t i = 0; i < c->n; i++) {
		size_t data = next_data(fd, i, c->n);
		for (; i < data; i++)
			memcpy(c->digest[i], c->zero, DIGEST_LEN);
		if (i == c->n)
			break;
		if (read_chunk(fd, i * IMAGE_CHUNK, buf, err) < 0)
			return -1;
		digest_bytes(buf, IMAGE_CHUNK, c->digest[i]);
		c->data_bytes += chunks_is_hole(c, i) ? 0 : IMAGE_CHUNK;
	}
	*ret = vc_steal(&c);
	return 0;
}

uint64_t chunks_size(const struct chunks *c)
{
	return c->size;
}

size_t chunks_count(const struct chunks *c)
{
	return c->n;
}

uint64_t chunks_data_bytes(const struct chunks *c)
{
	return c->data_bytes;
}

const uint8_t *chunks_digest(const struct chunks *c, size_t i)
{
	return c->digest[i];
}

bool chunks_is_hole(const struct chunks *c, size_t i)
{
	return memcmp(c->digest[i], c->zero, DIGEST_LEN) == 0;
}

int chunks_image_digest(const struct chunks *c, char ret[DIGEST_HEX_LEN], struct vc_error *err)
{
	static const char label[] = "vcluster image 1\n";
	uint8_t head[sizeof(label) - 1 + 12], digest[DIGEST_LEN];
	memcpy(head, label, sizeof(label) - 1);
	vc_put_be64(head + sizeof(label) - 1, c->size);
	vc_put_be32(head + sizeof(label) - 1 + 8, IMAGE_CHUNK);
	digest_auto struct digest_ctx *ctx = digest_ctx_create();
	if (!ctx)
		return vc_error_set(err, ENOMEM, "digest: out of memory");
	digest_ctx_update(ctx, head, sizeof(head));
	digest_ctx_update(ctx, c->digest, c->n * DIGEST_LEN);
	digest_ctx_final(ctx, digest);
	digest_hex(digest, ret);
	return 0;
}

int64_t chunks_compare(const struct chunks *a, const struct chunks *b)
{
	for (size_t i = 0; i < a->n && i < b->n; i++) {
		if (memcmp(a->digest[i], b->digest[i], DIGEST_LEN) != 0)
			return (int64_t)i;
	}
	if (a->n != b->n)
		return (int64_t)(a->n < b->n ? a->n : b->n);
	return -1;
}

static int write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;
	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int chunks_write(const struct chunks *c, int dirfd, const char *name, struct vc_error *err)
{
	uint8_t head[HEADER_LEN];
	memcpy(head, magic, sizeof(magic));
	vc_put_be32(head + 8, IMAGE_CHUNK);
	vc_put_be64(head + 12, c->size);
	vc_autoclose int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || write_all(fd, head, sizeof(head)) < 0 || write_all(fd, c->digest, c->n * DIGEST_LEN) < 0 ||
	    fsync(fd) < 0)
		return vc_error_errno(err, "%s", name);
	return 0;
}

static int read_exactly(int fd, void *data, size_t len)
{
	uint8_t *p = data;
	while (len) {
		ssize_t n = read(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static void count_data(struct chunks *c)
{
	c->data_bytes = 0;
	for (size_t i = 0; i < c->n; i++)
		c->data_bytes += chunks_is_hole(c, i) ? 0 : IMAGE_CHUNK;
}

const uint8_t *chunks_bytes(const struct chunks *c)
{
	return c->digest[0];
}

int chunks_from_bytes(uint64_t size, const uint8_t *bytes, size_t len, struct chunks **ret, struct vc_error *err)
{
	if (check_size(size, err) < 0)
		return -1;
	if (len != size / IMAGE_CHUNK * DIGEST_LEN)
		return vc_error_set(err, VC_EPROTO, "a chunk list of %zu bytes is not that of %llu bytes of image", len,
				    (unsigned long long)size);
	struct chunks *c = chunks_create(size);
	if (!c)
		return vc_error_set(err, ENOMEM, "chunk list: out of memory");
	memcpy(c->digest, bytes, len);
	count_data(c);
	*ret = c;
	return 0;
}

int chunks_read(int dirfd, const char *name, struct chunks **ret, struct vc_error *err)
{
	uint8_t head[HEADER_LEN];
	struct stat st;
	vc_autoclose int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "%s", name);
	if (read_exactly(fd, head, sizeof(head)) < 0 || memcmp(head, magic, sizeof(magic)) != 0 ||
	    vc_get_be32(head + 8) != IMAGE_CHUNK)
		return vc_error_set(err, VC_EFAILED, "%s: not a chunk list of this version", name);
	uint64_t size = vc_get_be64(head + 12);
	if (check_size(size, err) < 0)
		return vc_error_wrap(err, "%s", name);
	if ((uint64_t)st.st_size != HEADER_LEN + size / IMAGE_CHUNK * DIGEST_LEN)
		return vc_error_set(err, VC_EFAILED, "%s: has the wrong length", name);
	chunks_auto struct chunks *c = chunks_create(size);
	if (!c)
		return vc_error_set(err, ENOMEM, "%s: out of memory", name);
	if (read_exactly(fd, c->digest, c->n * DIGEST_LEN) < 0)
		return vc_error_set(err, VC_EFAILED, "%s: cannot be read", name);
	count_data(c);
	*ret = vc_steal(&c);
	return 0;
}
