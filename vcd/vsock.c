// SPDX-License-Identifier: GPL-2.0-or-later
// Guest links over vsock: see vsock.h.
#include "vcd/vsock.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/vhost.h>
#include <linux/vm_sockets.h>

#include "libvc/cleanup.h"

#define BACKLOG 64		// guests of one host that may knock at once; others try again
#define CID_BASE 0x40000000u	// above what people and libvirt's own numbering give to machines
#define CID_INDEX_BITS 6	// 64 members on one host, the most that --vcluster-vms takes
#define CID_PROBE 0x3fffffffu	// nobody's: to see whether CIDs can be given

struct vsock {
	uv_poll_t poll;
	int fd;
	vsock_fn fn;
	void *ctx;
};

uint32_t vsock_cid(uint32_t vni, size_t index)
{
	return CID_BASE | vni << CID_INDEX_BITS | (uint32_t)index;
}

// The device may exist and not work: libvirt would find out at each start of a machine.
static int probe(struct vc_error *err)
{
	uint64_t cid = CID_PROBE;
	vc_autoclose int fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return vc_error_errno(err, "/dev/vhost-vsock");
	return ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &cid) < 0 ? vc_error_errno(err, "/dev/vhost-vsock") : 0;
}

static int listen_on(uint32_t port, struct vc_error *err)
{
	const struct sockaddr_vm addr = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
	vc_autoclose int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, BACKLOG) < 0)
		return vc_error_errno(err, "vsock port %u", port);
	return vc_steal_fd(&fd);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct vsock *v = poll->data;
	struct sockaddr_vm addr;
	socklen_t len = sizeof(addr);
	(void)status;
	(void)events;
	int fd = accept4(v->fd, (struct sockaddr *)&addr, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		v->fn(v->ctx, addr.svm_cid, fd);
}

struct vsock *vsock_create(uv_loop_t *loop, vsock_fn fn, void *ctx, struct vc_error *err)
{
	vc_autoclose int fd = probe(err) < 0 ? -1 : listen_on(VSOCK_PORT, err);
	struct vsock *v = fd < 0 ? NULL : calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	int rc = uv_poll_init(loop, &v->poll, fd);
	if (rc < 0) {
		vc_error_set(err, -rc, "vsock: %s", uv_strerror(rc));
		free(v);
		return NULL;
	}
	v->fd = vc_steal_fd(&fd);
	v->fn = fn;
	v->ctx = ctx;
	v->poll.data = v;
	uv_poll_start(&v->poll, UV_READABLE, on_readable);
	return v;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void vsock_close(struct vsock *v)
{
	if (!v)
		return;
	uv_poll_stop(&v->poll);
	close(v->fd);
	uv_close((uv_handle_t *)&v->poll, on_closed);
}
