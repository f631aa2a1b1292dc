// SPDX-License-Identifier: GPL-2.0-or-later
// A hostile user's client of vcd, for tests/system/tenant_users.bats: whatever the protocol lets one try.
//
//   hostile [-t HOST:PORT] methods JOB IMAGE        every method of vcd's own list, one line each: METHOD ROLE RESULT
//   hostile [-t HOST:PORT] frames                   bytes that are no protocol, before and after authentication
//   hostile hello FILE                              authenticates, and leaves its HELLO and credential in FILE
//   hostile replay FILE                             says the HELLO of FILE again, on a new connection
//   hostile connections N [HOLD-SECONDS]            opens N connections: how many are refused, and why
//   hostile requests N                              N requests at once on one connection: how many are refused
//   hostile flood SECONDS                           connections and requests as fast as they go
//
// A method without a row in `rows` ends the program with status 3: who adds a method says here what a stranger gets.
// The lines are the verdict's raw material; the test compares them for a stranger and for the owner.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/cred.h"
#include "libvc/frame.h"
#include "libvc/json.h"
#include "libvc/limits.h"
#include "libvc/message.h"
#include "libvc/parse.h"
#include "libvc/session.h"

#define LIMIT_MS 20000 // for any answer: a hang is a finding
#define ID "00000000000000000000000000000000"

// %J the job, %I the image.
static const struct row {
	const char *method, *params;
} rows[] = {
	{"cluster.grow", "{\"job\":%J,\"lease\":99,\"from\":1}"},
	{"cluster.host", "{\"cluster\":\"" ID "\",\"host\":\"n1\"}"},
	{"cluster.list", "{\"all\":true}"},
	{"cluster.evacuate", "{\"host\":\"n1\",\"dry_run\":true}"},
	{"cluster.migrate", "{\"job\":%J,\"ranks\":[0],\"dry_run\":true}"},
	{"cluster.shrink", "{\"job\":%J,\"lease\":99,\"deadline_ms\":0,\"reason\":\"x\"}"},
	{"cluster.show", "{\"job\":%J}"},
	{"cluster.resize", "{\"job\":%J,\"by\":0,\"dry_run\":true}"},
	{"cluster.status", "{\"slurm\":\"lab\",\"job\":%J}"},
	{"cluster.watch", "{\"job\":%J}"},
	{"elastic.set", "{\"job\":%J}"},
	{"elastic.show", "{\"job\":%J}"},
	{"event.list", "{\"job\":%J,\"limit\":1}"},
	{"event.member", "{\"cluster\":\"" ID "\",\"rank\":0,\"event\":\"down\",\"reason\":\"x\"}"},
	{"host.arrived", "{\"cluster\":\"" ID "\",\"rank\":0}"},
	{"host.boot", "{\"cluster\":\"" ID "\"}"},
	{"host.build", "{\"recipe\":{\"name\":\"x\",\"base\":{\"type\":\"nothing\"}},\"uid\":0,\"max_mib\":1}"},
	{"host.buildlog", "{\"uid\":0,\"name\":\"x\"}"},
	{"host.check", "{\"compute\":true}"},
	{"host.fail", "{\"slurm\":\"lab\",\"job\":%J,\"restart\":0,\"uid\":0,\"reason\":\"x\"}"},
	{"host.image", "{\"digest\":\"" ID ID "\",\"head\":\"n1\",\"hosts\":[\"n1\"]}"},
	{"host.fsck", "{\"repair\":true,\"head\":\"ctl\",\"hosts\":[\"n1\"]}"},
	{"host.estimate", "{\"cluster\":\"" ID "\",\"rank\":0}"},
	{"host.drop", "{\"cluster\":\"" ID "\",\"rank\":0}"},
	{"host.incoming", "{\"cluster\":\"" ID "\",\"rank\":0}"},
	{"host.inventory", "{}"},
	{"host.migrate", "{\"cluster\":\"" ID "\",\"rank\":0,\"to\":\"n2\"}"},
	{"host.moving", "{\"cluster\":\"" ID "\",\"rank\":0}"},
	{"host.stream", "{\"cluster\":\"" ID "\",\"rank\":0,\"what\":\"memory\"}"},
	{"event.view", "{\"cluster\":\"" ID "\",\"view\":{},\"gone\":[]}"},
	{"member.link", "{\"key\":\"" ID ID "\",\"slot\":1,\"seq\":1,\"udp\":1,\"tcp\":1}"},
	{"member.message", "{\"cluster\":\"" ID "\",\"data\":\"\"}"},
	{"member.fact", "{\"cluster\":\"" ID "\",\"event\":\"fail\",\"hosts\":[\"n1\"]}"},
	{"host.join", "{\"cluster\":\"" ID "\"}"},
	{"host.leave", "{\"cluster\":\"" ID "\"}"},
	{"host.load", "{}"},
	{"host.share", "{\"cluster\":\"0123456789abcdef0123456789abcdef\",\"members\":[]}"},
	{"host.pause", "{\"cluster\":\"" ID "\",\"pause\":true}"},
	{"host.look", "{\"cluster\":\"" ID "\",\"user\":\"alice\",\"files\":[\"/etc/passwd\"]}"},
	{"host.plan", "{\"plan\":{}}"},
	{"host.prepare", "{\"plan\":{}}"},
	{"host.release", "{\"slurm\":\"lab\",\"job\":%J,\"restart\":0}"},
	{"host.stage", "{\"cluster\":\"" ID "\",\"job\":%J}"},
	{"host.view", "{\"cluster\":\"" ID "\",\"view\":{}}"},
	{"image.build", "{\"recipe\":{\"name\":\"x\",\"base\":{\"type\":\"nothing\"}}}"},
	{"image.fsck", "{\"repair\":true,\"hosts\":[\"n1\"]}"},
	{"image.import", "{\"recipe\":{\"name\":\"x\",\"base\":{\"type\":\"nothing\"}}}"},
	{"image.list", "{}"},
	{"image.log", "{\"name\":\"%I\"}"},
	{"image.pull", "{\"digest\":\"" ID ID "\",\"complete\":true,\"wait_ms\":0}"},
	{"image.rm", "{\"name\":\"%I-not\"}"},
	{"image.show", "{\"name\":\"%I\"}"},
	{"image.stage", "{\"name\":\"%I\",\"hosts\":[\"n1\"]}"},
	{"image.want", "{\"image\":\"%I-not\",\"packages\":[]}"},
	{"job.changed", "{\"job\":%J}"},
	{"job.ensure", "{\"slurm\":\"lab\",\"job\":%J,\"restart\":0,\"spec\":\"{}\"}"},
	{"job.release", "{\"slurm\":\"lab\",\"job\":%J,\"restart\":0}"},
	{"lease.ensure", "{\"slurm\":\"lab\",\"job\":%J,\"restart\":0,\"lease\":1}"},
	{"lease.here", "{\"job\":%J}"},
	{"lease.list", "{\"job\":%J}"},
	{"lease.reclaim", "{\"job\":%J,\"hosts\":0}"},
	{"lease.request", "{\"job\":%J,\"hosts\":0}"},
	{"lease.offer", "{\"job\":%J,\"hosts\":0}"},
	{"lease.renew", "{\"job\":%J}"},
	{"lease.release", "{\"job\":%J}"},
	{"lease.term", "{\"job\":%J,\"lease\":99}"},
	{"lease.wait", "{\"job\":%J,\"lease\":99}"},
	{"share.release", "{\"job\":%J,\"restart\":0}"},
	{"site.check", "{}"},
	{"task.attach", "{\"job\":%J,\"restart\":0,\"rank\":0,\"kind\":\"exec\",\"session\":\"0123456789abcdef\",\"resume\":false}"},
	{"vcd.address", "{\"host\":\"n1\"}"},
	{"vcd.methods", "{}"},
	{"vcd.ping", "{}"},
};

static const char *tcp_host; // NULL: the unix socket
static int tcp_port;

static struct vc_client *connect_vcd(struct vc_error *err)
{
	return tcp_host ? vc_client_connect_tcp(tcp_host, tcp_port, NULL, err) : vc_client_connect(NULL, err);
}

static int fail(const char *what, const struct vc_error *err)
{
	printf("%s: %s\n", what, err->text);
	return 1;
}

// --- methods ---

static char *fill_in(const char *params, const char *job, const char *image)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	for (const char *p = params; out && *p; p++) {
		if (*p == '%')
			fputs(*++p == 'J' ? job : image, out);
		else
			fputc(*p, out);
	}
	if (out)
		fclose(out);
	return text;
}

static int stop_at_first(void *ctx, const char *method, struct json_object *params)
{
	(void)ctx, (void)method, (void)params;
	return 1; // a notification: the request was taken, and would go on
}

static int try_method(const char *method, const char *role, const char *job, const char *image)
{
	const struct row *row = NULL;
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++)
		row = strcmp(rows[i].method, method) == 0 ? &rows[i] : row;
	if (!row) {
		printf("%s %s NO-ROW\n", method, role);
		return 3;
	}
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char *text = fill_in(row->params, job, image);
	vc_autojson struct json_object *params = text ? vc_json_parse(text, strlen(text), &err) : NULL, *result = NULL;
	vc_autoclient struct vc_client *c = params ? connect_vcd(&err) : NULL; // an own connection for each
	if (!c)
		return fail(method, &err);
	int rc = vc_client_call(c, method, params, LIMIT_MS, stop_at_first, NULL, &result, &err);
	const char *answer = rc == 0 ? vc_json_text(result, NULL) : err.text;
	printf("%s %s %s %.200s\n", method, role, rc == 0 ? "ok" : vc_error_name(err.code), answer);
	return 0;
}

static int methods(const char *job, const char *image)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autoclient struct vc_client *c = connect_vcd(&err);
	vc_autojson struct json_object *result = NULL;
	struct json_object *list = NULL;
	int status = 0;
	if (!c || vc_client_call(c, "vcd.methods", NULL, LIMIT_MS, NULL, NULL, &result, &err) < 0 ||
	    vc_json_array(result, "methods", 1000, &list, &err) < 0)
		return fail("vcd.methods", &err);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		const char *name = "?", *role = "?";
		struct json_object *item = json_object_array_get_idx(list, i);
		vc_json_str(item, "method", VC_METHOD_MAX, &name, NULL);
		vc_json_str(item, "role", 16, &role, NULL);
		int rc = try_method(name, role, job, image);
		status = rc ? rc : status;
	}
	return status;
}

// --- raw connections ---

static int raw_tcp(void)
{
	char port[8];
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	snprintf(port, sizeof(port), "%d", tcp_port);
	if (getaddrinfo(tcp_host, port, &hints, &list) != 0)
		return -1;
	int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc = connect(fd, list->ai_addr, list->ai_addrlen);
	freeaddrinfo(list);
	return rc < 0 ? -1 : fd;
}

static int raw_connect(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = VC_SOCKET_PATH};
	struct timeval limit = {.tv_sec = LIMIT_MS / 1000};
	int fd = tcp_host ? raw_tcp() : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || (!tcp_host && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0))
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static int send_all(int fd, const void *data, size_t len)
{
	for (const char *p = data; len > 0;) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
		if (n <= 0)
			return -1; // it was closed on us
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

// Reads to the end: "closed" with the BYE's text, or "open" when the limit passed.
static const char *read_end(int fd, char *text, size_t size)
{
	vc_autobuf struct vc_buf in = VC_BUF_INIT(0);
	struct vc_frame frame;
	uint8_t piece[4096];
	ssize_t n;
	text[0] = '\0';
	while ((n = recv(fd, piece, sizeof(piece), 0)) > 0)
		vc_buf_append(&in, piece, (size_t)n);
	bool open = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
	while (vc_frame_peek(&in, 0, &frame, NULL) > 0) {
		if (frame.type == VC_FRAME_BYE)
			snprintf(text, size, "%.*s", (int)(frame.len < 300 ? frame.len : 300), (const char *)frame.body);
		else if (frame.type == VC_FRAME_SEALED)
			snprintf(text, size, "a sealed reason");
		vc_buf_consume(&in, vc_frame_size(&frame));
	}
	return open ? "open" : "closed";
}

struct raw {
	int fd;
	struct vc_session *s;
	struct vc_buf hello; // what the client said to authenticate
};

static int pump_out(struct raw *r)
{
	struct vc_buf *out = vc_session_output(r->s);
	vc_buf_append(&r->hello, vc_buf_head(out), out->len);
	int rc = send_all(r->fd, vc_buf_head(out), out->len);
	vc_buf_consume(out, out->len);
	return rc;
}

static int encode(struct raw *r, struct vc_error *err)
{
	const char *payload = vc_session_payload(r->s);
	vc_autofree char *cred = NULL;
	if (vc_cred_encode(NULL, vc_session_reader(r->s), payload, strlen(payload), &cred, err) < 0)
		return -1;
	vc_session_encoded(r->s, cred);
	return pump_out(r);
}

static int decode(struct raw *r, struct vc_error *err)
{
	struct vc_cred cred = {.uid = 0};
	if (vc_cred_decode(NULL, vc_session_cred(r->s), &cred, err) < 0)
		return -1;
	vc_session_decoded(r->s, cred.uid, cred.payload, cred.len);
	free(cred.payload);
	return 0;
}

static int read_some(struct raw *r, struct vc_error *err)
{
	uint8_t piece[4096];
	ssize_t n = recv(r->fd, piece, sizeof(piece), 0);
	return n > 0 ? vc_session_input(r->s, piece, (size_t)n, err) : vc_error_set(err, VC_ECANCELED, "the connection ended");
}

// Authenticates by hand, so that anything may follow.
static int authenticate(struct raw *r, struct vc_error *err)
{
	struct vc_session_opts opts = {.sealed = tcp_host, .host = "n1", .own_uid = getuid()};
	struct vc_frame frame;
	r->s = vc_session_client(&opts, err);
	r->fd = r->s ? raw_connect() : -1;
	if (r->fd < 0)
		return vc_error_errno(err, "connect");
	for (;;) {
		switch (vc_session_next(r->s, &frame, err)) {
		case VC_SESSION_NEED_INPUT:
			if (read_some(r, err) < 0)
				return -1;
			break;
		case VC_SESSION_ENCODE:
			if (encode(r, err) < 0)
				return -1;
			break;
		case VC_SESSION_DECODE:
			if (decode(r, err) < 0)
				return -1;
			break;
		case VC_SESSION_READY:
			return pump_out(r);
		default:
			return -1;
		}
	}
}

static void raw_end(struct raw *r)
{
	if (r->fd >= 0)
		close(r->fd);
	vc_session_destroy(r->s);
	vc_buf_clear(&r->hello);
}

// --- frames ---

static size_t head(uint8_t *p, unsigned type, unsigned version, uint32_t len)
{
	vc_put_be32(p, VC_FRAME_MAGIC);
	p[4] = (uint8_t)type;
	p[5] = 0;
	vc_put_be16(p + 6, (uint16_t)version);
	vc_put_be32(p + 8, len);
	return VC_FRAME_HEADER_LEN;
}

struct attack {
	const char *name;
	bool authenticated;
	unsigned type, version;
	uint32_t len;
	const char *body; // len bytes are announced, these are sent
};

#define NO_HEADER 99
static const struct attack attacks[] = {
	{"http", false, NO_HEADER, 0, 0, "GET / HTTP/1.1\r\nHost: vcd\r\n\r\n"},
	{"rpc-before-hello", false, VC_FRAME_RPC, VC_FRAME_VERSION, 2, "{}"},
	{"data-before-hello", false, VC_FRAME_DATA, VC_FRAME_VERSION, 2, "xx"},
	{"other-major", false, VC_FRAME_HELLO, 0x0700, 2, "{}"},
	{"unknown-type", false, 77, VC_FRAME_VERSION, 2, "{}"},
	{"hello-too-long", false, VC_FRAME_HELLO, VC_FRAME_VERSION, 0x7fffffff, "{"},
	{"hello-not-json", false, VC_FRAME_HELLO, VC_FRAME_VERSION, 3, "\xff\xfe\x00"},
	{"hello-no-munge", false, VC_FRAME_HELLO, VC_FRAME_VERSION, 45, "{\"cred\":\"MUNGE:no:\",\"role\":\"client\",\"host\":\"\"}"},
	{"rpc-too-long", true, VC_FRAME_RPC, VC_FRAME_VERSION, VC_RPC_BODY_MAX + 1, "{"},
	{"rpc-not-json", true, VC_FRAME_RPC, VC_FRAME_VERSION, 4, "\x00\x01\x02\x03"},
	{"rpc-too-deep", true, VC_FRAME_RPC, VC_FRAME_VERSION, 40, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["},
	{"data-unasked", true, VC_FRAME_DATA, VC_FRAME_VERSION, 4, "data"},
	{"second-hello", true, VC_FRAME_HELLO, VC_FRAME_VERSION, 2, "{}"},
};

static int attack(const struct attack *a)
{
	struct vc_error err = VC_ERROR_INIT;
	struct raw r = {.fd = -1};
	uint8_t bytes[256];
	char why[400];
	int rc = a->authenticated ? authenticate(&r, &err) : (r.fd = raw_connect()) < 0 ? -1 : 0;
	if (rc < 0) {
		raw_end(&r);
		return fail(a->name, &err);
	}
	size_t body = a->type == NO_HEADER ? strlen(a->body) : a->len < 200 ? a->len : strlen(a->body);
	size_t len = a->type == NO_HEADER ? 0 : head(bytes, a->type, a->version, a->len);
	memcpy(bytes + len, a->body, body);
	send_all(r.fd, bytes, len + body);
	const char *end = read_end(r.fd, why, sizeof(why));
	printf("%s %s %s\n", a->name, end, why);
	raw_end(&r);
	return 0;
}

// The same frame in whose place the attacks stand, from somebody who keeps to the protocol.
static int control(void)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autoclient struct vc_client *c = connect_vcd(&err);
	if (!c || vc_client_call(c, "vcd.ping", NULL, LIMIT_MS, NULL, NULL, NULL, &err) < 0)
		return fail("control", &err);
	puts("control ok");
	return 0;
}

// On TCP what follows authentication is sealed: a frame in the clear is already an attack.
static int frames(void)
{
	int status = 0;
	for (size_t i = 0; i < VC_ARRAY_LEN(attacks); i++)
		status |= attack(&attacks[i]);
	return status | control();
}

// --- credentials ---

static int hello(const char *path)
{
	struct vc_error err = VC_ERROR_INIT;
	struct raw r = {.fd = -1};
	int rc = authenticate(&r, &err);
	vc_autoclose int fd = rc < 0 ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, vc_buf_head(&r.hello), r.hello.len) != (ssize_t)r.hello.len) {
		raw_end(&r);
		return fail("hello", &err);
	}
	puts("hello ok");
	raw_end(&r);
	return 0;
}

static int replay(const char *path)
{
	static uint8_t bytes[VC_FRAME_HANDSHAKE_MAX];
	char why[400];
	vc_autoclose int file = open(path, O_RDONLY | O_CLOEXEC), fd = raw_connect();
	ssize_t n = file < 0 ? -1 : read(file, bytes, sizeof(bytes));
	if (n <= 0 || fd < 0) {
		perror(path);
		return 1;
	}
	send_all(fd, bytes, (size_t)n);
	const char *end = read_end(fd, why, sizeof(why));
	printf("replay %s %s\n", end, why);
	return 0;
}

// --- floods ---

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int connections(unsigned n, unsigned hold)
{
	vc_autofree struct vc_client **all = calloc(n, sizeof(struct vc_client *));
	unsigned open = 0, refused = 0;
	char first[200] = "";
	for (unsigned i = 0; all && i < n; i++) {
		struct vc_error err = VC_ERROR_INIT;
		all[i] = connect_vcd(&err);
		if (all[i] && vc_client_call(all[i], "vcd.ping", NULL, LIMIT_MS, NULL, NULL, NULL, &err) == 0) {
			open++;
			continue;
		}
		refused++;
		if (!first[0])
			snprintf(first, sizeof(first), "%s %.150s", vc_error_name(err.code), err.text);
	}
	printf("connections open %u refused %u %s\n", open, refused, first);
	fflush(stdout);
	sleep(hold); // what is held is the attack
	for (unsigned i = 0; all && i < n; i++)
		vc_client_destroy(all[i]);
	return 0;
}

// Watches that never end, so that they stay open.
static int requests(unsigned n, const char *job)
{
	struct vc_error err = VC_ERROR_INIT;
	struct raw r = {.fd = -1};
	struct vc_frame frame;
	unsigned busy = 0, other = 0;
	if (authenticate(&r, &err) < 0)
		return fail("requests", &err);
	for (unsigned i = 0; i < n; i++) {
		char text[160];
		int len = snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"cluster.watch\",\"params\":{\"job\":%s}}", i + 1, job);
		if (vc_session_send(r.s, VC_FRAME_RPC, text, (size_t)len, &err) < 0 || pump_out(&r) < 0)
			return fail("requests", &err);
	}
	for (uint64_t end = now_ms() + 3000; now_ms() < end;) {
		struct pollfd p = {.fd = r.fd, .events = POLLIN};
		if (poll(&p, 1, 200) > 0 && read_some(&r, &err) < 0)
			break;
		while (vc_session_next(r.s, &frame, &err) == VC_SESSION_FRAME) {
			bool is_error = memmem(frame.body, frame.len, "\"error\"", 7) != NULL;
			busy += is_error && memmem(frame.body, frame.len, "busy", 4);
			other += is_error && !memmem(frame.body, frame.len, "busy", 4);
		}
	}
	printf("requests %u busy %u other-errors %u\n", n, busy, other);
	raw_end(&r);
	return 0;
}

static int flood(unsigned seconds)
{
	unsigned long calls = 0, failed = 0;
	for (uint64_t end = now_ms() + seconds * 1000ull; now_ms() < end;) {
		vc_autoclient struct vc_client *c = connect_vcd(NULL);
		for (int i = 0; i < 20; i++) {
			if (c && vc_client_call(c, i % 2 ? "cluster.list" : "image.list", NULL, LIMIT_MS, NULL, NULL, NULL, NULL) == 0)
				calls++;
			else
				failed++;
		}
	}
	printf("flood calls %lu failed %lu\n", calls, failed);
	return 0;
}

static unsigned number(const char *text)
{
	uint64_t n = 0;
	return text && vc_parse_u64("number", text, 0, 100000, &n, NULL) == 0 ? (unsigned)n : 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc > 2 && strcmp(argv[1], "-t") == 0) {
		char *colon = strrchr(argv[2], ':');
		*colon = '\0';
		tcp_host = argv[2];
		tcp_port = (int)number(colon + 1);
		argc -= 2;
		argv += 2;
	}
	const char *verb = argc > 1 ? argv[1] : "", *a = argc > 2 ? argv[2] : NULL, *b = argc > 3 ? argv[3] : NULL;
	if (strcmp(verb, "methods") == 0 && b)
		return methods(a, b);
	if (strcmp(verb, "frames") == 0)
		return frames();
	if (strcmp(verb, "hello") == 0 && a)
		return hello(a);
	if (strcmp(verb, "replay") == 0 && a)
		return replay(a);
	if (strcmp(verb, "connections") == 0 && a)
		return connections(number(a), number(b));
	if (strcmp(verb, "requests") == 0 && b)
		return requests(number(a), b);
	if (strcmp(verb, "flood") == 0 && a)
		return flood(number(a));
	fputs("hostile: see the source\n", stderr);
	return 2;
}
