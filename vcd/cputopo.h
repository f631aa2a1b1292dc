// SPDX-License-Identifier: GPL-2.0-or-later
// Slurm's numbers of a host's CPUs, which count sockets, in each its cores, in each its threads, and the kernel's, which
// count as the firmware lists them. CPU_IDs of a job are Slurm's; what is pinned needs the kernel's.
//
// No state; reads sysfs. A host whose topology cannot be read keeps its numbers.
#ifndef VCD_CPUTOPO_H
#define VCD_CPUTOPO_H

#include <stddef.h>
#include <stdint.h>

#define CPUTOPO_DIR "/sys/devices/system/cpu"
#define CPUTOPO_MAX 1024 // CPUs of a host, as PLAN_CPUS_MAX

struct cputopo_cpu {
	uint32_t cpu; // the kernel's number
	int64_t package, core;
};

// The CPUs of a host in the kernel's order; 0: unknown.
size_t cputopo_load(const char *dir, struct cputopo_cpu cpus[CPUTOPO_MAX]);
// Pure: into Slurm's order. Packages and cores come as their lowest CPU does.
void cputopo_sort(struct cputopo_cpu *cpus, size_t n);

#endif
