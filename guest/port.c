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

static int open_vsock(uint32_t port)
{
	struct sockaddr_vm addr = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		vc_cleanup_close(&fd);
		fd = -1;
	}
	return fd;
}

int port_open(uint32_t vsock_port, struct vc_error *err)
{
	const struct timespec pause = {0, POLL_MS * 1000000L};
	for (int i = 0; i < WAIT_STEPS; i++) {
		int fd = vsock_port ? open_vsock(vsock_port) : open_virtio();
		if (fd >= 0)
			return fd;
		nanosleep(&pause, NULL);
	}
	if (vsock_port)
		return vc_error_errno(err, "no link to the host: vsock port %u", vsock_port);
	return vc_error_set(err, VC_EHOST, "no link to the host: no virtio-serial port is named " PORT_NAME
			    " (is it in the domain, is virtio_console in the initramfs?)");
}
