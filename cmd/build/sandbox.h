// SPDX-License-Identifier: GPL-2.0-or-later
// The sandbox of a build: a function of ours, and what it executes, in namespaces of its own.
//
// User namespace: ids 0 to 65535 inside are IMAGE_UID_BASE and up outside, so that "root" in the sandbox is
// nobody on the host. Mount, pid, network, ipc, uts and cgroup namespaces: nothing of the host is to be seen but
// /usr (and, beside it, the few files of /etc that its programs need), read-only; there is no /home, /run or
// /var of the host, no /etc/munge, no network but a loopback interface, and no process of the host. Everything
// in the sandbox dies with its first process, and that one dies with vc-build.
//
// One run: sandbox_start(), then the caller reads sandbox.out until its end and calls sandbox_finish().
#ifndef CMD_BUILD_SANDBOX_H
#define CMD_BUILD_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"

#define SANDBOX_PROXY_PORT 3142 // on the sandbox's loopback; apt-cacher's number, nothing else listens there
#define SANDBOX_APT "/run/vcluster-build" // apt's lists and archives: beside the image, never in it
#define SANDBOX_PROXY "http://127.0.0.1:3142"

enum sandbox_view {
	SANDBOX_HOST, // the host's programs; the image at /build/tree, results at /build/out
	SANDBOX_TREE, // the image is /
};

// Runs in the sandbox; its return value is the exit status.
typedef int sandbox_fn(void *arg);

struct sandbox_spec {
	enum sandbox_view view;
	bool tree_read_only;
	bool apt;	    // out/apt is at SANDBOX_APT; the tree view only
	bool network;	    // a listener at SANDBOX_PROXY is handed out as sandbox.listener
	int input;	    // descriptor for standard input, -1: /dev/null
	int result;	    // descriptor that fn gets as SANDBOX_RESULT_FD, -1: none
	uint64_t file_max;  // bytes of one file
	sandbox_fn *fn;
	void *arg;
};

#define SANDBOX_RESULT_FD 3

struct sandbox {
	pid_t pid;
	int pidfd;
	int out;      // standard output and error of everything inside
	int listener; // -1 without network
};

// The current directory must be the build's: it holds tree/, out/ and the empty sandbox/.
int sandbox_start(const struct sandbox_spec *spec, struct sandbox *ret, struct vc_error *err);
// Kills what still runs, waits for it, gives the wait status of the first process.
int sandbox_finish(struct sandbox *s, bool kill_it, int *ret_status, struct vc_error *err);

// A user namespace with the sandbox's ids, for an id-mapped mount; nobody is in it. Descriptor, or -1.
int sandbox_userns(struct vc_error *err);

// Limits on memory and processes of all runs of this build, where the host has cgroups for us; false: it has none.
bool sandbox_cgroup_create(uint64_t mem_mib);
void sandbox_cgroup_remove(void);

#endif
