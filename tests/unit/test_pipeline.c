// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/pipe: chains of hosts in one process, with real stores, threads and sealed sessions, and a munge that is a fake;
// then single peers that break the protocol.
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/session.h"
#include "vcd/image/chunks.h"
#include "vcd/image/holding.h"
#include "vcd/image/store.h"
#include "vcd/pipe/chain.h"
#include "vcd/pipe/pipe_frame.h"
#include "vcd/pipe/pipe_link.h"
#include "vcd/pipe/pipeline.h"

#define NODES 5
#define CHUNKS 64u
#define WAIT_S 60 // until a thread has come so far, on a machine that is busy with other tests

struct node {
	char name[16], dir[128];
	struct store *store;
	struct pipeline *_Atomic pipeline; // dial() looks at it in threads of other nodes
	_Atomic bool unreachable;
	int listen_peer; // when a test plays this host: its end of the next connection
	struct vc_session *peer_session;
	_Atomic bool dialed;
	bool played;
};

struct env {
	char dir[64];
	struct node node[NODES];
};

static struct env *the_env; // dial() has only a node's context

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int setup(void **state)
{
	struct env *e = calloc(1, sizeof(*e));
	snprintf(e->dir, sizeof(e->dir), "/tmp/vc-test-pipe-XXXXXX");
	assert_non_null(mkdtemp(e->dir));
	for (int i = 0; i < NODES; i++) {
		struct node *n = &e->node[i];
		struct vc_error err = VC_ERROR_INIT;
		snprintf(n->name, sizeof(n->name), "n%d", i + 8); // n8, n9, n10: by value, not by letter
		snprintf(n->dir, sizeof(n->dir), "%s/%s", e->dir, n->name);
		if (store_open(n->dir, &n->store, NULL, &err) < 0)
			fail_msg("%s", err.text);
		n->listen_peer = -1;
	}
	*state = the_env = e;
	return 0;
}

static void nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static void wait_phase(struct pipeline *p, enum pipeline_phase phase, struct pipeline_status *s)
{
	uint64_t end = pipe_now_ms() + WAIT_S * 1000;
	for (pipeline_status(p, s); s->phase != phase; pipeline_status(p, s)) {
		if (pipe_now_ms() > end || (s->phase == PIPELINE_ENDED && phase != PIPELINE_ENDED))
			fail_msg("phase %d instead of %d: held %zu of %zu, %s", s->phase, phase, s->held, s->total, s->error.text);
		nap();
	}
}

static void end_node(struct node *n)
{
	struct pipeline_status s;
	if (!n->pipeline)
		return;
	n->unreachable = true;
	pipeline_stop(n->pipeline);
	wait_phase(n->pipeline, PIPELINE_ENDED, &s);
	pipeline_unref(n->pipeline);
	n->pipeline = NULL;
}

static int teardown(void **state)
{
	struct env *e = *state;
	for (int i = 0; i < NODES; i++)
		e->node[i].unreachable = true;
	for (int i = 0; i < NODES; i++)
		end_node(&e->node[i]);
	for (int i = 0; i < 100; i++)
		nap(); // threads that dial end by themselves
	for (int i = 0; i < NODES; i++) {
		store_close(e->node[i].store);
		vc_cleanup_close(&e->node[i].listen_peer);
		vc_session_destroy(e->node[i].peer_session);
	}
	nftw(e->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	free(e);
	return 0;
}

// --- connections ------------------------------------------------------------------------------------------------------

static void move_bytes(struct vc_session *from, struct vc_session *to)
{
	struct vc_buf *out = vc_session_output(from);
	if (out->len)
		assert_int_equal(vc_session_input(to, vc_buf_head(out), out->len, NULL), 0);
	vc_buf_consume(out, out->len);
}

static bool step(struct vc_session *s)
{
	struct vc_frame frame;
	switch (vc_session_next(s, &frame, NULL)) {
	case VC_SESSION_ENCODE: {
		vc_autofree char *copy = strdup(vc_session_payload(s));
		vc_session_encoded(s, copy);
		return false;
	}
	case VC_SESSION_DECODE: {
		vc_autofree char *copy = strdup(vc_session_cred(s));
		vc_session_decoded(s, 0, copy, strlen(copy));
		return false;
	}
	case VC_SESSION_READY:
		return true;
	default:
		return false;
	}
}

static void sessions(const char *client, const char *server, struct vc_session **ret_client, struct vc_session **ret_server)
{
	struct vc_session_opts so = {.sealed = true, .host = server}, co = {.sealed = true, .host = client, .peer = true};
	struct vc_session *s = vc_session_server(&so, NULL), *c = vc_session_client(&co, NULL);
	bool s_ready = false, c_ready = false;
	for (int i = 0; i < 64 && !(s_ready && c_ready); i++) {
		move_bytes(s, c);
		c_ready = step(c) || c_ready;
		move_bytes(c, s);
		s_ready = step(s) || s_ready;
	}
	assert_true(s_ready && c_ready);
	move_bytes(s, c);
	move_bytes(c, s);
	*ret_client = c;
	*ret_server = s;
}

static struct node *find_node(const char *name)
{
	for (int i = 0; i < NODES; i++) {
		if (strcmp(the_env->node[i].name, name) == 0)
			return &the_env->node[i];
	}
	return NULL;
}

static int dial(void *ctx, const char *host, enum chain_ask how, int *ret_fd, struct vc_session **ret_session, struct vc_error *err)
{
	const struct node *self = ctx;
	struct node *to = find_node(host);
	struct pipeline_status s = {.phase = PIPELINE_FETCHING};
	if (to->pipeline)
		pipeline_status(to->pipeline, &s);
	if (to->unreachable || (!to->pipeline && !to->played) || (how == CHAIN_COMPLETE && s.phase != PIPELINE_COMPLETE))
		return vc_error_set(err, VC_EHOST, "host %s has it not", host);
	int fds[2];
	struct vc_session *server = NULL;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		return vc_error_errno(err, "socketpair");
	sessions(self->name, host, ret_session, &server);
	*ret_fd = fds[0];
	if (to->played) {
		to->listen_peer = fds[1];
		to->peer_session = server;
		to->played = false;
		to->dialed = true;
		return 0;
	}
	pipeline_add(to->pipeline, fds[1], server, self->name);
	return 0;
}

static bool probe(void *ctx, const char *host)
{
	(void)ctx;
	return !find_node(host)->unreachable;
}

static void nothing(void *ctx)
{
	(void)ctx;
}

static const struct pipeline_ops ops = {.dial = dial, .probe = probe, .changed = nothing, .release = nothing};

// --- images -----------------------------------------------------------------------------------------------------------

enum content { RANDOM, TEXT };

// CHUNKS chunks of which every 16th is a hole; those from first on come from `other` where it is not NULL.
static void make_raw(const char *path, enum content content, uint8_t *keep, const uint8_t *other, size_t changed)
{
	vc_autofree uint8_t *data = calloc(CHUNKS, IMAGE_CHUNK);
	for (size_t i = 0; i < CHUNKS; i++) {
		uint8_t *p = data + i * IMAGE_CHUNK;
		if (i % 16 == 15)
			continue;
		if (other && i >= changed)
			memcpy(p, other + i * IMAGE_CHUNK, IMAGE_CHUNK);
		else if (content == RANDOM)
			for (size_t k = 0; k < IMAGE_CHUNK; k += 256)
				assert_int_equal(getrandom(p + k, 256, 0), 256);
		else
			for (size_t k = 0; k < IMAGE_CHUNK; k++)
				p[k] = (uint8_t)("the same words again "[(k + i) % 21] + (k % 1024 ? 0 : (int)i));
	}
	vc_autoclose int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(pwrite(fd, data, (size_t)CHUNKS * IMAGE_CHUNK, 0), CHUNKS * IMAGE_CHUNK);
	if (keep)
		memcpy(keep, data, (size_t)CHUNKS * IMAGE_CHUNK);
}

static struct store_entry publish(struct node *n, enum content content, uint8_t *keep, const uint8_t *other, size_t changed)
{
	char dir[160], path[192];
	struct vc_error err = VC_ERROR_INIT;
	struct store_entry entry = {.name = ""};
	static int count;
	char name[16];
	snprintf(name, sizeof(name), "im%d", ++count);
	struct store_name sn = {.name = name};
	snprintf(dir, sizeof(dir), "%s/build", n->dir);
	assert_true(mkdir(dir, 0700) == 0 || errno == EEXIST);
	snprintf(path, sizeof(path), "%s/root.raw", dir);
	make_raw(path, content, keep, other, changed);
	if (store_publish(n->store, dir, &sn, &entry, &err) < 0)
		fail_msg("%s", err.text);
	return entry;
}

static void serve(struct node *n, const char *digest)
{
	struct vc_error err = VC_ERROR_INIT;
	struct pipeline_args a = {.store = n->store, .ops = &ops, .ctx = n};
	memcpy(a.digest, digest, sizeof(a.digest));
	assert_int_equal(holding_open(n->store, digest, &a.holding, &err), 0);
	n->pipeline = pipeline_start(&a, &err);
	assert_non_null(n->pipeline);
}

static void fetch(struct env *e, struct node *n, const char *digest)
{
	struct vc_error err = VC_ERROR_INIT;
	const char *hosts[NODES];
	for (int i = 0; i < NODES; i++)
		hosts[i] = e->node[NODES - 1 - i].name;
	struct pipeline_args a = {.store = n->store, .ops = &ops, .ctx = n};
	memcpy(a.digest, digest, sizeof(a.digest));
	a.chain = chain_create(NULL, hosts, NODES, n->name, NULL, &err);
	assert_non_null(a.chain);
	n->pipeline = pipeline_start(&a, &err);
	assert_non_null(n->pipeline);
}

static struct pipeline_status complete(struct node *n, const char *digest)
{
	struct vc_error err = VC_ERROR_INIT;
	struct pipeline_status s;
	wait_phase(n->pipeline, PIPELINE_COMPLETE, &s);
	if (holding_publish(pipeline_holding(n->pipeline), &err) < 0 || store_verify(n->store, digest, &err) < 0)
		fail_msg("%s: %s", n->name, err.text);
	return s;
}

#define DATA_CHUNKS (CHUNKS - CHUNKS / 16)
#define DATA_BYTES ((uint64_t)DATA_CHUNKS * IMAGE_CHUNK)

// --- chains -----------------------------------------------------------------------------------------------------------

static void chain_copies_once_per_link(void **state)
{
	struct env *e = *state;
	struct store_entry im = publish(&e->node[0], RANDOM, NULL, NULL, 0);
	serve(&e->node[0], im.digest);
	for (int i = 1; i < NODES; i++)
		fetch(e, &e->node[i], im.digest);
	for (int i = 1; i < NODES; i++) {
		struct pipeline_status s = complete(&e->node[i], im.digest);
		assert_in_range(s.bytes_in, DATA_BYTES, DATA_BYTES + 65536); // the list is the rest
		assert_int_equal(s.bypassed, 0);
	}
	struct pipeline_status head;
	pipeline_status(e->node[0].pipeline, &head);
	assert_in_range(head.bytes_out, DATA_BYTES, DATA_BYTES + 65536);
}

static void compressed_once_and_relayed(void **state)
{
	struct env *e = *state;
	struct store_entry im = publish(&e->node[0], TEXT, NULL, NULL, 0);
	serve(&e->node[0], im.digest);
	for (int i = 1; i < NODES; i++)
		fetch(e, &e->node[i], im.digest);
	for (int i = 1; i < NODES; i++)
		assert_true(complete(&e->node[i], im.digest).bytes_in < DATA_BYTES / 10);
}

// The second image shares all chunks but 8 with the first; one host in the middle has nothing.
static void only_what_lacks_is_sent(void **state)
{
	struct env *e = *state;
	vc_autofree uint8_t *data = malloc((size_t)CHUNKS * IMAGE_CHUNK);
	struct store_entry first = publish(&e->node[0], RANDOM, data, NULL, 0);
	serve(&e->node[0], first.digest);
	for (int i = 1; i < NODES; i++) {
		if (i == 2)
			continue;
		fetch(e, &e->node[i], first.digest);
		complete(&e->node[i], first.digest);
	}
	for (int i = 0; i < NODES; i++) {
		end_node(&e->node[i]);
		e->node[i].unreachable = false;
	}
	struct store_entry second = publish(&e->node[0], RANDOM, NULL, data, 8);
	serve(&e->node[0], second.digest);
	for (int i = 1; i < NODES; i++)
		fetch(e, &e->node[i], second.digest);
	for (int i = 1; i < NODES; i++) {
		struct pipeline_status s = complete(&e->node[i], second.digest);
		uint64_t lacked = i == 2 ? DATA_BYTES : (uint64_t)8 * IMAGE_CHUNK;
		assert_in_range(s.bytes_in, lacked, lacked + 65536);
		assert_int_equal(s.adopted, i == 2 ? 0 : DATA_BYTES - 8 * IMAGE_CHUNK);
	}
}

static void a_member_that_ends_is_bypassed(void **state)
{
	struct env *e = *state;
	struct pipeline_status s;
	struct store_entry im = publish(&e->node[0], RANDOM, NULL, NULL, 0);
	for (int i = 1; i < NODES; i++)
		fetch(e, &e->node[i], im.digest); // nobody has it yet: they go round
	serve(&e->node[0], im.digest);
	uint64_t end = pipe_now_ms() + WAIT_S * 1000;
	for (pipeline_status(e->node[4].pipeline, &s); !s.held && pipe_now_ms() < end; pipeline_status(e->node[4].pipeline, &s))
		nap();
	end_node(&e->node[2]);
	for (int i = 1; i < NODES; i++) {
		if (i != 2)
			complete(&e->node[i], im.digest);
	}
}

static void a_late_one_is_served_by_its_neighbour(void **state)
{
	struct env *e = *state;
	struct store_entry im = publish(&e->node[0], RANDOM, NULL, NULL, 0);
	serve(&e->node[0], im.digest);
	fetch(e, &e->node[2], im.digest);
	complete(&e->node[2], im.digest);
	end_node(&e->node[0]); // the head is gone: any host with the image will do
	fetch(e, &e->node[3], im.digest);
	complete(&e->node[3], im.digest);
	fetch(e, &e->node[1], im.digest); // before them in the chain: they are asked as hosts that have all of it
	complete(&e->node[1], im.digest);
}

static void damage(struct node *n, const char *digest, size_t chunk)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s/root.raw", n->dir, digest);
	assert_int_equal(chmod(path, 0600), 0);
	vc_autoclose int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "x", 1, (off_t)(chunk * IMAGE_CHUNK)), 1);
}

// A chunk that is damaged on a sender's disk is found as it is read; the receiver takes it from somebody else.
static void damage_on_disk_is_not_sent(void **state)
{
	struct env *e = *state;
	struct pipeline_status s;
	struct store_entry im = publish(&e->node[0], RANDOM, NULL, NULL, 0);
	serve(&e->node[0], im.digest);
	fetch(e, &e->node[1], im.digest);
	complete(&e->node[1], im.digest);
	damage(&e->node[1], im.digest, 3);
	fetch(e, &e->node[2], im.digest); // from n9, whose chunk 3 is bad, then from n8
	s = complete(&e->node[2], im.digest);
	assert_int_equal(s.bypassed, 1);
	pipeline_status(e->node[1].pipeline, &s);
	assert_true(s.damaged);
}

// Chunks 3 and 15 (a hole) are wrong on disk: found, fetched from a neighbour, written into their place in the published file.
static void damage_is_repaired_in_place(void **state)
{
	struct env *e = *state;
	struct vc_error err = VC_ERROR_INIT;
	struct holding_damage found;
	struct stat before, after;
	char path[256];
	struct store_entry im = publish(&e->node[0], RANDOM, NULL, NULL, 0);
	struct node *n = &e->node[1];
	serve(&e->node[0], im.digest);
	fetch(e, n, im.digest);
	complete(n, im.digest);
	end_node(n);
	n->unreachable = false;
	damage(n, im.digest, 15);
	damage(n, im.digest, 3);
	snprintf(path, sizeof(path), "%s/%s/root.raw", n->dir, im.digest);
	assert_int_equal(stat(path, &before), 0);
	struct pipeline_args a = {.store = n->store, .ops = &ops, .ctx = n};
	memcpy(a.digest, im.digest, sizeof(a.digest));
	assert_int_equal(holding_open_for_repair(n->store, im.digest, &a.holding, &err), 0);
	holding_check(a.holding, &found);
	assert_int_equal(found.chunks, 2);
	assert_int_equal(found.first_byte, 3 * IMAGE_CHUNK);
	a.chain = chain_create(e->node[0].name, (const char *[]){n->name}, 1, n->name, NULL, &err);
	n->pipeline = pipeline_start(&a, &err);
	assert_non_null(n->pipeline);
	struct pipeline_status s = complete(n, im.digest);
	assert_in_range(s.bytes_in, IMAGE_CHUNK, 2 * IMAGE_CHUNK + 1024); // no list
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
}

static void adopted_damage_is_fetched(void **state)
{
	struct env *e = *state;
	vc_autofree uint8_t *data = malloc((size_t)CHUNKS * IMAGE_CHUNK);
	struct store_entry first = publish(&e->node[0], RANDOM, data, NULL, 0);
	serve(&e->node[0], first.digest);
	fetch(e, &e->node[1], first.digest);
	complete(&e->node[1], first.digest);
	end_node(&e->node[0]);
	end_node(&e->node[1]);
	e->node[0].unreachable = e->node[1].unreachable = false;
	damage(&e->node[1], first.digest, 20);
	struct store_entry second = publish(&e->node[0], RANDOM, NULL, data, 8);
	serve(&e->node[0], second.digest);
	fetch(e, &e->node[1], second.digest);
	struct pipeline_status s = complete(&e->node[1], second.digest);
	assert_in_range(s.bytes_in, 9 * IMAGE_CHUNK, 9 * IMAGE_CHUNK + 65536);
}

static void nobody_has_it(void **state)
{
	struct env *e = *state;
	struct pipeline_status s;
	char digest[DIGEST_HEX_LEN];
	memset(digest, 'a', sizeof(digest));
	digest[DIGEST_HEX_LEN - 1] = '\0';
	fetch(e, &e->node[1], digest);
	nap();
	pipeline_status(e->node[1].pipeline, &s);
	assert_int_equal(s.phase, PIPELINE_FETCHING); // it goes on asking for PIPE_ORPHAN_MS
	end_node(&e->node[1]);
	assert_false(store_has(e->node[1].store, digest));
}

// --- a predecessor that breaks the protocol: the test plays n8, n9 fetches ----------------------------------------------

struct seen {
	bool list, want, closed, got_list, slow;
};

static int see(void *ctx, const struct pipe_msg *m, struct vc_error *err)
{
	struct seen *seen = ctx;
	(void)err;
	seen->list = seen->list || m->type == PIPE_LIST;
	seen->want = seen->want || m->type == PIPE_WANT;
	seen->got_list = seen->got_list || (m->type == PIPE_BEGIN && m->head.list);
	seen->slow = seen->slow || m->type == PIPE_SLOW;
	return 0;
}

static struct pipe_link *play(struct env *e, const char *digest)
{
	struct node *n = &e->node[0];
	uint64_t end = pipe_now_ms() + WAIT_S * 1000;
	n->dialed = false;
	n->played = true;
	if (!e->node[1].pipeline)
		fetch(e, &e->node[1], digest);
	while (!n->dialed && pipe_now_ms() < end)
		nap();
	assert_true(n->dialed);
	struct vc_error err = VC_ERROR_INIT;
	struct pipe_link *l = pipe_link_create(vc_steal_fd(&n->listen_peer), vc_steal(&n->peer_session), "n9", &err);
	assert_non_null(l);
	return l;
}

static void wait_for(struct pipe_link *l, struct seen *seen, const bool *what)
{
	struct vc_error err = VC_ERROR_INIT;
	uint64_t end = pipe_now_ms() + WAIT_S * 1000;
	while (!*what && pipe_now_ms() < end) {
		if (pipe_link_pending(l, see, seen, &err) < 0 || pipe_link_flush(l, &err) < 0 || pipe_link_read(l, see, seen, &err) < 0)
			seen->closed = true;
		if (seen->closed && what != &seen->closed)
			fail_msg("closed: %s", err.text);
		nap();
	}
	assert_true(*what);
}

static void send_list(struct pipe_link *l, struct store *s, const char *digest)
{
	struct chunks *list = NULL;
	struct pipe_frame f = {.data = NULL};
	assert_int_equal(store_chunks(s, digest, &list, NULL), 0);
	size_t n = chunks_count(list) * DIGEST_LEN;
	struct pipe_head h = {.list = true, .raw = (uint32_t)(12 + 2 + n)};
	vc_autofree uint8_t *raw = malloc(h.raw);
	vc_put_be64(raw, chunks_size(list));
	vc_put_be32(raw + 8, 2);
	memcpy(raw + 12, "{}", 2);
	memcpy(raw + 14, chunks_bytes(list), n);
	assert_int_equal(pipe_frame_raw(&h, raw, &f, NULL), 0);
	assert_int_equal(pipe_link_send_frame(l, &f, NULL), 0);
	pipe_frame_clear(&f);
	chunks_destroy(list);
}

static struct pipe_link *play_to_wants(struct env *e, const char *digest, struct seen *seen)
{
	struct pipe_link *l = play(e, digest);
	wait_for(l, seen, &seen->list);
	send_list(l, e->node[4].store, digest);
	wait_for(l, seen, &seen->want);
	return l;
}

static void send_chunk(struct pipe_link *l, uint32_t chunk, uint8_t fill)
{
	vc_autofree uint8_t *data = malloc(IMAGE_CHUNK);
	memset(data, fill, IMAGE_CHUNK);
	struct pipe_frame f = {.head = {.n = 1, .raw = IMAGE_CHUNK, .encoded = IMAGE_CHUNK, .chunk = {chunk}}, .data = data,
			       .got = IMAGE_CHUNK};
	assert_int_equal(pipe_link_send_frame(l, &f, NULL), 0);
}

// n12 has the image and is asked in the end: whatever the liar did, the result is right.
static void is_left(struct env *e, struct pipe_link *l, struct seen *seen, const char *digest, bool blamed)
{
	wait_for(l, seen, &seen->closed);
	pipe_link_destroy(l);
	serve(&e->node[4], digest);
	struct pipeline_status s = complete(&e->node[1], digest);
	assert_string_equal(s.bad_host, blamed ? "n8" : "");
	assert_true(s.bypassed > 0);
}

static void wrong_bytes_are_blamed_on_their_sender(void **state)
{
	struct env *e = *state;
	struct seen seen = {.list = false};
	struct store_entry im = publish(&e->node[4], RANDOM, NULL, NULL, 0);
	struct pipe_link *l = play_to_wants(e, im.digest, &seen);
	send_chunk(l, 0, 'x');
	send_chunk(l, 1, 'x');
	is_left(e, l, &seen, im.digest, true);
}

// One that says that it got them wrong itself is not blamed; nor is it believed for ever.
static void announced_bad_bytes_are_forgiven(void **state)
{
	struct env *e = *state;
	struct seen seen = {.list = false};
	struct store_entry im = publish(&e->node[4], RANDOM, NULL, NULL, 0);
	struct pipe_link *l = play_to_wants(e, im.digest, &seen);
	struct pipe_msg abort = {.type = PIPE_ABORT, .bad = true};
	for (uint32_t i = 0; i <= PIPE_BAD_MAX; i++) {
		send_chunk(l, i, 'x');
		assert_int_equal(pipe_link_send(l, &abort, NULL), 0);
	}
	is_left(e, l, &seen, im.digest, false);
}

static void breach(struct env *e, void (*what)(struct pipe_link *l), bool blamed)
{
	struct seen seen = {.list = false};
	struct store_entry im = publish(&e->node[4], RANDOM, NULL, NULL, 0);
	struct pipe_link *l = play_to_wants(e, im.digest, &seen);
	what(l);
	is_left(e, l, &seen, im.digest, blamed);
}

static void chunk_past_the_end(struct pipe_link *l)
{
	send_chunk(l, CHUNKS, 'x');
}

static void endless_frame(struct pipe_link *l)
{
	struct pipe_msg begin = {.type = PIPE_BEGIN, .head = {.n = 1, .raw = IMAGE_CHUNK, .encoded = IMAGE_CHUNK}};
	static uint8_t piece[PIPE_PIECE_MAX];
	struct pipe_msg m = {.type = PIPE_PIECE, .data = piece, .len = sizeof(piece)};
	assert_int_equal(pipe_link_send(l, &begin, NULL), 0);
	for (int i = 0; i < 6; i++)
		pipe_link_send(l, &m, NULL);
}

static void early_end(struct pipe_link *l)
{
	struct pipe_msg end = {.type = PIPE_END, .count = 99};
	assert_int_equal(pipe_link_send(l, &end, NULL), 0);
}

static void wrong_direction(struct pipe_link *l)
{
	assert_int_equal(pipe_link_send_type(l, PIPE_LIST, NULL), 0);
}

static void breach_past_the_end(void **state)
{
	breach(*state, chunk_past_the_end, false);
}

static void breach_endless(void **state)
{
	breach(*state, endless_frame, true);
}

static void breach_early_end(void **state)
{
	breach(*state, early_end, false);
}

static void breach_direction(void **state)
{
	breach(*state, wrong_direction, false);
}

static void list_of_another_image(void **state)
{
	struct env *e = *state;
	struct seen seen = {.list = false};
	struct store_entry im = publish(&e->node[4], RANDOM, NULL, NULL, 0), other = publish(&e->node[4], RANDOM, NULL, NULL, 0);
	struct pipe_link *l = play(e, im.digest);
	wait_for(l, &seen, &seen.list);
	send_list(l, e->node[4].store, other.digest);
	is_left(e, l, &seen, im.digest, false);
}

// --- slow hosts ---------------------------------------------------------------------------------------------------------

// n8 serves with a limit that nobody reaches; the test plays n9, which does not read.
static void a_slow_successor_is_told(void **state)
{
	struct env *e = *state;
	struct vc_error err = VC_ERROR_INIT;
	struct node *n = &e->node[0];
	struct store_entry im = publish(n, RANDOM, NULL, NULL, 0);
	struct pipeline_args a = {.store = n->store, .ops = &ops, .ctx = n, .min_rate = 1u << 30};
	memcpy(a.digest, im.digest, sizeof(a.digest));
	assert_int_equal(holding_open(n->store, im.digest, &a.holding, &err), 0);
	n->pipeline = pipeline_start(&a, &err);
	struct vc_session *client, *server;
	struct seen seen = {.list = false};
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	sessions("n9", "n8", &client, &server);
	pipeline_add(n->pipeline, fds[1], server, "n9");
	struct pipe_link *l = pipe_link_create(fds[0], client, "n8", &err);
	static const uint8_t all[CHUNKS / 8] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	struct pipe_msg want = {.type = PIPE_WANT, .data = all, .len = sizeof(all)};
	assert_int_equal(pipe_link_send_type(l, PIPE_LIST, NULL), 0);
	wait_for(l, &seen, &seen.got_list);
	assert_int_equal(pipe_link_send(l, &want, NULL), 0);
	assert_int_equal(pipe_link_flush(l, NULL), 0);
	uint64_t end = pipe_now_ms() + PIPE_SLOW_MS + 500;
	while (pipe_now_ms() < end)
		nap(); // the receiver's pace is what is tested
	assert_false(seen.slow);
	wait_for(l, &seen, &seen.slow);
	pipe_link_destroy(l);
}

static void who_is_told_goes_to_the_tail(void **state)
{
	struct env *e = *state;
	struct seen seen = {.list = false};
	struct store_entry im = publish(&e->node[4], RANDOM, NULL, NULL, 0);
	struct pipe_link *l = play_to_wants(e, im.digest, &seen);
	assert_int_equal(pipe_link_send_type(l, PIPE_SLOW, NULL), 0);
	wait_for(l, &seen, &seen.closed);
	pipe_link_destroy(l);
	struct pipeline_status s;
	pipeline_status(e->node[1].pipeline, &s);
	assert_true(s.at_tail);
	fetch(e, &e->node[2], im.digest); // n10, behind it
	serve(&e->node[4], im.digest);
	complete(&e->node[2], im.digest);
	complete(&e->node[1], im.digest);
}

// --- messages and chains, pure ------------------------------------------------------------------------------------------

static void messages_are_checked(void **state)
{
	(void)state;
	static const struct {
		size_t len;
		uint8_t body[32];
	} bad[] = {
		{0, {0}}, {1, "?"}, {1, "P"}, {1, "X"}, {4, "L12"}, {5, "W0000"}, {2, "GG"}, {1, "E"}, {10, "B"},
		{11, {'B', 0, 9}},				     // more chunks than fit
		{11, {'B', 0, 0, 0, 1, 0, 0, 0, 1, 0, 0}},	     // no chunk
		{15, {'B', 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}},  // encoded 256, not compressed
		{15, {'B', 2, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}},  // longer than raw
		{11, {'B', 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, // an endless list
		{19, {'B', 2, 2, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 0, 5, 0, 0, 0, 5}}, // the same chunk twice
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(bad); i++) {
		struct pipe_msg m;
		struct vc_error err = VC_ERROR_INIT;
		if (pipe_msg_parse(bad[i].body, bad[i].len, &m, &err) == 0)
			fail_msg("message %zu was taken", i);
		assert_int_equal(err.code, VC_EPROTO);
	}
}

static void order_of_a_chain(void **state)
{
	(void)state;
	const char *hosts[] = {"n10", "n2", "n1", "n9", "n2"};
	static const char *const expected[] = {"n2", "n1", "ctl", "n10"};
	enum chain_ask how;
	struct chain *c = chain_create("ctl", hosts, VC_ARRAY_LEN(hosts), "n9", NULL, NULL);
	assert_int_equal(chain_length(c), 5);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < VC_ARRAY_LEN(expected); i++) {
			assert_string_equal(chain_next(c, &how), expected[i]);
			assert_int_equal(how, i == 3 ? CHAIN_COMPLETE : round ? CHAIN_NOW : CHAIN_WAIT);
		}
		assert_null(chain_next(c, &how));
		chain_restart(c);
	}
	assert_string_equal(chain_next(c, &how), "n2");
	chain_demote(c, "n2");
	assert_string_equal(chain_next(c, &how), "n1");
	chain_next(c, &how);
	chain_next(c, &how);
	assert_string_equal(chain_next(c, &how), "n2");
	chain_destroy(c);
}

static void chain_is(struct chain *c, const char *names)
{
	char text[128] = "";
	for (size_t i = 0; i < chain_length(c); i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "", chain_host(c, i));
	assert_string_equal(text, names);
}

static void order_by_topology(void **state)
{
	(void)state;
	const char *hosts[] = {"n1", "n2", "n3", "n10", "n11", "x"};
	char *const topology[] = {"n[10-11],gone", "n[2-3]", "n[1-11]", NULL}, *const broken[] = {"n[1-", NULL};
	enum chain_ask how;
	struct chain *c = chain_create("ctl", hosts, VC_ARRAY_LEN(hosts), "n10", topology, NULL);
	chain_is(c, "ctl n10 n11 n2 n3 n1 x");
	assert_true(chain_to_tail(c));
	assert_string_equal(chain_next(c, &how), "x");
	assert_int_equal(how, CHAIN_NOW);
	assert_string_equal(chain_next(c, &how), "n1");
	assert_false(chain_to_tail(c));
	chain_destroy(c);
	c = chain_create("ctl", hosts, VC_ARRAY_LEN(hosts), "x", topology, NULL);
	assert_false(chain_to_tail(c)); // the last one already
	chain_destroy(c);
	assert_null(chain_create("ctl", hosts, VC_ARRAY_LEN(hosts), "x", broken, NULL));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_are_checked),
		cmocka_unit_test(order_of_a_chain),
		cmocka_unit_test(order_by_topology),
		T(chain_copies_once_per_link),
		T(compressed_once_and_relayed),
		T(only_what_lacks_is_sent),
		T(a_member_that_ends_is_bypassed),
		T(a_late_one_is_served_by_its_neighbour),
		T(damage_on_disk_is_not_sent),
		T(damage_is_repaired_in_place),
		T(adopted_damage_is_fetched),
		T(nobody_has_it),
		T(wrong_bytes_are_blamed_on_their_sender),
		T(announced_bad_bytes_are_forgiven),
		T(breach_past_the_end),
		T(breach_endless),
		T(breach_early_end),
		T(breach_direction),
		T(list_of_another_image),
		T(a_slow_successor_is_told),
		T(who_is_told_goes_to_the_tail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
