// SPDX-License-Identifier: GPL-2.0-or-later
// A wall clock that jumps, to preload into vcd (libfaketime hangs beside ASan; fault_site.bats compiles it):
// CLOCK_REALTIME, gettimeofday() and time() are off by the seconds that the file in WALLCLOCK says at each call. Other
// clocks are the true ones. System calls alone, since it runs before and inside the sanitizer's own code.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX 32 // bytes: a sign and digits

int clock_gettime(clockid_t id, struct timespec *ts);
int gettimeofday(struct timeval *restrict tv, void *restrict tz);
time_t time(time_t *ret);

// What vcd starts (qemu-img hangs beside the sanitizer's library) does not get it.
__attribute__((constructor)) static void for_vcd_alone(void)
{
	if (strcmp(program_invocation_short_name, "vcd") == 0)
		unsetenv("LD_PRELOAD");
}

static long offset(void)
{
	char text[FILE_MAX] = "";
	const char *path = getenv("WALLCLOCK"), *p = text;
	long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1, n = 0;
	if (fd < 0)
		return 0;
	syscall(SYS_read, fd, text, sizeof(text) - 1);
	syscall(SYS_close, fd);
	for (p += *p == '-' || *p == '+'; *p >= '0' && *p <= '9'; p++)
		n = n * 10 + (*p - '0');
	return text[0] == '-' ? -n : n;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int rc = (int)syscall(SYS_clock_gettime, id, ts);
	if (rc == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		ts->tv_sec += offset();
	return rc;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	int rc = (int)syscall(SYS_gettimeofday, tv, tz);
	if (rc == 0)
		tv->tv_sec += offset();
	return rc;
}

time_t time(time_t *ret)
{
	struct timespec ts;
	if (clock_gettime(CLOCK_REALTIME, &ts) < 0)
		return -1;
	if (ret)
		*ret = ts.tv_sec;
	return ts.tv_sec;
}
