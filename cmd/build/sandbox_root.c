// SPDX-License-Identifier: GPL-2.0-or-later
// Mounts of the sandbox: see sandbox_root.h.
//
// The order matters: /proc can be mounted in a user namespace only while another /proc is visible, so the old
// root is detached last; symbolic links of a hostile tree are followed only after pivot_root(), inside the tree.
#include "cmd/build/sandbox_root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libvc/cleanup.h"

#define PATH_LEN 256 // of the names below, all ours

static int make_dir(const char *path, mode_t mode, struct vc_error *err)
{
	return mkdir(path, mode) < 0 && errno != EEXIST ? vc_error_errno(err, "sandbox: mkdir %s", path) : 0;
}

static int make_file(const char *path, const char *text, struct vc_error *err)
{
	vc_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		return vc_error_errno(err, "sandbox: %s", path);
	return 0;
}

static int mount_fs(const char *type, const char *path, unsigned long flags, const char *options, struct vc_error *err)
{
	if (mount(type, path, type, flags, options) < 0)
		return vc_error_errno(err, "sandbox: %s at %s", type, path);
	return 0;
}

static int set_attributes(const char *path, uint64_t attributes, struct vc_error *err)
{
	struct mount_attr attr = {.attr_set = attributes};
	if (mount_setattr(AT_FDCWD, path, AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return vc_error_errno(err, "sandbox: attributes of %s", path);
	return 0;
}

static int bind(const char *from, const char *to, uint64_t attributes, struct vc_error *err)
{
	if (mount(from, to, NULL, MS_BIND | MS_REC, NULL) < 0)
		return vc_error_errno(err, "sandbox: bind %s", from);
	return attributes ? set_attributes(to, attributes, err) : 0;
}

// --- /dev, in both views ---------------------------------------------------------------------------------------------

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
#define N_DEVICES VC_ARRAY_LEN(devices)

// Detached copies of the host's nodes, taken while the host's /dev is in sight: mknod() is not for us.
static int open_devices(int fds[N_DEVICES], struct vc_error *err)
{
	for (size_t i = 0; i < N_DEVICES; i++) {
		char path[PATH_LEN];
		snprintf(path, sizeof(path), "/dev/%s", devices[i]);
		fds[i] = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
		if (fds[i] < 0)
			return vc_error_errno(err, "sandbox: %s", path);
	}
	return 0;
}

static int place_devices(const int fds[N_DEVICES], struct vc_error *err)
{
	for (size_t i = 0; i < N_DEVICES; i++) {
		char path[PATH_LEN];
		snprintf(path, sizeof(path), "/dev/%s", devices[i]);
		if (make_file(path, "", err) < 0)
			return -1;
		if (move_mount(fds[i], "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
			return vc_error_errno(err, "sandbox: %s", path);
		close(fds[i]);
	}
	return 0;
}

static int fill_dev(const int fds[N_DEVICES], struct vc_error *err)
{
	static const char *const links[][2] = {{"/proc/self/fd", "/dev/fd"},
					       {"/proc/self/fd/0", "/dev/stdin"},
					       {"/proc/self/fd/1", "/dev/stdout"},
					       {"/proc/self/fd/2", "/dev/stderr"},
					       {"pts/ptmx", "/dev/ptmx"}};
	if (mount_fs("tmpfs", "/dev", MS_NOSUID, "mode=755,size=64k", err) < 0 || place_devices(fds, err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(links); i++) {
		if (symlink(links[i][0], links[i][1]) < 0)
			return vc_error_errno(err, "sandbox: %s", links[i][1]);
	}
	if (make_dir("/dev/shm", 01777, err) < 0 || make_dir("/dev/pts", 0755, err) < 0)
		return -1;
	if (mount_fs("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777,size=64m", err) < 0)
		return -1;
	return mount_fs("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620", err);
}

// --- the host's programs ---------------------------------------------------------------------------------------------

// Below the new root, which is the current directory.
static const struct host_path {
	const char *path;
	bool required;
} host_paths[] = {
	{"/usr", true},		     {"/bin", true},		{"/sbin", true},	{"/lib", true},
	{"/lib64", false},	     {"/etc/alternatives", false}, {"/etc/ld.so.cache", false}, {"/etc/mke2fs.conf", false},
	{"/etc/apt/trusted.gpg.d", false},
};

static const struct sandbox_dir {
	const char *path;
	mode_t mode;
} host_dirs[] = {
	{"etc", 0755},	     {"etc/apt", 0755},	   {"proc", 0755},	  {"dev", 0755},	{"run", 0755},	    {"root", 0700},
	{"tmp", 01777},	     {"var", 0755},	   {"var/tmp", 01777},	  {"var/lib", 0755},	{"var/lib/dpkg", 0755},
	{"var/lib/apt", 0755}, {"var/cache", 0755}, {"var/cache/apt", 0755}, {"build", 0755}, {"build/tree", 0755},
	{"build/out", 0755},
};

static const struct host_file {
	const char *path, *text;
} host_files[] = {
	{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"
		       "_apt:x:100:65534::/nonexistent:/usr/sbin/nologin\n"
		       "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"},
	{"etc/group", "root:x:0:\nnogroup:x:65534:\n"},
	{"etc/hosts", "127.0.0.1 localhost build\n"},
	{"etc/hostname", "build\n"},
	{"etc/debian_version", "12\n"},
};

static int place_host_path(const struct host_path *h, struct vc_error *err)
{
	char link[PATH_LEN];
	struct stat st;
	const char *to = h->path + 1;
	if (lstat(h->path, &st) < 0)
		return h->required ? vc_error_errno(err, "sandbox: %s", h->path) : 0;
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(h->path, link, sizeof(link) - 1);
		link[n > 0 ? n : 0] = '\0';
		return symlink(link, to) < 0 ? vc_error_errno(err, "sandbox: %s", h->path) : 0;
	}
	if ((S_ISDIR(st.st_mode) ? make_dir(to, 0755, err) : make_file(to, "", err)) < 0)
		return -1;
	return bind(h->path, to, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
}

// The current directory is the build's; afterwards it is the new root, not entered yet.
static int prepare_host_view(const struct sandbox_spec *spec, struct vc_error *err)
{
	if (mount_fs("tmpfs", "sandbox", MS_NOSUID, "mode=755,size=256m", err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(host_dirs); i++) {
		char path[PATH_LEN];
		snprintf(path, sizeof(path), "sandbox/%s", host_dirs[i].path);
		if (make_dir(path, host_dirs[i].mode, err) < 0 || chmod(path, host_dirs[i].mode) < 0)
			return vc_error_wrap(err, "sandbox: %s", path);
	}
	if (bind("tree", "sandbox/build/tree", spec->tree_read_only ? MOUNT_ATTR_RDONLY : 0, err) < 0 ||
	    bind("out", "sandbox/build/out", 0, err) < 0)
		return -1;
	if (chdir("sandbox") < 0)
		return vc_error_errno(err, "sandbox: chdir");
	for (size_t i = 0; i < VC_ARRAY_LEN(host_paths); i++) {
		if (place_host_path(&host_paths[i], err) < 0)
			return -1;
	}
	for (size_t i = 0; i < VC_ARRAY_LEN(host_files); i++) {
		if (make_file(host_files[i].path, host_files[i].text, err) < 0)
			return -1;
	}
	return 0;
}

// --- the image as root -------------------------------------------------------------------------------------------------

static int prepare_tree_view(const struct sandbox_spec *spec, struct vc_error *err)
{
	(void)spec;
	if (bind("tree", "sandbox", 0, err) < 0)
		return -1;
	return chdir("sandbox") < 0 ? vc_error_errno(err, "sandbox: chdir") : 0;
}

// Inside the tree now: its links lead nowhere else.
static int fill_tree_view(int apt, struct vc_error *err)
{
	static const char *const points[] = {"/proc", "/dev", "/run", "/tmp"};
	for (size_t i = 0; i < VC_ARRAY_LEN(points); i++) {
		if (make_dir(points[i], 0755, err) < 0)
			return -1;
	}
	if (mount_fs("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755,size=64m", err) < 0)
		return -1;
	if (apt >= 0) {
		if (make_dir(SANDBOX_APT, 0755, err) < 0)
			return -1;
		if (move_mount(apt, "", AT_FDCWD, SANDBOX_APT, MOVE_MOUNT_F_EMPTY_PATH) < 0)
			return vc_error_errno(err, "sandbox: " SANDBOX_APT);
	}
	return mount_fs("tmpfs", "/tmp", MS_NOSUID | MS_NODEV, "mode=1777,size=512m", err);
}

// --- both --------------------------------------------------------------------------------------------------------------

static const struct view {
	int (*prepare)(const struct sandbox_spec *spec, struct vc_error *err);
	int (*fill)(int apt, struct vc_error *err);
} views[] = {
	[SANDBOX_HOST] = {prepare_host_view, NULL},
	[SANDBOX_TREE] = {prepare_tree_view, fill_tree_view},
};

int sandbox_root_enter(const struct sandbox_spec *spec, struct vc_error *err)
{
	const struct view *view = &views[spec->view];
	int fds[N_DEVICES], apt = -1;
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return vc_error_errno(err, "sandbox: propagation");
	if (spec->apt && (apt = open_tree(AT_FDCWD, "out/apt", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)) < 0)
		return vc_error_errno(err, "sandbox: out/apt");
	if (open_devices(fds, err) < 0 || view->prepare(spec, err) < 0)
		return -1;
	// The old root comes to lie over the new one, and goes when everything is mounted.
	int old = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (old < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return vc_error_errno(err, "sandbox: pivot_root");
	if (view->fill && view->fill(apt, err) < 0)
		return -1;
	if (mount_fs("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL, err) < 0 || fill_dev(fds, err) < 0)
		return -1;
	if (fchdir(old) < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return vc_error_errno(err, "sandbox: the old root");
	close(old);
	if (apt >= 0)
		close(apt);
	return 0;
}
