// SPDX-License-Identifier: GPL-2.0-or-later
// Slurm's side of a site: see slurmcheck.h. Everything here runs in a worker.
#include "vcd/slurmcheck.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"
#include "vcd/check.h"
#include "vcd/conf.h"
#include "vcd/slurmctl.h"
#include "vcd/vcd.h"

#define PLUGIN_FILE_MAX (64u << 20) // bytes of a plugin's file; ours have less than one MiB
#define INCLUDE_DEPTH_MAX 4	    // of plugstack.conf's include lines
#define SPANK_PLUGIN "spank_vcluster"
#define SLURM_PLUGIN "auth_munge.so" // Slurm's own, in every installation that vcd can work with
#define SUBMIT_PLUGIN "job_submit_vcluster.so"

struct slurmcheck {
	struct slurmctl *slurmctl;
	bool controller;
	uint64_t release_timeout_ms;
};

// --- slurm.conf ---

#define BATCH_START_MIN_S 60 // of BatchStartTimeout: machines of a busy host, or an image on its way, take longer than its 10 s

static bool is_vc_prolog(const char *path)
{
	const char *slash = strrchr(path, '/');
	return strcmp(slash ? slash + 1 : path, "vc-prolog") == 0;
}

const char *slurmcheck_conf(const struct slurmctl_setup *s, unsigned i, bool *ret_is_error)
{
	const struct {
		bool found, is_error;
		const char *text;
	} all[] = {
		{!s->prolog[0], true, "slurm.conf has no PrologSlurmctld: clusters are never started"},
		{s->prolog[0] && !is_vc_prolog(s->prolog), false, "PrologSlurmctld is a program of the site's, which has to call vc-prolog"},
		{!s->epilog[0], true, "slurm.conf has no EpilogSlurmctld: clusters are released late"},
		{s->epilog[0] && !is_vc_prolog(s->epilog), false, "EpilogSlurmctld is a program of the site's, which has to call vc-prolog"},
		{!s->allocation_prolog, true, "PrologFlags of slurm.conf has neither Alloc nor Contain: hosts are not prepared before their tasks"},
		{s->batch_start_s < BATCH_START_MIN_S, false, "BatchStartTimeout of slurm.conf is shorter than a start may take: when a host "
			"registers just before the batch script is sent, slurmctld takes it for lost and requeues the job; set 300"},
	};
	for (size_t at = 0; at < VC_ARRAY_LEN(all); at++) {
		if (!all[at].found || i-- > 0)
			continue;
		*ret_is_error = all[at].is_error;
		return all[at].text;
	}
	return NULL;
}

uint32_t slurmcheck_version(const char *text)
{
	vc_autofree char *copy = strdup(text);
	uint64_t number[3] = {0};
	char *at = copy;
	for (size_t i = 0; copy && i < 3; i++) {
		char *part = strsep(&at, ".");
		if (part)
			part[strspn(part, "0123456789")] = '\0'; // 22.05.0rc1
		if (!part || vc_parse_u64("version", part, 0, 255, &number[i], NULL) < 0)
			return 0;
	}
	return copy ? (uint32_t)(number[0] << 16 | number[1] << 8 | number[2]) : 0;
}

// --- plugstack.conf ---

static int search_stack(const char *path, int depth, char **ret, struct vc_error *err);

static int search_included(const char *pattern, int depth, char **ret, struct vc_error *err)
{
	glob_t found = {0};
	int rc = 0;
	if (glob(pattern, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc && rc == 0 && !*ret; i++)
			rc = search_stack(found.gl_pathv[i], depth + 1, ret, err);
	}
	globfree(&found);
	return rc;
}

// A relative include is relative to the directory of the file that has it.
static int search_include(const char *file, const char *pattern, int depth, char **ret, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	const char *slash = strrchr(file, '/');
	int dir = pattern[0] == '/' || !slash ? 0 : (int)(slash - file) + 1;
	if (asprintf(&path, "%.*s%s", dir, file, pattern) < 0)
		return vc_error_set(err, ENOMEM, "%s: out of memory", file);
	return search_included(path, depth, ret, err);
}

static int search_line(const char *file, char *line, int depth, char **ret, struct vc_error *err)
{
	char *rest = NULL;
	line[strcspn(line, "#")] = '\0';
	const char *first = strtok_r(line, " \t\r\n", &rest), *second = first ? strtok_r(NULL, " \t\r\n", &rest) : NULL;
	if (!second)
		return 0;
	if (strcmp(first, "include") == 0)
		return depth < INCLUDE_DEPTH_MAX ? search_include(file, second, depth, ret, err) : 0;
	if (!strstr(second, SPANK_PLUGIN))
		return 0;
	*ret = strdup(second);
	return *ret ? 0 : vc_error_set(err, ENOMEM, "%s: out of memory", file);
}

static int search_stack(const char *path, int depth, char **ret, struct vc_error *err)
{
	vc_autofree char *line = NULL;
	size_t size = 0;
	int rc = 0;
	FILE *file = fopen(path, "re");
	if (!file)
		return vc_error_errno(err, "%s", path);
	while (rc == 0 && !*ret && getline(&line, &size, file) >= 0)
		rc = search_line(path, line, depth, ret, err);
	fclose(file);
	return rc;
}

int slurmcheck_find_plugin(const char *plugstack, char **ret, struct vc_error *err)
{
	*ret = NULL;
	return search_stack(plugstack, 0, ret, err);
}

// --- the version in a plugin's file ---

struct image {
	const uint8_t *data;
	size_t size;
};

static const void *image_at(const struct image *im, uint64_t offset, uint64_t len)
{
	return offset <= im->size && len <= im->size - offset ? im->data + offset : NULL;
}

static const Elf64_Shdr *section(const struct image *im, uint64_t i)
{
	const Elf64_Ehdr *head = image_at(im, 0, sizeof(*head));
	return head && i < head->e_shnum ? image_at(im, head->e_shoff + i * sizeof(Elf64_Shdr), sizeof(Elf64_Shdr)) : NULL;
}

static bool symbol_is(const struct image *im, const Elf64_Shdr *names, const Elf64_Sym *sym, const char *name)
{
	const char *text = image_at(im, names->sh_offset + sym->st_name, strlen(name) + 1);
	return text && memcmp(text, name, strlen(name) + 1) == 0;
}

static const void *symbol_data(const struct image *im, const Elf64_Sym *sym, size_t len)
{
	const Elf64_Shdr *home = section(im, sym->st_shndx);
	if (!home || sym->st_value < home->sh_addr)
		return NULL;
	return image_at(im, home->sh_offset + (sym->st_value - home->sh_addr), len);
}

static const void *find_symbol(const struct image *im, const char *name, size_t len)
{
	const Elf64_Shdr *table = NULL;
	for (uint64_t i = 0; (table = section(im, i)) && table->sh_type != SHT_DYNSYM; i++)
		;
	const Elf64_Shdr *names = table ? section(im, table->sh_link) : NULL;
	for (uint64_t at = 0; names && at + sizeof(Elf64_Sym) <= table->sh_size; at += sizeof(Elf64_Sym)) {
		const Elf64_Sym *sym = image_at(im, table->sh_offset + at, sizeof(*sym));
		if (sym && symbol_is(im, names, sym, name))
			return symbol_data(im, sym, len);
	}
	return NULL;
}

int slurmcheck_plugin_version(const char *path, uint32_t *ret, struct vc_error *err)
{
	struct stat st;
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "%s", path);
	if (st.st_size < (off_t)sizeof(Elf64_Ehdr) || st.st_size > (off_t)PLUGIN_FILE_MAX)
		return vc_error_set(err, VC_EHOST, "%s is no plugin of Slurm", path);
	struct image im = {mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0), (size_t)st.st_size};
	if (im.data == MAP_FAILED)
		return vc_error_errno(err, "%s", path);
	bool elf = memcmp(im.data, ELFMAG, SELFMAG) == 0 && im.data[EI_CLASS] == ELFCLASS64;
	const void *value = elf ? find_symbol(&im, "plugin_version", sizeof(*ret)) : NULL;
	if (value)
		memcpy(ret, value, sizeof(*ret));
	munmap((void *)im.data, im.size);
	return value ? 0 : vc_error_set(err, VC_EHOST, "%s is no plugin of Slurm", path);
}

// --- findings ---

// The file of a plugin: as it is, or in the first of Slurm's directories that has it.
static char *plugin_path(const char *dirs, const char *name)
{
	vc_autofree char *copy = strdup(dirs);
	char *rest = NULL, *path = NULL;
	if (name[0] == '/' || !copy)
		return strdup(name);
	for (char *dir = strtok_r(copy, ":", &rest); dir; dir = strtok_r(NULL, ":", &rest)) {
		free(path);
		if (asprintf(&path, "%s/%s", dir, name) < 0)
			return NULL;
		if (access(path, R_OK) == 0)
			break;
	}
	return path;
}

// mask: which part of the version has to be the same.
static void check_version(struct check_report *report, const struct slurmctl_setup *s, const char *name, uint32_t running, uint32_t mask)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char *path = plugin_path(s->plugin_dir, name);
	uint32_t built = 0;
	if (!path || slurmcheck_plugin_version(path, &built, &err) < 0)
		check_finding(report, CHECK_ERROR, "install slurm-vcluster's plugins in PluginDir of slurm.conf", "%s",
			      path ? err.text : "out of memory");
	else if ((built & mask) != (running & mask))
		check_finding(report, CHECK_ERROR, "build slurm-vcluster with the headers of this Slurm (--with-slurm), install it again",
			      "%s was built for Slurm %u.%02u.%u, here runs %u.%02u.%u", path, built >> 16, built >> 8 & 255, built & 255,
			      running >> 16, running >> 8 & 255, running & 255);
}

// The Slurm of this host, which may be older than slurmctld: what its own plugins say.
static uint32_t local_version(const struct slurmctl_setup *s)
{
	vc_autofree char *path = plugin_path(s->plugin_dir, SLURM_PLUGIN);
	uint32_t version;
	if (path && slurmcheck_plugin_version(path, &version, NULL) == 0)
		return version;
	return slurmcheck_version(s->version);
}

static void check_spank(struct check_report *report, const struct slurmctl_setup *s)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char *plugin = NULL;
	const char *stack = s->plugstack[0] ? s->plugstack : "/etc/slurm/plugstack.conf";
	if (slurmcheck_find_plugin(stack, &plugin, &err) < 0)
		check_finding(report, CHECK_ERROR, "make it, with the line 'required spank_vcluster.so'", "%s", err.text);
	else if (!plugin)
		check_finding(report, CHECK_ERROR, "add the line 'required spank_vcluster.so', restart slurmd",
			      "%s does not have the plugin " SPANK_PLUGIN, stack);
	else
		check_version(report, s, plugin, local_version(s), 0xffff00); // SPANK's interface is that of a release
}

static void check_submit(struct check_report *report, const struct slurmctl_setup *s)
{
	if (strstr(s->job_submit, "vcluster"))
		check_version(report, s, SUBMIT_PLUGIN, slurmcheck_version(s->version), 0xffffff);
	else
		check_finding(report, CHECK_INFO, "optional: JobSubmitPlugins=vcluster refuses wrong options at once for every client",
			      "slurmctld does not use job_submit_vcluster");
}

static void check_slurm(struct check_report *report, void *ctx)
{
	const struct slurmcheck *sc = ctx;
	struct vc_error err = VC_ERROR_INIT;
	struct slurmctl_setup setup;
	bool is_error;
	const char *text;
	if (slurmctl_load_setup(sc->slurmctl, &setup, &err) < 0) {
		check_finding(report, CHECK_ERROR, "start slurmctld; see that this host has slurm.conf", "%s", err.text);
		return;
	}
	for (unsigned i = 0; sc->controller && (text = slurmcheck_conf(&setup, i, &is_error)); i++)
		check_finding(report, is_error ? CHECK_ERROR : CHECK_INFO,
			      "see spank_vcluster(8) and vc-prolog(8); restart slurmctld after a change of slurm.conf", "%s", text);
	if (sc->controller && setup.kill_wait_s * 1000ull >= sc->release_timeout_ms)
		check_finding(report, CHECK_WARNING, "make release-timeout of vcd.conf longer, restart vcd",
			      "KillWait of slurm.conf is %u s, release-timeout is not longer: machines end before their job's tasks", setup.kill_wait_s);
	if (sc->controller)
		check_submit(report, &setup);
	if (check_is_compute(report))
		check_spank(report, &setup);
	slurmctl_setup_clear(&setup);
}

int slurmcheck_nodes(const struct slurmcheck *sc, char ***ret, struct vc_error *err)
{
	return slurmctl_list_nodes(sc->slurmctl, ret, err);
}

int slurmcheck_queue(const struct slurmcheck *sc, struct slurmctl_queue *queue, struct vc_error *err)
{
	return slurmctl_load_queue(sc->slurmctl, queue, err);
}

static int list_nodes(void *ctx, char ***ret, struct vc_error *err)
{
	return slurmcheck_nodes(ctx, ret, err);
}

struct slurmcheck *slurmcheck_create(struct vcd *vcd, struct vc_error *err)
{
	struct slurmcheck *sc = calloc(1, sizeof(*sc));
	if (!sc) {
		vc_error_errno(err, "checks of Slurm");
		return NULL;
	}
	sc->controller = vcd->controller;
	sc->release_timeout_ms = vcd->conf->release_timeout_ms;
	sc->slurmctl = slurmctl_create(err);
	if (!sc->slurmctl || check_register(vcd->check, "slurm", CHECK_IN_WORKER, check_slurm, sc, err) < 0) {
		slurmcheck_destroy(sc);
		return NULL;
	}
	check_set_hosts(vcd->check, list_nodes, sc);
	return sc;
}

void slurmcheck_destroy(struct slurmcheck *sc)
{
	if (!sc)
		return;
	slurmctl_destroy(sc->slurmctl);
	free(sc);
}
