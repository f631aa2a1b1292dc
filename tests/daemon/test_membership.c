// SPDX-License-Identifier: GPL-2.0-or-later
// Membership between real vcd processes: a killed vcd, one that comes back, one that is stopped past every limit, one that joins, and
// datagrams of strangers. The hypervisor is libvirt's test driver (a fake): its domains end with their vcd.
#include "tests/unit/test.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "tests/daemon/vcds.h"

#define HOSTS 3
#define SILENCE_MS 5000 // a host that nobody knew of would be gone after 3.5 s
#define LIMIT_MS 20000 // for anything that is waited for; 2 to 4 seconds where silence must be confirmed

static struct vcds v;

static int setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (vcds_create(&v, HOSTS, "fencing = destroy\n") < 0)
		return -1;
	for (unsigned i = 0; i < HOSTS; i++) {
		if (vcds_start(&v, i) < 0)
			return -1;
	}
	return vcds_form(&v, 7);
}

static int teardown(void **state)
{
	(void)state;
	int rc = 0;
	for (unsigned i = 0; i < HOSTS; i++) {
		bool bad = vcds_log_has(&v, i, "runtime error") || vcds_log_has(&v, i, "AddressSanitizer");
		rc = bad ? -1 : rc;
		if (bad) {
			char *argv[] = {"/usr/bin/tail", "-n", "60", v.hosts[i].log, NULL};
			wait_exit(spawn(argv, "/dev/stderr"));
		}
	}
	vcds_destroy(&v);
	return rc;
}

static void expect(unsigned i, const char *text)
{
	if (vcds_wait_log(&v, i, text, LIMIT_MS))
		return;
	char *argv[] = {"/usr/bin/tail", "-n", "40", v.hosts[i].log, NULL};
	wait_exit(spawn(argv, "/dev/stderr"));
	fail_msg("%s does not say '%s'", v.hosts[i].name, text);
}

static void expect_all(unsigned n, const char *text)
{
	for (unsigned i = 0; i < n; i++)
		expect(i, text);
}

// Strangers' datagrams are dropped, of any length; the vcd that got them takes part as before.
static void test_strangers(void **state)
{
	(void)state;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)v.hosts[0].port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	vc_autoclose int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint8_t junk[2000] = {2}; // of the right version
	for (size_t len = 0; len <= sizeof(junk); len += 50)
		assert_int_equal(sendto(fd, junk, len, 0, (struct sockaddr *)&to, sizeof(to)), (ssize_t)len);
	vc_autojson struct json_object *r = vcds_call(&v, 0, "vcd.ping", NULL);
	assert_non_null(r);
}

// Its host answers and its vcd does not: the others say so at once, and its member stays.
static void test_killed_and_back(void **state)
{
	(void)state;
	vcds_signal(&v, 2, SIGKILL);
	expect_all(2, "view 2, 3 hosts");
	expect_all(2, "host t3 has lost its vcd");
	assert_false(vcds_wait_log(&v, 0, "host t3 is gone", SILENCE_MS)); // its silence is no news
	assert_false(vcds_log_has(&v, 0, "member 2 is gone"));
	assert_int_equal(vcds_start(&v, 2), 0);
	expect_all(3, "host t3 is there");
	expect_all(3, "member 2 is gone"); // the test driver's domains ended with their vcd: t3 says so
}

static bool there(const char *dir, const char *name)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

// vc-fence acts on a deadline that passed, on no other, and one of it runs per host.
static void test_fence(void **state)
{
	(void)state;
	char dir[128], path[160], log[128];
	char *argv[] = {VC_FENCE_PATH, "-c", v.hosts[0].conf, NULL};
	snprintf(dir, sizeof(dir), "%s/t1/run/fence", v.munged.dir);
	snprintf(log, sizeof(log), "%s/fence.log", v.munged.dir);
	for (int i = 0; !there(dir, "00000007") && i < LIMIT_MS / 20; i++)
		usleep(20000);
	assert_true(there(dir, "00000007")); // vcd's own, of the cluster: its deadline is to come
	snprintf(path, sizeof(path), "%s/passed", dir);
	write_file(path, "{\"deadline_ms\": 1, \"action\": \"destroy\", \"domains\": [\"vc-none-0\"]}");
	snprintf(path, sizeof(path), "%s/damaged", dir);
	write_file(path, "{\"deadline_ms\": 1");
	pid_t pid = spawn(argv, log);
	for (int i = 0; there(dir, "passed") && i < LIMIT_MS / 20; i++)
		usleep(20000);
	assert_false(there(dir, "passed"));
	assert_int_equal(wait_exit(spawn(argv, "/dev/null")), 1); // another one
	assert_true(there(dir, "00000007") && there(dir, "damaged"));
	kill(pid, SIGTERM);
	assert_int_equal(wait_exit(pid), 0);
	unlink(path);
}

static void must_call(unsigned i, const char *method, const struct plan *plan, const char *key, struct json_object *value)
{
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add_str(params, "cluster", plan->id);
	if (key)
		vc_json_add(params, key, value);
	vc_autojson struct json_object *result = vcds_call(&v, i, method, params);
	if (!result)
		fail_msg("%s on %s failed", method, v.hosts[i].name);
}

// A second cluster, of two hosts, grows by the third and shrinks again: what the controller asks of hosts.
static void test_grow_and_shrink(void **state)
{
	(void)state;
	struct vcds two = v;
	const struct plan_limits limits = {0, 0};
	struct vc_error err = VC_ERROR_INIT;
	two.n = 2;
	assert_int_equal(vcds_form(&two, 8), 0);
	plan_auto struct plan *first = two.plan, *next = plan_grow(first, &v.plan->hosts[2], 1, 5, &limits, &err);
	assert_non_null(next);
	must_call(2, "host.prepare", next, "plan", plan_to_json(next));
	must_call(2, "host.boot", next, NULL, NULL);
	must_call(0, "host.plan", next, "plan", plan_to_json(next)); // t2 does not hear it: it learns from the view that it lacks it
	must_call(2, "host.join", next, NULL, NULL);
	expect(0, "cluster 00000008: host t3 is there");
	expect(1, "cluster 00000008: host ? is there");
	expect_all(3, "cluster 00000008: member 2 is active");
	must_call(1, "host.plan", next, "plan", plan_to_json(next));
	must_call(2, "host.leave", next, "limit_ms", json_object_new_int(60000));
	expect_all(3, "cluster 00000008: member 2 is leaving");
	vc_autojson struct json_object *params = json_object_new_object();
	vc_json_add_str(params, "cluster", next->id);
	vc_json_add_str(params, "event", "leave");
	vc_json_add(params, "hosts", vc_json_parse("[\"t3\"]", 6, NULL));
	vc_autojson struct json_object *told = vcds_call(&v, 0, "member.fact", params);
	assert_non_null(told);
	expect_all(2, "cluster 00000008: host t3 is gone");
	must_call(2, "host.release", next, "version", json_object_new_int(2));
	expect(2, "cluster 00000008: released, nothing is left of it on this host");
	for (unsigned i = 0; i < 2; i++)
		must_call(i, "host.release", next, NULL, NULL);
}

// A host that is silent past every limit leaves; when it wakes up it learns that, and takes no one with it.
static void test_stopped(void **state)
{
	(void)state;
	vcds_signal(&v, 2, SIGSTOP);
	expect_all(2, "host t3 is gone");
	vcds_signal(&v, 2, SIGCONT);
	expect(2, "the other hosts go on without this one");
	expect(2, "machines are destroyed"); // by vcd itself, as it runs again
	assert_false(vcds_log_has(&v, 2, "host t1 is gone"));
	assert_false(vcds_log_has(&v, 0, "host t2 is gone"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_fence),
		cmocka_unit_test(test_killed_and_back),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_grow_and_shrink),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
