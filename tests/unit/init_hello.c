// SPDX-License-Identifier: GPL-2.0-or-later
// The smallest /init: loads what /modules lists, says what it found on the console, powers off.
//
// test_initramfs boots it to show that an initramfs of ours starts and that its modules load in its order.
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	char line[512];
	int loaded = 0, failed = 0;
	FILE *list = fopen("/modules", "re");
	while (list && fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\n")] = '\0';
		int fd = open(line, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0) == 0)
			loaded++;
		else
			printf("init: %s failed: %m\n", line), failed++;
		if (fd >= 0)
			close(fd);
	}
	struct stat st;
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	printf("init: loaded %d failed %d disk %s\n", loaded, failed, stat("/dev/vda", &st) == 0 ? "yes" : "no");
	fflush(stdout);
	reboot(RB_POWER_OFF);
	return 1;
}
