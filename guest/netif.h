// SPDX-License-Identifier: GPL-2.0-or-later
// The guest's network interfaces: loopback up, the cluster's interface found by its MAC address and configured.
#ifndef GUEST_NETIF_H
#define GUEST_NETIF_H

#include <stdint.h>

#include "libvc/error.h"

#define NETIF_NAME "eth0" // what MPI libraries and people find in a guest; there is no other beside lo

int netif_loopback_up(struct vc_error *err);
// The interface gets the name eth0 when it has another. Idempotent.
int netif_configure(const char *mac, const char *addr, uint32_t prefix, uint32_t mtu, struct vc_error *err);

#endif
