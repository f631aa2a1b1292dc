// SPDX-License-Identifier: GPL-2.0-or-later
// The newc format: a header of 110 characters, name and data each padded to four bytes. See cpio.h.
#include "vcd/image/cpio.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define HEADER_LEN 110

struct member {
	const char *path;
	unsigned mode; // with the file type
	const void *data;
	size_t len;
	unsigned major, minor; // of a device
};

static void append(struct cpio *c, const void *data, size_t len)
{
	if (!c->failed && vc_buf_append(&c->out, data, len) < 0)
		c->failed = 1;
}

static void pad(struct cpio *c)
{
	static const char zeros[4];
	append(c, zeros, (4 - c->out.len % 4) % 4);
}

static void add(struct cpio *c, const struct member *m)
{
	char header[HEADER_LEN + 1];
	size_t name_len = strlen(m->path) + 1;
	if (m->len > CPIO_BYTES_MAX) {
		c->failed = 1;
		return;
	}
	// magic, inode, mode, uid, gid, links, mtime, size, device, rdevice, name's length, checksum
	snprintf(header, sizeof(header), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ++c->inode, m->mode,
		 0u, 0u, S_ISDIR(m->mode) ? 2u : 1u, 0u, (unsigned)m->len, 0u, 0u, m->major, m->minor, (unsigned)name_len,
		 0u);
	append(c, header, HEADER_LEN);
	append(c, m->path, name_len);
	pad(c);
	append(c, m->data, m->len);
	pad(c);
}

void cpio_dir(struct cpio *c, const char *path, unsigned mode)
{
	add(c, &(struct member){.path = path, .mode = S_IFDIR | mode});
}

void cpio_file(struct cpio *c, const char *path, unsigned mode, const void *data, size_t len)
{
	add(c, &(struct member){.path = path, .mode = S_IFREG | mode, .data = data, .len = len});
}

void cpio_device(struct cpio *c, const char *path, unsigned mode, unsigned major, unsigned minor)
{
	add(c, &(struct member){.path = path, .mode = S_IFCHR | mode, .major = major, .minor = minor});
}

int cpio_finish(struct cpio *c, struct vc_error *err)
{
	c->inode = UINT32_MAX; // the trailer's own number is 0
	add(c, &(struct member){.path = "TRAILER!!!"});
	return c->failed ? vc_error_set(err, ENOMEM, "initramfs: out of memory or above %u MiB", CPIO_BYTES_MAX >> 20) : 0;
}

void cpio_clear(struct cpio *c)
{
	vc_buf_clear(&c->out);
	c->inode = 0;
	c->failed = 0;
}
