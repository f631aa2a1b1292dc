// SPDX-License-Identifier: GPL-2.0-or-later
// Console relay: see console.h. Owns both streams from on_taken() on; each closes the other.
#include "vcd/console.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "libvc/cleanup.h"
#include "vcd/rpc.h"
#include "vcd/tunnel.h"
#include "vcd/vcd.h"

#define CHUNK 4096u		// bytes read at once; a serial line is slow
#define QUEUE_MAX (64u << 10)	// bytes that wait for a slow reader before the other side is not read

struct console {
	uv_stream_t *ends[2]; // the client's, QEMU's
	unsigned open;
	bool closing;
	uv_loop_t *loop;
	int fd; // to QEMU, until there is a stream for it
	char buf[CHUNK];
};

struct chunk {
	uv_write_t req;
	struct console *console;
	uv_stream_t *from;
	char data[];
};

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void on_closed(uv_handle_t *handle)
{
	struct console *c = handle->data;
	free(handle);
	if (--c->open == 0)
		free(c);
}

static void close_both(struct console *c)
{
	if (c->closing)
		return;
	c->closing = true;
	for (int i = 0; i < 2; i++)
		uv_close((uv_handle_t *)c->ends[i], on_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct console *c = handle->data;
	(void)suggested;
	*buf = uv_buf_init(c->buf, sizeof(c->buf));
}

static void on_read(uv_stream_t *from, ssize_t n, const uv_buf_t *buf);

static void on_written(uv_write_t *req, int status)
{
	struct chunk *chunk = req->data;
	struct console *c = chunk->console;
	if (status < 0)
		close_both(c);
	else if (!c->closing)
		uv_read_start(chunk->from, on_alloc, on_read); // it may have been stopped; harmless when not
	free(chunk);
}

static void on_read(uv_stream_t *from, ssize_t n, const uv_buf_t *buf)
{
	struct console *c = from->data;
	uv_stream_t *to = c->ends[from == c->ends[0]];
	struct chunk *chunk = n > 0 ? malloc(sizeof(*chunk) + (size_t)n) : NULL;
	if (n == 0)
		return;
	if (!chunk) {
		close_both(c);
		return;
	}
	*chunk = (struct chunk){.console = c, .from = from};
	memcpy(chunk->data, buf->base, (size_t)n);
	chunk->req.data = chunk;
	uv_buf_t out = uv_buf_init(chunk->data, (unsigned)n);
	if (uv_write(&chunk->req, to, &out, 1, on_written) < 0) {
		free(chunk);
		close_both(c);
	} else if (uv_stream_get_write_queue_size(to) > QUEUE_MAX) {
		uv_read_stop(from);
	}
}

static void give_up(struct console *c, uv_stream_t *stream)
{
	if (stream)
		uv_close((uv_handle_t *)stream, free_handle);
	close(c->fd);
	free(c);
}

static void on_taken(void *ctx, uv_stream_t *stream, struct vc_buf *pending)
{
	struct console *c = ctx;
	uv_pipe_t *qemu = stream ? malloc(sizeof(*qemu)) : NULL;
	(void)pending; // a console's client waits for the reply before it sends
	if (!qemu) {
		give_up(c, stream);
		return;
	}
	uv_pipe_init(c->loop, qemu, 0);
	if (uv_pipe_open(qemu, c->fd) < 0) {
		uv_close((uv_handle_t *)qemu, free_handle);
		give_up(c, stream);
		return;
	}
	c->ends[0] = stream;
	c->ends[1] = (uv_stream_t *)qemu;
	c->open = 2;
	stream->data = qemu->data = c;
	uv_read_start(stream, on_alloc, on_read);
	uv_read_start((uv_stream_t *)qemu, on_alloc, on_read);
}

int console_attach(struct vcd *vcd, const char *path, struct rpc_request *req, struct json_object *result, struct vc_error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct console *c = calloc(1, sizeof(*c));
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!c || fd < 0 || strlen(path) >= sizeof(addr.sun_path)) {
		free(c);
		return vc_error_errno(err, "console %s", path);
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		free(c);
		return vc_error_errno(err, "console %s", path);
	}
	c->loop = &vcd->loop;
	c->fd = vc_steal_fd(&fd);
	if (tunnel_take(vcd, req, result, on_taken, c, err) == 0)
		return 0;
	give_up(c, NULL);
	return -1;
}
