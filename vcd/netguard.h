// SPDX-License-Identifier: GPL-2.0-or-later
// The packet filter of a cluster's segment: nftables table inet vcf<8>, beside the links of net.h.
//
// Nothing that comes in by the segment's bridge is for the host. Frames among guests never see this hook.
// VXLAN, where there is one, has no authentication: whoever gets a UDP packet to its port can put a frame into a segment. So each host of a
// cluster accepts packets of its VNI from the cluster's other hosts only, and lets no process but root's send any: what
// the kernel encapsulates belongs to no process. A forger would have to be root on a host, or to forge addresses of the
// underlay, which is the network's to prevent. Runs nft(8); synchronous: call in workers.
#ifndef VCD_NETGUARD_H
#define VCD_NETGUARD_H

#include "libvc/error.h"
#include "vcd/net.h"

#define NETGUARD_PREFIX "vcf"

// Replaces the cluster's table by one for these peers, as one transaction.
int netguard_ensure(const struct net_segment *seg, struct vc_error *err);
int netguard_remove(const char *table, struct vc_error *err); // a table that is gone is fine
// The text for nft, to be freed: pure.
char *netguard_rules(const struct net_segment *seg, struct vc_error *err);
// Calls fn with each table of ours on this host; nothing is called where there is no nft.
int netguard_each(int (*fn)(const char *table, void *ctx), void *ctx, struct vc_error *err);

#endif
