// SPDX-License-Identifier: GPL-2.0-or-later
// The sending side of image.fetch: an image's data as DATA frames (8-byte offset, bytes), holes left out.
#ifndef VCD_IMGSERVE_H
#define VCD_IMGSERVE_H

#include "libvc/error.h"
#include "vcd/rpc.h"

struct store;
struct vcd;

// Replies to req now or later; the image is pinned while it is sent.
int imgserve_start(struct vcd *vcd, struct store *store, const char *digest, struct rpc_request *req, struct vc_error *err);

#endif
