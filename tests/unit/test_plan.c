// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/plan: splits, names, addresses, refusals with their numbers, and the JSON form from hostile hands.
#include "tests/unit/test.h"

#include <stdio.h>

#include "libvc/json.h"
#include "vcd/plan.h"

static const struct plan_limits no_overhead = {0, 0};
static const struct plan_limits overhead = {64, 10};

static void add_host(struct plan *plan, const char *name, uint32_t cpus, uint64_t mem_mib)
{
	plan->hosts = reallocarray(plan->hosts, plan->n_hosts + 1, sizeof(*plan->hosts));
	struct plan_host *h = &plan->hosts[plan->n_hosts++];
	*h = (struct plan_host){.name = strdup(name), .addr = strdup("10.77.0.1"), .cpus = cpus, .total_cpus = 8,
				.mem_mib = mem_mib, .real_mem_mib = 4096, .n_cpu_ids = cpus};
	h->cpu_ids = calloc(cpus, sizeof(*h->cpu_ids));
	for (uint32_t i = 0; i < cpus; i++)
		h->cpu_ids[i] = 10 + i;
}

static struct plan *make_plan(uint32_t vms)
{
	struct plan *plan = plan_create();
	memset(plan->id, 'a', PLAN_ID_LEN);
	memset(plan->image_digest, 'b', PLAN_HEX64_LEN);
	memset(plan->secret, 'c', PLAN_HEX64_LEN);
	strcpy(plan->image_name, "mpich");
	plan->key = (struct plan_key){.slurm = "lab", .job = 42, .restart = 1};
	plan->owner = (struct plan_owner){.uid = 2001, .gid = 2001, .user = strdup("alice"), .home = strdup("/home/alice")};
	plan->owner.groups = calloc(1, sizeof(*plan->owner.groups));
	plan->owner.groups[plan->owner.n_groups++] = (struct plan_group){2001, strdup("alice")};
	plan->net = (struct plan_net){.vni = 0x123456, .network = "10.42.0.0", .prefix = 16, .mtu = 1450};
	plan->spec = vc_spec_create();
	plan->spec->image = strdup("mpich");
	plan->spec->vms = vms;
	return plan;
}

static void test_unequal_hosts(void **state)
{
	(void)state;
	plan_auto struct plan *plan = make_plan(2);
	add_host(plan, "n1", 5, 1000);
	add_host(plan, "n2", 2, 600);
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(plan_make(plan, &no_overhead, &err), 0);
	assert_int_equal(plan->n_members, 4);
	const struct plan_member *m = plan->members;
	assert_int_equal(m[0].vcpus, 3);
	assert_int_equal(m[1].vcpus, 2);
	assert_int_equal(m[2].slots, 1);
	assert_int_equal(m[0].mem_mib, 500);
	assert_int_equal(m[3].mem_mib, 300);
	assert_int_equal(m[3].host, 1);
	assert_string_equal(m[3].name, "vc42-3");
	assert_string_equal(m[3].addr, "10.42.0.4");
	assert_string_equal(m[3].mac, "02:12:34:56:00:03");
	assert_int_equal(m[0].cpu_ids[0], 10);
	assert_int_equal(m[1].cpu_ids[0], 13); // no CPU twice
	assert_int_equal(m[1].n_cpu_ids, 2);
}

static void test_memory(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	plan_auto struct plan *plan = make_plan(2);
	add_host(plan, "n1", 2, 1000);
	assert_int_equal(plan_make(plan, &overhead, &err), 0);
	assert_int_equal(plan->members[0].mem_mib, (500 - 64) * 100 / 110);
	plan_auto struct plan *uncounted = make_plan(1);
	add_host(uncounted, "n1", 2, 0); // Slurm does not count memory: in proportion to the CPUs
	assert_int_equal(plan_make(uncounted, &no_overhead, &err), 0);
	assert_int_equal(uncounted->members[0].mem_mib, 1024);
	plan_auto struct plan *greedy = make_plan(2);
	add_host(greedy, "n1", 2, 1000);
	greedy->spec->mem_mib = 500;
	assert_int_equal(plan_make(greedy, &overhead, &err), -1);
	assert_int_equal(err.code, VC_EUSER);
	assert_contains(err.text, "host n1: 2 members of 500 MiB");
	assert_contains(err.text, "1000 MiB");
	plan_auto struct plan *lone = make_plan(1);
	add_host(lone, "n1", 2, 1000);
	lone->spec->mem_mib = 2000;
	assert_int_equal(plan_make(lone, &overhead, &err), -1);
	assert_contains(err.text, "1 member of 2000 MiB");
	plan_auto struct plan *tiny = make_plan(8);
	add_host(tiny, "n1", 8, 512);
	assert_int_equal(plan_make(tiny, &overhead, &err), -1);
	assert_contains(err.text, "--mem");
}

static void test_cpus(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	plan_auto struct plan *plan = make_plan(2);
	add_host(plan, "n1", 3, 1000);
	plan->spec->cpus = 2;
	assert_int_equal(plan_make(plan, &no_overhead, &err), -1);
	assert_contains(err.text, "2 members of 2 CPUs: that is 4 CPUs, Slurm allocated 3");
	plan_auto struct plan *one = make_plan(2); // -N2 alone gives one CPU: the members share it
	add_host(one, "n1", 1, 1000);
	assert_int_equal(plan_make(one, &no_overhead, &err), 0);
	assert_int_equal(one->members[1].vcpus, 1);
	assert_int_equal(one->members[1].cpu_ids[0], 10);
}

static void test_network_full(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	plan_auto struct plan *plan = make_plan(8);
	plan->net.prefix = 30;
	add_host(plan, "n1", 8, 1000);
	assert_int_equal(plan_make(plan, &no_overhead, &err), -1);
	assert_contains(err.text, "does not fit into network");
}

static void test_json(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	plan_auto struct plan *plan = make_plan(2);
	add_host(plan, "n1", 4, 1000);
	add_host(plan, "n2", 4, 1000);
	assert_int_equal(plan_make(plan, &overhead, &err), 0);
	vc_autojson struct json_object *json = plan_to_json(plan);
	plan_auto struct plan *back = plan_from_json(json, &err);
	assert_non_null(back);
	vc_autojson struct json_object *again = plan_to_json(back);
	assert_string_equal(vc_json_text(json, NULL), vc_json_text(again, NULL));
}

// Each row breaks one thing in a good plan's text.
static bool is_n2(void *ctx, const struct plan_host *host)
{
	(void)ctx;
	return strcmp(host->name, "n2") == 0;
}

// Numbers, names and addresses of what is there stay; a host that comes again keeps its number and gets new ranks.
static void test_grow(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	plan_auto struct plan *plan = make_plan(2), *more = make_plan(2);
	add_host(plan, "n1", 2, 1000);
	add_host(more, "n2", 4, 1200);
	assert_int_equal(plan_make(plan, &no_overhead, &err), 0);
	plan_auto struct plan *two = plan_grow(plan, more->hosts, 1, 7, &no_overhead, &err);
	assert_non_null(two);
	assert_int_equal(two->version, 2);
	assert_int_equal(two->n_hosts, 2);
	assert_int_equal(two->hosts[1].lease, 7);
	assert_int_equal(two->n_members, 4);
	assert_string_equal(two->members[0].addr, plan->members[0].addr);
	assert_string_equal(two->members[3].name, "vc42-3");
	assert_string_equal(two->members[3].addr, "10.42.0.4");
	assert_int_equal(two->members[3].host, 1);
	assert_int_equal(two->members[2].vcpus, 2);
	assert_int_equal(two->members[2].mem_mib, 600);
	assert_null(plan_grow(two, more->hosts, 1, 8, &no_overhead, &err)); // it is there
	assert_int_equal(err.code, VC_EUSER);
	assert_non_null(strstr(err.text, "--exclude"));

	plan_auto struct plan *less = plan_shrink(two, is_n2, NULL, &err);
	assert_int_equal(less->version, 3);
	assert_true(less->hosts[1].gone && less->members[2].gone && less->members[3].gone);
	assert_false(less->hosts[0].gone || less->members[0].gone);
	plan_auto struct plan *again = plan_grow(less, more->hosts, 1, 9, &no_overhead, &err);
	assert_int_equal(again->n_hosts, 2);
	assert_int_equal(again->hosts[1].lease, 9);
	assert_false(again->hosts[1].gone);
	assert_int_equal(again->n_members, 6);
	assert_true(again->members[3].gone);
	assert_int_equal(again->members[4].rank, 4);
	assert_string_equal(again->members[4].addr, "10.42.0.5");
	vc_autojson struct json_object *json = plan_to_json(again);
	plan_auto struct plan *back = plan_from_json(json, &err);
	vc_autojson struct json_object *copy = plan_to_json(back);
	assert_true(json_object_equal(json, copy));
}

static void test_json_hostile(void **state)
{
	(void)state;
	static const struct {
		const char *good, *bad, *message;
	} rows[] = {
		{"\"host\":\"n1\"", "\"host\":\"nx\"", "nx"},	    {"10.42.0.1", "10.42.0", "IPv4"},
		{"02:12:34:56:00:00", "02:12:34:56:00:zz", "mac"},  {"\"rank\":1", "\"rank\":0", "grow"},
		{"\"vcpus\":2", "\"vcpus\":0", "0 CPUs"},	    {"\"name\":\"vc42-0\"", "\"name\":\"../x\"", "name"},
		{"aaaaaaaaaaaaaaaa\"", "aaaaaaaaaaaaaaa/\"", "hex"}, {"\"vni\":1193046", "\"vni\":99999999", "vni"},
		{"\"uid\":2001", "\"uid\":-1", "uid"},		    {"\"members\":", "\"memberz\":", "members"},
	};
	struct vc_error err = VC_ERROR_INIT;
	plan_auto struct plan *plan = make_plan(2);
	add_host(plan, "n1", 4, 1000);
	assert_int_equal(plan_make(plan, &no_overhead, &err), 0);
	vc_autojson struct json_object *json = plan_to_json(plan);
	const char *text = vc_json_text(json, NULL);
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		const char *at = strstr(text, rows[i].good);
		assert_non_null(at);
		vc_autofree char *broken = NULL;
		assert_true(asprintf(&broken, "%.*s%s%s", (int)(at - text), text, rows[i].bad, at + strlen(rows[i].good)) > 0);
		vc_autojson struct json_object *bad = vc_json_parse(broken, strlen(broken), &err);
		assert_non_null(bad);
		assert_null(plan_from_json(bad, &err));
		assert_contains(err.text, rows[i].message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unequal_hosts), cmocka_unit_test(test_memory), cmocka_unit_test(test_cpus),
		cmocka_unit_test(test_network_full),  cmocka_unit_test(test_json),   cmocka_unit_test(test_json_hostile),
		cmocka_unit_test(test_grow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
