// SPDX-License-Identifier: GPL-2.0-or-later
// A host's vcd in small, for the tests of vcguestd: configures one guest over its link and runs one command in it.
//
// harness [--root] [--shutdown] [--slurm-bin DIR] SOCKET RANK MEMBERS COMMAND
// SOCKET is QEMU's chardev (server=on). The command's output and status become this process's; 99 when the guest could
// not be brought so far. Guest-initiated Slurm sessions are served by vcd's gslurm with the commands in DIR.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "guest/wire.h"
#include "libvc/cleanup.h"
#include "libvc/execmsg.h"
#include "libvc/json.h"
#include "libvc/mux.h"
#include "libvc/parse.h"
#include "vcd/gslurm.h"
#include "vcd/member/view.h"

#define JOB 123
#define UID 2001
#define SECRET "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define CLUSTER "0123456789abcdef0123456789abcdef"
#define FAILED 99
#define LIMIT_MS 240000 // an emulated guest on a loaded machine boots and answers within
#define EXEC_SESSION 0x77ull

enum step { WAIT_HELLO, WAIT_CONFIGURED, WAIT_VIEW, WAIT_EXIT };

struct harness {
	uv_loop_t loop;
	struct wires *wires;
	struct wire *port;
	struct vc_mux *rpc, *exec;
	struct vc_mux_session *rpc_session, *exec_session;
	struct gslurm *gslurm;
	struct plan plan;
	uv_timer_t limit, tick;
	enum step step;
	unsigned rank, members;
	bool root, shutdown;
	const char *command;
	int status;
};

static void stop(struct harness *h, int status, const char *why)
{
	if (why)
		fprintf(stderr, "harness: %s\n", why);
	h->status = status;
	uv_stop(&h->loop);
}

// --- what the host says ----------------------------------------------------------------------------------------

static void call(struct harness *h, int id, const char *method, struct json_object *params)
{
	size_t len;
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "jsonrpc", "2.0");
	vc_json_add_int(obj, "id", id);
	vc_json_add_str(obj, "method", method);
	vc_json_add(obj, "params", params);
	const char *text = vc_json_text(obj, &len);
	if (!h->rpc_session || vc_mux_session_message(h->rpc_session, text, len, NULL) < 0)
		stop(h, FAILED, "the guest's control session is gone");
	json_object_put(obj);
}

static struct json_object *member_json(unsigned rank)
{
	char text[64];
	struct json_object *m = json_object_new_object();
	vc_json_add_int(m, "rank", rank);
	snprintf(text, sizeof(text), "vc%d-%u", JOB, rank);
	vc_json_add_str(m, "name", text);
	snprintf(text, sizeof(text), "n%u", rank + 1);
	vc_json_add_str(m, "host", text);
	snprintf(text, sizeof(text), "10.42.0.%u", rank + 1);
	vc_json_add_str(m, "addr", text);
	snprintf(text, sizeof(text), "02:00:10:01:00:%02x", rank);
	vc_json_add_str(m, "mac", text);
	vc_json_add_int(m, "slots", 1);
	return m;
}

static void configure(struct harness *h)
{
	static const char fixed[] =
		"{\"cluster\":{\"id\":\"" CLUSTER "\",\"slurm\":\"lab\",\"job\":123,\"restart\":0},"
		"\"owner\":{\"uid\":2001,\"gid\":2001,\"user\":\"alice\",\"home\":\"/home/alice\","
		"\"groups\":[{\"gid\":2001,\"name\":\"alice\"},{\"gid\":3000,\"name\":\"proj\"}]},"
		"\"net\":{\"vni\":4097,\"network\":\"10.42.0.0\",\"prefix\":16,\"mtu\":1400},\"secret\":\"" SECRET "\","
		"\"env\":{\"SITE_VAR\":\"from the site\"},"
		"\"files\":[{\"path\":\"/etc/vcluster/test\",\"mode\":384,\"uid\":0,\"gid\":0,\"content\":\"aGVsbG8K\"}]}";
	struct json_object *params = vc_json_parse(fixed, sizeof(fixed) - 1, NULL), *members = json_object_new_array();
	for (unsigned i = 0; i < h->members; i++)
		json_object_array_add(members, member_json(i));
	vc_json_add(params, "members", members);
	vc_json_add_int(params, "rank", h->rank);
	call(h, 1, "guest.configure", params);
}

static void send_view(struct harness *h)
{
	struct json_object *params = json_object_new_object();
	view_auto struct view *view = view_create(CLUSTER, JOB, NULL);
	for (unsigned i = 0; view && i < h->members; i++) {
		struct view_member m = {.rank = i, .site = "default", .state = VIEW_ACTIVE, .incarnation = 1, .slots = 1};
		snprintf(m.name, sizeof(m.name), "vc%d-%u", JOB, i);
		snprintf(m.host, sizeof(m.host), "n%u", i + 1);
		snprintf(m.addr, sizeof(m.addr), "10.42.0.%u", i + 1);
		if (view_add(view, &m, NULL) < 0)
			return stop(h, FAILED, "no view");
	}
	if (!view || view_seal(view, 1, NULL) < 0)
		return stop(h, FAILED, "no view");
	vc_json_add(params, "view", view_to_json(view));
	call(h, 2, "guest.view", params);
}

static void run_command(struct harness *h)
{
	static const char alice[] = "{\"kind\":\"exec\",\"uid\":2001,\"gid\":2001,\"user\":\"alice\",\"home\":\"/home/alice\","
				    "\"groups\":[2001,{\"gid\":3000,\"name\":\"proj\"}],\"rank\":0}";
	static const char root[] = "{\"kind\":\"exec\",\"uid\":0,\"gid\":0,\"user\":\"root\",\"home\":\"/root\",\"rank\":0}";
	char *argv[] = {(char *)(uintptr_t) "/bin/sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)h->command, NULL};
	char *env[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin", (char *)(uintptr_t) "SLURM_JOB_ID=123",
		       (char *)(uintptr_t) "SLURM_JOB_NODELIST=n[1-2]", NULL};
	struct vc_execmsg msg = {.type = VC_EXEC_START, .start = {.argv = argv, .env = env, .umask = 022}};
	size_t len;
	vc_autofree char *text = vc_execmsg_encode(&msg, &len, NULL);
	h->exec_session = vc_mux_session_create(h->exec, h->port, EXEC_SESSION, VC_MUX_CLIENT, h->root ? root : alice, uv_now(&h->loop), NULL);
	if (!text || !h->exec_session || vc_mux_session_message(h->exec_session, text, len, NULL) < 0)
		stop(h, FAILED, "no exec session");
	else
		vc_mux_session_eof(h->exec_session, VC_CH_STDIN);
}

// --- what the guest says ---------------------------------------------------------------------------------------

static void on_rpc(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	struct harness *h = ctx;
	const char *method = "";
	(void)s;
	vc_autojson struct json_object *obj = vc_json_parse(text, len, NULL);
	if (!obj || json_object_object_get_ex(obj, "error", NULL)) {
		fprintf(stderr, "harness: %.*s\n", (int)len, text);
		return stop(h, FAILED, "the guest refused");
	}
	vc_json_str_opt(obj, "method", 64, &method, NULL);
	if (!strcmp(method, "guest.load"))
		return;
	fprintf(stderr, "harness: %.*s\n", (int)len, text);
	if (h->step == WAIT_HELLO && !strcmp(method, "guest.hello"))
		configure(h);
	else if (h->step == WAIT_CONFIGURED)
		send_view(h);
	else if (h->step == WAIT_VIEW)
		run_command(h);
	else
		return;
	h->step++;
}

static void on_exec(void *ctx, struct vc_mux_session *s, const char *text, size_t len)
{
	struct harness *h = ctx;
	struct vc_execmsg msg = VC_EXECMSG_INIT;
	if (vc_execmsg_decode(text, len, &msg, NULL) < 0)
		return stop(h, FAILED, "a message that is none");
	if (msg.type == VC_EXEC_NOTICE)
		fprintf(stderr, "harness: notice: %s\n", msg.notice.text);
	if (msg.type == VC_EXEC_ERROR)
		fprintf(stderr, "harness: error: %s\n", msg.error.message);
	if (msg.type == VC_EXEC_EXIT || msg.type == VC_EXEC_ERROR) {
		h->status = msg.type == VC_EXEC_ERROR ? msg.error.status : msg.exit.signo ? 128 + msg.exit.signo : msg.exit.status;
		vc_mux_session_reset(s, "done", "");
		h->exec_session = NULL;
		if (h->shutdown)
			call(h, 3, "guest.shutdown", json_object_new_object());
		else
			stop(h, h->status, NULL);
	}
	vc_execmsg_clear(&msg);
}

static size_t on_data(void *ctx, struct vc_mux_session *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	(void)ctx;
	(void)s;
	FILE *out = ch == VC_CH_STDERR ? stderr : stdout;
	fwrite(data, 1, len, out);
	fflush(out);
	return len;
}

static int send_frame(void *ctx, void *route, struct vc_link_frame *frame)
{
	(void)ctx;
	return wire_send(route, frame);
}

static void ignore_channel(void *ctx, struct vc_mux_session *s, enum vc_channel ch)
{
	(void)ctx;
	(void)s;
	(void)ch;
}

static void ignore_session(void *ctx, struct vc_mux_session *s)
{
	(void)ctx;
	(void)s;
}

static void on_reset(void *ctx, struct vc_mux_session *s, const char *code, const char *message)
{
	struct harness *h = ctx;
	fprintf(stderr, "harness: reset %s: %s\n", code, message);
	if (s == h->rpc_session)
		h->rpc_session = NULL;
	else
		stop(h, FAILED, "the task's session is lost");
}

static const struct vc_mux_ops rpc_ops = {send_frame,	  NULL,		  on_data,	  ignore_channel, on_rpc,	ignore_channel,
					  ignore_channel, ignore_session, on_reset, NULL};
static const struct vc_mux_ops exec_ops = {send_frame,	   NULL,	   on_data,	   ignore_channel, on_exec,	ignore_channel,
					   ignore_channel, ignore_session, on_reset, NULL};
static const struct gslurm_ops slurm_ops = {send_frame};

// --- the link --------------------------------------------------------------------------------------------------

static void port_frame(void *ctx, struct wire *w, struct vc_link_frame *frame)
{
	struct harness *h = ctx;
	if (frame->session == VC_SESSION_RPC)
		vc_mux_input(h->rpc, w, frame, uv_now(&h->loop));
	else if ((frame->session & VC_SESSION_FROM_GUEST) && h->gslurm)
		gslurm_input(h->gslurm, w, frame);
	else
		vc_mux_input(h->exec, w, frame, uv_now(&h->loop));
}

static void port_up(void *ctx, struct wire *w)
{
	struct harness *h = ctx;
	if (!h->rpc_session)
		h->rpc_session = vc_mux_session_create(h->rpc, w, VC_SESSION_RPC, VC_MUX_PEER, NULL, uv_now(&h->loop), NULL);
	vc_mux_route_up(h->exec, w, uv_now(&h->loop));
}

static void port_down(void *ctx, struct wire *w)
{
	struct harness *h = ctx;
	if (h->rpc_session)
		vc_mux_session_destroy(h->rpc_session);
	h->rpc_session = NULL;
	vc_mux_route_down(h->exec, w, uv_now(&h->loop));
}

static void port_writable(void *ctx, struct wire *w)
{
	struct harness *h = ctx;
	vc_mux_route_writable(h->rpc, w, uv_now(&h->loop));
	vc_mux_route_writable(h->exec, w, uv_now(&h->loop));
	if (h->gslurm)
		gslurm_route_writable(h->gslurm, w);
}

static void port_end(void *ctx, struct wire *w, const struct vc_error *why)
{
	struct harness *h = ctx;
	(void)w;
	bool wanted = h->shutdown && !h->exec_session && h->step == WAIT_EXIT;
	stop(h, wanted ? h->status : FAILED, wanted ? NULL : why->text);
}

static const struct wire_ops port_ops = {port_frame, port_up, port_down, port_writable, port_end};

static void limit_cb(uv_timer_t *handle)
{
	stop(handle->data, FAILED, "the limit of time is reached");
}

static void tick_cb(uv_timer_t *handle)
{
	struct harness *h = handle->data;
	vc_mux_tick(h->rpc, uv_now(&h->loop));
	vc_mux_tick(h->exec, uv_now(&h->loop));
}

static int connect_to(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const struct timespec pause = {0, 50 * 1000000L};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	for (int i = 0; i < 200; i++) { // QEMU makes the socket within
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
			return fd;
		vc_cleanup_close(&fd);
		nanosleep(&pause, NULL);
	}
	return -1;
}

// --- main ------------------------------------------------------------------------------------------------------

static struct gslurm *make_gslurm(struct harness *h, const char *bin_dir, struct vc_error *err)
{
	static struct plan_host hosts[] = {{.name = (char *)(uintptr_t) "n1"}, {.name = (char *)(uintptr_t) "n2"}};
	h->plan = (struct plan){.key = {.slurm = "lab", .job = JOB},
				.owner = {.uid = UID,
					  .gid = UID,
					  .user = (char *)(uintptr_t) "alice",
					  .home = (char *)(uintptr_t) "/home/alice"},
				.hosts = hosts,
				.n_hosts = 2};
	struct gslurm_config conf = {.loop = &h->loop, .plan = &h->plan, .bin_dir = bin_dir};
	return gslurm_create(&conf, &slurm_ops, h, err);
}

static int harness_init(struct harness *h, const char *socket_path, const char *bin_dir, struct vc_error *err)
{
	const struct vc_mux_config one = {.sessions_max = 1}, many = {0};
	char boot[VC_LINK_BOOT_LEN + 1];
	int fd = connect_to(socket_path);
	if (fd < 0)
		return vc_error_errno(err, "%s", socket_path);
	snprintf(boot, sizeof(boot), "%032x", (unsigned)getpid());
	uv_loop_init(&h->loop);
	uv_timer_init(&h->loop, &h->limit);
	uv_timer_init(&h->loop, &h->tick);
	h->limit.data = h->tick.data = h;
	uv_timer_start(&h->limit, limit_cb, LIMIT_MS, 0);
	uv_timer_start(&h->tick, tick_cb, 500, 500);
	h->rpc = vc_mux_create(&one, &rpc_ops, h);
	h->exec = vc_mux_create(&many, &exec_ops, h);
	h->wires = wires_create(&h->loop, err);
	if (bin_dir && !(h->gslurm = make_gslurm(h, bin_dir, err)))
		return -1;
	h->port = h->wires ? wire_create(h->wires, fd, boot, &port_ops, h, err) : NULL;
	return h->port ? 0 : -1;
}

static int usage(void)
{
	fputs("usage: harness [--root] [--shutdown] [--slurm-bin DIR] SOCKET RANK MEMBERS COMMAND\n", stderr);
	return FAILED;
}

int main(int argc, char **argv)
{
	static struct harness h = {.status = FAILED};
	const char *bin_dir = NULL;
	struct vc_error err = VC_ERROR_INIT;
	uint64_t rank, members;
	int i = 1;
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--root"))
			h.root = true;
		else if (!strcmp(argv[i], "--shutdown"))
			h.shutdown = true;
		else if (!strcmp(argv[i], "--slurm-bin") && i + 1 < argc)
			bin_dir = argv[++i];
		else
			return usage();
	}
	if (argc - i != 4 || vc_parse_u64("RANK", argv[i + 1], 0, 250, &rank, &err) < 0 ||
	    vc_parse_u64("MEMBERS", argv[i + 2], 1, 250, &members, &err) < 0)
		return usage();
	h.rank = (unsigned)rank;
	h.members = (unsigned)members;
	h.command = argv[i + 3];
	if (harness_init(&h, argv[i], bin_dir, &err) < 0) {
		fprintf(stderr, "harness: %s\n", err.text);
		return FAILED;
	}
	uv_run(&h.loop, UV_RUN_DEFAULT);
	return h.status;
}
