// SPDX-License-Identifier: GPL-2.0-or-later
// What `vcctl image import` takes, as one file that vcd understands: a tar of a root file system, or an ext4 file system.
//
// A directory and an OCI layout or archive become a tar, a qcow2 and a disk with partitions become the file system in them. Everything is
// done here, as the user and with the user's rights; programs are started with argument vectors.
#ifndef CMD_VCCTL_IMPORTSOURCE_H
#define CMD_VCCTL_IMPORTSOURCE_H

#include "libvc/error.h"

struct importsource;

int importsource_open(const char *path, struct importsource **ret, struct vc_error *err);
const char *importsource_file(const struct importsource *s); // the given one, or a temporary one
void importsource_close(struct importsource *s);	     // removes what is temporary

#endif
