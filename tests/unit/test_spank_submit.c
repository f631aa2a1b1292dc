// SPDX-License-Identifier: GPL-2.0-or-later
// job_submit_vcluster.so: what it refuses, what it lets alone, and what it reads out of a job's request.
#include "tests/unit/test.h"

#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

#include "libvc/cleanup.h"
#include "plugins/request.h"
#include "tests/unit/fake_spank.h"

int init(void);
int job_submit(job_desc_msg_t *job, uint32_t submit_uid, char **err_msg);
int job_modify(job_desc_msg_t *job, void *record, uint32_t submit_uid, char **err_msg);

static job_desc_msg_t empty_job(void)
{
	return (job_desc_msg_t){
		.het_job_offset = NO_VAL, .num_tasks = NO_VAL,	     .cpus_per_task = NO_VAL16, .min_cpus = NO_VAL,
		.max_cpus = NO_VAL,	  .min_nodes = NO_VAL,	     .max_nodes = NO_VAL,	.ntasks_per_node = NO_VAL16,
		.pn_min_cpus = NO_VAL16,  .pn_min_memory = NO_VAL64, .shared = NO_VAL16,	.overcommit = NO_VAL8,
	};
}

static void use_slurm_conf(const char *text)
{
	char path[] = "/tmp/test_submit.XXXXXX";
	vc_autoclose int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	setenv("SLURM_CONF", path, 1);
	assert_int_equal(init(), SLURM_SUCCESS);
	unlink(path);
}

static void submit(job_desc_msg_t *job, const char *spec, const char *message)
{
	char variable[512], *env[] = {(char *)"OTHER=1", variable, NULL}, *text = NULL;
	snprintf(variable, sizeof(variable), "VCLUSTER_SPEC=%s", spec);
	job->spank_job_env = env;
	job->spank_job_env_size = 2;
	int rc = job_submit(job, 2001, &text);
	if (message) {
		assert_int_equal(rc, ESLURM_NOT_SUPPORTED);
		assert_non_null(text);
		assert_contains(text, message);
		assert_int_equal(strncmp(text, "vcluster: ", 10), 0);
	} else if (rc != SLURM_SUCCESS) {
		fail_msg("%s", text);
	}
	free(text);
}

#define SPEC "{\"v\":1,\"image\":\"i\""

static void test_plain_job(void **state)
{
	(void)state;
	job_desc_msg_t job = empty_job();
	char *text = NULL;
	assert_int_equal(job_submit(&job, 2001, &text), SLURM_SUCCESS);
	assert_int_equal(job_modify(&job, NULL, 2001, &text), SLURM_SUCCESS);
	assert_null(text);
}

static void test_specs(void **state)
{
	(void)state;
	use_slurm_conf("SelectType=select/cons_tres\n");
	job_desc_msg_t job = empty_job();
	submit(&job, SPEC "}", NULL);
	submit(&job, "{\"v\":1,\"image\":\"../x\"}", "not an image's name");
	submit(&job, "nonsense", "spec");
	submit(&job, SPEC ",\"vms\":65}", "'vms'");
	job.container = (char *)"/c";
	submit(&job, SPEC "}", "--container");
	job = empty_job();
	job.het_job_offset = 1;
	submit(&job, SPEC "}", "heterogeneous");
}

static void test_sizes(void **state)
{
	(void)state;
	use_slurm_conf("SelectType=select/cons_tres\n");
	job_desc_msg_t job = empty_job();
	job.pn_min_memory = 1024;
	submit(&job, SPEC ",\"mem_mib\":1024}", NULL);
	submit(&job, SPEC ",\"mem_mib\":1024,\"vms\":2}", "are 2048 MiB, but the job asks for 1024 MiB");
	job.num_tasks = 2;
	job.cpus_per_task = 2;
	job.min_nodes = 2;
	submit(&job, SPEC ",\"cpus\":4}", NULL);
	submit(&job, SPEC ",\"cpus\":5}", "at most 4 CPUs on a host");
	job.shared = 0; // --exclusive: the whole host, whatever it has
	submit(&job, SPEC ",\"cpus\":5}", NULL);
	use_slurm_conf("SelectType=select/linear\n");
	job.shared = NO_VAL16;
	submit(&job, SPEC ",\"cpus\":5}", NULL);
}

static void test_modify(void **state)
{
	(void)state;
	char *env[] = {(char *)"VCLUSTER_SPEC={}"}, *text = NULL;
	job_desc_msg_t job = empty_job();
	job.spank_job_env = env;
	job.spank_job_env_size = 1;
	assert_int_equal(job_modify(&job, NULL, 0, &text), ESLURM_NOT_SUPPORTED);
	assert_contains(text, "cannot be changed");
	free(text);
}

static void test_request(void **state)
{
	(void)state;
	static const struct {
		uint32_t tasks, nodes, min_cpus;
		uint16_t per_task, per_node;
		uint64_t mem;
		uint32_t cpus_max;
		uint64_t mem_max;
	} rows[] = {
		{NO_VAL, NO_VAL, NO_VAL, NO_VAL16, NO_VAL16, NO_VAL64, 0, 0},
		{1, 1, 1, NO_VAL16, NO_VAL16, 512, 2, 512},
		{8, 2, 8, 1, NO_VAL16, 0, 14, 0},
		{NO_VAL, 2, 2, NO_VAL16, 3, NO_VAL64, 10, 0},
		{2, 2, 2, 4, NO_VAL16, MEM_PER_CPU | 100, 8, 800},
		{NO_VAL, NO_VAL, NO_VAL, NO_VAL16, NO_VAL16, MEM_PER_CPU | 100, 0, 0},
		{NO_VAL - 8, 1, 1, 60000, NO_VAL16, NO_VAL64, 0, 0},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		job_desc_msg_t job = empty_job();
		struct vc_spec_request r;
		job.num_tasks = rows[i].tasks;
		job.min_nodes = rows[i].nodes;
		job.min_cpus = rows[i].min_cpus;
		job.cpus_per_task = rows[i].per_task;
		job.ntasks_per_node = rows[i].per_node;
		job.pn_min_memory = rows[i].mem;
		request_from_job(&job, false, &r);
		assert_int_equal(r.cpus_per_host_max, rows[i].cpus_max);
		assert_int_equal(r.mem_mib_per_host, rows[i].mem_max);
		request_from_job(&job, true, &r);
		assert_int_equal(r.cpus_per_host_max, 0);
	}
}

static void test_site(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int whole;
	} rows[] = {
		{"SelectType=select/cons_tres\nPartitionName=a Nodes=ALL\n", 0},
		{"# select/linear\nSelectType=select/cons_tres\n", 0},
		{"SelectType=select/linear", 1},
		{"SelectType=select/cons_res\nPartitionName=a OverSubscribe=Exclusive\n", 1},
		{"SelectType=select/cons_res\n  Include other.conf\n", 1},
		{"ClusterName=x\n", 1},
		{"", 1},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++)
		assert_int_equal(request_site_gives_whole_hosts(rows[i].text), rows[i].whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_job), cmocka_unit_test(test_specs),	  cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_modify),	  cmocka_unit_test(test_request), cmocka_unit_test(test_site),
	};
	return cmocka_run_group_tests_name("spank_submit", tests, NULL, NULL);
}
