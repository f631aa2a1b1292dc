// SPDX-License-Identifier: GPL-2.0-or-later
// The parts of MPI that programs lean on, each with its answer checked: a ring of small and of large messages, collectives,
// one-sided communication. Rank 0 prints a line "PART ok" or "PART wrong" per part; the exit status is 0 when all are right.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#define LARGE 40000 // ints: above every library's eager limit
#define ROUNDS 2

static int rank, size;

// Each round every message travels once round the ring, and each rank adds its number to what passes.
static int ring(int count)
{
	int *out = calloc((size_t)count, sizeof(int)), *in = calloc((size_t)count, sizeof(int));
	int right = 1, before = (rank + size - 1) % size, after = (rank + 1) % size;
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < count; i++)
			out[i] = i + round;
		for (int hop = 0; hop < size; hop++) {
			MPI_Sendrecv(out, count, MPI_INT, after, round, in, count, MPI_INT, before, round, MPI_COMM_WORLD,
				     MPI_STATUS_IGNORE);
			for (int i = 0; i < count; i++)
				out[i] = in[i] + rank;
		}
		for (int i = 0; i < count; i++)
			right &= out[i] == i + round + size * (size - 1) / 2;
	}
	free(out);
	free(in);
	return right;
}

static int small_ring(void)
{
	return ring(1);
}

static int large_ring(void)
{
	return ring(LARGE);
}

static int collectives(void)
{
	int sum = 0, scan = 0, all = size * (size - 1) / 2, right = 1, root = rank == size - 1 ? 42 : 0;
	int *to = calloc((size_t)size, sizeof(int)), *from = calloc((size_t)size, sizeof(int));
	MPI_Bcast(&root, 1, MPI_INT, size - 1, MPI_COMM_WORLD);
	MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	MPI_Scan(&rank, &scan, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	for (int i = 0; i < size; i++)
		to[i] = rank * 1000 + i;
	MPI_Alltoall(to, 1, MPI_INT, from, 1, MPI_INT, MPI_COMM_WORLD);
	for (int i = 0; i < size; i++)
		right &= from[i] == i * 1000 + rank;
	MPI_Barrier(MPI_COMM_WORLD);
	free(to);
	free(from);
	return right && root == 42 && sum == all && scan == rank * (rank + 1) / 2;
}

// Everybody puts into its right neighbour's window, gets from its left one's, and adds to the counter of rank 0. The
// window is aligned memory: Debian's MPICH 4.0 over UCX writes beside the place elsewhere, on any machine.
static int one_sided(void)
{
	long *part = calloc(3, sizeof(long)), got = 0, one = 1, mine = rank;
	int right;
	MPI_Win win;
	part[0] = -1;
	part[1] = 100 + rank;
	MPI_Win_create(part, 3 * sizeof(long), sizeof(long), MPI_INFO_NULL, MPI_COMM_WORLD, &win);
	MPI_Win_fence(0, win);
	MPI_Put(&mine, 1, MPI_LONG, (rank + 1) % size, 0, 1, MPI_LONG, win);
	MPI_Get(&got, 1, MPI_LONG, (rank + size - 1) % size, 1, 1, MPI_LONG, win);
	MPI_Accumulate(&one, 1, MPI_LONG, 0, 2, 1, MPI_LONG, MPI_SUM, win);
	MPI_Win_fence(0, win);
	right = part[0] == (rank + size - 1) % size && got == 100 + part[0] && part[2] == (rank == 0 ? size : 0);
	MPI_Win_free(&win);
	free(part);
	return right;
}

static const struct {
	const char *name;
	int (*run)(void);
} parts[] = {{"ring", small_ring}, {"large", large_ring}, {"collectives", collectives}, {"one-sided", one_sided}};

int main(int argc, char **argv)
{
	int failed = 0;
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		int right = parts[i].run(), all;
		MPI_Allreduce(&right, &all, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
		if (rank == 0)
			printf("%s %s\n", parts[i].name, all ? "ok" : "wrong");
		fflush(stdout);
		failed |= !all;
	}
	MPI_Finalize();
	return failed;
}
