// SPDX-License-Identifier: GPL-2.0-or-later
// A work queue whose workers follow the virtual cluster: counts the primes below ITEMS x 100000, one item per 100000.
//
// mpicc.openmpi elastic.c $(pkg-config --cflags --libs vcluster) -Wl,-rpath,'$ORIGIN' -o elastic
// ./elastic ITEMS JOURNAL     (in the batch script; contrib/examples/elastic.sh does that)
//
// The master is no MPI program. It reads the view (vcluster.h), and for each member that has joined it starts an MPI job of its own:
// mpirun of one leader, here, which spawns as many workers on that member as it has slots (MPI_Comm_spawn with Open MPI's info key
// add-host, which takes hosts that mpirun did not know). Items go to a leader by its standard input, results come by its output,
// and each goes to JOURNAL at once. One MPI job for all members would end with the first member that dies, and its daemon on a
// member that is let go would stay there until the end of all. So:
//   a member is leaving: it is given nothing more; when its items are done its MPI job ends, and with that the daemon on the member.
//   a member dies: its mpirun, which would wait for ever, is killed; what the member had is given to others.
//   the master dies (its member, the job): the next run does what the journal does not have.
// So no item is lost, and none is counted twice.
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vcluster.h>

#define ITEM_NUMBERS 100000L
#define ITEMS_MAX 1000000L
#define SLOTS_MAX 4096
#define IDLE_MS 20	    // between two looks for results; a change of the view ends it early
#define END_SECONDS 60      // an MPI job that was let go and has not ended by then is killed
#define ALONE_SECONDS 120   // without any member that works
#define STATUS_AGAIN 75     // EX_TEMPFAIL of sysexits.h
#define TAG_ITEM 1
#define TAG_RESULT 2
#define NO_ITEM (-1L)

extern char **environ;

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

// ---- lines between the master and a leader ----

struct lines {
	int fd;
	size_t n;
	char text[1024];
};

// What has come is added. 1: something did; 0: nothing for now; -1: the end.
static int fill(struct lines *l)
{
	ssize_t n = read(l->fd, l->text + l->n, sizeof(l->text) - 1 - l->n);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	l->n += (size_t)n;
	l->text[l->n] = 0;
	return n ? 1 : -1;
}

// Takes the first whole line out of what has come.
static int take_line(struct lines *l, char *ret, size_t size)
{
	char *end = memchr(l->text, '\n', l->n);
	if (!end)
		return 0;
	*end = 0;
	snprintf(ret, size, "%.*s", (int)size - 1, l->text);
	l->n -= (size_t)(end + 1 - l->text);
	memmove(l->text, end + 1, l->n + 1);
	return 1;
}

// ---- the leader: a member's workers ----

struct team {
	MPI_Comm workers;
	int size, busy; // busy: have an item
	char *idle;	// of each
};

static void spawn_workers(struct team *t, const char *name)
{
	MPI_Info info;
	MPI_Info_create(&info);
	MPI_Info_set(info, "add-host", name);
	MPI_Info_set(info, "host", name);
	MPI_Comm_spawn("./elastic", MPI_ARGV_NULL, t->size, info, 0, MPI_COMM_SELF, &t->workers, MPI_ERRCODES_IGNORE);
	MPI_Info_free(&info);
	memset(t->idle, 1, (size_t)t->size);
}

// The master gives no more items than there are workers.
static void give(struct team *t, long item)
{
	for (int i = 0; i < t->size; i++) {
		if (!t->idle[i])
			continue;
		MPI_Send(&item, 1, MPI_LONG, i, TAG_ITEM, t->workers);
		t->idle[i] = 0;
		t->busy++;
		return;
	}
	MPI_Abort(MPI_COMM_WORLD, 1);
}

static void collect(struct team *t)
{
	int there;
	long result[2];
	MPI_Status status;
	while (MPI_Iprobe(MPI_ANY_SOURCE, TAG_RESULT, t->workers, &there, &status) == MPI_SUCCESS && there) {
		MPI_Recv(result, 2, MPI_LONG, status.MPI_SOURCE, TAG_RESULT, t->workers, MPI_STATUS_IGNORE);
		printf("%ld %ld\n", result[0], result[1]);
		t->idle[status.MPI_SOURCE] = 1;
		t->busy--;
	}
	fflush(stdout);
}

// Returns whether the master has ended its list.
static int take_items(struct team *t, struct lines *in)
{
	char line[32];
	struct pollfd ready = {.fd = in->fd, .events = POLLIN};
	if (poll(&ready, 1, IDLE_MS) > 0 && fill(in) < 0)
		return 1;
	while (take_line(in, line, sizeof(line))) {
		long item = strtol(line, NULL, 10);
		if (item == NO_ITEM)
			return 1;
		give(t, item);
	}
	return 0;
}

static int leader(const char *name, long slots)
{
	struct team t = {.size = (int)slots, .idle = slots > 0 && slots <= SLOTS_MAX ? malloc((size_t)slots) : NULL};
	struct lines in = {.fd = STDIN_FILENO};
	long none = NO_ITEM;
	int end = 0;
	if (!t.idle || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		MPI_Abort(MPI_COMM_WORLD, 1);
	spawn_workers(&t, name);
	while (!end || t.busy) {
		if (!end)
			end = take_items(&t, &in);
		else
			(void)poll(NULL, 0, IDLE_MS);
		collect(&t);
	}
	for (int i = 0; i < t.size; i++)
		MPI_Send(&none, 1, MPI_LONG, i, TAG_ITEM, t.workers);
	MPI_Comm_disconnect(&t.workers);
	free(t.idle);
	return 0;
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

static int record(struct queue *q, long item, long primes)
{
	finish(q, item, primes);
	return fprintf(q->journal, "%ld %ld\n", item, primes) < 0 || fflush(q->journal) ? -1 : 0;
}

static void give_back(struct queue *q, long item)
{
	if (q->state[item] != GIVEN)
		return;
	q->state[item] = OPEN;
	if (item < q->next)
		q->next = item;
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

// ---- the master: an MPI job for each member ----

struct group {
	struct group *next;
	struct vcluster_member member;
	pid_t mpirun;
	int in;		  // items to the leader; -1: it was told that there are no more
	struct lines out; // results
	long *items;	  // of each worker, or NO_ITEM
	int busy, leaving, died;
	time_t end; // of the patience with one that was let go
};

// mpirun of one leader on this member, whose standard input and output are pipes
static int start_mpirun(struct group *g)
{
	char self[72] = "", slots[16];
	int in[2], out[2], status;
	posix_spawn_file_actions_t files;
	char *const argv[] = {"mpirun", "-n", "1", "--oversubscribe", "--host", self, "./elastic", "leader", g->member.name, slots, NULL};
	snprintf(slots, sizeof(slots), "%u", g->member.slots);
	// the leader uses next to no processor: its member's workers run beside it, also where that has one slot
	if (gethostname(self, sizeof(self) - 1) < 0 || pipe2(in, O_CLOEXEC) < 0)
		return -1;
	if (pipe2(out, O_CLOEXEC) < 0)
		return close(in[0]), close(in[1]), -1;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
	status = posix_spawnp(&g->mpirun, argv[0], &files, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	close(in[0]);
	close(out[1]);
	g->in = in[1];
	g->out.fd = out[0];
	errno = status;
	return status || fcntl(out[0], F_SETFL, O_NONBLOCK) < 0 ? -1 : 0;
}

static struct group *start_group(const struct vcluster_member *m)
{
	struct group *g = calloc(1, sizeof(*g));
	if (!g || m->slots > SLOTS_MAX || !(g->items = calloc(m->slots, sizeof(*g->items))))
		return free(g), NULL;
	g->member = *m;
	for (uint32_t i = 0; i < m->slots; i++)
		g->items[i] = NO_ITEM;
	if (start_mpirun(g) < 0) {
		fprintf(stderr, "elastic: mpirun: %s\n", strerror(errno));
		exit(1);
	}
	printf("member %s: %u workers\n", m->name, m->slots);
	return g;
}

static void let_go(struct group *g)
{
	(void)dprintf(g->in, "%ld\n", NO_ITEM);
	close(g->in);
	g->in = -1;
	g->end = time(NULL) + END_SECONDS;
}

// Its MPI job has ended: what it still had is open again.
static void free_group(struct group *g, struct queue *q, int status)
{
	if (g->in < 0 && !g->busy && !g->died)
		printf("member %s: let go\n", g->member.name);
	else
		printf("member %s: %s (%d), %d items are open again\n", g->member.name, g->died ? "died" : "mpirun ended", status, g->busy);
	fflush(stdout);
	for (uint32_t i = 0; i < g->member.slots; i++) {
		if (g->items[i] != NO_ITEM)
			give_back(q, g->items[i]);
	}
	if (g->in >= 0)
		close(g->in);
	close(g->out.fd);
	free(g->items);
	free(g);
}

static void see_result(struct group *g, struct queue *q, const char *line)
{
	long item, primes;
	if (sscanf(line, "%ld %ld", &item, &primes) != 2)
		return;
	for (uint32_t i = 0; i < g->member.slots; i++) {
		if (g->items[i] != item || item == NO_ITEM)
			continue;
		g->items[i] = NO_ITEM;
		g->busy--;
		if (record(q, item, primes) < 0)
			exit(1);
		return;
	}
}

// Results that have come, and items for workers that wait. Returns the number of results.
static int serve_group(struct group *g, struct queue *q)
{
	int count = 0;
	char line[64];
	while (fill(&g->out) > 0) {
		for (; take_line(&g->out, line, sizeof(line)); count++)
			see_result(g, q, line);
	}
	for (uint32_t i = 0; i < g->member.slots && !g->leaving && g->in >= 0; i++) {
		if (g->items[i] != NO_ITEM || (g->items[i] = take(q)) == NO_ITEM)
			continue;
		g->busy++;
		(void)dprintf(g->in, "%ld\n", g->items[i]); // when it has ended, that is seen below
	}
	return count;
}

static void see_member(struct group **groups, const struct vcluster_member *m)
{
	struct group *g = *groups;
	while (g && g->member.rank != m->rank)
		g = g->next;
	if (g && m->state == VCLUSTER_GONE) {
		g->died = g->in >= 0 || g->busy;
		kill(g->mpirun, SIGKILL);
	} else if (g) {
		g->leaving = m->state == VCLUSTER_LEAVING;
	} else if (m->state == VCLUSTER_ACTIVE && m->slots && (g = start_group(m))) {
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
	int count = 0, status;
	for (struct group **at = groups, *g; (g = *at);) {
		int ended = waitpid(g->mpirun, &status, WNOHANG) == g->mpirun;
		count += serve_group(g, q); // also what it said last
		if (ended) {
			*at = g->next;
			free_group(g, q, status);
			continue;
		}
		if ((g->leaving || end) && g->busy == 0 && g->in >= 0)
			let_go(g);
		if (g->in < 0 && time(NULL) > g->end)
			kill(g->mpirun, SIGKILL);
		at = &g->next;
	}
	return count;
}

static int follow(struct queue *q, const struct vcluster *view)
{
	struct group *groups = NULL;
	uint64_t epoch = 0;
	time_t worked = time(NULL);
	while (q->done < q->items || groups) {
		if (q->done < q->items && vcluster_epoch(view) != epoch)
			epoch = see_view(view, &groups);
		if (serve(&groups, q, q->done == q->items) == 0)
			(void)vcluster_wait(view, epoch, IDLE_MS);
		if (groups)
			worked = time(NULL);
		else if (q->done < q->items && time(NULL) > worked + ALONE_SECONDS)
			return STATUS_AGAIN;
	}
	printf("%ld primes below %ld\n", q->sum, q->items * ITEM_NUMBERS);
	return 0;
}

static int master(long items, const char *path)
{
	struct queue q = {.items = items};
	struct vcluster *view = vcluster_open(NULL);
	if (!view || open_queue(&q, path) < 0) {
		fprintf(stderr, "elastic: %s: %s\n", view ? path : "no view", strerror(errno));
		return 1;
	}
	signal(SIGPIPE, SIG_IGN); // of a leader that has ended
	int status = follow(&q, view);
	vcluster_close(view);
	free(q.state);
	return fclose(q.journal) ? 1 : status;
}

static int mpi_program(int argc, char **argv)
{
	MPI_Comm parent;
	int status = 0;
	MPI_Init(&argc, &argv);
	MPI_Comm_get_parent(&parent);
	if (parent != MPI_COMM_NULL)
		worker(parent);
	else if (argc == 4)
		status = leader(argv[2], strtol(argv[3], NULL, 10));
	MPI_Finalize();
	return status;
}

int main(int argc, char **argv)
{
	long items = argc == 3 ? strtol(argv[1], NULL, 10) : 0;
	if (argc == 1 || (argc == 4 && strcmp(argv[1], "leader") == 0))
		return mpi_program(argc, argv);
	if (items < 1 || items > ITEMS_MAX) {
		fprintf(stderr, "Usage: elastic ITEMS JOURNAL\n");
		return 1;
	}
	return master(items, argv[2]);
}
