// SPDX-License-Identifier: GPL-2.0-or-later
// MPI_Comm_spawn of two more processes. Rank 0 prints "spawned N" with the number of ranks that both have together, or
// "refused: " and the last line of what the library says; a child prints nothing.
#include <mpi.h>
#include <stdio.h>
#include <string.h>

// How many ranks are in both worlds.
static int together(MPI_Comm others, int high)
{
	MPI_Comm all;
	int one = 1, sum = 0;
	MPI_Intercomm_merge(others, high, &all);
	MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, all);
	MPI_Comm_free(&all);
	MPI_Comm_disconnect(&others);
	return sum;
}

static void say_refused(int rc)
{
	char text[MPI_MAX_ERROR_STRING + 1] = "";
	int n;
	MPI_Error_string(rc, text, &n);
	for (char *end = text + strlen(text); end > text && end[-1] == '\n'; end--)
		end[-1] = '\0';
	char *last = strrchr(text, '\n');
	printf("refused: %s\n", last ? last + 1 : text);
}

int main(int argc, char **argv)
{
	MPI_Comm others;
	int rc = MPI_SUCCESS;
	MPI_Init(&argc, &argv);
	MPI_Comm_get_parent(&others);
	if (others != MPI_COMM_NULL) {
		together(others, 1);
	} else {
		MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
		rc = MPI_Comm_spawn(argv[0], MPI_ARGV_NULL, 2, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &others, MPI_ERRCODES_IGNORE);
		if (rc != MPI_SUCCESS)
			say_refused(rc);
		else
			printf("spawned %d\n", together(others, 0));
	}
	MPI_Finalize();
	return 0;
}
