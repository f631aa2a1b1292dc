// SPDX-License-Identifier: GPL-2.0-or-later
// A work queue whose workers follow the virtual cluster: counts the primes below ITEMS x 100000, one item per 100000.
//
// mpicc.openmpi elastic.c $(pkg-config --cflags --libs vcluster) -Wl,-rpath,'$ORIGIN' -o elastic
// mpirun -n 1 --oversubscribe --host $(hostname) ./elastic ITEMS JOURNAL     (contrib/examples/elastic.sh does that, again when a member died)
//
// The one process that mpirun starts is the master. It reads the view (vcluster.h): on each member that has joined it spawns
// as many workers as the member has slots (MPI_Comm_spawn with Open MPI's info key add-host, which takes hosts that mpirun did
// not know), gives a member that is leaving nothing more and lets its workers go once their items are done, and each result goes
// to JOURNAL at once. A member that dies takes the MPI job with it, as MPI is: the master ends with status 75 (try again), and
// the next run does what the journal does not have. So no item is lost, and none is counted twice.
#include <errno.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vcluster.h>

#define ITEM_NUMBERS 100000L
#define ITEMS_MAX 1000000L
#define IDLE_MS 20	    // between two looks for results; a change of the view ends it early
#define STATUS_AGAIN 75     // EX_TEMPFAIL of sysexits.h
#define TAG_ITEM 1
#define TAG_RESULT 2
#define NO_ITEM (-1L)

// ---- the work ----

static int is_prime(long n)
{
	if (n < 4)
		return n > 1;
	if (n % 2 == 0)
		return 0;
	for (long d = 3; d * d <= n; d += 2) {
		if (n % d == 0)
			return 0;
	}
	return 1;
}

static long count_primes(long item)
{
	long n = 0;
	for (long i = item * ITEM_NUMBERS; i < (item + 1) * ITEM_NUMBERS; i++)
		n += is_prime(i);
	return n;
}

static void worker(MPI_Comm master)
{
	long item, result[2];
	for (;;) {
		MPI_Recv(&item, 1, MPI_LONG, 0, TAG_ITEM, master, MPI_STATUS_IGNORE);
		if (item == NO_ITEM)
			break;
		result[0] = item;
		result[1] = count_primes(item);
		MPI_Send(result, 2, MPI_LONG, 0, TAG_RESULT, master);
	}
	MPI_Comm_disconnect(&master);
}

// ---- the queue ----

struct queue {
	FILE *journal;
	long items, done, next; // next: where to look for one that is open
	char *state;		// of each: OPEN, GIVEN, DONE
	long sum;
};
enum { OPEN, GIVEN, DONE };

static void finish(struct queue *q, long item, long primes)
{
	if (item < 0 || item >= q->items || q->state[item] == DONE)
		return;
	q->state[item] = DONE;
	q->done++;
	q->sum += primes;
}

// What an earlier run has done; a line that was cut off is of an item that is done again.
static int open_queue(struct queue *q, const char *path)
{
	long item, primes;
	char end;
	q->state = calloc((size_t)q->items, 1);
	q->journal = fopen(path, "a+");
	if (!q->state || !q->journal)
		return -1;
	rewind(q->journal);
	while (fscanf(q->journal, "%ld %ld%c", &item, &primes, &end) == 3 && end == '\n')
		finish(q, item, primes);
	if (q->done)
		printf("%ld of %ld items were done before\n", q->done, q->items);
	return fseek(q->journal, 0, SEEK_END);
}

static int record(struct queue *q, const long result[2])
{
	finish(q, result[0], result[1]);
	return fprintf(q->journal, "%ld %ld\n", result[0], result[1]) < 0 || fflush(q->journal) ? -1 : 0;
}

static long take(struct queue *q)
{
	while (q->next < q->items && q->state[q->next] != OPEN)
		q->next++;
	if (q->next == q->items)
		return NO_ITEM;
	q->state[q->next] = GIVEN;
	return q->next++;
}

// ---- a member's workers ----

struct group {
	struct group *next;
	struct vcluster_member member;
	MPI_Comm workers;
	int size, busy; // busy: have an item
	char *idle;	// of each
	int leaving;
};

static struct group *spawn_group(const struct vcluster_member *m)
{
	struct group *g = calloc(1, sizeof(*g));
	MPI_Info info;
	if (!g || !(g->idle = malloc(m->slots)))
		return NULL;
	g->member = *m;
	g->size = (int)m->slots;
	memset(g->idle, 1, m->slots);
	MPI_Info_create(&info);
	MPI_Info_set(info, "add-host", m->name);
	MPI_Info_set(info, "host", m->name);
	if (MPI_Comm_spawn("./elastic", MPI_ARGV_NULL, g->size, info, 0, MPI_COMM_SELF, &g->workers, MPI_ERRCODES_IGNORE) != MPI_SUCCESS)
		MPI_Abort(MPI_COMM_WORLD, STATUS_AGAIN);
	MPI_Info_free(&info);
	printf("member %s: %d workers\n", m->name, g->size);
	return g;
}

static void free_group(struct group *g)
{
	long none = NO_ITEM;
	for (int i = 0; i < g->size; i++)
		MPI_Send(&none, 1, MPI_LONG, i, TAG_ITEM, g->workers);
	MPI_Comm_disconnect(&g->workers);
	printf("member %s: let go\n", g->member.name);
	free(g->idle);
	free(g);
}

// Results that have come, and items for those that wait. Returns the number of results.
static int serve_group(struct group *g, struct queue *q)
{
	int count = 0, there;
	long result[2];
	MPI_Status status;
	while (MPI_Iprobe(MPI_ANY_SOURCE, TAG_RESULT, g->workers, &there, &status) == MPI_SUCCESS && there) {
		MPI_Recv(result, 2, MPI_LONG, status.MPI_SOURCE, TAG_RESULT, g->workers, MPI_STATUS_IGNORE);
		if (record(q, result) < 0)
			MPI_Abort(MPI_COMM_WORLD, 1);
		g->idle[status.MPI_SOURCE] = 1;
		g->busy--;
		count++;
	}
	for (int i = 0; i < g->size && !g->leaving; i++) {
		long item = g->idle[i] ? take(q) : NO_ITEM;
		if (item == NO_ITEM)
			continue;
		MPI_Send(&item, 1, MPI_LONG, i, TAG_ITEM, g->workers);
		g->idle[i] = 0;
		g->busy++;
	}
	return count;
}

// ---- the master ----

static struct group *find_group(struct group *groups, uint32_t rank)
{
	while (groups && groups->member.rank != rank)
		groups = groups->next;
	return groups;
}

static void see_member(struct group **groups, const struct vcluster_member *m)
{
	struct group *g = find_group(*groups, m->rank);
	if (g && m->state == VCLUSTER_GONE) {
		printf("member %s died\n", m->name);
		fflush(stdout);
		MPI_Abort(MPI_COMM_WORLD, STATUS_AGAIN);
	} else if (g) {
		g->leaving = m->state == VCLUSTER_LEAVING;
	} else if (m->state == VCLUSTER_ACTIVE && m->slots && (g = spawn_group(m))) {
		g->next = *groups;
		*groups = g;
	}
}

static uint64_t see_view(const struct vcluster *view, struct group **groups)
{
	uint64_t epoch = vcluster_epoch(view);
	struct vcluster_member m;
	uint32_t cursor = 0;
	while (vcluster_next(view, epoch, &cursor, &m) == 1)
		see_member(groups, &m);
	fflush(stdout);
	return epoch;
}

// Serves all; lets go of those that are leaving and have nothing under way, or of all when `end`.
static int serve(struct group **groups, struct queue *q, int end)
{
	int count = 0;
	for (struct group **at = groups, *g; (g = *at);) {
		count += serve_group(g, q);
		if ((g->leaving || end) && g->busy == 0) {
			*at = g->next;
			free_group(g);
		} else {
			at = &g->next;
		}
	}
	return count;
}

static int master(long items, const char *path)
{
	struct queue q = {.items = items};
	struct group *groups = NULL;
	struct vcluster *view = vcluster_open(NULL);
	uint64_t epoch = 0;
	if (!view || open_queue(&q, path) < 0) {
		fprintf(stderr, "elastic: %s: %s\n", view ? path : "no view", strerror(errno));
		return 1;
	}
	while (q.done < q.items) {
		if (vcluster_epoch(view) != epoch)
			epoch = see_view(view, &groups);
		if (serve(&groups, &q, 0) == 0)
			(void)vcluster_wait(view, epoch, IDLE_MS);
	}
	serve(&groups, &q, 1);
	printf("%ld primes below %ld\n", q.sum, q.items * ITEM_NUMBERS);
	vcluster_close(view);
	free(q.state);
	return fclose(q.journal) ? 1 : 0;
}

int main(int argc, char **argv)
{
	MPI_Comm parent;
	int status = 0;
	MPI_Init(&argc, &argv);
	MPI_Comm_get_parent(&parent);
	long items = argc == 3 ? strtol(argv[1], NULL, 10) : 0;
	if (parent != MPI_COMM_NULL)
		worker(parent);
	else if (items < 1 || items > ITEMS_MAX)
		status = (fprintf(stderr, "Usage: elastic ITEMS JOURNAL\n"), 1);
	else
		status = master(items, argv[2]);
	MPI_Finalize();
	return status;
}
