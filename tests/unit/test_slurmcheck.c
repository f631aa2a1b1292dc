// SPDX-License-Identifier: GPL-2.0-or-later
// What `vcctl check` makes of slurm.conf, plugstack.conf, plugins' files and clocks.
#include "tests/unit/test.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vcd/check.h"
#include "vcd/slurmcheck.h"
#include "vcd/slurmctl.h"

__attribute__((used, visibility("default"))) const uint32_t plugin_version = 0x160508; // as a plugin has it; this program is linked so that it can be found

// slurmctl is not asked here
struct slurmctl *slurmctl_create(struct vc_error *err)
{
	(void)err;
	return NULL;
}

void slurmctl_destroy(struct slurmctl *ctl)
{
	(void)ctl;
}

int slurmctl_list_nodes(struct slurmctl *ctl, char ***ret, struct vc_error *err)
{
	(void)ctl;
	(void)ret;
	(void)err;
	return -1;
}

int slurmctl_load_queue(struct slurmctl *ctl, struct slurmctl_queue *queue, struct vc_error *err)
{
	(void)ctl;
	(void)queue;
	(void)err;
	return -1;
}

int slurmctl_load_setup(struct slurmctl *ctl, struct slurmctl_setup *ret, struct vc_error *err)
{
	(void)ctl;
	(void)ret;
	(void)err;
	return -1;
}

void slurmctl_setup_clear(struct slurmctl_setup *setup)
{
	(void)setup;
}

static unsigned count_findings(const struct slurmctl_setup *s, unsigned *errors)
{
	unsigned n = 0;
	bool is_error;
	*errors = 0;
	for (; slurmcheck_conf(s, n, &is_error); n++)
		*errors += is_error;
	return n;
}

static void test_conf(void **state)
{
	(void)state;
	char good[] = "/usr/libexec/vcluster/vc-prolog", own[] = "/etc/slurm/prolog.sh", none[] = "";
	const struct {
		struct slurmctl_setup setup;
		unsigned findings, errors;
	} cases[] = {
		{{.prolog = good, .epilog = good, .allocation_prolog = true, .batch_start_s = 300}, 0, 0},
		{{.prolog = good, .epilog = good, .allocation_prolog = true, .batch_start_s = 10}, 1, 0},
		{{.prolog = own, .epilog = own, .allocation_prolog = true, .batch_start_s = 300}, 2, 0},
		{{.prolog = none, .epilog = good, .allocation_prolog = true, .batch_start_s = 300}, 1, 1},
		{{.prolog = own, .epilog = none, .allocation_prolog = true, .batch_start_s = 300}, 2, 1},
		{{.prolog = good, .epilog = good, .allocation_prolog = false, .batch_start_s = 300}, 1, 1},
		{{.prolog = none, .epilog = none, .allocation_prolog = false, .batch_start_s = 300}, 3, 3},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		unsigned errors;
		assert_int_equal(count_findings(&cases[i].setup, &errors), cases[i].findings);
		assert_int_equal(errors, cases[i].errors);
	}
}

static void test_version(void **state)
{
	(void)state;
	assert_int_equal(slurmcheck_version("22.05.8"), 0x160508);
	assert_int_equal(slurmcheck_version("24.11.0rc1"), 0x180b00);
	assert_int_equal(slurmcheck_version("22.05"), 0);
	assert_int_equal(slurmcheck_version(""), 0);
	assert_int_equal(slurmcheck_version("x.y.z"), 0);
}

static void put(const char *dir, const char *name, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static char *find(const char *dir)
{
	char path[256], *found = NULL;
	struct vc_error err = VC_ERROR_INIT;
	snprintf(path, sizeof(path), "%s/plugstack.conf", dir);
	assert_int_equal(slurmcheck_find_plugin(path, &found, &err), 0);
	return found;
}

static void test_plugstack(void **state)
{
	(void)state;
	char dir[] = "/tmp/slurmcheck.XXXXXX", command[64], *found;
	assert_non_null(mkdtemp(dir));
	snprintf(command, sizeof(command), "%s/conf.d", dir);
	assert_int_equal(mkdir(command, 0700), 0);
	put(dir, "plugstack.conf", "# required spank_vcluster.so\noptional other.so\n");
	assert_null(find(dir));
	put(dir, "plugstack.conf", "required /opt/spank_vcluster.so socket=/run/x # ours\n");
	found = find(dir);
	assert_string_equal(found, "/opt/spank_vcluster.so");
	free(found);
	put(dir, "conf.d/a.conf", "optional\tspank_vcluster.so\n");
	put(dir, "plugstack.conf", "include conf.d/*.conf\n");
	found = find(dir);
	assert_string_equal(found, "spank_vcluster.so");
	free(found);
	put(dir, "plugstack.conf", "include plugstack.conf\n"); // a file that includes itself ends
	assert_null(find(dir));
	static const char *const names[] = {"conf.d/a.conf", "plugstack.conf"};
	for (size_t i = 0; i < 2; i++) {
		char path[256];
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(command);
	rmdir(dir);
}

static void test_plugin_file(void **state)
{
	(void)state;
	uint32_t version = 0;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(slurmcheck_plugin_version("/proc/self/exe", &version, &err), 0);
	assert_int_equal(version, plugin_version);
	assert_int_equal(slurmcheck_plugin_version("/bin/sh", &version, &err), -1);
	assert_int_equal(slurmcheck_plugin_version("/etc/passwd", &version, &err), -1);
	assert_int_equal(slurmcheck_plugin_version("/nonexistent", &version, &err), -1);
}

static void test_skew(void **state)
{
	(void)state;
	assert_int_equal(check_skew_ms(1000, 1050, 1100), 0);
	assert_int_equal(check_skew_ms(1000, 1000, 1000), 0);
	assert_int_equal(check_skew_ms(1000, 9100, 1100), 8000);
	assert_int_equal(check_skew_ms(9000, 1000, 9100), -8000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_conf),	    cmocka_unit_test(test_version), cmocka_unit_test(test_plugstack),
		cmocka_unit_test(test_plugin_file), cmocka_unit_test(test_skew),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
