// SPDX-License-Identifier: GPL-2.0-or-later
// The first program of the quickstart: each rank says who it is and on which
// member of the virtual cluster it runs, in the order of the ranks.
#include <mpi.h>
#include <stdio.h>

static void say(int rank, int size, const char *member)
{
	printf("rank %d of %d on %s\n", rank, size, member);
	fflush(stdout);
}

// Rank 0 prints for all: output of many ranks may arrive in any order. It answers each rank, because MPICH before 4.2
// over UCX can hang in MPI_Finalize when a rank has only received, from ranks that have left already.
static void say_all(int size)
{
	char member[MPI_MAX_PROCESSOR_NAME];
	for (int rank = 1; rank < size; rank++) {
		MPI_Recv(member, sizeof(member), MPI_CHAR, rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		say(rank, size, member);
	}
	for (int rank = 1; rank < size; rank++)
		MPI_Send(NULL, 0, MPI_CHAR, rank, 0, MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
	char member[MPI_MAX_PROCESSOR_NAME];
	int rank, size, len;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	MPI_Get_processor_name(member, &len);
	if (rank == 0) {
		say(rank, size, member);
		say_all(size);
	} else {
		MPI_Send(member, len + 1, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
		MPI_Recv(NULL, 0, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	}
	MPI_Finalize();
	return 0;
}
