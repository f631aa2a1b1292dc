// SPDX-License-Identifier: GPL-2.0-or-later
// Ping-pong between ranks 0 and 1: prints "LATENCY BANDWIDTH", half the median round trip of 8 bytes in microseconds, and the
// MiB per second of large messages, median of their round trips.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#define SMALL 8
#define SMALL_ROUNDS 2000
#define LARGE (1 << 20)
#define LARGE_ROUNDS 200
#define WARM 20 // rounds that do not count: connections, caches

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

// The median round trip in seconds.
static double rounds(int rank, char *buf, int bytes, int count)
{
	double *times = calloc((size_t)count, sizeof(*times)), median;
	for (int i = -WARM; i < count; i++) {
		double start = MPI_Wtime();
		if (rank == 0) {
			MPI_Send(buf, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
			MPI_Recv(buf, bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		} else {
			MPI_Recv(buf, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
			MPI_Send(buf, bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
		}
		if (i >= 0)
			times[i] = MPI_Wtime() - start;
	}
	qsort(times, (size_t)count, sizeof(*times), by_value);
	median = times[count / 2];
	free(times);
	return median;
}

int main(int argc, char **argv)
{
	int rank;
	char *buf = calloc(1, LARGE);
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	double small = rounds(rank, buf, SMALL, SMALL_ROUNDS), large = rounds(rank, buf, LARGE, LARGE_ROUNDS);
	if (rank == 0)
		printf("%.3f %.3f\n", small / 2 * 1e6, 2.0 * LARGE / large / (1 << 20));
	free(buf);
	MPI_Finalize();
	return 0;
}
