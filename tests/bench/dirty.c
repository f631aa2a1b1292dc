// SPDX-License-Identifier: GPL-2.0-or-later
// dirty: runs in a member that is migrated, and dirties its memory at a given rate.
//
//   dirty MIB MIB_PER_S FILE     touches MIB once, then writes one word into each page in turn, MIB_PER_S of pages a second;
//                                FILE has the number of pages written since then, 8 bytes, always
//
// Ends when it is killed. A rate that the machine cannot reach is not caught up with.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"

#define PAGE 4096u
#define TICKS_PER_S 100u // 0 MiB a second still counts its ticks' time, not pages

static void next_tick(struct timespec *at)
{
	struct timespec now;
	at->tv_nsec += 1000000000 / TICKS_PER_S;
	if (at->tv_nsec >= 1000000000) {
		at->tv_sec++;
		at->tv_nsec -= 1000000000;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec > at->tv_sec || (now.tv_sec == at->tv_sec && now.tv_nsec > at->tv_nsec))
		*at = now; // late
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, at, NULL);
}

static int run(volatile uint64_t *memory, uint64_t pages, uint64_t per_tick, volatile uint64_t *written)
{
	const size_t words = PAGE / sizeof(uint64_t);
	struct timespec at;
	for (uint64_t i = 0; i < pages; i++)
		memory[i * words] = i + 1;
	clock_gettime(CLOCK_MONOTONIC, &at);
	for (uint64_t next = 0;;) {
		for (uint64_t i = 0; i < per_tick; i++) {
			memory[next * words]++;
			next = next + 1 < pages ? next + 1 : 0;
		}
		*written += per_tick;
		next_tick(&at);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct vc_error err = VC_ERROR_INIT;
	uint64_t mib, rate;
	if (argc != 4 || vc_parse_u64("MIB", argv[1], 1, 1u << 20, &mib, &err) < 0 ||
	    vc_parse_u64("MIB_PER_S", argv[2], 0, 1u << 20, &rate, &err) < 0) {
		fprintf(stderr, "Usage: dirty MIB MIB_PER_S FILE%s%s\n", err.text[0] ? ": " : "", err.text);
		return 2;
	}
	vc_autoclose int fd = open(argv[3], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, sizeof(uint64_t)) < 0)
		return perror(argv[3]), 1;
	void *file = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	void *memory = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (file == MAP_FAILED || memory == MAP_FAILED)
		return perror("mmap"), 1;
	return run(memory, (mib << 20) / PAGE, (rate << 20) / PAGE / TICKS_PER_S, file);
}
