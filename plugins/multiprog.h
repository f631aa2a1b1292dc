// SPDX-License-Identifier: GPL-2.0-or-later
// The text of an `srun --multi-prog` file: which program a rank runs, and the same text with every program wrapped.
//
// As Slurm reads it: one line per set of ranks ("0-3,7" or "*", then program and arguments), '#' starts a comment
// line, single quotes and backslashes protect, %t is the rank, %o its place in the line's set. First line wins.
#ifndef PLUGINS_MULTIPROG_H
#define PLUGINS_MULTIPROG_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"

#define MULTIPROG_LINE_MAX 4096 // bytes; Slurm's own limit is 64 KiB, its srun reads 60000 bytes in all
#define MULTIPROG_TEXT_MAX 60000
#define MULTIPROG_ARGS_MAX 127 // arguments of one line, as Slurm

// Whether the text is such a file and names a program for this rank. *ret_argv: vc_strv_free.
int multiprog_argv(const char *text, uint32_t rank, char ***ret_argv, struct vc_error *err);
// The text with `wrapper -- ` before every program; NULL on error.
char *multiprog_wrap(const char *text, const char *wrapper, struct vc_error *err);

#endif
