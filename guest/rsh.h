// SPDX-License-Identifier: GPL-2.0-or-later
// vcrsh between guests: TCP tunnels, authenticated and encrypted with the cluster's secret (docs/protocol.md, part 5).
//
// Owns the listener and all tunnels of this guest, both those that its own clients began and those from other guests.
// A tunnel carries the bytes of one stream of link frames and looks at none of them.
#ifndef GUEST_RSH_H
#define GUEST_RSH_H

#include "guest/agent.h"

#define RSH_PORT 6827 // TCP, next to vcd's

struct rsh;

struct rsh *rsh_create(struct agent *a, struct vc_error *err);
int rsh_listen(struct rsh *r, const char *addr, struct vc_error *err);

// The address of a member by its name or address, as the view or (m, may be NULL) the setup knows it.
int rsh_resolve(const struct agent *a, const char *host, const struct setup_member *m, char ret_addr[16], struct vc_error *err);
// Takes the client's descriptor, on failure too, where it answers the client itself (then err only says so).
int rsh_connect(struct rsh *r, int fd, uid_t uid, const char *host, const char *addr, struct vc_error *err);

#endif
