// SPDX-License-Identifier: GPL-2.0-or-later
// One host's place in the chain of one image: takes what this host lacks from its predecessor, and serves successors.
//
// A thread of its own owns the links and the holding. What its successors want it reads from disk (verified as read) when
// it is here, and passes on piece by piece as it arrives when it is not; a successor that is too slow for that gets it
// from disk later, so that nobody waits for it and memory stays bounded. A predecessor that is lost is replaced by the next
// one of the chain, which is told what is still lacking. A transfer that failed tells its successors by closing.
//
// Nothing here touches the daemon's loop: dial() and probe() run in threads of their own, changed() in the transfer's.
#ifndef VCD_PIPELINE_H
#define VCD_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "libvc/limits.h"
#include "vcd/image/digest.h"
#include "vcd/pipe/chain.h"

struct holding;
struct pipeline;
struct store;
struct vc_session;

struct pipeline_ops {
	// An authenticated session with that host, which has agreed to send the image. May block.
	int (*dial)(void *ctx, const char *host, enum chain_ask how, int *ret_fd, struct vc_session **ret_session, struct vc_error *err);
	bool (*probe)(void *ctx, const char *host); // its vcd answers; must return within PIPE_PROBE_MS
	void (*changed)(void *ctx);		    // the phase or the event has changed: see pipeline_status()
	void (*release)(void *ctx);		    // nothing of the above is called any more
};

enum pipeline_phase {
	PIPELINE_FETCHING,
	PIPELINE_COMPLETE, // all is here; may be published (a holding that was published before begins here)
	PIPELINE_FAILED,
	PIPELINE_ENDED,	   // the thread is gone: pipeline_unref()
};

struct pipeline_status {
	enum pipeline_phase phase;
	struct vc_error error;		     // of FAILED
	uint64_t bytes_in, bytes_out;	     // of frames, as they travel
	uint64_t adopted;		     // bytes taken from other images of this host
	size_t held, total;		     // chunks that are no holes
	char predecessor[VC_HOSTNAME_MAX + 1]; // "" none
	size_t successors;
	uint64_t idle_ms;		     // without successor, once COMPLETE
	unsigned bypassed;		     // predecessors that were lost
	char bad_host[VC_HOSTNAME_MAX + 1];  // the last one that sent a chunk which was not what it should be
	bool damaged;			     // a chunk on this host's disk is
	bool at_tail;			     // it was too slow for its place in the chain: nobody is served before all is here
};

struct pipeline_args {
	struct store *store;
	char digest[DIGEST_HEX_LEN];
	struct holding *holding; // complete: only serves; lacking some: fetches those (a repair); NULL: fetches. Taken
	struct chain *chain;	 // whom to fetch from. Taken, may be NULL with a holding
	const struct pipeline_ops *ops;
	void *ctx; // released with ops->release in every case
	uint64_t min_rate;	 // bytes a second: a successor that is slower is sent to the tail of the chain; 0: none
};

struct pipeline *pipeline_start(const struct pipeline_args *args, struct vc_error *err);
// A successor: its connection and session, taken.
void pipeline_add(struct pipeline *p, int fd, struct vc_session *session, const char *host);
void pipeline_status(struct pipeline *p, struct pipeline_status *ret);
struct holding *pipeline_holding(struct pipeline *p); // once COMPLETE, until pipeline_stop(): for holding_publish()
void pipeline_stop(struct pipeline *p);		      // ENDED follows; what is not published goes
void pipeline_unref(struct pipeline *p);

#endif
