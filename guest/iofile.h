// SPDX-License-Identifier: GPL-2.0-or-later
// What srun's --output, --error and --input name: srun's own stream, one task's, one file of the step, or one of each task.
//
// Pure. As srun(1) says under "IO Redirection". A pattern with %t, %n or %N is of each task or node, and the file is opened
// where the task runs; so are those with %s and %J here, as only the tasks know the step's number. A number is a task's where
// the step has such a task, which the tasks know, too.
#ifndef GUEST_IOFILE_H
#define GUEST_IOFILE_H

#include <stdbool.h>

#include "libvc/error.h"

#define IOFILE_WIDTH_MAX 10 // of a number, as in "%5t"; more counts as this, as with Slurm

enum iofile_kind {
	IOFILE_ALL,  // srun's own stream carries all tasks' ("all", or nothing)
	IOFILE_TASK, // the same, of one task alone: its number; one past the last task is IOFILE_EACH's name of a file
	IOFILE_ONE,  // one file, srun's
	IOFILE_EACH, // files of tasks and nodes
};

// What patterns stand for. NULL: not known.
struct iofile_facts {
	const char *job, *step;
	const char *array_job, *array_task; // NULL: no array
	const char *user, *name; // name: the step's
	const char *task, *node, *node_id;
};

enum iofile_kind iofile_kind(const char *pattern); // NULL: IOFILE_ALL

// The path, of none of IOFILE_ALL, at most VC_PATH_MAX bytes; free(*ret_path).
int iofile_path(const char *pattern, const struct iofile_facts *facts, char **ret_path, struct vc_error *err);

// Tasks of one step may share a file, and each opens it: only the first may empty it. The files that were opened last.
#define IOFILE_SEEN_MAX 64
struct iofile_seen {
	char *keys[IOFILE_SEEN_MAX]; // newest first
};

// Whether the key (a step and a path) is a new one; it is the newest from now on. Without memory each counts as seen.
bool iofile_first(struct iofile_seen *seen, const char *key);

#endif
