// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/cputopo: from the kernel's numbers of CPUs to Slurm's order.
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vcd/cputopo.h"

static void test_orders(void **state)
{
	(void)state;
	static const struct {
		const char *what;
		size_t n;
		struct {
			int64_t package, core;
		} cpus[8]; // by the kernel's number
		uint32_t slurm[8];
	} rows[] = {
		{"one socket", 4, {{0, 0}, {0, 1}, {0, 2}, {0, 3}}, {0, 1, 2, 3}},
		{"two sockets in turn", 4, {{0, 0}, {1, 0}, {0, 1}, {1, 1}}, {0, 2, 1, 3}},
		{"second threads after all cores", 4, {{0, 0}, {0, 1}, {0, 0}, {0, 1}}, {0, 2, 1, 3}},
		{"both", 8, {{0, 0}, {1, 0}, {0, 4}, {1, 4}, {0, 0}, {1, 0}, {0, 4}, {1, 4}}, {0, 4, 2, 6, 1, 5, 3, 7}},
		{"socket numbers the other way round", 4, {{1, 0}, {1, 1}, {0, 0}, {0, 1}}, {0, 1, 2, 3}},
	};
	for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
		struct cputopo_cpu cpus[8];
		for (uint32_t i = 0; i < rows[r].n; i++)
			cpus[i] = (struct cputopo_cpu){i, rows[r].cpus[i].package, rows[r].cpus[i].core};
		cputopo_sort(cpus, rows[r].n);
		for (size_t i = 0; i < rows[r].n; i++) {
			if (cpus[i].cpu != rows[r].slurm[i])
				fail_msg("%s: Slurm's CPU %zu is %u", rows[r].what, i, cpus[i].cpu);
		}
	}
}

static void put(const char *dir, unsigned cpu, const char *name, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/cpu%u", dir, cpu);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/cpu%u/topology", dir, cpu);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/cpu%u/topology/%s", dir, cpu, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_load(void **state)
{
	(void)state;
	static struct cputopo_cpu cpus[CPUTOPO_MAX];
	char dir[] = "/tmp/vc-cputopo.XXXXXX", path[96];
	assert_non_null(mkdtemp(dir));
	assert_int_equal(cputopo_load(dir, cpus), 0);
	put(dir, 0, "physical_package_id", "1\n");
	put(dir, 0, "core_id", "7\n");
	put(dir, 3, "physical_package_id", "-1\n"); // 1 and 2 are offline
	put(dir, 3, "core_id", "0\n");
	assert_int_equal(cputopo_load(dir, cpus), 2);
	assert_int_equal(cpus[0].package, 1);
	assert_int_equal(cpus[0].core, 7);
	assert_int_equal(cpus[1].cpu, 3);
	assert_int_equal(cpus[1].package, 0);
	for (unsigned cpu = 0; cpu < 4; cpu += 3) {
		for (int i = 0; i < 2; i++) {
			snprintf(path, sizeof(path), "%s/cpu%u/topology/%s", dir, cpu, i ? "core_id" : "physical_package_id");
			unlink(path);
		}
		snprintf(path, sizeof(path), "%s/cpu%u/topology", dir, cpu);
		rmdir(path);
		snprintf(path, sizeof(path), "%s/cpu%u", dir, cpu);
		rmdir(path);
	}
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_orders), cmocka_unit_test(test_load)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
