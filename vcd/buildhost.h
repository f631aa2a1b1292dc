// SPDX-License-Identifier: GPL-2.0-or-later
// Builds that this host does for the controller: methods host.build and host.buildlog. What comes of a build stays in this host's
// store and cache, without a name; the controller fetches it like any host.
#ifndef VCD_BUILDHOST_H
#define VCD_BUILDHOST_H

#include "libvc/error.h"

struct buildhost;
struct imgcache;
struct store;
struct vcd;

struct buildhost *buildhost_create(struct vcd *vcd, struct store *store, struct imgcache *cache, struct vc_error *err);
void buildhost_stop(struct buildhost *b); // kills builds; before transfers stop
void buildhost_destroy(struct buildhost *b);

#endif
