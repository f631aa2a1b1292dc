// SPDX-License-Identifier: GPL-2.0-or-later
// Fuzz target for control frames: bytes of a client, before and after authentication, into a server's session.
//
// The first byte chooses: bit 0 a sealed connection (TCP), bit 1 a client (a hostile server), bit 2 munge says no, bits
// 3.. the size of the pieces. The credential is believed as a JSON payload of the target's own making: what a right user
// may send after a right handshake is reached as well.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/frame.h"
#include "libvc/json.h"
#include "libvc/session.h"

#define UID 2001u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What munge would hand out: the "credential" itself when it is JSON text.
static void decode(struct vc_session *s, bool refuse)
{
	const char *cred = vc_session_cred(s);
	struct vc_error err = VC_ERROR_INIT;
	if (!cred)
		abort();
	if (refuse) {
		vc_error_set(&err, VC_EAUTH, "replayed");
		vc_session_fail(s, &err);
		return;
	}
	vc_autofree char *payload = strdup(cred); // the session lets go of its own
	if (payload)
		vc_session_decoded(s, UID, payload, strlen(payload));
	else
		vc_session_fail(s, &err);
}

static void take(struct vc_session *s, bool client, bool refuse)
{
	struct vc_frame frame;
	struct vc_error err = VC_ERROR_INIT;
	for (;;) {
		switch (vc_session_next(s, &frame, &err)) {
		case VC_SESSION_DECODE:
			decode(s, refuse);
			break;
		case VC_SESSION_ENCODE:
			vc_session_encoded(s, "MUNGE:credential:");
			break;
		case VC_SESSION_FRAME:
			if (frame.len > vc_frame_max(frame.type) || (frame.type != VC_FRAME_RPC && frame.type != VC_FRAME_DATA))
				abort();
			vc_session_send(s, VC_FRAME_RPC, frame.body, frame.len < 64 ? frame.len : 64, NULL);
			break;
		case VC_SESSION_READY:
			if (!client && (vc_session_uid(s) != UID || vc_session_is_peer(s)))
				abort(); // a plain user is never another, nor a peer
			break;
		default:
			return;
		}
	}
}

// The server's nonce and key are random: the corpus has 64 letters N or K where they belong.
static void fill_in(struct vc_session *s, const char *name, char letter, uint8_t *data, size_t size)
{
	char mark[64];
	struct vc_buf *out = vc_session_output(s);
	memset(mark, letter, sizeof(mark));
	const char *key = out->len ? memmem(vc_buf_head(out), out->len, name, strlen(name)) : NULL;
	const char *value = key ? key + strlen(name) : NULL;
	for (uint8_t *p = data; value && (p = memmem(p, size - (size_t)(p - data), mark, sizeof(mark))); p += sizeof(mark))
		memcpy(p, value, sizeof(mark));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	uint8_t mode = data[0];
	struct vc_session_opts opts = {.sealed = mode & 1, .host = "n1", .own_uid = 0, .server_uid = UID, .socket_uid = UID};
	struct vc_session *s = mode & 2 ? vc_session_client(&opts, NULL) : vc_session_server(&opts, NULL);
	vc_autofree uint8_t *copy = s ? malloc(size) : NULL;
	if (copy) {
		memcpy(copy, data + 1, size - 1);
		fill_in(s, "\"nonce\":\"", 'N', copy, size - 1);
		fill_in(s, "\"key\":\"", 'K', copy, size - 1);
	}
	size_t step = 1 + (mode >> 3) * 40u;
	for (size_t at = 0; copy && at < size - 1; at += step) {
		vc_session_input(s, copy + at, size - 1 - at < step ? size - 1 - at : step, NULL);
		take(s, mode & 2, mode & 4);
	}
	vc_session_destroy(s);
	return 0;
}
