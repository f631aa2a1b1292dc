// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/image/store and chunks: publication, names and rights, pins, transfers, damage and leftovers.
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "vcd/image/chunks.h"
#include "vcd/image/holding.h"
#include "vcd/image/store.h"

#define CHUNKS 8u // of the test images

struct env {
	char dir[64];
	struct store *s;
	struct store_report report;
};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void path_in(const struct env *e, const char *name, char ret[256])
{
	snprintf(ret, 256, "%s/%s", e->dir, name);
}

static void reopen(struct env *e)
{
	char path[256];
	struct vc_error err = VC_ERROR_INIT;
	store_close(e->s);
	e->s = NULL;
	path_in(e, "images", path);
	if (store_open(path, &e->s, &e->report, &err) < 0)
		fail_msg("store_open: %s", err.text);
}

static int setup(void **state)
{
	struct env *e = calloc(1, sizeof(*e));
	snprintf(e->dir, sizeof(e->dir), "/tmp/vc-test-store-XXXXXX");
	if (!mkdtemp(e->dir))
		return -1;
	reopen(e);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;
	store_close(e->s);
	nftw(e->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	free(e);
	return 0;
}

// A build directory with root.raw: chunk 0 holds `fill`, chunk 5 too, the rest are holes.
static void make_build(const struct env *e, char fill)
{
	char path[256], block[IMAGE_CHUNK];
	path_in(e, "build", path);
	assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
	path_in(e, "build/root.raw", path);
	vc_autoclose int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(ftruncate(fd, CHUNKS * IMAGE_CHUNK), 0);
	memset(block, fill, sizeof(block));
	assert_int_equal(pwrite(fd, block, sizeof(block), 0), sizeof(block));
	assert_int_equal(pwrite(fd, block, sizeof(block), 5 * IMAGE_CHUNK), sizeof(block));
	path_in(e, "build/build.json", path);
	vc_autofclose FILE *f = fopen(path, "we");
	fputs("{\"lock\":{\"packages\":[\"a 1\"]}}", f);
}

static struct store_entry publish(struct env *e, char fill, const char *name, uid_t owner, bool is_public)
{
	char path[256];
	struct vc_error err = VC_ERROR_INIT;
	struct store_entry entry = {.name = ""};
	struct store_name n = {.name = name, .owner = owner, .is_public = is_public};
	make_build(e, fill);
	path_in(e, "build", path);
	if (store_publish(e->s, path, &n, &entry, &err) < 0)
		fail_msg("publish %s: %s", name, err.text);
	return entry;
}

static void test_publish(void **state)
{
	struct env *e = *state;
	struct store_entry a = publish(e, 'a', "mpich", 1000, false), b;
	assert_int_equal(a.size, CHUNKS * IMAGE_CHUNK);
	assert_int_equal(a.data_bytes, 2 * IMAGE_CHUNK);
	reopen(e);
	assert_int_equal(e->report.images, 1);
	assert_int_equal(e->report.leftovers, 0);
	assert_int_equal(store_lookup(e->s, "mpich", 1000, &b, NULL), 0);
	assert_string_equal(a.digest, b.digest);
	vc_autofree char *path = NULL, *meta = NULL;
	assert_int_equal(store_path(e->s, a.digest, &path, NULL), 0);
	assert_int_equal(access(path, R_OK), 0);
	assert_int_equal(store_meta(e->s, a.digest, &meta, NULL), 0);
	assert_contains(meta, "\"packages\":[\"a 1\"]");
	assert_int_equal(store_verify(e->s, a.digest, NULL), 0);
	// The same bytes under a second name are the same image.
	struct store_entry c = publish(e, 'a', "again", 1000, false);
	assert_string_equal(a.digest, c.digest);
}

static void test_digest_is_stable(void **state)
{
	struct env *e = *state;
	// Any change to this value orphans every image in every store.
	assert_string_equal(publish(e, 'a', "x", 0, false).digest, "2ddfaa129e811a15fbcd05ef498a5b9c934b131b1ea44ab359a0420a9eef329f");
}

static void test_visibility(void **state)
{
	struct env *e = *state;
	struct store_entry own = publish(e, 'a', "img", 1000, false), root = publish(e, 'b', "img", 0, true);
	struct store_entry other = publish(e, 'c', "img", 1001, true), hidden = publish(e, 'd', "hidden", 1001, false);
	struct store_entry r;
	assert_int_equal(store_lookup(e->s, "img", 1000, &r, NULL), 0);
	assert_string_equal(r.digest, own.digest);
	assert_int_equal(store_lookup(e->s, "img", 1002, &r, NULL), 0);
	assert_string_equal(r.digest, root.digest);
	assert_int_equal(store_lookup(e->s, "1001/img", 1002, &r, NULL), 0);
	assert_string_equal(r.digest, other.digest);
	assert_int_equal(store_lookup(e->s, "root/img", 1000, &r, NULL), 0);
	assert_string_equal(r.digest, root.digest);
	static const char *const refused[] = {"hidden", "1001/hidden", "1000/img", "none", "no-such-user/img", "/img", "99999999999/img", ""};
	for (size_t i = 0; i < VC_ARRAY_LEN(refused); i++)
		assert_int_equal(store_lookup(e->s, refused[i], 1002, &r, NULL), -1);
	assert_int_equal(store_lookup(e->s, hidden.digest, 1002, &r, NULL), -1); // a digest is not a name
	vc_autofree struct store_entry *seen = NULL, *all = NULL;
	size_t n = 0;
	assert_int_equal(store_list(e->s, 1002, &seen, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(store_list(e->s, 0, &all, &n, NULL), 0);
	assert_int_equal(n, 4);
}

static void test_remove_and_pins(void **state)
{
	struct env *e = *state;
	struct vc_error err = VC_ERROR_INIT;
	struct store_entry a = publish(e, 'a', "img", 1000, false);
	assert_int_equal(store_pin(e->s, a.digest, "cluster1", NULL), 0);
	assert_int_equal(store_pin(e->s, a.digest, "cluster1", NULL), 0);
	assert_int_equal(store_remove(e->s, "img", 1000, &err), -1);
	assert_int_equal(err.code, VC_EBUSY);
	assert_contains(err.text, "in use by 1 running cluster:");
	assert_int_equal(store_remove(e->s, "img", 1001, &err), -1);
	assert_int_equal(err.code, VC_ENOTFOUND);
	// A new build under the name leaves the pinned one until its last pin goes.
	struct store_entry b = publish(e, 'b', "img", 1000, false);
	assert_true(store_has(e->s, a.digest));
	store_unpin(e->s, a.digest, "cluster1");
	store_unpin(e->s, a.digest, "cluster1");
	assert_false(store_has(e->s, a.digest));
	// Who only passes it on keeps its bytes, not its name.
	assert_int_equal(store_pin(e->s, b.digest, STORE_PASSING_PIN "1", NULL), 0);
	assert_int_equal(store_remove(e->s, "img", 1000, NULL), 0);
	assert_true(store_has(e->s, b.digest));
	store_unpin(e->s, b.digest, STORE_PASSING_PIN "1");
	assert_false(store_has(e->s, b.digest));
	reopen(e);
	assert_int_equal(e->report.images + e->report.leftovers + e->report.damaged + e->report.lost_names, 0);
}

static void test_collect_after_restart(void **state)
{
	struct env *e = *state;
	struct store_entry a = publish(e, 'a', "img", 1000, false);
	store_pin(e->s, a.digest, "c", NULL);
	publish(e, 'b', "img", 1000, false);
	reopen(e); // pins are gone, the unnamed image is still there for its cluster
	unsigned dropped = 7;
	assert_true(store_has(e->s, a.digest));
	store_pin(e->s, a.digest, "c", NULL);
	assert_int_equal(store_collect(e->s, &dropped, NULL), 0);
	assert_int_equal(dropped, 0);
	reopen(e);
	assert_int_equal(store_collect(e->s, &dropped, NULL), 0);
	assert_int_equal(dropped, 1);
	assert_false(store_has(e->s, a.digest));
}

static void test_second_process_refused(void **state)
{
	struct env *e = *state;
	struct store *second = NULL;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(store_open(store_dir(e->s), &second, NULL, &err), -1);
	assert_contains(err.text, "in use by another process");
	assert_null(second);
}

// Copies an image into a second store, chunk by chunk.
static int copy_image(struct env *e, struct store *to, const struct store_entry *a, bool corrupt, struct vc_error *err)
{
	vc_autofree char *meta = NULL;
	vc_autofree uint8_t *buf = malloc(IMAGE_CHUNK);
	struct holding *from = NULL, *h = NULL;
	struct chunks *list = NULL;
	size_t written = 0, wanted;
	assert_int_equal(store_meta(e->s, a->digest, &meta, NULL), 0);
	assert_int_equal(store_chunks(e->s, a->digest, &list, NULL), 0);
	assert_int_equal(holding_open(e->s, a->digest, &from, NULL), 0);
	if (holding_begin(to, a->digest, list, meta, &h, err) < 0) {
		holding_close(from);
		return -1;
	}
	assert_int_equal(holding_adopt(h, &wanted, NULL), 0);
	assert_int_equal(holding_lacking(h), 2); // holes are there from the start
	for (size_t i = 0; i < CHUNKS; i++) {
		if (!holding_wants(h, i))
			continue;
		assert_int_equal(holding_read(from, i, buf, NULL), 0);
		buf[0] ^= 1;
		assert_int_equal(holding_write(h, i, buf, err), -1); // never taken, whatever is claimed
		buf[0] ^= 1;
		if (!corrupt)
			assert_int_equal(holding_write(h, i, buf, NULL), 0);
		written++;
	}
	assert_int_equal(written, 1); // chunks 0 and 5 are equal: sent once
	int rc = holding_publish(h, err);
	holding_close(h);
	holding_close(from);
	return rc;
}

static void check_refused(struct store *to, const char *digest, const char *meta, uint64_t size, size_t bytes)
{
	static uint8_t list[2 * DIGEST_LEN];
	struct chunks *chunks = NULL;
	struct holding *h = NULL;
	if (chunks_from_bytes(size, list, bytes, &chunks, NULL) == 0)
		assert_int_equal(holding_begin(to, digest, chunks, meta, &h, NULL), -1);
	assert_null(h);
}

static void test_transfer(void **state)
{
	struct env *e = *state;
	char path[256];
	struct store *to = NULL;
	struct vc_error err = VC_ERROR_INIT;
	struct store_entry a = publish(e, 'a', "img", 1000, false);
	path_in(e, "copy", path);
	assert_int_equal(store_open(path, &to, NULL, NULL), 0);
	assert_int_equal(copy_image(e, to, &a, true, &err), -1);
	assert_contains(err.text, "2 chunks are missing");
	assert_false(store_has(to, a.digest));
	assert_int_equal(copy_image(e, to, &a, false, NULL), 0);
	assert_int_equal(store_verify(to, a.digest, NULL), 0);
	vc_autofree char *meta = NULL;
	assert_int_equal(store_meta(to, a.digest, &meta, NULL), 0);
	assert_contains(meta, "\"packages\":[\"a 1\"]");
	static const uint64_t sizes[] = {0, 1, IMAGE_CHUNK + 1, UINT64_MAX, IMAGE_SIZE_MAX + IMAGE_CHUNK};
	for (size_t i = 0; i < VC_ARRAY_LEN(sizes); i++)
		check_refused(to, a.digest, "{}", sizes[i], DIGEST_LEN);
	check_refused(to, a.digest, "{}", IMAGE_CHUNK, 2 * DIGEST_LEN); // longer than the size says
	check_refused(to, a.digest, "{}", IMAGE_CHUNK, DIGEST_LEN);	// a list that does not give the digest
	// A host's copy has no name: it stays until it is evicted, but not while it is in use.
	unsigned dropped = 1;
	assert_int_equal(store_collect(to, &dropped, NULL), 0);
	assert_int_equal(dropped, 0);
	store_pin(to, a.digest, "c", NULL);
	assert_int_equal(store_evict(to, a.digest, NULL), -1);
	store_unpin(to, a.digest, "c");
	assert_int_equal(store_evict(to, a.digest, NULL), 0);
	store_close(to);
	assert_int_equal(store_open(path, &to, &e->report, NULL), 0);
	assert_int_equal(e->report.leftovers, 0);
	store_close(to);
}

static void spoil(const struct env *e, const char *digest, const char *file, off_t size)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/images/%s/%s", e->dir, digest, file);
	assert_int_equal(chmod(path, 0600), 0);
	if (size >= 0) {
		assert_int_equal(truncate(path, size), 0);
		return;
	}
	vc_autoclose int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "!", 1, 5 * (off_t)IMAGE_CHUNK + 3), 1);
}

static void test_damage(void **state)
{
	struct env *e = *state;
	struct vc_error err = VC_ERROR_INIT;
	struct store_entry a = publish(e, 'a', "bits", 1000, false);
	spoil(e, a.digest, "root.raw", -1);
	assert_int_equal(store_verify(e->s, a.digest, &err), -1);
	assert_contains(err.text, "chunk 5 (byte 327680)");
	static const struct {
		char fill;
		const char *file;
		off_t size;
	} rows[] = {{'b', "root.raw", IMAGE_CHUNK}, {'c', "image.json", 3}, {'d', "chunks", 0}, {'e', "chunks", 40}};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct store_entry b = publish(e, rows[i].fill, "img", 1000, false);
		spoil(e, b.digest, rows[i].file, rows[i].size);
		reopen(e);
		assert_int_equal(e->report.damaged, 1);
		assert_int_equal(e->report.lost_names, 1);
		assert_false(store_has(e->s, b.digest));
	}
	assert_true(store_has(e->s, a.digest));
}

static void test_leftovers(void **state)
{
	struct env *e = *state;
	char path[256];
	store_close(e->s);
	e->s = NULL;
	path_in(e, "images/incoming/dead", path);
	assert_int_equal(mkdir(path, 0700), 0);
	path_in(e, "images/incoming/dead/root.raw", path);
	assert_int_equal(symlink("/etc/passwd", path), 0); // is removed, not followed
	path_in(e, "images/incoming/stray", path);
	fclose(fopen(path, "we"));
	reopen(e);
	assert_int_equal(e->report.leftovers, 2);
	assert_int_equal(access("/etc/passwd", F_OK), 0);
	reopen(e);
	assert_int_equal(e->report.leftovers, 0);
}

static void test_bad_builds(void **state)
{
	struct env *e = *state;
	char path[256], raw[256];
	struct vc_error err = VC_ERROR_INIT;
	struct store_entry entry;
	struct store_name name = {.name = "img", .owner = 1000}, bad = {.name = "../x", .owner = 1000};
	make_build(e, 'a');
	path_in(e, "build", path);
	path_in(e, "build/root.raw", raw);
	assert_int_equal(store_publish(e->s, path, &bad, &entry, &err), -1);
	assert_int_equal(truncate(raw, 1000), 0);
	assert_int_equal(store_publish(e->s, path, &name, &entry, &err), -1);
	assert_contains(err.text, "image 'img': root.raw: image of 1000 bytes");
	assert_int_equal(symlink("/etc/passwd", raw), 0);
	assert_int_equal(store_publish(e->s, path, &name, &entry, &err), -1);
	assert_int_equal(unlink(raw), 0);
	assert_int_equal(mkfifo(raw, 0600), 0);
	assert_int_equal(store_publish(e->s, path, &name, &entry, &err), -1);
	reopen(e);
	assert_int_equal(e->report.leftovers, 0);
	assert_int_equal(e->report.images, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_publish),
		TEST(test_digest_is_stable),
		TEST(test_visibility),
		TEST(test_remove_and_pins),
		TEST(test_collect_after_restart),
		TEST(test_second_process_refused),
		TEST(test_transfer),
		TEST(test_damage),
		TEST(test_leftovers),
		TEST(test_bad_builds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
