// SPDX-License-Identifier: GPL-2.0-or-later
// Publishing views: see members.h.
#include "guest/members.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "guest/apply.h"
#include "guest/hooks.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvcluster/writer.h"

#define CAPACITY_MIN 1024u // members of a mapped view: about 1 MB; ranks are never reused, so growth and shrinking use them up
#define CAPACITY_FACTOR 8u // of a bigger cluster's first size

struct members {
	struct view *view;
	struct vcluster_writer *writer;
	uint64_t until; // the view is valid; CLOCK_BOOTTIME in ns
};

struct members *members_create(void)
{
	return calloc(1, sizeof(struct members));
}

void members_destroy(struct members *m)
{
	if (!m)
		return;
	view_destroy(m->view);
	vcluster_writer_destroy(m->writer);
	free(m);
}

const struct view *members_view(const struct members *m)
{
	return m->view;
}

unsigned long long members_epoch(const struct members *m)
{
	return m->view ? m->view->epoch : 0;
}

static int write_text(const char *path, char *text, struct vc_error *err)
{
	vc_autofree char *owned = text;
	if (!owned)
		return vc_error_set(err, ENOMEM, "%s: no memory", path);
	return apply_write(path, owned, strlen(owned), 0644, 0, 0, err);
}

static int write_json(const char *path, const struct view *view, struct vc_error *err)
{
	vc_autojson struct json_object *obj = view_to_json(view);
	size_t len;
	const char *text = obj ? vc_json_text(obj, &len) : NULL;
	if (!text)
		return vc_error_set(err, ENOMEM, "%s: no memory", path);
	return apply_write(path, text, len, 0644, 0, 0, err);
}

static int write_files(const struct view *view, struct vc_error *err)
{
	if (write_text(VC_GUEST_DIR "/hostfile", view_render_hostfile(view), err) < 0 ||
	    write_text(VC_GUEST_DIR "/hostfile.hydra", view_render_hydra(view), err) < 0 ||
	    write_text(VC_GUEST_DIR "/hostfile.plain", view_render_plain(view), err) < 0)
		return -1;
	return write_json(VC_GUEST_DIR "/view.json", view, err);
}

// Names of members that the plan did not know yet; those that are gone keep theirs, old logs name them.
static int write_hosts(const struct view *view, struct vc_error *err)
{
	vc_autofree struct setup_member *list = calloc(view->n_members + 1, sizeof(*list));
	if (!list)
		return vc_error_errno(err, "/etc/hosts");
	for (size_t i = 0; i < view->n_members; i++) {
		const struct view_member *m = &view->members[i];
		memcpy(list[i].name, m->name, sizeof(m->name));
		memcpy(list[i].addr, m->addr, sizeof(list[i].addr) - 1);
	}
	return apply_hosts(list, view->n_members, err);
}

static uint64_t valid_until(struct members *m, uint64_t valid_ms)
{
	struct timespec ts;
	if (!valid_ms)
		return m->view ? m->until : VCLUSTER_VALID_ALWAYS;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + valid_ms * 1000000u;
}

// The mapped file cannot grow once it has readers, and its pages are this guest's memory.
static uint32_t capacity_for(const struct view *view)
{
	size_t n = view->n_members * CAPACITY_FACTOR;
	return n < CAPACITY_MIN ? CAPACITY_MIN : n > VC_MEMBERS_MAX ? VC_MEMBERS_MAX : (uint32_t)n;
}

int members_publish(struct members *m, struct view *view, uint64_t valid_ms, struct vc_error *err)
{
	if (m->view && view->epoch < m->view->epoch)
		return vc_error_set(err, VC_ESTALE, "view of epoch %llu: this guest has %llu already",
				    (unsigned long long)view->epoch, (unsigned long long)m->view->epoch);
	if (!m->writer) {
		m->writer = vcluster_writer_create(VC_GUEST_DIR "/view", capacity_for(view), err);
		if (!m->writer)
			return -1;
	}
	uint64_t until = valid_until(m, valid_ms);
	if (m->view && view->epoch > m->view->epoch && write_json(VC_GUEST_DIR "/" HOOKS_OLD_VIEW, m->view, err) < 0)
		return -1;
	if (write_hosts(view, err) < 0 || write_files(view, err) < 0 || vcluster_writer_publish(m->writer, view, until, err) < 0)
		return -1;
	m->until = until;
	view_destroy(m->view);
	m->view = view;
	return 0;
}

int members_renew(struct members *m, uint64_t epoch, uint64_t valid_ms, struct vc_error *err)
{
	if (!m->view || m->view->epoch != epoch)
		return vc_error_set(err, VC_ESTALE, "this guest does not have the view of epoch %llu", (unsigned long long)epoch);
	m->until = valid_until(m, valid_ms);
	vcluster_writer_renew(m->writer, m->until);
	return 0;
}
