// SPDX-License-Identifier: GPL-2.0-or-later
// What the sandbox's processes see as their file system. Called inside the sandbox only, as its first process.
#ifndef CMD_BUILD_SANDBOX_ROOT_H
#define CMD_BUILD_SANDBOX_ROOT_H

#include "cmd/build/sandbox.h"

int sandbox_root_enter(const struct sandbox_spec *spec, struct vc_error *err);

#endif
