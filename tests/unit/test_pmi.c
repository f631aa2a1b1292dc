// SPDX-License-Identifier: GPL-2.0-or-later
// libvc/pmi: process mappings of members, and conversations of both versions as Slurm and MPICH hold them.
#include "tests/unit/test.h"

#include <stdbool.h>

#include "libvc/cleanup.h"
#include "libvc/pmi.h"

static void test_mapping(void **state)
{
	(void)state;
	static const struct {
		const char *from, *to; // NULL: refused
		uint32_t ranks, members[4];
		size_t nodes;
	} rows[] = {
		{"(vector,(0,2,4))", "(vector,(0,4,2))", 8, {2, 2}, 2},
		{"(vector,(0,2,4))", "(vector,(0,2,4))", 8, {1, 1}, 2},
		{"(vector,(0,2,4))", "(vector,(0,8,1))", 8, {4, 4}, 2},
		// cyclic: node 0 has ranks 0 2 4 6, its machines 0 2 and 4 6
		{"(vector,(0,2,1),(0,2,1),(0,2,1),(0,2,1))", "(vector,(0,1,1),(2,1,1),(0,1,1),(2,1,1),(1,1,1),(3,1,1),(1,1,1),(3,1,1))",
		 8, {2, 2}, 2},
		{"(vector,(0,2,1))", "(vector,(0,1,1),(2,1,1),(1,1,1),(3,1,1))", 4, {2, 2}, 2}, // repeated
		{"(vector,(0,1,1))", "(vector,(0,1,1))", 1, {3}, 1},
		{"(vector,(0,1,3),(1,1,1))", "(vector,(0,1,2),(1,2,1))", 4, {2, 1}, 2}, // unequal hosts
		{"(vector,(0,1,5))", "(vector,(0,1,3),(1,1,2))", 5, {2}, 1},
		{"(vector,(0,3,1))", NULL, 3, {1, 1}, 2},
		{"(vector,(0,1,0))", NULL, 1, {1}, 1},
		{"(vector,(0,1,1)", NULL, 1, {1}, 1},
		{"(vector,(0,1,1))x", NULL, 1, {1}, 1},
		{"(vector,(0,99999999999999,1))", NULL, 1, {1}, 1},
		{"(vector)", NULL, 1, {1}, 1},
		{"(matrix,(0,1,1))", NULL, 1, {1}, 1},
		{"(vector,(0,1,1))", NULL, 1, {0}, 1},
		{"(vector,(0,1,1))", NULL, 0, {1}, 1},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct vc_error err = VC_ERROR_INIT;
		vc_autofree char *to = vc_pmi_mapping(rows[i].from, rows[i].ranks, rows[i].members, rows[i].nodes, &err);
		if (rows[i].to && (!to || strcmp(to, rows[i].to) != 0))
			fail_msg("%s: %s instead of %s", rows[i].from, to ? to : err.text, rows[i].to);
		if (!rows[i].to && to)
			fail_msg("%s was taken: %s", rows[i].from, to);
		assert_true(rows[i].to || err.text[0]);
	}
}

static void test_mapping_too_long(void **state)
{
	(void)state;
	enum { NODES = 400 };
	static uint32_t members[NODES];
	struct vc_error err = VC_ERROR_INIT;
	for (size_t i = 0; i < NODES; i++)
		members[i] = 2;
	vc_autofree char *cyclic = vc_pmi_mapping("(vector,(0,400,1))", NODES * 2, members, NODES, &err);
	assert_null(cyclic);
	assert_non_null(strstr(err.text, "--distribution=block"));
	vc_autofree char *block = vc_pmi_mapping("(vector,(0,400,2))", NODES * 2, members, NODES, &err);
	assert_string_equal(block, "(vector,(0,800,1))");
}

// ---- conversations ----

struct talk {
	struct vc_pmi *pmi;
	struct vc_buf out;
};

static const uint32_t two_two[] = {2, 2};

static struct talk talk_begin(void)
{
	struct vc_pmi_layout layout = {.ranks = 8, .member = 3, .members = two_two, .nodes = 2};
	struct talk t = {.pmi = vc_pmi_create(&layout, NULL), .out = VC_BUF_INIT(0)};
	assert_non_null(t.pmi);
	return t;
}

static void talk_end(struct talk *t)
{
	vc_pmi_destroy(t->pmi);
	vc_buf_clear(&t->out);
}

typedef int feed_fn(struct vc_pmi *pmi, const void *data, size_t len, struct vc_buf *out, struct vc_error *err);

// What comes out of `text`, fed in pieces of `piece` bytes.
static void expect(struct talk *t, feed_fn *feed, const char *text, size_t piece, const char *want)
{
	vc_buf_clear(&t->out);
	for (size_t i = 0; i < strlen(text); i += piece) {
		size_t n = strlen(text) - i < piece ? strlen(text) - i : piece;
		assert_int_equal(feed(t->pmi, text + i, n, &t->out, NULL), 0);
	}
	assert_int_equal(t->out.len, strlen(want));
	assert_memory_equal(vc_buf_head(&t->out), want, strlen(want));
}

static void test_version_1(void **state)
{
	(void)state;
	struct talk t = talk_begin();
	for (size_t piece = 1; piece < 100; piece += 7) {
		expect(&t, vc_pmi_from_task, "cmd=init pmi_version=1 pmi_subversion=1\n", piece, "cmd=init pmi_version=1 pmi_subversion=1\n");
		expect(&t, vc_pmi_from_slurm, "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n", piece,
		       "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n");
		expect(&t, vc_pmi_from_task, "cmd=get kvsname=1.0 key=PMI_process_mapping\n", piece,
		       "cmd=get kvsname=1.0 key=PMI_process_mapping\n");
		expect(&t, vc_pmi_from_slurm, "cmd=get_result rc=0 value=(vector,(0,2,4))\n", piece,
		       "cmd=get_result rc=0 value=(vector,(0,4,2))\n");
		// a value of somebody's that looks alike is his own
		expect(&t, vc_pmi_from_task, "cmd=get kvsname=1.0 key=mine\n", piece, "cmd=get kvsname=1.0 key=mine\n");
		expect(&t, vc_pmi_from_slurm, "cmd=get_result rc=0 value=(vector,(0,2,4))\n", piece,
		       "cmd=get_result rc=0 value=(vector,(0,2,4))\n");
	}
	talk_end(&t);
}

static void test_version_2(void **state)
{
	(void)state;
	static const struct {
		bool from_slurm;
		const char *in, *out;
	} rows[] = {
		{false, "cmd=init pmi_version=2 pmi_subversion=0\n", "cmd=init pmi_version=2 pmi_subversion=0\n"},
		{true, "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n", "cmd=response_to_init pmi_version=2 pmi_subversion=0 rc=0\n"},
		{false, "    41cmd=fullinit;pmijobid=1.0;pmirank=0;xx=1;", "    41cmd=fullinit;pmijobid=1.0;pmirank=0;xx=1;"},
		{false, "    44cmd=info-getjobattr;key=PMI_process_mapping;", "    44cmd=info-getjobattr;key=PMI_process_mapping;"},
		{true, "    68cmd=info-getjobattr-response;rc=0;found=TRUE;value=(vector,(0,2,4));",
		 "    68cmd=info-getjobattr-response;rc=0;found=TRUE;value=(vector,(0,4,2));"},
		{false, "    35cmd=info-putnodeattr;key=a;value=b;", "    39cmd=info-putnodeattr;key=vc3.a;value=b;"},
		{false, "    37cmd=info-getnodeattr;key=a;wait=TRUE;", "    41cmd=info-getnodeattr;key=vc3.a;wait=TRUE;"},
		{false, "    45cmd=info-getjobattr;key=PMI_netinfo_of_task0;", "    49cmd=info-getjobattr;key=vc3.PMI_netinfo_of_task0;"},
		{true, "21    cmd=kvs-fence;rc=000;", "    21cmd=kvs-fence;rc=000;"}, // padded on the other side
	};
	for (size_t piece = 1; piece < 100; piece += 9) {
		struct talk t = talk_begin();
		for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++)
			expect(&t, rows[i].from_slurm ? vc_pmi_from_slurm : vc_pmi_from_task, rows[i].in, piece, rows[i].out);
		talk_end(&t);
	}
}

static void test_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"    -1cmd", "999999cmd", "abcdefcmd", "     0cmd", "      cmd"};
	for (size_t i = 0; i < VC_ARRAY_LEN(bad); i++) {
		struct talk t = talk_begin();
		struct vc_error err = VC_ERROR_INIT;
		expect(&t, vc_pmi_from_task, "cmd=init pmi_version=2 pmi_subversion=0\n", 99, "cmd=init pmi_version=2 pmi_subversion=0\n");
		expect(&t, vc_pmi_from_slurm, "cmd=response_to_init pmi_version=2 rc=0\n", 99, "cmd=response_to_init pmi_version=2 rc=0\n");
		assert_int_equal(vc_pmi_from_task(t.pmi, bad[i], strlen(bad[i]), &t.out, &err), -1);
		assert_true(err.text[0]);
		talk_end(&t);
	}
	struct talk t = talk_begin();
	static char endless[VC_PMI_MESSAGE_MAX + 64]; // no end of line
	memset(endless, 'x', sizeof(endless));
	assert_int_equal(vc_pmi_from_task(t.pmi, endless, sizeof(endless), &t.out, NULL), -1);
	talk_end(&t);
	t = talk_begin();
	assert_int_equal(vc_pmi_from_slurm(t.pmi, "a\0b\n", 4, &t.out, NULL), -1);
	talk_end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mapping),	  cmocka_unit_test(test_mapping_too_long), cmocka_unit_test(test_version_1),
		cmocka_unit_test(test_version_2), cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
