// SPDX-License-Identifier: GPL-2.0-or-later
// spank_vcluster.so through its own entry points, in a fake Slurm: each context as Slurm drives it.
#include "tests/unit/test.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/spec.h"
#include "libvc/taskref.h"
#include "tests/unit/fake_spank.h"

#define OPTION_PREFIX "SLURM_SPANK__SLURM_SPANK_OPTION_vcluster_"

static char dir[64];
static char arg_marks[128], arg_vcexec[128], arg_socket[128];
static char *own_name; // argv[0] of main, for /proc/self/cmdline
static char *plugin_argv[] = {arg_marks, arg_vcexec, arg_socket};

static int init(spank_context_t context)
{
	slurm_spank_exit(NULL, 0, NULL);
	fake_reset(context);
	return slurm_spank_init(NULL, 3, plugin_argv);
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	vc_autoclose int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
}

static void remove_file(const char *name)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
}

// A fake: prints its arguments, its task and its limit of open files.
static void write_vcexec(void)
{
	write_file("vcexec", "#!/bin/sh\nfor a; do printf '<%s>' \"$a\"; done\necho \" $VCEXEC_TASK $(ulimit -S -n)\"\n", 0755);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_spank.XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(arg_marks, sizeof(arg_marks), "marks=%s/run/jobs", dir);
	snprintf(arg_vcexec, sizeof(arg_vcexec), "vcexec=%s/vcexec", dir);
	snprintf(arg_socket, sizeof(arg_socket), "socket=%s/vcd.sock", dir);
	write_vcexec();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	slurm_spank_exit(NULL, 0, NULL);
	fake_reset(S_CTX_ERROR);
	remove_file("vcexec");
	remove_file("run/jobs/123");
	remove_file("m.conf");
	remove_file("out");
	char path[128];
	snprintf(path, sizeof(path), "%s/run/jobs", dir);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/run", dir);
	rmdir(path);
	return rmdir(dir);
}

static void clear_defaults(void)
{
	char name[128];
	for (size_t i = 0; i < VC_SPEC_OPTS; i++) {
		unsetenv(vc_spec_options[i].env);
		snprintf(name, sizeof(name), OPTION_PREFIX "%s", vc_spec_options[i].name);
		for (char *p = name; *p; p++)
			*p = *p == '-' ? '_' : *p;
		unsetenv(name);
	}
	unsetenv("SPANK_" VC_SPEC_CONTROL_NAME);
}

// --- srun, sbatch, salloc --------------------------------------------------------------------------------------

static void test_every_option(void **state)
{
	(void)state;
	static const char *const values[VC_SPEC_OPTS] = {"mpich", "2", "3", "768M", "guest", "/a:/b:ro", "/data/in.dat", "out.dat",
							   "jq", "2-8", "cod,weight=2", "kill"};
	clear_defaults();
	assert_int_equal(init(S_CTX_ALLOCATOR), 0);
	assert_int_equal(fake.n_options, VC_SPEC_OPTS);
	for (size_t i = 0; i < VC_SPEC_OPTS; i++)
		assert_int_equal(fake_option(vc_spec_options[i].name, values[i]), 0);
	assert_int_equal(slurm_spank_init_post_opt(NULL, 0, NULL), 0);
	assert_string_equal(fake.control_name, "VCLUSTER_SPEC");
	vc_autospec struct vc_spec *spec = vc_spec_from_text(fake.control_value, NULL);
	assert_non_null(spec);
	assert_string_equal(spec->image, "mpich");
	assert_int_equal(spec->vms, 2);
	assert_int_equal(spec->cpus, 3);
	assert_int_equal(spec->mem_mib, 768);
	assert_int_equal(spec->script, VC_SPEC_SCRIPT_GUEST);
	assert_true(spec->mounts[0].ro);
	assert_string_equal(spec->stage_in[0], "/data/in.dat");
	assert_int_equal(spec->size_max, 8);
	assert_string_equal(spec->elastic.policy, "cod");
	assert_int_equal(spec->on_preempt, VC_SPEC_PREEMPT_KILL);
	vc_autofree char *here = get_current_dir_name(), *out = NULL; // a relative name is meant from here
	assert_true(asprintf(&out, "%s/out.dat", here) > 0);
	assert_string_equal(spec->stage_out[0], out);
	assert_string_equal(fake.log, "vcluster: --vcluster-stage-in: /data/in.dat: No such file or directory here; if the job's hosts lack it "
			    "as well, it will fail\n");
}

static void test_script_on_host(void **state)
{
	(void)state;
	clear_defaults();
	assert_int_equal(init(S_CTX_ALLOCATOR), 0);
	assert_int_equal(fake_option("vcluster", "mpich"), 0);
	assert_int_equal(fake_option("vcluster-script", "host"), 0);
	assert_int_equal(slurm_spank_init_post_opt(NULL, 0, NULL), 0);
	vc_autospec struct vc_spec *spec = vc_spec_from_text(fake.control_value, NULL);
	assert_non_null(spec);
	assert_int_equal(spec->script, VC_SPEC_SCRIPT_HOST);
	assert_int_equal(fake_option("vcluster-stage-out", "out.dat"), 0);
	assert_int_equal(slurm_spank_init_post_opt(NULL, 0, NULL), -1);
	assert_contains(fake.log, "vcluster: --vcluster-stage-out copies when");
}

static void test_no_option_no_trace(void **state)
{
	(void)state;
	static const spank_context_t contexts[] = {S_CTX_ALLOCATOR, S_CTX_LOCAL};
	clear_defaults();
	for (size_t i = 0; i < VC_ARRAY_LEN(contexts); i++) {
		assert_int_equal(init(contexts[i]), 0);
		assert_int_equal(slurm_spank_init_post_opt(NULL, 0, NULL), 0);
		assert_int_equal(slurm_spank_local_user_init(NULL, 0, NULL), 0);
		assert_null(fake.control_name);
		assert_string_equal(fake.log, "");
	}
}

static void test_bad_values(void **state)
{
	(void)state;
	static const char *const rows[][3] = {
		{"vcluster", "../x", "vcluster: --vcluster: '../x' is not an image's name"},
		{"vcluster-vms", "0", "vcluster: --vcluster-vms: '0' is outside 1 to 64"},
		{"vcluster-cpus", "x", "vcluster: --vcluster-cpus: 'x' is not a whole number"},
		{"vcluster-mem", "1K", "vcluster: --vcluster-mem: 0 MiB is outside"},
		{"vcluster-script", "moon", "vcluster: --vcluster-script: 'moon' is neither 'guest' nor 'host'"},
		{"vcluster-mount", "/a", "vcluster: --vcluster-mount: '/a' is not SRC:DST"},
		{"vcluster-stage-in", ",", "vcluster: --vcluster-stage-in: item 1 is empty"},
		{"vcluster-stage-out", "", "vcluster: --vcluster-stage-out: a value is missing"},
	};
	clear_defaults();
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		assert_int_equal(init(S_CTX_LOCAL), 0);
		assert_int_equal(fake_option(rows[i][0], rows[i][1]), -1);
		assert_contains(fake.log, rows[i][2]);
	}
	assert_int_equal(init(S_CTX_ALLOCATOR), 0);
	assert_int_equal(fake_option("vcluster-vms", "2"), 0);
	assert_int_equal(slurm_spank_init_post_opt(NULL, 0, NULL), -1);
	assert_contains(fake.log, "--vcluster-vms needs --vcluster=IMAGE");
	assert_null(fake.control_name);
}

static void test_environment(void **state)
{
	(void)state;
	clear_defaults();
	setenv("VCLUSTER_OPT_IMAGE", "mpich", 1);
	setenv("VCLUSTER_OPT_VMS", "4", 1);
	setenv("VCLUSTER_OPT_MEM", "much", 1);
	assert_int_equal(init(S_CTX_ALLOCATOR), 0);
	assert_string_equal(getenv(OPTION_PREFIX "vcluster"), "mpich"); // so that Slurm sets it in slurmstepd too
	assert_string_equal(getenv(OPTION_PREFIX "vcluster_vms"), "4");
	assert_null(getenv(OPTION_PREFIX "vcluster_mem"));
	assert_int_equal(fake_option("vcluster", "mpich"), 0);
	assert_int_equal(fake_option("vcluster-vms", "4"), 0);
	assert_int_equal(slurm_spank_init_post_opt(NULL, 0, NULL), -1);
	assert_contains(fake.log, "environment variable VCLUSTER_OPT_MEM");
	assert_int_equal(fake_option("vcluster-mem", "1G"), 0);
	assert_int_equal(slurm_spank_init_post_opt(NULL, 0, NULL), 0);
	assert_contains(fake.control_value, "\"vms\":4");
	clear_defaults();
}

static void test_unknown_argument(void **state)
{
	(void)state;
	char *argv[] = {(char *)"sokcet=/x"};
	slurm_spank_exit(NULL, 0, NULL);
	fake_reset(S_CTX_SLURMD);
	assert_int_equal(slurm_spank_init(NULL, 1, argv), -1);
	assert_contains(fake.log, "plugstack.conf: unknown argument 'sokcet=/x'");
}

static void test_multiprog_is_wrapped(void **state)
{
	(void)state;
	char path[128], *argv[] = {path, (char *)"0 a b\n* c\n", (char *)"more", NULL};
	char expected[256];
	snprintf(path, sizeof(path), "%s/m.conf", dir);
	write_file("m.conf", argv[1], 0755);
	clear_defaults();
	assert_int_equal(init(S_CTX_LOCAL), 0);
	fake.argc = 3;
	fake.argv = argv;
	assert_int_equal(slurm_spank_local_user_init(NULL, 0, NULL), 0);
	assert_string_equal(argv[1], "0 a b\n* c\n"); // a plain job's
	assert_int_equal(fake_option("vcluster", "img"), 0);
	assert_int_equal(slurm_spank_local_user_init(NULL, 0, NULL), 0);
	snprintf(expected, sizeof(expected), "0 %s/vcexec -- a b\n* %s/vcexec -- c\n", dir, dir);
	assert_string_equal(argv[1], expected);
	free(argv[1]);
	write_file("m.conf", "0 a b\n", 0644);
	argv[1] = (char *)"0 apples"; // a command's argument
	assert_int_equal(slurm_spank_local_user_init(NULL, 0, NULL), 0);
	assert_string_equal(argv[1], "0 apples");
	argv[1] = (char *)"0 a 'b\n";
	write_file("m.conf", argv[1], 0644);
	assert_int_equal(slurm_spank_local_user_init(NULL, 0, NULL), 0); // it is Slurm's, or the task's, to complain
	free(argv[1]);
	remove_file("m.conf");
}

// This program's own command line stands for srun's.
static void test_one_program_is_marked(void **state)
{
	(void)state;
	static const struct {
		const char *word;
		bool one;
	} rows[] = {{"srun", true}, {"--mpi=none", true}, {"--m", true}, {"--mu", false}, {"--multi-prog", false}, {"--multi-x", true}};
	size_t room = strlen(own_name);
	vc_autofree char *name = strdup(own_name);
	char *argv[] = {(char *)"prog", (char *)"0 1", NULL};
	skip_under_valgrind(); // it keeps a copy of the command line
	assert_true(name && room >= strlen("--multi-prog"));
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		memset(own_name, 0, room);
		memcpy(own_name, rows[i].word, strlen(rows[i].word));
		clear_defaults();
		unsetenv(VC_TASKREF_ONE_PROGRAM_ENV);
		assert_int_equal(init(S_CTX_LOCAL), 0);
		fake.argc = 2;
		fake.argv = argv;
		assert_int_equal(slurm_spank_local_user_init(NULL, 0, NULL), 0);
		assert_null(getenv(VC_TASKREF_ONE_PROGRAM_ENV)); // a plain job's
		assert_int_equal(fake_option("vcluster", "img"), 0);
		assert_int_equal(slurm_spank_local_user_init(NULL, 0, NULL), 0);
		if ((getenv(VC_TASKREF_ONE_PROGRAM_ENV) != NULL) != rows[i].one)
			fail_msg("%s: %s", rows[i].word, rows[i].one ? "not marked" : "marked");
	}
	memcpy(own_name, name, room);
	unsetenv(VC_TASKREF_ONE_PROGRAM_ENV);
}

// --- slurmstepd ------------------------------------------------------------------------------------------------

static int run_task(char **argv, int argc)
{
	fake.argv = argv;
	fake.argc = argc;
	return slurm_spank_task_init(NULL, 0, NULL);
}

static void test_task_of_plain_job(void **state)
{
	(void)state;
	char *argv[] = {(char *)"/bin/true", (char *)"x", NULL};
	assert_int_equal(init(S_CTX_REMOTE), 0);
	assert_int_equal(run_task(argv, 2), 0);
	assert_string_equal(argv[0], "/bin/true");
	assert_null(fake.env[0]);
	assert_string_equal(fake.log, "");
	fake.no_items = true; // whatever Slurm does: a job that did not ask is let alone
	assert_int_equal(run_task(argv, 2), 0);
}

static void ask(void)
{
	assert_int_equal(init(S_CTX_REMOTE), 0);
	for (int twice = 0; twice < 2; twice++) { // Slurm calls it twice
		assert_int_equal(fake_option("vcluster", "img"), 0);
		assert_int_equal(fake_option("vcluster-vms", "rubbish"), 0); // not this side's to judge
	}
}

static void assert_vcexec(char **argv, const char *program, const char *taskref)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/vcexec", dir);
	assert_string_equal(argv[0], path);
	assert_string_equal(fake_env(VC_TASKREF_ENV), taskref);
	assert_string_equal(fake_env(VC_TASKREF_PROGRAM_ENV), program);
	free(argv[0]);
}

static void test_task(void **state)
{
	(void)state;
	char *argv[] = {(char *)"a.out", (char *)"--x", NULL};
	ask();
	fake.local = 1;
	fake.tasks = 3;
	fake.restart = 2;
	fake_env_set(VC_TASKREF_PROGRAM_ENV, "/forged");
	assert_int_equal(run_task(argv, 2), 0);
	assert_string_equal(argv[1], "--x");
	assert_vcexec(argv, "a.out", "job=123 restart=2 kind=task local=1 tasks=3");
}

static void test_batch(void **state)
{
	(void)state;
	char *argv[] = {(char *)"/spool/job/slurm_script", (char *)"0 a", NULL};
	ask();
	fake.step = 0xfffffffb;
	assert_int_equal(run_task(argv, 2), 0);
	assert_vcexec(argv, "/spool/job/slurm_script", "job=123 restart=0 kind=script local=0 tasks=1");
}

static void test_batch_on_host(void **state)
{
	(void)state;
	char *argv[] = {(char *)"/spool/job/slurm_script", NULL};
	ask();
	assert_int_equal(fake_option("vcluster-script", "host"), 0);
	fake.step = 0xfffffffb;
	assert_int_equal(run_task(argv, 1), 0);
	assert_string_equal(argv[0], "/spool/job/slurm_script");
	fake.step = 0;
	assert_int_equal(run_task(argv, 1), 0);
	assert_vcexec(argv, "/spool/job/slurm_script", "job=123 restart=0 kind=task local=0 tasks=1");
}

static void make_mark(const char *text)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/run", dir);
	mkdir(path, 0755);
	snprintf(path, sizeof(path), "%s/run/jobs", dir);
	mkdir(path, 0755);
	write_file("run/jobs/123", text, 0644);
}

static void test_marked(void **state)
{
	(void)state;
	char *argv[] = {(char *)"/bin/true", NULL};
	if (geteuid() != 0)
		skip(); // a mark is root's
	make_mark("");
	assert_int_equal(init(S_CTX_REMOTE), 0);
	fake.job = 124;
	assert_int_equal(run_task(argv, 1), 0);
	assert_string_equal(argv[0], "/bin/true");
	fake.job = 123;
	fake.no_rank = true; // it cannot be said which task: of this job none may run here
	assert_int_equal(run_task(argv, 1), -1);
	assert_contains(fake.log, "does not say which task");
	fake.no_rank = false;
	assert_int_equal(run_task(argv, 1), 0);
	assert_vcexec(argv, "/bin/true", "job=123 restart=0 kind=task local=0 tasks=1");
	write_file("run/jobs/123", "0123456789abcdef0123456789abcdef 3\n", 0644); // vcd's own mark says which run is here
	argv[0] = (char *)"/bin/true";
	assert_int_equal(run_task(argv, 1), 0);
	assert_vcexec(argv, "/bin/true", "job=123 restart=3 kind=task local=0 tasks=1");
	char path[128];
	snprintf(path, sizeof(path), "%s/run/jobs/123", dir);
	assert_int_equal(chown(path, 12345, 12345), 0); // somebody's own file is no mark
	argv[0] = (char *)"/bin/true";
	assert_int_equal(run_task(argv, 1), 0);
	assert_string_equal(argv[0], "/bin/true");
	remove_file("run/jobs/123");
}

// slurmstepd of 22.05 says 0 to the plugin: a batch script's environment has the count, and vcd's mark for every task.
static void test_restarted(void **state)
{
	(void)state;
	char *argv[] = {(char *)"/bin/true", NULL};
	ask();
	fake_env_set("SLURM_RESTART_COUNT", "4"); // the user's own to forge: vcd's mark says it
	make_mark("0123456789abcdef0123456789abcdef 3\n");
	assert_int_equal(run_task(argv, 1), 0);
	assert_vcexec(argv, "/bin/true", "job=123 restart=3 kind=task local=0 tasks=1");
	remove_file("run/jobs/123");
}

static void test_refused(void **state)
{
	(void)state;
	static const struct {
		const char *variable, *program, *message;
	} rows[] = {
		{"SLURM_HET_SIZE", "/bin/true", "vcluster: a heterogeneous job"},
		{"SLURM_CONTAINER", "/bin/true", "vcluster: --container"},
		{"X", "/tmp/", "vcluster: --bcast"},
		{"X", "", "vcluster: Slurm names no program"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		char *argv[] = {(char *)rows[i].program, NULL};
		ask();
		fake_env_set(rows[i].variable, "1");
		assert_int_equal(run_task(argv, 1), -1);
		assert_contains(fake.log, rows[i].message);
		assert_string_equal(argv[0], rows[i].program);
	}
	ask();
	fake.no_items = true;
	assert_int_equal(run_task(NULL, 0), -1);
	remove_file("vcexec");
	ask();
	char *argv[] = {(char *)"/bin/true", NULL};
	assert_int_equal(run_task(argv, 1), -1);
	assert_contains(fake.log, "lacks vcexec");
	write_vcexec();
}

// In a child, as it is replaced: what the task becomes.
static void run_in_child(char **argv, int argc, char out[512])
{
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(fds[1], 1);
		close(fds[0]);
		close(fds[1]);
		run_task(argv, argc);
		_exit(99);
	}
	close(fds[1]);
	ssize_t n, len = 0;
	while ((n = read(fds[0], out + len, 511 - (size_t)len)) > 0)
		len += n;
	out[len] = '\0';
	close(fds[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

// Slurm takes the program from such a text, whatever argv[0] is: none of these may come back from the hook.
static void test_multiprog_is_executed(void **state)
{
	(void)state;
	char file[128];
	const struct {
		const char *argv[4];
		const char *file; // the text of argv[0]
		const char *out;
		bool one;     // VCEXEC_ONE_PROGRAM: srun had no --multi-prog
		bool spawned; // it is of the spawner's step
	} rows[] = {
		{{"m.conf", "0 a\n1-2 b 'c d' %t %o\n"}, NULL, "<--><b><c d><2><1>", false, false},
		{{"m.conf", "2 b\n", "more", "%t"}, NULL, "<--><b><more><%t>", false, false},
		{{file, "* b\n"}, "* b\n", "<--><b>", false, false},
		{{file, "word\nx,2 b\n"}, "word\nx,2 b\n", "<--><b>", false, false},
		{{"/bin/echo", "2 apples"}, NULL, "<--></bin/echo><2 apples>", false, false},
		{{"/bin/echo", "2 apples", "more"}, NULL, "<--></bin/echo><2 apples><more>", false, false},
		{{"prog", "5 apples"}, NULL, "<--><prog><5 apples>", false, false}, // of the image
		{{"prog", "2 apples"}, NULL, "<--><prog><2 apples>", true, false},
		{{"/tmp/7.x", "2 b\n"}, NULL, "<--><b>", true, true},
		{{"m.conf", "2 b\n"}, NULL, "<--><m.conf><2 b\n>", true, false}, // where it is a lie: still vcexec
	};
	skip_under_valgrind(); // it sets no limit of descriptors
	snprintf(file, sizeof(file), "%s/m.conf", dir);
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		char *argv[5] = {NULL}, out[512], expected[512];
		int argc = 0;
		for (; argc < 4 && rows[i].argv[argc]; argc++)
			argv[argc] = (char *)rows[i].argv[argc];
		if (rows[i].file)
			write_file("m.conf", rows[i].file, 0755); // executable, as on file systems where everything is
		ask();
		fake.rank = 2;
		fake_env_set("SLURM_RLIMIT_NOFILE", "77");
		if (rows[i].one)
			fake_env_set(VC_TASKREF_ONE_PROGRAM_ENV, "1");
		if (rows[i].spawned)
			fake_env_set("PMI_SPAWNED", "1");
		run_in_child(argv, argc, out);
		snprintf(expected, sizeof(expected), "%s job=123 restart=0 kind=task local=0 tasks=1 77\n", rows[i].out);
		assert_string_equal(out, expected);
	}
	char *argv[] = {file, (char *)"5 b\n", NULL};
	write_file("m.conf", argv[1], 0644);
	ask();
	assert_int_equal(run_task(argv, 2), -1);
	assert_contains(fake.log, "no program for task 0");
	remove_file("m.conf");
}

// Both readings end in vcexec: Slurm's own of the text, and that of a command with such an argument.
static void test_multiprog_wrapped_by_srun(void **state)
{
	(void)state;
	char text[256], path[128], *argv[] = {(char *)"m.conf", text, NULL};
	snprintf(text, sizeof(text), "0 %s/vcexec -- a\n", dir);
	snprintf(path, sizeof(path), "%s/vcexec", dir);
	ask();
	fake_env_set(VC_TASKREF_PROGRAM_ENV, "/forged");
	assert_int_equal(run_task(argv, 2), 0);
	assert_string_equal(fake_env(VC_TASKREF_ENV), "job=123 restart=0 kind=task local=0 tasks=1");
	assert_null(fake_env(VC_TASKREF_PROGRAM_ENV));
	assert_string_equal(argv[0], path);
	free(argv[0]);
}

// --- the hosts' prolog and epilog ------------------------------------------------------------------------------

static int prolog(void)
{
	fake_reset(S_CTX_JOB_SCRIPT);
	return slurm_spank_job_prolog(NULL, 3, plugin_argv);
}

static int epilog(void)
{
	fake_reset(S_CTX_JOB_SCRIPT);
	return slurm_spank_job_epilog(NULL, 3, plugin_argv);
}

static bool marked(void)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/run/jobs/123", dir);
	return access(path, F_OK) == 0;
}

// A lease's job: its prolog marks it, and no step but vc-lease runs in it.
static void test_lease(void **state)
{
	(void)state;
	char *other[] = {(char *)"/bin/true", NULL}, *step[] = {(char *)VC_LIBEXECDIR "/vc-lease", NULL};
	if (geteuid() != 0)
		skip(); // a mark is root's
	clear_defaults();
	setenv("SPANK_VCLUSTER_LEASE", "0123456789abcdef0123456789abcdef 7 99", 1);
	assert_int_equal(prolog(), 0);
	assert_false(marked());
	unsetenv("SPANK_VCLUSTER_LEASE");
	assert_int_equal(init(S_CTX_REMOTE), 0);
	assert_int_equal(run_task(other, 1), -1);
	assert_contains(fake.log, "only holds a host");
	assert_int_equal(run_task(step, 1), 0);
	assert_string_equal(step[0], VC_LIBEXECDIR "/vc-lease");
	assert_int_equal(epilog(), 0); // no vcd answers here: that is logged
	assert_int_equal(init(S_CTX_REMOTE), 0);
	assert_int_equal(run_task(other, 1), 0);
}

static void test_job_scripts_of_plain_job(void **state)
{
	(void)state;
	clear_defaults();
	assert_int_equal(prolog(), 0);
	assert_false(marked());
	assert_int_equal(epilog(), 0);
	assert_string_equal(fake.log, "");
}

static void test_job_scripts_without_vcd(void **state)
{
	(void)state;
	setenv("SPANK_" VC_SPEC_CONTROL_NAME, "{\"v\":1,\"image\":\"i\"}", 1);
	assert_int_equal(prolog(), 0); // a host is not drained for it
	assert_contains(fake.log, "vcluster: job 123: ");
	assert_true(marked());
	unsetenv("SPANK_" VC_SPEC_CONTROL_NAME);
	if (geteuid() != 0)
		skip();
	assert_int_equal(epilog(), 0); // the mark alone says that there is something to release
	assert_contains(fake.log, "vcluster: job 123: this host's share is not released");
	assert_true(marked()); // for vcd, when it is back
	remove_file("run/jobs/123");
}

static void test_job_scripts_bad_arguments(void **state)
{
	(void)state;
	char *argv[] = {(char *)"nonsense"};
	fake_reset(S_CTX_JOB_SCRIPT);
	assert_int_equal(slurm_spank_job_prolog(NULL, 1, argv), 0);
	assert_int_equal(slurm_spank_job_epilog(NULL, 1, argv), 0);
	assert_contains(fake.log, "unknown argument 'nonsense'");
}

int main(int argc, char **argv)
{
	(void)argc;
	own_name = argv[0];
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_option), cmocka_unit_test(test_script_on_host),
		cmocka_unit_test(test_no_option_no_trace),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_unknown_argument),
		cmocka_unit_test(test_multiprog_is_wrapped),
		cmocka_unit_test(test_one_program_is_marked),
		cmocka_unit_test(test_task_of_plain_job),
		cmocka_unit_test(test_task),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_batch_on_host),
		cmocka_unit_test(test_marked), cmocka_unit_test(test_lease),
		cmocka_unit_test(test_restarted),
		cmocka_unit_test(test_multiprog_is_executed),
		cmocka_unit_test(test_multiprog_wrapped_by_srun),
		cmocka_unit_test(test_job_scripts_of_plain_job),
		cmocka_unit_test(test_job_scripts_without_vcd),
		cmocka_unit_test(test_job_scripts_bad_arguments),
		cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests_name("spank", tests, setup, teardown);
}
