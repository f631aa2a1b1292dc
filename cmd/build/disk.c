// SPDX-License-Identifier: GPL-2.0-or-later
// The image's file system while it is built: see disk.h.
#include "cmd/build/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "cmd/build/inside.h"
#include "libvc/cleanup.h"
#include "vcd/image/image_limits.h"

#define BLOCK 4096u		 // bytes of an ext4 block; mke2fs would take 1024 below 512 MiB
#define BYTES_PER_INODE 16384u	 // mke2fs's own default
#define LOOP_TRIES 32		 // another process may take the free loop device between two calls
#define COPY_BLOCK (1u << 20)	 // bytes read at once where the kernel cannot copy by itself
// The journal is neither replayed nor written: the file system is always clean here, and its blocks would all be new
// chunks. Inode tables are initialised when they are used, not in the background.
#define MOUNT_OPTIONS "noload,noinit_itable"

// --- programs ----------------------------------------------------------------------------------------------------

static int run_on_host(struct run_env *env, char **argv, bool read_only, uint64_t file_max, struct vc_error *err)
{
	struct inside_exec e = {.argv = argv};
	struct sandbox_spec spec = {.view = SANDBOX_HOST,
				    .tree_read_only = read_only,
				    .input = -1,
				    .result = -1,
				    .file_max = file_max,
				    .fn = inside_exec,
				    .arg = &e};
	return run_in_sandbox(env, "image", &spec, err);
}

int disk_make(struct disk *d, struct run_env *env, uint64_t size, uint64_t files, const char *uuid, struct vc_error *err)
{
	char blocks[24], inodes[24], extended[192];
	uint64_t n_inodes = size / BYTES_PER_INODE;
	if (n_inodes < files + files / 4 + 1024)
		n_inodes = files + files / 4 + 1024;
	snprintf(blocks, sizeof(blocks), "%llu", (unsigned long long)(size / BLOCK));
	snprintf(inodes, sizeof(inodes), "%llu", (unsigned long long)n_inodes);
	// Without copies of the superblock: growth would write each of them, a chunk for two blocks, and no image is ever repaired.
	snprintf(extended, sizeof(extended), "root_owner=0:0,hash_seed=%s,lazy_itable_init=1,lazy_journal_init=1,nodiscard,num_backup_sb=0", uuid);
	char *argv[] = {(char *)"mke2fs", (char *)"-q", (char *)"-F", (char *)"-t", (char *)"ext4", (char *)"-O", (char *)"sparse_super2", (char *)"-b",
			(char *)"4096",	  (char *)"-m", (char *)"0",  (char *)"-N", inodes,	    (char *)"-U",
			(char *)uuid,	  (char *)"-E", extended,     (char *)"-d", (char *)"/build/tree",
			(char *)"/build/out/root.raw", blocks, NULL};
	if (run_on_host(env, argv, true, size, err) < 0)
		return -1;
	if (truncate(DISK_RAW, (off_t)size) < 0)
		return vc_error_errno(err, "root.raw");
	d->size = size;
	return 0;
}

// --- copies ------------------------------------------------------------------------------------------------------

static int copy_range(int from, int to, off_t at, off_t end, struct vc_error *err)
{
	vc_autofree char *block = NULL;
	off_t in = at, out = at;
	while (in < end) {
		ssize_t n = block ? -1 : copy_file_range(from, &in, to, &out, (size_t)(end - in), 0);
		if (n > 0)
			continue;
		if (!block && !(block = malloc(COPY_BLOCK)))
			return vc_error_errno(err, "copy");
		size_t want = (size_t)(end - in) < COPY_BLOCK ? (size_t)(end - in) : COPY_BLOCK;
		n = pread(from, block, want, in);
		if (n <= 0 || pwrite(to, block, (size_t)n, in) != n)
			return vc_error_errno(err, "copy of the parent image");
		in += n;
		out = in;
	}
	return 0;
}

static int copy_data(int from, int to, off_t size, struct vc_error *err)
{
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (ftruncate(to, size) < 0)
		return vc_error_errno(err, "copy");
	for (off_t at = lseek(from, 0, SEEK_DATA); at >= 0 && at < size;) {
		off_t end = lseek(from, at, SEEK_HOLE);
		if (end < 0)
			return vc_error_errno(err, "copy");
		if (copy_range(from, to, at, end, err) < 0)
			return -1;
		at = lseek(from, end, SEEK_DATA);
	}
	return 0;
}

static int copy_file(const char *from, const char *to, uid_t owner, uint64_t *ret_size, struct vc_error *err)
{
	struct stat st;
	vc_autoclose int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (in < 0 || fstat(in, &st) < 0)
		return vc_error_errno(err, "%s", from);
	if (!S_ISREG(st.st_mode) || st.st_size == 0 || (uint64_t)st.st_size > IMAGE_SIZE_MAX || st.st_size % DISK_ROUND)
		return vc_error_set(err, VC_EHOST, "%s: not the raw file of an image", from);
	vc_autoclose int out = open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		return vc_error_errno(err, "%s", to);
	if (copy_data(in, out, st.st_size, err) < 0)
		return vc_error_wrap(err, "%s", to);
	if (fchown(out, owner, owner) < 0)
		return vc_error_errno(err, "%s", to);
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

int disk_copy(struct disk *d, const char *parent, struct vc_error *err)
{
	return copy_file(parent, DISK_RAW, IMAGE_UID_BASE, &d->size, err);
}

int disk_import(struct disk *d, int fd, uint64_t max_bytes, struct vc_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return vc_error_errno(err, "imported file system");
	uint64_t size = ((uint64_t)st.st_size + DISK_ROUND - 1) / DISK_ROUND * DISK_ROUND;
	if (size > IMAGE_SIZE_MAX || (uint64_t)st.st_blocks * 512 > max_bytes)
		return vc_error_set(err, VC_EUSER, "the imported file system is larger than an image may be");
	vc_autoclose int out = open(DISK_RAW, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		return vc_error_errno(err, "root.raw");
	if (copy_data(fd, out, st.st_size, err) < 0)
		return vc_error_wrap(err, "root.raw");
	if (ftruncate(out, (off_t)size) < 0 || fsync(out) < 0)
		return vc_error_errno(err, "root.raw");
	d->size = size;
	return 0;
}

int disk_snapshot(const struct disk *d, const char *to, struct vc_error *err)
{
	uint64_t size = 0;
	if (d->mounted)
		return vc_error_set(err, VC_EHOST, "%s: the image is mounted", to);
	return copy_file(DISK_RAW, to, geteuid(), &size, err);
}

// --- mounting ----------------------------------------------------------------------------------------------------

static int attach(int raw, char *ret_path, size_t len, struct vc_error *err)
{
	const struct loop_config config = {.fd = (uint32_t)raw, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
	vc_autoclose int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return vc_error_errno(err, "/dev/loop-control: building images needs loop devices");
	for (int i = 0; i < LOOP_TRIES; i++) {
		int number = ioctl(control, LOOP_CTL_GET_FREE);
		if (number < 0)
			break;
		snprintf(ret_path, len, "/dev/loop%d", number);
		vc_autoclose int loop = open(ret_path, O_RDWR | O_CLOEXEC);
		if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0)
			return vc_steal_fd(&loop);
		if (loop >= 0 && errno != EBUSY)
			break;
	}
	return vc_error_errno(err, "loop device");
}

// The files' ids, 0 and up, become the sandbox's for everybody who comes through this mount.
static int map_ids(struct vc_error *err)
{
	vc_autoclose int userns = sandbox_userns(err);
	if (userns < 0)
		return -1;
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
	vc_autoclose int tree = open_tree(AT_FDCWD, "tree", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0 ||
	    move_mount(tree, "", AT_FDCWD, "tree", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return vc_error_errno(err, "image: id-mapped mount");
	return 0;
}

int disk_mount(struct disk *d, struct vc_error *err)
{
	char path[32];
	if (d->mounted)
		return 0;
	vc_autoclose int raw = open(DISK_RAW, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (raw < 0)
		return vc_error_errno(err, "root.raw");
	vc_autoclose int loop = attach(raw, path, sizeof(path), err);
	if (loop < 0)
		return -1;
	if (mount(path, "tree", "ext4", MS_NODEV | MS_NOSUID | MS_NOATIME, MOUNT_OPTIONS) < 0)
		return vc_error_errno(err, "image: mount");
	d->mounted = true;
	return map_ids(err);
}

void disk_drop(struct disk *d)
{
	while (umount2("tree", MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
	d->mounted = false;
}

int disk_unmount(struct disk *d, struct vc_error *err)
{
	struct fstrim_range all = {.len = UINT64_MAX};
	if (!d->mounted)
		return 0;
	vc_autoclose int tree = open("tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tree < 0 || syncfs(tree) < 0)
		return vc_error_errno(err, "image: flush");
	// A disk that cannot make holes only costs room.
	(void)ioctl(tree, FITRIM, &all);
	vc_cleanup_close(&tree);
	tree = -1;
	// The id-mapped mount lies over the plain one.
	if (umount2("tree", UMOUNT_NOFOLLOW) < 0 || umount2("tree", UMOUNT_NOFOLLOW) < 0)
		return vc_error_errno(err, "image: unmount");
	d->mounted = false;
	vc_autoclose int raw = open(DISK_RAW, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return raw < 0 || fdatasync(raw) < 0 ? vc_error_errno(err, "root.raw") : 0;
}

// --- size --------------------------------------------------------------------------------------------------------

int disk_grow(struct disk *d, struct run_env *env, uint64_t size, struct vc_error *err)
{
	bool mounted = d->mounted;
	// As the kernel, resize2fs may leave inode tables unwritten; it asks a /sys that the sandbox does not have.
	char *argv[] = {(char *)"env", (char *)"RESIZE2FS_FORCE_LAZY_ITABLE_INIT=1", (char *)"resize2fs", (char *)"-f", (char *)"/build/out/root.raw", NULL};
	size = (size + DISK_ROUND - 1) / DISK_ROUND * DISK_ROUND;
	if (size <= d->size)
		return 0;
	if (size > IMAGE_SIZE_MAX)
		return vc_error_set(err, VC_EUSER, "the image needs more than %llu GiB", IMAGE_SIZE_MAX >> 30);
	if (disk_unmount(d, err) < 0)
		return -1;
	if (truncate(DISK_RAW, (off_t)size) < 0)
		return vc_error_errno(err, "root.raw");
	if (run_on_host(env, argv, true, size, err) < 0)
		return -1;
	d->size = size;
	return mounted ? disk_mount(d, err) : 0;
}

int disk_usage(const struct disk *d, uint64_t *ret_used, uint64_t *ret_free, uint64_t *ret_files, struct vc_error *err)
{
	struct statvfs vfs;
	if (!d->mounted || statvfs("tree", &vfs) < 0)
		return vc_error_errno(err, "image");
	*ret_used = (uint64_t)(vfs.f_blocks - vfs.f_bfree) * vfs.f_frsize;
	*ret_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	*ret_files = (uint64_t)(vfs.f_files - vfs.f_ffree);
	return 0;
}

int disk_take(struct disk *d, uint64_t *ret_bytes, struct vc_error *err)
{
	struct stat st;
	if (disk_unmount(d, err) < 0)
		return -1;
	vc_autoclose int fd = open(DISK_RAW, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "root.raw");
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1 || (uint64_t)st.st_size != d->size)
		return vc_error_set(err, VC_EHOST, "root.raw is not what e2fsprogs make");
	if (fchown(fd, geteuid(), getegid()) < 0 || fchmod(fd, 0600) < 0)
		return vc_error_errno(err, "root.raw");
	*ret_bytes = (uint64_t)st.st_blocks * 512;
	return rename(DISK_RAW, "root.raw") < 0 ? vc_error_errno(err, "root.raw") : 0;
}
