// SPDX-License-Identifier: GPL-2.0-or-later
// The client half of an exec session: relays this process's own standard streams, signals, window size and status.
//
// For vcexec, vcctl exec and the guest's srun, scancel... and vcrsh. Runs its own poll(2) loop until the session ends;
// reconnects and resumes when the connection breaks. It takes over the process: signal handlers, terminal mode.
#ifndef LIBVC_EXECCLIENT_H
#define LIBVC_EXECCLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/buf.h"
#include "libvc/error.h"
#include "libvc/execmsg.h"
#include "libvc/pmi.h"

#define VC_EXECCLIENT_RECONNECT_MS 60000u // a vcd that is away longer is not coming back soon
#define VC_EXECCLIENT_SAY_MS 5000u	  // after this long without a connection a person wants to know

struct vc_execclient {
	// Makes a connection that carries link frames for `session`; bytes already read from it go to `pending`. resume:
	// the session has been attached before; the first time `start` may still be changed. -1 with VC_EBUSY, VC_ETIMEDOUT, VC_ECANCELED or an errno: tried again until
	// the limit; VC_EDENIED, VC_ENOTFOUND, VC_ESTALE, VC_EUSER end the client, others only at the first attempt.
	int (*connect)(void *ctx, uint64_t session, bool resume, int *ret_fd, struct vc_buf *pending, struct vc_error *err);
	void *ctx;
	uint64_t session;	// 0: a random id with the top bit clear
	const char *open_body;	// sent as OPEN at each attach; NULL where the relay does it
	struct vc_exec_start *start; // pty, rows, cols, term, stdin_open are filled from the local terminal by run
	struct vc_pmi *pmi;	// the task takes part in PMI through pmi_fd; NULL: it does not
	int pmi_fd;		// Slurm's end; closed by run
	// Instead of pmi: the task's connections, one after another (libvc/pieces.h), go to what this opens when the first bytes
	// of each come. -1: refused.
	int (*pmi_open)(void *ctx);
	void *pmi_ctx;
	bool pty;		// ask for a terminal; local raw mode only when standard input is one
	const char *where;	// for messages: "member 1 (vc123-1)"; may be NULL, connect may set it
	uint32_t reconnect_ms;	// 0: the default
	// SIGTSTP came (Slurm suspends the job; SIGSTOP follows), or SIGCONT; NULL: nothing but the signal is passed on.
	void (*stopping)(void *ctx, bool stop);
};

// The wait(2)-like result of run: as shells have it.
struct vc_exec_result {
	int status; // exit status, when signo is 0
	int signo;  // the task died of it
};

// Runs the session to its end. -1: it could not be started or was lost; err is one line for the user and
// ret->status is what to exit with (127, 126 or 1). The terminal is restored in every case.
int vc_execclient_run(struct vc_execclient *c, struct vc_exec_result *ret, struct vc_error *err);

// Ends this process as the task ended: exit(status), or the default action of the same signal without a core file.
void vc_execclient_die(const struct vc_exec_result *result) __attribute__((noreturn));

// Fills a start message from this process: argv, environment without what `filter` names (patterns as "SLURMD_*";
// NULL: none), directory, umask, limits.
int vc_exec_start_from_self(struct vc_exec_start *start, char *const *argv, char *const *filter, struct vc_error *err);
// A copy of env without what the patterns name; NULL without memory.
char **vc_exec_env_filter(char *const *env, char *const *filter);
// Reads a batch script (bounded by VC_SCRIPT_MAX) into start->script.
int vc_exec_start_script(struct vc_exec_start *start, const char *path, struct vc_error *err);

#endif
