// SPDX-License-Identifier: GPL-2.0-or-later
// The writer of a mapped view: see writer.h for its contract and layout.h for the order of its stores.
#include "libvcluster/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvcluster/layout.h"
#include "vcd/member/view.h"

_Static_assert((int)VIEW_JOINING == VCLUSTER_JOINING && (int)VIEW_ACTIVE == VCLUSTER_ACTIVE &&
		       (int)VIEW_LEAVING == VCLUSTER_LEAVING && (int)VIEW_GONE == VCLUSTER_GONE,
	       "states are stored as they are");

struct vcluster_writer {
	int fd;
	struct layout_head *head;
	size_t file_size;
};

static struct layout_buffer *buffer(const struct vcluster_writer *w, uint32_t index)
{
	return (struct layout_buffer *)((char *)w->head + w->head->buffer_offset[index]);
}

static struct layout_head make_head(uint32_t capacity)
{
	uint64_t bytes = layout_buffer_bytes(capacity);
	uint64_t first = sizeof(struct layout_head);
	uint64_t second = (first + bytes + 63) & ~63ull; // its own cache line
	return (struct layout_head){
		.magic = LAYOUT_MAGIC,
		.version = LAYOUT_VERSION,
		.head_size = sizeof(struct layout_head),
		.buffer_size = sizeof(struct layout_buffer),
		.record_size = sizeof(struct vcluster_member),
		.capacity = capacity,
		.file_size = second + bytes,
		.buffer_offset = {first, second},
	};
}

// A complete file under a temporary name, then linked: nobody sees it half made, and an existing one stays.
static int create_file(const char *path, const struct layout_head *head, struct vc_error *err)
{
	vc_autofree char *tmp = NULL;
	if (asprintf(&tmp, "%s.new", path) < 0)
		return vc_error_set(err, ENOMEM, "%s: out of memory", path);
	unlink(tmp); // of a writer that was killed here
	vc_autoclose int fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return vc_error_errno(err, "%s", tmp);
	// posix_fallocate: a full file system is an error here, not a SIGBUS at the first publication.
	int rc = posix_fallocate(fd, 0, (off_t)head->file_size);
	if (rc == 0 && (fchmod(fd, 0644) < 0 || pwrite(fd, head, sizeof(*head), 0) != (ssize_t)sizeof(*head) ||
			link(tmp, path) < 0))
		rc = errno;
	unlink(tmp);
	if (rc != 0) {
		errno = rc;
		return vc_error_errno(err, "%s", path);
	}
	return 0;
}

static int map_file(struct vcluster_writer *w, const char *path, const struct layout_head *want, struct vc_error *err)
{
	struct stat st;
	if (fstat(w->fd, &st) < 0)
		return vc_error_errno(err, "%s", path);
	struct layout_head have;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != want->file_size ||
	    pread(w->fd, &have, sizeof(have), 0) != (ssize_t)sizeof(have) ||
	    memcmp(&have, want, offsetof(struct layout_head, valid_until)) != 0 || have.current > 1)
		return vc_error_set(err, EEXIST, "%s exists, and is not a view of %u members: remove it", path, want->capacity);
	void *map = mmap(NULL, want->file_size, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	if (map == MAP_FAILED)
		return vc_error_errno(err, "%s: mmap", path);
	w->head = map;
	w->file_size = want->file_size;
	return 0;
}

struct vcluster_writer *vcluster_writer_create(const char *path, uint32_t capacity, struct vc_error *err)
{
	if (capacity < 1 || capacity > LAYOUT_CAPACITY_MAX) {
		vc_error_set(err, EINVAL, "%s: a capacity of %u is outside 1 to %u", path, capacity, LAYOUT_CAPACITY_MAX);
		return NULL;
	}
	struct layout_head head = make_head(capacity);
	struct vcluster_writer *w = calloc(1, sizeof(*w));
	if (!w) {
		vc_error_set(err, ENOMEM, "%s: out of memory", path);
		return NULL;
	}
	w->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (w->fd < 0 && errno == ENOENT) {
		if (create_file(path, &head, err) < 0)
			goto cleanup;
		w->fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	}
	if (w->fd < 0) {
		vc_error_errno(err, "%s", path);
		goto cleanup;
	}
	if (map_file(w, path, &head, err) == 0)
		return w;
cleanup:
	vcluster_writer_destroy(w);
	return NULL;
}

void vcluster_writer_destroy(struct vcluster_writer *w)
{
	int saved = errno;
	if (w && w->head)
		munmap(w->head, w->file_size);
	if (w && w->fd >= 0)
		close(w->fd);
	free(w);
	errno = saved;
}

// --- publication -------------------------------------------------------------------------------------------------

// Readers load the same words while we store: both sides are atomic, word by word (relaxed; seq orders them).
static void store_words(void *to, const void *from, size_t bytes)
{
	uint64_t *out = to;
	const uint64_t *in = from;
	for (size_t i = 0; i < bytes / sizeof(*out); i++)
		__atomic_store_n(&out[i], in[i], __ATOMIC_RELAXED);
}

static void store_member(struct vcluster_member *to, const struct view_member *m)
{
	struct vcluster_member rec = {
		.rank = m->rank, .state = (uint32_t)m->state, .incarnation = m->incarnation, .slots = m->slots,
		.flags = m->agent_lost ? VCLUSTER_AGENT_LOST : 0};
	snprintf(rec.name, sizeof(rec.name), "%s", m->name);
	snprintf(rec.addr, sizeof(rec.addr), "%s", m->addr);
	snprintf(rec.site, sizeof(rec.site), "%s", m->site);
	snprintf(rec.host, sizeof(rec.host), "%s", m->host);
	store_words(to, &rec, sizeof(rec));
}

static void store_view(struct layout_buffer *b, const struct view *view)
{
	struct vcluster_info info = {.epoch = view->epoch,
				     .job = view->job,
				     .members = (uint32_t)view->n_members,
				     .size = (uint32_t)view_size(view)};
	snprintf(info.cluster, sizeof(info.cluster), "%s", view->cluster);
	snprintf(info.digest, sizeof(info.digest), "%s", view->digest);

	uint64_t seq = (b->seq + 1) | 1; // odd; b->seq is odd already after a writer was killed in here
	__atomic_store_n(&b->seq, seq, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE); // no data store may pass the odd seq
	store_words(&b->info, &info, sizeof(info));
	struct vcluster_member *records = (struct vcluster_member *)(b + 1);
	for (size_t i = 0; i < view->n_members; i++)
		store_member(&records[i], &view->members[i]);
	__atomic_store_n(&b->seq, seq + 1, __ATOMIC_RELEASE);
}

static void wake_readers(struct vcluster_writer *w)
{
	uint32_t count = __atomic_add_fetch(&w->head->wake, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &w->head->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	// A store to a mapping is invisible to inotify, a write is not. Waiters poll as well, so a failure costs time only.
	if (pwrite(w->fd, &count, sizeof(count), offsetof(struct layout_head, touch)) < 0)
		return;
}

// 1: new; 0: what is there already; -1: refused.
static int compare_with_current(const struct vcluster_writer *w, const struct view *view, struct vc_error *err)
{
	const struct vcluster_info *now = &buffer(w, w->head->current)->info;
	if (view->epoch < 1 || strlen(view->digest) != VIEW_DIGEST_LEN)
		return vc_error_set(err, EINVAL, "a view must be sealed before it is published");
	if (view->n_members > w->head->capacity)
		return vc_error_set(err, VC_EFAILED, "a view of %zu members does not fit the mapped file, made for %u",
				    view->n_members, w->head->capacity);
	if (now->epoch == 0)
		return 1;
	if (strcmp(now->cluster, view->cluster) != 0)
		return vc_error_set(err, VC_EPROTO, "a view of cluster %s in a guest of cluster %s", view->cluster, now->cluster);
	if (view->epoch < now->epoch)
		return vc_error_set(err, VC_ESTALE, "view %" PRIu64 " comes after view %" PRIu64, view->epoch, now->epoch);
	if (view->epoch > now->epoch)
		return 1;
	if (strcmp(now->digest, view->digest) != 0)
		return vc_error_set(err, VC_EPROTO, "another view %" PRIu64 " is published already", view->epoch);
	return 0;
}

int vcluster_writer_publish(struct vcluster_writer *w, const struct view *view, uint64_t valid_until, struct vc_error *err)
{
	int changed = compare_with_current(w, view, err);
	if (changed < 0)
		return -1;
	if (changed) {
		uint32_t other = w->head->current ^ 1;
		store_view(buffer(w, other), view);
		__atomic_store_n(&w->head->current, other, __ATOMIC_RELEASE);
	}
	// After the view, never before: the old one must not appear confirmed for longer if we are killed here.
	vcluster_writer_renew(w, valid_until);
	if (changed)
		wake_readers(w);
	return 0;
}

void vcluster_writer_renew(struct vcluster_writer *w, uint64_t valid_until)
{
	__atomic_store_n(&w->head->valid_until, valid_until, __ATOMIC_RELEASE);
}

uint64_t vcluster_writer_epoch(const struct vcluster_writer *w)
{
	return buffer(w, w->head->current)->info.epoch;
}
