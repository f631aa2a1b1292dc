// SPDX-License-Identifier: GPL-2.0-or-later
// A private munged for the daemon's tests: own key, socket and files in a temporary directory that goes at the end.
#ifndef TESTS_DAEMON_MUNGED_H
#define TESTS_DAEMON_MUNGED_H

#include <sys/types.h>

struct munged {
	char dir[64];	 // also for what the test itself needs
	char socket[96]; // for munge-socket
	pid_t pid;
};

#define TEST_LIMIT_MS 20000 // for anything a test waits for; all of it takes milliseconds on an idle machine

int munged_start(struct munged *m);   // -1: there is no munged here
void munged_stop(struct munged *m);   // and removes the directory with all that is in it
pid_t spawn(char *const argv[], const char *log); // standard output and error go to log
int wait_exit(pid_t pid);	      // bounded by TEST_LIMIT_MS; exit status, 128 + signal, or -1 after the limit (killed)
void write_file(const char *path, const char *text);
int port_free(void);		      // a TCP port of 127.0.0.1 that nobody has

#endif
