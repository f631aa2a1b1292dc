// SPDX-License-Identifier: GPL-2.0-or-later
// The guests' initramfs: vcguestd as /init, the kernel modules and /modules, their order of loading, one path a
// line (/lib/modules/VERSION/...). Modules are stored uncompressed, so that finit_module() takes them as they are.
//
// The result depends only on the kernel and vcguestd; initramfs_ensure() keeps it in a cache directory.
#ifndef VCD_IMAGE_INITRAMFS_H
#define VCD_IMAGE_INITRAMFS_H

#include "libvc/error.h"
#include "vcd/image/digest.h"
#include "vcd/image/kernel.h"

struct initramfs_spec {
	const char *version;	 // kernel version
	const char *modules_dir; // /lib/modules/VERSION
	const char *init;	 // a static program, vcguestd
};

int initramfs_build(const struct initramfs_spec *spec, const char *out_path, struct vc_error *err);
int initramfs_key(const struct initramfs_spec *spec, char ret[DIGEST_HEX_LEN], struct vc_error *err);
// cache_dir/initramfs-KEY.img, built when it is not there; written beside and renamed.
int initramfs_ensure(const struct initramfs_spec *spec, const char *cache_dir, char **ret_path, struct vc_error *err);

#endif
