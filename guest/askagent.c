// SPDX-License-Identifier: GPL-2.0-or-later
// Asking the agent for a session: see askagent.h. Blocking, each wait with a limit.
#include "guest/askagent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "guest/local.h"
#include "libvc/buf.h"
#include "libvc/json.h"

#define ANSWER_S 30 // the agent's own limit for a handshake with another guest is 10 s

static int read_exact(int fd, void *data, size_t len)
{
	for (uint8_t *p = data; len > 0;) {
		ssize_t n = recv(fd, p, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_request(int fd, const struct askagent *q, uint64_t session, bool resume, struct vc_error *err)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	vc_autobuf struct vc_buf out = VC_BUF_INIT(LOCAL_MESSAGE_MAX + 4);
	uint8_t head[4];
	char id[17];
	size_t len;
	snprintf(id, sizeof(id), "%016" PRIx64, session);
	if (!obj || vc_json_add_int(obj, "v", 1) < 0 || vc_json_add_str(obj, "kind", q->kind) < 0 ||
	    vc_json_add_str(obj, "tool", q->tool) < 0 || vc_json_add_str(obj, "host", q->host) < 0 ||
	    vc_json_add_str(obj, "session", id) < 0 || vc_json_add_bool(obj, "resume", resume) < 0)
		return vc_error_set(err, ENOMEM, "request: no memory");
	const char *text = vc_json_text(obj, &len);
	vc_put_be32(head, (uint32_t)len);
	if (vc_buf_append(&out, head, 4) < 0 || vc_buf_append(&out, text, len) < 0 ||
	    send(fd, vc_buf_head(&out), out.len, MSG_NOSIGNAL) != (ssize_t)out.len)
		return vc_error_errno(err, LOCAL_SOCKET);
	return 0;
}

static int code_from_name(const char *name)
{
	for (int code = VC_EBASE + 1; code <= VC_EFAILED; code++) {
		if (!strcmp(vc_error_name(code), name))
			return code;
	}
	return VC_EFAILED;
}

static int read_answer(int fd, struct vc_error *err)
{
	uint8_t head[4];
	char text[4 * VC_ERROR_TEXT_MAX];
	const char *code = NULL, *message = "";
	if (read_exact(fd, head, 4) < 0 || vc_get_be32(head) > sizeof(text) || read_exact(fd, text, vc_get_be32(head)) < 0)
		return vc_error_set(err, VC_EFAILED, "the guest's agent does not answer");
	vc_autojson struct json_object *obj = vc_json_parse(text, vc_get_be32(head), err);
	if (!obj || vc_json_str_opt(obj, "code", VC_NAME_MAX, &code, err) < 0 ||
	    vc_json_str_opt(obj, "message", sizeof(text), &message, err) < 0)
		return -1;
	return code ? vc_error_set(err, code_from_name(code), "%s", message) : 0;
}

int askagent_connect(void *ctx, uint64_t session, bool resume, int *ret_fd, struct vc_buf *pending,
		     struct vc_error *err)
{
	(void)pending; // the agent's answer is read to its last byte and not beyond
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = LOCAL_SOCKET};
	const struct timeval limit = {ANSWER_S, 0};
	vc_autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
	    connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return vc_error_errno(err, LOCAL_SOCKET);
	if (send_request(fd, ctx, session, resume, err) < 0 || read_answer(fd, err) < 0)
		return -1;
	*ret_fd = vc_steal_fd(&fd);
	return 0;
}

uint64_t askagent_session(bool to_host)
{
	uint64_t id = 0;
	if (getrandom(&id, sizeof(id), 0) != (ssize_t)sizeof(id))
		id = (uint64_t)getpid() << 32 | (uint64_t)(uintptr_t)&id >> 4;
	return to_host ? id | VC_SESSION_FROM_GUEST : id & ~VC_SESSION_FROM_GUEST;
}
