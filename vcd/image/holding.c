// SPDX-License-Identifier: GPL-2.0-or-later
// What this host holds of one image: see holding.h. Owns the raw file's descriptor and, until it is published, the
// directory in incoming/.
#include "vcd/image/holding.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/chunks.h"
#include "vcd/image/store_file.h"

#define WRITE_BEHIND (4u << 20) // bytes after which the kernel is told to begin writing: the last fsync finds little to do
#define NONE UINT32_MAX

enum chunk_state { LACKING, HELD, ELSEWHERE, SAME }; // SAME: an earlier chunk of this image has the same bytes

struct place {
	uint32_t image; // of sources
	uint32_t chunk;
};

struct source {
	char digest[DIGEST_HEX_LEN];
	int fd; // -1: not opened yet
};

struct holding {
	struct store *store;
	char digest[DIGEST_HEX_LEN];
	struct chunks *list;
	char *meta;
	struct json_object *build;
	char *staged; // NULL: published when it was opened
	int fd;
	uint8_t *state; // of each chunk
	uint32_t *next_same;
	_Atomic size_t lacking; // a chunk may turn out damaged while a worker publishes
	struct place *places; // where ELSEWHERE is
	struct source *sources;
	size_t n_sources, next_adopt;
	uint64_t adopted;
	bool cannot_clone, published, repairing;
	size_t unsynced; // bytes written since the kernel was told
	uint64_t from, to;
	uint8_t *buf;
};

// --- life -----------------------------------------------------------------------------------------------------------

void holding_close(struct holding *h)
{
	if (!h)
		return;
	int saved = errno;
	vc_cleanup_close(&h->fd);
	for (size_t i = 0; i < h->n_sources; i++)
		vc_cleanup_close(&h->sources[i].fd);
	if (h->staged && !h->published)
		store_file_discard(h->store->dirfd, h->staged);
	json_object_put(h->build);
	chunks_destroy(h->list);
	free(h->meta);
	free(h->staged);
	free(h->state);
	free(h->next_same);
	free(h->places);
	free(h->sources);
	free(h->buf);
	free(h);
	errno = saved;
}

static struct holding *create(struct store *s, const char *digest, struct chunks *list, struct vc_error *err)
{
	size_t n = chunks_count(list);
	struct holding *h = calloc(1, sizeof(*h));
	if (!h) {
		chunks_destroy(list);
		vc_error_errno(err, "image %.12s", digest);
		return NULL;
	}
	*h = (struct holding){.store = s, .list = list, .fd = -1};
	memcpy(h->digest, digest, sizeof(h->digest));
	h->state = calloc(n, 1);
	h->next_same = malloc(n * sizeof(*h->next_same));
	h->buf = malloc(IMAGE_CHUNK);
	if (h->state && h->next_same && h->buf) {
		memset(h->next_same, 0xff, n * sizeof(*h->next_same));
		return h;
	}
	vc_error_set(err, ENOMEM, "image %.12s: out of memory", digest);
	holding_close(h);
	return NULL;
}

static int open_published(struct store *s, const char *digest, bool repair, struct holding **ret, struct vc_error *err)
{
	struct chunks *list = NULL;
	if (store_chunks(s, digest, &list, err) < 0)
		return -1;
	struct holding *h = create(s, digest, list, err);
	if (!h)
		return -1;
	memset(h->state, HELD, chunks_count(list));
	h->repairing = repair;
	h->fd = repair ? store_file_open_raw_for_repair(s->dirfd, digest, err) : store_file_open_raw(s->dirfd, digest, err);
	if (h->fd < 0 || store_meta(s, digest, &h->meta, err) < 0) {
		holding_close(h);
		return -1;
	}
	*ret = h;
	return 0;
}

int holding_open(struct store *s, const char *digest, struct holding **ret, struct vc_error *err)
{
	return open_published(s, digest, false, ret, err);
}

int holding_open_for_repair(struct store *s, const char *digest, struct holding **ret, struct vc_error *err)
{
	return open_published(s, digest, true, ret, err);
}

// --- what the host has of it already ------------------------------------------------------------------------------------

// Chunks of this image by digest: open addressing, the first of equal ones.
struct table {
	uint32_t *slot;
	size_t mask;
};

static uint32_t *table_find(struct table *t, const struct chunks *list, const uint8_t *digest)
{
	size_t at = vc_get_be64(digest) & t->mask;
	while (t->slot[at] != NONE && memcmp(chunks_digest(list, t->slot[at]), digest, DIGEST_LEN) != 0)
		at = (at + 1) & t->mask;
	return &t->slot[at];
}

static int table_create(struct table *t, size_t n)
{
	size_t size = 16;
	while (size < 2 * n)
		size *= 2;
	t->slot = malloc(size * sizeof(*t->slot));
	if (!t->slot)
		return -1;
	memset(t->slot, 0xff, size * sizeof(*t->slot));
	t->mask = size - 1;
	return 0;
}

static void find_holes_and_equals(struct holding *h, struct table *t)
{
	for (size_t i = 0; i < chunks_count(h->list); i++) {
		if (chunks_is_hole(h->list, i)) {
			h->state[i] = HELD;
			continue;
		}
		h->lacking++;
		uint32_t *slot = table_find(t, h->list, chunks_digest(h->list, i));
		if (*slot == NONE) {
			*slot = (uint32_t)i;
			continue;
		}
		h->state[i] = SAME;
		h->next_same[i] = h->next_same[*slot];
		h->next_same[*slot] = (uint32_t)i;
	}
}

static void match_image(struct holding *h, struct table *t, uint32_t image, const struct chunks *other)
{
	for (size_t i = 0; i < chunks_count(other); i++) {
		uint32_t c = *table_find(t, h->list, chunks_digest(other, i));
		if (c == NONE || h->state[c] != LACKING)
			continue;
		h->state[c] = ELSEWHERE;
		h->places[c] = (struct place){image, (uint32_t)i};
	}
}

static int list_sources(struct holding *h, struct vc_error *err)
{
	struct store *s = h->store;
	pthread_mutex_lock(&s->lock);
	h->sources = calloc(s->n_images + 1, sizeof(*h->sources));
	for (size_t i = 0; h->sources && i < s->n_images; i++) {
		h->sources[i].fd = -1;
		memcpy(h->sources[i].digest, s->images[i].digest, DIGEST_HEX_LEN);
		h->n_sources++;
	}
	pthread_mutex_unlock(&s->lock);
	return h->sources ? 0 : vc_error_set(err, ENOMEM, "image %.12s: out of memory", h->digest);
}

// An image that cannot be read, or goes meanwhile, is no source; that is no error.
static int find_elsewhere(struct holding *h, struct table *t, struct vc_error *err)
{
	if (list_sources(h, err) < 0)
		return -1;
	h->places = calloc(chunks_count(h->list), sizeof(*h->places));
	if (!h->places)
		return vc_error_set(err, ENOMEM, "image %.12s: out of memory", h->digest);
	for (size_t i = 0; i < h->n_sources; i++) {
		chunks_auto struct chunks *other = NULL;
		if (store_chunks(h->store, h->sources[i].digest, &other, NULL) == 0)
			match_image(h, t, (uint32_t)i, other);
	}
	return 0;
}

static int look_around(struct holding *h, struct vc_error *err)
{
	struct table t = {0};
	if (table_create(&t, chunks_count(h->list)) < 0)
		return vc_error_set(err, ENOMEM, "image %.12s: out of memory", h->digest);
	find_holes_and_equals(h, &t);
	int rc = find_elsewhere(h, &t, err);
	free(t.slot);
	return rc;
}

static int take_meta(struct holding *h, const char *meta, struct vc_error *err)
{
	struct json_object *build = NULL;
	size_t len = strlen(meta);
	if (len > IMAGE_META_MAX)
		return vc_error_set(err, VC_EPROTO, "image.json of a peer has %zu bytes, more than %u", len, IMAGE_META_MAX);
	vc_autojson struct json_object *obj = vc_json_parse(meta, len, err);
	if (!obj)
		return vc_error_wrap(err, "image.json of a peer");
	if (json_object_object_get_ex(obj, "build", &build))
		h->build = json_object_get(build);
	h->meta = strdup(meta);
	return h->meta ? 0 : vc_error_errno(err, "image %.12s", h->digest);
}

static int make_file(struct holding *h, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	if (store_file_mkdir(h->store->dirfd, &h->staged, err) < 0)
		return -1;
	if (asprintf(&path, "%s/root.raw", h->staged) < 0)
		return vc_error_set(err, ENOMEM, "image %.12s: out of memory", h->digest);
	h->fd = openat(h->store->dirfd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (h->fd < 0 || ftruncate(h->fd, (off_t)chunks_size(h->list)) < 0)
		return vc_error_errno(err, "%s", path);
	return 0;
}

int holding_begin(struct store *s, const char *digest, struct chunks *list, const char *meta, struct holding **ret,
		  struct vc_error *err)
{
	char stated[DIGEST_HEX_LEN];
	int rc = chunks_image_digest(list, stated, err);
	if (rc == 0 && strcmp(stated, digest) != 0)
		rc = vc_error_set(err, VC_EPROTO, "image %.12s: its chunk list is that of image %.12s", digest, stated);
	if (rc < 0) {
		chunks_destroy(list);
		return -1;
	}
	struct holding *h = create(s, digest, list, err);
	if (!h)
		return -1;
	if (take_meta(h, meta, err) < 0 || make_file(h, err) < 0 || look_around(h, err) < 0) {
		holding_close(h);
		return -1;
	}
	*ret = h;
	return 0;
}

// --- chunks -------------------------------------------------------------------------------------------------------------

const struct chunks *holding_chunks(const struct holding *h)
{
	return h->list;
}

const char *holding_meta(const struct holding *h)
{
	return h->meta;
}

bool holding_has(const struct holding *h, size_t i)
{
	return h->state[i] == HELD;
}

bool holding_wants(const struct holding *h, size_t i)
{
	return h->state[i] == LACKING;
}

size_t holding_lacking(const struct holding *h)
{
	return h->lacking;
}

uint64_t holding_adopted_bytes(const struct holding *h)
{
	return h->adopted;
}

static int read_at(int fd, uint64_t off, uint8_t *buf, struct vc_error *err)
{
	for (size_t len = 0; len < IMAGE_CHUNK;) {
		ssize_t n = pread(fd, buf + len, IMAGE_CHUNK - len, (off_t)(off + len));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "read at byte %llu", (unsigned long long)(off + len));
		if (n == 0)
			return vc_error_set(err, VC_EFAILED, "the file ends at byte %llu", (unsigned long long)(off + len));
		len += (size_t)n;
	}
	return 0;
}

static bool matches(const struct holding *h, size_t i, const void *data)
{
	uint8_t digest[DIGEST_LEN];
	digest_bytes(data, IMAGE_CHUNK, digest);
	return memcmp(digest, chunks_digest(h->list, i), DIGEST_LEN) == 0;
}

int holding_read(struct holding *h, size_t i, void *buf, struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	if (read_at(h->fd, (uint64_t)i * IMAGE_CHUNK, buf, &why) == 0 && matches(h, i, buf))
		return 0;
	h->state[i] = LACKING;
	h->lacking++;
	return vc_error_set(err, VC_EFAILED, "image %.12s is damaged on this host: chunk %zu (byte %llu of root.raw)%s%s", h->digest, i,
			    (unsigned long long)i * IMAGE_CHUNK, why.code ? ": " : " does not match", why.text);
}

// By the file system's word there is nothing in chunk i: it reads as zeros.
static bool is_file_hole(const struct holding *h, size_t i)
{
	off_t data = lseek(h->fd, (off_t)(i * IMAGE_CHUNK), SEEK_DATA);
	return (data < 0 && errno == ENXIO) || data >= (off_t)((i + 1) * IMAGE_CHUNK);
}

void holding_check(struct holding *h, struct holding_damage *ret)
{
	*ret = (struct holding_damage){.chunks = 0};
	for (size_t i = 0; i < chunks_count(h->list); i++) {
		if (h->state[i] != HELD || (chunks_is_hole(h->list, i) && is_file_hole(h, i)) || holding_read(h, i, h->buf, NULL) == 0)
			continue;
		if (ret->chunks++ == 0)
			ret->first_byte = (uint64_t)i * IMAGE_CHUNK;
	}
}

// The kernel begins to write what lies behind; a slow disk is felt here, by whoever sends to this host.
static void write_behind(struct holding *h, uint64_t off)
{
	h->from = h->unsynced == 0 || off < h->from ? off : h->from;
	h->to = h->unsynced == 0 || off + IMAGE_CHUNK > h->to ? off + IMAGE_CHUNK : h->to;
	h->unsynced += IMAGE_CHUNK;
	if (h->unsynced < WRITE_BEHIND)
		return;
	sync_file_range(h->fd, (off_t)h->from, (off_t)(h->to - h->from), SYNC_FILE_RANGE_WRITE); // a hint: publish() fsyncs
	h->unsynced = 0;
}

static int write_at(struct holding *h, size_t i, const uint8_t *data, struct vc_error *err)
{
	uint64_t off = (uint64_t)i * IMAGE_CHUNK;
	for (size_t done = 0; done < IMAGE_CHUNK;) {
		ssize_t n = pwrite(h->fd, data + done, IMAGE_CHUNK - done, (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "image %.12s: writing to the image store", h->digest);
		done += (size_t)n;
	}
	write_behind(h, off);
	return 0;
}

static void now_held(struct holding *h, size_t i)
{
	h->lacking -= h->state[i] != HELD;
	h->state[i] = HELD;
}

static bool clone_range(struct holding *h, int src, uint64_t src_off, size_t i)
{
	struct file_clone_range r = {.src_fd = src, .src_offset = src_off, .src_length = IMAGE_CHUNK,
				     .dest_offset = (uint64_t)i * IMAGE_CHUNK};
	if (!h->cannot_clone && ioctl(h->fd, FICLONERANGE, &r) < 0)
		h->cannot_clone = true;
	return !h->cannot_clone;
}

// Chunk i is here: the equal ones get its bytes as well, shared where the file system can.
static int fill_equals(struct holding *h, size_t i, const uint8_t *data, struct vc_error *err)
{
	for (uint32_t c = h->next_same[i]; c != NONE; c = h->next_same[c]) {
		if (h->state[c] == HELD)
			continue;
		if (!clone_range(h, h->fd, (uint64_t)i * IMAGE_CHUNK, c) && write_at(h, c, data, err) < 0)
			return -1;
		now_held(h, c);
	}
	return 0;
}

int holding_write(struct holding *h, size_t i, const void *data, struct vc_error *err)
{
	if (h->state[i] == HELD)
		return 0;
	if (!matches(h, i, data))
		return vc_error_set(err, VC_EPROTO, "image %.12s: chunk %zu arrived with other bytes", h->digest, i);
	if (write_at(h, i, data, err) < 0)
		return -1;
	now_held(h, i);
	return fill_equals(h, i, data, err);
}

static int open_source(struct holding *h, struct source *src)
{
	if (src->fd < 0)
		src->fd = store_file_open_raw(h->store->dirfd, src->digest, NULL);
	return src->fd;
}

int holding_adopt(struct holding *h, size_t *ret_wanted, struct vc_error *err)
{
	size_t n = chunks_count(h->list), i = h->next_adopt;
	*ret_wanted = SIZE_MAX;
	while (i < n && h->state[i] != ELSEWHERE)
		i++;
	h->next_adopt = i + 1;
	if (i >= n)
		return 0;
	const struct place *p = &h->places[i];
	uint64_t off = (uint64_t)p->chunk * IMAGE_CHUNK;
	int fd = open_source(h, &h->sources[p->image]);
	if (fd < 0 || read_at(fd, off, h->buf, NULL) < 0 || !matches(h, i, h->buf)) {
		h->state[i] = LACKING;
		*ret_wanted = i;
		return 1;
	}
	if (!clone_range(h, fd, off, i) && write_at(h, i, h->buf, err) < 0)
		return -1;
	now_held(h, i);
	h->adopted += IMAGE_CHUNK;
	return fill_equals(h, i, h->buf, err) < 0 ? -1 : 1;
}

// --- publication --------------------------------------------------------------------------------------------------------

static int publish_locked(struct holding *h, const struct store_image *image, struct vc_error *err)
{
	struct store *s = h->store;
	if (store_image_find(s, h->digest))
		return 0; // somebody else was faster with the same bytes
	if (store_image_reserve(s, err) < 0 || store_file_commit(s->dirfd, h->staged, h->digest, err) < 0)
		return -1;
	h->published = true;
	store_image_append(s, image);
	return 0;
}

int holding_publish(struct holding *h, struct vc_error *err)
{
	struct store_image image;
	if ((!h->staged && !h->repairing) || h->published)
		return 0;
	if (h->lacking)
		return vc_error_set(err, VC_EFAILED, "image %.12s: %zu chunks are missing", h->digest, h->lacking);
	if (h->repairing)
		return fsync(h->fd) < 0 ? vc_error_errno(err, "image %.12s", h->digest) : 0;
	if (fchmod(h->fd, 0444) < 0 || fsync(h->fd) < 0)
		return vc_error_errno(err, "image %.12s", h->digest);
	if (store_file_describe_list(h->store->dirfd, h->staged, h->list, h->build, true, &image, err) < 0)
		return vc_error_wrap(err, "image %.12s", h->digest);
	pthread_mutex_lock(&h->store->lock);
	int rc = publish_locked(h, &image, err);
	pthread_mutex_unlock(&h->store->lock);
	return rc;
}
