// SPDX-License-Identifier: GPL-2.0-or-later
// The libvirt XML of one member's domain. Pure: a struct in, text out; every string is escaped.
//
// The machine is q35 with nothing that a member does not need, and its virtio devices sit directly on the root bus:
// a root port per device (libvirt's default) costs the kernel of an emulated guest a bus scan each.
#ifndef VCD_DOMXML_H
#define VCD_DOMXML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"

#define DOMXML_NS "https://slurm-vcluster.org/xmlns/member/1" // identifies our metadata element; never fetched
#define DOMXML_CHANNEL "org.vcluster.0"			       // name of the guest link's virtio-serial port
#define DOMXML_TB_CACHE_MIB 128 // translated code of an emulated guest; QEMU's own default is up to 1 GiB of host memory

enum domxml_type { DOMXML_KVM, DOMXML_TCG, DOMXML_TEST };

// Whose domain it is; travels as metadata, so that a vcd without its database still knows.
struct domxml_owner {
	const char *cluster; // 32 hex digits
	const char *slurm;
	uint32_t job, restart, rank;
	uid_t uid;
};

struct domxml_mount {
	const char *source; // host directory; virtiofs knows no read-only, so the caller mounts it so
	const char *tag;    // what the guest mounts
};

struct domxml {
	enum domxml_type type;
	const char *name;
	struct domxml_owner owner;
	uint32_t vcpus;
	uint64_t mem_mib;
	uint64_t hard_limit_mib; // of the whole QEMU process; 0: no memory cgroup here
	const uint32_t *cpus;	 // host CPUs for the vCPUs; n_cpus 0: anywhere
	size_t n_cpus;
	const char *kernel, *initrd, *cmdline;
	const char *overlay;	 // qcow2
	const char *cache;	 // QEMU's cache mode of it
	const char *tap, *mac;	 // tap NULL: no network
	uint32_t mtu;
	uint32_t vsock_cid;	 // 0: no vsock
	const char *channel;	 // unix socket of the guest link; NULL: none
	const char *console;	 // unix socket of the serial console; NULL: log only
	const char *console_log;
	const struct domxml_mount *mounts;
	size_t n_mounts;
};

// NULL with err for a string that XML cannot carry, or without memory.
char *domxml_build(const struct domxml *d, struct vc_error *err);

#endif
