// SPDX-License-Identifier: GPL-2.0-or-later
// A client, a relay and the server of exec sessions as real processes on this machine, without a virtual machine.
//
// The server has one end of a socket pair as its port, as vcguestd has its virtio-serial device; whichever relay lives has
// the other, and accepts clients on a unix socket, as vcd does. The relay is killed with SIGKILL and replaced at will.
#include "tests/unit/test.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest/taskrun.h"
#include "libvc/cleanup.h"
#include "libvc/execclient.h"
#include "libvc/linkio.h"

#define BOOT_GUEST "0123456789abcdef0123456789abcdef"
#define BOOT_HOST "fedcba9876543210fedcba9876543210"
#define LIMIT_MS 60000 // of one task, sanitizers and a loaded machine included
#define CLIENTS 64
#define BIG (24u << 20)

static char dir[] = "/tmp/test_taskrun.XXXXXX";
static char sock_path[64], script_dir[64];
static int port[2] = {-1, -1};
static pid_t server_pid, relay_pid;

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static uint8_t pattern(uint64_t pos)
{
	return (uint8_t)((pos * 2654435761u) >> 11 ^ pos);
}

// ---- the server: what vcguestd does with a port ----

struct server {
	uv_loop_t loop;
	uv_poll_t poll;
	uv_timer_t tick;
	struct vc_linkio *io;
	struct taskrun *tr;
};

static void server_poll(struct server *s);

static int server_send(void *ctx, void *route, struct vc_link_frame *f)
{
	struct server *s = ctx;
	(void)route;
	int rc = vc_linkio_send(s->io, f);
	server_poll(s);
	return rc;
}

static int server_authorize(void *ctx, void *route, uint64_t session, const char *body, size_t len, struct taskrun_identity *ret,
			    struct vc_error *err)
{
	(void)ctx;
	(void)route;
	(void)session;
	if (len != 2 || memcmp(body, "{}", 2) != 0)
		return vc_error_set(err, VC_EDENIED, "not you");
	ret->uid = getuid();
	ret->gid = getgid();
	snprintf(ret->home, sizeof(ret->home), "/tmp");
	return 0;
}

static void server_files(struct vc_exec_start *start)
{
	static const struct {
		const char *name;
		int flags;
	} files[3] = {{"TEST_IN", O_RDONLY}, {"TEST_OUT", O_WRONLY | O_CREAT | O_APPEND | O_TRUNC}, {"TEST_ERR", O_WRONLY | O_CREAT | O_APPEND}};
	for (size_t i = 0; i < 3; i++) {
		const char *path = vc_exec_getenv(start, files[i].name);
		start->files[i] = (struct vc_exec_file){path ? strdup(path) : NULL, files[i].flags};
	}
}

static int server_prepare(void *ctx, uint64_t session, const struct taskrun_identity *id, struct vc_exec_start *start,
			  struct vc_error *err)
{
	(void)ctx;
	(void)session;
	(void)id;
	server_files(start);
	return vc_exec_setenv(start, "ADDED", "by prepare", err);
}

static void server_failed(void *ctx, uint64_t session, const struct taskrun_identity *id, int wstatus, char *ret_text, size_t size)
{
	(void)ctx;
	(void)session;
	(void)id;
	if ((WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 43) || (WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL))
		snprintf(ret_text, size, "it was the weather");
}

static const struct taskrun_ops server_ops = {
	.send_frame = server_send, .authorize = server_authorize, .prepare = server_prepare, .failed = server_failed};

static void server_frame(void *ctx, struct vc_link_frame *f)
{
	struct server *s = ctx;
	taskrun_input(s->tr, s, f);
}

static void server_up(void *ctx)
{
	(void)ctx;
}

static void server_down(void *ctx)
{
	struct server *s = ctx;
	taskrun_route_down(s->tr, s);
}

static void server_writable(void *ctx)
{
	struct server *s = ctx;
	taskrun_route_writable(s->tr, s);
}

static const struct vc_linkio_ops server_link = {server_frame, server_up, server_down, server_writable};

static void server_ready(uv_poll_t *poll, int status, int events)
{
	struct server *s = poll->data;
	short revents = (short)((events & UV_READABLE ? POLLIN : 0) | (events & UV_WRITABLE ? POLLOUT : 0));
	(void)status;
	if (vc_linkio_ready(s->io, revents, now_ms(), NULL) < 0)
		_exit(3);
	server_poll(s);
}

static void server_poll(struct server *s)
{
	short want = vc_linkio_events(s->io);
	uv_poll_start(&s->poll, UV_READABLE | (want & POLLOUT ? UV_WRITABLE : 0), server_ready);
}

static void server_tick(uv_timer_t *t)
{
	struct server *s = t->data;
	vc_linkio_tick(s->io, now_ms());
	server_poll(s);
}

static void server_main(int fd)
{
	struct server s = {0};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&s.loop);
	struct taskrun_config conf = {.loop = &s.loop, .script_dir = script_dir, .make_cwd = true, .orphan_ms = 2000};
	s.tr = taskrun_create(&conf, &server_ops, &s, NULL);
	uv_poll_init(&s.loop, &s.poll, fd);
	s.poll.data = s.tick.data = &s;
	s.io = vc_linkio_create(fd, BOOT_GUEST, &server_link, &s, now_ms(), NULL);
	uv_timer_init(&s.loop, &s.tick);
	uv_timer_start(&s.tick, server_tick, 100, 100);
	server_poll(&s);
	uv_run(&s.loop, UV_RUN_DEFAULT);
	_exit(4);
}

// ---- the relay: what vcd does between a vcexec and a port ----

struct relay_client {
	struct vc_linkio *io;
	uint64_t session;
};

struct relay {
	struct vc_linkio *port;
	struct relay_client client[CLIENTS];
	struct relay_client *current; // whose frames are being read
};

static void relay_open(struct relay *r, uint64_t session)
{
	vc_linkio_forward(r->port, &(struct vc_link_frame){.type = VC_LINK_OPEN, .session = session, .len = 2, .body = (uint8_t *)"{}"});
}

static void relay_port_frame(void *ctx, struct vc_link_frame *f)
{
	struct relay *r = ctx;
	for (int i = 0; i < CLIENTS; i++) {
		if (r->client[i].io && r->client[i].session == f->session)
			vc_linkio_forward(r->client[i].io, f);
	}
}

static void relay_port_up(void *ctx)
{
	struct relay *r = ctx;
	for (int i = 0; i < CLIENTS; i++) {
		if (!r->client[i].io)
			continue;
		relay_open(r, r->client[i].session);
		vc_link_hello(vc_linkio_link(r->client[i].io), now_ms());
	}
}

static void relay_client_frame(void *ctx, struct vc_link_frame *f)
{
	struct relay *r = ctx;
	vc_linkio_forward(r->port, f);
}

static void relay_nothing(void *ctx)
{
	(void)ctx;
}

static const struct vc_linkio_ops relay_port_ops = {relay_port_frame, relay_port_up, relay_nothing, relay_nothing};
static const struct vc_linkio_ops relay_client_ops = {relay_client_frame, relay_nothing, relay_nothing, relay_nothing};

static void relay_accept(struct relay *r, int listener)
{
	uint64_t session;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || read(fd, &session, sizeof(session)) != (ssize_t)sizeof(session)) {
		close(fd);
		return;
	}
	for (int i = 0; i < CLIENTS; i++) {
		if (r->client[i].io)
			continue;
		r->client[i].session = session;
		r->client[i].io = vc_linkio_create(fd, NULL, &relay_client_ops, r, now_ms(), NULL);
		relay_open(r, session);
		return;
	}
	close(fd);
}

static void relay_loop(struct relay *r, int listener)
{
	struct pollfd p[CLIENTS + 2];
	p[0] = (struct pollfd){.fd = listener, .events = POLLIN};
	p[1] = (struct pollfd){.fd = vc_linkio_fd(r->port), .events = vc_linkio_events(r->port)};
	for (int i = 0; i < CLIENTS; i++) {
		struct vc_linkio *io = r->client[i].io;
		p[i + 2] = (struct pollfd){.fd = io ? vc_linkio_fd(io) : -1, .events = io ? vc_linkio_events(io) : 0};
	}
	poll(p, CLIENTS + 2, 100);
	if (p[1].revents && vc_linkio_ready(r->port, p[1].revents, now_ms(), NULL) < 0)
		_exit(0);
	for (int i = 0; i < CLIENTS; i++) {
		if (p[i + 2].revents && vc_linkio_ready(r->client[i].io, p[i + 2].revents, now_ms(), NULL) < 0)
			vc_linkio_destroy(vc_steal(&r->client[i].io));
	}
	if (p[0].revents)
		relay_accept(r, listener);
	vc_linkio_tick(r->port, now_ms());
}

static void relay_main(void)
{
	static struct relay r;
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", sock_path);
	unlink(sock_path);
	if (bind(listener, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(listener, 100) < 0)
		_exit(5);
	r.port = vc_linkio_create(port[1], BOOT_HOST, &relay_port_ops, &r, now_ms(), NULL);
	for (;;)
		relay_loop(&r, listener);
}

static void relay_start(void)
{
	fflush(NULL);
	relay_pid = fork();
	if (relay_pid == 0) {
		port[1] = dup2(port[1], 3); // nothing of the tasks' pipes may stay open here
		close_range(4, UINT_MAX, 0);
		relay_main();
	}
	assert_true(relay_pid > 0);
}

static void relay_kill(void)
{
	kill(relay_pid, SIGKILL);
	waitpid(relay_pid, NULL, 0);
	relay_start();
}

// ---- the client: what vcexec is ----

static int client_connect(void *ctx, uint64_t session, bool resume, int *ret_fd, struct vc_buf *pending, struct vc_error *err)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)ctx;
	(void)resume;
	(void)pending;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", sock_path);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || write(fd, &session, sizeof(session)) < 0)
		return vc_error_errno(err, "relay");
	*ret_fd = vc_steal_fd(&fd);
	return 0;
}

struct task {
	// asked for
	char *const *argv;
	const char *script, *cwd;
	size_t input;	    // bytes of the pattern on standard input
	bool pty;
	unsigned kills;	    // of the relay, spread over the output
	size_t close_after; // close our end of its standard output after so many bytes; 0: never
	bool no_stdin;
	bool bind; // to the first processor that this process may use
	// what came
	pid_t pid;
	int in, out, err;
	size_t fed, got;
	bool echo; // output must be the input's pattern
	bool stdin_broken;
	bool pmix;
	struct vc_buf text, errtext;
	int wstatus;
};

static uint32_t first_cpu(void)
{
	cpu_set_t mask;
	uint32_t cpu = 0;
	assert_int_equal(sched_getaffinity(0, sizeof(mask), &mask), 0);
	while (!CPU_ISSET(cpu, &mask))
		cpu++;
	return cpu;
}

static void client_bind(struct vc_exec_start *start)
{
	start->cpus = calloc(1, sizeof(*start->cpus));
	start->cpus[0] = first_cpu();
	start->cpu_count = 1;
}

// Where the bytes of the task's PMIx connection go: a cat, so that all come back.
static int open_echo(void *ctx)
{
	int pair[2];
	(void)ctx;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	if (fork() == 0) {
		dup2(pair[1], STDIN_FILENO);
		dup2(pair[1], STDOUT_FILENO);
		execlp("cat", "cat", NULL);
		_exit(127);
	}
	close(pair[1]);
	return pair[0];
}

static void client_main(struct task *t)
{
	struct vc_exec_start start;
	struct vc_error err = VC_ERROR_INIT;
	struct vc_exec_result result;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (vc_exec_start_from_self(&start, t->argv, NULL, &err) < 0 || (t->script && vc_exec_start_script(&start, t->script, &err) < 0))
		_exit(99);
	if (t->bind)
		client_bind(&start);
	if (t->cwd) {
		free(start.cwd);
		start.cwd = strdup(t->cwd);
	}
	if (t->pmix) {
		start.pmix = true;
		vc_exec_setenv(&start, "PMIX_SERVER_URI41", "nspace.0;tcp4://127.0.0.1:1", &err);
	}
	struct vc_execclient c = {.pmi_open = t->pmix ? open_echo : NULL, .connect = client_connect, .start = &start, .pty = t->pty, .where = "the test", .reconnect_ms = 20000};
	int rc = vc_execclient_run(&c, &result, &err);
	vc_exec_start_clear(&start);
	if (rc < 0) {
		fprintf(stderr, "vcluster: %s\n", err.text);
		_exit(result.status);
	}
	vc_execclient_die(&result);
}

static void task_spawn(struct task *t)
{
	int in[2], out[2], err[2];
	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
	fflush(NULL);
	t->pid = fork();
	if (t->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		dup2(err[1], 2);
		if (t->no_stdin)
			close(0);
		close(in[0]);
		close(in[1]);
		close(out[0]);
		close(out[1]);
		close(err[0]);
		close(err[1]);
		client_main(t);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	t->in = in[1];
	t->out = out[0];
	t->err = err[0];
	fcntl(t->in, F_SETFL, O_NONBLOCK);
}

static void close_fd(int *fd)
{
	close(*fd);
	*fd = -1;
}

static void task_feed(struct task *t)
{
	uint8_t chunk[65536];
	size_t len = t->input - t->fed < sizeof(chunk) ? t->input - t->fed : sizeof(chunk);
	for (size_t i = 0; i < len; i++)
		chunk[i] = pattern(t->fed + i);
	ssize_t n = len ? write(t->in, chunk, len) : 0;
	if (n > 0)
		t->fed += (size_t)n;
	if (n < 0 && errno != EAGAIN)
		t->stdin_broken = true;
	if (t->fed == t->input || t->stdin_broken)
		close_fd(&t->in);
}

static void task_read(struct task *t, int *fd, struct vc_buf *text)
{
	uint8_t chunk[65536];
	ssize_t n = read(*fd, chunk, sizeof(chunk));
	if (n <= 0) {
		close_fd(fd);
		return;
	}
	if (text == &t->text) {
		for (ssize_t i = 0; t->echo && i < n; i++) {
			if (chunk[i] != pattern(t->got + (size_t)i))
				fail_msg("output differs at %zu", t->got + (size_t)i);
		}
		t->got += (size_t)n;
		if (t->close_after && t->got >= t->close_after)
			close_fd(fd);
	}
	if (!t->echo)
		vc_buf_append(text, chunk, (size_t)n);
}

static void task_wait(struct task *t)
{
	uint64_t until = now_ms() + LIMIT_MS;
	unsigned killed = 0;
	while (t->out >= 0 || t->err >= 0) {
		struct pollfd p[3] = {{t->in, POLLOUT, 0}, {t->out, POLLIN, 0}, {t->err, POLLIN, 0}};
		if (now_ms() > until)
			fail_msg("no end: %zu fed, %zu got, %u relays killed", t->fed, t->got, killed);
		poll(p, 3, 1000);
		if (p[0].revents)
			task_feed(t);
		if (p[1].revents)
			task_read(t, &t->out, &t->text);
		if (p[2].revents)
			task_read(t, &t->err, &t->errtext);
		if (killed < t->kills && t->got > (uint64_t)(killed + 1) * t->input / (t->kills + 1)) {
			relay_kill();
			killed++;
		}
	}
	assert_int_equal(killed, t->kills);
	if (t->in >= 0)
		close_fd(&t->in);
	while (waitpid(t->pid, &t->wstatus, WNOHANG) == 0) {
		if (now_ms() > until)
			fail_msg("the client does not end");
		poll(NULL, 0, 5);
	}
}

static void task_clear(struct task *t)
{
	vc_buf_clear(&t->text);
	vc_buf_clear(&t->errtext);
}

static const char *text_of(struct vc_buf *b)
{
	vc_buf_append(b, "", 1);
	b->len--;
	return (const char *)vc_buf_head(b);
}

#define TASK(...) {.argv = (char *const[]){__VA_ARGS__, NULL}, .in = -1, .out = -1, .err = -1}

static void task_run(struct task *t)
{
	task_spawn(t);
	task_wait(t);
}

static int status_of(const char *command)
{
	struct task t = TASK("sh", "-c", (char *)command);
	task_run(&t);
	task_clear(&t);
	return t.wstatus;
}

// ---- tests ----

static void test_status(void **state)
{
	(void)state;
	assert_int_equal(WEXITSTATUS(status_of("exit 0")), 0);
	assert_int_equal(WEXITSTATUS(status_of("exit 42")), 42);
	int st = status_of("kill -TERM $$");
	assert_true(WIFSIGNALED(st) && WTERMSIG(st) == SIGTERM);
	st = status_of("kill -SEGV $$");
	assert_true(WIFSIGNALED(st) && WTERMSIG(st) == SIGSEGV && !WCOREDUMP(st));
}

static void test_explained(void **state)
{
	(void)state;
	struct task t = TASK("sh", "-c", "echo out; exit 43"), u = TASK("sh", "-c", "exit 42"),
		    v = TASK("sh", "-c", "kill -KILL $$");
	task_run(&t);
	assert_int_equal(WEXITSTATUS(t.wstatus), 43);
	assert_string_equal(text_of(&t.errtext), "vcluster: it was the weather\n");
	task_run(&u);
	assert_string_equal(text_of(&u.errtext), "");
	task_run(&v);
	assert_true(WIFSIGNALED(v.wstatus));
	assert_string_equal(text_of(&v.errtext), "vcluster: it was the weather\n");
	task_clear(&t);
	task_clear(&u);
	task_clear(&v);
}

static void test_not_found(void **state)
{
	(void)state;
	struct task t = TASK("no-such-program");
	task_run(&t);
	assert_int_equal(WEXITSTATUS(t.wstatus), 127);
	assert_contains(text_of(&t.errtext), "vcluster: no-such-program: command not found");
	task_clear(&t);
	struct task u = TASK("/etc/passwd");
	task_run(&u);
	assert_int_equal(WEXITSTATUS(u.wstatus), 126);
	assert_contains(text_of(&u.errtext), "/etc/passwd: Permission denied");
	task_clear(&u);
}

static void test_streams(void **state)
{
	(void)state;
	struct task t = TASK("sh", "-c", "echo out; echo err >&2; echo $ADDED; umask; pwd");
	umask(027);
	t.cwd = "/";
	task_run(&t);
	umask(022);
	assert_string_equal(text_of(&t.text), "out\nby prepare\n0027\n/\n");
	assert_string_equal(text_of(&t.errtext), "err\n");
	task_clear(&t);
}

// Files in place of streams, opened by the task: its directory, its umask, and nothing is left for the client.
static void test_files(void **state)
{
	char out[96], text[64] = "";
	(void)state;
	snprintf(out, sizeof(out), "%s/files.out", dir);
	setenv("TEST_IN", "/etc/hostname", 1);
	setenv("TEST_OUT", "files.out", 1);
	setenv("TEST_ERR", out, 1);
	struct task t = TASK("sh", "-c", "echo one; echo two >&2; readlink /proc/self/fd/0; echo three");
	t.cwd = dir;
	t.input = 100000; // nobody reads it
	umask(027);
	task_run(&t);
	umask(022);
	assert_int_equal(t.wstatus, 0);
	assert_string_equal(text_of(&t.text), "");
	assert_string_equal(text_of(&t.errtext), "");
	task_clear(&t);
	struct stat st;
	assert_int_equal(stat(out, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	int fd = open(out, O_RDONLY);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_string_equal(text, "one\ntwo\n/etc/hostname\nthree\n");
	unlink(out);
	unsetenv("TEST_IN");
	unsetenv("TEST_ERR");
	unsetenv("TEST_OUT");
}

static void file_fails(const char *name, const char *path, const char *says)
{
	setenv(name, path, 1);
	struct task t = TASK("true");
	task_run(&t);
	unsetenv(name);
	assert_int_equal(WEXITSTATUS(t.wstatus), 1);
	assert_contains(text_of(&t.errtext), says);
	task_clear(&t);
}

// A FIFO that nobody reads must not stop the server, which waits for the task's exec.
static void test_files_refused(void **state)
{
	char fifo[96];
	(void)state;
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	file_fails("TEST_OUT", fifo, "--output: cannot open");
	file_fails("TEST_ERR", "/", "--error: cannot open /: Is a directory");
	file_fails("TEST_IN", "/no/such", "--input: cannot open /no/such: No such file");
	unlink(fifo);
	assert_int_equal(status_of("exit 0"), 0);
}

static void test_binding(void **state)
{
	(void)state;
	char expected[32];
	struct task t = TASK("sed", "-n", "s/^Cpus_allowed_list:\t//p", "/proc/self/status");
	t.bind = true;
	task_run(&t);
	snprintf(expected, sizeof(expected), "%u\n", first_cpu());
	assert_string_equal(text_of(&t.text), expected);
	task_clear(&t);
}

#define PMIX_CONNECT "exec 3<>/dev/tcp/127.0.0.1/${PMIX_SERVER_URI41##*:}; "

// The server that the variable names is the client's, behind a port of this machine: bytes pass both ways, more than
// buffers hold.
static void test_pmix(void **state)
{
	(void)state;
	struct task t = TASK("bash", "-c", "echo $PMIX_SERVER_URI41 | sed 's/:[0-9]*$//'; " PMIX_CONNECT
			     "head -c 3000000 /dev/zero >&3 & head -c 3000000 <&3 | wc -c");
	t.pmix = true;
	task_run(&t);
	assert_string_equal(text_of(&t.text), "nspace.0;tcp4://127.0.0.1\n3000000\n");
	assert_int_equal(t.wstatus, 0);
	task_clear(&t);
}

// Programs of one task that run one after another have a connection each; what one has not read does not reach the next.
static void test_pmix_again(void **state)
{
	(void)state;
	struct task t = TASK("bash", "-c", PMIX_CONNECT "head -c 200000 /dev/zero >&3; exec 3>&-; " PMIX_CONNECT
			     "echo second >&3; read x <&3; echo $x; exec 3>&-; for i in 1 2 3 4 5 6 7 8; do " PMIX_CONNECT
			     "echo $i >&3; read x <&3; echo $x; exec 3>&-; done");
	t.pmix = true;
	task_run(&t);
	assert_string_equal(text_of(&t.text), "second\n1\n2\n3\n4\n5\n6\n7\n8\n");
	assert_int_equal(t.wstatus, 0);
	task_clear(&t);
}

// Of another user's process the connection is closed at once, and the task's own still finds its server.
static void test_pmix_stranger(void **state)
{
	(void)state;
	if (getuid() != 0)
		skip();
	struct task t = TASK("bash", "-c", "setpriv --reuid=65534 --clear-groups bash -c '" PMIX_CONNECT
			     "read -t 20 x <&3; echo stranger $?'; " PMIX_CONNECT "echo hello >&3; read x <&3; echo $x");
	t.pmix = true;
	task_run(&t);
	assert_string_equal(text_of(&t.text), "stranger 1\nhello\n");
	task_clear(&t);
}

static void test_cat(void **state)
{
	(void)state;
	struct task t = TASK("cat");
	t.input = BIG;
	t.echo = true;
	uint64_t start = now_ms();
	task_run(&t);
	assert_int_equal(t.wstatus, 0);
	assert_int_equal(t.got, BIG);
	print_message("cat: %u MiB each way in %llu ms\n", BIG >> 20, (unsigned long long)(now_ms() - start));
	task_clear(&t);
}

static void test_cat_killed(void **state)
{
	(void)state;
	struct task t = TASK("cat");
	t.input = BIG;
	t.echo = true;
	t.kills = 10;
	task_run(&t);
	assert_int_equal(t.wstatus, 0);
	assert_int_equal(t.got, BIG);
	task_clear(&t);
}

static void test_big_arguments(void **state)
{
	(void)state;
	char *big = malloc(120001);
	memset(big, 'a', 120000);
	big[120000] = '\0';
	struct task t = TASK("sh", "-c", "echo ${#1} ${#2}; printf %s \"$3\" | od -An -tx1", "sh", big, big, "\xff\xfe\n");
	task_run(&t);
	assert_string_equal(text_of(&t.text), "120000 120000\n ff fe 0a\n");
	task_clear(&t);
	free(big);
}

static void test_terminal(void **state)
{
	(void)state;
	struct task t = TASK("sh", "-c", "stty size; tty >/dev/null && echo tty; echo err >&2");
	t.pty = true;
	task_run(&t);
	assert_string_equal(text_of(&t.text), "24 80\r\ntty\r\nerr\r\n");
	assert_int_equal(t.wstatus, 0);
	task_clear(&t);
}

// The client's reader goes away: the endless writer dies of SIGPIPE, and so does the client.
static void test_closed_output(void **state)
{
	(void)state;
	struct task t = TASK("yes");
	t.close_after = 100000;
	task_run(&t);
	assert_true(WIFSIGNALED(t.wstatus) && WTERMSIG(t.wstatus) == SIGPIPE);
	task_clear(&t);
}

static void test_closed_input(void **state)
{
	(void)state;
	struct task t = TASK("sh", "-c", "head -c 3 >/dev/null; exec <&-; sleep 0.2; echo done");
	t.input = BIG;
	task_run(&t);
	assert_string_equal(text_of(&t.text), "done\n");
	assert_true(t.stdin_broken || t.fed < BIG);
	task_clear(&t);
	struct task u = TASK("cat");
	u.no_stdin = true;
	task_run(&u);
	assert_int_equal(u.wstatus, 0);
	task_clear(&u);
}

static void test_script(void **state)
{
	(void)state;
	char path[160], cwd[160];
	snprintf(path, sizeof(path), "%s/job.sh", dir);
	snprintf(cwd, sizeof(cwd), "%s/new/dir", dir);
	FILE *f = fopen(path, "w");
	fputs("#!/bin/sh\necho \"$0 $1\"; pwd; cat\n", f);
	fclose(f);
	struct task t = {.argv = (char *const[]){path, "arg", NULL}, .script = path, .cwd = cwd};
	task_run(&t);
	assert_contains(text_of(&t.text), "/job.sh arg\n");
	assert_contains(text_of(&t.text), "/new/dir\n");
	assert_contains(text_of(&t.text), script_dir);
	assert_contains(text_of(&t.errtext), "was created empty");
	assert_int_equal(t.wstatus, 0);
	task_clear(&t);
}

static void wait_text(struct task *t, const char *what)
{
	uint64_t until = now_ms() + LIMIT_MS;
	while (!strstr(text_of(&t->text), what)) {
		struct pollfd p = {t->out, POLLIN, 0};
		assert_true(now_ms() < until);
		poll(&p, 1, 100);
		if (p.revents)
			task_read(t, &t->out, &t->text);
	}
}

static void test_signals(void **state)
{
	(void)state;
	struct task t = TASK("sh", "-c", "trap 'echo usr1' USR1; trap 'echo term; exit 7' TERM; echo ready; while :; do sleep 0.05; done");
	task_spawn(&t);
	wait_text(&t, "ready");
	kill(t.pid, SIGUSR1);
	wait_text(&t, "usr1");
	relay_kill();
	kill(t.pid, SIGTERM);
	task_wait(&t);
	assert_contains(text_of(&t.text), "term");
	assert_int_equal(WEXITSTATUS(t.wstatus), 7);
	task_clear(&t);
}

static bool alive(const char *pid_text)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%.*s/cmdline", (int)strspn(pid_text, "0123456789"), pid_text);
	return access(path, F_OK) == 0;
}

static void wait_gone(const char *pid_text)
{
	uint64_t until = now_ms() + LIMIT_MS;
	while (alive(pid_text)) {
		assert_true(now_ms() < until);
		poll(NULL, 0, 20);
	}
}

// A child that holds the output does not hold up the task, and does not outlive it.
static void test_background(void **state)
{
	(void)state;
	struct task t = TASK("sh", "-c", "sleep 1000 & echo $!; exit 3");
	uint64_t start = now_ms();
	task_run(&t);
	assert_int_equal(WEXITSTATUS(t.wstatus), 3);
	assert_true(now_ms() - start < LIMIT_MS / 2);
	wait_gone(text_of(&t.text));
	task_clear(&t);
}

// All was received, the task has ended, and the reader takes its time: what waits in the client must not be lost when it
// acknowledges bytes of a task that is over.
static void test_slow_reader_at_the_end(void **state)
{
	(void)state;
	struct task t = TASK("dd", "if=/dev/zero", "bs=40000", "count=10");
	task_spawn(&t);
	poll(NULL, 0, 1500);
	for (int i = 0; i < 20 && t.out >= 0; i++) {
		task_read(&t, &t.out, &t.text);
		poll(NULL, 0, 100);
	}
	task_wait(&t);
	assert_int_equal(t.wstatus, 0);
	assert_int_equal(t.got, 400000);
	task_clear(&t);
}

// What a task wrote before it ended is delivered, however late its reader comes: more than the credit of 512 KiB, the
// rest fits into the smallest pipe.
static void test_slow_reader(void **state)
{
	(void)state;
	struct task t = TASK("dd", "if=/dev/zero", "bs=58000", "count=10");
	task_spawn(&t);
	poll(NULL, 0, 2 * (int)TASKRUN_DRAIN_MS + 1500); // the reader is away for longer than any time limit of the end
	task_wait(&t);
	assert_int_equal(t.wstatus, 0);
	assert_int_equal(t.got, 580000);
	task_clear(&t);
}

// A client that is gone for good: the session expires and its tree dies.
static void test_orphan(void **state)
{
	(void)state;
	struct task t = TASK("sh", "-c", "echo $$; sleep 1000 & wait");
	task_spawn(&t);
	wait_text(&t, "\n");
	kill(t.pid, SIGKILL);
	relay_kill();
	task_wait(&t);
	wait_gone(text_of(&t.text));
	task_clear(&t);
}

static void test_many(void **state)
{
	(void)state;
	struct task t[32];
	for (int i = 0; i < 32; i++) {
		t[i] = (struct task)TASK("sh", "-c", "head -c 300000 /dev/zero | wc -c; exit $1", "sh", i % 2 ? "1" : "0");
		task_spawn(&t[i]);
	}
	for (int i = 0; i < 32; i++) {
		task_wait(&t[i]);
		assert_string_equal(text_of(&t[i].text), "300000\n");
		assert_int_equal(WEXITSTATUS(t[i].wstatus), i % 2);
		task_clear(&t[i]);
	}
}

static int set_up(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(dir) || socketpair(AF_UNIX, SOCK_STREAM, 0, port) < 0)
		return -1;
	snprintf(sock_path, sizeof(sock_path), "%s/sock", dir);
	snprintf(script_dir, sizeof(script_dir), "%s/jobs", dir);
	fflush(NULL);
	server_pid = fork();
	if (server_pid == 0) {
		close(port[1]);
		server_main(port[0]);
	}
	close(port[0]);
	relay_start();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	char *argv[] = {"rm", "-rf", dir, NULL};
	int st;
	kill(relay_pid, SIGKILL);
	waitpid(relay_pid, NULL, 0);
	if (waitpid(server_pid, &st, WNOHANG) != 0)
		return -1; // it has to be alive
	kill(server_pid, SIGKILL);
	waitpid(server_pid, NULL, 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(execvp(argv[0], argv));
	waitpid(pid, NULL, 0);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status), cmocka_unit_test(test_explained),	      cmocka_unit_test(test_not_found),	  cmocka_unit_test(test_streams),
		cmocka_unit_test(test_files),	      cmocka_unit_test(test_files_refused),
		cmocka_unit_test(test_binding),	      cmocka_unit_test(test_pmix),	  cmocka_unit_test(test_pmix_again),	  cmocka_unit_test(test_pmix_stranger),
		cmocka_unit_test(test_cat),	      cmocka_unit_test(test_cat_killed),  cmocka_unit_test(test_big_arguments),
		cmocka_unit_test(test_terminal),      cmocka_unit_test(test_closed_output), cmocka_unit_test(test_closed_input),
		cmocka_unit_test(test_script),	      cmocka_unit_test(test_signals),	  cmocka_unit_test(test_background),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_slow_reader_at_the_end),
		cmocka_unit_test(test_orphan),	      cmocka_unit_test(test_many),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
