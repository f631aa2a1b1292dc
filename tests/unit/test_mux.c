// SPDX-License-Identifier: GPL-2.0-or-later
// Sessions across a relay that is killed again and again, and against peers that break the rules.
//
// The relay is what vcd is: it keeps nothing, forwards frames between a client's stream link and a guest's port link. All
// pipes are byte queues; a kill loses an arbitrary part of what is in them. Deterministic: everything follows a seed.
#include "tests/unit/test.h"

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/link.h"
#include "libvc/mux.h"

#define RESUME_LEN (VC_CHANNELS * 16)
#define BOOT_A "0123456789abcdef0123456789abcdef"
#define BOOT_B "fedcba9876543210fedcba9876543210"
#define PIPE_MAX 200000u // bytes in a pipe before frames are refused
#define SESSION 77u
#define STDIN_TOTAL (3u << 20)
#define STDOUT_TOTAL (4u << 20)
#define STDERR_TOTAL 100000u
#define MESSAGES 40u

// One byte of a stream, by channel and position: what arrives is checked without keeping what was sent.
static uint8_t pattern(int ch, uint64_t pos)
{
	return (uint8_t)((pos * 2654435761u) >> 13 ^ pos ^ (uint64_t)ch * 91);
}

struct pipe_end {
	struct vc_link *link;
	struct vc_buf out;
};

struct side; // client or server application

struct sim {
	unsigned seed;
	uint64_t now;
	struct pipe_end client, relay_client, relay_port, guest;
	bool attached; // the relay knows the client's session
	struct side *c, *s;
};

struct side {
	struct sim *sim;
	struct vc_mux *mux;
	struct vc_mux_session *session;
	struct pipe_end *pipe;
	uint64_t total[VC_CHANNELS], wrote[VC_CHANNELS], got[VC_CHANNELS];
	bool eof[VC_CHANNELS], starved[VC_CHANNELS];
	unsigned messages_sent, messages_got, opens, resets;
	bool acked;
	bool stop_reading; // a blocked consumer of channel 2
	char code[32];
};

static unsigned chance(struct sim *sim, unsigned n)
{
	return (unsigned)rand_r(&sim->seed) % n;
}

static void write_out(void *ctx, const struct iovec *iov, int n)
{
	struct pipe_end *p = ctx;
	if (n == 0)
		vc_buf_consume(&p->out, p->out.len);
	for (int i = 0; i < n; i++)
		assert_int_equal(vc_buf_append(&p->out, iov[i].iov_base, iov[i].iov_len), 0);
}

// ---- the application ----

static int op_send(void *ctx, void *route, struct vc_link_frame *f)
{
	struct side *s = ctx;
	(void)route;
	if (!s->pipe->link || s->pipe->out.len > PIPE_MAX)
		return -1;
	return vc_link_send(s->pipe->link, f);
}

static int op_open(void *ctx, struct vc_mux_session *session, const uint8_t *body, size_t len, struct vc_error *err)
{
	struct side *s = ctx;
	(void)body;
	if (len == 6)
		return vc_error_set(err, VC_EDENIED, "not you");
	s->opens++;
	s->session = session;
	return 0;
}

static void check(struct side *s, enum vc_channel ch, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != pattern(ch, s->got[ch] + i))
			fail_msg("channel %d differs at %llu", ch, (unsigned long long)(s->got[ch] + i));
	}
	s->got[ch] += len;
}

static size_t op_data(void *ctx, struct vc_mux_session *session, enum vc_channel ch, const uint8_t *data, size_t len)
{
	struct side *s = ctx;
	size_t take = s->stop_reading && ch == VC_CH_STDOUT ? 0 : chance(s->sim, 3) ? len : chance(s->sim, (unsigned)len + 1);
	(void)session;
	check(s, ch, data, take);
	return take;
}

static void op_eof(void *ctx, struct vc_mux_session *session, enum vc_channel ch)
{
	struct side *s = ctx;
	(void)session;
	assert_false(s->eof[ch]);
	s->eof[ch] = true;
}

static void op_message(void *ctx, struct vc_mux_session *session, const char *text, size_t len)
{
	struct side *s = ctx;
	(void)session;
	assert_int_equal(len, s->messages_got * 7919u % 200000u);
	for (size_t i = 0; i < len; i++)
		assert_int_equal((uint8_t)text[i], pattern(0, i));
	s->messages_got++;
}

static void op_writable(void *ctx, struct vc_mux_session *session, enum vc_channel ch)
{
	struct side *s = ctx;
	(void)session;
	s->starved[ch] = false;
}

static void op_acked(void *ctx, struct vc_mux_session *session)
{
	struct side *s = ctx;
	(void)session;
	s->acked = true;
}

static void op_reset(void *ctx, struct vc_mux_session *session, const char *code, const char *message)
{
	struct side *s = ctx;
	(void)session;
	(void)message;
	s->resets++;
	s->session = NULL;
	snprintf(s->code, sizeof(s->code), "%s", code);
}

static void op_closed(void *ctx, struct vc_mux_session *session, enum vc_channel ch)
{
	struct side *s = ctx;
	(void)session;
	s->total[ch] = s->wrote[ch]; // EPIPE
}

static const struct vc_mux_ops ops = {op_send,	   op_open,   op_data, op_eof, op_message, op_writable,
				      op_closed, op_acked, op_reset, NULL};

#define SPACES_MAX 3

static void produce(struct side *s, enum vc_channel ch)
{
	struct iovec space[SPACES_MAX];
	size_t room = 0;
	if (s->starved[ch] || s->wrote[ch] == s->total[ch])
		return;
	int n = vc_mux_session_space(s->session, ch, space, 1 + (int)chance(s->sim, SPACES_MAX));
	for (int i = 0; i < n; i++)
		room += space[i].iov_len;
	if (!n) {
		s->starved[ch] = true;
		return;
	}
	uint64_t left = s->total[ch] - s->wrote[ch];
	size_t len = chance(s->sim, 4) ? room : 1 + chance(s->sim, 50);
	if (len > room)
		len = room;
	if (len > left)
		len = (size_t)left;
	size_t filled = 0;
	for (int k = 0; k < n; k++) {
		for (size_t i = 0; i < space[k].iov_len && filled < len; i++, filled++)
			((uint8_t *)space[k].iov_base)[i] = pattern(ch, s->wrote[ch] + filled);
	}
	s->wrote[ch] += len;
	vc_mux_session_commit(s->session, ch, len);
	if (s->wrote[ch] == s->total[ch])
		vc_mux_session_eof(s->session, ch);
}

static void consume(struct side *s, enum vc_channel ch)
{
	size_t len;
	const uint8_t *data = vc_mux_session_peek(s->session, ch, &len);
	if (!data || (s->stop_reading && ch == VC_CH_STDOUT))
		return;
	size_t take = 1 + chance(s->sim, (unsigned)len);
	check(s, ch, data, take);
	vc_mux_session_consume(s->session, ch, take);
}

static void say(struct side *s)
{
	static char text[200000];
	if (s->messages_sent == MESSAGES || chance(s->sim, 10))
		return;
	size_t len = s->messages_sent * 7919u % 200000u;
	for (size_t i = 0; i < len; i++)
		text[i] = (char)pattern(0, i);
	if (vc_mux_session_message(s->session, text, len, NULL) == 0)
		s->messages_sent++;
}

static void side_step(struct side *s)
{
	for (int ch = VC_CH_STDIN; s->session && ch < VC_CHANNELS; ch++) {
		produce(s, (enum vc_channel)ch);
		consume(s, (enum vc_channel)ch);
	}
	if (s->session)
		say(s);
}

// ---- relay and pipes ----

static void pipe_open(struct pipe_end *p, const char *boot)
{
	vc_link_destroy(p->link);
	vc_buf_clear(&p->out);
	p->link = vc_link_create(boot, write_out, p);
	assert_non_null(p->link);
}

static void relay_open_session(struct sim *sim)
{
	struct vc_link_frame f = {.type = VC_LINK_OPEN, .session = SESSION, .len = 2, .body = (uint8_t *)"{}"};
	if (sim->attached)
		vc_link_send(sim->relay_port.link, &f);
}

static void on_frame(struct sim *sim, struct pipe_end *at, struct vc_link_frame *f)
{
	if (at == &sim->client)
		vc_mux_input(sim->c->mux, sim->c, f, sim->now);
	else if (at == &sim->guest)
		vc_mux_input(sim->s->mux, sim->s, f, sim->now);
	else if (at == &sim->relay_client)
		vc_link_send(sim->relay_port.link, f);
	else if (sim->attached)
		vc_link_send(sim->relay_client.link, f);
}

static void on_event(struct sim *sim, struct pipe_end *at, enum vc_link_event event)
{
	if (at == &sim->guest && event == VC_LINK_DOWN)
		vc_mux_route_down(sim->s->mux, sim->s, sim->now);
	if (at == &sim->relay_port && event == VC_LINK_UP && sim->attached) {
		relay_open_session(sim);
		vc_link_hello(sim->relay_client.link, sim->now);
	}
	if (at == &sim->client && event == VC_LINK_UP)
		vc_mux_route_up(sim->c->mux, sim->c, sim->now);
	assert_int_not_equal(event, VC_LINK_DAMAGED);
}

static void feed(struct sim *sim, struct pipe_end *to, const uint8_t *data, size_t len)
{
	struct vc_link_frame f;
	while (len) {
		size_t room;
		uint8_t *space = vc_link_space(to->link, &room);
		size_t part = len < room ? len : room;
		memcpy(space, data, part);
		vc_link_commit(to->link, part);
		for (enum vc_link_event e; (e = vc_link_next(to->link, sim->now, &f)) != VC_LINK_NEED;) {
			if (e == VC_LINK_FRAME)
				on_frame(sim, to, &f);
			else
				on_event(sim, to, e);
		}
		data += part;
		len -= part;
	}
}

static void move(struct sim *sim, struct pipe_end *from, struct pipe_end *to)
{
	size_t len = chance(sim, 3) ? from->out.len : chance(sim, (unsigned)from->out.len + 1);
	if (!len || !to->link)
		return;
	uint8_t *copy = malloc(len);
	memcpy(copy, vc_buf_head(&from->out), len);
	vc_buf_consume(&from->out, len);
	feed(sim, to, copy, len);
	free(copy);
}

static void client_connect(struct sim *sim)
{
	pipe_open(&sim->client, NULL);
	pipe_open(&sim->relay_client, NULL);
	sim->attached = true;
	relay_open_session(sim);
	vc_mux_session_attach(sim->c->session, sim->c, sim->now);
}

// kill -9 and a new start: what was on the way is lost, from some byte on or altogether.
static void relay_kill(struct sim *sim)
{
	size_t lost = sim->relay_port.out.len;
	if (chance(sim, 2))
		lost = chance(sim, (unsigned)lost + 1);
	sim->relay_port.out.len -= lost;
	move(sim, &sim->relay_port, &sim->guest);
	if (chance(sim, 2))
		vc_buf_consume(&sim->guest.out, chance(sim, (unsigned)sim->guest.out.len + 1));
	sim->attached = false;
	vc_mux_route_down(sim->c->mux, sim->c, sim->now);
	pipe_open(&sim->relay_port, BOOT_A);
	vc_link_hello(sim->relay_port.link, sim->now);
	vc_link_destroy(vc_steal(&sim->client.link));
	vc_link_destroy(vc_steal(&sim->relay_client.link));
}

static void sim_init(struct sim *sim, struct side *c, struct side *s, unsigned seed)
{
	*sim = (struct sim){.seed = seed, .now = 1, .c = c, .s = s};
	*c = (struct side){.sim = sim, .pipe = &sim->client};
	*s = (struct side){.sim = sim, .pipe = &sim->guest};
	c->mux = vc_mux_create(NULL, &ops, c);
	s->mux = vc_mux_create(&(struct vc_mux_config){.window = 100000}, &ops, s);
	pipe_open(&sim->relay_port, BOOT_A);
	pipe_open(&sim->guest, BOOT_B);
	vc_link_hello(sim->relay_port.link, 1);
	vc_link_hello(sim->guest.link, 1);
	c->session = vc_mux_session_create(c->mux, NULL, SESSION, VC_MUX_CLIENT, NULL, 1, NULL);
	assert_non_null(c->session);
	client_connect(sim);
	c->total[VC_CH_STDIN] = STDIN_TOTAL;
	s->total[VC_CH_STDOUT] = STDOUT_TOTAL;
	s->total[VC_CH_STDERR] = STDERR_TOTAL;
}

static void sim_clear(struct sim *sim)
{
	struct pipe_end *ends[] = {&sim->client, &sim->relay_client, &sim->relay_port, &sim->guest};
	vc_mux_destroy(sim->c->mux);
	vc_mux_destroy(sim->s->mux);
	for (size_t i = 0; i < VC_ARRAY_LEN(ends); i++) {
		vc_link_destroy(ends[i]->link);
		vc_buf_clear(&ends[i]->out);
	}
}

static void sim_step(struct sim *sim)
{
	sim->now += 10;
	side_step(sim->c);
	side_step(sim->s);
	move(sim, &sim->client, &sim->relay_client);
	move(sim, &sim->relay_client, &sim->client);
	move(sim, &sim->relay_port, &sim->guest);
	move(sim, &sim->guest, &sim->relay_port);
	vc_mux_route_writable(sim->c->mux, sim->c, sim->now);
	vc_mux_route_writable(sim->s->mux, sim->s, sim->now);
	vc_link_tick(sim->relay_port.link, sim->now);
	vc_link_tick(sim->guest.link, sim->now);
	vc_mux_tick(sim->c->mux, sim->now);
	vc_mux_tick(sim->s->mux, sim->now);
	feed(sim, &sim->guest, NULL, 0);
}

static bool complete(const struct side *c, const struct side *s)
{
	return s->eof[VC_CH_STDIN] && c->eof[VC_CH_STDOUT] && c->eof[VC_CH_STDERR] && c->messages_got == MESSAGES &&
	       s->messages_got == MESSAGES;
}

static void run(unsigned seed, unsigned kills)
{
	struct sim sim;
	struct side c, s;
	unsigned killed = 0;
	sim_init(&sim, &c, &s, seed);
	for (int i = 0; !complete(&c, &s); i++) {
		if (i > 200000)
			fail_msg("seed %u: stuck after %u kills", seed, killed);
		if (killed < kills && chance(&sim, 12) == 0) {
			relay_kill(&sim);
			killed++;
		}
		if (!sim.client.link && chance(&sim, 4) == 0)
			client_connect(&sim);
		sim_step(&sim);
	}
	assert_int_equal(s.got[VC_CH_STDIN], STDIN_TOTAL);
	assert_int_equal(c.got[VC_CH_STDOUT], STDOUT_TOTAL);
	assert_int_equal(c.got[VC_CH_STDERR], STDERR_TOTAL);
	assert_int_equal(s.opens, 1);
	assert_int_equal(c.resets + s.resets, 0);
	for (int i = 0; i < 1000 && !s.acked; i++)
		sim_step(&sim);
	assert_true(s.acked);
	vc_mux_session_reset(c.session, "done", "");
	c.session = NULL;
	for (int i = 0; i < 100 && s.session; i++)
		sim_step(&sim);
	assert_string_equal(s.code, "done");
	assert_int_equal(vc_mux_sessions(s.mux), 0);
	sim_clear(&sim);
}

static void test_plain(void **state)
{
	(void)state;
	run(1, 0);
}

static void test_killed_relay(void **state)
{
	(void)state;
	for (unsigned seed = 2; seed < 14; seed++)
		run(seed, 10 + seed);
}

// A consumer that stops must not stop the other channels, nor cost memory past the window.
static void test_blocked(void **state)
{
	(void)state;
	struct sim sim;
	struct side c, s;
	sim_init(&sim, &c, &s, 99);
	c.stop_reading = true;
	for (int i = 0; i < 3000; i++)
		sim_step(&sim);
	assert_true(s.eof[VC_CH_STDIN]);
	assert_true(c.eof[VC_CH_STDERR]);
	assert_int_equal(c.got[VC_CH_STDOUT], 0);
	assert_in_range(s.wrote[VC_CH_STDOUT], 1, VC_MUX_WINDOW + VC_MUX_CREDIT_INITIAL);
	c.stop_reading = false;
	for (int i = 0; i < 20000 && !complete(&c, &s); i++)
		sim_step(&sim);
	assert_true(complete(&c, &s));
	sim_clear(&sim);
}

// The client's reader goes away: the writer in the guest is told, whatever happens to the relay meanwhile.
static void test_reader_closes(void **state)
{
	(void)state;
	struct sim sim;
	struct side c, s;
	sim_init(&sim, &c, &s, 5);
	for (int i = 0; i < 30; i++)
		sim_step(&sim);
	relay_kill(&sim);
	vc_mux_session_close_reader(c.session, VC_CH_STDOUT);
	client_connect(&sim);
	for (int i = 0; i < 500; i++)
		sim_step(&sim);
	assert_true(s.wrote[VC_CH_STDOUT] < STDOUT_TOTAL);
	assert_int_equal(s.wrote[VC_CH_STDOUT], s.total[VC_CH_STDOUT]);
	sim_clear(&sim);
}

// The guest forgot the session (expired, rebooted): the client must learn it, not wait.
static void test_lost_session(void **state)
{
	(void)state;
	struct sim sim;
	struct side c, s;
	sim_init(&sim, &c, &s, 6);
	for (int i = 0; i < 300; i++)
		sim_step(&sim);
	vc_mux_session_destroy(s.session);
	s.session = NULL;
	for (int i = 0; i < 500 && c.session; i++)
		sim_step(&sim);
	assert_null(c.session);
	assert_string_equal(c.code, "unknown");
	sim_clear(&sim);

	sim_init(&sim, &c, &s, 6);
	for (int i = 0; i < 300; i++)
		sim_step(&sim);
	relay_kill(&sim);
	vc_mux_session_destroy(s.session);
	s.session = NULL;
	client_connect(&sim);
	for (int i = 0; i < 5000 && c.session; i++)
		sim_step(&sim);
	assert_null(c.session);
	assert_true(strcmp(c.code, "lost") == 0 || strcmp(c.code, "proto") == 0);
	sim_clear(&sim);
}

// ---- hostile peers: frames straight into a server's mux ----

struct hostile {
	struct sim sim;
	struct side s;
	char reset[512]; // body of the last RESET it sent
	unsigned resets;
};

static int catch_send(void *ctx, void *route, struct vc_link_frame *f)
{
	struct hostile *h = route;
	(void)ctx;
	if (f->type == VC_LINK_RESET) {
		h->resets++;
		snprintf(h->reset, sizeof(h->reset), "%.*s", (int)f->len, (const char *)f->body);
	}
	return 0;
}

static void hostile_init(struct hostile *h, struct vc_mux_ops *o, const struct vc_mux_config *conf)
{
	*h = (struct hostile){.sim = {.seed = 1}};
	*o = ops;
	o->send_frame = catch_send;
	h->s = (struct side){.sim = &h->sim};
	h->s.mux = vc_mux_create(conf, o, &h->s);
}

static void inject(struct hostile *h, uint8_t type, uint8_t ch, uint64_t session, uint64_t offset, const void *body, size_t len)
{
	uint8_t copy[256] = {0};
	if (len)
		memcpy(copy, body, len);
	struct vc_link_frame f = {.type = type, .channel = ch, .session = session, .offset = offset, .len = (uint32_t)len, .body = copy};
	vc_mux_input(h->s.mux, h, &f, 1);
}

static void test_hostile(void **state)
{
	(void)state;
	static const uint8_t zeros[RESUME_LEN], ones[RESUME_LEN] = {[0 ... RESUME_LEN - 1] = 0xff};
	static const struct {
		const char *name;
		uint8_t type, ch;
		uint64_t offset;
		const uint8_t *body;
		size_t len;
		const char *reset; // code, NULL: the session lives
	} cases[] = {
		{"data past the credit", VC_LINK_DATA, 1, 1 << 20, zeros, 10, "proto"},
		{"an offset that wraps", VC_LINK_DATA, 1, UINT64_MAX - 4, zeros, 10, "proto"},
		{"a gap", VC_LINK_DATA, 1, 100, zeros, 10, NULL},
		{"data on the wrong channel", VC_LINK_DATA, 2, 0, zeros, 10, "proto"},
		{"an end past the data", VC_LINK_EOF, 1, 50, NULL, 0, NULL},
		{"an end that wraps", VC_LINK_EOF, 1, UINT64_MAX, NULL, 0, "proto"},
		{"an end on the wrong channel", VC_LINK_EOF, 3, 0, NULL, 0, "proto"},
		{"ACK of bytes never sent", VC_LINK_ACK, 2, 5, ones, 8, "proto"},
		{"ACK without limit", VC_LINK_ACK, 2, 0, NULL, 0, "proto"},
		{"ACK for stdin", VC_LINK_ACK, 1, 0, ones, 8, "proto"},
		{"credit that shrinks", VC_LINK_ACK, 2, 0, zeros, 8, NULL},
		{"endless credit", VC_LINK_ACK, 2, 0, ones, 8, NULL},
		{"RESUME too short", VC_LINK_RESUME, 0, 0, zeros, 10, "proto"},
		{"RESUME of bytes never sent", VC_LINK_RESUME, 0, 0, (const uint8_t *)"\0\0\0\0\0\0\0\7", RESUME_LEN, "proto"},
		{"RESUME with closed readers", VC_LINK_RESUME, 0, 0, ones, RESUME_LEN, NULL},
		{"a long message", VC_LINK_DATA, 0, 0, ones, 8, "proto"},
		{"RESET that is no JSON", VC_LINK_RESET, 0, 0, ones, 8, "failed"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct hostile h;
		struct vc_mux_ops o;
		uint8_t body[RESUME_LEN] = {0};
		hostile_init(&h, &o, NULL);
		inject(&h, VC_LINK_OPEN, 0, 5, 0, "{}", 2);
		inject(&h, VC_LINK_RESUME, 0, 5, 0, zeros, RESUME_LEN);
		assert_int_equal(h.resets, 0);
		if (cases[i].len)
			memcpy(body, cases[i].body, cases[i].len == RESUME_LEN && cases[i].body[7] == 7 ? 8 : cases[i].len);
		inject(&h, cases[i].type, cases[i].ch, 5, cases[i].offset, body, cases[i].len);
		if (h.s.resets != (cases[i].reset != NULL) || (cases[i].reset && strcmp(h.s.code, cases[i].reset) != 0))
			fail_msg("%s: %u resets, code '%s'", cases[i].name, h.s.resets, h.s.code);
		assert_int_equal(vc_mux_sessions(h.s.mux), cases[i].reset ? 0 : 1);
		if (h.s.session && cases[i].type == VC_LINK_ACK) { // whatever credit was claimed, memory stays bounded
			static uint8_t big[4 << 20];
			assert_in_range(vc_mux_session_write(h.s.session, VC_CH_STDOUT, big, sizeof(big)), VC_MUX_CREDIT_INITIAL,
					VC_MUX_WINDOW_MAX);
		}
		vc_mux_destroy(h.s.mux);
	}
}

static void test_floods(void **state)
{
	(void)state;
	struct hostile h;
	struct vc_mux_ops o;
	hostile_init(&h, &o, &(struct vc_mux_config){.sessions_max = 10, .id_mask = VC_SESSION_FROM_GUEST,
						     .id_value = VC_SESSION_FROM_GUEST});
	inject(&h, VC_LINK_OPEN, 0, 5, 0, "{}", 2);
	assert_contains(h.reset, "denied");
	for (uint64_t id = 0; id < 1000; id++)
		inject(&h, VC_LINK_OPEN, 0, VC_SESSION_FROM_GUEST | id, 0, "{}", 2);
	assert_int_equal(vc_mux_sessions(h.s.mux), 10);
	assert_contains(h.reset, "busy");
	inject(&h, VC_LINK_DATA, 1, 4711, 0, "x", 1);
	assert_contains(h.reset, "unknown");
	unsigned before = h.resets;
	inject(&h, VC_LINK_RESET, 0, 4711, 0, NULL, 0);
	assert_int_equal(h.resets, before); // no answer to a RESET, or two ends would never stop
	vc_mux_destroy(h.s.mux);
	hostile_init(&h, &o, NULL);
	inject(&h, VC_LINK_OPEN, 0, 6, 0, "refuse", 6);
	assert_contains(h.reset, "not you");
	assert_int_equal(vc_mux_sessions(h.s.mux), 0);
	vc_mux_destroy(h.s.mux);
}

// Many tiny writes while the peer acknowledges nothing: bounded, and all arrive in the end.
static void test_tiny_writes(void **state)
{
	(void)state;
	struct hostile h;
	struct vc_mux_ops o;
	uint8_t zeros[RESUME_LEN] = {0};
	hostile_init(&h, &o, NULL);
	inject(&h, VC_LINK_OPEN, 0, 5, 0, "{}", 2);
	inject(&h, VC_LINK_RESUME, 0, 5, 0, zeros, RESUME_LEN);
	size_t wrote = 0;
	while (wrote < 100000 && vc_mux_session_write(h.s.session, VC_CH_STDOUT, "x", 1) == 1)
		wrote++;
	assert_in_range(wrote, 500, 2000);
	uint8_t limit[8];
	vc_put_be64(limit, 1 << 20);
	inject(&h, VC_LINK_ACK, VC_CH_STDOUT, 5, wrote, limit, 8);
	assert_true(h.s.acked);
	assert_int_equal(vc_mux_session_write(h.s.session, VC_CH_STDOUT, "x", 1), 1);
	vc_mux_destroy(h.s.mux);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),	      cmocka_unit_test(test_killed_relay), cmocka_unit_test(test_blocked),
		cmocka_unit_test(test_reader_closes), cmocka_unit_test(test_lost_session), cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_floods),	      cmocka_unit_test(test_tiny_writes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
