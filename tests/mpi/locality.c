// SPDX-License-Identifier: GPL-2.0-or-later
// What an MPI library knows of who shares memory: the ranks of MPI_COMM_TYPE_SHARED are exactly those that have this
// machine's name, and a shared window is memory that all of them see. Rank 0 prints a line per rank in order, then "ok"
// or "wrong"; the exit status is 0 only when all is right. Instead, with an argument, "abort": rank 1 ends all the others;
// "die": rank 1 dies of SIGKILL; "wait": rank 0 prints "step N" and all wait until somebody ends them.
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_LEN 80
#define LINE_LEN 512

struct world {
	int rank, size;
	char *names; // of all ranks, NAME_LEN each
};

static const char *name_of(const struct world *w, int rank)
{
	return w->names + (size_t)rank * NAME_LEN;
}

static void gather_names(struct world *w)
{
	char name[NAME_LEN] = "";
	MPI_Comm_rank(MPI_COMM_WORLD, &w->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &w->size);
	gethostname(name, sizeof(name) - 1);
	w->names = calloc((size_t)w->size, NAME_LEN);
	MPI_Allgather(name, NAME_LEN, MPI_CHAR, w->names, NAME_LEN, MPI_CHAR, MPI_COMM_WORLD);
}

// The communicator holds the ranks of this machine, all of them and no others.
static int shared_is_right(const struct world *w, MPI_Comm shared, char *line, size_t len)
{
	int n, found = 0, mine = 0;
	int *ranks = calloc((size_t)w->size, sizeof(*ranks));
	MPI_Comm_size(shared, &n);
	MPI_Allgather(&w->rank, 1, MPI_INT, ranks, 1, MPI_INT, shared);
	for (int i = 0; i < n; i++) {
		found += strcmp(name_of(w, ranks[i]), name_of(w, w->rank)) == 0;
		snprintf(line + strlen(line), len - strlen(line), " %d", ranks[i]);
	}
	for (int i = 0; i < w->size; i++)
		mine += strcmp(name_of(w, i), name_of(w, w->rank)) == 0;
	free(ranks);
	return found == n && n == mine;
}

// Each writes its number into its part; everybody reads all parts through its own mapping.
static int window_is_shared(MPI_Comm shared)
{
	int rank, n, right = 1, unit;
	MPI_Aint size;
	MPI_Win win;
	volatile int *part;
	MPI_Comm_rank(shared, &rank);
	MPI_Comm_size(shared, &n);
	MPI_Win_allocate_shared(sizeof(int), sizeof(int), MPI_INFO_NULL, shared, (void *)&part, &win);
	MPI_Win_lock_all(0, win);
	*part = 1000 + rank;
	MPI_Win_sync(win);
	MPI_Barrier(shared);
	MPI_Win_sync(win);
	for (int i = 0; i < n; i++) {
		volatile int *other;
		MPI_Win_shared_query(win, i, &size, &unit, (void *)&other);
		right &= *other == 1000 + i;
	}
	MPI_Win_unlock_all(win);
	MPI_Win_free(&win);
	return right;
}

static void print_lines(const struct world *w, const char *line)
{
	char *lines = w->rank == 0 ? calloc((size_t)w->size, LINE_LEN) : NULL;
	MPI_Gather(line, LINE_LEN, MPI_CHAR, lines, LINE_LEN, MPI_CHAR, 0, MPI_COMM_WORLD);
	for (int i = 0; lines && i < w->size; i++)
		puts(lines + (size_t)i * LINE_LEN);
	free(lines);
}

static void end_badly(const struct world *w, const char *how)
{
	const char *step = getenv("SLURM_STEP_ID");
	if (w->rank == 1 && strcmp(how, "abort") == 0)
		MPI_Abort(MPI_COMM_WORLD, 7);
	if (w->rank == 1 && strcmp(how, "die") == 0)
		raise(SIGKILL);
	if (w->rank == 0 && strcmp(how, "wait") == 0) {
		printf("step %s\n", step ? step : "?");
		fflush(stdout);
		for (;;)
			pause();
	}
	MPI_Barrier(MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
	struct world w;
	char line[LINE_LEN] = "";
	MPI_Comm shared;
	int right, all, sum = 0;
	MPI_Init(&argc, &argv);
	gather_names(&w);
	if (argc > 1)
		end_badly(&w, argv[1]);
	MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, w.rank, MPI_INFO_NULL, &shared);
	snprintf(line, sizeof(line), "rank %d of %d on %s shares memory with", w.rank, w.size, name_of(&w, w.rank));
	right = shared_is_right(&w, shared, line, sizeof(line)) && window_is_shared(shared);
	MPI_Allreduce(&w.rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD); // between machines
	right = right && sum == w.size * (w.size - 1) / 2;
	MPI_Allreduce(&right, &all, 1, MPI_INT, MPI_LAND, MPI_COMM_WORLD);
	print_lines(&w, line);
	if (w.rank == 0)
		puts(all ? "ok" : "wrong");
	free(w.names);
	MPI_Finalize();
	return all ? 0 : 1;
}
