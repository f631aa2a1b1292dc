// SPDX-License-Identifier: GPL-2.0-or-later
// A private munged for the daemon's tests: own key, socket and files in a temporary directory that goes at the end.
#ifndef TESTS_DAEMON_MUNGED_H
#define TESTS_DAEMON_MUNGED_H

#include <sys/types.h>

#define MUNGED_MORE_MAX 32

struct munged {
	char dir[64];	 // also for what the test itself needs
	char socket[96]; // for munge-socket
	pid_t pid;
	pid_t more[MUNGED_MORE_MAX]; // with sockets of their own: munged_socket()
	unsigned n_more;
};

#define TEST_LIMIT_MS 20000 // for anything a test waits for; all of it takes milliseconds on an idle machine

int munged_start(struct munged *m);   // -1: there is no munged here
// A site has one on each host: n further ones with the same key, for a crowd that one does not serve.
int munged_start_more(struct munged *m, unsigned n);
const char *munged_socket(const struct munged *m, unsigned i, char buf[96]); // of the one that serves host i
void munged_stop(struct munged *m);   // and removes the directory with all that is in it
pid_t spawn(char *const argv[], const char *log); // standard output and error go to log
int wait_exit(pid_t pid);	      // bounded by TEST_LIMIT_MS; exit status, 128 + signal, or -1 after the limit (killed)
void write_file(const char *path, const char *text);
int port_free(void);		      // a TCP port of 127.0.0.1 that nobody has

#endif
