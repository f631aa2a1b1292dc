// SPDX-License-Identifier: GPL-2.0-or-later
// What the host tells a guest about itself: the parameters of guest.configure (docs/protocol.md, part 4), checked.
//
// Pure: JSON in, struct out. The guest has no reason to distrust its host, but a damaged message must end in a
// message, not in half a configuration: every string is bounded and every number checked before anything is done.
#ifndef GUEST_SETUP_H
#define GUEST_SETUP_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"
#include "libvc/limits.h"

#define SETUP_SECRET_LEN 32	   // bytes of the cluster's secret
#define SETUP_GROUPS_MAX 256	   // as PLAN_GROUPS_MAX
#define SETUP_FILES_MAX 64	   // small files that a host hands in: keys, site settings
#define SETUP_FILE_MAX (256 * 1024) // bytes of one of them
#define SETUP_ENV_MAX 256	   // variables for every task

struct setup_group {
	gid_t gid;
	char *name;
};

struct setup_owner {
	uid_t uid;
	gid_t gid;
	char *user;
	char *home;
	struct setup_group *groups;
	size_t n_groups;
};

struct setup_member {
	uint32_t rank;
	char name[VC_NAME_MAX + 1];
	char host[VC_HOSTNAME_MAX + 1];
	char addr[16];
	char mac[18];
	uint32_t slots;
};

struct setup_file {
	char *path;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint8_t *data;
	size_t len;
};

struct setup_mount {
	char *tag; // of the virtiofs device
	char *dst;
	bool ro;
};

struct setup {
	uint32_t job;
	uint32_t rank; // this guest's
	struct setup_owner owner;
	char network[16];
	uint32_t prefix;
	uint32_t mtu;
	bool shared_cpus; // this guest's processors have no CPUs of the host's of their own
	uint8_t secret[SETUP_SECRET_LEN];
	struct setup_member *members;
	size_t n_members;
	char **env; // "K=V", NULL at the end
	struct setup_file *files;
	size_t n_files;
	struct setup_mount *mounts;
	size_t n_mounts;
};

struct setup *setup_from_json(struct json_object *params, struct vc_error *err);
void setup_destroy(struct setup *s);
const struct setup_member *setup_self(const struct setup *s);
const struct setup_member *setup_member_by_rank(const struct setup *s, uint32_t rank);
// By member name, by its address; NULL when there is none.
const struct setup_member *setup_member_by_name(const struct setup *s, const char *name);
// A list of members as in a plan or a view; names are DNS labels, addresses dotted quads.
int setup_members_from_json(struct json_object *array, struct setup_member **ret, size_t *ret_n, struct vc_error *err);

static inline void setup_cleanup(struct setup **s)
{
	setup_destroy(*s);
}
#define setup_auto __attribute__((cleanup(setup_cleanup)))

#endif
