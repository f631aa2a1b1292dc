// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/work: results, deadlines of hung and of queued work, cancelling, stopping.
#include "tests/unit/test.h"

#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>

#include "libvc/cleanup.h"
#include "vcd/work.h"

struct item {
	sem_t *gate; // run() waits for it when not NULL
	int rc;
	int done, released;
	int code;
	char text[VC_ERROR_TEXT_MAX];
};

static int item_run(void *ctx, struct vc_error *err)
{
	struct item *it = ctx;
	if (it->gate)
		sem_wait(it->gate);
	return it->rc < 0 ? vc_error_set(err, VC_EFAILED, "it failed") : 0;
}

static void item_done(void *ctx, const struct vc_error *err)
{
	struct item *it = ctx;
	it->done++;
	it->code = err ? err->code : 0;
	snprintf(it->text, sizeof(it->text), "%s", err ? err->text : "");
}

static void item_release(void *ctx)
{
	((struct item *)ctx)->released++;
}

static void submit(struct work *w, enum work_pool pool, struct item *it, uint64_t ms, struct work_job **ret)
{
	struct work_args args = {.pool = pool, .what = "item", .deadline_ms = ms, .run = item_run, .done = item_done,
				 .release = item_release, .ctx = it};
	assert_int_equal(work_submit(w, &args, ret, NULL), 0);
}

static void run_until(uv_loop_t *loop, const int *counter, int value)
{
	for (uint64_t end = uv_hrtime() + 10000000000ull; *counter < value && uv_hrtime() < end;)
		uv_run(loop, UV_RUN_ONCE);
	assert_int_equal(*counter, value);
}

static void finish(uv_loop_t *loop, struct work *w)
{
	work_stop(w, 2000);
	uv_run(loop, UV_RUN_DEFAULT);
	work_destroy(w);
	assert_int_equal(uv_loop_close(loop), 0);
}

static void test_results(void **state)
{
	(void)state;
	uv_loop_t loop;
	uv_loop_init(&loop);
	struct work *w = work_create(&loop, 2, 1, NULL);
	struct item ok = {0}, bad = {.rc = -1};
	submit(w, WORK_GENERAL, &ok, 5000, NULL);
	submit(w, WORK_HV, &bad, 5000, NULL);
	run_until(&loop, &ok.released, 1);
	run_until(&loop, &bad.released, 1);
	assert_int_equal(ok.done, 1);
	assert_int_equal(ok.code, 0);
	assert_int_equal(bad.code, VC_EFAILED);
	assert_string_equal(bad.text, "it failed");
	finish(&loop, w);
}

static void test_hung(void **state)
{
	(void)state;
	uv_loop_t loop;
	sem_t gate;
	uv_loop_init(&loop);
	sem_init(&gate, 0, 0);
	struct work *w = work_create(&loop, 1, 1, NULL);
	struct item hung = {.gate = &gate}, waiting = {0}, other = {0};
	submit(w, WORK_HV, &hung, 200, NULL);
	submit(w, WORK_HV, &waiting, 8000, NULL);
	submit(w, WORK_GENERAL, &other, 8000, NULL);
	run_until(&loop, &other.released, 1); // the other pool is not blocked
	run_until(&loop, &hung.done, 1);
	assert_int_equal(hung.code, VC_ETIMEDOUT);
	assert_int_equal(hung.released, 0); // its thread may still use it
	assert_int_equal(work_stats(w, WORK_HV).hung, 1);
	run_until(&loop, &waiting.done, 1); // a new thread took over
	assert_int_equal(waiting.code, 0);
	sem_post(&gate);
	submit(w, WORK_GENERAL, &other, 8000, NULL); // keeps the loop busy
	run_until(&loop, &hung.released, 1);
	assert_int_equal(hung.done, 1);
	assert_int_equal(work_stats(w, WORK_HV).hung, 0);
	run_until(&loop, &other.released, 2);
	finish(&loop, w);
	sem_destroy(&gate);
}

// A libvirt that hangs costs a thread per call, and no more than WORK_HUNG_MAX: then calls are refused, with the reason, until
// some come back.
static void test_hung_bound(void **state)
{
	(void)state;
	uv_loop_t loop;
	sem_t gate;
	uv_loop_init(&loop);
	sem_init(&gate, 0, 0);
	struct work *w = work_create(&loop, 1, 2, NULL);
	struct item hung[4 * WORK_HUNG_MAX], other = {0};
	size_t n = 0;
	struct work_args args = {.pool = WORK_HV, .what = "one more", .deadline_ms = 100, .run = item_run, .done = item_done, .ctx = &other};
	struct vc_error err = VC_ERROR_INIT;
	while (work_stats(w, WORK_HV).hung < WORK_HUNG_MAX) { // on a busy machine some are not begun within their time
		assert_true(n < VC_ARRAY_LEN(hung));
		hung[n] = (struct item){.gate = &gate};
		submit(w, WORK_HV, &hung[n], 100, NULL);
		run_until(&loop, &hung[n++].done, 1);
	}
	assert_int_equal(work_submit(w, &args, NULL, &err), -1);
	assert_int_equal(err.code, VC_EHOST);
	assert_string_equal(err.text, "one more: 32 workers of this kind hang: restart vcd when the cause is gone");
	submit(w, WORK_GENERAL, &other, 8000, NULL); // the other pool has its own threads
	run_until(&loop, &other.done, 1);
	for (size_t i = 0; i < n; i++)
		sem_post(&gate);
	for (size_t i = 0; i < n; i++)
		run_until(&loop, &hung[i].released, 1);
	assert_int_equal(work_stats(w, WORK_HV).hung, 0);
	submit(w, WORK_HV, &other, 8000, NULL);
	run_until(&loop, &other.done, 2);
	finish(&loop, w);
	sem_destroy(&gate);
}

static void test_queued_too_long(void **state)
{
	(void)state;
	uv_loop_t loop;
	sem_t gate;
	uv_loop_init(&loop);
	sem_init(&gate, 0, 0);
	struct work *w = work_create(&loop, 1, 1, NULL);
	struct item first = {.gate = &gate}, second = {0}, third = {0};
	struct work_job *job = NULL;
	submit(w, WORK_HV, &first, 9000, NULL);
	submit(w, WORK_HV, &second, 200, NULL);
	submit(w, WORK_HV, &third, 9000, &job);
	work_cancel(job);
	assert_int_equal(third.done, 0);
	assert_int_equal(third.released, 1);
	run_until(&loop, &second.released, 1);
	assert_int_equal(second.code, VC_ETIMEDOUT);
	assert_contains(second.text, "no worker was free");
	sem_post(&gate);
	run_until(&loop, &first.released, 1);
	finish(&loop, w);
	sem_destroy(&gate);
}

static void test_stop(void **state)
{
	(void)state;
	uv_loop_t loop;
	sem_t gate;
	uv_loop_init(&loop);
	sem_init(&gate, 0, 0);
	struct work *w = work_create(&loop, 1, 1, NULL);
	struct item running = {.gate = &gate}, queued = {0};
	submit(w, WORK_GENERAL, &running, 9000, NULL);
	while (work_stats(w, WORK_GENERAL).running == 0)
		uv_run(&loop, UV_RUN_NOWAIT);
	submit(w, WORK_GENERAL, &queued, 9000, NULL);
	sem_post(&gate);
	work_stop(w, 5000);
	assert_int_equal(running.done + running.released, 2);
	assert_int_equal(queued.done, 1);
	struct vc_error err = VC_ERROR_INIT;
	struct work_args args = {.pool = WORK_HV, .what = "late", .deadline_ms = 1, .run = item_run, .done = item_done};
	assert_int_equal(work_submit(w, &args, NULL, &err), -1);
	assert_int_equal(err.code, VC_ECANCELED);
	uv_run(&loop, UV_RUN_DEFAULT);
	work_destroy(w);
	assert_int_equal(uv_loop_close(&loop), 0);
	sem_destroy(&gate);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_hung),
		cmocka_unit_test(test_hung_bound),
		cmocka_unit_test(test_queued_too_long),
		cmocka_unit_test(test_stop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
