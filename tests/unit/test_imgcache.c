// SPDX-License-Identifier: GPL-2.0-or-later
// The image cache on disk: what a build leaves is found again, after a restart too; what has to go goes, what is in use
// never does; a crash at any point leaves an entry or none.
#include "tests/unit/test.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/image_build.h"
#include "vcd/image/imgcache.h"

#define RAW (16u << 20) // bytes of each raw file; DATA of them are not holes
#define DATA (256u << 10)

struct env {
	char dir[64];
	struct store *s;
	struct imgcache *c;
	unsigned dropped;
	bool racing; // images are evicted by others at any time
	unsigned n; // raw files made so far: each has a content of its own
};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void open_all(struct env *e, uint64_t capacity, unsigned lease)
{
	char path[128];
	struct vc_error err = VC_ERROR_INIT;
	imgcache_close(e->c);
	store_close(e->s);
	e->c = NULL;
	e->s = NULL;
	snprintf(path, sizeof(path), "%s/images", e->dir);
	if (store_open(path, &e->s, NULL, &err) < 0 || imgcache_open(e->s, capacity, lease, &e->c, &e->dropped, &err) < 0)
		fail_msg("%s", err.text);
}

static int setup(void **state)
{
	struct env *e = calloc(1, sizeof(*e));
	snprintf(e->dir, sizeof(e->dir), "/tmp/vc-test-imgcache-XXXXXX");
	if (!mkdtemp(e->dir))
		return -1;
	open_all(e, 64u << 20, 0);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;
	imgcache_close(e->c);
	store_close(e->s);
	nftw(e->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	free(e);
	return 0;
}

static struct recipe *recipe(const char *packages, const char *commands)
{
	vc_autofree char *text = NULL;
	struct recipe *r = NULL;
	struct vc_error err = VC_ERROR_INIT;
	assert_true(asprintf(&text, "{\"name\":\"x\",\"base\":{\"type\":\"debian\",\"suite\":\"bookworm\"},\"packages\":[%s],"
				    "\"commands\":[%s]}", packages, commands) > 0);
	vc_autojson struct json_object *obj = vc_json_parse(text, strlen(text), &err);
	if (!obj || recipe_from_json(obj, &r, &err) < 0)
		fail_msg("%s", err.text);
	return r;
}

static void make_raw(struct env *e, const char *path)
{
	static char data[DATA];
	memset(data, 'a' + (int)(e->n++ % 26), sizeof(data));
	snprintf(data, sizeof(data), "%u", e->n);
	vc_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	assert_int_equal(ftruncate(fd, RAW), 0);
}

static int give_name(struct env *e, const char *name, struct store_entry *entry)
{
	struct store_name n = {.name = name, .key = entry->key, .owner = 1000};
	struct vc_error err = VC_ERROR_INIT;
	if (store_name(e->s, entry->digest, &n, entry, &err) == 0)
		return 0;
	// A racer without regard for the lease may evict it between publication and name: then that is what is said.
	if (err.code != VC_ENOTFOUND || !e->racing)
		fail_msg("name: %d %s", err.code, err.text);
	return 0;
}

// What vc-build leaves: kept stages, root.raw, build.json; then publication and the cache, as vcd does it.
static struct store_entry finish(struct env *e, const struct recipe *r, struct imgcache_parent *p, const char *name,
				 const char *kept, double seconds)
{
	char path[160], work[96];
	struct store_entry entry;
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *build = NULL;
	snprintf(work, sizeof(work), "%s/images/work", e->dir);
	mkdir(work, 0700);
	snprintf(path, sizeof(path), "%s/root.raw", work);
	make_raw(e, path);
	vc_autojson struct json_object *stages = json_object_new_object();
	if (kept) {
		snprintf(path, sizeof(path), "%s/kept.%s", work, kept);
		assert_int_equal(mkdir(path, 0700), 0);
		snprintf(path, sizeof(path), "%s/kept.%s/lists", work, kept);
		assert_int_equal(mkdir(path, 0700), 0);
		snprintf(path, sizeof(path), "%s/kept.%s/root.raw", work, kept);
		make_raw(e, path);
		vc_json_add_u64(stages, kept, RAW);
	}
	snprintf(path, sizeof(path), "%s/build.json", work);
	vc_autofclose FILE *f = fopen(path, "we");
	fprintf(f, "{\"seconds\":{\"base\":%f},\"kept\":%s,\"lock\":{\"release\":[\"r1\"],\"packages\":[]}}", seconds,
		json_object_to_json_string(stages));
	fflush(f);
	if (image_finish(e->s, r, work, &entry, &build, &err) < 0 || (name && give_name(e, name, &entry) < 0) ||
	    imgcache_keep(e->c, r, p, work, build, &entry, &err) < 0)
		fail_msg("%s", err.text);
	imgcache_end(e->c, p);
	nftw(work, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	return entry;
}

static struct store_entry build(struct env *e, const char *packages, const char *name, const char *kept, double seconds)
{
	struct imgcache_parent p;
	recipe_auto struct recipe *r = recipe(packages, "");
	assert_int_equal(imgcache_begin(e->c, r, false, &p, NULL), 0);
	return finish(e, r, &p, name, kept, seconds);
}

static int find(struct env *e, const char *packages, char digest[DIGEST_HEX_LEN])
{
	recipe_auto struct recipe *r = recipe(packages, "");
	return imgcache_find(e->c, r, digest, NULL, NULL);
}

static void test_the_same_recipe_is_found(void **state)
{
	struct env *e = *state;
	char digest[DIGEST_HEX_LEN];
	assert_int_equal(find(e, "\"mpich\"", digest), -1);
	struct store_entry a = build(e, "\"mpich\"", NULL, "packages", 5);
	assert_string_equal(a.name, "");
	assert_int_equal(find(e, "\"mpich\"", digest), 0);
	assert_string_equal(digest, a.digest);
	open_all(e, 64u << 20, 0);
	assert_int_equal(e->dropped, 0);
	assert_int_equal(find(e, "\"mpich\"", digest), 0);
	assert_int_equal(find(e, "\"hpcc\"", digest), -1);
	assert_int_equal(store_evict(e->s, a.digest, NULL), 0); // by somebody else
	assert_int_equal(find(e, "\"mpich\"", digest), -1);
	assert_int_equal(imgcache_usage(e->c).images, 0);
}

static void test_a_build_grows_from_a_stage(void **state)
{
	struct env *e = *state;
	struct imgcache_parent p;
	build(e, "\"mpich\"", "x", "packages", 5);
	open_all(e, 64u << 20, 0);
	recipe_auto struct recipe *more = recipe("\"mpich\",\"hpcc\"", ""), *same = recipe("\"mpich\"", "\"true\"");
	assert_int_equal(imgcache_begin(e->c, more, false, &p, NULL), 0);
	assert_non_null(p.raw);
	assert_int_equal(access(p.raw, R_OK), 0);
	assert_int_equal(access(p.lists, R_OK), 0);
	assert_int_equal(p.stage, STAGE_PACKAGES);
	assert_false(p.complete);
	assert_true(p.seconds == 5);
	imgcache_end(e->c, &p);
	assert_int_equal(imgcache_begin(e->c, same, false, &p, NULL), 0);
	assert_true(p.complete);
	imgcache_end(e->c, &p);
	assert_int_equal(imgcache_begin(e->c, more, true, &p, NULL), 0); // --refresh
	assert_null(p.raw);
	imgcache_end(e->c, &p);
}

static void test_the_parent_of_a_build_stays(void **state)
{
	struct env *e = *state;
	struct imgcache_parent p, none = {0};
	build(e, "\"mpich\"", NULL, "packages", 5);
	recipe_auto struct recipe *more = recipe("\"mpich\",\"hpcc\"", ""), *other = recipe("\"vim\"", "");
	assert_int_equal(imgcache_begin(e->c, more, false, &p, NULL), 0);
	// The cache holds one stage and the newest image: a costlier stage comes while the parent is in use.
	struct imgcache_usage u = imgcache_usage(e->c);
	imgcache_close(e->c);
	assert_int_equal(imgcache_open(e->s, u.bytes, 0, &e->c, &e->dropped, NULL), 0);
	struct imgcache_parent again;
	assert_int_equal(imgcache_begin(e->c, more, false, &again, NULL), 0);
	assert_string_equal(again.raw, p.raw);
	finish(e, other, &none, NULL, "packages", 500);
	assert_int_equal(access(again.raw, R_OK), 0);
	imgcache_end(e->c, &again);
	free(p.raw);
	free(p.lists);
	// In use no more: now it is the cheaper one.
	recipe_auto struct recipe *third = recipe("\"gcc\"", "");
	assert_int_equal(imgcache_begin(e->c, third, true, &p, NULL), 0);
	finish(e, third, &p, NULL, "packages", 600);
	assert_int_equal(imgcache_begin(e->c, more, false, &p, NULL), 0);
	assert_null(p.raw);
	imgcache_end(e->c, &p);
	assert_true(imgcache_usage(e->c).evicted > 0);
}

// Two builds from one image at once: the end of the first one leaves the other's pin.
static void test_an_image_that_is_built_upon_stays(void **state)
{
	struct env *e = *state;
	struct imgcache_parent a, b;
	struct store_entry base = build(e, "\"a1\"", NULL, NULL, 1);
	recipe_auto struct recipe *r = recipe("", "");
	r->base = RECIPE_BASE_IMAGE;
	r->from = strdup("a1");
	memcpy(r->from_digest, base.digest, sizeof(r->from_digest));
	assert_int_equal(imgcache_begin(e->c, r, false, &a, NULL), 0);
	assert_int_equal(imgcache_begin(e->c, r, false, &b, NULL), 0);
	assert_non_null(a.raw);
	imgcache_end(e->c, &a);
	assert_int_equal(store_evict(e->s, base.digest, NULL), -1);
	assert_int_equal(access(b.raw, R_OK), 0);
	imgcache_end(e->c, &b);
	assert_int_equal(store_evict(e->s, base.digest, NULL), 0);
	assert_int_equal(imgcache_begin(e->c, r, false, &a, NULL), -1); // removed meanwhile: said, not built upon something else
}

static void test_images_in_use_stay(void **state)
{
	struct env *e = *state;
	char digest[DIGEST_HEX_LEN];
	struct store_entry named = build(e, "\"a1\"", "x", NULL, 1), pinned = build(e, "\"a2\"", NULL, NULL, 1),
			   free_one = build(e, "\"a3\"", NULL, NULL, 1);
	assert_int_equal(store_pin(e->s, pinned.digest, "cluster", NULL), 0);
	imgcache_close(e->c);
	assert_int_equal(imgcache_open(e->s, 1, 0, &e->c, &e->dropped, NULL), 0); // room for nothing
	assert_true(store_has(e->s, named.digest));
	assert_true(store_has(e->s, pinned.digest));
	assert_false(store_has(e->s, free_one.digest));
	assert_int_equal(find(e, "\"a1\"", digest), 0);
	assert_int_equal(find(e, "\"a2\"", digest), 0);
	assert_int_equal(find(e, "\"a3\"", digest), -1);
	store_unpin(e->s, pinned.digest, "cluster");
	assert_int_equal(imgcache_fetched(e->c, named.digest, 0, NULL), 0);
	assert_false(store_has(e->s, pinned.digest));
	assert_true(store_has(e->s, named.digest));
	assert_int_equal(imgcache_usage(e->c).bytes, 0); // what has a name is not the cache's
}

// Three copies of alice's and one of bob's: only alice's own go for her, never what is pinned.
static void test_one_users_copies(void **state)
{
	struct env *e = *state;
	struct vc_error err = VC_ERROR_INIT;
	static const char *const parts[] = {"\"a1\"", "\"a2\"", "\"a3\"", "\"b1\""};
	struct store_entry im[4];
	uint64_t one = 0;
	open_all(e, 100 * DATA, 1000); // a lease: a quota does not wait for it
	for (int i = 0; i < 4; i++) {
		im[i] = build(e, parts[i], NULL, NULL, 1);
		one = im[i].data_bytes > one ? im[i].data_bytes : one;
	}
	assert_int_equal(imgcache_charge(e->c, im[3].digest, 1002, one, &err), 0);
	assert_int_equal(store_pin(e->s, im[0].digest, "cluster", NULL), 0);
	assert_int_equal(imgcache_charge(e->c, im[0].digest, 1001, 2 * one, &err), 0);
	assert_int_equal(imgcache_charge(e->c, im[1].digest, 1001, 2 * one, &err), 0);
	assert_true(store_has(e->s, im[1].digest));
	assert_int_equal(imgcache_charge(e->c, im[2].digest, 1001, 2 * one, &err), 0);
	assert_false(store_has(e->s, im[1].digest));
	assert_true(store_has(e->s, im[0].digest) && store_has(e->s, im[2].digest) && store_has(e->s, im[3].digest));
	open_all(e, 100 * DATA, 1000); // whose they are is remembered
	assert_int_equal(store_pin(e->s, im[0].digest, "cluster", NULL), 0);
	assert_int_equal(imgcache_charge(e->c, im[2].digest, 1001, one, &err), -1);
	assert_int_equal(err.code, VC_EUSER);
	assert_true(store_has(e->s, im[0].digest) && store_has(e->s, im[3].digest));
}

static void test_the_lease_protects_what_was_asked_for(void **state)
{
	struct env *e = *state;
	struct store_entry a = build(e, "\"a1\"", NULL, NULL, 1);
	open_all(e, 1, 1000);
	assert_true(store_has(e->s, a.digest));
	open_all(e, 1, 0);
	assert_false(store_has(e->s, a.digest));
}

// A recipe is built anew (--refresh) while a job still fetches what it made before.
static void test_a_rebuild_leaves_the_former_image_its_lease(void **state)
{
	struct env *e = *state;
	char digest[DIGEST_HEX_LEN];
	open_all(e, 64u << 20, 1000);
	struct store_entry old = build(e, "\"a1\"", NULL, NULL, 1), new = build(e, "\"a1\"", NULL, NULL, 1);
	assert_string_not_equal(old.digest, new.digest);
	assert_int_equal(find(e, "\"a1\"", digest), 0);
	assert_string_equal(digest, new.digest);
	assert_true(store_has(e->s, old.digest));
	open_all(e, 1, 1000);
	assert_true(store_has(e->s, old.digest));
	open_all(e, 1, 0);
	assert_false(store_has(e->s, old.digest)); // and it is not forgotten: without a lease it goes
}

static void test_strangers_are_adopted(void **state)
{
	struct env *e = *state;
	char path[160];
	struct store_entry a;
	struct store_name none = {.name = NULL};
	snprintf(path, sizeof(path), "%s/images/work", e->dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/images/work/root.raw", e->dir);
	make_raw(e, path);
	snprintf(path, sizeof(path), "%s/images/work", e->dir);
	assert_int_equal(store_publish(e->s, path, &none, &a, NULL), 0);
	open_all(e, 64u << 20, 0); // a crash between publication and the cache
	assert_true(store_has(e->s, a.digest));
	assert_int_equal(imgcache_usage(e->c).images, 1);
	assert_int_equal(imgcache_usage(e->c).bytes, a.data_bytes);
	open_all(e, 1, 0);
	assert_false(store_has(e->s, a.digest));
}

static void test_what_a_crash_leaves_goes(void **state)
{
	struct env *e = *state;
	char path[192], id[DIGEST_HEX_LEN];
	recipe_auto struct recipe *r = recipe("\"mpich\"", "");
	struct imgcache_parent p;
	build(e, "\"mpich\"", NULL, "packages", 5);
	assert_int_equal(imgcache_begin(e->c, r, false, &p, NULL), 0);
	memcpy(id, p.held[0], sizeof(id));
	assert_int_equal(truncate(p.raw, RAW / 2), 0);
	imgcache_end(e->c, &p);
	snprintf(path, sizeof(path), "%s/images/stages/%s.gone", e->dir, "abc");
	assert_int_equal(mkdir(path, 0700), 0);
	open_all(e, 64u << 20, 0);
	assert_int_equal(e->dropped, 2);
	snprintf(path, sizeof(path), "%s/images/stages/%s", e->dir, id);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/images/stages/abc.gone", e->dir);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(imgcache_usage(e->c).stages, 0);
}

// Builds, look-ups, names, pins and removals at once: whoever has pinned an image finds it.
struct racer {
	struct env *e;
	char digest[4][DIGEST_HEX_LEN];
	bool stop;
};

static void *racer_run(void *arg)
{
	struct racer *r = arg;
	for (unsigned i = 0; !__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE); i++) {
		const char *digest = r->digest[i % 4];
		if (store_pin(r->e->s, digest, "racer", NULL) == 0) {
			vc_autofree char *path = NULL;
			if (store_path(r->e->s, digest, &path, NULL) < 0 || access(path, R_OK) < 0)
				return (void *)1;
			store_unpin(r->e->s, digest, "racer");
		}
		(void)imgcache_fetched(r->e->c, digest, 0, NULL);
		(void)store_evict(r->e->s, digest, NULL);
	}
	return NULL;
}

static void test_races(void **state)
{
	struct env *e = *state;
	struct racer r = {.e = e};
	pthread_t threads[2];
	void *failed[2];
	open_all(e, 2 * DATA, 0);
	static const char *const packages[] = {"\"a1\"", "\"a2\"", "\"a3\"", "\"a4\""};
	for (size_t i = 0; i < 4; i++) {
		struct store_entry entry = build(e, packages[i], NULL, NULL, 1);
		memcpy(r.digest[i], entry.digest, DIGEST_HEX_LEN);
	}
	e->racing = true;
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, racer_run, &r), 0);
	for (size_t i = 0; i < 20; i++)
		build(e, packages[i % 4], i % 3 ? NULL : "x", i % 2 ? "packages" : NULL, 1 + (double)i);
	__atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(threads[i], &failed[i]), 0);
		assert_null(failed[i]);
	}
	open_all(e, 2 * DATA, 0);
	assert_int_equal(e->dropped, 0);
	assert_true(imgcache_usage(e->c).bytes <= 2 * DATA);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_same_recipe_is_found), TEST(test_a_build_grows_from_a_stage),
		TEST(test_the_parent_of_a_build_stays), TEST(test_images_in_use_stay),
		TEST(test_an_image_that_is_built_upon_stays),
		TEST(test_one_users_copies), TEST(test_the_lease_protects_what_was_asked_for), TEST(test_strangers_are_adopted),
		TEST(test_a_rebuild_leaves_the_former_image_its_lease),
		TEST(test_what_a_crash_leaves_goes), TEST(test_races),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
