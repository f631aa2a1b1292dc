// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/hv on libvirt's test driver: start, list, events, kill. Real machines are for tests/system.
#include "tests/unit/test.h"

#include <stdio.h>
#include <uv.h>
#include <x86intrin.h>

#include "libvc/cleanup.h"
#include "vcd/domxml.h"
#include "vcd/hv.h"

#define WAIT_MS 5000

struct fixture {
	uv_loop_t loop;
	uv_timer_t limit;
	struct hv *hv;
	int started, stopped, paused;
	bool late;
};

static void on_event(void *ctx, const char *domain, enum hv_event event, const char *reason)
{
	struct fixture *f = ctx;
	assert_int_equal(strncmp(domain, "vc-01234567-", 12), 0);
	assert_non_null(reason);
	*(event == HV_STARTED ? &f->started : event == HV_PAUSED ? &f->paused : &f->stopped) += 1;
}

static void on_limit(uv_timer_t *timer)
{
	((struct fixture *)timer->data)->late = true;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	uv_loop_init(&f->loop);
	uv_timer_init(&f->loop, &f->limit);
	f->limit.data = f;
	uv_timer_start(&f->limit, on_limit, WAIT_MS, 0);
	f->hv = hv_create("test:///default", &f->loop, on_event, f, NULL);
	*state = f;
	return f->hv ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	hv_stop(f->hv);
	uv_close((uv_handle_t *)&f->limit, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	hv_destroy(f->hv);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	free(f);
	return 0;
}

static char *xml(uint32_t rank, char *name, size_t len)
{
	snprintf(name, len, "vc-01234567-%u", rank);
	struct domxml d = {
		.type = DOMXML_TEST,
		.name = name,
		.owner = {.cluster = "0123456789abcdef0123456789abcdef", .slurm = "lab", .job = 77, .restart = 2,
			  .rank = rank, .uid = 2001},
		.vcpus = 1,
		.mem_mib = 64,
		.kernel = "/k",
		.cmdline = "c",
	};
	return domxml_build(&d, NULL);
}

static void test_life(void **state)
{
	struct fixture *f = *state;
	struct vc_error err = VC_ERROR_INIT;
	char name[2][64];
	assert_true(hv_is_fake(f->hv));
	for (uint32_t i = 0; i < 2; i++) {
		vc_autofree char *text = xml(i, name[i], sizeof(name[i]));
		if (hv_start(f->hv, name[i], text, NULL, &err) < 0)
			fail_msg("%s", err.text);
	}
	vc_autofree struct hv_domain *list = NULL;
	size_t n = 0;
	assert_int_equal(hv_list(f->hv, &list, &n, &err), 0);
	assert_int_equal(n, 2);
	const struct hv_domain *d = strcmp(list[0].name, name[0]) == 0 ? &list[0] : &list[1];
	assert_true(d->ours && d->running);
	assert_string_equal(d->cluster, "0123456789abcdef0123456789abcdef");
	assert_string_equal(d->slurm, "lab");
	assert_int_equal(d->job, 77);
	assert_int_equal(d->restart, 2);
	assert_int_equal(d->rank, 0);
	assert_int_equal(d->uid, 2001);
	for (int pause = 1; pause >= 0; pause--) {
		assert_int_equal(hv_pause(f->hv, name[0], pause, &err), 0);
		assert_int_equal(hv_pause(f->hv, name[0], pause, &err), 0); // again: no error
	}
	assert_int_equal(hv_pause(f->hv, "vc-01234567-9", true, &err), 0); // ended meanwhile
	assert_int_equal(hv_pause(f->hv, name[0], true, &err), 0);
	assert_int_equal(hv_kill(f->hv, name[0], &err), 0); // also while it is paused
	assert_int_equal(hv_kill(f->hv, name[0], &err), 0); // again: no error
	assert_int_equal(hv_kill(f->hv, name[1], &err), 0);
	while (f->stopped < 2 && !f->late)
		uv_run(&f->loop, UV_RUN_ONCE);
	assert_int_equal(f->started, 2);
	assert_int_equal(f->stopped, 2);
	assert_int_equal(f->paused, 2); // each time that it was not yet
}

static void test_bad_xml(void **state)
{
	struct fixture *f = *state;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(hv_start(f->hv, "vc-01234567-0", "<domain/>", NULL, &err), -1);
	assert_int_equal(err.code, VC_EHOST);
	assert_contains(err.text, "libvirt cannot start");
}

// against a reading of our own around it; one that the test was held up in is taken again
static void test_tsc(void **state)
{
	(void)state;
	bool agree = false;
	for (int i = 0; i < 50 && !agree; i++) {
		uint64_t ns = uv_hrtime(), ticks = __rdtsc();
		double khz = hv_tsc_khz();
		double ours = (double)(__rdtsc() - ticks) * 1e6 / (double)(uv_hrtime() - ns);
		agree = khz > ours * 0.999 && khz < ours * 1.001;
	}
	assert_true(agree);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_xml, setup, teardown),
		cmocka_unit_test(test_tsc),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
