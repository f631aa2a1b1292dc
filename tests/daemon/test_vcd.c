// SPDX-License-Identifier: GPL-2.0-or-later
// The real vcd as a process: starting, stopping, being killed, reloading, and what it does with hostile connections.
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/cred.h"
#include "libvc/frame.h"
#include "libvc/json.h"
#include "libvc/message.h"
#include "libvc/session.h"
#include "tests/daemon/munged.h"

static struct munged munged;
static char conf_path[128], socket_path[100], log_path[128];
static int port;
static pid_t vcd_pid;

static void write_conf(const char *extra)
{
	char text[2048];
	snprintf(text, sizeof(text),
		 "host-name = t1\nport = %d\nlisten = \"127.0.0.1\"\nrun-dir = \"%s/run\"\nstate-dir = \"%s/state\"\n"
		 "image-dir = \"%s/images\"\nmunge-socket = \"%s\"\nlibvirt-uri = \"test:///default\"\nlog-level = debug\n%s",
		 port, munged.dir, munged.dir, munged.dir, munged.socket, extra);
	write_file(conf_path, text);
}

// Starts vcd and waits until it says that it is ready; -1: it ended first.
static int vcd_start(void)
{
	int fds[2];
	char ready[16], byte;
	assert_int_equal(pipe(fds), 0);
	snprintf(ready, sizeof(ready), "%d", fds[1]);
	char *argv[] = {VCD_PATH, "-F", "-c", conf_path, "--ready-fd", ready, NULL};
	fcntl(fds[0], F_SETFD, FD_CLOEXEC);
	vcd_pid = spawn(argv, log_path);
	close(fds[1]);
	struct pollfd p = {.fd = fds[0], .events = POLLIN};
	int rc = poll(&p, 1, TEST_LIMIT_MS) == 1 && read(fds[0], &byte, 1) == 1 ? 0 : -1;
	close(fds[0]);
	return rc;
}

static int vcd_stop(int sig)
{
	kill(vcd_pid, sig);
	int rc = wait_exit(vcd_pid);
	vcd_pid = 0;
	return rc;
}

static bool log_has(const char *part)
{
	static char text[1 << 20];
	vc_autofclose FILE *f = fopen(log_path, "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	text[n] = '\0';
	return strstr(text, part) != NULL;
}

static void wait_log(const char *part)
{
	for (int i = 0; !log_has(part) && i < TEST_LIMIT_MS / 20; i++)
		usleep(20000);
	if (!log_has(part))
		fail_msg("vcd's log does not say '%s'", part);
}

static int ping(void)
{
	struct vc_client_opts opts = {.path = socket_path, .munge_socket = munged.socket};
	struct vc_error err = VC_ERROR_INIT;
	vc_autoclient struct vc_client *c = vc_client_connect(&opts, &err);
	vc_autojson struct json_object *r = NULL;
	const char *host = NULL;
	if (!c || vc_client_call(c, "vcd.ping", NULL, TEST_LIMIT_MS, NULL, NULL, &r, &err) < 0) {
		print_message("ping: %s\n", err.text);
		return -1;
	}
	return vc_json_str(r, "host", 64, &host, NULL) == 0 && strcmp(host, "t1") == 0 ? 0 : -1;
}

static int setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (munged_start(&munged) < 0)
		return -1;
	port = port_free();
	snprintf(conf_path, sizeof(conf_path), "%s/vcd.conf", munged.dir);
	snprintf(socket_path, sizeof(socket_path), "%s/run/vcd.sock", munged.dir);
	snprintf(log_path, sizeof(log_path), "%s/vcd.log", munged.dir);
	write_conf("");
	return vcd_start();
}

static int teardown(void **state)
{
	(void)state;
	int rc = vcd_pid ? vcd_stop(SIGTERM) : 0;
	if (rc != 0 || log_has("runtime error") || log_has("AddressSanitizer") || log_has("was not closed")) {
		char *argv[] = {"/usr/bin/tail", "-n", "40", log_path, NULL};
		wait_exit(spawn(argv, "/dev/stderr"));
		rc = -1;
	}
	munged_stop(&munged);
	return rc;
}

// --- the method table ---

static void read_file(const char *path, char *text, size_t len)
{
	vc_autofclose FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, len - 1, f) : 0;
	text[n] = '\0';
	assert_true(n > 0);
}

// docs/protocol.md has the row of each method, with its role.
static void test_methods(void **state)
{
	(void)state;
	static char doc[1 << 18];
	read_file(TEST_SRCDIR "/../docs/protocol.md", doc, sizeof(doc));
	struct vc_client_opts opts = {.path = socket_path, .munge_socket = munged.socket};
	vc_autoclient struct vc_client *c = vc_client_connect(&opts, NULL);
	vc_autojson struct json_object *r = NULL;
	struct json_object *list = NULL;
	assert_non_null(c);
	assert_int_equal(vc_client_call(c, "vcd.methods", NULL, TEST_LIMIT_MS, NULL, NULL, &r, NULL), 0);
	assert_int_equal(vc_json_array(r, "methods", 1000, &list, NULL), 0);
	assert_true(json_object_array_length(list) > 20);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *name = NULL, *role = NULL;
		char row[160];
		struct json_object *item = json_object_array_get_idx(list, i);
		assert_int_equal(vc_json_str(item, "method", 64, &name, NULL), 0);
		assert_int_equal(vc_json_str(item, "role", 64, &role, NULL), 0);
		snprintf(row, sizeof(row), "`%s`", name);
		const char *at = strstr(doc, row), *end = at ? strchr(at, '\n') : NULL;
		snprintf(row, sizeof(row), "| %s", role);
		const char *found = end ? strstr(at, row) : NULL;
		if (strncmp(name, "image.", 6) != 0 && (!found || found > end))
			fail_msg("docs/protocol.md has no row of %s with role %s", name, role);
	}
}

// --- raw connections ---

static int raw_connect(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", socket_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = {.tv_sec = TEST_LIMIT_MS / 1000};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

// Reads to the end of the connection; the last BYE's text is in text. -1: the connection stayed open.
static int read_to_end(int fd, char *text, size_t len)
{
	vc_autobuf struct vc_buf in = VC_BUF_INIT(0);
	uint8_t chunk[4096];
	ssize_t n;
	*text = '\0';
	while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0)
		vc_buf_append(&in, chunk, (size_t)n);
	struct vc_frame frame;
	while (vc_frame_peek(&in, 0, &frame, NULL) > 0) {
		if (frame.type == VC_FRAME_BYE)
			snprintf(text, len, "%.*s", (int)frame.len, (const char *)frame.body);
		vc_buf_consume(&in, vc_frame_size(&frame));
	}
	return n == 0 || errno == ECONNRESET ? 0 : -1;
}

static void expect_bye(int fd, const char *part)
{
	char text[2048];
	assert_int_equal(read_to_end(fd, text, sizeof(text)), 0);
	assert_contains(text, part);
	close(fd);
	assert_int_equal(ping(), 0); // others are served as before
}

static void test_ping(void **state)
{
	(void)state;
	assert_int_equal(ping(), 0);
	struct vc_client_opts opts = {.munge_socket = munged.socket, .server_uid = geteuid()};
	vc_autoclient struct vc_client *c = vc_client_connect_tcp("127.0.0.1", port, &opts, NULL);
	assert_non_null(c);
	assert_int_equal(vc_client_call(c, "vcd.ping", NULL, TEST_LIMIT_MS, NULL, NULL, NULL, NULL), 0);
}

static void test_garbage(void **state)
{
	(void)state;
	int fd = raw_connect();
	assert_int_equal(send(fd, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
	expect_bye(fd, "magic");
	uint8_t header[VC_FRAME_HEADER_LEN] = {0};
	vc_put_be32(header, VC_FRAME_MAGIC);
	header[4] = VC_FRAME_HELLO;
	vc_put_be16(header + 6, VC_FRAME_VERSION);
	vc_put_be32(header + 8, 0xfffffff0);
	fd = raw_connect();
	assert_int_equal(send(fd, header, sizeof(header), MSG_NOSIGNAL), sizeof(header));
	expect_bye(fd, "more than");
	vc_put_be32(header + 8, 2);
	vc_put_be16(header + 6, 0x0300);
	fd = raw_connect();
	assert_int_equal(send(fd, header, sizeof(header), MSG_NOSIGNAL), sizeof(header));
	expect_bye(fd, "version 3.0");
	fd = raw_connect();
	vc_put_be16(header + 6, VC_FRAME_VERSION);
	assert_int_equal(send(fd, header, sizeof(header), MSG_NOSIGNAL), sizeof(header));
	assert_int_equal(send(fd, "[]", 2, MSG_NOSIGNAL), 2);
	expect_bye(fd, "role");
}

// A client's session over a raw socket, with a hook on its credential.
struct raw {
	int fd;
	struct vc_session *session;
	char *cred; // the one that was sent; set before: this one is sent instead
	uid_t encode_as;
};

static char *encode_as(uid_t uid, uid_t reader, const char *payload)
{
	int fds[2];
	char text[VC_CRED_TEXT_MAX];
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char *cred = NULL;
		if (setuid(uid) < 0 || vc_cred_encode(munged.socket, reader, payload, strlen(payload), &cred, NULL) < 0 ||
		    write(fds[1], cred, strlen(cred)) < 0)
			_exit(1);
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(wait_exit(pid), 0);
	ssize_t n = read(fds[0], text, sizeof(text) - 1);
	close(fds[0]);
	assert_true(n > 0);
	text[n] = '\0';
	return strdup(text);
}

// Runs the client's side until it is READY (1), CLOSED (0, err), or a frame came (2).
static int raw_run(struct raw *r, struct vc_frame *frame, struct vc_error *err)
{
	uint8_t chunk[4096];
	for (;;) {
		enum vc_session_event e = vc_session_next(r->session, frame, err);
		struct vc_buf *out = vc_session_output(r->session);
		if (e == VC_SESSION_ENCODE) {
			if (!r->cred)
				r->cred = encode_as(r->encode_as, vc_session_reader(r->session), vc_session_payload(r->session));
			vc_session_encoded(r->session, r->cred);
			continue;
		}
		if (out->len && send(r->fd, vc_buf_head(out), out->len, MSG_NOSIGNAL) == (ssize_t)out->len)
			vc_buf_consume(out, out->len);
		if (e == VC_SESSION_READY || e == VC_SESSION_CLOSED || e == VC_SESSION_FRAME)
			return e == VC_SESSION_READY ? 1 : e == VC_SESSION_FRAME ? 2 : 0;
		ssize_t n = recv(r->fd, chunk, sizeof(chunk), 0);
		if (n <= 0)
			return vc_error_set(err, VC_ECANCELED, "the end");
		vc_session_input(r->session, chunk, (size_t)n, NULL);
	}
}

static struct raw raw_open(uid_t as)
{
	struct vc_session_opts opts = {.host = "t1", .server_uid = geteuid()};
	struct raw r = {.fd = raw_connect(), .encode_as = as};
	r.session = vc_session_client(&opts, NULL);
	return r;
}

static void raw_close(struct raw *r)
{
	close(r->fd);
	vc_session_destroy(r->session);
	free(r->cred);
}

static void test_wrong_uid(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	struct raw r = raw_open(4710); // root's connection with a user's credential
	struct vc_frame frame;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(raw_run(&r, &frame, &err), 1); // a plain client has sent all it has to
	assert_int_equal(raw_run(&r, &frame, &err), 0);
	assert_int_equal(err.code, VC_EAUTH);
	assert_contains(err.text, "uid 4710");
	raw_close(&r);
}

static void test_replay(void **state)
{
	(void)state;
	struct vc_frame frame;
	struct vc_error err = VC_ERROR_INIT;
	struct raw first = raw_open(getuid());
	assert_int_equal(raw_run(&first, &frame, &err), 1);
	vc_autojson struct json_object *msg = vc_message_request(1, "vcd.ping", NULL, "", NULL);
	size_t len = 0;
	const char *text = vc_json_text(msg, &len);
	assert_int_equal(vc_session_send(first.session, VC_FRAME_RPC, text, len, NULL), 0);
	assert_int_equal(raw_run(&first, &frame, &err), 2); // it was good once
	struct raw again = raw_open(getuid());
	again.cred = strdup(first.cred);
	assert_int_equal(raw_run(&again, &frame, &err), 1);
	assert_int_equal(raw_run(&again, &frame, &err), 0);
	assert_int_equal(err.code, VC_EAUTH);
	raw_close(&again);
	raw_close(&first);
}

static void test_speaking_for_others(void **state)
{
	(void)state;
	struct vc_frame frame;
	struct vc_error err = VC_ERROR_INIT;
	struct raw r = raw_open(getuid());
	uid_t other = 4710;
	vc_autojson struct json_object *msg = vc_message_request(1, "vcd.ping", NULL, "", &other);
	size_t len = 0;
	const char *text = vc_json_text(msg, &len);
	assert_int_equal(raw_run(&r, &frame, &err), 1);
	assert_int_equal(vc_session_send(r.session, VC_FRAME_RPC, text, len, NULL), 0);
	assert_int_equal(raw_run(&r, &frame, &err), 2);
	struct vc_message m;
	assert_int_equal(vc_message_parse(frame.body, frame.len, &m, NULL), 0);
	assert_int_equal(m.kind, VC_MESSAGE_ERROR);
	assert_int_equal(m.error.code, VC_EDENIED);
	vc_message_clear(&m);
	raw_close(&r);
}

static void test_user_limit(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	write_conf("max-clients-per-user = 2\n");
	kill(vcd_pid, SIGHUP);
	wait_log("vcd.conf is loaded");
	pid_t pid = fork();
	if (pid == 0) {
		struct vc_client_opts opts = {.path = socket_path, .munge_socket = munged.socket};
		struct vc_error err = VC_ERROR_INIT;
		if (setuid(4710) < 0)
			_exit(9);
		struct vc_client *a = vc_client_connect(&opts, &err), *b = vc_client_connect(&opts, &err);
		struct vc_client *c = vc_client_connect(&opts, &err);
		int third = c ? vc_client_call(c, "vcd.ping", NULL, TEST_LIMIT_MS, NULL, NULL, NULL, &err) : -1;
		_exit(a && b && third < 0 && err.code == VC_EBUSY ? 0 : 1);
	}
	assert_int_equal(wait_exit(pid), 0);
	write_conf("");
}

static void test_reload(void **state)
{
	(void)state;
	write_conf("log-level = shout\n");
	kill(vcd_pid, SIGHUP);
	wait_log("the old configuration stays");
	assert_int_equal(ping(), 0);
	write_conf("hv-threads = 7\n");
	kill(vcd_pid, SIGHUP);
	wait_log("restart vcd to change hv-threads");
	write_conf("");
	assert_int_equal(ping(), 0);
}

static void test_second_vcd(void **state)
{
	(void)state;
	char *argv[] = {VCD_PATH, "-F", "-c", conf_path, NULL};
	assert_int_equal(wait_exit(spawn(argv, log_path)), 1);
	wait_log("another vcd runs on this host");
	assert_int_equal(ping(), 0); // its socket is still the first one's
}

static void test_kill_and_stop(void **state)
{
	(void)state;
	assert_int_equal(vcd_stop(SIGKILL), 128 + SIGKILL);
	assert_int_equal(vcd_start(), 0); // over the dead one's socket, lock and database
	assert_int_equal(ping(), 0);
	struct vc_client_opts opts = {.path = socket_path, .munge_socket = munged.socket};
	vc_autoclient struct vc_client *c = vc_client_connect(&opts, NULL);
	assert_int_equal(vcd_stop(SIGTERM), 0); // with a client connected
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(vc_client_call(c, "vcd.ping", NULL, TEST_LIMIT_MS, NULL, NULL, NULL, &err), -1);
	assert_int_equal(err.code, VC_ECANCELED);
	assert_int_equal(access(socket_path, F_OK), -1);
	assert_int_equal(vcd_start(), 0);
	assert_int_equal(ping(), 0);
}

static void test_conf_check(void **state)
{
	(void)state;
	char *argv[] = {VCD_PATH, "-t", "-c", conf_path, NULL};
	assert_int_equal(wait_exit(spawn(argv, log_path)), 0);
	write_conf("prot = 1\n");
	assert_int_equal(wait_exit(spawn(argv, log_path)), 1);
	wait_log("vcd.conf:10: no such option 'prot'");
	write_conf("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_methods),
		cmocka_unit_test(test_ping),	    cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_wrong_uid),   cmocka_unit_test(test_replay),
		cmocka_unit_test(test_speaking_for_others), cmocka_unit_test(test_user_limit),
		cmocka_unit_test(test_reload),	    cmocka_unit_test(test_second_vcd),
		cmocka_unit_test(test_kill_and_stop), cmocka_unit_test(test_conf_check),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
