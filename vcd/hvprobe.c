// SPDX-License-Identifier: GPL-2.0-or-later
// Whether KVM boots a kernel on this host: see hv.h. It is found out by trying, and remembered in a file of state-dir.
// And the rate of its time-stamp counter.
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "vcd/domxml.h"
#include "vcd/hv.h"

#define HV_PROBE_POLL_MS 50
#define HV_PROBE_MEM_MIB 128
#define HV_TSC_MS 20	// between two readings: each is off by less than a microsecond, so 100 ppm at most
#define HV_TSC_KHZ_MIN 100000
#define HV_TSC_KHZ_MAX 10000000
#define HV_TSC_TRIES 16 // of one reading; the best is that in whose midst nothing else ran
#define HV_CONSOLE_MAX (256 * 1024) // bytes of a probe's console that are searched
// The kernel has initialised everything and looks for a root file system that is not there.
#define HV_PROBE_MARK "Unable to mount root"

// "6.1.0 #1 SMP ...|7002000|/boot/vmlinuz-...": a change of any of them asks for a new probe.
static int probe_key(struct hv *hv, const struct hv_probe *p, char *key, size_t len, struct vc_error *err)
{
	unsigned long version = 0;
	struct utsname u;
	if (hv_version(hv, &version, err) < 0)
		return -1;
	if (uname(&u) < 0)
		return vc_error_errno(err, "uname");
	snprintf(key, len, "%s %s|%lu|%s", u.release, u.version, version, p->kernel);
	return 0;
}

static bool probe_recall(const char *path, const char *key, bool *ret_kvm)
{
	char line[1024];
	vc_autofclose FILE *f = fopen(path, "re");
	if (!f || !fgets(line, sizeof(line), f))
		return false;
	line[strcspn(line, "\n")] = '\0';
	const char *answer = strchr(line, ' ');
	if (!answer || strcmp(answer + 1, key) != 0)
		return false;
	*ret_kvm = strncmp(line, "kvm ", 4) == 0;
	return *ret_kvm || strncmp(line, "tcg ", 4) == 0;
}

static int probe_remember(const char *path, const char *key, bool kvm, struct vc_error *err)
{
	vc_autofree char *tmp = NULL;
	if (asprintf(&tmp, "%s.new", path) < 0)
		return vc_error_errno(err, "%s", path);
	FILE *f = fopen(tmp, "we");
	if (!f)
		return vc_error_errno(err, "%s", tmp);
	fprintf(f, "%s %s\n", kvm ? "kvm" : "tcg", key);
	if (fclose(f) == EOF || rename(tmp, path) < 0)
		return vc_error_errno(err, "%s", path);
	return 0;
}

static bool file_has(const char *path, const char *mark)
{
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	vc_autofree char *text = fd >= 0 ? malloc(HV_CONSOLE_MAX) : NULL;
	ssize_t n = text ? pread(fd, text, HV_CONSOLE_MAX, 0) : -1;
	return n > 0 && memmem(text, (size_t)n, mark, strlen(mark));
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

// Boots a bare kernel without root file system and looks for the message that says so. -1: libvirt went away meanwhile.
static int probe_boot(struct hv *hv, const struct hv_probe *p, const char *log, bool *ret, struct vc_error *err)
{
	struct domxml d = {
		.type = DOMXML_KVM,
		.name = HV_PROBE_DOMAIN,
		.owner = {.cluster = "probe", .slurm = "probe"},
		.vcpus = 1,
		.mem_mib = HV_PROBE_MEM_MIB,
		.kernel = p->kernel,
		.cmdline = "console=ttyS0 panic=0",
		.console_log = log,
	};
	vc_autofree char *xml = domxml_build(&d, err);
	struct vc_error why = VC_ERROR_INIT;
	unsigned long version;
	bool found = false;
	unlink(log);
	if (!xml || hv_kill(hv, d.name, err) < 0)
		return -1;
	if (hv_start(hv, d.name, xml, NULL, &why) < 0) {
		unlink(log);
		if (hv_version(hv, &version, err) < 0) // not KVM's fault, and not to be remembered
			return -1;
		vc_log_info("KVM probe: %s", why.text);
		*ret = false;
		return 0;
	}
	for (uint64_t end = now_ms() + p->limit_ms; !found && now_ms() < end;) {
		poll(NULL, 0, HV_PROBE_POLL_MS);
		found = file_has(log, HV_PROBE_MARK);
	}
	if (hv_kill(hv, d.name, &why) < 0)
		vc_log_warning("KVM probe: %s", why.text);
	unlink(log);
	*ret = found;
	return 0;
}

int hv_probe(struct hv *hv, const struct hv_probe *p, bool *ret_kvm, struct vc_error *err)
{
	char key[1024];
	vc_autofree char *path = NULL, *log = NULL;
	if (asprintf(&path, "%s/hypervisor", p->state_dir) < 0 || asprintf(&log, "%s/probe.log", p->run_dir) < 0)
		return vc_error_errno(err, "KVM probe");
	if (probe_key(hv, p, key, sizeof(key), err) < 0)
		return -1;
	if (probe_recall(path, key, ret_kvm))
		return 0;
	bool kvm = false;
	if (access("/dev/kvm", R_OK | W_OK) == 0 && probe_boot(hv, p, log, &kvm, err) < 0)
		return vc_error_wrap(err, "KVM probe");
	if (probe_remember(path, key, kvm, err) < 0)
		return -1;
	vc_log_notice("KVM probe: %s", kvm ? "a kernel boots, KVM is used"
					   : "no kernel boots within the limit, members are emulated (TCG)");
	*ret_kvm = kvm;
	return 0;
}

// --- the time-stamp counter -----------------------------------------------------------------------------------

struct tsc_reading {
	uint64_t ns, ticks;
};

static uint64_t monotonic_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static struct tsc_reading read_tsc(void)
{
	struct tsc_reading best = {0};
	uint64_t least = UINT64_MAX;
	for (int i = 0; i < HV_TSC_TRIES; i++) {
		uint64_t before = monotonic_ns(), ticks = __rdtsc(), after = monotonic_ns();
		if (after - before < least) {
			least = after - before;
			best = (struct tsc_reading){before + least / 2, ticks};
		}
	}
	return best;
}

uint32_t hv_tsc_khz(void)
{
	struct tsc_reading first = read_tsc(), last = first;
	while (last.ns - first.ns < HV_TSC_MS * UINT64_C(1000000)) { // a signal ends poll() early
		poll(NULL, 0, HV_TSC_MS);
		last = read_tsc();
	}
	uint64_t khz = last.ticks > first.ticks ? (last.ticks - first.ticks) * 1000000 / (last.ns - first.ns) : 0;
	return khz >= HV_TSC_KHZ_MIN && khz <= HV_TSC_KHZ_MAX ? (uint32_t)khz : 0;
}
