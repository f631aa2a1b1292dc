// SPDX-License-Identifier: GPL-2.0-or-later
// A membership view: the numbered list of a cluster's members, its JSON and digest, and the host files made of it.
//
// Pure: no I/O, no clock. view_from_json() trusts nothing, since peers and a guest's host feed it. docs/membership.md
// describes the form; used by vcd, and statically by vcguestd. A failed call leaves its arguments as they were.
#ifndef VCD_MEMBER_VIEW_H
#define VCD_MEMBER_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "libvc/limits.h"

#define VIEW_VERSION 1	       // of the JSON and of the canonical form
#define VIEW_CLUSTER_LEN 32    // hex digits of a cluster id
#define VIEW_DIGEST_LEN 64     // hex digits of SHA-256
#define VIEW_ADDR_MAX 45       // bytes of a numeric IPv4 or IPv6 address
#define VIEW_SLOTS_MAX 65536   // MPI ranks of one member; above any machine's CPUs

struct json_object;

enum view_state { VIEW_JOINING, VIEW_ACTIVE, VIEW_LEAVING, VIEW_GONE, VIEW_STATES };

struct view_member {
	uint32_t rank; // 0.., never reused in a cluster
	char name[VC_NAME_MAX + 1];
	char addr[VIEW_ADDR_MAX + 1]; // numeric
	char host[VC_HOSTNAME_MAX + 1]; // Slurm's NodeName
	char site[VC_NAME_MAX + 1];
	enum view_state state;
	uint64_t incarnation; // 1.., grows when the member comes back
	uint32_t slots;	      // MPI ranks it is meant to take
	bool agent_lost;      // its host's vcd is away: it runs, and nobody manages it
};

struct view {
	char cluster[VIEW_CLUSTER_LEN + 1];
	uint32_t job;
	uint64_t epoch;			  // 1.., grows by one; 0: nothing decided yet
	char digest[VIEW_DIGEST_LEN + 1]; // of the canonical form; "" until view_seal()
	struct view_member *members;	  // by ascending rank, gone ones included
	size_t n_members, room;		  // how many there are, and fit
};

// An empty view of epoch 0.
struct view *view_create(const char *cluster, uint32_t job, struct vc_error *err);
void view_destroy(struct view *view);
// Copies the member in; its rank must be higher than all others.
int view_add(struct view *view, const struct view_member *member, struct vc_error *err);
// Sets epoch and digest: the view is complete.
int view_seal(struct view *view, uint64_t epoch, struct vc_error *err);

// What can happen to a member. JOIN brings a new rank, the others name one.
enum view_event_kind { VIEW_JOIN, VIEW_UP, VIEW_LEAVE, VIEW_FAIL, VIEW_RETURN, VIEW_EVENTS };
struct view_event {
	enum view_event_kind kind;
	uint32_t rank;			  // of UP, LEAVE, FAIL, RETURN
	const struct view_member *member; // of JOIN: its state is set to joining
};
// The sealed next view after all events in order, or NULL when one does not apply to its member's state.
struct view *view_apply(const struct view *old, const struct view_event *events, size_t n, struct vc_error *err);

struct json_object *view_to_json(const struct view *view); // NULL: no memory
// Checks every field, the order of ranks and the digest.
struct view *view_from_json(struct json_object *obj, struct vc_error *err);

// Host files: members that are joining or active. NULL: no memory; free() the text.
char *view_render_hostfile(const struct view *view); // Open MPI, PRRTE: "name slots=N"
char *view_render_hydra(const struct view *view);    // MPICH's Hydra: "name:N"
char *view_render_plain(const struct view *view);    // "name"

const struct view_member *view_member_by_rank(const struct view *view, uint32_t rank);
const struct view_member *view_member_by_name(const struct view *view, const char *name);
// Members that a launcher may use: joining or active.
size_t view_size(const struct view *view);
const char *view_state_name(enum view_state state);

static inline void view_cleanup(struct view **view)
{
	view_destroy(*view);
}
#define view_auto __attribute__((cleanup(view_cleanup)))

#endif
