// SPDX-License-Identifier: GPL-2.0-or-later
// Placing vcmpich.so: see preload.h.
#include "guest/preload.h"

#include <errno.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/apply.h"
#include "libvc/cleanup.h"
#include "libvc/limits.h"

// The file itself, made by the rule for guest/vcmpich.so in Makefile.am.
__asm__(".section .rodata\n"
	".global vcmpich_start, vcmpich_end\n"
	"vcmpich_start:\n"
	".incbin \"guest/vcmpich.so\"\n"
	"vcmpich_end:\n"
	".previous\n");
extern const char vcmpich_start[], vcmpich_end[];

// Where distributions install MPICH 3.2 to 4, whose library has this name.
static const char *const mpich_libraries[] = {
	"/usr/lib/x86_64-linux-gnu/libmpich.so.12",
	"/usr/lib64/mpich/lib/libmpich.so.12",
	"/usr/lib64/libmpich.so.12",
	"/usr/local/lib/libmpich.so.12",
};

static bool has_mpich(void)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(mpich_libraries); i++) {
		if (access(mpich_libraries[i], R_OK) == 0)
			return true;
	}
	return false;
}

int preload_place(const char **ret, struct vc_error *err)
{
	*ret = NULL;
	if (!has_mpich())
		return 0;
	if (mkdir(PRELOAD_DIR, 0755) < 0 && errno != EEXIST)
		return vc_error_errno(err, PRELOAD_DIR);
	if (apply_write(PRELOAD_PATH, vcmpich_start, (size_t)(vcmpich_end - vcmpich_start), 0644, 0, 0, err) < 0)
		return -1;
	*ret = PRELOAD_PATH;
	return 0;
}
