// SPDX-License-Identifier: GPL-2.0-or-later
// Deciding about a task: see decide.h. Whatever is not known to work in a guest is refused, never run on the host.
#include "plugins/decide.h"

#include <stddef.h>

#include "libvc/cleanup.h"

static const struct refusal {
	size_t fact;
	const char *why;
} refusals[] = {
	{offsetof(struct task_facts, no_program), "Slurm names no program for this task"},
	{offsetof(struct task_facts, het), "a heterogeneous job cannot be a virtual cluster: submit its parts as jobs of their own"},
	{offsetof(struct task_facts, container), "--container cannot be used in a virtual cluster: run the container's program "
						 "from the image, or build an image of it"},
	{offsetof(struct task_facts, bcast), "--bcast copies to the hosts, which the machines do not see: use --vcluster-stage-in, "
					     "or sbcast in the job"},
	{offsetof(struct task_facts, no_vcexec), "this host lacks vcexec, so the task cannot reach its machine: tell your administrator"},
};

enum task_action task_decide(const struct task_facts *facts, const char **ret_why)
{
	if (!facts->asked && !facts->marked && facts->lease && !facts->batch && (!facts->lease_step || facts->container)) {
		*ret_why = "this job only holds a host for a virtual cluster: run tasks in the job whose cluster it is";
		return TASK_REFUSE;
	}
	if (!facts->asked && !facts->marked)
		return TASK_PLAIN;
	if (facts->batch && facts->script_host && !facts->het)
		return TASK_PLAIN;
	for (size_t i = 0; i < VC_ARRAY_LEN(refusals); i++) {
		if (*(const bool *)((const char *)facts + refusals[i].fact)) {
			*ret_why = refusals[i].why;
			return TASK_REFUSE;
		}
	}
	if (!facts->multiprog)
		return TASK_REPLACE;
	return facts->wrapped ? TASK_READY : TASK_EXEC;
}
