// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/image/cpio, kernel and initramfs: bytes of an archive, order of modules, and a boot under emulation.
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "vcd/image/cpio.h"
#include "vcd/image/initramfs.h"

#define BOOT_SECONDS 60 // TCG reaches user space in 2 s; the rest is for a loaded machine

static char dir[] = "/tmp/vc-test-initramfs-XXXXXX";

static void write_file(const char *name, const char *text)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void make_dirs(const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/%s/", dir, name);
	for (char *p = path + strlen(dir) + 1; *p; p++) {
		if (*p == '/') {
			*p = '\0';
			assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
			*p = '/';
		}
	}
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void test_cpio_bytes(void **state)
{
	(void)state;
	struct cpio c = CPIO_INIT;
	cpio_dir(&c, "dev", 0755);
	cpio_device(&c, "dev/console", 0600, 5, 1);
	cpio_file(&c, "init", 0755, "hello", 5);
	assert_int_equal(cpio_finish(&c, NULL), 0);
	static const char expected[] =
		"07070100000001000041ED0000000000000000000000020000000000000000000000000000000000000000000000000000000400000000dev\0\0\0"
		"07070100000002000021800000000000000000000000010000000000000000000000000000000000000005000000010000000C00000000dev/console\0\0\0"
		"07070100000003000081ED0000000000000000000000010000000000000005000000000000000000000000000000000000000500000000init\0\0hello\0\0\0"
		"07070100000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000B00000000TRAILER!!!\0\0\0";
	assert_int_equal(c.out.len, sizeof(expected));
	assert_memory_equal(vc_buf_head(&c.out), expected, c.out.len);
	assert_int_equal(c.out.len % 4, 0);
	cpio_clear(&c);
}

static void test_cpio_limit(void **state)
{
	(void)state;
	struct cpio c = {.out = {.cap = 200}};
	cpio_file(&c, "a", 0644, "x", 1);
	cpio_file(&c, "b", 0644, "x", 1);
	assert_int_equal(cpio_finish(&c, NULL), -1);
	cpio_clear(&c);
}

static const char dep_text[] = "kernel/v/virtio_ring.ko:\n"
			       "kernel/v/virtio.ko: kernel/v/virtio_ring.ko\n"
			       "kernel/v/virtio_pci.ko.xz: kernel/v/virtio.ko kernel/v/virtio_ring.ko\n"
			       "kernel/v/virtio_blk.ko: kernel/v/virtio.ko kernel/v/virtio_ring.ko\n"
			       "kernel/n/virtio_net.ko: kernel/n/net_failover.ko kernel/n/failover.ko kernel/v/virtio.ko\n"
			       "kernel/n/net_failover.ko: kernel/n/failover.ko\n"
			       "kernel/n/failover.ko:\n"
			       "kernel/c/virtio-rng.ko: kernel/v/virtio.ko\n"
			       "kernel/c/virtio_blk_not.ko:\n";

static void test_module_order(void **state)
{
	(void)state;
	char path[512];
	struct vc_error err = VC_ERROR_INIT;
	vc_autostrv char **order = NULL;
	make_dirs("m");
	snprintf(path, sizeof(path), "%s/m", dir);
	write_file("m/modules.dep", dep_text);
	assert_int_equal(kernel_module_order(path, &order, &err), -1);
	assert_contains(err.text, "has no module virtio_console");
	write_file("m/modules.builtin", "kernel/x/other.ko\nkernel/drivers/char/virtio_console.ko\n");
	assert_int_equal(kernel_module_order(path, &order, &err), 0);
	static const char *const expected[] = {
		"kernel/v/virtio_ring.ko",  "kernel/v/virtio.ko",	"kernel/v/virtio_pci.ko.xz", "kernel/v/virtio_blk.ko",
		"kernel/n/failover.ko",	    "kernel/n/net_failover.ko", "kernel/n/virtio_net.ko",    "kernel/c/virtio-rng.ko",
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(expected); i++) {
		assert_non_null(order[i]);
		assert_string_equal(order[i], expected[i]);
	}
	assert_null(order[VC_ARRAY_LEN(expected)]);
	vc_autostrv char **bad = NULL;
	write_file("m/modules.dep", "a/virtio_pci.ko: a/x.ko\na/x.ko: a/virtio_pci.ko\n");
	assert_int_equal(kernel_module_order(path, &bad, &err), -1);
	assert_contains(err.text, "depends on itself");
	write_file("m/modules.dep", "a/virtio_pci.ko: a/x.ko\n");
	assert_int_equal(kernel_module_order(path, &bad, &err), -1);
	assert_contains(err.text, "a/x.ko is missing");
}

static void test_kernel_find(void **state)
{
	(void)state;
	struct kernel k = {.image = NULL};
	struct vc_error err = VC_ERROR_INIT;
	make_dirs("boot");
	assert_int_equal(kernel_find(dir, NULL, &k, &err), -1);
	assert_contains(err.text, "install linux-image-cloud-amd64");
	static const char *const versions[] = {"6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64", "6.1.0-11-cloud-amd64"};
	for (size_t i = 0; i < VC_ARRAY_LEN(versions); i++) {
		char name[256];
		snprintf(name, sizeof(name), "boot/vmlinuz-%s", versions[i]);
		write_file(name, "");
		snprintf(name, sizeof(name), "lib/modules/%s", versions[i]);
		make_dirs(name);
		snprintf(name, sizeof(name), "lib/modules/%s/modules.dep", versions[i]);
		if (i < 2) // the newest has no modules
			write_file(name, "");
	}
	assert_int_equal(kernel_find(dir, NULL, &k, &err), 0);
	assert_string_equal(k.version, "6.1.0-10-cloud-amd64");
	kernel_clear(&k);
	assert_int_equal(kernel_find(dir, "/boot/bzImage", &k, &err), -1);
	assert_contains(err.text, "must be called vmlinuz-VERSION");
}

// Boots and returns what the console said; the machine is killed at the limit.
static void boot(const char *kernel, const char *initramfs, const char *disk, char *ret, size_t size)
{
	char drive[600];
	int fds[2];
	size_t len = 0;
	snprintf(drive, sizeof(drive), "if=virtio,format=raw,file=%s", disk);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		execlp("qemu-system-x86_64", "qemu", "-M", "q35,accel=tcg", "-cpu", "max", "-m", "128", "-nodefaults", "-nographic",
		       "-no-reboot", "-serial", "stdio", "-kernel", kernel, "-initrd", initramfs, "-append",
		       "console=ttyS0 panic=-1 quiet", "-drive", drive, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	time_t end = time(NULL) + BOOT_SECONDS;
	struct pollfd p = {.fd = fds[0], .events = POLLIN};
	while (time(NULL) < end && len < size - 1 && poll(&p, 1, 1000) >= 0) {
		ssize_t n = p.revents ? read(fds[0], ret + len, size - 1 - len) : -1;
		if (n == 0)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	ret[len] = '\0';
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fds[0]);
}

static void test_boot(void **state)
{
	(void)state;
	struct kernel k = {.image = NULL};
	char out[512], again[512], disk[512], console[8192];
	struct vc_error err = VC_ERROR_INIT;
	const char *init = "tests/unit/init_hello"; // make check runs in the build directory
	if (access("/usr/bin/qemu-system-x86_64", X_OK) < 0 || kernel_find("", NULL, &k, NULL) < 0 || access(init, X_OK) < 0)
		skip();
	struct initramfs_spec spec = {.version = k.version, .modules_dir = k.modules_dir, .init = init};
	snprintf(out, sizeof(out), "%s/a.img", dir);
	snprintf(again, sizeof(again), "%s/b.img", dir);
	snprintf(disk, sizeof(disk), "%s/disk", dir);
	write_file("disk", "");
	assert_int_equal(truncate(disk, 1 << 20), 0);
	if (initramfs_build(&spec, out, &err) < 0 || initramfs_build(&spec, again, &err) < 0)
		fail_msg("%s", err.text);
	int a = open(out, O_RDONLY), b = open(again, O_RDONLY);
	uint8_t da[DIGEST_LEN], db[DIGEST_LEN];
	uint64_t size;
	assert_int_equal(digest_fd(a, UINT64_MAX, da, &size, NULL) + digest_fd(b, UINT64_MAX, db, &size, NULL), 0);
	assert_memory_equal(da, db, sizeof(da)); // the same inputs, the same bytes
	close(a);
	close(b);
	vc_autofree char *first = NULL, *second = NULL;
	assert_int_equal(initramfs_ensure(&spec, dir, &first, NULL), 0);
	struct stat st1, st2;
	stat(first, &st1);
	assert_int_equal(initramfs_ensure(&spec, dir, &second, NULL), 0);
	stat(second, &st2);
	assert_true(st1.st_ino == st2.st_ino);
	boot(k.image, out, disk, console, sizeof(console));
	assert_contains(console, " failed 0 disk yes");
	kernel_clear(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpio_bytes),   cmocka_unit_test(test_cpio_limit), cmocka_unit_test(test_module_order),
		cmocka_unit_test(test_kernel_find), cmocka_unit_test(test_boot),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
