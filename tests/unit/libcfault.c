// SPDX-License-Identifier: GPL-2.0-or-later
// See libcfault.h. The real functions are system calls, and for memory the next library's (the C library's, or that of
// the address sanitizer).
#include "tests/unit/libcfault.h"

#include "tests/unit/test.h"

#include <dlfcn.h>
#include <errno.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EARLY_BYTES 65536 // allocations of the dynamic linker while it looks for malloc

#define CALLS_MAX 20000	  // of one kind in one operation; bounds a test

static const char *const names[LIBCFAULTS] = {"allocation", "write", "fsync", "rename", "fork"};

static struct {
	bool armed, ever, hit, spare_json;
	enum libcfault kind;
	unsigned left;
} fault;

void libcfault_arm(enum libcfault kind, unsigned n, bool ever)
{
	fault.kind = kind;
	fault.left = n;
	fault.ever = ever;
	fault.hit = false;
	fault.armed = true;
}

bool libcfault_disarm(void)
{
	fault.armed = false;
	return fault.hit;
}

void libcfault_spare_json(bool spare)
{
	fault.spare_json = spare;
}

static bool fails(enum libcfault kind, int code)
{
	if (!fault.armed || fault.kind != kind)
		return false;
	if (fault.left > 0)
		fault.left--;
	if (fault.left > 0 || (fault.hit && !fault.ever))
		return false;
	fault.hit = true;
	errno = code;
	return true;
}

// --- memory ---

static uint8_t early[EARLY_BYTES] __attribute__((aligned(16)));
static size_t early_used;
static bool resolving;

static void *early_alloc(size_t size)
{
	size = (size + 15) & ~(size_t)15;
	if (early_used + size > EARLY_BYTES)
		return NULL;
	early_used += size;
	return early + early_used - size;
}

static void *next(const char *name)
{
	resolving = true;
	void *fn = dlsym(RTLD_NEXT, name);
	resolving = false;
	return fn;
}

void *malloc(size_t size)
{
	static void *(*real)(size_t);
	if (resolving)
		return early_alloc(size);
	if (!real)
		real = (void *(*)(size_t))(uintptr_t)next("malloc");
	return fails(LIBCFAULT_ALLOC, ENOMEM) ? NULL : real(size);
}

void *calloc(size_t n, size_t size)
{
	static void *(*real)(size_t, size_t);
	if (resolving)
		return early_alloc(n * size);
	if (!real)
		real = (void *(*)(size_t, size_t))(uintptr_t)next("calloc");
	return fails(LIBCFAULT_ALLOC, ENOMEM) ? NULL : real(n, size);
}

static void *real_realloc(void *p, size_t size)
{
	static void *(*real)(void *, size_t);
	if (!real)
		real = (void *(*)(void *, size_t))(uintptr_t)next("realloc");
	return real(p, size);
}

void *libcfault_crypto_malloc(size_t n, const char *file, int line)
{
	(void)file, (void)line;
	return real_realloc(NULL, n);
}

void *libcfault_crypto_realloc(void *p, size_t n, const char *file, int line)
{
	(void)file, (void)line;
	return real_realloc(p, n);
}

void libcfault_crypto_free(void *p, const char *file, int line)
{
	(void)file, (void)line;
	free(p);
}

static bool is_json(const void *caller)
{
	Dl_info who;
	return dladdr(caller, &who) && who.dli_fname && strstr(who.dli_fname, "libjson-c");
}

void *realloc(void *p, size_t size)
{
	if (fault.armed && fault.spare_json && is_json(__builtin_return_address(0)))
		return real_realloc(p, size);
	return fails(LIBCFAULT_ALLOC, ENOMEM) ? NULL : real_realloc(p, size);
}

// json-c reads through the result of some of its strdup: without memory it ends the process, which is not ours to mend.
char *strdup(const char *s)
{
	size_t len = strlen(s) + 1;
	char *copy = is_json(__builtin_return_address(0)) ? real_realloc(NULL, len) : malloc(len);
	return copy ? memcpy(copy, s, len) : NULL;
}

// --- files ---

ssize_t write(int fd, const void *data, size_t len)
{
	if (fails(LIBCFAULT_WRITE, ENOSPC))
		return len > 1 ? syscall(SYS_write, fd, data, len / 2) : -1;
	return syscall(SYS_write, fd, data, len);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset)
{
	if (fails(LIBCFAULT_WRITE, ENOSPC))
		return -1;
	return syscall(SYS_pwrite64, fd, data, len, offset);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	return pwrite64(fd, data, len, offset);
}

int ftruncate64(int fd, off64_t len)
{
	return fails(LIBCFAULT_WRITE, ENOSPC) ? -1 : (int)syscall(SYS_ftruncate, fd, len);
}

int ftruncate(int fd, off_t len)
{
	return ftruncate64(fd, len);
}

int fsync(int fd)
{
	return fails(LIBCFAULT_FSYNC, EIO) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return fails(LIBCFAULT_FSYNC, EIO) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
	return fails(LIBCFAULT_RENAME, EIO) ? -1 : (int)syscall(SYS_renameat, from_at, from, to_at, to);
}

int rename(const char *from, const char *to)
{
	return fails(LIBCFAULT_RENAME, EIO) ? -1 : (int)syscall(SYS_rename, from, to);
}

// --- processes ---

pid_t fork(void)
{
	static pid_t (*real)(void);
	if (!real)
		real = (pid_t(*)(void))(uintptr_t)next("fork");
	return fails(LIBCFAULT_FORK, EAGAIN) ? -1 : real();
}

typedef int (*spawn_fn)(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
			char *const argv[], char *const env[]);

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		char *const argv[], char *const env[])
{
	static spawn_fn real;
	if (!real)
		real = (spawn_fn)(uintptr_t)next("posix_spawn");
	return fails(LIBCFAULT_FORK, EAGAIN) ? EAGAIN : real(pid, path, actions, attr, argv, env);
}

int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
		 char *const argv[], char *const env[])
{
	static spawn_fn real;
	if (!real)
		real = (spawn_fn)(uintptr_t)next("posix_spawnp");
	return fails(LIBCFAULT_FORK, EAGAIN) ? EAGAIN : real(pid, file, actions, attr, argv, env);
}

// --- tests ---

void libcfault_each(const char *op_name, enum libcfault kind, libcfault_try_fn try_one, void *env, const void *op)
{
	unsigned n = 1;
	while (n < CALLS_MAX && try_one(env, op, kind, n))
		n++;
	print_message("# %s: each of %u %ss failed\n", op_name, n - 1, names[kind]);
	assert_true(n < CALLS_MAX);
}

static void (*run_all)(void *env, enum libcfault kind);
static enum libcfault run_kind; // the tests run in the order of the kinds

static void test_kind(void **state)
{
	run_all(*state, run_kind++);
}

int libcfault_run(void (*all)(void *env, enum libcfault kind), int (*setup)(void **state), int (*teardown)(void **state))
{
	struct CMUnitTest tests[LIBCFAULTS];
	run_all = all;
	for (int i = 0; i < LIBCFAULTS; i++)
		tests[i] = (struct CMUnitTest){.name = names[i], .test_func = test_kind, .setup_func = setup, .teardown_func = teardown};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
