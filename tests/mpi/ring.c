// SPDX-License-Identifier: GPL-2.0-or-later
// A ring that does not end by itself: a block travels from rank to rank, each checks every word of it and makes it the next
// one. Rank 0 sends the last lap when a file of this name is there: ring FILE. It prints the laps, and what was wrong.
//
// For tests that move the machines under it (tests/system/migrate_mpi.bats).
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define WORDS 8192 // 64 KiB: a few segments, so that some are on their way at any time

struct lap {
	uint64_t number, last;
	uint64_t words[WORDS];
};

// splitmix64 (Steele, Lea, Flood 2014)
static uint64_t word(uint64_t lap, uint64_t rank, uint64_t i)
{
	uint64_t z = (lap << 32) + (rank << 16) + i + 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void fill(struct lap *lap, int rank)
{
	for (uint64_t i = 0; i < WORDS; i++)
		lap->words[i] = word(lap->number, (uint64_t)rank, i);
}

static uint64_t count_wrong(const struct lap *lap, uint64_t number, int from)
{
	uint64_t wrong = lap->number != number;
	for (uint64_t i = 0; i < WORDS; i++)
		wrong += lap->words[i] != word(number, (uint64_t)from, i);
	return wrong;
}

int main(int argc, char *argv[])
{
	static struct lap lap;
	int rank, size;
	uint64_t wrong = 0, all = 0, number = 0;
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	int next = (rank + 1) % size, before = (rank + size - 1) % size;
	for (; !lap.last; number++) {
		if (rank == 0) {
			lap.number = number;
			lap.last = argc < 2 || access(argv[1], F_OK) == 0;
			fill(&lap, rank);
			MPI_Send(&lap, sizeof(lap), MPI_BYTE, next, 0, MPI_COMM_WORLD);
		}
		MPI_Recv(&lap, sizeof(lap), MPI_BYTE, before, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		wrong += count_wrong(&lap, number, before);
		if (rank != 0) {
			fill(&lap, rank);
			MPI_Send(&lap, sizeof(lap), MPI_BYTE, next, 0, MPI_COMM_WORLD);
		}
	}
	MPI_Reduce(&wrong, &all, 1, MPI_UINT64_T, MPI_SUM, 0, MPI_COMM_WORLD);
	if (rank == 0)
		printf("%llu laps of %d ranks, %llu wrong\n", (unsigned long long)number, size, (unsigned long long)all);
	MPI_Finalize();
	return 0;
}
