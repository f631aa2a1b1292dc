// SPDX-License-Identifier: GPL-2.0-or-later
// Failing calls of the C library, for tests: the n-th allocation, write, fsync, rename or fork from now on fails. And the
// tests themselves: each call of each kind fails once in each operation.
//
// The functions are defined in the test program itself, so that they come before the C library's for every library in
// it, SQLite and json-c included. One thread; nothing fails unless a fault is armed.
#ifndef TESTS_UNIT_LIBCFAULT_H
#define TESTS_UNIT_LIBCFAULT_H

#include <stdbool.h>
#include <stddef.h>

enum libcfault {
	LIBCFAULT_ALLOC,  // malloc, calloc, realloc: no memory
	LIBCFAULT_WRITE,  // write, pwrite, ftruncate: ENOSPC; a write of several bytes first writes half of them
	LIBCFAULT_FSYNC,  // fsync, fdatasync: EIO
	LIBCFAULT_RENAME, // rename, renameat: EIO
	LIBCFAULT_FORK,	  // fork, posix_spawn: EAGAIN
	LIBCFAULTS,
};

// The n-th call (from 1) fails; `ever`: and all after it, as a disk that stays full.
void libcfault_arm(enum libcfault kind, unsigned n, bool ever);
// Nothing fails any more. True when a call has failed since libcfault_arm().
bool libcfault_disarm(void);
// json-c's parser leaves out, silently, what its buffer has no memory for. While true its buffers always grow.
void libcfault_spare_json(bool spare);
// For CRYPTO_set_mem_functions(), before any use of OpenSSL: its own allocations never fail then. digest.c ends the process
// when they do, as documented there.
void *libcfault_crypto_malloc(size_t n, const char *file, int line);
void *libcfault_crypto_realloc(void *p, size_t n, const char *file, int line);
void libcfault_crypto_free(void *p, const char *file, int line);

// One try of an operation with its n-th call of that kind failing. False: it has fewer of them, nothing failed.
typedef bool (*libcfault_try_fn)(void *env, const void *op, enum libcfault kind, unsigned n);
// Each call of the kind fails once; says how many there were.
void libcfault_each(const char *op_name, enum libcfault kind, libcfault_try_fn try_one, void *env, const void *op);
// A cmocka test for each kind: setup makes the env, all(env, kind) goes through the operations.
int libcfault_run(void (*all)(void *env, enum libcfault kind), int (*setup)(void **state), int (*teardown)(void **state));

#endif
