// SPDX-License-Identifier: GPL-2.0-or-later
// Post-copy at the source: see sharemove.h.
//
// The domain stops here and runs at the target before all of its memory is there. QEMU and libvirt here never let it run again from
// then on, so what is left to do is to write that down before the target's copy runs: the relay holds the words of libvirt that let
// it run (relay.h) until the decision is written. Where libvirt says them without having switched, the guest had come to rest before:
// the words are dropped, the member goes on here, and a pre-copy begins.
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/share_int.h"
#include "vcd/uffd.h"
#include "vcd/vcd.h"

struct check { // belongs to its job
	struct share_move *move;
	struct sharework *work;
	char name[32];
	bool held, switched;
};

const char *share_post_obstacle(const struct share *s)
{
	struct move_uffd uffd;
	uffd_look(s->work->qemu_uid, &uffd);
	return move_postcopy_obstacle(&uffd);
}

static int check_run(void *ctx, struct vc_error *err)
{
	struct check *c = ctx;
	return hv_has_switched(c->work->hv, c->name, &c->switched, err);
}

static void check_done(void *ctx, const struct vc_error *err)
{
	const struct check *c = ctx;
	struct share_move *mv = c->move;
	mv->cutting = NULL;
	if (err)
		vc_log_ctx(VC_LOG_WARNING, &mv->share->log, "member %" PRIu32 ": %s", mv->rank, err->text);
	if (!err && c->switched) {
		share_move_decide(mv);
		return;
	}
	if (!err && c->held && mv->relay) {
		vc_log_ctx(VC_LOG_NOTICE, &mv->share->log, "member %" PRIu32 " came to rest before it was to go on at its target", mv->rank);
		share_post_give_up(mv);
	}
	if (mv->copied)
		share_move_copied(mv);
}

static void check_release(void *ctx)
{
	struct check *c = ctx;
	sharework_unref(c->work);
	free(c);
}

void share_post_check(struct share_move *mv)
{
	struct share *s = mv->share;
	if (mv->stage != MOVE_COPYING || mv->policy != MOVE_POSTCOPY || mv->cutting || !mv->relay)
		return;
	struct check *c = calloc(1, sizeof(*c));
	if (!c)
		return;
	*c = (struct check){.move = mv, .work = sharework_ref(s->work), .held = relay_is_holding(mv->relay, RELAY_LIBVIRT)};
	sharework_domain(s->work, mv->rank, c->name);
	struct work_args args = {.pool = WORK_HV, .what = "switch of a migration", .deadline_ms = s->vcd->conf->libvirt_timeout_ms,
				 .run = check_run, .done = check_done, .release = check_release, .ctx = c};
	if (work_submit(s->vcd->work, &args, &mv->cutting, NULL) < 0)
		check_release(c);
}

// Half of what the guest has touched goes before. The relay holds the rest, so that the guest cannot come to rest meanwhile.
uint64_t share_post_head(const struct share_move *mv)
{
	return mv->facts.memory / 2 > SHAREMOVE_HEAD_MIN ? mv->facts.memory / 2 : SHAREMOVE_HEAD_MIN;
}

int share_post_try(struct relay *relay, struct hv *hv, const char *name, bool *ret_switched, struct vc_error *err)
{
	for (unsigned i = 0; i < SHAREMOVE_SWITCH_LOOKS; i++) {
		if (relay_is_holding(relay, RELAY_MEMORY)) {
			*ret_switched = true; // or it failed, and is over
			if (hv_switch(hv, name, err) < 0)
				return -1;
			relay_pass(relay, RELAY_MEMORY);
			return 0;
		}
		(void)poll(NULL, 0, SHAREMOVE_SWITCH_MS);
	}
	return 0;
}

// Not by post-copy, then.
void share_post_give_up(struct share_move *mv)
{
	mv->again = true;
	relay_destroy(vc_steal(&mv->relay)); // libvirt's call fails
}

static int any_open(void *ctx, struct vc_error *err)
{
	(void)ctx;
	(void)err;
	return 0;
}

// libvirt's call has failed here. While the memory goes on nothing is lost; afterwards the target knows how it ended.
bool share_post_goes_on(const struct share_move *mv)
{
	return mv->relay && relay_while_open(mv->relay, RELAY_MEMORY, any_open, NULL, NULL) == 0;
}
