// SPDX-License-Identifier: GPL-2.0-or-later
// Applying a setup: see apply.h.
#include "guest/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/accounts.h"
#include "guest/netif.h"
#include "libvc/cleanup.h"

#define ETC_FILE_MAX (1u << 20) // bytes of passwd, group or hosts; a site's own are far smaller in an image
#define DEFAULT_SHELL "/bin/sh" // of an injected user when the image has no bash

static int write_all(int fd, const void *data, size_t len)
{
	for (const char *p = data; len > 0;) {
		ssize_t n = write(fd, p, len);
		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int apply_write(const char *path, const void *data, size_t len, mode_t mode, uid_t uid, gid_t gid, struct vc_error *err)
{
	vc_autofree char *tmp = NULL;
	if (asprintf(&tmp, "%s.vcnew", path) < 0) {
		tmp = NULL;
		return vc_error_errno(err, "%s", path);
	}
	unlink(tmp);
	vc_autoclose int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 || write_all(fd, data, len) < 0 || fchown(fd, uid, gid) < 0 || fchmod(fd, mode) < 0 || rename(tmp, path) < 0) {
		vc_error_errno(err, "%s", path);
		unlink(tmp);
		return -1;
	}
	return 0;
}

// The whole file as a string; an absent one is empty.
static char *read_text(const char *path, struct vc_error *err)
{
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT) {
		vc_error_errno(err, "%s", path);
		return NULL;
	}
	vc_autofree char *text = malloc(ETC_FILE_MAX + 1);
	size_t len = 0;
	ssize_t n = 0;
	while (text && fd >= 0 && len < ETC_FILE_MAX && (n = read(fd, text + len, ETC_FILE_MAX - len)) > 0)
		len += (size_t)n;
	if (!text || n < 0 || len == ETC_FILE_MAX) {
		vc_error_set(err, VC_EFAILED, "%s cannot be read, or has more than %u bytes", path, ETC_FILE_MAX);
		return NULL;
	}
	text[len] = '\0';
	return vc_steal(&text);
}

static int make_dirs(const char *path, struct vc_error *err)
{
	vc_autofree char *p = strdup(path);
	if (!p)
		return vc_error_errno(err, "%s", path);
	for (char *slash = p; (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		if (mkdir(p, 0755) < 0 && errno != EEXIST)
			return vc_error_errno(err, "%s", p);
		*slash = '/';
	}
	return 0;
}

// --- steps -----------------------------------------------------------------------------------------------------

static int set_hostname(const struct setup *s, struct vc_error *err)
{
	const char *name = setup_self(s)->name;
	return sethostname(name, strlen(name)) < 0 ? vc_error_errno(err, "host name %s", name) : 0;
}

static int set_network(const struct setup *s, struct vc_error *err)
{
	const struct setup_member *self = setup_self(s);
	if (netif_loopback_up(err) < 0)
		return -1;
	return self->mac[0] ? netif_configure(self->mac, self->addr, s->prefix, s->mtu, err) : 0;
}

int apply_hosts(const struct setup_member *members, size_t n, struct vc_error *err)
{
	vc_autofree char *old = read_text("/etc/hosts", err);
	vc_autofree char *text = old ? accounts_hosts(old, members, n, err) : NULL;
	return text ? apply_write("/etc/hosts", text, strlen(text), 0644, 0, 0, err) : -1;
}

static int set_hosts(const struct setup *s, struct vc_error *err)
{
	const char *name = setup_self(s)->name;
	if (mkdir("/etc", 0755) < 0 && errno != EEXIST)
		return vc_error_errno(err, "/etc");
	vc_autofree char *line = NULL;
	if (asprintf(&line, "%s\n", name) < 0) {
		line = NULL;
		return vc_error_errno(err, "/etc/hostname");
	}
	if (apply_write("/etc/hostname", line, strlen(line), 0644, 0, 0, err) < 0)
		return -1;
	return apply_hosts(s->members, s->n_members, err);
}

static int set_accounts(const struct setup *s, struct vc_error *err)
{
	const char *shell = access("/bin/bash", X_OK) == 0 ? "/bin/bash" : DEFAULT_SHELL;
	vc_autofree char *old_passwd = read_text("/etc/passwd", err);
	vc_autofree char *old_group = old_passwd ? read_text("/etc/group", err) : NULL;
	vc_autofree char *passwd = old_group ? accounts_passwd(old_passwd, &s->owner, shell, err) : NULL;
	vc_autofree char *group = passwd ? accounts_group(old_group, &s->owner, err) : NULL;
	if (!group || apply_write("/etc/passwd", passwd, strlen(passwd), 0644, 0, 0, err) < 0)
		return -1;
	return apply_write("/etc/group", group, strlen(group), 0644, 0, 0, err);
}

// An existing home keeps its content and owner: an image may bring one on purpose, a mount certainly does.
static int set_home(const struct setup *s, struct vc_error *err)
{
	const struct setup_owner *o = &s->owner;
	if (make_dirs(o->home, err) < 0)
		return -1;
	if (mkdir(o->home, 0700) < 0)
		return errno == EEXIST ? 0 : vc_error_errno(err, "%s", o->home);
	return chown(o->home, o->uid, o->gid) < 0 ? vc_error_errno(err, "%s", o->home) : 0;
}

static int set_secret(const struct setup *s, struct vc_error *err)
{
	char hex[SETUP_SECRET_LEN * 2 + 1];
	for (size_t i = 0; i < SETUP_SECRET_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", s->secret[i]);
	int rc = apply_write(APPLY_SECRET_PATH, hex, SETUP_SECRET_LEN * 2, 0600, 0, 0, err);
	explicit_bzero(hex, sizeof(hex));
	return rc;
}

static int set_files(const struct setup *s, struct vc_error *err)
{
	for (size_t i = 0; i < s->n_files; i++) {
		const struct setup_file *f = &s->files[i];
		if (make_dirs(f->path, err) < 0 || apply_write(f->path, f->data, f->len, f->mode, f->uid, f->gid, err) < 0)
			return -1;
	}
	return 0;
}

static int set_mounts(const struct setup *s, struct vc_error *err)
{
	for (size_t i = 0; i < s->n_mounts; i++) {
		const struct setup_mount *m = &s->mounts[i];
		unsigned long flags = MS_NOSUID | MS_NODEV | (m->ro ? MS_RDONLY : 0);
		if (make_dirs(m->dst, err) < 0)
			return -1;
		if (mkdir(m->dst, 0755) < 0 && errno != EEXIST)
			return vc_error_errno(err, "%s", m->dst);
		if (mount(m->tag, m->dst, "virtiofs", flags, NULL) < 0 && errno != EBUSY)
			return vc_error_errno(err, "mount of %s on %s (virtiofs)", m->tag, m->dst);
	}
	return 0;
}

// Name first: MPI libraries refuse a host without one. Mounts before the home, which may lie on one.
static const struct {
	const char *what;
	int (*run)(const struct setup *s, struct vc_error *err);
} steps[] = {
	{"set the host name", set_hostname}, {"configure the network", set_network},
	{"write the hosts", set_hosts},	     {"add the job's user", set_accounts},
	{"store the secret", set_secret},    {"mount shared directories", set_mounts},
	{"make the home directory", set_home}, {"write files", set_files},
};

int apply_setup(const struct setup *s, struct vc_error *err)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(steps); i++) {
		if (steps[i].run(s, err) < 0)
			return vc_error_wrap(err, "cannot %s", steps[i].what);
	}
	return 0;
}
