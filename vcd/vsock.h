// SPDX-License-Identifier: GPL-2.0-or-later
// The host's end of guest links over vsock: one listening socket for all guests of this host.
//
// A guest is known by its context id (CID), for which the kernel vouches: it comes from the plan, so nothing has to be
// remembered, and a restarted vcd knows its guests again. Owns the socket; fails where the host has no vhost-vsock, or
// where another vcd of this machine listens already: then links are virtio-serial ports.
#ifndef VCD_VSOCK_H
#define VCD_VSOCK_H

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "libvc/error.h"

#define VSOCK_PORT 6828u // next to vcd's and vcrsh's; guests hear it on their kernel's command line

struct vsock;

// A guest connects: takes fd.
typedef void (*vsock_fn)(void *ctx, uint32_t cid, int fd);

struct vsock *vsock_create(uv_loop_t *loop, vsock_fn fn, void *ctx, struct vc_error *err);
void vsock_close(struct vsock *v); // NULL is fine; the memory goes in the loop's next turn

// Of a host's index-th member (below 64) of the cluster with this VNI (24 bits): unique on a host, since VNIs are.
uint32_t vsock_cid(uint32_t vni, size_t index);

#endif
