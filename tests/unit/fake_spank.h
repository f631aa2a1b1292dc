// SPDX-License-Identifier: GPL-2.0-or-later
// A Slurm made of variables: the spank_* functions that the plugin calls, for one job, step and task.
#ifndef TESTS_UNIT_FAKE_SPANK_H
#define TESTS_UNIT_FAKE_SPANK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <slurm/spank.h>

#define FAKE_OPTIONS_MAX 16
#define FAKE_ENV_MAX 64

struct fake_spank {
	spank_context_t context;
	uint32_t job, step, rank, tasks, restart;
	int local;
	int argc;
	char **argv;
	char *env[FAKE_ENV_MAX + 1]; // the job's; owned
	char *control_name, *control_value; // spank_job_control_setenv; owned
	char log[8192];			    // everything said
	struct {
		char name[64];
		int val;
		spank_opt_cb_f cb;
	} options[FAKE_OPTIONS_MAX];
	int n_options;
	bool no_items; // spank_get_item fails
	bool no_rank;  // for the task's number only
};

extern struct fake_spank fake;

void fake_reset(spank_context_t context);
// As Slurm: finds the option's callback and calls it; -1 when there is none.
int fake_option(const char *name, const char *value);
const char *fake_env(const char *name); // of the job; NULL: unset
void fake_env_set(const char *name, const char *value);

#endif
