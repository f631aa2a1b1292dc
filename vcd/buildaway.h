// SPDX-License-Identifier: GPL-2.0-or-later
// One build of the controller's that another host does: who, its progress, its log, and the image's way back.
//
// The first host that can takes it: of image-build-hosts, or, where none is named, of Slurm's nodes without the controller, the one
// that did the last build before the others, as it has the stages. A host that is lost is followed by the next one.
#ifndef VCD_BUILDAWAY_H
#define VCD_BUILDAWAY_H

#include "vcd/imgbuild.h"

struct buildaway;
struct conf;

struct buildaway_args {
	struct imgbuild_args build; // without an import
	char *last;		    // VC_HOSTNAME_MAX + 1 bytes: the host of the last build, read and written
	// Instead of done() and ended(): this host is to do it, and gets the recipe back.
	void (*here)(void *ctx, struct recipe *recipe);
};

// Whether this host does its builds itself, without asking anybody. Pure.
bool buildaway_is_here(const struct conf *conf);
// done() and ended() of build, or here(), come from the loop, never from inside.
struct buildaway *buildaway_start(const struct buildaway_args *args, struct vc_error *err);
void buildaway_stop(struct buildaway *b); // done() and ended() follow, perhaps at once
const char *buildaway_name(const struct buildaway *b); // of the image
const char *buildaway_host(const struct buildaway *b); // that builds; NULL: none yet

#endif
