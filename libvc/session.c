// SPDX-License-Identifier: GPL-2.0-or-later
// Handshake and sealing: see session.h. Owns the buffers and the keys, and wipes the keys at the end.
//
// Client and server walk the same states; `steps` below says what a HELLO, a decoded and an encoded credential mean
// in each. After the handshake both ends send their secretstream header as the first SEALED body.
#include "libvc/session.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "libvc/cred.h"
#include "libvc/json.h"
#include "libvc/message.h"

#define NONCE_BYTES 32
#define NONCE_HEX (2 * NONCE_BYTES)
#define KEY_HEX (2 * crypto_kx_PUBLICKEYBYTES)
#define PAYLOAD_VERSION 1

enum state {
	EXPECT_HELLO,  // the other side's first HELLO
	EXPECT_ANSWER, // client, sealed: the server's credential
	CRED_IN,       // a credential waits to be decoded
	DECODING,
	CRED_OUT, // a payload waits to be encoded
	ENCODING,
	AUTHENTICATED, // READY not yet told
	OPEN,
	CLOSED,
};

struct vc_session {
	bool server, sealed, peer;
	uid_t own_uid, server_uid, socket_uid;
	char host[VC_HOSTNAME_MAX + 1];
	char expect_host[VC_HOSTNAME_MAX + 1]; // "" any
	enum state state;
	struct vc_error why; // CLOSED

	struct vc_buf in, out;
	struct vc_buf inner, outer; // the last opened frame, and the last one that was sealed: kept for their memory
	size_t in_use;		      // bytes of `in` that the last FRAME still points to
	char *cred;		      // CRED_IN
	char *payload;		      // CRED_OUT
	uid_t reader;

	char nonce[NONCE_HEX + 1], client_nonce[NONCE_HEX + 1];
	char key[KEY_HEX + 1], server_key[KEY_HEX + 1]; // public keys of both ends, hex; "" when plain
	unsigned char pk[crypto_kx_PUBLICKEYBYTES], sk[crypto_kx_SECRETKEYBYTES];
	unsigned char rx_key[crypto_kx_SESSIONKEYBYTES];
	crypto_secretstream_xchacha20poly1305_state push, pull;
	bool pulling; // the other side's stream header has come

	uid_t remote_uid;
	char remote_host[VC_HOSTNAME_MAX + 1];
	bool remote_peer;
};

static void random_hex(char *ret, size_t bytes)
{
	unsigned char raw[NONCE_BYTES];
	randombytes_buf(raw, bytes);
	sodium_bin2hex(ret, 2 * bytes + 1, raw, bytes);
}

static void make_key(struct vc_session *s, char *ret_hex)
{
	if (!s->sealed)
		return;
	crypto_kx_keypair(s->pk, s->sk);
	sodium_bin2hex(ret_hex, KEY_HEX + 1, s->pk, sizeof(s->pk));
}

static struct vc_session *session_create(const struct vc_session_opts *opts, bool server, struct vc_error *err)
{
	if (sodium_init() < 0) {
		vc_error_set(err, VC_EHOST, "libsodium cannot be initialised");
		return NULL;
	}
	if (strlen(opts->host) > VC_HOSTNAME_MAX || (opts->expect_host && strlen(opts->expect_host) > VC_HOSTNAME_MAX)) {
		vc_error_set(err, VC_EUSER, "a host name has more than %d bytes", VC_HOSTNAME_MAX);
		return NULL;
	}
	struct vc_session *s = calloc(1, sizeof(*s));
	if (!s) {
		vc_error_errno(err, "session");
		return NULL;
	}
	s->server = server;
	s->sealed = opts->sealed;
	s->peer = opts->peer;
	s->own_uid = opts->own_uid;
	s->server_uid = opts->server_uid;
	s->socket_uid = opts->socket_uid;
	snprintf(s->host, sizeof(s->host), "%s", opts->host);
	snprintf(s->expect_host, sizeof(s->expect_host), "%s", opts->expect_host ? opts->expect_host : "");
	s->in = VC_BUF_INIT(VC_RPC_BODY_MAX + VC_FRAME_SEAL_OVERHEAD + VC_FRAME_HEADER_LEN + (256u << 10));
	s->out = VC_BUF_INIT(opts->output_max ? opts->output_max : VC_SESSION_OUTPUT_MAX);
	s->inner = VC_BUF_INIT(VC_RPC_BODY_MAX + VC_FRAME_HEADER_LEN);
	s->outer = s->inner;
	return s;
}

void vc_session_destroy(struct vc_session *s)
{
	if (!s)
		return;
	int saved = errno;
	vc_buf_clear(&s->in);
	vc_buf_clear(&s->out);
	vc_buf_clear(&s->inner);
	vc_buf_clear(&s->outer);
	free(s->cred);
	free(s->payload);
	sodium_memzero(s, sizeof(*s));
	free(s);
	errno = saved;
}

// --- sending ---

static int queue_json(struct vc_session *s, enum vc_frame_type type, struct json_object *obj, struct vc_error *err)
{
	size_t len = 0;
	const char *text = obj ? vc_json_text(obj, &len) : NULL;
	if (!text)
		return vc_error_set(err, ENOMEM, "handshake: out of memory");
	return vc_frame_append(&s->out, type, text, len, err);
}

static int queue_sealed(struct vc_session *s, enum vc_frame_type type, const void *body, size_t len, struct vc_error *err)
{
	s->outer.len = s->outer.off = 0;
	if (vc_frame_append(&s->outer, type, body, len, err) < 0)
		return -1;
	size_t sealed_len = s->outer.len + crypto_secretstream_xchacha20poly1305_ABYTES;
	uint8_t *p = vc_buf_reserve(&s->out, VC_FRAME_HEADER_LEN + sealed_len);
	if (!p)
		return vc_error_errno(err, "sending %zu bytes", len);
	vc_put_be32(p, VC_FRAME_MAGIC);
	p[4] = VC_FRAME_SEALED;
	p[5] = 0;
	vc_put_be16(p + 6, VC_FRAME_VERSION);
	vc_put_be32(p + 8, (uint32_t)sealed_len);
	crypto_secretstream_xchacha20poly1305_push(&s->push, p + VC_FRAME_HEADER_LEN, NULL, vc_buf_head(&s->outer), s->outer.len,
						   NULL, 0, 0);
	vc_buf_commit(&s->out, VC_FRAME_HEADER_LEN + sealed_len);
	return 0;
}

int vc_session_send(struct vc_session *s, enum vc_frame_type type, const void *body, size_t len, struct vc_error *err)
{
	if (s->state != OPEN && s->state != AUTHENTICATED)
		return vc_error_set(err, VC_EPROTO, "the connection is not open");
	if (s->sealed)
		return queue_sealed(s, type, body, len, err);
	return vc_frame_append(&s->out, type, body, len, err);
}

// --- the end ---

static void session_close(struct vc_session *s, const struct vc_error *why)
{
	if (s->state == CLOSED)
		return;
	s->why = *why;
	s->state = CLOSED;
	sodium_memzero(s->sk, sizeof(s->sk));
}

void vc_session_fail(struct vc_session *s, const struct vc_error *why)
{
	if (s->state == CLOSED)
		return;
	vc_autojson struct json_object *body = vc_message_error_body(why);
	size_t len = 0;
	const char *text = body ? vc_json_text(body, &len) : NULL;
	bool open = s->state == OPEN || s->state == AUTHENTICATED;
	if (text && len <= VC_FRAME_HANDSHAKE_MAX) {
		if (open && s->sealed)
			queue_sealed(s, VC_FRAME_BYE, text, len, NULL);
		else
			vc_frame_append(&s->out, VC_FRAME_BYE, text, len, NULL);
	}
	session_close(s, why);
}

static void fail(struct vc_session *s, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void fail(struct vc_session *s, int code, const char *fmt, ...)
{
	struct vc_error why = VC_ERROR_INIT;
	va_list ap;
	va_start(ap, fmt);
	vc_error_vset(&why, code, fmt, ap);
	va_end(ap);
	vc_session_fail(s, &why);
}

static void take_bye(struct vc_session *s, const struct vc_frame *frame)
{
	struct vc_error why = VC_ERROR_INIT;
	vc_autojson struct json_object *body = vc_json_parse((const char *)frame->body, frame->len, NULL);
	vc_message_error_read(body, &why);
	session_close(s, &why);
}

// --- keys ---

// Derives both directions' keys from the two ephemeral keys and queues the own stream header.
static void start_seal(struct vc_session *s)
{
	if (!s->sealed) {
		s->state = AUTHENTICATED;
		return;
	}
	unsigned char other[crypto_kx_PUBLICKEYBYTES], tx[crypto_kx_SESSIONKEYBYTES];
	unsigned char header[crypto_secretstream_xchacha20poly1305_HEADERBYTES];
	const char *hex = s->server ? s->key : s->server_key;
	struct vc_error err = VC_ERROR_INIT;
	if (sodium_hex2bin(other, sizeof(other), hex, KEY_HEX, NULL, NULL, NULL) < 0 ||
	    (s->server ? crypto_kx_server_session_keys(s->rx_key, tx, s->pk, s->sk, other)
		       : crypto_kx_client_session_keys(s->rx_key, tx, s->pk, s->sk, other)) < 0) {
		fail(s, VC_EAUTH, "the other side's key is not usable");
		return;
	}
	crypto_secretstream_xchacha20poly1305_init_push(&s->push, header, tx);
	sodium_memzero(tx, sizeof(tx));
	sodium_memzero(s->sk, sizeof(s->sk));
	if (vc_frame_append(&s->out, VC_FRAME_SEALED, header, sizeof(header), &err) < 0)
		session_close(s, &err);
	else
		s->state = AUTHENTICATED;
}

// --- credential payloads: what both ends sign; each field is compared with what the connection said ---

static struct json_object *payload_common(const struct vc_session *s)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!obj || vc_json_add_int(obj, "v", PAYLOAD_VERSION) < 0 || vc_json_add_str(obj, "nonce", s->nonce) < 0 ||
	    vc_json_add_str(obj, "client_nonce", s->client_nonce) < 0 || vc_json_add_str(obj, "host", s->host) < 0 ||
	    vc_json_add_str(obj, "to", s->remote_host) < 0 ||
	    vc_json_add_str(obj, "role", s->server ? "server" : s->peer ? "peer" : "client") < 0)
		return NULL;
	if (s->sealed &&
	    (vc_json_add_str(obj, "key", s->key) < 0 || vc_json_add_str(obj, "server_key", s->server_key) < 0))
		return NULL;
	return vc_steal(&obj);
}

static void want_encode(struct vc_session *s, uid_t reader)
{
	vc_autojson struct json_object *obj = payload_common(s);
	const char *text = obj ? vc_json_text(obj, NULL) : NULL;
	s->payload = text ? strdup(text) : NULL;
	if (!s->payload) {
		fail(s, ENOMEM, "handshake: out of memory");
		return;
	}
	s->reader = reader;
	s->state = CRED_OUT;
}

// A signed field must be exactly what we know it to be.
static int require(struct json_object *obj, const char *key, const char *expected, struct vc_error *err)
{
	const char *value = NULL;
	if (vc_json_str(obj, key, VC_HOSTNAME_MAX, &value, err) < 0)
		return -1;
	if (strlen(value) != strlen(expected) || sodium_memcmp(value, expected, strlen(expected)) != 0)
		return vc_error_set(err, VC_EAUTH, "the credential's '%s' is not of this connection", key);
	return 0;
}

static int check_payload(struct vc_session *s, struct json_object *obj, const char *role, struct vc_error *err)
{
	int version = 0;
	if (vc_json_int(obj, "v", 0, INT32_MAX, &version, err) < 0)
		return -1;
	if (version != PAYLOAD_VERSION)
		return vc_error_set(err, VC_EPROTO, "credential version %d is not %d", version, PAYLOAD_VERSION);
	if (require(obj, "nonce", s->nonce, err) < 0 || require(obj, "to", s->host, err) < 0 ||
	    require(obj, "host", s->remote_host, err) < 0 || require(obj, "role", role, err) < 0)
		return -1;
	return s->sealed ? require(obj, "server_key", s->server_key, err) : 0;
}

static int read_hex(struct json_object *obj, const char *key, size_t digits, char *ret, struct vc_error *err)
{
	const char *value = NULL;
	if (vc_json_str(obj, key, digits, &value, err) < 0)
		return -1;
	if (!vc_hex_valid(value, digits))
		return vc_error_set(err, VC_EPROTO, "'%s' must be %zu hex digits", key, digits);
	memcpy(ret, value, digits + 1);
	return 0;
}

static int read_host(struct json_object *obj, char *ret, struct vc_error *err)
{
	const char *value = NULL;
	if (vc_json_str(obj, "host", VC_HOSTNAME_MAX, &value, err) < 0)
		return -1;
	memcpy(ret, value, strlen(value) + 1);
	return 0;
}

static int take_cred(struct vc_session *s, struct json_object *obj, struct vc_error *err)
{
	const char *cred = NULL;
	if (vc_json_str(obj, "cred", VC_CRED_TEXT_MAX, &cred, err) < 0)
		return -1;
	s->cred = strdup(cred);
	if (!s->cred)
		return vc_error_errno(err, "handshake");
	s->state = CRED_IN;
	return 0;
}

// --- server ---

struct vc_session *vc_session_server(const struct vc_session_opts *opts, struct vc_error *err)
{
	struct vc_session *s = session_create(opts, true, err);
	if (!s)
		return NULL;
	random_hex(s->nonce, NONCE_BYTES);
	make_key(s, s->server_key);
	vc_autojson struct json_object *hello = json_object_new_object();
	if (vc_json_add_str(hello, "nonce", s->nonce) < 0 || vc_json_add_str(hello, "host", s->host) < 0 ||
	    vc_json_add_str(hello, "version", PACKAGE_VERSION) < 0 ||
	    (s->sealed && vc_json_add_str(hello, "key", s->server_key) < 0) ||
	    queue_json(s, VC_FRAME_HELLO, hello, err) < 0) {
		vc_session_destroy(s);
		return NULL;
	}
	return s;
}

static int server_hello(struct vc_session *s, struct json_object *obj, struct vc_error *err)
{
	const char *role = NULL;
	if (vc_json_str(obj, "role", 16, &role, err) < 0 || read_host(obj, s->remote_host, err) < 0)
		return -1;
	s->remote_peer = strcmp(role, "peer") == 0;
	if (!s->remote_peer && strcmp(role, "client") != 0)
		return vc_error_set(err, VC_EPROTO, "role '%s' is neither client nor peer", role);
	return take_cred(s, obj, err);
}

static int server_decoded(struct vc_session *s, struct json_object *obj, uid_t uid, struct vc_error *err)
{
	if (check_payload(s, obj, s->remote_peer ? "peer" : "client", err) < 0 ||
	    read_hex(obj, "client_nonce", NONCE_HEX, s->client_nonce, err) < 0 ||
	    (s->sealed && read_hex(obj, "key", KEY_HEX, s->key, err) < 0))
		return -1;
	if (!s->sealed && uid != s->socket_uid)
		return vc_error_set(err, VC_EAUTH, "the credential is of uid %u, the connection of uid %u", uid,
				    s->socket_uid);
	if (s->remote_peer && (!s->sealed || uid != s->own_uid))
		return vc_error_set(err, VC_EDENIED, "role peer is for uid %u over TCP", s->own_uid);
	s->remote_uid = uid;
	if (s->sealed)
		want_encode(s, uid);
	else
		start_seal(s);
	return 0;
}

// --- client ---

struct vc_session *vc_session_client(const struct vc_session_opts *opts, struct vc_error *err)
{
	return session_create(opts, false, err);
}

static int client_hello(struct vc_session *s, struct json_object *obj, struct vc_error *err)
{
	if (read_hex(obj, "nonce", NONCE_HEX, s->nonce, err) < 0 || read_host(obj, s->remote_host, err) < 0 ||
	    (s->sealed && read_hex(obj, "key", KEY_HEX, s->server_key, err) < 0))
		return -1;
	if (*s->expect_host && strcmp(s->expect_host, s->remote_host) != 0)
		return vc_error_set(err, VC_EAUTH, "expected vcd of host %s, found that of %s: check addresses and 'hosts'",
				    s->expect_host, s->remote_host);
	random_hex(s->client_nonce, NONCE_BYTES);
	make_key(s, s->key);
	want_encode(s, s->server_uid);
	return 0;
}

static int client_decoded(struct vc_session *s, struct json_object *obj, uid_t uid, struct vc_error *err)
{
	if (check_payload(s, obj, "server", err) < 0 || require(obj, "client_nonce", s->client_nonce, err) < 0 ||
	    require(obj, "key", s->key, err) < 0)
		return -1;
	if (uid != s->server_uid)
		return vc_error_set(err, VC_EAUTH, "vcd of %s answers as uid %u instead of %u", s->remote_host, uid,
				    s->server_uid);
	s->remote_uid = uid;
	start_seal(s);
	return 0;
}

static int client_encoded(struct vc_session *s, struct json_object *hello, struct vc_error *err)
{
	if (vc_json_add_str(hello, "role", s->peer ? "peer" : "client") < 0 ||
	    vc_json_add_str(hello, "host", s->host) < 0)
		return vc_error_set(err, ENOMEM, "handshake: out of memory");
	return queue_json(s, VC_FRAME_HELLO, hello, err);
}

// --- munge's answers ---

void vc_session_decoded(struct vc_session *s, uid_t uid, const char *payload, size_t len)
{
	if (s->state != DECODING)
		return;
	free(vc_steal(&s->cred));
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *obj = vc_json_parse(payload, len, &err);
	if (!obj || (s->server ? server_decoded(s, obj, uid, &err) : client_decoded(s, obj, uid, &err)) < 0)
		vc_session_fail(s, &err);
}

void vc_session_encoded(struct vc_session *s, const char *cred)
{
	if (s->state != ENCODING)
		return;
	free(vc_steal(&s->payload));
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *hello = json_object_new_object();
	if (!hello || vc_json_add_str(hello, "cred", cred) < 0) {
		fail(s, ENOMEM, "handshake: out of memory");
		return;
	}
	if ((s->server ? queue_json(s, VC_FRAME_HELLO, hello, &err) : client_encoded(s, hello, &err)) < 0) {
		vc_session_fail(s, &err);
		return;
	}
	if (!s->server && s->sealed)
		s->state = EXPECT_ANSWER;
	else
		start_seal(s);
}

// --- receiving ---

int vc_session_input(struct vc_session *s, const void *data, size_t len, struct vc_error *err)
{
	if (s->state == CLOSED)
		return 0;
	vc_buf_consume(&s->in, s->in_use);
	s->in_use = 0;
	if (vc_buf_append(&s->in, data, len) < 0)
		return vc_error_errno(err, "%zu bytes wait unread", s->in.len);
	return 0;
}

uint8_t *vc_session_room(struct vc_session *s, size_t len)
{
	vc_buf_consume(&s->in, s->in_use);
	s->in_use = 0;
	return vc_buf_reserve(&s->in, len);
}

void vc_session_arrived(struct vc_session *s, size_t len)
{
	vc_buf_commit(&s->in, len);
}

size_t vc_session_missing(const struct vc_session *s)
{
	size_t have = s->in.len - s->in_use;
	if (!have || have < VC_FRAME_HEADER_LEN)
		return have ? VC_FRAME_HEADER_LEN - have : 0;
	size_t whole = VC_FRAME_HEADER_LEN + vc_get_be32(vc_buf_head(&s->in) + s->in_use + 8);
	return whole > have ? whole - have : 0;
}

static void take_hello(struct vc_session *s, const struct vc_frame *frame)
{
	struct vc_error err = VC_ERROR_INIT;
	int rc = -1;
	vc_autojson struct json_object *obj = vc_json_parse((const char *)frame->body, frame->len, &err);
	if (obj && s->state == EXPECT_ANSWER)
		rc = take_cred(s, obj, &err);
	else if (obj)
		rc = s->server ? server_hello(s, obj, &err) : client_hello(s, obj, &err);
	if (rc < 0)
		vc_session_fail(s, &err);
}

// Opens one SEALED body into s->inner; 1: *frame is the inner frame, 0: it was the stream header, -1: broken.
static int open_seal(struct vc_session *s, struct vc_frame *frame, struct vc_error *err)
{
	if (!s->pulling) {
		if (frame->len != crypto_secretstream_xchacha20poly1305_HEADERBYTES ||
		    crypto_secretstream_xchacha20poly1305_init_pull(&s->pull, frame->body, s->rx_key) < 0)
			return vc_error_set(err, VC_EPROTO, "the first sealed frame is no stream header");
		s->pulling = true;
		return 0;
	}
	if (frame->len < crypto_secretstream_xchacha20poly1305_ABYTES)
		return vc_error_set(err, VC_EPROTO, "a sealed frame of %zu bytes is too short", frame->len);
	size_t len = frame->len - crypto_secretstream_xchacha20poly1305_ABYTES;
	unsigned char tag = 0;
	s->inner.len = s->inner.off = 0;
	uint8_t *p = vc_buf_reserve(&s->inner, len);
	if (!p)
		return vc_error_errno(err, "a sealed frame of %zu bytes", frame->len);
	if (crypto_secretstream_xchacha20poly1305_pull(&s->pull, p, NULL, &tag, frame->body, frame->len, NULL, 0) < 0)
		return vc_error_set(err, VC_EAUTH, "a sealed frame was changed on its way");
	vc_buf_commit(&s->inner, len);
	int rc = vc_frame_peek(&s->inner, 0, frame, err);
	if (rc == 0 || (rc > 0 && vc_frame_size(frame) != len))
		return vc_error_set(err, VC_EPROTO, "a sealed frame does not hold exactly one frame");
	return rc;
}

// One outer frame in OPEN. FRAME when there is something for the owner, NEED_INPUT to go on with the next one.
static enum vc_session_event take_open(struct vc_session *s, struct vc_frame *frame)
{
	struct vc_error err = VC_ERROR_INIT;
	if (s->sealed != (frame->type == VC_FRAME_SEALED)) {
		fail(s, VC_EPROTO, "unexpected frame type %d", (int)frame->type);
		return VC_SESSION_NEED_INPUT;
	}
	if (s->sealed) {
		int rc = open_seal(s, frame, &err);
		if (rc < 0)
			vc_session_fail(s, &err);
		if (rc <= 0)
			return VC_SESSION_NEED_INPUT;
	}
	if (frame->type == VC_FRAME_RPC || frame->type == VC_FRAME_DATA)
		return VC_SESSION_FRAME;
	if (frame->type == VC_FRAME_BYE)
		take_bye(s, frame);
	else
		fail(s, VC_EPROTO, "unexpected frame type %d", (int)frame->type);
	return VC_SESSION_NEED_INPUT;
}

// Looks at the next frame; false when the owner has to bring bytes, or has a frame.
static bool advance(struct vc_session *s, struct vc_frame *ret_frame, enum vc_session_event *ret_event)
{
	struct vc_error err = VC_ERROR_INIT;
	struct vc_frame frame;
	vc_buf_consume(&s->in, s->in_use);
	s->in_use = 0;
	*ret_event = VC_SESSION_NEED_INPUT;
	int rc = vc_frame_peek(&s->in, s->state == OPEN ? 0 : VC_FRAME_HANDSHAKE_MAX, &frame, &err);
	if (rc < 0)
		vc_session_fail(s, &err);
	if (rc <= 0)
		return rc < 0;
	s->in_use = vc_frame_size(&frame);
	if (s->state == OPEN)
		*ret_event = take_open(s, &frame);
	else if (frame.type == VC_FRAME_HELLO)
		take_hello(s, &frame);
	else if (frame.type == VC_FRAME_BYE)
		take_bye(s, &frame);
	else
		fail(s, VC_EPROTO, "frame type %d before authentication", (int)frame.type);
	if (*ret_event == VC_SESSION_FRAME)
		*ret_frame = frame;
	return *ret_event != VC_SESSION_FRAME;
}

enum vc_session_event vc_session_next(struct vc_session *s, struct vc_frame *ret_frame, struct vc_error *err)
{
	enum vc_session_event event = VC_SESSION_NEED_INPUT;
	for (;;) {
		switch (s->state) {
		case CRED_IN:
			s->state = DECODING;
			return VC_SESSION_DECODE;
		case CRED_OUT:
			s->state = ENCODING;
			return VC_SESSION_ENCODE;
		case DECODING:
		case ENCODING:
			return VC_SESSION_WAIT;
		case AUTHENTICATED:
			s->state = OPEN;
			return VC_SESSION_READY;
		case CLOSED:
			vc_error_set(err, s->why.code, "%s", s->why.text);
			return VC_SESSION_CLOSED;
		case EXPECT_HELLO:
		case EXPECT_ANSWER:
		case OPEN:
			if (!advance(s, ret_frame, &event))
				return event;
		}
	}
}

const char *vc_session_cred(const struct vc_session *s)
{
	return s->cred;
}

const char *vc_session_payload(const struct vc_session *s)
{
	return s->payload;
}

uid_t vc_session_reader(const struct vc_session *s)
{
	return s->reader;
}

struct vc_buf *vc_session_output(struct vc_session *s)
{
	return &s->out;
}

struct vc_buf *vc_session_pending(struct vc_session *s)
{
	vc_buf_consume(&s->in, s->in_use);
	s->in_use = 0;
	return &s->in;
}

uid_t vc_session_uid(const struct vc_session *s)
{
	return s->remote_uid;
}

const char *vc_session_host(const struct vc_session *s)
{
	return s->remote_host;
}

bool vc_session_is_peer(const struct vc_session *s)
{
	return s->remote_peer;
}
