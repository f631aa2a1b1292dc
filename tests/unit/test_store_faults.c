// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/image/store under a failing C library: each call of each kind fails once, in each operation, and what is on disk
// is afterwards the state before or the state after, never something else; the same operation then succeeds.
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "tests/unit/libcfault.h"
#include "vcd/image/chunks.h"
#include "vcd/image/holding.h"
#include "vcd/image/store.h"

#define CHUNKS 4u

struct env {
	char dir[64];
	struct store *s;
	char base[DIGEST_HEX_LEN]; // digest of the image that is there from the start
	char next[DIGEST_HEX_LEN]; // of the image that operations bring
	char meta[4096];	   // of the latter
	uint64_t size;
	uint8_t list[CHUNKS * DIGEST_LEN];
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

static void make_build(const struct env *e, char fill)
{
	char path[256], block[IMAGE_CHUNK];
	path_in(e, "build", path);
	assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
	path_in(e, "build/root.raw", path);
	unlink(path);
	vc_autoclose int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	memset(block, fill, sizeof(block));
	assert_int_equal(ftruncate(fd, CHUNKS * IMAGE_CHUNK), 0);
	assert_int_equal(pwrite(fd, block, sizeof(block), IMAGE_CHUNK), sizeof(block));
}

static int publish(struct env *e, const char *name, struct vc_error *err)
{
	char path[256];
	struct store_entry entry;
	struct store_name n = {.name = name, .owner = 1000};
	path_in(e, "build", path);
	return store_publish(e->s, path, &n, &entry, err);
}

static int open_store(struct env *e, struct store_report *report, struct vc_error *err)
{
	char path[256];
	path_in(e, "images", path);
	return store_open(path, &e->s, report, err);
}

static void fresh(struct env *e)
{
	char path[256];
	struct store_entry entry;
	struct vc_error err = VC_ERROR_INIT;
	nftw(e->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	assert_int_equal(mkdir(e->dir, 0700), 0);
	assert_int_equal(open_store(e, NULL, &err), 0);
	make_build(e, 'a');
	if (publish(e, "base", &err) < 0)
		fail_msg("publish: %s", err.text);
	assert_int_equal(store_lookup(e->s, "base", 1000, &entry, NULL), 0);
	memcpy(e->base, entry.digest, sizeof(e->base));
	make_build(e, 'b');
	(void)path;
}

// --- the operations ---

static int op_publish(struct env *e, struct vc_error *err)
{
	return publish(e, "new", err);
}

static int op_replace(struct env *e, struct vc_error *err)
{
	return publish(e, "base", err);
}

static int op_remove(struct env *e, struct vc_error *err)
{
	return store_remove(e->s, "base", 1000, err);
}

static int receive(struct env *e, struct chunks *list, struct vc_error *err)
{
	struct holding *h = NULL;
	char block[IMAGE_CHUNK];
	size_t wanted;
	memset(block, 'b', sizeof(block));
	if (holding_begin(e->s, e->next, list, e->meta, &h, err) < 0)
		return -1;
	int rc = holding_adopt(h, &wanted, err);
	if (rc >= 0)
		rc = holding_write(h, 1, block, err);
	if (rc == 0)
		rc = holding_publish(h, err);
	holding_close(h);
	return rc;
}

static int op_receive(struct env *e, struct vc_error *err)
{
	struct chunks *list = NULL;
	if (chunks_from_bytes(e->size, e->list, sizeof(e->list), &list, err) < 0)
		return -1;
	return receive(e, list, err);
}

static int op_reopen(struct env *e, struct vc_error *err)
{
	store_close(e->s);
	e->s = NULL;
	return open_store(e, NULL, err);
}

static int op_list(struct env *e, struct vc_error *err)
{
	vc_autofree struct store_entry *entries = NULL;
	size_t n = 0;
	return store_list(e->s, 0, &entries, &n, err);
}

struct op {
	const char *name;
	int (*run)(struct env *e, struct vc_error *err);
	bool takes_base; // afterwards the name "base" is gone, or another image
	const char *brings; // name that afterwards names the image `next`
};

static const struct op ops[] = {
	{"publish", op_publish, false, "new"}, {"replace", op_replace, true, "base"}, {"remove", op_remove, true, NULL},
	{"receive", op_receive, false, NULL},  {"reopen", op_reopen, false, NULL},    {"list", op_list, false, NULL},
};

// --- what must hold ---

static void check_base(struct env *e, const struct op *op, bool ok)
{
	struct store_entry entry = {.name = ""};
	struct vc_error err = VC_ERROR_INIT;
	int found = store_lookup(e->s, "base", 1000, &entry, &err);
	bool is_base = found == 0 && strcmp(entry.digest, e->base) == 0;
	if (!op->takes_base || (!ok && is_base)) {
		assert_true(is_base);
		if (store_verify(e->s, e->base, &err) < 0)
			fail_msg("the old image: %s", err.text);
	} else if (op->brings) {
		assert_int_equal(found, 0);
	}
}

// On disk, as the next vcd finds it: nothing half there, nothing lost.
static void check_disk(struct env *e, const struct op *op, bool ok)
{
	struct store_report report = {0};
	struct vc_error err = VC_ERROR_INIT;
	store_close(e->s);
	e->s = NULL;
	if (open_store(e, &report, &err) < 0)
		fail_msg("open again: %s", err.text);
	if (report.damaged || report.lost_names)
		fail_msg("%s: dropped %u images and %u names", op->name, report.damaged, report.lost_names);
	check_base(e, op, ok);
	vc_autofree struct store_entry *entries = NULL;
	size_t n = 0;
	assert_int_equal(store_list(e->s, 0, &entries, &n, NULL), 0);
	for (size_t i = 0; i < n; i++) {
		if (store_verify(e->s, entries[i].digest, &err) < 0)
			fail_msg("image %s: %s", entries[i].name, err.text);
	}
}

static void check_again(struct env *e, const struct op *op)
{
	struct vc_error err = VC_ERROR_INIT;
	struct store_entry entry;
	if (op->run == op_publish || op->run == op_replace)
		make_build(e, 'b'); // a build that failed to publish is built again
	int rc = op->run(e, &err);
	if (rc < 0 && err.code != VC_ENOTFOUND && err.code != EEXIST)
		fail_msg("%s again: %s", op->name, err.text);
	if (op->brings)
		assert_int_equal(store_lookup(e->s, op->brings, 1000, &entry, NULL), 0);
}

// What did not come to the disk must not be called done.
static bool must_fail(const struct op *op, enum libcfault kind)
{
	bool makes = op->run == op_publish || op->run == op_replace || op->run == op_receive;
	return makes && (kind == LIBCFAULT_FSYNC || kind == LIBCFAULT_RENAME);
}

// Every second time the store is opened anew before the operation is done again.
static bool try_one(void *env, const void *of, enum libcfault kind, unsigned n)
{
	struct env *e = env;
	const struct op *op = of;
	struct vc_error err = VC_ERROR_INIT;
	fresh(e);
	libcfault_spare_json(op->run == op_reopen);
	libcfault_arm(kind, n, false);
	int rc = op->run(e, &err);
	bool hit = libcfault_disarm();
	if (rc < 0 && !hit)
		fail_msg("%s: %s", op->name, err.text);
	if (rc < 0)
		assert_true(err.code != 0 && err.text[0]);
	else if (hit && must_fail(op, kind))
		fail_msg("%s: is done, although call %u of kind %u failed", op->name, n, kind);
	if (!e->s) {
		assert_int_equal(op_reopen(e, &err), 0);
		check_base(e, op, false);
	}
	if (n % 2)
		check_disk(e, op, rc == 0);
	check_again(e, op);
	check_disk(e, op, true);
	store_close(e->s);
	e->s = NULL;
	return hit;
}

static void try_all(void *env, enum libcfault kind)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(ops); i++)
		libcfault_each(ops[i].name, kind, try_one, env, &ops[i]);
}

static int setup(void **state)
{
	CRYPTO_set_mem_functions(libcfault_crypto_malloc, libcfault_crypto_realloc, libcfault_crypto_free);
	static struct env e;
	vc_autofree char *meta = NULL;
	chunks_auto struct chunks *list = NULL;
	struct store_entry entry;
	snprintf(e.dir, sizeof(e.dir), "%s/vc-test-faults-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(e.dir))
		return -1;
	fresh(&e);
	if (publish(&e, "new", NULL) < 0 || store_lookup(e.s, "new", 1000, &entry, NULL) < 0 ||
	    store_meta(e.s, entry.digest, &meta, NULL) < 0 || store_chunks(e.s, entry.digest, &list, NULL) < 0)
		return -1;
	memcpy(e.list, chunks_bytes(list), sizeof(e.list));
	memcpy(e.next, entry.digest, sizeof(e.next));
	snprintf(e.meta, sizeof(e.meta), "%s", meta);
	e.size = entry.size;
	store_close(e.s);
	e.s = NULL;
	*state = &e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;
	store_close(e->s);
	nftw(e->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}

int main(void)
{
	return libcfault_run(try_all, setup, teardown);
}
