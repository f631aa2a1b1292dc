// SPDX-License-Identifier: GPL-2.0-or-later
// Connections one after another over one stream of bytes: pieces of 4 bytes length + bytes; length 0 ends a connection.
//
// Each side ends each connection once; what comes in between its own end and the other's is of the connection that is over.
// Pure: a reader of such a stream.
#ifndef LIBVC_PIECES_H
#define LIBVC_PIECES_H

#include <stddef.h>
#include <stdint.h>

#define VC_PIECE_HEAD 4u
#define VC_PIECE_MAX 65536u // bytes of a piece

struct vc_pieces { // zeroed to begin with
	uint8_t head[VC_PIECE_HEAD];
	unsigned have;
	uint32_t left; // of the piece under way
};

enum vc_piece {
	VC_PIECE_MORE,	// bytes are needed to go on
	VC_PIECE_BYTES, // *ret_len bytes of the connection stand behind the *ret_used first ones: vc_pieces_taken()
	VC_PIECE_END,	// the connection is over
	VC_PIECE_WRONG, // no such length
};
enum vc_piece vc_pieces_next(struct vc_pieces *p, const uint8_t *data, size_t len, size_t *ret_used, size_t *ret_len);
void vc_pieces_taken(struct vc_pieces *p, size_t len);

#endif
