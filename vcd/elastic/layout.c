// SPDX-License-Identifier: GPL-2.0-or-later
// A tentative placement of members on hosts, which policies change before they tell anybody: see policy.h.
#include <stdlib.h>

#include "vcd/elastic/policy.h"

int layout_init(struct layout *l, const struct elastic_input *in, struct vc_error *err)
{
	*l = (struct layout){.in = in};
	l->at = calloc(in->n_members + 1, sizeof(*l->at));
	l->cpu = calloc(in->n_hosts + 1, sizeof(*l->cpu));
	l->mem = calloc(in->n_hosts + 1, sizeof(*l->mem));
	l->count = calloc(in->n_hosts + 1, sizeof(*l->count));
	if (!l->at || !l->cpu || !l->mem || !l->count)
		return vc_error_errno(err, "layout");
	for (size_t i = 0; i < in->n_members; i++) {
		uint32_t host = in->members[i].host;
		l->at[i] = host;
		l->cpu[host] += in->members[i].need;
		l->mem[host] += in->members[i].mem_mib;
		l->count[host]++;
	}
	return 0;
}

void layout_clear(struct layout *l)
{
	free(l->at);
	free(l->cpu);
	free(l->mem);
	free(l->count);
	*l = (struct layout){0};
}

void layout_move(struct layout *l, uint32_t member, uint32_t to)
{
	const struct elastic_member *m = &l->in->members[member];
	uint32_t from = l->at[member];
	l->cpu[from] -= m->need;
	l->mem[from] -= m->mem_mib;
	l->count[from]--;
	l->cpu[to] += m->need;
	l->mem[to] += m->mem_mib;
	l->count[to]++;
	l->at[member] = to;
}

int64_t layout_mem_limit(const struct elastic_input *in, uint32_t host)
{
	return in->hosts[host].mem_mib * (1000 - in->params.mem_slack) / 1000;
}

bool layout_fits(const struct layout *l, uint32_t member, uint32_t host, int64_t limit)
{
	const struct elastic_host *h = &l->in->hosts[host];
	const struct elastic_member *m = &l->in->members[member];
	return !h->leaving && l->mem[host] + m->mem_mib <= layout_mem_limit(l->in, host) &&
	       (l->cpu[host] + m->need) * 1000 <= h->cpu * limit;
}

int64_t layout_load(const struct layout *l, uint32_t host)
{
	return l->cpu[host] * 1000 / l->in->hosts[host].cpu;
}

int layout_tell(const struct layout *l, struct elastic_decision *d, const char *reason, struct vc_error *err)
{
	for (uint32_t i = 0; i < l->in->n_members; i++) {
		if (l->at[i] != l->in->members[i].host && policy_migrate(d, l->in, i, l->at[i], err, "%s", reason) < 0)
			return -1;
	}
	return 0;
}
