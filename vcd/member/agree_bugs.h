// SPDX-License-Identifier: GPL-2.0-or-later
// Planted bugs: the simulator must catch each. Compiled in for tests/sim only (AGREE_BUGS); in vcd BUG() is false.
#ifndef VCD_MEMBER_AGREE_BUGS_H
#define VCD_MEMBER_AGREE_BUGS_H

enum agree_bug {
	BUG_NONE,
	BUG_FAST_MAJORITY,	// one round decides with a majority
	BUG_HALF_IS_ENOUGH,	// a ballot ends with half of the hosts, without a grant
	BUG_VOTE_TWICE,		// a host votes again in ballot 0, for something else
	BUG_FORGET_FAST_VOTE,	// the vote in ballot 0 does not survive a restart
	BUG_FORGET_PROMISE,	// nor does a promise
	BUG_FORGET_VOTE,	// nor does the vote in a ballot
	BUG_STALE_BALLOT,	// a vote below the promise
	BUG_FAST_AFTER_PROMISE, // a vote in ballot 0 after the promise of a higher one
	BUG_IGNORE_FAST,	// the coordinator does not look for what ballot 0 may have chosen
	BUG_IGNORE_VOTED,	// nor for what an earlier ballot may have chosen
	BUG_LOWEST_BALLOT,	// takes the vote of the lowest ballot instead of the highest
	BUG_SAME_BALLOT,	// two coordinators use one ballot number
	BUG_CLAIM_ACKS,		// a leader's proposal claims its whole group's acknowledgements without asking
	BUG_DEPUTY_AT_ONCE,	// a deputy proposes in its leader's place, with its acknowledgements, without a ballot
	BUG_MIXED_PROPOSALS,	// proposals count although they differ
	BUG_JOIN_VOTES,		// those that join count as acknowledging
	BUG_GRANT_LOST,		// the witness forgets its grants at a restart
	BUG_GRANT_TWICE,	// the witness grants to both sides
	BUG_RENEW_ALONE,	// validity is renewed without the others
	BUG_REUSE_EARLY,	// an address is used again after half of the time
	BUG_NO_RETRY,		// a coordinator whose ballot failed does not try again
	BUG_NO_CATCH_UP,	// those that lag get no view
	BUG_SUSPECT_FOREVER,	// a suspicion that is never closed blocks views
	BUG_LAZY_VOTE,		// a vote is told before it is on the disk
	BUG_COUNT
};

#ifdef AGREE_BUGS
#define BUG(a, which) ((a)->bug == (which))
#else
#define BUG(a, which) false
#endif

#endif
