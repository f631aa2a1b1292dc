// SPDX-License-Identifier: GPL-2.0-or-later
// A task's environment in a guest: defaults, the user's own values, the way back from the host's real srun.
#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>

#include "guest/taskenv.h"
#include "libvc/cleanup.h"

static char *const site[] = {(char *)(uintptr_t) "SITE_A=1", (char *)(uintptr_t) "HYDRA_LAUNCHER=site", NULL};
static const struct taskenv facts = {
	.user = "alice", .home = "/home/alice", .shell = "/bin/sh", .member = "vc1-1", .rank = 1, .epoch = 3, .size = 4, .site = site,
	.preload = "/run/vcluster/lib/x.so"};

static void make(struct vc_exec_start *s, const char *const *env)
{
	size_t n = 0;
	*s = (struct vc_exec_start){0};
	while (env[n])
		n++;
	s->env = calloc(n + 1, sizeof(char *));
	for (size_t i = 0; i < n; i++)
		s->env[i] = strdup(env[i]);
}

static void plain_task(void **state)
{
	static const char *const env[] = {"PATH=/opt/bin:/bin", "HOSTNAME=n1", "OMPI_MCA_plm=slurm", "VCLUSTER_RANK=9", NULL};
	struct vc_exec_start s;
	(void)state;
	make(&s, env);
	assert_int_equal(taskenv_apply(&facts, &s, NULL), 0);
	assert_string_equal(vc_exec_getenv(&s, "PATH"), "/run/vcluster/bin:/opt/bin:/bin");
	assert_string_equal(vc_exec_getenv(&s, "HOSTNAME"), "vc1-1");
	assert_string_equal(vc_exec_getenv(&s, "OMPI_MCA_plm"), "slurm"); // the user's own
	assert_string_equal(vc_exec_getenv(&s, "OMPI_MCA_ras"), "^slurm");
	assert_string_equal(vc_exec_getenv(&s, "OMPI_MCA_osc"), "^ucx");
	assert_null(vc_exec_getenv(&s, "OMPI_MCA_mpi_yield_when_idle"));
	assert_string_equal(vc_exec_getenv(&s, "HYDRA_HOST_FILE"), "/run/vcluster/hostfile.hydra");
	assert_string_equal(vc_exec_getenv(&s, "HYDRA_LAUNCHER"), "site"); // the site's before ours
	assert_string_equal(vc_exec_getenv(&s, "SITE_A"), "1");
	assert_string_equal(vc_exec_getenv(&s, "VCLUSTER_RANK"), "1"); // a fact
	assert_string_equal(vc_exec_getenv(&s, "VCLUSTER_EPOCH"), "3");
	assert_string_equal(vc_exec_getenv(&s, "VCLUSTER_SIZE"), "4");
	assert_string_equal(vc_exec_getenv(&s, "VCLUSTER_VIEW"), "/run/vcluster/view");
	assert_string_equal(vc_exec_getenv(&s, "HOME"), "/home/alice");
	assert_int_equal(taskenv_apply(&facts, &s, NULL), 0); // PATH does not grow
	assert_string_equal(vc_exec_getenv(&s, "PATH"), "/run/vcluster/bin:/opt/bin:/bin");
	vc_exec_start_clear(&s);
}

static void nothing_given(void **state)
{
	static const char *const env[] = {NULL};
	struct vc_exec_start s;
	(void)state;
	make(&s, env);
	assert_int_equal(taskenv_apply(&facts, &s, NULL), 0);
	assert_contains(vc_exec_getenv(&s, "PATH"), "/run/vcluster/bin:");
	assert_contains(vc_exec_getenv(&s, "PATH"), ":/usr/bin:");
	assert_null(vc_exec_getenv(&s, "HOSTNAME"));
	assert_string_equal(vc_exec_getenv(&s, "USER"), "alice");
	assert_string_equal(vc_exec_getenv(&s, "LD_PRELOAD"), "/run/vcluster/lib/x.so");
	vc_exec_start_clear(&s);
}

// Open MPI's ranks that wait give way, unless the user says otherwise.
static void shared_cpus(void **state)
{
	static const char *const none[] = {NULL}, *const own[] = {"OMPI_MCA_mpi_yield_when_idle=0", NULL};
	struct taskenv shared = facts;
	struct vc_exec_start s;
	(void)state;
	shared.shared_cpus = true;
	make(&s, none);
	assert_int_equal(taskenv_apply(&shared, &s, NULL), 0);
	assert_string_equal(vc_exec_getenv(&s, "OMPI_MCA_mpi_yield_when_idle"), "1");
	vc_exec_start_clear(&s);
	make(&s, own);
	assert_int_equal(taskenv_apply(&shared, &s, NULL), 0);
	assert_string_equal(vc_exec_getenv(&s, "OMPI_MCA_mpi_yield_when_idle"), "0");
	vc_exec_start_clear(&s);
}

static void back_from_the_host(void **state)
{
	static const char *const env[] = {"PATH=/var/empty",
					  "SLURM_PROCID=3",
					  "VCLUSTER_PASS_PATH=/run/vcluster/bin:/bin",
					  "VCLUSTER_PASS_SLURM_PROCID=0",
					  "VCLUSTER_PASS_SLURM_JOB_NAME=x",
					  "VCLUSTER_PASS_LD_PRELOAD=/lib/a.so",
					  "VCLUSTER_PASS_EMPTY=",
					  "VCLUSTER_PASS_=nameless",
					  "VCLUSTER_CWD=/work/a b",
					  "HOME=/host/home",
					  "VCLUSTER_PASS_HOME=/home/alice",
					  "VCLUSTER_PASS_A=first",
					  "VCLUSTER_PASS_A=second",
					  NULL};
	struct vc_exec_start s;
	(void)state;
	make(&s, env);
	s.cwd = strdup("/");
	assert_int_equal(taskenv_apply(&facts, &s, NULL), 0);
	assert_string_equal(s.cwd, "/work/a b");
	assert_string_equal(vc_exec_getenv(&s, "PATH"), "/run/vcluster/bin:/bin");
	assert_string_equal(vc_exec_getenv(&s, "SLURM_PROCID"), "3"); // the step's own
	assert_string_equal(vc_exec_getenv(&s, "SLURM_JOB_NAME"), "x");
	assert_string_equal(vc_exec_getenv(&s, "LD_PRELOAD"), "/lib/a.so");
	assert_string_equal(vc_exec_getenv(&s, "EMPTY"), "");
	assert_string_equal(vc_exec_getenv(&s, "HOME"), "/home/alice");
	assert_string_equal(vc_exec_getenv(&s, "A"), "first");
	for (size_t i = 0; s.env[i]; i++) {
		assert_null(strstr(s.env[i], "VCLUSTER_PASS_"));
		assert_null(strstr(s.env[i], "VCLUSTER_CWD"));
	}
	vc_exec_start_clear(&s);
}

// What a guest's srun said of files and programs is done, and no task sees a word of it.
static void files_of_a_step(void **state)
{
	static const char *const env[] = {"SLURM_JOB_ID=12", "SLURM_STEP_ID=4", "SLURM_PROCID=3", "SLURM_NODEID=1", "SLURM_JOB_NAME=x",
					  "VCLUSTER_PASS_SLURM_PROCID=0", "VCLUSTER_STDIN=</in.%t", "VCLUSTER_STDOUT=>out.%2t.%N.%n",
					  "VCLUSTER_STDERR=>>%u.%J", NULL};
	struct vc_exec_start s;
	(void)state;
	make(&s, env);
	assert_int_equal(taskenv_apply(&facts, &s, NULL), 0);
	assert_string_equal(s.files[0].path, "/in.3");
	assert_int_equal(s.files[0].flags, O_RDONLY);
	assert_string_equal(s.files[1].path, "out.03.vc1-1.1");
	assert_int_equal(s.files[1].flags, O_WRONLY | O_CREAT | O_APPEND | O_TRUNC);
	assert_string_equal(s.files[2].path, "alice.12.4");
	assert_int_equal(s.files[2].flags, O_WRONLY | O_CREAT | O_APPEND);
	for (size_t i = 0; s.env[i]; i++)
		assert_null(strstr(s.env[i], "VCLUSTER_STD"));
	vc_exec_start_clear(&s);
}

// -o 1 -i 0 -e 2 of a step of two tasks, as task 1.
static void streams_of_one_task(void **state)
{
	static const char *const env[] = {"SLURM_STEP_NUM_TASKS=2", "SLURM_PROCID=1", "VCLUSTER_STDIN=<0", "VCLUSTER_STDOUT=>1",
					  "VCLUSTER_STDERR=>2", NULL};
	struct vc_exec_start s;
	(void)state;
	make(&s, env);
	assert_int_equal(taskenv_apply(&facts, &s, NULL), 0);
	assert_string_equal(s.files[0].path, "/dev/null");
	assert_null(s.files[1].path); // its own
	assert_string_equal(s.files[2].path, "2"); // no task
	vc_exec_start_clear(&s);
}

static void program_of(const char *rank, const char *text, const char *want)
{
	static char *const words[] = {(char *)(uintptr_t) "m.conf", (char *)(uintptr_t) "more", NULL};
	char got[VC_ERROR_TEXT_MAX] = "";
	const char *const env[] = {text, rank, NULL};
	struct vc_exec_start s;
	struct vc_error err = VC_ERROR_INIT;
	make(&s, env);
	s.argv = calloc(3, sizeof(*s.argv));
	for (size_t i = 0; words[i]; i++)
		s.argv[i] = strdup(words[i]);
	if (taskenv_apply(&facts, &s, &err) < 0)
		snprintf(got, sizeof(got), "%s", err.text);
	else
		assert_null(vc_exec_getenv(&s, TASKENV_PROGRAMS));
	for (size_t i = 0; !*err.text && s.argv[i]; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "<%s>", s.argv[i]);
	assert_contains(got, want);
	vc_exec_start_clear(&s);
}

static void program_of_a_task(void **state)
{
	(void)state;
	program_of("SLURM_PROCID=1", "VCLUSTER_PROGRAMS=0 a\n1-2 b 'c d' %t %o\n", "<b><c d><1><0><more>");
	program_of("SLURM_PROCID=0", "VCLUSTER_PROGRAMS=* a\n", "<a><more>");
	program_of("SLURM_PROCID=3", "VCLUSTER_PROGRAMS=0 a\n", "no program for task 3");
	program_of("SLURM_PROCID=x", "VCLUSTER_PROGRAMS=0 a\n", "no task of a step");
	program_of("X=y", "VCLUSTER_PROGRAMS=0 a\n", "no task of a step");
}

// Of the spawner's step, whose environment srun had: not of the step that mpi/pmi2 made.
static void step_of_a_spawner(void **state)
{
	static const char *const env[] = {"PMI_SPAWNED=1", "SLURM_PROCID=0", "VCLUSTER_STDIN=</in.%t", "VCLUSTER_STDOUT=>out.%t",
					  "VCLUSTER_STDERR=>err.%t", "VCLUSTER_PROGRAMS=0 spawner\n", NULL};
	static const char *const passed[] = {"VCLUSTER_PASS_PMI_SPAWNED=1", "SLURM_PROCID=0", "VCLUSTER_STDOUT=>out.%t", NULL};
	struct vc_exec_start s;
	(void)state;
	make(&s, env);
	assert_int_equal(taskenv_apply(&facts, &s, NULL), 0);
	for (size_t i = 0; i < 3; i++)
		assert_null(s.files[i].path);
	for (size_t i = 0; s.env[i]; i++)
		assert_true(!strstr(s.env[i], "VCLUSTER_STD") && !strstr(s.env[i], TASKENV_PROGRAMS));
	vc_exec_start_clear(&s);
	make(&s, passed); // a spawned task's own srun: its step is not a spawner's
	assert_int_equal(taskenv_apply(&facts, &s, NULL), 0);
	assert_string_equal(s.files[1].path, "out.0");
	vc_exec_start_clear(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_task),
		cmocka_unit_test(nothing_given),
		cmocka_unit_test(shared_cpus),
		cmocka_unit_test(back_from_the_host),
		cmocka_unit_test(files_of_a_step),
		cmocka_unit_test(streams_of_one_task),
		cmocka_unit_test(program_of_a_task),
		cmocka_unit_test(step_of_a_spawner),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
