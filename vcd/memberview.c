// SPDX-License-Identifier: GPL-2.0-or-later
// From the hosts' view to the guests': see memberview.h.
#include "vcd/memberview.h"

#include <stdio.h>
#include <stdlib.h>

#include "libvc/cleanup.h"

struct hostview *memberview_first(const struct plan *plan)
{
	vc_autofree struct hv_member *members = calloc(plan->n_members + 1, sizeof(*members));
	if (!members)
		return NULL;
	for (size_t i = 0; i < plan->n_members; i++)
		members[i] = (struct hv_member){.rank = plan->members[i].rank, .host = plan->members[i].host, .incarnation = 1,
						.state = VIEW_ACTIVE};
	return hostview_create((uint32_t)plan->n_hosts, 0, members, (uint32_t)plan->n_members);
}

static int add_member(struct view *view, const struct plan *plan, const struct plan_member *m, const struct hv_member *state,
		      bool lost, struct vc_error *err)
{
	uint32_t host = state->host < plan->n_hosts ? state->host : m->host;
	struct view_member vm = {.rank = m->rank, .state = (enum view_state)state->state, .incarnation = state->incarnation,
				 .slots = m->slots, .site = "default"};
	vm.agent_lost = (lost || state->lost) && vm.state != VIEW_GONE;
	snprintf(vm.name, sizeof(vm.name), "%s", m->name);
	snprintf(vm.addr, sizeof(vm.addr), "%s", m->addr);
	snprintf(vm.host, sizeof(vm.host), "%s", plan->hosts[host].name);
	return view_add(view, &vm, err);
}

bool memberview_has_all(const struct plan *plan, const struct hostview *hosts)
{
	for (uint32_t i = 0; i < hosts->n_members; i++) {
		if (!plan_member_by_rank(plan, hosts->members[i].rank))
			return false;
	}
	return true;
}

struct view *memberview_make(const struct plan *plan, const struct hostview *hosts, struct vc_error *err)
{
	view_auto struct view *view = view_create(plan->id, plan->key.job, err);
	for (uint32_t i = 0; view && i < hosts->n_members; i++) {
		const struct hv_member *state = &hosts->members[i];
		const struct plan_member *m = plan_member_by_rank(plan, state->rank);
		uint32_t at = hostview_find(hosts, state->host);
		bool lost = at != HOSTVIEW_NONE && hosts->hosts[at].state == HV_LOST;
		if (!m)
			vc_error_set(err, VC_ENOTFOUND, "the plan here does not have member %u yet", state->rank);
		if (!m || add_member(view, plan, m, state, lost, err) < 0)
			return NULL;
	}
	if (!view || view_seal(view, hosts->epoch, err) < 0)
		return NULL;
	return vc_steal(&view);
}
