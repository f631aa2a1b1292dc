// SPDX-License-Identifier: GPL-2.0-or-later
// Placing vcmpich.so and vcidle.so: see preload.h.
#include "guest/preload.h"

#include <errno.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/apply.h"
#include "libvc/cleanup.h"
#include "libvc/limits.h"

#define MPICH_PATH PRELOAD_DIR "/vcmpich.so"
#define IDLE_PATH PRELOAD_DIR "/vcidle.so"

// The files themselves, made by the rules for them in Makefile.am.
__asm__(".section .rodata\n"
	".global vcmpich_start, vcmpich_end, vcidle_start, vcidle_end\n"
	"vcmpich_start:\n"
	".incbin \"guest/vcmpich.so\"\n"
	"vcmpich_end:\n"
	"vcidle_start:\n"
	".incbin \"guest/vcidle.so\"\n"
	"vcidle_end:\n"
	".previous\n");
extern const char vcmpich_start[], vcmpich_end[], vcidle_start[], vcidle_end[];

// Where distributions install MPICH 3.2 to 4 and Open MPI 2 to 5, whose libraries have these names.
static const char *const mpich_libraries[] = {
	"/usr/lib/x86_64-linux-gnu/libmpich.so.12",
	"/usr/lib64/mpich/lib/libmpich.so.12",
	"/usr/lib64/libmpich.so.12",
	"/usr/local/lib/libmpich.so.12",
	NULL,
};
static const char *const openmpi_libraries[] = {
	"/usr/lib/x86_64-linux-gnu/libmpi.so.40",
	"/usr/lib64/openmpi/lib/libmpi.so.40",
	"/usr/lib64/libmpi.so.40",
	"/usr/local/lib/libmpi.so.40",
	NULL,
};

static bool has_one(const char *const *paths)
{
	while (*paths && access(*paths, R_OK) < 0)
		paths++;
	return *paths != NULL;
}

int preload_place(struct preload *ret, struct vc_error *err)
{
	*ret = (struct preload){.mpich = has_one(mpich_libraries), .openmpi = has_one(openmpi_libraries)};
	if (!ret->mpich && !ret->openmpi)
		return 0;
	if (mkdir(PRELOAD_DIR, 0755) < 0 && errno != EEXIST)
		return vc_error_errno(err, PRELOAD_DIR);
	if (apply_write(MPICH_PATH, vcmpich_start, (size_t)(vcmpich_end - vcmpich_start), 0644, 0, 0, err) < 0)
		return -1;
	return apply_write(IDLE_PATH, vcidle_start, (size_t)(vcidle_end - vcidle_start), 0644, 0, 0, err);
}

const char *preload_value(const struct preload *p, bool shared_cpus)
{
	if (shared_cpus && p->mpich)
		return MPICH_PATH ":" IDLE_PATH;
	if (shared_cpus && p->openmpi)
		return IDLE_PATH;
	return p->mpich ? MPICH_PATH : NULL;
}
