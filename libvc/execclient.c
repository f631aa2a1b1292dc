// SPDX-License-Identifier: GPL-2.0-or-later
// The client half of an exec session: see execclient.h.
//
// One poll(2) loop over five descriptors: signals (signalfd), standard input, standard output and error when they are
// full, the link. Nothing blocks but connect(): standard output is written through descriptions of its own, so that no
// process that shares ours finds it non-blocking. Everything to be sent lives in the session, which outlives connections.
#include "libvc/execclient.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/linkio.h"
#include "libvc/mux.h"
#include "libvc/pieces.h"

#define TICK_MS 250		// repeats of RESUME, reconnects
#define RETRY_MS 200		// between two attempts to connect
#define NOTICE_MS 200		// srun may drop what a task wrote right before a signal ended it: its notices come first
#define PMI_BLOCK 4096		// read at once from Slurm; messages are small
#define PMI_QUEUE_MAX (2 * VC_PMI_MESSAGE_MAX) // translated bytes that wait: PMI asks and waits, so little ever does
#define LAST_WORDS_MS 1000	// for the final acknowledgement when the link is full

struct output {
	int fd; // -1: closed
	bool own;    // fd is a description of our own
	bool socket; // written with MSG_DONTWAIT
	bool small;  // may block: at most PIPE_BUF after POLLOUT
	bool waiting; // bytes are in the session's buffer
	bool eof;
};

struct pmi {
	int fd; // -1: none, not open yet, or closed
	bool eof; // of the task, or of its connection
	// pmi_open:
	struct vc_pieces pieces;
	bool over; // we have ended the connection, the task has not
	struct vc_buf to_slurm, to_task; // translated, not passed on yet
};

struct client {
	const struct vc_execclient *conf;
	struct vc_mux *mux;
	struct vc_mux_session *session; // NULL once it has ended
	struct vc_linkio *io;	    // NULL while there is no connection
	struct output out[VC_CHANNELS]; // of stdout and stderr
	struct pmi pmi;
	int signal_fd;
	bool stdin_open;
	bool stdin_full; // no room in the session
	bool raw;
	bool start_sent;
	bool exited, failed; // exit or error came
	bool noticed;	     // a notice was printed
	bool link_broken;
	bool attached_once, said;
	uint64_t away_since, next_try;
	struct termios saved;
	sigset_t saved_mask;
	struct vc_exec_result result;
	struct vc_error err;
};

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static const char *where(const struct client *c)
{
	return c->conf->where ? c->conf->where : "the virtual cluster";
}

static void finish_failed(struct client *c, int status, int code, const char *text)
{
	if (!c->failed)
		vc_error_set(&c->err, code, "%s", text);
	c->failed = true;
	c->result = (struct vc_exec_result){.status = status};
}

// ---- standard output and error ----

static void output_open(struct output *o, int fd)
{
	struct stat st;
	char path[32];
	*o = (struct output){.fd = fd};
	if (fstat(fd, &st) < 0) {
		o->fd = -1;
		return;
	}
	o->socket = S_ISSOCK(st.st_mode);
	if (!S_ISFIFO(st.st_mode) && !S_ISCHR(st.st_mode))
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	o->own = own >= 0;
	o->small = own < 0;
	if (o->own)
		o->fd = own;
}

static void output_close(struct output *o)
{
	if (o->fd > STDERR_FILENO)
		close(o->fd);
	o->fd = -1;
	o->waiting = false;
}

// Lets go of a standard descriptor; /dev/null keeps its number from being given to something else, also in a program
// that the caller starts afterwards.
static void release(int fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0 && null != fd) {
		dup2(null, fd);
		close(null);
	} else if (null < 0) {
		close(fd);
	}
}

static bool writable_now(const struct output *o)
{
	struct pollfd p = {.fd = o->fd, .events = POLLOUT};
	return poll(&p, 1, 0) > 0;
}

// Bytes taken, or -1 when nobody will ever take more.
static ssize_t output_write(struct output *o, const uint8_t *data, size_t len)
{
	size_t done = 0;
	while (done < len) {
		size_t part = len - done;
		if (o->small && part > PIPE_BUF)
			part = PIPE_BUF;
		if (o->small && !writable_now(o))
			break;
		ssize_t n = o->socket ? send(o->fd, data + done, part, MSG_DONTWAIT | MSG_NOSIGNAL) : write(o->fd, data + done, part);
		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno == EAGAIN)
			break;
		else if (n == 0 || errno != EINTR)
			return -1;
	}
	return (ssize_t)done;
}

static void output_failed(struct client *c, enum vc_channel ch)
{
	if (errno != EPIPE && errno != ECONNRESET)
		fprintf(stderr, "vcluster: cannot write standard %s of the task on %s: %s\n", ch == VC_CH_STDOUT ? "output" : "error",
			where(c), strerror(errno));
	output_close(&c->out[ch]);
	if (ch == VC_CH_STDOUT)
		release(STDOUT_FILENO);
	vc_mux_session_close_reader(c->session, ch);
}

static void output_resume(struct client *c, enum vc_channel ch)
{
	struct output *o = &c->out[ch];
	const uint8_t *data;
	size_t len;
	o->waiting = false;
	while (c->session && o->fd >= 0 && (data = vc_mux_session_peek(c->session, ch, &len))) {
		ssize_t n = output_write(o, data, len);
		if (n < 0) {
			output_failed(c, ch);
			return;
		}
		vc_mux_session_consume(c->session, ch, (size_t)n);
		if ((size_t)n < len) {
			o->waiting = true;
			return;
		}
	}
}

// ---- PMI ----

static void pmi_close(struct client *c)
{
	if (c->pmi.fd >= 0)
		close(c->pmi.fd);
	c->pmi.fd = -1;
	vc_buf_clear(&c->pmi.to_slurm);
	vc_buf_clear(&c->pmi.to_task);
}

// A broken conversation is the end of the task's part in MPI; the task sees its socket closed, and so does Slurm.
static void pmi_broken(struct client *c, const struct vc_error *err)
{
	fprintf(stderr, "vcluster: PMI of the task on %s: %s\n", where(c), err->text);
	pmi_close(c);
	vc_mux_session_eof(c->session, VC_CH_PMI);
	vc_mux_session_close_reader(c->session, VC_CH_PMI);
}

static void pieces_end(struct client *c);

// Nobody reads any more: slurmstepd has gone, and ends the task as well, or the server.
static void pmi_gone(struct client *c)
{
	if (!c->conf->pmi_open) {
		pmi_close(c);
		return;
	}
	c->pmi.over = !c->pmi.eof;
	pieces_end(c);
}

static void pmi_flush(struct client *c)
{
	struct pmi *p = &c->pmi;
	while (p->fd >= 0 && p->to_slurm.len) {
		ssize_t n = send(p->fd, vc_buf_head(&p->to_slurm), p->to_slurm.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			pmi_gone(c);
		if (n <= 0)
			break;
		vc_buf_consume(&p->to_slurm, (size_t)n);
	}
	if (p->eof && !p->to_slurm.len) {
		if (c->conf->pmi_open)
			pieces_end(c);
		else
			pmi_close(c);
	}
	while (c->session && p->to_task.len) {
		size_t n = vc_mux_session_write(c->session, VC_CH_PMI, vc_buf_head(&p->to_task), p->to_task.len);
		if (n == 0)
			break;
		vc_buf_consume(&p->to_task, n);
	}
}

// The end of one of the task's connections, from here.
static void pieces_end(struct client *c)
{
	static const uint8_t end[VC_PIECE_HEAD];
	if (c->pmi.fd >= 0)
		close(c->pmi.fd);
	c->pmi.fd = -1;
	c->pmi.eof = false;
	vc_buf_clear(&c->pmi.to_slurm);
	(void)vc_buf_append(&c->pmi.to_task, end, sizeof(end)); // there is room: it is read into only while it is empty
}

// As many as there is room for.
static size_t pieces_bytes(struct client *c, const uint8_t *data, size_t len)
{
	struct pmi *p = &c->pmi;
	if (p->over)
		return len;
	if (p->fd < 0) {
		p->fd = c->conf->pmi_open(c->conf->pmi_ctx);
		p->over = p->fd < 0;
	}
	if (p->over) {
		fprintf(stderr, "vcluster: PMIx of the task on %s: no connection to its server: %s\n", where(c), strerror(errno));
		pieces_end(c);
		return len;
	}
	size_t room = PMI_QUEUE_MAX - p->to_slurm.len;
	if (len > room)
		len = room;
	return vc_buf_append(&p->to_slurm, data, len) < 0 ? 0 : len;
}

static void pieces_ended(struct client *c)
{
	if (c->pmi.over)
		c->pmi.over = false;
	else if (c->pmi.fd < 0)
		pieces_end(c); // a connection without a byte
	else
		c->pmi.eof = true; // closed when all has gone to the server
}

// What comes from the task; what is behind the end of a connection waits until that is closed.
static size_t pieces_from_task(struct client *c, const uint8_t *data, size_t len)
{
	size_t done = 0, used, n;
	while (done < len && !c->pmi.eof) {
		enum vc_piece what = vc_pieces_next(&c->pmi.pieces, data + done, len - done, &used, &n);
		done += used;
		if (what == VC_PIECE_WRONG)
			return len;
		if (what == VC_PIECE_END)
			pieces_ended(c);
		if (n) {
			size_t taken = pieces_bytes(c, data + done, n);
			vc_pieces_taken(&c->pmi.pieces, taken);
			done += taken;
			if (taken < n)
				break;
		}
		pmi_flush(c);
	}
	return done;
}

// Takes what there was no room for.
static void pmi_resume(struct client *c)
{
	const uint8_t *data;
	size_t len;
	while (c->conf->pmi_open && c->session && (data = vc_mux_session_peek(c->session, VC_CH_PMI, &len))) {
		size_t n = pieces_from_task(c, data, len);
		vc_mux_session_consume(c->session, VC_CH_PMI, n);
		if (n < len)
			break;
	}
}

static int pieces_from_server(struct client *c, const uint8_t *data, size_t len)
{
	uint8_t head[VC_PIECE_HEAD];
	vc_put_be32(head, (uint32_t)len);
	return vc_buf_append(&c->pmi.to_task, head, sizeof(head)) < 0 ? -1 : vc_buf_append(&c->pmi.to_task, data, len);
}

static size_t pmi_from_task(struct client *c, const uint8_t *data, size_t len)
{
	struct vc_error err = VC_ERROR_INIT;
	if (c->conf->pmi_open)
		return pieces_from_task(c, data, len);
	if (c->pmi.fd < 0)
		return len;
	if (vc_pmi_from_task(c->conf->pmi, data, len, &c->pmi.to_slurm, &err) < 0)
		pmi_broken(c, &err);
	else
		pmi_flush(c);
	return len;
}

static void pmi_from_slurm(struct client *c)
{
	struct vc_error err = VC_ERROR_INIT;
	uint8_t block[PMI_BLOCK];
	ssize_t n = recv(c->pmi.fd, block, sizeof(block), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		pmi_gone(c);
		if (!c->conf->pmi_open)
			vc_mux_session_eof(c->session, VC_CH_PMI);
	} else if (c->conf->pmi_open ? pieces_from_server(c, block, (size_t)n) < 0
				     : vc_pmi_from_slurm(c->conf->pmi, block, (size_t)n, &c->pmi.to_task, &err) < 0) {
		pmi_broken(c, &err);
	} else {
		pmi_flush(c);
	}
}

static void pmi_open(struct client *c)
{
	c->pmi = (struct pmi){.fd = c->conf->pmi ? c->conf->pmi_fd : -1, .to_slurm = VC_BUF_INIT(PMI_QUEUE_MAX),
			      .to_task = VC_BUF_INIT(PMI_QUEUE_MAX)};
	c->conf->start->pmi = c->conf->pmi != NULL;
}

// ---- what the session says ----

static int send_frame(void *ctx, void *route, struct vc_link_frame *frame)
{
	struct client *c = ctx;
	(void)route;
	return c->io ? vc_linkio_send(c->io, frame) : -1;
}

static size_t on_data(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	struct client *c = ctx;
	struct output *o = &c->out[ch];
	(void)s;
	if (ch == VC_CH_PMI)
		return pmi_from_task(c, data, len);
	if (o->fd < 0)
		return len;
	ssize_t n = output_write(o, data, len);
	if (n < 0) {
		output_failed(c, ch);
		return len;
	}
	o->waiting = (size_t)n < len;
	return (size_t)n;
}

static void on_eof(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	struct client *c = ctx;
	(void)s;
	if (ch == VC_CH_PMI) {
		c->pmi.eof = c->pmi.fd >= 0 || !c->conf->pmi_open;
		pmi_flush(c);
		return;
	}
	c->out[ch].eof = true;
	output_close(&c->out[ch]);
	if (ch == VC_CH_STDOUT)
		release(STDOUT_FILENO); // who reads it sees the end; standard error stays for our own messages
}

static void on_message(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	struct client *c = ctx;
	struct vc_error err = VC_ERROR_INIT;
	struct vc_execmsg msg = VC_EXECMSG_INIT;
	(void)s;
	if (vc_execmsg_decode(text, len, &msg, &err) < 0) {
		finish_failed(c, 1, err.code, err.text);
		return;
	}
	if (msg.type == VC_EXEC_NOTICE) {
		fprintf(stderr, "vcluster: %s\n", msg.notice.text);
		c->noticed = true;
	} else if (msg.type == VC_EXEC_EXIT) {
		c->exited = true;
		c->result = (struct vc_exec_result){.status = msg.exit.status, .signo = msg.exit.signo};
	} else if (msg.type == VC_EXEC_ERROR) {
		finish_failed(c, msg.error.status, VC_EFAILED, msg.error.message);
	}
	vc_execmsg_clear(&msg);
}

static void on_writable(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	struct client *c = ctx;
	(void)s;
	if (ch == VC_CH_STDIN)
		c->stdin_full = false;
}

static void stdin_done(struct client *c)
{
	c->stdin_open = false;
	if (!isatty(STDIN_FILENO))
		release(STDIN_FILENO); // who writes it gets EPIPE
}

static void on_reader_closed(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	struct client *c = ctx;
	(void)s;
	if (ch == VC_CH_STDIN && c->stdin_open)
		stdin_done(c);
	if (ch == VC_CH_PMI)
		vc_buf_clear(&c->pmi.to_task);
}

static void on_reset(void *ctx, struct vc_mux_session *s, const char *code, const char *message)
{
	struct client *c = ctx;
	char text[512];
	(void)s;
	snprintf(text, sizeof(text), "the task on %s was ended (%s): %s", where(c), code, message);
	finish_failed(c, 1, VC_ECANCELED, text);
	c->session = NULL;
}

static void on_attached(void *ctx, struct vc_mux_session *s)
{
	struct client *c = ctx;
	(void)s;
	if (c->said)
		fprintf(stderr, "vcluster: the connection to %s is there\n", where(c));
	c->said = false;
	c->away_since = 0;
}

static const struct vc_mux_ops mux_ops = {
	.send_frame = send_frame,
	.on_data = on_data,
	.on_eof = on_eof,
	.on_message = on_message,
	.on_writable = on_writable,
	.on_reader_closed = on_reader_closed,
	.on_reset = on_reset,
	.on_attached = on_attached,
};

// ---- the link ----

static void link_frame(void *ctx, struct vc_link_frame *frame)
{
	struct client *c = ctx;
	vc_mux_input(c->mux, c, frame, now_ms());
}

static void link_up(void *ctx)
{
	struct client *c = ctx;
	vc_mux_route_up(c->mux, c, now_ms());
}

static void link_down(void *ctx)
{
	struct client *c = ctx;
	vc_mux_route_down(c->mux, c, now_ms());
}

static void link_writable(void *ctx)
{
	struct client *c = ctx;
	vc_mux_route_writable(c->mux, c, now_ms());
}

static const struct vc_linkio_ops link_ops = {link_frame, link_up, link_down, link_writable};

static void send_message(struct client *c, const struct vc_execmsg *msg)
{
	size_t len;
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char *text = vc_execmsg_encode(msg, &len, &err);
	if (!text || vc_mux_session_message(c->session, text, len, &err) < 0)
		finish_failed(c, 1, err.code, err.text);
}

// At first only what says "not now"; later, a vcd that has just come back may say odd things for a moment.
static bool worth_retrying(const struct client *c, int code)
{
	if (code == VC_EBUSY || code == VC_ETIMEDOUT || code == VC_ECANCELED || code < VC_EBASE)
		return c->attached_once || code != EACCES;
	return c->attached_once && code != VC_EDENIED && code != VC_ENOTFOUND && code != VC_ESTALE && code != VC_EUSER;
}

static void connect_failed(struct client *c, const struct vc_error *err, uint64_t now)
{
	uint64_t limit = c->conf->reconnect_ms ? c->conf->reconnect_ms : VC_EXECCLIENT_RECONNECT_MS;
	uint64_t away = now - c->away_since;
	c->next_try = now + RETRY_MS;
	if (!worth_retrying(c, err->code) || away >= limit) {
		finish_failed(c, 1, err->code, err->text);
	} else if (away >= VC_EXECCLIENT_SAY_MS && !c->said) {
		fprintf(stderr, "vcluster: no connection to %s (%s); trying for %llu s\n", where(c), err->text,
			(unsigned long long)(limit - away) / 1000);
		c->said = true;
	}
}

static void disconnect(struct client *c, const struct vc_error *err)
{
	uint64_t now = now_ms();
	vc_linkio_destroy(vc_steal(&c->io));
	vc_mux_route_down(c->mux, c, now);
	if (c->away_since) { // it broke before the session was attached
		connect_failed(c, err, now);
		return;
	}
	c->away_since = now;
	c->next_try = now;
}

// After the first connection: connect() may still have changed the environment, and made PMI.
static void send_start(struct client *c)
{
	if (c->start_sent)
		return;
	pmi_open(c);
	send_message(c, &(struct vc_execmsg){.type = VC_EXEC_START, .start = *c->conf->start});
	c->start_sent = true;
}

static void try_connect(struct client *c)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autobuf struct vc_buf pending = VC_BUF_INIT(0);
	int fd = -1;
	uint64_t now = now_ms();
	if (c->io || now < c->next_try)
		return;
	if (c->conf->connect(c->conf->ctx, vc_mux_session_id(c->session), c->attached_once, &fd, &pending, &err) < 0) {
		connect_failed(c, &err, now_ms());
		return;
	}
	now = now_ms();
	c->io = vc_linkio_create(fd, NULL, &link_ops, c, now, &err);
	if (!c->io) {
		connect_failed(c, &err, now);
		return;
	}
	c->attached_once = true;
	send_start(c);
	if (vc_linkio_feed(c->io, vc_buf_head(&pending), pending.len, now, &err) < 0)
		disconnect(c, &err);
	else if (c->session)
		vc_mux_session_attach(c->session, c, now);
}

// ---- signals, terminal, standard input ----

static bool window_size(uint16_t *rows, uint16_t *cols)
{
	struct winsize ws;
	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &ws) < 0)
		return false;
	*rows = ws.ws_row;
	*cols = ws.ws_col;
	return true;
}

static void take_signal(struct client *c, const struct signalfd_siginfo *info)
{
	int signo = (int)info->ssi_signo;
	bool harmless = signo == SIGCONT || signo == SIGWINCH || signo == SIGURG || signo == SIGTSTP || signo == SIGPIPE;
	struct vc_execmsg msg = {.type = VC_EXEC_SIGNAL, .signo = signo};
	if (signo == SIGPIPE && info->ssi_pid == (uint32_t)getpid())
		return; // our own write to a closed pipe; EPIPE says the same
	if (!c->start_sent) { // there is no task yet that could do anything about it
		c->exited = !harmless;
		c->result.signo = harmless ? 0 : signo;
		return;
	}
	if (signo == SIGWINCH && c->conf->start->pty) {
		msg.type = VC_EXEC_WINSIZE;
		if (!window_size(&msg.winsize.rows, &msg.winsize.cols))
			return;
	}
	send_message(c, &msg);
	if (c->conf->stopping && (signo == SIGTSTP || signo == SIGCONT))
		c->conf->stopping(c->conf->ctx, signo == SIGTSTP);
}

static void take_signals(struct client *c)
{
	struct signalfd_siginfo info;
	while (c->session && !c->exited && read(c->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		take_signal(c, &info);
}

// Blocks what can be forwarded. What this process was told to ignore stays ignored, as it would be for the task; faults
// of our own, and what stops a background process at its terminal, keep their meaning.
static int signals_open(struct client *c)
{
	static const int kept[] = {SIGKILL, SIGSTOP, SIGCHLD, SIGTTIN, SIGTTOU};
	sigset_t set;
	sigfillset(&set);
	for (size_t i = 0; i < VC_ARRAY_LEN(kept); i++)
		sigdelset(&set, kept[i]);
	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		struct sigaction sa;
		if (sig != SIGPIPE && sigaction(sig, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN)
			sigdelset(&set, sig);
	}
	if (sigprocmask(SIG_BLOCK, &set, &c->saved_mask) < 0)
		return -1;
	c->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return c->signal_fd < 0 ? -1 : 0;
}

static void terminal_open(struct client *c)
{
	struct vc_exec_start *st = c->conf->start;
	const char *term = getenv("TERM");
	st->pty = c->conf->pty;
	if (!st->pty)
		return;
	if (!window_size(&st->rows, &st->cols)) {
		st->rows = 24;
		st->cols = 80;
	}
	if (term && !st->term)
		st->term = strdup(term);
	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &c->saved) < 0)
		return;
	struct termios raw = c->saved;
	cfmakeraw(&raw);
	c->raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

static void terminal_close(struct client *c)
{
	if (c->raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &c->saved);
	c->raw = false;
}

static void take_stdin(struct client *c)
{
	struct iovec space;
	if (!vc_mux_session_space(c->session, VC_CH_STDIN, &space, 1)) {
		c->stdin_full = true;
		return;
	}
	ssize_t n = read(STDIN_FILENO, space.iov_base, space.iov_len);
	if (n > 0) {
		vc_mux_session_commit(c->session, VC_CH_STDIN, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		vc_mux_session_eof(c->session, VC_CH_STDIN);
		stdin_done(c);
	}
}

// ---- the loop ----

static bool over(const struct client *c)
{
	if (c->failed || !c->session || (c->exited && !c->start_sent))
		return true;
	for (int ch = VC_CH_STDOUT; ch <= VC_CH_STDERR; ch++) {
		if (!c->out[ch].eof && c->out[ch].fd >= 0)
			return false;
	}
	return c->exited && (!c->conf->pmi || c->pmi.fd < 0 || c->pmi.eof);
}

static short pmi_events(const struct client *c)
{
	return (short)((c->pmi.to_task.len ? 0 : POLLIN) | (c->pmi.to_slurm.len ? POLLOUT : 0));
}

static void poll_once(struct client *c)
{
	struct pollfd p[6] = {
		{.fd = c->signal_fd, .events = POLLIN},
		{.fd = c->stdin_open && !c->stdin_full && c->start_sent ? STDIN_FILENO : -1, .events = POLLIN},
		{.fd = c->out[VC_CH_STDOUT].waiting ? c->out[VC_CH_STDOUT].fd : -1, .events = POLLOUT},
		{.fd = c->out[VC_CH_STDERR].waiting ? c->out[VC_CH_STDERR].fd : -1, .events = POLLOUT},
		{.fd = c->io ? vc_linkio_fd(c->io) : -1, .events = c->io ? vc_linkio_events(c->io) : 0},
		{.fd = c->start_sent ? c->pmi.fd : -1, .events = pmi_events(c)},
	};
	if (poll(p, VC_ARRAY_LEN(p), TICK_MS) < 0)
		return;
	struct vc_error err = {.code = ECONNRESET};
	if (p[4].revents && vc_linkio_ready(c->io, p[4].revents, now_ms(), &err) < 0)
		disconnect(c, &err);
	if (p[0].revents)
		take_signals(c);
	for (int ch = VC_CH_STDOUT; ch <= VC_CH_STDERR && c->session; ch++) {
		if (p[ch].revents)
			output_resume(c, (enum vc_channel)ch);
	}
	if (p[1].revents && c->session && c->stdin_open)
		take_stdin(c);
	if (c->session && (c->conf->pmi || c->conf->pmi_open)) {
		pmi_flush(c);
		pmi_resume(c);
		if (c->session && c->pmi.fd >= 0 && (p[5].revents & (POLLIN | POLLHUP | POLLERR)))
			pmi_from_slurm(c);
	}
	if (c->session)
		vc_mux_tick(c->mux, now_ms());
}

// Tells the server that all was read, so that it can forget the session at once.
static void say_done(struct client *c)
{
	uint64_t until = now_ms() + LAST_WORDS_MS;
	if (c->session)
		vc_mux_session_reset(vc_steal(&c->session), c->failed ? "canceled" : "done", "");
	while (c->io && vc_linkio_queued(c->io) && now_ms() < until) {
		struct pollfd p = {.fd = vc_linkio_fd(c->io), .events = POLLOUT};
		if (poll(&p, 1, TICK_MS) < 0 || vc_linkio_ready(c->io, p.revents, now_ms(), NULL) < 0)
			return;
	}
}

static int start_session(struct client *c, struct vc_error *err)
{
	uint64_t id = c->conf->session;
	if (!id && getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
		return vc_error_errno(err, "cannot make a session id");
	if (!c->conf->session)
		id = (id & ~VC_SESSION_FROM_GUEST) | 1;
	c->mux = vc_mux_create(&(struct vc_mux_config){.window = VC_MUX_WINDOW_MAX}, &mux_ops, c);
	if (!c->mux)
		return vc_error_set(err, VC_EFAILED, "no memory");
	c->session = vc_mux_session_create(c->mux, NULL, id, VC_MUX_CLIENT, c->conf->open_body, now_ms(), err);
	if (!c->session)
		return -1;
	c->conf->start->stdin_open = c->stdin_open;
	return 0;
}

// Standard descriptors that are closed get /dev/null, lest a socket of ours takes their number.
static void standard_fds(struct client *c)
{
	bool closed[3];
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		closed[fd] = fcntl(fd, F_GETFD) < 0;
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (closed[fd])
			release(fd);
	}
	c->stdin_open = !closed[STDIN_FILENO];
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
		enum vc_channel ch = fd == STDOUT_FILENO ? VC_CH_STDOUT : VC_CH_STDERR;
		c->out[ch].fd = -1;
		if (!closed[fd])
			output_open(&c->out[ch], fd);
	}
}

static void close_all(struct client *c)
{
	terminal_close(c);
	vc_mux_destroy(c->mux);
	vc_linkio_destroy(c->io);
	for (int ch = VC_CH_STDOUT; ch <= VC_CH_STDERR; ch++)
		output_close(&c->out[ch]);
	pmi_close(c);
	if (c->signal_fd >= 0) {
		close(c->signal_fd);
		signal(SIGPIPE, SIG_IGN); // drops the one of our last write
		sigprocmask(SIG_SETMASK, &c->saved_mask, NULL);
	}
}

int vc_execclient_run(struct vc_execclient *conf, struct vc_exec_result *ret, struct vc_error *err)
{
	struct client c = {.conf = conf, .signal_fd = -1, .away_since = now_ms(), .pmi.fd = -1};
	ret->status = 1;
	ret->signo = 0;
	standard_fds(&c);
	if (signals_open(&c) < 0)
		return vc_error_errno(err, "cannot take over signals");
	terminal_open(&c);
	if (start_session(&c, err) < 0) {
		close_all(&c);
		return -1;
	}
	for (int ch = VC_CH_STDOUT; ch <= VC_CH_STDERR; ch++) {
		if (c.out[ch].fd < 0)
			vc_mux_session_close_reader(c.session, (enum vc_channel)ch);
	}
	while (!over(&c)) {
		try_connect(&c);
		if (!over(&c))
			poll_once(&c);
	}
	say_done(&c);
	if (c.noticed && c.result.signo)
		poll(NULL, 0, NOTICE_MS);
	close_all(&c);
	*ret = c.result;
	return c.failed ? vc_error_set(err, c.err.code, "%s", c.err.text) : 0;
}

void vc_execclient_die(const struct vc_exec_result *result)
{
	if (!result->signo)
		_exit(result->status);
	struct rlimit none = {0, 0};
	sigset_t set;
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_DUMPABLE, 0);
	signal(result->signo, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, result->signo);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(result->signo);
	_exit(128 + result->signo); // a signal whose default is not death
}
