// SPDX-License-Identifier: GPL-2.0-or-later
// The owner in passwd and group, members in hosts: what is added, kept and replaced.
#include "tests/unit/test.h"

#include "guest/accounts.h"
#include "libvc/cleanup.h"

static struct setup_group groups[] = {{2001, (char *)(uintptr_t) "alice"}, {3000, (char *)(uintptr_t) "proj"}};
static const struct setup_owner alice = {
	.uid = 2001, .gid = 2001, .user = (char *)(uintptr_t) "alice", .home = (char *)(uintptr_t) "/home/alice", .groups = groups, .n_groups = 2};

#define ROOT "root:x:0:0:root:/root:/bin/bash\n"
#define ALICE "alice:x:2001:2001::/home/alice:/bin/bash\n"

static void passwd(void **state)
{
	static const struct {
		const char *old, *want;
	} cases[] = {
		{ROOT, ROOT ALICE},
		{"", ALICE},
		{"root:x:0:0:root:/root:/bin/bash", ROOT ALICE},			 // no line end
		{ROOT ALICE, ROOT ALICE},						 // there already
		{ROOT "alice:x:1500:1500::/h:/bin/sh\n", ROOT ALICE},			 // our name, a person's other number
		{ROOT "bob:x:2001:2001::/h:/bin/sh\n", ROOT ALICE},			 // our number, another name
		{"alice:x:33:33::/var:/bin/false\n", "alice:x:33:33::/var:/bin/false\n"}, // a system account stays
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		vc_autofree char *text = accounts_passwd(cases[i].old, &alice, "/bin/bash", NULL);
		assert_string_equal(text, cases[i].want);
	}
}

static void root_is_never_replaced(void **state)
{
	struct setup_owner o = alice;
	(void)state;
	o.uid = o.gid = 0;
	o.user = (char *)(uintptr_t) "toor";
	vc_autofree char *text = accounts_passwd(ROOT, &o, "/bin/sh", NULL);
	assert_string_equal(text, ROOT);
	o.uid = 2001;
	o.user = (char *)(uintptr_t) "root";
	vc_autofree char *again = accounts_passwd(ROOT, &o, "/bin/sh", NULL);
	assert_string_equal(again, ROOT);
}

static void group(void **state)
{
	static const struct {
		const char *old, *want;
	} cases[] = {
		{"root:x:0:\n", "root:x:0:\nalice:x:2001:alice\nproj:x:3000:alice\n"},
		{"proj:x:3000:bob\nalice:x:2001:alice\n", "proj:x:3000:bob,alice\nalice:x:2001:alice\n"},
		{"proj:x:3000:malice,bob\n", "proj:x:3000:malice,bob,alice\nalice:x:2001:alice\n"},
		{"proj:x:3000:bob,alice\n", "proj:x:3000:bob,alice\nalice:x:2001:alice\n"},
		{"old:x:3000:bob\n", "alice:x:2001:alice\nproj:x:3000:alice\n"},
	};
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(cases); i++) {
		vc_autofree char *text = accounts_group(cases[i].old, &alice, NULL);
		assert_string_equal(text, cases[i].want);
		vc_autofree char *again = accounts_group(text, &alice, NULL);
		assert_string_equal(again, cases[i].want);
	}
}

static void hosts(void **state)
{
	static const struct setup_member m[] = {{.name = "vc1-0", .addr = "10.42.0.1"}, {.name = "vc1-1", .addr = "10.42.0.2"}};
	(void)state;
	vc_autofree char *first = accounts_hosts("127.0.0.1 localhost\n1.2.3.4 lic", m, 1, NULL);
	assert_contains(first, "127.0.0.1 localhost\n1.2.3.4 lic\n#");
	assert_contains(first, "\n10.42.0.1 vc1-0\n");
	vc_autofree char *second = accounts_hosts(first, m, 2, NULL);
	assert_contains(second, "\n10.42.0.1 vc1-0\n10.42.0.2 vc1-1\n");
	assert_null(strstr(strstr(second, "vc1-0") + 1, "vc1-0")); // the old block is gone
	vc_autofree char *third = accounts_hosts(second, m, 2, NULL);
	assert_string_equal(second, third);
	vc_autofree char *empty = accounts_hosts("", m, 0, NULL);
	assert_contains(empty, "127.0.0.1 localhost\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passwd),
		cmocka_unit_test(root_is_never_replaced),
		cmocka_unit_test(group),
		cmocka_unit_test(hosts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
