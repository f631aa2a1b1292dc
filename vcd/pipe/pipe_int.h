// SPDX-License-Identifier: GPL-2.0-or-later
// What the files of a transfer's thread share: pipeline.c (life, mail, loop), pipe_up.c (receiving), pipe_down.c (sending).
#ifndef VCD_PIPE_INT_H
#define VCD_PIPE_INT_H

#include <pthread.h>
#include <sys/queue.h>

#include "vcd/image/holding.h"
#include "vcd/pipe/chain.h"
#include "vcd/pipe/pipe_frame.h"
#include "vcd/pipe/pipe_link.h"
#include "vcd/pipe/pipeline.h"

enum mail_type { MAIL_DOWN, MAIL_DIALED, MAIL_PROBED };

struct mail {
	STAILQ_ENTRY(mail) link;
	enum mail_type type;
	int fd; // -1: dial failed, err says why
	struct vc_session *session;
	char host[VC_HOSTNAME_MAX + 1];
	bool alive; // PROBED
	struct vc_error err;
};

struct down {
	LIST_ENTRY(down) link;
	struct pipe_link *io;
	uint8_t *want; // bitmap; NULL until the list is known
	size_t n_want;
	uint32_t n_asked;	// WANTs that came
	bool wants_list;
	bool relaying;		// the frame that arrives now goes there, too
	bool ended;		// END was said
	uint64_t fed_at;	// version when nothing was found to feed
	uint64_t busy_since;	// ms: from then on something was always waiting for it
	uint64_t busy_out, busy_in; // bytes that had been taken by it, and had come here, at that time
	bool told_slow;
	bool dead;
};

struct up {
	struct pipe_link *io; // NULL: none
	struct pipe_frame frame;
	bool suspect;	  // the last frame was bad, and nothing was heard since
	unsigned bad;	  // how many were
	uint32_t n_wants; // messages sent
	uint64_t probed;  // ms
	uint64_t came_at; // ms: the last piece of a frame
};

struct pipeline {
	pthread_mutex_t lock; // guards the next group
	unsigned refs;
	bool stop;
	STAILQ_HEAD(, mail) mail;
	struct pipeline_status status;

	int wake; // eventfd
	const struct pipeline_ops *ops;
	void *ctx;
	struct store *store;
	char digest[DIGEST_HEX_LEN];

	// of the thread alone
	struct holding *holding;
	struct chain *chain;
	struct up up;
	LIST_HEAD(, down) downs;
	size_t n_downs;
	enum pipeline_phase phase;
	struct vc_error error;
	bool dialing, probing, adopting, at_tail;
	uint64_t min_rate; // bytes a second of a successor that others stand behind; 0: none
	uint64_t retry_at, orphan_since, idle_since;
	struct vc_error last_loss;
	uint64_t version; // counts chunks that came, and wishes
	uint64_t bytes_in, bytes_out; // of links that are gone
	size_t total;
	unsigned bypassed;
	char bad_host[VC_HOSTNAME_MAX + 1];
	bool damaged;
	uint8_t *raw; // PIPE_FRAME_CHUNKS chunks, to send from
};

static inline uint64_t pipe_bytes_in(const struct pipeline *p)
{
	return p->bytes_in + (p->up.io ? pipe_link_bytes_in(p->up.io) : 0);
}

void pipe_fail(struct pipeline *p, const struct vc_error *err);
// Starts a thread that dials or probes host.
void pipe_ask(struct pipeline *p, enum mail_type type, const char *host, enum chain_ask how);
void pipe_chunks_known(struct pipeline *p);

void up_attach(struct pipeline *p, struct mail *m);
void up_read(struct pipeline *p);
void up_lost(struct pipeline *p, const struct vc_error *why);
void up_tick(struct pipeline *p, uint64_t now);
void up_probed(struct pipeline *p, const struct mail *m);
void up_close(struct pipeline *p);
void up_adopt(struct pipeline *p);

void down_attach(struct pipeline *p, struct mail *m);
void down_read(struct pipeline *p, struct down *d);
void down_turn(struct pipeline *p, struct down *d, uint64_t now); // feeds, ticks, flushes
void downs_list_known(struct pipeline *p);
void downs_begin(struct pipeline *p);				   // a frame begins to arrive
void downs_piece(struct pipeline *p, const uint8_t *data, size_t len);
void downs_finish(struct pipeline *p, bool good, bool bad);	   // it is complete, or will never be
void downs_leave(struct pipeline *p);				   // they are to find another predecessor
void downs_reap(struct pipeline *p);
void downs_close(struct pipeline *p);

#endif
