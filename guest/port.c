// SPDX-License-Identifier: GPL-2.0-or-later
// The link's device: see port.h.
#include "guest/port.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"

#define WAIT_STEPS 3000 // of POLL_MS: 30 s; the port is announced by the host after the driver has started
#define POLL_MS 10
#define VSOCK_STEPS 200  // of POLL_MS and up to CONNECT_MS each: 2 s without an answer, and vsock does not work here
#define CONNECT_MS 200	 // the host's kernel answers at once; this bounds how long the agent may stand still
#define CLASS_DIR "/sys/class/virtio-ports"

static int has_name(const char *port)
{
	char path[VC_PATH_MAX], text[VC_NAME_MAX] = "";
	snprintf(path, sizeof(path), CLASS_DIR "/%.255s/name", port);
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return !strcmp(text, PORT_NAME);
}

// The device's path in `path`; 0 when it is not there yet.
static int find_port(char *path, size_t size)
{
	DIR *dir = opendir(CLASS_DIR);
	struct dirent *e;
	int found = 0;
	while (dir && !found && (e = readdir(dir))) {
		if (e->d_name[0] == '.' || !has_name(e->d_name))
			continue;
		found = snprintf(path, size, "/dev/%.255s", e->d_name) > 0;
	}
	if (dir)
		closedir(dir);
	return found;
}

static int open_virtio(void)
{
	char path[VC_PATH_MAX];
	return find_port(path, sizeof(path)) ? open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
}

int port_connect(uint32_t vsock_port)
{
	const struct sockaddr_vm addr = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = vsock_port};
	const struct timeval limit = {.tv_usec = CONNECT_MS * 1000};
	vc_autoclose int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -1;
	return vc_steal_fd(&fd);
}

int port_open(uint32_t *vsock_port, struct vc_error *err)
{
	const struct timespec pause = {0, POLL_MS * 1000000L};
	for (int i = 0; i < WAIT_STEPS; i++) {
		int fd = *vsock_port ? port_connect(*vsock_port) : open_virtio();
		if (fd >= 0)
			return fd;
		if (i >= VSOCK_STEPS)
			*vsock_port = 0; // every machine has the other port as well
		nanosleep(&pause, NULL);
	}
	return vc_error_set(err, VC_EHOST, "no link to the host: no virtio-serial port is named " PORT_NAME
			    " (is it in the domain, is virtio_console in the initramfs?)");
}
