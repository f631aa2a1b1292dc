// SPDX-License-Identifier: GPL-2.0-or-later
// userfaultfd of this host: see uffd.h.
#include "vcd/uffd.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libvc/cleanup.h"

static bool has_call(void)
{
	vc_autoclose int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK); // vcd is root
	return fd >= 0;
}

static bool is_open_to_all(void)
{
	char value = '0';
	vc_autoclose int fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, &value, 1) == 1 && value != '0';
}

void uffd_look(uid_t qemu_uid, struct move_uffd *ret)
{
	*ret = (struct move_uffd){.kernel = has_call(), .unprivileged = is_open_to_all(), .root = qemu_uid == 0};
}
