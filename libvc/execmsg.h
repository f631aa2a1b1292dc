// SPDX-License-Identifier: GPL-2.0-or-later
// Messages of an exec session (docs/protocol.md, part 3) as structs and as JSON.
//
// A decoded message owns everything it points to; clear frees it and takes a zeroed or half-filled one. Decoding is
// bounded: arguments and environment by VC_ARG_MAX together, the script by VC_SCRIPT_MAX, paths by VC_PATH_MAX.
#ifndef LIBVC_EXECMSG_H
#define LIBVC_EXECMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"

#define VC_EXEC_ARGS_MAX 65536u // items of argv, and of env
#define VC_EXEC_RLIMITS_MAX 32u
#define VC_EXEC_CPUS_MAX 1024u // processors of one machine: what cpu_set_t holds
#define VC_EXEC_TEXT_MAX 1024u // bytes of a notice or an error's message

enum vc_exec_type {
	VC_EXEC_START = 1,
	VC_EXEC_SIGNAL,
	VC_EXEC_WINSIZE,
	VC_EXEC_DETACH,
	VC_EXEC_STARTED,
	VC_EXEC_NOTICE,
	VC_EXEC_EXIT,
	VC_EXEC_ERROR,
};

struct vc_exec_rlimit {
	int resource; // RLIMIT_*
	uint64_t soft, hard; // UINT64_MAX: unlimited
};

// A file in place of a standard stream: the task's own process opens it.
struct vc_exec_file {
	char *path; // from the task's directory; NULL: the stream
	int flags;  // of open(2)
};

struct vc_exec_start {
	char **argv; // NULL-terminated, at least one
	char **env;  // NULL-terminated "K=V"
	char *cwd;   // absolute; NULL: the home directory
	uint32_t umask;
	struct vc_exec_rlimit *rlimits;
	size_t rlimit_count;
	uint32_t *cpus; // processors of the machine that the task is bound to
	size_t cpu_count; // 0: it is not
	bool pty;
	uint16_t rows, cols;
	char *term;	 // with pty; NULL: none
	uint8_t *script; // content of a batch script, argv[0] is its name; NULL: argv is a command
	size_t script_len;
	bool stdin_open; // false: the task reads /dev/null
	bool pmi;	 // the task gets a socket for PMI, named by PMI_FD: channel VC_CH_PMI
	bool pmix;	 // the same channel is its connection to the PMIx server that PMIX_SERVER_URI* names
	struct vc_exec_file files[3]; // by descriptor; made where the task starts, no part of the message. Not with pty
};

struct vc_execmsg {
	enum vc_exec_type type;
	union {
		struct vc_exec_start start;
		int signo; // signal: this system's number; the wire carries the name
		struct {
			uint16_t rows, cols;
		} winsize;
		struct {
			int64_t pid;
		} started;
		struct {
			char *text;
		} notice;
		struct {
			int status; // 0..255, when signo is 0
			int signo;
			bool core;
		} exit;
		struct {
			int status; // 127 not found, 126 not executable, 1 anything else: what the client exits with
			char *code; // name as in vc_error_name
			char *message;
		} error;
	};
};

#define VC_EXECMSG_INIT ((struct vc_execmsg){0})

int vc_execmsg_decode(const char *text, size_t len, struct vc_execmsg *ret, struct vc_error *err);
// malloc'ed JSON text; NULL without memory or past a limit.
char *vc_execmsg_encode(const struct vc_execmsg *msg, size_t *ret_len, struct vc_error *err);
void vc_execmsg_clear(struct vc_execmsg *msg);
void vc_exec_start_clear(struct vc_exec_start *start);

// Environment editing for whoever prepares a start: replaces or adds "name=value" (NULL value: removes).
int vc_exec_setenv(struct vc_exec_start *start, const char *name, const char *value, struct vc_error *err);
const char *vc_exec_getenv(const struct vc_exec_start *start, const char *name);

#endif
