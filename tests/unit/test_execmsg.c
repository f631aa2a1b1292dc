// SPDX-License-Identifier: GPL-2.0-or-later
// Messages of an exec session: round trips, bounds, and text that is not what it should be.
#include "tests/unit/test.h"

#include <signal.h>
#include <sys/resource.h>

#include "libvc/cleanup.h"
#include "libvc/execmsg.h"
#include "libvc/limits.h"

static void round_trip(const struct vc_execmsg *in, struct vc_execmsg *out)
{
	size_t len;
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char *text = vc_execmsg_encode(in, &len, &err);
	assert_non_null(text);
	if (vc_execmsg_decode(text, len, out, &err) < 0)
		fail_msg("%s: %s", text, err.text);
	assert_int_equal(in->type, out->type);
}

static void test_start(void **state)
{
	(void)state;
	struct vc_exec_rlimit limits[] = {{RLIMIT_NOFILE, 1024, UINT64_MAX}, {RLIMIT_CORE, 0, 0}};
	struct vc_execmsg out, in = {.type = VC_EXEC_START};
	in.start = (struct vc_exec_start){
		.argv = (char *[]){"prog", "", "a b\n", "\xff\xfe", NULL},
		.env = (char *[]){"A=1", "B=", NULL},
		.cwd = "/home/\xe9",
		.umask = 027,
		.rlimits = limits,
		.rlimit_count = 2,
		.cpus = (uint32_t[]){0, 5, VC_EXEC_CPUS_MAX - 1},
		.cpu_count = 3,
		.pty = true,
		.rows = 50,
		.cols = 132,
		.term = "xterm",
		.script = (uint8_t *)"#!/bin/sh\n\0x",
		.script_len = 12,
		.stdin_open = false,
	};
	round_trip(&in, &out);
	assert_string_equal(out.start.argv[1], "");
	assert_string_equal(out.start.argv[3], "\xff\xfe");
	assert_null(out.start.argv[4]);
	assert_string_equal(out.start.env[1], "B=");
	assert_string_equal(out.start.cwd, in.start.cwd);
	assert_int_equal(out.start.umask, 027);
	assert_int_equal(out.start.rlimit_count, 2);
	assert_int_equal(out.start.rlimits[0].resource, RLIMIT_NOFILE);
	assert_true(out.start.rlimits[0].hard == UINT64_MAX && out.start.rlimits[0].soft == 1024);
	assert_int_equal(out.start.cpu_count, 3);
	assert_int_equal(out.start.cpus[2], VC_EXEC_CPUS_MAX - 1);
	assert_true(out.start.pty && out.start.rows == 50 && out.start.cols == 132);
	assert_string_equal(out.start.term, "xterm");
	assert_int_equal(out.start.script_len, 12);
	assert_memory_equal(out.start.script, in.start.script, 12);
	assert_false(out.start.stdin_open);
	vc_execmsg_clear(&out);
}

static void test_others(void **state)
{
	(void)state;
	struct vc_execmsg out;
	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		if (sig > 31 && sig < SIGRTMIN)
			continue;
		round_trip(&(struct vc_execmsg){.type = VC_EXEC_SIGNAL, .signo = sig}, &out);
		assert_int_equal(out.signo, sig);
		round_trip(&(struct vc_execmsg){.type = VC_EXEC_EXIT, .exit = {.signo = sig, .core = true}}, &out);
		assert_true(out.exit.signo == sig && out.exit.core);
	}
	round_trip(&(struct vc_execmsg){.type = VC_EXEC_EXIT, .exit.status = 255}, &out);
	assert_true(out.exit.status == 255 && out.exit.signo == 0);
	round_trip(&(struct vc_execmsg){.type = VC_EXEC_WINSIZE, .winsize = {65535, 1}}, &out);
	assert_true(out.winsize.rows == 65535 && out.winsize.cols == 1);
	round_trip(&(struct vc_execmsg){.type = VC_EXEC_STARTED, .started.pid = 77}, &out);
	assert_int_equal(out.started.pid, 77);
	char text[2000];
	memset(text, 'n', sizeof(text));
	text[1999] = '\0';
	round_trip(&(struct vc_execmsg){.type = VC_EXEC_NOTICE, .notice.text = text}, &out);
	assert_int_equal(strlen(out.notice.text), VC_EXEC_TEXT_MAX);
	vc_execmsg_clear(&out);
	// a directory's name may have any bytes, JSON may not
	char odd[] = "directory /x\xff\xc3-\xc3\xa4 created";
	round_trip(&(struct vc_execmsg){.type = VC_EXEC_NOTICE, .notice.text = odd}, &out);
	assert_string_equal(out.notice.text, "directory /x?" "?-\xc3\xa4 created");
	vc_execmsg_clear(&out);
	round_trip(&(struct vc_execmsg){.type = VC_EXEC_ERROR, .error = {127, "failed", "x: not found"}}, &out);
	assert_int_equal(out.error.status, 127);
	assert_string_equal(out.error.message, "x: not found");
	vc_execmsg_clear(&out);
}

static void test_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"", ""},
		{"[]", ""},
		{"{}", "type"},
		{"{\"type\":\"nonsense\"}", "nonsense"},
		{"{\"type\":\"signal\",\"sig\":\"NONE\"}", "no signal"},
		{"{\"type\":\"signal\",\"sig\":\"RTMIN+99\"}", "no signal"},
		{"{\"type\":\"signal\",\"sig\":9}", "sig"},
		{"{\"type\":\"winsize\",\"rows\":70000,\"cols\":1}", "rows"},
		{"{\"type\":\"exit\",\"status\":256}", "status"},
		{"{\"type\":\"exit\"}", "status"},
		{"{\"type\":\"start\",\"argv\":\"\",\"env\":\"\",\"umask\":0}", "argv"},
		{"{\"type\":\"start\",\"argv\":\"YQ==\",\"env\":\"\",\"umask\":0}", "cut off"}, // no zero byte at the end
		{"{\"type\":\"start\",\"argv\":\"YQA=\",\"env\":\"\",\"umask\":512}", "umask"},
		{"{\"type\":\"start\",\"argv\":\"YQA=\",\"env\":\"\",\"umask\":0,\"cwd\":\"YQ==\"}", "absolute"},
		{"{\"type\":\"start\",\"argv\":\"YQA=\",\"env\":\"\",\"umask\":0,\"cwd\":\"LwAv\"}", "absolute"}, // zero byte inside
		{"{\"type\":\"start\",\"argv\":\"YQA=\",\"env\":\"\",\"umask\":0,\"cpus\":[1,1024]}", "processor"},
		{"{\"type\":\"start\",\"argv\":\"YQA=\",\"env\":\"\",\"umask\":0,\"rlimits\":[{\"name\":\"x\",\"soft\":1,\"hard\":1}]}", "limit"},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		struct vc_error err = VC_ERROR_INIT;
		struct vc_execmsg msg = VC_EXECMSG_INIT;
		if (vc_execmsg_decode(cases[i].text, strlen(cases[i].text), &msg, &err) == 0)
			fail_msg("accepted: %s", cases[i].text);
		assert_contains(err.text, cases[i].why);
		assert_int_equal(msg.type, 0);
	}
}

static void test_too_long(void **state)
{
	(void)state;
	size_t len;
	struct vc_error err = VC_ERROR_INIT;
	char *big = malloc(VC_ARG_MAX + 1);
	memset(big, 'a', VC_ARG_MAX);
	big[VC_ARG_MAX] = '\0';
	struct vc_execmsg msg = {.type = VC_EXEC_START, .start.argv = (char *[]){big, NULL}};
	assert_null(vc_execmsg_encode(&msg, &len, &err));
	assert_int_equal(err.code, VC_EUSER);
	assert_contains(err.text, "too long");
	free(big);
}

static void test_environment(void **state)
{
	(void)state;
	struct vc_exec_start st = {0};
	assert_int_equal(vc_exec_setenv(&st, "A", "1", NULL), 0);
	assert_int_equal(vc_exec_setenv(&st, "AB", "2", NULL), 0);
	assert_int_equal(vc_exec_setenv(&st, "A", "3", NULL), 0);
	assert_string_equal(vc_exec_getenv(&st, "A"), "3");
	assert_int_equal(vc_exec_setenv(&st, "A", NULL, NULL), 0);
	assert_int_equal(vc_exec_setenv(&st, "none", NULL, NULL), 0);
	assert_null(vc_exec_getenv(&st, "A"));
	assert_string_equal(vc_exec_getenv(&st, "AB"), "2");
	assert_null(st.env[1]);
	vc_exec_start_clear(&st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start),	 cmocka_unit_test(test_others),	     cmocka_unit_test(test_refused),
		cmocka_unit_test(test_too_long), cmocka_unit_test(test_environment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
