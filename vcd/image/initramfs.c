// SPDX-License-Identifier: GPL-2.0-or-later
// The initramfs from vcguestd and a kernel's modules: see initramfs.h.
#include "vcd/image/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "libvc/cleanup.h"
#include "vcd/image/cpio.h"

#define INIT_BYTES_MAX (64u << 20)   // a static vcguestd has about 2 MiB, with sanitizers 20
#define MODULE_BYTES_MAX (16u << 20) // the largest of ours has 300 KiB
#define UNPACK_SECONDS 10	     // one module takes milliseconds; a hanging tool must not hold a start for ever
#define FORMAT_VERSION "1"	     // part of the key: raise it when the layout changes

extern char **environ;

// --- reading ---------------------------------------------------------------------------------------------------------

static int read_whole(int fd, const char *path, size_t max, struct vc_buf *out, struct vc_error *err)
{
	*out = VC_BUF_INIT(max);
	for (;;) {
		uint8_t block[64 << 10];
		ssize_t n = read(fd, block, sizeof(block));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "%s", path);
		if (n == 0)
			return 0;
		if (vc_buf_append(out, block, (size_t)n) < 0)
			return vc_error_set(err, VC_EHOST, "%s: more than %zu bytes, or out of memory", path, max);
	}
}

static int read_path(const char *path, size_t max, struct vc_buf *out, struct vc_error *err)
{
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? vc_error_errno(err, "%s", path) : read_whole(fd, path, max, out, err);
}

static const struct unpacker {
	const char *suffix;
	const char *program;
} unpackers[] = {{".xz", "xz"}, {".zst", "zstd"}, {".gz", "gzip"}};

static const struct unpacker *unpacker_of(const char *path)
{
	size_t len = strlen(path);
	for (size_t i = 0; i < VC_ARRAY_LEN(unpackers); i++) {
		size_t n = strlen(unpackers[i].suffix);
		if (len > n && strcmp(path + len - n, unpackers[i].suffix) == 0)
			return &unpackers[i];
	}
	return NULL;
}

static int spawn_unpacker(const char *program, const char *path, int out, pid_t *ret_pid)
{
	char *argv[] = {(char *)program, (char *)"-dc", (char *)"--", (char *)path, NULL};
	posix_spawn_file_actions_t actions;
	int rc = posix_spawn_file_actions_init(&actions);
	if (rc)
		return rc;
	rc = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (rc == 0)
		rc = posix_spawnp(ret_pid, program, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

static int read_with_limit(int fd, const char *path, struct vc_buf *out, struct vc_error *err)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	if (poll(&p, 1, UNPACK_SECONDS * 1000) <= 0)
		return vc_error_set(err, VC_ETIMEDOUT, "%s: cannot be unpacked within %d s", path, UNPACK_SECONDS);
	return read_whole(fd, path, MODULE_BYTES_MAX, out, err);
}

static int unpack(const struct unpacker *u, const char *path, struct vc_buf *out, struct vc_error *err)
{
	int fds[2], status = 0;
	pid_t pid = 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return vc_error_errno(err, "%s", path);
	vc_autoclose int in = fds[0];
	errno = spawn_unpacker(u->program, path, fds[1], &pid);
	close(fds[1]);
	if (errno)
		return vc_error_errno(err, "%s: %s cannot be run", path, u->program);
	int rc = read_with_limit(in, path, out, err);
	if (rc < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (rc == 0 && status != 0)
		return vc_error_set(err, VC_EHOST, "%s: %s failed", path, u->program);
	return rc;
}

// --- building --------------------------------------------------------------------------------------------------------

// Directories of path ("lib/modules/6.1/kernel/fs/x.ko") that the archive has not seen since `last`.
static void add_parents(struct cpio *c, const char *path, const char *last)
{
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		size_t len = (size_t)(slash - path);
		if (strncmp(last, path, len + 1) == 0)
			continue;
		char dir[PATH_MAX];
		snprintf(dir, sizeof(dir), "%.*s", (int)len, path);
		cpio_dir(c, dir, 0755);
	}
}

static int add_module(struct cpio *c, const struct initramfs_spec *spec, const char *module, char **last,
		      struct vc_buf *list, struct vc_error *err)
{
	vc_autofree char *from = NULL, *to = NULL;
	vc_autobuf struct vc_buf data = VC_BUF_INIT(MODULE_BYTES_MAX);
	const struct unpacker *u = unpacker_of(module);
	int keep = (int)(strlen(module) - (u ? strlen(u->suffix) : 0));
	if (asprintf(&from, "%s/%s", spec->modules_dir, module) < 0)
		return vc_error_set(err, ENOMEM, "initramfs: out of memory");
	if (asprintf(&to, "lib/modules/%s/%.*s", spec->version, keep, module) < 0)
		return vc_error_set(err, ENOMEM, "initramfs: out of memory");
	if ((u ? unpack(u, from, &data, err) : read_path(from, MODULE_BYTES_MAX, &data, err)) < 0)
		return -1;
	add_parents(c, to, *last);
	cpio_file(c, to, 0644, vc_buf_head(&data), data.len);
	if (vc_buf_append(list, "/", 1) < 0 || vc_buf_append(list, to, strlen(to)) < 0 || vc_buf_append(list, "\n", 1) < 0)
		return vc_error_set(err, ENOMEM, "initramfs: out of memory");
	free(*last);
	*last = vc_steal(&to);
	return 0;
}

static int add_modules(struct cpio *c, const struct initramfs_spec *spec, struct vc_error *err)
{
	vc_autostrv char **order = NULL;
	vc_autobuf struct vc_buf list = VC_BUF_INIT(1 << 20);
	vc_autofree char *last = strdup("");
	if (!last)
		return vc_error_set(err, ENOMEM, "initramfs: out of memory");
	if (kernel_module_order(spec->modules_dir, &order, err) < 0)
		return -1;
	for (size_t i = 0; order[i]; i++) {
		if (add_module(c, spec, order[i], &last, &list, err) < 0)
			return -1;
	}
	cpio_file(c, "modules", 0644, list.len ? vc_buf_head(&list) : (const uint8_t *)"", list.len);
	return 0;
}

static int fill(struct cpio *c, const struct initramfs_spec *spec, struct vc_error *err)
{
	static const char *const dirs[] = {"dev", "proc", "sys", "run", "sysroot"};
	vc_autobuf struct vc_buf init = VC_BUF_INIT(INIT_BYTES_MAX);
	if (read_path(spec->init, INIT_BYTES_MAX, &init, err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(dirs); i++)
		cpio_dir(c, dirs[i], 0755);
	cpio_device(c, "dev/console", 0600, 5, 1); // the kernel opens it for /init before devtmpfs is mounted
	cpio_file(c, "init", 0755, vc_buf_head(&init), init.len);
	if (add_modules(c, spec, err) < 0)
		return -1;
	return cpio_finish(c, err);
}

static int write_out(const struct vc_buf *out, const char *path, struct vc_error *err)
{
	vc_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
	const uint8_t *p = vc_buf_head(out);
	size_t left = out->len;
	while (fd >= 0 && left) {
		ssize_t n = write(fd, p, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "%s", path);
		p += n;
		left -= (size_t)n;
	}
	return fd < 0 || fsync(fd) < 0 ? vc_error_errno(err, "%s", path) : 0;
}

int initramfs_build(const struct initramfs_spec *spec, const char *out_path, struct vc_error *err)
{
	struct cpio c = CPIO_INIT;
	vc_autofree char *temp = NULL;
	int rc = fill(&c, spec, err);
	if (rc == 0 && asprintf(&temp, "%s.%ld.new", out_path, (long)getpid()) < 0)
		rc = vc_error_set(err, ENOMEM, "initramfs: out of memory");
	if (rc == 0)
		rc = write_out(&c.out, temp, err);
	if (rc == 0 && rename(temp, out_path) < 0)
		rc = vc_error_errno(err, "%s", out_path);
	if (rc < 0 && temp)
		unlink(temp);
	cpio_clear(&c);
	return rc < 0 ? vc_error_wrap(err, "initramfs") : 0;
}

// --- cache -----------------------------------------------------------------------------------------------------------

static int digest_path(const char *path, char ret[DIGEST_HEX_LEN], struct vc_error *err)
{
	uint8_t digest[DIGEST_LEN];
	uint64_t size = 0;
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vc_error_errno(err, "%s", path);
	if (digest_fd(fd, INIT_BYTES_MAX, digest, &size, err) < 0)
		return vc_error_wrap(err, "%s", path);
	digest_hex(digest, ret);
	return 0;
}

int initramfs_key(const struct initramfs_spec *spec, char ret[DIGEST_HEX_LEN], struct vc_error *err)
{
	char init[DIGEST_HEX_LEN], dep[DIGEST_HEX_LEN];
	vc_autofree char *dep_path = NULL, *text = NULL;
	if (asprintf(&dep_path, "%s/modules.dep", spec->modules_dir) < 0)
		return vc_error_set(err, ENOMEM, "initramfs: out of memory");
	if (digest_path(spec->init, init, err) < 0 || digest_path(dep_path, dep, err) < 0)
		return vc_error_wrap(err, "initramfs");
	if (asprintf(&text, "initramfs " FORMAT_VERSION "\n%s\n%s\n%s\n", spec->version, init, dep) < 0)
		return vc_error_set(err, ENOMEM, "initramfs: out of memory");
	uint8_t digest[DIGEST_LEN];
	digest_bytes(text, strlen(text), digest);
	digest_hex(digest, ret);
	return 0;
}

int initramfs_ensure(const struct initramfs_spec *spec, const char *cache_dir, char **ret_path, struct vc_error *err)
{
	char key[DIGEST_HEX_LEN];
	vc_autofree char *path = NULL;
	if (initramfs_key(spec, key, err) < 0)
		return -1;
	if (asprintf(&path, "%s/initramfs-%.16s.img", cache_dir, key) < 0)
		return vc_error_set(err, ENOMEM, "initramfs: out of memory");
	if (access(path, R_OK) < 0 && initramfs_build(spec, path, err) < 0)
		return -1;
	*ret_path = vc_steal(&path);
	return 0;
}
