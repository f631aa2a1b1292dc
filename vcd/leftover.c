// SPDX-License-Identifier: GPL-2.0-or-later
// Leftovers of this host: see leftover.h.
#include "vcd/leftover.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "vcd/hv.h"
#include "vcd/net.h"
#include "vcd/sharework.h"

#define LEFTOVERS_MAX 1024 // listed at once; more are found by the next scan

struct roster {
	pthread_mutex_t lock;
	char (*ids)[NET_SHORT_LEN + 1];
	size_t n, alloc;
};

struct roster *roster_create(void)
{
	struct roster *r = calloc(1, sizeof(*r));
	if (r)
		pthread_mutex_init(&r->lock, NULL);
	return r;
}

void roster_destroy(struct roster *r)
{
	if (!r)
		return;
	pthread_mutex_destroy(&r->lock);
	free(r->ids);
	free(r);
}

int roster_add(struct roster *r, const char *cluster, struct vc_error *err)
{
	int rc = 0;
	pthread_mutex_lock(&r->lock);
	if (r->n == r->alloc) {
		size_t alloc = r->alloc ? r->alloc * 2 : 16;
		void *ids = reallocarray(r->ids, alloc, sizeof(*r->ids));
		if (ids) {
			r->ids = ids;
			r->alloc = alloc;
		}
	}
	if (r->n < r->alloc)
		snprintf(r->ids[r->n++], sizeof(*r->ids), "%.*s", NET_SHORT_LEN, cluster);
	else
		rc = vc_error_set(err, ENOMEM, "roster of clusters");
	pthread_mutex_unlock(&r->lock);
	return rc;
}

void roster_remove(struct roster *r, const char *cluster)
{
	pthread_mutex_lock(&r->lock);
	for (size_t i = 0; i < r->n; i++) {
		if (strncmp(r->ids[i], cluster, NET_SHORT_LEN) != 0)
			continue;
		memcpy(r->ids[i], r->ids[--r->n], sizeof(*r->ids));
		break;
	}
	pthread_mutex_unlock(&r->lock);
}

bool roster_has(struct roster *r, const char *short_id)
{
	bool found = false;
	pthread_mutex_lock(&r->lock);
	for (size_t i = 0; i < r->n && !found; i++)
		found = strncmp(r->ids[i], short_id, NET_SHORT_LEN) == 0;
	pthread_mutex_unlock(&r->lock);
	return found;
}

// --- scan -----------------------------------------------------------------------------------------------------

struct scan {
	const struct leftover_args *args;
	char **items;
	size_t n;
	struct roster *before; // clusters at the beginning; those at the end count too
};

static bool belongs(struct scan *s, const char *short_id)
{
	return roster_has(s->before, short_id) || roster_has(s->args->roster, short_id);
}

static void found(struct scan *s, const char *kind, const char *name, int removed, const struct vc_error *err)
{
	if (s->args->remove && removed == 0)
		vc_log_notice("removed %s %s: it belongs to no cluster of this host", kind, name);
	else if (s->args->remove)
		vc_log_warning("cannot remove %s %s, which belongs to no cluster: %s", kind, name, err->text);
	if (s->n < LEFTOVERS_MAX && asprintf(&s->items[s->n], "%s %s", kind, name) >= 0)
		s->n++;
}

static int scan_domains(struct scan *s, struct vc_error *err)
{
	vc_autofree struct hv_domain *list = NULL;
	size_t n = 0;
	if (hv_list(s->args->hv, &list, &n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++) {
		struct vc_error why = VC_ERROR_INIT;
		bool probe = strcmp(list[i].name, HV_PROBE_DOMAIN) == 0;
		// without our metadata it is somebody else's who likes the prefix
		if (!list[i].ours || belongs(s, list[i].cluster) || (probe && !s->args->remove))
			continue;
		found(s, "domain", list[i].name, s->args->remove ? hv_kill(s->args->hv, list[i].name, &why) : 0, &why);
	}
	return 0;
}

static int scan_links(struct scan *s, struct vc_error *err)
{
	vc_autostrv char **names = NULL;
	char cluster[NET_SHORT_LEN + 1];
	if (net_list(&names, err) < 0)
		return -1;
	for (size_t i = 0; names[i]; i++) {
		struct vc_error why = VC_ERROR_INIT;
		if (net_name_cluster(names[i], cluster) < 0 || belongs(s, cluster))
			continue;
		found(s, "network link", names[i], s->args->remove ? net_remove(cluster, &why) : 0, &why);
	}
	return 0;
}

static bool is_short_id(const char *name)
{
	return strspn(name, "0123456789abcdef") == NET_SHORT_LEN && !name[NET_SHORT_LEN];
}

// What lies in a directory of a cluster that is not here: sockets of guests, overlays. Only named: it goes with the directory.
static void scan_inside(struct scan *s, const char *path)
{
	DIR *dir = s->args->remove ? NULL : opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		struct stat st;
		vc_autofree char *item = NULL;
		if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || asprintf(&item, "%s/%s", path, e->d_name) < 0)
			continue;
		if (S_ISSOCK(st.st_mode))
			found(s, "socket", item, 0, NULL);
		else if (S_ISREG(st.st_mode) && fnmatch("*.qcow2", e->d_name, 0) == 0)
			found(s, "overlay", item, 0, NULL);
	}
	if (dir)
		closedir(dir);
}

static int scan_dirs(struct scan *s, const char *base, const char *sub, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	if (asprintf(&path, "%s/%s", base, sub) < 0)
		return vc_error_errno(err, "%s", base);
	DIR *dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : vc_error_errno(err, "%s", path);
	for (struct dirent *e; (e = readdir(dir));) {
		struct vc_error why = VC_ERROR_INIT;
		vc_autofree char *item = NULL;
		if (!is_short_id(e->d_name) || belongs(s, e->d_name) || asprintf(&item, "%s/%s", path, e->d_name) < 0)
			continue;
		scan_inside(s, item);
		found(s, "directory", item, s->args->remove ? sharework_remove_dir(item, &why) : 0, &why);
	}
	closedir(dir);
	return 0;
}

// Mounts below the directories of clusters that are not here; removing a directory unmounts them.
static int scan_mounts(struct scan *s, struct vc_error *err)
{
	vc_autofree char *base = NULL, *line = NULL;
	size_t size = 0;
	if (asprintf(&base, "%s/guests/", s->args->run_dir) < 0)
		return vc_error_set(err, ENOMEM, "mounts: out of memory");
	FILE *file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		return vc_error_errno(err, "/proc/self/mountinfo");
	while (getline(&line, &size, file) >= 0) {
		char *rest = NULL, *at = strtok_r(line, " ", &rest), id[NET_SHORT_LEN + 1];
		for (int i = 0; at && i < 4; i++) // the fifth field is the mount point
			at = strtok_r(NULL, " ", &rest);
		if (!at || strncmp(at, base, strlen(base)) != 0)
			continue;
		snprintf(id, sizeof(id), "%s", at + strlen(base));
		if (is_short_id(id) && !belongs(s, id))
			found(s, "mount", at, 0, NULL);
	}
	fclose(file);
	return 0;
}

static int read_marker(int dir, const char *name, char short_id[NET_SHORT_LEN + 1])
{
	vc_autoclose int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || read(fd, short_id, NET_SHORT_LEN) != NET_SHORT_LEN)
		return -1;
	short_id[NET_SHORT_LEN] = '\0';
	return 0;
}

static int scan_markers(struct scan *s, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	if (asprintf(&path, "%s/jobs", s->args->run_dir) < 0)
		return vc_error_errno(err, "job markers");
	DIR *dir = opendir(path);
	if (!dir)
		return errno == ENOENT ? 0 : vc_error_errno(err, "%s", path);
	for (struct dirent *e; (e = readdir(dir));) {
		struct vc_error why = VC_ERROR_INIT;
		char id[NET_SHORT_LEN + 1];
		if (e->d_name[0] == '.' || (read_marker(dirfd(dir), e->d_name, id) == 0 && belongs(s, id)))
			continue;
		int rc = s->args->remove && unlinkat(dirfd(dir), e->d_name, 0) < 0 ? vc_error_errno(&why, "unlink") : 0;
		found(s, "job marker", e->d_name, rc, &why);
	}
	closedir(dir);
	return 0;
}

static struct roster *copy_roster(struct roster *r)
{
	struct roster *copy = roster_create();
	pthread_mutex_lock(&r->lock);
	if (copy && (copy->ids = calloc(r->n + 1, sizeof(*r->ids)))) {
		if (r->n)
			memcpy(copy->ids, r->ids, r->n * sizeof(*r->ids));
		copy->n = copy->alloc = r->n;
	}
	pthread_mutex_unlock(&r->lock);
	if (copy && !copy->ids) {
		roster_destroy(copy);
		return NULL;
	}
	return copy;
}

int leftover_scan(const struct leftover_args *args, char ***ret, struct vc_error *err)
{
	vc_autostrv char **items = calloc(LEFTOVERS_MAX + 1, sizeof(*items));
	struct scan s = {.args = args, .items = items, .before = copy_roster(args->roster)};
	if (!items || !s.before) {
		roster_destroy(s.before);
		return vc_error_set(err, ENOMEM, "search for leftovers");
	}
	bool fake = hv_is_fake(args->hv);
	int rc = scan_domains(&s, err) < 0 || (!fake && scan_links(&s, err) < 0) || (!args->remove && scan_mounts(&s, err) < 0) ||
				 scan_dirs(&s, args->run_dir, "guests", err) < 0 ||
				 scan_dirs(&s, args->state_dir, "overlays", err) < 0 || scan_markers(&s, err) < 0
			 ? -1
			 : 0;
	roster_destroy(s.before);
	if (rc == 0)
		*ret = vc_steal(&items);
	return rc;
}
