// SPDX-License-Identifier: GPL-2.0-or-later
// The image store: state in memory, names, pins and publication. See store.h; transfers are in store_check.c,
// what touches files only in store_file.c.
#include "vcd/image/store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/user.h"
#include "vcd/image/chunks.h"
#include "vcd/image/recipe.h"
#include "vcd/image/store_file.h"
#include "vcd/image/store_int.h"

// --- tables in memory; the caller holds the lock ------------------------------------------------------------

struct store_image *store_image_find(struct store *s, const char *digest)
{
	for (size_t i = 0; i < s->n_images; i++) {
		if (strcmp(s->images[i].digest, digest) == 0)
			return &s->images[i];
	}
	return NULL;
}

static struct store_record *record_find(struct store *s, const char *name, uid_t owner)
{
	for (size_t i = 0; i < s->n_records; i++) {
		if (s->records[i].owner == owner && strcmp(s->records[i].name, name) == 0)
			return &s->records[i];
	}
	return NULL;
}

static unsigned names_of(const struct store *s, const char *digest)
{
	unsigned n = 0;
	for (size_t i = 0; i < s->n_records; i++)
		n += strcmp(s->records[i].digest, digest) == 0;
	return n;
}

static unsigned pins_of(const struct store *s, const char *digest)
{
	unsigned n = 0;
	for (size_t i = 0; i < s->n_pins; i++)
		n += strcmp(s->pins[i].digest, digest) == 0;
	return n;
}

// Of them, those of who stands on it.
static unsigned users_of(const struct store *s, const char *digest)
{
	unsigned n = 0;
	for (size_t i = 0; i < s->n_pins; i++)
		n += strcmp(s->pins[i].digest, digest) == 0 && strncmp(s->pins[i].cluster, STORE_PASSING_PIN, strlen(STORE_PASSING_PIN)) != 0;
	return n;
}

static void *grow(void *items, size_t n, size_t item)
{
	// Doubling at powers of two: n items fit whenever n is not a power of two.
	return n == 0 || (n & (n - 1)) == 0 ? reallocarray(items, n ? 2 * n : 1, item) : items;
}

int store_image_reserve(struct store *s, struct vc_error *err)
{
	struct store_image *images = grow(s->images, s->n_images, sizeof(*images));
	if (!images)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	s->images = images;
	return 0;
}

void store_image_append(struct store *s, const struct store_image *image)
{
	s->images[s->n_images++] = *image;
}

int store_image_add(struct store *s, const struct store_image *image, struct vc_error *err)
{
	if (store_image_reserve(s, err) < 0)
		return -1;
	store_image_append(s, image);
	return 0;
}

static int record_reserve(struct store *s, struct vc_error *err)
{
	struct store_record *records = grow(s->records, s->n_records, sizeof(*records));
	if (!records)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	s->records = records;
	return 0;
}

// After record_reserve().
static void record_set(struct store *s, const struct store_record *record)
{
	struct store_record *old = record_find(s, record->name, record->owner);
	if (old)
		*old = *record;
	else
		s->records[s->n_records++] = *record;
}

static void fill_entry(struct store *s, const struct store_record *record, const struct store_image *image,
		       struct store_entry *ret)
{
	*ret = (struct store_entry){.size = image->size, .data_bytes = image->data_bytes, .created = image->created};
	memcpy(ret->digest, image->digest, sizeof(ret->digest));
	ret->pins = pins_of(s, image->digest);
	if (!record)
		return;
	memcpy(ret->name, record->name, sizeof(ret->name));
	memcpy(ret->key, record->key, sizeof(ret->key));
	ret->owner = record->owner;
	ret->is_public = record->is_public;
	ret->created = record->created;
}

int store_find(struct store *s, const char *digest, struct store_entry *ret, struct vc_error *err)
{
	pthread_mutex_lock(&s->lock);
	const struct store_image *image = store_image_find(s, digest);
	if (image)
		fill_entry(s, NULL, image, ret);
	pthread_mutex_unlock(&s->lock);
	return image ? 0 : vc_error_set(err, VC_ENOTFOUND, "image %.12s is not here", digest);
}

// Takes the image out of sight with one rename, then deletes it.
static int image_drop(struct store *s, const char *digest, struct vc_error *err)
{
	struct store_image *image = store_image_find(s, digest);
	if (!image)
		return 0;
	if (store_file_trash(s->dirfd, image->digest, err) < 0)
		return -1;
	*image = s->images[--s->n_images];
	return 0;
}

// An image that was built here stays only while a name or a pin holds it; one that came from another host is a
// cached copy and waits for store_evict().
static int image_release(struct store *s, const char *digest, struct vc_error *err)
{
	struct store_image *image = store_image_find(s, digest);
	if (!image || image->received || names_of(s, digest) || pins_of(s, digest))
		return 0;
	char copy[DIGEST_HEX_LEN];
	memcpy(copy, digest, sizeof(copy));
	return image_drop(s, copy, err);
}

// --- open -----------------------------------------------------------------------------------------------------

// A lack of memory or descriptors says nothing about the image: it is no reason to drop one.
static bool is_damage(const struct vc_error *err)
{
	return err->code != ENOMEM && err->code != EMFILE && err->code != ENFILE;
}

static int load_image(void *arg, int dirfd, const char *digest, struct vc_error *err)
{
	struct store *s = arg;
	struct store_image image;
	struct vc_error why = VC_ERROR_INIT;
	if (store_file_load_image(dirfd, digest, &image, &why) == 0)
		return store_image_add(s, &image, err);
	if (!is_damage(&why))
		return vc_error_set(err, why.code, "image %.12s: %s", digest, why.text);
	s->report.damaged++;
	return store_file_trash(dirfd, digest, err);
}

static int load_record(void *arg, int dirfd, const struct store_record *record, struct vc_error *err)
{
	struct store *s = arg;
	if (record->digest[0] && store_image_find(s, record->digest)) {
		if (record_reserve(s, err) < 0)
			return -1;
		record_set(s, record);
		return 0;
	}
	s->report.lost_names++;
	return store_file_remove_record(dirfd, record, err);
}

static int lock_dir(struct store *s, struct vc_error *err)
{
	s->lockfd = openat(s->dirfd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lockfd < 0)
		return vc_error_errno(err, "%s/lock", s->dir);
	if (flock(s->lockfd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return vc_error_set(err, VC_EBUSY, "%s is in use by another process", s->dir);
	return vc_error_errno(err, "%s/lock", s->dir);
}

static int open_dir(struct store *s, const char *dir, struct vc_error *err)
{
	s->dir = strdup(dir);
	if (!s->dir)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", dir);
	s->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0)
		return vc_error_errno(err, "%s", dir);
	static const char *const parts[] = {"incoming", "names"};
	for (size_t i = 0; i < VC_ARRAY_LEN(parts); i++) {
		if (mkdirat(s->dirfd, parts[i], 0700) < 0 && errno != EEXIST)
			return vc_error_errno(err, "%s/%s", dir, parts[i]);
	}
	return lock_dir(s, err);
}

int store_open(const char *dir, struct store **ret, struct store_report *report, struct vc_error *err)
{
	struct store *s = calloc(1, sizeof(*s));
	if (!s)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	s->dirfd = s->lockfd = -1;
	pthread_mutex_init(&s->lock, NULL);
	// Lock first, then leftovers, then images, then names: a name is good only when its image is.
	if (open_dir(s, dir, err) < 0 || store_file_drop_leftovers(s->dirfd, &s->report.leftovers, err) < 0 ||
	    store_file_each_image(s->dirfd, load_image, s, err) < 0 ||
	    store_file_each_record(s->dirfd, load_record, s, err) < 0) {
		store_close(s);
		return -1;
	}
	s->report.images = (unsigned)s->n_images;
	if (report)
		*report = s->report;
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	int saved = errno;
	vc_cleanup_close(&s->lockfd);
	vc_cleanup_close(&s->dirfd);
	pthread_mutex_destroy(&s->lock);
	free(s->images);
	free(s->records);
	free(s->pins);
	free(s->dir);
	free(s);
	errno = saved;
}

const char *store_dir(const struct store *s)
{
	return s->dir;
}

// --- publish ---------------------------------------------------------------------------------------------------

static int record_fill(struct store_record *record, const struct store_name *name, const char *digest,
		       struct vc_error *err)
{
	*record = (struct store_record){.owner = name->owner, .is_public = name->is_public, .created = time(NULL)};
	if (recipe_check_name(name->name, err) < 0)
		return -1;
	if (name->key && !digest_hex_valid(name->key))
		return vc_error_set(err, VC_EFAILED, "image '%s': the key is not SHA-256 in hex", name->name);
	memcpy(record->name, name->name, strlen(name->name) + 1);
	memcpy(record->digest, digest, sizeof(record->digest));
	if (name->key)
		memcpy(record->key, name->key, sizeof(record->key));
	return 0;
}

// Makes the name point at the image, first on disk; drops what it named before. When it is not known whether the new name
// is durable, memory has what the disk shows, and the former image stays.
static int publish_name(struct store *s, const struct store_record *record, struct vc_error *err)
{
	char former[DIGEST_HEX_LEN] = "";
	struct store_record *old = record_find(s, record->name, record->owner);
	if (old)
		memcpy(former, old->digest, sizeof(former));
	if (record_reserve(s, err) < 0 || store_file_write_record(s->dirfd, record, err) < 0)
		return -1;
	record_set(s, record);
	if (store_file_sync_record(s->dirfd, record, err) < 0)
		return -1;
	return former[0] && strcmp(former, record->digest) != 0 ? image_release(s, former, err) : 0;
}

static int publish_locked(struct store *s, const char *staged, struct store_image *image,
			  const struct store_record *record, struct store_entry *ret, struct vc_error *err)
{
	struct store_image *present = store_image_find(s, image->digest);
	if (present) {
		present->received &= !record->name[0];
	} else {
		if (store_image_reserve(s, err) < 0 || store_file_commit(s->dirfd, staged, image->digest, err) < 0)
			return -1;
		store_image_append(s, image);
	}
	if (record->name[0] && publish_name(s, record, err) < 0)
		return -1;
	fill_entry(s, record->name[0] ? record : NULL, store_image_find(s, image->digest), ret);
	return 0;
}

int store_publish(struct store *s, const char *build_dir, const struct store_name *name, struct store_entry *ret,
		  struct vc_error *err)
{
	struct store_record record = {0};
	struct store_image image;
	vc_autofree char *staged = NULL;
	const char *text = name->name ? name->name : "";
	if (name->name && recipe_check_name(text, err) < 0)
		return -1;
	if (store_file_stage(s->dirfd, build_dir, !name->name, &staged, &image, err) < 0)
		return vc_error_wrap(err, "image '%s'", text);
	int rc = name->name ? record_fill(&record, name, image.digest, err) : 0;
	if (rc == 0) {
		pthread_mutex_lock(&s->lock);
		rc = publish_locked(s, staged, &image, &record, ret, err);
		pthread_mutex_unlock(&s->lock);
	}
	store_file_discard(s->dirfd, staged); // nothing is there after a commit
	return rc < 0 ? vc_error_wrap(err, "image '%s'", text) : 0;
}

int store_name(struct store *s, const char *digest, const struct store_name *name, struct store_entry *ret, struct vc_error *err)
{
	struct store_record record;
	int rc = record_fill(&record, name, digest, err);
	pthread_mutex_lock(&s->lock);
	struct store_image *image = store_image_find(s, digest);
	if (rc == 0 && !image)
		rc = vc_error_set(err, VC_ENOTFOUND, "no image with digest %.64s", digest);
	if (rc == 0)
		rc = publish_name(s, &record, err);
	if (rc == 0)
		fill_entry(s, &record, store_image_find(s, digest), ret);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

// --- look up ---------------------------------------------------------------------------------------------------

static int not_found(const char *name, struct vc_error *err)
{
	return vc_error_set(err, VC_ENOTFOUND, "no image '%.80s': see vcctl image list, or build it with vcctl image build",
			    name);
}

// 0: not visible; higher is better. Own first, then root's, then any public one.
static int rank_of(const struct store_record *record, uid_t uid)
{
	if (record->owner == uid)
		return 3;
	if (!record->is_public)
		return 0;
	return record->owner == 0 ? 2 : 1;
}

static const struct store_record *best_record(const struct store *s, const char *name, uid_t uid, const uid_t *owner)
{
	const struct store_record *best = NULL;
	for (size_t i = 0; i < s->n_records; i++) {
		const struct store_record *r = &s->records[i];
		if (strcmp(r->name, name) != 0 || (owner && r->owner != *owner) || (rank_of(r, uid) == 0 && uid != 0))
			continue;
		int better = best ? rank_of(r, uid) - rank_of(best, uid) : 1;
		if (better > 0 || (better == 0 && r->created < best->created))
			best = r;
	}
	return best;
}

// The owner whom the first `len` bytes name.
static int find_owner(const char *name, size_t len, uid_t *ret)
{
	char text[VC_USER_MAX + 1] = "";
	if (len >= sizeof(text))
		return -1;
	memcpy(text, name, len);
	return vc_user_find("owner", text, ret, NULL);
}

int store_lookup(struct store *s, const char *name, uid_t uid, struct store_entry *ret, struct vc_error *err)
{
	const char *slash = strchr(name, '/');
	uid_t owner = 0;
	if (slash && find_owner(name, (size_t)(slash - name), &owner) < 0)
		return not_found(name, err);
	pthread_mutex_lock(&s->lock);
	const struct store_record *record = best_record(s, slash ? slash + 1 : name, uid, slash ? &owner : NULL);
	if (record)
		fill_entry(s, record, store_image_find(s, record->digest), ret);
	pthread_mutex_unlock(&s->lock);
	return record ? 0 : not_found(name, err);
}

static int compare_entries(const void *a, const void *b)
{
	const struct store_entry *x = a, *y = b;
	int c = strcmp(x->name, y->name);
	if (c == 0)
		c = (x->owner > y->owner) - (x->owner < y->owner);
	return c ? c : strcmp(x->digest, y->digest);
}

int store_list(struct store *s, uid_t uid, struct store_entry **ret, size_t *ret_n, struct vc_error *err)
{
	pthread_mutex_lock(&s->lock);
	size_t n = 0;
	struct store_entry *entries = calloc(s->n_records + s->n_images + 1, sizeof(*entries));
	for (size_t i = 0; entries && i < s->n_records; i++) {
		if (uid == 0 || rank_of(&s->records[i], uid) > 0)
			fill_entry(s, &s->records[i], store_image_find(s, s->records[i].digest), &entries[n++]);
	}
	for (size_t i = 0; entries && uid == 0 && i < s->n_images; i++) {
		if (names_of(s, s->images[i].digest) == 0)
			fill_entry(s, NULL, &s->images[i], &entries[n++]);
	}
	pthread_mutex_unlock(&s->lock);
	if (!entries)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	qsort(entries, n, sizeof(*entries), compare_entries);
	*ret = entries;
	*ret_n = n;
	return 0;
}

// --- remove ----------------------------------------------------------------------------------------------------

static int remove_locked(struct store *s, const char *name, uid_t owner, struct vc_error *err)
{
	struct store_record *record = record_find(s, name, owner);
	if (!record)
		return not_found(name, err);
	unsigned pins = users_of(s, record->digest);
	if (pins && names_of(s, record->digest) == 1)
		return vc_error_set(err, VC_EBUSY, "image '%s' is in use by %u running cluster%s: try again when they ended",
				    name, pins, pins == 1 ? "" : "s");
	if (store_file_remove_record(s->dirfd, record, err) < 0)
		return -1;
	char digest[DIGEST_HEX_LEN];
	memcpy(digest, record->digest, sizeof(digest));
	*record = s->records[--s->n_records];
	return image_release(s, digest, err);
}

int store_remove(struct store *s, const char *name, uid_t owner, struct vc_error *err)
{
	pthread_mutex_lock(&s->lock);
	int rc = remove_locked(s, name, owner, err);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int store_evict(struct store *s, const char *digest, struct vc_error *err)
{
	pthread_mutex_lock(&s->lock);
	int rc = 0;
	if (!store_image_find(s, digest))
		rc = vc_error_set(err, VC_ENOTFOUND, "no image with digest %.64s", digest);
	else if (names_of(s, digest) || pins_of(s, digest))
		rc = vc_error_set(err, VC_EBUSY, "image %.12s has a name or is in use", digest);
	else
		rc = image_drop(s, digest, err);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int store_collect(struct store *s, unsigned *ret_dropped, struct vc_error *err)
{
	int rc = 0;
	*ret_dropped = 0;
	pthread_mutex_lock(&s->lock);
	for (size_t i = s->n_images; rc == 0 && i-- > 0;) {
		size_t before = s->n_images;
		rc = image_release(s, s->images[i].digest, err);
		*ret_dropped += (unsigned)(before - s->n_images);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

// --- pins ------------------------------------------------------------------------------------------------------

static struct store_pin *pin_find(struct store *s, const char *digest, const char *cluster)
{
	for (size_t i = 0; i < s->n_pins; i++) {
		if (strcmp(s->pins[i].digest, digest) == 0 && strcmp(s->pins[i].cluster, cluster) == 0)
			return &s->pins[i];
	}
	return NULL;
}

static int pin_locked(struct store *s, const char *digest, const char *cluster, struct vc_error *err)
{
	if (!store_image_find(s, digest))
		return vc_error_set(err, VC_ENOTFOUND, "no image with digest %.64s", digest);
	if (pin_find(s, digest, cluster))
		return 0;
	struct store_pin *pins = grow(s->pins, s->n_pins, sizeof(*pins));
	if (!pins)
		return vc_error_set(err, ENOMEM, "image store: out of memory");
	s->pins = pins;
	struct store_pin *pin = &s->pins[s->n_pins++];
	memcpy(pin->digest, digest, sizeof(pin->digest));
	memcpy(pin->cluster, cluster, strlen(cluster) + 1);
	return 0;
}

int store_pin(struct store *s, const char *digest, const char *cluster, struct vc_error *err)
{
	if (!digest_hex_valid(digest) || !cluster[0] || strlen(cluster) > IMAGE_CLUSTER_ID_MAX)
		return vc_error_set(err, VC_EFAILED, "cannot pin: digest or cluster id is malformed");
	pthread_mutex_lock(&s->lock);
	int rc = pin_locked(s, digest, cluster, err);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void store_unpin(struct store *s, const char *digest, const char *cluster)
{
	pthread_mutex_lock(&s->lock);
	struct store_pin *pin = pin_find(s, digest, cluster);
	if (pin) {
		*pin = s->pins[--s->n_pins];
		// A failure leaves the image for store_collect().
		(void)image_release(s, digest, NULL);
	}
	pthread_mutex_unlock(&s->lock);
}

void store_each_pin(struct store *s, void (*fn)(const char *digest, const char *cluster, void *ctx), void *ctx)
{
	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < s->n_pins; i++)
		fn(s->pins[i].digest, s->pins[i].cluster, ctx);
	pthread_mutex_unlock(&s->lock);
}
