// SPDX-License-Identifier: GPL-2.0-or-later
// The bytes of /run/vcluster/view, shared by reader and writer; not installed (programs use vcluster.h).
//
// File: struct layout_head, then two buffers, each a struct layout_buffer and `capacity` member records, at the offsets
// that the head names. Integers are in the machine's own order: the file never leaves its guest.
//
// Why a reader never waits, and never returns a torn view:
//  1. The writer changes only the buffer that `current` does not name. It makes that buffer's seq odd, writes, makes
//     seq even again (release), and only then stores `current` (release).
//  2. A reader loads `current` (acquire), the seq of that buffer (acquire), its data (relaxed, word by word), an
//     acquire fence, and seq again. Equal and even: no write to this buffer began before the data was read, since the
//     writer's odd store precedes its data stores by a release fence; so the data is that of one publication.
//     Otherwise the writer has overtaken the reader and it starts again from `current`.
//  3. A buffer that `current` names has an even seq, whatever point the writer was killed at: it only makes the other
//     one odd. So with a dead writer the first attempt succeeds, or the second when it died while a reader was
//     overtaken. With a live writer each further attempt costs the writer a whole publication within the time
//     of one read: LAYOUT_ATTEMPTS of them in a row end with EAGAIN instead of an endless loop.
//  4. A following writer finds the odd buffer, which is not the current one, and simply writes it anew.
#ifndef LIBVCLUSTER_LAYOUT_H
#define LIBVCLUSTER_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "libvcluster/vcluster.h"

#define LAYOUT_MAGIC 0x3157454956435600ull // "\0VCVIEW1" on a little-endian machine; a foreign byte order does not match
#define LAYOUT_VERSION 1u		   // a reader refuses a higher one
#define LAYOUT_ATTEMPTS 64		   // of a read; each lost one means a whole publication took place
#define LAYOUT_CAPACITY_MAX 65536u	   // 61 MB of mapping; eight times VC_MEMBERS_MAX

struct layout_head {
	uint64_t magic;
	uint32_t version;
	uint32_t head_size;
	uint32_t buffer_size; // bytes of struct layout_buffer
	uint32_t record_size; // bytes of one member record
	uint32_t capacity;    // records per buffer
	uint32_t pad;
	uint64_t file_size;
	uint64_t buffer_offset[2];
	// --- everything above is constant once the file has its name ---
	uint64_t valid_until; // atomic; CLOCK_BOOTTIME in ns
	uint32_t current;     // atomic; 0 or 1
	uint32_t wake;	      // atomic; counts publications; futex word
	uint32_t touch;	      // written with pwrite() after each publication, for inotify
	uint32_t pad2[45];    // up to 256 bytes: the first buffer starts on its own cache line
};

struct layout_buffer {
	uint64_t seq; // atomic; odd while the writer changes this buffer
	struct vcluster_info info;
};

_Static_assert(sizeof(struct layout_head) == 256, "head is part of the file's format");
_Static_assert(sizeof(struct layout_buffer) == 144, "buffer is part of the file's format");
_Static_assert(sizeof(struct vcluster_member) == 472, "record is part of the file's format");
_Static_assert(sizeof(struct vcluster_info) % 8 == 0 && sizeof(struct vcluster_member) % 8 == 0, "copied word by word");

static inline uint64_t layout_buffer_bytes(uint32_t capacity)
{
	return sizeof(struct layout_buffer) + (uint64_t)capacity * sizeof(struct vcluster_member);
}

#endif
