// SPDX-License-Identifier: GPL-2.0-or-later
// Who may be this host's predecessor in the chain of an image, and in which order they are tried. Pure.
//
// A chain is a head that has the image, then the hosts that want it, ordered by the groups of the topology and by name (numbers by
// value). A host takes the
// nearest one before it; one that is dead is left out, up to the head. When there is none any more, hosts behind it are
// asked whether they have all of the image; then it begins anew, for who was dead may have come back.
#ifndef VCD_PIPE_CHAIN_H
#define VCD_PIPE_CHAIN_H

#include <stdbool.h>
#include <stddef.h>

#include "libvc/error.h"

struct chain;

// head may be NULL or be among hosts. Names are copied, ordered, and kept once; self need not be among them. topology: lists of hosts
// ("n[1-16]"), NULL-terminated, or NULL; a host of an earlier list comes first, one of no list last. It must be the same on all hosts.
struct chain *chain_create(const char *head, const char *const *hosts, size_t n, const char *self, char *const *topology, struct vc_error *err);
void chain_destroy(struct chain *c);

enum chain_ask {
	CHAIN_WAIT,	// it may wait until it wants the image itself: its own request is on its way
	CHAIN_NOW,	// only if it has the image, or gets it: it was asked before
	CHAIN_COMPLETE, // only if it has all of it
};

// The next one to try; NULL at the end of a round.
const char *chain_next(struct chain *c, enum chain_ask *ret_ask);
void chain_restart(struct chain *c); // with the nearest one
// host turned out to send what is wrong, or too slowly: it is tried last from now on.
void chain_demote(struct chain *c, const char *host);
// self is too slow for its place: from now on it asks the others from the end, those that are fetching themselves. False: it is the last
// one already.
bool chain_to_tail(struct chain *c);
size_t chain_length(const struct chain *c);
const char *chain_host(const struct chain *c, size_t i);

#endif
