// SPDX-License-Identifier: GPL-2.0-or-later
// Sizes of quorums. docs/membership.md has the table and the proof that uses them.
#ifndef VCD_MEMBER_QUORUM_H
#define VCD_MEMBER_QUORUM_H

// The smallest q so that any two sets of q out of n and any set of `other` out of n share one.
static inline unsigned quorum_meet(unsigned n, unsigned other)
{
	unsigned q = 0;
	while (2 * q + other <= 2 * n)
		q++;
	return q < n ? q : n;
}

// Leaders whose proposals must be identical for a decision in one round: 3 of 3, 3 of 4, 4 of 5, 6 of 7, 6 of 8.
static inline unsigned quorum_fast_leaders(unsigned n_leaders)
{
	return quorum_meet(n_leaders, n_leaders / 2 + 1);
}

// Hosts that must have acknowledged it. A ballot may end with half of the hosts and a grant, so that the third set is n / 2
// hosts, rounded up: for n = 4, 8, 12... one more than the formula for majorities gives.
static inline unsigned quorum_fast_hosts(unsigned n_hosts)
{
	return quorum_meet(n_hosts, (n_hosts + 1) / 2);
}

static inline unsigned quorum_majority(unsigned n)
{
	return n / 2 + 1;
}

#endif
