// SPDX-License-Identifier: GPL-2.0-or-later
// mkinitramfs VCGUESTD OUT: the initramfs that vcd would make, for the tests of vcguestd. Prints the kernel's path.
#include <stdio.h>

#include "vcd/image/initramfs.h"
#include "vcd/image/kernel.h"

int main(int argc, char **argv)
{
	struct kernel k = {0};
	struct vc_error err = VC_ERROR_INIT;
	if (argc != 3) {
		fputs("usage: mkinitramfs VCGUESTD OUT\n", stderr);
		return 2;
	}
	int rc = kernel_find("", NULL, &k, &err);
	struct initramfs_spec spec = {.version = k.version, .modules_dir = k.modules_dir, .init = argv[1]};
	if (rc == 0)
		rc = initramfs_build(&spec, argv[2], &err);
	if (rc == 0)
		puts(k.image);
	else
		fprintf(stderr, "mkinitramfs: %s\n", err.text);
	kernel_clear(&k);
	return rc < 0;
}
