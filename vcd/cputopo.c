// SPDX-License-Identifier: GPL-2.0-or-later
// Slurm's order of a host's CPUs: see cputopo.h.
#include "vcd/cputopo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "libvc/parse.h"

static int read_id(const char *dir, uint32_t cpu, const char *name, int64_t *ret)
{
	char path[VC_PATH_MAX], text[32] = "";
	uint64_t n;
	snprintf(path, sizeof(path), "%s/cpu%" PRIu32 "/topology/%s", dir, cpu, name);
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return -1;
	text[strcspn(text, "\n")] = '\0';
	if (vc_parse_u64(name, text, 0, UINT32_MAX, &n, NULL) < 0) // -1: this machine has no such thing
		n = 0;
	*ret = (int64_t)n;
	return 0;
}

size_t cputopo_load(const char *dir, struct cputopo_cpu cpus[CPUTOPO_MAX])
{
	size_t n = 0;
	for (uint32_t cpu = 0; cpu < CPUTOPO_MAX; cpu++) {
		struct cputopo_cpu *c = &cpus[n];
		c->cpu = cpu;
		if (read_id(dir, cpu, "physical_package_id", &c->package) == 0 && read_id(dir, cpu, "core_id", &c->core) == 0)
			n++;
	}
	return n;
}

struct keyed {
	uint32_t package, core; // lowest CPU of each
	struct cputopo_cpu cpu;
};

static int compare(const void *va, const void *vb)
{
	const struct keyed *a = va, *b = vb;
	const uint32_t x[] = {a->package, a->core, a->cpu.cpu}, y[] = {b->package, b->core, b->cpu.cpu};
	for (size_t i = 0; i < VC_ARRAY_LEN(x); i++) {
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	}
	return 0;
}

static void set_keys(struct keyed *k, const struct cputopo_cpu *cpus, size_t n)
{
	k->package = k->core = k->cpu.cpu;
	for (size_t i = 0; i < n; i++) {
		if (cpus[i].package != k->cpu.package)
			continue;
		if (cpus[i].cpu < k->package)
			k->package = cpus[i].cpu;
		if (cpus[i].core == k->cpu.core && cpus[i].cpu < k->core)
			k->core = cpus[i].cpu;
	}
}

void cputopo_sort(struct cputopo_cpu *cpus, size_t n)
{
	vc_autofree struct keyed *keyed = calloc(n + 1, sizeof(*keyed));
	for (size_t i = 0; keyed && i < n; i++) {
		keyed[i].cpu = cpus[i];
		set_keys(&keyed[i], cpus, n);
	}
	if (!keyed)
		return; // the kernel's order is the best guess
	qsort(keyed, n, sizeof(*keyed), compare);
	for (size_t i = 0; i < n; i++)
		cpus[i] = keyed[i].cpu;
}
