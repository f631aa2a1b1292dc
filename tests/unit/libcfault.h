// SPDX-License-Identifier: GPL-2.0-or-later
// Failing calls of the C library, for tests: the n-th allocation, write, fsync or rename from now on fails.
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
	LIBCFAULTS,
};

extern const char *const libcfault_names[LIBCFAULTS];

// The n-th call (from 1) fails; `ever`: and all after it, as a disk that stays full.
void libcfault_arm(enum libcfault kind, unsigned n, bool ever);
// Nothing fails any more. True when a call has failed since libcfault_arm().
bool libcfault_disarm(void);
// json-c's parser leaves out, silently, what its buffer has no memory for. While true its buffers always grow.
void libcfault_spare_json(bool spare);
// Never fails by an armed fault: for a library whose own allocations are left out.
void *libcfault_real_realloc(void *p, size_t size);

#endif
