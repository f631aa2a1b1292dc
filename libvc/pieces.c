// SPDX-License-Identifier: GPL-2.0-or-later
// Connections one after another over one stream: see pieces.h.
#include "libvc/pieces.h"

#include "libvc/buf.h"

enum vc_piece vc_pieces_next(struct vc_pieces *p, const uint8_t *data, size_t len, size_t *ret_used, size_t *ret_len)
{
	size_t used = 0;
	*ret_len = 0;
	while (!p->left && used < len) {
		p->head[p->have++] = data[used++];
		if (p->have < VC_PIECE_HEAD)
			continue;
		p->have = 0;
		p->left = vc_get_be32(p->head);
		if (p->left > VC_PIECE_MAX || !p->left) {
			*ret_used = used;
			return p->left ? VC_PIECE_WRONG : VC_PIECE_END;
		}
	}
	*ret_used = used;
	*ret_len = p->left < len - used ? p->left : len - used;
	return *ret_len ? VC_PIECE_BYTES : VC_PIECE_MORE;
}

void vc_pieces_taken(struct vc_pieces *p, size_t len)
{
	p->left -= (uint32_t)len;
}
