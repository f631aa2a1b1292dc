// SPDX-License-Identifier: GPL-2.0-or-later
// The guests' kernel: which one, and the order of loading the modules that a guest needs.
//
// Reads /boot and /lib/modules only; fails with VC_EHOST and what to install when something is missing.
#ifndef VCD_IMAGE_KERNEL_H
#define VCD_IMAGE_KERNEL_H

#include <stdbool.h>

#include "libvc/error.h"

struct kernel {
	char *image;	   // /boot/vmlinuz-VERSION
	char *version;	   // as uname -r
	char *modules_dir; // /lib/modules/VERSION
};

// image NULL: the newest /boot/vmlinuz-*-cloud-amd64 whose modules are there. Otherwise that file, whose name
// must be vmlinuz-VERSION. root is "" outside of tests.
int kernel_find(const char *root, const char *image, struct kernel *ret, struct vc_error *err);
void kernel_clear(struct kernel *k);
// Versions as people order them: 6.1.0-9 before 6.1.0-10.
int kernel_compare_versions(const char *a, const char *b);

// Module files below modules_dir, each behind what it needs, from modules.dep and modules.builtin.
// Free with vc_strv_free().
int kernel_module_order(const char *modules_dir, char ***ret, struct vc_error *err);

#endif
