// SPDX-License-Identifier: GPL-2.0-or-later
// One look at how busy this guest is, for guest.load. What cannot be read stays 0 (pressure: -1).
#ifndef GUEST_SAMPLE_H
#define GUEST_SAMPLE_H

#include <stdint.h>

struct sample {
	uint64_t runnable;	  // processes that run or could run now
	double cpu_some_avg10;	  // percent of the last 10 s that some process waited for a CPU; -1: kernel without PSI
	uint64_t mem_available_kib;
};

void sample_take(struct sample *ret);

// Pure parsers of /proc/loadavg, /proc/pressure/cpu and /proc/meminfo; a text of another form changes nothing.
void sample_parse_loadavg(const char *text, struct sample *ret);
void sample_parse_pressure(const char *text, struct sample *ret);
void sample_parse_meminfo(const char *text, struct sample *ret);

#endif
