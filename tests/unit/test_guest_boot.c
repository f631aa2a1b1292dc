// SPDX-License-Identifier: GPL-2.0-or-later
// The kernel command line as vcguestd reads it, and load samples.
#include "tests/unit/test.h"

#include "guest/boot.h"
#include "guest/sample.h"

static void defaults(void **state)
{
	struct boot_params p;
	(void)state;
	assert_int_equal(boot_params_parse("console=ttyS0 quiet root=/dev/sda\n", &p, NULL), 0);
	assert_string_equal(p.root, "/dev/vda");
	assert_string_equal(p.fstype, "ext4");
	assert_int_equal(p.vsock_port, 0);
}

static void all_words(void **state)
{
	struct boot_params p;
	(void)state;
	assert_int_equal(boot_params_parse("vcluster.link=vsock:7000 vcluster.rootfstype=xfs vcluster.root=/dev/vdb", &p, NULL), 0);
	assert_string_equal(p.root, "/dev/vdb");
	assert_string_equal(p.fstype, "xfs");
	assert_int_equal(p.vsock_port, 7000);
}

static void refused(void **state)
{
	static const char *const bad[] = {"vcluster.link=tcp:1", "vcluster.link=vsock:", "vcluster.link=vsock:0",
					  "vcluster.link=vsock:99999999999", "vcluster.root=", "vcluster.rootfstype="};
	struct boot_params p = {.vsock_port = 5};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vc_error err = VC_ERROR_INIT;
		assert_int_equal(boot_params_parse(bad[i], &p, &err), -1);
		assert_int_not_equal(err.text[0], 0);
	}
	assert_int_equal(p.vsock_port, 5); // untouched
}

static void samples(void **state)
{
	struct sample s = {.cpu_some_avg10 = -1};
	(void)state;
	sample_parse_loadavg("0.52 0.58 0.59 3/467 29215\n", &s);
	sample_parse_pressure("some avg10=1.25 avg60=0.10 avg300=0.00 total=5\nfull avg10=0.00\n", &s);
	sample_parse_meminfo("MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable:     77 kB\n", &s);
	assert_int_equal(s.runnable, 3);
	assert_true(s.cpu_some_avg10 > 1.24 && s.cpu_some_avg10 < 1.26);
	assert_int_equal(s.mem_available_kib, 77);
	sample_parse_loadavg("garbage", &s);
	sample_parse_meminfo("", &s);
	assert_int_equal(s.runnable, 3);
	assert_int_equal(s.mem_available_kib, 77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(all_words),
		cmocka_unit_test(refused),
		cmocka_unit_test(samples),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
