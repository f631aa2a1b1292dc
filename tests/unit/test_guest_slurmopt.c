// SPDX-License-Identifier: GPL-2.0-or-later
// What a guest may ask of Slurm: the tables, the parser, the command line that is made again.
#include "tests/unit/test.h"

#include "guest/slurmopt.h"
#include "libvc/cleanup.h"
#include "libvc/parse.h"

// Words of a line without quoting, as argv.
static char **words(const char *line)
{
	char **argv = NULL;
	assert_int_equal(vc_parse_list("line", line, ' ', 64, &argv, NULL), 0);
	return argv;
}

static enum slurmopt_tool tool_of(char **argv)
{
	enum slurmopt_tool tool;
	assert_int_equal(slurmopt_tool_from_name(argv[0], &tool, NULL), 0);
	return tool;
}

static void taken(void **state)
{
	static const struct {
		const char *line, *want; // as rebuilt with everything that is not the client's
	} cases[] = {
		{"srun -n4 ./a.out -n 5", "srun --ntasks=4 -- ./a.out -n 5"},
		{"srun --ntasks 4 -N 2 hostname", "srun --ntasks=4 --nodes=2 -- hostname"},
		{"srun --mpi=pmix a", "srun --mpi=pmix -- a"},
		{"srun -lu -K --mpi=pmi2 a", "srun --label --unbuffered --kill-on-bad-exit --mpi=pmi2 -- a"},
		{"srun -K0 -K1 a", "srun --kill-on-bad-exit=0 --kill-on-bad-exit=1 -- a"},
		{"srun -o out -e err -i in -D /tmp a", "srun -- a"},
		{"srun --pty -- bash -l", "srun --pty -- bash -l"},
		{"srun --ntasks-per-no=2 a", "srun --ntasks-per-node=2 -- a"}, // a prefix that fits one
		{"srun", "srun"},
		{"srun --multi-prog -n2 m.conf x", "srun --multi-prog --ntasks=2 -- m.conf x"},
		{"srun --gres=none --mpi=list --test-only a", "srun --gres=none --mpi=list --test-only -- a"},
		{"srun -h --usage", "srun"},
		{"srun -p debug -A acc --hold -d afterok:3 -I5 -k -C a&b a", "srun --immediate=5 --no-kill --constraint=a&b -- a"},
		{"scancel 12 -s TERM", "scancel --signal=TERM -- 12"},
		{"scancel --signal=USR1 -b 12.3", "scancel --signal=USR1 --batch -- 12.3"},
		{"squeue -h -o %i", "squeue --noheader --format=%i"},
		{"squeue --me -j 12", "squeue --jobs -- 12"}, // -j has its value attached only: 12 is an operand
		{"scontrol show job 12 -d", "scontrol --details -- show job 12"},
		{"scontrol -o show job", "scontrol --oneliner -- show job"},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct slurmopt_request r;
		struct vc_error err = VC_ERROR_INIT;
		vc_autostrv char **argv = words(cases[i].line);
		if (slurmopt_parse(tool_of(argv), argv, &r, &err) < 0)
			fail_msg("%s: %s", cases[i].line, err.text);
		vc_autostrv char **out =
			slurmopt_rebuild(&r, argv[0], 1u << SLURMOPT_PASS | 1u << SLURMOPT_HOST, NULL, NULL);
		char text[512] = "";
		for (size_t j = 0; out[j]; j++) {
			strcat(text, j ? " " : "");
			strcat(text, out[j]);
		}
		assert_string_equal(text, cases[i].want);
	}
}

static void refused(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{"srun -M x a", "own job"},
		{"srun --jobid=;id a", "the job's id"},
		{"srun -C $(id) a", "features"},
		{"srun --multi-prog=x conf", "no value"},
		{"srun --open-mode=x a", "append or truncate"},
		{"srun --prolog=/tmp/x a", "on the host"},
		{"srun --task-prolog=/tmp/x a", "on the host"},
		{"srun --epilog=x a", "on the host"},
		{"srun --bcast a", "sbcast"},
		{"srun --bcast=/tmp/a a", "sbcast"},
		{"srun --gres=gpu:1 a", "devices"},
		{"srun --uid=0 a", "own job"},
		{"srun -Z a", "own job"},
		{"srun --unheard-of a", "unknown"},
		{"srun -@ a", "unknown"},
		{"srun --n=3 a", "unknown"}, // fits several
		{"srun -n", "needs a value"},
		{"srun -n 0 a", "1 or more"},
		{"srun -n 3;id a", "1 or more"},
		{"srun --mpi=openmpi a", "none, pmi2, pmix"},
		{"srun --mem=$(id) a", "size"},
		{"srun --label=1 a", "no value"},
		{"srun -w --foo a", "members"},
		{"scancel -u root", "own job"},
		{"scancel --state=R", "own job"},
		{"squeue -M other", "own job"},
		{"squeue -i5", "again"},
		{"scontrol -M x show job", "own job"},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct slurmopt_request r;
		struct vc_error err = VC_ERROR_INIT;
		vc_autostrv char **argv = words(cases[i].line);
		if (slurmopt_parse(tool_of(argv), argv, &r, &err) == 0)
			fail_msg("taken: %s", cases[i].line);
		assert_int_equal(err.code, VC_EUSER);
		assert_contains(err.text, cases[i].says);
	}
}

static void bounded(void **state)
{
	char *argv[SLURMOPT_OPTIONS_MAX + 3] = {(char *)(uintptr_t) "srun"};
	char longest[SLURMOPT_VALUE_MAX + 32] = "--export=";
	struct slurmopt_request r;
	(void)state;
	for (size_t i = 1; i <= SLURMOPT_OPTIONS_MAX + 1; i++)
		argv[i] = (char *)(uintptr_t) "-l";
	assert_int_equal(slurmopt_parse(SLURMOPT_SRUN, argv, &r, NULL), -1);
	memset(longest + 9, 'x', SLURMOPT_VALUE_MAX + 1);
	char *one[] = {argv[0], longest, NULL};
	assert_int_equal(slurmopt_parse(SLURMOPT_SRUN, one, &r, NULL), -1);
	char *none[] = {NULL};
	assert_int_equal(slurmopt_parse(SLURMOPT_SRUN, none, &r, NULL), 0);
}

static void tools(void **state)
{
	enum slurmopt_tool tool;
	(void)state;
	assert_int_equal(slurmopt_tool_from_name("sbatch", &tool, NULL), -1);
	assert_int_equal(slurmopt_tool_from_name("../bin/srun", &tool, NULL), -1);
	assert_int_equal(slurmopt_tool_from_name("", &tool, NULL), -1);
}

// Each option once, what it wants or why it is refused, and no line is wider than a terminal.
static void help(void **state)
{
	(void)state;
	for (int tool = 0; tool < SLURMOPT_TOOLS; tool++) {
		vc_autofree char *text = NULL, *brief = NULL;
		size_t len;
		FILE *out = open_memstream(&text, &len);
		slurmopt_help((enum slurmopt_tool)tool, false, out);
		fclose(out);
		out = open_memstream(&brief, &len);
		slurmopt_help((enum slurmopt_tool)tool, true, out);
		fclose(out);
		assert_int_equal(strchr(brief, '\n') - brief, strlen(brief) - 1);
		assert_int_equal(strncmp(text, brief, strlen(brief)), 0);
		for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
			assert_true(strcspn(p, "\n") <= 80);
		assert_contains(text, "--version");
		assert_contains(text, "Not possible here");
		if (tool == SLURMOPT_SRUN) {
			assert_contains(text, "\n  -n, --ntasks=VALUE ");
			assert_contains(text, "\n      --multi-prog\n");
			assert_contains(strstr(text, "Not possible"), "--uid=VALUE");
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken),
		cmocka_unit_test(refused),
		cmocka_unit_test(bounded),
		cmocka_unit_test(tools),
		cmocka_unit_test(help),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
