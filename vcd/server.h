// SPDX-License-Identifier: GPL-2.0-or-later
// The listeners: run-dir/vcd.sock for local clients (0666: everybody must prove who they are) and TCP for other vcds.
//
// Owns the listening handles and every accepted connection (conn.c). A connection over a limit gets BYE "busy".
#ifndef VCD_SERVER_H
#define VCD_SERVER_H

#include "libvc/error.h"

struct vcd;
struct server;

struct server *server_create(struct vcd *vcd, struct vc_error *err); // binds and listens; accepts in the loop
int server_port(const struct server *s); // the bound one (port 0 in tests)
// No new connections; open requests are answered with VC_ECANCELED, then connections close.
void server_stop(struct server *s);
void server_destroy(struct server *s); // after the loop has run dry

#endif
