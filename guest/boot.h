// SPDX-License-Identifier: GPL-2.0-or-later
// PID 1 from the kernel's hand-over to the guest's own root: file systems, modules, root disk, switch of the root.
//
// Runs once, before any thread or loop exists. A step that fails leaves the machine unusable: the caller prints the
// reason on the console and powers off with boot_poweroff().
#ifndef GUEST_BOOT_H
#define GUEST_BOOT_H

#include <stdint.h>

#include "libvc/error.h"
#include "libvc/limits.h"

// What the host says on the kernel's command line: vcluster.root=/dev/vda vcluster.rootfstype=ext4 vcluster.link=vsock:PORT
struct boot_params {
	char root[VC_NAME_MAX + 1];
	char fstype[VC_NAME_MAX + 1];
	uint32_t vsock_port; // 0: virtio-serial
};

// Pure: unknown words are other programs' business; a malformed one of ours is an error.
int boot_params_parse(const char *cmdline, struct boot_params *ret, struct vc_error *err);

// Everything up to the new root; afterwards VC_GUEST_DIR/bin holds this program and its links.
int boot_run(struct boot_params *ret_params, struct vc_error *err);

// Syncs and powers off; never returns.
void boot_poweroff(void) __attribute__((noreturn));

// The names under which this program is called in VC_GUEST_DIR/bin, NULL at the end.
extern const char *const boot_tools[];

#endif
