// SPDX-License-Identifier: GPL-2.0-or-later
// cmd/pmix/step: ranks dealt to members, the maps that libpmix is given, who stands for a member in a fence.
#include "tests/unit/test.h"

#include "cmd/pmix/step.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"

static const char layout_text[] = "{\"n1\":[\"vc7-0\",\"vc7-1\"],\"n2\":[\"vc7-2\",\"vc7-3\"]}";

static int make(struct step *s, const char *const *hosts, uint32_t ranks, const char *text, struct vc_error *err)
{
	vc_autojson struct json_object *layout = vc_json_parse(text, strlen(text), NULL);
	return step_make(s, "slurm.pmix.7.0.0123", hosts, ranks, layout, err);
}

static void assert_text(char *text, const char *expected)
{
	assert_string_equal(text, expected);
	free(text);
}

static void test_block(void **state)
{
	(void)state;
	static const char *const hosts[] = {"n1", "n1", "n1", "n1", "n2", "n2", "n2", "n2"};
	struct step s;
	assert_int_equal(make(&s, hosts, 8, layout_text, NULL), 0);
	assert_int_equal(s.members, 4);
	assert_text(step_nodes(&s), "vc7-0,vc7-1,vc7-2,vc7-3");
	assert_text(step_ranges(&s), "0,1;2,3;4,5;6,7");
	assert_text(step_peers(&s, 2), "4,5");
	assert_int_equal(s.local[5], 1);
	assert_int_equal(step_size(&s, 3), 2);
	assert_int_equal(step_leader(&s, 3), 6);
	assert_int_equal(step_find(&s, "vc7-3"), 3);
	assert_int_equal(step_find(&s, "vc7-4"), STEP_NONE);
	step_clear(&s);
}

static void test_cyclic(void **state)
{
	(void)state;
	static const char *const hosts[] = {"n1", "n2", "n1", "n2", "n1", "n2", "n1", "n2"};
	struct step s;
	assert_int_equal(make(&s, hosts, 8, layout_text, NULL), 0);
	assert_text(step_nodes(&s), "vc7-0,vc7-2,vc7-1,vc7-3");
	assert_text(step_ranges(&s), "0,2;1,3;4,6;5,7");
	assert_int_equal(s.local[6], 1);
	step_clear(&s);
}

// A step with fewer ranks than members, on some hosts only.
static void test_few(void **state)
{
	(void)state;
	static const char *const hosts[] = {"n2"};
	struct step s;
	assert_int_equal(make(&s, hosts, 1, layout_text, NULL), 0);
	assert_int_equal(s.members, 1);
	assert_text(step_nodes(&s), "vc7-2");
	step_clear(&s);
}

static void test_leads(void **state)
{
	(void)state;
	static const char *const hosts[] = {"n1", "n1", "n1", "n1", "n2", "n2", "n2", "n2"};
	static const uint32_t some[] = {7, 1, 6, 99};
	struct step s;
	uint32_t n;
	assert_int_equal(make(&s, hosts, 8, layout_text, NULL), 0);
	uint32_t *leads = step_leads(&s, NULL, 0, &n);
	assert_int_equal(n, 4);
	assert_int_equal(leads[3], 6);
	free(leads);
	leads = step_leads(&s, some, 4, &n);
	assert_int_equal(n, 2);
	assert_int_equal(leads[0], 1);
	assert_int_equal(leads[1], 6);
	free(leads);
	step_clear(&s);
}

static void test_json(void **state)
{
	(void)state;
	static const char *const hosts[] = {"n1", "n2", "n1", "n2"};
	struct step s, t;
	assert_int_equal(make(&s, hosts, 4, layout_text, NULL), 0);
	vc_autojson struct json_object *obj = step_json(&s);
	assert_int_equal(step_parse(&t, obj, NULL), 0);
	assert_string_equal(t.nspace, "slurm.pmix.7.0.0123");
	assert_int_equal(t.members, s.members);
	assert_text(step_nodes(&t), "vc7-0,vc7-2,vc7-1,vc7-3");
	assert_text(step_ranges(&t), "0;1;2;3");
	step_clear(&s);
	step_clear(&t);
	static const char bad[] = "{\"nspace\":\"x\",\"names\":[\"a\"],\"member\":[0,1]}";
	vc_autojson struct json_object *wrong = vc_json_parse(bad, strlen(bad), NULL);
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(step_parse(&t, wrong, &err), -1);
	assert_contains(err.text, "rank 1 is on no member");
}

static void test_refused(void **state)
{
	(void)state;
	static const char *const hosts[] = {"n3"};
	struct step s;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(make(&s, hosts, 1, layout_text, &err), -1);
	assert_contains(err.text, "n3");
	assert_int_equal(make(&s, hosts, 1, "{\"n3\":[]}", &err), -1);
	assert_contains(err.text, "has no members");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_block), cmocka_unit_test(test_cyclic), cmocka_unit_test(test_few),
		cmocka_unit_test(test_leads), cmocka_unit_test(test_json),   cmocka_unit_test(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
