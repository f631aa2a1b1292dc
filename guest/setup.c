// SPDX-License-Identifier: GPL-2.0-or-later
// guest.configure's parameters: see setup.h.
#include "guest/setup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/json.h"

#define ENV_NAME_MAX 256 // bytes of a variable's name

void setup_destroy(struct setup *s)
{
	if (!s)
		return;
	int saved = errno;
	for (size_t i = 0; i < s->owner.n_groups; i++)
		free(s->owner.groups[i].name);
	for (size_t i = 0; i < s->n_files; i++) {
		free(s->files[i].path);
		free(s->files[i].data);
	}
	for (size_t i = 0; i < s->n_mounts; i++) {
		free(s->mounts[i].tag);
		free(s->mounts[i].dst);
	}
	free(s->owner.user);
	free(s->owner.home);
	free(s->owner.groups);
	free(s->members);
	vc_strv_free(s->env);
	free(s->files);
	free(s->mounts);
	explicit_bzero(s->secret, sizeof(s->secret));
	free(s);
	errno = saved;
}

// --- checked pieces --------------------------------------------------------------------------------------------

static int dup_str(struct json_object *obj, const char *key, size_t max, char **ret, struct vc_error *err)
{
	const char *s;
	if (vc_json_str(obj, key, max, &s, err) < 0)
		return -1;
	*ret = strdup(s);
	return *ret ? 0 : vc_error_errno(err, "'%s'", key);
}

static int dup_path(struct json_object *obj, const char *key, char **ret, struct vc_error *err)
{
	if (dup_str(obj, key, VC_PATH_MAX - 1, ret, err) < 0)
		return -1;
	if ((*ret)[0] != '/' || strpbrk(*ret, ":\n"))
		return vc_error_set(err, VC_EPROTO, "'%s' must be an absolute path without ':' and line ends", key);
	return 0;
}

static int copy_str(struct json_object *obj, const char *key, char *dst, size_t size, struct vc_error *err)
{
	const char *s;
	if (vc_json_str(obj, key, size - 1, &s, err) < 0)
		return -1;
	memcpy(dst, s, strlen(s) + 1);
	return 0;
}

// A name that may stand in passwd, group and hosts: no separators, no blanks, no control characters.
static int check_name(const char *key, const char *s, struct vc_error *err)
{
	size_t len = strlen(s);
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)s[i] <= ' ' || s[i] == 127 || strchr(":,#/", s[i]))
			len = 0;
	}
	if (len == 0 || s[0] == '-')
		return vc_error_set(err, VC_EPROTO, "'%s' is not a name: '%s'", key, s);
	return 0;
}

static int copy_addr(struct json_object *obj, const char *key, char dst[16], struct vc_error *err)
{
	struct in_addr in;
	if (copy_str(obj, key, dst, 16, err) < 0)
		return -1;
	if (inet_pton(AF_INET, dst, &in) != 1)
		return vc_error_set(err, VC_EPROTO, "'%s' is not an IPv4 address: '%s'", key, dst);
	return 0;
}

// --- parts -----------------------------------------------------------------------------------------------------

static int parse_group(struct json_object *obj, struct setup_group *g, struct vc_error *err)
{
	uint32_t gid;
	if (vc_json_u32(obj, "gid", UINT32_MAX - 1, &gid, err) < 0 ||
	    dup_str(obj, "name", VC_HOSTNAME_MAX, &g->name, err) < 0 || check_name("name", g->name, err) < 0)
		return -1;
	g->gid = gid;
	return 0;
}

static int parse_owner(struct json_object *params, struct setup_owner *o, struct vc_error *err)
{
	struct json_object *obj, *groups = NULL;
	uint32_t uid, gid;
	if (vc_json_obj(params, "owner", &obj, err) < 0)
		return -1;
	if (vc_json_u32(obj, "uid", UINT32_MAX - 1, &uid, err) < 0 || vc_json_u32(obj, "gid", UINT32_MAX - 1, &gid, err) < 0 ||
	    dup_str(obj, "user", VC_HOSTNAME_MAX, &o->user, err) < 0 || check_name("user", o->user, err) < 0 ||
	    dup_path(obj, "home", &o->home, err) < 0 ||
	    vc_json_array_opt(obj, "groups", SETUP_GROUPS_MAX, &groups, err) < 0)
		return vc_error_wrap(err, "owner");
	o->uid = uid;
	o->gid = gid;
	size_t n = groups ? json_object_array_length(groups) : 0;
	o->groups = calloc(n + 1, sizeof(*o->groups));
	if (!o->groups)
		return vc_error_errno(err, "owner");
	for (; o->n_groups < n; o->n_groups++) {
		if (parse_group(json_object_array_get_idx(groups, o->n_groups), &o->groups[o->n_groups], err) < 0) {
			free(o->groups[o->n_groups].name);
			return vc_error_wrap(err, "owner's group %zu", o->n_groups);
		}
	}
	return 0;
}

static int parse_member(struct json_object *obj, struct setup_member *m, struct vc_error *err)
{
	const char *mac = "", *host = "";
	m->slots = 1;
	uint64_t slots = 1;
	if (vc_json_u32(obj, "rank", VC_MEMBERS_MAX, &m->rank, err) < 0 ||
	    copy_str(obj, "name", m->name, sizeof(m->name), err) < 0 || check_name("name", m->name, err) < 0 ||
	    copy_addr(obj, "addr", m->addr, err) < 0 ||
	    vc_json_str_opt(obj, "host", sizeof(m->host) - 1, &host, err) < 0 ||
	    vc_json_str_opt(obj, "mac", sizeof(m->mac) - 1, &mac, err) < 0 ||
	    vc_json_u64_opt(obj, "slots", UINT32_MAX, &slots, err) < 0)
		return -1;
	m->slots = (uint32_t)slots;
	memcpy(m->mac, mac, strlen(mac) + 1);
	memcpy(m->host, host, strlen(host) + 1);
	return 0;
}

int setup_members_from_json(struct json_object *array, struct setup_member **ret, size_t *ret_n, struct vc_error *err)
{
	size_t n = json_object_array_length(array);
	if (n > VC_MEMBERS_MAX)
		return vc_error_set(err, VC_EPROTO, "%zu members, more than %d", n, VC_MEMBERS_MAX);
	vc_autofree struct setup_member *m = calloc(n + 1, sizeof(*m));
	if (!m)
		return vc_error_errno(err, "members");
	for (size_t i = 0; i < n; i++) {
		if (parse_member(json_object_array_get_idx(array, i), &m[i], err) < 0)
			return vc_error_wrap(err, "member %zu", i);
	}
	*ret = vc_steal(&m);
	*ret_n = n;
	return 0;
}

static int parse_net(struct json_object *params, struct setup *s, struct vc_error *err)
{
	struct json_object *obj;
	if (vc_json_obj(params, "net", &obj, err) < 0)
		return -1;
	if (copy_addr(obj, "network", s->network, err) < 0 || vc_json_u32(obj, "prefix", 30, &s->prefix, err) < 0 ||
	    vc_json_u32(obj, "mtu", 65535, &s->mtu, err) < 0)
		return vc_error_wrap(err, "net");
	if (s->prefix < 1 || s->mtu < 576)
		return vc_error_set(err, VC_EPROTO, "net: prefix /%u or mtu %u is too small", s->prefix, s->mtu);
	return 0;
}

static int parse_secret(struct json_object *params, uint8_t secret[SETUP_SECRET_LEN], struct vc_error *err)
{
	const char *hex;
	if (vc_json_str(params, "secret", SETUP_SECRET_LEN * 2, &hex, err) < 0)
		return -1;
	if (strlen(hex) != SETUP_SECRET_LEN * 2)
		return vc_error_set(err, VC_EPROTO, "'secret' must have %d hex digits", SETUP_SECRET_LEN * 2);
	for (size_t i = 0; i < SETUP_SECRET_LEN * 2; i++) {
		const char *digits = "0123456789abcdef", *p = strchr(digits, hex[i]);
		if (!p)
			return vc_error_set(err, VC_EPROTO, "'secret' must be hex digits");
		secret[i / 2] = (uint8_t)(secret[i / 2] << 4 | (p - digits));
	}
	return 0;
}

static int parse_env(struct json_object *params, char ***ret, struct vc_error *err)
{
	struct json_object *obj = NULL;
	if (!json_object_object_get_ex(params, "env", &obj) || !obj) {
		*ret = calloc(1, sizeof(**ret));
		return *ret ? 0 : vc_error_errno(err, "env");
	}
	if (!json_object_is_type(obj, json_type_object) || json_object_object_length(obj) > SETUP_ENV_MAX)
		return vc_error_set(err, VC_EPROTO, "'env' must be an object of at most %d variables", SETUP_ENV_MAX);
	vc_autostrv char **env = calloc((size_t)json_object_object_length(obj) + 1, sizeof(*env));
	if (!env)
		return vc_error_errno(err, "env");
	size_t n = 0;
	json_object_object_foreach(obj, key, value)
	{
		const char *text;
		(void)value;
		if (!*key || strlen(key) > ENV_NAME_MAX || strchr(key, '='))
			return vc_error_set(err, VC_EPROTO, "env: a variable's name is empty, too long, or holds '='");
		if (vc_json_str(obj, key, VC_PATH_MAX, &text, err) < 0)
			return vc_error_wrap(err, "env");
		if (asprintf(&env[n], "%s=%s", key, text) < 0) {
			env[n] = NULL;
			return vc_error_errno(err, "env");
		}
		n++;
	}
	*ret = vc_steal(&env);
	return 0;
}

static int parse_file(struct json_object *obj, struct setup_file *f, struct vc_error *err)
{
	uint32_t mode, uid, gid;
	if (dup_path(obj, "path", &f->path, err) < 0 || vc_json_u32(obj, "mode", 0777, &mode, err) < 0 ||
	    vc_json_u32(obj, "uid", UINT32_MAX - 1, &uid, err) < 0 || vc_json_u32(obj, "gid", UINT32_MAX - 1, &gid, err) < 0 ||
	    vc_json_bytes(obj, "content", SETUP_FILE_MAX, &f->data, &f->len, err) < 0)
		return -1;
	f->mode = mode;
	f->uid = uid;
	f->gid = gid;
	return 0;
}

static int parse_files(struct json_object *params, struct setup *s, struct vc_error *err)
{
	struct json_object *array = NULL;
	if (vc_json_array_opt(params, "files", SETUP_FILES_MAX, &array, err) < 0)
		return -1;
	size_t n = array ? json_object_array_length(array) : 0;
	s->files = calloc(n + 1, sizeof(*s->files));
	if (!s->files)
		return vc_error_errno(err, "files");
	for (size_t i = 0; i < n; i++) {
		s->n_files = i + 1;
		if (parse_file(json_object_array_get_idx(array, i), &s->files[i], err) < 0)
			return vc_error_wrap(err, "file %zu", i);
	}
	return 0;
}

static int parse_mounts(struct json_object *params, struct setup *s, struct vc_error *err)
{
	struct json_object *array = NULL;
	if (vc_json_array_opt(params, "mounts", VC_MOUNTS_MAX, &array, err) < 0)
		return -1;
	size_t n = array ? json_object_array_length(array) : 0;
	s->mounts = calloc(n + 1, sizeof(*s->mounts));
	if (!s->mounts)
		return vc_error_errno(err, "mounts");
	for (size_t i = 0; i < n; i++) {
		struct json_object *obj = json_object_array_get_idx(array, i);
		s->n_mounts = i + 1;
		if (dup_str(obj, "tag", VC_NAME_MAX, &s->mounts[i].tag, err) < 0 || dup_path(obj, "dst", &s->mounts[i].dst, err) < 0 ||
		    vc_json_bool_opt(obj, "ro", &s->mounts[i].ro, err) < 0)
			return vc_error_wrap(err, "mount %zu", i);
	}
	return 0;
}

struct setup *setup_from_json(struct json_object *params, struct vc_error *err)
{
	struct json_object *cluster, *members;
	setup_auto struct setup *s = calloc(1, sizeof(*s));
	if (!s) {
		vc_error_errno(err, "guest.configure");
		return NULL;
	}
	if (vc_json_obj(params, "cluster", &cluster, err) < 0 || vc_json_u32(cluster, "job", UINT32_MAX, &s->job, err) < 0 ||
	    vc_json_u32(params, "rank", VC_MEMBERS_MAX, &s->rank, err) < 0 || parse_owner(params, &s->owner, err) < 0 ||
	    parse_net(params, s, err) < 0 || parse_secret(params, s->secret, err) < 0 ||
	    vc_json_array(params, "members", VC_MEMBERS_MAX, &members, err) < 0 ||
	    setup_members_from_json(members, &s->members, &s->n_members, err) < 0 || parse_env(params, &s->env, err) < 0 ||
	    parse_files(params, s, err) < 0 || parse_mounts(params, s, err) < 0 ||
	    vc_json_bool_opt(params, "shared_cpus", &s->shared_cpus, err) < 0)
		return NULL;
	if (!setup_self(s)) {
		vc_error_set(err, VC_EPROTO, "no member has this guest's rank %u", s->rank);
		return NULL;
	}
	return vc_steal(&s);
}

const struct setup_member *setup_member_by_rank(const struct setup *s, uint32_t rank)
{
	for (size_t i = 0; i < s->n_members; i++) {
		if (s->members[i].rank == rank)
			return &s->members[i];
	}
	return NULL;
}

const struct setup_member *setup_self(const struct setup *s)
{
	return setup_member_by_rank(s, s->rank);
}

const struct setup_member *setup_member_by_name(const struct setup *s, const char *name)
{
	for (size_t i = 0; i < s->n_members; i++) {
		if (!strcmp(s->members[i].name, name) || !strcmp(s->members[i].addr, name))
			return &s->members[i];
	}
	return NULL;
}
