// SPDX-License-Identifier: GPL-2.0-or-later
// Hooks of the job: what its owner puts into /run/vcluster/hooks.d runs as the owner at each new view, in the order of names.
//
// One run at a time; views that come meanwhile make one more run when it has ended. Nothing that a hook does holds the agent up.
#ifndef GUEST_HOOKS_H
#define GUEST_HOOKS_H

#include <stdbool.h>
#include <sys/types.h>

#include "guest/setup.h"

#define HOOKS_DIR "hooks.d"	// below /run/vcluster; the owner's
#define HOOKS_SECONDS 60	// for all hooks of one run; past it they are killed
#define HOOKS_OLD_VIEW "view.old.json" // beside view.json: the view before it

struct hooks {
	pid_t pid; // 0: none runs
	bool again;
};

int hooks_prepare(const struct setup *s, struct vc_error *err); // makes the directory
void hooks_run(struct hooks *h, const struct setup *s, unsigned long long epoch);
bool hooks_exited(struct hooks *h, pid_t pid, const struct setup *s, unsigned long long epoch); // true: it was ours

#endif
