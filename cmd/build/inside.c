// SPDX-License-Identifier: GPL-2.0-or-later
// The work inside the sandbox: see inside.h. The image is / for everything here but inside_exec().
#include "cmd/build/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/build/sandbox.h"
#include "libvc/cleanup.h"
#include "libvc/parse.h"

#define FAILED 1
#define RELEASE_MAX (16u << 20) // bytes of an InRelease file; bookworm's has 150 KiB
#define POLICY "/usr/sbin/policy-rc.d"

static int fail(const char *what)
{
	fprintf(stderr, "E: %s: %s\n", what, strerror(errno));
	return FAILED;
}

int inside_exec(void *arg)
{
	const struct inside_exec *e = arg;
	execvp(e->argv[0], e->argv);
	return fail(e->argv[0]);
}

// --- packages --------------------------------------------------------------------------------------------------------

static int write_file(const char *path, const void *data, size_t len, mode_t mode)
{
	// A new inode: whatever stands at the path, link or device, is replaced and not written through.
	if (unlink(path) < 0 && errno != ENOENT)
		return -1;
	vc_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -1;
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, (const char *)data + done, len - done);
		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return fchmod(fd, mode);
}

#define LISTS "/var/lib/apt/lists"

static int take_list(const char *path)
{
	char to[PATH_MAX], block[64 << 10];
	struct stat st;
	vc_autoclose int in = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (in < 0 || fstat(in, &st) < 0)
		return errno == ELOOP ? 0 : -1;
	if (!S_ISREG(st.st_mode))
		return 0; // partial/ and auxfiles/
	snprintf(to, sizeof(to), SANDBOX_APT "/lists/%s", strrchr(path, '/') + 1);
	vc_autoclose int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (out < 0)
		return -1;
	for (ssize_t n; (n = read(in, block, sizeof(block))) != 0;) {
		if (n < 0 || write(out, block, (size_t)n) != n)
			return -1;
	}
	return unlink(path);
}

int inside_take_lists(void *arg)
{
	glob_t found = {0};
	int rc = 0;
	(void)arg;
	if (glob(LISTS "/*", 0, NULL, &found) == 0) {
		for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++)
			rc = take_list(found.gl_pathv[i]) < 0 ? fail(found.gl_pathv[i]) : 0;
	}
	globfree(&found);
	return rc;
}

int inside_prepare_packages(void *arg)
{
	static const char policy[] = "#!/bin/sh\nexit 101\n";
	(void)arg;
	if (access("/usr/bin/apt-get", X_OK) < 0) {
		fprintf(stderr, "E: the image has no apt-get: packages need a Debian base\n");
		return FAILED;
	}
	return write_file(POLICY, policy, sizeof(policy) - 1, 0755) < 0 ? fail(POLICY) : 0;
}

// --- files -----------------------------------------------------------------------------------------------------------

static int make_parents(const char *path)
{
	char dir[IMAGE_PATH_MAX + 1];
	for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
		if (mkdir(dir, 0755) < 0 && errno != EEXIST)
			return -1;
	}
	return 0;
}

// The image's own /etc/passwd and /etc/group, read as files: its NSS modules are not to run in our process.
static int find_user(const char *name, uid_t *ret)
{
	uint64_t id = 0;
	struct passwd *entry;
	if (vc_parse_u64("user", name, 0, IMAGE_UID_COUNT - 1, &id, NULL) == 0 || strcmp(name, "root") == 0) {
		*ret = (uid_t)id;
		return 0;
	}
	vc_autofclose FILE *f = fopen("/etc/passwd", "re");
	while (f && (entry = fgetpwent(f))) {
		if (strcmp(entry->pw_name, name) == 0) {
			*ret = entry->pw_uid;
			return 0;
		}
	}
	fprintf(stderr, "E: the image has no user '%s'\n", name);
	return -1;
}

static int find_group(const char *name, gid_t *ret)
{
	uint64_t id = 0;
	struct group *entry;
	if (vc_parse_u64("group", name, 0, IMAGE_UID_COUNT - 1, &id, NULL) == 0 || strcmp(name, "root") == 0) {
		*ret = (gid_t)id;
		return 0;
	}
	vc_autofclose FILE *f = fopen("/etc/group", "re");
	while (f && (entry = fgetgrent(f))) {
		if (strcmp(entry->gr_name, name) == 0) {
			*ret = entry->gr_gid;
			return 0;
		}
	}
	fprintf(stderr, "E: the image has no group '%s'\n", name);
	return -1;
}

static int place_file(const struct recipe_file *f)
{
	char user[IMAGE_OWNER_MAX + 1];
	uid_t uid = 0;
	gid_t gid = 0;
	const char *colon = strchr(f->owner, ':');
	snprintf(user, sizeof(user), "%.*s", (int)(colon - f->owner), f->owner);
	if (find_user(user, &uid) < 0 || find_group(colon + 1, &gid) < 0)
		return FAILED;
	if (make_parents(f->path) < 0 || write_file(f->path, f->data, f->len, 0600) < 0)
		return fail(f->path);
	// Owner first: a change of owner clears set-user-id bits.
	if (chown(f->path, uid, gid) < 0 || chmod(f->path, f->mode) < 0)
		return fail(f->path);
	return 0;
}

int inside_files(void *arg)
{
	const struct recipe *r = arg;
	for (size_t i = 0; i < r->n_files; i++) {
		if (place_file(&r->files[i]) != 0)
			return FAILED;
	}
	return 0;
}

// --- lock ------------------------------------------------------------------------------------------------------------

static void print_release(const char *path)
{
	char hex[DIGEST_HEX_LEN];
	uint8_t digest[DIGEST_LEN];
	uint64_t size = 0;
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || digest_fd(fd, RELEASE_MAX, digest, &size, NULL) < 0)
		return;
	digest_hex(digest, hex);
	dprintf(SANDBOX_RESULT_FD, "release %s %s\n", hex, strrchr(path, '/') + 1);
}

int inside_lock(void *arg)
{
	glob_t found = {0};
	(void)arg;
	if (glob(SANDBOX_APT "/lists/*Release", 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++)
			print_release(found.gl_pathv[i]);
	}
	globfree(&found);
	if (access("/usr/bin/dpkg-query", X_OK) < 0)
		return 0; // not a Debian root: there is nothing to lock
	dup2(SANDBOX_RESULT_FD, STDOUT_FILENO);
	execl("/usr/bin/dpkg-query", "dpkg-query", "-W", "-f", "package ${Package}:${Architecture}=${Version}\\n", (char *)NULL);
	return fail("dpkg-query");
}

// --- finish ----------------------------------------------------------------------------------------------------------

// What must not be in an image: caches that cost bytes, traces of the build, and identity, which each member
// gets from vcluster at its boot.
static const char *const removed[] = {
	POLICY,
	"/etc/apt/apt.conf.d/99mmdebstrap",
	"/etc/dpkg/dpkg.cfg.d/99mmdebstrap",
	"/var/cache/apt/archives/*.deb",
	"/var/cache/apt/*.bin",
	"/var/lib/apt/lists/*Packages*",
	"/var/lib/apt/lists/*Release*",
	"/var/lib/apt/lists/*Translation*",
	"/var/log/apt/*",
	"/var/log/*.log",
	"/var/cache/debconf/*-old",
	"/var/lib/dpkg/*-old",
	"/var/cache/ldconfig/aux-cache",
	"/etc/ssh/ssh_host_*",
	"/var/lib/dbus/machine-id",
	"/etc/hostname",
	"/etc/resolv.conf",
};

int inside_finish(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < VC_ARRAY_LEN(removed); i++) {
		glob_t found = {0};
		if (glob(removed[i], 0, NULL, &found) == 0) {
			for (size_t k = 0; k < found.gl_pathc; k++)
				(void)unlink(found.gl_pathv[k]); // a directory of that name is the image's own matter
		}
		globfree(&found);
	}
	if (access("/etc/machine-id", F_OK) == 0 && write_file("/etc/machine-id", "", 0, 0444) < 0)
		return fail("/etc/machine-id");
	return 0;
}
