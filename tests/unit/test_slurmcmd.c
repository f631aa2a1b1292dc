// SPDX-License-Identifier: GPL-2.0-or-later
// The real command for a guest's request: this job only, this owner, an environment that the guest does not choose.
#include "tests/unit/test.h"

#include <stdio.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"
#include "vcd/slurmcmd.h"

static struct plan_host hosts[] = {{.name = (char *)(uintptr_t) "n1"}, {.name = (char *)(uintptr_t) "n2"}};
static struct plan_member members[] = {{.rank = 0, .name = "vc12-0", .host = 0, .home = 0},
				       {.rank = 1, .name = "vc12-1", .host = 0, .home = 0},
				       {.rank = 2, .name = "vc12-2", .host = 1, .home = 1}};
static const struct plan plan = {.key = {.slurm = "lab", .job = 12},
				 .owner = {.uid = 2001,
					   .gid = 2001,
					   .user = (char *)(uintptr_t) "alice",
					   .home = (char *)(uintptr_t) "/home/alice"},
				 .hosts = hosts,
				 .n_hosts = 2,
				 .members = members,
				 .n_members = 3};
static const struct slurmcmd_conf conf = {.bin_dir = "/usr/bin", .slurm_conf = "/etc/slurm/slurm.conf"};

static char **copy(const char *const *from)
{
	size_t n = 0;
	while (from[n])
		n++;
	char **v = calloc(n + 1, sizeof(*v));
	for (size_t i = 0; i < n; i++)
		v[i] = strdup(from[i]);
	return v;
}

static int build(const char *line, const char *const *env, struct vc_exec_start *s, struct vc_error *err)
{
	static const char *const none[] = {NULL};
	enum slurmopt_tool tool;
	*s = (struct vc_exec_start){.umask = 022};
	assert_int_equal(vc_parse_list("line", line, ' ', 64, &s->argv, NULL), 0);
	s->env = copy(env ? env : none);
	s->cwd = strdup("/guest/dir");
	assert_int_equal(slurmopt_tool_from_name(s->argv[0], &tool, NULL), 0);
	return slurmcmd_build(&plan, &conf, tool, s, err);
}

static void joined(char **argv, char *text, size_t size)
{
	text[0] = '\0';
	for (size_t i = 0; argv[i]; i++) {
		size_t n = strlen(text);
		snprintf(text + n, size - n, "%s%s", i ? " " : "", argv[i]);
	}
}

static void commands(void **state)
{
#define TAIL " --jobid=12 --chdir=/ --export=ALL -- "
	static const struct {
		const char *line, *want;
	} cases[] = {
		{"srun -n 4 a -x", "/usr/bin/srun --ntasks=4" TAIL "a -x"},
		{"srun -w n2 a", "/usr/bin/srun --nodelist=n2" TAIL "a"},
		{"srun -w vc12-2 a", "/usr/bin/srun --nodelist=n2" TAIL "a"},
		{"srun -x n[1-2] a", "/usr/bin/srun --exclude=n[1-2]" TAIL "a"},
		{"srun --export=NONE a", "/usr/bin/srun" TAIL "a"},
		{"srun --multi-prog m.conf a", "/usr/bin/srun" TAIL "m.conf a"},
		{"srun --jobid=12 a", "/usr/bin/srun" TAIL "a"},
		{"srun -o 1 -i 0 --error=all a", "/usr/bin/srun" TAIL "a"},
		{"srun -o o.%t -e /etc/%n --open-mode=append a", "/usr/bin/srun" TAIL "a"},
		{"srun --gres=none --test-only a", "/usr/bin/srun --gres=none --test-only" TAIL "a"},
		{"srun --version -w n9 a", "/usr/bin/srun --version"},
		{"srun --mpi=list", "/usr/bin/srun --mpi=list --jobid=12 --chdir=/ --export=ALL"},
		{"scancel -V 13", "/usr/bin/scancel --version"},
		{"squeue --version", "/usr/bin/squeue --version"},
		{"scancel 12", "/usr/bin/scancel 12"},
		{"scancel -s USR1 12.0 12", "/usr/bin/scancel --signal=USR1 12.0 12"},
		{"squeue", "/usr/bin/squeue --jobs=12"},
		{"squeue -h -u root", "/usr/bin/squeue --noheader --jobs=12"},
		{"squeue -j 12", "/usr/bin/squeue --jobs=12"},
		{"squeue -j12", "/usr/bin/squeue --jobs=12"},
		{"scontrol show job", "/usr/bin/scontrol show job 12"},
		{"scontrol -o show job 12", "/usr/bin/scontrol --oneliner show job 12"},
	};
	static const char *const env[] = {"VCLUSTER_PROGRAMS=* /bin/id", NULL};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct vc_exec_start s;
		struct vc_error err = VC_ERROR_INIT;
		char text[512];
		if (build(cases[i].line, env, &s, &err) < 0)
			fail_msg("%s: %s", cases[i].line, err.text);
		joined(s.argv, text, sizeof(text));
		assert_string_equal(text, cases[i].want);
		assert_string_equal(s.cwd, "/");
		vc_exec_start_clear(&s);
	}
}

static void refused(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{"scancel 13", "own job 12"},
		{"scancel 12 13", "own job 12"},
		{"scancel 12_1", "own job 12"},
		{"scancel 12.x", "own job 12"},
		{"scancel 013", "own job 12"},
		{"scancel", "name the job"},
		{"squeue -j13", "own job 12"},
		{"squeue 13", "own job 12"},
		{"scontrol show job 13", "own job 12"},
		{"scontrol show job 12 13", "own job 12"},
		{"scontrol update job 12", "only 'show job'"},
		{"scontrol show node", "only 'show job'"},
		{"scontrol shutdown", "only 'show job'"},
		{"scontrol", "only 'show job'"},
		{"srun -w n3 a", "neither a member nor a host"},
		{"srun -w vc12-0 a", "shares its host"},
		{"srun --jobid=13 a", "own job"},
		{"srun --export==x a", "not a variable"},
		{"srun -o /etc/passwd a", "the guest's to open"},
		{"srun -i /etc/shadow a", "the guest's to open"},
		{"srun -e none a", "the guest's to open"},
		{"srun -o o.%j a", "the guest's to open"},
		{"srun --multi-prog m.conf", "--multi-prog"}, // without its text
		{"srun --gres=gpu a", "no such devices"},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct vc_exec_start s;
		struct vc_error err = VC_ERROR_INIT;
		if (build(cases[i].line, NULL, &s, &err) == 0)
			fail_msg("taken: %s", cases[i].line);
		assert_contains(err.text, cases[i].says);
		assert_string_equal(s.cwd, "/guest/dir"); // nothing was changed
		vc_exec_start_clear(&s);
	}
}

static void another_tool(void **state)
{
	struct vc_exec_start s = {0};
	static const char *const bad[] = {"/bin/sh", NULL}, *const path[] = {"/tmp/srun", NULL};
	(void)state;
	s.argv = copy(bad);
	assert_int_equal(slurmcmd_build(&plan, &conf, SLURMOPT_SRUN, &s, NULL), -1);
	vc_strv_free(s.argv);
	s.argv = copy(path);
	assert_int_equal(slurmcmd_build(&plan, &conf, SLURMOPT_SRUN, &s, NULL), -1);
	vc_strv_free(s.argv);
	s.argv = NULL;
	assert_int_equal(slurmcmd_build(&plan, &conf, SLURMOPT_SRUN, &s, NULL), -1);
}

// None of the guest's variables may keep its name on the host, but for the numbers that srun reads.
static void environment(void **state)
{
	static const char *const env[] = {"LD_PRELOAD=/home/alice/evil.so", "PATH=/evil", "SLURM_CONF=/evil", "SLURM_JOB_ID=99",
					  "SLURM_NTASKS=4",	"SLURM_NTASKS_PER_NODE=\x01", "SLURM_PROLOG=/evil", "GCONV_PATH=/evil",
					  "SLURM_SPANK_X=1",	"VCLUSTER_RANK=0",   "VCLUSTER_STDOUT=>/etc/x", "VCLUSTER_PROGRAMS=* x",
					  "FOO=bar", "novalue", "=x", NULL};
	struct vc_exec_start s;
	char text[2048];
	(void)state;
	assert_int_equal(build("srun a", env, &s, NULL), 0);
	for (size_t i = 0; s.env[i]; i++) {
		static const char *const own[] = {"PATH=/var/empty", "HOME=/home/alice", "USER=alice", "LOGNAME=alice",
						  "SLURM_JOB_ID=12", "SLURM_JOBID=12", "SLURM_CONF=/etc/slurm/slurm.conf",
						  "SLURM_NTASKS=4",  "VCLUSTER_CWD=/guest/dir", "VCEXEC_ONE_PROGRAM=1"};
		bool known = !strncmp(s.env[i], "VCLUSTER_PASS_", 14);
		for (size_t j = 0; j < VC_ARRAY_LEN(own); j++)
			known = known || !strcmp(own[j], s.env[i]);
		if (!known)
			fail_msg("on the host: %s", s.env[i]);
	}
	joined(s.env, text, sizeof(text));
	assert_contains(text, "VCLUSTER_PASS_LD_PRELOAD=/home/alice/evil.so");
	assert_contains(text, "VCLUSTER_PASS_PATH=/evil");
	assert_contains(text, "VCLUSTER_PASS_FOO=bar");
	assert_contains(text, "SLURM_NTASKS=4");
	assert_null(strstr(text, "PASS_VCLUSTER_RANK"));
	vc_exec_start_clear(&s);
}

static void exported(void **state)
{
	static const char *const env[] = {"A=1", "B=2", "SLURM_NTASKS=4", "SLURM_X=y", NULL};
	static const struct {
		const char *line, *has, *has_not;
	} cases[] = {
		{"srun --export=NONE a", "VCLUSTER_PASS_SLURM_X=y", "PASS_A="},
		{"srun --export=A a", "VCLUSTER_PASS_A=1", "PASS_B="},
		{"srun --export=ALL,B=3 a", "VCLUSTER_PASS_B=3", "PASS_B=2"},
		{"srun --export=B=3 a", "VCLUSTER_PASS_B=3", "PASS_A="},
		{"srun a", "VCLUSTER_PASS_A=1", "PASS_SLURM_NTASKS"},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct vc_exec_start s;
		char text[2048];
		assert_int_equal(build(cases[i].line, env, &s, NULL), 0);
		joined(s.env, text, sizeof(text));
		assert_contains(text, cases[i].has);
		assert_null(strstr(text, cases[i].has_not));
		vc_exec_start_clear(&s);
	}
}

static const char *value_of(char *const *env, const char *name)
{
	size_t n = strlen(name);
	for (; *env; env++) {
		if (!strncmp(*env, name, n) && (*env)[n] == '=')
			return *env + n + 1;
	}
	return NULL;
}

// What tasks' machines are to open and to run is told to them, and to nobody here.
static void for_the_tasks(void **state)
{
	static char text[10 + 8 + 1 + 60001];
	static const char *const env[] = {"VCLUSTER_PROGRAMS=0 a\n1 b\n", NULL}, *const large[] = {text, NULL};
	struct vc_exec_start s;
	struct vc_error err = VC_ERROR_INIT;
	(void)state;
	assert_int_equal(build("srun -i in.%t -o out.%t -e err.%N --multi-prog m.conf", env, &s, NULL), 0);
	assert_string_equal(value_of(s.env, "VCLUSTER_STDIN"), "<in.%t");
	assert_string_equal(value_of(s.env, "VCLUSTER_STDOUT"), ">out.%t");
	assert_string_equal(value_of(s.env, "VCLUSTER_STDERR"), ">err.%N");
	assert_string_equal(value_of(s.env, "VCLUSTER_PROGRAMS"), "0 a\n1 b\n");
	vc_exec_start_clear(&s);
	assert_int_equal(build("srun -o out.%t --open-mode=append -e 3 -i all a", env, &s, NULL), 0);
	assert_string_equal(value_of(s.env, "VCLUSTER_STDOUT"), ">>out.%t");
	assert_null(value_of(s.env, "VCLUSTER_PROGRAMS"));
	assert_string_equal(value_of(s.env, "VCLUSTER_STDERR"), ">>3");
	assert_null(value_of(s.env, "VCLUSTER_STDIN"));
	vc_exec_start_clear(&s);
	snprintf(text, sizeof(text), "VCLUSTER_PROGRAMS=%060001d", 0);
	assert_int_equal(build("srun --multi-prog m.conf", large, &s, &err), -1);
	assert_contains(err.text, "more than 60000 bytes");
	vc_exec_start_clear(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands),    cmocka_unit_test(refused),  cmocka_unit_test(another_tool),
		cmocka_unit_test(environment), cmocka_unit_test(exported), cmocka_unit_test(for_the_tasks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
