// SPDX-License-Identifier: GPL-2.0-or-later
// Writes an archive of the "newc" kind that the kernel unpacks as an initramfs.
//
// Times, owners and inode numbers are fixed: the same members give the same bytes. The first failure sticks and
// is reported by cpio_finish().
#ifndef VCD_IMAGE_CPIO_H
#define VCD_IMAGE_CPIO_H

#include <stddef.h>
#include <stdint.h>

#include "libvc/buf.h"
#include "libvc/error.h"

struct cpio {
	struct vc_buf out;
	uint32_t inode;
	int failed;
};

#define CPIO_BYTES_MAX (256u << 20) // an initramfs larger than this would not fit a small guest
#define CPIO_INIT ((struct cpio){.out = {.cap = CPIO_BYTES_MAX}})

void cpio_dir(struct cpio *c, const char *path, unsigned mode); // paths without a leading slash
void cpio_file(struct cpio *c, const char *path, unsigned mode, const void *data, size_t len);
void cpio_device(struct cpio *c, const char *path, unsigned mode, unsigned major, unsigned minor); // character device
int cpio_finish(struct cpio *c, struct vc_error *err);
void cpio_clear(struct cpio *c);

#endif
