// SPDX-License-Identifier: GPL-2.0-or-later
// vcrsh as MPI's launchers call it; sbcast's arguments and the command that its targets run.
#include "tests/unit/test.h"

#include "guest/sbcast.h"
#include "guest/vcrsh.h"
#include "libvc/cleanup.h"
#include "libvc/parse.h"

static void called(void **state)
{
	static const struct {
		const char *line, *host, *command;
		bool no_stdin, tty;
	} cases[] = {
		{"vcrsh vc1-1 hostname", "vc1-1", "hostname", false, false},
		{"vcrsh vc1-1 -n orted -mca x", "vc1-1", "orted -mca x", true, false},
		{"vcrsh -x vc1-1 'a' -b", "vc1-1", "'a' -b", false, false},
		{"vcrsh -l alice -p 22 -n vc1-1 a", "vc1-1", "a", true, false},
		{"vcrsh -o StrictHostKeyChecking=no alice@vc1-1 a", "vc1-1", "a", false, false},
		{"vcrsh vc1-1 -l alice a b", "vc1-1", "a b", false, false},
		{"vcrsh -t vc1-1", "vc1-1", NULL, false, true},
		{"vcrsh -- vc1-1 a", "vc1-1", "a", false, false},
		{"vcrsh vc1-1 -- -a", "vc1-1", "-a", false, false},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct vcrsh_args a;
		vc_autostrv char **argv = NULL;
		assert_int_equal(vc_parse_list("line", cases[i].line, ' ', 64, &argv, NULL), 0);
		assert_int_equal(vcrsh_parse(argv, &a, NULL), 0);
		assert_string_equal(a.host, cases[i].host);
		if (cases[i].command)
			assert_string_equal(a.command, cases[i].command);
		else
			assert_null(a.command);
		assert_int_equal(a.no_stdin, cases[i].no_stdin);
		assert_int_equal(a.tty, cases[i].tty);
		free(a.command);
	}
}

static void called_wrongly(void **state)
{
	char *none[] = {(char *)(uintptr_t) "vcrsh", NULL};
	char *half[] = {none[0], (char *)(uintptr_t) "-l", NULL};
	struct vcrsh_args a;
	(void)state;
	assert_int_equal(vcrsh_parse(none, &a, NULL), -1);
	assert_int_equal(vcrsh_parse(half, &a, NULL), -1);
}

static void broadcast(void **state)
{
	static const struct {
		const char *line;
		int rc;
	} cases[] = {
		{"sbcast a /tmp/a", 0},	     {"sbcast -f -p --compress=lz4 -F 4 -t 10 a /tmp/a", 0},
		{"sbcast a tmp/a", -1},	     {"sbcast a", -1},
		{"sbcast -j 5 a /tmp/a", -1}, {"sbcast a /b c", -1},
	};
	struct sbcast_args a;
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		vc_autostrv char **argv = NULL;
		assert_int_equal(vc_parse_list("line", cases[i].line, ' ', 64, &argv, NULL), 0);
		assert_int_equal(sbcast_parse(argv, &a, NULL), cases[i].rc);
	}
	a = (struct sbcast_args){.source = "a", .dest = "/tmp/it's $(x)"};
	vc_autofree char *command = sbcast_command(&a, 0100755, 5, NULL);
	assert_contains(command, "d='/tmp/it'\\''s $(x)'");
	assert_contains(command, "chmod 0755");
	assert_contains(command, "exists");
	a.force = a.preserve = true;
	vc_autofree char *forced = sbcast_command(&a, 0100644, 5, NULL);
	assert_null(strstr(forced, "exists"));
	assert_contains(forced, "touch -d @5");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(called),
		cmocka_unit_test(called_wrongly),
		cmocka_unit_test(broadcast),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
