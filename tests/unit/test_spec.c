// SPDX-License-Identifier: GPL-2.0-or-later
// libvc/spec: options accepted and refused, hostile JSON, the round trip through one environment string.
#include "tests/unit/test.h"

#include "libvc/json.h"
#include "libvc/spec.h"

struct set_row {
	const char *option, *value;
	const char *message; // part of the refusal; NULL: accepted
};

static const struct set_row set_rows[] = {
	{"vcluster", "mpich", NULL},
	{"vcluster", "alice/debian-12_mpich:v1.2+3", NULL},
	{"vcluster", "", "--vcluster: a value is missing"},
	{"vcluster", NULL, "--vcluster: a value is missing"},
	{"vcluster", "../etc/passwd", "not an image's name"},
	{"vcluster", "a/../b", "not an image's name"},
	{"vcluster", "a b", "not an image's name"},
	{"vcluster", "-rf", "not an image's name"},
	{"vcluster", "a/", "not an image's name"},
	{"vcluster", "a\nb", "control character"},
	{"vcluster", "\xff\xfe", "not UTF-8"},
	{"vcluster", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "more than 64 bytes"},
	{"vcluster-vms", "1", NULL},
	{"vcluster-vms", "64", NULL},
	{"vcluster-vms", "0", "--vcluster-vms: '0' is outside 1 to 64"},
	{"vcluster-vms", "65", "outside 1 to 64"},
	{"vcluster-vms", "-1", "not a whole number"},
	{"vcluster-vms", "two", "--vcluster-vms: 'two' is not a whole number"},
	{"vcluster-cpus", "16", NULL},
	{"vcluster-cpus", "1.5", "--vcluster-cpus"},
	{"vcluster-cpus", "99999999999999999999", "--vcluster-cpus"},
	{"vcluster-mem", "512", NULL},
	{"vcluster-mem", "2G", NULL},
	{"vcluster-mem", "1M", "1 MiB is outside 64 to"},
	{"vcluster-mem", "17T", "--vcluster-mem"},
	{"vcluster-mem", "lots", "not a size"},
	{"vcluster-script", "guest", NULL},
	{"vcluster-script", "host", NULL},
	{"vcluster-script", "Host", "neither 'guest' nor 'host'"},
	{"vcluster-mount", "/data:/data", NULL},
	{"vcluster-mount", "/data:/data:ro", NULL},
	{"vcluster-mount", "/a:/b,/c:/d:ro", NULL},
	{"vcluster-mount", "/data", "not SRC:DST"},
	{"vcluster-mount", "/data:/data:rx", "not SRC:DST"},
	{"vcluster-mount", "/a:/b:ro:x", "--vcluster-mount"},
	{"vcluster-mount", "data:/data", "not an absolute path"},
	{"vcluster-mount", "/a/../etc:/data", "not an absolute path"},
	{"vcluster-mount", "/data:/", "place of the guest's own"},
	{"vcluster-mount", "/data:/proc/sys", "place of the guest's own"},
	{"vcluster-mount", "/data:/sys", "place of the guest's own"},
	{"vcluster-mount", "/data:/dev/shm", "place of the guest's own"},
	{"vcluster-mount", "/data:/run/vcluster/bin", "place of the guest's own"},
	{"vcluster-mount", "/data:/run", "place of the guest's own"},
	{"vcluster-mount", "/a:/b,/c:/b", "two mounts on '/b'"},
	{"vcluster-stage-in", "a.dat,b/c.dat", NULL},
	{"vcluster-stage-in", "a.dat,,b", "item 2 is empty"},
	{"vcluster-packages", "jq,libssl3=3.0.11-1~deb12u2,g++", NULL},
	{"vcluster-packages", "jq,-y", "'-y' is not a Debian package name"},
	{"vcluster-packages", "jq=", "is not a Debian package name"},
	{"vcluster-packages", "a/b", "is not a Debian package name"},
	{"vcluster-stage-out", "out.dat", NULL},
	{"vcluster-stage-out", "out\x01.dat", "control character"},
	{"vcluster-size", "2", NULL},
	{"vcluster-size", "2-8", NULL},
	{"vcluster-size", "8-2", "--vcluster-size: '2' is outside 8 to"},
	{"vcluster-size", "0-2", "--vcluster-size: '0' is outside"},
	{"vcluster-size", "2-", "--vcluster-size"},
	{"vcluster-size", "1-2-3", "--vcluster-size"},
	{"vcluster-elastic", "cod", NULL},
	{"vcluster-elastic", "cod,weight=3,reserve=2", NULL},
	{"vcluster-elastic", "best", "there is no policy 'best'"},
	{"vcluster-elastic", "cod,weight=0", "outside 1 to"},
	{"vcluster-elastic", "cod,priority=9", "'priority' is neither weight"},
	{"vcluster-elastic", "cod,weight", "'weight' is neither weight"},
	{"vcluster-on-preempt", "kill", NULL},
	{"vcluster-on-preempt", "die", "neither 'shrink' nor 'kill'"},
	{"vcluster-nonsense", "1", "--vcluster-nonsense: there is no such option"},
};

static void test_set(void **state)
{
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(set_rows); i++) {
		const struct set_row *row = &set_rows[i];
		vc_autospec struct vc_spec *spec = vc_spec_create(), *untouched = vc_spec_create();
		struct vc_error err = VC_ERROR_INIT;
		int rc = vc_spec_set_by_name(spec, row->option, row->value, &err);
		if (row->message) {
			assert_int_equal(rc, -1);
			assert_int_equal(err.code, VC_EUSER);
			assert_contains(err.text, row->message);
			assert_true(vc_spec_equal(spec, untouched));
		} else if (rc < 0) {
			fail_msg("--%s=%s: %s", row->option, row->value, err.text);
		}
	}
}

static void test_lists_add_up(void **state)
{
	(void)state;
	vc_autospec struct vc_spec *spec = vc_spec_create();
	for (int twice = 0; twice < 2; twice++) {
		assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_STAGE_IN, "a,b", NULL), 0);
		assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_STAGE_IN, "c", NULL), 0);
		assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_MOUNT, "/a:/a", NULL), 0);
		assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_MOUNT, "/b:/b:ro", NULL), 0);
	}
	assert_string_equal(spec->stage_in[2], "c");
	assert_null(spec->stage_in[3]);
	assert_int_equal(spec->n_mounts, 2);
	assert_true(spec->mounts[1].ro);
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_MOUNT, "/c:/c,/d:/a", NULL), -1);
	assert_int_equal(spec->n_mounts, 2);
}

static struct vc_spec *full_spec(void)
{
	static const char *const values[VC_SPEC_OPTS] = {"mpich", "2", "3", "768M", "host", "/a:/b,/c:/d:ro", "x,\xc3\xa9", "y",
							   "jq,g++=4:12.2.0-3", "2-8", "cod,weight=3,reserve=4", "kill"};
	struct vc_spec *spec = vc_spec_create();
	for (size_t i = 0; i < VC_SPEC_OPTS; i++)
		assert_int_equal(vc_spec_set(spec, (enum vc_spec_opt)i, values[i], NULL), 0);
	return spec;
}

static void test_round_trip(void **state)
{
	(void)state;
	vc_autospec struct vc_spec *spec = full_spec();
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char *text = vc_spec_to_text(spec, &err);
	assert_non_null(text);
	assert_null(strchr(text, '\n'));
	vc_autospec struct vc_spec *back = vc_spec_from_text(text, &err);
	if (!back)
		fail_msg("%s: %s", text, err.text);
	assert_true(vc_spec_equal(spec, back));
	assert_int_equal(back->mem_mib, 768);
	assert_true(back->mounts[1].ro);
	assert_int_equal(vc_spec_set(back, VC_SPEC_OPT_STAGE_OUT, "z", NULL), 0);
	assert_false(vc_spec_equal(spec, back));
}

static const struct {
	const char *text, *message;
} hostile[] = {
	{"", "spec"},
	{"[]", "not an object"},
	{"{\"image\":\"x\"}", "'v' is missing"},
	{"{\"v\":2,\"image\":\"x\"}", "version 2"},
	{"{\"v\":1}", "'image' is missing"},
	{"{\"v\":1,\"image\":7}", "'image' must be a string"},
	{"{\"v\":1,\"image\":\"a/../b\"}", "not an image's name"},
	{"{\"v\":1,\"image\":\"x\",\"vms\":0}", "vms: 0"},
	{"{\"v\":1,\"image\":\"x\",\"vms\":65}", "'vms' is outside"},
	{"{\"v\":1,\"image\":\"x\",\"vms\":-1}", "'vms' is outside"},
	{"{\"v\":1,\"image\":\"x\",\"vms\":18446744073709551617}", "'vms' is outside"},
	{"{\"v\":1,\"image\":\"x\",\"mem_mib\":1}", "mem_mib: 1 MiB"},
	{"{\"v\":1,\"image\":\"x\",\"cpus\":1.5}", "'cpus' must be"},
	{"{\"v\":1,\"image\":\"x\",\"script\":\"moon\"}", "neither"},
	{"{\"v\":1,\"image\":\"x\",\"size_max\":3}", "size_min: 0"},
	{"{\"v\":1,\"image\":\"x\",\"elastic\":\"rm -rf\"}", "there is no policy"},
	{"{\"v\":1,\"image\":\"x\",\"root\":true}", "'root' is unknown"},
	{"{\"v\":1,\"image\":\"x\",\"mounts\":[1]}", "not an object"},
	{"{\"v\":1,\"image\":\"x\",\"mounts\":[{\"src\":\"/a\"}]}", "'dst' is missing"},
	{"{\"v\":1,\"image\":\"x\",\"mounts\":[{\"src\":\"/a/../b\",\"dst\":\"/c\"}]}", "not an absolute path"},
	{"{\"v\":1,\"image\":\"x\",\"stage_in\":\"a\"}", "'stage_in' must be"},
	{"{\"v\":1,\"image\":\"x\",\"packages\":[\"jq;id\"]}", "packages: package 'jq;id'"},
	{"{\"v\":1,\"image\":\"x\",\"stage_in\":[\"\"]}", "stage_in"},
	{"{\"v\":1,\"image\":\"x\",\"stage_in\":[\"a\\u0000b\"]}", "stage_in"},
	{"{\"v\":1,\"image\":\"x\"} x", "spec"},
};

static void test_hostile(void **state)
{
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(hostile); i++) {
		struct vc_error err = VC_ERROR_INIT;
		vc_autospec struct vc_spec *spec = vc_spec_from_text(hostile[i].text, &err);
		if (spec)
			fail_msg("accepted: %s", hostile[i].text);
		assert_int_equal(err.code, VC_EUSER);
		assert_contains(err.text, hostile[i].message);
	}
}

static void test_too_long(void **state)
{
	(void)state;
	vc_autospec struct vc_spec *spec = full_spec();
	char path[VC_PATH_MAX];
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	for (char c = 'a'; c < 'a' + 20; c++) {
		path[0] = c;
		assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_STAGE_IN, path, NULL), 0);
	}
	struct vc_error err = VC_ERROR_INIT;
	assert_null(vc_spec_to_text(spec, &err));
	assert_int_equal(err.code, VC_EUSER);
	vc_autofree char *big = calloc(1, VC_SPEC_MAX + 2);
	memset(big, ' ', VC_SPEC_MAX + 1);
	assert_null(vc_spec_from_text(big, &err));
}

static const struct {
	const char *image, *vms, *cpus, *mem;
	struct vc_spec_request request;
	const char *message;
} check_rows[] = {
	{"i", NULL, NULL, NULL, {0, 0}, NULL},
	{"i", "2", "2", "1G", {4, 2048}, NULL},
	{"i", "2", "2", "1G", {0, 0}, NULL},
	{"i", "2", "3", NULL, {4, 0}, "2 machines per host x 3 CPUs are 6, but this job gets at most 4"},
	{"i", "5", NULL, NULL, {4, 0}, "5 machines per host x 1 CPUs"},
	{"i", "2", NULL, "2G", {0, 4095}, "are 4096 MiB, but the job asks for 4095 MiB"},
	{"i", "2", NULL, NULL, {0, 100}, "64 MiB (the smallest)"},
	{NULL, NULL, NULL, NULL, {0, 0}, NULL},
	{NULL, "2", NULL, NULL, {0, 0}, "--vcluster-vms needs --vcluster=IMAGE"},
	{NULL, NULL, NULL, "1G", {0, 0}, "--vcluster-mem needs --vcluster=IMAGE"},
};

static void test_check_elastic(void **state)
{
	(void)state;
	const struct vc_spec_request request = {0};
	vc_autospec struct vc_spec *spec = vc_spec_create();
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_ELASTIC, "cod,reserve=3", NULL), 0);
	assert_int_equal(vc_spec_check(spec, &request, &err), -1);
	assert_contains(err.text, "--vcluster-elastic needs --vcluster=IMAGE");
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_IMAGE, "tiny", NULL), 0);
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_SIZE, "1-2", NULL), 0);
	assert_int_equal(vc_spec_check(spec, &request, &err), -1);
	assert_contains(err.text, "a reserve of 3 hosts is more than --vcluster-size allows (2)");
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_SIZE, "1-3", NULL), 0);
	assert_int_equal(vc_spec_check(spec, &request, &err), 0);
}

static void test_check_stage_out(void **state)
{
	(void)state;
	const struct vc_spec_request request = {0};
	vc_autospec struct vc_spec *spec = vc_spec_create();
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_IMAGE, "tiny", NULL), 0);
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_STAGE_OUT, "/home/alice/out", NULL), 0);
	assert_int_equal(vc_spec_check(spec, &request, NULL), 0);
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_SCRIPT, "host", NULL), 0);
	assert_int_equal(vc_spec_check(spec, &request, &err), -1);
	assert_contains(err.text, "vcctl cp");
}

static void test_check(void **state)
{
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(check_rows); i++) {
		vc_autospec struct vc_spec *spec = vc_spec_create();
		const char *const values[] = {check_rows[i].image, check_rows[i].vms, check_rows[i].cpus, check_rows[i].mem};
		for (size_t j = 0; j < VC_ARRAY_LEN(values); j++) {
			if (values[j])
				assert_int_equal(vc_spec_set(spec, (enum vc_spec_opt)j, values[j], NULL), 0);
		}
		struct vc_error err = VC_ERROR_INIT;
		int rc = vc_spec_check(spec, &check_rows[i].request, &err);
		assert_int_equal(rc, check_rows[i].message ? -1 : 0);
		if (check_rows[i].message)
			assert_contains(err.text, check_rows[i].message);
	}
}

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < VC_SPEC_OPTS; i++) {
		assert_int_equal(strncmp(vc_spec_options[i].name, "vcluster", 8), 0);
		assert_int_equal(strncmp(vc_spec_options[i].env, "VCLUSTER_OPT_", 13), 0);
		assert_true(strlen(vc_spec_options[i].usage) > 10);
	}
}

static void test_resolve_files(void **state)
{
	(void)state;
	vc_autospec struct vc_spec *spec = vc_spec_create();
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_STAGE_IN, "a,./b,../c,/x/./y/../z,-d", &err), 0);
	assert_int_equal(vc_spec_resolve_files(spec, "/home/alice", &err), 0);
	static const char *const expected[] = {"/home/alice/a", "/home/alice/b", "/home/c", "/x/z", "/home/alice/-d"};
	for (size_t i = 0; i < 5; i++)
		assert_string_equal(spec->stage_in[i], expected[i]);
	assert_int_equal(vc_spec_set(spec, VC_SPEC_OPT_STAGE_OUT, "../../..", &err), 0);
	assert_int_equal(vc_spec_resolve_files(spec, "/home/alice", &err), -1);
	assert_contains(err.text, "--vcluster-stage-out");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_resolve_files), cmocka_unit_test(test_check_elastic),
		cmocka_unit_test(test_set),	 cmocka_unit_test(test_lists_add_up), cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_hostile),	 cmocka_unit_test(test_too_long),     cmocka_unit_test(test_check), cmocka_unit_test(test_check_stage_out),
		cmocka_unit_test(test_table),
	};
	return cmocka_run_group_tests_name("spec", tests, NULL, NULL);
}
