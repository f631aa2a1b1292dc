// SPDX-License-Identifier: GPL-2.0-or-later
// Finds and opens the descriptor of the link to the host: the virtio-serial port by its name, or vsock.
#ifndef GUEST_PORT_H
#define GUEST_PORT_H

#include <stdint.h>

#include "libvc/error.h"

#define PORT_NAME "org.vcluster.0"

// *vsock_port 0: virtio-serial. Where the host does not answer at that vsock port, the virtio-serial port is taken and
// *vsock_port becomes 0. Waits a bounded time for the device. Returns the descriptor or -1.
int port_open(uint32_t *vsock_port, struct vc_error *err);
// One attempt by vsock; -1 when the host does not take it.
int port_connect(uint32_t vsock_port);

#endif
