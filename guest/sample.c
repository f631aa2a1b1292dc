// SPDX-License-Identifier: GPL-2.0-or-later
// Load of this guest: see sample.h.
#include "guest/sample.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libvc/cleanup.h"

#define PROC_FILE_MAX 8192 // bytes; /proc/meminfo has about 1.5 KiB

void sample_parse_loadavg(const char *text, struct sample *ret)
{
	uint64_t runnable;
	if (sscanf(text, "%*f %*f %*f %" SCNu64 "/", &runnable) == 1)
		ret->runnable = runnable;
}

void sample_parse_pressure(const char *text, struct sample *ret)
{
	double avg10;
	if (sscanf(text, "some avg10=%lf", &avg10) == 1)
		ret->cpu_some_avg10 = avg10;
}

void sample_parse_meminfo(const char *text, struct sample *ret)
{
	uint64_t kib;
	const char *line = strstr(text, "MemAvailable:");
	if (line && sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
		ret->mem_available_kib = kib;
}

static void read_proc(const char *path, void (*parse)(const char *text, struct sample *ret), struct sample *ret)
{
	char text[PROC_FILE_MAX];
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return;
	text[n] = '\0';
	parse(text, ret);
}

void sample_take(struct sample *ret)
{
	*ret = (struct sample){.cpu_some_avg10 = -1};
	read_proc("/proc/loadavg", sample_parse_loadavg, ret);
	read_proc("/proc/pressure/cpu", sample_parse_pressure, ret);
	read_proc("/proc/meminfo", sample_parse_meminfo, ret);
}
