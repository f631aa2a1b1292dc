// SPDX-License-Identifier: GPL-2.0-or-later
// The user's request: see spec.h. One table row per option; one validator per kind of value, shared by text and JSON.
#include "libvc/spec.h"

#include <string.h>

#include "libvc/json.h"
#include "libvc/parse.h"

#define WHAT_MAX 64 // bytes of "--vcluster-stage-out", the name of a value in messages

const struct vc_spec_option vc_spec_options[VC_SPEC_OPTS] = {
	[VC_SPEC_OPT_IMAGE] = {"vcluster", "VCLUSTER_OPT_IMAGE", "IMAGE",
			       "run the job in a virtual cluster of machines booted from IMAGE", false},
	[VC_SPEC_OPT_PACKAGES] = {"vcluster-packages", "VCLUSTER_OPT_PACKAGES", "PACKAGE,...",
				  "Debian packages to have beside those of IMAGE", true},
	[VC_SPEC_OPT_VMS] = {"vcluster-vms", "VCLUSTER_OPT_VMS", "K", "virtual machines per host (default 1)", false},
	[VC_SPEC_OPT_CPUS] = {"vcluster-cpus", "VCLUSTER_OPT_CPUS", "N",
			      "virtual CPUs of each machine (default: the host's share, divided)", false},
	[VC_SPEC_OPT_MEM] = {"vcluster-mem", "VCLUSTER_OPT_MEM", "SIZE",
			     "memory of each machine, in MiB or with K, M, G, T (default: the host's share, divided)", false},
	[VC_SPEC_OPT_SCRIPT] = {"vcluster-script", "VCLUSTER_OPT_SCRIPT", "guest|host",
				"where the batch script runs (default guest: the first machine)", false},
	[VC_SPEC_OPT_MOUNT] = {"vcluster-mount", "VCLUSTER_OPT_MOUNT", "SRC:DST[:ro]",
			       "show the host's directory SRC as DST in each machine; several with commas", true},
	[VC_SPEC_OPT_STAGE_IN] = {"vcluster-stage-in", "VCLUSTER_OPT_STAGE_IN", "FILE,...",
				  "copy FILE into each machine before the job starts", true},
	[VC_SPEC_OPT_STAGE_OUT] = {"vcluster-stage-out", "VCLUSTER_OPT_STAGE_OUT", "FILE,...",
				   "copy FILE back from the first machine when the job ends", true},
	[VC_SPEC_OPT_SIZE] = {"vcluster-size", "VCLUSTER_OPT_SIZE", "MIN[-MAX]",
			      "hosts that the cluster may have as it grows and shrinks (default: those of -N)", false},
	[VC_SPEC_OPT_ELASTIC] = {"vcluster-elastic", "VCLUSTER_OPT_ELASTIC", "POLICY[,KEY=VALUE...]",
				 "static, cod, balance, pack or yield: who decides; keys weight, reserve", false},
	[VC_SPEC_OPT_ON_PREEMPT] = {"vcluster-on-preempt", "VCLUSTER_OPT_ON_PREEMPT", "shrink|kill",
				    "when a further host is preempted: go on without it (default), or end the job", false},
};

const char *const vc_spec_policies[] = {"static", "cod", "balance", "pack", "yield", NULL};
static const char *const preempt_names[] = {[VC_SPEC_PREEMPT_SHRINK] = "shrink", [VC_SPEC_PREEMPT_KILL] = "kill"};
static const char *const script_names[] = {[VC_SPEC_SCRIPT_GUEST] = "guest", [VC_SPEC_SCRIPT_HOST] = "host"};

struct vc_spec *vc_spec_create(void)
{
	struct vc_spec *spec = calloc(1, sizeof(*spec));
	if (spec)
		spec->vms = 1;
	return spec;
}

static void mount_clear(struct vc_spec_mount *m)
{
	free(m->src);
	free(m->dst);
	*m = (struct vc_spec_mount){0};
}

static void mounts_truncate(struct vc_spec *spec, size_t n)
{
	while (spec->n_mounts > n)
		mount_clear(&spec->mounts[--spec->n_mounts]);
}

void vc_spec_destroy(struct vc_spec *spec)
{
	int saved = errno;
	if (!spec)
		return;
	mounts_truncate(spec, 0);
	free(spec->mounts);
	vc_strv_free(spec->packages);
	vc_strv_free(spec->stage_in);
	vc_strv_free(spec->stage_out);
	free(spec->image);
	free(spec);
	errno = saved;
}

// --- comparing -------------------------------------------------------------------------------------------------

static bool str_equal(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool strv_equal(char *const *a, char *const *b)
{
	size_t n = vc_strv_len(a);
	if (n != vc_strv_len(b))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (strcmp(a[i], b[i]) != 0)
			return false;
	}
	return true;
}

static bool mount_equal(const struct vc_spec_mount *a, const struct vc_spec_mount *b)
{
	return strcmp(a->src, b->src) == 0 && strcmp(a->dst, b->dst) == 0 && a->ro == b->ro;
}

static bool mounts_equal(const struct vc_spec *a, const struct vc_spec *b)
{
	if (a->n_mounts != b->n_mounts)
		return false;
	for (size_t i = 0; i < a->n_mounts; i++) {
		if (!mount_equal(&a->mounts[i], &b->mounts[i]))
			return false;
	}
	return true;
}

bool vc_spec_equal(const struct vc_spec *a, const struct vc_spec *b)
{
	return str_equal(a->image, b->image) && a->vms == b->vms && a->cpus == b->cpus && a->mem_mib == b->mem_mib &&
	       a->script == b->script && a->size_min == b->size_min && a->size_max == b->size_max &&
	       strcmp(a->elastic.policy, b->elastic.policy) == 0 && a->elastic.weight == b->elastic.weight &&
	       a->elastic.reserve == b->elastic.reserve && a->on_preempt == b->on_preempt && mounts_equal(a, b) && strv_equal(a->packages, b->packages) &&
	       strv_equal(a->stage_in, b->stage_in) &&
	       strv_equal(a->stage_out, b->stage_out);
}

// --- validating ------------------------------------------------------------------------------------------------

static int check_text(const char *what, const char *s, size_t max, struct vc_error *err)
{
	size_t len = strnlen(s, max + 1);
	if (len == 0)
		return vc_error_set(err, VC_EUSER, "%s: the value is empty", what);
	if (len > max)
		return vc_error_set(err, VC_EUSER, "%s: the value has more than %zu bytes", what, max);
	for (size_t i = 0, n; i < len; i += n) {
		n = vc_utf8_len(s + i);
		if (n == 0 || (unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return vc_error_set(err, VC_EUSER, "%s: byte %zu is a control character or not UTF-8", what, i + 1);
	}
	return 0;
}

static bool has_dot_component(const char *path)
{
	for (const char *p = path; *p;) {
		size_t len = strcspn(p, "/");
		if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
			return true;
		p += len + (p[len] == '/');
	}
	return false;
}

static int check_absolute(const char *what, const char *path, struct vc_error *err)
{
	if (check_text(what, path, VC_PATH_MAX - 1, err) < 0)
		return -1;
	if (path[0] != '/' || strstr(path, "//") || has_dot_component(path))
		return vc_error_set(err, VC_EUSER, "%s: '%.128s' is not an absolute path without '.', '..' and '//'", what, path);
	return 0;
}

// The guest's own file systems; a mount over or in them would cut off the agent.
static const char *const reserved_dirs[] = {"/", "/proc", "/sys", "/dev", "/run/vcluster"};

static int check_mount_point(const char *what, const char *dst, struct vc_error *err)
{
	if (check_absolute(what, dst, err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(reserved_dirs); i++) {
		size_t len = strlen(reserved_dirs[i]);
		if (strncmp(dst, reserved_dirs[i], len) == 0 && (dst[len] == '\0' || (dst[len] == '/' && len > 1)))
			return vc_error_set(err, VC_EUSER, "%s: '%.128s' is a place of the guest's own; choose another", what, dst);
	}
	if (strcmp(dst, "/run") == 0)
		return vc_error_set(err, VC_EUSER, "%s: '/run' is a place of the guest's own; choose another", what);
	return 0;
}

#define NAME_START "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

static int check_image(const char *what, const char *name, struct vc_error *err)
{
	if (check_text(what, name, VC_NAME_MAX, err) < 0)
		return -1;
	size_t len = strlen(name);
	if (!strchr(NAME_START, name[0]) || strspn(name, NAME_START "._+-/:@") != len || name[len - 1] == '/' ||
	    strstr(name, "//") || has_dot_component(name))
		return vc_error_set(err, VC_EUSER, "%s: '%s' is not an image's name; 'vcctl image list' shows those there are",
				    what, name);
	return 0;
}

// --- setting, one function per kind of value -------------------------------------------------------------------

static int set_image(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	if (check_image(what, value, err) < 0)
		return -1;
	char *copy = strdup(value);
	if (!copy)
		return vc_error_errno(err, "%s", what);
	free(spec->image);
	spec->image = copy;
	return 0;
}

static int set_vms(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	uint64_t n;
	if (vc_parse_u64(what, value, 1, VC_VMS_PER_HOST_MAX, &n, err) < 0)
		return -1;
	spec->vms = (uint32_t)n;
	return 0;
}

static int set_cpus(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	uint64_t n;
	if (vc_parse_u64(what, value, 1, VC_SPEC_CPUS_MAX, &n, err) < 0)
		return -1;
	spec->cpus = (uint32_t)n;
	return 0;
}

static int set_mem_mib(struct vc_spec *spec, const char *what, uint64_t mib, struct vc_error *err)
{
	if (mib < VC_MEM_MIN_MIB || mib > VC_SPEC_MEM_MAX_MIB)
		return vc_error_set(err, VC_EUSER, "%s: %llu MiB is outside %d to %llu MiB", what, (unsigned long long)mib,
				    VC_MEM_MIN_MIB, VC_SPEC_MEM_MAX_MIB);
	spec->mem_mib = mib;
	return 0;
}

static int set_mem(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	uint64_t bytes;
	if (vc_parse_size(what, value, 1 << 20, VC_SPEC_MEM_MAX_MIB << 20, &bytes, err) < 0)
		return -1;
	return set_mem_mib(spec, what, bytes >> 20, err);
}

// Index of value among two names, -1: it is neither.
static int one_of_two(const char *const names[2], const char *what, const char *value, struct vc_error *err)
{
	for (int i = 0; i < 2; i++) {
		if (strcmp(value, names[i]) == 0)
			return i;
	}
	return vc_error_set(err, VC_EUSER, "%s: '%.64s' is neither '%s' nor '%s'", what, value, names[0], names[1]);
}

static int set_script(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	int i = one_of_two(script_names, what, value, err);
	if (i < 0)
		return -1;
	spec->script = (enum vc_spec_script)i;
	return 0;
}

static int set_on_preempt(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	int i = one_of_two(preempt_names, what, value, err);
	if (i < 0)
		return -1;
	spec->on_preempt = (enum vc_spec_preempt)i;
	return 0;
}

// MIN alone is MIN-MIN.
static int set_size(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	vc_autostrv char **parts = NULL;
	uint64_t min, max;
	if (vc_parse_list(what, value, '-', 2, &parts, err) < 0 || vc_parse_u64(what, parts[0], 1, VC_HOSTS_MAX, &min, err) < 0 ||
	    vc_parse_u64(what, parts[1] ? parts[1] : parts[0], min, VC_HOSTS_MAX, &max, err) < 0)
		return -1;
	spec->size_min = (uint32_t)min;
	spec->size_max = (uint32_t)max;
	return 0;
}

static int find_policy(const char *what, const char *name, struct vc_error *err)
{
	for (size_t i = 0; vc_spec_policies[i]; i++) {
		if (strcmp(vc_spec_policies[i], name) == 0)
			return 0;
	}
	return vc_error_set(err, VC_EUSER, "%s: there is no policy '%.64s' for clusters; there are: static, cod, balance, pack, yield", what, name);
}

static int set_elastic_key(struct vc_spec_elastic *e, const char *what, char *item, struct vc_error *err)
{
	char *value = strchr(item, '=');
	uint64_t n;
	if (value)
		*value++ = '\0';
	bool weight = strcmp(item, "weight") == 0, reserve = strcmp(item, "reserve") == 0;
	if (!value || (!weight && !reserve))
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is neither weight=NUMBER nor reserve=HOSTS", what, item);
	if (vc_parse_u64(what, value, weight, weight ? VC_SPEC_WEIGHT_MAX : VC_HOSTS_MAX, &n, err) < 0)
		return -1;
	*(weight ? &e->weight : &e->reserve) = (uint32_t)n;
	return 0;
}

int vc_spec_parse_elastic(const char *what, const char *value, struct vc_spec_elastic *ret, struct vc_error *err)
{
	vc_autostrv char **items = NULL;
	struct vc_spec_elastic e = {0};
	if (vc_parse_list(what, value, ',', 3, &items, err) < 0 || find_policy(what, items[0], err) < 0)
		return -1;
	snprintf(e.policy, sizeof(e.policy), "%s", items[0]);
	for (size_t i = 1; items[i]; i++) {
		if (set_elastic_key(&e, what, items[i], err) < 0)
			return -1;
	}
	*ret = e;
	return 0;
}

static int set_elastic(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	return vc_spec_parse_elastic(what, value, &spec->elastic, err);
}

static int mount_check(const struct vc_spec *spec, const char *what, const char *src, const char *dst, struct vc_error *err)
{
	if (check_absolute(what, src, err) < 0 || check_mount_point(what, dst, err) < 0)
		return -1;
	for (size_t i = 0; i < spec->n_mounts; i++) {
		if (strcmp(spec->mounts[i].dst, dst) == 0)
			return vc_error_set(err, VC_EUSER, "%s: two mounts on '%.128s'", what, dst);
	}
	if (spec->n_mounts == VC_MOUNTS_MAX)
		return vc_error_set(err, VC_EUSER, "%s: more than %d mounts", what, VC_MOUNTS_MAX);
	return 0;
}

static int add_mount(struct vc_spec *spec, const char *what, const char *src, const char *dst, bool ro, struct vc_error *err)
{
	for (size_t i = 0; i < spec->n_mounts; i++) {
		if (mount_equal(&spec->mounts[i], &(struct vc_spec_mount){(char *)src, (char *)dst, ro}))
			return 0;
	}
	if (mount_check(spec, what, src, dst, err) < 0)
		return -1;
	struct vc_spec_mount *grown = realloc(spec->mounts, (spec->n_mounts + 1) * sizeof(*grown));
	if (!grown)
		return vc_error_errno(err, "%s", what);
	spec->mounts = grown;
	struct vc_spec_mount *m = &grown[spec->n_mounts];
	*m = (struct vc_spec_mount){strdup(src), strdup(dst), ro};
	if (!m->src || !m->dst) {
		mount_clear(m);
		return vc_error_set(err, ENOMEM, "%s: out of memory", what);
	}
	spec->n_mounts++;
	return 0;
}

// SRC:DST[:ro|:rw]
static int add_mount_text(struct vc_spec *spec, const char *what, const char *text, struct vc_error *err)
{
	vc_autostrv char **parts = NULL;
	if (vc_parse_list(what, text, ':', 3, &parts, err) < 0)
		return -1;
	size_t n = vc_strv_len(parts);
	bool ro = n == 3 && strcmp(parts[2], "ro") == 0;
	if (n < 2 || (n == 3 && !ro && strcmp(parts[2], "rw") != 0))
		return vc_error_set(err, VC_EUSER, "%s: '%.128s' is not SRC:DST or SRC:DST:ro", what, text);
	return add_mount(spec, what, parts[0], parts[1], ro, err);
}

static int set_mounts(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	vc_autostrv char **items = NULL;
	if (vc_parse_list(what, value, ',', VC_MOUNTS_MAX, &items, err) < 0)
		return -1;
	size_t before = spec->n_mounts;
	for (size_t i = 0; items[i]; i++) {
		if (add_mount_text(spec, what, items[i], err) < 0) {
			mounts_truncate(spec, before);
			return -1;
		}
	}
	return 0;
}

struct list_rule {
	int (*check)(const char *what, const char *item, struct vc_error *err);
	size_t max;
	const char *things;
};

static int check_file(const char *what, const char *item, struct vc_error *err)
{
	return check_text(what, item, VC_PATH_MAX - 1, err);
}

#define LOWER_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

int vc_check_package(const char *what, const char *package, struct vc_error *err)
{
	size_t name = strcspn(package, "="), len = strlen(package);
	const char *version = package[name] ? package + name + 1 : NULL;
	bool ok = len <= VC_PACKAGE_LEN_MAX && name >= 2 && strchr(LOWER_DIGITS, package[0]) &&
		  strspn(package, LOWER_DIGITS "+.-") == name;
	if (ok && version)
		ok = version[0] && strchr(LOWER_DIGITS UPPER, version[0]) &&
		     strspn(version, LOWER_DIGITS UPPER ".+:~-") == strlen(version);
	if (ok)
		return 0;
	return vc_error_set(err, VC_EUSER, "%s%spackage '%.80s' is not a Debian package name, optionally with =VERSION",
			    what, what[0] ? ": " : "", package);
}

static const struct list_rule file_rule = {check_file, VC_STAGE_FILES_MAX, "files"};
static const struct list_rule package_rule = {vc_check_package, VC_PACKAGES_MAX, "packages"};

// *list gets a longer copy with the new items, or stays as it was.
static int add_items(char ***list, const struct list_rule *rule, const char *what, char *const *items, struct vc_error *err)
{
	size_t old = vc_strv_len(*list), n = 0;
	vc_autostrv char **grown = calloc(old + vc_strv_len(items) + 1, sizeof(*grown));
	if (!grown)
		return vc_error_errno(err, "%s", what);
	for (size_t i = 0; i < old + vc_strv_len(items); i++) {
		const char *item = i < old ? (*list)[i] : items[i - old];
		if (rule->check(what, item, err) < 0)
			return -1;
		if (vc_strv_has(grown, item))
			continue;
		if (n == rule->max)
			return vc_error_set(err, VC_EUSER, "%s: more than %zu %s", what, rule->max, rule->things);
		grown[n] = strdup(item);
		if (!grown[n++])
			return vc_error_errno(err, "%s", what);
	}
	vc_strv_free(*list);
	*list = n ? vc_steal(&grown) : NULL;
	return 0;
}

static int add_text(char ***list, const struct list_rule *rule, const char *what, const char *value, struct vc_error *err)
{
	vc_autostrv char **items = NULL;
	if (vc_parse_list(what, value, ',', rule->max, &items, err) < 0)
		return -1;
	return add_items(list, rule, what, items, err);
}

static int set_packages(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	return add_text(&spec->packages, &package_rule, what, value, err);
}

static int set_stage_in(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	return add_text(&spec->stage_in, &file_rule, what, value, err);
}

static int set_stage_out(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err)
{
	return add_text(&spec->stage_out, &file_rule, what, value, err);
}

// "/a" + "b/../c" -> "/a/c"; text only, so that a name means the same before and after the file exists.
static char *resolve_path(const char *dir, const char *name)
{
	vc_autofree char *full = NULL;
	if (asprintf(&full, "%s/%s", name[0] == '/' ? "" : dir, name) < 0) {
		full = NULL;
		return NULL;
	}
	char *out = calloc(1, strlen(full) + 2);
	size_t len = 0;
	for (char *save = NULL, *part = strtok_r(full, "/", &save); out && part; part = strtok_r(NULL, "/", &save)) {
		if (strcmp(part, ".") == 0)
			continue;
		if (strcmp(part, "..") == 0) {
			while (len > 0 && out[--len] != '/')
				;
			out[len] = '\0';
			continue;
		}
		out[len++] = '/';
		len = (size_t)(stpcpy(out + len, part) - out);
	}
	return out;
}

// *list gets the resolved names, or stays as it was. Two ways to write one path are one entry.
static int resolve_list(char ***list, const char *what, const char *dir, struct vc_error *err)
{
	size_t n = 0;
	vc_autostrv char **resolved = calloc(vc_strv_len(*list) + 1, sizeof(*resolved));
	if (!resolved)
		return vc_error_errno(err, "%s", what);
	for (size_t i = 0; i < vc_strv_len(*list); i++) {
		vc_autofree char *path = resolve_path(dir, (*list)[i]);
		if (!path)
			return vc_error_errno(err, "%s", what);
		if (!path[0] || strlen(path) >= VC_PATH_MAX)
			return vc_error_set(err, VC_EUSER, "%s: '%s' does not name a file", what, (*list)[i]);
		if (!vc_strv_has(resolved, path))
			resolved[n++] = vc_steal(&path);
	}
	if (!*list)
		return 0;
	vc_strv_free(*list);
	*list = vc_steal(&resolved);
	return 0;
}

int vc_spec_resolve_files(struct vc_spec *spec, const char *dir, struct vc_error *err)
{
	if (resolve_list(&spec->stage_in, "--vcluster-stage-in", dir, err) < 0)
		return -1;
	return resolve_list(&spec->stage_out, "--vcluster-stage-out", dir, err);
}

typedef int (*setter)(struct vc_spec *spec, const char *what, const char *value, struct vc_error *err);

static const setter setters[VC_SPEC_OPTS] = {
	[VC_SPEC_OPT_IMAGE] = set_image,	 [VC_SPEC_OPT_PACKAGES] = set_packages,
	[VC_SPEC_OPT_VMS] = set_vms,
	[VC_SPEC_OPT_CPUS] = set_cpus,		 [VC_SPEC_OPT_MEM] = set_mem,
	[VC_SPEC_OPT_SCRIPT] = set_script,	 [VC_SPEC_OPT_MOUNT] = set_mounts,
	[VC_SPEC_OPT_STAGE_IN] = set_stage_in,	 [VC_SPEC_OPT_STAGE_OUT] = set_stage_out,
	[VC_SPEC_OPT_SIZE] = set_size,		 [VC_SPEC_OPT_ELASTIC] = set_elastic,
	[VC_SPEC_OPT_ON_PREEMPT] = set_on_preempt,
};

int vc_spec_set(struct vc_spec *spec, enum vc_spec_opt opt, const char *value, struct vc_error *err)
{
	char what[WHAT_MAX];
	snprintf(what, sizeof(what), "--%s", vc_spec_options[opt].name);
	if (!value || !*value)
		return vc_error_set(err, VC_EUSER, "%s: a value is missing (%s)", what, vc_spec_options[opt].arginfo);
	return setters[opt](spec, what, value, err);
}

int vc_spec_set_by_name(struct vc_spec *spec, const char *name, const char *value, struct vc_error *err)
{
	for (size_t i = 0; i < VC_SPEC_OPTS; i++) {
		if (strcmp(vc_spec_options[i].name, name) == 0)
			return vc_spec_set(spec, (enum vc_spec_opt)i, value, err);
	}
	return vc_error_set(err, VC_EUSER, "--%.64s: there is no such option", name);
}

// --- checking against the job's request ------------------------------------------------------------------------

static int check_without_image(const struct vc_spec *spec, struct vc_error *err)
{
	const bool given[VC_SPEC_OPTS] = {
		[VC_SPEC_OPT_PACKAGES] = spec->packages != NULL,
		[VC_SPEC_OPT_VMS] = spec->vms != 1,	     [VC_SPEC_OPT_CPUS] = spec->cpus != 0,
		[VC_SPEC_OPT_MEM] = spec->mem_mib != 0,	     [VC_SPEC_OPT_SCRIPT] = spec->script != VC_SPEC_SCRIPT_GUEST,
		[VC_SPEC_OPT_MOUNT] = spec->n_mounts != 0,   [VC_SPEC_OPT_STAGE_IN] = spec->stage_in != NULL,
		[VC_SPEC_OPT_STAGE_OUT] = spec->stage_out != NULL,
		[VC_SPEC_OPT_SIZE] = spec->size_max != 0,    [VC_SPEC_OPT_ELASTIC] = spec->elastic.policy[0] != '\0',
		[VC_SPEC_OPT_ON_PREEMPT] = spec->on_preempt != VC_SPEC_PREEMPT_SHRINK,
	};
	for (size_t i = 0; i < VC_SPEC_OPTS; i++) {
		if (given[i])
			return vc_error_set(err, VC_EUSER, "--%s needs --vcluster=IMAGE", vc_spec_options[i].name);
	}
	return 0;
}

int vc_spec_check(const struct vc_spec *spec, const struct vc_spec_request *request, struct vc_error *err)
{
	if (!spec->image)
		return check_without_image(spec, err);
	if (spec->stage_out && spec->script == VC_SPEC_SCRIPT_HOST)
		return vc_error_set(err, VC_EUSER, "--vcluster-stage-out copies when the batch script ends in the first machine, not with "
				    "--vcluster-script=host: let the script call `vcctl cp $SLURM_JOB_ID:0:FILE .`");
	if (spec->elastic.reserve && spec->elastic.reserve > spec->size_max)
		return vc_error_set(err, VC_EUSER, "--vcluster-elastic: a reserve of %u hosts is more than --vcluster-size allows (%u)",
				    spec->elastic.reserve, spec->size_max);
	if (strcmp(spec->elastic.policy, "cod") == 0 && !spec->size_max)
		return vc_error_set(err, VC_EUSER, "--vcluster-elastic=cod needs --vcluster-size=MIN-MAX");
	uint64_t cpus = (uint64_t)spec->vms * (spec->cpus ? spec->cpus : 1);
	if (request->cpus_per_host_max && cpus > request->cpus_per_host_max)
		return vc_error_set(err, VC_EUSER,
				    "%u machine%s per host x %u CPUs are %llu, but this job gets at most %u CPUs on a host: "
				    "lower --vcluster-vms or --vcluster-cpus, or ask for more with -c",
				    spec->vms, spec->vms == 1 ? "" : "s", spec->cpus ? spec->cpus : 1, (unsigned long long)cpus, request->cpus_per_host_max);
	uint64_t mem = spec->vms * (spec->mem_mib ? spec->mem_mib : VC_MEM_MIN_MIB);
	if (request->mem_mib_per_host && mem > request->mem_mib_per_host)
		return vc_error_set(err, VC_EUSER,
				    "%u machine%s per host x %llu MiB%s are %llu MiB, but the job asks for %llu MiB per host: "
				    "lower --vcluster-vms or --vcluster-mem, or raise --mem",
				    spec->vms, spec->vms == 1 ? "" : "s", (unsigned long long)(spec->mem_mib ? spec->mem_mib : VC_MEM_MIN_MIB),
				    spec->mem_mib ? "" : " (the smallest)", (unsigned long long)mem,
				    (unsigned long long)request->mem_mib_per_host);
	return 0;
}

// --- JSON ------------------------------------------------------------------------------------------------------

static struct json_object *mounts_to_json(const struct vc_spec *spec)
{
	vc_autojson struct json_object *list = json_object_new_array();
	for (size_t i = 0; list && i < spec->n_mounts; i++) {
		vc_autojson struct json_object *m = json_object_new_object();
		if (!m || vc_json_add_str(m, "src", spec->mounts[i].src) < 0 ||
		    vc_json_add_str(m, "dst", spec->mounts[i].dst) < 0 || vc_json_add_bool(m, "ro", spec->mounts[i].ro) < 0)
			return NULL;
		if (json_object_array_add(list, m) < 0)
			return NULL;
		m = NULL; // the list's now
	}
	return vc_steal(&list);
}

static int put_elastic(struct json_object *obj, const struct vc_spec *spec)
{
	const struct vc_spec_elastic *e = &spec->elastic;
	if (spec->size_max &&
	    (vc_json_add_u64(obj, "size_min", spec->size_min) < 0 || vc_json_add_u64(obj, "size_max", spec->size_max) < 0))
		return -1;
	if (e->policy[0] && (vc_json_add_str(obj, "elastic", e->policy) < 0 || vc_json_add_u64(obj, "weight", e->weight) < 0 ||
			     vc_json_add_u64(obj, "reserve", e->reserve) < 0))
		return -1;
	if (spec->on_preempt == VC_SPEC_PREEMPT_SHRINK)
		return 0;
	return vc_json_add_str(obj, "on_preempt", preempt_names[spec->on_preempt]);
}

static int put_optional(struct json_object *obj, const struct vc_spec *spec)
{
	if (put_elastic(obj, spec) < 0)
		return -1;
	if (spec->cpus && vc_json_add_u64(obj, "cpus", spec->cpus) < 0)
		return -1;
	if (spec->mem_mib && vc_json_add_u64(obj, "mem_mib", spec->mem_mib) < 0)
		return -1;
	if (spec->packages && vc_json_add_strv(obj, "packages", spec->packages) < 0)
		return -1;
	if (spec->n_mounts && vc_json_add(obj, "mounts", mounts_to_json(spec)) < 0)
		return -1;
	if (spec->stage_in && vc_json_add_strv(obj, "stage_in", spec->stage_in) < 0)
		return -1;
	return spec->stage_out ? vc_json_add_strv(obj, "stage_out", spec->stage_out) : 0;
}

struct json_object *vc_spec_to_json(const struct vc_spec *spec)
{
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!obj || vc_json_add_u64(obj, "v", VC_SPEC_VERSION) < 0 || vc_json_add_str(obj, "image", spec->image) < 0 ||
	    vc_json_add_u64(obj, "vms", spec->vms) < 0 ||
	    vc_json_add_str(obj, "script", script_names[spec->script]) < 0 || put_optional(obj, spec) < 0)
		return NULL;
	return vc_steal(&obj);
}

static int get_version(struct json_object *obj, struct vc_error *err)
{
	uint64_t v;
	if (vc_json_u64(obj, "v", UINT32_MAX, &v, err) < 0)
		return -1;
	if (v != VC_SPEC_VERSION)
		return vc_error_set(err, VC_EUSER, "version %llu, this program knows %d: install one version on all hosts",
				    (unsigned long long)v, VC_SPEC_VERSION);
	return 0;
}

static int get_image(struct vc_spec *spec, struct json_object *obj, struct vc_error *err)
{
	const char *image;
	return vc_json_str(obj, "image", VC_NAME_MAX, &image, err) < 0 ? -1 : set_image(spec, "image", image, err);
}

static int get_sizes(struct vc_spec *spec, struct json_object *obj, struct vc_error *err)
{
	uint64_t vms = spec->vms, cpus = 0, mem = 0;
	if (vc_json_u64_opt(obj, "vms", VC_VMS_PER_HOST_MAX, &vms, err) < 0 ||
	    vc_json_u64_opt(obj, "cpus", VC_SPEC_CPUS_MAX, &cpus, err) < 0 ||
	    vc_json_u64_opt(obj, "mem_mib", VC_SPEC_MEM_MAX_MIB, &mem, err) < 0)
		return -1;
	if (vms == 0)
		return vc_error_set(err, VC_EUSER, "vms: 0 is outside 1 to %d", VC_VMS_PER_HOST_MAX);
	spec->vms = (uint32_t)vms;
	spec->cpus = (uint32_t)cpus;
	return mem ? set_mem_mib(spec, "mem_mib", mem, err) : 0;
}

static int get_script(struct vc_spec *spec, struct json_object *obj, struct vc_error *err)
{
	const char *script = script_names[VC_SPEC_SCRIPT_GUEST];
	return vc_json_str_opt(obj, "script", VC_NAME_MAX, &script, err) < 0 ? -1 : set_script(spec, "script", script, err);
}

static int get_elastic(struct vc_spec *spec, struct json_object *obj, struct vc_error *err)
{
	struct vc_spec_elastic *e = &spec->elastic;
	const char *policy = "", *on_preempt = preempt_names[VC_SPEC_PREEMPT_SHRINK];
	uint64_t min = 0, max = 0, weight = 0, reserve = 0;
	if (vc_json_u64_opt(obj, "size_min", VC_HOSTS_MAX, &min, err) < 0 ||
	    vc_json_u64_opt(obj, "size_max", VC_HOSTS_MAX, &max, err) < 0 ||
	    vc_json_str_opt(obj, "elastic", VC_NAME_MAX, &policy, err) < 0 ||
	    vc_json_u64_opt(obj, "weight", VC_SPEC_WEIGHT_MAX, &weight, err) < 0 ||
	    vc_json_u64_opt(obj, "reserve", VC_HOSTS_MAX, &reserve, err) < 0 ||
	    vc_json_str_opt(obj, "on_preempt", VC_NAME_MAX, &on_preempt, err) < 0 ||
	    (policy[0] && find_policy("elastic", policy, err) < 0))
		return -1;
	if (min > max || (max && !min))
		return vc_error_set(err, VC_EUSER, "size_min: %llu is outside 1 to size_max", (unsigned long long)min);
	spec->size_min = (uint32_t)min;
	spec->size_max = (uint32_t)max;
	*e = (struct vc_spec_elastic){.weight = (uint32_t)weight, .reserve = (uint32_t)reserve};
	snprintf(e->policy, sizeof(e->policy), "%s", policy);
	return set_on_preempt(spec, "on_preempt", on_preempt, err);
}

static int get_mounts(struct vc_spec *spec, struct json_object *obj, struct vc_error *err)
{
	struct json_object *list = NULL;
	if (vc_json_array_opt(obj, "mounts", VC_MOUNTS_MAX, &list, err) < 0)
		return -1;
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *m = json_object_array_get_idx(list, i);
		const char *src, *dst;
		bool ro = false;
		if (vc_json_str(m, "src", VC_PATH_MAX - 1, &src, err) < 0 || vc_json_str(m, "dst", VC_PATH_MAX - 1, &dst, err) < 0 ||
		    vc_json_bool_opt(m, "ro", &ro, err) < 0 || add_mount(spec, "mounts", src, dst, ro, err) < 0)
			return -1;
	}
	return 0;
}

static int get_items(char ***ret, const struct list_rule *rule, size_t len_max, struct json_object *obj, const char *key,
		     struct vc_error *err)
{
	struct json_object *list = NULL;
	if (vc_json_array_opt(obj, key, rule->max, &list, err) < 0)
		return -1;
	if (!list)
		return 0;
	vc_autostrv char **items = NULL;
	if (vc_json_strv(obj, key, rule->max, len_max, &items, err) < 0)
		return -1;
	return add_items(ret, rule, key, items, err);
}

static int refuse_unknown_keys(struct json_object *obj, struct vc_error *err)
{
	static const char *const known[] = {"v",      "image",	"vms",	    "cpus",	"mem_mib",
					    "script", "mounts", "stage_in", "stage_out", "packages",
					    "size_min", "size_max", "elastic", "weight", "reserve", "on_preempt"};
	struct json_object_iterator end = json_object_iter_end(obj);
	for (struct json_object_iterator it = json_object_iter_begin(obj); !json_object_iter_equal(&it, &end);
	     json_object_iter_next(&it)) {
		const char *key = json_object_iter_peek_name(&it);
		bool found = false;
		for (size_t i = 0; i < VC_ARRAY_LEN(known); i++)
			found = found || strcmp(known[i], key) == 0;
		if (!found)
			return vc_error_set(err, VC_EUSER, "'%.64s' is unknown here: install one version on all hosts", key);
	}
	return 0;
}

struct vc_spec *vc_spec_from_json(struct json_object *obj, struct vc_error *err)
{
	vc_autospec struct vc_spec *spec = vc_spec_create();
	if (!spec) {
		vc_error_set(err, ENOMEM, "spec: out of memory");
		return NULL;
	}
	if (get_version(obj, err) < 0 || refuse_unknown_keys(obj, err) < 0 || get_image(spec, obj, err) < 0 ||
	    get_sizes(spec, obj, err) < 0 || get_script(spec, obj, err) < 0 || get_elastic(spec, obj, err) < 0 || get_mounts(spec, obj, err) < 0 ||
	    get_items(&spec->packages, &package_rule, VC_PACKAGE_LEN_MAX, obj, "packages", err) < 0 ||
	    get_items(&spec->stage_in, &file_rule, VC_PATH_MAX - 1, obj, "stage_in", err) < 0 ||
	    get_items(&spec->stage_out, &file_rule, VC_PATH_MAX - 1, obj, "stage_out", err) < 0) {
		vc_error_wrap(err, "spec");
		if (err)
			err->code = VC_EUSER;
		return NULL;
	}
	return vc_steal(&spec);
}

char *vc_spec_to_text(const struct vc_spec *spec, struct vc_error *err)
{
	vc_autojson struct json_object *obj = vc_spec_to_json(spec);
	size_t len = 0;
	const char *text = obj ? vc_json_text(obj, &len) : NULL;
	char *copy = NULL;
	if (text && len > VC_SPEC_MAX)
		vc_error_set(err, VC_EUSER, "the --vcluster options take %zu bytes together, more than %d: name fewer files", len,
			     VC_SPEC_MAX);
	else if (!text || !(copy = strdup(text)))
		vc_error_set(err, ENOMEM, "spec: out of memory");
	return copy;
}

struct vc_spec *vc_spec_from_text(const char *text, struct vc_error *err)
{
	size_t len = strnlen(text, VC_SPEC_MAX + 1);
	if (len > VC_SPEC_MAX) {
		vc_error_set(err, VC_EUSER, "spec: more than %d bytes", VC_SPEC_MAX);
		return NULL;
	}
	vc_autojson struct json_object *obj = vc_json_parse(text, len, err);
	if (!obj) {
		vc_error_wrap(err, "spec");
		if (err)
			err->code = VC_EUSER;
		return NULL;
	}
	return vc_spec_from_json(obj, err);
}
