// SPDX-License-Identifier: GPL-2.0-or-later
// Imports of other kinds than a tar: see importsource.h. Owns one temporary directory.
#include "cmd/vcctl/importsource.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <json-c/json.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/image_limits.h"
#include "vcd/image/recipe.h"

#define SECTOR 512u
#define TABLE_MAX (1u << 20)  // bytes of sfdisk's JSON; 128 partitions have some kilobytes
#define COPY_BLOCK (1u << 20) // bytes read at once

extern char **environ;

struct importsource {
	char *file, *dir; // dir: temporary; NULL: none
};

const char *importsource_file(const struct importsource *s)
{
	return s->file;
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)ftw;
	if (flag == FTW_D && (st->st_mode & 0700) != 0700)
		(void)chmod(path, 0700);
	return 0;
}

static int remove_it(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

void importsource_close(struct importsource *s)
{
	if (!s)
		return;
	if (s->dir) {
		(void)nftw(s->dir, remove_entry, 16, FTW_PHYS); // directories of an image may forbid their owner to write
		(void)nftw(s->dir, remove_it, 16, FTW_DEPTH | FTW_PHYS);
	}
	free(s->dir);
	free(s->file);
	free(s);
}

static int temporary(struct importsource *s, const char *name, struct vc_error *err)
{
	const char *base = getenv("TMPDIR");
	if (!s->dir) {
		if (asprintf(&s->dir, "%s/vcctl-import-XXXXXX", base && *base == '/' ? base : "/var/tmp") < 0)
			return vc_error_errno(err, "import");
		if (!mkdtemp(s->dir)) {
			vc_error_errno(err, "%s", s->dir);
			free(vc_steal(&s->dir));
			return -1;
		}
	}
	free(vc_steal(&s->file));
	if (asprintf(&s->file, "%s/%s", s->dir, name) < 0) {
		s->file = NULL;
		return vc_error_errno(err, "import");
	}
	return 0;
}

// --- programs -----------------------------------------------------------------------------------------------------------

static pid_t start(char *const *argv, int out, struct vc_error *err)
{
	posix_spawn_file_actions_t actions;
	pid_t pid = -1;
	posix_spawn_file_actions_init(&actions);
	if (out >= 0)
		posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	int rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc == ENOENT)
		return vc_error_set(err, VC_EUSER, "this kind of import needs %s, which is not installed here", argv[0]);
	return rc ? vc_error_set(err, rc, "%s: %s", argv[0], strerror(rc)) : pid;
}

static int finish(pid_t pid, const char *program, struct vc_error *err)
{
	int status;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return vc_error_errno(err, "%s", program);
	}
	return status ? vc_error_set(err, VC_EUSER, "%s failed with status %d", program, WIFEXITED(status) ? WEXITSTATUS(status) : -1) : 0;
}

// out: of its standard output, -1: the user's.
static int run(char *const *argv, int out, struct vc_error *err)
{
	pid_t pid = start(argv, out, err);
	return pid < 0 ? -1 : finish(pid, argv[0], err);
}

static int run_and_read(char *const *argv, struct vc_buf *text, struct vc_error *err)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return vc_error_errno(err, "%s", argv[0]);
	vc_autoclose int in = fds[0];
	vc_autoclose int out = fds[1];
	pid_t pid = start(argv, out, err);
	vc_cleanup_close(&out);
	out = -1;
	for (uint8_t *p; pid >= 0 && (p = vc_buf_reserve(text, 4096));) {
		ssize_t n = read(in, p, 4096);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		vc_buf_commit(text, (size_t)n);
	}
	vc_cleanup_close(&in); // a program with more to say ends by SIGPIPE
	in = -1;
	return pid < 0 ? -1 : finish(pid, argv[0], err);
}

// --- directories and OCI images -------------------------------------------------------------------------------------------

static int tar_directory(struct importsource *s, const char *dir, bool as_root, struct vc_error *err)
{
	vc_autofree char *path = strdup(dir); // may be s->file's
	if (!path || temporary(s, "root.tar", err) < 0)
		return -1;
	char *argv[] = {(char *)"tar", (char *)"--create", (char *)"--one-file-system", (char *)"--numeric-owner", (char *)"--sparse",
			(char *)"--file", s->file, (char *)"--directory", path,
			as_root ? (char *)"--owner=0" : (char *)".", as_root ? (char *)"--group=0" : NULL, as_root ? (char *)"." : NULL, NULL};
	return run(argv, -1, err);
}

// The tag of the layout's first image; "" when it has none.
static int first_tag(const char *layout, char *ret, size_t len, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	struct json_object *manifests = NULL, *annotations = NULL;
	const char *tag = "";
	if (asprintf(&path, "%s/index.json", layout) < 0)
		return vc_error_errno(err, "%s", layout);
	vc_autojson struct json_object *index = json_object_from_file(path);
	if (!index || !json_object_object_get_ex(index, "manifests", &manifests) || !json_object_is_type(manifests, json_type_array) ||
	    !json_object_array_length(manifests))
		return vc_error_set(err, VC_EUSER, "%s: not the index of an OCI layout", path);
	if (json_object_object_get_ex(json_object_array_get_idx(manifests, 0), "annotations", &annotations))
		(void)vc_json_str_opt(annotations, "org.opencontainers.image.ref.name", len - 1, &tag, NULL);
	snprintf(ret, len, "%s", tag);
	return 0;
}

// umoci unpacks layer by layer, whiteouts included; without root, ids are mapped away: everything belongs to root then.
static int unpack_oci(struct importsource *s, const char *layout, struct vc_error *err)
{
	char tag[128];
	vc_autofree char *image = NULL, *root = NULL;
	bool rootless = geteuid() != 0;
	if (first_tag(layout, tag, sizeof(tag), err) < 0)
		return -1;
	if (!tag[0])
		return vc_error_set(err, VC_EUSER, "%s: its image has no tag: give it one (umoci tag), or import a tar", layout);
	if (asprintf(&image, "%s:%s", layout, tag) < 0 || temporary(s, "bundle", err) < 0 || asprintf(&root, "%s/rootfs", s->file) < 0)
		return vc_error_errno(err, "%s", layout);
	char *argv[] = {(char *)"umoci", (char *)"unpack", (char *)"--image", image, rootless ? (char *)"--rootless" : s->file,
			rootless ? s->file : NULL, NULL};
	return run(argv, -1, err) < 0 ? -1 : tar_directory(s, root, rootless, err);
}

static int unpack_oci_archive(struct importsource *s, const char *archive, struct vc_error *err)
{
	if (temporary(s, "layout", err) < 0)
		return -1;
	vc_autofree char *layout = strdup(s->file);
	char *argv[] = {(char *)"tar", (char *)"--extract", (char *)"--file", (char *)archive, (char *)"--directory", layout, NULL};
	if (!layout || mkdir(layout, 0700) < 0)
		return vc_error_errno(err, "%s", archive);
	return run(argv, -1, err) < 0 ? -1 : unpack_oci(s, layout, err);
}

static bool has_oci_mark(const char *dir)
{
	vc_autofree char *path = NULL;
	return asprintf(&path, "%s/oci-layout", dir) >= 0 && access(path, F_OK) == 0;
}

// tar's header: the name first, "ustar" at byte 257. skopeo and umoci write the mark as one of the first members.
static bool is_oci_archive(const char *path, const uint8_t *head, size_t len, struct vc_error *err)
{
	vc_autobuf struct vc_buf names = VC_BUF_INIT(TABLE_MAX);
	char *argv[] = {(char *)"tar", (char *)"--list", (char *)"--file", (char *)path, (char *)"oci-layout", NULL};
	static const char *const firsts[] = {"oci-layout", "index.json", "blobs/", "manifest.json"};
	bool maybe = false;
	for (size_t i = 0; len > 262 && memcmp(head + 257, "ustar", 5) == 0 && i < VC_ARRAY_LEN(firsts); i++)
		maybe = maybe || strncmp((const char *)head, firsts[i], strlen(firsts[i])) == 0;
	return maybe && run_and_read(argv, &names, err) == 0 && names.len > 0;
}

// --- disks ----------------------------------------------------------------------------------------------------------------

static int copy_part(int in, uint64_t from, uint64_t len, int out, struct vc_error *err)
{
	vc_autofree uint8_t *block = malloc(COPY_BLOCK);
	if (!block || ftruncate(out, (off_t)len) < 0)
		return vc_error_errno(err, "import");
	for (uint64_t at = 0; at < len;) {
		off_t data = lseek(in, (off_t)(from + at), SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			return 0;
		if (data > (off_t)(from + at)) {
			at = (uint64_t)data - from;
			continue;
		}
		size_t want = len - at < COPY_BLOCK ? (size_t)(len - at) : COPY_BLOCK;
		ssize_t n = pread(in, block, want, (off_t)(from + at));
		if (n <= 0 || pwrite(out, block, (size_t)n, (off_t)at) != n)
			return vc_error_errno(err, "import");
		at += (uint64_t)n;
	}
	return 0;
}

struct part {
	uint64_t first, len; // bytes
};

// The largest partition that holds an ext4 file system.
static int find_part(int fd, struct json_object *table, struct part *ret, struct vc_error *err)
{
	struct json_object *parts = NULL, *inner = NULL;
	*ret = (struct part){0, 0};
	if (!json_object_object_get_ex(table, "partitiontable", &inner) || !json_object_object_get_ex(inner, "partitions", &parts))
		return vc_error_set(err, VC_EUSER, "the disk has no partitions that sfdisk knows");
	for (size_t i = 0; json_object_is_type(parts, json_type_array) && i < json_object_array_length(parts); i++) {
		struct part p;
		struct json_object *item = json_object_array_get_idx(parts, i);
		if (vc_json_u64(item, "start", IMAGE_SIZE_MAX / SECTOR, &p.first, NULL) < 0 ||
		    vc_json_u64(item, "size", IMAGE_SIZE_MAX / SECTOR, &p.len, NULL) < 0)
			continue;
		p.first *= SECTOR;
		p.len *= SECTOR;
		if (p.len > ret->len && recipe_is_file_system(fd, p.first))
			*ret = p;
	}
	return ret->len ? 0 : vc_error_set(err, VC_EUSER, "no partition of the disk holds an ext4 file system");
}

static int take_partition(struct importsource *s, const char *disk, struct vc_error *err)
{
	struct part part;
	vc_autofree char *path = strdup(disk); // may be s->file's
	vc_autobuf struct vc_buf text = VC_BUF_INIT(TABLE_MAX);
	char *argv[] = {(char *)"sfdisk", (char *)"--json", path, NULL};
	if (!path || run_and_read(argv, &text, err) < 0)
		return -1;
	vc_autojson struct json_object *table = vc_json_parse((const char *)vc_buf_head(&text), text.len, err);
	vc_autoclose int in = open(path, O_RDONLY | O_CLOEXEC);
	if (!table || in < 0)
		return table ? vc_error_errno(err, "%s", path) : -1;
	if (find_part(in, table, &part, err) < 0 || temporary(s, "partition.raw", err) < 0)
		return -1;
	vc_autoclose int out = open(s->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return out < 0 ? vc_error_errno(err, "%s", s->file) : copy_part(in, part.first, part.len, out, err);
}

static int convert_qcow2(struct importsource *s, const char *path, struct vc_error *err)
{
	if (temporary(s, "disk.raw", err) < 0)
		return -1;
	char *argv[] = {(char *)"qemu-img", (char *)"convert", (char *)"-O", (char *)"raw", (char *)path, s->file, NULL};
	return run(argv, -1, err);
}

// A raw disk, or a file system: what is not one of these stays what it is.
static int take_disk(struct importsource *s, const char *path, struct vc_error *err)
{
	uint8_t mark[2] = {0, 0};
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vc_error_errno(err, "%s", path);
	if (recipe_is_file_system(fd, 0) || pread(fd, mark, sizeof(mark), SECTOR - 2) != sizeof(mark) || mark[0] != 0x55 || mark[1] != 0xaa)
		return 0;
	return take_partition(s, path, err);
}

// --- which kind -----------------------------------------------------------------------------------------------------------

static int take_file(struct importsource *s, const char *path, struct vc_error *err)
{
	uint8_t head[SECTOR] = {0};
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, head, sizeof(head), 0);
	if (n < 0)
		return vc_error_errno(err, "%s", path);
	if (n >= 4 && memcmp(head, "QFI\xfb", 4) == 0)
		return convert_qcow2(s, path, err) < 0 ? -1 : take_disk(s, s->file, err);
	if (is_oci_archive(path, head, (size_t)n, NULL))
		return unpack_oci_archive(s, path, err);
	return take_disk(s, path, err);
}

int importsource_open(const char *path, struct importsource **ret, struct vc_error *err)
{
	struct stat st;
	struct importsource *s = calloc(1, sizeof(*s));
	if (!s || stat(path, &st) < 0) {
		free(s);
		return vc_error_errno(err, "%s", path);
	}
	s->file = strdup(path);
	int rc = !s->file ? vc_error_errno(err, "%s", path)
		 : !S_ISDIR(st.st_mode) ? take_file(s, path, err)
		 : has_oci_mark(path) ? unpack_oci(s, path, err)
				      : tar_directory(s, path, false, err);
	if (rc < 0) {
		importsource_close(s);
		return -1;
	}
	*ret = s;
	return 0;
}
