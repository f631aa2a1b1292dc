// SPDX-License-Identifier: GPL-2.0-or-later
// The mapped view: reading, refusing, waiting, and above all readers beside a writer that is killed at any point.
#include "tests/unit/viewmaker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvcluster/layout.h"
#include "libvcluster/vcluster.h"
#include "libvcluster/writer.h"

#define CAPACITY 16
#define KILLS 40	   // rounds of a writer's life and death
#define PATIENCE_MS 20000 // limit of every wait here; reaching it is a failure

static char dir[] = "/tmp/test_vcluster.XXXXXX";
static char path[64];

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/view", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path) == 0 || errno == ENOENT ? 0 : -1;
}

static struct vcluster_writer *make_writer(void)
{
	struct vc_error err = VC_ERROR_INIT;
	struct vcluster_writer *w = vcluster_writer_create(path, CAPACITY, &err);
	assert_string_equal(err.text, "");
	assert_non_null(w);
	return w;
}

// A view that shows by itself whether it is whole: size and every incarnation follow from the epoch.
static uint32_t size_of_epoch(uint64_t epoch)
{
	return 1 + (uint32_t)(epoch % CAPACITY);
}

static int publish(struct vcluster_writer *w, uint64_t epoch)
{
	view_auto struct view *view = make_view(size_of_epoch(epoch), 0);
	for (size_t i = 0; i < view->n_members; i++)
		view->members[i].incarnation = epoch;
	assert_int_equal(view_seal(view, epoch, NULL), 0);
	return vcluster_writer_publish(w, view, VCLUSTER_VALID_ALWAYS, NULL);
}

static bool is_whole(const struct vcluster_info *info, const struct vcluster_member *members, int n)
{
	if (n != (int)info->members || info->members != size_of_epoch(info->epoch) || info->size != info->members)
		return false;
	for (int i = 0; i < n; i++)
		if (members[i].incarnation != info->epoch || members[i].rank != (uint32_t)i)
			return false;
	return true;
}

static void test_read(void **state)
{
	(void)state;
	struct vcluster_writer *w = make_writer();
	struct vcluster *v = vcluster_open(path);
	assert_non_null(v);
	struct vcluster_member m, all[CAPACITY];
	struct vcluster_info info;

	errno = EIO;
	assert_int_equal(vcluster_epoch(v), 0); // nothing published yet
	assert_int_equal(errno, 0);
	assert_int_equal(vcluster_size(v), 0);
	assert_int_equal(vcluster_member_by_rank(v, 0, &m), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(vcluster_capacity(v), CAPACITY);

	view_auto struct view *view = make_view(3, 0);
	view->members[1].state = VIEW_GONE;
	view->members[2].rank = 7; // ranks with a hole: not found at their own index
	assert_int_equal(view_seal(view, 1, NULL), 0);
	assert_int_equal(vcluster_writer_publish(w, view, VCLUSTER_VALID_ALWAYS, NULL), 0);
	assert_int_equal(vcluster_epoch(v), 1);
	assert_int_equal(vcluster_size(v), 2);
	assert_int_equal(vcluster_info(v, &info), 0);
	assert_string_equal(info.cluster, TEST_CLUSTER);
	assert_string_equal(info.digest, view->digest);
	assert_int_equal(info.job, 123);
	assert_int_equal(info.members, 3);
	assert_int_equal(vcluster_member_by_rank(v, 7, &m), 0);
	assert_string_equal(m.name, "vc123-2");
	assert_string_equal(m.addr, "10.42.0.3");
	assert_string_equal(m.host, "n1");
	assert_string_equal(m.site, "default");
	assert_int_equal(m.slots, 2);
	assert_int_equal(vcluster_member_by_rank(v, 1, &m), 0);
	assert_int_equal(m.state, VCLUSTER_GONE);
	assert_int_equal(vcluster_member_by_rank(v, 2, &m), -1);
	assert_int_equal(vcluster_member_by_rank(v, UINT32_MAX, &m), -1);
	assert_int_equal(vcluster_copy_view(v, NULL, all, 2), 3); // more than fits: the first two
	assert_int_equal(all[1].rank, 1);

	uint32_t cursor = 0, seen = 0;
	while (vcluster_next(v, 1, &cursor, &m) == 1)
		seen++;
	assert_int_equal(seen, 3);
	cursor = 1;
	assert_int_equal(publish(w, 2), 0);
	assert_int_equal(vcluster_next(v, 1, &cursor, &m), -1);
	assert_int_equal(errno, ESTALE);
	vcluster_close(v);
	vcluster_writer_destroy(w);
}

static void test_writer_refuses(void **state)
{
	(void)state;
	struct vcluster_writer *w = make_writer();
	assert_int_equal(publish(w, 5), 0);
	assert_int_equal(publish(w, 5), 0); // once more only renews
	assert_int_equal(publish(w, 4), -1);
	view_auto struct view *other = make_view(1, 5), *big = make_view(CAPACITY + 1, 6), *raw = make_view(1, 0);
	view_auto struct view *alien = view_create("ffffffffffffffffffffffffffffffff", 9, NULL);
	assert_int_equal(view_seal(alien, 6, NULL), 0);
	const struct {
		struct view *view;
		const char *message;
	} rows[] = {{other, "another view 5"}, {big, "17 members"}, {raw, "sealed"}, {alien, "of cluster ffff"}};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct vc_error err = VC_ERROR_INIT;
		assert_int_equal(vcluster_writer_publish(w, rows[i].view, 0, &err), -1);
		assert_contains(err.text, rows[i].message);
	}
	assert_int_equal(vcluster_writer_epoch(w), 5);
	vcluster_writer_destroy(w);
	assert_null(vcluster_writer_create(path, CAPACITY + 1, NULL)); // readers may have the old one mapped
	w = make_writer();
	assert_int_equal(vcluster_writer_epoch(w), 5); // adopted
	vcluster_writer_destroy(w);
}

static void write_at(off_t offset, const void *data, size_t len)
{
	vc_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, offset), (ssize_t)len);
}

static void assert_open_fails(int want)
{
	errno = 0;
	assert_null(vcluster_open(path));
	assert_int_equal(errno, want);
}

static void test_open_refuses(void **state)
{
	(void)state;
	assert_open_fails(ENOENT);
	write_at(0, "hello", 5);
	assert_open_fails(EPROTO);
	char junk[4096];
	memset(junk, 0x5a, sizeof(junk));
	write_at(0, junk, sizeof(junk));
	assert_open_fails(EPROTO);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_open_fails(EPROTO);
	unlink(path);

	vcluster_writer_destroy(make_writer());
	uint32_t u32 = LAYOUT_VERSION + 1;
	write_at(offsetof(struct layout_head, version), &u32, sizeof(u32));
	assert_open_fails(ENOTSUP);
	u32 = LAYOUT_VERSION;
	write_at(offsetof(struct layout_head, version), &u32, sizeof(u32));
	u32 = CAPACITY * 2;
	write_at(offsetof(struct layout_head, capacity), &u32, sizeof(u32));
	assert_open_fails(EPROTO);
	u32 = CAPACITY;
	write_at(offsetof(struct layout_head, capacity), &u32, sizeof(u32));
	uint64_t far = UINT64_MAX - 7;
	write_at(offsetof(struct layout_head, buffer_offset), &far, sizeof(far));
	assert_open_fails(EPROTO);
}

// Impossible content of a right file: bounded answers, no read outside the mapping.
static void test_bad_content(void **state)
{
	(void)state;
	struct vcluster_writer *w = make_writer();
	assert_int_equal(publish(w, 1), 0); // into buffer 1
	off_t buffer = (off_t)((sizeof(struct layout_head) + layout_buffer_bytes(CAPACITY) + 63) & ~63ull);
	struct vcluster *v = vcluster_open(path);
	struct vcluster_member m;
	assert_int_equal(vcluster_member_by_rank(v, 1, &m), 0);
	uint32_t count = UINT32_MAX, index = 0xffffff01;
	write_at(buffer + (off_t)offsetof(struct layout_buffer, info.members), &count, sizeof(count));
	write_at(offsetof(struct layout_head, current), &index, sizeof(index));
	assert_int_equal(vcluster_copy_view(v, NULL, NULL, 0), CAPACITY);
	assert_int_equal(vcluster_member_by_rank(v, 77, &m), -1);
	uint64_t odd = 3; // a current buffer that is odd for ever: the reader gives up, it does not hang
	write_at(buffer + (off_t)offsetof(struct layout_buffer, seq), &odd, sizeof(odd));
	assert_int_equal(vcluster_epoch(v), 0);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(vcluster_size(v), -1);
	assert_int_equal(errno, EAGAIN);
	vcluster_close(v);
	vcluster_writer_destroy(w);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void test_stale(void **state)
{
	(void)state;
	struct vcluster_writer *w = make_writer();
	struct vcluster *v = vcluster_open(path);
	assert_int_equal(vcluster_stale(v), 1); // nothing confirmed yet
	view_auto struct view *view = make_view(1, 1);
	assert_int_equal(vcluster_writer_publish(w, view, now_ns(CLOCK_BOOTTIME) + 3600000000000u, NULL), 0);
	assert_int_equal(vcluster_stale(v), 0);
	vcluster_writer_renew(w, now_ns(CLOCK_BOOTTIME) - 1);
	assert_int_equal(vcluster_stale(v), 1);
	assert_int_equal(vcluster_writer_publish(w, view, VCLUSTER_VALID_ALWAYS, NULL), 0);
	assert_int_equal(vcluster_stale(v), 0);
	vcluster_close(v);
	vcluster_writer_destroy(w);
}

struct waiter {
	struct vcluster *v;
	int rc, error;
};

static void *wait_for_two(void *arg)
{
	struct waiter *waiter = arg;
	waiter->rc = vcluster_wait(waiter->v, 1, PATIENCE_MS);
	waiter->error = errno;
	return NULL;
}

static void test_wait(void **state)
{
	(void)state;
	struct vcluster_writer *w = make_writer();
	struct vcluster *v = vcluster_open(path);
	assert_int_equal(publish(w, 1), 0);
	assert_int_equal(vcluster_wait(v, 0, 0), 0);
	assert_int_equal(vcluster_wait(v, 1, 0), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(vcluster_wait(v, 1, 20), -1);
	assert_int_equal(errno, ETIMEDOUT);

	struct waiter waiters[4];
	pthread_t threads[4];
	for (size_t i = 0; i < 4; i++) {
		waiters[i] = (struct waiter){.v = v};
		assert_int_equal(pthread_create(&threads[i], NULL, wait_for_two, &waiters[i]), 0);
	}
	uint64_t start = now_ns(CLOCK_MONOTONIC);
	assert_int_equal(publish(w, 2), 0);
	for (size_t i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(waiters[i].rc, 0);
	}
	assert_true(now_ns(CLOCK_MONOTONIC) - start < (uint64_t)PATIENCE_MS * 1000000u);
	vcluster_close(v);
	vcluster_writer_destroy(w);
}

static int readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return poll(&p, 1, timeout_ms);
}

static void test_descriptor(void **state)
{
	(void)state;
	struct vcluster_writer *w = make_writer();
	struct vcluster *v = vcluster_open(path);
	assert_int_equal(vcluster_fd_clear(v), -1);
	int fd = vcluster_fd(v);
	assert_true(fd >= 0);
	assert_int_equal(vcluster_fd(v), fd);
	assert_int_equal(readable(fd, 0), 0);
	assert_int_equal(publish(w, 1), 0);
	assert_int_equal(readable(fd, PATIENCE_MS), 1);
	assert_int_equal(vcluster_epoch(v), 1);
	assert_int_equal(vcluster_fd_clear(v), 0);
	assert_int_equal(readable(fd, 0), 0);
	assert_int_equal(publish(w, 1), 0); // a renewal is no news
	assert_int_equal(readable(fd, 0), 0);
	vcluster_close(v);
	vcluster_writer_destroy(w);
}

// In strict seccomp mode any system call but read, write and exit kills.
static void test_reading_makes_no_system_call(void **state)
{
	(void)state;
	skip_under_valgrind(); // it makes system calls of its own
	struct vcluster_writer *w = make_writer();
	assert_int_equal(publish(w, 3), 0);
	struct vcluster *v = vcluster_open(path);
	pid_t pid = fork();
	if (pid == 0) {
		struct vcluster_member m, all[CAPACITY];
		struct vcluster_info info;
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
		bool good = vcluster_epoch(v) == 3 && vcluster_member_by_rank(v, 1, &m) == 0 && vcluster_size(v) == 4 &&
			    vcluster_copy_view(v, &info, all, CAPACITY) == 4;
		syscall(SYS_exit, good ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	vcluster_close(v);
	vcluster_writer_destroy(w);
}

// --- readers beside a writer that dies -----------------------------------------------------------------------------

struct reader {
	struct vcluster *v;
	const bool *stop;
	uint64_t reads, torn, backwards, overtaken;
};

static void *read_on(void *arg)
{
	struct reader *r = arg;
	uint64_t last = 0;
	while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
		struct vcluster_info info;
		struct vcluster_member all[CAPACITY], m;
		int n = vcluster_copy_view(r->v, &info, all, CAPACITY);
		__atomic_fetch_add(&r->reads, 1, __ATOMIC_RELAXED);
		if (n < 0) {
			r->overtaken++;
			continue;
		}
		r->torn += !is_whole(&info, all, n);
		r->backwards += info.epoch < last;
		last = info.epoch;
		if (vcluster_member_by_rank(r->v, 0, &m) == 0)
			r->backwards += m.incarnation < last;
	}
	return NULL;
}

static void start_readers(struct reader *readers, pthread_t *threads, size_t n, struct vcluster *v, const bool *stop)
{
	for (size_t i = 0; i < n; i++) {
		readers[i] = (struct reader){.v = v, .stop = stop}; // one object, many threads
		assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
	}
	uint64_t limit = now_ns(CLOCK_MONOTONIC) + 60ull * 1000000000; // on a busy machine a thread may start late
	for (size_t i = 0; i < n; i++) {
		while (__atomic_load_n(&readers[i].reads, __ATOMIC_RELAXED) == 0 && now_ns(CLOCK_MONOTONIC) < limit)
			sched_yield();
	}
}

static void check_readers(struct reader *readers, pthread_t *threads, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		pthread_join(threads[i], NULL);
		assert_true(readers[i].reads > 0);
		assert_int_equal(readers[i].torn, 0);
		assert_int_equal(readers[i].backwards, 0);
	}
}

// One writer and its readers in one process: what the thread sanitizer can look at.
static void test_live_writer(void **state)
{
	(void)state;
	struct vcluster_writer *w = make_writer();
	assert_int_equal(publish(w, 1), 0);
	struct vcluster *v = vcluster_open(path);
	bool stop = false;
	struct reader readers[3];
	pthread_t threads[3];
	start_readers(readers, threads, 3, v, &stop);
	uint64_t end = now_ns(CLOCK_MONOTONIC) + 300000000u;
	uint64_t epoch = 2;
	for (; now_ns(CLOCK_MONOTONIC) < end || epoch < 100; epoch++)
		assert_int_equal(publish(w, epoch), 0);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	check_readers(readers, threads, 3);
	assert_int_equal(vcluster_epoch(v), epoch - 1);
	vcluster_close(v);
	vcluster_writer_destroy(w);
}

// Publishes as fast as it can, until it is killed.
static void __attribute__((noreturn)) write_on(void)
{
	struct vcluster_writer *w = vcluster_writer_create(path, CAPACITY, NULL);
	alarm(PATIENCE_MS / 1000); // should the parent die first
	for (uint64_t epoch = w ? vcluster_writer_epoch(w) + 1 : 0; w; epoch++)
		if (publish(w, epoch) < 0)
			break;
	_exit(1);
}

static void one_life(struct vcluster *v, unsigned *seed)
{
	uint64_t before = vcluster_epoch(v);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		write_on();
	assert_int_equal(vcluster_wait(v, before, PATIENCE_MS), 0); // it works
	struct timespec some = {.tv_nsec = rand_r(seed) % 3000000};
	nanosleep(&some, NULL);
	kill(pid, SIGKILL);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));

	// The writer is dead: every read succeeds, at once, and is whole.
	struct vcluster_info info;
	struct vcluster_member all[CAPACITY];
	int n = vcluster_copy_view(v, &info, all, CAPACITY);
	assert_true(n > 0);
	assert_true(is_whole(&info, all, n));
	assert_true(info.epoch > before);
}

static void test_killed_writer(void **state)
{
	(void)state;
	struct vcluster_writer *w = make_writer();
	assert_int_equal(publish(w, 1), 0);
	vcluster_writer_destroy(w);
	struct vcluster *v = vcluster_open(path);
	bool stop = false;
	struct reader readers[3];
	pthread_t threads[3];
	start_readers(readers, threads, 3, v, &stop);
	unsigned seed = (unsigned)now_ns(CLOCK_MONOTONIC);
	print_message("# seed %u\n", seed);
	for (int i = 0; i < KILLS; i++)
		one_life(v, &seed);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	check_readers(readers, threads, 3);
	print_message("# %llu epochs\n", (unsigned long long)vcluster_epoch(v));
	vcluster_close(v);
}

// The exact state that a writer killed in the middle leaves: the other buffer odd and half written.
static void test_half_written(void **state)
{
	(void)state;
	struct vcluster_writer *w = make_writer();
	assert_int_equal(publish(w, 1), 0); // buffer 1 is current
	vcluster_writer_destroy(w);
	uint64_t seq = 1;
	char junk[1024];
	memset(junk, 0x5a, sizeof(junk));
	write_at(sizeof(struct layout_head) + sizeof(seq), junk, sizeof(junk));
	write_at(sizeof(struct layout_head), &seq, sizeof(seq));
	struct vcluster *v = vcluster_open(path);
	assert_int_equal(vcluster_epoch(v), 1);
	w = make_writer();
	assert_int_equal(publish(w, 2), 0); // over the half written buffer
	struct vcluster_info info;
	struct vcluster_member all[CAPACITY];
	int n = vcluster_copy_view(v, &info, all, CAPACITY);
	assert_int_equal(info.epoch, 2);
	assert_true(is_whole(&info, all, n));
	vcluster_close(v);
	vcluster_writer_destroy(w);
}

// --- asking for a resize ---------------------------------------------------------------------------------------------

struct fake_agent { // stands for vcguestd's agent.sock: one request, one answer
	int fd;
	const char *answer;
	char request[128];
};

static void *answer_one(void *ctx)
{
	struct fake_agent *a = ctx;
	int fd = accept(a->fd, NULL, NULL);
	uint8_t head[4] = {0};
	assert_int_equal(recv(fd, head, 4, MSG_WAITALL), 4);
	assert_int_equal(recv(fd, a->request, head[3], MSG_WAITALL), head[3]);
	head[3] = (uint8_t)strlen(a->answer);
	assert_int_equal(send(fd, head, 4, 0), 4);
	assert_int_equal(send(fd, a->answer, head[3], 0), head[3]);
	close(fd);
	return NULL;
}

static int ask(const struct vcluster *v, const char *answer, char request[128])
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct fake_agent a = {.fd = socket(AF_UNIX, SOCK_STREAM, 0), .answer = answer};
	pthread_t thread;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/agent.sock", dir);
	unlink(addr.sun_path);
	assert_int_equal(bind(a.fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(a.fd, 1), 0);
	assert_int_equal(pthread_create(&thread, NULL, answer_one, &a), 0);
	int rc = vcluster_resize(v, 3), saved = errno;
	pthread_join(thread, NULL);
	close(a.fd);
	unlink(addr.sun_path);
	snprintf(request, 128, "%s", a.request);
	errno = saved;
	return rc;
}

static void test_resize(void **state)
{
	(void)state;
	char request[128];
	struct vcluster_writer *w = make_writer();
	struct vcluster *v = vcluster_open(path);
	assert_non_null(v);
	assert_int_equal(ask(v, "{ }", request), 0);
	assert_string_equal(request, "{\"v\":1,\"kind\":\"resize\",\"hosts\":3}");
	assert_int_equal(ask(v, "{\"code\":\"denied\",\"message\":\"no\"}", request), -1);
	assert_int_equal(errno, EACCES);
	assert_int_equal(vcluster_resize(v, 3), -1); // nobody listens
	assert_int_equal(errno, ENOENT);
	assert_int_equal(vcluster_resize(v, 0), -1);
	assert_int_equal(errno, EINVAL);
	vcluster_close(v);
	vcluster_writer_destroy(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_read, remove_file),
		cmocka_unit_test_teardown(test_writer_refuses, remove_file),
		cmocka_unit_test_teardown(test_open_refuses, remove_file),
		cmocka_unit_test_teardown(test_bad_content, remove_file),
		cmocka_unit_test_teardown(test_stale, remove_file),
		cmocka_unit_test_teardown(test_wait, remove_file),
		cmocka_unit_test_teardown(test_resize, remove_file),
		cmocka_unit_test_teardown(test_descriptor, remove_file),
		cmocka_unit_test_teardown(test_live_writer, remove_file),
#ifndef __SANITIZE_THREAD__ // it makes system calls of its own, and does not support fork() beside threads
		cmocka_unit_test_teardown(test_reading_makes_no_system_call, remove_file),
		cmocka_unit_test_teardown(test_killed_writer, remove_file),
#endif
		cmocka_unit_test_teardown(test_half_written, remove_file),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
