// SPDX-License-Identifier: GPL-2.0-or-later
// What the hosts of a cluster agree on: its hosts, their groups, and its members' states, numbered by epoch.
//
// A hostview is immutable and counted by references; so is a change, the set of events between two of them. Pure. The
// names, addresses and slots of struct view are not decided here: they come from the plan, by rank and by host number.
// Without memory these functions abort: to stop is the one failure that the protocol is made for.
#ifndef VCD_MEMBER_HOSTVIEW_H
#define VCD_MEMBER_HOSTVIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/member/view.h"

#define HOSTVIEW_HOSTS_MAX 16384  // gone ones included; above VC_HOSTS_MAX for those that came and went
#define HOSTVIEW_DIGEST_LEN 32	  // bytes of SHA-256
#define HOSTVIEW_FLAT_MAX 8	  // clusters of so few hosts need no groups: each host is a leader
#define HOSTVIEW_NONE UINT32_MAX  // no host, no index

enum hv_state {
	HV_ACTIVE,
	HV_LOST, // its vcd does not run; its members do, without management
	HV_GONE, // left or failed: no voter, kept for its incarnation
};

struct hv_host {
	uint32_t id;	      // number in the plan's order, never reused
	uint32_t incarnation; // grows when it comes back after it was gone
	uint64_t since;	      // epoch in which it came, or came back: seniority inside its group
	uint16_t group;
	uint8_t state; // enum hv_state
};

struct hv_member {
	uint32_t rank;
	uint32_t host; // id
	uint32_t incarnation;
	uint8_t state; // enum view_state
	bool lost;     // its agent does not answer its host: it runs on, without management
};

// By severity: of two events with one subject the later kind stands.
enum hv_kind {
	HV_HOST_BACK,	// the vcd of a lost host is there again
	HV_HOST_LOST,	// the vcd of a host went away, its kernel answers
	HV_HOST_LEAVE,	// announced
	HV_HOST_FAIL,	// confirmed silence, Slurm's word, or lost beyond the grace
	HV_HOST_JOIN,	// new
	HV_HOST_RETURN, // was gone, with a higher incarnation
	HV_AGENT,	// the agent of the member `id` of `host` was lost (what 1), or is there again (0)
	HV_MEMBER,	// `what` happened to that member
	HV_KINDS
};

#define HV_MOVE VIEW_EVENTS // `what` of HV_MEMBER: it runs on `host` from now on; graver than what its former host saw

enum hv_evidence { // what the observer saw; carried, and not part of an event's identity
	HV_BY_ANNOUNCEMENT,
	HV_BY_EOF,
	HV_BY_SILENCE,
	HV_BY_GRACE,
	HV_BY_SLURM,
	HV_BY_DOMAIN,
};

struct hv_event {
	uint8_t kind;	  // enum hv_kind
	uint8_t what;	  // of HV_MEMBER: enum view_event_kind, or HV_MOVE; of HV_AGENT
	uint8_t evidence; // enum hv_evidence
	uint32_t id;	  // host, or rank of the member
	uint32_t host;	  // of a member: where it runs
	uint32_t incarnation;
};

static inline bool hv_is_member(const struct hv_event *e)
{
	return e->kind >= HV_AGENT;
}

struct hv_change {
	unsigned refs;
	uint32_t n;
	struct hv_event events[]; // sorted, one per subject
};

struct hostview {
	unsigned refs;
	uint64_t epoch;
	uint8_t digest[HOSTVIEW_DIGEST_LEN]; // of everything above the line below
	uint16_t want_groups;		     // 0: by the number of hosts
	uint16_t n_groups;
	uint32_t n_hosts, n_members;
	struct hv_host *hosts;	   // by id
	struct hv_member *members; // by rank
	// derived
	uint32_t n_voters; // hosts that are not gone
	uint32_t *leader;  // by group: index in hosts; HOSTVIEW_NONE: all of them are lost
	uint32_t *deputy;
};

struct hv_change *hv_change_create(const struct hv_event *events, size_t n); // sorts, keeps the severest per subject
struct hv_change *hv_change_ref(struct hv_change *c);
void hv_change_unref(struct hv_change *c); // NULL is fine
bool hv_change_equal(const struct hv_change *a, const struct hv_change *b); // evidence aside
int hv_event_compare(const struct hv_event *a, const struct hv_event *b);   // subjects only: 0 for the same subject

// Epoch 1 of n hosts 0..n-1 and of members; groups by `want_groups` (0: by n).
struct hostview *hostview_create(uint32_t n_hosts, uint16_t want_groups, const struct hv_member *members, uint32_t n_members);
// As read from a disk or a wire: checks order, states and groups; computes the digest.
struct hostview *hostview_restore(const struct hostview *parts, struct vc_error *err);
struct hostview *hostview_ref(struct hostview *v);
void hostview_unref(struct hostview *v);

bool hostview_applies(const struct hostview *v, const struct hv_event *e); // would it change anything?
// Every event applies, there is one, at most half of the hosts fail (with more the rest is not the primary), and one stays.
bool hostview_allows(const struct hostview *v, const struct hv_change *c);
// The next view; NULL when the change is not allowed.
struct hostview *hostview_apply(const struct hostview *v, const struct hv_change *c);

// The hosts that may know more, for one that is not in: epoch 0, which any view follows. hosts: ids, ascending.
struct hostview *hostview_hearsay(const uint32_t *hosts, uint32_t n);
// Can `next` come after v? A later epoch, with every host of v listed, none with an incarnation that was before.
bool hostview_follows(const struct hostview *v, const struct hostview *next);

uint32_t hostview_find(const struct hostview *v, uint32_t id); // index, or HOSTVIEW_NONE
bool hostview_is_voter(const struct hostview *v, uint32_t id);
bool hostview_is_leader(const struct hostview *v, uint32_t index);
unsigned hostview_groups_for(unsigned n_hosts); // 1..8 hosts: as many; else the root, rounded

#endif
