// SPDX-License-Identifier: GPL-2.0-or-later
// The handshake and encryption of a vcrsh connection (docs/protocol.md, part 5): one end, bytes in, bytes out.
//
// Pure: no descriptors, no clock. Both ends prove that they know the cluster's secret; the keys are ephemeral. The
// caller feeds what arrived and sends what comes out. Any error is final: the connection is to be closed.
#ifndef GUEST_SEAL_H
#define GUEST_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/buf.h"
#include "libvc/error.h"

#define SEAL_SECRET_LEN 32u
#define SEAL_CHUNK_MAX 65536u // bytes of plain text in one message

struct seal;

struct seal *seal_create(bool client, const uint8_t secret[SEAL_SECRET_LEN], struct vc_error *err);
void seal_destroy(struct seal *s);

// Client: the first bytes of the handshake go to out.
int seal_start(struct seal *s, struct vc_buf *out, struct vc_error *err);
// Takes len bytes from the peer: answers go to out, decrypted bytes are appended to plain.
int seal_input(struct seal *s, const uint8_t *data, size_t len, struct vc_buf *out, struct vc_buf *plain, struct vc_error *err);
// Encrypts after the handshake, in messages of at most SEAL_CHUNK_MAX.
int seal_output(struct seal *s, const uint8_t *data, size_t len, struct vc_buf *out, struct vc_error *err);
bool seal_ready(const struct seal *s); // the peer has proved itself, seal_output works

#endif
