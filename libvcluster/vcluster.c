// SPDX-License-Identifier: GPL-2.0-or-later
// The reader of a mapped view: see vcluster.h for its contract and layout.h for why a read is whole and never blocks.
#include "libvcluster/vcluster.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "libvcluster/layout.h"

#define NS_PER_S 1000000000ull
#define WAIT_SLICE_NS NS_PER_S // a writer killed between its store and its wake-up delays a waiter by this at most

struct vcluster {
	const struct layout_head *head; // read-only mapping
	size_t file_size;
	uint32_t capacity;  // checked copies of the head's constants: the file is not trusted to keep them
	uint64_t offset[2];
	int notify_fd;	    // -1 until vcluster_fd()
	char *path;	    // absolute, for inotify
};

// --- open and close ----------------------------------------------------------------------------------------------

static bool head_is_sane(const struct layout_head *h, uint64_t file_size)
{
	uint64_t bytes = layout_buffer_bytes(h->capacity);
	if (h->head_size < sizeof(*h) || h->buffer_size != sizeof(struct layout_buffer) ||
	    h->record_size != sizeof(struct vcluster_member) || h->capacity < 1 || h->capacity > LAYOUT_CAPACITY_MAX ||
	    h->file_size != file_size)
		return false;
	for (int i = 0; i < 2; i++)
		if (h->buffer_offset[i] % 8 || h->buffer_offset[i] < h->head_size || h->buffer_offset[i] > file_size ||
		    bytes > file_size - h->buffer_offset[i])
			return false;
	return true;
}

static int map_view(struct vcluster *v, int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -1;
	errno = EPROTO;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < sizeof(struct layout_head))
		return -1;
	void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -1;
	v->head = map;
	v->file_size = (size_t)st.st_size;
	errno = EPROTO;
	if (v->head->magic != LAYOUT_MAGIC)
		return -1;
	errno = ENOTSUP;
	if (v->head->version > LAYOUT_VERSION)
		return -1;
	errno = EPROTO;
	if (!head_is_sane(v->head, v->file_size))
		return -1;
	v->capacity = v->head->capacity;
	v->offset[0] = v->head->buffer_offset[0];
	v->offset[1] = v->head->buffer_offset[1];
	return 0;
}

struct vcluster *vcluster_open(const char *path)
{
	if (!path)
		path = secure_getenv("VCLUSTER_VIEW");
	if (!path || !*path)
		path = VCLUSTER_VIEW_PATH;
	struct vcluster *v = calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	v->notify_fd = -1;
	v->path = realpath(path, NULL);
	int fd = -1;
	if (v->path)
		fd = open(v->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // O_NONBLOCK: a FIFO in its place must not hang us
	int rc = fd < 0 ? -1 : map_view(v, fd);
	int saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
	if (rc == 0) {
		errno = 0;
		return v;
	}
	vcluster_close(v);
	return NULL;
}

void vcluster_close(struct vcluster *v)
{
	int saved = errno;
	if (v && v->head)
		munmap((void *)v->head, v->file_size);
	if (v && v->notify_fd >= 0)
		close(v->notify_fd);
	if (v)
		free(v->path);
	free(v);
	errno = saved;
}

// --- one consistent read -----------------------------------------------------------------------------------------

// One attempt: the buffer it reads and the sequence number it saw at the start.
struct attempt {
	const struct layout_buffer *buffer;
	uint64_t seq;
};

static const struct vcluster_member *records(const struct attempt *a)
{
	return (const struct vcluster_member *)(a->buffer + 1);
}

static bool attempt_begin(const struct vcluster *v, struct attempt *a)
{
	uint32_t current = __atomic_load_n(&v->head->current, __ATOMIC_ACQUIRE) & 1;
	a->buffer = (const struct layout_buffer *)((const char *)v->head + v->offset[current]);
	a->seq = __atomic_load_n(&a->buffer->seq, __ATOMIC_ACQUIRE);
	return (a->seq & 1) == 0;
}

static bool attempt_end(const struct attempt *a)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return __atomic_load_n(&a->buffer->seq, __ATOMIC_RELAXED) == a->seq;
}

static void load_words(void *to, const void *from, size_t bytes)
{
	uint64_t *out = to;
	const uint64_t *in = from;
	for (size_t i = 0; i < bytes / sizeof(*out); i++)
		out[i] = __atomic_load_n(&in[i], __ATOMIC_RELAXED);
}

// A string, word by word up to the word that holds its end: most of a record is room for long names.
static void load_string(char *to, const char *from, size_t size)
{
	const uint64_t ones = 0x0101010101010101ull, tops = 0x8080808080808080ull;
	for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
		uint64_t word = __atomic_load_n((const uint64_t *)(const void *)(from + i), __ATOMIC_RELAXED);
		memcpy(to + i, &word, sizeof(word));
		if ((word - ones) & ~word & tops) // one of its bytes is zero
			return;
	}
	to[size - 1] = '\0';
}

#define STRING_OFFSET_OK(type, field) \
	_Static_assert(offsetof(type, field) % 8 == 0 && sizeof(((type *)0)->field) % 8 == 0, #field " is read by words")
STRING_OFFSET_OK(struct vcluster_info, cluster);
STRING_OFFSET_OK(struct vcluster_info, digest);
STRING_OFFSET_OK(struct vcluster_member, name);
STRING_OFFSET_OK(struct vcluster_member, addr);
STRING_OFFSET_OK(struct vcluster_member, site);
STRING_OFFSET_OK(struct vcluster_member, host);

static void load_info(const struct attempt *a, struct vcluster_info *ret)
{
	const struct vcluster_info *info = &a->buffer->info;
	load_words(ret, info, offsetof(struct vcluster_info, cluster));
	load_string(ret->cluster, info->cluster, sizeof(ret->cluster));
	load_string(ret->digest, info->digest, sizeof(ret->digest));
}

static void load_member(const struct attempt *a, uint32_t index, struct vcluster_member *ret)
{
	const struct vcluster_member *m = &records(a)[index];
	load_words(ret, m, offsetof(struct vcluster_member, name));
	load_string(ret->name, m->name, sizeof(ret->name));
	load_string(ret->addr, m->addr, sizeof(ret->addr));
	load_string(ret->site, m->site, sizeof(ret->site));
	load_string(ret->host, m->host, sizeof(ret->host));
}

// Entries of the view, never more than the mapping holds, whatever is read while overtaken.
static uint32_t load_count(const struct vcluster *v, const struct attempt *a)
{
	uint32_t n = __atomic_load_n(&a->buffer->info.members, __ATOMIC_RELAXED);
	return n < v->capacity ? n : v->capacity;
}

static uint64_t load_epoch(const struct attempt *a)
{
	return __atomic_load_n(&a->buffer->info.epoch, __ATOMIC_RELAXED);
}

// Runs the body until it has read one publication whole; falls out of the loop when the attempts are used up.
#define READ_WHOLE(v, a)                                                             \
	for (int attempts_ = LAYOUT_ATTEMPTS; attempts_ > 0; attempts_--)            \
		if (attempt_begin((v), (a)))

static int overtaken(void)
{
	errno = EAGAIN;
	return -1;
}

// --- reading -----------------------------------------------------------------------------------------------------

uint64_t vcluster_epoch(const struct vcluster *v)
{
	struct attempt a;
	READ_WHOLE (v, &a) {
		uint64_t epoch = load_epoch(&a);
		if (attempt_end(&a)) {
			if (epoch == 0)
				errno = 0;
			return epoch;
		}
	}
	overtaken();
	return 0;
}

int vcluster_info(const struct vcluster *v, struct vcluster_info *ret)
{
	return vcluster_copy_view(v, ret, NULL, 0) < 0 ? -1 : 0;
}

int vcluster_size(const struct vcluster *v)
{
	struct vcluster_info info;
	return vcluster_info(v, &info) < 0 ? -1 : (int)info.size;
}

uint32_t vcluster_capacity(const struct vcluster *v)
{
	return v->capacity;
}

static uint32_t load_rank(const struct attempt *a, uint32_t index)
{
	return __atomic_load_n(&records(a)[index].rank, __ATOMIC_RELAXED);
}

// The first of n entries whose rank is not below `rank`. As long as no entry was dropped, that is entry `rank` itself.
static uint32_t lower_bound(const struct attempt *a, uint32_t n, uint32_t rank)
{
	if (rank < n && load_rank(a, rank) == rank)
		return rank;
	uint32_t low = 0, high = n;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (load_rank(a, mid) < rank)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int vcluster_member_by_rank(const struct vcluster *v, uint32_t rank, struct vcluster_member *ret)
{
	struct attempt a;
	READ_WHOLE (v, &a) {
		uint32_t n = load_count(v, &a);
		uint32_t i = lower_bound(&a, n, rank);
		bool found = i < n && load_rank(&a, i) == rank;
		if (found)
			load_member(&a, i, ret);
		if (!attempt_end(&a))
			continue;
		if (found)
			return 0;
		errno = ENOENT;
		return -1;
	}
	return overtaken();
}

int vcluster_next(const struct vcluster *v, uint64_t epoch, uint32_t *cursor, struct vcluster_member *ret)
{
	struct attempt a;
	READ_WHOLE (v, &a) {
		uint64_t now = load_epoch(&a);
		bool more = *cursor < load_count(v, &a);
		if (more)
			load_member(&a, *cursor, ret);
		if (!attempt_end(&a))
			continue;
		if (now != epoch) {
			errno = ESTALE;
			return -1;
		}
		if (!more)
			return 0;
		++*cursor;
		return 1;
	}
	return overtaken();
}

int vcluster_copy_view(const struct vcluster *v, struct vcluster_info *ret_info, struct vcluster_member *members, size_t n)
{
	struct attempt a;
	READ_WHOLE (v, &a) {
		struct vcluster_info info;
		load_info(&a, &info);
		uint32_t count = load_count(v, &a);
		for (uint32_t i = 0; i < count && i < n; i++)
			load_member(&a, i, &members[i]);
		if (!attempt_end(&a))
			continue;
		info.members = count;
		if (ret_info)
			*ret_info = info;
		return (int)count;
	}
	return overtaken();
}

// --- waiting -----------------------------------------------------------------------------------------------------

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

// Sleeps until the wake word differs from `seen`, or `ns` have passed. Spurious returns are fine.
static int sleep_on(const struct vcluster *v, uint32_t seen, uint64_t ns)
{
	struct timespec limit = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
	if (syscall(SYS_futex, &v->head->wake, FUTEX_WAIT, seen, &limit, NULL, 0) == 0)
		return 0;
	return errno == EAGAIN || errno == ETIMEDOUT ? 0 : -1;
}

int vcluster_wait(const struct vcluster *v, uint64_t epoch, int timeout_ms)
{
	uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : now_ns(CLOCK_MONOTONIC) + (uint64_t)timeout_ms * 1000000;
	for (;;) {
		// The word before the epoch: a publication after this load changes the word, and then we do not sleep.
		uint32_t seen = __atomic_load_n(&v->head->wake, __ATOMIC_ACQUIRE);
		uint64_t now = vcluster_epoch(v);
		if (now > epoch)
			return 0;
		uint64_t t = now_ns(CLOCK_MONOTONIC);
		if (t >= deadline) {
			errno = ETIMEDOUT;
			return -1;
		}
		uint64_t left = deadline - t;
		if (sleep_on(v, seen, left < WAIT_SLICE_NS ? left : WAIT_SLICE_NS) < 0)
			return -1;
	}
}

int vcluster_fd(struct vcluster *v)
{
	int fd = __atomic_load_n(&v->notify_fd, __ATOMIC_ACQUIRE);
	if (fd >= 0)
		return fd;
	fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (fd < 0)
		return -1;
	// The file is never replaced, so that watching its inode is enough; the writer makes the event with pwrite().
	if (inotify_add_watch(fd, v->path, IN_MODIFY) < 0) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	int expected = -1;
	if (__atomic_compare_exchange_n(&v->notify_fd, &expected, fd, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return fd;
	close(fd); // another thread was first
	return expected;
}

int vcluster_fd_clear(struct vcluster *v)
{
	int fd = __atomic_load_n(&v->notify_fd, __ATOMIC_ACQUIRE);
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	if (fd < 0) {
		errno = EBADF;
		return -1;
	}
	for (;;) {
		ssize_t n = read(fd, events, sizeof(events));
		if (n > 0 || (n < 0 && errno == EINTR))
			continue;
		return n < 0 && errno == EAGAIN ? 0 : -1;
	}
}

int vcluster_stale(const struct vcluster *v)
{
	uint64_t until = __atomic_load_n(&v->head->valid_until, __ATOMIC_ACQUIRE);
	if (until == UINT64_MAX)
		return 0;
	return now_ns(CLOCK_BOOTTIME) >= until;
}

// --- asking for a resize -----------------------------------------------------------------------------------------------

#define ASK_S 10	   // the agent answers at once, on a loaded machine in seconds
#define ANSWER_MAX 4096 // bytes of its answer: {} or {code, message}
#define HOSTS_MAX 4096	   // as vcd

// The agent's socket stands beside the view.
static int connect_agent(const struct vcluster *v)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = ASK_S};
	const char *slash = strrchr(v->path, '/');
	int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%.*s/agent.sock", (int)(slash - v->path), v->path);
	errno = ENAMETOOLONG;
	if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return -1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0 &&
	    connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int read_all(int fd, void *buf, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = recv(fd, (char *)buf + got, len - got, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n == 0 ? EPROTO : errno == EAGAIN ? ETIMEDOUT : errno;
			return -1;
		}
		got += (size_t)n;
	}
	return 0;
}

static int read_answer(int fd)
{
	uint8_t head[4];
	char text[ANSWER_MAX + 1];
	if (read_all(fd, head, sizeof(head)) < 0)
		return -1;
	uint32_t len = (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
	errno = EPROTO;
	if (len > ANSWER_MAX || read_all(fd, text, len) < 0)
		return -1;
	text[len] = '\0';
	if (!strstr(text, "\"code\""))
		return 0;
	errno = strstr(text, "\"denied\"") ? EACCES : strstr(text, "\"busy\"") ? EBUSY : EPROTO;
	return -1;
}

int vcluster_resize(const struct vcluster *v, uint32_t hosts)
{
	char message[64];
	errno = EINVAL;
	if (hosts < 1 || hosts > HOSTS_MAX)
		return -1;
	int n = snprintf(message + 4, sizeof(message) - 4, "{\"v\":1,\"kind\":\"resize\",\"hosts\":%u}", (unsigned)hosts);
	message[0] = message[1] = message[2] = 0;
	message[3] = (char)n;
	int fd = connect_agent(v);
	if (fd < 0)
		return -1;
	int rc = send(fd, message, (size_t)n + 4, MSG_NOSIGNAL) == n + 4 ? read_answer(fd) : -1;
	int saved = errno;
	close(fd);
	errno = saved;
	return rc;
}
