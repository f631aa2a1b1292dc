// SPDX-License-Identifier: GPL-2.0-or-later
// vcrsh's handshake and stream encryption: see seal.h. A table of states {what is awaited, how long, what to do}.
#include "guest/seal.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "VCRSH\0\0\1"
#define MAGIC_LEN 8u
#define KEY_CONTEXT "vcluster rsh 1"
#define PK_LEN crypto_kx_PUBLICKEYBYTES
#define MAC_LEN crypto_auth_BYTES
#define HEAD_LEN crypto_secretstream_xchacha20poly1305_HEADERBYTES
#define A_LEN crypto_secretstream_xchacha20poly1305_ABYTES
#define LENGTH_LEN 4u
#define INPUT_MAX (LENGTH_LEN + SEAL_CHUNK_MAX + A_LEN)

enum state { WAIT_CLIENT_KEY, WAIT_SERVER_KEY, WAIT_CLIENT_PROOF, WAIT_HEAD, WAIT_LENGTH, WAIT_MESSAGE };

struct seal {
	bool client;
	enum state state;
	bool ready;
	size_t want; // bytes of the next piece
	struct vc_buf in;
	uint8_t auth_key[crypto_auth_KEYBYTES];
	uint8_t pk[2][PK_LEN]; // 0: the client's, 1: the server's
	uint8_t sk[crypto_kx_SECRETKEYBYTES];
	uint8_t rx[crypto_kx_SESSIONKEYBYTES], tx[crypto_kx_SESSIONKEYBYTES];
	crypto_secretstream_xchacha20poly1305_state pull, push;
};

static void expect(struct seal *s, enum state state, size_t want)
{
	s->state = state;
	s->want = want;
}

struct seal *seal_create(bool client, const uint8_t secret[SEAL_SECRET_LEN], struct vc_error *err)
{
	if (sodium_init() < 0) {
		vc_error_set(err, VC_EFAILED, "libsodium does not start");
		return NULL;
	}
	struct seal *s = calloc(1, sizeof(*s));
	if (!s) {
		vc_error_errno(err, "vcrsh connection");
		return NULL;
	}
	s->client = client;
	s->in = VC_BUF_INIT(2 * INPUT_MAX);
	crypto_generichash(s->auth_key, sizeof(s->auth_key), (const uint8_t *)KEY_CONTEXT, strlen(KEY_CONTEXT), secret, SEAL_SECRET_LEN);
	crypto_kx_keypair(s->pk[client ? 0 : 1], s->sk);
	if (client)
		expect(s, WAIT_SERVER_KEY, MAGIC_LEN + PK_LEN + MAC_LEN);
	else
		expect(s, WAIT_CLIENT_KEY, MAGIC_LEN + PK_LEN);
	return s;
}

void seal_destroy(struct seal *s)
{
	if (!s)
		return;
	int saved = errno;
	vc_buf_clear(&s->in);
	sodium_memzero(s, sizeof(*s));
	free(s);
	errno = saved;
}

bool seal_ready(const struct seal *s)
{
	return s->ready;
}

static int put(struct vc_buf *out, const void *data, size_t len, struct vc_error *err)
{
	return vc_buf_append(out, data, len) < 0 ? vc_error_errno(err, "vcrsh connection") : 0;
}

static void proof(const struct seal *s, char who, uint8_t mac[MAC_LEN])
{
	uint8_t text[1 + 2 * PK_LEN];
	text[0] = (uint8_t)who;
	memcpy(text + 1, s->pk, 2 * PK_LEN);
	crypto_auth(mac, text, sizeof(text), s->auth_key);
}

static int check_proof(const struct seal *s, char who, const uint8_t *mac, struct vc_error *err)
{
	uint8_t text[1 + 2 * PK_LEN];
	text[0] = (uint8_t)who;
	memcpy(text + 1, s->pk, 2 * PK_LEN);
	if (crypto_auth_verify(mac, text, sizeof(text), s->auth_key) != 0)
		return vc_error_set(err, VC_EAUTH, "the other end does not know this cluster's secret");
	return 0;
}

// Both keys are known and the peer has proved itself: derive the session's keys and send our stream's head.
static int begin_stream(struct seal *s, struct vc_buf *out, struct vc_error *err)
{
	uint8_t head[HEAD_LEN];
	int rc = s->client ? crypto_kx_client_session_keys(s->rx, s->tx, s->pk[0], s->sk, s->pk[1])
			   : crypto_kx_server_session_keys(s->rx, s->tx, s->pk[1], s->sk, s->pk[0]);
	if (rc != 0)
		return vc_error_set(err, VC_EAUTH, "the other end's key is not acceptable");
	crypto_secretstream_xchacha20poly1305_init_push(&s->push, head, s->tx);
	sodium_memzero(s->sk, sizeof(s->sk));
	s->ready = true;
	expect(s, WAIT_HEAD, HEAD_LEN);
	return put(out, head, sizeof(head), err);
}

int seal_start(struct seal *s, struct vc_buf *out, struct vc_error *err)
{
	return put(out, MAGIC, MAGIC_LEN, err) < 0 ? -1 : put(out, s->pk[0], PK_LEN, err);
}

static int check_magic(const uint8_t *p, struct vc_error *err)
{
	if (memcmp(p, MAGIC, MAGIC_LEN) != 0)
		return vc_error_set(err, VC_EPROTO, "the other end does not speak vcrsh's protocol, version 1");
	return 0;
}

static int take_client_key(struct seal *s, const uint8_t *p, struct vc_buf *out, struct vc_error *err)
{
	uint8_t mac[MAC_LEN];
	if (check_magic(p, err) < 0)
		return -1;
	memcpy(s->pk[0], p + MAGIC_LEN, PK_LEN);
	proof(s, 'S', mac);
	expect(s, WAIT_CLIENT_PROOF, MAC_LEN);
	if (put(out, MAGIC, MAGIC_LEN, err) < 0 || put(out, s->pk[1], PK_LEN, err) < 0)
		return -1;
	return put(out, mac, sizeof(mac), err);
}

static int take_server_key(struct seal *s, const uint8_t *p, struct vc_buf *out, struct vc_error *err)
{
	uint8_t mac[MAC_LEN];
	if (check_magic(p, err) < 0)
		return -1;
	memcpy(s->pk[1], p + MAGIC_LEN, PK_LEN);
	if (check_proof(s, 'S', p + MAGIC_LEN + PK_LEN, err) < 0)
		return -1;
	proof(s, 'C', mac);
	return put(out, mac, sizeof(mac), err) < 0 ? -1 : begin_stream(s, out, err);
}

static int take_head(struct seal *s, const uint8_t *p, struct vc_error *err)
{
	if (crypto_secretstream_xchacha20poly1305_init_pull(&s->pull, p, s->rx) != 0)
		return vc_error_set(err, VC_EPROTO, "the stream's head is not valid");
	expect(s, WAIT_LENGTH, LENGTH_LEN);
	return 0;
}

static int take_length(struct seal *s, const uint8_t *p, struct vc_error *err)
{
	uint32_t len = vc_get_be32(p);
	if (len <= A_LEN || len > SEAL_CHUNK_MAX + A_LEN)
		return vc_error_set(err, VC_EPROTO, "a message of %u bytes is not possible", len);
	expect(s, WAIT_MESSAGE, len);
	return 0;
}

static int take_message(struct seal *s, const uint8_t *p, struct vc_buf *plain, struct vc_error *err)
{
	size_t len = s->want - A_LEN;
	uint8_t *room = vc_buf_reserve(plain, len);
	if (!room)
		return vc_error_errno(err, "vcrsh connection");
	if (crypto_secretstream_xchacha20poly1305_pull(&s->pull, room, NULL, NULL, p, s->want, NULL, 0) != 0)
		return vc_error_set(err, VC_EAUTH, "a message was changed on its way");
	vc_buf_commit(plain, len);
	expect(s, WAIT_LENGTH, LENGTH_LEN);
	return 0;
}

static int take(struct seal *s, const uint8_t *p, struct vc_buf *out, struct vc_buf *plain, struct vc_error *err)
{
	switch (s->state) {
	case WAIT_CLIENT_KEY:
		return take_client_key(s, p, out, err);
	case WAIT_SERVER_KEY:
		return take_server_key(s, p, out, err);
	case WAIT_CLIENT_PROOF:
		return check_proof(s, 'C', p, err) < 0 ? -1 : begin_stream(s, out, err);
	case WAIT_HEAD:
		return take_head(s, p, err);
	case WAIT_LENGTH:
		return take_length(s, p, err);
	case WAIT_MESSAGE:
		return take_message(s, p, plain, err);
	}
	return -1;
}

int seal_input(struct seal *s, const uint8_t *data, size_t len, struct vc_buf *out, struct vc_buf *plain, struct vc_error *err)
{
	while (len > 0) {
		size_t n = s->want - s->in.len;
		n = n < len ? n : len;
		if (vc_buf_append(&s->in, data, n) < 0)
			return vc_error_errno(err, "vcrsh connection");
		data += n;
		len -= n;
		if (s->in.len < s->want)
			return 0;
		size_t used = s->want;
		if (take(s, vc_buf_head(&s->in), out, plain, err) < 0)
			return -1;
		vc_buf_consume(&s->in, used);
	}
	return 0;
}

int seal_output(struct seal *s, const uint8_t *data, size_t len, struct vc_buf *out, struct vc_error *err)
{
	while (len > 0) {
		size_t n = len < SEAL_CHUNK_MAX ? len : SEAL_CHUNK_MAX;
		uint8_t *room = vc_buf_reserve(out, LENGTH_LEN + n + A_LEN);
		if (!room)
			return vc_error_errno(err, "vcrsh connection");
		vc_put_be32(room, (uint32_t)(n + A_LEN));
		crypto_secretstream_xchacha20poly1305_push(&s->push, room + LENGTH_LEN, NULL, data, n, NULL, 0, 0);
		vc_buf_commit(out, LENGTH_LEN + n + A_LEN);
		data += n;
		len -= n;
	}
	return 0;
}
