// SPDX-License-Identifier: GPL-2.0-or-later
// The image cache: see imgcache.h. The table is under one lock; removals happen under it too, so that nobody chooses
// what is on its way out.
#include "vcd/image/imgcache.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/gdsf.h"
#include "vcd/image/imgcache_file.h"

#define ADOPT_BYTES_PER_SECOND 50e6 // cost of an image of which none was measured: a busy network of 1 Gbit/s
#define PARENT_PIN "image-build-%u" // of an image that a build grows from: one pin per build

struct imgcache {
	struct store *store;
	int dirfd;
	char *dir;
	unsigned lease_s;
	pthread_mutex_t lock;
	struct imgcache_entry *entries;
	size_t n;
	struct gdsf *policy;
	struct imgcache_usage usage;
	unsigned builds; // so far, for the names of their pins
};

// --- the table; the caller holds the lock --------------------------------------------------------------------------

static struct imgcache_entry *find(struct imgcache *c, const char *id)
{
	for (size_t i = 0; i < c->n; i++) {
		if (strcmp(c->entries[i].id, id) == 0)
			return &c->entries[i];
	}
	return NULL;
}

// Takes over *e, also when it fails.
static int add(struct imgcache *c, struct imgcache_entry *e, struct vc_error *err)
{
	struct imgcache_entry *entries = c->n < IMGCACHE_ENTRIES_MAX ? reallocarray(c->entries, c->n + 1, sizeof(*entries)) : NULL;
	if (!entries) {
		imgcache_entry_clear(e);
		return vc_error_set(err, ENOMEM, "image cache: too many entries, or no memory");
	}
	c->entries = entries;
	c->entries[c->n++] = *e;
	return 0;
}

// Out of table and disk; the policy has let go of it.
static void drop(struct imgcache *c, struct imgcache_entry *e)
{
	imgcache_file_remove(c->dirfd, e->id);
	imgcache_entry_clear(e);
	*e = c->entries[--c->n];
}

// The stages alone, as the choice wants them; free() it.
static struct stage_info *stages(const struct imgcache *c, size_t *ret_n)
{
	struct stage_info *all = calloc(c->n + 1, sizeof(*all));
	*ret_n = 0;
	for (size_t i = 0; all && i < c->n; i++) {
		if (!c->entries[i].is_image)
			all[(*ret_n)++] = c->entries[i].info;
	}
	return all;
}

static double worth(const struct imgcache *c, const struct imgcache_entry *e)
{
	size_t n = 0;
	if (e->is_image)
		return e->info.seconds;
	vc_autofree struct stage_info *all = stages(c, &n);
	return all ? stage_worth(&e->info, all, n) : e->info.seconds;
}

// --- what has to stay ------------------------------------------------------------------------------------------------

static void set_stays(struct imgcache *c, struct imgcache_entry *e, bool stays)
{
	if (stays == e->stays)
		return;
	e->stays = stays;
	if (stays)
		gdsf_hold(c->policy, e->id);
	else
		gdsf_release(c->policy, e->id);
}

// A name makes an image somebody's: its removal from the cache would free nothing, so it counts as nothing.
static void count(struct imgcache *c, const struct imgcache_entry *e, bool named)
{
	const struct gdsf_item *item = gdsf_find(c->policy, e->id);
	uint64_t bytes = named ? 0 : e->bytes;
	if (item && item->bytes != bytes)
		(void)gdsf_restore(c->policy, e->id, e->info.seconds, bytes, item->uses, NULL);
}

static struct imgcache_entry *find_image(struct imgcache *c, const char *digest)
{
	for (size_t i = 0; i < c->n; i++) {
		if (c->entries[i].is_image && strcmp(c->entries[i].digest, digest) == 0)
			return &c->entries[i];
	}
	return NULL;
}

// An image that nobody put into the cache and that has no name: what a crash, or an older vcd, has left.
static void adopt(struct imgcache *c, const struct store_entry *image)
{
	struct imgcache_entry e = {.is_image = true, .bytes = image->data_bytes, .uses = 1, .used = time(NULL)};
	e.info.stage = STAGE_COMMANDS;
	e.info.size = image->size;
	e.info.created = image->created;
	e.info.seconds = (double)image->data_bytes / ADOPT_BYTES_PER_SECOND;
	memcpy(e.id, image->digest, sizeof(e.id));
	memcpy(e.digest, image->digest, sizeof(e.digest));
	memset(e.info.base, '0', DIGEST_HEX_LEN - 1); // no recipe is known
	if (add(c, &e, NULL) == 0)
		(void)gdsf_restore(c->policy, image->digest, (double)image->data_bytes / ADOPT_BYTES_PER_SECOND,
				   image->data_bytes, 1, NULL);
}

// Marks from the store's names and pins (clusters' disks, transfers, builds), and from the lease.
static void mark(struct imgcache *c)
{
	vc_autofree struct store_entry *all = NULL;
	size_t n = 0;
	int64_t now = time(NULL);
	bool known = store_list(c->store, 0, &all, &n, NULL) == 0;
	for (size_t i = 0; known && i < n; i++) {
		if (!all[i].name[0] && !find_image(c, all[i].digest))
			adopt(c, &all[i]);
	}
	for (size_t i = 0; i < c->n; i++) {
		struct imgcache_entry *e = &c->entries[i];
		if (!e->is_image)
			continue;
		bool named = false, pinned = false;
		for (size_t k = 0; k < n; k++) {
			bool same = strcmp(all[k].digest, e->digest) == 0;
			named |= same && all[k].name[0];
			pinned |= same && all[k].pins;
		}
		count(c, e, named);
		set_stays(c, e, !known || named || pinned || now - e->used < (int64_t)c->lease_s);
	}
}

// --- eviction ----------------------------------------------------------------------------------------------------------

static void evict(struct imgcache *c, char (*victims)[DIGEST_HEX_LEN], size_t n)
{
	for (size_t i = 0; victims && i < n; i++) {
		struct imgcache_entry *e = find(c, victims[i]);
		if (!e)
			continue;
		// Pinned or named since it was marked: the store's own refusal is what counts.
		struct vc_error why = VC_ERROR_INIT;
		if (e->is_image && store_evict(c->store, e->digest, &why) < 0 && why.code == VC_EBUSY) {
			(void)gdsf_restore(c->policy, e->id, worth(c, e), e->bytes, e->uses, NULL);
			continue;
		}
		c->usage.evicted++;
		drop(c, e);
	}
}

static void shrink(struct imgcache *c)
{
	char(*victims)[DIGEST_HEX_LEN] = NULL;
	size_t n = 0;
	mark(c);
	gdsf_shrink(c->policy, c->usage.capacity, &victims, &n);
	evict(c, victims, n);
	free(victims);
}

// --- open --------------------------------------------------------------------------------------------------------------

static int load(void *ctx, struct imgcache_entry *e, struct vc_error *err)
{
	struct imgcache *c = ctx;
	if (e->is_image && !store_has(c->store, e->digest)) {
		imgcache_file_remove(c->dirfd, e->id);
		imgcache_entry_clear(e);
		return 0;
	}
	struct imgcache_entry copy = *e;
	if (add(c, e, err) < 0)
		return -1;
	return gdsf_restore(c->policy, copy.id, copy.info.seconds, copy.bytes, copy.uses, err);
}

static int open_dir(struct imgcache *c, struct vc_error *err)
{
	if (asprintf(&c->dir, "%s/" IMGCACHE_DIR, store_dir(c->store)) < 0) {
		c->dir = NULL;
		return vc_error_set(err, ENOMEM, "image cache: out of memory");
	}
	if (mkdir(c->dir, 0700) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", c->dir);
	c->dirfd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return c->dirfd < 0 ? vc_error_errno(err, "%s", c->dir) : 0;
}

int imgcache_open(struct store *store, uint64_t capacity, unsigned lease_s, struct imgcache **ret, unsigned *ret_dropped,
		  struct vc_error *err)
{
	struct imgcache *c = calloc(1, sizeof(*c));
	if (!c)
		return vc_error_set(err, ENOMEM, "image cache: out of memory");
	*c = (struct imgcache){.store = store, .dirfd = -1, .lease_s = lease_s, .usage.capacity = capacity};
	pthread_mutex_init(&c->lock, NULL);
	c->policy = gdsf_create(capacity);
	*ret_dropped = 0;
	if (!c->policy || open_dir(c, err) < 0 || imgcache_file_each(c->dirfd, load, c, ret_dropped, err) < 0) {
		imgcache_close(c);
		return -1;
	}
	shrink(c); // the capacity may be smaller than it was
	*ret = c;
	return 0;
}

void imgcache_close(struct imgcache *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n; i++)
		imgcache_entry_clear(&c->entries[i]);
	vc_cleanup_close(&c->dirfd);
	pthread_mutex_destroy(&c->lock);
	gdsf_destroy(c->policy);
	free(c->entries);
	free(c->dir);
	free(c);
}

struct imgcache_usage imgcache_usage(struct imgcache *c)
{
	pthread_mutex_lock(&c->lock);
	struct imgcache_usage usage = c->usage;
	usage.bytes = gdsf_bytes(c->policy);
	for (size_t i = 0; i < c->n; i++)
		*(c->entries[i].is_image ? &usage.images : &usage.stages) += 1;
	pthread_mutex_unlock(&c->lock);
	return usage;
}

// --- parents -------------------------------------------------------------------------------------------------------------

static void use(struct imgcache *c, struct imgcache_entry *e)
{
	(void)gdsf_use(c->policy, e->id);
	const struct gdsf_item *item = gdsf_find(c->policy, e->id);
	e->uses = item ? item->uses : e->uses + 1;
	e->used = time(NULL);
	(void)imgcache_file_write(c->dirfd, e, NULL, NULL); // a use that is forgotten costs no more than a worse choice
}

static void hold(struct imgcache *c, struct imgcache_entry *e, char held[DIGEST_HEX_LEN])
{
	gdsf_hold(c->policy, e->id);
	memcpy(held, e->id, DIGEST_HEX_LEN);
}

static bool same_packages(const struct recipe *r, const struct stage_info *s)
{
	size_t a = 0, b = 0;
	while (r->packages && r->packages[a])
		a++;
	while (s->packages && s->packages[b])
		b++;
	return a == b; // the one is a subset of the other already
}

static int from_stage(struct imgcache *c, struct imgcache_entry *e, const struct recipe *r, struct imgcache_parent *p,
		      struct vc_error *err)
{
	if (asprintf(&p->raw, "%s/%s/root.raw", c->dir, e->id) < 0 || asprintf(&p->lists, "%s/%s/lists", c->dir, e->id) < 0)
		return vc_error_set(err, ENOMEM, "image cache: out of memory");
	p->stage = e->info.stage;
	p->seconds = e->info.seconds;
	p->complete = e->info.stage >= STAGE_PACKAGES && same_packages(r, &e->info);
	use(c, e);
	hold(c, e, p->held[0]);
	return 0;
}

// apt's lists of an image's date, so that what is added fits what is there.
static void add_lists(struct imgcache *c, const char *digest, struct imgcache_parent *p)
{
	const struct imgcache_entry *image = find_image(c, digest);
	for (size_t i = 0; image && image->info.release[0] && i < c->n; i++) {
		struct imgcache_entry *e = &c->entries[i];
		if (e->is_image || strcmp(e->info.release, image->info.release) != 0)
			continue;
		if (asprintf(&p->lists, "%s/%s/lists", c->dir, e->id) < 0)
			p->lists = NULL;
		hold(c, e, p->held[1]);
		return;
	}
}

static int from_image(struct imgcache *c, const struct recipe *r, struct imgcache_parent *p, struct vc_error *err)
{
	snprintf(p->pin, sizeof(p->pin), PARENT_PIN, ++c->builds);
	if (store_pin(c->store, r->from_digest, p->pin, err) < 0)
		return vc_error_wrap(err, "image '%s', which is to be built upon", r->from);
	memcpy(p->pinned, r->from_digest, sizeof(p->pinned));
	if (store_path(c->store, r->from_digest, &p->raw, err) < 0)
		return vc_error_wrap(err, "image '%s', which is to be built upon", r->from);
	p->stage = STAGE_BASE;
	add_lists(c, r->from_digest, p);
	return 0;
}

static int begin_locked(struct imgcache *c, const struct recipe *r, bool refresh, struct imgcache_parent *p, struct vc_error *err)
{
	size_t n = 0;
	vc_autofree struct stage_info *all = stages(c, &n);
	if (!all)
		return vc_error_set(err, ENOMEM, "image cache: out of memory");
	const char *release = refresh ? NULL : stage_newest_release(r, all, n);
	const struct stage_info *best = release ? stage_choose(r, release, all, n) : NULL;
	if (best)
		return from_stage(c, find(c, best->key), r, p, err);
	return r->base == RECIPE_BASE_IMAGE ? from_image(c, r, p, err) : 0;
}

int imgcache_begin(struct imgcache *c, const struct recipe *r, bool refresh, struct imgcache_parent *ret, struct vc_error *err)
{
	*ret = (struct imgcache_parent){0};
	pthread_mutex_lock(&c->lock);
	int rc = begin_locked(c, r, refresh, ret, err);
	pthread_mutex_unlock(&c->lock);
	if (rc < 0)
		imgcache_end(c, ret);
	return rc;
}

void imgcache_end(struct imgcache *c, struct imgcache_parent *p)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < VC_ARRAY_LEN(p->held); i++) {
		if (p->held[i][0])
			gdsf_release(c->policy, p->held[i]);
	}
	pthread_mutex_unlock(&c->lock);
	if (p->pinned[0])
		store_unpin(c->store, p->pinned, p->pin);
	free(p->raw);
	free(p->lists);
	*p = (struct imgcache_parent){0};
}

// --- results ---------------------------------------------------------------------------------------------------------------

static char **copy_strv(char *const *items)
{
	size_t n = 0;
	while (items && items[n])
		n++;
	vc_autostrv char **copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		if (!(copy[i] = strdup(items[i])))
			return NULL;
	}
	return vc_steal(&copy);
}

struct result {
	const struct recipe *r;
	const struct imgcache_parent *parent;
	const char *work_dir;
	struct json_object *build, *kept;
	char release[DIGEST_HEX_LEN];
	char keys[STAGES][DIGEST_HEX_LEN];
	double seconds[STAGES]; // cumulated, with the parent's
};

static double number(struct json_object *obj, const char *key)
{
	struct json_object *value = NULL;
	double d = json_object_object_get_ex(obj, key, &value) ? json_object_get_double(value) : 0;
	return d > 0 ? d : 0;
}

// The date of what was resolved: the digest of the archive's Release, "" when nothing was asked of an archive.
static int release_of(struct json_object *build, char ret[DIGEST_HEX_LEN], struct vc_error *err)
{
	struct json_object *lock = NULL, *release = NULL;
	size_t len = 0;
	ret[0] = '\0';
	if (vc_json_obj(build, "lock", &lock, err) < 0 || vc_json_array(lock, "release", 64, &release, err) < 0)
		return -1;
	if (json_object_array_length(release) == 0)
		return 0;
	const char *text = vc_json_text(release, &len);
	uint8_t digest[DIGEST_LEN];
	if (!text)
		return vc_error_set(err, ENOMEM, "image cache: out of memory");
	digest_bytes(text, len, digest);
	digest_hex(digest, ret);
	return 0;
}

static int read_result(struct result *res, struct vc_error *err)
{
	struct json_object *seconds = NULL;
	double sum = res->parent->seconds;
	if (vc_json_obj(res->build, "seconds", &seconds, err) < 0 || vc_json_obj(res->build, "kept", &res->kept, err) < 0 ||
	    release_of(res->build, res->release, err) < 0 || stage_keys(res->r, res->release, res->keys, err) < 0)
		return -1;
	for (int i = 0; i < STAGES; i++)
		res->seconds[i] = sum += number(seconds, stage_name((enum stage)i));
	return 0;
}

static int fill(const struct result *res, struct imgcache_entry *e, struct vc_error *err)
{
	memcpy(e->info.release, res->release, sizeof(e->info.release));
	e->uses = 1;
	e->info.created = e->used = time(NULL);
	if (stage_base_id(res->r, e->info.base, err) < 0)
		return -1;
	e->info.packages = copy_strv(e->info.stage >= STAGE_PACKAGES ? res->r->packages : NULL);
	return e->info.packages ? 0 : vc_error_set(err, ENOMEM, "image cache: out of memory");
}

// Asks the policy, makes room, and only then has the directory appear.
static int admit(struct imgcache *c, struct imgcache_entry *e, const char *from, struct vc_error *err)
{
	char(*victims)[DIGEST_HEX_LEN] = NULL;
	size_t n = 0;
	mark(c);
	bool in = gdsf_admit(c->policy, e->id, worth(c, e), e->bytes, &victims, &n);
	if (in)
		evict(c, victims, n);
	free(victims);
	if (!in) {
		c->usage.refused++;
		imgcache_entry_clear(e);
		return 0; // its directory goes with the build's
	}
	if (imgcache_file_write(c->dirfd, e, from, err) < 0) {
		gdsf_remove(c->policy, e->id);
		imgcache_entry_clear(e);
		return -1;
	}
	return add(c, e, err);
}

static int keep_stage(struct imgcache *c, const struct result *res, enum stage stage, struct vc_error *err)
{
	char from[PATH_MAX];
	struct imgcache_entry e = {.info = {.stage = stage, .seconds = res->seconds[stage]}};
	if (!json_object_object_get_ex(res->kept, stage_name(stage), NULL) || find(c, res->keys[stage]))
		return 0;
	memcpy(e.id, res->keys[stage], sizeof(e.id));
	memcpy(e.info.key, e.id, sizeof(e.info.key));
	snprintf(from, sizeof(from), "%s/kept.%s", res->work_dir, stage_name(stage));
	if (vc_json_u64(res->kept, stage_name(stage), IMAGE_SIZE_MAX, &e.info.size, err) < 0 ||
	    imgcache_file_bytes(from, &e.bytes, err) < 0 || fill(res, &e, err) < 0)
		return -1;
	return admit(c, &e, from, err);
}

// The image is needed whatever the policy thinks of it; others go for it.
static int keep_image(struct imgcache *c, const struct result *res, const struct store_entry *image, struct vc_error *err)
{
	struct imgcache_entry e = {.is_image = true, .bytes = image->data_bytes};
	e.info.stage = STAGE_COMMANDS;
	e.info.size = image->size;
	e.info.seconds = res->seconds[STAGE_COMMANDS];
	memcpy(e.digest, image->digest, sizeof(e.digest));
	memcpy(e.image_key, image->key, sizeof(e.image_key));
	if (recipe_key(res->r, NULL, e.id, err) < 0 || fill(res, &e, err) < 0)
		return -1;
	struct imgcache_entry *old = find(c, e.id);
	if (old) {
		set_stays(c, old, false);
		gdsf_remove(c->policy, old->id);
		drop(c, old); // its image, when it is another one, is adopted: a job may still be fetching it
	}
	char id[DIGEST_HEX_LEN];
	memcpy(id, e.id, sizeof(id));
	double seconds = e.info.seconds;
	uint64_t bytes = e.bytes;
	if (imgcache_file_write(c->dirfd, &e, NULL, err) < 0) {
		imgcache_entry_clear(&e);
		return -1;
	}
	if (add(c, &e, err) < 0 || gdsf_restore(c->policy, id, seconds, bytes, 1, err) < 0)
		return -1;
	gdsf_hold(c->policy, id);
	shrink(c);
	gdsf_release(c->policy, id);
	return 0;
}

int imgcache_keep(struct imgcache *c, const struct recipe *r, const struct imgcache_parent *parent, const char *work_dir,
		  struct json_object *build, const struct store_entry *image, struct vc_error *err)
{
	struct result res = {.r = r, .parent = parent, .work_dir = work_dir, .build = build};
	if (read_result(&res, err) < 0)
		return vc_error_wrap(err, "image cache");
	pthread_mutex_lock(&c->lock);
	int rc = 0;
	for (int i = 0; work_dir && i < STAGES; i++)
		rc |= keep_stage(c, &res, (enum stage)i, err);
	if (rc == 0 || image)
		rc |= image ? keep_image(c, &res, image, rc == 0 ? err : NULL) : 0;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

int imgcache_find(struct imgcache *c, const struct recipe *r, char ret_digest[DIGEST_HEX_LEN], char *ret_key, struct vc_error *err)
{
	char id[DIGEST_HEX_LEN];
	if (recipe_key(r, NULL, id, err) < 0)
		return -1;
	pthread_mutex_lock(&c->lock);
	struct imgcache_entry *e = find(c, id);
	if (e && !store_has(c->store, e->digest)) {
		set_stays(c, e, false);
		gdsf_remove(c->policy, e->id);
		drop(c, e);
		e = NULL;
	}
	if (e) {
		use(c, e);
		memcpy(ret_digest, e->digest, DIGEST_HEX_LEN);
		if (ret_key)
			memcpy(ret_key, e->image_key, DIGEST_HEX_LEN);
	}
	pthread_mutex_unlock(&c->lock);
	return e ? 0 : vc_error_set(err, VC_ENOTFOUND, "no image of this recipe is in the cache");
}

static int fetched_locked(struct imgcache *c, const char *digest, double seconds, struct vc_error *err)
{
	mark(c); // adopts it, if it is new and has no name
	struct imgcache_entry *e = find_image(c, digest);
	if (!e)
		return 0;
	if (seconds > 0) {
		e->info.seconds = seconds;
		(void)gdsf_restore(c->policy, e->id, seconds, gdsf_find(c->policy, e->id)->bytes, e->uses, err);
	}
	use(c, e);
	gdsf_hold(c->policy, e->id);
	char id[DIGEST_HEX_LEN];
	memcpy(id, e->id, sizeof(id));
	shrink(c);
	gdsf_release(c->policy, id);
	return 0;
}

int imgcache_fetched(struct imgcache *c, const char *digest, double seconds, struct vc_error *err)
{
	pthread_mutex_lock(&c->lock);
	int rc = fetched_locked(c, digest, seconds, err);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

// --- one user's copies -------------------------------------------------------------------------------------------------

static bool counts_for(struct imgcache *c, const struct imgcache_entry *e, uid_t uid)
{
	const struct gdsf_item *item = e->is_image && e->charged && e->uid == uid ? gdsf_find(c->policy, e->id) : NULL;
	return item && item->bytes; // 0: it has a name here, and its owner's space holds it
}

// Of the copies that were not tried yet, the one that is worth least; `keep` is none.
static struct imgcache_entry *least_of(struct imgcache *c, uid_t uid, const char *keep)
{
	struct imgcache_entry *least = NULL;
	double lowest = 0;
	for (size_t i = 0; i < c->n; i++) {
		struct imgcache_entry *e = &c->entries[i];
		if (!counts_for(c, e, uid) || e->tried || strcmp(e->id, keep) == 0)
			continue;
		double rank = gdsf_find(c->policy, e->id)->rank;
		if (!least || rank < lowest) {
			least = e;
			lowest = rank;
		}
	}
	return least;
}

static uint64_t bytes_of(struct imgcache *c, uid_t uid)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < c->n; i++)
		bytes += counts_for(c, &c->entries[i], uid) ? c->entries[i].bytes : 0;
	return bytes;
}

static int charge_locked(struct imgcache *c, const char *digest, uid_t uid, uint64_t max, struct vc_error *err)
{
	char keep[DIGEST_HEX_LEN];
	mark(c);
	struct imgcache_entry *e = find_image(c, digest);
	if (!e)
		return 0;
	e->charged = true;
	e->uid = uid;
	memcpy(keep, e->id, sizeof(keep));
	(void)imgcache_file_write(c->dirfd, e, NULL, NULL); // forgotten, it is counted again at its next use
	for (size_t i = 0; i < c->n; i++)
		c->entries[i].tried = false;
	while (bytes_of(c, uid) > max && (e = least_of(c, uid, keep))) {
		e->tried = true;
		if (store_evict(c->store, e->digest, NULL) < 0)
			continue; // in use
		set_stays(c, e, false);
		gdsf_remove(c->policy, e->id);
		c->usage.evicted++;
		drop(c, e);
	}
	uint64_t left = bytes_of(c, uid);
	return left <= max ? 0 : vc_error_set(err, VC_EUSER, "the images of your clusters on this host have %llu MiB, the site allows %llu "
					      "(image-host-space-per-user): end a cluster", (unsigned long long)(left >> 20),
					      (unsigned long long)(max >> 20));
}

int imgcache_charge(struct imgcache *c, const char *digest, uid_t uid, uint64_t max, struct vc_error *err)
{
	pthread_mutex_lock(&c->lock);
	int rc = charge_locked(c, digest, uid, max, err);
	pthread_mutex_unlock(&c->lock);
	return rc;
}
