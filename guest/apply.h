// SPDX-License-Identifier: GPL-2.0-or-later
// Makes this guest what its setup says: host name, network, accounts, keys, files, mounts. A table of steps.
//
// Idempotent, so that a host's vcd that was restarted may say it again. Writes files through a temporary name.
#ifndef GUEST_APPLY_H
#define GUEST_APPLY_H

#include "guest/setup.h"

#define APPLY_SECRET_PATH VC_GUEST_DIR "/secret" // 0600 root: the cluster's secret, hex

int apply_setup(const struct setup *s, struct vc_error *err);
// /etc/hosts alone: when a view adds members.
int apply_hosts(const struct setup_member *members, size_t n, struct vc_error *err);
// Replaces a file by rename, as root, with that mode and owner.
int apply_write(const char *path, const void *data, size_t len, mode_t mode, uid_t uid, gid_t gid, struct vc_error *err);

#endif
