// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/conf: defaults, every kind of value, and the file:line of mistakes.
#include "tests/unit/test.h"

#include <stdio.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "vcd/conf.h"

static struct conf *load(const char *text, struct vc_error *err)
{
	char path[] = "/tmp/vcd-conf-XXXXXX";
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	struct conf *conf = conf_load(path, err);
	unlink(path);
	return conf;
}

static void test_defaults(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	struct conf *conf = conf_default(&err);
	assert_non_null(conf);
	assert_int_equal(conf->port, VC_DEFAULT_PORT);
	assert_string_equal(conf->network, "10.42.0.0");
	assert_int_equal(conf->network_prefix, 16);
	assert_string_equal(conf->run_dir, "/run/vcd");
	assert_string_equal(conf->controllers[0], conf->host_name);
	assert_true(conf_is_controller(conf));
	assert_true(conf_env_filtered(conf, "SLURM_SPANK_X=1"));
	assert_false(conf_env_filtered(conf, "PATH=/bin"));
	assert_true(conf_is_admin(conf, 0));
	assert_false(conf_is_admin(conf, 65534));
	conf_destroy(conf);
}

static void test_values(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	struct conf *conf = load("# a comment\n"
				 "controller = \"ctl\"\n"
				 "host-name = n1\n"
				 "port = 7001\n"
				 "hosts = {\"ctl=127.0.0.1:7000\", \"n2=10.0.0.2\", \"n3=[::1]:7003\", \"n4=fe80::1\"}\n"
				 "boot-timeout = 90s\n"
				 "overhead-mem = 128M\n"
				 "env-filter = {}\n"
				 "mount-allow = {\"/data\", \"/scratch/\"}\n"
				 "admin-users = {root, 4711}\n"
				 "trusted-images = {base, \"root/mpich\", \"4711/own\"}\n"
				 "vni-range = \"100-200\"\n"
				 "network = \"10.9.8.0/24\"\n"
				 "guest-link = virtio-serial\n"
				 "fencing = suspend\n"
				 "hypervisor = tcg\n",
				 &err);
	assert_string_equal(err.text, "");
	assert_non_null(conf);
	assert_string_equal(conf->controllers[0], "ctl");
	assert_false(conf_is_controller(conf));
	assert_int_equal(conf->boot_timeout_ms, 90000);
	assert_int_equal(conf->overhead_mib, 128);
	assert_int_equal(conf_find_host(conf, "ctl")->port, 7000);
	assert_int_equal(conf_find_host(conf, "n2")->port, 7001);
	assert_string_equal(conf_find_host(conf, "n3")->addr, "::1");
	assert_int_equal(conf_find_host(conf, "n3")->port, 7003);
	assert_string_equal(conf_find_host(conf, "n4")->addr, "fe80::1");
	assert_null(conf_find_host(conf, "n5"));
	assert_false(conf_env_filtered(conf, "LD_PRELOAD"));
	assert_true(conf_mount_allowed(conf, "/data"));
	assert_true(conf_mount_allowed(conf, "/data/x"));
	assert_true(conf_mount_allowed(conf, "/scratch/x"));
	assert_false(conf_mount_allowed(conf, "/database"));
	assert_false(conf_mount_allowed(conf, "/data/../etc"));
	assert_true(conf_is_admin(conf, 4711));
	assert_true(conf_image_trusted(conf, "base"));
	assert_true(conf_image_trusted(conf, "0/mpich"));
	assert_true(conf_image_trusted(conf, "4711/own"));
	assert_false(conf_image_trusted(conf, "own"));
	assert_int_equal(conf->vni_max, 200);
	assert_int_equal(conf->hypervisor, CONF_HV_TCG);
	assert_int_equal(conf->guest_link, CONF_LINK_SERIAL);
	assert_int_equal(conf->fencing, CONF_FENCE_SUSPEND);
	conf_destroy(conf);
}

static void test_mistakes(void **state)
{
	(void)state;
	static const struct {
		const char *text, *line, *part;
	} rows[] = {
		{"port = 1\nprot = 2\n", ":2:", "prot"},
		{"\n\nport = 70000\n", ":3:", "port"},
		{"port = x\n", ":1:", "'x'"},
		{"run-dir = relative\n", ":1:", "absolute"},
		{"run-dir = \"\"\n", ":1:", "empty"},
		{"network = \"10.42.0.1/16\"\n", ":1:", "first address"},
		{"network = \"10.42.0.0\"\n", ":1:", "network"},
		{"vni-range = \"9-3\"\n", ":1:", "vni-range"},
		{"hosts = {\"n1=10.0.0.1\",\n\"n2\"}\n", ":2:", "NAME=ADDRESS"},
		{"hosts = {\"n\377=10.0.0.1\"}\n", ":1:", "not UTF-8"},
		{"host-name = \"n\377\"\n", ":1:", "not UTF-8"},
		{"hypervisor = xen\n", ":1:", "xen"},
		{"guest-link = wire\n", ":1:", "wire"},
		{"fencing = stonith\n", ":1:", "stonith"},
		{"admin-users = {nobody-here}\n", ":1:", "no user"},
		{"slurm-user = nobody-here\n", ":1:", "no user"},
		{"trusted-images = {\"nobody-here/mpich\"}\n", ":1:", "no user"},
		{"boot-timeout = 5x\n", ":1:", "boot-timeout"},
		{"boot-timeout = 1ms\n", ":1:", "less than"},
		{"log-level = loud\n", ":1:", "loud"},
		{"controller = {a\n", ":", ""},
		{"mount-allow = {\"/a/../b\"}\n", ":1:", "clean"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct vc_error err = VC_ERROR_INIT;
		struct conf *conf = load(rows[i].text, &err);
		if (conf)
			fail_msg("accepted: %s", rows[i].text);
		assert_int_equal(err.code, VC_EUSER);
		assert_contains(err.text, rows[i].line);
		assert_contains(err.text, rows[i].part);
	}
	struct vc_error err = VC_ERROR_INIT;
	assert_null(conf_load("/nonexistent/vcd.conf", &err));
	assert_contains(err.text, "/nonexistent/vcd.conf");
}

static void test_restart_keys(void **state)
{
	(void)state;
	struct conf *a = load("port = 1\nmtu = 1400\n", NULL), *b = load("port = 2\nmtu = 1300\nrun-dir = /r\n", NULL);
	char buf[256];
	conf_needs_restart(a, b, buf, sizeof(buf));
	assert_string_equal(buf, "port, run-dir");
	conf_needs_restart(a, a, buf, sizeof(buf));
	assert_string_equal(buf, "");
	conf_destroy(a);
	conf_destroy(b);
}

static char *read_doc(const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), "%s/../%s", TEST_SRCDIR, name);
	vc_autofclose FILE *f = fopen(path, "r");
	char *text = calloc(1, 256 * 1024);
	assert_non_null(f);
	assert_true(fread(text, 1, 256 * 1024 - 1, f) > 0);
	return text;
}

// Drops the backslashes of "overhead\\-mem" and of all other escapes.
static void plain_roff(char *text)
{
	char *to = text;
	for (const char *from = text; *from; from++) {
		if (*from != '\\')
			*to++ = *from;
	}
	*to = '\0';
}

// Every key is in the manual and in the example; the example, with all keys in force, is accepted.
static void test_documents(void **state)
{
	(void)state;
	vc_autofree char *man = read_doc("man/vcd.conf.5");
	vc_autofree char *example = read_doc("etc/vcd.conf.example");
	plain_roff(man);
	for (size_t i = 0; conf_key(i); i++) {
		char item[128], line[128];
		snprintf(item, sizeof(item), ".B %s\n", conf_key(i));
		snprintf(line, sizeof(line), "\n#%s = ", conf_key(i));
		assert_contains(man, item);
		assert_contains(example, line);
		*strstr(strstr(example, line), "#") = ' ';
	}
	struct vc_error err = VC_ERROR_INIT;
	struct conf *conf = load(example, &err);
	if (!conf && !strstr(err.text, "no user") && !strstr(err.text, "no group"))
		fail_msg("%s", err.text); // the example's people need not exist here
	conf_destroy(conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_restart_keys),
		cmocka_unit_test(test_documents),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
