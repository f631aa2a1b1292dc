// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/domxml against golden files; VC_GOLDEN_REGENERATE=1 writes them anew.
#include "tests/unit/test.h"

#include <stdio.h>

#include "libvc/cleanup.h"
#include "vcd/domxml.h"

static const struct domxml base = {
	.type = DOMXML_TCG,
	.name = "vc-0123abcd-0",
	.owner = {.cluster = "0123abcd0123abcd0123abcd0123abcd", .slurm = "lab", .job = 123, .rank = 0, .uid = 2001},
	.vcpus = 2,
	.mem_mib = 512,
	.kernel = "/boot/vmlinuz",
	.initrd = "/var/cache/vcd/initramfs.img",
	.cmdline = "console=ttyS0 quiet",
	.overlay = "/var/lib/vcd/overlays/0123abcd/0.qcow2",
	.cache = "unsafe",
	.tap = "vt0123abcd.0",
	.mac = "02:00:10:01:00:00",
	.mtu = 1450,
	.channel = "/run/vcd/guests/0123abcd/0.link",
	.console = "/run/vcd/guests/0123abcd/0.console",
	.console_log = "/var/log/vcd/0123abcd-0.log",
};

static char *read_golden(const char *path)
{
	vc_autofclose FILE *f = fopen(path, "re");
	if (!f)
		fail_msg("%s is missing: run with VC_GOLDEN_REGENERATE=1", path);
	char *text = calloc(1, 64 * 1024);
	assert_non_null(text);
	size_t n = fread(text, 1, 64 * 1024 - 1, f);
	text[n] = '\0';
	return text;
}

static void check(const struct domxml *d, const char *name)
{
	char path[512];
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char *text = domxml_build(d, &err);
	if (!text)
		fail_msg("%s", err.text);
	snprintf(path, sizeof(path), "%s/golden/%s.xml", TEST_SRCDIR, name);
	if (getenv("VC_GOLDEN_REGENERATE")) {
		vc_autofclose FILE *f = fopen(path, "we");
		assert_non_null(f);
		assert_true(fputs(text, f) >= 0);
		return;
	}
	vc_autofree char *golden = read_golden(path);
	assert_string_equal(text, golden);
}

static void test_tcg(void **state)
{
	(void)state;
	check(&base, "domain-tcg");
}

static void test_kvm_pinned(void **state)
{
	(void)state;
	static const uint32_t cpus[] = {4, 6, 7};
	struct domxml d = base;
	d.type = DOMXML_KVM;
	d.cpus = cpus;
	d.n_cpus = 3;
	d.hard_limit_mib = 700;
	check(&d, "domain-kvm-pinned");
	d.n_cpus = 1;
	d.owner.rank = 1;
	check(&d, "domain-kvm-shared-cpu");
	d.vsock_cid = 0x40040040;
	check(&d, "domain-vsock");
}

static void test_mounts(void **state)
{
	(void)state;
	static const struct domxml_mount mounts[] = {
		{"/scratch/a & b", "vcm0"},
		{"/data/<x>'\"", "vcm1"},
	};
	struct domxml d = base;
	d.mounts = mounts;
	d.n_mounts = 2;
	check(&d, "domain-mounts");
}

static void test_test_driver(void **state)
{
	(void)state;
	struct domxml d = base;
	d.type = DOMXML_TEST;
	check(&d, "domain-test");
}

static void test_control_characters(void **state)
{
	(void)state;
	struct domxml d = base;
	struct vc_error err = VC_ERROR_INIT;
	d.cmdline = "a\nb";
	assert_null(domxml_build(&d, &err));
	assert_int_equal(err.code, VC_EUSER);
	assert_contains(err.text, "vc-0123abcd-0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcg),	    cmocka_unit_test(test_kvm_pinned),
		cmocka_unit_test(test_mounts),	    cmocka_unit_test(test_test_driver),
		cmocka_unit_test(test_control_characters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
