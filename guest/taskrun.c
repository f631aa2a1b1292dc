// SPDX-License-Identifier: GPL-2.0-or-later
// The server half of exec sessions: see taskrun.h.
//
// A task lives as long as its session or its process, whichever ends later, and until libuv has closed its handles.
// The streams are read straight into the session's send buffers and written straight from the link's receive buffer.
#include "guest/taskrun.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "guest/taskproc.h"
#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "libvc/pieces.h"

#define TICK_MS 500	   // repeats of RESUME, orphans
#define PMIX_BLOCK 16384   // of a piece: most that PMIx says is smaller
#define READS_PER_TURN 2   // of one stream, then the others get a turn
#define SPACE_BYTES 65536	   // about what one place of vc_mux_session_space() holds
#define SPACES_MAX (TASKRUN_PIPE_SIZE / SPACE_BYTES + 1) // of one read: the pipe is emptied at once, its writer is woken once
#define LAST_DRAIN_MS 1000 // after the tree was killed: a stream that is still open is held by something unkillable

// First what is written to the task, then what is read from it. PMI is one socket: each way has a descriptor of its own;
// of PMIx that socket comes each time the task connects to STREAM_PMIX.
enum stream_id { STREAM_IN, STREAM_PMI_IN, STREAM_PMIX, STREAM_OUT, STREAM_ERR, STREAM_PMI_OUT, STREAMS };

static const enum vc_channel stream_channel[STREAMS] = {VC_CH_STDIN, VC_CH_PMI, VC_CH_PMI, VC_CH_STDOUT, VC_CH_STDERR, VC_CH_PMI};

struct task;

struct stream {
	struct task *task;
	enum stream_id id;
	int fd;	    // -1: closed
	bool open;  // the handle is initialised and not closing
	bool active; // being polled
	size_t owed; // bytes that were in it when the task had ended: they are delivered however slow the reader is
	uv_poll_t poll;
};

// The task's connections to its PMIx server, one after another (libvc/pieces.h).
struct pmix {
	bool on;
	bool up;   // there is one
	bool half; // we have ended it, the server's side has not
	struct vc_pieces pieces;
	struct vc_buf out; // pieces that the session has no room for yet
};

struct task {
	struct taskrun *tr;
	struct task *prev, *next;
	uint64_t id;
	struct vc_mux_session *session; // NULL: it is gone
	struct taskrun_identity who;
	struct stream stream[STREAMS];
	uv_timer_t drain;
	bool drain_open;
	unsigned handles; // that libuv still has
	pid_t pid;	  // 0: never started
	bool started, reaped, killed, finished, pty, pmi;
	struct pmix pmix;
	bool stdin_eof; // came before the task was started
	int wstatus;
	char *cgroup, *script_dir, *script_path;
};

struct taskrun {
	struct taskrun_config conf;
	const struct taskrun_ops *ops;
	void *ctx;
	struct vc_mux *mux;
	struct task *first;
	size_t tasks;
	uv_signal_t sigchld;
	uv_timer_t tick;
	unsigned handles;
	bool closing;
	void (*done)(void *arg);
	void *done_arg;
};

static uint64_t now_ms(const struct taskrun *tr)
{
	uv_update_time(tr->conf.loop);
	return uv_now(tr->conf.loop);
}

// ---- life of a task ----

static void taskrun_maybe_free(struct taskrun *tr)
{
	if (!tr->closing || tr->tasks || tr->handles)
		return;
	void (*done)(void *) = tr->done;
	void *arg = tr->done_arg;
	free((char *)tr->conf.script_dir);
	free((char *)tr->conf.path);
	free((char *)tr->conf.cgroup);
	free(tr);
	if (done)
		done(arg);
}

static void task_maybe_free(struct task *t)
{
	struct taskrun *tr = t->tr;
	if (t->session || t->handles || (t->pid && !t->reaped))
		return;
	*(t->prev ? &t->prev->next : &tr->first) = t->next;
	if (t->next)
		t->next->prev = t->prev;
	tr->tasks--;
	if (t->script_path)
		unlink(t->script_path);
	if (t->script_dir)
		rmdir(t->script_dir);
	if (t->cgroup)
		rmdir(t->cgroup); // stays when something unkillable is in it
	if (tr->ops->closed)
		tr->ops->closed(tr->ctx, t->id, &t->who);
	free(t->who.groups);
	free(t->cgroup);
	free(t->script_dir);
	free(t->script_path);
	vc_buf_clear(&t->pmix.out);
	free(t);
	taskrun_maybe_free(tr);
}

static void pmix_listen(struct task *t);

static void on_stream_closed(uv_handle_t *h)
{
	struct stream *s = h->data;
	close(s->fd);
	s->fd = -1;
	s->task->handles--;
	pmix_listen(s->task);
	task_maybe_free(s->task);
}

static void stream_close(struct stream *s)
{
	if (!s->open)
		return;
	s->open = s->active = false;
	uv_close((uv_handle_t *)&s->poll, on_stream_closed);
}

static void on_drain_closed(uv_handle_t *h)
{
	struct task *t = h->data;
	t->handles--;
	task_maybe_free(t);
}

static void drain_close(struct task *t)
{
	if (!t->drain_open)
		return;
	t->drain_open = false;
	uv_close((uv_handle_t *)&t->drain, on_drain_closed);
}

static void task_kill(struct task *t, int signo)
{
	if (!t->started)
		return;
	taskproc_kill_tree(t->pid, t->cgroup, signo);
}

// The session is over: nobody wants the streams or the status.
static void task_abandon(struct task *t)
{
	t->session = NULL;
	for (int i = 0; i < STREAMS; i++)
		stream_close(&t->stream[i]);
	if (!t->who.leave_children || !t->reaped)
		task_kill(t, SIGKILL);
	drain_close(t);
	task_maybe_free(t);
}

static void task_message(struct task *t, const struct vc_execmsg *msg)
{
	size_t len;
	vc_autofree char *text = vc_execmsg_encode(msg, &len, NULL);
	if (text && t->session)
		vc_mux_session_message(t->session, text, len, NULL);
}

static void task_notice(struct task *t, const char *text)
{
	task_message(t, &(struct vc_execmsg){.type = VC_EXEC_NOTICE, .notice.text = (char *)text});
}

// ---- the end of a task ----

static bool streams_ended(const struct task *t)
{
	for (int i = STREAM_OUT; i < STREAMS; i++) {
		if (t->stream[i].open)
			return false;
	}
	return true;
}

static void outputs_eof(struct task *t)
{
	vc_mux_session_eof(t->session, VC_CH_STDOUT);
	vc_mux_session_eof(t->session, VC_CH_STDERR);
	if (t->pmi)
		vc_mux_session_eof(t->session, VC_CH_PMI);
}

// Sends the status once the process has ended and its output was read to the end. The session stays until the client ends
// it: what the client has received it may not have written yet, and it acknowledges while it writes.
static void task_check_done(struct task *t)
{
	if (!t->reaped || !t->session || t->finished || !streams_ended(t))
		return;
	t->finished = true;
	if (!t->who.leave_children)
		task_kill(t, SIGKILL);
	drain_close(t);
	stream_close(&t->stream[STREAM_IN]);
	stream_close(&t->stream[STREAM_PMI_IN]);
	stream_close(&t->stream[STREAM_PMIX]);
	vc_mux_session_close_reader(t->session, VC_CH_STDIN);
	outputs_eof(t);
	struct vc_execmsg msg = {.type = VC_EXEC_EXIT};
	if (WIFSIGNALED(t->wstatus)) {
		msg.exit.signo = WTERMSIG(t->wstatus);
		msg.exit.core = WCOREDUMP(t->wstatus);
	} else {
		msg.exit.status = WEXITSTATUS(t->wstatus);
	}
	task_message(t, &msg);
}

static void pmix_end(struct task *t);

static void stream_end(struct stream *s)
{
	struct task *t = s->task;
	if (s->id == STREAM_PMI_OUT && t->pmix.on) {
		pmix_end(t);
		task_check_done(t);
		return;
	}
	stream_close(s);
	if (t->session)
		vc_mux_session_eof(t->session, stream_channel[s->id]);
	task_check_done(t);
}

// What has been written and not been read yet.
static void streams_owe(struct task *t)
{
	for (int i = STREAM_OUT; i < STREAMS; i++) {
		int n;
		if (t->stream[i].open && ioctl(t->stream[i].fd, FIONREAD, &n) == 0 && n > 0)
			t->stream[i].owed = (size_t)n;
	}
}

// Ends the streams that somebody holds open for nothing. True: one waits for its reader.
static bool streams_give_up(struct task *t)
{
	bool owed = false;
	for (int i = STREAM_OUT; i < STREAMS; i++) {
		if (t->stream[i].open && t->stream[i].owed)
			owed = true;
		else if (t->stream[i].open)
			stream_end(&t->stream[i]);
	}
	return owed;
}

// The process is gone, something of its tree still holds the streams, or their reader is slow. First a moment of grace,
// then the tree's end, then that of the streams; one that waits for its reader has as long as its session.
static void on_drain(uv_timer_t *timer)
{
	struct task *t = timer->data;
	if (!t->who.leave_children && !t->killed) {
		t->killed = true;
		task_kill(t, SIGKILL);
		streams_owe(t);
	} else if (!streams_give_up(t)) {
		return;
	}
	uv_timer_start(timer, on_drain, LAST_DRAIN_MS, 0);
}

static void explain_failure(struct task *t)
{
	char text[VC_EXEC_TEXT_MAX] = "";
	if (t->wstatus == 0 || !t->tr->ops->failed)
		return;
	t->tr->ops->failed(t->tr->ctx, t->id, &t->who, t->wstatus, text, sizeof(text));
	if (text[0])
		task_notice(t, text);
}

static void task_reaped(struct task *t, int wstatus)
{
	t->reaped = true;
	t->wstatus = wstatus;
	explain_failure(t);
	streams_owe(t);
	if (t->session && !streams_ended(t) && t->drain_open)
		uv_timer_start(&t->drain, on_drain, TASKRUN_DRAIN_MS, 0);
	task_check_done(t);
	task_maybe_free(t);
}

static void on_sigchld(uv_signal_t *handle, int signo)
{
	struct taskrun *tr = handle->data;
	(void)signo;
	for (struct task *t = tr->first, *next; t; t = next) {
		int wstatus;
		next = t->next;
		if (t->pid && !t->reaped && waitpid(t->pid, &wstatus, WNOHANG) == t->pid)
			task_reaped(t, wstatus);
	}
}

bool taskrun_child_exited(struct taskrun *tr, pid_t pid, int wstatus)
{
	for (struct task *t = tr->first; t; t = t->next) {
		if (t->pid == pid && !t->reaped) {
			task_reaped(t, wstatus);
			return true;
		}
	}
	return false;
}

// ---- streams ----

static void on_output(uv_poll_t *poll, int status, int events);
static void on_input_room(uv_poll_t *poll, int status, int events);

static void stream_poll(struct stream *s, bool on)
{
	if (!s->open || s->active == on)
		return;
	bool in = s->id < STREAM_OUT;
	s->active = on;
	if (on)
		uv_poll_start(&s->poll, in ? UV_WRITABLE : UV_READABLE, in ? on_input_room : on_output);
	else
		uv_poll_stop(&s->poll);
}

static void pmix_read(struct stream *s);

static int spaces_wanted(int fd)
{
	int bytes;
	if (ioctl(fd, FIONREAD, &bytes) < 0 || bytes < SPACE_BYTES)
		return 1;
	int spaces = bytes / SPACE_BYTES + 1;
	return spaces < SPACES_MAX ? spaces : SPACES_MAX;
}

static void on_output(uv_poll_t *poll, int status, int events)
{
	struct stream *s = poll->data;
	struct task *t = s->task;
	enum vc_channel ch = stream_channel[s->id];
	(void)status;
	(void)events;
	if (s->id == STREAM_PMI_OUT && t->pmix.on) {
		pmix_read(s);
		return;
	}
	for (int i = 0; i < READS_PER_TURN && s->open && t->session; i++) {
		struct iovec space[SPACES_MAX];
		int spaces = vc_mux_session_space(t->session, ch, space, spaces_wanted(s->fd));
		if (!spaces) {
			stream_poll(s, false); // until on_writable
			return;
		}
		ssize_t n = readv(s->fd, space, spaces);
		if (n > 0) {
			s->owed -= (size_t)n < s->owed ? (size_t)n : s->owed;
			vc_mux_session_commit(t->session, ch, (size_t)n);
		} else {
			if (n == 0 || (errno != EAGAIN && errno != EINTR))
				stream_end(s); // a terminal says EIO
			return;
		}
	}
}

static void stdin_close(struct task *t)
{
	static const char eot = 4;
	if (t->pty && t->stream[STREAM_IN].open && write(t->stream[STREAM_IN].fd, &eot, 1) < 0)
		errno = 0; // nobody reads the terminal
	if (!t->pty)
		stream_close(&t->stream[STREAM_IN]);
}

// As much as the task takes now; what it will never take is taken from the session all the same.
static size_t stream_write(struct stream *s, const uint8_t *data, size_t len)
{
	struct task *t = s->task;
	size_t done = 0;
	if (!t->started)
		return 0;
	while (s->open && done < len) {
		ssize_t n = write(s->fd, data + done, len - done);
		if (n > 0) {
			done += (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			stream_poll(s, true);
			return done;
		} else if (n == 0 || errno != EINTR) {
			stream_close(s);
			if (s->id != STREAM_PMI_IN || !t->pmix.on) // the next connection may come
				vc_mux_session_close_reader(t->session, stream_channel[s->id]);
		}
	}
	return len;
}

static size_t pmix_from_server(struct task *t, const uint8_t *data, size_t len);

static void stream_resume(struct stream *s)
{
	struct task *t = s->task;
	enum vc_channel ch = stream_channel[s->id];
	const uint8_t *data;
	size_t len;
	while (t->session && (data = vc_mux_session_peek(t->session, ch, &len))) {
		size_t n = ch == VC_CH_PMI && t->pmix.on ? pmix_from_server(t, data, len) : stream_write(s, data, len);
		vc_mux_session_consume(t->session, ch, n);
		if (n < len)
			return;
	}
	stream_poll(s, false);
}

static void on_input_room(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	stream_resume(poll->data);
}

static void stream_open(struct task *t, enum stream_id id, int fd)
{
	struct stream *s = &t->stream[id];
	s->fd = fd;
	s->poll.data = s;
	if (fd < 0)
		return;
	if (uv_poll_init(t->tr->conf.loop, &s->poll, fd) < 0) {
		close(fd);
		return;
	}
	t->handles++;
	s->open = true;
	if (id >= STREAM_OUT)
		stream_poll(s, true);
}

// ---- PMIx ----

static void pmix_flush(struct task *t)
{
	struct vc_buf *out = &t->pmix.out;
	size_t n = t->session ? vc_mux_session_write(t->session, VC_CH_PMI, vc_buf_head(out), out->len) : out->len;
	vc_buf_consume(out, n);
	stream_poll(&t->stream[STREAM_PMI_OUT], !out->len);
}

// One piece of what the program says; the next when that one is on its way.
static void pmix_read(struct stream *s)
{
	struct task *t = s->task;
	uint8_t head[VC_PIECE_HEAD], block[PMIX_BLOCK];
	pmix_flush(t);
	if (t->pmix.out.len)
		return;
	ssize_t n = read(s->fd, block, sizeof(block));
	if (n > 0) {
		vc_put_be32(head, (uint32_t)n);
		(void)vc_buf_append(&t->pmix.out, head, sizeof(head)); // it is empty: there is room
		(void)vc_buf_append(&t->pmix.out, block, (size_t)n);
		pmix_flush(t);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		stream_end(s);
	}
}

static void pmix_hang_up(struct task *t)
{
	static const uint8_t end[VC_PIECE_HEAD];
	t->pmix.up = false;
	stream_close(&t->stream[STREAM_PMI_IN]);
	stream_close(&t->stream[STREAM_PMI_OUT]);
	(void)vc_buf_append(&t->pmix.out, end, sizeof(end));
	pmix_flush(t);
}

// The program has closed its connection.
static void pmix_end(struct task *t)
{
	if (!t->pmix.up)
		return;
	t->pmix.half = true;
	pmix_hang_up(t);
	stream_resume(&t->stream[STREAM_PMI_IN]); // what it has not read is nobody's
}

// The server has.
static void pmix_ended(struct task *t)
{
	if (t->pmix.half)
		t->pmix.half = false;
	else if (t->pmix.up)
		pmix_hang_up(t);
	pmix_listen(t);
}

// From the server: what belongs to a connection that the program has closed is dropped.
static size_t pmix_from_server(struct task *t, const uint8_t *data, size_t len)
{
	size_t done = 0, used, n;
	while (done < len) {
		enum vc_piece what = vc_pieces_next(&t->pmix.pieces, data + done, len - done, &used, &n);
		done += used;
		if (what == VC_PIECE_WRONG)
			return len;
		if (what == VC_PIECE_END)
			pmix_ended(t);
		if (n) {
			size_t taken = t->pmix.up ? stream_write(&t->stream[STREAM_PMI_IN], data + done, n) : n;
			vc_pieces_taken(&t->pmix.pieces, taken);
			done += taken;
			if (taken < n)
				break;
		}
	}
	return done;
}

static void on_pmix(uv_poll_t *poll, int status, int events)
{
	struct stream *s = poll->data;
	struct task *t = s->task;
	(void)status;
	(void)events;
	int fd = taskproc_accept_pmix(s->fd, t->who.uid);
	if (fd < 0)
		return;
	uv_poll_stop(&s->poll);
	s->active = false;
	t->pmix.up = true;
	stream_open(t, STREAM_PMI_IN, fcntl(fd, F_DUPFD_CLOEXEC, 3));
	stream_open(t, STREAM_PMI_OUT, fd);
}

// Waits for the next connection once the last one is over on both sides and its handles are closed.
static void pmix_listen(struct task *t)
{
	struct stream *s = &t->stream[STREAM_PMIX];
	if (!s->open || s->active || t->pmix.up || t->pmix.half || t->stream[STREAM_PMI_IN].fd >= 0 || t->stream[STREAM_PMI_OUT].fd >= 0)
		return;
	s->active = true;
	uv_poll_start(&s->poll, UV_READABLE, on_pmix);
}

static void pmix_open(struct task *t, int fd)
{
	if (fd < 0)
		return;
	t->pmix.on = true;
	stream_open(t, STREAM_PMIX, fd);
	pmix_listen(t);
}

// ---- starting ----

static int prepare_dir(struct task *t, const char *cwd, struct vc_error *err)
{
	char text[VC_EXEC_TEXT_MAX];
	if (!t->tr->conf.make_cwd)
		return 0;
	int made = taskproc_make_dir(cwd, t->who.uid, t->who.gid, err);
	if (made > 0) {
		snprintf(text, sizeof(text), "the directory %.900s did not exist in the virtual machine and was created empty", cwd);
		task_notice(t, text);
	}
	return made < 0 ? -1 : 0;
}

static int prepare_script(struct task *t, struct vc_exec_start *st, struct vc_error *err)
{
	const char *base = t->tr->conf.script_dir;
	if (!st->script)
		return 0;
	if (!base)
		return vc_error_set(err, VC_EDENIED, "batch scripts do not run here");
	if (asprintf(&t->script_dir, "%s/%016" PRIx64, base, t->id) < 0)
		return vc_error_errno(err, "batch script");
	if (mkdir(base, 0711) < 0 && errno != EEXIST)
		return vc_error_errno(err, "cannot make %s", base);
	if (taskproc_put_script(t->script_dir, st->argv[0], st, t->who.uid, t->who.gid, &t->script_path, err) < 0)
		return -1;
	char *path = strdup(t->script_path);
	if (!path)
		return vc_error_errno(err, "batch script");
	free(st->argv[0]);
	st->argv[0] = path;
	return 0;
}

// Without its own cgroup a task still runs: its tree is then found by session.
static void prepare_cgroup(struct task *t)
{
	if (!t->tr->conf.cgroup || asprintf(&t->cgroup, "%s/t%016" PRIx64, t->tr->conf.cgroup, t->id) < 0) {
		t->cgroup = NULL;
		return;
	}
	if (mkdir(t->cgroup, 0755) < 0 && errno != EEXIST) {
		free(t->cgroup);
		t->cgroup = NULL;
	}
}

static int spawn(struct task *t, struct vc_exec_start *st, int *ret_status, struct vc_error *err)
{
	struct taskproc proc;
	const char *cwd = st->cwd ? st->cwd : t->who.home[0] ? t->who.home : "/";
	*ret_status = 1;
	if (st->pty && st->term && !vc_exec_getenv(st, "TERM") && vc_exec_setenv(st, "TERM", st->term, err) < 0)
		return -1;
	if (prepare_dir(t, cwd, err) < 0 || prepare_script(t, st, err) < 0)
		return -1;
	prepare_cgroup(t);
	struct taskproc_conf conf = {
		.start = st,
		.path = t->tr->conf.path,
		.uid = t->who.uid,
		.gid = t->who.gid,
		.groups = t->who.groups,
		.group_count = t->who.group_count,
		.cwd = cwd,
		.cgroup = t->cgroup,
	};
	if (taskproc_spawn(&conf, &proc, ret_status, err) < 0)
		return -1;
	t->pid = proc.pid;
	t->started = true;
	t->pty = st->pty;
	t->pmi = st->pmi || st->pmix;
	stream_open(t, STREAM_IN, proc.in);
	stream_open(t, STREAM_OUT, proc.out);
	stream_open(t, STREAM_ERR, proc.err);
	if (proc.pmi >= 0)
		stream_open(t, STREAM_PMI_IN, fcntl(proc.pmi, F_DUPFD_CLOEXEC, 3));
	stream_open(t, STREAM_PMI_OUT, proc.pmi);
	pmix_open(t, proc.pmix);
	return 0;
}

static void task_failed(struct task *t, int status, const struct vc_error *err)
{
	struct vc_execmsg msg = {.type = VC_EXEC_ERROR};
	msg.error.status = status;
	msg.error.code = (char *)vc_error_name(err->code);
	msg.error.message = (char *)err->text;
	t->finished = true;
	outputs_eof(t);
	task_message(t, &msg);
}

static void task_start(struct task *t, struct vc_exec_start *st)
{
	struct taskrun *tr = t->tr;
	struct vc_error err = VC_ERROR_INIT;
	int status = 1;
	if (t->started || t->finished)
		return; // once only
	if ((tr->ops->prepare && tr->ops->prepare(tr->ctx, t->id, &t->who, st, &err) < 0) || spawn(t, st, &status, &err) < 0) {
		task_failed(t, status, &err);
		return;
	}
	if (tr->ops->started)
		tr->ops->started(tr->ctx, t->id, &t->who, t->pid);
	task_message(t, &(struct vc_execmsg){.type = VC_EXEC_STARTED, .started.pid = t->pid});
	if (t->pty)
		vc_mux_session_eof(t->session, VC_CH_STDERR);
	if (!t->stream[STREAM_IN].open)
		vc_mux_session_close_reader(t->session, VC_CH_STDIN);
	stream_resume(&t->stream[STREAM_IN]);
	stream_resume(&t->stream[STREAM_PMI_IN]);
	if (t->stdin_eof)
		stdin_close(t);
}

// ---- what the session says ----

static int mux_send(void *ctx, void *route, struct vc_link_frame *frame)
{
	struct taskrun *tr = ctx;
	return tr->ops->send_frame(tr->ctx, route, frame);
}

static int mux_open(void *ctx, struct vc_mux_session *s, const uint8_t *body, size_t len, struct vc_error *err)
{
	struct taskrun *tr = ctx;
	struct task *t = tr->closing ? NULL : calloc(1, sizeof(*t));
	if (!t)
		return vc_error_set(err, VC_EBUSY, "no more tasks are taken");
	t->id = vc_mux_session_id(s);
	if (tr->ops->authorize(tr->ctx, vc_mux_session_route(s), t->id, (const char *)body, len, &t->who, err) < 0) {
		free(t->who.groups);
		free(t);
		return -1;
	}
	t->tr = tr;
	t->session = s;
	for (int i = 0; i < STREAMS; i++)
		t->stream[i] = (struct stream){.task = t, .id = (enum stream_id)i, .fd = -1};
	uv_timer_init(tr->conf.loop, &t->drain);
	t->drain.data = t;
	t->drain_open = true;
	t->handles = 1;
	t->next = tr->first;
	if (t->next)
		t->next->prev = t;
	tr->first = t;
	tr->tasks++;
	vc_mux_session_set_data(s, t);
	return 0;
}

static size_t mux_data(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	struct task *t = vc_mux_session_data(s);
	(void)ctx;
	if (ch == VC_CH_PMI && t->pmix.on)
		return pmix_from_server(t, data, len);
	return stream_write(&t->stream[ch == VC_CH_PMI ? STREAM_PMI_IN : STREAM_IN], data, len);
}

static void mux_eof(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	struct task *t = vc_mux_session_data(s);
	(void)ctx;
	if (ch == VC_CH_PMI && t->stream[STREAM_PMI_IN].open)
		shutdown(t->stream[STREAM_PMI_IN].fd, SHUT_WR); // Slurm hung up
	if (ch != VC_CH_STDIN)
		return;
	t->stdin_eof = true;
	if (t->started)
		stdin_close(t);
}

static void mux_message(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	struct task *t = vc_mux_session_data(s);
	struct vc_error err = VC_ERROR_INIT;
	struct vc_execmsg msg = VC_EXECMSG_INIT;
	(void)ctx;
	if (vc_execmsg_decode(text, len, &msg, &err) < 0) {
		if (!t->started && !t->finished)
			task_failed(t, 1, &err);
		return;
	}
	if (msg.type == VC_EXEC_START)
		task_start(t, &msg.start);
	else if (msg.type == VC_EXEC_SIGNAL && t->started && !t->reaped)
		kill(t->pid, msg.signo);
	else if (msg.type == VC_EXEC_WINSIZE && t->pty && t->stream[STREAM_OUT].open)
		ioctl(t->stream[STREAM_OUT].fd, TIOCSWINSZ,
		      &(struct winsize){.ws_row = msg.winsize.rows, .ws_col = msg.winsize.cols});
	vc_execmsg_clear(&msg);
}

static void mux_writable(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	struct task *t = vc_mux_session_data(s);
	(void)ctx;
	if (ch == VC_CH_PMI && t->pmix.on) {
		pmix_flush(t);
		return;
	}
	for (int i = STREAM_OUT; i < STREAMS; i++) {
		if (stream_channel[i] == ch)
			stream_poll(&t->stream[i], true);
	}
}

static void mux_reader_closed(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	struct task *t = vc_mux_session_data(s);
	(void)ctx;
	for (int i = STREAM_OUT; i < STREAMS; i++) {
		if (stream_channel[i] == ch)
			stream_close(&t->stream[i]);
	}
	task_check_done(t);
}

static void mux_reset(void *ctx, struct vc_mux_session *s, const char *code, const char *message)
{
	(void)ctx;
	(void)code;
	(void)message;
	task_abandon(vc_mux_session_data(s));
}

static const struct vc_mux_ops mux_ops = {
	.send_frame = mux_send,
	.on_open = mux_open,
	.on_data = mux_data,
	.on_eof = mux_eof,
	.on_message = mux_message,
	.on_writable = mux_writable,
	.on_reader_closed = mux_reader_closed,
	.on_reset = mux_reset,
};

// ---- the object ----

static void expire(void *arg, struct vc_mux_session *s)
{
	struct taskrun *tr = arg;
	if (vc_mux_session_detached_ms(s, now_ms(tr)) < tr->conf.orphan_ms)
		return;
	struct task *t = vc_mux_session_data(s);
	vc_mux_session_reset(s, "lost", "no client for too long");
	task_abandon(t);
}

static void on_tick(uv_timer_t *timer)
{
	struct taskrun *tr = timer->data;
	vc_mux_tick(tr->mux, now_ms(tr));
	vc_mux_each(tr->mux, expire, tr);
}

static int copy_conf(struct taskrun *tr, const struct taskrun_config *conf)
{
	tr->conf = *conf;
	tr->conf.script_dir = conf->script_dir ? strdup(conf->script_dir) : NULL;
	tr->conf.path = conf->path ? strdup(conf->path) : NULL;
	tr->conf.cgroup = conf->cgroup ? strdup(conf->cgroup) : NULL;
	if (!tr->conf.orphan_ms)
		tr->conf.orphan_ms = TASKRUN_ORPHAN_MS;
	return (conf->script_dir && !tr->conf.script_dir) || (conf->path && !tr->conf.path) || (conf->cgroup && !tr->conf.cgroup) ? -1
																 : 0;
}

struct taskrun *taskrun_create(const struct taskrun_config *conf, const struct taskrun_ops *ops, void *ctx, struct vc_error *err)
{
	struct taskrun *tr = calloc(1, sizeof(*tr));
	if (tr && copy_conf(tr, conf) == 0)
		tr->mux = vc_mux_create(&conf->mux, &mux_ops, tr);
	if (!tr || !tr->mux) {
		vc_error_set(err, VC_EFAILED, "no memory to run tasks");
		if (tr) {
			free((char *)tr->conf.script_dir);
			free((char *)tr->conf.path);
			free((char *)tr->conf.cgroup);
		}
		free(tr);
		return NULL;
	}
	tr->ops = ops;
	tr->ctx = ctx;
	tr->sigchld.data = tr->tick.data = tr;
	uv_signal_init(conf->loop, &tr->sigchld);
	uv_signal_start(&tr->sigchld, on_sigchld, SIGCHLD);
	uv_timer_init(conf->loop, &tr->tick);
	uv_timer_start(&tr->tick, on_tick, TICK_MS, TICK_MS);
	tr->handles = 2;
	return tr;
}

static void on_handle_closed(uv_handle_t *h)
{
	struct taskrun *tr = h->data;
	tr->handles--;
	taskrun_maybe_free(tr);
}

// A killed child is waited for here: the loop may end before its SIGCHLD comes.
static void reap_now(struct task *t)
{
	int wstatus;
	if (!t->pid || t->reaped)
		return;
	kill(t->pid, SIGKILL);
	while (waitpid(t->pid, &wstatus, 0) < 0 && errno == EINTR)
		;
	t->reaped = true;
}

void taskrun_destroy(struct taskrun *tr, void (*done)(void *arg), void *arg)
{
	if (!tr) {
		if (done)
			done(arg);
		return;
	}
	tr->closing = true;
	tr->done = done;
	tr->done_arg = arg;
	vc_mux_destroy(tr->mux);
	tr->mux = NULL;
	for (struct task *t = tr->first, *next; t; t = next) {
		next = t->next;
		t->session = NULL;
		reap_now(t);
		task_abandon(t);
	}
	uv_close((uv_handle_t *)&tr->sigchld, on_handle_closed);
	uv_close((uv_handle_t *)&tr->tick, on_handle_closed);
}

void taskrun_input(struct taskrun *tr, void *route, struct vc_link_frame *frame)
{
	vc_mux_input(tr->mux, route, frame, now_ms(tr));
}

void taskrun_route_down(struct taskrun *tr, void *route)
{
	vc_mux_route_down(tr->mux, route, now_ms(tr));
}

void taskrun_route_writable(struct taskrun *tr, void *route)
{
	vc_mux_route_writable(tr->mux, route, now_ms(tr));
}

size_t taskrun_count(const struct taskrun *tr)
{
	return tr->mux ? vc_mux_sessions(tr->mux) : 0;
}

void taskrun_kill_all(struct taskrun *tr, int signo)
{
	for (struct task *t = tr->first; t; t = t->next)
		task_kill(t, signo);
}
