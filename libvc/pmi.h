// SPDX-License-Identifier: GPL-2.0-or-later
// One task's conversation with Slurm's mpi/pmi2 plugin (PMI-1 and PMI-2), with what it says of locality put right.
//
// Slurm tells ranks of one host that they share a node; in a virtual cluster those share one that run on the same member.
// Pure: bytes in, bytes out, both ways. Rewritten are the value of PMI_process_mapping (towards the task) and the keys of
// PMI-2's node attributes (towards Slurm: "vc<member>." before the name, so that members of a host have their own).
// PMI_netinfo_of_task, which tells of hosts' networks, is asked for under a name that Slurm does not have. All else
// passes as it is. Sources of the wire formats: MPICH's PMI-1 and PMI-2 documents (wiki.mpich.org), Slurm's mpi guide.
#ifndef LIBVC_PMI_H
#define LIBVC_PMI_H

#include <stddef.h>
#include <stdint.h>

#include "libvc/buf.h"
#include "libvc/error.h"

#define VC_PMI_MESSAGE_MAX (256u << 10) // bytes of one message; Slurm's own limit for a client is 64 KiB
#define VC_PMI_VALUE_MAX 1024u		// of a value (PMI2_MAX_ATTRVALUE)
#define VC_PMI_RANKS_MAX (1u << 20)	// of a step
#define VC_PMI_NODES_MAX (1u << 16)

// The process mapping of members, from Slurm's, which is of the step's nodes: "(vector,(first,nodes,ranks)...)".
// members[i]: machines on node i. Ranks of one node are dealt to its machines in blocks (vc_task_member_index). free() it.
char *vc_pmi_mapping(const char *mapping, uint32_t ranks, const uint32_t *members, size_t nodes, struct vc_error *err);

struct vc_pmi;

struct vc_pmi_layout { // copied
	uint32_t ranks;	 // of the step
	uint32_t member; // where this task runs
	const uint32_t *members;
	size_t nodes;
};

struct vc_pmi *vc_pmi_create(const struct vc_pmi_layout *layout, struct vc_error *err);
void vc_pmi_destroy(struct vc_pmi *pmi);
// Appends to `out` what is to be passed on. -1: not a message of PMI, or over a limit; the conversation is over.
int vc_pmi_from_task(struct vc_pmi *pmi, const void *data, size_t len, struct vc_buf *out, struct vc_error *err);
int vc_pmi_from_slurm(struct vc_pmi *pmi, const void *data, size_t len, struct vc_buf *out, struct vc_error *err);

#endif
