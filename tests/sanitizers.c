// SPDX-License-Identifier: GPL-2.0-or-later
// Where programs built with --enable-sanitizers report, compiled into those alone. Slurm starts vc-prolog, vcexec and
// their like with environments of its own making, so ASAN_OPTIONS would not reach them: on a host of the lab, which has
// the directory REPORTS, every program writes a file there, elsewhere to standard error.
#include <unistd.h>

#define REPORTS "/var/log/vclab/sanitizers"
// a small quarantine: three vcds and some hundred tasks share the memory of one machine
#define OPTIONS "quarantine_size_mb=16"

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__lsan_default_suppressions(void);
const char *__lsan_default_options(void);

// Called before main and before the sanitizer itself is ready.
__attribute__((no_sanitize_address)) const char *__asan_default_options(void)
{
	return access(REPORTS, W_OK) == 0 ? OPTIONS ":log_path=" REPORTS "/report" : OPTIONS;
}

__attribute__((no_sanitize_address)) const char *__ubsan_default_options(void)
{
	return "print_stacktrace=1";
}

// What libpmix keeps until its process ends (vc-pmix).
const char *__lsan_default_suppressions(void)
{
	return "leak:libpmix.so\n";
}

const char *__lsan_default_options(void)
{
	return "print_suppressions=0"; // a report of them would look like one of leaks
}
