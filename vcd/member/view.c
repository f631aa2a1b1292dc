// SPDX-License-Identifier: GPL-2.0-or-later
// Views: see view.h. Every string is checked when it comes in, so that the canonical form and the host files, which are
// lines of words, need no quoting.
#include "vcd/member/view.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <sodium/crypto_hash_sha256.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"

static const char *const state_names[VIEW_STATES] = {
	[VIEW_JOINING] = "joining", [VIEW_ACTIVE] = "active", [VIEW_LEAVING] = "leaving", [VIEW_GONE] = "gone"};

const char *view_state_name(enum view_state state)
{
	return (unsigned)state < VIEW_STATES ? state_names[state] : "unknown";
}

// --- checks ------------------------------------------------------------------------------------------------------

static bool is_hex(const char *s, size_t len)
{
	return strlen(s) == len && strspn(s, "0123456789abcdef") == len;
}

// What a DNS name may hold: safe in a host file, in a line of words and as an argument.
static bool is_name(const char *s, size_t max)
{
	size_t len = strlen(s);
	if (len == 0 || len > max || !isalnum((unsigned char)s[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("-_.", s[i]))
			return false;
	return true;
}

// Slurm takes more in a NodeName: all but what its host lists are written with. It stays within JSON and the mapped view.
static bool is_node_name(const char *s, size_t max)
{
	size_t len = strlen(s);
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)s[i] <= ' ' || s[i] == 0x7f || strchr(",[]", s[i]))
			return false;
	}
	return len > 0 && len <= max;
}

static bool is_addr(const char *s)
{
	struct in6_addr bytes;
	return inet_pton(AF_INET, s, &bytes) == 1 || inet_pton(AF_INET6, s, &bytes) == 1;
}

static int check_member(const struct view_member *m, struct vc_error *err)
{
	if (!is_name(m->name, VC_NAME_MAX))
		return vc_error_set(err, VC_EPROTO, "member %u: '%.64s' is not a host name", m->rank, m->name);
	if (!is_addr(m->addr))
		return vc_error_set(err, VC_EPROTO, "member %u: '%.64s' is not a numeric address", m->rank, m->addr);
	if (!is_node_name(m->host, VC_HOSTNAME_MAX) || !is_name(m->site, VC_NAME_MAX))
		return vc_error_set(err, VC_EPROTO, "member %u: its host or site is not a name", m->rank);
	if ((unsigned)m->state >= VIEW_STATES)
		return vc_error_set(err, VC_EPROTO, "member %u: no such state", m->rank);
	if (m->incarnation < 1 || m->incarnation > INT64_MAX)
		return vc_error_set(err, VC_EPROTO, "member %u: its incarnation is out of range", m->rank);
	if (m->slots < 1 || m->slots > VIEW_SLOTS_MAX)
		return vc_error_set(err, VC_EPROTO, "member %u: %u slots, outside 1 to %d", m->rank, m->slots, VIEW_SLOTS_MAX);
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_names_differ(const struct view *view, struct vc_error *err)
{
	vc_autofree const char **names = calloc(view->n_members + 1, sizeof(*names));
	if (!names)
		return vc_error_set(err, ENOMEM, "view: out of memory");
	for (size_t i = 0; i < view->n_members; i++)
		names[i] = view->members[i].name;
	qsort(names, view->n_members, sizeof(*names), compare_names);
	for (size_t i = 1; i < view->n_members; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			return vc_error_set(err, VC_EPROTO, "two members are named '%s'", names[i]);
	return 0;
}

// --- life --------------------------------------------------------------------------------------------------------

struct view *view_create(const char *cluster, uint32_t job, struct vc_error *err)
{
	if (!is_hex(cluster, VIEW_CLUSTER_LEN)) {
		vc_error_set(err, VC_EPROTO, "a cluster id has %d hex digits", VIEW_CLUSTER_LEN);
		return NULL;
	}
	struct view *view = calloc(1, sizeof(*view));
	if (!view) {
		vc_error_set(err, ENOMEM, "view: out of memory");
		return NULL;
	}
	memcpy(view->cluster, cluster, sizeof(view->cluster));
	view->job = job;
	return view;
}

void view_destroy(struct view *view)
{
	int saved = errno;
	if (view)
		free(view->members);
	free(view);
	errno = saved;
}

int view_add(struct view *view, const struct view_member *member, struct vc_error *err)
{
	if (check_member(member, err) < 0)
		return -1;
	if (view->n_members >= VC_MEMBERS_MAX)
		return vc_error_set(err, VC_EPROTO, "a view has at most %d members", VC_MEMBERS_MAX);
	if (view->n_members && view->members[view->n_members - 1].rank >= member->rank)
		return vc_error_set(err, VC_EPROTO, "rank %u follows rank %u: ranks must grow", member->rank,
				    view->members[view->n_members - 1].rank);
	if (view->n_members == view->room) { // twice as many: one by one costs a copy each
		size_t room = view->room ? 2 * view->room : 8;
		struct view_member *more = realloc(view->members, room * sizeof(*more));
		if (!more)
			return vc_error_set(err, ENOMEM, "view: out of memory");
		view->members = more;
		view->room = room;
	}
	view->members[view->n_members++] = *member;
	return 0;
}

static struct view *copy_members(const struct view *old, struct vc_error *err)
{
	view_auto struct view *view = view_create(old->cluster, old->job, err);
	if (!view)
		return NULL;
	view->members = calloc(old->n_members + 1, sizeof(*view->members));
	if (!view->members) {
		vc_error_set(err, ENOMEM, "view: out of memory");
		return NULL;
	}
	if (old->n_members)
		memcpy(view->members, old->members, old->n_members * sizeof(*view->members));
	view->n_members = old->n_members;
	view->room = old->n_members + 1;
	return vc_steal(&view);
}

// --- canonical form and digest -----------------------------------------------------------------------------------

// Hashes one formatted line; all its parts are bounded, so that it always fits.
__attribute__((format(printf, 2, 3))) static void hash_line(crypto_hash_sha256_state *state, const char *fmt, ...)
{
	char line[VC_HOSTNAME_MAX + 2 * VC_NAME_MAX + VIEW_ADDR_MAX + 128];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	crypto_hash_sha256_update(state, (const unsigned char *)line, (unsigned long long)n);
}

// docs/membership.md describes this form: two hosts with the same digest hold the same view.
static void compute_digest(const struct view *view, uint64_t epoch, char ret[VIEW_DIGEST_LEN + 1])
{
	crypto_hash_sha256_state state;
	unsigned char bytes[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_init(&state);
	hash_line(&state, "vcluster-view %d %s %" PRIu32 " %" PRIu64 " %zu\n", VIEW_VERSION, view->cluster, view->job, epoch,
		  view->n_members);
	for (size_t i = 0; i < view->n_members; i++) {
		const struct view_member *m = &view->members[i];
		hash_line(&state, "%" PRIu32 " %s %s %s %s %s %" PRIu64 " %" PRIu32 "%s\n", m->rank, m->name, m->addr, m->host,
			  m->site, view_state_name(m->state), m->incarnation, m->slots, m->agent_lost ? " agent-lost" : "");
	}
	crypto_hash_sha256_final(&state, bytes);
	for (size_t i = 0; i < sizeof(bytes); i++)
		snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
}

int view_seal(struct view *view, uint64_t epoch, struct vc_error *err)
{
	if (epoch < 1 || epoch > INT64_MAX)
		return vc_error_set(err, VC_EPROTO, "an epoch starts at 1");
	if (check_names_differ(view, err) < 0)
		return -1;
	view->epoch = epoch;
	compute_digest(view, epoch, view->digest);
	return 0;
}

// --- changes -----------------------------------------------------------------------------------------------------

#define REFUSED VIEW_STATES
static const struct {
	const char *name;
	enum view_state next[VIEW_STATES]; // by the member's state; REFUSED: does not apply
} changes[VIEW_EVENTS] = {
	// from                  joining       active        leaving       gone
	[VIEW_JOIN] = {"join", {REFUSED, REFUSED, REFUSED, REFUSED}}, // brings its own member
	[VIEW_UP] = {"up", {VIEW_ACTIVE, REFUSED, REFUSED, REFUSED}},
	[VIEW_LEAVE] = {"leave", {VIEW_LEAVING, VIEW_LEAVING, REFUSED, REFUSED}},
	[VIEW_FAIL] = {"fail", {VIEW_GONE, VIEW_GONE, VIEW_GONE, REFUSED}},
	[VIEW_RETURN] = {"return", {REFUSED, REFUSED, REFUSED, VIEW_JOINING}},
};

static struct view_member *find(const struct view *view, uint32_t rank)
{
	size_t low = 0, high = view->n_members;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (view->members[mid].rank == rank)
			return &view->members[mid];
		if (view->members[mid].rank < rank)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static int apply_join(struct view *view, const struct view_event *event, struct vc_error *err)
{
	struct view_member member = *event->member;
	member.state = VIEW_JOINING;
	return view_add(view, &member, err);
}

static int apply_one(struct view *view, const struct view_event *event, struct vc_error *err)
{
	if ((unsigned)event->kind >= VIEW_EVENTS)
		return vc_error_set(err, VC_EPROTO, "no such event of a view");
	if (event->kind == VIEW_JOIN)
		return apply_join(view, event, err);
	struct view_member *m = find(view, event->rank);
	if (!m)
		return vc_error_set(err, VC_ENOTFOUND, "%s: there is no member %u", changes[event->kind].name, event->rank);
	enum view_state next = changes[event->kind].next[m->state];
	if (next == REFUSED)
		return vc_error_set(err, VC_EPROTO, "%s: member %u is %s", changes[event->kind].name, m->rank,
				    view_state_name(m->state));
	m->state = next;
	m->incarnation += event->kind == VIEW_RETURN;
	return 0;
}

struct view *view_apply(const struct view *old, const struct view_event *events, size_t n, struct vc_error *err)
{
	view_auto struct view *view = copy_members(old, err);
	if (!view)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (apply_one(view, &events[i], err) < 0)
			return NULL;
	if (view_seal(view, old->epoch + 1, err) < 0)
		return NULL;
	return vc_steal(&view);
}

// --- JSON --------------------------------------------------------------------------------------------------------

static struct json_object *member_to_json(const struct view_member *m)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!obj || vc_json_add_u64(obj, "rank", m->rank) < 0 || vc_json_add_str(obj, "name", m->name) < 0 ||
	    vc_json_add_str(obj, "addr", m->addr) < 0 || vc_json_add_str(obj, "host", m->host) < 0 ||
	    vc_json_add_str(obj, "site", m->site) < 0 || vc_json_add_str(obj, "state", view_state_name(m->state)) < 0 ||
	    vc_json_add_u64(obj, "incarnation", m->incarnation) < 0 || vc_json_add_u64(obj, "slots", m->slots) < 0 ||
	    (m->agent_lost && vc_json_add_bool(obj, "agent_lost", true) < 0))
		return NULL;
	return vc_steal(&obj);
}

static struct json_object *members_to_json(const struct view *view)
{
	vc_autojson struct json_object *array = json_object_new_array();
	for (size_t i = 0; array && i < view->n_members; i++) {
		struct json_object *obj = member_to_json(&view->members[i]);
		if (!obj || json_object_array_add(array, obj) < 0) {
			json_object_put(obj);
			return NULL;
		}
	}
	return vc_steal(&array);
}

struct json_object *view_to_json(const struct view *view)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!obj || vc_json_add_u64(obj, "version", VIEW_VERSION) < 0 || vc_json_add_str(obj, "cluster", view->cluster) < 0 ||
	    vc_json_add_u64(obj, "job", view->job) < 0 || vc_json_add_u64(obj, "epoch", view->epoch) < 0 ||
	    vc_json_add_str(obj, "digest", view->digest) < 0 ||
	    vc_json_add(obj, "members", members_to_json(view)) < 0)
		return NULL;
	return vc_steal(&obj);
}

static int state_from_name(const char *name, enum view_state *ret)
{
	for (size_t i = 0; i < VIEW_STATES; i++) {
		if (strcmp(name, state_names[i]) == 0) {
			*ret = (enum view_state)i;
			return 0;
		}
	}
	return -1;
}

static int copy_str(struct json_object *obj, const char *key, char *ret, size_t size, struct vc_error *err)
{
	const char *s;
	if (vc_json_str(obj, key, size - 1, &s, err) < 0)
		return -1;
	snprintf(ret, size, "%s", s);
	return 0;
}

static int member_from_json(struct json_object *obj, struct view_member *m, struct vc_error *err)
{
	const char *state;
	if (vc_json_u32(obj, "rank", UINT32_MAX, &m->rank, err) < 0 ||
	    copy_str(obj, "name", m->name, sizeof(m->name), err) < 0 ||
	    copy_str(obj, "addr", m->addr, sizeof(m->addr), err) < 0 ||
	    copy_str(obj, "host", m->host, sizeof(m->host), err) < 0 ||
	    copy_str(obj, "site", m->site, sizeof(m->site), err) < 0 || vc_json_str(obj, "state", 16, &state, err) < 0 ||
	    vc_json_u64(obj, "incarnation", INT64_MAX, &m->incarnation, err) < 0 ||
	    vc_json_u32(obj, "slots", VIEW_SLOTS_MAX, &m->slots, err) < 0 ||
	    vc_json_bool_opt(obj, "agent_lost", &m->agent_lost, err) < 0)
		return -1;
	if (state_from_name(state, &m->state) < 0)
		return vc_error_set(err, VC_EPROTO, "'state' is none of joining, active, leaving, gone");
	return 0;
}

static int members_from_json(struct json_object *obj, struct view *view, struct vc_error *err)
{
	struct json_object *array;
	if (vc_json_array(obj, "members", VC_MEMBERS_MAX, &array, err) < 0)
		return -1;
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		struct view_member m = {0};
		if (member_from_json(json_object_array_get_idx(array, i), &m, err) < 0 || view_add(view, &m, err) < 0)
			return vc_error_wrap(err, "entry %zu", i);
	}
	return 0;
}

static struct view *read_view(struct json_object *obj, struct vc_error *err)
{
	uint32_t version, job;
	uint64_t epoch;
	const char *cluster, *digest;
	if (vc_json_u32(obj, "version", UINT32_MAX, &version, err) < 0 ||
	    vc_json_str(obj, "cluster", VIEW_CLUSTER_LEN, &cluster, err) < 0 ||
	    vc_json_u32(obj, "job", UINT32_MAX, &job, err) < 0 || vc_json_u64(obj, "epoch", INT64_MAX, &epoch, err) < 0 ||
	    vc_json_str(obj, "digest", VIEW_DIGEST_LEN, &digest, err) < 0)
		return NULL;
	if (version != VIEW_VERSION) {
		vc_error_set(err, VC_EPROTO, "version %u, this program reads version %d", version, VIEW_VERSION);
		return NULL;
	}
	view_auto struct view *view = view_create(cluster, job, err);
	if (!view || members_from_json(obj, view, err) < 0 || view_seal(view, epoch, err) < 0)
		return NULL;
	if (strcmp(view->digest, digest) != 0) {
		vc_error_set(err, VC_EPROTO, "its digest does not match its content");
		return NULL;
	}
	return vc_steal(&view);
}

struct view *view_from_json(struct json_object *obj, struct vc_error *err)
{
	struct view *view = read_view(obj, err);
	if (!view)
		vc_error_wrap(err, "view");
	return view;
}

// --- host files --------------------------------------------------------------------------------------------------

static bool usable(const struct view_member *m)
{
	return m->state == VIEW_JOINING || m->state == VIEW_ACTIVE;
}

enum hostfile_kind { HOSTFILE_OPENMPI, HOSTFILE_HYDRA, HOSTFILE_PLAIN };

static void print_line(FILE *f, enum hostfile_kind kind, const struct view_member *m)
{
	switch (kind) {
	case HOSTFILE_OPENMPI:
		fprintf(f, "%s slots=%" PRIu32 "\n", m->name, m->slots);
		break;
	case HOSTFILE_HYDRA:
		fprintf(f, "%s:%" PRIu32 "\n", m->name, m->slots);
		break;
	case HOSTFILE_PLAIN:
		fprintf(f, "%s\n", m->name);
		break;
	}
}

static char *render(const struct view *view, enum hostfile_kind kind)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	if (!f)
		return NULL;
	for (size_t i = 0; i < view->n_members; i++)
		if (usable(&view->members[i]))
			print_line(f, kind, &view->members[i]);
	bool failed = ferror(f);
	if (fclose(f) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}

char *view_render_hostfile(const struct view *view)
{
	return render(view, HOSTFILE_OPENMPI);
}

char *view_render_hydra(const struct view *view)
{
	return render(view, HOSTFILE_HYDRA);
}

char *view_render_plain(const struct view *view)
{
	return render(view, HOSTFILE_PLAIN);
}

// --- looking -----------------------------------------------------------------------------------------------------

const struct view_member *view_member_by_rank(const struct view *view, uint32_t rank)
{
	return find(view, rank);
}

const struct view_member *view_member_by_name(const struct view *view, const char *name)
{
	for (size_t i = 0; i < view->n_members; i++)
		if (strcmp(view->members[i].name, name) == 0)
			return &view->members[i];
	return NULL;
}

size_t view_size(const struct view *view)
{
	size_t n = 0;
	for (size_t i = 0; i < view->n_members; i++)
		n += usable(&view->members[i]);
	return n;
}
