// SPDX-License-Identifier: GPL-2.0-or-later
// The plugin's pure parts: plugstack arguments, the table of task decisions, multi-prog files, collected options.
#include "tests/unit/test.h"

#include "libvc/cleanup.h"
#include "libvc/multiprog.h"
#include "plugins/args.h"
#include "plugins/decide.h"
#include "plugins/options.h"

static void test_args(void **state)
{
	(void)state;
	struct plugin_args args;
	char *good[] = {"socket=/tmp/s", "epilog-timeout=5s", "drain=no"};
	assert_int_equal(plugin_args_parse(3, good, &args, NULL), 0);
	assert_string_equal(args.socket, "/tmp/s");
	assert_int_equal(args.epilog_ms, 5000);
	assert_false(args.drain);
	assert_string_equal(args.marks, "/run/vcd/jobs");
	static const char *const bad[][2] = {
		{"sokcet=/tmp/s", "unknown argument 'sokcet=/tmp/s'"}, {"socket", "unknown argument 'socket'"},
		{"socket=tmp/s", "not an absolute path"},	       {"drain=maybe", "neither 'yes' nor 'no'"},
		{"prolog-timeout=x", "prolog-timeout"},		       {"epilog-timeout=2h", "epilog-timeout"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(bad); i++) {
		char *argv[] = {(char *)bad[i][0]};
		struct vc_error err = VC_ERROR_INIT;
		assert_int_equal(plugin_args_parse(1, argv, &args, &err), -1);
		assert_contains(err.text, bad[i][1]);
		assert_string_equal(args.socket, "/tmp/s");
	}
}

static const struct {
	const char *what;
	struct task_facts facts;
	enum task_action action;
	const char *why;
} decisions[] = {
	{"plain task", {0}, TASK_PLAIN, NULL},
	{"plain batch", {.batch = true}, TASK_PLAIN, NULL},
	{"plain job, everything odd",
	 {.het = true, .container = true, .bcast = true, .multiprog = true, .no_program = true, .no_vcexec = true},
	 TASK_PLAIN,
	 NULL},
	{"a lease's step", {.lease = true, .lease_step = true}, TASK_PLAIN, NULL},
	{"a lease's script, which is vcd's", {.lease = true, .batch = true}, TASK_PLAIN, NULL},
	{"another step in a lease's job", {.lease = true}, TASK_REFUSE, "only holds a host"},
	{"a lease's step in a container", {.lease = true, .lease_step = true, .container = true}, TASK_REFUSE, "only holds a host"},
	{"a lease's step in a cluster's job", {.lease = true, .lease_step = true, .marked = true}, TASK_REPLACE, NULL},
	{"task", {.asked = true}, TASK_REPLACE, NULL},
	{"task of a marked job", {.marked = true}, TASK_REPLACE, NULL},
	{"batch", {.asked = true, .batch = true}, TASK_REPLACE, NULL},
	{"batch on the host", {.asked = true, .batch = true, .script_host = true}, TASK_PLAIN, NULL},
	{"its steps", {.asked = true, .script_host = true}, TASK_REPLACE, NULL},
	{"het batch on the host", {.asked = true, .batch = true, .script_host = true, .het = true}, TASK_REFUSE, "heterogeneous"},
	{"het", {.marked = true, .het = true}, TASK_REFUSE, "heterogeneous"},
	{"container", {.asked = true, .container = true}, TASK_REFUSE, "--container"},
	{"bcast into a directory", {.asked = true, .bcast = true}, TASK_REFUSE, "--bcast"},
	{"no program", {.asked = true, .no_program = true}, TASK_REFUSE, "no program"},
	{"no vcexec", {.asked = true, .no_vcexec = true}, TASK_REFUSE, "lacks vcexec"},
	{"multi-prog", {.asked = true, .multiprog = true}, TASK_EXEC, NULL},
	{"multi-prog, marked", {.marked = true, .multiprog = true}, TASK_EXEC, NULL},
	{"multi-prog, wrapped", {.asked = true, .multiprog = true, .wrapped = true}, TASK_READY, NULL},
	{"multi-prog, no vcexec", {.marked = true, .multiprog = true, .no_vcexec = true}, TASK_REFUSE, "lacks vcexec"},
};

static void test_decisions(void **state)
{
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(decisions); i++) {
		const char *why = NULL;
		enum task_action action = task_decide(&decisions[i].facts, &why);
		if (action != decisions[i].action)
			fail_msg("%s: %d", decisions[i].what, action);
		if (decisions[i].why)
			assert_contains(why, decisions[i].why);
	}
}

// Whatever the facts: a task that is known to be a vcluster job's is plain only as a batch script that may be.
static void test_decisions_fail_closed(void **state)
{
	(void)state;
	for (unsigned bits = 0; bits < 1u << 13; bits++) {
		const char *why = NULL;
		struct task_facts f = {
			.asked = bits & 1,	  .marked = bits & 2,	  .script_host = bits & 4, .batch = bits & 8,
			.het = bits & 16,	  .container = bits & 32, .bcast = bits & 64,	   .multiprog = bits & 128,
			.wrapped = bits & 256,	  .no_program = bits & 512, .no_vcexec = bits & 1024,
			.lease = bits & 2048,	  .lease_step = bits & 4096,
		};
		bool plain = task_decide(&f, &why) == TASK_PLAIN;
		bool lease = !f.lease || f.batch || (f.lease_step && !f.container);
		bool may = (!f.asked && !f.marked && lease) || (f.batch && f.script_host && !f.het);
		assert_int_equal(plain, may);
	}
}

static const struct {
	const char *text;
	uint32_t rank;
	const char *argv; // joined with '|'; NULL: refused
} programs[] = {
	{"0 hostname\n", 0, "hostname"},
	{"0 hostname", 0, "hostname"},
	{"# comment\n\n  0-3,7  ./a.out  -x  %t %o\n* other\n", 7, "./a.out|-x|7|4"},
	{"0-3,7 ./a.out\n* other %t\n", 5, "other|5"},
	{"* a\n0 b\n", 0, "a"},
	{"1,0 a %o", 0, "a|1"},
	{"0 a 'b c'd\\ e\\'f", 0, "a|b cd e'f"},
	{"0 a '%t'%t", 0, "a|%t0"},
	{"0 a 100%", 0, "a|100%"},
	{"0 a %x", 0, "a|%x"},
	{"0 a n=%t,%o", 0, "a|n=0,0"},
	{"0 a '' b", 0, "a||b"},
	{"0 a\tb\r\n", 0, "a|b"},
	{"0\n", 0, NULL},
	{"0 a 'b", 0, NULL},
	{"x a", 0, NULL},
	{"x a\n0 b", 0, "b"},
	{"x,0 a", 0, "a"},
	{"- a", 0, "a"},
	{"-3 a %o", 2, "a|2"},
	{"0 a \\\n b\n", 0, "a|b"},
	{"# c \\\n0 a\n0 b\n", 0, "b"},
	{"3-1 a", 2, NULL},
	{"1 a", 0, NULL},
	{"", 0, NULL},
	{"-x", 0, NULL},
	{"4294967296 a", 0, NULL},
};

static void test_multiprog(void **state)
{
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(programs); i++) {
		vc_autostrv char **argv = NULL;
		struct vc_error err = VC_ERROR_INIT;
		char joined[256] = "";
		int rc = multiprog_argv(programs[i].text, programs[i].rank, &argv, &err);
		assert_int_equal(rc, programs[i].argv ? 0 : -1);
		for (size_t j = 0; argv && argv[j]; j++)
			snprintf(joined + strlen(joined), sizeof(joined) - strlen(joined), "%s%s", j ? "|" : "", argv[j]);
		if (programs[i].argv)
			assert_string_equal(joined, programs[i].argv);
		else
			assert_contains(err.text, "--multi-prog");
	}
}

static const struct {
	const char *text;
	uint32_t given, ntasks;
	const char *says; // NULL: taken
} checks[] = {
	{"0 a\n1-2 b\n* c\n", 4, 4, NULL},
	{"# c\n\n 0-2,3 a\n", 0, 4, NULL},
	{"2-3 a\n1,0 b\n", 0, 4, NULL},
	{"0 a \\\n b\n1 c", 2, 2, NULL},
	{"* a\n", 0, 1, NULL},
	{"5 a\n* b\n", 0, 6, NULL},
	{"* a\n* b\n", 3, 3, NULL},
	{"-1 a\n", 0, 2, NULL},
	{"0,,1 a\n", 0, 2, NULL},
	{"0-3 a\n", 3, 0, "Invalid task id, 3 >= ntasks"},
	{"0-4294967295 a\n", 0, 0, "Invalid task id, 4294967295 >= ntasks"},
	{"0-3 a\n1 b\n0 c\n", 0, 0, "Duplicate record for task 0"},
	{"0-3 a\n2 b\n* c\n", 9, 0, "Duplicate record for task 2"},
	{"* a\n0 b\n", 2, 0, "asterisk must be last"},
	{"3-1 a\n", 0, 0, "Invalid task range, 3-1"},
	{"x,0 a\n", 0, 0, "Invalid task range specification (x)"},
	{"word a\n0 b\n", 0, 0, "Invalid task range specification (word)"},
	{", a\n0 b\n", 0, 0, "names no task"},
	{"0\n", 0, 0, "names no program"},
	{"0 a 'b\n", 0, 0, "a quote is not closed"},
	{"0 a\n2 b\n", 0, 0, "no program for task 1"},
	{"0 a\n", 2, 0, "no program for task 1"},
	{"", 0, 0, "no program for task 0"},
};

static void test_multiprog_check(void **state)
{
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(checks); i++) {
		struct vc_error err = VC_ERROR_INIT;
		uint32_t ntasks = 0;
		int rc = multiprog_check(checks[i].text, checks[i].given, &ntasks, &err);
		if ((rc == 0) != !checks[i].says || ntasks != checks[i].ntasks * !rc)
			fail_msg("'%s': %d, %u tasks, %s", checks[i].text, rc, ntasks, err.text);
		if (checks[i].says)
			assert_contains(err.text, checks[i].says);
	}
}

static const struct {
	const char *text;
	bool possible, wrapped;
} texts[] = {
	{"0 a", true, false},
	{"3 apples", true, false},
	{"60", false, false},
	{"60\n", false, false},
	{"-c", false, false},
	{"hello 3", false, false},
	{"word\n0 a", true, false},
	{"x,0 a", true, false},
	{"- a", true, false},
	{"0-x a", false, false},
	{"# 0 a\n", false, false},
	{"  * a", true, false},
	{"0\\\n a", true, false},
	{"0 /v/exec -- a\n", true, true},
	{"0 /v/exec -- a\n1 a", true, false},
	{"0 /v/exec -- a\n# 1 a", true, true},
	{"0 /v/exec -- a\\\n1 a", true, false}, // one line, but why look closer
	{"0 /v/execute -- a", true, false},
	{"0 /v/exec a", true, false},
	{"/v/exec -- a", false, false},
	{"", false, false},
};

static void test_multiprog_possible(void **state)
{
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(texts); i++) {
		if (multiprog_possible(texts[i].text) != texts[i].possible || multiprog_is_wrapped(texts[i].text, "/v/exec") != texts[i].wrapped)
			fail_msg("'%s': possible %d, wrapped %d", texts[i].text, multiprog_possible(texts[i].text),
				 multiprog_is_wrapped(texts[i].text, "/v/exec"));
	}
}

static void test_multiprog_large(void **state)
{
	(void)state;
	vc_autofree char *text = malloc(MULTIPROG_TEXT_MAX + 1);
	vc_autostrv char **argv = NULL;
	size_t n = 0;
	strcpy(text, "0 a");
	for (size_t len = 3; len + 2 <= 10000; len += 2)
		strcpy(text + len, " x");
	assert_true(multiprog_possible(text));
	assert_int_equal(multiprog_argv(text, 0, &argv, NULL), 0);
	while (argv[n])
		n++;
	assert_int_equal(n, 1 + (9999 - 3) / 2);
}

static void test_multiprog_file(void **state)
{
	(void)state;
	char path[] = "/tmp/test_spank_parts.XXXXXX";
	vc_autoclose int fd = mkstemp(path);
	assert_int_equal(write(fd, "0 a\n", 4), 4);
	assert_true(multiprog_is_file(path, "0 a\n"));
	assert_false(multiprog_is_file(path, "0 a\n1"));
	assert_false(multiprog_is_file(path, "0 a"));
	assert_false(multiprog_is_file("/", ""));
	unlink(path);
	assert_false(multiprog_is_file(path, "0 a\n"));
}

static void test_multiprog_wrap(void **state)
{
	(void)state;
	vc_autofree char *text = multiprog_wrap("# c\n0-1 'a b' \\\n%t\n\n* /bin/x y", "/v/exec", NULL);
	assert_string_equal(text, "0-1 /v/exec -- 'a b' %t\n* /v/exec -- /bin/x y\n");
	assert_true(multiprog_is_wrapped(text, "/v/exec"));
	vc_autostrv char **argv = NULL;
	assert_int_equal(multiprog_argv(text, 1, &argv, NULL), 0);
	assert_string_equal(argv[0], "/v/exec");
	assert_string_equal(argv[1], "--");
	assert_string_equal(argv[2], "a b");
	assert_string_equal(argv[3], "1");
	vc_autofree char *big = malloc(MULTIPROG_TEXT_MAX + 2);
	memset(big, '\n', MULTIPROG_TEXT_MAX + 1);
	big[MULTIPROG_TEXT_MAX + 1] = '\0';
	assert_null(multiprog_wrap(big, "/v/exec", NULL));
}

static void options_cleanup(struct options *o)
{
	options_clear(o);
}
#define autooptions __attribute__((cleanup(options_cleanup))) struct options

static void test_options_precedence(void **state)
{
	(void)state;
	autooptions o = {0};
	vc_autospec struct vc_spec *spec = NULL;
	assert_int_equal(options_default(&o, VC_SPEC_OPT_VMS, "2", NULL), 0);
	assert_int_equal(options_default(&o, VC_SPEC_OPT_STAGE_IN, "x", NULL), 0);
	assert_int_equal(options_take(&o, VC_SPEC_OPT_VMS, "2", NULL), 0); // Slurm hands the default over
	assert_int_equal(options_take(&o, VC_SPEC_OPT_STAGE_IN, "x", NULL), 0);
	assert_int_equal(options_build(&o, &spec, NULL), 0);
	assert_null(spec);
	assert_int_equal(options_take(&o, VC_SPEC_OPT_IMAGE, "img", NULL), 0);
	assert_int_equal(options_take(&o, VC_SPEC_OPT_VMS, "3", NULL), 0);
	assert_int_equal(options_take(&o, VC_SPEC_OPT_STAGE_IN, "a", NULL), 0);
	assert_int_equal(options_take(&o, VC_SPEC_OPT_STAGE_IN, "b", NULL), 0);
	assert_int_equal(options_build(&o, &spec, NULL), 0);
	assert_int_equal(spec->vms, 3);
	assert_string_equal(spec->stage_in[0], "a");
	assert_string_equal(spec->stage_in[1], "b");
	assert_null(spec->stage_in[2]);
}

static void test_options_defaults(void **state)
{
	(void)state;
	autooptions o = {0};
	struct vc_spec *spec = NULL;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(options_default(&o, VC_SPEC_OPT_VMS, "many", NULL), 0);
	assert_int_equal(options_build(&o, &spec, NULL), 0); // a plain job never notices
	assert_int_equal(options_take(&o, VC_SPEC_OPT_IMAGE, "img", NULL), 0);
	assert_int_equal(options_build(&o, &spec, &err), -1);
	assert_contains(err.text, "environment variable VCLUSTER_OPT_VMS: --vcluster-vms: 'many'");
	assert_int_equal(options_take(&o, VC_SPEC_OPT_VMS, "2", NULL), 0); // the command line's wins
	assert_int_equal(options_build(&o, &spec, NULL), 0);
	vc_spec_destroy(spec);
	options_clear(&o);
	assert_int_equal(options_default(&o, VC_SPEC_OPT_IMAGE, "../x", NULL), 0);
	assert_int_equal(options_build(&o, &spec, &err), -1);
	assert_contains(err.text, "VCLUSTER_OPT_IMAGE");
}

static void test_options_without_image(void **state)
{
	(void)state;
	autooptions o = {0};
	struct vc_spec *spec = NULL;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(options_take(&o, VC_SPEC_OPT_MEM, "1G", NULL), 0);
	assert_int_equal(options_build(&o, &spec, &err), -1);
	assert_string_equal(err.text, "--vcluster-mem needs --vcluster=IMAGE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_args),
		cmocka_unit_test(test_decisions),
		cmocka_unit_test(test_decisions_fail_closed),
		cmocka_unit_test(test_multiprog),
		cmocka_unit_test(test_multiprog_check),
		cmocka_unit_test(test_multiprog_possible),
		cmocka_unit_test(test_multiprog_large),
		cmocka_unit_test(test_multiprog_file),
		cmocka_unit_test(test_multiprog_wrap),
		cmocka_unit_test(test_options_precedence),
		cmocka_unit_test(test_options_defaults),
		cmocka_unit_test(test_options_without_image),
	};
	return cmocka_run_group_tests_name("spank_parts", tests, NULL, NULL);
}
