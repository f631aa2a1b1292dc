// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/image/initramfs under a failing C library, the programs that unpack modules included: what its cache holds is whole
// or not there, no process and no file is left over, and the same call then succeeds. It stands for all that vcd makes
// with a process of its own; the store and the state database start none.
#include "tests/unit/test.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "tests/unit/libcfault.h"
#include "vcd/image/initramfs.h"

struct env {
	char dir[64], modules[128], init[128], cache[128];
	struct initramfs_spec spec;
	char whole[DIGEST_HEX_LEN]; // digest of the initramfs when nothing fails
};

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	vc_autofclose FILE *f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void digest_of(const char *path, char ret[DIGEST_HEX_LEN])
{
	uint8_t digest[DIGEST_LEN];
	uint64_t size;
	vc_autofclose FILE *f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(digest_fd(fileno(f), 1 << 20, digest, &size, NULL), 0);
	digest_hex(digest, ret);
}

static int entries(const char *path)
{
	int n = 0;
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));)
		n += d->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void fresh(struct env *e)
{
	nftw(e->cache, remove_entry, 4, FTW_DEPTH | FTW_PHYS);
	assert_int_equal(mkdir(e->cache, 0700), 0);
}

static void check_image(struct env *e, const char *path)
{
	char digest[DIGEST_HEX_LEN];
	digest_of(path, digest);
	assert_string_equal(digest, e->whole);
}

static bool try_one(void *env, const void *op, enum libcfault kind, unsigned n)
{
	struct env *e = env;
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char *path = NULL, *again = NULL;
	(void)op;
	fresh(e);
	libcfault_arm(kind, n, false);
	int rc = initramfs_ensure(&e->spec, e->cache, &path, &err);
	bool hit = libcfault_disarm();
	assert_true(rc == 0 || (hit && err.code && err.text[0]));
	assert_int_equal(entries(e->cache), rc == 0);
	assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	if (rc == 0)
		check_image(e, path);
	if (initramfs_ensure(&e->spec, e->cache, &again, &err) < 0)
		fail_msg("again: %s", err.text);
	check_image(e, again);
	return hit;
}

static void try_all(void *env, enum libcfault kind)
{
	libcfault_each("ensure", kind, try_one, env, NULL);
}

// "a module", as gzip packs it
static const uint8_t packed[] = {
	0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x4b, 0x54, 0xc8, 0xcd, 0x4f, 0x29, 0xcd, 0x49,
	0x05, 0x00, 0x5b, 0xc1, 0x38, 0x0b, 0x08, 0x00, 0x00, 0x00
};

static void write_packed(const char *dir, const char *name)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	vc_autofclose FILE *f = fopen(path, "we");
	assert_true(f && fwrite(packed, sizeof(packed), 1, f) == 1);
}

static void make_modules(const char *dir)
{
	char kernel[160];
	snprintf(kernel, sizeof(kernel), "%s/k", dir);
	assert_true(mkdir(dir, 0700) == 0 && mkdir(kernel, 0700) == 0);
	write_file(dir, "modules.dep", "k/virtio_pci.ko.gz:\nk/virtio_blk.ko.gz:\nk/virtio_net.ko:\nk/virtio_console.ko:\n");
	write_file(dir, "modules.builtin", "");
	write_packed(kernel, "virtio_pci.ko.gz");
	write_packed(kernel, "virtio_blk.ko.gz");
	write_file(kernel, "virtio_net.ko", "a module");
	write_file(kernel, "virtio_console.ko", "a module");
}

static int setup(void **state)
{
	static struct env e;
	vc_autofree char *path = NULL;
	CRYPTO_set_mem_functions(libcfault_crypto_malloc, libcfault_crypto_realloc, libcfault_crypto_free);
	snprintf(e.dir, sizeof(e.dir), "%s/vc-test-initrd-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(e.dir))
		return -1;
	snprintf(e.modules, sizeof(e.modules), "%s/modules", e.dir);
	snprintf(e.init, sizeof(e.init), "%s/init", e.dir);
	snprintf(e.cache, sizeof(e.cache), "%s/cache", e.dir);
	make_modules(e.modules);
	write_file(e.dir, "init", "the first program");
	e.spec = (struct initramfs_spec){.version = "6.1.0", .modules_dir = e.modules, .init = e.init};
	fresh(&e);
	if (initramfs_ensure(&e.spec, e.cache, &path, NULL) < 0)
		return -1;
	digest_of(path, e.whole);
	*state = &e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;
	return nftw(e->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	return libcfault_run(try_all, setup, teardown);
}
