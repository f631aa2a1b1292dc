// SPDX-License-Identifier: GPL-2.0-or-later
// What is done about a guest that dirties its memory faster than it is copied, and what a migration is expected to cost. Pure.
#ifndef VCD_MOVEPOLICY_H
#define VCD_MOVEPOLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"

#define MOVE_LINK_MIB 100u    // a second: what one stream is taken to carry where no bandwidth is given; a gigabit link's
#define MOVE_DOWNTIME_MS 300u // QEMU's own: it stops the guest when the rest is expected to take no longer
#define MOVE_SWITCH_MS 150u   // of the devices, and of the words between the hosts: stopped beside the rest of the memory
#define MOVE_ROUNDS 30u	      // of the pre-copy, until the guest is stopped for the rest

enum move_policy {
	MOVE_AUTO,     // one of the others, by the measured dirty rate
	MOVE_PRECOPY,  // rounds up to a cap, then it is stopped for the rest
	MOVE_CONVERGE, // the same, and its processors are slowed down meanwhile
	MOVE_COMPRESS, // the same, and pages that were sent before are sent as differences (xbzrle)
	MOVE_MULTIFD,  // the same, on two streams, compressed with zstd where libvirt can
	MOVE_POSTCOPY, // one round, then it runs at the target, and memory that it touches there is fetched first
	MOVE_POLICIES
};

// What decides whether QEMU of a host can do post-copy: it has to hear of pages that are not there yet, from the kernel.
struct move_uffd {
	bool kernel;	   // it has the call userfaultfd
	bool unprivileged; // vm.unprivileged_userfaultfd: without privileges, too
	bool root;	   // QEMU runs as root
};
// NULL: it can. A reason otherwise.
const char *move_postcopy_obstacle(const struct move_uffd *host);

#define MOVE_AT_ONCE_MAX 4u // migrations from or to one host at once

// How many migrations of that bandwidth (MiB a second; 0: no limit) fill a host's link and no more. Without a limit one does, and a
// second would only leave both guests longer without rest.
uint32_t move_at_once(uint64_t bandwidth_mib);

const char *move_policy_name(enum move_policy policy);
int move_policy_from_name(const char *name, enum move_policy *ret, struct vc_error *err);

struct move_facts {
	uint64_t memory, disk;	// bytes: touched by the guest, allocated in its overlay
	uint64_t dirty_rate;	// bytes of memory a second
	uint64_t bandwidth_mib; // a second; 0: MOVE_LINK_MIB
	uint64_t downtime_ms, rounds; // 0: MOVE_DOWNTIME_MS, MOVE_ROUNDS
	bool can_postcopy;	      // both hosts
};

// MOVE_AUTO: pre-copy below a quarter of the bandwidth, where a round is at most a quarter of the one before; above it its
// processors are slowed down; above all of it no number of rounds helps: post-copy, where that can be. Compression and a second stream are for those who know that their pages change little, or
// that one processor cannot fill the link: a rate does not say so.
enum move_policy move_policy_choose(enum move_policy wanted, const struct move_facts *f);

struct move_estimate {
	enum move_policy policy;
	uint64_t bytes, downtime_ms, total_ms;
	uint32_t rounds;
	bool forced; // it does not converge by itself
};
// Of a pre-copy whose dirty pages are all different ones, without compression or slowing down: what those save is not known before.
struct move_estimate move_estimate(enum move_policy wanted, const struct move_facts *f);

#endif
