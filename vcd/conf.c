// SPDX-License-Identifier: GPL-2.0-or-later
// vcd.conf: see conf.h. Each option is one row of `options`: how its text is read, where it goes, default and range.
//
// libconfuse splits the file into texts and lists of texts and knows the line; each text is read by its row's reader,
// once when it is met (so that a mistake has its line) and once to fill the struct, defaults included. libconfuse gives
// its callbacks no user pointer: what they need travels in a thread-local for the time of one parse.
#include "vcd/conf.h"

#include <arpa/inet.h>
#include <confuse.h>
#include <errno.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/hostlist.h"
#include "libvc/limits.h"
#include "libvc/parse.h"
#include "libvc/user.h"

#define LIST_MAX 4096		       // items of one list; a site's hosts
#define DURATION_MAX (7ull * 24 * 3600 * 1000) // ms; longer is a typing error
#define GROUPS_MAX 1024		       // groups of a user that admin-groups is compared with

struct option;
typedef int (*reader_fn)(struct conf *conf, const struct option *o, const char *text, struct vc_error *err);

struct option {
	const char *name;
	reader_fn read;
	size_t offset;
	const char *def;
	uint64_t min, max; // of numbers, in the unit of the member
	bool list;
	bool start; // changes wait for a restart
};

// --- readers ---

static void *member(struct conf *conf, const struct option *o)
{
	return (char *)conf + o->offset;
}

static int read_text(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	char **p = member(conf, o);
	if (strlen(text) > VC_PATH_MAX)
		return vc_error_set(err, VC_EUSER, "%s: more than %d bytes", o->name, VC_PATH_MAX);
	char *copy = strdup(text);
	if (!copy)
		return vc_error_errno(err, "%s", o->name);
	free(*p);
	*p = copy;
	return 0;
}

static int read_path(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	if (*text && *text != '/')
		return vc_error_set(err, VC_EUSER, "%s: '%.200s' is not an absolute path", o->name, text);
	if (!*text && o->def && *o->def)
		return vc_error_set(err, VC_EUSER, "%s must not be empty", o->name);
	return read_text(conf, o, text, err);
}

static int read_host_name(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	char host[VC_HOSTNAME_MAX + 1] = "";
	if (strlen(text) > VC_HOSTNAME_MAX)
		return vc_error_set(err, VC_EUSER, "%s: more than %d bytes", o->name, VC_HOSTNAME_MAX);
	if (!vc_is_utf8(text))
		return vc_error_set(err, VC_EUSER, "%s: '%s' is not UTF-8, which a NodeName must be for virtual clusters", o->name, text);
	if (*text)
		return read_text(conf, o, text, err);
	if (gethostname(host, sizeof(host) - 1) < 0)
		return vc_error_errno(err, "%s", o->name);
	host[strcspn(host, ".")] = '\0'; // as Slurm's NodeName is by default
	return read_text(conf, o, host, err);
}

static int read_u32(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	uint64_t value = 0;
	if (vc_parse_u64(o->name, text, o->min, o->max, &value, err) < 0)
		return -1;
	*(uint32_t *)member(conf, o) = (uint32_t)value;
	return 0;
}
_Static_assert(sizeof(unsigned) == sizeof(uint32_t) && sizeof(int) == sizeof(uint32_t), "read_u32 fills all three");

static int read_duration(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	uint64_t ms = 0;
	if (vc_parse_duration_ms(o->name, text, o->max ? o->max : DURATION_MAX, &ms, err) < 0)
		return -1;
	if (ms < o->min)
		return vc_error_set(err, VC_EUSER, "%s: '%s' is less than %llu ms", o->name, text, (unsigned long long)o->min);
	*(uint64_t *)member(conf, o) = ms;
	return 0;
}

static int read_mib(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	uint64_t bytes = 0;
	if (vc_parse_size(o->name, text, 1u << 20, o->max << 20, &bytes, err) < 0)
		return -1;
	if (bytes >> 20 < o->min)
		return vc_error_set(err, VC_EUSER, "%s: '%s' is less than %llu MiB", o->name, text, (unsigned long long)o->min);
	*(uint64_t *)member(conf, o) = bytes >> 20;
	return 0;
}

static int strv_add(char ***list, const char *text)
{
	size_t n = 0;
	while (*list && (*list)[n])
		n++;
	char **grown = reallocarray(*list, n + 2, sizeof(*grown));
	if (!grown)
		return -1;
	*list = grown;
	grown[n] = strdup(text);
	grown[n + 1] = NULL;
	return grown[n] ? 0 : -1;
}

static int read_item(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	if (!*text || strlen(text) > VC_PATH_MAX)
		return vc_error_set(err, VC_EUSER, "%s: an item is empty or has more than %d bytes", o->name, VC_PATH_MAX);
	return strv_add(member(conf, o), text) < 0 ? vc_error_errno(err, "%s", o->name) : 0;
}

static int read_hostlist(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	vc_autostrv char **names = NULL;
	if (vc_hostlist_expand(text, VC_HOSTS_MAX, &names, NULL, err) < 0)
		return vc_error_wrap(err, "%s", o->name);
	return read_item(conf, o, text, err);
}

// Bytes a second, kept in KiB.
static int read_rate(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	uint64_t bytes = 0;
	if (vc_parse_size(o->name, text, 1, o->max << 10, &bytes, err) < 0)
		return -1;
	*(uint64_t *)member(conf, o) = bytes >> 10;
	return 0;
}

static int read_dir_item(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	if (*text != '/' || strstr(text, "/../") || strstr(text, "//"))
		return vc_error_set(err, VC_EUSER, "%s: '%.200s' is not a clean absolute path", o->name, text);
	return read_item(conf, o, text, err);
}

// "NAME=ADDRESS", "NAME=ADDRESS:PORT" or "NAME=[V6]:PORT" into host; -1 when it is neither.
static int split_host(const char *text, struct conf_host *host, struct vc_error *err)
{
	const char *addr = strchr(text, '=');
	if (!addr || addr == text || addr - text > VC_HOSTNAME_MAX)
		return vc_error_set(err, VC_EUSER, "hosts: '%.100s' is not NAME=ADDRESS[:PORT]", text);
	if (!vc_is_utf8(text))
		return vc_error_set(err, VC_EUSER, "hosts: '%.100s' is not UTF-8", text);
	const char *v6_end = *++addr == '[' ? strchr(addr, ']') : NULL;
	const char *colon = v6_end ? (v6_end[1] ? v6_end + 1 : NULL) : strchr(addr, ':');
	if (colon && !v6_end && strchr(colon + 1, ':'))
		colon = NULL; // a bare IPv6 address
	const char *end = v6_end ? v6_end : colon ? colon : addr + strlen(addr);
	addr += v6_end != NULL;
	if (end == addr || (colon && *colon != ':'))
		return vc_error_set(err, VC_EUSER, "hosts: '%.100s' is not NAME=ADDRESS[:PORT]", text);
	if (colon && vc_parse_int("hosts: port", colon + 1, 1, 65535, &host->port, err) < 0)
		return -1;
	host->name = strndup(text, (size_t)(strchr(text, '=') - text));
	host->addr = strndup(addr, (size_t)(end - addr));
	return host->name && host->addr ? 0 : vc_error_errno(err, "hosts");
}

static int read_host(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	(void)o;
	struct conf_host *grown = reallocarray(conf->hosts, conf->n_hosts + 1, sizeof(*grown));
	if (!grown)
		return vc_error_errno(err, "hosts");
	conf->hosts = grown;
	struct conf_host host = {0};
	if (split_host(text, &host, err) < 0) {
		free(host.name);
		free(host.addr);
		return -1;
	}
	conf->hosts[conf->n_hosts++] = host;
	return 0;
}

// "NAME", or "OWNER/NAME", which is kept as "UID/NAME": images know their owners by number.
static int read_trusted(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	const char *slash = strchr(text, '/');
	uid_t uid = 0;
	if (!slash)
		return read_item(conf, o, text, err);
	vc_autofree char *owner = strndup(text, (size_t)(slash - text)), *item = NULL;
	if (!owner)
		return vc_error_errno(err, "%s", o->name);
	if (vc_user_find(o->name, owner, &uid, err) < 0)
		return -1;
	if (asprintf(&item, "%lu%s", (unsigned long)uid, slash) < 0) {
		item = NULL;
		return vc_error_errno(err, "%s", o->name);
	}
	return read_item(conf, o, item, err);
}

static int read_slurm_user(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	conf->slurm_uid = 0;
	if (vc_user_find(o->name, text, &conf->slurm_uid, err) < 0 && strcmp(text, o->def) != 0)
		return -1; // the default user may be absent where Slurm is not installed: then root alone is SlurmUser
	return read_text(conf, o, text, err);
}

static int read_admin_user(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	uid_t uid = 0;
	if (vc_user_find(o->name, text, &uid, err) < 0)
		return -1;
	uid_t *grown = reallocarray(conf->admin_uids, conf->n_admin_uids + 1, sizeof(*grown));
	if (!grown)
		return vc_error_errno(err, "%s", o->name);
	conf->admin_uids = grown;
	conf->admin_uids[conf->n_admin_uids++] = uid;
	return 0;
}

static int read_admin_group(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	uint64_t number = 0;
	const struct group *gr = getgrnam(text);
	if (!gr && vc_parse_u64(o->name, text, 0, UINT32_MAX - 1, &number, NULL) < 0)
		return vc_error_set(err, VC_EUSER, "%s: there is no group '%.100s' on this host", o->name, text);
	gid_t *grown = reallocarray(conf->admin_gids, conf->n_admin_gids + 1, sizeof(*grown));
	if (!grown)
		return vc_error_errno(err, "%s", o->name);
	conf->admin_gids = grown;
	conf->admin_gids[conf->n_admin_gids++] = gr ? gr->gr_gid : (gid_t)number;
	return 0;
}

static int read_network(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	const char *slash = strchr(text, '/');
	struct in_addr addr;
	int prefix = 0;
	if (!slash || (size_t)(slash - text) >= sizeof(conf->network))
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is not an IPv4 network as 10.42.0.0/16", o->name, text);
	if (vc_parse_int("network: prefix", slash + 1, 8, 28, &prefix, err) < 0)
		return -1;
	memset(conf->network, 0, sizeof(conf->network));
	memcpy(conf->network, text, (size_t)(slash - text));
	if (inet_pton(AF_INET, conf->network, &addr) != 1 || ntohl(addr.s_addr) & (UINT32_MAX >> prefix))
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is not a network's first address", o->name, text);
	conf->network_prefix = (uint32_t)prefix;
	return 0;
}

static int read_vni_range(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	const char *dash = strchr(text, '-');
	int min = 0, max = 0;
	vc_autofree char *first = dash ? strndup(text, (size_t)(dash - text)) : NULL;
	if (!first)
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is not FIRST-LAST", o->name, text);
	if (vc_parse_int(o->name, first, 1, 0xffffff, &min, err) < 0 ||
	    vc_parse_int(o->name, dash + 1, min, 0xffffff, &max, err) < 0)
		return -1;
	conf->vni_min = (uint32_t)min;
	conf->vni_max = (uint32_t)max;
	return 0;
}

struct choice {
	const char *name;
	int value;
};

static int read_choice(const struct choice *choices, size_t n, const struct option *o, const char *text, int *ret,
		       struct vc_error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(choices[i].name, text) == 0) {
			*ret = choices[i].value;
			return 0;
		}
	}
	return vc_error_set(err, VC_EUSER, "%s: '%.64s' is not one of its values, such as %s", o->name, text, choices[0].name);
}

static int read_hypervisor(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	static const struct choice choices[] = {{"auto", CONF_HV_AUTO}, {"kvm", CONF_HV_KVM}, {"tcg", CONF_HV_TCG}};
	int value = 0;
	if (read_choice(choices, VC_ARRAY_LEN(choices), o, text, &value, err) < 0)
		return -1;
	conf->hypervisor = (enum conf_hypervisor)value;
	return 0;
}

static int read_guest_link(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	static const struct choice choices[] = {{"auto", CONF_LINK_AUTO}, {"virtio-serial", CONF_LINK_SERIAL}};
	int value = 0;
	if (read_choice(choices, VC_ARRAY_LEN(choices), o, text, &value, err) < 0)
		return -1;
	conf->guest_link = (enum conf_link)value;
	return 0;
}

static int read_fencing(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	static const struct choice choices[] = {
		{"mark", CONF_FENCE_MARK}, {"suspend", CONF_FENCE_SUSPEND}, {"destroy", CONF_FENCE_DESTROY}};
	int value = 0;
	if (read_choice(choices, VC_ARRAY_LEN(choices), o, text, &value, err) < 0)
		return -1;
	conf->fencing = (enum conf_fencing)value;
	return 0;
}

static int read_yes_no(bool *ret, const struct option *o, const char *text, struct vc_error *err)
{
	static const struct choice choices[] = {{"no", 0}, {"yes", 1}};
	int value = 0;
	if (read_choice(choices, VC_ARRAY_LEN(choices), o, text, &value, err) < 0)
		return -1;
	*ret = value;
	return 0;
}

static int read_report_dead(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	return read_yes_no(&conf->report_dead, o, text, err);
}

static int read_drain(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	return read_yes_no(&conf->drain_evacuates, o, text, err);
}

static int read_log_level(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	if (vc_log_level_from_name(text, &conf->log_level) < 0)
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is not error, warning, notice, info or debug", o->name, text);
	return 0;
}

static int read_log_sink(struct conf *conf, const struct option *o, const char *text, struct vc_error *err)
{
	const struct choice choices[] = {
		{"auto", getenv("JOURNAL_STREAM") ? VC_LOG_JOURNAL : VC_LOG_STDERR},
		{"stderr", VC_LOG_STDERR},
		{"syslog", VC_LOG_SYSLOG},
		{"journal", VC_LOG_JOURNAL},
	};
	int value = 0;
	if (read_choice(choices, VC_ARRAY_LEN(choices), o, text, &value, err) < 0)
		return -1;
	conf->log_sink = (enum vc_log_sink)value;
	return 0;
}

// --- the table; man/vcd.conf.5 says what each is for ---

#define AT(field) offsetof(struct conf, field)
#define TEXT(key, field, text) {.name = key, .read = read_text, .offset = AT(field), .def = text}
#define TEXT_START(key, field, text) {.name = key, .read = read_text, .offset = AT(field), .def = text, .start = true}
#define PATH(key, field, text) {.name = key, .read = read_path, .offset = AT(field), .def = text}
#define PATH_START(key, field, text) {.name = key, .read = read_path, .offset = AT(field), .def = text, .start = true}
#define NUMBER(key, field, text, lo, hi) \
	{.name = key, .read = read_u32, .offset = AT(field), .def = text, .min = lo, .max = hi}
#define NUMBER_START(key, field, text, lo, hi) \
	{.name = key, .read = read_u32, .offset = AT(field), .def = text, .min = lo, .max = hi, .start = true}
#define DURATION(key, field, text, lo) {.name = key, .read = read_duration, .offset = AT(field), .def = text, .min = lo}
#define MIB(key, field, text, lo, hi) \
	{.name = key, .read = read_mib, .offset = AT(field), .def = text, .min = lo, .max = hi}
#define LIST(key, reader, field, text) {.name = key, .read = reader, .offset = AT(field), .def = text, .list = true}
#define OWN(key, reader, text) {.name = key, .read = reader, .def = text}

static const struct option options[] = {
	{.name = "controller", .read = read_item, .offset = AT(controllers), .def = "{}", .list = true, .start = true},
	{.name = "host-name", .read = read_host_name, .offset = AT(host_name), .def = "", .start = true},
	TEXT("cluster-name", cluster_name, ""),
	TEXT_START("listen", listen, ""),
	NUMBER_START("port", port, "6826", 0, 65535), // VC_DEFAULT_PORT; 0: any free one, for tests
	LIST("hosts", read_host, hosts, "{}"),
	TEXT("underlay", underlay, ""),
	PATH_START("run-dir", run_dir, VC_RUN_DIR),
	PATH_START("state-dir", state_dir, VC_LOCALSTATEDIR "/lib/vcluster"),
	PATH_START("image-dir", image_dir, VC_LOCALSTATEDIR "/lib/vcluster/images"),
	PATH_START("munge-socket", munge_socket, ""),
	PATH("kernel", kernel, ""),
	PATH("guestd", guestd, VC_LIBEXECDIR "/vcguestd"),
	{.name = "slurm-user", .read = read_slurm_user, .offset = AT(slurm_user), .def = "slurm"},
	LIST("admin-users", read_admin_user, admin_uids, "{}"),
	LIST("admin-groups", read_admin_group, admin_gids, "{}"),
	TEXT("libvirt-uri", libvirt_uri, "qemu:///system"),
	OWN("hypervisor", read_hypervisor, "auto"),
	{.name = "guest-link", .read = read_guest_link, .def = "auto", .start = true},
	OWN("fencing", read_fencing, "mark"),
	PATH("view-hook", view_hook, ""),
	OWN("report-dead-hosts", read_report_dead, "no"),
	OWN("drain-evacuates", read_drain, "no"),
	TEXT("qemu-user", qemu_user, ""),
	MIB("overhead-mem", overhead_mib, "96M", 0, 1u << 20), // a 192 MiB guest under TCG held 280 MB when measured
	NUMBER("overhead-percent", overhead_percent, "2", 0, 100),
	DURATION("boot-timeout", boot_timeout_ms, "5m", 1000),	     // TCG on a loaded host needs tens of seconds
	DURATION("ensure-timeout", ensure_timeout_ms, "30m", 1000),  // fetching a large image over a slow network included
	DURATION("release-timeout", release_timeout_ms, "2m", 1000), // domains are destroyed, not shut down
	DURATION("libvirt-timeout", libvirt_timeout_ms, "60s", 1000), // defining and starting take under a second
	NUMBER_START("hv-threads", hv_threads, "4", 1, 64),
	NUMBER_START("work-threads", work_threads, "4", 1, 64),
	DURATION("task-grace", task_grace_ms, "30s", 0), // as Slurm's KillWait
	LIST("mount-allow", read_dir_item, mount_allow, "{}"),
	LIST("trusted-images", read_trusted, trusted_images, "{}"),
	LIST("env-filter", read_item, env_filter,
	     "{'SPANK_*', 'SLURM_SPANK_*', 'LD_PRELOAD', 'LD_AUDIT', 'DBUS_*', 'XDG_RUNTIME_DIR', 'SSH_*', 'DISPLAY', "
	     "'WAYLAND_DISPLAY', 'XAUTHORITY', 'KRB5CCNAME', 'MAIL', 'INVOCATION_ID', 'JOURNAL_STREAM', 'NOTIFY_SOCKET'}"),
	OWN("network", read_network, "10.42.0.0/16"),
	OWN("vni-range", read_vni_range, "4096-65535"), // below 4096 sites number their own segments like VLANs
	NUMBER("mtu", mtu, "0", 0, 9000),
	NUMBER("vxlan-port", vxlan_port, "4789", 1, 65535), // IANA's
	TEXT("mirror", mirror, "http://deb.debian.org/debian"),
	TEXT("mirror-proxy", mirror_proxy, ""),
	LIST("image-build-hosts", read_item, build_hosts, "{}"),
	DURATION("image-build-timeout", build_timeout_ms, "60m", 1000),
	MIB("image-build-mem", build_mem_mib, "4G", 64, 1u << 20),
	MIB("image-max-size", image_max_mib, "64G", 16, 1u << 24),
	MIB("image-cache-size", image_cache_mib, "32G", 0, 1u << 30),
	NUMBER("image-build-jobs", build_jobs, "2", 1, 64),
	NUMBER("image-build-jobs-per-user", build_jobs_per_user, "1", 1, 64),
	MIB("image-host-space-per-user", image_host_user_mib, "128G", 1, 1u << 24),
	LIST("elastic-params", read_item, elastic_params, "{}"),
	LIST("topology", read_hostlist, topology, "{}"),
	{.name = "image-min-rate", .read = read_rate, .offset = AT(image_min_kib), .def = "1M", .max = 1u << 30}, // a hundredth of a slow wire
	MIB("image-space-per-user", image_user_mib, "256G", 1, 1u << 24),
	NUMBER("peer-queue", peer_queue, "1024", 1, 65536),
	NUMBER("max-clients", max_clients, "4096", 1, 65536), // a host's tasks each hold one connection
	NUMBER("max-clients-per-user", max_clients_per_user, "1024", 1, 65536),
	OWN("log-level", read_log_level, "info"),
	{.name = "log-sink", .read = read_log_sink, .def = "auto", .start = true},
};
#define N_OPTIONS VC_ARRAY_LEN(options)

// --- parsing ---

struct parse_state {
	const char *path;
	struct conf *scratch; // takes what validation reads
	struct vc_error *err;
	bool failed; // the first message counts
};

static _Thread_local struct parse_state *current;

static void __attribute__((format(printf, 2, 0))) on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
	if (!current || current->failed)
		return;
	current->failed = true;
	vc_error_vset(current->err, VC_EUSER, fmt, ap);
	vc_error_wrap(current->err, "%s:%d", current->path, cfg ? cfg->line : 0);
}

static const struct option *find_option(const char *name)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

static int validate(cfg_t *cfg, cfg_opt_t *opt)
{
	const struct option *o = find_option(cfg_opt_name(opt));
	unsigned n = cfg_opt_size(opt);
	const char *text = n ? cfg_opt_getnstr(opt, n - 1) : NULL;
	struct vc_error err = VC_ERROR_INIT;
	if (!o || !text)
		return 0;
	if (n > LIST_MAX)
		vc_error_set(&err, VC_EUSER, "%s: more than %d items", o->name, LIST_MAX);
	if (n <= LIST_MAX && o->read(current->scratch, o, text, &err) == 0)
		return 0;
	cfg_error(cfg, "%s", err.text);
	return -1;
}

static void fill_opts(cfg_opt_t opts[N_OPTIONS + 1])
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		char *def = (char *)(uintptr_t)options[i].def; // libconfuse copies it, but does not say so
		cfg_opt_t text = CFG_STR(options[i].name, def, CFGF_NONE);
		cfg_opt_t list = CFG_STR_LIST(options[i].name, def, CFGF_NONE);
		opts[i] = options[i].list ? list : text;
	}
	opts[N_OPTIONS] = (cfg_opt_t)CFG_END();
}

static int read_all(struct conf *conf, cfg_t *cfg, struct vc_error *err)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		for (unsigned k = 0; k < cfg_size(cfg, options[i].name); k++) {
			if (options[i].read(conf, &options[i], cfg_getnstr(cfg, options[i].name, k), err) < 0)
				return -1;
		}
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct conf_host *)a)->name, ((const struct conf_host *)b)->name);
}

// What only makes sense together.
static int check_together(struct conf *conf, struct vc_error *err)
{
	for (size_t i = 0; i < conf->n_hosts; i++) {
		if (!conf->hosts[i].port)
			conf->hosts[i].port = conf->port ? conf->port : VC_DEFAULT_PORT;
	}
	if (conf->n_hosts)
		qsort(conf->hosts, conf->n_hosts, sizeof(*conf->hosts), by_name);
	for (char **c = conf->controllers; c && *c; c++) {
		if (strlen(*c) > VC_HOSTNAME_MAX)
			return vc_error_set(err, VC_EUSER, "controller: '%.32s...' is too long", *c);
	}
	if (conf->controllers && conf->controllers[0])
		return 0;
	return strv_add(&conf->controllers, conf->host_name) < 0 ? vc_error_errno(err, "controller") : 0;
}

static int parse_file(cfg_t *cfg, const char *path, struct vc_error *err)
{
	if (access(path, R_OK) < 0)
		return vc_error_errno(err, "%s", path);
	vc_autofree struct conf *scratch = calloc(1, sizeof(*scratch));
	if (!scratch)
		return vc_error_errno(err, "%s", path);
	struct vc_error first = VC_ERROR_INIT;
	struct parse_state ps = {.path = path, .scratch = scratch, .err = &first};
	current = &ps;
	int rc = cfg_parse(cfg, path);
	current = NULL;
	conf_destroy(vc_steal(&scratch));
	if (rc == CFG_SUCCESS && !ps.failed)
		return 0;
	return vc_error_set(err, VC_EUSER, "%s", ps.failed ? first.text : path);
}

static struct conf *conf_parse(const char *path, struct vc_error *err)
{
	cfg_opt_t opts[N_OPTIONS + 1];
	fill_opts(opts);
	cfg_t *cfg = cfg_init(opts, CFGF_NONE);
	struct conf *conf = calloc(1, sizeof(*conf));
	int rc = cfg && conf ? 0 : vc_error_set(err, ENOMEM, "vcd.conf: out of memory");
	if (rc == 0) {
		cfg_set_error_function(cfg, on_error);
		for (size_t i = 0; i < N_OPTIONS; i++)
			cfg_set_validate_func(cfg, options[i].name, validate);
		conf->file = strdup(path ? path : "");
		if ((path && parse_file(cfg, path, err) < 0) || read_all(conf, cfg, err) < 0 ||
		    check_together(conf, err) < 0)
			rc = -1;
	}
	if (cfg)
		cfg_free(cfg);
	if (rc == 0)
		return conf;
	conf_destroy(conf);
	return NULL;
}

struct conf *conf_load(const char *path, struct vc_error *err)
{
	return conf_parse(path, err);
}

struct conf *conf_default(struct vc_error *err)
{
	return conf_parse(NULL, err);
}

void conf_destroy(struct conf *conf)
{
	if (!conf)
		return;
	int saved = errno;
	for (size_t i = 0; i < N_OPTIONS; i++) {
		const struct option *o = &options[i];
		bool text = o->read == read_text || o->read == read_path || o->read == read_host_name ||
			    o->read == read_slurm_user;
		if (text)
			free(*(char **)member(conf, o));
		else if (o->read == read_item || o->read == read_dir_item || o->read == read_trusted)
			vc_strv_free(*(char ***)member(conf, o));
	}
	for (size_t i = 0; i < conf->n_hosts; i++) {
		free(conf->hosts[i].name);
		free(conf->hosts[i].addr);
	}
	free(conf->hosts);
	free(conf->admin_uids);
	free(conf->admin_gids);
	free(conf->file);
	free(conf);
	errno = saved;
}

// --- questions ---

const char *conf_key(size_t i)
{
	return i < N_OPTIONS ? options[i].name : NULL;
}

static bool strv_equal(char **a, char **b)
{
	size_t i = 0;
	for (; a && b && a[i] && b[i]; i++) {
		if (strcmp(a[i], b[i]) != 0)
			return false;
	}
	return (!a || !a[i]) == (!b || !b[i]);
}

static bool option_equal(const struct conf *a, const struct conf *b, const struct option *o)
{
	const void *pa = (const char *)a + o->offset, *pb = (const char *)b + o->offset;
	if (o->read == read_log_sink)
		return a->log_sink == b->log_sink;
	if (o->read == read_guest_link)
		return a->guest_link == b->guest_link;
	if (o->list)
		return strv_equal(*(char ***)(uintptr_t)pa, *(char ***)(uintptr_t)pb);
	if (o->read == read_u32)
		return *(const uint32_t *)pa == *(const uint32_t *)pb;
	return strcmp(*(char *const *)pa, *(char *const *)pb) == 0;
}

void conf_needs_restart(const struct conf *old, const struct conf *new, char *buf, size_t len)
{
	*buf = '\0';
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (!options[i].start || option_equal(old, new, &options[i]))
			continue;
		size_t used = strlen(buf);
		snprintf(buf + used, len - used, "%s%s", used ? ", " : "", options[i].name);
	}
}

bool conf_is_controller(const struct conf *conf)
{
	return strcmp(conf->controllers[0], conf->host_name) == 0;
}

const struct conf_host *conf_find_host(const struct conf *conf, const char *name)
{
	const struct conf_host key = {.name = (char *)name};
	return conf->n_hosts ? bsearch(&key, conf->hosts, conf->n_hosts, sizeof(key), by_name) : NULL;
}

static bool in_admin_groups(const struct conf *conf, uid_t uid)
{
	const struct passwd *pw = conf->n_admin_gids ? getpwuid(uid) : NULL;
	gid_t groups[GROUPS_MAX];
	int n = GROUPS_MAX;
	if (!pw || getgrouplist(pw->pw_name, pw->pw_gid, groups, &n) < 0)
		return false;
	for (int i = 0; i < n; i++) {
		for (size_t k = 0; k < conf->n_admin_gids; k++) {
			if (groups[i] == conf->admin_gids[k])
				return true;
		}
	}
	return false;
}

bool conf_is_admin(const struct conf *conf, uid_t uid)
{
	for (size_t i = 0; i < conf->n_admin_uids; i++) {
		if (conf->admin_uids[i] == uid)
			return true;
	}
	return uid == 0 || in_admin_groups(conf, uid);
}

bool conf_image_trusted(const struct conf *conf, const char *name)
{
	for (char **p = conf->trusted_images; p && *p; p++) {
		if (strcmp(*p, name) == 0)
			return true;
	}
	return false;
}

bool conf_mount_allowed(const struct conf *conf, const char *source)
{
	if (*source != '/' || strstr(source, "/../") || strstr(source, "/./"))
		return false;
	for (char **p = conf->mount_allow; p && *p; p++) {
		size_t len = strlen(*p);
		while (len > 1 && (*p)[len - 1] == '/')
			len--;
		if (strncmp(source, *p, len) == 0 && (source[len] == '\0' || source[len] == '/' || len == 1))
			return true;
	}
	return false;
}

bool conf_env_filtered(const struct conf *conf, const char *variable)
{
	char name[256];
	size_t len = strcspn(variable, "=");
	if (len >= sizeof(name))
		return true; // no known variable has such a name
	memcpy(name, variable, len);
	name[len] = '\0';
	for (char **p = conf->env_filter; p && *p; p++) {
		if (fnmatch(*p, name, 0) == 0)
			return true;
	}
	return false;
}
