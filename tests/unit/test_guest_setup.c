// SPDX-License-Identifier: GPL-2.0-or-later
// guest.configure's parameters: what is taken and what is refused.
#include "tests/unit/test.h"

#include <stdio.h>

#include "guest/setup.h"
#include "libvc/json.h"

#define SECRET "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const char good[] =
	"{\"cluster\":{\"id\":\"x\",\"slurm\":\"lab\",\"job\":123,\"restart\":0},\"rank\":1,"
	"\"owner\":{\"uid\":2001,\"gid\":2001,\"user\":\"alice\",\"home\":\"/home/alice\",\"groups\":[{\"gid\":2001,\"name\":\"alice\"}]},"
	"\"net\":{\"vni\":4097,\"network\":\"10.42.0.0\",\"prefix\":16,\"mtu\":1450},\"secret\":\"" SECRET "\","
	"\"members\":[{\"rank\":0,\"name\":\"vc123-0\",\"host\":\"n1\",\"addr\":\"10.42.0.1\",\"mac\":\"02:00:10:01:00:00\",\"slots\":2},"
	"{\"rank\":1,\"name\":\"vc123-1\",\"host\":\"n2\",\"addr\":\"10.42.0.2\",\"mac\":\"02:00:10:01:00:01\",\"slots\":2}],"
	"\"env\":{\"SITE\":\"a b\"},\"files\":[{\"path\":\"/etc/x\",\"mode\":384,\"uid\":0,\"gid\":0,\"content\":\"aGk=\"}],"
	"\"mounts\":[{\"tag\":\"m0\",\"dst\":\"/data\",\"ro\":true}],\"shared_cpus\":true}";

static struct setup *parse(const char *text, struct vc_error *err)
{
	vc_autojson struct json_object *obj = vc_json_parse(text, strlen(text), err);
	assert_non_null(obj);
	return setup_from_json(obj, err);
}

static void taken(void **state)
{
	struct vc_error err = VC_ERROR_INIT;
	(void)state;
	setup_auto struct setup *s = parse(good, &err);
	assert_string_equal(err.text, "");
	assert_non_null(s);
	assert_int_equal(s->job, 123);
	assert_string_equal(setup_self(s)->name, "vc123-1");
	assert_string_equal(s->owner.groups[0].name, "alice");
	assert_int_equal(s->secret[1], 0x11);
	assert_int_equal(s->secret[31], 0xff);
	assert_string_equal(s->env[0], "SITE=a b");
	assert_int_equal(s->files[0].len, 2);
	assert_true(s->mounts[0].ro);
	assert_true(s->shared_cpus);
	assert_ptr_equal(setup_member_by_name(s, "10.42.0.1"), setup_member_by_rank(s, 0));
	assert_null(setup_member_by_name(s, "n1"));
}

// Each edit of the good message must be refused with a text that names the place.
static void refused(void **state)
{
	static const struct {
		const char *from, *to, *says;
	} edits[] = {
		{"\"rank\":1,", "\"rank\":7,", "rank 7"},
		{"\"user\":\"alice\"", "\"user\":\"a:b\"", "user"},
		{"\"user\":\"alice\"", "\"user\":\"\"", "user"},
		{"\"home\":\"/home/alice\"", "\"home\":\"home\"", "home"},
		{"\"home\":\"/home/alice\"", "\"home\":\"/x:/y\"", "home"},
		{"\"prefix\":16", "\"prefix\":0", "net"},
		{"\"mtu\":1450", "\"mtu\":100", "mtu"},
		{"10.42.0.2", "10.42.0.x", "addr"},
		{"vc123-1", "vc123 1", "name"},
		{"vc123-1", "vc123#1", "name"},
		{SECRET, "00", "secret"},
		{SECRET, "zz112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "secret"},
		{"\"SITE\":", "\"A=B\":", "env"},
		{"/etc/x", "etc/x", "path"},
		{"aGk=", "a", "content"},
		{"\"mode\":384", "\"mode\":4095", "mode"},
		{"/data", "data", "dst"},
		{"\"shared_cpus\":true", "\"shared_cpus\":\"x\"", "shared_cpus"},
		{"\"gid\":2001,\"name\"", "\"gid\":-1,\"name\"", "gid"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		struct vc_error err = VC_ERROR_INIT;
		char text[2 * sizeof(good)];
		const char *at = strstr(good, edits[i].from);
		assert_non_null(at);
		snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, edits[i].to, at + strlen(edits[i].from));
		if (parse(text, &err))
			fail_msg("taken: %s", edits[i].to);
		assert_contains(err.text, edits[i].says);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(taken), cmocka_unit_test(refused)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
