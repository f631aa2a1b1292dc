// SPDX-License-Identifier: GPL-2.0-or-later
// The text of an `srun --multi-prog` file: which program a rank runs, and the same text with every program wrapped.
//
// As Slurm reads it (slurmstepd's multi_prog.c): one line per set of ranks ("0-3,7" or "*", then program and arguments), a
// backslash at its end continues a line, '#' starts a comment line, single quotes and backslashes protect, %t is the
// rank, %o its place in the line's set. First line wins; what is no set of ranks is passed over.
#ifndef LIBVC_MULTIPROG_H
#define LIBVC_MULTIPROG_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"

#define MULTIPROG_TEXT_MAX 60000 // bytes, as srun reads them
#define MULTIPROG_ARGS_MAX 30000 // words of one line; Slurm drops those past its 127

// Whether Slurm could find a program in it for some rank. Nothing that it could is ever missed, commands may pass for one:
// "3 apples" does.
bool multiprog_possible(const char *text);
// Whether the file is there, and holds just this text: then srun has read it.
bool multiprog_is_file(const char *path, const char *text);
// Whether every line in which Slurm could find a program begins with `wrapper --`.
bool multiprog_is_wrapped(const char *text, const char *wrapper);
// The program that the text names for this rank, and its arguments. *ret_argv: vc_strv_free.
int multiprog_argv(const char *text, uint32_t rank, char ***ret_argv, struct vc_error *err);
// What srun checks before a step begins: sets of ranks that are none, ranks that are named twice or have no program, or are not
// below `ntasks` (0: not given), anything behind a line of '*', a program's words. *ret_ntasks: `ntasks`, else the highest rank + 1.
int multiprog_check(const char *text, uint32_t ntasks, uint32_t *ret_ntasks, struct vc_error *err);
// The text with `wrapper -- ` before every program, each on one line; NULL on error.
char *multiprog_wrap(const char *text, const char *wrapper, struct vc_error *err);

#endif
