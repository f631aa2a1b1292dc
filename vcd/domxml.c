// SPDX-License-Identifier: GPL-2.0-or-later
// Domain XML: see domxml.h. One function per part of the machine, in the order libvirt's documentation has them.
#include "vcd/domxml.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "libvc/cleanup.h"

// PCI slots on the root bus; 0x00 and 0x1f are q35's own.
enum slot { SLOT_DISK = 2, SLOT_NET, SLOT_SERIAL, SLOT_RNG, SLOT_BALLOON, SLOT_MOUNT_FIRST, SLOT_VSOCK = 0x1e };

struct writer {
	FILE *out;
	const char *bad; // the first string that cannot be carried
};

static const char *entity(char c)
{
	switch (c) {
	case '&': return "&amp;";
	case '<': return "&lt;";
	case '>': return "&gt;";
	case '"': return "&quot;";
	case '\'': return "&apos;";
	default: return NULL;
	}
}

static void escaped(struct writer *w, const char *s)
{
	for (const char *p = s; *p; p++) {
		const char *e = entity(*p);
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			w->bad = w->bad ? w->bad : s;
		else if (e)
			fputs(e, w->out);
		else
			fputc(*p, w->out);
	}
}

// As printf with %s (escaped), %u (uint32_t) and %U (uint64_t) only.
static void put(struct writer *w, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	for (const char *p = fmt; *p; p++) {
		if (*p != '%') {
			fputc(*p, w->out);
			continue;
		}
		p++;
		if (*p == 's')
			escaped(w, va_arg(ap, const char *));
		else if (*p == 'u')
			fprintf(w->out, "%" PRIu32, va_arg(ap, uint32_t));
		else
			fprintf(w->out, "%" PRIu64, va_arg(ap, uint64_t));
	}
	va_end(ap);
}

static void put_slot(struct writer *w, uint32_t slot)
{
	put(w, "      <address type='pci' domain='0' bus='0' slot='%u' function='0'/>\n", slot);
}

static void put_owner(struct writer *w, const struct domxml_owner *o)
{
	put(w, "  <metadata>\n");
	put(w, "    <vcluster:member xmlns:vcluster='%s' cluster='%s' slurm='%s' job='%u' restart='%u' rank='%u' uid='%u'/>\n",
	    DOMXML_NS, o->cluster, o->slurm, o->job, o->restart, o->rank, (uint32_t)o->uid);
	put(w, "  </metadata>\n");
}

// The same on every host: a machine that migrates keeps its own. 96 random bits of the cluster's id, and the rank.
static void put_uuid(struct writer *w, const struct domxml_owner *o)
{
	if (strlen(o->cluster) == 32)
		fprintf(w->out, "  <uuid>%.8s-%.4s-%.4s-%.4s-%.4s%08" PRIx32 "</uuid>\n", o->cluster, o->cluster + 8, o->cluster + 12,
			o->cluster + 16, o->cluster + 20, o->rank);
}

static void put_memory(struct writer *w, const struct domxml *d)
{
	put(w, "  <memory unit='MiB'>%U</memory>\n", d->mem_mib);
	if (d->hard_limit_mib)
		put(w, "  <memtune>\n    <hard_limit unit='MiB'>%U</hard_limit>\n  </memtune>\n", d->hard_limit_mib);
	if (d->n_mounts)
		put(w, "  <memoryBacking>\n    <source type='memfd'/>\n    <access mode='shared'/>\n  </memoryBacking>\n");
}

// QEMU before 9.0 loses writes of an emulated machine while it migrates, where the size of its memory is a multiple of
// 256 KiB: only then it clears dirty bits 64 at a time, and leaves the emulator's own table of clean pages as it is
// (commit 03bfc2188f06, "physmem: Fix migration dirty bitmap coherency with TCG memory access"; not in Debian 12's 7.2).
// libvirt rounds up to whole MiB, so QEMU is given a memory that is a little smaller beside it.
static void put_odd_memory(struct writer *w, const struct domxml *d)
{
	uint64_t kib = d->mem_mib * 1024 - 8;
	if (d->type != DOMXML_TCG || d->n_mounts) // a machine with mounts does not migrate
		return;
	put(w, "  <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n");
	put(w, "    <qemu:arg value='-object'/>\n    <qemu:arg value='memory-backend-ram,id=vc.ram,size=%Uk'/>\n", kib);
	put(w, "    <qemu:arg value='-machine'/>\n    <qemu:arg value='memory-backend=vc.ram'/>\n");
	put(w, "    <qemu:arg value='-m'/>\n    <qemu:arg value='%Uk'/>\n  </qemu:commandline>\n", kib);
}

static void put_cpu_list(struct writer *w, const uint32_t *cpus, size_t n)
{
	for (size_t i = 0; i < n; i++)
		put(w, i ? ",%u" : "%u", cpus[i]);
}

// One vCPU per CPU where there are enough, all of them on all otherwise.
static void put_cpus(struct writer *w, const struct domxml *d)
{
	bool each = d->n_cpus >= d->vcpus;
	put(w, "  <vcpu>%u</vcpu>\n", d->vcpus);
	if (!d->n_cpus)
		return;
	put(w, "  <cputune>\n");
	for (uint32_t i = 0; i < d->vcpus; i++) {
		put(w, "    <vcpupin vcpu='%u' cpuset='", i);
		put_cpu_list(w, each ? d->cpus + i : d->cpus, each ? 1 : d->n_cpus);
		put(w, "'/>\n");
	}
	put(w, "    <emulatorpin cpuset='");
	put_cpu_list(w, d->cpus, d->n_cpus);
	put(w, "'/>\n  </cputune>\n");
}

static void put_os(struct writer *w, const struct domxml *d)
{
	put(w, "  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n");
	put(w, "    <kernel>%s</kernel>\n", d->kernel);
	if (d->initrd)
		put(w, "    <initrd>%s</initrd>\n", d->initrd);
	put(w, "    <cmdline>%s</cmdline>\n  </os>\n", d->cmdline);
}

static void put_machine(struct writer *w, const struct domxml *d)
{
	put(w, "  <features>\n    <acpi/>\n    <apic/>\n    <vmport state='off'/>\n    <smm state='off'/>\n");
	if (d->type == DOMXML_TCG)
		put(w, "    <tcg>\n      <tb-cache unit='MiB'>%u</tb-cache>\n    </tcg>\n", (uint32_t)DOMXML_TB_CACHE_MIB);
	put(w, "  </features>\n");
	// With erms a guest's kernel copies and clears memory by `rep movsb`, which TCG emulates byte by byte: without it
	// the guest link carries four times as much.
	put(w, d->type == DOMXML_TCG ? "  <cpu mode='maximum'>\n    <feature policy='disable' name='erms'/>\n  </cpu>\n"
				     : "  <cpu mode='host-passthrough'/>\n");
	put(w, "  <clock offset='utc'/>\n");
	// A member that stops is an event to be reported, never something that starts again by itself.
	put(w, "  <on_poweroff>destroy</on_poweroff>\n  <on_reboot>destroy</on_reboot>\n  <on_crash>destroy</on_crash>\n");
}

static void put_disk(struct writer *w, const struct domxml *d)
{
	if (!d->overlay)
		return;
	put(w, "    <disk type='file' device='disk'>\n");
	put(w, "      <driver name='qemu' type='qcow2' cache='%s' discard='unmap'/>\n", d->cache);
	put(w, "      <source file='%s'/>\n      <target dev='vda' bus='virtio'/>\n", d->overlay);
	put_slot(w, SLOT_DISK);
	put(w, "    </disk>\n");
}

static void put_net(struct writer *w, const struct domxml *d)
{
	if (!d->tap)
		return;
	put(w, "    <interface type='ethernet'>\n      <mac address='%s'/>\n", d->mac);
	put(w, "      <target dev='%s' managed='no'/>\n      <model type='virtio'/>\n", d->tap);
	put(w, "      <mtu size='%u'/>\n      <rom enabled='no'/>\n", d->mtu);
	put_slot(w, SLOT_NET);
	put(w, "    </interface>\n");
}

static void put_channel(struct writer *w, const struct domxml *d)
{
	put(w, "    <controller type='virtio-serial' index='0'>\n");
	put_slot(w, SLOT_SERIAL);
	put(w, "    </controller>\n");
	if (!d->channel)
		return;
	put(w, "    <channel type='unix'>\n      <source mode='bind' path='%s'/>\n", d->channel);
	put(w, "      <target type='virtio' name='%s'/>\n    </channel>\n", DOMXML_CHANNEL);
}

static void put_vsock(struct writer *w, const struct domxml *d)
{
	if (!d->vsock_cid)
		return;
	put(w, "    <vsock model='virtio'>\n      <cid auto='no' address='%u'/>\n", d->vsock_cid);
	put_slot(w, SLOT_VSOCK);
	put(w, "    </vsock>\n");
}

static void put_console(struct writer *w, const struct domxml *d)
{
	if (d->console) {
		put(w, "    <serial type='unix'>\n      <source mode='bind' path='%s'/>\n", d->console);
		put(w, "      <log file='%s' append='on'/>\n", d->console_log);
	} else {
		put(w, "    <serial type='file'>\n      <source path='%s'/>\n", d->console_log);
	}
	put(w, "      <target type='isa-serial' port='0'/>\n    </serial>\n");
}

static void put_mounts(struct writer *w, const struct domxml *d)
{
	for (size_t i = 0; i < d->n_mounts; i++) {
		const struct domxml_mount *m = &d->mounts[i];
		put(w, "    <filesystem type='mount' accessmode='passthrough'>\n      <driver type='virtiofs'/>\n");
		put(w, "      <source dir='%s'/>\n      <target dir='%s'/>\n", m->source, m->tag);
		put_slot(w, SLOT_MOUNT_FIRST + (uint32_t)i);
		put(w, "    </filesystem>\n");
	}
}

static void put_small_devices(struct writer *w)
{
	put(w, "    <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n");
	put_slot(w, SLOT_RNG);
	put(w, "    </rng>\n    <memballoon model='virtio' autodeflate='on'>\n");
	put_slot(w, SLOT_BALLOON);
	put(w, "    </memballoon>\n    <panic model='isa'/>\n");
}

static void put_devices(struct writer *w, const struct domxml *d)
{
	put(w, "  <devices>\n    <controller type='usb' model='none'/>\n");
	put(w, "    <controller type='pci' index='0' model='pcie-root'/>\n");
	put_disk(w, d);
	put_net(w, d);
	put_channel(w, d);
	put_console(w, d);
	put_mounts(w, d);
	put_vsock(w, d);
	put_small_devices(w);
	put(w, "  </devices>\n");
}

char *domxml_build(const struct domxml *d, struct vc_error *err)
{
	static const char *const types[] = {[DOMXML_KVM] = "kvm", [DOMXML_TCG] = "qemu", [DOMXML_TEST] = "test"};
	vc_autofree char *text = NULL;
	size_t len = 0;
	struct writer w = {.out = open_memstream(&text, &len)};
	if (!w.out)
		return vc_error_errno(err, "domain %s", d->name), NULL;
	put(&w, "<domain type='%s'>\n  <name>%s</name>\n", types[d->type], d->name);
	put_uuid(&w, &d->owner);
	put_owner(&w, &d->owner);
	put_memory(&w, d);
	put_cpus(&w, d);
	put_os(&w, d);
	put_machine(&w, d);
	// libvirt's test driver has no devices that matter
	if (d->type != DOMXML_TEST)
		put_devices(&w, d);
	put_odd_memory(&w, d);
	put(&w, "</domain>\n");
	if (fclose(w.out) == EOF)
		return vc_error_errno(err, "domain %s", d->name), NULL;
	if (w.bad) {
		vc_error_set(err, VC_EUSER, "domain %s: a name or path holds a control character", d->name);
		return NULL;
	}
	return vc_steal(&text);
}
