// SPDX-License-Identifier: GPL-2.0-or-later
// Users as people write them: by name, or by number.
#ifndef LIBVC_USER_H
#define LIBVC_USER_H

#include <sys/types.h>

#include "libvc/error.h"

#define VC_USER_MAX 32 // bytes of a user's name, as useradd allows

// `what` names the text in the message. A number need not be a user's; a name is looked up on this host.
int vc_user_find(const char *what, const char *text, uid_t *ret, struct vc_error *err);

#endif
