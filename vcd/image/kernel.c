// SPDX-License-Identifier: GPL-2.0-or-later
// Kernel lookup and module order: see kernel.h.
#include "vcd/image/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "libvc/cleanup.h"

#define ORDER_MAX 256			// modules of one initramfs; we load near 20
#define DEPTH_MAX 32			// of dependencies; the kernel's deepest are near 10
#define INDEX_BYTES_MAX (8u << 20)	// modules.dep of a full distribution kernel has under 1 MiB

// What a guest needs, by module name with '-' and '_' alike.
static const struct wanted {
	const char *name;
	bool required;
} wanted[] = {
	{"virtio_pci", true},	  // the bus of q35 guests
	{"virtio_mmio", false},	  // the bus of microvm guests
	{"virtio_blk", true},	  // root disk
	{"virtio_net", true},	  // the cluster's network
	{"virtio_console", true}, // guest link
	{"virtio_rng", false},	  // entropy at boot
	{"overlay", false},	  // writable layers in the guest
	{"virtiofs", false},	  // --vcluster-mount
	{"vmw_vsock_virtio_transport", false}, // guest link where the host has vsock
	{"virtio_balloon", false},
};

// --- which kernel --------------------------------------------------------------------------------------------------

int kernel_compare_versions(const char *a, const char *b)
{
	return strverscmp(a, b);
}

static int fill(const char *root, const char *image, const char *version, struct kernel *ret, struct vc_error *err)
{
	struct kernel k = {.image = strdup(image), .version = strdup(version)};
	if (asprintf(&k.modules_dir, "%s/lib/modules/%s", root, version) < 0)
		k.modules_dir = NULL;
	if (k.image && k.version && k.modules_dir) {
		*ret = k;
		return 0;
	}
	kernel_clear(&k);
	return vc_error_set(err, ENOMEM, "kernel lookup: out of memory");
}

static bool has_modules(const char *root, const char *version)
{
	vc_autofree char *path = NULL;
	return asprintf(&path, "%s/lib/modules/%s/modules.dep", root, version) >= 0 && access(path, R_OK) == 0;
}

static const char *version_of(const char *image)
{
	const char *slash = strrchr(image, '/');
	const char *file = slash ? slash + 1 : image;
	return strncmp(file, "vmlinuz-", 8) == 0 && file[8] ? file + 8 : NULL;
}

static int find_newest(const char *root, struct kernel *ret, struct vc_error *err)
{
	vc_autofree char *pattern = NULL;
	glob_t found = {0};
	const char *best = NULL;
	if (asprintf(&pattern, "%s/boot/vmlinuz-*-cloud-amd64", root) < 0)
		return vc_error_set(err, ENOMEM, "kernel lookup: out of memory");
	if (glob(pattern, 0, NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			const char *path = found.gl_pathv[i];
			if (!has_modules(root, version_of(path)))
				continue;
			if (!best || kernel_compare_versions(version_of(path), version_of(best)) > 0)
				best = path;
		}
	}
	int rc = best ? fill(root, best, version_of(best), ret, err)
		      : vc_error_set(err, VC_EHOST,
				     "no kernel %s with modules: install linux-image-cloud-amd64, or set kernel in vcd.conf",
				     pattern);
	globfree(&found);
	return rc;
}

int kernel_find(const char *root, const char *image, struct kernel *ret, struct vc_error *err)
{
	if (!image)
		return find_newest(root, ret, err);
	const char *version = version_of(image);
	if (!version)
		return vc_error_set(err, VC_EHOST, "kernel '%s': the file must be called vmlinuz-VERSION", image);
	if (access(image, R_OK) < 0)
		return vc_error_errno(err, "kernel '%s'", image);
	if (!has_modules(root, version))
		return vc_error_set(err, VC_EHOST, "kernel '%s': %s/lib/modules/%s/modules.dep is missing", image, root,
				    version);
	return fill(root, image, version, ret, err);
}

void kernel_clear(struct kernel *k)
{
	free(k->image);
	free(k->version);
	free(k->modules_dir);
	*k = (struct kernel){.image = NULL};
}

// --- module order --------------------------------------------------------------------------------------------------

struct index {
	char *dep;     // text of modules.dep
	char *builtin; // text of modules.builtin; "" when it is missing
	char **order;
	size_t n;
};

static int read_index(const char *dir, const char *name, char **ret, struct vc_error *err)
{
	vc_autofree char *path = NULL, *text = NULL;
	struct stat st;
	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return vc_error_set(err, ENOMEM, "kernel modules: out of memory");
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "%s", path);
	if (st.st_size > INDEX_BYTES_MAX)
		return vc_error_set(err, VC_EHOST, "%s: more than %u bytes", path, INDEX_BYTES_MAX);
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return vc_error_set(err, ENOMEM, "kernel modules: out of memory");
	ssize_t n = read(fd, text, (size_t)st.st_size);
	if (n < 0)
		return vc_error_errno(err, "%s", path);
	text[n] = '\0';
	*ret = vc_steal(&text);
	return 0;
}

// Is the module of this path ("kernel/x/virtio-rng.ko.xz") called name ("virtio_rng")?
static bool is_called(const char *path, size_t len, const char *name)
{
	size_t start = len;
	while (start > 0 && path[start - 1] != '/')
		start--;
	const char *file = path + start;
	size_t name_len = strlen(name), rest = len - start;
	if (rest < name_len + 3 || strncmp(file + name_len, ".ko", 3) != 0)
		return false;
	for (size_t i = 0; i < name_len; i++) {
		if ((file[i] == '-' ? '_' : file[i]) != (name[i] == '-' ? '_' : name[i]))
			return false;
	}
	return true;
}

static bool is_builtin(const struct index *x, const char *name)
{
	for (const char *line = x->builtin; *line;) {
		size_t len = strcspn(line, "\n");
		if (is_called(line, len, name))
			return true;
		line += len + (line[len] == '\n');
	}
	return false;
}

// The line "path: dep dep" of a module, by name or (name NULL) by exact path.
static const char *find_line(const struct index *x, const char *name, const char *path, size_t path_len)
{
	for (const char *line = x->dep; *line;) {
		size_t len = strcspn(line, "\n"), colon = strcspn(line, ":\n");
		bool hit = name ? is_called(line, colon, name) : colon == path_len && strncmp(line, path, path_len) == 0;
		if (hit && line[colon] == ':')
			return line;
		line += len + (line[len] == '\n');
	}
	return NULL;
}

static bool is_ordered(const struct index *x, const char *path, size_t len)
{
	for (size_t i = 0; i < x->n; i++) {
		if (strlen(x->order[i]) == len && strncmp(x->order[i], path, len) == 0)
			return true;
	}
	return false;
}

// Appends the module of a line behind everything that it needs.
static int add_line(struct index *x, const char *line, int depth, struct vc_error *err)
{
	size_t path_len = strcspn(line, ":");
	if (is_ordered(x, line, path_len))
		return 0;
	if (depth == 0)
		return vc_error_set(err, VC_EHOST, "modules.dep: %.*s depends on itself", (int)path_len, line);
	for (const char *dep = line + path_len + 1; *dep && *dep != '\n';) {
		dep += strspn(dep, " ");
		size_t len = strcspn(dep, " \n");
		const char *dep_line = len ? find_line(x, NULL, dep, len) : NULL;
		if (len && !dep_line)
			return vc_error_set(err, VC_EHOST, "modules.dep: %.*s is missing", (int)len, dep);
		if (dep_line && add_line(x, dep_line, depth - 1, err) < 0)
			return -1;
		dep += len;
	}
	if (x->n == ORDER_MAX)
		return vc_error_set(err, VC_EHOST, "modules.dep: more than %d modules for one guest", ORDER_MAX);
	x->order[x->n] = strndup(line, path_len);
	return x->order[x->n++] ? 0 : vc_error_set(err, ENOMEM, "kernel modules: out of memory");
}

static int order_all(struct index *x, const char *dir, struct vc_error *err)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(wanted); i++) {
		const char *line = find_line(x, wanted[i].name, NULL, 0);
		if (!line && wanted[i].required && !is_builtin(x, wanted[i].name))
			return vc_error_set(err, VC_EHOST, "%s has no module %s", dir, wanted[i].name);
		if (line && add_line(x, line, DEPTH_MAX, err) < 0)
			return vc_error_wrap(err, "%s", dir);
	}
	return 0;
}

int kernel_module_order(const char *modules_dir, char ***ret, struct vc_error *err)
{
	vc_autofree char *dep = NULL, *builtin = NULL;
	if (read_index(modules_dir, "modules.dep", &dep, err) < 0)
		return -1;
	if (read_index(modules_dir, "modules.builtin", &builtin, NULL) < 0)
		builtin = strdup("");
	vc_autostrv char **order = calloc(ORDER_MAX + 1, sizeof(*order));
	if (!order || !builtin)
		return vc_error_set(err, ENOMEM, "kernel modules: out of memory");
	struct index x = {.dep = dep, .builtin = builtin, .order = order};
	if (order_all(&x, modules_dir, err) < 0)
		return -1;
	*ret = vc_steal(&order);
	return 0;
}
