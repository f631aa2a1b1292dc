// SPDX-License-Identifier: GPL-2.0-or-later
// A cluster's L2 segment on this host: bridge vcb<8>, VXLAN vcx<8> with static peers, taps vt<8>.<rank>.
//
// The only user of libnl. Synchronous (some milliseconds): call in workers. net_ensure() is idempotent and may be called
// again with other peers, and with those that have gone; net_remove() removes by name whatever is there. Segments know nothing of each other: each has
// a bridge and a VNI of its own, no bridge has an address or IPv6, so no packet leaves a segment. Nothing is learned from
// what guests send: each member's MAC belongs to one port, and no flood of addresses fills the kernel's memory. A packet
// filter goes with it (netguard.h), table vcf<8>, listed and removed as if it were a link.
#ifndef VCD_NET_H
#define VCD_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"

#define NET_NAME_LEN 16	      // IFNAMSIZ
#define NET_BRIDGE_PREFIX "vcb"
#define NET_SHORT_LEN 8	      // hex digits of a cluster id in the names
#define NET_VXLAN_OVERHEAD 50 // bytes that VXLAN over IPv4 adds to a guest's packet

struct net_peer { // a host of the cluster other than this one
	const char *addr;
};

struct net_local { // a member on this host
	uint32_t rank;
	const char *mac; // NULL: it is still on another host, and only its tap is made
};

struct net_remote { // a member on another host
	const char *mac;
	const char *addr; // of its host
};

struct net_segment {
	const char *id; // cluster id; its first NET_SHORT_LEN digits count
	uint32_t vni;
	uint32_t mtu;	   // of the guests
	uint32_t port;	   // UDP, VXLAN's
	const char *local; // this host's underlay address
	uid_t tap_owner;   // QEMU's user
	const struct net_peer *peers;
	size_t n_peers;
	const struct net_remote *remotes;
	size_t n_remotes;
	const struct net_local *locals; // one tap each
	size_t n_locals;
	const struct net_peer *gone_peers; // hosts that were peers
	size_t n_gone_peers;
	const struct net_remote *gone; // members that were there; only their MAC counts
	size_t n_gone;
	bool keep; // members use it: a failure takes nothing away
};

// A member is somewhere else now: on the host with this address, or (NULL) here, where its tap waits.
struct net_move {
	const char *id;
	uint32_t rank;
	const char *mac;
	const char *addr;
};
int net_move(const struct net_move *move, struct vc_error *err);

const char *net_tap_name(const char *id, uint32_t rank, char ret[NET_NAME_LEN]);

int net_ensure(const struct net_segment *seg, struct vc_error *err);
int net_remove(const char *id, struct vc_error *err);

// The names of all links and filter tables on this host that look like ours, sorted, NULL-terminated (vc_strv_free).
int net_list(char ***ret, struct vc_error *err);
// The cluster's 8 digits in a link's name: 0, or -1 for a name that is not ours.
int net_name_cluster(const char *name, char ret[NET_SHORT_LEN + 1]);

// MTU of the interface that has the address. VC_EHOST when no interface of this host has it.
int net_underlay_mtu(const char *addr, uint32_t *ret, struct vc_error *err);

#endif
