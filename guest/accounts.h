// SPDX-License-Identifier: GPL-2.0-or-later
// The job owner's user and groups in the guest's /etc/passwd and /etc/group, and the members in /etc/hosts.
//
// Pure text in, text out; file writing is apply.c's. An entry of the image that has the same number or, for system
// accounts (below ACCOUNTS_SYSTEM_MAX, root above all), the same name is never replaced by another number.
#ifndef GUEST_ACCOUNTS_H
#define GUEST_ACCOUNTS_H

#include <stddef.h>
#include <stdint.h>

#include "guest/setup.h"
#include "libvc/error.h"

#define ACCOUNTS_SYSTEM_MAX 1000 // Debian's first number for people

// New text of /etc/passwd with the owner in it. Root as owner changes nothing.
char *accounts_passwd(const char *old, const struct setup_owner *owner, const char *shell, struct vc_error *err);
// New text of /etc/group with the owner's groups, the owner as a member of each.
char *accounts_group(const char *old, const struct setup_owner *owner, struct vc_error *err);
// New text of /etc/hosts: what the image has outside of our marked block, then the block.
char *accounts_hosts(const char *old, const struct setup_member *members, size_t n, struct vc_error *err);

#endif
