// SPDX-License-Identifier: GPL-2.0-or-later
// PID 1's way to the guest's root: see boot.h. A table of steps; each fails with the reason that the console shows.
#include "guest/boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "libvc/parse.h"

#define ROOT_WAIT_MS 60000 // for the root disk: an emulated machine on a loaded host probes its disks within seconds
#define POLL_MS 5	   // between two looks at the root disk
#define CMDLINE_MAX 4096   // COMMAND_LINE_SIZE of x86 is 2048
#define NEW_ROOT "/newroot"

const char *const boot_tools[] = {"srun", "scancel", "squeue", "scontrol", "sbcast", "vcrsh", NULL};

struct boot {
	struct boot_params params;
	int self; // this program's file: the initramfs that holds it goes away
};

struct boot_step {
	const char *what;
	int (*run)(struct boot *b, struct vc_error *err);
};

// --- the kernel's command line ---------------------------------------------------------------------------------

static int copy_word(const char *what, const char *value, char *dst, size_t size, struct vc_error *err)
{
	if (!*value || strlen(value) >= size)
		return vc_error_set(err, VC_EPROTO, "%s on the kernel command line must have 1 to %zu bytes", what, size - 1);
	memcpy(dst, value, strlen(value) + 1);
	return 0;
}

static int parse_word(const char *word, struct boot_params *p, struct vc_error *err)
{
	uint64_t port;
	if (!strncmp(word, "vcluster.root=", 14))
		return copy_word("vcluster.root", word + 14, p->root, sizeof(p->root), err);
	if (!strncmp(word, "vcluster.rootfstype=", 20))
		return copy_word("vcluster.rootfstype", word + 20, p->fstype, sizeof(p->fstype), err);
	if (strncmp(word, "vcluster.link=", 14) != 0)
		return 0;
	if (strncmp(word + 14, "vsock:", 6) != 0)
		return vc_error_set(err, VC_EPROTO, "'%s' on the kernel command line: want vsock:PORT", word);
	if (vc_parse_u64("vcluster.link", word + 20, 1, UINT32_MAX - 1, &port, err) < 0)
		return -1;
	p->vsock_port = (uint32_t)port;
	return 0;
}

int boot_params_parse(const char *cmdline, struct boot_params *ret, struct vc_error *err)
{
	struct boot_params p = {.root = "/dev/vda", .fstype = "ext4"};
	vc_autofree char *copy = strdup(cmdline);
	if (!copy)
		return vc_error_errno(err, "the kernel command line");
	char *save = NULL;
	for (char *word = strtok_r(copy, " \t\n", &save); word; word = strtok_r(NULL, " \t\n", &save)) {
		if (parse_word(word, &p, err) < 0)
			return -1;
	}
	*ret = p;
	return 0;
}

// --- steps -----------------------------------------------------------------------------------------------------

struct mount_entry {
	const char *source, *target, *type, *data;
	unsigned long flags;
	mode_t mode;   // of the directory when it has to be made
	bool optional; // a kernel without it still makes a useful guest
};

static int mount_all(const struct mount_entry *m, size_t n, struct vc_error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (mkdir(m[i].target, m[i].mode) < 0 && errno != EEXIST)
			return vc_error_errno(err, "%s", m[i].target);
		if (mount(m[i].source, m[i].target, m[i].type, m[i].flags, m[i].data) == 0 || errno == EBUSY)
			continue;
		// an option that this kernel does not know
		if (m[i].optional && m[i].data && mount(m[i].source, m[i].target, m[i].type, m[i].flags, NULL) == 0)
			continue;
		if (!m[i].optional)
			return vc_error_errno(err, "mount of %s on %s", m[i].type, m[i].target);
	}
	return 0;
}

static int mount_early(struct boot *b, struct vc_error *err)
{
	static const struct mount_entry early[] = {
		{"devtmpfs", "/dev", "devtmpfs", NULL, MS_NOSUID, 0755, false},
		{"proc", "/proc", "proc", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV, 0555, false},
		{"sysfs", "/sys", "sysfs", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV, 0555, false},
	};
	(void)b;
	return mount_all(early, VC_ARRAY_LEN(early), err);
}

// The initramfs may lack a console node, and the kernel then starts PID 1 without open descriptors.
static int open_console(struct boot *b, struct vc_error *err)
{
	(void)b;
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	if (fd < 0)
		return vc_error_errno(err, "/dev/console");
	for (int i = 0; i < 3; i++) {
		if (fd != i && dup2(fd, i) < 0)
			return vc_error_errno(err, "/dev/console");
	}
	if (fd > 2)
		close(fd);
	return 0;
}

static int read_params(struct boot *b, struct vc_error *err)
{
	char text[CMDLINE_MAX + 1];
	vc_autoclose int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, CMDLINE_MAX);
	if (n < 0)
		return vc_error_errno(err, "/proc/cmdline");
	text[n] = '\0';
	return boot_params_parse(text, &b->params, err);
}

static int open_self(struct boot *b, struct vc_error *err)
{
	b->self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	return b->self < 0 ? vc_error_errno(err, "/proc/self/exe") : 0;
}

static int load_module(const char *path, struct vc_error *err)
{
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vc_error_errno(err, "%s", path);
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", path);
	return 0;
}

// /modules lists files of the initramfs in the order of their dependencies. A module that this machine has no use for
// (ENODEV) is no reason to stop; a missing device shows in the step that needs it.
static int load_modules(struct boot *b, struct vc_error *err)
{
	(void)b;
	vc_autofclose FILE *list = fopen("/modules", "re");
	if (!list)
		return errno == ENOENT ? 0 : vc_error_errno(err, "/modules");
	char line[VC_PATH_MAX];
	while (fgets(line, sizeof(line), list)) {
		line[strcspn(line, "\r\n")] = '\0';
		if (!line[0] || line[0] == '#')
			continue;
		struct vc_error why = VC_ERROR_INIT;
		if (load_module(line, &why) < 0)
			vc_log_warning("module not loaded: %s", why.text);
	}
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int wait_root(struct boot *b, struct vc_error *err)
{
	const struct timespec pause = {0, POLL_MS * 1000000L};
	int64_t limit = now_ms() + ROOT_WAIT_MS;
	struct stat st;
	while (stat(b->params.root, &st) < 0 || !S_ISBLK(st.st_mode)) {
		if (now_ms() >= limit)
			return vc_error_set(err, VC_ETIMEDOUT,
					    "%s did not appear within %d s: is the disk in the domain, is virtio_blk in the initramfs?",
					    b->params.root, ROOT_WAIT_MS / 1000);
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int mount_root(struct boot *b, struct vc_error *err)
{
	if (mkdir(NEW_ROOT, 0755) < 0 && errno != EEXIST)
		return vc_error_errno(err, NEW_ROOT);
	if (mount(b->params.root, NEW_ROOT, b->params.fstype, MS_NOATIME, NULL) < 0)
		return vc_error_errno(err, "mount of %s as %s", b->params.root, b->params.fstype);
	return 0;
}

// Frees the initramfs: its files live in memory. Never leaves the device that it starts on.
static void remove_tree(int dirfd, dev_t dev)
{
	DIR *dir = fdopendir(dirfd);
	if (!dir) {
		close(dirfd);
		return;
	}
	struct dirent *e;
	while ((e = readdir(dir))) {
		struct stat st;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
			continue;
		if (S_ISDIR(st.st_mode)) {
			int sub = openat(dirfd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (sub >= 0)
				remove_tree(sub, dev);
		}
		unlinkat(dirfd, e->d_name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
	}
	closedir(dir);
}

static int move_early(struct vc_error *err)
{
	static const char *const names[] = {"/dev", "/proc", "/sys"};
	for (size_t i = 0; i < VC_ARRAY_LEN(names); i++) {
		char target[VC_NAME_MAX];
		snprintf(target, sizeof(target), NEW_ROOT "%s", names[i]);
		if (mkdir(target, 0755) < 0 && errno != EEXIST)
			return vc_error_errno(err, "%s", target);
		if (mount(names[i], target, NULL, MS_MOVE, NULL) < 0)
			return vc_error_errno(err, "move of %s into the root", names[i]);
	}
	return 0;
}

static int switch_root(struct boot *b, struct vc_error *err)
{
	(void)b;
	if (move_early(err) < 0)
		return -1;
	struct stat old;
	int oldroot = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (oldroot < 0 || fstat(oldroot, &old) < 0)
		return vc_error_errno(err, "/");
	if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0) {
		vc_error_errno(err, "switch to the root on disk");
		close(oldroot);
		return -1;
	}
	remove_tree(oldroot, old.st_dev);
	return 0;
}

static int mount_late(struct boot *b, struct vc_error *err)
{
	static const struct mount_entry late[] = {
		{"devpts", "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC, 0755, false},
		{"shm", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, 01777, false},
		{"run", "/run", "tmpfs", "mode=755,size=25%", MS_NOSUID | MS_NODEV, 0755, false},
		// each task enters a cgroup of its own: by default that waits for a grace period of RCU, tens of milliseconds
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", "favordynmods", MS_NOSUID | MS_NOEXEC | MS_NODEV, 0755, true},
	};
	(void)b;
	return mount_all(late, VC_ARRAY_LEN(late), err);
}

static int make_links(struct boot *b, struct vc_error *err)
{
	static const struct {
		const char *target, *name;
	} links[] = {
		{"/proc/self/fd", "/dev/fd"},
		{"/proc/self/fd/0", "/dev/stdin"},
		{"/proc/self/fd/1", "/dev/stdout"},
		{"/proc/self/fd/2", "/dev/stderr"},
	};
	(void)b;
	for (size_t i = 0; i < VC_ARRAY_LEN(links); i++) {
		if (symlink(links[i].target, links[i].name) < 0 && errno != EEXIST)
			return vc_error_errno(err, "%s", links[i].name);
	}
	if ((mkdir("/tmp", 01777) < 0 && errno != EEXIST) || chmod("/tmp", 01777) < 0)
		return vc_error_errno(err, "/tmp");
	return 0;
}

static int copy_self(int self, const char *path, struct vc_error *err)
{
	struct stat st;
	vc_autoclose int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (out < 0 || fstat(self, &st) < 0)
		return vc_error_errno(err, "%s", path);
	for (off_t off = 0; off < st.st_size;) {
		ssize_t n = sendfile(out, self, &off, (size_t)(st.st_size - off));
		if (n <= 0)
			return vc_error_errno(err, "%s", path);
	}
	return fchmod(out, 0755) < 0 ? vc_error_errno(err, "%s", path) : 0;
}

static int place_tools(struct boot *b, struct vc_error *err)
{
	if (mkdir(VC_GUEST_DIR, 0755) < 0 || mkdir(VC_GUEST_DIR "/bin", 0755) < 0)
		return vc_error_errno(err, VC_GUEST_DIR);
	if (copy_self(b->self, VC_GUEST_DIR "/bin/vcguestd", err) < 0)
		return -1;
	for (size_t i = 0; boot_tools[i]; i++) {
		char path[VC_NAME_MAX * 2];
		snprintf(path, sizeof(path), VC_GUEST_DIR "/bin/%s", boot_tools[i]);
		if (symlink("vcguestd", path) < 0)
			return vc_error_errno(err, "%s", path);
	}
	return 0;
}

static const struct boot_step steps[] = {
	{"mount the kernel's file systems", mount_early},
	{"open the console", open_console},
	{"read the kernel command line", read_params},
	{"keep this program", open_self},
	{"load the kernel modules", load_modules},
	{"find the root disk", wait_root},
	{"mount the root disk", mount_root},
	{"switch to the root disk", switch_root},
	{"mount the guest's file systems", mount_late},
	{"make the usual links", make_links},
	{"place the tools in " VC_GUEST_DIR "/bin", place_tools},
};

int boot_run(struct boot_params *ret_params, struct vc_error *err)
{
	struct boot b = {.self = -1};
	umask(0);
	for (size_t i = 0; i < VC_ARRAY_LEN(steps); i++) {
		if (steps[i].run(&b, err) < 0)
			return vc_error_wrap(err, "cannot %s", steps[i].what);
	}
	close(b.self);
	umask(022);
	*ret_params = b.params;
	return 0;
}

void boot_poweroff(void)
{
	sync();
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL); // a clean journal where nothing holds the root open
	reboot(RB_POWER_OFF);
	for (;;) // a machine that cannot power off must not lose its PID 1
		pause();
}
